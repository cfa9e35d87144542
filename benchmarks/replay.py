"""Measures the corrections of the replay, and draws the replay curves of discs.

    python benchmarks/replay.py
    python benchmarks/replay.py --picture=docs/images/replay_curves.png

Prints the figures of docs/replay.md: what is left after a curve and its inverse, what of a tone at
another speed is not that tone, and the error of a delay that is measured and corrected.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.replay import CURVES, Replay, find_azimuth, read_curve, read_speed

SECONDS, DELAY = 30, 3.37
DRAWN = ("flat", "emi_78", "columbia_78", "ffrr_78", "aes", "columbia_lp", "riaa")


def print_error(text: str, audio: np.ndarray, wanted: np.ndarray) -> None:
    """Prints the power of a difference, relative to that of `wanted`, without both ends."""
    inner = slice(SAMPLE_RATE // 10, -SAMPLE_RATE // 10)
    error = np.var(audio[inner] - wanted[inner]) / np.var(wanted[inner])
    print(f"{text}: {10.0 * np.log10(error):.0f} dB")  # noqa: T201


def applied(audio: np.ndarray, correction: Replay) -> np.ndarray:
    """Returns a recording `(samples, channels)` as it is corrected, in blocks of 2 s."""
    blocks = np.split(audio, range(2 * SAMPLE_RATE, len(audio), 2 * SAMPLE_RATE))
    return np.concatenate(list(correction.apply(blocks, SAMPLE_RATE)))


def measure() -> None:
    """Prints the errors."""
    rng, samples = np.random.default_rng(0), SECONDS * SAMPLE_RATE
    spectra = np.fft.rfft(rng.standard_normal((samples, 2)), axis=0)
    pink = np.fft.irfft(spectra / np.sqrt(1.0 + np.arange(len(spectra)))[:, None], samples, axis=0)
    for name in ("riaa", "columbia_78"):
        back = applied(applied(pink, Replay(CURVES[name])), Replay(transfer_curve=CURVES[name]))
        print_error(f"pink noise through {name} and its inverse", back, pink)
    for text in ("0.98", "78.26>80"):
        speed = read_speed(text, "speed")
        found = applied(np.sin(2e3 * np.pi / SAMPLE_RATE * np.arange(samples))[:, None],
                        Replay(speed=speed))[:, 0]
        phases = 2e3 * np.pi * speed / SAMPLE_RATE * np.arange(len(found))
        waves = np.stack([np.cos(phases), np.sin(phases)], axis=-1)
        print_error(f"1 kHz at speed {text}: {1e3 * speed:.3f} Hz, {len(found)} samples, and else",
                    found, waves @ np.linalg.lstsq(waves, found, rcond=None)[0])
    stereo = pink @ [[1.0, 1.0], [0.3, -0.3]]
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(samples) * DELAY)
    late = np.fft.irfft(np.fft.rfft(stereo[:, 1]) * turn, samples)
    skewed = np.stack([stereo[:, 0], late], axis=-1)
    seconds, _ = find_azimuth([skewed], SAMPLE_RATE)
    print_error(f"second channel late by {DELAY} samples, found {seconds * SAMPLE_RATE:.4f}, "
                "after the correction", applied(skewed, Replay(late_seconds=seconds)), stereo)


def draw(path: str) -> None:
    """Draws some of the curves."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes, frequency_hz = figure.add_subplot(), np.geomspace(20.0, 20000.0, 400)
    for curve in (*(CURVES[name] for name in DRAWN), read_curve("500,-13.7", "curve")):
        axes.semilogx(frequency_hz, curve.level_db(frequency_hz), label=curve.name)
    axes.set(xlabel="Frequency in Hz", ylabel="Replay gain in dB", xlim=(20, 20000))
    axes.set_xticks([20, 50, 100, 250, 500, 1000, 2000, 5000, 10000, 20000])
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=80, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--picture", help="PNG file to draw, in place of measuring")
    picture = parser.parse_args().picture
    draw(picture) if picture else measure()
