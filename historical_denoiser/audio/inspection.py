"""Measures a waveform: its powers in third octaves, the end of its band, and its thumps."""

from collections.abc import Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.silence import find_runs

FRAME_SECONDS = 0.186  # of the spectra
QUIET_SHARE = 0.1  # of the frames
LOWEST_BAND = -13  # third octaves from 1 kHz: that around 50 Hz
# Thumps are found in frames: their level from 20 to 100 Hz is far above its median over 3 s, for
# less than 0.8 s; an instrument would also be louder from 300 Hz to 3 kHz.
THUMP_EDGES_HZ = (20.0, 100.0, 300.0, 3000.0)
THUMP_FRAME_SECONDS, THUMP_MEDIAN_FRAMES, MAX_THUMP_FRAMES = 0.05, 61, 16
THUMP_DB, MAX_WITH_THUMP_DB, MIN_THUMP_DBFS = 12.0, 6.0, -70.0

# A wall is a fall by `WALL_DB` within a kHz, caused by lossy coding or a lower sample rate.
WALL_WINDOW = 8192
CELL_HZ, WALL_CELLS, WALL_DB, MIN_WALL_HZ = 100.0, 5, 20.0, 3000.0


def band_edges_hz(rate: int) -> np.ndarray:
    """Returns the edges of the third octaves from 50 Hz to half a sample rate, in Hz."""
    highest = int(np.floor(3.0 * np.log2(0.5 * rate / 1000.0) - 0.5))
    return 1000.0 * 2.0 ** ((np.arange(LOWEST_BAND, highest + 2) - 0.5) / 3.0)


def band_powers(audio: np.ndarray, rate: int) -> np.ndarray:
    """Returns the powers of a waveform `(samples, channels)` in third octaves, `(frames, bands)`.

    They are means over the channels; a sine at full scale has 0.5.
    """
    size = round(FRAME_SECONDS * rate)
    bins = np.round(band_edges_hz(rate) * size / rate).astype(int)
    return np.add.reduceat(_spectra(audio, size)[:, :bins[-1]], bins[:-1], axis=1)


def _spectra(audio: np.ndarray, size: int) -> np.ndarray:
    """Returns the powers of bins in frames of `size` samples, means over channels."""
    frames = audio[:len(audio) // size * size].reshape(-1, size, audio.shape[1])
    power = sum(dsp.power_spectra(channel) for channel in np.moveaxis(frames, 2, 0))
    return power * (2.0 / (size * np.sum(np.square(np.hanning(size))) * audio.shape[1]))


def quiet_powers(powers: np.ndarray, rate: int) -> np.ndarray:
    """Estimates the power of noise in each band, `(bands,)`, from the quietest frames of that band.

    In noise, the power of a band has a chi-squared distribution, whose quantile gives its mean.

    Args:
        powers: From `band_powers`.
        rate: Sample rate in Hz.
    """
    # Two per bin; under a Hann window, 1.5 bins count as one.
    degrees = np.maximum(2.0, 2.0 * np.diff(band_edges_hz(rate)) * FRAME_SECONDS / 1.5)
    share = scipy.stats.chi2.ppf(QUIET_SHARE, degrees) / degrees
    return np.quantile(powers, QUIET_SHARE, axis=0) / share


def count_thumps(audio: np.ndarray) -> int:
    """Returns the number of thumps in a waveform `(samples,)` at 44.1 kHz."""
    frame = round(THUMP_FRAME_SECONDS * SAMPLE_RATE)
    above = [dsp.highpass(audio, hz, SAMPLE_RATE) for hz in THUMP_EDGES_HZ]
    low, middle = (dsp.decibels(np.mean(np.square((above[edge] - above[edge + 1])[
        :len(audio) // frame * frame].reshape(-1, frame)), axis=1), 1e-12) for edge in (0, 2))
    if not len(low):
        return 0
    rises, beside = (level - scipy.ndimage.median_filter(level, THUMP_MEDIAN_FRAMES)
                     for level in (low, middle))
    edges = find_runs((rises > THUMP_DB) & (low > MIN_THUMP_DBFS))
    return sum(bool(stop - start <= MAX_THUMP_FRAMES
                    and beside[start:stop].max() < MAX_WITH_THUMP_DB) for start, stop in edges)


def find_wall(excerpts: Sequence[np.ndarray], rate: int) -> float | None:
    """Returns the frequency in Hz above which not even noise was recorded, or None.

    Args:
        excerpts: Waveforms `(samples, channels)`.
        rate: Sample rate in Hz.
    """
    power = np.concatenate([_spectra(each, WALL_WINDOW) for each in excerpts])
    hz = np.arange(power.shape[1]) * rate / WALL_WINDOW
    cells = np.unique((hz / CELL_HZ).astype(int), return_index=True)[1]
    if not len(power) or len(cells) <= 2 * WALL_CELLS:
        return None
    power = np.quantile(power, QUIET_SHARE, axis=0)  # of the noise
    level = dsp.decibels(np.add.reduceat(power, cells), 1e-20)
    means = np.convolve(level, np.full(WALL_CELLS, 1.0 / WALL_CELLS), "valid")
    falls = means[:-WALL_CELLS] - means[WALL_CELLS:]  # at each cell from the fifth on
    falls[:max(0, round(MIN_WALL_HZ / CELL_HZ) - WALL_CELLS)] = 0.0
    best = int(np.argmax(falls))
    return None if falls[best] < WALL_DB else float(hz[cells[best + WALL_CELLS]].round())
