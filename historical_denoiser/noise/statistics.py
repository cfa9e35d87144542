"""Describes a noise by a few numbers: how impulsive it is, and how its energy is distributed.

Unlike the measures of `fit.py`, these do not assume hiss and so are also valid for clicks or hum
alone. All waveforms are `(samples,)` at 44.1 kHz. Start reading at `describe`.
"""

from dataclasses import dataclass

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise.outliers import FRAME, OUTLYING_RATIO, compare_levels, split_treble

OCTAVES_HZ = 1000.0 * 2.0 ** np.arange(-5, 5)  # centres, 31 Hz to 16 kHz
# Impulses are looked for above this frequency.
MIN_HZ = 200.0
# Share of the samples that counts as loud.
LOUD_SHARE = 0.02
# An event reaches at least this share of the overall level; otherwise every sample after digital
# silence would be an event. Events closer than the gap count as one.
EVENT_LEAST = 0.05
EVENT_GAP_SECONDS = 0.003
# An octave with a smaller share of the energy counts as empty.
EMPTY_OCTAVE = 1e-6
# Length in which the high-pass settles at both ends of the noise.
EDGE_SECONDS = 0.05
MIN_SECONDS = 0.2


@dataclass(frozen=True)
class NoiseStatistics:
    """Statistics of a noise.

    Attributes:
        loud_share: Share of the energy above 200 Hz in the loudest 2 % of the samples; 0.14 for
            Gaussian noise.
        kurtosis: Kurtosis of the samples above 200 Hz; 3 for Gaussian noise.
        events_per_second: Number of outlying events per second.
        octave_shares: Share of the energy in each of `OCTAVES_HZ`, `(octaves,)`; the sum is 1.
    """

    loud_share: float
    kurtosis: float
    events_per_second: float
    octave_shares: np.ndarray

    def numbers(self) -> dict[str, float]:
        """Returns the values of a table row by column name; octaves are in dB, at least -60."""
        octaves_db = dsp.decibels(self.octave_shares, EMPTY_OCTAVE)
        return {"loud": self.loud_share, "kurtosis": self.kurtosis,
                "events/s": self.events_per_second,
                **{f"{hz:.0f} Hz": float(level)
                   for hz, level in zip(OCTAVES_HZ, octaves_db, strict=True)}}


def describe(audio: np.ndarray) -> NoiseStatistics:
    """Computes the statistics of any noise.

    Raises:
        UserError: `audio` is shorter than 0.2 s, not finite, or silent above 200 Hz.
    """
    seconds = len(audio) / SAMPLE_RATE
    if seconds < MIN_SECONDS or not np.isfinite(audio).all():
        raise UserError(f"`audio` must be finite and at least {MIN_SECONDS} s long to be "
                        f"measured. Received: {seconds:.3f} s")
    edge = round(EDGE_SECONDS * SAMPLE_RATE)
    treble = dsp.highpass(audio, MIN_HZ, SAMPLE_RATE)[edge:-edge]
    power = np.square(treble, dtype=np.float64)
    if not power.any():
        raise UserError(f"`audio` must not be silent above {MIN_HZ:.0f} Hz to be measured.")
    loud = max(1, round(LOUD_SHARE * len(power)))
    return NoiseStatistics(
        loud_share=float(np.partition(power, -loud)[-loud:].sum() / power.sum()),
        kurtosis=float(np.mean(power**2) / np.mean(power) ** 2),
        events_per_second=_count_events(audio) / seconds,
        octave_shares=_measure_octaves(audio))


def _count_events(audio: np.ndarray) -> int:
    level, usual = compare_levels(split_treble(audio))
    least = EVENT_LEAST * np.sqrt(np.mean(np.square(level)))
    loud = np.flatnonzero(level > np.maximum(OUTLYING_RATIO * usual, least))
    gap = EVENT_GAP_SECONDS * SAMPLE_RATE / FRAME
    return int(np.count_nonzero(np.diff(loud, prepend=-gap - 1) > gap))


def _measure_octaves(audio: np.ndarray) -> np.ndarray:
    """Returns the share of the energy in each octave, `(octaves,)`."""
    # The window prevents loud bass from leaking into octaves that are nearly empty.
    power = dsp.power_spectra(audio)
    edges_hz = OCTAVES_HZ[0] * 2.0 ** (np.arange(len(OCTAVES_HZ) + 1) - 0.5)
    edges = np.minimum(np.round(edges_hz / SAMPLE_RATE * len(audio)).astype(int), len(power) - 1)
    energy = np.add.reduceat(power, edges)[:-1]
    return energy / energy.sum()
