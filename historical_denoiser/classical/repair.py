"""Repairs what a transfer or a disk lost: fills short gaps, and restores clipped peaks.

Gaps are filled from both sides with autoregressive models of high order (Janssen, Veldhuis and
Vries 1986), fitted by Burg's method. Clipped samples are restored by A-SPADE (Kitić, Bertin and
Gribonval 2015; Záviška, Rajmic, Průša and Veselý 2018): it searches the sparsest spectra that agree
with the reliable samples and lie beyond the clipping level where the recording was clipped.

A recording is processed in stretches at fixed places, each with context, so that the result does
not depend on how it is cut into blocks. Start reading at `repair`.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import in_blocks
from historical_denoiser.audio.survey import as_channels

GAPS, CLIPPING, LEFT = "gaps", "clipping", "gaps_left"
KINDS = (GAPS, CLIPPING)
STRETCH_SECONDS, MARGIN_SECONDS = 10.0, 1.0
FIRST = 20  # this many places of a kind are listed

# A gap has at least `MIN_GAP_SECONDS`. Up to the second length it is filled, up to the third named.
MIN_GAP_SECONDS, MAX_GAP_SECONDS, LONGEST_SECONDS = 0.001, 0.05, 0.5
# The sound next to a gap: over the first length it is compared with that over the second.
EDGE_SECONDS, AROUND_SECONDS = 0.002, 0.02
MAX_FADE = 0.1  # a sound that has fallen below this share of its level fades: a pause begins
STEPS = 8.0  # least change from sample to sample around constant ones, in steps of the format
DROP, MAX_DIFFERENCE = 10.0 ** (-30.0 / 20.0), 4.0  # amplitude in a dropout; that of both sides
# Gaps are only searched in sound above -80 dBFS, and dropouts above -60 dBFS.
QUIET, AUDIBLE = 1e-4, 1e-3
MODEL_SECONDS, ORDER_SECONDS = 0.19, 1000 / 44100  # the sound to which a model is fitted; its order

# Relative widths of the steps of level in which the clipping level is searched. A level is one at
# `MIN_RATIO` times as many samples as at the levels below, and few samples above.
WIDTHS = (1e-4, 1e-3, 1e-2)
LOWEST, MIN_RATIO, MAX_ABOVE = 0.1, 20.0, 0.1
MIN_CLIPPED, MIN_RUNS, RUN = 30, 3, 3  # samples, runs, and the length of most runs
MAX_SHARE = 0.95  # of loud samples of a polarity that may be clipped; more is a square wave
FRAME_SECONDS, HOPS = 0.093, 4  # of the transform, as a power of 2
TOLERANCE = 0.03  # of the sparse spectra, relative to the frame
STEP, GROWTH = 4, 16  # in each step, the spectra get a sixteenth more coefficients, at least four
BATCH = 64  # frames processed in one step


class Found:
    """What was repaired, by kind: the number of places, their samples, and the first of them."""

    def __init__(self) -> None:
        self.number: Counter[str] = Counter()
        self.samples: Counter[str] = Counter()
        self._first: dict[str, list[tuple[int, int, int]]] = defaultdict(list)

    def add(self, kind: str, start: int, samples: int, channel: int) -> None:
        """Adds one place.

        Args:
            kind: `GAPS`, `CLIPPING` or `LEFT`.
            start: Its first sample in the recording.
            samples: Its length.
            channel: Its channel, from 1.
        """
        self.number[kind] += 1
        self.samples[kind] += samples
        if len(self._first[kind]) < FIRST:
            self._first[kind].append((start, samples, channel))

    def __str__(self) -> str:
        """Returns the numbers for a log."""
        names = {GAPS: "gaps filled", LEFT: "longer gaps left", CLIPPING: "clipped peaks restored"}
        return ", ".join(f"{number} {names[kind]}" for kind, number in self.number.items()) or (
            "nothing was found")

    def describe(self, sample_rate: int) -> dict[str, Any]:
        """Returns the facts for a report."""
        return {kind: {"number": number, "seconds": round(self.samples[kind] / sample_rate, 4),
                       "first": [{"at": round(start / sample_rate, 4), "channel": channel,
                                  "seconds": round(samples / sample_rate, 5)}
                                 for start, samples, channel in self._first[kind]]}
                for kind, number in sorted(self.number.items())}


class Menders(NamedTuple):
    """The functions that repair what was found.

    Attributes:
        fill: Fills a gap, as `fill_gap`.
        declip: Restores clipped samples, as `declip`.
    """

    fill: Callable[[np.ndarray, int, int, int, int], bool]
    declip: Callable[[np.ndarray, float, float, int, int], np.ndarray]


def repair(blocks: Iterable[np.ndarray], sample_rate: int, kinds: Collection[str], found: Found,
           menders: Menders | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each block of a recording, and the repaired block.

    Args:
        blocks: Adjacent waveforms `(samples,)` or `(samples, channels)` of any length.
        sample_rate: Sample rate in Hz.
        kinds: What is repaired, of `KINDS`.
        found: What was repaired is added to it.
        menders: What repairs; by default `fill_gap` and `declip`.
    """
    if not kinds:
        yield from ((block, block) for block in blocks)
        return
    waiting: deque[np.ndarray] = deque()
    menders = menders or Menders(fill_gap, declip)

    def read() -> Iterator[np.ndarray]:
        for block in blocks:
            if len(block):
                waiting.append(block)
                yield as_channels(block)

    def mend() -> Iterator[np.ndarray]:
        for sound, inner, start in _stretches(read(), sample_rate):
            if np.isfinite(sound).all():
                sound = np.stack([_mend_channel(channel, inner, start, sample_rate, kinds, found,
                                                number, menders)
                                  for number, channel in enumerate(sound.T, 1)], axis=-1)
            yield sound[inner]

    for block, repaired in in_blocks(mend(), waiting):
        yield block, repaired.reshape(block.shape).astype(block.dtype, copy=False)


def find_damage(blocks: Iterable[np.ndarray], sample_rate: int) -> Found:
    """Finds what `repair` would repair, without the repair, which takes most of the time.

    A gap without enough sound around it counts as one that can be filled.
    """
    found = Found()
    none = Menders(lambda sound, start, stop, *_: stop - start <= MAX_GAP_SECONDS * sample_rate,
                   lambda sound, *_: sound)
    for sound, inner, start in _stretches(map(as_channels, blocks), sample_rate):
        for number, channel in enumerate(sound.T, 1):
            _mend_channel(channel, inner, start, sample_rate, KINDS, found, number, none)
    return found


def _stretches(blocks: Iterable[np.ndarray], sample_rate: int,
               ) -> Iterator[tuple[np.ndarray, slice, int]]:
    """Yields stretches with their context, where they are in it, and the place of its start."""
    size, margin = round(STRETCH_SECONDS * sample_rate), round(MARGIN_SECONDS * sample_rate)
    parts: list[np.ndarray] = []
    origin, known, done, blocks = 0, 0, 0, iter(blocks)
    while True:
        block = next(blocks, None)
        if block is not None:
            parts.append(block)
            known += len(block)
        while done < known and (block is None or known >= done + size + margin):
            sound, stop = np.concatenate(parts), min(done + size, known)
            yield (sound[:stop + margin - origin], slice(done - origin, stop - origin), origin)
            done, keep = stop, max(0, stop - margin)
            parts, origin = [sound[keep - origin:]], keep
        if block is None:
            return


def _mend_channel(sound: np.ndarray, inner: slice, origin: int, sample_rate: int,
                  kinds: Collection[str], found: Found, channel: int, menders: Menders,
                  ) -> np.ndarray:
    """Repairs one channel `(samples,)`, of which the part `inner` is used."""
    mended = sound.astype(np.float64)
    steps = np.abs(np.diff(mended))
    step = np.min(steps, where=steps > 0.0, initial=np.inf)
    if not np.isfinite(step):  # it is constant
        return mended
    places: list[tuple[str, int, int]] = []
    if GAPS in kinds:
        gaps = find_gaps(mended, steps, step, sample_rate)
        for number, (start, stop) in enumerate(gaps):
            following = gaps[number + 1][0] if number + 1 < len(gaps) else len(mended)
            is_filled = menders.fill(mended, start, stop, following, sample_rate)
            places.append((GAPS if is_filled else LEFT, start, stop - start))
    if CLIPPING in kinds:
        levels = [find_level(sign * mended, step) for sign in (1.0, -1.0)]
        high, low = (np.inf if level is None else level for level in levels)
        clipped = (mended >= high) | (mended <= -low)
        if clipped[inner].any():
            mended = menders.declip(mended, -low, high, origin, sample_rate)
            places += [(CLIPPING, int(start), int(stop - start)) for start, stop in _runs(clipped)]
    for kind, start, samples in places:
        if inner.start <= start < inner.stop:
            found.add(kind, origin + start, samples, channel)
    return mended


def _runs(mask: np.ndarray) -> np.ndarray:
    """Returns the first sample, and the one after the last, of each run of True, `(runs, 2)`."""
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


# --- Gaps ------------------------------------------------------------------------------------


def find_gaps(sound: np.ndarray, steps: np.ndarray, step: float, sample_rate: int,
              ) -> list[tuple[int, int]]:
    """Returns the first sample of each gap, and the one after its last, in rising order.

    A gap is a run of constant samples or of a level 30 dB below that of both sides, with sound that
    neither fades before it nor begins softly after it.

    Args:
        sound: `(samples,)`.
        steps: Magnitudes of the differences of adjacent samples.
        step: The smallest difference above 0.
        sample_rate: Sample rate in Hz.
    """
    edge, around = (round(seconds * sample_rate) for seconds in (EDGE_SECONDS, AROUND_SECONDS))
    least, longest = MIN_GAP_SECONDS * sample_rate, LONGEST_SECONDS * sample_rate
    held = _runs(steps == 0.0)
    held = held[(np.diff(held)[:, 0] + 1 >= least) & (np.diff(held)[:, 0] < longest)]
    gaps = []
    for start, last in held:
        before, after = sound[max(0, start - around):start], sound[last + 1:last + 1 + around]
        if min(len(before), len(after)) < around:
            continue
        nearby, levels = np.concatenate([before, after]), (before.std(), after.std())
        changes = np.abs(np.diff(before)).mean(), np.abs(np.diff(after)).mean()
        if (min(changes) >= STEPS * step and min(levels) > max(QUIET, DROP * max(levels))
                and nearby.min() < sound[start] < nearby.max()  # a clipped peak is an extreme
                and before[-edge:].std() > MAX_FADE * levels[0]
                and after[:edge].std() > MAX_FADE * levels[1]):
            gaps.append((int(start), int(last) + 1))
    held_places = np.zeros(len(sound), bool)
    for start, stop in gaps:
        held_places[start:stop] = True
    gaps += [gap for gap in _find_dropouts(sound, sample_rate)
             if not held_places[gap[0]:gap[1]].any()]
    return sorted(gaps)


def _find_dropouts(sound: np.ndarray, sample_rate: int) -> list[tuple[int, int]]:
    """Returns where the level falls by 30 dB within 2 ms, and returns as fast within 50 ms."""
    frame = max(1, round(MIN_GAP_SECONDS * sample_rate))
    level = np.sqrt(np.mean(np.square(
        sound[:len(sound) // frame * frame].reshape(-1, frame)), axis=1))
    if len(level) < 12:
        return []
    near = scipy.ndimage.uniform_filter1d(level, 4)  # of the frames k - 2 to k + 1
    gaps, done = [], 0
    falls = np.flatnonzero((level[6:] < DROP * near[3:-3]) & (near[3:-3] > AUDIBLE)) + 6
    for first in falls:
        if first < done:
            continue
        before = near[first - 3]  # of four frames; the one between may be cut in two
        over = np.flatnonzero(level[first:first + 60] > DROP * before)
        stop = first + int(over[0]) if len(over) else len(level)
        done = stop + 1
        if stop + 5 > len(level) or stop - first < 2:
            continue
        after = level[stop + 1:stop + 5].mean()
        if not 1.0 / MAX_DIFFERENCE < after / before < MAX_DIFFERENCE:
            continue
        # Where a slow wave crosses zero, the sample-to-sample differences do not fall.
        inside, *sides = (np.diff(sound[low * frame:high * frame]).std() for low, high in (
            (first, stop), (first - 5, first - 1), (stop + 1, stop + 5)))
        if inside > DROP * min(sides):
            continue
        if (stop - first + 2) * frame <= MAX_GAP_SECONDS * sample_rate:
            gaps.append(((int(first) - 1) * frame, (stop + 1) * frame))
    return gaps


def fit_burg(sound: np.ndarray, order: int) -> tuple[np.ndarray, float]:
    """Returns the prediction error filter `(1 + order,)` by Burg's method, and the error's power.

    Unlike the autocorrelation method it needs no window, and keeps tones sharp.
    """
    forward, backward = sound.copy(), sound.copy()
    model, power = np.eye(1, 1 + order)[0], float(np.mean(np.square(sound)))
    for number in range(order):
        ahead, behind = forward[1:], backward[:-1]
        total = ahead @ ahead + behind @ behind
        if total <= np.finfo(np.float64).tiny:
            break
        reflection = -2.0 * (ahead @ behind) / total
        forward, backward = ahead + reflection * behind, behind + reflection * ahead
        model[1:number + 2] += reflection * model[number::-1]
        power *= 1.0 - reflection**2
    return model, power


def fill_gap(sound: np.ndarray, start: int, stop: int, following: int, sample_rate: int) -> bool:
    """Fills a gap in place so that the prediction errors of both sides' models are least.

    The missing samples solve a Toeplitz system, as in `clicks.interpolate`.

    Args:
        sound: `(samples,)`.
        start, stop: First sample of the gap, and the one after its last.
        following: Start of the next gap.
        sample_rate: Sample rate in Hz.

    Returns:
        Whether it is at most `MAX_GAP_SECONDS` long, with enough sound around.
    """
    missing, reach = stop - start, round(MODEL_SECONDS * sample_rate)
    sides = sound[max(0, start - reach):start], sound[stop:min(stop + reach, following)]
    order = min(round(ORDER_SECONDS * sample_rate), min(map(len, sides)) // 2)
    if missing > MAX_GAP_SECONDS * sample_rate or order < missing // 4 or order < 1:
        return False
    equations, driven = np.zeros(max(missing, order + 1)), np.zeros(missing)
    known = sound[start - order:stop + order].copy()
    known[order:order + missing] = 0.0
    for side in sides:
        model, power = fit_burg(side, order)
        weights = np.correlate(model, model, "full") / max(power, np.finfo(np.float64).tiny)
        equations[:order + 1] += weights[order:]
        driven += scipy.signal.fftconvolve(known, weights, "valid")
    sound[start:stop] = scipy.linalg.solve_toeplitz(equations[:missing], -driven)
    return True


# --- Clipping --------------------------------------------------------------------------------


def find_level(sound: np.ndarray, step: float) -> float | None:
    """Returns the level from which on the samples `(samples,)` are clipped; None if none are.

    Where peaks are clipped, many samples have one level, and hardly any lie above it.

    Args:
        sound: `(samples,)`; its upper polarity is searched.
        step: The smallest difference of adjacent samples.
    """
    peak = float(sound.max())
    loud = sound[sound > LOWEST * peak] if peak > 0.0 else sound[:0]
    depth = -np.log(loud / peak) if len(loud) else loud
    for width in WIDTHS:
        counts = np.bincount((depth / width).astype(np.int64), minlength=16).astype(np.float64)
        sums = np.concatenate([[0.0], np.cumsum(counts)])
        # A level may lie on the border of two cells; ten are compared, two cells below these.
        places = np.arange(len(counts) - 14)
        at, above = sums[places + 2] - sums[places], sums[places]
        below = 0.2 * (sums[places + 14] - sums[places + 4])
        fits = (at >= MIN_CLIPPED) & (at > MIN_RATIO * below) & (above <= MAX_ABOVE * at) & (
            peak * np.exp(-(places + 2) * width) * width > 2.0 * step)
        if not fits.any():
            continue
        best = int(np.argmax(np.where(fits, at, 0.0)))
        clipped = sound > peak * np.exp(-(best + 2) * width)
        lengths = np.diff(_runs(clipped))[:, 0]
        if (len(lengths) >= MIN_RUNS and clipped.sum() < MAX_SHARE * len(loud)
                and lengths[lengths >= RUN].sum() > 0.5 * lengths.sum()):
            return float(sound[clipped].min())
    return None


def declip(sound: np.ndarray, low: float, high: float, origin: int, sample_rate: int) -> np.ndarray:
    """Returns the sound with the samples outside of (low, high) restored; they stay outside.

    Args:
        sound: `(samples,)`.
        low, high: Clipping levels.
        origin: Place of the first sample in the recording, from which the frames are counted.
        sample_rate: Sample rate in Hz.
    """
    size = 2 ** max(4, round(np.log2(FRAME_SECONDS * sample_rate)))
    hop = size // HOPS
    lead = size + origin % hop
    padded = np.pad(sound, (lead, 2 * size - (lead + len(sound)) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window = scipy.signal.get_window("hann", size)
    damaged = np.flatnonzero(((frames >= high) | (frames <= low)).any(axis=1))
    restored = frames * window
    for first in range(0, len(damaged), BATCH):
        chosen = damaged[first:first + BATCH]
        frame = restored[chosen]
        restored[chosen] = make_sparse(frame, np.where(frames[chosen] <= low, -np.inf, frame),
                                       np.where(frames[chosen] >= high, np.inf, frame))
    # Windows of Hann overlapping by three quarters sum to 1.5 when squared.
    joined = dsp.overlap_add(restored * window, hop)[lead:lead + len(sound)] / 1.5
    out = np.where(sound >= high, np.maximum(joined, sound), sound)
    return np.where(sound <= low, np.minimum(joined, sound), out)


def make_sparse(frames: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Returns frames between bounds whose spectra are sparse, by A-SPADE.

    Args:
        frames: Windowed, `(frames, samples)`.
        low, high: Bounds of each sample; equal for reliable ones.
    """
    size = 2 * frames.shape[1]  # the transform is a tight frame, of redundancy 2
    bins = size // 2 + 1
    result, active = frames.copy(), np.arange(len(frames))
    sound, low, high = (values.astype(np.float32) for values in (frames, low, high))
    limits = TOLERANCE * np.linalg.norm(sound, axis=1)
    spectra = scipy.fft.rfft(sound, size, norm="ortho")
    dual, kept = np.zeros_like(spectra), STEP
    while len(active):
        sparse = spectra + dual
        power = dsp.power_of_bins(sparse.view(np.float32).reshape(*sparse.shape, 2))
        least = np.partition(power, bins - kept, axis=1)[:, bins - kept, None]
        sparse *= power >= least
        sound = np.clip(scipy.fft.irfft(sparse - dual, size, norm="ortho")[:, :frames.shape[1]],
                        low, high)
        spectra = scipy.fft.rfft(sound, size, norm="ortho")
        rest = spectra - sparse
        is_open = np.sqrt(2.0) * np.linalg.norm(rest, axis=1) > limits
        if kept == bins:
            is_open[:] = False
        dual += rest
        if not is_open.all():
            result[active[~is_open]] = sound[~is_open]
            active, spectra, dual, low, high, limits = (
                values[is_open] for values in (active, spectra, dual, low, high, limits))
        kept = min(bins, kept + max(STEP, kept // GROWTH))
    return result
