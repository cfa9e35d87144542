"""Restores noise that becomes louder and softer at one level.

A worn disc swishes at every turn, an automatic gain pumps, a transfer is faded. A network that is
told one profile, and looks for a floor within seconds, takes too little where such noise is loud
and music where it is soft. Yet where little but noise is heard, its level can be followed from
moment to moment: the recording is restored again with that level made even, and the result is given
the level back. Music, whose level changes then, is used to that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import scipy

from denoiser.audio import bands, dsp
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig

LOWEST_HZ, BANDS_AN_OCTAVE, BANDS = 100.0, 3, 22  # up to 16 kHz
BAND_SECONDS = 0.1  # over which the power in a band is a mean
# Share of what is heard in a band that is removed: up to the first it tells nothing of the noise,
# from the second on all that is heard is noise.
NOISE_SHARE = (0.6, 0.9)
LEAST_TOLD = 4.0  # bands, in the mean over frames, that must tell of the noise
LEAST_SHARE = 0.02  # of all frames, in which a band must tell of it
# The level is found over long spans first. Over a shorter one, it is that of the longer one as
# far as few bands tell of it.
SPANS_SECONDS = (6.0, 1.5, 0.4)
FEW_BANDS = 3.0
ROUNDS = 8  # of fitting the levels of bands and of moments to each other
# Root mean square below which noise is steady and as loud as is told, and by which its level must
# be another one than was thought to restore something a third time.
LEAST_CHANGES_DB = (2.0, 1.5)
# Above a profile, from which on what hardly swings is no noise that became louder: a profile is
# freed of strokes, what is removed of them is not.
STROKES_DB = 12.0
SHORTEST_SECONDS = 1.0  # of sound, in which a level can be told
LARGEST_SWING_DB = 25.0
# A level that is guessed: the quietest moments of a band are its noise, and the quietest bands of a
# moment (percentiles) tell its level, with those that lie near them.
QUIET_MOMENTS, QUIET_BANDS, NEAR_DB, GUESSED_SECONDS = 20.0, 25.0, 4.0, 0.3
LEAST_GUESSED_DB = 3.0  # root mean square; dense music comes near it
RANGE_DB = 60.0  # below the loudest band, where no noise of the carrier is heard

Restore = Callable[[np.ndarray], np.ndarray]


class Estimates:
    """What was made of some waveforms before more was known of their noise."""

    def __init__(self) -> None:
        self._found: dict[bytes, list[tuple[np.ndarray, np.ndarray]]] = {}

    def keep(self, waveforms: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Keeps what a network heard of each of `(channels, samples)`, and what it returned."""
        self._found[_digest(waveforms)] = pairs

    def find(self, waveforms: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Returns what was kept of the very same waveforms."""
        return self._found.get(_digest(waveforms))


def _digest(waveforms: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(waveforms)).digest()


def restore_at_one_level(restore: Restore, heard: np.ndarray, stft: StftConfig,
                         noise_power: np.ndarray | None = None,
                         estimate: np.ndarray | None = None) -> np.ndarray:
    """Restores a waveform, and again where the level of its noise changes.

    Args:
        restore: Takes and returns `(samples,)` at 44.1 kHz.
        heard: What is to be restored.
        stft: Of `noise_power`, and by which levels are measured.
        noise_power: Mean |N|^2 of the noise that `restore` was told of, `(bins,)`: the level is
            made that of this noise. If absent, it is made the mean of what is found.
        estimate: What was restored of it before, knowing less: where the level changes, `restore`
            is called once less.

    Returns:
        `(samples,)`.
    """
    restored, used_db = restore(heard) if estimate is None else estimate, 0.0
    level_db = noise_level(heard, restored, stft, noise_power)
    if level_db is None:  # perhaps as swinging noise passes for sound
        guessed_db = guess_level(heard, stft)
        if guessed_db is not None:
            guessed = _restore_at(guessed_db, restore, heard, stft)
            level_db = noise_level(heard, guessed, stft, noise_power)
            if level_db is not None:
                restored, used_db = guessed, guessed_db
    for least_db in LEAST_CHANGES_DB:
        if level_db is None or _change_db(level_db, used_db) < least_db:
            break
        restored, used_db = _restore_at(level_db, restore, heard, stft), level_db
        level_db = noise_level(heard, restored, stft, noise_power)
    return restore(heard) if restored is estimate else restored  # that knew less


def _change_db(level_db: np.ndarray, used_db: np.ndarray | float) -> float:
    """Returns by how much a level is another one than was thought, root mean square.

    Where it is so much louder that it may be strokes, only its swings count.
    """
    change_db = level_db - used_db
    if change_db.mean() > STROKES_DB:
        return float(change_db.std())
    return float(np.sqrt(np.mean(np.square(change_db))))


def _restore_at(level_db: np.ndarray, restore: Restore, heard: np.ndarray, stft: StftConfig,
                ) -> np.ndarray:
    """Restores what has a level in each frame as if that were 0 dB."""
    places = stft.hop_size * np.arange(len(level_db)) + stft.win_size / 2.0
    level = 10.0 ** (np.interp(np.arange(len(heard)), places, level_db) / 20.0)
    level = level.astype(np.float32)
    return level * restore(heard / level)


def guess_level(heard: np.ndarray, stft: StftConfig) -> np.ndarray | None:
    """Guesses the level of a noise in each frame, in dB, by the quietest bands alone.

    Where music is in every band, that is its level and not the noise's: only what is told of a
    noise by what is restored at that level shows whether it was right.

    Args:
        heard: `(samples,)` at 44.1 kHz.
        stft: By which it is measured.

    Returns:
        `(frames,)`, as of `noise_level`, with a mean of 0 dB; None where it hardly changes.
    """
    edges = _edges(stft)
    if len(heard) < SHORTEST_SECONDS * SAMPLE_RATE or len(edges) < 2:
        return None
    power = _band_powers(_spectra(heard, stft), edges, stft)
    levels = 10.0 * np.log10(power + _nothing(power))
    moments = np.zeros(len(levels))
    for _ in range(ROUNDS):
        above = levels - np.percentile(levels - moments[:, None], QUIET_MOMENTS, axis=0)
        quiet = np.percentile(above, QUIET_BANDS, axis=1)
        near = np.exp(-0.5 * np.square((above - quiet[:, None]) / NEAR_DB))
        quiet = _smooth((near * above).sum(axis=1) / near.sum(axis=1), GUESSED_SECONDS, stft)
        moments = quiet - quiet.mean()
    if moments.std() < LEAST_GUESSED_DB:
        return None
    return np.clip(moments, -LARGEST_SWING_DB, LARGEST_SWING_DB)


def noise_level(heard: np.ndarray, restored: np.ndarray, stft: StftConfig,
                noise_power: np.ndarray | None = None) -> np.ndarray | None:
    """Returns the level of a noise in each frame, in dB, for all frequencies alike.

    Each band has a level and each moment has one, whose sum is that of what is heard where it is
    noise: a weighted fit of rank one to levels in dB.

    Args:
        heard: `(samples,)` at 44.1 kHz.
        restored: What is left of it without the noise.
        stft: By which it is measured.
        noise_power: Mean |N|^2 of the noise that stands for 0 dB, `(bins,)`; if it is absent, or
            zero wherever noise is heard, the mean of the level is 0 dB.

    Returns:
        `(frames,)`, of the frames that lie within the sound; None where too little but noise is
        heard to tell, or less than a second of all.
    """
    edges = _edges(stft)
    if len(heard) < SHORTEST_SECONDS * SAMPLE_RATE or len(edges) < 2:
        return None
    spectra = [_spectra(heard, stft), _spectra(restored, stft)]
    power, kept, removed = (_band_powers(each, edges, stft)
                            for each in (*spectra, spectra[0] - spectra[1]))
    nothing = _nothing(power)
    least, most = NOISE_SHARE
    told = np.clip((removed / (removed + kept + nothing) - least) / (most - least), 0.0, 1.0)
    told *= told.sum(axis=0) > LEAST_SHARE * len(told)
    if told.sum() < LEAST_TOLD * len(told):
        return None
    levels = 10.0 * np.log10(power + nothing)
    moments, of_bands = np.zeros(len(levels)), np.zeros(len(edges) - 1)
    in_all = told.sum(axis=0)
    for _ in range(ROUNDS):
        of_bands = (told * (levels - moments[:, None])).sum(axis=0) / np.maximum(in_all, 1e-9)
        apart = (told * (levels - of_bands)).sum(axis=1)
        moments = np.full(len(levels), apart.sum() / told.sum())
        for seconds in SPANS_SECONDS:
            moments = ((_smooth(apart, seconds, stft) + FEW_BANDS * moments)
                       / (_smooth(told.sum(axis=1), seconds, stft) + FEW_BANDS))
    if noise_power is not None:
        known = bands.powers(noise_power[None], edges)[0]
        weights = in_all * (known > nothing)  # a profile may lack what lies above some frequency
        if weights.any():
            moments += np.average(of_bands - 10.0 * np.log10(known + nothing), weights=weights)
            return np.clip(moments, -LARGEST_SWING_DB, LARGEST_SWING_DB)
    return np.clip(moments - moments.mean(), -LARGEST_SWING_DB, LARGEST_SWING_DB)


def _edges(stft: StftConfig) -> np.ndarray:
    return bands.edges(stft, LOWEST_HZ, BANDS_AN_OCTAVE, BANDS)


def _spectra(audio: np.ndarray, stft: StftConfig) -> np.ndarray:
    """Returns the frames that lie within what a network hears of a sound, `(frames, bins, 2)`."""
    audio = dsp.highpass(audio, stft.highpass_hz, SAMPLE_RATE)
    frames = 1 + (len(audio) - stft.win_size) // stft.hop_size
    return dsp.stft(audio, stft.win_size, stft.hop_size)[:frames]


def _band_powers(spectra: np.ndarray, edges: np.ndarray, stft: StftConfig) -> np.ndarray:
    return _smooth(bands.powers(dsp.power_of_bins(spectra), edges), BAND_SECONDS, stft)


def _nothing(power: np.ndarray) -> float:
    """Returns a power so far below the loudest that no noise of the carrier is heard there."""
    return float(power.max() * 10.0 ** (-RANGE_DB / 10.0) + np.finfo(np.float32).tiny)


def _smooth(values: np.ndarray, seconds: float, stft: StftConfig) -> np.ndarray:
    """Returns means of frames over so long, by a Hann window; the first and the last one go on."""
    window = np.hanning(round(seconds * SAMPLE_RATE / stft.hop_size) // 2 * 2 + 3)[1:-1]
    return scipy.ndimage.convolve1d(values, window / window.sum(), axis=0, mode="nearest")
