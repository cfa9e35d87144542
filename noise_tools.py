"""Commands that find, fit, measure, generate, draw and add noise.

    python noise_tools.py find RECORDING... --output DIR   cuts out sections of noise alone
    python noise_tools.py fit FILE... --output YAML        learns spectrum and clicks from noise
    python noise_tools.py measure [FILE...]                compares recorded and generated noise
    python noise_tools.py make --output FILE               writes generated noise (--config YAML)
    python noise_tools.py picture --output PNG             draws recorded and generated noise
    python noise_tools.py degrade CLEAN NOISE --snr DB     adds recorded noise to a clean recording
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import argparse
import csv
import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import soundfile
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import describe_error, run_main
from historical_denoiser.core.files import replacing
from historical_denoiser.data.audio_index import find_audio
from historical_denoiser.data.recordings import take_stretch
from historical_denoiser.formats import audio_io
from historical_denoiser.noise import finder, fit, statistics
from historical_denoiser.noise.carriers import KINDS, CarrierConfig
from historical_denoiser.noise.generator import CarrierNoise, draw_carrier, generate

logger = logging.getLogger(__name__)

WRITTEN = ("WAV", "FLAC", "AIFF")
REPORT_NAME = "noise_segments.csv"
MEASURED_SECONDS = 4  # length of each generated noise
QUANTILES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}
PICTURE_SECONDS = 5
PICTURE_DPI = 75
PICTURE_COLOURS = 40  # few colours keep the file small, since noise does not compress well
PICTURE_WINDOW, PICTURE_BINS = 1024, 384  # bins up to 16.5 kHz
REPORT_COLUMNS = ("recording", *(item.name for item in fields(finder.NoiseSegment)), "file")


def _find_files(names: list[str]) -> list[Path]:
    """Returns the files in `names`, and those in the folders in `names`."""
    files: list[Path] = []
    for path in map(Path, names):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        files += find_audio(path) if path.is_dir() else [path]
    return files


def _names_of(recordings: list[Path]) -> dict[Path, str]:
    """Returns a unique name for the noise of each recording.

    This is the name of the file. If several files have the same name, their folders are put before
    it (`disc1_side A`), and if that is not enough, their endings are appended.

    Raises:
        UserError: A file is given twice, or there is no unique name.
    """
    places = {path: Path(os.path.abspath(path)) for path in recordings}
    require(len(set(places.values())) == len(recordings), "recordings", "each named once",
            [str(path) for path in recordings])
    top = os.path.commonpath([place.parent for place in places.values()])
    names = {path: path.stem for path in recordings}
    for longer in (lambda place: place.with_suffix(""), lambda place: place):
        often = Counter(names.values())
        names = {path: name if often[name] == 1
                 else "_".join(longer(places[path]).relative_to(top).parts)
                 for path, name in names.items()}
    twice = sorted(name for name, times in Counter(names.values()).items() if times > 1)
    require(not twice, "recordings", "of names that can be told apart", twice)
    return names


def _check_new(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise UserError(f"`{path}` exists already; add --overwrite to replace it.")


def _read_mono(path: Path) -> np.ndarray:
    """Returns the mean of a recording's channels at 44.1 kHz."""
    recording = audio_io.open_recording(path)
    blocks = [block.mean(axis=1, dtype=np.float32) for block in audio_io.read_blocks(recording)]
    return dsp.resample(np.concatenate([np.zeros(0, np.float32), *blocks]), recording.rate,
                        SAMPLE_RATE)


def _write(path: Path, audio: np.ndarray, rate: int, subtype: str) -> None:
    """Writes `(samples, channels)` as WAV, FLAC or AIFF, according to the ending of the name."""
    container = {".aif": "AIFF"}.get(path.suffix.lower(), path.suffix[1:].upper())
    if container not in WRITTEN:
        raise UserError(f"`--output` must end in .wav, .flac or .aiff. Received: {path}")
    output = audio_io.Format(container, subtype, path.suffix)
    with replacing(path) as temporary, audio_io.Writer(temporary, rate, audio.shape[1],
                                                       output) as stream:
        stream.write(audio)


def _load_carrier(path: Path) -> CarrierConfig:
    """Reads a file like those in `conf/noise/`, for instance one that `fit` wrote."""
    try:
        loaded = OmegaConf.load(path)
        if not OmegaConf.is_dict(loaded):
            raise UserError("the file must hold settings, `key: value`")
        return OmegaConf.to_object(OmegaConf.merge(CarrierConfig, loaded))
    except (UserError, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        key = getattr(error, "full_key", None)
        raise UserError(f"{path}: {f'{key}: ' if key else ''}{describe_error(error)}") from error


def _carrier_of(arguments: argparse.Namespace) -> CarrierConfig:
    """Returns the settings in `--config`, or the defaults, with the kind in `--kind`."""
    carrier = _load_carrier(Path(arguments.config)) if arguments.config else CarrierConfig()
    return replace(carrier, kind=arguments.kind or carrier.kind)


@contextmanager
def _noting_failure(path: Path, failed: list[str]) -> Iterator[None]:
    """Logs a UserError about `path` and adds it to `failed`, so that the next file is processed."""
    try:
        yield
    except UserError as error:
        logger.error("%s: %s", path, str(error).removeprefix(f"{path}: "))
        failed.append(str(path))


def _check_failures(failed: list[str], files: list[Path]) -> None:
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} recordings failed: {failed}")


def _cut(path: Path, name: str, folder: Path,
         arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Writes one recording's noise to `folder`, as `name`, and returns the report's rows."""
    recording = audio_io.open_recording(path)
    if not recording.header_samples:
        raise UserError("its header must say how long it is")
    segments, reason = finder.search(audio_io.read_blocks(recording), recording.rate,
                                     arguments.min_seconds, arguments.min_drop_db)
    if not segments:
        logger.info("%s: nothing is taken: %s", path, reason)
    targets = [folder / f"{name}_seg{number:02d}.flac" for number in range(1, len(segments) + 1)]
    for target in targets:
        _check_new(target, arguments.overwrite)
    subtype = "PCM_16" if recording.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else "PCM_24"
    rows = []
    with soundfile.SoundFile(path) as stream:
        for segment, target in zip(segments, targets, strict=True):
            first, end = (round(recording.rate * seconds)
                          for seconds in (segment.start_seconds, segment.end_seconds))
            stream.seek(first)
            _write(target, stream.read(end - first, always_2d=True), recording.rate, subtype)
            values = {name: f"{value:.2f}" if isinstance(value, float) else value
                      for name, value in asdict(segment).items()}
            rows.append({"recording": str(path), "file": target.name} | values)
    return rows


def _read_report(report: Path) -> list[dict[str, str]]:
    if not report.exists():
        return []
    with report.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_report(report: Path, rows: list[dict[str, str]]) -> None:
    with replacing(report) as temporary, temporary.open("w", newline="",
                                                        encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, REPORT_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _command_find(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    files = _find_files(arguments.recordings)
    names = _names_of(files)
    report = folder / REPORT_NAME
    rows, failed = _read_report(report), []
    for path in files:
        with _noting_failure(path, failed):
            found = _cut(path, names[path], folder, arguments)
            before = {row["file"] for row in rows if row["recording"] == str(path)}
            for name in before - {row["file"] for row in found}:  # an earlier run found more
                (folder / name).unlink(missing_ok=True)
            rows = [row for row in rows if row["recording"] != str(path)] + found
            _write_report(report, rows)
            seconds = sum(float(row["end_seconds"]) - float(row["start_seconds"]) for row in found)
            logger.info("%s: %d sections, %.1f s of noise", path, len(found), seconds)
    _check_failures(failed, files)
    logger.info("%s lists what was taken", report)


def _yaml_of_fits(kind: str, fits: dict[Path, fit.NoiseMeasures]) -> str:
    """Returns the text of a file for `conf/noise/`, with ranges that include all fits."""
    settings = {"fitted_chance": 1.0, "tilt_db_per_octave": [-0.5, 0.5], "colour_db": [0.0, 2.0],
                "cutoff_hz": [18000.0, 22000.0]}
    for name, value in fit.ranges(list(fits.values())).items():
        if hasattr(getattr(CarrierConfig(), kind), name):  # a tape has no crackle
            settings[name] = np.round(value, 1 if name == "spectra_db" else 3).tolist()
    names = ", ".join(path.name for path in fits)
    return (f"# Fitted by `python noise_tools.py fit` to {names}.\n"
            + yaml.safe_dump({"kind": kind, kind: settings}, sort_keys=False,
                             default_flow_style=None, width=math.inf))


def _describe(measures: fit.NoiseMeasures) -> str:
    return (f"{measures.level_dbfs:.1f} dBFS, crackle {measures.crackles_per_second:.1f}/s at "
            f"{measures.crackle_db:.0f} dB, clicks {measures.clicks_per_second:.1f}/s at "
            f"{measures.click_db:.0f} dB, kurtosis {measures.kurtosis:.0f}")


def _fit_file(path: Path, rng: np.random.Generator) -> fit.NoiseMeasures:
    """Fits the settings of noise to a file, and logs how similar generated noise is to it."""
    audio = _read_mono(path)
    goal = fit.measure(audio)
    fitted = fit.fit(goal)
    trial = fit.measure(fitted.render(len(audio), rng))
    logger.info("%s\n  recorded:  %s\n  generated: %s\n  spectral distance %.1f dB", path,
                _describe(goal), _describe(trial),
                fit.spectral_distance(goal.spectrum_db, trial.spectrum_db))
    return fitted


def _command_fit(arguments: argparse.Namespace) -> None:
    files = _find_files(arguments.files)
    if arguments.output:
        _check_new(Path(arguments.output), arguments.overwrite)
    fits, failed = {}, []
    for path in files:
        with _noting_failure(path, failed):
            fits[path] = _fit_file(path, np.random.default_rng(arguments.seed))
    if fits:
        text = _yaml_of_fits(arguments.kind, fits)
        if arguments.output:
            with replacing(Path(arguments.output)) as temporary:
                temporary.write_text(text, encoding="utf-8")
        else:
            sys.stdout.write(text)
    _check_failures(failed, files)


def _command_make(arguments: argparse.Namespace) -> None:
    path = Path(arguments.output)
    require(0.0 < arguments.seconds < math.inf, "--seconds", "above 0 and finite",
            arguments.seconds)
    _check_new(path, arguments.overwrite)
    carrier = _carrier_of(arguments)
    noise = generate(carrier.kind, round(arguments.seconds * SAMPLE_RATE),
                     np.random.default_rng(arguments.seed), carrier=carrier)
    peak = float(np.abs(noise).max())
    if peak > 1.0:
        logger.info("%s: attenuated by %.1f dB to avoid clipping", path, 20.0 * np.log10(peak))
        noise = noise / peak
    _write(path, noise[:, None], SAMPLE_RATE, "PCM_16")


def _write_row(name: str, numbers: dict[str, float]) -> None:
    cells = [f"{value:9.2f}" if column == "loud" else f"{value:9.1f}"
             for column, value in numbers.items()]
    sys.stdout.write(f"{name:<32}{''.join(cells)}\n")


def _command_measure(arguments: argparse.Namespace) -> None:
    require(arguments.draws >= 1, "--draws", "at least 1", arguments.draws)
    files = _find_files(arguments.files)
    carrier = _carrier_of(arguments)
    rng, samples = np.random.default_rng(arguments.seed), MEASURED_SECONDS * SAMPLE_RATE
    drawn = [statistics.describe(generate(carrier.kind, samples, rng, carrier=carrier)).numbers()
             for _ in range(arguments.draws)]
    sys.stdout.write(f"{'':<32}{''.join(f'{column:>9}' for column in drawn[0])}\n")
    failed: list[str] = []
    for path in files:
        with _noting_failure(path, failed):
            audio = _read_mono(path)
            _write_row(path.stem[:31], statistics.describe(audio - audio.mean()).numbers())
    for name, quantile in QUANTILES.items():
        _write_row(f"generated, {name}", {
            column: float(np.quantile([each[column] for each in drawn], quantile))
            for column in drawn[0]})
    _check_failures(failed, files)


def _draw_panels(panels: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Draws spectrograms with titles in two columns, on a linear frequency scale to show clicks."""
    from matplotlib.figure import Figure  # only this command needs it
    from PIL import Image

    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9.0, 0.6 + 1.7 * rows), dpi=PICTURE_DPI, layout="constrained")
    for number, (title, audio) in enumerate(panels, start=1):
        axis = figure.add_subplot(rows, 2, number)
        with np.errstate(divide="ignore"):  # digital silence is drawn as the background
            power, _, _, image = axis.specgram(audio, NFFT=PICTURE_WINDOW, Fs=SAMPLE_RATE,
                                               noverlap=PICTURE_WINDOW // 2, cmap="magma")
        axis.set_facecolor("black")
        # If most of the picture is silent, the scale depends on the loudest bins.
        middle_db = 10.0 * np.log10(max(np.median(power[:PICTURE_BINS]),
                                        1e-5 * np.quantile(power[:PICTURE_BINS], 0.999)) + 1e-20)
        image.set_clim(middle_db - 25.0, middle_db + 40.0)
        axis.set_ylim(0.0, PICTURE_BINS * SAMPLE_RATE / PICTURE_WINDOW)
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.supylabel("Hz", fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
        with Image.open(temporary) as picture:
            few_colours = picture.convert("RGB").quantize(PICTURE_COLOURS)
        few_colours.save(temporary, format="PNG", optimize=True)


def _command_picture(arguments: argparse.Namespace) -> None:
    path = Path(arguments.output)
    _check_new(path, arguments.overwrite)
    rng, samples = np.random.default_rng(arguments.seed), PICTURE_SECONDS * SAMPLE_RATE
    panels = []
    for recording in _find_files(arguments.recordings):
        audio = _read_mono(recording)
        fitted = fit.fit(fit.measure(audio))
        panels += [(f"recorded: {recording.stem}", audio[:samples]),
                   ("generated, fitted to it", fitted.render(samples, rng))]
    for number in range(1, arguments.draws + 1):
        drawn = draw_carrier(arguments.kind, rng, carrier=CarrierConfig(arguments.kind))
        note = f", mostly {drawn.dominant[0]}" if drawn.dominant else ""
        note = f", {next(iter(drawn.parts))} alone" if len(drawn.parts) == 1 else note
        panels.append((f"generated: {arguments.kind}, draw {number}{note}",
                       CarrierNoise(drawn).read(samples)))
    _draw_panels(panels, path)


def _command_degrade(arguments: argparse.Namespace) -> None:
    clean = Path(arguments.clean)
    path = Path(arguments.output or clean.with_name(f"{clean.stem}_noisy.wav"))
    require(math.isfinite(arguments.snr), "--snr", "a finite number of dB", arguments.snr)
    _check_new(path, arguments.overwrite)
    rng, audio, noises = (np.random.default_rng(arguments.seed), _read_mono(clean),
                          _find_files([arguments.noise]))
    chosen = noises[rng.integers(len(noises))]
    noise = _read_mono(chosen)
    for name, sound in ((clean, audio), (chosen, noise)):
        if len(sound) == 0 or np.ptp(sound) == 0.0:
            raise UserError(f"{name} must hold sound; it is silent")
    noise = take_stretch(noise, len(audio), True, rng)
    mixed = dsp.mix_at_snr(audio, noise, arguments.snr)
    lowered = max(1.0, float(np.abs(mixed).max()))
    _write(path, mixed[:, None] / lowered, SAMPLE_RATE, "PCM_24")
    logger.info("%s: the noise of %s at a gain of %.4g, SNR %g dB%s", path, chosen,
                np.std(mixed - audio) / np.std(noise) / lowered, arguments.snr,
                f"; both lowered by {20.0 * np.log10(lowered):.1f} dB to avoid clipping"
                if lowered > 1.0 else "")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Finds, fits, measures, makes, draws and adds carrier noise.")
    commands = parser.add_subparsers(dest="command", required=True)

    find = commands.add_parser("find", help="cut sections of noise alone out of recordings")
    find.add_argument("recordings", nargs="+", help="audio files or folders")
    find.add_argument("--output", required=True, help="folder for the noise and its report")
    find.add_argument("--min-seconds", type=float, default=finder.MIN_SECONDS,
                      help="shortest section")
    find.add_argument("--min-drop-db", type=float, default=finder.MIN_DROP_DB,
                      help="how far noise must lie below the programme")
    find.set_defaults(run=_command_find)

    learn = commands.add_parser("fit", help="learn spectrum and clicks from noise recordings")
    learn.add_argument("files", nargs="+", help="recordings of noise alone, or folders")
    learn.add_argument("--kind", choices=("gramophone", "film", "tape"), default="gramophone")
    learn.add_argument("--output", help="YAML file, for instance conf/noise/mine.yaml; without "
                       "it the YAML is printed")
    learn.set_defaults(run=_command_fit)

    measure = commands.add_parser("measure", help="compare recorded and generated noise in numbers")
    measure.add_argument("files", nargs="*", help="recordings of noise alone, or folders")
    measure.add_argument("--draws", type=int, default=100, help="noises to generate")
    measure.set_defaults(run=_command_measure)

    make = commands.add_parser("make", help="write generated noise to a file")
    make.add_argument("--seconds", type=float, default=30.0)
    make.add_argument("--output", required=True, help="WAV, FLAC or AIFF file")
    make.set_defaults(run=_command_make)

    picture = commands.add_parser("picture", help="draw recorded and generated noise")
    picture.add_argument("recordings", nargs="*", help="recordings of noise alone")
    picture.add_argument("--kind", choices=KINDS, default="gramophone")
    picture.add_argument("--draws", type=int, default=2, help="newly drawn noises to show")
    picture.add_argument("--output", required=True, help="PNG file")
    picture.set_defaults(run=_command_picture)

    degrade = commands.add_parser("degrade", help="add recorded noise to a clean recording")
    degrade.add_argument("clean", help="clean recording, of which the channels' mean is used")
    degrade.add_argument("noise", help="recording of noise alone, or a folder, of which one is "
                         "drawn")
    degrade.add_argument("--snr", type=float, required=True, help="in dB")
    degrade.add_argument("-o", "--output", help="WAV, FLAC or AIFF file; CLEAN_noisy.wav if absent")
    degrade.set_defaults(run=_command_degrade)

    for command in (measure, make):
        command.add_argument("--config", help="YAML file, for instance one that fit wrote")
        command.add_argument("--kind", choices=(*KINDS, "mixed"),
                             help="default: that of the file, or mixed")
    for command in (find, learn, make, picture, degrade):
        command.add_argument("--overwrite", action="store_true", help="replace existing files")
    for command in (learn, measure, make, picture, degrade):
        command.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Runs one of the commands."""
    arguments = _parser().parse_args()
    require(getattr(arguments, "seed", 0) >= 0, "--seed", "at least 0", vars(arguments).get("seed"))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.run(arguments)


if __name__ == "__main__":
    run_main(main)
