"""The files of those who use the page: a folder for each recording, deleted when it is left."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from historical_denoiser.audio.survey import Survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.settings import AppConfig
from historical_denoiser.run.jobs import Job

PREFIX = "denoiser_page_"
NAME_BYTES = 16  # of a folder's name: who is not told it cannot find it
MILLION = 10**6
UNTAKEN_SECONDS = 600.0  # since the last byte came: then nobody waits for an upload


@dataclass
class Found:
    """What one run has found in a recording.

    Attributes:
        folder: Holds the files of this run alone.
        choice: What found it.
        job: The results that are there; None while they are not whole.
        known: What the recording's analysis told.
    """

    folder: Path
    choice: str
    job: Job | None = None
    known: Survey | None = None

    @property
    def noise(self) -> Path:
        """Where the noise is kept."""
        return self.folder / "noise"


@dataclass
class Session:
    """One recording of one user.

    Attributes:
        folder: Holds all files that are made for it.
        upload: Where the browser's upload was put, outside `folder`.
        recording: What is denoised.
        found: By the last run that did not fail.
        used: When something was last asked for; see `time.monotonic`.
        left: Whether its user has closed the page, or dropped another recording.
        lock: Of `found` and its files.
    """

    folder: Path
    upload: Path
    recording: Recording | None = None
    found: Found | None = None
    used: float = 0.0
    left: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def require_present(self) -> None:
        """Raises UserError where nobody waits for the result any more."""
        if self.left:
            raise UserError("stopped, as the recording was removed from the page")


class Sessions:
    """Who uses the page now. May be called from several threads.

    Attributes:
        root: The folder of all files.
        keep_seconds: After so long without use, the files of a session are deleted.
    """

    def __init__(self, root: Path, keep_seconds: float) -> None:
        self.root, self.keep_seconds = root, keep_seconds
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()

    def start(self, key: str | None, upload: Path) -> Session:
        """Deletes what a user had, and begins with another upload.

        Args:
            key: Tells one open page from another; programs that call the page have none.
            upload: The file as the browser sent it.

        Raises:
            UserError: The upload is gone, or there is no page.
        """
        if not key:
            raise UserError("only a page that is open can be used")
        with self._lock:
            self.end(key)
            folder = self.root / secrets.token_hex(NAME_BYTES)
            session = Session(folder, upload, used=time.monotonic())
            (folder / "input").mkdir(parents=True)
            self._sessions[key] = session
            try:
                # Another user may send the same, which Gradio then keeps at the same place.
                os.link(upload, folder / "input" / upload.name)
            except FileNotFoundError as error:
                raise UserError("the upload is gone; drop the recording again") from error
            return session

    def of(self, key: str) -> Session:
        """Returns a user's session.

        Raises:
            UserError: There is none, or it was deleted by age.
        """
        with self._lock:
            session = self._sessions.get(key)
            if session is None or session.recording is None:
                raise UserError("there is no recording any more; drop it again")
            session.used = time.monotonic()
            return session

    def end(self, key: str) -> None:
        """Deletes all files of a user, where there are any."""
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                return
            session.left = True
            shutil.rmtree(session.folder, ignore_errors=True)
            if all(other.upload != session.upload for other in self._sessions.values()):
                session.upload.unlink(missing_ok=True)

    def delete_old(self, untaken_seconds: float = UNTAKEN_SECONDS) -> None:
        """Ends sessions that were not used for long, and deletes uploads that nobody took."""
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
    """Opens what a user sent.

    Args:
        path: The file.
        track: Which audio track of a film; the default one when absent.
        settings: Say how long a recording may be.

    Raises:
        UserError: It cannot be read, needs other files, or is too long by its header.
    """
    recording = containers.open_audio(path, track)
    require_length(recording, recording.header_seconds, settings)
    return recording


def require_length(recording: Recording, seconds: float, settings: AppConfig) -> None:
    """Raises UserError where a recording is longer than the page takes.

    Args:
        recording: Tells rate and channels, by which a small file can become a large one.
        seconds: Its length, so far as it is known; a header may be wrong.
        settings: Say how long it may be.
    """
    if seconds > 60.0 * settings.longest_minutes:
        raise UserError(f"the recording is longer than {settings.longest_minutes:g} minutes, which "
                        "is the most that this page takes (app.longest_minutes)")
    if seconds * recording.rate * recording.channels > MILLION * settings.most_million_samples:
        raise UserError(f"the recording has more than {settings.most_million_samples} million "
                        f"samples ({recording.channels} channels at {recording.rate} Hz), which is "
                        "the most that this page takes (app.most_million_samples)")


def make_root() -> Path:
    """Makes the folder of all files, for this user alone; deletes those of pages that crashed."""
    top = Path(tempfile.gettempdir())
    for path in top.glob(f"{PREFIX}*"):
        process = path.name.removeprefix(PREFIX).partition("_")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_"))
