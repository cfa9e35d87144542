"""Signal processing on arrays: spectra, levels, mixing, resampling and overlap-add.

Waveforms are float32 or float64 arrays; time is the last axis unless a docstring says otherwise.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
import soxr

from historical_denoiser.core.checks import require

Predict = Callable[[np.ndarray], np.ndarray]

SAMPLE_RATE = 44100  # Hz, of the network; recordings are resampled to it and back
STFT_BLOCK = 64  # frames that are transformed at once, so that they fit the processor's cache
HIGHPASS_TRANSITION = 0.25  # width of the transition band, relative to the cutoff

RESAMPLE_TAIL_SECONDS = 0.005  # zeros added at the end of a resampled stream
FADE_SHARE = 0.25  # share of the context that is crossfaded with the neighbouring segment
ACTIVE_RANGE_DB = 40.0  # a frame this far below the loudest one is a pause


@dataclass
class StftConfig:
    """Short-time Fourier transform; lengths in samples, periodic Hamming window."""

    win_size: int = 2048
    hop_size: int = 512
    highpass_hz: float = 0.0  # cutoff of a high-pass before the transform; 0: no filter

    def __post_init__(self) -> None:
        require(self.win_size >= 2, "stft.win_size", "at least 2 samples", self.win_size)
        require(0 < self.hop_size <= (self.win_size + 1) // 2, "stft.hop_size",
                 "in [1, (win_size + 1) / 2]", self.hop_size)
        require(0.0 <= self.highpass_hz < SAMPLE_RATE / 4, "stft.highpass_hz",
                 f"in [0, {SAMPLE_RATE / 4:g})", self.highpass_hz)

    @property
    def bins(self) -> int:
        """Number of frequency bins of one frame."""
        return self.win_size // 2 + 1


def decibels(power: np.ndarray | float, floor: float = 0.0) -> Any:
    """Returns 10 log10 of powers or power ratios, after raising them to `floor` at least.

    The result is minus infinity for 0, a float for a number, and an array of its type for an array.
    """
    with np.errstate(divide="ignore"):
        level_db = 10.0 * np.log10(np.maximum(power, floor))
    return level_db if np.ndim(level_db) else float(level_db)


def to_gain(level_db: Any) -> Any:
    """Returns the factor for samples that corresponds to a level in dB."""
    return 10.0 ** (level_db / 20.0)


def power(audio: np.ndarray) -> float:
    """Returns the variance of `audio`: its power without a constant offset."""
    deviation = audio - np.mean(audio)  # NumPy's pairwise sum is accurate to 1e-7 in float32
    return float(np.mean(np.square(deviation, out=deviation)))


def largest_around(values: np.ndarray, reach: int) -> np.ndarray:
    """Returns the largest value up to `reach` places away, along the last axis.

    For a short reach this takes a tenth of the time of scipy.ndimage.maximum_filter1d.
    """
    largest = values.copy()
    for shift in range(1, reach + 1):
        for own, beside in ((largest[..., shift:], values[..., :-shift]),
                            (largest[..., :-shift], values[..., shift:])):
            np.maximum(own, beside, out=own)
    return largest


# --- Spectra ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def hamming(win_size: int) -> np.ndarray:
    """Returns the periodic Hamming window of `win_size` samples, float32."""
    # As in `_highpass_taps`, without scipy.signal, which takes a third of a second to load.
    return np.hamming(win_size + 1)[:-1].astype(np.float32)


# The symmetric Hann window of so many samples; those of the click stage have many lengths.
hann = functools.lru_cache(maxsize=256)(np.hanning)


def count_frames(samples: int, hop_size: int) -> int:
    """Returns the number of frames that start within `samples`, one every `hop_size`."""
    return -(-samples // hop_size)


def stft(audio: np.ndarray, win_size: int, hop_size: int) -> np.ndarray:
    """Short-time Fourier transform; frame k starts at sample k * hop_size.

    Args:
        audio: `(..., samples)`, at least one sample. Behind the last, frames are filled with zeros.
        win_size: Length of the periodic Hamming window in samples.
        hop_size: Distance of frames in samples.

    Returns:
        float32 `(..., frames, bins, 2)`: real and imaginary parts.
    """
    samples = audio.shape[-1]
    frames = count_frames(samples, hop_size)
    out = np.empty((*audio.shape[:-1], frames, win_size // 2 + 1, 2), np.float32)
    padding = (frames - 1) * hop_size + win_size - samples
    padded = np.pad(audio.astype(np.float32, copy=False),
                    [(0, 0)] * (audio.ndim - 1) + [(0, padding)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, win_size, axis=-1)
    windows = windows[..., ::hop_size, :]
    spectrum = out.view(np.complex64)[..., 0]
    for first in range(0, frames, STFT_BLOCK):
        block = slice(first, first + STFT_BLOCK)
        spectrum[..., block, :] = scipy.fft.rfft(windows[..., block, :] * hamming(win_size))
    return out


def power_spectra(frames: np.ndarray) -> np.ndarray:
    """Returns |X|^2 of frames `(..., samples)` under a symmetric Hann window, `(..., bins)`."""
    return np.square(np.abs(scipy.fft.rfft(frames * hann(frames.shape[-1]))))


def power_of_bins(spectra: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Returns |X|^2 of spectra `(..., 2)` without their last axis.

    A sum over that axis would take ten times as long: NumPy loops over its two elements.
    """
    return np.square(spectra[..., 0], dtype=dtype) + np.square(spectra[..., 1], dtype=dtype)


def istft(spectrum: np.ndarray, win_size: int, hop_size: int, samples: int) -> np.ndarray:
    """Inverse of `stft`: least-squares overlap-add (Griffin and Lim 1984, eq. 6).

    Args:
        spectrum: `(..., frames, bins, 2)`.
        win_size, hop_size: See `stft`.
        samples: Length of the result.

    Raises:
        ValueError: `spectrum` has another number of frames than `samples` samples need.
    """
    frames = count_frames(samples, hop_size)
    if spectrum.shape[-3] != frames:
        raise ValueError(f"`spectrum` must have {frames} frames for {samples} samples. "
                         f"Received: {spectrum.shape=}")
    halves = np.ascontiguousarray(spectrum, np.float32).view(np.complex64)[..., 0]
    window = hamming(win_size)
    pieces = scipy.fft.irfft(halves, n=win_size, axis=-1) * window
    result = overlap_add(pieces, hop_size)
    weights = overlap_add(np.broadcast_to(window**2, (frames, win_size)), hop_size)
    return (result / weights)[..., :samples]


def overlap_add(pieces: np.ndarray, hop_size: int) -> np.ndarray:
    """Adds `(..., frames, win_size)` pieces at steps of `hop_size` samples."""
    frames, win_size = pieces.shape[-2:]
    steps = -(-win_size // hop_size)
    short = steps * hop_size - win_size
    padded = np.pad(pieces, [(0, 0)] * (pieces.ndim - 1) + [(0, short)])
    blocks = padded.reshape(*pieces.shape[:-1], steps, hop_size)
    total = np.zeros((*pieces.shape[:-2], frames + steps - 1, hop_size), pieces.dtype)
    for step in range(steps):
        total[..., step : step + frames, :] += blocks[..., step, :]
    end = (frames - 1) * hop_size + win_size
    return total.reshape(*pieces.shape[:-2], -1)[..., :end]


# --- Level and mixing ------------------------------------------------------------------------


def active_power(powers: np.ndarray) -> float:
    """Returns the mean power of the frames that are not pauses; 0 for silence.

    Thus, the level of a recording does not depend on how much silence surrounds the music.
    `powers` are the variances of the frames.
    """
    loudest = float(np.max(powers, initial=0.0))
    if loudest == 0.0:
        return 0.0
    return float(np.mean(powers[powers >= loudest * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)]))


def clip_at_sdr(clean: np.ndarray, sdr_db: float) -> np.ndarray:
    """Clips a sound so that its signal-to-distortion ratio is `sdr_db`, by bisection."""
    low, high = 0.0, float(np.abs(clean).max())
    limit = np.sum(np.square(clean, dtype=np.float64)) * 10.0 ** (-sdr_db / 10.0)
    for _ in range(40):
        level = 0.5 * (low + high)
        error = np.sum(np.square(clean - np.clip(clean, -level, level), dtype=np.float64))
        low, high = (low, level) if error < limit else (level, high)
    return np.clip(clean, -high, high)


def mix_at_snr(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Returns `clean + gain * noise` with a signal-to-noise ratio of `snr_db`; see `power`.

    Args:
        clean: Waveform of any shape.
        noise: Waveform of the same shape.
        snr_db: Level of `clean` relative to the scaled noise.

    Raises:
        ValueError: The shapes differ or `noise` is silent.
    """
    if clean.shape != noise.shape:
        raise ValueError(f"`noise` must be shaped as `clean`. Received: {noise.shape=}, "
                         f"{clean.shape=}")
    noise_power = power(noise)
    if noise_power == 0.0:
        raise ValueError("`noise` must not be silent: no gain reaches the requested SNR.")
    gain = np.sqrt(power(clean) / (noise_power * 10.0 ** (snr_db / 10.0)))
    return (clean + gain * noise).astype(clean.dtype)


def repeat_with_crossfade(audio: np.ndarray, samples: int, fade_samples: int,
                          turn_samples: int | None = None) -> np.ndarray:
    """Repeats `audio` up to a length, with equal-power crossfades at the joins.

    Args:
        audio: `(length,)`.
        samples: Length of the result.
        fade_samples: Length of each crossfade; shortened to a third of a short `audio`.
        turn_samples: Length of one turn of the disc. If given, and `audio` is longer than a turn,
            copies start whole turns apart, so that clicks recur once per turn as on the disc.

    Raises:
        ValueError: `audio` is empty.
    """
    if len(audio) == 0:
        raise ValueError("`audio` must not be empty: nothing can be repeated.")
    if len(audio) >= samples:
        return audio[:samples]
    fade = min(fade_samples, len(audio) // 3)
    step = len(audio) - fade
    if turn_samples and step >= turn_samples:
        step = step // turn_samples * turn_samples
    # Two copies are uncorrelated: their power is constant if the squared weights sum to one.
    ramp = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / max(fade, 1)).astype(audio.dtype)
    piece = audio[: step + fade].copy()
    piece[:fade] *= ramp
    piece[step:] *= ramp[::-1]
    result = overlap_add(np.tile(piece, (-(-samples // step), 1)), step)
    result[:fade] = audio[:fade]  # the first copy must not fade in
    return result[:samples]


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resamples at soxr's highest quality; at equal rates returns `audio` itself.

    Args:
        audio: Waveform `(samples,)` or `(samples, channels)`.
        from_rate: Its sample rate in Hz.
        to_rate: The sample rate of the result in Hz.
    """
    if from_rate == to_rate or len(audio) == 0:
        return audio
    return soxr.resample(audio, from_rate, to_rate, quality="VHQ")


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: float, to_rate: float,
                    ) -> Iterator[np.ndarray]:
    """Resamples a stream of blocks `(channels, samples)` without delaying it.

    The result is a few milliseconds too long, so that resampling it back never gives fewer samples
    than there were; the caller cuts it to length. For equal rates the blocks are unchanged.

    Args:
        blocks: Adjacent blocks `(channels, samples)` of any length.
        from_rate, to_rate: As in `resample`.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    stream = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(from_rate, to_rate, len(block), block.dtype, "VHQ")
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    if stream is not None:
        tail = np.zeros((round(RESAMPLE_TAIL_SECONDS * from_rate) + 1, len(block)), block.dtype)
        yield stream.resample_chunk(tail, last=True).T


def highpass_reach(cutoff_hz: float, rate: float) -> int:
    """Returns how many samples before and after a sample `highpass` uses."""
    return round(0.5 * 3.3 * rate / (HIGHPASS_TRANSITION * cutoff_hz))


@functools.lru_cache(maxsize=8)
def _highpass_taps(cutoff: float, rate: float) -> np.ndarray:
    # A Hamming-windowed sinc of N taps has a transition band of 3.3 / N times the rate.
    half, share = highpass_reach(cutoff, rate), 2.0 * cutoff / rate
    places = np.arange(-half, half + 1)
    taps = (np.sinc(places) - share * np.sinc(share * places)) * np.hamming(len(places))
    # The gain is 1 at half the rate.
    return (taps / np.sum(taps * np.cos(np.pi * places))).astype(np.float32)


@functools.lru_cache(maxsize=8)  # training filters very many segments of one length
def highpass_gain(cutoff_hz: float, rate: float, size: int) -> np.ndarray:
    """Returns the gain of `highpass` at each bin, float32 `(bins,)`.

    Args:
        cutoff_hz: Cutoff frequency.
        rate: Sample rate in Hz.
        size: Length of the real transform in samples.
    """
    taps = _highpass_taps(cutoff_hz, rate)
    # Centred on sample 0, the filter has zero phase. If it exceeds the transform, it wraps around.
    places = (np.arange(len(taps)) - len(taps) // 2) % size
    return scipy.fft.rfft(np.bincount(places, taps, size)).real.astype(np.float32)


def highpass(audio: np.ndarray, cutoff_hz: float, rate: float, wrap: bool = False) -> np.ndarray:
    """Removes frequencies below `cutoff_hz` with a filter of zero phase.

    Most of a disc's noise power is rumble at a few hertz, from warps and bearings, where there is
    no music. The network's short transform cannot separate it from the lowest notes: all of it is
    in the two lowest bins.

    Args:
        audio: `(..., samples)`.
        cutoff_hz: Frequency at which the gain is one half; 0 changes nothing.
        rate: Samples per second.
        wrap: Whether to treat `audio` as periodic, which is faster, instead of surrounded by
            silence.

    Returns:
        float32 array of the same shape.
    """
    samples = audio.shape[-1]
    if cutoff_hz == 0.0 or samples == 0:
        return audio
    if cutoff_hz >= rate / 2.0:
        return np.zeros(audio.shape, np.float32)
    # Zeros that separate the end from the beginning.
    margin = 0 if wrap else len(_highpass_taps(cutoff_hz, rate)) // 2
    size = scipy.fft.next_fast_len(samples + margin, real=True)
    spectrum = scipy.fft.rfft(audio, size)
    spectrum *= highpass_gain(cutoff_hz, rate, size)
    return scipy.fft.irfft(spectrum, size)[..., :samples].astype(np.float32, copy=False)


def minimum_phase(level_db: np.ndarray, taps: int) -> np.ndarray:
    """Returns a minimum-phase FIR filter of `taps` samples from levels on a regular grid.

    The cepstrum is folded: Oppenheim and Schafer, Discrete-Time Signal Processing, on the Hilbert
    transform relations of causal complex cepstra.
    """
    cepstrum = scipy.fft.irfft(level_db * (np.log(10.0) / 20.0))
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2.0
    cepstrum[half + 1:] = 0.0
    return scipy.fft.irfft(np.exp(scipy.fft.rfft(cepstrum)))[:taps]


def local_deviation(audio: np.ndarray, block_samples: int, blocks: int) -> np.ndarray:
    """Returns the standard deviation of noise around each sample, insensitive to clicks.

    The median of |x| in a block is 0.6745 standard deviations for Gaussian noise.

    Args:
        audio: `(samples,)`.
        block_samples: Length of the blocks over which the median of |x| is measured.
        blocks: Number of blocks, centred at a sample, of which the median is returned.

    Returns:
        `(samples,)`, constant within each block.
    """
    spread = [np.median(np.abs(audio[start : start + block_samples])) / 0.6745
              for start in range(0, len(audio), block_samples)]
    usual = scipy.ndimage.median_filter(spread, blocks, mode="nearest")
    return np.repeat(usual, block_samples)[: len(audio)]


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cuts the first axis to `samples`, or pads it with zeros."""
    if len(audio) >= samples:
        return audio[:samples]
    return np.pad(audio, [(0, samples - len(audio))] + [(0, 0)] * (audio.ndim - 1))


# --- From spectra to recordings --------------------------------------------------------------


def lead_samples(win_size: int, hop_size: int) -> int:
    """Returns the number of zeros to put before a waveform so that `istft` is accurate throughout.

    With fewer zeros, only the edges of windows cover the first samples, and the division by the sum
    of windows makes errors of the spectrum up to 12 times larger there.
    """
    return -(-(win_size - hop_size) // hop_size) * hop_size


def in_spectral_domain(predict_spectrum: Predict, win_size: int, hop_size: int,
                       highpass_hz: float = 0.0) -> Predict:
    """Makes a function of waveforms `(batch, samples)` at 44.1 kHz from a function of spectra.

    Args:
        predict_spectrum: Takes and returns `(batch, frames, bins, 2)`.
        win_size, hop_size: See `stft`.
        highpass_hz: Cutoff of `highpass`, which is applied first.
    """
    lead = lead_samples(win_size, hop_size)

    def predict(audio: np.ndarray) -> np.ndarray:
        padded = np.pad(highpass(audio, highpass_hz, SAMPLE_RATE), [(0, 0), (lead, 0)])
        spectrum = np.asarray(predict_spectrum(stft(padded, win_size, hop_size)))
        return istft(spectrum, win_size, hop_size, padded.shape[-1])[:, lead:]

    return predict


def _lengthen(audio: np.ndarray, blocks: Iterator[np.ndarray], samples: int) -> np.ndarray:
    """Returns `audio` with the next blocks, until it has more than `samples` or they end."""
    parts, known = [audio], audio.shape[-1]
    while known <= samples and (block := next(blocks, None)) is not None:
        parts.append(block)
        known += block.shape[-1]
    return np.concatenate(parts, axis=-1)


def stream_in_segments(predict: Predict, blocks: Iterable[np.ndarray], segment_samples: int,
                       context_samples: int, step_samples: int = 1,
                       at: Callable[[int, int, int], object] = lambda left, start, end: None,
                       ) -> Iterator[np.ndarray]:
    """Applies `predict` to overlapping segments and joins them by weighted overlap-add.

    `predict` gets each segment with `context_samples` on both sides. The quarter of the context
    next to the segment is crossfaded with the neighbouring segment, the rest is discarded. At the
    ends of the recording, a segment is extended by the length of the missing context. At most one
    segment, its contexts and one block are in memory.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`; the batches may differ.
        blocks: The recording in blocks `(channels, samples)` of any length.
        segment_samples: New samples in each step.
        context_samples: Samples on both sides of them.
        step_samples: Segments and contexts are rounded up to multiples of this. A network with
            strides is only equivariant to shifts by such multiples.
        at: Called before `predict` with the places in the recording of the first sample that it
            gets, of the first new one, and of the one after the last new one.

    Yields:
        float32 pieces `(channels, samples)`, together as long as all blocks.
    """
    segment = -(-segment_samples // step_samples) * step_samples
    context = -(-context_samples // step_samples) * step_samples
    # Fades end before the middle of a segment, so that at most two segments overlap.
    fade = min(round(context * FADE_SHARE), segment // 2)
    ramp = ((np.arange(2 * fade) + 0.5) / max(2 * fade, 1)).astype(np.float32)
    blocks = iter(blocks)
    audio = next(blocks, None)  # the recording from sample `origin` on
    if audio is None:
        return
    origin, start = 0, 0
    pending = np.zeros((1, 0), np.float32)  # end of the last segment, faded out
    while True:
        end = start + segment if start else segment + context
        # One sample beyond the context shows whether there is another segment.
        audio = _lengthen(audio, blocks, end + context - origin)
        known = origin + audio.shape[-1]
        if start >= known:
            return
        if known <= end + context:
            end = known
        left, right = max(0, start - context), min(known, end + context)
        at(left, start, end)
        result = predict(audio[:, left - origin : right - origin])
        # This segment and its crossfades reach from `begin` to `stop`.
        begin, stop = max(0, start - fade), min(known, end + fade)
        piece = np.array(result[:, begin - left : stop - left], np.float32)
        count = pending.shape[-1]
        piece[:, :count] = piece[:, :count] * ramp[:count] + pending
        final = stop
        if end < known:
            final = end - fade
            pending = piece[:, final - begin :] * (1.0 - ramp[: stop - final])
        yield piece[:, : final - begin]
        start, keep = end, max(0, end - context)
        audio, origin = audio[:, keep - origin :], keep
