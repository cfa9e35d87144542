"""Measures by how much the paths that partials take stand out of a spectrum of noise.

A path follows a partial from frame to frame, whether its pitch is held or gliding. Start reading at
`measure_slots`.
"""

import numpy as np
import scipy

from historical_denoiser.audio.dsp import largest_around

# A path follows a partial for 8 frames (0.2 s) through bins that exceed the median of their
# neighbours; each bin counts within `PATH_RANGE_DB`. Below `MIN_PATH_HZ` there is rumble.
PATH_FRAMES = 8
MIN_PATH_HZ = 150.0
PATH_RANGE_DB = (-5.0, 20.0)
PATH_NEIGHBOURS = 9
# The noise's own spectrum is subtracted before paths are followed: its ripple relative to the
# median of the neighbouring bins, and hum below `MAX_HUM_HZ`, whose lines are always present. A
# bin that is higher than these limits is a tone. The greater limit applies to bins whose
# interquartile range over time exceeds `MIN_SPREAD_DB` (7 dB in Gaussian noise).
RIPPLE_NEIGHBOURS = 25
MAX_RIPPLE_DB = 15.0
MAX_LINE_DB = 8.0
MIN_SPREAD_DB = 4.0
MAX_HUM_HZ = 1200.0
# Upper limits of what is processed at once, to save memory.
MAX_FRAMES, MAX_SLOTS = 4000, 500


def measure_slots(frames: np.ndarray, floor: np.ndarray, hz: np.ndarray, slot_frames: int,
                  step_frames: int) -> np.ndarray:
    """Returns by how much paths stand out of each slot, in dB, `(slots,)`.

    Args:
        frames: Levels in dB, int8 `(frames, bins)`; the last slot ends with them.
        floor: Noise floor of each bin in dB, `(bins,)`.
        hz: Frequency of each bin, `(bins,)`.
        slot_frames: Frames of a slot.
        step_frames: Frames from slot to slot.
    """
    low, usual, high = np.quantile(frames[:: 1 + len(frames) // MAX_FRAMES], (0.25, 0.5, 0.75),
                                   axis=0).astype(np.float32)
    # The spectrum of the noise is subtracted first: its ripple, which fluctuates like the noise
    # itself, and hum, which is always present. Any other steady line is a tone.
    ripple = np.where(high - low > MIN_SPREAD_DB, MAX_RIPPLE_DB, MAX_LINE_DB)
    around = scipy.ndimage.median_filter(usual, RIPPLE_NEIGHBOURS, mode="nearest") + ripple
    highest = np.maximum(around, np.where(hz < MAX_HUM_HZ, floor, -np.inf))
    own, found = np.minimum(usual, highest).astype(np.float32), []
    count = (len(frames) - slot_frames) // step_frames + 1
    for start in range(0, count, MAX_SLOTS):
        stop = min(start + MAX_SLOTS, count)
        few = frames[start * step_frames : (stop - 1) * step_frames + slot_frames]
        paths = _path_db((few - own)[:, hz >= MIN_PATH_HZ])
        inside = np.lib.stride_tricks.sliding_window_view(paths, slot_frames - PATH_FRAMES + 1)
        found.append(np.median(inside[::step_frames], axis=1))
    return np.concatenate(found)


def _path_db(levels_db: np.ndarray) -> np.ndarray:
    """Follows the most prominent path through each `PATH_FRAMES` frames, as a partial would move.

    A path moves by at most one bin per frame, or 0.9 kHz per second. Dynamic programming finds the
    path with the greatest sum, as in pitch trackers.

    Args:
        levels_db: `(frames, bins)`, relative to the noise's own spectrum.

    Returns:
        Mean level of the best path that starts in each frame, `(frames - PATH_FRAMES + 1,)`.
    """
    # A partial sort takes a third of the time of scipy.ndimage.median_filter.
    middle = PATH_NEIGHBOURS // 2
    padded = np.pad(levels_db, ((0, 0), (middle, middle)), mode="edge")
    neighbours = np.lib.stride_tricks.sliding_window_view(padded, PATH_NEIGHBOURS, axis=1)
    around = np.partition(neighbours, middle)[..., middle]
    height = np.clip(levels_db - around, *PATH_RANGE_DB)
    count = len(height) - PATH_FRAMES + 1
    total = height[:count]
    for later in range(1, PATH_FRAMES):
        total = largest_around(total, 1) + height[later : later + count]
    return total.max(axis=1) / PATH_FRAMES
