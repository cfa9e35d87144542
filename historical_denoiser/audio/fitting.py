"""Which strength fits a recording, told by what was found in it: `denoising_strength=auto`.

A network takes some bass notes for rumble or hum. Rumble, hum and hiss stay at one level; notes
come and go. So what was found in the lowest octave is kept for the most part where it falls far
below its own mean for part of the time, and does not come in single thumps either. All else is
removed as it was found: on mixtures whose clean side is known, nothing else was seen that tells
what had better be left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from historical_denoiser.audio import dsp, silence
from historical_denoiser.audio.blocks import Tape
from historical_denoiser.audio.removal import BASS_HZ, Pair, Strength
from historical_denoiser.audio.survey import Survey, as_channels

logger = logging.getLogger(__name__)

MIN_HZ = 20.0  # what lies below is heard by nobody
FRAME_SECONDS = 0.186
HOPS = 4  # in a frame
# Power of the quietest tenth of frames over the mean: notes lie below the first, noise above the
# second. These and the next were chosen on 72 validation mixtures.
QUIETEST = (0.10, 0.15)
LOUDEST = (3.0, 9.0)  # the loudest hundredth over the mean: below lies noise, above thumps
MIN_SHARE = 0.4  # of what is found that is removed
MIN_FRAMES = 40  # 2 s, below which nothing can be told
EXCERPTS, EXCERPT_SECONDS = 3, 10.0
EXCERPTS_SECONDS = EXCERPTS * EXCERPT_SECONDS  # a recording no longer than this is heard whole


@dataclass(frozen=True)
class Fitted:
    """A strength that fits a recording, and why."""

    strength: Strength
    why: str


def fit(strength: Strength, pairs: Iterable[Pair], sample_rate: int) -> Fitted:
    """Fits a strength to what was found in a recording.

    Args:
        strength: Whose `share` is to be found; what else it holds stays.
        pairs: Blocks, each with all the noise that was found in it.
        sample_rate: In Hz.
    """
    powers = np.concatenate([_bass_powers(noise, sample_rate) for _, noise in pairs] or [[]])
    full = replace(strength, share=1.0)
    if len(powers) < MIN_FRAMES or not powers.any():
        return Fitted(full, "1: too little is heard to say more")
    quietest, loudest = np.quantile(powers, (0.1, 0.99)) / powers.mean()
    share = float(np.interp(quietest, QUIETEST, (MIN_SHARE, 1.0)))
    seen = (f"what was found below {BASS_HZ:g} Hz has a quietest tenth of {quietest:.2f} and a "
            f"loudest hundredth of {loudest:.1f} times its mean")
    if share == 1.0 or not LOUDEST[0] < loudest < LOUDEST[1]:
        return Fitted(full, f"1: {seen}, so it is not taken for bass notes")
    share = round(share, 2)
    return Fitted(replace(full, bass=share),
                  f"1, but {share:g} below {BASS_HZ:g} Hz: {seen}, as bass notes have")


def _bass_powers(noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power of each frame between the two lowest frequencies."""
    size = max(HOPS, round(FRAME_SECONDS * sample_rate))
    if len(noise) < size or sample_rate < 2.0 * BASS_HZ:
        return np.zeros(0)
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    heard = (frequencies >= MIN_HZ) & (frequencies < BASS_HZ)
    frames = np.lib.stride_tricks.sliding_window_view(as_channels(noise), size, axis=0)
    frames = frames[:: size // HOPS]
    return np.stack([dsp.power_spectra(frame)[:, heard].sum() for frame in frames])


def excerpts(read: Callable[[], Iterable[np.ndarray]], surveyed: Survey, sample_rate: int,
             with_ends: bool = False) -> list[list[np.ndarray]]:
    """Returns a few stretches spread over a recording, or all of a short one.

    Args:
        read: Reads the recording from its start, in blocks.
        surveyed: From `survey` of all blocks.
        sample_rate: In Hz.
        with_ends: Whether half of one of them is its beginning and half its end, where a groove
            may be heard before and after the music.

    Returns:
        Of each stretch the parts between which there is silence, which is left out.
    """
    length, samples = round(EXCERPT_SECONDS * sample_rate), surveyed.audible_samples
    if samples <= EXCERPTS * length:
        places = [(0, samples)]
    else:
        count = EXCERPTS - with_ends
        middles = [round((number + 0.5) * samples / count) for number in range(count)]
        places = [(middle - length // 2, middle - length // 2 + length) for middle in middles]
        if with_ends:
            places = [(0, length // 2), *places, (samples - length // 2, samples)]
    parts = [silence.split(place, surveyed.silences) for place in places]
    tape, found = Tape(silence.leave_out(read(), surveyed.silences)), []
    for number, each in enumerate(parts):
        # Stretches may overlap.
        following = min((start for later in parts[number + 1 :] for start, _ in later),
                        default=samples)
        pieces = [list(tape.play(start, stop, min(stop, following))) for start, stop in each]
        found.append([np.concatenate(piece) for piece in pieces if piece])
    return found
