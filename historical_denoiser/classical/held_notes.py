"""Restores held notes that a denoiser took for hum.

A steady tone looks like hum: a network may remove a bass note of four seconds completely. But a
note begins and ends, whereas hum continues. So the residual is searched for tones, narrow lines
that exceed the rest of the residual by far for a second. Those that are far louder in the input
than the lowest level ever measured at their frequency were not present all the time, and are put
back unchanged. So are drones, which never pause but have a fundamental that hum does not have.
Start reading at `restore_notes`.
"""

from collections.abc import Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE

WINDOW, HOP = 8192, 2048  # 186 ms; a bin is 5.4 Hz wide, a tone a few bins
MIN_HZ, MAX_HZ = 35.0, 4000.0
FIRST, LAST = (round(hz * WINDOW / SAMPLE_RATE) for hz in (MIN_HZ, MAX_HZ))
STEADY_FRAMES = 21  # 1 s, over which power is averaged
MIN_SAMPLES = WINDOW + STEADY_FRAMES * HOP  # in which a tone can be distinguished from noise
# A line exceeds this percentile of the 41 bins (220 Hz) around it by the ratio `LINE`. The
# percentile is low because many bins hold lines where several notes sound.
BESIDE_BINS = 41
BESIDE_PERCENT = 30
BESIDE_FRAMES = 4  # computed for every fourth frame only, since it takes most of the time
LINE = 10.0 ** (24.0 / 10.0)
# A band of noise can exceed it as well. But a line has a gap on both sides, which is lower by
# `NARROW` and lies within this many bins.
GAP_BINS, NARROW = 5, 10.0 ** (12.0 / 10.0)
BEGAN = 10.0 ** (25.0 / 10.0)  # power of a note over the lowest at its frequency
# Least median of a line's power over 1 s, relative to its mean: the thumps of a disc are as narrow
# as a note, but last for a fraction of a second.
LASTING = 0.3
# Below this level, relative to the loudest second, the carrier is not running. Its hum would begin
# with it, as a note does.
SILENCE = 10.0 ** (-40.0 / 10.0)
# Width of the band that is put back around a line, and duration of its fades.
WIDTH_BINS, FADE_FRAMES = 5, 5
# The bins around a line of a drone.
DRONE_BINS = np.arange(-2, 3)


def measure_floor(sounds: Sequence[np.ndarray], drones_hz: Sequence[float] | np.ndarray = (),
                  ) -> np.ndarray | None:
    """Returns the lowest power at each frequency in excerpts of a recording.

    It is 0 at the lines of drones, so that any tone there counts as a note.

    Args:
        sounds: Excerpts of one channel, each `(samples,)` at 44.1 kHz.
        drones_hz: Result of `drones.find_drones` for these excerpts.

    Returns:
        `(LAST - FIRST,)`, or None if no excerpt is long enough or all are silent.
    """
    # The last frames are left out: they reach beyond the end and so have less power.
    powers = [_steady_power(dsp.stft(sound, WINDOW, HOP)[: (len(sound) - WINDOW) // HOP + 1], 0)
              for sound in sounds if len(sound) >= MIN_SAMPLES]
    loudest = max((power.sum(axis=1).max() for power in powers), default=0.0)
    floors = [power[runs].min(axis=0) for power in powers
              if (runs := _carrier_runs(power, loudest)).any()]
    if not floors:
        return None
    floor = np.min(floors, axis=0)
    lines = np.round(np.asarray(drones_hz) * WINDOW / SAMPLE_RATE).astype(int) - FIRST
    at_drones = (lines[:, None] + DRONE_BINS).ravel()
    floor[at_drones[(at_drones >= 0) & (at_drones < len(floor))]] = 0.0
    return floor


def restore_notes(audio: np.ndarray, restored: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Adds removed notes to the restored waveform, float32 `(samples,)`.

    Args:
        audio: Input of the denoiser, `(samples,)` at 44.1 kHz.
        restored: Output of the denoiser, in the same form.
        floor: Result of `measure_floor` for the recording, at the same level.
    """
    if len(audio) < MIN_SAMPLES:
        return restored
    heard, removed = (dsp.stft(each, WINDOW, HOP) for each in (audio, audio - restored))
    is_note = _find_lines(removed) & (_steady_power(heard, 0) > BEGAN * floor)
    if not is_note.any():
        return restored
    is_note &= _lasts(removed)
    share = scipy.ndimage.maximum_filter1d(is_note.astype(np.float32), WIDTH_BINS, axis=1)
    share = scipy.ndimage.uniform_filter1d(share, FADE_FRAMES, axis=0)
    notes = np.zeros_like(removed)
    notes[:, FIRST:LAST] = share[..., None] * removed[:, FIRST:LAST]
    return (restored + dsp.istft(notes, WINDOW, HOP, len(audio))).astype(np.float32)


def _carrier_runs(power: np.ndarray, loudest: float) -> np.ndarray:
    """Returns whether the carrier runs in each frame of a power averaged over 1 s, `(frames,)`."""
    is_silent = power.sum(axis=1) <= SILENCE * loudest
    # Next to silence, the averaging over a second and the window of a frame include some of it.
    reach = 2 * (STEADY_FRAMES + WINDOW // HOP) + 1
    return ~scipy.ndimage.binary_dilation(is_silent, np.ones(reach))


def _find_lines(spectrum: np.ndarray) -> np.ndarray:
    """Returns whether there is a line in each bin of a spectrum `(frames, bins, 2)`.

    Returns:
        bool `(frames, LAST - FIRST)`.
    """
    wide = _steady_power(spectrum, GAP_BINS)
    power = wide[:, GAP_BINS:-GAP_BINS]
    beside = scipy.ndimage.percentile_filter(power[::BESIDE_FRAMES], BESIDE_PERCENT,
                                             size=(1, BESIDE_BINS), mode="reflect")
    beside = np.repeat(beside, BESIDE_FRAMES, axis=0)[: len(power)]
    # The minimum starts two bins from the line, where its main lobe ends, on the left and on the
    # right.
    bins = np.lib.stride_tricks.sliding_window_view(wide, GAP_BINS - 1, axis=1).min(axis=-1)
    gap = np.maximum(bins[:, : power.shape[1]], bins[:, -power.shape[1] :])
    peak = scipy.ndimage.maximum_filter1d(power, 3, axis=1)
    return (power > LINE * beside) & (peak > NARROW * gap)


def _lasts(spectrum: np.ndarray) -> np.ndarray:
    """Returns where each bin sounds for most of a second around, bool `(frames, LAST - FIRST)`."""
    power = dsp.power_of_bins(spectrum[:, FIRST:LAST])
    usual = scipy.ndimage.median_filter(power, (STEADY_FRAMES, 1), mode="nearest")
    lasts = usual > LASTING * _steady_power(spectrum, 0)
    return scipy.ndimage.maximum_filter1d(lasts, FADE_FRAMES, axis=0)  # to both ends of a note


def _steady_power(spectrum: np.ndarray, further_bins: int) -> np.ndarray:
    """Returns the power averaged over 1 s, `(frames, bins)`, in the range where notes are sought.

    Args:
        spectrum: `(frames, bins, 2)`.
        further_bins: Number of bins to add on both sides of the range.
    """
    power = dsp.power_of_bins(spectrum[:, FIRST - further_bins : LAST + further_bins])
    return scipy.ndimage.uniform_filter1d(power, STEADY_FRAMES, axis=0, mode="nearest")
