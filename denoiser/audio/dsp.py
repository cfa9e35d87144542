"""Signal code: spectra, levels, mixing, resampling and overlap-add. Arrays in, arrays out.

Audio is float32 (or float64) NumPy; time runs along the last axis unless said otherwise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import scipy.signal
import soxr

from denoiser.checks import require

Predict = Callable[[np.ndarray], np.ndarray]

SAMPLE_RATE = 44100  # Hz; the network's rate. Other rates are resampled to it and back.
STFT_BLOCK = 64  # frames
HIGHPASS_TRANSITION = 0.25  # from stop to pass band, relative to the cutoff

RESAMPLE_TAIL_SECONDS = 0.005  # of zeros at the end of a resampled stream
FADE_SHARE = 0.25  # of the context
ACTIVE_RANGE_DB = 40.0  # below the loudest frame; what is quieter is a pause


@dataclass
class StftConfig:
    """Short-time Fourier transform; lengths in samples, periodic Hamming window."""

    win_size: int = 2048
    hop_size: int = 512
    highpass_hz: float = 0.0  # what lies below is removed before the transform; 0 is nothing

    def __post_init__(self) -> None:
        require(self.win_size >= 2 and self.win_size % 2 == 0, "stft.win_size",
                 "an even number of samples", self.win_size)
        require(0 < self.hop_size <= self.win_size // 2, "stft.hop_size",
                 "in [1, win_size / 2]", self.hop_size)
        require(0.0 <= self.highpass_hz < SAMPLE_RATE / 4, "stft.highpass_hz",
                 f"in [0, {SAMPLE_RATE / 4:g})", self.highpass_hz)

    @property
    def bins(self) -> int:
        """Number of frequency bins of one frame."""
        return self.win_size // 2 + 1


def decibels(power_ratio: float) -> float:
    """Returns 10 log10 of a ratio of powers; minus infinity for 0."""
    return 10.0 * float(np.log10(power_ratio)) if power_ratio > 0.0 else float("-inf")


def power(audio: np.ndarray) -> float:
    """Returns the variance of `audio`: its power without a constant offset."""
    deviation = audio - np.mean(audio)  # NumPy adds pairwise: float32 is right to 1e-7
    return float(np.mean(np.square(deviation, out=deviation)))


# --- Spectra ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def hamming(win_size: int) -> np.ndarray:
    """Returns the periodic Hamming window of `win_size` samples, float32."""
    return scipy.signal.get_window("hamming", win_size, fftbins=True).astype(np.float32)


def count_frames(samples: int, hop_size: int) -> int:
    """Returns how many frames start within `samples` samples, one each `hop_size`."""
    return -(-samples // hop_size)


def stft(audio: np.ndarray, win_size: int, hop_size: int) -> np.ndarray:
    """Short-time Fourier transform; frame k starts at sample k * hop_size.

    Args:
        audio: Float array `(..., samples)`.
        win_size: Frame length in samples.
        hop_size: Step between frames in samples.

    Returns:
        float32 array `(..., frames, bins, 2)`: real and imaginary parts; frames that reach beyond
        the last sample see zeros there.
    """
    samples = audio.shape[-1]
    frames = count_frames(samples, hop_size)
    out = np.empty((*audio.shape[:-1], frames, win_size // 2 + 1, 2), np.float32)
    if frames == 0:
        return out
    padding = (frames - 1) * hop_size + win_size - samples
    padded = np.pad(audio.astype(np.float32, copy=False),
                    [(0, 0)] * (audio.ndim - 1) + [(0, padding)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, win_size, axis=-1)
    windows = windows[..., ::hop_size, :]
    spectrum = out.view(np.complex64)[..., 0]
    for first in range(0, frames, STFT_BLOCK):  # what a block needs stays in the processor's cache
        block = slice(first, first + STFT_BLOCK)
        spectrum[..., block, :] = scipy.fft.rfft(windows[..., block, :] * hamming(win_size))
    return out


def istft(spectrum: np.ndarray, win_size: int, hop_size: int, samples: int) -> np.ndarray:
    """Inverse of `stft`: least-squares overlap-add (Griffin and Lim 1984, eq. 6).

    Args:
        spectrum: float32 array `(..., frames, bins, 2)`.
        win_size: Frame length in samples.
        hop_size: Step between frames in samples.
        samples: Length of the result.

    Returns:
        float32 array `(..., samples)`.

    Raises:
        ValueError: `spectrum` has another number of frames than `samples` samples need.
    """
    frames = count_frames(samples, hop_size)
    if spectrum.shape[-3] != frames:
        raise ValueError(f"`spectrum` must have {frames} frames for {samples} samples. "
                         f"Received: {spectrum.shape=}")
    if frames == 0:
        return np.zeros((*spectrum.shape[:-3], samples), np.float32)
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


def gain_to_level(audio: np.ndarray, level_dbfs: float) -> float:
    """Returns the gain that brings the RMS of `audio` to `level_dbfs`; 1 for silence."""
    present = power(audio)
    return float(np.sqrt(10.0 ** (level_dbfs / 10.0) / present)) if present > 0.0 else 1.0


def active_power(powers: np.ndarray) -> float:
    """Returns the mean of frame powers without the pauses; 0 for silence.

    A recording's leader, or a gap between two sides of a disc, must not change its level.

    Args:
        powers: `(frames,)`: variance of each frame.
    """
    loudest = float(np.max(powers, initial=0.0))
    if loudest == 0.0:
        return 0.0
    return float(np.mean(powers[powers >= loudest * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)]))


def mix_at_snr(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Adds noise at a signal-to-noise ratio; power is the variance.

    Args:
        clean: Float array of any shape.
        noise: Array of the same shape.
        snr_db: Power of `clean` over that of the noise in the result, in dB.

    Returns:
        `clean + gain * noise` in the type of `clean`.

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
    """Extends `audio` by repetition, with equal-power crossfades at the joins.

    Args:
        audio: Array `(length,)`.
        samples: Length of the result.
        fade_samples: Length of each crossfade; shortened to a third of a short `audio`.
        turn_samples: Length of one turn of the disc. Where given, copies start whole turns
            apart (as far as `audio` is long enough), so that clicks stay at their angle.

    Returns:
        Array `(samples,)`.

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
    # Noise of two copies is uncorrelated: squared weights that sum to one keep its power.
    ramp = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / max(fade, 1)).astype(audio.dtype)
    piece = audio[: step + fade].copy()
    piece[:fade] *= ramp
    piece[step:] *= ramp[::-1]
    copies = -(-samples // step) + 1
    result = np.zeros(copies * step + fade, audio.dtype)
    for copy in range(copies):
        result[copy * step : copy * step + len(piece)] += piece
    # The first copy must not fade in.
    result[:fade] = audio[:fade]
    return result[:samples]


def resample(audio: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """Resamples `(samples,)` or `(samples, channels)` with soxr at its best."""
    if from_rate == to_rate or len(audio) == 0:
        return audio
    return soxr.resample(audio, from_rate, to_rate, quality="VHQ")


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: float, to_rate: float,
                    ) -> Iterator[np.ndarray]:
    """Resamples a stream of float32 `(channels, samples)`; the delay is compensated for.

    The result ends with a few milliseconds more than the stream, so that no rounding of lengths
    loses a sample; the caller cuts it where it has to end. At equal rates nothing changes.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    stream, channels = None, 0
    for block in blocks:
        if stream is None:
            channels = len(block)
            stream = soxr.ResampleStream(from_rate, to_rate, channels, quality="VHQ")
        yield stream.resample_chunk(np.ascontiguousarray(block.T)).T
    if stream is not None:
        tail = np.zeros((round(RESAMPLE_TAIL_SECONDS * from_rate) + 1, channels), np.float32)
        yield stream.resample_chunk(tail, last=True).T


@functools.lru_cache(maxsize=8)
def _highpass_taps(cutoff: float, rate: float) -> np.ndarray:
    # A Hamming-windowed sinc of N taps passes from stop to pass band within 3.3 / N of the rate.
    half = round(0.5 * 3.3 * rate / (HIGHPASS_TRANSITION * cutoff))
    return scipy.signal.firwin(2 * half + 1, cutoff, pass_zero=False, fs=rate).astype(np.float32)


@functools.lru_cache(maxsize=8)
def _highpass_response(cutoff: float, rate: float, size: int) -> np.ndarray:
    # Training filters very many segments of one length.
    return scipy.fft.rfft(_highpass_taps(cutoff, rate), size)


@functools.lru_cache(maxsize=8)
def highpass_gain(cutoff_hz: float, rate: float, size: int) -> np.ndarray:
    """Returns the gain of `highpass` at each bin of a real transform of `size` samples."""
    taps = _highpass_taps(cutoff_hz, rate)
    # Centred on sample 0 the filter has no phase; longer than the transform, it wraps around.
    places = (np.arange(len(taps)) - len(taps) // 2) % size
    return scipy.fft.rfft(np.bincount(places, taps, size)).real.astype(np.float32)


def highpass(audio: np.ndarray, cutoff_hz: float, rate: float, wrap: bool = False) -> np.ndarray:
    """Removes what lies below `cutoff_hz` without any shift in time or phase.

    Most of a disc's noise power is rumble below hearing, where no signal is: warps and bearings
    turn at a few hertz. Two bins of a short transform cannot tell it from the lowest notes.

    Args:
        audio: Array `(..., samples)`.
        cutoff_hz: Where the gain is one half; 0 changes nothing.
        rate: Samples per second.
        wrap: Whether end and beginning may hear each other, which takes half the time.

    Returns:
        float32 array of the same shape.
    """
    if cutoff_hz == 0.0 or audio.shape[-1] == 0:
        return audio
    samples = audio.shape[-1]
    if wrap:
        size, delay = scipy.fft.next_fast_len(samples, real=True), 0
        response = highpass_gain(cutoff_hz, rate, size)
    else:
        taps = _highpass_taps(cutoff_hz, rate)
        size, delay = scipy.fft.next_fast_len(samples + len(taps) - 1, real=True), len(taps) // 2
        response = _highpass_response(cutoff_hz, rate, size)
    filtered = scipy.fft.irfft(scipy.fft.rfft(audio, size) * response, size)
    return filtered[..., delay : delay + samples].astype(np.float32, copy=False)


def fit_length(audio: np.ndarray, samples: int) -> np.ndarray:
    """Cuts or zero-fills the first axis to `samples`."""
    if len(audio) >= samples:
        return audio[:samples]
    return np.pad(audio, [(0, samples - len(audio))] + [(0, 0)] * (audio.ndim - 1))


# --- From spectra to recordings --------------------------------------------------------------


def lead_samples(win_size: int, hop_size: int) -> int:
    """Returns how many zeros before the first sample put it too under whole windows.

    Under one window's edge alone, the division by the window would raise errors 12 times.
    """
    return -(-(win_size - hop_size) // hop_size) * hop_size


def in_spectral_domain(predict_spectrum: Predict, win_size: int, hop_size: int,
                       highpass_hz: float = 0.0, rate: float = 44100.0) -> Predict:
    """Turns a map of spectrograms into a map of waveforms.

    `lead_samples` zeros are added before the first sample.

    Args:
        predict_spectrum: Takes and returns `(batch, frames, bins, 2)`.
        win_size: Frame length in samples.
        hop_size: Step between frames in samples.
        highpass_hz: What lies below is removed before the transform, see `highpass`.
        rate: Samples per second.

    Returns:
        A function that takes and returns waveforms `(batch, samples)`.
    """
    lead = lead_samples(win_size, hop_size)

    def predict(audio: np.ndarray) -> np.ndarray:
        padded = np.pad(highpass(audio, highpass_hz, rate), [(0, 0), (lead, 0)])
        spectrum = np.asarray(predict_spectrum(stft(padded, win_size, hop_size)))
        return istft(spectrum, win_size, hop_size, padded.shape[-1])[:, lead:]

    return predict


def stream_in_segments(predict: Predict, blocks: Iterable[np.ndarray], segment_samples: int,
                       context_samples: int, step_samples: int = 1) -> Iterator[np.ndarray]:
    """Applies `predict` to overlapping segments and joins them by weighted overlap-add.

    Each segment is seen with `context_samples` on both sides. The quarter of the context next to
    it is crossfaded with the neighbouring segment; the rest is thrown away. Never more than one
    segment with its contexts and one block lie in memory.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`.
        blocks: The recording in pieces `(channels, samples)` of any length; channels are the
            batch.
        segment_samples: New samples in each step.
        context_samples: Samples seen on both sides of them.
        step_samples: Segments and contexts are rounded up to multiples of this. A network with
            strides gives the same result for the same samples only at such multiples.

    Yields:
        float32 pieces `(channels, samples)`, together as long as all blocks.
    """
    segment = -(-segment_samples // step_samples) * step_samples
    context = -(-context_samples // step_samples) * step_samples
    # Never beyond the middle of a segment, so that no more than two segments meet.
    fade = min(round(context * FADE_SHARE), segment // 2)
    ramp = ((np.arange(2 * fade) + 0.5) / max(2 * fade, 1)).astype(np.float32)
    blocks = iter(blocks)
    heard = next(blocks, None)  # holds the samples from `origin` on
    if heard is None:
        return
    origin, start, ended = 0, 0, False
    pending = np.zeros((len(heard), 0), np.float32)  # the last segment's crossfade, faded out
    while True:
        # One sample more than the context tells whether anything comes after it.
        while not ended and origin + heard.shape[-1] <= start + segment + context:
            block = next(blocks, None)
            ended = block is None
            if not ended:
                heard = np.concatenate([heard, block], axis=-1)
        known = origin + heard.shape[-1]
        if start >= known:
            return
        end = min(start + segment, known)
        left, right = max(0, start - context), min(known, end + context)
        result = predict(heard[:, left - origin : right - origin])
        # `begin` to `stop` is what this segment adds, its crossfades included.
        begin, stop = max(0, start - fade), min(known, end + fade)
        piece = np.array(result[:, begin - left : stop - left], np.float32)
        if start > 0:
            count = pending.shape[-1]
            piece[:, :count] *= ramp[:count]
            piece[:, :count] += pending
        final = stop
        if end < known:
            final = end - fade
            pending = piece[:, final - begin :] * (1.0 - ramp[: stop - final])
        yield piece[:, : final - begin]
        start = end
        keep = max(origin, start - context)
        heard, origin = heard[:, keep - origin :], keep


def at_level(predict: Predict, level_dbfs: float | None) -> Predict:
    """Lets `predict` hear every waveform at one level and undoes the gain afterwards.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`.
        level_dbfs: RMS that it hears; None changes nothing.

    Returns:
        A function of the same form.
    """
    if level_dbfs is None:
        return predict

    def predict_at_level(audio: np.ndarray) -> np.ndarray:
        gains = np.array([[gain_to_level(channel, level_dbfs)] for channel in audio], np.float32)
        return predict(gains * audio) / gains

    return predict_at_level


def process_in_segments(predict: Predict, audio: np.ndarray, segment_samples: int,
                        context_samples: int, step_samples: int = 1,
                        report: Callable[[int], object] | None = None) -> np.ndarray:
    """Applies `predict` to a whole recording by `stream_in_segments`.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`.
        audio: Array `(channels, samples)`.
        segment_samples: See `stream_in_segments`.
        context_samples: See `stream_in_segments`.
        step_samples: See `stream_in_segments`.
        report: Called with the number of finished samples after each segment.

    Returns:
        float32 array shaped as `audio`; every sample is written.
    """
    result = np.zeros(audio.shape, np.float32)
    done = 0
    for piece in stream_in_segments(predict, [audio], segment_samples, context_samples,
                                    step_samples):
        result[:, done : done + piece.shape[-1]] = piece
        done += piece.shape[-1]
        if report is not None:
            report(piece.shape[-1])
    return result
