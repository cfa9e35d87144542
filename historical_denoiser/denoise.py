"""Removes noise from recordings.

Usage: denoise FILE... [key=value ...]
       denoise --look FILE... [--json]     what is wrong with each FILE, and settings for it
In a checkout: python inference.py FILE... [key=value ...]

A FILE is a recording, a film, a folder with recordings and films, a pattern in quotes
('disc*/*.wav'), or a list of file names (.txt, .m3u). File names may contain any characters. `-` is
standard input, and its result goes to standard output as WAV; inference.output_dir=- sends that of
a FILE there. The results appear beside each recording, or in inference.output_dir: NAME_denoised,
NAME_residual with the removed noise, and denoised_report.json. Most used settings:

  carrier=acoustic_disc              settings for a carrier: acoustic_disc, electrical_disc, lp,
                                     optical_film, magnetic_film, cassette, open_reel, radio or
                                     voice_memo
  inference.denoising_strength=0.5   remove only half of the noise: NAME_denoised_s5
  inference.denoising_strength=auto  fit the strength to the recording: NAME_denoised_sauto
  inference.strength_per_band=[[0,0.4],[300,1]]
                                     strength 0.4 below 300 Hz, and 1 above
  inference.noise_floor_db=12        lower noise by at most 12 dB, so that pauses are not silent
  inference.band_hz=[100,8000]       remove everything below 100 Hz and above 8 kHz
  inference.mono_source=auto         combine two channels that come from a mono disc or tape
  inference.repair=[gaps,clipping]   first fill gaps of up to 50 ms and restore clipped peaks
  inference.replay_curve=columbia_78 equalise a disc; also by numbers: 500,-13.7 (Hz, dB at 10 kHz)
  inference.transfer_curve=riaa      first undo the equalisation of the transfer
  'inference.speed=78.26>80'         change the speed; or a factor, 0.98; or auto, by mains hum
  inference.azimuth=auto             correct a constant delay between the channels of a tape
  inference.loudness=-18             set the loudness in LUFS, with true peaks below -1 dBTP
  inference.tracks=labels            find the tracks of a side: labels, cues or files
  inference.click_list=true          list the removed clicks: NAME_clicks.csv, NAME_clicks.txt
  inference.keep_clicks=FILE         a list of clicks that stay as they are in the recording
  inference.output_dir=FOLDER        folder of the results
  inference.noise_profile=[12.5,14]  seconds that hold only noise; or a file, or auto to find them
  inference.listen_first=false       without a noise profile: no analysis pass
  inference.overwrite=true           replace existing results
  inference.resume=true              continue a long recording where a killed run stopped
  inference.track=2                  number of a film's audio track, or all; otherwise the default
  inference.track_codec=flac         write the track as FLAC, or pcm; otherwise in its own codec
  inference.residual=stages          also write what each stage removed: NAME_residual_hum, ...
  inference.md5=true                 store the MD5 of the samples in WAV results
  inference.premis=true              describe it for an archive: NAME_denoised_premis.xml
  inference.spectrogram=true         draw input, output and residual: NAME_spectrogram.png
  inference.declick=gentle           remove only clear clicks before the network; or off, or strong
  inference.dehum=false              do not remove mains hum before the network
  inference.cluster=ray              use several machines
  method=lsa                         a classical method without weights instead of the network
  method=diffusion                   samples of a diffusion model of yours: docs/diffusion.md
  weights=FILE                       .weights.h5 file, folder of a training run, or prefix of a
                                     TensorFlow checkpoint; or .onnx or .tflite of export.py, which
                                     starts immediately without TensorFlow
  --config-name conf_prototype       another configuration of conf/

Exit status: 0 if all recordings are done, now or by an earlier run; 3 if some failed; 1 if all
failed, or if the call has a mistake.

From Python: `from historical_denoiser import Denoiser`, then
`restored = Denoiser.load()(waveform, sample_rate)`.
"""

import functools
import importlib.util
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from historical_denoiser.core.backend import has_tensorflow, may_have_gpu
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import printable
from historical_denoiser.core.files import end_on_signals
from historical_denoiser.core.memory import give_back_arrays
from historical_denoiser.denoiser import Method, choose_method
from historical_denoiser.network import runtimes
from historical_denoiser.run import cluster, profiles
from historical_denoiser.run.batch import attempt, follow, one_by_one, try_to_report
from historical_denoiser.run.inputs import find_recordings
from historical_denoiser.run.jobs import Job, is_of_system, plan, report_folder
from historical_denoiser.run.pipes import through_pipes, uses_pipes
from historical_denoiser.run.report import REPORT_NAME, RunReport, hash_of_values, now
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.run.tracks import denoise_tracks
from historical_denoiser.settings import Config, run_with_settings

logger = logging.getLogger(__name__)

LONG_SECONDS = 60.0  # of all channels together, above which loading TensorFlow pays
LOOK, JSON = "--look", "--json"  # options of the command line
SOME_FAILED_STATUS = 3  # of the program, where the other recordings are done


def restoring(cfg: Config, method: Method) -> Callable[..., dict[str, Any]]:
    """Returns `denoise_tracks` with all that the recordings of a run share; loads the method."""
    restorer = method.load()

    def restore(job: Job, **each: Any) -> dict[str, Any]:
        return denoise_tracks(
            job, restorer=method.fit(restorer, job.recording.path),
            strength=cfg.inference.strength, noise_profile=cfg.inference.noise_profile,
            replay=cfg.inference.replay,
            history=f"denoised at {{strength}} by {method.name}",
            # What is kept of the network's output depends on what is written.
            resume=hash_of_values([method.made_with, cfg.inference.residual])
            if cfg.inference.resume else None, **each)

    return restore


def make_ready(cfg: Config, given: set[str], made_with: dict[str, Any]) -> Callable[..., Any]:
    """Returns `attempt` for a worker of a cluster.

    Args:
        cfg: Settings of the run.
        given: Names of the settings that the user gave.
        made_with: What determines the results on the machine that started the run.

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

    It is checked before hours of work, not at their end.
    """
    missing = [name for name in ("librosa", "matplotlib") if importlib.util.find_spec(name) is None]
    if chosen.spectrogram and missing:
        raise UserError("`inference.spectrogram=true` needs a package that is not installed: pip "
                        f"install {' '.join(missing)}")


def choose_runtime(chosen: InferenceConfig, jobs: Iterable[Job], weights: Path | None = None,
                   ) -> str:
    """Returns what computes the network if the call leaves it open ("auto").

    ONNX Runtime starts at once and takes half the memory (docs/lab/whole_commands.md), but only
    Keras uses a GPU, which pays for long recordings. One that is resumed is taken for long.

    Args:
        chosen: Settings of the run.
        jobs: The recordings.
        weights: Path of the weights; None if the method has none.
    """
    exported = weights is not None and runtimes.format_of(weights) is not None
    if (chosen.runtime != "auto" or chosen.cluster != "none" or exported
            or not (has_tensorflow() and may_have_gpu())):
        return chosen.runtime
    seconds = sum(job.recording.header_seconds * job.recording.channels for job in jobs)
    return "keras" if chosen.resume or seconds > LONG_SECONDS else "auto"


def denoise(cfg: Config, given: set[str],
            choose: Callable[[Config, set[str]], Method] = choose_method) -> None:
    """Denoises the recordings named by `inference.audio`.

    Args:
        cfg: All settings.
        given: The keys that the user gave.
        choose: Returns the method, as `choose_method`; on a cluster, that is used.
    """
    if uses_pipes(cfg.inference):
        through_pipes(cfg.inference, lambda inference: denoise(
            replace(cfg, inference=inference), given, choose))
        return
    began = now()
    paths = find_recordings(cfg.inference.audio)
    profiles.check_file(cfg.inference.noise_profile)
    require_packages(cfg.inference)
    method = functools.cache(lambda: choose(cfg, given))
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
            restore_all = functools.partial(
                cluster.restore_all,
                make_ready=functools.partial(make_ready, cfg, given, method().made_with),
                address=cfg.inference.cluster_address, cores=cfg.inference.cluster_cores)
        failures |= follow(
            jobs, restore_all, tell,
            lambda job, facts: report(report_folder(job.denoised, cfg.inference)).add(
                job.recording.path,
                [*job.results, *map(job.denoised.with_name, facts.get("track_files", ()))], facts),
            lambda job: report(report_folder(job.denoised, cfg.inference)).announce(
                job.recording.path, job.results, cfg.inference.overwrite))
    if any(os.path.lexists(path) for path in paths):  # mistyped names are nothing to report
        for path, reason in failures.items():
            folder = report_folder(path, cfg.inference)
            if os.access(folder, os.W_OK) and not path.is_dir() and not is_of_system(folder):
                try_to_report(functools.partial(report(folder).add_failure, path, reason),
                              f"the failure of {path} could not be noted in {REPORT_NAME}")
    exit_on_failures(paths, failures)


def look(cfg: Config, given: set[str], as_json: bool) -> None:
    """Prints what is wrong with the recordings, and settings for them.

    Args:
        cfg, given: As in `make_ready`.
        as_json: Whether to print JSON rather than text.
    """
    from historical_denoiser.run.look import look_at  # slow to import

    paths = find_recordings(cfg.inference.audio)
    exit_on_failures(paths, look_at(paths, cfg.inference.track, as_json))


def exit_on_failures(paths: list[Path], failures: dict[Path, str]) -> None:
    """Ends the program with the status of a run in which some of the recordings failed, if any."""
    if len(paths) == 1 and failures:
        sys.exit(f"error: {printable(failures[paths[0]])}")
    if failures:
        names = printable(", ".join(map(str, failures)))
        summary = f"error: {len(failures)} of {len(paths)} recordings failed: {names}"
        if len(failures) == len(paths):
            sys.exit(summary)
        sys.stderr.write(f"{summary}\n")
        sys.exit(SOME_FAILED_STATUS)


def main() -> None:
    """Reads the command line, and denoises or looks."""
    end_on_signals()
    give_back_arrays()
    words = sys.argv[1:]
    options = words[:words.index("--")] if "--" in words else words
    task: Callable[[Config, set[str]], None] = denoise
    if LOOK in options:
        task = functools.partial(look, as_json=JSON in options)
        sys.argv[1:] = [word for word in options if word not in (LOOK, JSON)] + words[len(options):]
    run_with_settings(task, __doc__.strip())
