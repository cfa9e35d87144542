"""Measures a network, or another method, on fixed test mixtures.

Usage: python evaluate.py [weights=FILE] [key=value ...]

Prints the measures of docs/RESULTS.md: SNR gains on clean files with recorded and generated noise
that no training run has seen, by category and by noise; how much noise alone is lowered; and
guards, which are limits to the harm done to clean sound.

    python evaluate.py weights=FOLDER_OF_A_RUN
    python evaluate.py method=lsa                      # the classical method; see inference.py
    python evaluate.py inference.declick=false         # clicks left to the network
    python evaluate.py inference.denoising_strength=auto   # chosen for each mixture
    python evaluate.py dset.path_noise_test=[FOLDER]   # test with all noise files of a folder
    python evaluate.py perceptual=true                 # ViSQOL and PESQ as well
    python evaluate.py test_items=72                   # fewer mixtures
    python evaluate.py profile=true                    # each mixture with a profile of its noise
    python evaluate.py test=sealed                     # once per release; nothing is tuned on it

Methods can be compared on the same mixtures, on noisy and clean files of your own, or on recordings
without clean versions. Tables, plots and players are written to experiments/evaluation/bench:

    python evaluate.py 'methods=[all]'                 # own methods and all installed tools
    python evaluate.py 'methods=[network,network:profile,lsa,adeclick+afftdn,FOLDER_OF_A_RUN]'
    python evaluate.py 'methods=[network,PRIOR,PRIOR:profile]' diffusion.noise=FOLDER test_items=4
    python evaluate.py 'methods=[network,none]' bench.pairs=FOLDER
    python evaluate.py 'methods=[network,none]' bench.recordings=FOLDER

A test in the published layout (docs/diffusion.md) is restored by any method:

    python evaluate.py panels=FOLDER panel=1 method=diffusion weights=RUN diffusion.noise=FOLDER

The exit status is 3 if some items could not be read, or some methods failed on some of them.
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import csv
import dataclasses
import datetime
import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from dataset_loader import TEST_PROFILE_SECONDS, Mixer
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.audio.removal import Strength
from historical_denoiser.bench.methods import PROFILE_ENDING, REQUIREMENTS, Restore, choose
from historical_denoiser.bench.settings import BenchConfig
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import exit_on_user_error, keys_of, run_main
from historical_denoiser.core.files import WEIGHTS_ENDING, hash_of
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.denoise import SOME_FAILED_STATUS, denoise
from historical_denoiser.denoiser import choose_method, trained_method
from historical_denoiser.network.stored import BEST_NAME, find_weights
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import OFF, STAGES, StageSettings
from historical_denoiser.run.jobs import strength_suffix
from historical_denoiser.run.profiles import KEY
from historical_denoiser.settings import Config, load_config
from historical_denoiser.training import guards, metrics, perceptual, probes

logger = logging.getLogger(__name__)

TABLE_NAME = "evaluation.csv"  # a row for each mixture
PROBES_NAME = "probes.csv"  # a row for each probe, and for each clean sound that is like noise
GUARDS_NAME = "guards.csv"  # means, probes and all mixtures: the worst of each, and how many fail
BENCH_NAME = "bench"  # folder of comparisons
NETWORK = "network"


@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def main(raw: DictConfig) -> None:
    """Denoises the test mixtures and prints the measures."""
    cfg = load_config(raw)
    require_used(cfg)
    given = keys_of(HydraConfig.get().overrides.task)
    if cfg.methods or cfg.panels is not None:
        (compare if cfg.methods else restore_panel)(cfg, given)
        return
    judge_more = perceptual.load_judge() if cfg.perceptual else None
    method = choose_method(cfg, given)
    restorer, weights = method.load(), method.weights
    settings = restorer.settings
    if weights is not None:
        cfg.dset.reference_dbfs = settings.reference_dbfs
    require(not cfg.profile or settings.unet.use_profile, "profile",
            f"false with {weights or method.name}, which takes no profile", cfg.profile)
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise,
                  profile_form=settings.profile_form if cfg.profile else None)
    mixtures = map(mixer.evaluation_item, tqdm(range(cfg.test_items), disable=None))
    highpass_hz = cfg.dset.snr_highpass_hz
    restore = at_strength(restorer, cfg.inference.strength)
    rows = metrics.judge_mixtures(restore, mixtures, highpass_hz, judge_more)
    limits = guards.check_guards(rows)
    folder = Path(cfg.path_evaluation) / name_of(cfg, weights)
    name = weights.name if weights else method.name
    sections = [*describe(name, cfg, mixer, restorer),
                metrics.format_table(rows, ("input_snr_db",)),
                metrics.format_table(rows, ("category", "input_snr_db")),
                metrics.format_noises(rows),
                metrics.format_table(rows, ("noise",), metrics.BAND_MEASURES)]
    if cfg.perceptual:
        sections.append(metrics.format_table(rows, ("category", "input_snr_db"),
                                             perceptual.MEASURES))
    if cfg.test_probe_sounds:
        probed = probes.measure(restore, mixer.probe_sounds(
            cfg.test_probe_sounds, cfg.probe_seconds), highpass_hz)
        sections.append(probed.format())
        limits += probed.guards()
        metrics.write_table(folder / PROBES_NAME, probed.table())
    limits += guards.check_guards(rows, each_item=True)
    sections.append(guards.format_guards(limits))
    metrics.write_table(folder / GUARDS_NAME, [dataclasses.asdict(limit) for limit in limits])
    sys.stdout.write("\n\n".join(sections) + "\n")
    metrics.write_table(folder / TABLE_NAME, rows)
    logger.info("each item's measures: %s", folder / TABLE_NAME)
    if cfg.sealed_log is not None:
        note_sealed(Path(cfg.sealed_log), name, weights, rows)


def note_sealed(log: Path, name: str, weights: Path | None, rows: list[metrics.Row]) -> None:
    """Adds a line about a run of the sealed test to a CSV file, which is committed.

    The file shows that the test is run only once per release.

    Args:
        log: The file, which is created if necessary.
        name: Name of the weights or the method.
        weights: The weights file, of which a part of the hash is written.
        rows: The measures of each mixture.
    """
    line = {"date": f"{datetime.date.today()}", "weights": name,
            "sha256": hash_of(weights)[:12] if weights else "", "items": len(rows)}
    for category, snr in sorted({(row["category"], row["input_snr_db"]) for row in rows}):
        gains = [row["snr_gain_db"] for row in rows
                 if (row["category"], row["input_snr_db"]) == (category, snr)]
        line[f"{category}_at_{snr:g}"] = f"{np.mean(gains):.2f}"
    line["noise_left_db"] = f"{np.mean([row['noise_left_db'] for row in rows]):.2f}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, line)
        if stream.tell() == 0:
            writer.writeheader()
        writer.writerow(line)
    logger.info("added to %s", log)


def require_used(cfg: Config) -> None:
    """Raises UserError if a setting of `inference` would have no effect here."""
    hint = ("network:profile and lsa:profile take a profile of each item's own noise, for your "
            "files from NAME_noise.wav beside them" if cfg.methods
            else "profile=true gives each mixture a profile of its own noise")
    require(cfg.inference.noise_profile == "none", KEY, f"none here; {hint}",
            cfg.inference.noise_profile)
    require(cfg.inference.mono_source == "false", "inference.mono_source",
            "false here, as everything is measured in one channel, the mean of a recording's "
            "channels", cfg.inference.mono_source)


def at_strength(restorer: Restorer, strength: Strength) -> Callable[..., np.ndarray]:
    """Returns a function that restores waveforms like `Restorer.each`, at a given strength."""
    if strength == Strength():
        return restorer.each

    def restore(waveforms: np.ndarray, noise_profile: np.ndarray | None = None) -> np.ndarray:
        return np.stack([restorer(waveform, SAMPLE_RATE, strength, noise_profile)
                         for waveform in waveforms])

    return restore


# --- Methods side by side --------------------------------------------------------------------


def compare(cfg: Config, given: set[str]) -> None:
    """Denoises with each of `methods`, prints a comparison, and writes tables and a page."""
    try:  # imported here because plotting and statistics take a second to load
        from historical_denoiser.bench import comparison, measures, pairs
    except ImportError as error:
        raise UserError(f"`methods` needs a package that is not installed ({error.name}): "
                        f"pip install -r {REQUIREMENTS}") from error
    if cfg.bench.pairs is not None:
        files = pairs.find_pairs(cfg.bench.pairs)
    elif cfg.bench.recordings is not None:
        files = pairs.find_recordings(cfg.bench.recordings)
        require(not cfg.perceptual or any(file.category == "speech" for file in files),
                "perceptual", "false, or some of `bench.recordings` in a subfolder called speech: "
                "without clean versions there is only DNSMOS, which is for speech", cfg.perceptual)
    chosen, missing = choose(cfg.methods, own_methods(cfg, given), is_weights)
    folder, faults = Path(cfg.path_evaluation) / BENCH_NAME, comparison.Faults()
    highpass_hz = cfg.dset.snr_highpass_hz
    notes = [f"Left out: {name} ({reason})." for name, reason in missing.items()]
    if cfg.inference.strength != Strength():
        notes.append(f"Our own methods at {cfg.inference.strength}.")
    if cfg.bench.recordings is not None:
        folder /= "recordings"
        notes.insert(0, f"{len(files)} recording{'s' * (len(files) > 1)}, up to "
                     f"{cfg.bench.recording_seconds:g} s of each.")
        sys.stdout.write(comparison.report_alone(
            chosen, files, notes, cfg.bench.recording_seconds, folder, highpass_hz,
            measures.load_judge_alone(cfg.perceptual), faults))
    else:
        judge_more, left_out = measures.load_judge(cfg.perceptual)
        notes += [f"Not measured: {line}." for line in left_out]
        if cfg.bench.pairs is not None:
            folder /= "pairs"
            notes.insert(0, f"{len(files)} pairs of {cfg.bench.pairs}; SNRs are rounded to "
                         f"{pairs.SNR_STEP_DB:g} dB.")
            if (unknown := pairs.note_categories(files)) is not None:
                logger.info("%s", unknown)
                notes.append(unknown)
            names = [file.name for file in files]

            def read(item: int) -> tuple[Mixture, float]:
                return pairs.read_mixture(files[item], highpass_hz)
        else:
            # With any profile form, the mixer draws noise for profiles.
            mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise,
                          profile_form=ProfileForm(cfg.stft, 1.0))
            notes = [f"{cfg.test_items} mixtures of {cfg.seg_len_s_val:g} s", mixer.describe(),
                     f"Noise profiles are {TEST_PROFILE_SECONDS:g} s of the same noise from "
                     "another place.", *notes]
            names = [f"item {item}" for item in range(cfg.test_items)]

            def read(item: int) -> tuple[Mixture, float]:
                mixture = mixer.evaluation_item(item)
                return mixture, mixture.snr_db
        rows = comparison.judge(chosen, names, read, highpass_hz, judge_more, folder, faults)
        sys.stdout.write(comparison.report(rows, chosen, lambda item: read(item)[0],
                                           [*notes, *faults.notes()], folder))
    logger.info("tables, pictures and players: %s", folder)
    if faults:
        sys.exit(SOME_FAILED_STATUS)


def is_weights(name: str) -> bool:
    """Returns whether a name is a file, a folder or the prefix of a checkpoint."""
    return Path(name).exists() or Path(f"{name}.index").is_file()


def own_methods(cfg: Config, given: set[str]) -> dict[str, Callable[[str], Restore]]:
    """Returns functions that load the project's methods, by name, for `bench.methods.choose`."""

    def load(name: str, **choice: str | None) -> Restore:
        restorer = choose_method(dataclasses.replace(
            cfg, methods=[], bench=BenchConfig(), **choice), given).load()
        uses_profile = name.endswith(PROFILE_ENDING)
        require(not uses_profile or restorer.takes_profile, "methods",
                f"without {name}, whose network takes no profile", cfg.methods)

        def restore(audio: np.ndarray, profile: np.ndarray | None) -> np.ndarray:
            return at_strength(restorer, cfg.inference.strength)(
                audio[None], profile if uses_profile else None)[0]

        return restore

    def load_weights(name: str) -> Restore:
        weights = name.removesuffix(PROFILE_ENDING)
        is_prior = trained_method(find_weights(weights)) == "diffusion"
        return load(name, weights=weights, method="diffusion" if is_prior else NETWORK)

    load_lsa = functools.partial(load, method="lsa", weights=None)
    return {NETWORK: load, NETWORK + PROFILE_ENDING: load, "lsa": load_lsa,
            "lsa" + PROFILE_ENDING: load_lsa, "weights": load_weights}


# --- A panel of a published test -------------------------------------------------------------


def restore_panel(cfg: Config, given: set[str]) -> None:
    """Restores the files of a panel as `inference.py` does, and prints and writes a table."""
    from historical_denoiser.bench import panels  # imported here because it loads slowly

    require(cfg.inference.cluster == "none", "inference.cluster", "none with `panels`",
            cfg.inference.cluster)
    items = {item.noisy: item for item in panels.find_items(cfg.panels, cfg.panel)}

    def fit(restorer: Restorer, path: Path) -> Restorer:
        if cfg.method != "diffusion":
            return restorer
        return dataclasses.replace(restorer, config=panels.fit(restorer.config, items[path]))

    method = choose_method(cfg, given)
    known = {path.name: [item.snr_db, item.noise_gain] for path, item in items.items()}
    method = dataclasses.replace(method, fit=fit, made_with=method.made_with | {"panel": known})
    folder = next(iter(items)).parents[1] / name_of(cfg, method.weights)
    status = 0
    try:
        denoise(dataclasses.replace(cfg, inference=dataclasses.replace(
            cfg.inference, audio=list(map(str, items)), output_dir=str(folder))),
            given, lambda cfg, given: method)
    except SystemExit as end:  # the others are in the table
        status = end.code
        if status != SOME_FAILED_STATUS:
            raise
    rows = panels.judge(items.values(), folder)
    sys.stdout.write(panels.format_rows(rows) + "\n")
    metrics.write_table(folder / panels.TABLE_NAME, rows)
    logger.info("results and table: %s", folder)
    sys.exit(status)


# --- One method ------------------------------------------------------------------------------


def describe(name: str, cfg: Config, mixer: Mixer, restorer: Restorer) -> list[str]:
    """Returns lines about the test, the stages, and the limits of the test.

    Args:
        name: Name of the weights or the method.
        cfg: The settings.
        mixer: Makes the mixtures.
        restorer: Restores them.
    """
    stages = [stage for stage in STAGES if restorer.stages.is_on(stage)]
    lines = [f"{name}: {cfg.test_items} mixtures of {cfg.seg_len_s_val:g} s", mixer.describe(),
             f"Enabled stages: {', '.join(stages) or 'none'}."]
    lines += [line for is_so, line in (
        (cfg.dset.snr_highpass_hz,
         f"SNRs are set and measured above {cfg.dset.snr_highpass_hz:g} Hz."),
        (cfg.inference.strength != Strength(),
         f"Each item is denoised at {cfg.inference.strength}."),
        (cfg.profile, f"Each mixture comes with {TEST_PROFILE_SECONDS:g} s of its noise; probes do "
                      "not.")) if is_so]
    if missing := ", ".join(mixer.noise.missing):
        lines.append(f"Not tested, as no recording is held out: {missing}.")
    return lines


def name_of(cfg: Config, weights: Path | None) -> str:
    """Returns the name of the folder of tables: that of the run or method, and changed settings.

    For weights that are not the best of a run, it includes the name of their file.
    """
    name, mode = cfg.method, f"_{cfg.diffusion.mode}" * (cfg.method == "diffusion")
    if weights is not None:
        weights = weights.absolute()
        own = weights.name.removesuffix(WEIGHTS_ENDING)
        name = weights.parent.name + ("" if weights.name == BEST_NAME else f"_{own}")
    strength, declick = cfg.inference.strength, cfg.inference.declick
    floor = "" if strength.noise_floor_db is None else f"_floor{strength.noise_floor_db:g}"
    return (name + mode + strength_suffix(strength.share)
            + "_per_band" * bool(strength.per_band) + floor + "".join(
                f"_no_{stage}" for stage in STAGES
                if StageSettings().is_on(stage) and not cfg.inference.is_on(stage))
            + f"_{declick}_declick" * (declick not in (OFF, StageSettings().declick))
            + "_profile" * cfg.profile)


if __name__ == "__main__":
    run_main(main, __doc__)
