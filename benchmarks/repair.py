"""Measures how well gaps are filled and clipped peaks restored, and the time for that.

    python benchmarks/repair.py data/heldout/music data/heldout/speech --each=40 --without=adeclip
    python benchmarks/repair.py FOLDER --each=6 --diffusion=experiments/diffusion --without=adeclip

The folders hold clean recordings; those of the open test are loaded by `prepare_data.py`
(docs/data.md). Of so many recordings of each folder, the middle is damaged. Prints the table of
docs/repair.md: the SNR within gaps, and the gain of the signal-to-distortion ratio (SDR) over all
samples of a clipped second, in dB; and processor time in seconds. FFmpeg takes minutes for each.
A diffusion model takes 20 s for each; it also restores seconds without treble (not in
docs/repair.md): by how many dB the log-spectral distance falls, over all frequencies.
"""

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio.dsp import SAMPLE_RATE, clip_at_sdr
from historical_denoiser.bench.methods import filter_with_ffmpeg
from historical_denoiser.bench.pairs import read_mono
from historical_denoiser.classical.clicks import remove_clicks
from historical_denoiser.classical.gaps import fill_gap
from historical_denoiser.classical.repair import Found, repair
from historical_denoiser.denoiser import choose_method
from historical_denoiser.formats.audio_io import AUDIO_ENDINGS
from historical_denoiser.settings import load_config
from historical_denoiser.training.metrics import log_spectral_distance_db

GAPS_MS, SDRS_DB = (5, 10, 20, 50, 100, 200), (3, 7, 15)
CUTOFFS_HZ = (1000, 2000, 4000)  # of sound without treble
CONTEXT = 2 * SAMPLE_RATE  # of a gap, on both sides
AUDIBLE = 1e-3  # a softer gap is not judged


def some(folder: Path, count: int) -> list[Path]:
    """Returns up to `count` of the recordings in a folder, spread over their names."""
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in AUDIO_ENDINGS]
    return paths[::max(1, len(paths) // count)][:count]


def sdr(clean: np.ndarray, other: np.ndarray) -> float:
    """Returns the signal-to-distortion ratio in dB."""
    return 10.0 * np.log10(np.sum(clean**2) / (np.sum((clean - other) ** 2) + 1e-20))


def ours(kind: str, audio: np.ndarray) -> np.ndarray:
    """Returns a sound as `inference.repair` makes it."""
    return np.concatenate([mended for _, mended in repair([audio], SAMPLE_RATE, [kind], Found())])


def line(audio: np.ndarray, gap: slice) -> np.ndarray:
    """Returns a sound with a straight line across a gap."""
    out = audio.copy()
    out[gap] = np.linspace(audio[gap.start - 1], audio[gap.stop], gap.stop - gap.start)
    return out


def interpolate(damaged: np.ndarray, gap: slice) -> np.ndarray:
    """Returns a sound with a gap of up to 0.38 s filled as `inference.repair` fills short ones."""
    out = damaged.copy()
    fill_gap(out, gap.start, gap.stop, len(out), SAMPLE_RATE, len(out) / SAMPLE_RATE)
    return out


def without_treble(audio: np.ndarray, cutoff_hz: float) -> np.ndarray:
    """Returns a sound without what is above a frequency, as `diffusion.mode=extend` expects it."""
    from historical_denoiser.diffusion.degradations import LowPass  # loads Keras

    return LowPass(audio[None], cutoff_hz, SAMPLE_RATE).observed[0]


def add_diffusion(weights: str) -> None:
    """Adds a diffusion model to the methods."""
    def load(mode: str, *settings: str) -> Any:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = load_config(compose("conf", ["method=diffusion", f"weights={weights}",
                                               f"diffusion.mode={mode}", *settings]))
        return choose_method(cfg).load()

    def repairing(mode: str) -> Callable[..., np.ndarray]:
        restorer = load(mode)
        return lambda damaged, *gap: np.concatenate([
            mended for _, mended in restorer.repair([damaged], SAMPLE_RATE, Found())])

    FILLERS["gaps: diffusion"] = repairing("inpaint")
    DECLIPPERS["clipping: diffusion"] = repairing("declip")
    extending = load("extend", f"diffusion.cutoff_hz={CUTOFFS_HZ[0]}")
    EXTENDERS["treble: diffusion"] = lambda damaged, cutoff_hz: replace(
        extending, config=replace(extending.config, cutoff_hz=cutoff_hz))(damaged, SAMPLE_RATE)


# Methods of a damaged sound and the place of a gap in it.
FILLERS = {"gaps: this": lambda damaged, gap: ours("gaps", damaged),
           "gaps: this, at any length": interpolate, "gaps: line": line,
           "gaps: click stage": lambda damaged, gap: remove_clicks(damaged),
           "gaps: silence": lambda damaged, gap: damaged}
DECLIPPERS = {"clipping: this": lambda damaged: ours("clipping", damaged),
              "clipping: FFmpeg adeclip": lambda damaged: filter_with_ffmpeg(damaged, "adeclip")}
EXTENDERS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {}


def tried(methods: dict[str, Callable[..., np.ndarray]], *given: Any,
          ) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yields each method's name, its result, and its processor time in seconds."""
    for name, method in methods.items():
        began = time.process_time()
        yield name, method(*given), time.process_time() - began


def main() -> None:
    """Measures all methods, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="clean recordings")
    parser.add_argument("--each", type=int, default=6, help="recordings of each folder")
    parser.add_argument("--diffusion", metavar="WEIGHTS", help="of a diffusion model")
    parser.add_argument("--without", default="none", help="a part of the names of rows to skip")
    arguments = parser.parse_args()
    if arguments.diffusion:
        add_diffusion(arguments.diffusion)
    for methods in (FILLERS, DECLIPPERS, EXTENDERS):
        for name in [name for name in methods if arguments.without in name]:
            del methods[name]
    rng, gains, times = np.random.default_rng(0), defaultdict(list), defaultdict(list)

    def note(row: str, column: str, gain_db: float, seconds: float) -> None:
        gains[row, column].append(gain_db)
        times[row].append(seconds)

    for kind, path in ((folder.name, path) for folder in arguments.folders
                       for path in some(folder, arguments.each)):
        clean = read_mono(path, 60.0).astype(np.float64)
        clean = clean[max(0, len(clean) // 2 - CONTEXT):][:2 * CONTEXT]
        if len(clean) < SAMPLE_RATE or not clean.any():
            continue
        for length in GAPS_MS:
            start = int(rng.integers(len(clean) // 4, len(clean) // 2))
            gap, damaged = slice(start, start + length * SAMPLE_RATE // 1000), clean.copy()
            damaged[gap] = 0.0
            if clean[gap].std() < AUDIBLE:
                continue
            for name, mended, seconds in tried(FILLERS, damaged, gap):
                note(f"{kind}, {name}", f"{length} ms", sdr(clean[gap], mended[gap]), seconds)
        sound = clean[len(clean) // 2 - SAMPLE_RATE // 2:][:SAMPLE_RATE]
        for ratio in SDRS_DB:
            damaged = clip_at_sdr(sound, ratio)
            for name, mended, seconds in tried(DECLIPPERS, damaged):
                note(f"{kind}, {name}", f"{ratio} dB", sdr(sound, mended) - sdr(sound, damaged),
                     seconds)
        for cutoff_hz in CUTOFFS_HZ if EXTENDERS else ():
            damaged = without_treble(sound, cutoff_hz)
            for name, mended, seconds in tried(EXTENDERS, damaged, cutoff_hz):
                note(f"{kind}, {name}", f"{cutoff_hz} Hz", log_spectral_distance_db(sound, damaged)
                     - log_spectral_distance_db(sound, mended), seconds)
    for row, seconds in times.items():
        cells = [f"{np.mean(values):+.1f}" for (name, _), values in gains.items() if name == row]
        sys.stdout.write(f"| {row} | {' | '.join(cells)} | {np.mean(seconds):.2f} |\n")


if __name__ == "__main__":
    main()
