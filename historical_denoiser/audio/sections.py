"""Finds the times at which the noise of a recording changes, from the network's noise estimate.

Reels of a film, sides of a set of discs and clips from an archive have different noises. A noise
profile or hum frequencies that are measured over all of them would fit none. Start reading at
`changes_within`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from historical_denoiser.audio import bands, dsp
from historical_denoiser.audio.survey import as_channels

FRAME_SECONDS = 0.25
FADE_SECONDS = 0.2  # crossfade from one section to the next
PIECE_SECONDS = 4.0  # length of the pieces whose noises are compared
EVERY_SECONDS = 30.0  # distance of the pieces in a long recording
MIN_SECONDS = 8.0  # of a section
MAX_SECTIONS = 24  # the recording is read again for each
# Smallest difference of two noises, relative to the spread of their levels, and of two pieces. The
# latter is lower, as either piece may contain the change; its place is judged by the former. Chosen
# on 64 mixtures of 16 s from the validation's music and speech (docs/lab/changes.md).
MIN_DIFFERENCE, MIN_OF_PIECES, MIN_SPREAD_DB = 0.5, 0.25, 1.0
MAX_BELOW_DB = 20.0  # a noise estimate further below the recording says nothing about the noise
MIN_REMOVED_DB = -25.0  # from the recording to the noise estimate: less is removed of clean sound
QUIET_PERCENTILE = 10.0  # the noise is at most as loud as this percentile of the recording
MIN_HZ, BANDS_AN_OCTAVE, MAX_HZ = 60.0, 2, 16000.0
MIN_RATE = 1000  # sample rate in Hz; below, there are too few bands
RANGE_DB = 60.0  # from the loudest band to the lowest level that counts


def piece_starts(samples: int, sample_rate: int) -> range:
    """Returns the first samples of the pieces of a long recording that are analysed."""
    every, length = (round(seconds * sample_rate) for seconds in (EVERY_SECONDS, PIECE_SECONDS))
    return range((every - length) // 2, samples - length, every)


def band_powers(recording: np.ndarray, noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power of a recording and of its noise estimate in half octaves.

    Args:
        recording: The recording, `(samples[, channels])`.
        noise: The noise estimate, in the same shape.
        sample_rate: In Hz.

    Returns:
        `(frames, bands, 2)`: noise estimate and recording, in complete frames of `FRAME_SECONDS`.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))
    whole = len(noise) // frame * frame
    count = int(BANDS_AN_OCTAVE * np.log2(min(MAX_HZ, sample_rate / 2.0) / MIN_HZ))
    edges_hz = MIN_HZ * 2.0 ** (np.arange(count + 1) / BANDS_AN_OCTAVE)
    edges = np.ceil(edges_hz * frame / sample_rate).astype(int)
    both = []
    for audio in (noise, recording):
        channels = as_channels(audio)[:whole].T
        powers = dsp.power_spectra(channels.reshape(len(channels), whole // frame, frame))
        both.append(bands.powers(powers.mean(axis=0, dtype=np.float64), edges) / np.diff(edges))
    return np.stack(both, axis=-1)


def changes_within(recording: np.ndarray, noise: np.ndarray, sample_rate: int) -> list[int]:
    """Returns the samples at which the noise changes; args are those of `band_powers`."""
    powers = band_powers(recording, noise, sample_rate)
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
    """Returns the changes between which there is at least the length of a piece.

    Each change was placed independently: two may be at the same place, or one at an end.
    """
    least, found = round(PIECE_SECONDS * sample_rate), []
    for change in changes:
        if change - (found[-1] if found else 0) >= least and samples - change >= least:
            found.append(change)
    return found


def find_changes(pieces: list[np.ndarray], shortest: int) -> list[int]:
    """Returns the indices of pieces at which another noise may begin.

    The neighbours with the most similar noises are merged, until all that remain differ.

    Args:
        pieces: From `band_powers` for each piece.
        shortest: Smallest number of pieces in a section.
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
    """Yields the powers before and after each change, from the previous to the next change.

    The pieces next to the change, which may contain both noises, are left out if there are others.
    """
    for before, change, after in zip([0, *changes], changes, [*changes[1:], len(pieces)],
                                     strict=False):
        yield (np.concatenate(pieces[before : max(before + 1, change - 1)]),
               np.concatenate(pieces[min(change + 1, after - 1) : after]))


def place_change(before: np.ndarray, between: np.ndarray, after: np.ndarray) -> int | None:
    """Returns the number of frames around a change that belong to the noise before it.

    Args:
        before: From `band_powers`, for the noise before the change.
        between: The same for the frames around the change.
        after: The same for the noise after it.

    Returns:
        None if the noises before and after that place do not differ enough.
    """
    first, frames, second = _levels([before, between, after])
    # Only the noise estimate is used: unlike the recording, it shows the noise in each frame.
    one, other = (np.nanmean(levels[..., 0], axis=0) for levels in (first, second))
    nearer = np.abs(frames[..., 0] - other).mean(axis=1) - np.abs(frames[..., 0] - one).mean(axis=1)
    place = int(np.argmax(np.concatenate([[0.0], np.cumsum(np.nan_to_num(nearer))])))
    sides = (np.concatenate([first, frames[:place]]), np.concatenate([frames[place:], second]))
    return place if _difference(*sides) >= MIN_DIFFERENCE else None


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the difference of two noises from their levels in dB, `(frames, bands, 2)`.

    The noise estimate is a lower bound of a noise, as sound masks some of it, unless it is far
    below the recording. Quiet frames of the recording are an upper bound. The result is the mean
    over bands of the distance between the two ranges, relative to the spread of the noise estimate,
    which is large where music was removed. It is 0 for almost clean recordings.
    """
    audible = [levels[~np.isnan(levels).any(axis=(1, 2))] for levels in (one, other)]
    if not all(map(len, audible)) or max(map(_removed_db, audible)) < MIN_REMOVED_DB:
        return 0.0
    least = [levels[..., 0].mean(axis=0) for levels in audible]
    most = [np.maximum(low, np.percentile(levels[..., 1], QUIET_PERCENTILE, axis=0))
            for low, levels in zip(least, audible, strict=True)]
    for low, levels in zip(least, audible, strict=True):
        low[levels[..., 1].mean(axis=0) - low > MAX_BELOW_DB] = -np.inf
    apart_db = np.maximum(np.maximum(least[0] - most[1], least[1] - most[0]), 0.0)
    spread_db = np.sqrt(np.mean([levels[..., 0].var(axis=0) for levels in audible], axis=0))
    return float(np.mean(apart_db / (spread_db + MIN_SPREAD_DB)))


def _removed_db(levels: np.ndarray) -> float:
    """Returns the level of the noise estimate relative to the recording; args as above."""
    widths = 2.0 ** (np.arange(levels.shape[1]) / BANDS_AN_OCTAVE)
    removed, total = np.sum(widths[:, None] * 10.0 ** (levels / 10.0), axis=(0, 1))
    return dsp.decibels(removed / total)


def _levels(pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Returns levels in dB, at least `RANGE_DB` below the loudest noise; NaN for silence."""
    floor = max((piece[..., 0].mean(axis=0).max() for piece in pieces if len(piece)), default=0.0)
    floor = max(floor * 10.0 ** (-RANGE_DB / 10.0), np.finfo(np.float64).tiny)
    return [np.where(piece[..., 1].any(axis=1)[:, None, None],
                     dsp.decibels(piece, floor), np.nan) for piece in pieces]
