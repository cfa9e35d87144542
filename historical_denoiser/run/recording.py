"""Restores one recording: reads, analyses, restores and writes it, and returns the facts about it.

Start reading at `denoise_recording`.
"""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio.blocks import tee
from historical_denoiser.audio.fitting import EXCERPTS_SECONDS, Fitted
from historical_denoiser.audio.removal import NO_LIMITS, Pair, Strength, as_strength, remove
from historical_denoiser.audio.replay import UNCHANGED, Replay
from historical_denoiser.audio.survey import Survey, survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import printable
from historical_denoiser.core.files import copy_mode, hash_of, replacing
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.formats.containers import Reader, Track
from historical_denoiser.formats.film import FilmWriter
from historical_denoiser.formats.integrity import find_damage
from historical_denoiser.formats.metadata import carry_over
from historical_denoiser.restoration import chain
from historical_denoiser.restoration.analysis import excerpts_seconds
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import profiles
from historical_denoiser.run.delivery import Delivery, Removed
from historical_denoiser.run.jobs import HEADER_TOLERANCE_SECONDS, Job
from historical_denoiser.run.journal import Journal
from historical_denoiser.run.preparation import Preparation, measure_azimuth, measure_speed
from historical_denoiser.run.report import Levels

logger = logging.getLogger(__name__)

SEED_DIGITS = 16  # digits of a recording's hash that are the seed of its dither


def denoise_recording(job: Job, restorer: Restorer, strength: float | str | Strength = 1.0,
                      report: Callable[[float], object] = lambda seconds: None,
                      noise_profile: Any = "none", history: str = "denoised",
                      resume: str | None = None, replay: Replay = UNCHANGED,
                      before_replacing: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Writes output = input - strength x noise, and the residual input - output.

    The noise is subtracted from the samples of the file, so strength 0 only repairs what
    `restorer.stages.repair` names. Where `replay` corrects something, the corrected recording is
    the input. The results appear when they are complete.

    Args:
        job: The recording, and the files to write.
        restorer: Estimates the noise.
        strength: Share of the noise that is removed, in [0, 1], "auto", or a `Strength`.
        report: Called with the seconds finished since its last call; in sum, the whole length.
        noise_profile: The noise profile to use; see `profiles.check_choice`.
        history: Entry in the history of the restored file; `{strength}` is replaced.
        resume: Hash of the network and the settings. If given, a journal of the network's output
            is kept until `remove_journals`; a later call with the same hash continues from it.
        replay: How the replay of the recording is corrected.
        before_replacing: Called when the results are complete, before they get their names.

    Returns:
        Facts for the report: the recording's hash, its length, its levels and findings.

    Raises:
        UserError: The recording is damaged or contains NaN, or the noise profile does not exist.
        OSError: The results cannot be written.
    """
    recording, strength, digest = job.recording, as_strength(strength), hash_of(job.recording.path)
    delivery, first = Delivery(job, digest), _blocks(job)
    prepared, known, report = _survey(job, restorer, replay, first, report)
    _log_facts(job, known, strength, prepared.replay.speed, getattr(first, "incomplete_packets", 0))
    output, gain = _choose_output(job, prepared, known.samples)
    known, fitted, report = _analyse(job, restorer, strength, noise_profile, known, report,
                                     prepared)
    strength = fitted.strength
    history = delivery.history(prepared.history + history.format(strength=strength))
    with prepared, ExitStack() as stack:
        blocks, journal = _blocks(job, keep_times=True), None
        if resume and not strength.removes_nothing:
            journal = stack.enter_context(Journal(job.denoised, digest, resume))
        # The last one appears first, and the restored recording last.
        places = {path: stack.enter_context(replacing(path, lock=True)) for path in job.results}
        copy_mode(recording.path, *places.values(), *([journal.path] if journal else []))
        seed = _dither_seed(job, strength, prepared, gain, digest)
        writer = _writer(job, places[job.denoised], output, first, blocks, seed, history)
        delivery.list_clicks(restorer, strength, known, lambda: prepared.apply(_blocks(job)))
        removed, report = delivery.at_loudness(
            _removed(job, restorer, strength, known, prepared, gain, blocks, journal, delivery),
            lambda: prepared.without_repairs(_blocks(job), gain), report)
        levels = _write(job, places, writer, removed, output, report, delivery.gain)
        _accompany(job, places, output, history, strength, prepared, known.samples, delivery)
        before_replacing()
    logger.info("%s: written to %s", recording.path, printable(", ".join(map(str, job.results))))
    return {"input_sha256": digest, "seconds": round(known.samples / recording.rate, 3),
            "strength": strength.describe() | ({"why": fitted.why} if fitted.why else {}),
            **_findings(known, recording.rate, prepared.replay.speed),
            **prepared.describe(gain), **levels.describe(), **delivery.describe()}


def _survey(job: Job, restorer: Restorer, replay: Replay, blocks: Iterable[np.ndarray],
            report: Callable[[float], object],
            ) -> tuple[Preparation, Survey, Callable[[float], object]]:
    """Prepares and surveys a recording.

    Repairs may take as long as everything else, and count as `restorer.repair_share` of the work.

    Returns:
        How it is prepared, the survey, and a function that replaces `report` for the rest.
    """
    replay = measure_speed(job.recording, measure_azimuth(job.recording, replay))
    prepared = Preparation(restorer, job.recording.rate, replay)
    share = restorer.repair_share if prepared.kinds else 0.0
    known = survey(prepared.make(blocks, lambda seconds: report(share * seconds)), prepared.rate)
    rest = (1.0 - share) * prepared.replay.speed  # in seconds of the file
    return prepared, known, lambda seconds: report(rest * seconds)


def _choose_output(job: Job, prepared: Preparation, samples: int,
                   ) -> tuple[audio_io.Format, float]:
    """Logs what was prepared, and returns the format of the result and the gain it needs."""
    output = audio_io.output_format(job.recording, samples)
    if samples == 0 and output.container == "FLAC":
        raise UserError("the file is empty, and FLAC cannot store that")
    gain = prepared.gain if job.film or audio_io.BITS[output.subtype] is not None else 1.0
    if prepared.kinds:
        logger.info("%s: repaired: %s", job.recording.path, prepared.found)
    if prepared.history:
        logger.info("%s: %s", job.recording.path, prepared.history.rstrip("; "))
    if gain != 1.0:
        logger.info("%s: the result is lowered by %.1f dB, so that it is not clipped",
                    job.recording.path, -20.0 * math.log10(gain))
    return output, gain


def _dither_seed(job: Job, strength: Strength, prepared: Preparation, gain: float, digest: str,
                 ) -> int | None:
    """Returns the seed of the dither; None if the samples stay as they are."""
    is_changed = not strength.changes_nothing or prepared.replay.changes or gain != 1.0
    return int(digest[:SEED_DIGITS], 16) if is_changed or job.extras.loudness is not None else None


def _removed(job: Job, restorer: Restorer, strength: Strength, known: Survey,
             prepared: Preparation, gain: float, blocks: Iterable[np.ndarray],
             journal: Journal | None, delivery: Delivery) -> Iterator[Removed]:
    """Yields blocks prepared and with the gain, and what is removed from them."""
    originals, source = tee(blocks, 2)
    source = prepared.apply(source)
    # Zeros that take no memory.
    pairs: Iterable[Pair] = ((block, np.broadcast_to(0.0, (*block.shape, 1 + len(chain.ORDER))))
                             for block in source)
    if not strength.removes_nothing:
        restorer = replace(restorer, by_stage=True) if job.by_stage else restorer
        pairs = restorer.separate(source, prepared.rate, known,
                                  journal.around if journal else lambda predict: predict)

    def take(pairs: Iterable[Pair], share: int) -> Iterator[Pair]:
        return ((block, noise.reshape(*block.shape, -1)[..., share]) for block, noise in pairs)

    def subtract(pairs: Iterable[Pair], strength: Strength) -> Iterator[Pair]:
        pairs = ((gain * block, gain * noise) for block, noise in pairs)
        return delivery.kept.spare(remove(pairs, prepared.rate, strength))

    # Estimate 0 is the whole. What a noise floor and band limits do is left to the network.
    linear = replace(strength, noise_floor_db=None, band_hz=NO_LIMITS)
    numbers = [number for number, stage in enumerate(chain.ORDER, 1)
               if stage in job.by_stage and stage != "network"]
    whole, *parts = tee(pairs, 1 + len(numbers))
    shares = [subtract(take(part, number), linear)
              for part, number in zip(parts, numbers, strict=True)]
    whole = subtract(delivery.watch(take(whole, 0), restorer), strength)
    for pair, original in zip(whole, prepared.without_repairs(originals, gain), strict=True):
        repaired = [original - pair[0]] if "repair" in job.by_stage else []
        yield pair, original, [*repaired, *(next(share)[1] for share in shares)]


def _log_facts(job: Job, known: Survey, strength: Strength, speed: float, incomplete: int) -> None:
    """Logs which track is denoised, silence in the recording, and signs of damage."""
    recording = job.recording
    if isinstance(recording, Track) and recording.track is not None:
        logger.info("%s: audio track %d (%s, %s) is denoised", recording.path, recording.track,
                    recording.codec, recording.layout)
    if known.silences and not strength.removes_nothing:
        logger.info("%s: %.1f s of it are silent, and stay so", recording.path,
                    _silent_seconds(known, recording.rate))
    read = speed * known.samples
    if recording.header_samples - read > HEADER_TOLERANCE_SECONDS * recording.rate:
        logger.warning("%s: the header promises %.1f s of audio, but only %.1f s can be read",
                       recording.path, recording.header_seconds, read / recording.rate)
    elif (damage := find_damage(recording)) is not None:
        logger.warning("%s: %s; %.1f s of sound can be read", recording.path, damage,
                       read / recording.rate)
    elif incomplete:
        logger.warning("%s: %d packets of the audio track are incomplete; the file is damaged or "
                       "was cut off", recording.path, incomplete)


def _silent_seconds(known: Survey, sample_rate: int) -> float:
    return (known.samples - known.audible_samples) / sample_rate


def _findings(known: Survey, sample_rate: int, speed: float) -> dict[str, Any]:
    """Returns the results of the analysis for the report."""
    origin = known.profile_origin
    return {
        "noise_profile": origin.describe(speed) if origin else None,
        "silent_seconds": round(_silent_seconds(known, sample_rate), 2),
        "mono_source": known.mono.describe() if known.mono else None,
        "hum_hz": None if known.hum_hz is None else round(known.hum_hz, 2)}


def _analyse(job: Job, restorer: Restorer, strength: Strength, noise_profile: Any, known: Survey,
             report: Callable[[float], object], prepared: Preparation,
             ) -> tuple[Survey, Fitted, Callable[[float], object]]:
    """Analyses a recording that was surveyed, and logs the results.

    Returns:
        The analysis, the fitted strength, and a function that replaces `report` and counts the
        analysis pass as its share of the work.
    """
    recording = job.recording
    if strength.removes_nothing:
        return known, Fitted(strength, ""), report

    def read() -> Iterable[np.ndarray]:
        return prepared.apply(_blocks(job))

    seconds = known.samples / recording.rate
    profile, origin = profiles.read_profile(noise_profile, read, recording.rate, known.samples,
                                            prepared.replay)
    analysed = 0.0 if profile is not None else restorer.analysis_seconds(
        known.audible_samples, recording.rate)
    fitted_to = strength.is_auto * min(EXCERPTS_SECONDS, seconds)
    share = seconds / max(seconds + analysed + fitted_to, 1.0)

    def advance(seconds: float) -> None:
        report(share * seconds)

    audible = known.audible_samples / recording.rate
    if analysed and audible > excerpts_seconds(audible):
        logger.info("%s: %.0f s of it are analysed first, to measure the noise", recording.path,
                    excerpts_seconds(audible))
    known = restorer.analyse(replace(known, profile_origin=origin), read, recording.rate, profile,
                             advance)
    if known.hum_hz is not None:
        logger.info("%s: hum at multiples of %.2f Hz is removed first", recording.path,
                    known.hum_hz)
    fitted = restorer.fit_strength(strength, read, recording.rate, known, advance)
    if strength.is_auto:
        logger.info("%s: strength %s", recording.path, fitted.why)
    return known, fitted, advance


def _write(job: Job, places: dict[Path, Path], writer: FilmWriter | audio_io.Writer,
           removed: Iterable[Removed], output: audio_io.Format,
           report: Callable[[float], object], gain: float) -> Levels:
    """Writes the restored recording, the residual and its parts, and returns the levels.

    `places` are the temporary names of all files. `writer` writes the restored recording, with the
    `gain` of its loudness; the residual is without it, in the format `output`.
    """
    recording, levels = job.recording, Levels()
    with writer as main, ExitStack() as stack:
        rest, *parts = (stack.enter_context(audio_io.Writer(
            places[path], recording.rate, recording.channels, output))
            for path in (job.residual, *job.by_stage.values()))
        others = [part for part, stage in zip(parts, job.by_stage, strict=True)
                  if stage != "network"]
        for (block, noise), original, shares in removed:
            written = main.write(gain * (block - noise))
            residual = rest.write(original - written / gain)
            levels.add(input=original, output=written, residual=residual)
            for part, share in zip(others, shares, strict=True):
                residual = residual - part.write(share)
            if parts:  # the network's share is what the others leave, so that the sum is exact
                parts[list(job.by_stage).index("network")].write(residual)
            report(len(original) / recording.rate)
    for each, path in zip((main, rest, *parts), (job.denoised, job.residual,
                                                 *job.by_stage.values()), strict=True):
        if each.clipped:
            logger.warning("%s: clipped samples beyond full scale: %d", path, each.clipped)
    return levels


def _accompany(job: Job, places: dict[Path, Path], output: audio_io.Format, history: str,
               strength: Strength, prepared: Preparation, samples: int, delivery: Delivery,
               ) -> None:
    """Copies tags and markers of a recording that is not a film, draws, and writes lists."""
    if job.film is None:
        try:
            carry_over(job.recording, places[job.denoised], output, history, prepared.replay.speed,
                       delivery.marks)
        except UserError as error:
            logger.warning("%s: tags and markers are not copied: %s", job.recording.path, error)
        audio_io.require_whole(places[job.denoised], samples)
    if job.picture is not None:
        _draw(places[job.picture], job, places, strength, prepared, samples)
    delivery.write({end: places[path] for end, path in job.lists.items()}, places[job.denoised],
                   output, history)


def _draw(picture: Path, job: Job, places: dict[Path, Path], strength: Strength,
          prepared: Preparation, samples: int) -> None:
    """Draws input, output and residual into the file `picture`."""
    # Imported only when needed, since matplotlib takes a second to load.
    from historical_denoiser.formats.spectrogram import save_spectrograms

    save_spectrograms(picture, [
        ("Input, before its replay was corrected" if prepared.replay.changes else "Input",
         job.recording),
        (f"Output at strength {strength.share:g}",
         containers.open_audio(places[job.denoised], job.recording.track)),
        ("Residual: input - output", audio_io.open_recording(places[job.residual]))], samples)


def _blocks(job: Job, keep_times: bool = False) -> Iterable[np.ndarray]:
    """Returns the blocks of a recording; of a film, with `keep_times`, also their times.

    Damaged packets and gaps are logged only with `keep_times`, so that they are logged once.
    """
    return containers.read_blocks(job.recording, keep_times)


def _writer(job: Job, path: Path, output: audio_io.Format, first: Reader | Iterable[np.ndarray],
            blocks: Reader | Iterable[np.ndarray], dither_seed: int | None, history: str,
            ) -> FilmWriter | audio_io.Writer:
    """Opens the file of the restored recording, `path` for now; `output` is for all but films.

    `first`, which have been read to the end, know the bit rate of a film's track, and `blocks`,
    which are to be restored, its times.
    """
    recording = job.recording
    if job.film is None:
        return audio_io.Writer(path, recording.rate, recording.channels, output, dither_seed)
    if not (isinstance(recording, Track) and isinstance(first, Reader)
            and isinstance(blocks, Reader)):
        raise TypeError("a film must be read by a `Reader`, which knows its times")
    return FilmWriter(path, recording, job.film, blocks.timeline, first.bit_rate, dither_seed,
                      history)
