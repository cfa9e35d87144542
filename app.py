"""Serves a page in the browser on which recordings and films are denoised.

Usage: python app.py [key=value ...]

Open http://127.0.0.1:7860 and choose a recording. Most used settings:

  app.port=8000                port of the page
  app.host=0.0.0.0             lets others in the network use the page; default: this computer only
  app.weights=[FOLDER,...]     weights that are offered in addition to those of weights=...
  app.longest_minutes=360      maximum length of the recordings of a user together
  app.largest_mb=4000          maximum size of their files together
  app.most_million_samples=2200 maximum number of samples in all channels together
  app.all_users_gb=200         maximum size of the files of all users together
  weights=FILE                 as for inference.py, like the settings inference.*

Uploaded files are deleted two minutes after the page is closed. It needs requirements-app.txt.
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import dataclasses
import functools
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from historical_denoiser.audio.blocks import cut
from historical_denoiser.audio.replay import UNCHANGED
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.core.files import held_signals
from historical_denoiser.core.memory import give_back_arrays
from historical_denoiser.core.resources import PRETRAINED
from historical_denoiser.denoiser import Method, choose_method, choose_network
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page import bands, choices
from historical_denoiser.page.listening import Found, KeepingNoise, KeptNoise, write_sounds
from historical_denoiser.page.sessions import (
    AFTER_SHARE,
    GIGA,
    Session,
    Sessions,
    Upload,
    make_root,
    open_upload,
    require_length,
)
from historical_denoiser.page.sounds import Sound, draw_sound, write_sound
from historical_denoiser.page.texts import TEXT
from historical_denoiser.restoration.click_list import Click, find_clicks
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import profiles
from historical_denoiser.run.extras import ExtraSettings
from historical_denoiser.run.findings import Finding, examine
from historical_denoiser.run.jobs import Job, make_job, require_free
from historical_denoiser.run.recording import denoise_recording
from historical_denoiser.run.settings import ALL_TRACKS, InferenceConfig
from historical_denoiser.settings import Config, run_with_settings

logger = logging.getLogger(__name__)

EXAMPLE = PRETRAINED.parent / "examples" / "noisy.flac"
CLASSICAL = TEXT.choices.classical
SWEEP_SECONDS = 10.0  # interval at which old files are deleted
MAX_CLICKS = 2000  # the strongest ones, which are listed
POLL_SECONDS = 0.2  # interval at which signals are noticed


# --- Restoration -----------------------------------------------------------------------------


def _check_call(cfg: Config) -> None:
    """Raises UserError if the call has settings that are chosen on the page, or are not for it."""
    require(isinstance(cfg.inference.denoising_strength, float),
            "inference.denoising_strength", "a number, since the page has a slider for it",
            cfg.inference.denoising_strength)
    for name in ("noise_profile", "noise_floor_db", "strength_per_band", "speed", "cluster",
                 *(field.name for field in fields(ExtraSettings))):
        value = getattr(cfg.inference, name)
        require(value == getattr(InferenceConfig(), name), f"inference.{name}",
                "left out: it is chosen on the page, or inference.py alone does it", value)


def _methods(cfg: Config) -> dict[str, Config]:
    """Returns the methods that are offered, by their names on the page."""
    found: dict[str, Config] = {}
    for weights in (cfg.weights, *cfg.app.weights):
        own = dataclasses.replace(cfg, method="network", weights=weights)
        folder = choose_network(own)[0].parent
        name = TEXT.choices.network if folder == PRETRAINED else folder.name
        found[f"{name} ({weights})" if name in found else name] = own
    return found | {CLASSICAL: dataclasses.replace(cfg, method="lsa", weights=None)}


class Workshop:
    """Restores the recordings of the users of the page.

    Attributes:
        cfg: All settings.
        sessions: The current users of the page.
        choices: The methods that are offered, with the settings for each.
        settings: Returns the settings of a run, as `choices.settings_of`.
        method, restorer: Functions that return the `Method` of a choice, and its restorer, which is
            loaded once.
    """

    def __init__(self, cfg: Config, root: Path, given: Iterable[str] = ()) -> None:
        _check_call(cfg)
        self.cfg, self.given = cfg, set(given)
        base = choices.without_carrier(cfg.inference, cfg.carrier, self.given)
        self.settings = functools.partial(choices.settings_of, base, self.given, spectrogram=True)
        self.sessions = Sessions(root, 3600.0 * cfg.app.keep_hours, GIGA * cfg.app.all_users_gb)
        self.choices = _methods(cfg)
        self.method = functools.cache(self._choose_method)
        self.restorer = functools.cache(lambda choice: self.method(choice).load())

    def _choose_method(self, choice: str) -> Method:
        cfg = self.choices[choice]
        # With `resume`, the results do not depend on the recordings of other users.
        return choose_method(dataclasses.replace(cfg, inference=dataclasses.replace(
            cfg.inference, resume=True, noise_profile="none")), self.given)

    def takes_profile(self, choice: str) -> bool:
        """Returns whether the choice can use a noise profile."""
        return choice == CLASSICAL or choose_network(self.choices[choice])[1].unet.use_profile

    def receive(self, key: str, paths: Iterable[Path]) -> Session:
        """Opens uploads, and returns the user's session, which holds these and no others.

        Those of several that cannot be opened have the reason in `failed`.

        Args:
            key: Identifies an open page.
            paths: The files as the browser sent them.

        Raises:
            UserError: An upload is gone, or none can be opened.
        """
        session, track = self.sessions.take(key, paths), self.cfg.inference.track
        for upload in session.uploads:
            if upload.recording is None:
                try:
                    with upload.in_use():
                        upload.recording = open_upload(
                            upload.file, None if track == ALL_TRACKS else track, self.cfg.app,
                            [each.recording for each in session.readable])
                        upload.failed = ""
                except (UserError, OSError) as error:
                    upload.failed = self.sessions.describe(error)
        if session.current not in session.readable:
            session.current = next(iter(session.readable), None)
        if session.current is None:
            reason, count = session.uploads[0].failed, len(session.uploads)
            raise UserError(reason if count == 1 else
                            TEXT.errors.none_readable.format(count=count, reason=reason))
        return session

    def sound(self, upload: Upload, others: Collection[Recording] = ()) -> Sound:
        """Returns a recording as the page plays it; the file is written only once.

        Args:
            upload: The recording.
            others: The user's other recordings, which count for the limits as well.
        """

        def check(seconds: float) -> None:
            upload.require_present()
            require_length(upload.recording, seconds, self.cfg.app, others)

        with upload.in_use(), upload.lock:
            if upload.before is None:
                upload.before = write_sound(
                    upload.folder / "before", containers.read_blocks(upload.recording),
                    upload.recording, check)
            return upload.before

    def look(self, upload: Upload) -> list[Finding]:
        """Returns what is wrong with a recording, as `denoise --look`."""
        with upload.in_use():
            if upload.looked is None:
                upload.looked = examine(upload.recording)
            return upload.looked

    def draw(self, upload: Upload) -> list[tuple[float, str]]:
        """Draws the spectrogram of a recording for the player; returns marks of its frequencies."""
        with upload.in_use():
            return draw_sound(upload.before.picture, [upload.before], upload.before.peaks,
                              lambda seconds: upload.require_present())

    def denoise(self, upload: Upload, choice: str, settings: InferenceConfig,
                report: Callable[[float], object], carrier: str = choices.NO_CARRIER) -> Found:
        """Runs the network, and returns its result, with the sounds to play.

        If this fails, the result of the last successful run is kept. Clicks that were given back
        in it stay in the new one.

        Args:
            upload: The recording.
            choice: One of `choices`.
            settings: Those of `settings`.
            report: Called with the seconds of audio finished since the last call; what comes after
                the network counts as `AFTER_SHARE` of the length.
            carrier: The carrier in `settings`.
        """
        if settings.noise_profile != "none" and not self.takes_profile(choice):
            raise UserError(TEXT.errors.no_profile_taken)
        self.sessions.require_room()
        with upload.in_use(), ExitStack() as undo:
            # A new folder, because `write` may still use the former result.
            found = Found(Path(tempfile.mkdtemp(prefix="run", dir=upload.folder)), choice,
                          dataclasses.replace(settings, strength_per_band=None), carrier)
            undo.callback(shutil.rmtree, found.folder, ignore_errors=True)
            restorer, recording = self._restorer(found), upload.recording
            changes = bool(settings.repair) or settings.replay != UNCHANGED
            keeping = KeepingNoise(restorer, found.noise, found.prepared if changes else None)
            # Strength 0 would not estimate any noise.
            self._restore(upload, found, keeping, settings.denoising_strength or 1.0, report)
            found.known = keeping.known
            found.spared = upload.found.spared if upload.found else ()
            found.clicks = _strongest_clicks(restorer, found, upload, report)
            write_sounds(found, recording, self.sound(upload),
                         lambda seconds: upload.require_present())
            found.prepared.unlink(missing_ok=True)
            bands.filter_result(found, upload.before, settings.strength_per_band,
                                lambda seconds: upload.require_present())
            with upload.lock:
                former, upload.found = upload.found, found
            undo.pop_all()
        if former is not None:
            shutil.rmtree(former.folder, ignore_errors=True)
        return found

    def preview(self, upload: Upload, choice: str, settings: InferenceConfig, start: float,
                report: Callable[[float], object]) -> tuple[Sound, Found]:
        """Restores ten seconds from `start` alone; returns them, and the result as `denoise`."""
        part = dataclasses.replace(
            upload, folder=Path(tempfile.mkdtemp(prefix="preview", dir=upload.folder)),
            recording=None, before=None, found=None, lock=threading.RLock())
        rate, read = upload.recording.rate, lambda: containers.read_blocks(upload.recording)
        path, noise = part.folder / f"{upload.recording.path.stem}.wav", part.folder / "noise.wav"
        with upload.in_use():
            profile, _ = profiles.read_profile(settings.noise_profile, read, rate, sys.maxsize)
            if profile is not None:
                sf.write(noise, profile, rate, "FLOAT")
            sf.write(path, cut(read(), rate, start, start + choices.PREVIEW_SECONDS), rate,
                     "FLOAT")
            part.recording = containers.open_audio(path, None)
            sound = self.sound(part)
            found = self.denoise(part, choice, dataclasses.replace(
                settings, spectrogram=False,
                noise_profile="none" if profile is None else str(noise)), report)
            self.draw(part)
            for former in set(upload.folder.glob("preview*")) - {part.folder}:
                shutil.rmtree(former, ignore_errors=True)
        return sound, found

    def write(self, upload: Upload, strength: float, **delivered: Any) -> Job:
        """Writes the result, the residual and the picture, like inference.py.

        The files replace former ones. The noise estimate is that of the last run, so that the
        network does not run.

        Args:
            upload: The recording.
            strength: Share of the noise that is removed.
            delivered: Values of `ExtraSettings` that replace the former ones.

        Raises:
            UserError: There was no successful run, or a value cannot apply.
        """
        with upload.in_use(), upload.lock:
            found = upload.found
            if found is None:
                raise UserError(TEXT.errors.no_result)
            found.settings = dataclasses.replace(found.settings, denoising_strength=strength,
                                                 **delivered)
            kept = KeptNoise(self._restorer(found), found.known, found.noise)
            return self._restore(upload, found, kept, strength)

    def filter(self, upload: Upload, per_band: list[list[float]] | None) -> Found:
        """Gives a result another strength by frequency: its sound, and the next files of `write`.

        Args:
            upload: The recording.
            per_band: A value of `inference.strength_per_band`.
        """
        with upload.in_use(), upload.lock:
            if upload.found is None:
                raise UserError(TEXT.errors.no_result)
            bands.filter_result(upload.found, upload.before, per_band,
                                lambda seconds: upload.require_present())
            return upload.found

    def command(self, upload: Upload) -> str:
        """Returns the command that makes the files which `write` wrote last."""
        found = upload.found
        cfg = self.choices[found.choice]
        others = {"carrier": found.carrier, "method": cfg.method, "weights": cfg.weights}
        return choices.command_of(upload.path, found.settings, *(
            f"{key}={value}" for key, value in others.items() if value != getattr(Config, key)))

    def _restorer(self, found: Found) -> Restorer:
        """Returns the restorer of a run, with the stages that were chosen."""
        restorer = self.restorer(found.choice)
        return dataclasses.replace(restorer, stages=dataclasses.replace(
            found.settings.stages, listen_first=restorer.stages.listen_first))

    def _restore(self, upload: Upload, found: Found, restorer: KeepingNoise | KeptNoise,
                 strength: float, report: Callable[[float], object] = lambda seconds: None) -> Job:
        """Writes the files of `write`; the arguments are those of `denoise`."""
        found.settings = dataclasses.replace(
            found.settings, keep_clicks=found.list_spared(upload.recording))
        settings = dataclasses.replace(
            found.settings, audio=None, output_dir=str(found.folder / "results"),
            denoising_strength=strength)
        job = make_job(upload.recording, settings)
        require_free(job, settings)
        if found.job == job:
            return job
        method = self.method(found.choice)

        def check(seconds: float) -> None:
            upload.require_present()
            report(seconds)

        def forget() -> None:
            found.job = None

        facts = denoise_recording(
            job, restorer, settings.strength, check, settings.noise_profile,
            f"denoised at {{strength}} by {method.name}", replay=settings.replay,
            before_replacing=forget)
        found.gain_db = (facts.get("repaired") or facts.get("replay") or {}).get("gain_db", 0.0)
        found.delivered = [*job.lists.values(), *map(job.denoised.with_name,
                                                     facts.get("track_files", ()))]
        for former in set(job.denoised.parent.iterdir()) - {*job.results, *found.delivered}:
            former.unlink()
        found.job = job
        return job


def _strongest_clicks(restorer: Restorer, found: Found, upload: Upload,
                      report: Callable[[float], object]) -> list[Click]:
    """Returns the clicks that the stages remove, at most `MAX_CLICKS`, and those that stay.

    The arguments are those of `Workshop.denoise`. What stays keeps its place, so that it can be
    repaired again, even if this run found other clicks there, or none.
    """
    rate = upload.recording.rate

    def blocks() -> Iterator[np.ndarray]:
        for block in found.blocks(upload.recording):
            upload.require_present()
            report(AFTER_SHARE * len(block) / rate)
            yield block

    new = [click for click in find_clicks(restorer, blocks(), rate, found.known)
           if not any(click.overlaps(other) for other in found.spared)]
    return sorted([*sorted(new, key=lambda click: -click.strength_db)[:MAX_CLICKS], *found.spared])


# --- The page --------------------------------------------------------------------------------


def launch(workshop: Workshop):
    """Builds the page, starts to serve it, and returns it."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from historical_denoiser.page.guard import Guard, allowed_hosts
    from historical_denoiser.page.layout import ROOM, THEME, build  # loads Gradio

    app = workshop.cfg.app
    page = build(workshop, EXAMPLE)
    page.launch(
        prevent_thread_lock=True, share=False, server_name=app.host, server_port=app.port,
        max_file_size=f"{app.largest_mb}mb", show_error=False, quiet=True, footer_links=[],
        allowed_paths=[str(EXAMPLE)],  # others: below the working directory only
        css_paths=ROOM / "page.css", ssr_mode=False, run_history=False, enable_monitoring=False,
        mcp_server=False, theme=THEME,
        app_kwargs={"openapi_url": None, "middleware": [
            Middleware(TrustedHostMiddleware, allowed_hosts=allowed_hosts(app.host)),
            Middleware(Guard, require_room=workshop.sessions.require_room)]})
    return page


def serve(cfg: Config, given: set[str]) -> None:
    """Serves the page until a signal ends the program; `given` are the keys in the call."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio tests its own page
    require(cfg.inference.audio is None, "inference.audio", "left out: choose files on the page",
            cfg.inference.audio)
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs more packages: pip install -r requirements-app.txt")
    # These end the process at once: threads that compute would abort while Python shuts down.
    with held_signals() as signals, ExitStack() as undo:
        root = make_root()
        undo.callback(shutil.rmtree, root, ignore_errors=True)
        os.environ["GRADIO_TEMP_DIR"] = str(root)  # Gradio stores uploads there
        os.environ["GRADIO_EXAMPLES_CACHE"] = str(root)
        workshop = Workshop(cfg, root, given)
        workshop.restorer(next(iter(workshop.choices)))
        launch(workshop)
        logger.info("open http://%s:%d in a browser; Ctrl-C ends it", cfg.app.host, cfg.app.port)
        swept = time.monotonic()
        while not signals:
            time.sleep(POLL_SECONDS)
            if time.monotonic() > swept + SWEEP_SECONDS:
                workshop.sessions.delete_old()
                swept = time.monotonic()


def main() -> None:
    """Reads the command line and serves the page."""
    give_back_arrays()
    run_with_settings(serve, __doc__.strip())


if __name__ == "__main__":
    run_main(main)
