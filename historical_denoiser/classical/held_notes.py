"""Gives back notes that are held, which a denoiser takes for hum.

A tone that stands still is what hum is, too: of a bass note of four seconds a network may leave
nothing. But a note begins and ends, where hum goes on. So what was removed is searched for tones:
narrow lines that stand, for a second, far above what was removed beside them. Those that are heard
far louder than the least that is ever heard at their frequency were not there all the time, and
are put back as they were. So are drones, which never pause, but have no fundamental of hum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE

WINDOW, HOP = 8192, 2048  # 186 ms: a tone is a few bins wide, of 5.4 Hz each
LOWEST_HZ, HIGHEST_HZ = 35.0, 4000.0
FIRST, LAST = (round(hz * WINDOW / SAMPLE_RATE) for hz in (LOWEST_HZ, HIGHEST_HZ))
STEADY_FRAMES = 21  # 1 s, over which the power is taken
SHORTEST_SAMPLES = WINDOW + STEADY_FRAMES * HOP  # in which a tone can be told from noise
BESIDE_BINS = 41  # 220 Hz, of which a line must stand out
BESIDE_PERCENT = 30  # of their powers: where notes sound together, many bins hold lines
BESIDE_FRAMES = 4  # for which these are taken once: it takes most of the time
LINE = 10.0 ** (24.0 / 10.0)  # power of a line over that
# A band of noise can stand out as much. Within so many bins to either side there is a gap beside a
# line, so much lower.
GAP_BINS, NARROW = 5, 10.0 ** (12.0 / 10.0)
BEGAN = 10.0 ** (25.0 / 10.0)  # its power, as it is heard, over the least that is heard there
# So far below the loudest second no carrier runs: its hum would begin with it, as a note does.
SILENCE = 10.0 ** (-40.0 / 10.0)
WIDTH_BINS, FADE_FRAMES = 5, 5  # of what is put back around a line, and over how long it fades
DRONE_BINS = np.arange(-2, 3)  # around a line of a drone


def measure_floor(sounds: Sequence[np.ndarray], drones_hz: Sequence[float] | np.ndarray = (),
                  ) -> np.ndarray | None:
    """Returns the least power that is heard at each frequency in stretches of a recording.

    At the lines of drones it is 0: whatever sounds there is a note.

    Args:
        sounds: Of one channel, each `(samples,)` at 44.1 kHz.
        drones_hz: From `drones.find_drones` of these.

    Returns:
        `(LAST - FIRST,)`, or None where no stretch is long enough, or all are silent.
    """
    # Without the last frames, which reach beyond the end and hear less there.
    powers = [_steady_power(_stft(sound)[: (len(sound) - WINDOW) // HOP + 1], 0)
              for sound in sounds if len(sound) >= SHORTEST_SAMPLES]
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


def give_back(heard: np.ndarray, restored: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Returns what was restored with the notes that were taken out of it, float32 `(samples,)`.

    Args:
        heard: What the denoiser heard, `(samples,)` at 44.1 kHz.
        restored: What it made of it, in the same form.
        floor: From `measure_floor` of the recording, at this level.
    """
    if len(heard) < SHORTEST_SAMPLES:
        return restored
    removed = _stft(heard - restored)
    is_note = _find_lines(removed) & (_steady_power(_stft(heard), 0) > BEGAN * floor)
    if not is_note.any():
        return restored
    share = scipy.ndimage.maximum_filter1d(is_note.astype(np.float32), WIDTH_BINS, axis=1)
    share = scipy.ndimage.uniform_filter1d(share, FADE_FRAMES, axis=0)
    notes = np.zeros_like(removed)
    notes[:, FIRST:LAST] = share[..., None] * removed[:, FIRST:LAST]
    return (restored + dsp.istft(notes, WINDOW, HOP, len(heard))).astype(np.float32)


def _carrier_runs(power: np.ndarray, loudest: float) -> np.ndarray:
    """Returns in which frames of a power over 1 s nothing is silent, `(frames,)`."""
    is_silent = power.sum(axis=1) <= SILENCE * loudest
    # Where silence ends, the second and the window around a frame hold some of it.
    reach = 2 * (STEADY_FRAMES + WINDOW // HOP) + 1
    return ~scipy.ndimage.binary_dilation(is_silent, np.ones(reach))


def _stft(audio: np.ndarray) -> np.ndarray:
    return dsp.stft(audio, WINDOW, HOP)


def _find_lines(spectrum: np.ndarray) -> np.ndarray:
    """Returns where there are lines in `(frames, bins, 2)`: `(frames, LAST - FIRST)`."""
    wide = _steady_power(spectrum, GAP_BINS)
    power = wide[:, GAP_BINS:-GAP_BINS]
    beside = scipy.ndimage.percentile_filter(power[::BESIDE_FRAMES], BESIDE_PERCENT,
                                             size=(1, BESIDE_BINS), mode="reflect")
    beside = np.repeat(beside, BESIDE_FRAMES, axis=0)[: len(power)]
    # The least from two bins on, where a line's own lobe ends, on the left and on the right.
    bins = np.lib.stride_tricks.sliding_window_view(wide, GAP_BINS - 1, axis=1).min(axis=-1)
    gap = np.maximum(bins[:, : power.shape[1]], bins[:, -power.shape[1] :])
    peak = scipy.ndimage.maximum_filter1d(power, 3, axis=1)
    return (power > LINE * beside) & (peak > NARROW * gap)


def _steady_power(spectrum: np.ndarray, further_bins: int) -> np.ndarray:
    """Returns the power of `(frames, bins, 2)` where notes lie, over 1 s: `(frames, bins)`."""
    power = dsp.power_of_bins(spectrum[:, FIRST - further_bins : LAST + further_bins])
    return scipy.ndimage.uniform_filter1d(power, STEADY_FRAMES, axis=0, mode="nearest")
