"""The users of the page, and their recordings: each has a folder, deleted when the user has left.

Start reading at `Sessions`.
"""

import itertools
import math
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import describe_error
from historical_denoiser.core.files import replacing
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.listening import Found
from historical_denoiser.page.settings import AppConfig
from historical_denoiser.page.sounds import Sound
from historical_denoiser.page.texts import TEXT
from historical_denoiser.run.findings import Finding

PREFIX = "denoiser_page_"
NAME_BYTES = 16  # length of a folder's name, which cannot be guessed
MILLION, GIGA, MEBI = 10**6, 10**9, 2**20
# The files of a page that was closed are deleted after this time; a reload brings it back before.
GRACE_SECONDS = 120.0
UNTAKEN_SECONDS = 600.0  # an upload that nobody took for so long after its last byte is deleted


@dataclass(eq=False)
class Upload:
    """One recording of a user, and what is made of it.

    Attributes:
        folder: Folder with all files that are made for it.
        path: The uploaded file, outside `folder`.
        file: The same file below `folder`, with a name that no other recording of the user has.
        recording: The recording to be denoised; None if it cannot be.
        before: The recording as the page plays it; None before it is opened.
        spectrum: Its average spectrum, see `bands.measure_spectrum`; None before it is needed.
        looked: What is wrong with it; None before it is examined.
        found: Result of the last successful run.
        failed: Why it cannot be read, or why the last run failed.
        left: Whether the user has left for good, or removed the recording.
        is_stopped: Whether the current run is to end.
        lock: Protects `found` and its files.
    """

    folder: Path
    path: Path
    file: Path
    recording: Recording | None = None
    before: Sound | None = None
    spectrum: list[float] | None = None
    looked: list[Finding] | None = None
    found: Found | None = None
    failed: str = ""
    left: bool = False
    is_stopped: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def require_present(self) -> None:
        """Raises UserError if the user no longer waits for the result."""
        if self.left or self.is_stopped:
            raise UserError(TEXT.errors.stopped)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Raises UserError if the user has left, whatever failed without the deleted files."""
        self.require_present()
        try:
            yield
        except Exception as error:
            if self.left:
                raise UserError(TEXT.errors.stopped) from error
            raise


AFTER_SHARE = 0.2  # of a recording's length, as which the work after the network is reported
Run = Callable[[Callable[[float], object]], object]  # a run, which reports the seconds it finished


@dataclass
class Session:
    """The recordings of one user.

    Attributes:
        folder: Folder with all files that are made for them.
        uploads: The recordings.
        current: The one that is open in the player.
        shown: The one for which the controls were set last.
        queue: Runs that were requested and have not begun, each with its recording.
        running: The recording of the run at work.
        progress: Its share that is done, and what it is doing.
        token: Known to the user's tab alone, which gets the session back by it after a reload.
        is_back: Whether a page got it back that does not show its runs yet.
        left_at: Time when the page was closed or lost its connection; infinite for an open page.
        used: Time of the last request; see `time.monotonic`.
    """

    folder: Path
    uploads: list[Upload] = field(default_factory=list)
    current: Upload | None = None
    shown: Upload | None = None
    queue: deque[tuple[Upload, Run]] = field(default_factory=deque)
    running: Upload | None = None
    progress: tuple[float, str] = (0.0, "")
    token: str = field(default_factory=lambda: secrets.token_hex(NAME_BYTES), repr=False)
    is_back: bool = False
    left_at: float = math.inf
    used: float = 0.0

    @property
    def readable(self) -> list[Upload]:
        """The recordings that can be denoised."""
        return [upload for upload in self.uploads if upload.recording is not None]

    def others(self, upload: Upload) -> list[Recording]:
        """Returns the recordings that can be denoised, but for one."""
        return [each.recording for each in self.readable if each is not upload]

    @property
    def active(self) -> Upload | None:
        """The recording that is being denoised, or is the next one."""
        return self.running or next((upload for upload, _ in self.queue), None)

    def state(self, upload: Upload) -> str:
        """Returns the state of a recording, for the list on the page."""
        if upload is self.active:
            return TEXT.recordings.running
        if upload.failed:
            return TEXT.recordings.failed.format(
                reason=upload.failed.removeprefix(f"{upload.file.name}: "))
        return TEXT.recordings.waiting if upload.found is None else TEXT.recordings.done

    def request(self, runs: list[tuple[Upload, Run]]) -> None:
        """Adds runs to the queue; they replace those of the same recordings."""
        wanted = [upload for upload, _ in runs]
        self.queue = deque([each for each in self.queue if each[0] not in wanted] + runs)

    @contextmanager
    def next_run(self) -> Iterator[tuple[Upload, Run] | tuple[None, None]]:
        """Gives the next run, which is at work until the end of the context; None for no run."""
        self.queue = deque([each for each in self.queue if not each[0].left])
        self.running, run = self.queue.popleft() if self.queue else (None, None)
        try:
            yield self.running, run
        finally:
            if self.running is not None:
                self.running.is_stopped = False
            self.running = None

    def stop(self) -> None:
        """Ends the run at work, and forgets the others."""
        self.queue.clear()
        if self.running is not None:
            self.running.is_stopped = True


class Sessions:
    """The current users of the page. The methods may be called from several threads.

    Attributes:
        root: Folder of all files.
        keep_seconds: The files of a session are deleted after this time without a request.
        most_bytes: Size of all files above which no more are accepted.
    """

    def __init__(self, root: Path, keep_seconds: float, most_bytes: float = math.inf) -> None:
        self.root, self.keep_seconds, self.most_bytes = root, keep_seconds, most_bytes
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def take(self, key: str | None, paths: Iterable[Path]) -> Session:
        """Gives a user these recordings, and starts a session if there is none.

        Those that the user has already stay, with their results; the files of others are deleted.

        Args:
            key: Identifies an open page; None for programs that call the page.
            paths: The files as the browser sent them.

        Raises:
            UserError: An upload is gone, or there is no page.
        """
        if not key:
            raise UserError(TEXT.errors.no_page)
        with self._lock:
            session = self._sessions.setdefault(key, Session(
                self.root / secrets.token_hex(NAME_BYTES)))
            session.used = time.monotonic()
            paths, former = list(paths), {upload.path: upload for upload in session.uploads}
            kept = {path: former[path] for path in paths if path in former}
            for path in paths:
                if path not in kept:
                    kept[path] = self._link(session.folder, path, kept.values())
            session.uploads = [kept[path] for path in dict.fromkeys(paths)]
            for path in former.keys() - kept.keys():
                self._delete(former[path])
            return session

    def _link(self, folder: Path, path: Path, others: Iterable[Upload]) -> Upload:
        """Returns a new upload, whose results have other names than those of the others."""
        taken = {each.file.stem.casefold() for each in others}
        stems = (f"{path.stem} ({number})" if number > 1 else path.stem
                 for number in itertools.count(1))
        stem = next(stem for stem in stems if stem.casefold() not in taken)
        folder = folder / secrets.token_hex(NAME_BYTES)
        upload = Upload(folder, path, folder / "input" / f"{stem}{path.suffix}")
        upload.file.parent.mkdir(parents=True)
        try:
            # The link keeps the file: Gradio stores identical uploads of several users as one file.
            os.link(path, upload.file)
        except FileNotFoundError as error:
            raise UserError(TEXT.errors.upload_gone) from error
        return upload

    def of(self, key: str) -> Session:
        """Returns the session of a user.

        Raises:
            UserError: There is none, or it was deleted due to its age.
        """
        with self._lock:
            session = self._sessions.get(key)
            if session is None or session.current is None:
                raise UserError(TEXT.errors.gone)
            session.used = time.monotonic()
            return session

    def leave(self, key: str) -> None:
        """Notes that a page was closed or lost its connection; see `GRACE_SECONDS`."""
        with self._lock:
            if key in self._sessions:
                self._sessions[key].left_at = time.monotonic()

    def stay(self, key: str) -> None:
        """Notes that a page is open, which may have lost the connection that tells of its end."""
        with self._lock:
            if key in self._sessions and self._sessions[key].left_at < math.inf:
                self._sessions[key].left_at = time.monotonic()

    def give_back(self, token: str | None, key: str) -> Session | None:
        """Gives the session with a token to a page, and takes it from the former one.

        Args:
            token: What the page's tab has kept.
            key: Identifies the page.

        Returns:
            The session, or None if there is none with this token.
        """
        with self._lock:
            former = next((former for former, session in self._sessions.items() if
                           secrets.compare_digest(session.token.encode(), str(token).encode())), "")
            if not former or not key:
                return None
            if former != key:
                self.end(key)
            session = self._sessions[key] = self._sessions.pop(former)
            session.used, session.left_at, session.is_back = time.monotonic(), math.inf, True
            return session

    def end(self, key: str) -> None:
        """Deletes all files of a user, if there are any."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is not None:
                for upload in session.uploads:
                    self._delete(upload)
                shutil.rmtree(session.folder, ignore_errors=True)

    def _delete(self, upload: Upload) -> None:
        """Deletes the files of a recording that belongs to no session any more."""
        upload.left = True
        shutil.rmtree(upload.folder, ignore_errors=True)
        if all(other.path != upload.path for other in self._uploads()):
            upload.path.unlink(missing_ok=True)

    def discard(self, paths: Iterable[Path]) -> None:
        """Deletes uploads that are of no use, unless they are recordings of a user."""
        with self._lock:
            taken = {upload.path for upload in self._uploads()}
            for path in set(paths) - taken:
                path.unlink(missing_ok=True)

    def _uploads(self) -> Iterator[Upload]:
        return (upload for session in self._sessions.values() for upload in session.uploads)

    def describe(self, error: Exception) -> str:
        """Returns an error on one line, without folders, which users of the page did not choose."""
        return re.sub(f"{re.escape(str(self.root))}/(\\w+/)*", "", describe_error(error))

    def bundle(self, session: Session, write: Callable[[Upload], Path]) -> Path:
        """Writes all restored recordings of a user to one ZIP file, which replaces a former one.

        `write` makes the file of a restored recording, and returns its path.
        """
        path, done = session.folder / "restored.zip", [
            upload for upload in session.readable if upload.found]
        self.require_room(sum(upload.file.stat().st_size for upload in done))
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:  # not deflated
            for upload in done:
                with upload.lock:  # nothing else is written meanwhile
                    restored = write(upload)
                    file.write(restored, restored.name)
        return path

    def require_room(self, more_bytes: int = 0) -> None:
        """Raises UserError if the files of all users, and so many bytes more, are too large."""
        sizes = {}  # by file: an upload has two names
        for path in self._files():
            with suppress(FileNotFoundError):  # deleted meanwhile
                found = path.stat()
                sizes[found.st_ino] = found.st_size
        if sum(sizes.values()) + more_bytes > self.most_bytes:
            raise UserError(TEXT.errors.full.format(gb=self.most_bytes / GIGA))

    def _files(self) -> Iterator[Path]:
        """Yields all files and folders; unlike `rglob`, also if a folder is deleted meanwhile."""
        for folder, folders, files in os.walk(self.root):
            yield from (Path(folder, name) for name in (*folders, *files))

    def delete_old(self, untaken_seconds: float = UNTAKEN_SECONDS,
                   grace_seconds: float = GRACE_SECONDS) -> None:
        """Ends sessions without a page or long unused, and deletes uploads that nobody took."""
        now = time.monotonic()
        with self._lock:
            for key, session in list(self._sessions.items()):
                if (now - session.used > self.keep_seconds or
                        now - session.left_at > grace_seconds):
                    self.end(key)
            own = {session.folder for session in self._sessions.values()}
            taken = {upload.path for upload in self._uploads()}
            for path in self._files():
                if path in taken or not own.isdisjoint(path.parents):
                    continue
                with suppress(FileNotFoundError):  # Gradio moves files as well
                    if path.is_file() and time.time() - path.stat().st_mtime > untaken_seconds:
                        path.unlink()


def open_upload(path: Path, track: int | None, settings: AppConfig,
                others: Sequence[Recording] = ()) -> Recording:
    """Opens an uploaded file.

    Args:
        path: The file.
        track: Audio track of a film; None for the default track.
        settings: Limits of all recordings of a user together.
        others: The other ones.

    Raises:
        UserError: The file cannot be read, needs other files, or is too long according to its
            header.
    """
    sizes = (each.stat().st_size for each in (path, *(other.path for other in others)))
    if sum(sizes) > MEBI * settings.largest_mb:
        raise UserError(TEXT.errors.too_large.format(mb=settings.largest_mb))
    recording = containers.open_audio(path, track)
    require_length(recording, recording.header_seconds, settings, others)
    return recording


def require_length(recording: Recording, seconds: float, settings: AppConfig,
                   others: Iterable[Recording] = ()) -> None:
    """Raises UserError if the recordings of a user are longer than the page accepts.

    Args:
        recording: One of them. Its rate and channels count, since they can turn a small file into a
            large one.
        seconds: Its length as far as it is known; a header may be wrong.
        settings: Limits of all of them together.
        others: The other ones.
    """
    samples = seconds * recording.rate * recording.channels
    for other in others:
        seconds += other.header_seconds
        samples += other.header_samples * other.channels
    if seconds > 60.0 * settings.longest_minutes:
        text = TEXT.errors.too_long_together if others else TEXT.errors.too_long
        raise UserError(text.format(minutes=settings.longest_minutes))
    if samples > MILLION * settings.most_million_samples:
        text = TEXT.errors.too_many_together if others else TEXT.errors.too_many_samples
        raise UserError(text.format(millions=settings.most_million_samples,
                                    channels=recording.channels, rate=recording.rate))


def make_root() -> Path:
    """Makes a private folder for all files, and deletes the folders of pages that crashed."""
    top = Path(tempfile.gettempdir())
    for path in top.glob(f"{PREFIX}*"):
        process = path.name.removeprefix(PREFIX).partition("_")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_"))
