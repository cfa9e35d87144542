"""Finds the stretches of a recording that hold noise alone: run-in and run-out grooves, pauses.

Real grooves are not steady, so noise is known by what it lacks: it lies at the recording's floor,
and nothing in it holds a pitch. Begin with `search`; `docs/noise.md` says how it decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from historical_denoiser.audio import dsp
from historical_denoiser.core.checks import UserError, require

SLOT_FRAMES = 12  # STFT frames in a slot: the 0.3 s that are judged as a whole
STEP_FRAMES = SLOT_FRAMES // 2  # from one slot to the next
# Edges of the bands: the bass is one, above it each half octave.
BAND_EDGES_HZ = (60.0, *(354.0 * 2.0 ** (0.5 * octave) for octave in range(9)))
FLOOR_QUANTILE = 0.05  # of the power over time in each bin, which is the recording's floor
MAX_ABOVE_FLOOR_DB = 8.0  # of noise that fluctuates, in the mean over bands
ALIKE_DB = 5.0  # most by which a slot differs from its stretch, RMS over bands
REMEMBERED_SLOTS = 40  # of a stretch, that the next one is compared with
MAX_LOUD_GAP = 1  # slots between two that are alike, as where crackle is dense
MAX_TONAL_GAP = 3  # slots where a path stands out by chance
PATH_FRAMES = 8  # followed along a partial: 0.2 s
LOWEST_PATH_HZ = 150.0  # rumble below this is no partial
PATH_RANGE_DB = (-5.0, 20.0)  # within which a single bin counts
PATH_NEIGHBOURS = 9  # bins, whose median a partial stands out of
MAX_SLOT_PATH_DB = 9.0
MAX_PATH_DB = 7.0  # of the median over a stretch; along paths of Gaussian noise it is 6
RIPPLE_NEIGHBOURS = 25  # bins, whose median the ripple of a spectrum stands out of
MAX_RIPPLE_DB = 15.0  # of what fluctuates as noise does
MAX_LINE_DB = 8.0  # of what does not: beyond, it is a tone
MIN_SPREAD_DB = 4.0  # of a bin over time, from quartile to quartile; of Gaussian noise it is 7
HIGHEST_HUM_HZ = 1200.0  # lines that always stand are noise up to here: hum and buzz
MAX_PAUSE_CHANGE_DB = 2.0  # of a steady pause: RMS over bands, median over slots
MAX_DISTANCE_DB = 5.0  # of a stretch from the quietest one, RMS over bands
MAX_FRAMES, MAX_SLOTS = 4000, 500  # looked at in one step, so that memory stays small
NEEDLE_SECONDS = 1.0  # of sound that may lie outside a run-in or a run-out
SILENCE_DBFS = -96.0  # below this nothing was recorded
SHORTEST_SECONDS = 0.75  # of a stretch: as much as `fit.measure` needs
LEAST_DROP_DB = 6.0  # of the noise below the louder part of the rest
DROP_BANDS = 3  # in which this is most
PROFILE_DB = 2.0  # by which a noise profile's stretch may lie above the quietest
LOWEST_RATE = 4000  # Hz
TINY = 1e-12  # of a power, so that its level fits into eight bits
PLACES = {(True, True): "whole", (True, False): "run-in", (False, True): "run-out",
          (False, False): "pause"}  # by whether a stretch is at the recording's start and end


@dataclass(frozen=True)
class NoiseSegment:
    """A stretch of noise alone in a recording."""

    start_seconds: float
    end_seconds: float
    place: str  # one of `PLACES`
    level_dbfs: float  # of the noise between 0.35 and 5.7 kHz
    # How far it lies below the rest, where this is most; infinite where there is no rest.
    below_program_db: float
    path_db: float  # by how much paths through its spectrum stand out: about 6 in Gaussian noise


def _frame_size(sample_rate: int) -> int:
    """The power of two that is closest to 46 ms, in samples."""
    return 2 ** round(np.log2(0.046 * sample_rate))


def _slot_samples(sample_rate: int) -> int:
    """The length of a slot, whose frames overlap by half."""
    return (SLOT_FRAMES + 1) * (_frame_size(sample_rate) // 2)


def _frame_levels(blocks: Iterable[np.ndarray], sample_rate: int) -> tuple[np.ndarray, int]:
    """Measures the levels of all frames from 0 to 5.7 kHz.

    Returns:
        Power per bin in whole dB, int8 `(frames, bins)`: an hour takes 41 MB. Noise of variance 1
        has 0 dB. And how many samples the blocks have.
    """
    size = _frame_size(sample_rate)
    hop = size // 2
    bins = min(int(BAND_EDGES_HZ[-1] / sample_rate * size), hop) + 1
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    levels, rest, samples = [np.zeros((0, bins), np.int8)], None, 0
    for block in blocks:
        samples += len(block)
        if not np.isfinite(block).all():
            raise UserError("the recording must be finite: it holds NaN or infinite samples")
        rest = block if rest is None else np.concatenate([rest, block])
        count = (len(rest) - size) // hop + 1
        if count < 1:
            continue
        power = np.zeros((count, bins), np.float32)
        for channel in rest.T.astype(np.float32):
            frames = np.lib.stride_tricks.sliding_window_view(channel, size)[::hop] * window
            power += np.square(np.abs(scipy.fft.rfft(frames)[:, :bins]))
        power /= 0.375 * size * rest.shape[1]  # the sum of the squared window
        levels.append(np.clip(np.round(dsp.decibels(power + TINY)), -128, 127).astype(np.int8))
        rest = rest[count * hop:]
    return np.concatenate(levels), samples


@dataclass(frozen=True)
class _Slots:
    """What is judged of each slot, in dB."""

    sample_rate: int
    samples: int  # of the recording
    frames: np.ndarray  # int8 `(frames, bins)`
    levels: np.ndarray  # int8 `(slots, bins)`, medians over the slot's frames
    level: np.ndarray  # (slots,), re full scale, from 0.35 kHz on
    floor: np.ndarray  # (bins,), what each seldom falls below
    bands: np.ndarray  # (slots, bands), above the floor

    @classmethod
    def measure(cls, frames: np.ndarray, sample_rate: int, samples: int) -> _Slots:
        """Measures the levels of `_frame_levels`."""
        size = _frame_size(sample_rate)
        hz = np.arange(frames.shape[1]) * sample_rate / size
        # Clicks hardly change a median.
        middle = SLOT_FRAMES // 2
        levels = np.stack([
            np.partition(frames[start : start + SLOT_FRAMES], middle, axis=0)[middle]
            for start in range(0, len(frames) - SLOT_FRAMES + 1, STEP_FRAMES)])
        treble = 10.0 ** (0.1 * levels[:, hz >= BAND_EDGES_HZ[1]])
        level = dsp.decibels(2.0 * treble.sum(axis=1) / size / np.log(2.0))
        audible = level > SILENCE_DBFS
        floor = (np.quantile(levels[audible], FLOOR_QUANTILE, axis=0) if audible.any()
                 else np.zeros(len(hz)))
        bands = [(hz >= low) & (hz < high) for low, high in itertools.pairwise(BAND_EDGES_HZ)]
        above = [levels[:, band].mean(axis=1) - floor[band].mean() for band in bands if band.any()]
        return cls(sample_rate, samples, frames, levels, level, floor, np.stack(above, axis=1))

    @property
    def audible(self) -> np.ndarray:
        """Which slots hold more than digital silence."""
        return self.level > SILENCE_DBFS

    def span_seconds(self, run: slice) -> tuple[float, float]:
        """A run's start and end, without half a slot at each end that may hold its neighbour."""
        step = STEP_FRAMES * (_frame_size(self.sample_rate) // 2)
        start = 0 if run.start == 0 else (run.start + 1) * step
        end = self.samples if run.stop == len(self.level) else run.stop * step
        return start / self.sample_rate, end / self.sample_rate

    def seconds(self, run: slice) -> float:
        """The length of a run."""
        start, end = self.span_seconds(run)
        return end - start

    def paths_db(self, run: slice) -> np.ndarray:
        """Measures by how much paths stand out in each slot of a run, `(slots,)`."""
        hz = np.arange(len(self.floor)) * self.sample_rate / _frame_size(self.sample_rate)
        part = self._frames_of(run)
        low, usual, high = np.quantile(part[:: 1 + len(part) // MAX_FRAMES], (0.25, 0.5, 0.75),
                                       axis=0).astype(np.float32)
        # A ripple is noise's own, as what stands out of it fluctuates as noise does. So is hum,
        # which always stands. What else holds is a tone.
        ripple = np.where(high - low > MIN_SPREAD_DB, MAX_RIPPLE_DB, MAX_LINE_DB)
        around = ndimage.median_filter(usual, RIPPLE_NEIGHBOURS, mode="nearest") + ripple
        highest = np.maximum(around, np.where(hz < HIGHEST_HUM_HZ, self.floor, -np.inf))
        own, found = np.minimum(usual, highest).astype(np.float32), []
        for start in range(run.start, run.stop, MAX_SLOTS):
            few = self._frames_of(slice(start, min(start + MAX_SLOTS, run.stop)))
            paths = _path_db((few - own)[:, hz >= LOWEST_PATH_HZ])
            inside = np.lib.stride_tricks.sliding_window_view(paths, SLOT_FRAMES - PATH_FRAMES + 1)
            found.append(np.median(inside[::STEP_FRAMES], axis=1))
        return np.concatenate(found)

    def _frames_of(self, run: slice) -> np.ndarray:
        return self.frames[run.start * STEP_FRAMES : (run.stop - 1) * STEP_FRAMES + SLOT_FRAMES]


def _path_db(levels_db: np.ndarray) -> np.ndarray:
    """Follows the path through each few frames that stands out most, as a partial does.

    From one frame to the next it moves by one bin at most: 0.9 kHz in a second. It is the sum over
    the path that decides, found by dynamic programming, as trackers of pitch do.

    Args:
        levels_db: `(frames, bins)`, above what is usual.

    Returns:
        The mean over the best path from each frame on, `(frames - PATH_FRAMES + 1,)`.
    """
    around = ndimage.median_filter(levels_db, size=(1, PATH_NEIGHBOURS), mode="nearest")
    height = np.clip(levels_db - around, *PATH_RANGE_DB)
    count = len(height) - PATH_FRAMES + 1
    total = height[:count]
    for later in range(1, PATH_FRAMES):
        total = ndimage.maximum_filter1d(total, 3, axis=1) + height[later : later + count]
    return total.max(axis=1) / PATH_FRAMES


def _rms(values: np.ndarray) -> np.ndarray:
    """The RMS over the last axis."""
    return np.sqrt(np.mean(np.square(values), axis=-1))


def _runs_alike(slots: _Slots) -> Iterator[slice]:
    """Yields stretches at the floor whose bands stay alike, but for a slot here and there."""
    low = slots.audible & (slots.bands.mean(axis=1) <= MAX_ABOVE_FLOOR_DB)
    start = 0
    while start < len(low):
        inside, stop, place = [slots.bands[start]], start + 1, start + 1
        while low[start] and place < len(low) and place - stop <= MAX_LOUD_GAP:
            usual = np.median(inside[-REMEMBERED_SLOTS:], axis=0)
            if low[place] and _rms(slots.bands[place] - usual) <= ALIKE_DB:
                inside.append(slots.bands[place])
                stop = place + 1
            place += 1
        if low[start]:
            yield slice(start, stop)
        start = stop


def _runs_without_tones(slots: _Slots, run: slice) -> Iterator[tuple[slice, float]]:
    """Yields what lies between the tones of a stretch, with the median of its paths in dB."""
    paths = slots.paths_db(run)
    is_tonal = paths > MAX_SLOT_PATH_DB
    is_noise = ~ndimage.binary_opening(is_tonal, np.ones(MAX_TONAL_GAP + 1))
    for part, in ndimage.find_objects(ndimage.label(is_noise)[0]):
        inside = part.start + np.flatnonzero(~is_tonal[part])
        if len(inside):  # it neither begins nor ends with a tone
            first, stop = int(inside[0]), int(inside[-1]) + 1
            yield (slice(run.start + first, run.start + stop),
                   float(np.median(paths[first:stop])))


def _joined(parts: Iterable[tuple[slice, float]]) -> list[tuple[slice, float]]:
    """Joins stretches that follow on each other, as where the level swings slowly."""
    joined: list[tuple[slice, float]] = []
    for run, path_db in parts:
        if joined and run.start - joined[-1][0].stop <= MAX_LOUD_GAP:
            before, before_db = joined.pop()
            run, path_db = slice(before.start, run.stop), max(before_db, path_db)
        joined.append((run, path_db))
    return joined


def _places(slots: _Slots, runs: list[slice]) -> list[str]:
    """Names where each run lies."""
    outside = slots.audible & ~_inside(slots, runs)
    few = NEEDLE_SECONDS / slots.span_seconds(slice(0, 1))[1]
    return [PLACES[outside[:run.start].sum() <= few, outside[run.stop:].sum() <= few]
            for run in runs]


def _inside(slots: _Slots, runs: list[slice]) -> np.ndarray:
    """Which slots are in any of the runs."""
    inside = np.zeros(len(slots.level), bool)
    for run in runs:
        inside[run] = True
    return inside


def _drops_db(slots: _Slots, runs: list[slice]) -> np.ndarray:
    """How far runs lie below the louder part of the rest, in the bands where this is most."""
    rest = slots.audible & ~_inside(slots, runs)
    if not rest.any():
        return np.full(len(runs), np.inf)
    loud = np.quantile(slots.bands[rest], 0.75, axis=0)
    drops = np.stack([loud - np.median(slots.bands[run], axis=0) for run in runs])
    return np.sort(drops, axis=1)[:, -DROP_BANDS:].mean(axis=1)


def _is_steady(slots: _Slots, run: slice) -> bool:
    usual = np.median(slots.bands[run], axis=0)
    return bool(np.median(_rms(slots.bands[run] - usual)) <= MAX_PAUSE_CHANGE_DB)


def _choose(slots: _Slots, min_seconds: float, min_drop_db: float,
            ) -> tuple[list[NoiseSegment], str]:
    """Picks the noise among a recording's slots; says why there is none."""
    if not slots.audible.any():
        return [], "there is only digital silence"
    alike = list(_runs_alike(slots))
    longest = max(map(slots.seconds, alike), default=0.0)
    if longest < min_seconds:
        return [], (f"what may be noise alone lasts {longest:.2f} s at most, less than the "
                    f"{min_seconds:g} s that are asked for")
    parts = [part for run in alike if slots.seconds(run) >= min_seconds
             for part in _runs_without_tones(slots, run)]
    quiet = [(run, path_db) for run, path_db in parts
             if path_db <= MAX_PATH_DB and slots.seconds(run) >= min_seconds]
    if not quiet:
        return [], "tones, voices or hum stand out of the noise everywhere"
    spectra = [np.median(slots.bands[run], axis=0) for run, _ in quiet]
    lowest = min(spectra, key=np.mean)
    like_it = _joined(part for part, spectrum in zip(quiet, spectra, strict=True)
                      if _rms(spectrum - lowest) <= MAX_DISTANCE_DB)
    runs = [run for run, _ in like_it]
    drops = _drops_db(slots, runs)
    if max(drops) < min_drop_db:
        level_db = np.median(slots.level[runs[int(np.argmax(drops))]])
        return [], (f"its quietest noise, at {level_db:.0f} dBFS, lies {max(drops):.1f} dB below "
                    f"the rest; what lies less than {min_drop_db:g} dB below it may be sound")
    places = _places(slots, runs)
    has_end = any(place != "pause" for place in places)
    found = [NoiseSegment(*slots.span_seconds(run), place, float(np.median(slots.level[run])),
                          float(drop), path_db)
             for (run, path_db), place, drop in zip(like_it, places, drops, strict=True)
             if drop >= min_drop_db and (has_end or _is_steady(slots, run))]
    return found, "" if found else ("its noise never stays the same: what changes inside a "
                                    "recording may be sound")


def choose_profile(found: Iterable[NoiseSegment], min_seconds: float = 0.0,
                   ) -> NoiseSegment | None:
    """Returns the stretch that serves best as a noise profile, if any is long enough.

    That is one at an end of the recording, where there is any: in a pause, soft sound may have been
    taken for noise. So it is the longest of those that lie about as far below the programme as the
    quietest does.
    """
    # Where all is alike nothing tells noise from sound: a steady tone would pass for hum alone.
    found = [each for each in found if each.place != "whole"
             and each.end_seconds - each.start_seconds >= min_seconds]
    found = [each for each in found if each.place != "pause"] or found
    drop_db = max((each.below_program_db for each in found), default=0.0) - PROFILE_DB
    return max((each for each in found if each.below_program_db >= drop_db),
               key=lambda each: each.end_seconds - each.start_seconds, default=None)


def search(blocks: Iterable[np.ndarray], sample_rate: int, min_seconds: float = SHORTEST_SECONDS,
           min_drop_db: float = LEAST_DROP_DB) -> tuple[list[NoiseSegment], str]:
    """Finds stretches that hold noise alone, and says why there are none; see the function below.

    Returns:
        The stretches; and where there are none, the reason, else nothing.
    """
    require(sample_rate >= LOWEST_RATE, "sample_rate", f"at least {LOWEST_RATE}", sample_rate)
    frames, samples = _frame_levels(blocks, sample_rate)
    if len(frames) < SLOT_FRAMES:
        return [], (f"{samples / sample_rate:.2f} s are too short: "
                    f"{_slot_samples(sample_rate) / sample_rate:.2f} s are judged at once")
    return _choose(_Slots.measure(frames, sample_rate, samples), min_seconds, min_drop_db)


def find_noise_segments(blocks: Iterable[np.ndarray], sample_rate: int,
                        min_seconds: float = SHORTEST_SECONDS,
                        min_drop_db: float = LEAST_DROP_DB) -> list[NoiseSegment]:
    """Finds stretches that hold noise alone: run-in and run-out grooves, pauses.

    Noise need not be steady. It lies at the floor of the recording, which is what each frequency
    seldom falls below, or under it; no partial stands out of it for 0.2 s, be its pitch held or
    gliding; and the louder part of the rest lies well above it. Inside a recording it is steady as
    well, or like the noise at one of the ends.

    Args:
        blocks: The recording, piece by piece: float arrays `(samples, channels)` of any length.
        sample_rate: Samples per second.
        min_seconds: Shortest stretch.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Raises:
        UserError: The rate is so low that it leaves no band to judge noise by, or the recording
            holds samples that are not finite.
    """
    return search(blocks, sample_rate, min_seconds, min_drop_db)[0]
