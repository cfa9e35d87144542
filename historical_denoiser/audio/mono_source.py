"""Stereo transfers of mono carriers: one signal in both channels, each with a noise of its own.

A mono disc played with a stereo pickup, or a mono tape on a two-track machine. Both channels are
brought to the same gain and time; a click that only one of them has is replaced by the other; then
they are added with weights by their noise in each band, which lowers the noise before a network
hears it: by 3 dB where both are equally noisy, by more where one is worse.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio import dsp

CHOICES = ("auto", "true", "false")
FRAME_SECONDS = 0.1  # of the transform by which channels are compared
BANDS_AN_OCTAVE = 3
MIN_HZ = 50.0  # and the least width of a band
FILTER_SECONDS = 0.04  # half of the length of filters
MAX_DELAY_SECONDS = 0.001  # azimuth of a tape head, or an interface
MAX_GAIN_DB = 12.0  # between the channels
# When `auto` takes a recording for mono: in each band that matters, less than this share of what
# the channels have in common is in their difference, too, and that stays at one level.
MAX_SIDE_DB = -15.0
STEADY_RANGE_DB = 10.0  # between tenths, of the difference's medians over a second
MIN_SECONDS = 2.0
MIN_COMMON = 0.2  # power, relative to that of the channels
FINER = 16  # steps of the delay in a sample
TINY = 1e-20
MATTERS_DB = -30.0  # of a band, below the loudest one
MIN_WEIGHT = 0.02  # of either channel in a band
CLICK_DEVIATIONS = 7.0  # of the difference above its neighbourhood
CLICK_HIGHPASS_HZ = 500.0
CLICK_MARGIN_SECONDS = 0.001
CLICK_BLOCK_SECONDS = 0.05
CLICK_BLOCKS = 9  # over whose median the difference is judged
CHUNK_SECONDS = 5.0


@dataclass(frozen=True)
class MonoSource:
    """How the two channels of a mono recording are made one, and that one the channels again.

    Attributes:
        sample_rate: In Hz.
        gain: Of the second channel relative to the first.
        delay: By how many samples the second channel is late.
        frequencies: Centres of bands in Hz, `(bands,)`.
        weights: Share of the first channel in each band.
    """

    sample_rate: float
    gain: float
    delay: float
    frequencies: tuple[float, ...]
    weights: tuple[float, ...]

    def describe(self) -> dict[str, float | list[float]]:
        """Returns what is told in a report."""
        return {"second_channel_db": round(20.0 * math.log10(abs(self.gain)), 2),
                "inverted": self.gain < 0.0,
                "second_channel_late_ms": round(1000.0 * self.delay / self.sample_rate, 4),
                "weight_of_first": [round(min(self.weights), 2), round(max(self.weights), 2)]}

    def combine(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Makes blocks `(2, samples)` into blocks `(1, samples)`, together as long."""
        rate = self.sample_rate
        half = _half_length(rate)
        bins = 8 * half
        weights = np.interp(np.arange(bins // 2 + 1) * rate / bins, self.frequencies, self.weights)
        own, other = _taps(weights, half), _taps(1.0 - weights, half)
        late = self._shift(-self.delay) / self.gain

        def add(channels: np.ndarray) -> np.ndarray:
            first = channels[0]
            second = scipy.signal.oaconvolve(channels[1], late, "same")
            first, second = _exchange_clicks(first, second, rate)
            return (scipy.signal.oaconvolve(first, own, "same")
                    + scipy.signal.oaconvolve(second, other, "same"))[None]

        block = max(1, round(CLICK_BLOCK_SECONDS * rate))
        context = 2 * half + (CLICK_BLOCKS // 2 + 1) * block
        yield from dsp.stream_in_segments(add, blocks, round(CHUNK_SECONDS * rate),
                                          round(context / (1.0 - dsp.FADE_SHARE)) + 1, block)

    def spread(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Makes blocks `(1, samples)` into blocks `(2, samples)`: what is in both channels."""
        late = self._shift(self.delay) * self.gain

        def delay(piece: np.ndarray) -> np.ndarray:
            return np.stack([piece[0], scipy.signal.oaconvolve(piece[0], late, "same")])

        context = round(_half_length(self.sample_rate) / (1.0 - dsp.FADE_SHARE)) + 1
        yield from dsp.stream_in_segments(delay, pieces, round(CHUNK_SECONDS * self.sample_rate),
                                          context)

    def _shift(self, samples: float) -> np.ndarray:
        """Returns the filter that delays by a fraction of samples, centred."""
        half = _half_length(self.sample_rate)
        places = np.arange(-half, half + 1)
        return np.sinc(places - samples) * np.hanning(2 * half + 3)[1:-1]


def _half_length(rate: float) -> int:
    return max(8, round(FILTER_SECONDS * rate))


def _taps(gains: np.ndarray, half: int) -> np.ndarray:
    """Returns a filter without phase, `(2 half + 1,)`, from its gain at evenly spaced bins."""
    impulse = scipy.fft.irfft(gains)
    return np.roll(impulse, half)[: 2 * half + 1] * np.hanning(2 * half + 3)[1:-1]


def _exchange_clicks(first: np.ndarray, second: np.ndarray, rate: float,
                     ) -> tuple[np.ndarray, np.ndarray]:
    """Takes a click that only one of two aligned channels has from the other one.

    What differs by far more than it does nearby is a click; it is in the channel that has more
    power there.
    """
    block = max(1, round(CLICK_BLOCK_SECONDS * rate))
    cutoff = min(CLICK_HIGHPASS_HZ, 0.2 * rate)
    heard = dsp.highpass(np.stack([first, second]), cutoff, rate)
    apart = np.abs(heard[0] - heard[1])
    spread = [np.median(apart[start : start + block]) / 0.6745
              for start in range(0, len(apart), block)]
    usual = scipy.ndimage.median_filter(spread, CLICK_BLOCKS, mode="nearest")
    found = apart > np.repeat(CLICK_DEVIATIONS * usual, block)[: len(apart)]
    if not found.any():
        return first, second
    margin = max(1, round(CLICK_MARGIN_SECONDS * rate))
    powers = scipy.ndimage.uniform_filter1d(np.square(heard), 2 * margin + 1, axis=-1)
    wide = scipy.ndimage.maximum_filter1d(found, 2 * margin + 1)
    runs, count = scipy.ndimage.label(wide)
    louder = scipy.ndimage.sum_labels(powers[0] - powers[1], runs, np.arange(count + 1)) > 0.0
    in_first = wide & louder[runs]
    results = []
    for own, other, where in ((first, second, in_first), (second, first, wide & ~in_first)):
        # Faded over the margin, in which there is no click any more.
        share = scipy.ndimage.uniform_filter1d(where.astype(own.dtype), margin)
        results.append(own + share * (other - own))
    return results[0], results[1]


def find_mono(audio: np.ndarray, sample_rate: float, choice: str = "auto",
              ) -> tuple[MonoSource | None, str]:
    """Measures whether two channels hold one signal, and how they are made one.

    Args:
        audio: `(samples, 2)`: stretches of a recording, some of them loud.
        sample_rate: In Hz.
        choice: "true": they do. "auto": only where that is clear.

    Returns:
        What is needed, or None; and why, in a few words.
    """
    size = 2 * max(4, round(0.5 * FRAME_SECONDS * sample_rate))
    if len(audio) < max(MIN_SECONDS * sample_rate, 4 * size):
        return None, f"less than {MIN_SECONDS:g} s tell too little"
    channels = (audio - audio.mean(axis=0)).T.astype(np.float32)
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    one, other = _frames(channels, size)
    delay, sign = _find_delay(one, other, sample_rate)
    turn = sign * np.exp(2j * np.pi * frequencies * delay / sample_rate)
    starts, centres = _bands(frequencies)
    first, second, common = (np.add.reduceat(power, starts, axis=-1, dtype=float) for power in (
        np.square(np.abs(one)), np.square(np.abs(other)), (one.conj() * other * turn).real))
    covariance = [_covariance(power, common) for power in (first, second)]
    if min(covariance) <= 0.0 or common.sum() <= MIN_COMMON * np.sqrt(
            first.sum() * second.sum()):
        return None, "the channels have too little in common"
    # Noise that is in one channel alone adds nothing to these: the ratio is the squared gain's.
    gain = math.sqrt(covariance[1] / covariance[0])
    if abs(20.0 * math.log10(gain)) > MAX_GAIN_DB:
        return None, f"the channels' levels are more than {MAX_GAIN_DB:g} dB apart"
    second, common = second / gain**2, common / gain
    apart = np.maximum(first + second - 2.0 * common, 0.0)
    if choice == "auto" and (reason := _why_stereo(apart, common, size / sample_rate)):
        return None, reason
    # Noise is heard best where nothing else is; clicks, which are exchanged, do not count.
    quiet = (apart <= 4.0 * np.median(apart, axis=0)) / (first + second + TINY)
    total = quiet.sum(axis=0) + TINY
    noises = [np.maximum((quiet * (power - common)).sum(axis=0), 0.0) / total
              for power in (first, second)]
    weights = (noises[1] + TINY) / (noises[0] + noises[1] + 2.0 * TINY)
    weights = np.clip(weights, MIN_WEIGHT, 1.0 - MIN_WEIGHT)
    return (MonoSource(sample_rate, sign * gain, delay, tuple(centres), tuple(weights.tolist())),
            "both channels hold one signal, and what differs does not follow it")


def _frames(channels: np.ndarray, size: int) -> np.ndarray:
    """Returns spectra `(2, frames, bins)`."""
    count = channels.shape[-1] // size
    frames = channels[:, : count * size].reshape(2, count, size)
    return scipy.fft.rfft(frames * np.hanning(size).astype(np.float32))


def _bands(frequencies: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Returns the first bin of each band, and the bands' centres in Hz."""
    edges = [0.0, MIN_HZ]
    while edges[-1] < frequencies[-1]:
        edges.append(max(edges[-1] * 2.0 ** (1.0 / BANDS_AN_OCTAVE), edges[-1] + MIN_HZ))
    starts = np.unique(np.searchsorted(frequencies, edges[:-1]))
    ends = np.append(starts[1:], len(frequencies)) - 1
    return starts, (0.5 * (frequencies[starts] + frequencies[ends])).tolist()


def _find_delay(one: np.ndarray, other: np.ndarray, rate: float) -> tuple[float, float]:
    """Returns by how many samples `other` is late, and the sign of their correlation.

    The generalised correlation with the weights of Hannan and Thomson (Knapp and Carter 1976).
    """
    cross = np.mean(one.conj() * other, axis=0)
    powers = np.mean(np.square(np.abs(one)), axis=0) * np.mean(np.square(np.abs(other)), axis=0)
    size = np.abs(cross)
    coherence = np.minimum(np.square(size) / (powers + TINY), 0.99)
    # Of independent channels it is not zero, but the inverse of the number of frames.
    coherence[coherence < 3.0 / len(one)] = 0.0
    weighted = cross / (size + TINY) * coherence / (1.0 - coherence)
    length = 2 * (len(cross) - 1) * FINER
    correlation = scipy.fft.irfft(weighted, length)
    reach = max(1, round(MAX_DELAY_SECONDS * rate * FINER))
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    place = int(np.argmax(np.abs(near)))
    return (place - reach) / FINER, -1.0 if near[place] < 0.0 else 1.0


def _covariance(one: np.ndarray, other: np.ndarray) -> float:
    """Returns how two powers `(frames, bands)` vary together, summed over bands."""
    return float(np.sum((one - one.mean(axis=0)) * (other - other.mean(axis=0))))


def _why_stereo(apart: np.ndarray, common: np.ndarray, frame_seconds: float) -> str:
    """Returns why it is not clear that two channels are one, or nothing.

    Args:
        apart: Power of the channels' difference, `(frames, bands)`.
        common: What they share.
        frame_seconds: How long a frame is.
    """
    means = common.mean(axis=0)
    matters = (means >= means.max() * 10.0 ** (MATTERS_DB / 10.0)) & (means > apart.mean(axis=0))
    if means[matters].sum() < 0.5 * means.sum():
        return "the channels differ by more than they share"
    apart, common = apart[:, matters], common[:, matters]
    deviation = common - common.mean(axis=0)
    follows = np.sum((apart - apart.mean(axis=0)) * deviation, axis=0) / (
        np.sum(np.square(deviation), axis=0) + TINY)
    if follows.max() > 10.0 ** (MAX_SIDE_DB / 10.0):
        return "what differs between the channels follows what they share"
    length = max(1, round(1.0 / frame_seconds))
    count = len(apart) // length
    seconds = np.median(apart[: count * length].reshape(count, length, -1), axis=1)
    low, high = np.quantile(seconds, (0.1, 0.9), axis=0)
    if np.any(high > low * 10.0 ** (STEADY_RANGE_DB / 10.0) + TINY):
        return "what differs between the channels does not stay at one level, as noise would"
    return ""
