"""Recorded noise, synthetic discs, and measurements for several tests."""

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.noise import generator, parts
from historical_denoiser.noise.carriers import CarrierConfig, GramophoneConfig

ROOT = Path(__file__).resolve().parents[1]
RECORDED = ROOT / "data" / "noise" / "gramophone"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def level_db(audio: np.ndarray) -> float:
    return float(10.0 * np.log10(np.mean(np.square(audio, dtype=np.float64))))


def band_levels_db(audio: np.ndarray, low_hz: float, high_hz: float, seconds: float = 0.05,
                   ) -> np.ndarray:
    """Returns the levels of a band in successive spans of `seconds`."""
    spectrum, hz = fft.rfft(audio), fft.rfftfreq(len(audio), 1.0 / SAMPLE_RATE)
    band = fft.irfft(spectrum * ((hz >= low_hz) & (hz < high_hz)), len(audio))
    size = round(seconds * SAMPLE_RATE)
    powers = np.mean(np.square(band[: len(band) // size * size].reshape(-1, size)), axis=1)
    return 10.0 * np.log10(powers)


@cache
def recorded(name: str) -> np.ndarray:
    audio, rate = soundfile.read(RECORDED / f"{name}.flac", dtype="float32")
    assert rate == SAMPLE_RATE
    return audio


def plain_disc(**changes: object) -> CarrierConfig:
    """A disc with flat hiss and next to nothing else."""
    settings = dict(spectra_db=[[0.0] * len(parts.BAND_HZ)], fitted_chance=1.0,
                    tilt_db_per_octave=[0.0, 0.0], colour_db=[0.0, 0.0], cutoff_hz=[1e6, 1e6],
                    swish_db=[0.0, 0.0], crackles_per_second=[0.0, 0.0],
                    clicks_per_second=[0.0, 0.0], locked_share=[0.0, 0.0], part_chance=0.0,
                    run_out_chance=0.0, episode_chance=0.0)
    return CarrierConfig(alone_share=0.0, dominant_share=0.0,
                         gramophone=GramophoneConfig(**(settings | changes)))


@cache
def tune(seconds: float, seed: int = 0) -> np.ndarray:
    """Notes with harmonics, RMS about -20 dBFS."""
    source, notes = rng(seed), []
    for _ in range(round(seconds / 0.5)):
        time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
        pitch = 110.0 * 2.0 ** (source.integers(36) / 12.0)
        notes.append(sum(np.sin(2.0 * np.pi * pitch * order * time) / order
                         for order in range(1, 12)) * (0.3 + np.exp(-3.0 * time)))
    audio = np.concatenate(notes)
    return (0.1 * audio / audio.std()).astype(np.float32)


@cache
def side(hiss_db: float = -45.0, seed: int = 0) -> np.ndarray:
    """A disc's side: 2 s run-in, 4 s tune, 2 s pause, 4 s tune, 2 s run-out."""
    gap = np.zeros(2 * SAMPLE_RATE, np.float32)
    programme = np.concatenate([gap, tune(4.0, 1), gap, tune(4.0, 2), gap])
    hiss = generator.generate("gramophone", len(programme), rng(seed), carrier=plain_disc(
        crackles_per_second=[15.0, 15.0], crackle_db=[22.0, 22.0]))
    return programme + hiss * np.float32(10.0 ** ((hiss_db + 30.0) / 20.0))
