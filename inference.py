"""Removes noise from recordings.

Usage: python inference.py FILE... [key=value ...]

A FILE is a recording, a film, a folder in which all of these are taken, a pattern in quotes
('disc*/*.wav'), or a list of names (.txt, .m3u); names of files mean themselves, whatever
characters they hold. Beside each recording (or in inference.output_dir) appear NAME_denoised and
NAME_residual, which is what was removed, and denoised_report.json. Most used settings:

  inference.denoising_strength=0.5   remove only half of the noise: NAME_denoised_s5
  inference.denoising_strength=auto  remove what fits the recording: NAME_denoised_sauto
  inference.strength_per_band=[[0,0.4],[300,1]]
                                     that much of it from 0 and from 300 Hz on
  inference.noise_floor_db=12        lower noise by at most 12 dB: pauses do not fall silent
  inference.mono_source=auto         two channels of a mono disc or tape: use both against noise
  inference.output_dir=FOLDER        where the results go
  inference.noise_profile=[12.5,14]  seconds in which only noise is heard; or a file, or auto
  inference.listen_first=false       without such a profile, do not hear 30 s before the rest
  inference.find_noise=false         nor take noise that lies alone in it for the profile
  inference.follow_noise=false       restore it as one, also where its noise changes
  inference.overwrite=true           replace results that exist
  inference.resume=true              go on within a long recording where a killed run stopped
  inference.track=2                  which audio track of a film; else the default one
  inference.track_codec=flac         write it as FLAC, or pcm; else in the film's own codec
  inference.spectrogram=true         draw input, output and residual: NAME_spectrogram.png
  inference.declick=false            do not cut clicks out first
  inference.dehum=false              leave the mains' hum to the network
  inference.keep_held=false          do not give back long notes that were taken for hum
  inference.wiener=false             the network alone, no filter beside it
  inference.cluster=ray              spread the recordings over several machines
  method=lsa                         a classical method without weights instead of the network
  weights=small                      a network of a fifth of the operations; gains 0.4 dB less
  weights=FILE                       .weights.h5 file, folder of a training run, or prefix of a
                                     TensorFlow checkpoint; .onnx or .tflite of export.py: starts
                                     at once, without TensorFlow
  --config-name conf_prototype       another configuration of conf/

Exit status: 0 all is done, now or by an earlier run; 3 some recordings failed, the others are done;
1 nothing could be done, for a mistake in the call or in every recording.

From Python: `from inference import Denoiser; restored = Denoiser.load()(waveform, sample_rate)`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from historical_denoiser.interrupts import end_at_once

    end_at_once()

import dataclasses
import functools
import glob
import importlib.util
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from config import PRETRAINED, Config, load_config, locate_weights, network_settings
from historical_denoiser import profiles
from historical_denoiser.audio import audio_io, containers
from historical_denoiser.audio.containers import Reader
from historical_denoiser.audio.film import FilmWriter
from historical_denoiser.audio.fitting import EXCERPTS_SECONDS, Fitted
from historical_denoiser.audio.integrity import find_damage
from historical_denoiser.audio.metadata import carry_over
from historical_denoiser.audio.removal import Strength, as_strength, remove
from historical_denoiser.audio.survey import Survey, survey
from historical_denoiser.backend import describe_device, has_tensorflow, load_backend, may_have_gpu
from historical_denoiser.checks import UserError, reason_of, require
from historical_denoiser.classical import spectral
from historical_denoiser.cluster import Cluster
from historical_denoiser.command_line import (
    exit_on_user_error,
    hydra_arguments,
    keys_of,
    printable,
    run_main,
)
from historical_denoiser.files import WEIGHTS_ENDING, end_on_signals, hash_of, replacing
from historical_denoiser.jobs import (
    HEADER_TOLERANCE_SECONDS,
    InferenceConfig,
    Job,
    find_recordings,
    is_of_system,
    plan,
    report_folder,
    why_failed,
)
from historical_denoiser.journal import Journal, remove_journals
from historical_denoiser.memory import give_back_arrays
from historical_denoiser.network import runtimes
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import (
    BEST_NAME,
    CONFIG_NAME,
    KEYS,
    NetworkSettings,
    read_network_settings,
)
from historical_denoiser.report import (
    REPORT_NAME,
    RESULTS_VERSION,
    Levels,
    RunReport,
    collected_warnings,
    hash_of_values,
    now,
)
from historical_denoiser.restoration.restorer import SEGMENT_SECONDS, Restorer
from historical_denoiser.restoration.settings import RETIRED, StageSettings, without_retired

logger = logging.getLogger(__name__)

LONG_SECONDS = 60.0  # of all channels together, above which loading TensorFlow pays
SOME_FAILED_STATUS = 3  # of the program, where the other recordings are done
SEED_DIGITS = 16  # of a recording's hash, which seed its dither
HISTORY_DIGITS = 16  # of the weights' hash, which restored files tell
LONGEST_NAME = 30  # characters beside the progress bar
TELL_EVERY_SECONDS = 60.0  # in a log, where there is no bar
# Settings that do not change what is written, and those that the network's own tell.
NOT_IN_RESULTS = {"audio", "output_dir", "overwrite", "resume", "spectrogram", "runtime",
                  "context_seconds", "cluster", "cluster_address", "cluster_cores", *RETIRED}


# --- The network -----------------------------------------------------------------------------


class Denoiser(Restorer):
    """A trained network as a function of recordings.

    Example:
        >>> denoiser = Denoiser.load()
        >>> restored = denoiser(waveform, sample_rate, strength=0.8)
        >>> for block in denoiser.stream(blocks, sample_rate): ...

    Waveforms are floating point, `(samples,)` or `(samples, channels)`, at any sample rate.
    """

    @classmethod
    def load(cls, weights: str | Path | None = None, settings: NetworkSettings | None = None,
             segment_seconds: float = SEGMENT_SECONDS, runtime: str = "auto",
             **stages: Any) -> Denoiser:
        """Loads a network.

        Args:
            weights: A `.weights.h5` file, the folder of a training run, a file of `export.py`, the
                prefix of a TensorFlow checkpoint, or "small", which is shipped beside the default;
                that when absent.
            settings: What the network needs. When absent, they are those stored beside the
                weights.
            segment_seconds: Length of what is restored in one step; memory grows with it.
            runtime: "onnx": what `export.py` wrote beside the weights is computed by ONNX Runtime;
                "keras": the weights themselves, by Keras and its backend, on a GPU if there is one;
                "auto": the former where it can be, unless `KERAS_BACKEND` names a backend.
            **stages: Those of `StageSettings` that are wanted otherwise, as `declick=False`.

        Raises:
            FileNotFoundError: There are no such weights.
            UserError: They belong to another network, or their settings are not known.
        """
        path = locate_weights(weights or PRETRAINED)
        _require_runtime(path, runtime)
        settings = settings or stored_settings(path)
        if settings is None:
            raise UserError(f"`settings` must be given: no {CONFIG_NAME} lies beside {path}")
        exported = path if runtimes.format_of(path) else _find_twin(path, runtime)
        if exported is not None:
            predict = runtimes.load(exported, settings.profile_form)
            logger.info("%s", runtimes.describe(exported))
        else:
            predict = _load_keras(path, settings)
        return cls(predict, settings, StageSettings(**without_retired(stages)), segment_seconds)

    def forget_lengths(self) -> None:
        """Makes what the network returns independent of what it was given before.

        TensorFlow computes the first length that it meets by a graph for that length alone, and all
        others by one for any length, whose sums are rounded otherwise. After this, that is used.
        """
        step, form = 2**self.settings.unet.depth, self.settings.profile_form
        for frames in (step, 2 * step):
            spectra = np.zeros((1, frames, self.settings.stft.bins, 2), np.float32)
            self.network(spectra)
            if form is not None:
                self.network([spectra, form.nothing()[None]])


def _require_runtime(weights: Path, runtime: str) -> None:
    """Raises UserError where an exported network is to be computed by what cannot read it."""
    kind = runtimes.format_of(weights)
    able = ["auto", *(["onnx"] if kind == "onnx" else [])]
    require(kind is None or runtime in able, "inference.runtime",
            f"{' or '.join(able)} with {weights}", runtime)


def _find_twin(weights: Path, runtime: str) -> Path | None:
    """Returns what is computed in place of these weights; None: they are."""
    if runtime == "keras" or (runtime == "auto" and "KERAS_BACKEND" in os.environ):
        return None
    twin = runtimes.find_twin(weights)
    require(twin is not None or runtime == "auto", "inference.runtime",
            f"keras with {weights}: no .onnx of these weights lies beside them (export.py makes "
            f"it), or {runtimes.REQUIREMENTS.format('onnx')} is not installed", runtime)
    return twin


def _load_keras(path: Path, settings: NetworkSettings) -> Callable[[Any], np.ndarray]:
    """Returns a network as `Restorer` calls one, computed by Keras and its backend."""
    load_backend()
    import unet

    logger.info("%s", describe_device())
    model = unet.build_model_denoise(settings.unet)
    try:
        unet.load_weights(model, path)
    except UserError as error:
        known = path.parent / CONFIG_NAME
        raise UserError(f"{error}; the network's form is that of "
                        f"{known if known.is_file() else 'the configuration'}") from error
    return lambda spectra: model.predict_on_batch(spectra)[0]


def stored_settings(weights: Path) -> NetworkSettings | None:
    """Returns what is stored beside weights; a TensorFlow checkpoint comes from elsewhere."""
    is_own = weights.name.endswith(WEIGHTS_ENDING) or runtimes.format_of(weights)
    return read_network_settings(weights) if is_own else None


def choose_network(cfg: Config, given: Iterable[str] = ()) -> tuple[Path, NetworkSettings]:
    """Finds the weights and what their network needs, and logs both.

    Settings that are stored beside weights win over the configuration.

    Args:
        cfg: All settings.
        given: The keys that the user gave in this call.

    Returns:
        The weights that were named, else the run's best, else the shipped ones; and the settings.

    Raises:
        FileNotFoundError: There are no weights.
        UserError: A setting of this call cannot apply to these weights.
    """
    best = Path(cfg.path_experiment) / BEST_NAME
    if cfg.weights is not None:
        weights, kind = locate_weights(cfg.weights), "named in the call"
    elif best.is_file():
        weights, kind = best, f"best of {cfg.path_experiment}"
    elif (PRETRAINED / BEST_NAME).is_file():
        weights, kind = PRETRAINED / BEST_NAME, "shipped with the project"
    else:
        raise FileNotFoundError(f"there are no weights: neither {best} nor "
                                f"{PRETRAINED / BEST_NAME} exists; train a network or name "
                                "weights=...")
    stored = stored_settings(weights)
    settings = network_settings(cfg)
    if stored is not None:
        _refuse_what_cannot_apply(cfg, stored, weights, given)
        if KEYS["context_seconds"] in given:  # any will do, but less of it makes seams
            if settings.context_seconds < stored.context_seconds:
                logger.warning("%s=%g is less than the %g s of context that the network needs",
                               KEYS["context_seconds"], settings.context_seconds,
                               stored.context_seconds)
            stored = dataclasses.replace(stored, context_seconds=settings.context_seconds)
        settings = stored
    logger.info("weights: %s (%s)", weights, kind)
    form = settings.unet
    logger.info("network: depth %d, num_tfc %d, %d stages, channels %s (%s)", form.depth,
                form.num_tfc, form.num_stages, form.channels[: form.depth + 1],
                "from the configuration" if stored is None else "stored beside the weights")
    return weights, settings


def _refuse_what_cannot_apply(cfg: Config, stored: NetworkSettings, weights: Path,
                              given: Iterable[str]) -> None:
    """Raises UserError where a setting of this call is another than the network's own."""
    trained = dataclasses.replace(
        cfg, unet=stored.unet, stft=stored.stft,
        dset=dataclasses.replace(cfg.dset, reference_dbfs=stored.reference_dbfs))
    wanted, fixed = OmegaConf.structured(cfg), OmegaConf.structured(trained)
    for key in given:
        belongs = key.startswith(("unet.", "stft.")) or key == KEYS["reference_dbfs"]
        if belongs and OmegaConf.select(wanted, key) != OmegaConf.select(fixed, key):
            raise UserError(f"`{key}={OmegaConf.select(wanted, key)}` cannot apply to {weights}, "
                            f"which was trained with {OmegaConf.select(fixed, key)} "
                            f"({weights.parent / CONFIG_NAME}). Leave it out, or train a network "
                            "with it")


@dataclasses.dataclass(frozen=True)
class Method:
    """What restores recordings, and what the report tells of it.

    Attributes:
        name: As in the history of restored files.
        load: Makes it ready, which takes seconds.
        described: For the reader of a report.
        made_with: What decides on results, beside the recordings.
        weights: The file of a network's weights, where it is one.
    """

    name: str
    load: Callable[[], Restorer]
    described: dict[str, Any]
    made_with: dict[str, Any]
    weights: Path | None = None


def choose_method(cfg: Config, given: Iterable[str] = ()) -> Method:
    """Returns the method that `cfg` names; args and errors are those of `choose_network`."""
    choice, seconds = cfg.inference.noise_profile, cfg.inference.segment_seconds
    chosen = {name: value for name, value in dataclasses.asdict(cfg.inference).items()
              if name not in NOT_IN_RESULTS}
    deciding = dict(chosen)
    if profiles.is_file(choice):  # its name decides on nothing
        chosen["noise_profile_sha256"] = hash_of(Path(choice))
        deciding["noise_profile"] = chosen["noise_profile_sha256"]
    if cfg.method == "lsa":
        logger.info("method: log-spectral amplitude estimator, no network")
        settings = NetworkSettings(unet=UnetConfig(use_profile=True), stft=cfg.stft,
                                   context_seconds=cfg.inference.context_seconds)
        stages = dataclasses.replace(cfg.inference.stages, listen_first=False, find_noise=False,
                                     follow_noise=False, wiener=False)
        described = {"method": "lsa", "settings": chosen | dataclasses.asdict(stages),
                     "network": dataclasses.asdict(settings)}
        made_with = described | {"settings": deciding, "results_version": RESULTS_VERSION}
        return Method(
            "the log-spectral amplitude estimator",
            lambda: Restorer(functools.partial(spectral.restore_spectra, settings=cfg.stft),
                             settings, stages, seconds),
            described, made_with)
    weights, settings = choose_network(cfg, given)
    _require_runtime(weights, cfg.inference.runtime)
    require(choice == "none" or settings.unet.use_profile, profiles.KEY,
            f"none with {weights}, whose network takes no profile", choice)
    files = [weights] if weights.is_file() else sorted(weights.parent.glob(
        f"{glob.escape(weights.name)}.*"))  # of a TensorFlow checkpoint
    digest, network = hash_of(*files), dataclasses.asdict(settings)

    def load() -> Denoiser:
        denoiser = Denoiser.load(weights, settings, seconds, cfg.inference.runtime,
                                 **dataclasses.asdict(cfg.inference.stages))
        if cfg.inference.resume or cfg.inference.cluster != "none":
            denoiser.forget_lengths()
        return denoiser

    return Method(
        f"the network {digest[:HISTORY_DIGITS]}", load,
        {"weights": {"file": str(weights), "sha256": digest}, "settings": chosen,
         "network": network},
        {"results_version": RESULTS_VERSION, "weights_sha256": digest, "settings": deciding,
         "network_sha256": hash_of_values(network)},
        weights)


# --- Denoising -------------------------------------------------------------------------------


def denoise_recording(job: Job, restorer: Restorer, strength: float | str | Strength = 1.0,
                      report: Callable[[float], object] = lambda seconds: None,
                      noise_profile: Any = "none", history: str = "denoised",
                      resume: str | None = None,
                      before_replacing: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Writes output = input - strength x noise, and the residual input - output.

    All is subtracted from the samples of the file itself: strength 0 returns them as they are,
    and output plus residual is the input again. The results appear when they are complete.

    Args:
        job: What to read and to write.
        restorer: Finds the noise.
        strength: Share of the noise that is removed, in [0, 1], "auto", or a `Strength`.
        report: Called with the seconds of audio that have been finished since the last call. What
            is heard before the rest counts for its share of the work, and what comes after for
            less than its length.
        noise_profile: Where noise alone is heard, as of `profiles.check_choice`.
        history: What the restored file says was done to it; `{strength}` becomes the strength.
        resume: Hash of what tells network and settings. When given, what the network returns is
            kept beside the results until `remove_journals`, and a later call with the same goes on
            there.
        before_replacing: Called when all is written, before anything gets the name of a result.

    Returns:
        What is told of it in the report: the recording's hash, its length and its levels.

    Raises:
        UserError: The recording is damaged or holds NaN, or there is no such noise profile.
        OSError: The results cannot be written.
    """
    recording = job.recording
    if recording.track is not None:
        logger.info("%s: audio track %d (%s, %s) is denoised", recording.path, recording.track,
                    recording.codec, recording.layout)
    strength = as_strength(strength)
    digest, levels = hash_of(recording.path), Levels()
    dither_seed = None if strength.removes_nothing else int(digest[:SEED_DIGITS], 16)
    first = _blocks(job)
    known = survey(first, recording.rate)
    silent = (known.samples - known.audible_samples) / recording.rate
    if known.silences and not strength.removes_nothing:
        logger.info("%s: %.1f s of it are silent, and stay so", recording.path, silent)
    if recording.header_samples - known.samples > HEADER_TOLERANCE_SECONDS * recording.rate:
        logger.warning("%s: the header promises %.1f s of audio, but only %.1f s can be read",
                       recording.path, recording.header_seconds, known.samples / recording.rate)
    if (damage := find_damage(recording)) is not None:
        logger.warning("%s: %s", recording.path, damage)
    output = audio_io.output_format(recording, known.samples)
    if known.samples == 0 and output.container == "FLAC":
        raise UserError("the file is empty, and FLAC cannot store that")
    known, fitted, advance = _analyse(job, restorer, strength, noise_profile, known, report)
    strength = fitted.strength
    blocks = _blocks(job, keep_times=True)
    with ExitStack() as stack:
        if strength.removes_nothing:
            separated = ((block, np.zeros_like(block)) for block in blocks)
        elif resume is None:
            separated = restorer.separate(blocks, recording.rate, known)
        else:
            journal = stack.enter_context(Journal(job.denoised, digest, resume))
            separated = restorer.separate(blocks, recording.rate, known, journal.around)
        # The last one entered is the first to appear; the restored recording comes last.
        denoised_path, *others = [stack.enter_context(replacing(path, locked=True))
                                  for path in job.results]
        with (_writer(job, denoised_path, output, first, blocks, dither_seed,
                      history.format(strength=strength)) as main,
              audio_io.Writer(others[0], recording.rate, recording.channels, output) as rest):
            for original, removed in remove(separated, recording.rate, strength):
                written = main.write(original - removed)
                levels.add(input=original, output=written,
                           residual=rest.write(original - written))
                advance(len(original) / recording.rate)
        if job.film is None:
            try:
                carry_over(recording, denoised_path, output, history.format(strength=strength))
            except UserError as error:
                logger.warning("%s: tags and marks are not copied: %s", recording.path, error)
            audio_io.require_whole(denoised_path, known.samples)
        for writer, path in ((main, job.denoised), (rest, job.residual)):
            if writer.clipped:
                logger.warning("%s: %d samples lie beyond full scale and were clipped", path,
                               writer.clipped)
        if job.picture is not None:
            # matplotlib takes a second to load, and few ask for pictures.
            from historical_denoiser.audio.spectrogram import save_spectrograms

            save_spectrograms(others[1], [
                ("Input", recording),
                (f"Output at strength {strength.share:g}",
                 containers.open_audio(denoised_path, recording.track)),
                ("Residual: input - output", audio_io.open_recording(others[0]))],
                known.samples)
        before_replacing()
    logger.info("%s: written to %s", recording.path,
                printable(", ".join(map(str, job.results))))
    return {"input_sha256": digest, "seconds": round(known.samples / recording.rate, 3),
            "silent_seconds": round(silent, 2),
            "strength": strength.describe() | ({"why": fitted.why} if fitted.why else {}),
            "mono_source": known.mono.describe() if known.mono else None,
            "hum_hz": None if known.hum_hz is None else round(known.hum_hz, 2),
            "noise_alone": None if known.noise_alone is None else [
                round(place / recording.rate, 2) for place in known.noise_alone],
            "sections": [section.describe(recording.rate) for section in known.sections],
            **levels.describe()}


def _analyse(job: Job, restorer: Restorer, strength: Strength, noise_profile: Any, known: Survey,
             report: Callable[[float], object],
             ) -> tuple[Survey, Fitted, Callable[[float], object]]:
    """Analyses a recording, of which `known` is the survey, and logs what is found.

    Returns:
        What is known of it, the strength that fits, and what `report` is to be told through: what
        is heard beforehand counts for its share of the work.
    """
    recording = job.recording
    if strength.removes_nothing:
        return known, Fitted(strength, ""), report
    seconds = known.samples / recording.rate
    profile = profiles.read_profile(noise_profile, lambda: _blocks(job), recording.rate,
                                    known.samples)
    listens = 0.0 if profile is not None else restorer.seconds_heard_first(
        known.audible_samples, recording.rate)
    heard_first = listens + strength.is_auto * min(EXCERPTS_SECONDS, seconds)
    share = seconds / max(seconds + heard_first, 1.0)  # of what is reported

    def advance(seconds: float) -> None:
        report(share * seconds)

    if listens and seconds > EXCERPTS_SECONDS:
        logger.info("%s: %.0f s of it are heard first, to know its noise", recording.path, listens)
    known = restorer.analyse(known, lambda: _blocks(job), recording.rate, profile, advance)
    if known.hum_hz is not None:
        logger.info("%s: it hums at multiples of %.2f Hz, which are taken out first",
                    recording.path, known.hum_hz)
    if known.noise_alone is not None:
        logger.info("%s: noise profile: %.2f to %.2f s, where noise alone was found",
                    recording.path, *(place / recording.rate for place in known.noise_alone))
    fitted = restorer.fit_strength(strength, lambda: _blocks(job), recording.rate, known, advance)
    if strength.is_auto:
        logger.info("%s: strength %s", recording.path, fitted.why)
    return known, fitted, advance


def _blocks(job: Job, keep_times: bool = False) -> Iterable[np.ndarray]:
    """Returns the samples of a recording; of a film with `keep_times` also when they are heard.

    Only then is it said which packets are damaged and where there are gaps, so that it is once.
    """
    return (Reader(job.recording, keep_times) if job.film
            else audio_io.read_blocks(job.recording))


def _writer(job: Job, path: Path, output: audio_io.Format, first: Reader | Iterable[np.ndarray],
            blocks: Reader | Iterable[np.ndarray], dither_seed: int | None, history: str,
            ) -> FilmWriter | audio_io.Writer:
    """Opens the restored recording; `first` has been read, `blocks` are those to be written."""
    if job.film is None:
        return audio_io.Writer(path, job.recording.rate, job.recording.channels, output,
                               dither_seed)
    return FilmWriter(path, job.recording, job.film, blocks.timeline, first.bit_rate, dither_seed,
                      history)


def _tells_report(tell: Callable[[], object], otherwise: str) -> bool:
    """Calls what adds to a report; where that fails, `otherwise` is said, and the results stay."""
    try:
        tell()
    except (UserError, OSError) as error:
        logger.warning("%s: %s", printable(otherwise), reason_of(error))
        return False
    return True


def attempt(job: Job, report: Callable[[float], object], forget: Callable[[], object],
            restore: Callable[..., dict[str, Any]]) -> dict[str, Any] | str:
    """Restores one recording, in whatever process this is.

    Args:
        job: What to read and to write.
        report: Called with the seconds of audio that are finished so far.
        forget: Called before anything gets the name of a result.
        restore: `denoise_recording` with all that the recordings of a run share.

    Returns:
        What is told of it in the report, with its warnings, or the reason why it failed.
    """
    finished = 0.0

    def add(seconds: float) -> None:
        nonlocal finished
        finished += seconds
        report(finished)

    try:
        with collected_warnings() as warnings:
            facts = restore(job, report=add, before_replacing=forget)
    except (UserError, OSError) as error:
        return why_failed(job.recording.path, error)
    return facts | {"warnings": warnings}


def one_by_one(restore: Callable[..., dict[str, Any]], jobs: list[Job],
               report: Callable[[Job, float], object], forget: Callable[[Job], object],
               ) -> Iterator[tuple[Job, dict[str, Any] | str]]:
    """Restores recordings in this process; args and yields are those of `Cluster.restore_all`."""
    for job in jobs:
        report(job, 0.0)
        yield job, attempt(job, functools.partial(report, job), functools.partial(forget, job),
                           restore)


def denoise_all(jobs: list[Job], restorer: Restorer, strength: float | str | Strength,
                tell: Callable[[str], object],
                note: Callable[[Job, dict[str, Any]], object] = lambda job, facts: None,
                noise_profile: Any = "none", history: str = "denoised",
                resume: str | None = None,
                forget: Callable[[Job], object] = lambda job: None) -> dict[Path, str]:
    """Denoises one recording after the other.

    Args:
        jobs: What to do.
        restorer: Finds the noise.
        strength: Share of the noise that is removed, in [0, 1], "auto", or a `Strength`.
        tell: As of `follow`, and `note` and `forget` too.
        note: See there.
        noise_profile: Where noise alone is heard, as of `profiles.check_choice`.
        history: What restored files say was done to them.
        resume: See `denoise_recording`.
        forget: See there.

    Returns:
        Why recordings failed.
    """
    restore = functools.partial(denoise_recording, restorer=restorer, strength=strength,
                                noise_profile=noise_profile, history=history, resume=resume)
    return follow(jobs, functools.partial(one_by_one, restore), tell, note, forget)


def follow(jobs: list[Job],
           restore_all: Callable[..., Iterable[tuple[Job, dict[str, Any] | str]]],
           tell: Callable[[str], object], note: Callable[[Job, dict[str, Any]], object],
           forget: Callable[[Job], object]) -> dict[Path, str]:
    """Has recordings restored, shows how far that is, and reports what becomes of each.

    Args:
        jobs: What to do.
        restore_all: Does it: `one_by_one` or `Cluster.restore_all`.
        tell: Called at once with the reason why a recording failed.
        note: Called with each job that is done and what the report tells of it. Where that fails,
            the recording is done nevertheless.
        forget: Called with each job before its results replace others.

    Returns:
        Why recordings failed.
    """
    failures = {}
    seconds = {job: job.recording.header_seconds for job in jobs}
    finished = dict.fromkeys(jobs, 0.0)
    last_told = time.monotonic()
    with (logging_redirect_tqdm(),
          # Blocks come in bursts, of which the last one tells where the work stands.
          tqdm(total=round(sum(seconds.values()), 1), unit="s", disable=None, leave=False,
               mininterval=0.0, miniters=0,
               bar_format="{desc}{percentage:3.0f}%|{bar}| {n:.0f} of {total:.0f} s of audio, "
                          "{remaining} left") as bar):

        def report(job: Job, so_far: float) -> None:
            nonlocal last_told
            if so_far == 0.0:
                name = job.recording.path.name
                bar.set_description(
                    name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "...")
            bar.update(so_far - finished[job])
            finished[job] = so_far
            if bar.disable and time.monotonic() >= last_told + TELL_EVERY_SECONDS:
                last_told = time.monotonic()
                logger.info("%.0f of %.0f s of audio are done", sum(finished.values()),
                            sum(seconds.values()))

        for job, outcome in restore_all(jobs, report, forget):
            if isinstance(outcome, str):
                failures[job.recording.path] = outcome
                tell(outcome)
            # A journal tells whose results these are until the report does.
            elif _tells_report(functools.partial(note, job, outcome),
                               f"{job.denoised} is written, but {REPORT_NAME} cannot tell of it"):
                remove_journals(job.denoised)
            report(job, seconds[job])
    return failures


def restoring(cfg: Config, method: Method) -> Callable[..., dict[str, Any]]:
    """Returns `denoise_recording` with all that the recordings of a run share; loads the method."""
    return functools.partial(
        denoise_recording, restorer=method.load(), strength=cfg.inference.strength,
        noise_profile=cfg.inference.noise_profile,
        history=f"denoised at {{strength}} by {method.name}",
        resume=hash_of_values(method.made_with) if cfg.inference.resume else None)


def make_ready(cfg: Config, given: set[str], made_with: dict[str, Any]) -> Callable[..., Any]:
    """Returns `attempt` for a worker of a cluster, after what `made_with` says.

    Raises:
        UserError: Results would be made with something else on this machine.
    """
    give_back_arrays()
    method = choose_method(cfg, given)
    require(method.made_with == made_with, "inference.cluster",
            "run with the same program and weights on each machine", platform.node())
    return functools.partial(attempt, restore=restoring(cfg, method))


def require_packages(chosen: InferenceConfig) -> None:
    """Raises UserError where what is asked for needs a package that a small environment lacks.

    It is said before hours of work, not at their end.
    """
    for key, is_asked, names in (
            ("inference.spectrogram", chosen.spectrogram, ("librosa", "matplotlib")),):
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        if is_asked and missing:
            raise UserError(f"`{key}={str(getattr(chosen, key.split('.')[1])).lower()}` needs a "
                            f"package that is not installed: pip install {' '.join(missing)}")


def choose_runtime(chosen: InferenceConfig, jobs: Iterable[Job], weights: Path | None = None,
                   ) -> str:
    """Returns what computes the network where the call leaves it open ("auto").

    ONNX Runtime starts at once and takes half the memory (docs/RESULTS.md, "Whole commands"); a GPU
    is Keras's. A recording that is gone on with is one whose first part took long.
    """
    exported = weights is not None and runtimes.format_of(weights) is not None
    if (chosen.runtime != "auto" or chosen.cluster != "none" or exported
            or not (has_tensorflow() and may_have_gpu())):
        return chosen.runtime
    seconds = sum(job.recording.header_seconds * job.recording.channels for job in jobs)
    return "keras" if chosen.resume or seconds > LONG_SECONDS else "auto"


@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def denoise(raw: DictConfig) -> None:
    """Denoises the recordings named by `inference.audio`."""
    began, cfg = now(), load_config(raw)
    paths = find_recordings(cfg.inference.audio)
    profiles.check_file(cfg.inference.noise_profile)
    require_packages(cfg.inference)
    given = keys_of(HydraConfig.get().overrides.task)
    method = functools.cache(lambda: choose_method(cfg, given))
    jobs, failures = plan(paths, cfg.inference, lambda: method().made_with)

    @functools.cache
    def report(folder: Path) -> RunReport:
        # Where nothing can be done, a mistake in the method must not hide why.
        return (RunReport(folder, method().described, method().made_with, began) if jobs
                else RunReport(folder, {}, {}, began))

    def tell(reason: str) -> None:
        if len(paths) > 1:  # of one alone it is the last line
            logger.error("%s", printable(reason))

    for reason in failures.values():
        tell(reason)
    if jobs:
        # Before the method is loaded.
        cfg.inference.runtime = choose_runtime(cfg.inference, jobs, method().weights)
        if cfg.inference.cluster == "none":
            restore_all = functools.partial(one_by_one, restoring(cfg, method()))
        else:
            restore_all = Cluster("inference:make_ready", (cfg, given, method().made_with),
                                  cfg.inference.cluster_address,
                                  cfg.inference.cluster_cores).restore_all
        failures |= follow(
            jobs, restore_all, tell,
            lambda job, facts: report(report_folder(job.denoised, cfg.inference)).add(
                job.recording.path, job.results, facts),
            lambda job: report(report_folder(job.denoised, cfg.inference)).forget(job.results))
    if any(os.path.lexists(path) for path in paths):  # mistyped names are nothing to report
        for path, reason in failures.items():
            folder = report_folder(path, cfg.inference)
            if os.access(folder, os.W_OK) and not path.is_dir() and not is_of_system(folder):
                _tells_report(functools.partial(report(folder).add_failure, path, reason),
                              f"the failure of {path} could not be noted in {REPORT_NAME}")
    if len(paths) == 1 and failures:
        sys.exit(f"error: {printable(failures[paths[0]])}")
    if failures:
        names = printable(", ".join(map(str, failures)))
        told = f"error: {len(failures)} of {len(paths)} recordings failed: {names}"
        if len(failures) == len(paths):
            sys.exit(told)
        sys.stderr.write(f"{told}\n")
        sys.exit(SOME_FAILED_STATUS)


def main() -> None:
    """Reads the command line and denoises."""
    end_on_signals()
    give_back_arrays()
    sys.argv[1:] = hydra_arguments(sys.argv[1:], __doc__.strip())
    denoise()


if __name__ == "__main__":
    run_main(main)
