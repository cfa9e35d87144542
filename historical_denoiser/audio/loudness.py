"""Measures loudness and true peak (ITU-R BS.1770, EBU R 128) with the filter of FFmpeg.

For mixtures whose shares change later, start reading at `weighted_products`.
"""

import math
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import scipy

from historical_denoiser.core.checks import require

MIN_LUFS = -70.0  # the absolute gate: softer recordings, and those below 0.4 s, have no loudness
# FFmpeg's names of what a number of channels usually is, which decides on their weights.
LAYOUTS = dict(enumerate(("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"), 1))
# The filter states the peak as a ratio with three decimals.
ROUNDING = 0.0005


class LoudnessMeter:
    """Measures a recording block by block, with constant memory."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        """Begins a measurement of a recording with this rate in Hz and these channels.

        Raises:
            UserError: The loudness of so many channels is not defined.
        """
        require(channels in LAYOUTS, "inference.loudness", "left out with more than 8 channels",
                f"{channels} channels")
        layout = LAYOUTS[channels]
        self._rate, self._layout, self._done = sample_rate, layout, 0
        self._sample_peak = 0.0
        self._last: dict[str, str] = {}  # the measurements so far
        self._graph = av.filter.Graph()
        self._graph.link_nodes(
            self._graph.add_abuffer(format="dbl", sample_rate=sample_rate, layout=layout,
                                    time_base=Fraction(1, sample_rate)),
            self._graph.add("ebur128", "peak=true:metadata=1:framelog=quiet"),
            self._graph.add("abuffersink")).configure()

    def add(self, block: np.ndarray) -> None:
        """Adds the next samples, `(samples, channels)`."""
        if not len(block):
            return
        self._sample_peak = max(self._sample_peak, float(np.abs(block).max()))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block, np.float64).reshape(1, -1),
                                           "dbl", self._layout)
        frame.sample_rate, frame.time_base = self._rate, Fraction(1, self._rate)
        frame.pts = self._done
        self._done += len(block)
        self._graph.push(frame)
        while True:
            try:
                self._last = self._graph.pull().metadata
            except (av.BlockingIOError, av.EOFError):
                return

    @property
    def lufs(self) -> float | None:
        """The integrated loudness in LUFS; None if the recording is too soft or too short."""
        lufs = float(self._last.get("lavfi.r128.I", MIN_LUFS))
        return lufs if lufs > MIN_LUFS else None

    @property
    def true_peak_db(self) -> float:
        """The true peak in dBTP, rounded upwards; -inf for silence."""
        # The filter leaves out what does not fill its last frame of 0.1 s.
        peak = max(self._sample_peak, float(self._last.get("lavfi.r128.true_peak", 0.0)) + ROUNDING
                   if self._sample_peak else 0.0)
        return 20.0 * math.log10(peak) if peak else -math.inf


def _weighting(sample_rate: float) -> np.ndarray:
    """Returns the K-weighting of BS.1770 as second-order sections, `(2, 6)`.

    The recommendation states its coefficients for 48 kHz. These analog filters have the same ones
    at that rate (as in libebur128 and pyloudnorm), and are transformed for another one.
    """
    def k_and_poles(hz: float, quality: float) -> tuple[float, np.ndarray]:
        k = math.tan(math.pi * hz / sample_rate)
        return k, np.array([1.0 + k / quality + k * k, 2.0 * (k * k - 1.0),
                            1.0 - k / quality + k * k])

    quality, high, band = 0.7071752369554196, 1.584864701130855, 1.258720930232562
    k, shelf = k_and_poles(1681.974450955533, quality)
    zeros = [high + band * k / quality + k * k, 2.0 * (k * k - high),
             high - band * k / quality + k * k]
    _, highpass = k_and_poles(38.13547087602444, 0.5003270373238773)
    return np.array([[*zeros / shelf[0], *shelf / shelf[0]],
                     [1.0, -2.0, 1.0, *highpass / highpass[0]]])


def weighted_products(blocks: Iterable[np.ndarray], sample_rate: float) -> np.ndarray:
    """Returns the mean products P of K-weighted signals.

    The mixture of the signals with gains g has the power g P g; its loudness by BS.1770, without a
    gate, is -0.691 + 10 lg(g P g) LUFS.

    Args:
        blocks: The signals in adjacent blocks `(signals, channels, samples)` of any length, with
            one or two channels.
        sample_rate: In Hz, at least 8 kHz.

    Returns:
        P, `(signals, signals)`, symmetric; channels are added. Zeros without any samples.
    """
    sections, state, total, samples = _weighting(sample_rate), None, np.zeros(()), 0
    for block in blocks:
        if state is None:
            state = np.zeros((len(sections), *block.shape[:-1], 2))
        weighted, state = scipy.signal.sosfilt(sections, block, zi=state)
        total = total + np.tensordot(weighted, weighted, ((1, 2), (1, 2)))
        samples += block.shape[-1]
    return total / max(1, samples)
