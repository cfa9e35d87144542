"""Makes what is delivered beside a restored recording. Start reading at `Delivery`."""

import logging
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

from historical_denoiser.audio.blocks import Tape
from historical_denoiser.audio.dsp import to_gain
from historical_denoiser.audio.loudness import LoudnessMeter
from historical_denoiser.audio.removal import Pair, Strength
from historical_denoiser.audio.side import Span, TrackFinder
from historical_denoiser.audio.survey import Survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import copy_mode, hash_of, replacing
from historical_denoiser.formats import audio_io
from historical_denoiser.formats.archiving import add_for_archive
from historical_denoiser.restoration.click_list import Click, find_clicks
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import labels, premis
from historical_denoiser.run.extras import CUES, FILES, LABELS, PREMIS, TRACK_LISTS
from historical_denoiser.run.jobs import Job

MAX_TRUE_PEAK_DB = -1.0  # dBTP; EBU R 128
IN_MEMORY_BYTES = 2**26
# A block of the repaired recording with what is to be subtracted from it; the block as it is in the
# file; and what the stages of `Job.by_stage` removed, except for the network.
Removed = tuple[Pair, np.ndarray, list[np.ndarray]]

logger = logging.getLogger(__name__)


class Delivery:
    """What is delivered beside one restored recording.

    Attributes:
        kept: The clicks that stay as in the recording.
        marks: Cue points for the restored file, in seconds, with their names.
        gain: Gain of the restored recording, for its loudness.
    """

    def __init__(self, job: Job, digest: str) -> None:
        """Reads the lists that a user gives; raises UserError if they cannot be read.

        `digest` is the hash of the recording.
        """
        self._job, self._wanted, self._digest = job, job.extras, digest
        self._rate = job.recording.rate
        path = self._wanted.keep_clicks
        self.kept = labels.Kept(Path(path) if path else None, self._rate,
                                job.recording.channels)
        self.marks: list[tuple[Fraction, str]] = []
        self._clicks: list[Click] = []
        self.gain, self._completes = 1.0, True
        self._loudness: dict[str, Any] = {}
        self._tracks: list[Span] = []

    def list_clicks(self, restorer: Restorer, strength: Strength, known: Survey,
                    read: Callable[[], Iterable[np.ndarray]]) -> None:
        """Lists the clicks that are removed, if that is wanted.

        Args:
            restorer: The network and its stages.
            strength: The strength of the restoration; at 0, there are no clicks to list.
            known: Result of `analysis.analyse`.
            read: Reads the recording from its start, in blocks.
        """
        if self._wanted.click_list and not strength.removes_nothing:
            self._clicks = [click for click in find_clicks(restorer, read(), self._rate, known)
                            if not self.kept.holds(click)]
            logger.info("%s: %d clicks are removed", self._job.recording.path, len(self._clicks))
            self.marks += [(Fraction(click.start, self._rate), labels.label_of(
                click, self._rate)[2]) for click in self._clicks]

    def at_loudness(self, removed: Iterable[Removed], read: Callable[[], Iterable[np.ndarray]],
                    report: Callable[[float], object],
                    ) -> tuple[Iterable[Removed], Callable[[float], object]]:
        """Sets the gain, if a loudness is wanted.

        The restored recording is then written to a temporary file, to be read once more.

        Args:
            removed: The recording in blocks.
            read: Reads the recording from its start.
            report: Called with the seconds finished since its last call.

        Returns:
            `removed` and `report` for the second pass.
        """
        target = self._wanted.loudness
        if target is None:
            return removed, report
        meter = LoudnessMeter(self._rate, self._job.recording.channels)
        file = SpooledTemporaryFile(IN_MEMORY_BYTES)
        for (block, noise), _, shares in removed:
            np.save(file, np.array([block - noise, *shares], np.float32))
            meter.add(block - noise)
            report(len(block) / self._rate)
        self._set_gain(meter, target)

        def again() -> Iterator[Removed]:
            with file:
                file.seek(0)
                for original in filter(len, read()):
                    block, *shares = np.load(file).astype(np.float64)
                    yield (block, np.zeros_like(block)), original, shares

        return again(), lambda seconds: None

    def _set_gain(self, meter: LoudnessMeter, target: float) -> None:
        path, lufs, peak_db = self._job.recording.path, meter.lufs, meter.true_peak_db
        if lufs is None:
            logger.warning("%s: too short or too soft to measure its loudness; its level is not "
                           "changed", path)
            return
        gain_db = min(target - lufs, MAX_TRUE_PEAK_DB - peak_db)
        self.gain = to_gain(gain_db)
        self._loudness = {"lufs": round(lufs + gain_db, 2), "gain_db": round(gain_db, 2),
                          "true_peak_dbtp": round(peak_db + gain_db, 2)}
        limited = (f", not {target:g}, since the true peak must not exceed {MAX_TRUE_PEAK_DB:g} "
                   "dBTP") if lufs + gain_db < target - 0.05 else ""
        logger.info("%s: %+.1f dB to %.1f LUFS%s", path, gain_db, lufs + gain_db, limited)

    def history(self, history: str) -> str:
        """Returns the entry in the history of the restored file with what is added here."""
        loudness = self._wanted.loudness
        return history if loudness is None else f"{history}; level set for {loudness:g} LUFS"

    def watch(self, pairs: Iterable[Pair], restorer: Restorer) -> Iterator[Pair]:
        """Yields blocks with their noise estimates, and finds the tracks, if they are wanted."""
        if self._wanted.tracks == "none":
            yield from pairs
            return
        finder = TrackFinder(self._rate, restorer.settings.stft.highpass_hz)
        for block, noise in pairs:
            finder.add(block, noise)
            yield block, noise
        self._tracks = finder.find()
        logger.info("%s: tracks between pauses: %d", self._job.recording.path, len(self._tracks))
        if self._wanted.tracks == CUES:
            self.marks += [(Fraction(start, self._rate), f"Track {number}")
                           for number, (start, _) in enumerate(self._tracks, 1)]

    def write(self, places: dict[str, Path], restored: Path, output: audio_io.Format,
              history: str) -> None:
        """Writes lists to temporary files, by the ends of their names, and the files of tracks.

        Args:
            places: The temporary files.
            restored: The restored recording.
            output: Its format.
            history: Entry in its history.
        """
        self._complete(restored)
        seconds = [(start / self._rate, stop / self._rate) for start, stop in self._tracks]
        for ending, place in places.items():
            if ending == "_clicks.csv":
                labels.write_clicks(place, self._clicks, self._rate)
            elif ending == "_clicks.txt":
                labels.write_labels(place, (labels.label_of(click, self._rate)
                                            for click in self._clicks))
            elif ending == TRACK_LISTS[LABELS]:
                labels.write_labels(place, ((*span, f"Track {number}")
                                            for number, span in enumerate(seconds, 1)))
            elif ending == TRACK_LISTS[CUES]:
                labels.write_cue_sheet(place, self._job.denoised.name, (one for one, _ in seconds))
            elif ending == TRACK_LISTS[FILES]:
                self._write_tracks(restored, output)
                labels.write_tracks(place, ((path.name, start, stop - start) for path, (
                    start, stop) in zip(self._track_files(), seconds, strict=True)))
            elif ending == PREMIS:
                self._describe_event(place, restored, output, history)

    def _complete(self, restored: Path) -> None:
        """Adds what archives look for to a WAV file; the first failure is told, and is the last."""
        location, md5 = self._wanted.archive, self._wanted.md5
        if self._completes and (md5 or location is not None):
            try:
                add_for_archive(restored, location, md5)
            except UserError as error:
                self._completes = False
                names = ["inference.md5"] * md5 + ["inference.archive"] * (location is not None)
                logger.warning("%s: %s: %s", self._job.denoised, " and ".join(names), error)

    def _describe_event(self, place: Path, restored: Path, output: audio_io.Format, history: str,
                        ) -> None:
        job, recording, film = self._job, self._job.recording, self._job.film
        stored = (film.muxer, film.encoder) if film else (output.container, output.subtype)
        before, after = (premis.Object(
            path.name, digest, where.stat().st_size, container,
            f"{form}, {rate} Hz, channels: {recording.channels}")
            for path, where, digest, container, form, rate in (
                (recording.path, recording.path, self._digest, recording.container,
                 recording.subtype, recording.rate),
                (job.denoised, restored, hash_of(restored), *stored, job.rate)))
        premis.write_event(place, before, after, history)

    def _track_files(self) -> list[Path]:
        whole = self._job.denoised
        return [whole.with_name(f"{whole.stem}_track{number:02d}{whole.suffix}")
                for number in range(1, len(self._tracks) + 1)]

    def _write_tracks(self, restored: Path, output: audio_io.Format) -> None:
        """Writes a file for each track, with the same samples as in the whole."""
        tape = Tape(audio_io.read_blocks(audio_io.open_recording(restored)))
        for (start, stop), path in zip(self._tracks, self._track_files(), strict=True):
            with replacing(path, lock=True) as place:
                with audio_io.Writer(place, self._rate, self._job.recording.channels,
                                     output) as writer:
                    copy_mode(restored, place)
                    for block in tape.play(start, stop):
                        writer.write(block)
                self._complete(place)

    def describe(self) -> dict[str, Any]:
        """Returns the facts for a report."""
        facts: dict[str, Any] = {}
        if self._wanted.click_list:
            facts["clicks_removed"] = len(self._clicks)
        if self.kept.number:
            facts["clicks_kept"] = self.kept.number
        if self._wanted.tracks != "none":
            facts["track_spans"] = [[round(place / self._rate, 3) for place in span]
                                    for span in self._tracks]
        if self._wanted.tracks == FILES:
            facts["track_files"] = [path.name for path in self._track_files()]
        if self._loudness:
            facts["loudness"] = self._loudness
        return facts
