"""The event handlers of the page. Start reading at `Answers`.

It needs Gradio, which inspects annotations, so they must not be strings in this module.
"""

import functools
import html
import itertools
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from historical_denoiser.audio.replay import UNCHANGED
from historical_denoiser.classical.clicks import LEVELS
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.progress import Pace, ticking
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page import bands, carriers, choices
from historical_denoiser.page.listening import Found, film_start
from historical_denoiser.page.sessions import AFTER_SHARE, Session, Upload
from historical_denoiser.page.sounds import Sound
from historical_denoiser.page.texts import TEXT, fill_in
from historical_denoiser.restoration.settings import OFF
from historical_denoiser.run import profiles

logger = logging.getLogger(__name__)

NO_PROFILE, FOUND_PROFILE = TEXT.choices.no_profile, TEXT.choices.found_profile
MARKED_PROFILE = TEXT.choices.marked_profile
CONTROLLED = ("carrier", profiles.KEY)  # suggestions that set other controls
TURNS = itertools.count(1)  # each value starts the next run of those that were requested
PICTURE = fill_in('<a href="gradio_api/file={0}" target="_blank" title="TEXT.files.open_picture">'
                  '<img src="gradio_api/file={0}" alt="TEXT.files.picture"></a>', False)
FOLLOW_SECONDS = 0.5  # interval at which a run at work is shown after a reload
PROGRESS = gr.Progress()  # Gradio recognises it as a default value


def _with_plain_errors(answer: Callable) -> Callable:
    """Decorates an event handler so that a user's error is shown as one line."""

    @functools.wraps(answer)
    def guarded(self: "Answers", *args: Any) -> Any:
        try:
            return answer(self, *args)
        except (UserError, OSError) as error:
            line = html.escape(self.workshop.sessions.describe(error))
            raise gr.Error(line, duration=None, title=TEXT.errors.error,
                           print_exception=False) from error

    return guarded


class Answers:
    """The event handlers of the page."""

    def __init__(self, workshop: Any) -> None:
        self.workshop = workshop

    def choose(self, name: str):
        """Shows the fields of the noise profile if the choice takes one."""
        return gr.Group(visible=self.workshop.takes_profile(name))

    def usual(self) -> dict[str, Any]:
        """Returns the values of the controls that are in the page's address, when it opens."""
        inference = self.workshop.cfg.inference
        return {"carrier": self.workshop.cfg.carrier, "method": next(iter(self.workshop.choices)),
                "clicks": inference.declick, "strength": inference.denoising_strength,
                "bands": bands.ALL}

    def restore(self, request: gr.Request):
        """Sets the controls by the page's address."""
        usual, carriers = self.usual(), [name for _, name in choices.carriers()]
        found, wrong = choices.read_address(request.query_params, usual, {
            "carrier": carriers, "method": self.workshop.choices, "clicks": [OFF, *LEVELS]})
        if wrong:
            gr.Warning(html.escape(TEXT.errors.bad_address.format(values=", ".join(wrong))),
                       duration=None, title=TEXT.errors.ignored)
        if "carrier" in found:
            usual["clicks"] = self.workshop.settings(found["carrier"]).declick
        *others, strengths = (usual | found).values()
        return *others, {"strengths": strengths}

    def give_back(self, token: str | None, request: gr.Request):
        """Returns the files that the tab had before it was reloaded; `receive` shows them."""
        session = self.workshop.sessions.give_back(token, request.session_hash)
        return [str(upload.path) for upload in session.uploads] if session else gr.skip()

    def _session(self, request: gr.Request) -> Session:
        return self.workshop.sessions.of(request.session_hash)

    @_with_plain_errors
    def receive(self, uploads: list[str] | str | None, kind: str, strengths: dict[str, Any],
                request: gr.Request):
        """Opens uploaded recordings; files of others that the user had before are deleted."""
        if not uploads:
            self.workshop.sessions.end(request.session_hash)
            return nothing()
        paths = [uploads] if isinstance(uploads, str) else uploads
        return _shown(self.workshop, self.workshop.receive(
            request.session_hash, map(Path, paths)), kind, strengths)

    @_with_plain_errors
    def sift(self, uploads: list[str]):
        """Returns those files of a folder that are recordings, and no results of others there."""
        paths = list(map(Path, uploads))
        found = choices.recordings_of(paths)
        self.workshop.sessions.discard(set(paths) - set(found))
        if not found:
            raise UserError(TEXT.errors.no_recordings)
        return [str(path) for path in found]

    @_with_plain_errors
    def open(self, name: str, kind: str, strengths: dict[str, Any], request: gr.Request):
        """Opens another recording of the list."""
        session = self._session(request)
        session.current = next((each for each in session.readable if each.folder.name == name),
                               session.current)
        return _shown(self.workshop, session, kind, strengths)

    @_with_plain_errors
    def look(self, played: dict | None, taken: list[str], request: gr.Request):
        """Shows what is wrong with a recording, and settings for it, before it is restored."""
        if not played:
            return [gr.skip()] * 4
        found = _unless_removed(self, request, self.workshop.look)
        if found is None:
            return [gr.skip()] * 4
        suggested = choices.suggestions(found)
        ticked = [setting for _, setting in suggested if setting in taken]
        return gr.Column(visible=True), choices.as_table(found), gr.CheckboxGroup(
            suggested, value=ticked, visible=bool(suggested)), ticked

    @_with_plain_errors
    def draw(self, played: dict | None, request: gr.Request):
        """Draws the spectrogram of a recording."""
        marks = _unless_removed(self, request, self.workshop.draw) if played else None
        return marks and {"of": played.get("whole", played)["before"], "marks": marks}

    @_with_plain_errors
    def show_carrier(self, carrier: str, ticked: list[str], played: dict | None,
                     request: gr.Request):
        """Draws the band that a carrier holds, and the spectrum of the recording, if any."""
        spectrum = _unless_removed(self, request, _spectrum) if played else None
        return picture_of(self.workshop, carrier, ticked, spectrum or ())

    def take(self, ticked: list[str], taken: list[str]):
        """Sets the controls for a suggestion that was ticked, or no longer is."""
        carrier, kind, start, end, declick = [gr.skip()] * 5
        for setting in set(ticked) ^ set(taken):
            key, _, value = setting.partition("=")
            if key == "carrier":
                carrier = value if setting in ticked else choices.NO_CARRIER
                declick = self.workshop.settings(carrier).declick
            elif key == profiles.KEY and setting in ticked:
                kind, (start, end) = MARKED_PROFILE, json.loads(value)
            elif key == profiles.KEY:
                kind, start, end = NO_PROFILE, None, None
        return ticked, carrier, kind, start, end, declick

    def select(self, chosen: gr.SelectData):
        """Returns the row of clicks that was selected."""
        return chosen.row_value

    @_with_plain_errors
    def keep(self, listed: list[list], request: gr.Request):
        """Gives back the clicks that are unticked; `deliver` writes the files."""
        upload = self._session(request).current
        if (found := upload.found) is not None:
            found.spared = choices.spared_by(listed, found.clicks, upload.recording.rate)

    @_with_plain_errors
    def preview(self, request: gr.Request, progress=PROGRESS, *values: Any):
        """Restores ten seconds alone, chosen as by `choices.excerpt_start`."""
        place, excerpt, *chosen = values
        session = self._session(request)
        upload, (choice, settings) = session.current, self._settings(*chosen)
        self.workshop.sound(upload, session.others(upload))
        whole = _played(upload)
        start = choices.excerpt_start(excerpt, upload.before, place)
        with _reported(progress, session, choices.PREVIEW_SECONDS) as report:
            sound, found = self.workshop.preview(upload, choice, settings, start, report)
        if upload.found:
            whole |= _result(upload.found, upload.recording)[0]
        return _of_sound(sound) | _result(found, upload.recording)[0] | {
            "whole": whole, "start": start}, gr.Button(visible=True)

    @_with_plain_errors
    def request_one(self, request: gr.Request, *chosen: Any):
        """Requests a run for the open recording."""
        session = self._session(request)
        return self._requested(session, [session.current], chosen)

    @_with_plain_errors
    def request_rest(self, request: gr.Request, *chosen: Any):
        """Requests runs for all recordings without a result or, if there are none, for all."""
        session = self._session(request)
        rest = [upload for upload in session.readable if upload.found is None] or session.readable
        if len(rest) > 1 and isinstance(self._settings(*chosen)[1].noise_profile, list):
            raise UserError(TEXT.errors.one_section)
        return self._requested(session, rest, chosen)

    def _requested(self, session: Session, uploads: list[Upload], chosen: tuple):
        choice, settings = self._settings(*chosen)
        session.request([(upload, functools.partial(self.workshop.denoise, upload, choice, settings,
                                                    carrier=chosen[1])) for upload in uploads])
        return next(TURNS), *_listed(session)

    @_with_plain_errors
    def denoise(self, request: gr.Request, progress=PROGRESS):
        """Does the run that was requested first: estimates the noise of its recording."""
        session = self._session(request)
        with session.next_run() as (upload, run):
            try:
                if upload is not None:
                    upload.failed = ""
                    self.workshop.sound(upload, session.others(upload))
                    with _reported(progress, session, upload.recording.header_seconds) as report:
                        run(report)
            # A bug that shows with one recording must not stop the others.
            except Exception as error:  # noqa: BLE001
                if not (upload.is_stopped or upload.left):
                    upload.failed = self.workshop.sessions.describe(error) or repr(error)
                if len(session.uploads) == 1:
                    raise
                if not isinstance(error, UserError | OSError):
                    logger.error("a fault of this program", exc_info=error)
        return _ended(session, upload)

    @_with_plain_errors
    def follow(self, request: gr.Request, progress=PROGRESS):
        """Shows the run that began before a reload of the page, until it ends, or why it failed."""
        session = self._session(request)
        upload = session.running or session.current
        while session.running is upload:
            progress(session.progress[0], desc=session.progress[1])
            time.sleep(FOLLOW_SECONDS)
            self._session(request)  # another page may have it now
        if upload.failed and len(session.uploads) == 1:
            raise UserError(upload.failed)
        return _ended(session, upload)

    @_with_plain_errors
    def filter(self, strengths: dict[str, Any], request: gr.Request):
        """Plays a result, if there is one, with another strength by frequency."""
        upload = self._session(request).current
        if upload.found is None:
            return gr.skip()
        found = self.workshop.filter(upload, bands.per_band(strengths["strengths"]))
        return _played(upload) | _result(found, upload.recording)[0]

    @_with_plain_errors
    def stop(self, request: gr.Request):
        """Ends the run at work, and forgets those that were requested."""
        session = self._session(request)
        session.stop()
        return _listed(session)

    @_with_plain_errors
    def bundle(self, strength: float, request: gr.Request):
        """Writes all restored recordings to one file, for `on.bundled`."""
        return gr.DownloadButton(value=self.workshop.sessions.bundle(
            self._session(request), lambda upload: self.workshop.write(upload, strength).denoised))

    def _settings(self, ticked: list[str], carrier: str, choice: str, declick: str, kind: str,
                  start: float | None, end: float | None, strength: float,
                  strengths: dict[str, Any]):
        """Returns the method and the settings by the values of the controls."""
        profile = {NO_PROFILE: "none", FOUND_PROFILE: "auto"}.get(kind, [start, end])
        if not self.workshop.takes_profile(choice):
            profile = "none"  # it was marked for another choice and is not visible now
        return choice, self.workshop.settings(
            carrier, _others(ticked), denoising_strength=strength, noise_profile=profile,
            declick=declick, strength_per_band=bands.per_band(strengths["strengths"]))

    @_with_plain_errors
    def deliver(self, played: dict | None, strength: float, tracks: str, loudness: int,
                request: gr.Request):
        """Writes the files of a result and shows them, if there is one."""
        upload = self._session(request).current if played else None
        if upload is None or upload.found is None:
            return gr.Column(visible=False), *[gr.skip()] * 7
        written = _written(upload, strength)
        job = self.workshop.write(upload, strength, tracks=tracks, loudness=loudness or None)
        buttons = [gr.DownloadButton(TEXT.files.named.format(name=path.name), value=path)
                   for path in (job.denoised, job.residual)]
        kept, more = job.extras.keep_clicks, list(map(str, upload.found.delivered))
        picture = PICTURE.format(f"{quote(str(job.picture))}?{job.picture.stat().st_mtime_ns}")
        return (gr.Column(visible=True), *buttons, picture, written,
                self.workshop.command(upload), gr.DownloadButton(
                    value=kept, visible=bool(kept)), gr.File(more, visible=bool(more)))

    def leave(self, request: gr.Request) -> None:
        """Notes that the page was closed or reloaded, or lost its connection."""
        self.workshop.sessions.leave(request.session_hash)

    def stay(self, request: gr.Request) -> None:
        """Notes that the page is open."""
        self.workshop.sessions.stay(request.session_hash)


def picture_of(workshop: Any, carrier: str, ticked: Sequence[str] = (),
               spectrum: Sequence[float] = ()) -> str:
    """Returns the picture of what a carrier holds, see `carriers.draw`."""
    return carriers.draw(carrier, choices.chosen_by(carrier, workshop.given),
                         workshop.settings(carrier, _others(ticked)).band_hz, spectrum)


def _spectrum(upload: Upload) -> list[float]:
    with upload.in_use():
        return bands.spectrum_of(upload, upload.before)


def _others(ticked: Sequence[str]) -> list[str]:
    """Returns the suggestions that were ticked, but for those that set other controls."""
    return [each for each in ticked if each.partition("=")[0] not in CONTROLLED]


def _unless_removed(answers: Answers, request: gr.Request, act: Callable[[Upload], Any]) -> Any:
    """Returns `act` of the open recording; None, and no error, if the user has removed it."""
    upload = None
    try:
        upload = answers._session(request).current
        return act(upload)
    except UserError:
        if upload is None or upload.left:
            return None
        raise


@contextmanager
def _reported(progress: Any, session: Session, seconds: float,
              ) -> Iterator[Callable[[float], None]]:
    """Shows the progress of a run, and gives the function that it calls; see `sessions.Run`.

    `session` keeps it for `follow`, and `seconds` is the length of the recording.
    """
    pace = Pace(max((1.0 + AFTER_SHARE) * seconds, 1.0))

    def show() -> None:
        left = pace.time_left()
        session.progress = (
            pace.estimate() / pace.total, TEXT.run.removing.format(left=left) if left else
            TEXT.run.writing if pace.is_complete else TEXT.run.analysing)
        progress(session.progress[0], desc=session.progress[1])

    show()
    with ticking(show):
        yield pace.add


def _ended(session: Session, upload: Upload | None):
    """Returns the values of all components that depend on a run of a recording, which ended."""
    played, rows, whole, drawn = [gr.skip()] * 4
    if upload is not None and upload is session.current and upload.found:
        result, rows = _result(upload.found, upload.recording)
        played, whole = _played(upload) | result, gr.Button(visible=False)
        drawn = _drawn(upload)
    return (next(TURNS) if session.queue else gr.skip(), played, rows, whole, drawn,
            *_listed(session))


def nothing():
    """Returns what `receive` does when there is no recording."""
    return (None, *[gr.Button(interactive=False)] * 2, gr.Button(visible=False),
            *[gr.Column(visible=False)] * 2, [], *[gr.skip()] * 4,
            gr.Radio([], visible=False), *[gr.Button(visible=False)] * 3, gr.skip(), gr.skip())


def _shown(workshop: Any, session: Session, kind: str, strengths: dict[str, Any]):
    """Returns the values of all components that depend on the recording that is open."""
    upload = session.current
    workshop.sound(upload, session.others(upload))
    rows, marks = [], [gr.skip()] * 3
    played, drawn = _played(upload), {"strengths": strengths["strengths"]}
    if upload.found:
        drawn = _drawn(upload)
        result, rows = _result(upload.found, upload.recording)
        played |= result
    if upload is not session.shown:  # a section of another recording
        marks = [NO_PROFILE if kind == MARKED_PROFILE else gr.skip(), None, None]
    session.shown = upload
    followed = (next(TURNS) if session.is_back and (session.active or upload.failed)
                else gr.skip())
    session.is_back = False
    return (played, *[gr.Button(interactive=True)] * 2, gr.Button(visible=False),
            *[gr.Column(visible=False)] * 2, rows, *marks, drawn, *_listed(session),
            session.token, followed)


def _drawn(upload: Upload) -> dict[str, Any]:
    """Returns the value of the strengths by frequency for a result."""
    strengths = bands.strengths_of(upload.found.settings.strength_per_band)
    return {"strengths": strengths, "picture": bands.draw(
        recording=bands.spectrum_of(upload, upload.before),
        noise=bands.spectrum_of(upload.found, upload.found.removed))}


def _written(upload: Upload, strength: float) -> list:
    """Returns what must be chosen on the page while files that are written now are offered."""
    found = upload.found
    rows = choices.rows_of(found.clicks, found.spared, upload.recording.rate)
    return [strength, bands.strengths_of(found.settings.strength_per_band),
            [choices.name_of(row) for row in rows if not row[0]]]


def _listed(session: Session):
    """Returns the list of several recordings with their states, and the buttons for all of them."""
    several, current, active = len(session.uploads) > 1, session.current, session.active
    return (gr.Radio([(f"{each.file.name}: {session.state(each)}", each.folder.name)
                      for each in session.uploads], visible=several,
                     value=current.folder.name),
            gr.Button(visible=several, interactive=active is None),
            gr.Button(visible=several and active is not None and not active.is_stopped),
            gr.Button(visible=several and any(each.found for each in session.uploads)))


def _played(upload: Upload) -> dict[str, Any]:
    """Returns the value of the player for a recording."""
    sound, recording, film = upload.before, upload.recording, {}
    if getattr(recording, "is_film", False):
        film = {"film": f"gradio_api/file={quote(str(recording.path))}",
                "filmStart": film_start(recording)}
    return _of_sound(sound) | film


def _of_sound(sound: Sound) -> dict[str, Any]:
    return {"rate": sound.rate, "channels": sound.channels, "samples": sound.samples,
            "before": _address(sound), "peaks": sound.peaks}


def _result(found: Found, recording: Recording) -> tuple[dict[str, Any], list[list]]:
    """Returns what a result adds to the value of the player, and the table of its clicks."""
    clicks, spared, heard = found.clicks, found.spared, found.heard
    removed, settings = heard.pop("removed"), found.settings
    return {"clicks": choices.marks_of(clicks, spared, recording),
            "removed": _address(removed),
            "restoredPicture": f"gradio_api/file={found.restored_picture}",
            "base": found.base and _address(found.base), "products": found.products,
            "limitedAlone": not settings.repair and settings.replay == UNCHANGED,
            "repairs": TEXT.parts.repairs_and_limits if settings.repair and settings.band_hz
                       else TEXT.parts.repairs if settings.repair else TEXT.parts.limits,
            "parts": [{"name": stage, "label": getattr(TEXT.stages, stage), "url": _address(sound)}
                      for stage, sound in heard.items()],
            "corrected": settings.replay != UNCHANGED}, choices.rows_of(clicks, spared,
                                                                        recording.rate)


def _address(sound: Sound) -> str:
    return f"gradio_api/file={sound.path}"
