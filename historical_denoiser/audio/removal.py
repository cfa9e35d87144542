"""Scales the noise estimate that is subtracted, and subtracts what lies outside of a band.

The noise estimate is a waveform, from a network. A share of 1 subtracts all of it. Single bands can
have a smaller share, and a noise floor keeps pauses from becoming digital silence. Outside of the
band of the carrier, everything is noise. Start reading at `Strength` and `remove`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.bands import third_octaves
from historical_denoiser.audio.blocks import in_blocks
from historical_denoiser.audio.survey import as_channels
from historical_denoiser.core.checks import is_number, require

Pair = tuple[np.ndarray, np.ndarray]  # a block, and its noise estimate

AUTO = "auto"
BASS_HZ = 60.0
FADE_OCTAVES = 0.5  # width of the crossfade from one band to the next
WINDOW_SECONDS = 0.093  # of the transform: a few periods of the lowest frequencies
HOPS = 4  # in a window
SEGMENT_SECONDS = 5.0  # processed in one step
STEADY_SECONDS = 3.0  # the level of steady noise is a median over this time
CLICK_POWER = 4.0  # a frame with more times the power of that median is not steady noise
CLICK_AMPLITUDE = 4.0  # a larger sample is a click, in standard deviations of the noise around it
CLICK_HOPS = 9  # length of that neighbourhood in hops
MIN_BAND_HZ = 50.0  # centre of the lowest band of the floor, and smallest distance of centres
MIN_LIMIT_HZ = 10.0  # of the lower limit of a band: the filter becomes longer with its period

Band = tuple[float | None, float | None]  # lower and upper limit in Hz; None: no limit
NO_LIMITS: Band = (None, None)


@dataclass(frozen=True)
class Strength:
    """The share of the noise estimate that is subtracted.

    Attributes:
        share: Overall share in [0, 1]; or "auto", which `fitting.fit` replaces by a number.
        per_band: `(from_hz, share)` in rising order; these shares are multiplied by `share`. Below
            the first frequency the factor is 1. Bands are crossfaded over half an octave.
        noise_floor_db: Largest reduction of the noise in dB; None: no limit.
        bass: Further factor below 60 Hz.
        band_hz: Everything outside of this band is removed, at any share.
    """

    share: float | str = 1.0
    per_band: tuple[tuple[float, float], ...] = ()
    noise_floor_db: float | None = None
    bass: float = 1.0
    band_hz: Band = NO_LIMITS

    def __post_init__(self) -> None:
        if not self.is_auto and not (is_number(self.share) and 0.0 <= self.share <= 1.0):
            raise ValueError("`strength` must be in [0, 1] or \"auto\". "
                             f"Received: strength={self.share!r}")
        check_per_band(self.per_band, "per_band")
        check_noise_floor(self.noise_floor_db, "noise_floor_db")
        check_band(self.band_hz, "band_hz")

    def __str__(self) -> str:
        """Returns a short description, for the history of a restored file."""
        bands = ", ".join(f"{share:g} from {edge:g} Hz" for edge, share in self.per_band)
        floor = "" if self.noise_floor_db is None else (
            f", noise lowered by at most {self.noise_floor_db:g} dB")
        share = self.share if self.is_auto else f"{self.share:g}"
        bands += f"{', ' if bands else ''}{self.bass:g} below {BASS_HZ:g} Hz" * (self.bass != 1.0)
        limits = "".join(f", {name} {edge:g} Hz" for name, edge in zip(
            ("high-pass", "low-pass"), self.band_hz, strict=True) if edge is not None)
        return f"strength {share}{f' ({bands})' if bands else ''}{floor}{limits}"

    def describe(self) -> dict[str, Any]:
        """Returns the values for a report."""
        return {"share": self.share, "per_band": [list(band) for band in self.per_band],
                "below_60_hz": self.bass, "noise_floor_db": self.noise_floor_db,
                "band_hz": list(self.band_hz)}

    @property
    def is_auto(self) -> bool:
        """Whether `fitting.fit` has to choose the share."""
        return self.share == AUTO

    @property
    def number(self) -> float:
        """The share as Python's number, with which arrays keep their type; "auto" has none."""
        return float(self.share)

    @property
    def is_one_number(self) -> bool:
        """Whether the noise is multiplied by one number, which needs no transform."""
        bands = self.bass == 1.0 and all(share == 1.0 for _, share in self.per_band)
        return self.removes_nothing or (bands and self.noise_floor_db is None)

    @property
    def removes_nothing(self) -> bool:
        """Whether no noise is removed; a band without limits leaves the recording unchanged."""
        bands = bool(self.per_band) and self.per_band[0][0] == 0.0 and all(
            share == 0.0 for _, share in self.per_band)
        return self.share == 0.0 or bands

    @property
    def changes_nothing(self) -> bool:
        """Whether the recording stays as it is."""
        return self.removes_nothing and self.band_hz == NO_LIMITS

    def gain(self, frequencies: np.ndarray) -> np.ndarray:
        """Returns the share at each frequency in Hz, relative to `share`."""
        bass = _crossfade(frequencies, ((0.0, self.bass), (BASS_HZ, 1.0)))
        return bass * _crossfade(frequencies, self.per_band)


def as_strength(strength: float | str | Strength) -> Strength:
    """Returns a number in [0, 1], or "auto", as a `Strength`."""
    return strength if isinstance(strength, Strength) else Strength(strength)


def _crossfade(frequencies: np.ndarray, bands: Iterable[tuple[float, float]]) -> np.ndarray:
    """Returns the share at each frequency in Hz; see `Strength.per_band` for `bands`."""
    gain, before = np.ones_like(frequencies, np.float64), 1.0
    octaves = np.log2(np.maximum(frequencies, np.finfo(np.float64).tiny))
    for edge, share in bands:
        way = np.ones_like(gain)
        if edge > 0.0:
            way = np.clip((octaves - math.log2(edge)) / FADE_OCTAVES + 0.5, 0.0, 1.0)
        gain += (share - before) * 0.5 * (1.0 - np.cos(np.pi * way))
        before = share
    return gain


def check_per_band(bands: Iterable, name: str) -> None:
    """Raises UserError unless `bands` are pairs (from_hz, share), rising and in range."""
    bands = list(bands) if isinstance(bands, list | tuple) else bands
    expected = "pairs [from_hz, strength], the frequencies rising, the strengths in [0, 1]"
    require(isinstance(bands, list) and all(
        isinstance(band, list | tuple) and len(band) == 2 and all(map(is_number, band))
        for band in bands), name, expected, bands)
    edges = [edge for edge, _ in bands]
    require(all(0.0 <= edge < math.inf for edge in edges)
            and all(low < high for low, high in zip(edges, edges[1:], strict=False))
            and all(0.0 <= share <= 1.0 for _, share in bands), name, expected, bands)


def check_noise_floor(floor_db: float | None, name: str) -> None:
    """Raises UserError unless `floor_db` is None or a number of dB of at least 0."""
    require(floor_db is None or 0.0 <= floor_db < math.inf, name,
            "a number of dB, at least 0, by which noise is lowered at most", floor_db)


def check_band(band_hz: Any, name: str) -> None:
    """Raises UserError unless `band_hz` has a lower and a higher limit in Hz; each may be None."""
    is_pair = isinstance(band_hz, list | tuple) and len(band_hz) == 2
    limits = [edge for edge in band_hz if edge is not None] if is_pair else []
    require(is_pair and all(map(is_number, limits))
            and all(MIN_LIMIT_HZ <= edge < math.inf for edge in limits)
            and limits == sorted(set(limits)), name,
            f"[lower, upper limit] in Hz, rising, from {MIN_LIMIT_HZ:g} Hz; null for no limit",
            band_hz)


def remove(pairs: Iterable[Pair], sample_rate: int, strength: Strength) -> Iterator[Pair]:
    """Yields each block with the waveform to subtract from it.

    There is no delay or phase shift. Memory does not grow with the recording.

    Args:
        pairs: Blocks `(samples,)` or `(samples, channels)`, each with its noise estimate in the
            same shape.
        sample_rate: In Hz.
        strength: The share of the noise estimate to subtract.
    """
    removed = _remove_noise(pairs, sample_rate, strength)
    if strength.band_hz == NO_LIMITS:
        return removed
    return _limit_band(removed, sample_rate, *strength.band_hz)


def _limit_band(pairs: Iterable[Pair], sample_rate: int, low_hz: float | None,
                high_hz: float | None) -> Iterator[Pair]:
    """Adds to the waveforms to subtract what would be left outside of a band.

    The filters are those of `dsp.highpass`: zero phase, half the amplitude at the limit, and a
    skirt from an eighth below to an eighth above it, beyond which 50 dB and more are removed.
    """
    def limit(audio: np.ndarray) -> np.ndarray:
        inside = dsp.highpass(audio, low_hz or 0.0, sample_rate)
        return inside if high_hz is None else inside - dsp.highpass(audio, high_hz, sample_rate)

    def limited(pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
        lowest_hz = min(edge for edge in (low_hz, high_hz) if edge is not None)
        context = dsp.highpass_reach(lowest_hz, sample_rate) / (1.0 - dsp.FADE_SHARE)
        left = (as_channels(block - removed).T for block, removed in pairs)
        return dsp.stream_in_segments(limit, left, round(SEGMENT_SECONDS * sample_rate),
                                      round(context) + 1)

    for (block, removed), inside in in_blocks(pairs, limited, _samples, axis=-1):
        yield block, (block - inside.T.reshape(block.shape)).astype(removed.dtype, copy=False)


def _samples(pair: Pair) -> int:
    return len(pair[0])


def _remove_noise(pairs: Iterable[Pair], sample_rate: int, strength: Strength) -> Iterator[Pair]:
    if strength.removes_nothing:
        yield from ((block, np.zeros_like(block)) for block, _ in pairs)
        return
    if strength.is_one_number:
        yield from ((block, strength.number * noise) for block, noise in pairs)
        return
    remain = partial(_remaining_noise, sample_rate=sample_rate, strength=strength)
    for (block, noise), kept in in_blocks(pairs, remain, _samples, axis=-1):
        yield block, (strength.number * noise - kept.T.reshape(noise.shape)).astype(
            noise.dtype, copy=False)


def _remaining_noise(pairs: Iterable[Pair], sample_rate: int, strength: Strength,
                     ) -> Iterator[np.ndarray]:
    """Yields the noise to leave in the recording, `(channels, samples)`."""
    window = HOPS * max(1, round(WINDOW_SECONDS * sample_rate / HOPS))
    hop = window // HOPS
    lead = dsp.lead_samples(window, hop)
    keeper = _Keeper(strength, np.arange(window // 2 + 1) * sample_rate / window,
                     max(1, round(STEADY_SECONDS * sample_rate / hop)))

    def keep(both: np.ndarray) -> np.ndarray:
        remaining = []
        # One channel at a time, to limit memory.
        for recording, noise in zip(*np.split(both, 2), strict=True):
            # Samples that exceed the noise around them by far are clipped.
            limit = CLICK_AMPLITUDE * dsp.local_deviation(noise, hop, CLICK_HOPS)
            steady = np.clip(noise, -limit.astype(noise.dtype), limit.astype(noise.dtype))
            padded = np.pad([recording, noise, steady], [(0, 0), (lead, 0)])
            spectra = dsp.stft(padded, window, hop)
            kept = np.ascontiguousarray(keeper(*spectra.view(np.complex64)[..., 0]))
            halves = kept.view(np.float32).reshape(*kept.shape, 2)
            remaining.append(dsp.istft(halves, window, hop, padded.shape[-1])[lead:])
        return np.stack(remaining)

    # The context beyond the crossfade must be as long as the reach of the median.
    context = round((0.5 * STEADY_SECONDS + 2.0 * WINDOW_SECONDS) * sample_rate
                    / (1.0 - dsp.FADE_SHARE))
    stacked = (np.concatenate([as_channels(each).T for each in pair]) for pair in pairs)
    return dsp.stream_in_segments(keep, stacked, round(SEGMENT_SECONDS * sample_rate), context, hop)


class _Keeper:
    """Computes the part of a noise estimate that remains in the recording, as spectra."""

    def __init__(self, strength: Strength, frequencies: np.ndarray, steady_frames: int) -> None:
        self.strength, self.steady_frames = strength, steady_frames
        self.band_gain = strength.gain(frequencies).astype(np.float32)
        centres = third_octaves(MIN_BAND_HZ, frequencies[-1])
        # Triangular bands that sum to 1 at each frequency: `(bins, bands)`.
        self.bands = np.stack([np.interp(frequencies, centres, row)
                               for row in np.eye(len(centres))], axis=-1)

    def __call__(self, recording: np.ndarray, noise: np.ndarray, steady: np.ndarray) -> np.ndarray:
        """Takes and returns `(frames, bins)`, complex; `steady` is the noise without clicks."""
        share = np.float32(self.strength.number)
        kept = (1.0 - self.band_gain) * share * noise
        floor_db = self.strength.noise_floor_db
        if floor_db is not None:
            left = recording - share * noise + kept
            kept += self._floor(left, self.band_gain * share * steady, steady,
                                10.0 ** (-floor_db / 10.0))
        return kept

    def _floor(self, left: np.ndarray, removed: np.ndarray, noise: np.ndarray, lowest: float,
               ) -> np.ndarray:
        """Returns the part of `removed` to add to `left` for the noise floor, `(frames, bins)`.

        In each band and frame, the remaining power must be at least `lowest` times that of the
        noise. For the spectra y that is left and r that was removed, this needs the k for which
        |y + k r|^2 = lowest * noise power, each summed over the band.
        """
        remaining, taken, found = (self._in_bands(np.square(np.abs(spectrum)))
                                   for spectrum in (left, removed, noise))
        together = self._in_bands((left * removed.conj()).real)
        # The recording itself is an upper limit of the noise; another is a multiple of the noise in
        # the frames around.
        total = remaining + 2.0 * together + taken
        usual = scipy.ndimage.median_filter(found, (self.steady_frames, 1), mode="reflect")
        missing = lowest * np.minimum(total, CLICK_POWER * usual) - remaining
        root = np.sqrt(np.square(together) + taken * np.maximum(missing, 0.0))
        share = np.divide(root - together, taken, out=np.zeros_like(taken),
                          where=(missing > 0.0) & (taken > 0.0))
        return (np.clip(share, 0.0, 1.0) @ self.bands.T).astype(np.float32) * removed

    def _in_bands(self, powers: np.ndarray) -> np.ndarray:
        return powers.astype(np.float64) @ self.bands
