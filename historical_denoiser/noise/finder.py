"""Finds the sections of a recording that hold noise alone: run-in and run-out grooves, pauses.

Real grooves are not steady, so noise is recognised by what it lacks: it lies at the noise floor of
the recording, and it contains no tone. Start reading at `search`; `docs/noise.md` explains the
criteria.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import cut
from historical_denoiser.audio.noise_profile import MAX_SECONDS, Origin
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.noise import partials

logger = logging.getLogger(__name__)

# A slot is judged as a whole; it has 12 STFT frames, about 0.3 s, or lasts a turn of a disc. Slots
# overlap by half.
SLOT_FRAMES = 12
TURN_SECONDS = tuple(60.0 / per_minute for per_minute in (78.26, 45.0, 33.333))
# Correlation of the levels of noise that swings with the turn with those one turn later. Effects in
# films reached 0.58, grooves 0.70 to 0.81.
MIN_TURN_CORRELATION = 0.65
# Edges of the bands: the bass is one band, followed by half octaves.
BAND_EDGES_HZ = (60.0, *(354.0 * 2.0 ** (0.5 * octave) for octave in range(9)))
# Each bin's noise floor is this quantile of its level over time. The level of noise, averaged over
# bands, may lie this far above the floor.
FLOOR_QUANTILE = 0.05
MAX_ABOVE_FLOOR_DB = 8.0
# The slots of a section differ from its median of the last `REMEMBERED_SLOTS` slots by at most
# `ALIKE_DB`, an RMS over bands. `MAX_LOUD_GAP` slots in a row may be louder, as in dense crackle,
# and `MAX_TONAL_GAP` may look tonal by chance.
ALIKE_DB = 5.0
REMEMBERED_SLOTS = 40
MAX_LOUD_GAP = 1
MAX_TONAL_GAP = 3
# How far paths may stand out of one slot, and of a section as a median (`partials.measure_slots`).
# Gaussian noise reaches 6 dB.
MAX_SLOT_PATH_DB = 9.0
MAX_PATH_DB = 7.0
# A pause is steady if its RMS change over bands, as a median over slots, stays below this. Every
# section lies within `MAX_DISTANCE_DB` of the quietest one, as an RMS over bands.
MAX_PAUSE_CHANGE_DB = 2.0
MAX_DISTANCE_DB = 5.0
# This much sound may lie before a run-in or after a run-out.
NEEDLE_SECONDS = 1.0
# Below this level nothing was recorded.
SILENCE_DBFS = -96.0
# Shortest section, as long as `fit.measure` requires.
MIN_SECONDS = 0.75
# Noise must lie this far below the louder part of the rest, in the bands with the greatest drop.
MIN_DROP_DB = 6.0
DROP_BANDS = 3
# Noise goes on beneath the rest: nowhere does the noise floor of the rest lie further below it than
# this, where levels are means over `REST_BINS`. Fluctuating noise (4 dB) reaches 11 dB.
MAX_ABOVE_REST_DB = 12.0
REST_BINS = 9
# It certainly does where the floor of the rest, further than this from it, is its own level within
# this, in this share of the spectrum.
REST_SECONDS = 2.0
SAME_DB = 3.0
CERTAIN_SHARE = 0.8
# A noise profile may be this much louder, relative to the programme, than the quietest section.
PROFILE_DB = 2.0
# A profile of this length hardly changes with the section that it is measured in.
PROFILE_SECONDS = 2.0
# Lowest sample rate in Hz.
MIN_RATE = 4000
# Lower limit of a power, so that its level fits into eight bits.
TINY = 1e-12
# The key says whether a section lies at the start and at the end of the recording.
PLACES = {(True, True): "whole", (True, False): "run-in", (False, True): "run-out",
          (False, False): "pause"}


@dataclass(frozen=True)
class NoiseSegment:
    """A section of a recording that holds noise alone."""

    start_seconds: float
    end_seconds: float
    place: str  # one of `PLACES`
    level_dbfs: float  # level of the noise between 0.35 and 5.7 kHz
    # How far the section lies below the rest in the bands with the greatest drop; inf without a
    # rest.
    below_program_db: float
    path_db: float  # by how much paths stand out of its spectrum; about 6 in Gaussian noise
    # Share of the spectrum in which the noise floor of the rest is as high; 0 without a rest.
    share_beneath: float = 0.0

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.end_seconds - self.start_seconds

    @property
    def is_certain(self) -> bool:
        """Whether it is long enough for a noise profile, and certainly goes on beneath the rest."""
        return self.seconds >= PROFILE_SECONDS and self.share_beneath >= CERTAIN_SHARE


def _frame_size(sample_rate: int) -> int:
    """Returns the power of two that is closest to 46 ms, in samples."""
    return 2 ** round(np.log2(0.046 * sample_rate))


def _frame_levels(blocks: Iterable[np.ndarray], sample_rate: int) -> tuple[np.ndarray, int]:
    """Measures the levels of all frames from 0 to 5.7 kHz.

    Returns:
        Power per bin, int8 `(frames, bins)`, in whole dB relative to noise of variance 1, which
        takes 41 MB per hour; and the number of samples in all blocks.
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
    """The levels in dB by which each slot is judged."""

    sample_rate: int
    samples: int  # length of the recording
    hz: np.ndarray  # `(bins,)`, frequency of each bin
    frames: np.ndarray  # int8 `(frames, bins)`
    levels: np.ndarray  # int8 `(slots, bins)`, median over the frames of each slot
    level: np.ndarray  # `(slots,)`, dBFS, above 0.35 kHz
    floor: np.ndarray  # `(bins,)`, noise floor of each bin
    bands: np.ndarray  # `(slots, bands)`, relative to the floor
    slot_frames: int  # length of a slot in STFT frames

    @classmethod
    def measure(cls, frames: np.ndarray, sample_rate: int, samples: int,
                slot_frames: int = SLOT_FRAMES) -> _Slots:
        """Measures slots from the levels that `_frame_levels` returns."""
        size = _frame_size(sample_rate)
        hz = np.arange(frames.shape[1]) * sample_rate / size
        # A median is hardly changed by clicks.
        middle = slot_frames // 2
        levels = np.stack([
            np.partition(frames[start : start + slot_frames], middle, axis=0)[middle]
            for start in range(0, len(frames) - slot_frames + 1, slot_frames // 2)])
        treble = 10.0 ** (0.1 * levels[:, hz >= BAND_EDGES_HZ[1]])
        level = dsp.decibels(2.0 * treble.sum(axis=1) / size / np.log(2.0))
        audible = level > SILENCE_DBFS
        floor = (np.quantile(levels[audible], FLOOR_QUANTILE, axis=0) if audible.any()
                 else np.zeros(len(hz)))
        bands = [(hz >= low) & (hz < high) for low, high in itertools.pairwise(BAND_EDGES_HZ)]
        above = [levels[:, band].mean(axis=1) - floor[band].mean() for band in bands if band.any()]
        return cls(sample_rate, samples, hz, frames, levels, level, floor, np.stack(above, axis=1),
                   slot_frames)

    @property
    def audible(self) -> np.ndarray:
        """Whether each slot holds more than digital silence, `(slots,)`."""
        return self.level > SILENCE_DBFS

    def span_seconds(self, run: slice) -> tuple[float, float]:
        """Returns the start and end of a run of slots in seconds.

        Half a slot is left out at each end, since it may hold the neighbouring sound.
        """
        step = self.slot_frames // 2 * (_frame_size(self.sample_rate) // 2)
        start = 0 if run.start == 0 else (run.start + 1) * step
        end = self.samples if run.stop == len(self.level) else run.stop * step
        return start / self.sample_rate, end / self.sample_rate

    def seconds(self, run: slice) -> float:
        """Returns the duration of a run of slots."""
        start, end = self.span_seconds(run)
        return end - start

    def paths_db(self, run: slice) -> np.ndarray:
        """Measures by how much paths stand out of each slot of a run, in dB, `(slots,)`."""
        step = self.slot_frames // 2
        frames = self.frames[run.start * step : (run.stop - 1) * step + self.slot_frames]
        return partials.measure_slots(frames, self.floor, self.hz, self.slot_frames, step)


def _rms(values: np.ndarray) -> np.ndarray:
    """Returns the RMS over the last axis."""
    return np.sqrt(np.mean(np.square(values), axis=-1))


def _runs_alike(slots: _Slots) -> Iterator[slice]:
    """Yields runs of slots at the noise floor with similar bands; single slots may differ."""
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
    """Yields the parts of a run between tones, each with the median of its paths in dB."""
    paths_db = slots.paths_db(run)
    is_tonal = paths_db > MAX_SLOT_PATH_DB
    is_noise = ~scipy.ndimage.binary_opening(is_tonal, np.ones(MAX_TONAL_GAP + 1))
    for part, in scipy.ndimage.find_objects(scipy.ndimage.label(is_noise)[0]):
        inside = part.start + np.flatnonzero(~is_tonal[part])
        # A part neither begins nor ends with a tone.
        if len(inside):
            first, stop = int(inside[0]), int(inside[-1]) + 1
            found = slice(run.start + first, run.start + stop)
            yield found, float(np.median(paths_db[first:stop]))


def _joined(parts: Iterable[tuple[slice, float]]) -> list[tuple[slice, float]]:
    """Joins runs that follow each other directly, such as where the level changes slowly."""
    joined: list[tuple[slice, float]] = []
    for run, path_db in parts:
        if joined and run.start - joined[-1][0].stop <= MAX_LOUD_GAP:
            before, before_db = joined.pop()
            run, path_db = slice(before.start, run.stop), max(before_db, path_db)
        joined.append((run, path_db))
    return joined


def _places(slots: _Slots, runs: list[slice], rest: np.ndarray) -> list[str]:
    """Returns the place of each run, one of the values of `PLACES`."""
    few = NEEDLE_SECONDS / slots.span_seconds(slice(0, 1))[1]
    return [PLACES[rest[:run.start].sum() <= few, rest[run.stop:].sum() <= few] for run in runs]


def _drops_db(slots: _Slots, runs: list[slice], rest: np.ndarray) -> np.ndarray:
    """Returns how far runs lie below the louder part of the rest, in the bands that differ most."""
    if not rest.any():
        return np.full(len(runs), np.inf)
    loud = np.quantile(slots.bands[rest], 0.75, axis=0)
    drops = np.stack([loud - np.median(slots.bands[run], axis=0) for run in runs])
    return np.sort(drops, axis=1)[:, -DROP_BANDS:].mean(axis=1)


def _goes_on(slots: _Slots, runs: list[slice], rest: np.ndarray) -> list[bool]:
    """Returns for each run whether its noise goes on beneath the rest.

    A passage of rain or breath in a film does not: between the partials of the sound around it, the
    noise floor is lower. Softer slots are left out, since a recording may be faded in and out.
    """
    levels = _smooth_levels(slots)
    rest = rest & (slots.level >= min(np.median(slots.level[run]) for run in runs))
    if not rest.any():
        return [True] * len(runs)
    highest = np.quantile(levels[rest], FLOOR_QUANTILE, axis=0) + MAX_ABOVE_REST_DB
    return [bool((np.median(levels[run], axis=0) <= highest).all()) for run in runs]


def _share_beneath(slots: _Slots, run: slice, rest: np.ndarray) -> float:
    """Returns in which share of the spectrum the noise floor of the rest is that of the run."""
    reach = math.ceil(REST_SECONDS / slots.span_seconds(slice(0, 1))[1])
    distant = rest.copy()
    distant[max(0, run.start - reach) : run.stop + reach] = False
    distant &= slots.level >= np.median(slots.level[run])
    if not distant.any():
        return 0.0
    levels = _smooth_levels(slots)
    floor = np.quantile(levels[distant], FLOOR_QUANTILE, axis=0)
    return float(np.mean(np.abs(np.median(levels[run], axis=0) - floor) <= SAME_DB))


def _smooth_levels(slots: _Slots) -> np.ndarray:
    """Returns the levels of all slots above the lowest band edge, as means over `REST_BINS`."""
    levels = scipy.ndimage.uniform_filter1d(slots.levels.astype(np.float32), REST_BINS, axis=1)
    return levels[:, slots.hz >= BAND_EDGES_HZ[0]]


def _is_steady(slots: _Slots, run: slice) -> bool:
    usual = np.median(slots.bands[run], axis=0)
    return bool(np.median(_rms(slots.bands[run] - usual)) <= MAX_PAUSE_CHANGE_DB)


def _choose(slots: _Slots, min_seconds: float, min_drop_db: float,
            ) -> tuple[list[NoiseSegment], str]:
    """Chooses the slots that hold noise; if there are none, returns the reason as well."""
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
    runs, rest = [run for run, _ in like_it], slots.audible
    for run in runs:
        rest[run] = False  # what remains are the audible slots outside of all runs
    going_on = _goes_on(slots, runs, rest)
    if not any(going_on):
        return [], ("its quietest sections are no noise that goes on beneath the rest, whose noise "
                    "floor is lower")
    drops = _drops_db(slots, runs, rest)
    if max(drops) < min_drop_db:
        level_db = np.median(slots.level[runs[int(np.argmax(drops))]])
        return [], (f"its quietest noise, at {level_db:.0f} dBFS, lies {max(drops):.1f} dB below "
                    f"the rest; what lies less than {min_drop_db:g} dB below it may be sound")
    places = _places(slots, runs, rest)
    has_end = any(place != "pause" for place in places)
    found = [NoiseSegment(*slots.span_seconds(run), place, float(np.median(slots.level[run])),
                          float(drop), path_db, _share_beneath(slots, run, rest))
             for (run, path_db), place, drop, goes_on in zip(like_it, places, drops, going_on,
                                                             strict=True)
             if goes_on and drop >= min_drop_db and (has_end or _is_steady(slots, run))]
    return found, "" if found else ("its noise never stays the same: what changes inside a "
                                    "recording may be sound")


def choose_profile(found: Iterable[NoiseSegment]) -> NoiseSegment | None:
    """Returns the best of the sections that `search` found as a noise profile; None without any.

    Of the sections that lie about as far below the programme as the quietest one, those of two
    seconds are preferred, then those at an end of the recording, because a soft sound in a
    pause may be mistaken for noise, and then the longest.
    """
    # If no part of the recording differs, noise cannot be distinguished from signal: a steady tone
    # would be taken for hum.
    found = [each for each in found if each.place != "whole"]
    drop_db = max((each.below_program_db for each in found), default=0.0) - PROFILE_DB
    return max((each for each in found if each.below_program_db >= drop_db), default=None,
               key=lambda each: (each.seconds >= PROFILE_SECONDS, each.place != "pause",
                                 each.seconds))


def search(blocks: Iterable[np.ndarray], sample_rate: int, min_seconds: float = MIN_SECONDS,
           min_drop_db: float = MIN_DROP_DB) -> tuple[list[NoiseSegment], str]:
    """Finds sections that hold noise alone: run-in and run-out grooves, pauses.

    Noise need not be steady. It must lie at the noise floor of the recording or below it; no
    partial may stand out of it for 0.2 s, whether its pitch is held or gliding; and the louder part
    of the rest must lie well above it. Inside a recording, noise must also be steady, unless noise
    was found at one of the ends.

    Args:
        blocks: The recording in blocks, float arrays `(samples, channels)` of any length.
        sample_rate: Sample rate in Hz.
        min_seconds: Shortest section.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Returns:
        The sections, and the reason why there are none (empty if there are any).

    Raises:
        UserError: `sample_rate` is below 4 kHz, or a sample is not finite.
    """
    require(sample_rate >= MIN_RATE, "sample_rate", f"at least {MIN_RATE}", sample_rate)
    frames, samples = _frame_levels(blocks, sample_rate)
    if len(frames) < SLOT_FRAMES:
        slot_seconds = (SLOT_FRAMES + 1) * (_frame_size(sample_rate) // 2) / sample_rate
        return [], (f"{samples / sample_rate:.2f} s are too short: "
                    f"{slot_seconds:.2f} s are judged at once")
    found, why = _choose(_Slots.measure(frames, sample_rate, samples), min_seconds, min_drop_db)
    found = found or _search_turns(frames, sample_rate, samples, min_seconds, min_drop_db)
    return found, "" if found else why


def _search_turns(frames: np.ndarray, sample_rate: int, samples: int, min_seconds: float,
                  min_drop_db: float) -> list[NoiseSegment]:
    """Finds sections of at least two turns whose level swings in the same way from turn to turn."""
    per_second = sample_rate / (_frame_size(sample_rate) // 2)
    for turn in (round(seconds * per_second) for seconds in TURN_SECONDS):
        if len(frames) < 2 * turn:
            break
        slots = _Slots.measure(frames, sample_rate, samples, turn)
        level = frames[:, slots.hz >= BAND_EDGES_HZ[0]].mean(axis=1)
        found = []
        for each in _choose(slots, max(min_seconds, 2 * turn / per_second), min_drop_db)[0]:
            inside = level[round(each.start_seconds * per_second):
                           round(each.end_seconds * per_second)]
            if (each.place != PLACES[True, True] and np.corrcoef(
                    inside[turn:], inside[:-turn])[0, 1] >= MIN_TURN_CORRELATION):
                found.append(each)
        if found:
            return found
    return []


def find_profile(read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
                 only_certain: bool = False) -> tuple[np.ndarray | None, Origin | None, str]:
    """Finds the best section of a recording as a noise profile, and logs where it is.

    Args:
        read: Reads the recording from its start, in blocks `(samples, channels)`.
        sample_rate: Sample rate in Hz.
        only_certain: Whether only sections count that certainly are noise, of two seconds or more.

    Returns:
        Its first `MAX_SECONDS`, `(samples, channels)`, and where they are; or None twice; and the
        reason why there is none.
    """
    if sample_rate < MIN_RATE:
        return None, None, f"the sample rate is below {MIN_RATE} Hz"
    found, reason = search(read(), sample_rate)
    best = choose_profile(each for each in found if each.is_certain or not only_certain)
    if best is None:
        return None, None, reason or "the whole recording sounds alike"
    end_seconds = min(best.end_seconds, best.start_seconds + MAX_SECONDS)
    logger.info("noise profile: %.2f to %.2f s (%s)", best.start_seconds, end_seconds, best.place)
    return (cut(read(), sample_rate, best.start_seconds, end_seconds),
            Origin(best.place, end_seconds - best.start_seconds, best.start_seconds), "")
