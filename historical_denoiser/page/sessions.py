"""The files of the page's users: one folder per recording, deleted when the user leaves.

Start reading at `Sessions`.
"""

import math
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.listening import Found, Sound
from historical_denoiser.page.settings import AppConfig

PREFIX = "denoiser_page_"
NAME_BYTES = 16  # length of a folder's name, which cannot be guessed
MILLION, GIGA = 10**6, 10**9
STOPPED = "stopped, because the recording was removed from the page"
UNTAKEN_SECONDS = 600.0  # an upload that nobody took for so long after its last byte is deleted


@dataclass
class Session:
    """One recording of one user.

    Attributes:
        folder: Folder with all files that are made for it.
        upload: The uploaded file, outside `folder`.
        recording: The recording to be denoised.
        before: It, as the page plays it.
        found: Result of the last successful run.
        used: Time of the last request; see `time.monotonic`.
        left: Whether the user has closed the page or uploaded another recording.
        lock: Protects `found` and its files.
    """

    folder: Path
    upload: Path
    recording: Recording | None = None
    before: Sound | None = None
    found: Found | None = None
    used: float = 0.0
    left: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def require_present(self) -> None:
        """Raises UserError if the user no longer waits for the result."""
        if self.left:
            raise UserError(STOPPED)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Raises UserError if the user has left, whatever failed without the deleted files."""
        self.require_present()
        try:
            yield
        except Exception as error:
            if self.left:
                raise UserError(STOPPED) from error
            raise


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

    def start(self, key: str | None, upload: Path) -> Session:
        """Deletes the files of a user's former recording, and starts a session with a new one.

        Args:
            key: Identifies an open page; None for programs that call the page.
            upload: The file as the browser sent it.

        Raises:
            UserError: The upload is gone, or there is no page.
        """
        if not key:
            raise UserError("this works only from an open page")
        with self._lock:
            self.end(key)
            folder = self.root / secrets.token_hex(NAME_BYTES)
            session = Session(folder, upload, used=time.monotonic())
            (folder / "input").mkdir(parents=True)
            self._sessions[key] = session
            try:
                # The link keeps the file: Gradio stores identical uploads of several users as one
                # file.
                os.link(upload, folder / "input" / upload.name)
            except FileNotFoundError as error:
                raise UserError("the uploaded file is gone; please choose the recording again"
                                ) from error
            return session

    def of(self, key: str) -> Session:
        """Returns the session of a user.

        Raises:
            UserError: There is none, or it was deleted due to its age.
        """
        with self._lock:
            session = self._sessions.get(key)
            if session is None or session.recording is None:
                raise UserError("this recording is no longer on the server; please choose it again")
            session.used = time.monotonic()
            return session

    def end(self, key: str) -> None:
        """Deletes all files of a user, if there are any."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                return
            session.left = True
            shutil.rmtree(session.folder, ignore_errors=True)
            if all(other.upload != session.upload for other in self._sessions.values()):
                session.upload.unlink(missing_ok=True)

    def require_room(self, more_bytes: int = 0) -> None:
        """Raises UserError if the files of all users, and so many bytes more, are too large."""
        sizes = {}  # by file: an upload has two names
        for path in self.root.rglob("*"):
            with suppress(FileNotFoundError):  # deleted meanwhile
                found = path.stat()
                sizes[found.st_ino] = found.st_size
        if sum(sizes.values()) + more_bytes > self.most_bytes:
            raise UserError("the files of all users would take more than "
                            f"{self.most_bytes / GIGA:g} GB, the limit of this page "
                            "(app.all_users_gb); please come back later")

    def delete_old(self, untaken_seconds: float = UNTAKEN_SECONDS) -> None:
        """Ends sessions that have not been used for long, and deletes uploads that nobody took."""
        now = time.monotonic()
        with self._lock:
            for key, session in list(self._sessions.items()):
                if now - session.used > self.keep_seconds:
                    self.end(key)
            own = {session.folder for session in self._sessions.values()}
            taken = {session.upload for session in self._sessions.values()}
            for path in self.root.rglob("*"):
                if path in taken or not own.isdisjoint(path.parents):
                    continue
                with suppress(FileNotFoundError):  # Gradio moves files as well
                    if path.is_file() and time.time() - path.stat().st_mtime > untaken_seconds:
                        path.unlink()


def open_upload(path: Path, track: int | None, settings: AppConfig) -> Recording:
    """Opens an uploaded file.

    Args:
        path: The file.
        track: Audio track of a film; None for the default track.
        settings: Limits of the length.

    Raises:
        UserError: The file cannot be read, needs other files, or is too long according to its
            header.
    """
    recording = containers.open_audio(path, track)
    require_length(recording, recording.header_seconds, settings)
    return recording


def require_length(recording: Recording, seconds: float, settings: AppConfig) -> None:
    """Raises UserError if a recording is longer than the page accepts.

    Args:
        recording: The recording. Its rate and channels count, since they can turn a small file into
            a large one.
        seconds: Its length as far as it is known; a header may be wrong.
        settings: Limits of the length.
    """
    if seconds > 60.0 * settings.longest_minutes:
        raise UserError(f"the recording is longer than {settings.longest_minutes:g} minutes, the "
                        "limit of this page (app.longest_minutes)")
    if seconds * recording.rate * recording.channels > MILLION * settings.most_million_samples:
        raise UserError(f"the recording has more than {settings.most_million_samples} million "
                        f"samples ({recording.channels} channels at {recording.rate} Hz), the "
                        "limit of this page (app.most_million_samples)")


def make_root() -> Path:
    """Makes a private folder for all files, and deletes the folders of pages that crashed."""
    top = Path(tempfile.gettempdir())
    for path in top.glob(f"{PREFIX}*"):
        process = path.name.removeprefix(PREFIX).partition("_")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_"))
