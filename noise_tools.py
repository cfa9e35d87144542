"""Commands that learn noise from recordings, write it to files and draw it.

    python noise_tools.py find RECORDING... --output DIR   cuts noise-only stretches into a folder
    python noise_tools.py fit FILE... --output YAML        learns spectrum and clicks from noise
    python noise_tools.py make --output FILE               writes generated noise
    python noise_tools.py picture --output PNG             draws recorded and generated noise
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import soxr

from denoiser.audio import audio_io
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.command_line import run_main
from denoiser.files import replacing
from denoiser.noise.finder import SHORTEST_SECONDS, find_noise_in_blocks
from denoiser.noise.fit import (
    CRACKLE_SPREAD_DB,
    NoiseFit,
    NoiseMeasures,
    fit,
    frame_powers,
    measure,
    spectral_distance,
)
from denoiser.noise.generator import generate
from denoiser.noise.ranges import KINDS, CarrierConfig

logger = logging.getLogger(__name__)

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")
WRITTEN = ("WAV", "FLAC", "AIFF")
REPORT_NAME = "noise_segments.csv"
BLOCK_SECONDS = 60  # read at a time
PICTURE_SECONDS = 5
PICTURE_DPI = 75
PICTURE_COLOURS = 40
REPORT_COLUMNS = ("recording", "start_seconds", "end_seconds", "place", "level_dbfs",
                  "below_program_db", "flatness_db", "file")


def _find_files(names: list[str]) -> list[Path]:
    """The files named, and those in the folders named."""
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files += sorted(file for file in path.rglob("*")
                            if file.suffix.lower() in AUDIO_SUFFIXES)
        elif path.is_file():
            files.append(path)
        else:
            raise FileNotFoundError(f"`{name}` must be a file or folder: it does not exist.")
    if not files:
        raise FileNotFoundError(f"`{names}` must hold audio files: none was found.")
    return files


def _check_new(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise UserError(f"`{path}` exists already; add --overwrite to replace it.")


def _read_mono(path: Path) -> np.ndarray:
    """A recording's channels, averaged, at 44.1 kHz."""
    recording = audio_io.open_recording(path)
    blocks = [block.mean(axis=1, dtype=np.float32) for block in audio_io.read_blocks(recording)]
    audio = np.concatenate([np.zeros(0, np.float32), *blocks])
    return (audio if recording.rate == SAMPLE_RATE
            else soxr.resample(audio, recording.rate, SAMPLE_RATE))


def _write(path: Path, audio: np.ndarray, rate: int, subtype: str) -> None:
    """Writes what the name's ending says: WAV, FLAC or AIFF."""
    container = {".aif": "AIFF"}.get(path.suffix.lower(), path.suffix[1:].upper())
    if container not in WRITTEN:
        raise UserError(f"`--output` must end in .wav, .flac or .aiff. Received: {path}")
    try:
        with replacing(path) as temporary:
            soundfile.write(temporary, audio, rate, format=container, subtype=subtype)
    except soundfile.LibsndfileError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _cut(path: Path, folder: Path, arguments: argparse.Namespace) -> list[dict[str, str]]:
    """Writes one recording's noise to `folder` and returns the report's rows."""
    try:
        with soundfile.SoundFile(path) as stream:
            rate, samples = stream.samplerate, stream.frames
            if samples >= audio_io.UNKNOWN_SAMPLES:
                raise UserError(f"`{path}` must say in its header how long it is: it does not.")
            blocks = stream.blocks(BLOCK_SECONDS * rate, dtype="float32", always_2d=True)
            segments = find_noise_in_blocks(blocks, rate, samples, arguments.min_seconds,
                                            arguments.min_drop_db)
            targets = [folder / f"{path.stem}_seg{number:02d}.flac"
                       for number in range(1, len(segments) + 1)]
            for target in targets:
                _check_new(target, arguments.overwrite)
            subtype = "PCM_16" if stream.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else "PCM_24"
            rows = []
            for segment, target in zip(segments, targets, strict=True):
                first, end = (round(rate * time) for time in (segment.start_seconds,
                                                              segment.end_seconds))
                stream.seek(first)
                _write(target, stream.read(end - first, dtype="float32"), rate, subtype)
                values = {name: f"{value:.2f}" if isinstance(value, float) else value
                          for name, value in asdict(segment).items()}
                rows.append({"recording": str(path), "file": target.name} | values)
    except soundfile.LibsndfileError as error:
        raise UserError(f"`{path}` must be readable audio: {error}") from error
    return rows


def _command_find(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.output)
    files = _find_files(arguments.recordings)
    stems = [path.stem for path in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"`recordings` must differ in their names, which name the output. "
                        f"Received twice: {twice}")
    report = folder / REPORT_NAME
    before: list[dict[str, str]] = []
    if report.exists():
        with report.open(newline="", encoding="utf-8") as stream:
            before = list(csv.DictReader(stream))
    rows, failed = before, []
    for path in files:
        try:
            found = _cut(path, folder, arguments)
        except ValueError as error:
            logger.error("%s", error)
            failed.append(str(path))
            continue
        rows = [row for row in rows if row["recording"] != str(path)] + found
        kept = {row["file"] for row in rows}
        for row in before:  # an earlier run may have found more
            if row["recording"] == str(path) and row["file"] not in kept:
                (folder / row["file"]).unlink(missing_ok=True)
        seconds = sum(float(row["end_seconds"]) - float(row["start_seconds"]) for row in found)
        logger.info("%s: %d stretches, %.1f s of noise", path, len(found), seconds)
        with replacing(report) as temporary, temporary.open(
                "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, REPORT_COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} recordings failed: {failed}")
    logger.info("%s lists what was taken", report)


def _yaml_of_fits(kind: str, names: list[str], fits: list[NoiseFit]) -> str:
    """A config file for `conf/noise/`, with the ranges that the fits span."""
    def span(name: str) -> str:
        values = np.concatenate([np.atleast_1d(getattr(fitted, name)) for fitted in fits])
        return f"[{values.min():.3f}, {values.max():.3f}]"

    lines = [f"# Fitted by `python noise_tools.py fit` to {', '.join(names)}.", f"kind: {kind}",
             f"{kind}:", "  fitted_chance: 1.0", "  tilt_db_per_octave: [-0.5, 0.5]",
             "  colour_db: [0.0, 2.0]", "  cutoff_hz: [18000.0, 22000.0]",
             "  spectra_db:  # third octaves from 32 Hz to 20 kHz, dB per Hz"]
    lines += [f"    - [{', '.join(f'{level:.1f}' for level in fitted.spectrum_db)}]"
              for fitted in fits]
    if kind != "tape":
        lines += [f"  {field_name}: {span(name)}" for field_name, name in (
            ("crackles_per_second", "crackles_per_second"), ("crackle_db", "crackle_db"),
            ("crackle_ms", "pulse_ms"), ("clicks_per_second", "clicks_per_second"),
            ("click_db", "click_db"), ("click_spread_db", "click_spread_db"),
            ("click_ms", "pulse_ms"))]
        lines.insert(-4, f"  crackle_spread_db: [{CRACKLE_SPREAD_DB}, {CRACKLE_SPREAD_DB}]")
    return "\n".join(lines) + "\n"


def _describe(measures: NoiseMeasures) -> str:
    return (f"{measures.level_dbfs:.1f} dBFS, crackle {measures.crackles_per_second:.1f}/s at "
            f"{measures.crackle_db:.0f} dB, clicks {measures.clicks_per_second:.1f}/s at "
            f"{measures.click_db:.0f} dB, kurtosis {measures.kurtosis:.0f}")


def _fit_file(path: Path) -> tuple[NoiseFit, NoiseMeasures, int]:
    """Returns what is learned from a file, what is measured of it, and its length in samples."""
    audio = _read_mono(path)
    try:
        return fit(audio, SAMPLE_RATE), measure(audio, SAMPLE_RATE), len(audio)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def _command_fit(arguments: argparse.Namespace) -> None:
    files = _find_files(arguments.files)
    if arguments.output:
        _check_new(Path(arguments.output), arguments.overwrite)
    fits, fitted_names, failed = [], [], []
    for path in files:
        try:
            fitted, goal, samples = _fit_file(path)
        except ValueError as error:
            logger.error("%s", error)
            failed.append(str(path))
            continue
        trial = measure(generate("gramophone", samples, np.random.default_rng(arguments.seed),
                                 carrier=CarrierConfig(gramophone=fitted.gramophone())),
                        SAMPLE_RATE)
        logger.info("%s\n  recorded:  %s\n  generated: %s\n  spectral distance %.1f dB", path,
                    _describe(goal), _describe(trial),
                    spectral_distance(goal.spectrum_db, trial.spectrum_db))
        fits.append(fitted)
        fitted_names.append(path.name)
    if not fits:
        raise UserError(f"all of {len(failed)} recordings failed: {failed}")
    text = _yaml_of_fits(arguments.kind, fitted_names, fits)
    if arguments.output:
        with replacing(Path(arguments.output)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    if failed:
        raise UserError(f"{len(failed)} of {len(files)} recordings failed: {failed}")


def _command_make(arguments: argparse.Namespace) -> None:
    path = Path(arguments.output)
    _check_new(path, arguments.overwrite)
    noise = generate(arguments.kind, round(arguments.seconds * SAMPLE_RATE),
                     np.random.default_rng(arguments.seed))
    peak = float(np.abs(noise).max())
    if peak > 1.0:
        logger.info("%s: lowered by %.1f dB, so that its clicks fit", path, 20.0 * np.log10(peak))
        noise = noise / peak
    _write(path, noise, SAMPLE_RATE, "PCM_16")


def _command_picture(arguments: argparse.Namespace) -> None:
    import matplotlib  # delayed: no other command draws
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path = Path(arguments.output)
    _check_new(path, arguments.overwrite)
    rng, samples = np.random.default_rng(arguments.seed), PICTURE_SECONDS * SAMPLE_RATE
    panels = []
    for recording in _find_files(arguments.recordings) if arguments.recordings else []:
        audio = _read_mono(recording)
        panels.append((f"recorded: {recording.stem}", audio[:samples]))
        fitted = CarrierConfig(gramophone=fit(audio, SAMPLE_RATE).gramophone())
        panels.append(("generated, fitted to it",
                       generate("gramophone", samples, rng, carrier=fitted)))
    panels += [(f"generated: {arguments.kind}, draw {number}",
                generate(arguments.kind, samples, rng)) for number in range(1, arguments.draws + 1)]
    rows = -(-len(panels) // 2)
    figure, axes = pyplot.subplots(rows, 2, figsize=(9.0, 0.6 + 1.7 * rows), squeeze=False,
                                   dpi=PICTURE_DPI, layout="constrained")
    for axis, (title, audio) in zip(axes.ravel(), panels, strict=False):
        power = frame_powers(audio, 1024, 512)[:, :384].T
        level = 10.0 * np.log10(power[::2] + power[1::2] + 1e-12)
        axis.imshow(level, origin="lower", aspect="auto", cmap="magma",
                    vmin=np.median(level) - 25.0, vmax=np.median(level) + 40.0,
                    extent=(0.0, len(audio) / SAMPLE_RATE, 0.0, 384 * SAMPLE_RATE / 1024e3))
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes.ravel()[len(panels):]:
        axis.set_visible(False)
    figure.supxlabel("seconds", fontsize=8)
    figure.supylabel("kHz", fontsize=8)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    with replacing(path) as temporary:  # noise does not compress: few colours keep it small
        Image.fromarray(np.ascontiguousarray(pixels)).quantize(PICTURE_COLOURS).save(
            temporary, format="PNG", optimize=True)
    pyplot.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Finds, fits, makes and draws carrier noise.")
    commands = parser.add_subparsers(dest="command", required=True)

    find = commands.add_parser("find", help="cut noise-only stretches out of recordings")
    find.add_argument("recordings", nargs="+", help="audio files or folders")
    find.add_argument("--output", required=True, help="folder for the noise and its report")
    find.add_argument("--min-seconds", type=float, default=SHORTEST_SECONDS,
                      help="shortest stretch")
    find.add_argument("--min-drop-db", type=float, default=6.0,
                      help="least distance of the noise from the programme")
    find.set_defaults(run=_command_find)

    learn = commands.add_parser("fit", help="learn spectrum and clicks from noise recordings")
    learn.add_argument("files", nargs="+", help="recordings of noise alone, or folders")
    learn.add_argument("--kind", choices=("gramophone", "film", "tape"), default="gramophone")
    learn.add_argument("--output", help="YAML file, for instance conf/noise/mine.yaml; without "
                       "it the YAML is printed")
    learn.set_defaults(run=_command_fit)

    make = commands.add_parser("make", help="write generated noise to a file")
    make.add_argument("--kind", choices=(*KINDS, "mixed"), default="mixed")
    make.add_argument("--seconds", type=float, default=30.0)
    make.add_argument("--output", required=True, help="WAV, FLAC or AIFF file")
    make.set_defaults(run=_command_make)

    picture = commands.add_parser("picture", help="draw recorded and generated noise")
    picture.add_argument("recordings", nargs="*", help="recordings of noise alone")
    picture.add_argument("--kind", choices=KINDS, default="gramophone")
    picture.add_argument("--draws", type=int, default=2, help="freshly drawn noises to show")
    picture.add_argument("--output", required=True, help="PNG file")
    picture.set_defaults(run=_command_picture)

    for command in (find, learn, make, picture):
        command.add_argument("--overwrite", action="store_true", help="replace existing files")
    for command in (learn, make, picture):
        command.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Runs one of the commands."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.run(arguments)


if __name__ == "__main__":
    run_main(main)
