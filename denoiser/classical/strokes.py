"""Gives back what a denoiser takes of strokes.

The stroke of a castanet or of a typewriter's key begins in all bands at once, as a click does, and
of some bands a network removes all: the lowest ones pass for a thump. But of a click it removes
nearly all in every band, and a thump begins with nothing that it keeps. So where something begins
in many bands, and more of it is kept than is removed, what is removed of it, far louder than the
noise is known to be, belongs to it and is put back.
"""

from __future__ import annotations

import numpy as np
import scipy

from denoiser.audio import bands, dsp
from denoiser.audio.dsp import StftConfig

LOWEST_HZ, BANDS_AN_OCTAVE, BANDS = 40.0, 2, 17  # up to 14.5 kHz
# What is removed above, 5 kHz, stays away: there a click that falls on a stroke is loudest.
BANDS_GIVEN_BACK = 14
RISE_DB = 16.0  # of what is kept where a stroke begins, over what was there before or the noise
LEAST_BANDS = 0.3  # share of those with sound, in which it begins
SOUND_DB = -50.0  # below the loudest moment of all bands, a band has none
# Of what is kept over what is removed: in each band in which a stroke begins, and in all.
KEPT_IN_BAND_DB, KEPT_DB = -6.0, 0.0
REMOVED_RISE_DB = 6.0  # of what is removed where it begins
BEGIN_FRAMES = 3  # within which what is kept and what is removed begin
STROKE_SECONDS = 0.07  # so long after which what is removed belongs to none
LOUD_DB = 20.0  # of what is given back over the noise


def give_back(heard: np.ndarray, restored: np.ndarray, noise_power: np.ndarray, stft: StftConfig,
              ) -> np.ndarray:
    """Returns what was restored with what was taken of its strokes, float32 `(samples,)`.

    Args:
        heard: What the denoiser heard, `(samples,)` at 44.1 kHz.
        restored: What it made of it, in the same form.
        noise_power: Mean |N|^2 of the noise in it, `(bins,)`.
        stft: Of `noise_power`.
    """
    edges = bands.edges(stft, LOWEST_HZ, BANDS_AN_OCTAVE, BANDS)
    if len(edges) < 2:
        return restored
    kept, removed = (dsp.stft(audio, stft.win_size, stft.hop_size)
                     for audio in (restored, heard - restored))
    belongs = _belongs_to_strokes(*(bands.powers(power, edges) for power in (
        dsp.power_of_bins(kept), dsp.power_of_bins(removed), noise_power[None])), stft)
    belongs[:, BANDS_GIVEN_BACK:] = False
    if not belongs.any():
        return restored
    share = bands.spread(belongs.astype(np.float32), edges, removed.shape[1])
    strokes = dsp.istft(share[..., None] * removed, stft.win_size, stft.hop_size, len(heard))
    return (restored + strokes).astype(np.float32)


def _belongs_to_strokes(kept: np.ndarray, removed: np.ndarray, noise: np.ndarray, stft: StftConfig,
                        ) -> np.ndarray:
    """Returns where what is removed belongs to a stroke that is kept, `(frames, bands)`.

    Args:
        kept: Power of what is kept, `(frames, bands)`.
        removed: The same of what is removed.
        noise: The same of the noise in the mean, `(1, bands)`.
        stft: Of the frames.
    """
    # The first frame that reaches a click holds little of it: those around it tell.
    around = scipy.ndimage.maximum_filter1d(removed, 2 * _apart(stft) + 1, axis=0)
    has_sound = kept.max(axis=0) > _ratio(SOUND_DB) * kept.max()
    begins = (has_sound & (kept > _ratio(KEPT_IN_BAND_DB) * around)
              & (kept > _ratio(RISE_DB) * np.maximum(_before(kept, stft), noise)))
    is_stroke = scipy.ndimage.binary_dilation(
        begins.sum(axis=1) >= LEAST_BANDS * max(has_sound.sum(), 1), np.ones(BEGIN_FRAMES))
    is_kept = kept.sum(axis=1) > _ratio(KEPT_DB) * around.sum(axis=1)
    begins_removed = ((is_stroke & is_kept)[:, None]
                      & (removed > _ratio(REMOVED_RISE_DB) * _before(removed, stft)))
    frames = max(1, round(STROKE_SECONDS * dsp.SAMPLE_RATE / stft.hop_size))
    lasts = np.lib.stride_tricks.sliding_window_view(
        np.pad(begins_removed, ((frames - 1, 0), (0, 0))), frames, axis=0).any(axis=-1)
    return lasts & is_kept[:, None] & (removed > _ratio(LOUD_DB) * noise)


def _apart(stft: StftConfig) -> int:
    """Returns by how many frames those lie apart that share no sample."""
    return -(-stft.win_size // stft.hop_size)


def _before(power: np.ndarray, stft: StftConfig) -> np.ndarray:
    """Returns the larger power of the last two frames that end before each one begins.

    At the start there are none, and nothing rises.
    """
    padded = np.pad(power, ((_apart(stft) + 1, 0), (0, 0)), mode="edge")
    return np.maximum(padded[: len(power)], padded[1 : len(power) + 1])


def _ratio(level_db: float) -> float:
    """Returns a level in dB as a ratio of powers."""
    return 10.0 ** (level_db / 10.0)
