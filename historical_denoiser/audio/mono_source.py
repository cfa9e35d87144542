"""Combines the channels of a stereo transfer of a mono carrier, whose noises are independent.

Examples are a mono disc played with a stereo pickup, and a mono tape on a two-track machine. Both
channels are aligned in gain and time. A click in only one channel is replaced by the other channel.
Then the channels are added with weights that depend on their noise in each band. This lowers the
noise before the network by 3 dB where both are equally noisy, and by more where one is worse. Start
reading at `find_mono` and `MonoSource.combine`.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from historical_denoiser.audio import bands, dsp

CHOICES = ("auto", "true", "false")
FRAME_SECONDS = 0.1  # of the transform with which channels are compared
MIN_HZ = 50.0  # upper edge of the lowest band, and smallest width of a band
FILTER_SECONDS = 0.04  # half of the length of filters
MAX_DELAY_SECONDS = 0.001  # from the azimuth of a tape head, or from an interface
MAX_GAIN_DB = 12.0  # between the channels
# `auto` takes a recording for mono if, in each band that matters, the difference of the channels
# varies with their common signal by less than this, and stays at one level.
MAX_SIDE_DB = -15.0
STEADY_RANGE_DB = 10.0  # between the lowest and highest tenth of the difference, per second
MIN_SECONDS = 2.0
MIN_COMMON = 0.2  # power of the common signal, relative to that of the channels
DELAY_STEPS = 16  # per sample
TINY = 1e-20
MATTERS_DB = -30.0  # level of a band, relative to the loudest
MIN_WEIGHT = 0.02  # of either channel in a band
CLICK_DEVIATIONS = 7.0  # a larger difference of the channels is a click
CLICK_HIGHPASS_HZ = 500.0
CLICK_MARGIN_SECONDS = 0.001
CLICK_BLOCK_SECONDS = 0.05
CLICK_BLOCKS = 9  # neighbourhood in which the deviation of the difference is measured
SEGMENT_SECONDS = 5.0


@dataclass(frozen=True)
class MonoSource:
    """Combines the two channels of a mono recording, and separates them again.

    Attributes:
        sample_rate: In Hz.
        gain: Gain of the second channel relative to the first.
        delay: Delay of the second channel in samples.
        frequencies: Centres of bands in Hz, `(bands,)`.
        weights: Share of the first channel in each band.
    """

    sample_rate: float
    gain: float
    delay: float
    frequencies: tuple[float, ...]
    weights: tuple[float, ...]

    def describe(self) -> dict[str, Any]:
        """Returns the values for a report."""
        return {"second_channel_db": round(20.0 * math.log10(abs(self.gain)), 2),
                "inverted": self.gain < 0.0,
                "second_channel_late_ms": round(1000.0 * self.delay / self.sample_rate, 4),
                "weight_of_first": [round(min(self.weights), 2), round(max(self.weights), 2)]}

    def combine(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields blocks `(1, samples)` from blocks `(2, samples)`, of the same total length."""
        rate = self.sample_rate
        half = _half_length(rate)
        bins = 8 * half
        weights = np.interp(np.arange(bins // 2 + 1) * rate / bins, self.frequencies, self.weights)
        own, other = _taps(weights, half), _taps(1.0 - weights, half)
        late = delay_taps(-self.delay, rate) / self.gain

        def add(channels: np.ndarray) -> np.ndarray:
            first = channels[0]
            second = scipy.signal.oaconvolve(channels[1], late, "same")
            first, second = _exchange_clicks(first, second, rate)
            return (scipy.signal.oaconvolve(first, own, "same")
                    + scipy.signal.oaconvolve(second, other, "same"))[None]

        block = max(1, round(CLICK_BLOCK_SECONDS * rate))
        context = 2 * half + (CLICK_BLOCKS // 2 + 1) * block
        yield from dsp.stream_in_segments(add, blocks, round(SEGMENT_SECONDS * rate),
                                          round(context / (1.0 - dsp.FADE_SHARE)) + 1, block)

    def spread(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields blocks `(2 n, samples)`, with the original gain and delay, from `(n, samples)`."""
        late = delay_taps(self.delay, self.sample_rate) * self.gain

        def delay(piece: np.ndarray) -> np.ndarray:
            return np.concatenate([[each, scipy.signal.oaconvolve(each, late, "same")]
                                   for each in piece])

        context = round(_half_length(self.sample_rate) / (1.0 - dsp.FADE_SHARE)) + 1
        yield from dsp.stream_in_segments(delay, pieces, round(SEGMENT_SECONDS * self.sample_rate),
                                          context)


def delay_taps(samples: float, rate: float) -> np.ndarray:
    """Returns a centred filter that delays by `samples`, which may be fractional."""
    half = _half_length(rate)
    places = np.arange(-half, half + 1)
    return np.sinc(places - samples) * np.hanning(2 * half + 3)[1:-1]


def _half_length(rate: float) -> int:
    return max(8, round(FILTER_SECONDS * rate))


def _taps(gains: np.ndarray, half: int) -> np.ndarray:
    """Returns a zero-phase filter, `(2 half + 1,)`, from its gain at evenly spaced bins."""
    impulse = scipy.fft.irfft(gains)
    return np.roll(impulse, half)[: 2 * half + 1] * np.hanning(2 * half + 3)[1:-1]


def _exchange_clicks(first: np.ndarray, second: np.ndarray, rate: float,
                     ) -> tuple[np.ndarray, np.ndarray]:
    """Replaces clicks that are in only one of two aligned channels by the other channel.

    A click is a difference of the channels far above its usual size nearby. It is in the channel
    with more power at that time.
    """
    block = max(1, round(CLICK_BLOCK_SECONDS * rate))
    cutoff = min(CLICK_HIGHPASS_HZ, 0.2 * rate)
    high = dsp.highpass(np.stack([first, second]), cutoff, rate)
    apart = np.abs(high[0] - high[1])
    found = apart > CLICK_DEVIATIONS * dsp.local_deviation(apart, block, CLICK_BLOCKS)
    if not found.any():
        return first, second
    margin = max(1, round(CLICK_MARGIN_SECONDS * rate))
    powers = scipy.ndimage.uniform_filter1d(np.square(high), 2 * margin + 1, axis=-1)
    wide = scipy.ndimage.maximum_filter1d(found, 2 * margin + 1)
    runs, count = scipy.ndimage.label(wide)
    louder = scipy.ndimage.sum_labels(powers[0] - powers[1], runs, np.arange(count + 1)) > 0.0
    in_first = wide & louder[runs]
    results = []
    for own, other, where in ((first, second, in_first), (second, first, wide & ~in_first)):
        # The fades are within the margin, beside the click.
        share = scipy.ndimage.uniform_filter1d(where.astype(own.dtype), margin)
        results.append(own + share * (other - own))
    return results[0], results[1]


def find_mono(audio: np.ndarray, sample_rate: float, choice: str = "auto",
              ) -> tuple[MonoSource | None, str]:
    """Measures whether two channels contain the same signal, and how they can be combined.

    Args:
        audio: `(samples, 2)`: excerpts of a recording, some of them loud.
        sample_rate: In Hz.
        choice: "true": take the recording for mono. "auto": only if it clearly is.

    Returns:
        The measured `MonoSource`, or None; and a short reason.
    """
    size = _frame_samples(sample_rate)
    if len(audio) < max(MIN_SECONDS * sample_rate, 4 * size):
        return None, f"less than {MIN_SECONDS:g} s is too little to judge"
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    one, other = frame_spectra(audio, sample_rate)
    delay, sign, _ = find_delay(one, other, sample_rate)
    turn = sign * np.exp(2j * np.pi * frequencies * delay / sample_rate)
    starts, centres = _bands(frequencies)
    first, second, common = (np.add.reduceat(power, starts, axis=-1, dtype=float) for power in (
        np.square(np.abs(one)), np.square(np.abs(other)), (one.conj() * other * turn).real))
    # Of two powers `(frames, bands)`, summed over both.
    covariance = [float(np.sum((power - power.mean(axis=0)) * (common - common.mean(axis=0))))
                  for power in (first, second)]
    if min(covariance) <= 0.0 or common.sum() <= MIN_COMMON * np.sqrt(first.sum() * second.sum()):
        return None, "the channels have too little in common"
    # Independent noise does not contribute to the covariances: their ratio is the squared gain.
    gain = math.sqrt(covariance[1] / covariance[0])
    if abs(20.0 * math.log10(gain)) > MAX_GAIN_DB:
        return None, f"the channels' levels are more than {MAX_GAIN_DB:g} dB apart"
    second, common = second / gain**2, common / gain
    apart = np.maximum(first + second - 2.0 * common, 0.0)
    if choice == "auto" and (reason := _why_stereo(apart, common, size / sample_rate)):
        return None, reason
    # Quiet frames count most for the noise; frames with clicks, which are replaced, do not count.
    quiet = (apart <= 4.0 * np.median(apart, axis=0)) / (first + second + TINY)
    total = quiet.sum(axis=0) + TINY
    noises = [np.maximum((quiet * (power - common)).sum(axis=0), 0.0) / total
              for power in (first, second)]
    weights = (noises[1] + TINY) / (noises[0] + noises[1] + 2.0 * TINY)
    weights = np.clip(weights, MIN_WEIGHT, 1.0 - MIN_WEIGHT)
    return (MonoSource(sample_rate, sign * gain, delay, tuple(centres), tuple(weights.tolist())),
            "both channels hold one signal, and what differs does not follow it")


def _frame_samples(sample_rate: float) -> int:
    return 2 * max(4, round(0.5 * FRAME_SECONDS * sample_rate))


def frame_spectra(audio: np.ndarray, sample_rate: float) -> np.ndarray:
    """Returns the spectra of adjacent frames of both channels, `(2, frames, bins)`.

    Args:
        audio: `(samples, 2)`.
        sample_rate: In Hz.
    """
    size = _frame_samples(sample_rate)
    channels = (audio - audio.mean(axis=0)).T.astype(np.float32)
    count = channels.shape[-1] // size
    frames = channels[:, : count * size].reshape(2, count, size)
    return scipy.fft.rfft(frames * np.hanning(size).astype(np.float32))


def _bands(frequencies: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Returns the first bin of each band, and the bands' centres in Hz."""
    edges = [0.0, *bands.third_octaves(MIN_HZ, frequencies[-1])]
    starts = np.unique(np.searchsorted(frequencies, edges[:-1]))
    ends = np.append(starts[1:], len(frequencies)) - 1
    return starts, (0.5 * (frequencies[starts] + frequencies[ends])).tolist()


def find_delay(one: np.ndarray, other: np.ndarray, rate: float) -> tuple[float, float, float]:
    """Finds the delay between two channels.

    Generalised cross-correlation with the weights of Hannan and Thomson (Knapp and Carter 1976),
    with a parabola through its peak.

    Args:
        one, other: Complex spectra of the channels, `(frames, bins)`.
        rate: Sample rate in Hz.

    Returns:
        The delay of `other` in samples, the sign of the correlation, and its height: 1 if all
        frequencies that the channels share have that delay, and 0 if they share nothing.
    """
    cross = np.mean(one.conj() * other, axis=0)
    powers = np.mean(np.square(np.abs(one)), axis=0) * np.mean(np.square(np.abs(other)), axis=0)
    size = np.abs(cross)
    coherence = np.minimum(np.square(size) / (powers + TINY), 0.99)
    # For independent channels it is not zero, but one over the number of frames.
    coherence[coherence < 3.0 / len(one)] = 0.0
    weights = coherence / (1.0 - coherence)
    total = weights.sum()
    if total == 0.0:
        return 0.0, 1.0, 0.0
    length = 2 * (len(cross) - 1) * DELAY_STEPS
    correlation = scipy.fft.irfft(cross / (size + TINY) * weights, length)
    reach = max(1, round(MAX_DELAY_SECONDS * rate * DELAY_STEPS))
    near = np.concatenate([correlation[-reach:], correlation[: reach + 1]])
    place = int(np.argmax(np.abs(near))) - reach
    sign = -1.0 if correlation[place] < 0.0 else 1.0
    before, peak, after = sign * correlation[[place - 1, place, place + 1]]
    place += 0.5 * (before - after) / (before - 2.0 * peak + after)
    return float(place) / DELAY_STEPS, sign, float(0.5 * length * peak / total)


def _why_stereo(apart: np.ndarray, common: np.ndarray, frame_seconds: float) -> str:
    """Returns a reason to doubt that two channels contain one signal; empty if there is none.

    Args:
        apart: Power of the difference of the channels, `(frames, bands)`.
        common: Power of their common signal, `(frames, bands)`.
        frame_seconds: Length of a frame.
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
