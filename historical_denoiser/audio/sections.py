"""Finds where the noise of a recording changes, by what a network removes from it.

Reels of a film, sides of a set of discs and clips from an archive each have a noise of their own.
What is measured over all of it, as a noise profile or the tones of hum, fits none of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from historical_denoiser.audio import bands, dsp
from historical_denoiser.audio.survey import as_channels

FRAME_SECONDS = 0.25
FADE_SECONDS = 0.2  # from one section to the next
PIECE_SECONDS = 4.0  # over which the power of the noise is a mean
EVERY_SECONDS = 30.0  # a piece of a long recording is heard
MIN_SECONDS = 8.0  # of a section
MAX_SECTIONS = 24  # each of which has the recording read again
# How far two noises differ, in terms of how much their levels vary. It is asked for less of pieces
# that may hold a change: it is looked for there, and judged then. Chosen on 64 mixtures of 16 s of
# the validation's music and speech (docs/lab/changes.md).
MIN_DIFFERENCE, MIN_OF_PIECES, MIN_SPREAD_DB = 0.5, 0.25, 1.0
MAX_BELOW_DB = 20.0  # a noise lies below what is heard with it, or else it may be none
MIN_REMOVED_DB = -25.0  # below all that is heard: of clean sound less is removed
QUIET_PERCENTILE = 10.0  # of what is heard: at most as loud as that is the noise
MIN_HZ, BANDS_AN_OCTAVE, MAX_HZ = 60.0, 2, 16000.0
MIN_RATE = 1000  # below, there are too few bands
RANGE_DB = 60.0  # below the loudest band, where noise no longer counts


def piece_starts(samples: int, sample_rate: int) -> range:
    """Returns the first samples of the pieces of a long recording that are heard."""
    every, length = (round(seconds * sample_rate) for seconds in (EVERY_SECONDS, PIECE_SECONDS))
    return range((every - length) // 2, samples - length, every)


def band_powers(heard: np.ndarray, noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power of what is heard and of what is removed from it in half octaves.

    Args:
        heard: `(samples[, channels])`.
        noise: What is removed, in the same form.
        sample_rate: In Hz.

    Returns:
        `(frames, bands, 2)`: what is removed, and what is heard, in frames of a quarter of a
        second. What is left over at the end counts for nothing.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))
    whole = len(noise) // frame * frame
    count = int(BANDS_AN_OCTAVE * np.log2(min(MAX_HZ, sample_rate / 2.0) / MIN_HZ))
    edges_hz = MIN_HZ * 2.0 ** (np.arange(count + 1) / BANDS_AN_OCTAVE)
    edges = np.ceil(edges_hz * frame / sample_rate).astype(int)
    both = []
    for audio in (noise, heard):
        channels = as_channels(audio)[:whole].T
        powers = dsp.power_spectra(channels.reshape(len(channels), whole // frame, frame))
        both.append(bands.powers(powers.mean(axis=0, dtype=np.float64), edges) / np.diff(edges))
    return np.stack(both, axis=-1)


def changes_within(heard: np.ndarray, noise: np.ndarray, sample_rate: int) -> list[int]:
    """Returns the samples at which the noise changes; args are those of `band_powers`."""
    powers = band_powers(heard, noise, sample_rate)
    length = round(PIECE_SECONDS / FRAME_SECONDS)
    pieces = [powers[start : start + length]
              for start in range(0, len(powers) - length + 1, length)]
    changes = find_changes(pieces, round(MIN_SECONDS / PIECE_SECONDS))
    found = []
    for change, (before, after) in zip(changes, around_changes(pieces, changes), strict=True):
        place = place_change(before, np.concatenate(pieces[change - 1 : change + 1]), after)
        if place is not None:
            place += (change - 1) * length
            found.append(round(place * FRAME_SECONDS * sample_rate))
    return found


def far_apart(changes: list[int], samples: int, sample_rate: int) -> list[int]:
    """Returns the changes that leave each section of a recording a piece's length at least.

    Each was placed by itself, so that two may come to the same place, or one to an end.
    """
    least, found = round(PIECE_SECONDS * sample_rate), []
    for change in changes:
        if change - (found[-1] if found else 0) >= least and samples - change >= least:
            found.append(change)
    return found


def find_changes(pieces: list[np.ndarray], shortest: int) -> list[int]:
    """Returns the pieces with which another noise may begin.

    Neighbours whose noises are most alike become one, until all that are left differ.

    Args:
        pieces: Of each what `band_powers` returns.
        shortest: How many pieces a section holds at least.
    """
    parts = [[levels] for levels in _levels(pieces)]
    starts = list(range(len(pieces)))

    def gap(place: int) -> float:
        return _difference(*(np.concatenate(part) for part in parts[place : place + 2]))

    gaps = [gap(place) for place in range(len(parts) - 1)]
    while gaps:
        short = [place for place in range(len(gaps))
                 if min(len(parts[place]), len(parts[place + 1])) < shortest]
        most_alike = int(np.argmin(gaps))
        if gaps[most_alike] >= MIN_OF_PIECES and len(starts) <= MAX_SECTIONS:
            if not short:
                break
            most_alike = min(short, key=lambda place: gaps[place])
        parts[most_alike : most_alike + 2] = [parts[most_alike] + parts[most_alike + 1]]
        del starts[most_alike + 1], gaps[most_alike]
        for place in range(max(0, most_alike - 1), min(most_alike + 1, len(gaps))):
            gaps[place] = gap(place)
    return starts[1:]


def around_changes(pieces: list[np.ndarray], changes: list[int],
                   ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the powers of what lies before each change, and after it, up to the next one.

    The pieces next to it, which may hold some of both, are left out where there are others.
    """
    for before, change, after in zip([0, *changes], changes, [*changes[1:], len(pieces)],
                                     strict=False):
        yield (np.concatenate(pieces[before : max(before + 1, change - 1)]),
               np.concatenate(pieces[min(change + 1, after - 1) : after]))


def place_change(before: np.ndarray, between: np.ndarray, after: np.ndarray) -> int | None:
    """Returns how many frames of what lies around a change are of the noise before it.

    Args:
        before: What `band_powers` returns of the noise before.
        between: The same of what lies around the change.
        after: The same of the noise after it.

    Returns:
        None where what lies before and after that place does not differ enough.
    """
    first, frames, second = _levels([before, between, after])
    # By what is removed alone: it is there in each frame, and not only in quiet ones.
    one, other = (np.nanmean(levels[..., 0], axis=0) for levels in (first, second))
    nearer = np.abs(frames[..., 0] - other).mean(axis=1) - np.abs(frames[..., 0] - one).mean(axis=1)
    place = int(np.argmax(np.concatenate([[0.0], np.cumsum(np.nan_to_num(nearer))])))
    sides = (np.concatenate([first, frames[:place]]), np.concatenate([frames[place:], second]))
    return place if _difference(*sides) >= MIN_DIFFERENCE else None


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Returns how far two noises differ, by their levels in dB, `(frames, bands, 2)`.

    A noise is as loud as what is removed, where sound hides some of it, and at most as loud as what
    is heard in quiet moments; what is removed far below what is heard says nothing. The difference
    is the mean over bands of how far these two ranges lie apart, in terms of how much what is
    removed varies: what is taken of music comes and goes. Nothing is told of what is all but clean.
    """
    heard = [levels[~np.isnan(levels).any(axis=(1, 2))] for levels in (one, other)]
    if not all(map(len, heard)) or max(map(_removed_db, heard)) < MIN_REMOVED_DB:
        return 0.0
    least = [levels[..., 0].mean(axis=0) for levels in heard]
    most = [np.maximum(low, np.percentile(levels[..., 1], QUIET_PERCENTILE, axis=0))
            for low, levels in zip(least, heard, strict=True)]
    for low, levels in zip(least, heard, strict=True):
        low[levels[..., 1].mean(axis=0) - low > MAX_BELOW_DB] = -np.inf
    apart_db = np.maximum(np.maximum(least[0] - most[1], least[1] - most[0]), 0.0)
    spread_db = np.sqrt(np.mean([levels[..., 0].var(axis=0) for levels in heard], axis=0))
    return float(np.mean(apart_db / (spread_db + MIN_SPREAD_DB)))


def _removed_db(levels: np.ndarray) -> float:
    """Returns how far all that is removed lies below all that is heard; args as above."""
    widths = 2.0 ** (np.arange(levels.shape[1]) / BANDS_AN_OCTAVE)
    removed, heard = np.sum(widths[:, None] * 10.0 ** (levels / 10.0), axis=(0, 1))
    return dsp.decibels(removed / heard)


def _levels(pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Returns levels in dB, none far below the loudest noise of all; silence is NaN."""
    floor = max((piece[..., 0].mean(axis=0).max() for piece in pieces if len(piece)), default=0.0)
    floor = max(floor * 10.0 ** (-RANGE_DB / 10.0), np.finfo(np.float64).tiny)
    return [np.where(piece[..., 1].any(axis=1)[:, None, None],
                     dsp.decibels(piece, floor), np.nan) for piece in pieces]
