"""Removes noise from recordings.

Usage: python inference.py FILE... [key=value ...]

A FILE is a recording, or a folder whose recordings are all taken; names mean themselves, whatever
characters they hold. Beside each recording (or in inference.output_dir) appear NAME_denoised and
NAME_residual, which is what was removed. Most used settings:

  inference.denoising_strength=0.5   remove only half of the noise: NAME_denoised_s5
  inference.output_dir=FOLDER        where the results go
  inference.overwrite=true           replace results that exist
  inference.spectrogram=true         draw input, output and residual: NAME_spectrogram.png
  weights=FILE                       .weights.h5 file, or prefix of a TensorFlow checkpoint
  --config-name conf_prototype       another configuration of conf/
"""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from config import (
    BEST_NAME,
    PRETRAINED,
    Config,
    UnetConfig,
    load_config,
    stored_unet_config,
    weights_path,
)
from denoiser.audio import audio_io, dsp
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from denoiser.backend import load_backend
from denoiser.checks import UserError
from denoiser.command_line import exit_on_user_error, hydra_arguments, run_main
from denoiser.files import replacing
from denoiser.restore import InferenceConfig

logger = logging.getLogger(__name__)

WEIGHTS_ENDING = ".weights.h5"
HEADER_TOLERANCE_SECONDS = 0.1  # MP3 headers are rarely exact
OWN_RESULT = re.compile(r"(?P<origin>.*)_(denoised|residual)(_s[0-9.]+)?")
LONGEST_NAME = 30  # characters beside the progress bar
TERMINATED_STATUS = 143  # what a shell reports for a program that SIGTERM ended


# --- Files -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One recording and where its results go."""

    recording: audio_io.Recording
    denoised: Path
    residual: Path
    picture: Path | None

    @property
    def results(self) -> list[Path]:
        """All files that the job writes."""
        return [path for path in (self.denoised, self.residual, self.picture) if path is not None]


def find_recordings(audio: str | list[str] | None) -> list[Path]:
    """Returns the files that were asked for; a folder stands for all recordings in it.

    Args:
        audio: File or folder names. In folders, hidden files and the results of earlier runs are
            left out. A file is taken whatever its name is, unless it is named as a result of
            another one here is: a shell's `*.wav` finds both.

    Returns:
        Each file once. A name that does not exist is among them.

    Raises:
        ValueError: Nothing was asked for, or a folder holds no recordings.
    """
    names = [audio] if isinstance(audio, str) else audio or []
    if not names or "" in names:
        raise UserError("no recording given. Usage: python inference.py FILE... [key=value ...]")
    found: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if os.path.isdir(path):  # False also where one may not look: that file is reported later
            inside = [item for item in sorted(path.rglob("*"))
                      if item.suffix.lower() in audio_io.AUDIO_ENDINGS and item.is_file()
                      and not any(part.startswith(".") for part in item.relative_to(path).parts)]
            recordings = [item for item in inside if not OWN_RESULT.fullmatch(item.stem)]
            if not recordings:
                raise UserError(f"{path}: the folder holds no recordings")
            if len(recordings) < len(inside):
                logger.info("%s: %d results of earlier runs are left out", path,
                            len(inside) - len(recordings))
        else:
            recordings = [path]
        for item in recordings:
            found.setdefault(os.path.abspath(item), item)
    stems = {os.path.splitext(place)[0] for place in found}
    results = [place for place in found
               if (match := OWN_RESULT.fullmatch(os.path.splitext(place)[0]))
               and match["origin"] in stems]
    for place in results:
        logger.info("%s: a result of an earlier run, left out", found.pop(place))
    return list(found.values())


def strength_suffix(strength: float) -> str:
    """Returns what a result's name says about the strength: `_s5` for 0.5, nothing for 1.

    The digits are those of the shortest decimal that means `strength`, so that no two strengths
    share a name.
    """
    if strength == 1.0:
        return ""
    tenths = (Decimal(repr(abs(float(strength)))) * 10).normalize()
    return f"_s{tenths:f}"


def make_job(recording: audio_io.Recording, settings: InferenceConfig) -> Job:
    """Names the results of one recording."""
    path = recording.path
    folder = path.parent if settings.output_dir is None else Path(settings.output_dir)
    suffix = strength_suffix(settings.denoising_strength)
    ending = audio_io.output_format(recording, recording.header_samples).ending
    return Job(recording,
               folder / f"{path.stem}_denoised{suffix}{ending}",
               folder / f"{path.stem}_residual{suffix}{ending}",
               folder / f"{path.stem}_spectrogram{suffix}.png" if settings.spectrogram else None)


def _require_writable(folder: Path) -> None:
    """Raises ValueError where no file can be made in a folder that exists or will be made."""
    present = folder
    while not os.path.lexists(present) and present != present.parent:
        present = present.parent
    if not present.is_dir():
        raise UserError(f"{folder}: results cannot be written there, {present} is not a folder")
    if not os.access(present, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: results cannot be written there, no permission for {present}")


def plan(paths: list[Path], settings: InferenceConfig) -> tuple[list[Job], dict[Path, str]]:
    """Looks at all files before anything slow begins.

    Args:
        paths: The recordings.
        settings: The `inference` settings.

    Returns:
        What is to be done, and for each file that cannot be done the reason. Of several files
        those that are done are neither, so that a batch can be run again.

    Raises:
        ValueError: Two recordings would give the same result, a result would replace a
            recording, or the output folder is none.
    """
    if settings.output_dir is not None:
        folder = Path(settings.output_dir)
        if folder.exists() and not folder.is_dir():
            raise UserError("`inference.output_dir` must be a folder. "
                            f"Received: inference.output_dir={str(folder)!r}")
    jobs, failures = [], {}
    for path in paths:
        try:
            job = make_job(audio_io.open_recording(path), settings)
            _require_writable(job.denoised.parent)
            jobs.append(job)
        except (UserError, OSError) as error:
            failures[path] = str(error)
    inputs = {os.path.realpath(path) for path in paths}
    origins: dict[str, Path] = {}
    for job in jobs:
        for result in job.results:
            place = os.path.realpath(result)
            if place in inputs:
                raise UserError(f"{job.recording.path}: its result {result} would replace a "
                                "recording of this run")
            if place in origins:
                raise UserError(f"{origins[place]} and {job.recording.path} would both be "
                                f"written to {result}; denoise them in two runs, to two folders")
            origins[place] = job.recording.path
    if settings.overwrite:
        return jobs, failures
    missing = []
    for job in jobs:
        present = [str(result) for result in job.results if os.path.lexists(result)]
        if not present:
            missing.append(job)
        elif len(paths) > 1 and _is_done(job):
            logger.info("%s: has its results already and is left alone", job.recording.path)
        else:
            failures[job.recording.path] = (
                f"{job.recording.path}: {' and '.join(present)} exist already; "
                "inference.overwrite=true replaces results")
    return missing, failures


def _is_done(job: Job) -> bool:
    """Whether all results are there, and could be this recording's: not older and as long."""
    recording = job.recording
    changed = recording.path.stat().st_mtime
    if not all(path.is_file() and path.stat().st_mtime >= changed for path in job.results):
        return False
    for path in (job.denoised, job.residual):
        try:
            result = audio_io.open_recording(path)
        except (UserError, OSError):
            return False
        surplus = abs(result.header_samples - recording.header_samples)
        if ((result.rate, result.channels) != (recording.rate, recording.channels)
                or (recording.header_samples and surplus > HEADER_TOLERANCE_SECONDS * result.rate)):
            return False
    return True


# --- The network -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """Weights, and the settings with which they were trained."""

    weights: Path
    unet: UnetConfig
    stft: StftConfig
    reference_dbfs: float | None


def choose_network(cfg: Config, unet_given: bool) -> Network:
    """Finds the weights and the network that they belong to, and logs both.

    Args:
        cfg: All settings.
        unet_given: Whether the user changed the network in this call. That counts for weights
            that the user names; a run's best and the shipped weights know their own network.

    Returns:
        The `Network`.

    Raises:
        FileNotFoundError: There are no weights.
    """
    weights, named = weights_path(cfg), cfg.weights is not None
    is_keras_file = weights.name.endswith(WEIGHTS_ENDING)
    if named and not (weights if is_keras_file else Path(f"{weights}.index")).is_file():
        raise FileNotFoundError(f"`weights` must be a {WEIGHTS_ENDING} file or the prefix of a "
                                f"TensorFlow checkpoint. Received: weights={cfg.weights!r}")
    if not named and not weights.is_file():
        raise FileNotFoundError(
            f"there are no weights: neither {Path(cfg.path_experiment) / BEST_NAME} nor "
            f"{PRETRAINED / BEST_NAME} exists; train a network or name weights=...")
    stored = stored_unet_config(weights) if is_keras_file and not (named and unet_given) else None
    network = Network(weights, *(stored or (cfg.unet, cfg.stft, cfg.dset.reference_dbfs)))
    kind = ("named in the call" if named else "shipped with the project"
            if weights.parent == PRETRAINED else f"best of {cfg.path_experiment}")
    logger.info("weights: %s (%s)", weights, kind)
    logger.info("network: depth %d, num_tfc %d, %d stages, channels %s (%s)", network.unet.depth,
                network.unet.num_tfc, network.unet.num_stages,
                network.unet.channels[: network.unet.depth + 1],
                "stored beside the weights" if stored else "from the configuration")
    if stored and network.unet != cfg.unet and unet_given:
        logger.warning("the network of the weights is used, not the unet settings of this call")
    return network


def make_predict(network: Network) -> dsp.Predict:
    """Loads the network; returns it as a map of waveforms `(channels, samples)`.

    Raises:
        ValueError: The weights belong to another network.
    """
    load_backend()
    import unet

    model = unet.build_model_denoise(network.unet)
    unet.load_weights(model, network.weights)
    predict = dsp.in_spectral_domain(lambda spectra: model.predict_on_batch(spectra)[0],
                                     network.stft.win_size, network.stft.hop_size,
                                     network.stft.highpass_hz, SAMPLE_RATE)

    def predict_each(audio: np.ndarray) -> np.ndarray:
        # One channel at a time: memory does not grow with their number.
        return np.concatenate([predict(channel[None]) for channel in audio])

    return predict_each


# --- Denoising -------------------------------------------------------------------------------


def denoised_pieces(recording: audio_io.Recording, survey: audio_io.Survey, predict: dsp.Predict,
                    network: Network, settings: InferenceConfig) -> Iterator[np.ndarray]:
    """Denoises the distinct channels of a recording at full strength.

    Args:
        recording: The file.
        survey: What `audio_io.survey` told about it.
        predict: From `make_predict`.
        network: For the level and the alignment of segments.
        settings: The `inference` settings.

    Yields:
        float32 pieces `(distinct channels, samples)` at the file's rate, together at least as
        long as the recording. Above half the network's rate they are silent.

    Raises:
        ValueError: The network returned no numbers.
    """
    gain = 1.0
    if network.reference_dbfs is not None and survey.power > 0.0:
        gain = float(np.sqrt(10.0 ** (network.reference_dbfs / 10.0) / survey.power))
    pieces = ((gain * block[:, survey.distinct].T).astype(np.float32)
              for block in audio_io.read_blocks(recording))
    pieces = dsp.resample_blocks(pieces, recording.rate, SAMPLE_RATE)
    pieces = dsp.stream_in_segments(
        predict, pieces, round(settings.segment_seconds * SAMPLE_RATE),
        round(settings.context_seconds * SAMPLE_RATE),
        network.stft.hop_size * 2**network.unet.depth)
    for piece in dsp.resample_blocks(pieces, SAMPLE_RATE, recording.rate):
        if not np.isfinite(piece).all():
            raise UserError(f"{recording.path}: the network returned NaN; are the weights whole?")
        yield piece / np.float32(gain)


def denoise_recording(job: Job, predict: dsp.Predict, network: Network,
                      settings: InferenceConfig,
                      report: Callable[[float], object] = lambda seconds: None) -> None:
    """Writes output = input - strength * (input - denoised), and the residual input - output.

    All is subtracted from the samples of the file itself: strength 0 returns them as they are,
    and output plus residual is the input again. The results appear when they are complete.

    Args:
        job: What to read and to write.
        predict: From `make_predict`.
        network: See `denoised_pieces`.
        settings: The `inference` settings.
        report: Called with the seconds of audio that have been finished.

    Raises:
        ValueError: The recording is damaged or holds NaN.
        OSError: The results cannot be written.
    """
    recording, strength = job.recording, settings.denoising_strength
    survey = audio_io.survey(recording)
    if recording.header_samples - survey.samples > HEADER_TOLERANCE_SECONDS * recording.rate:
        logger.warning("%s: the header promises %.1f s of audio, but only %.1f s can be read",
                       recording.path, recording.header_samples / recording.rate,
                       survey.samples / recording.rate)
    output = audio_io.output_format(recording, survey.samples)
    if survey.samples == 0 and output.container == "FLAC":
        raise UserError(f"{recording.path}: the file is empty, and FLAC cannot store that")
    distinct = survey.distinct if strength > 0.0 else []
    audible = [channel for channel, source in enumerate(survey.source) if source in distinct]
    order = [distinct.index(survey.source[channel]) for channel in audible]
    pieces = denoised_pieces(recording, survey, predict, network, settings) if distinct else None
    waiting = np.zeros((len(distinct), 0), np.float32)
    with ExitStack() as stack:
        # The last one entered is the first to appear; the restored recording comes last.
        denoised_path, *others = [stack.enter_context(replacing(path)) for path in job.results]
        with (audio_io.Writer(denoised_path, recording.rate, recording.channels, output) as main,
              audio_io.Writer(others[0], recording.rate, recording.channels, output) as rest):
            for original in audio_io.read_blocks(recording):
                removed = np.zeros_like(original)
                if pieces is None:
                    report(len(original) / recording.rate)
                else:
                    while waiting.shape[-1] < len(original):
                        piece = next(pieces)
                        waiting = np.concatenate([waiting, piece], axis=-1)
                        report(piece.shape[-1] / recording.rate)
                    estimate, waiting = np.split(waiting, [len(original)], axis=-1)
                    removed[:, audible] = original[:, audible] - estimate[order].T
                written = main.write(original - strength * removed)
                rest.write(original - written)
        for writer, path in ((main, job.denoised), (rest, job.residual)):
            if writer.clipped:
                logger.warning("%s: %d samples lie beyond full scale and were clipped", path,
                               writer.clipped)
        if job.picture is not None:
            # matplotlib takes a second to load, and few ask for pictures.
            from denoiser.audio.spectrogram import save_spectrograms

            save_spectrograms(others[1], [
                ("Input", recording.path), (f"Output at strength {strength:g}", denoised_path),
                ("Residual: input - output", others[0])], survey.samples)
    logger.info("%s: written to %s", recording.path, ", ".join(map(str, job.results)))


def denoise_all(jobs: list[Job], network: Network, settings: InferenceConfig,
                tell: Callable[[str], object]) -> dict[Path, str]:
    """Denoises one recording after the other; returns, and tells at once, why any failed."""
    failures = {}
    predict = make_predict(network)
    seconds = [job.recording.header_samples / job.recording.rate for job in jobs]
    with (logging_redirect_tqdm(),
          tqdm(total=round(sum(seconds), 1), unit="s", disable=None, leave=False,
               bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of audio, "
                          "{remaining} left") as bar):
        for number, job in enumerate(jobs):
            name = job.recording.path.name
            bar.set_description(name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...")
            try:
                denoise_recording(job, predict, network, settings, bar.update)
            except (UserError, OSError) as error:
                failures[job.recording.path] = str(error)
                tell(str(error))
            bar.update(round(sum(seconds[: number + 1]), 1) - bar.n)
    return failures


@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def denoise(raw: DictConfig) -> None:
    """Denoises the recordings named by `inference.audio`."""
    cfg = load_config(raw)
    paths = find_recordings(cfg.inference.audio)
    jobs, failures = plan(paths, cfg.inference)

    def tell(reason: str) -> None:
        if len(paths) > 1:  # of one alone it is the last line
            logger.error("%s", reason)

    for reason in failures.values():
        tell(reason)
    if jobs:
        network = choose_network(cfg, unet_given=any(
            override.startswith("unet.") for override in HydraConfig.get().overrides.task))
        failures |= denoise_all(jobs, network, cfg.inference, tell)
    if len(paths) == 1 and failures:
        sys.exit(f"error: {' '.join(failures[paths[0]].split())}")
    if failures:
        sys.exit(f"error: {len(failures)} of {len(paths)} recordings failed: "
                 f"{', '.join(map(str, failures))}")


def main() -> None:
    """Reads the command line and denoises."""
    # A `kill` then ends like Ctrl-C: unfinished files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED_STATUS))
    sys.argv[1:] = hydra_arguments(sys.argv[1:], __doc__.strip())
    denoise()


if __name__ == "__main__":
    run_main(main)
