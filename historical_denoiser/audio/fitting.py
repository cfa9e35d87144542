"""Chooses the strength for a recording from its noise estimate: `denoising_strength=auto`.

A network takes some bass notes for rumble or hum. Rumble and hum stay at one level, notes come and
go, and thumps are short. So the noise estimate below 60 Hz is reduced if its level is far below its
mean for part of the time, but its peaks are not those of thumps. Elsewhere all of the estimate is
removed: on mixtures with known clean sound, no other rule improved the result. Start reading at
`fit`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from historical_denoiser.audio import dsp, silence
from historical_denoiser.audio.blocks import Tape
from historical_denoiser.audio.removal import BASS_HZ, Pair, Strength
from historical_denoiser.audio.survey import Survey, as_channels

MIN_HZ = 20.0  # inaudible below
FRAME_SECONDS = 0.186
HOPS = 4  # in a frame
# First decile of the power of frames relative to the mean: lower for notes, higher for noise. These
# bounds and the next were chosen on 72 validation mixtures.
QUIETEST = (0.10, 0.15)
LOUDEST = (3.0, 9.0)  # 99th percentile relative to the mean: lower for noise, higher for thumps
MIN_SHARE = 0.4  # of the noise estimate
MIN_FRAMES = 40  # 2 s
EXCERPTS, EXCERPT_SECONDS = 3, 10.0
EXCERPTS_SECONDS = EXCERPTS * EXCERPT_SECONDS  # a shorter recording is analysed as a whole


@dataclass(frozen=True)
class Fitted:
    """The strength for a recording, and the reason for it."""

    strength: Strength
    why: str


def fit(strength: Strength, pairs: Iterable[Pair], sample_rate: int) -> Fitted:
    """Chooses the strength for a recording.

    Args:
        strength: Its `share` and `bass` are replaced, the rest stays.
        pairs: Blocks, each with its noise estimate.
        sample_rate: In Hz.
    """
    found = [_bass_powers(noise, sample_rate) for _, noise in pairs]
    powers = np.concatenate(found or [np.zeros(0)])
    full = replace(strength, share=1.0)
    if len(powers) < MIN_FRAMES or not powers.any():
        return Fitted(full, "1: the noise estimate is too short or silent")
    quietest, loudest = np.quantile(powers, (0.1, 0.99)) / powers.mean()
    share = float(np.interp(quietest, QUIETEST, (MIN_SHARE, 1.0)))
    seen = (f"the power of the noise estimate below {BASS_HZ:g} Hz has a quietest tenth of "
            f"{quietest:.2f} and a loudest hundredth of {loudest:.1f} times its mean")
    if share == 1.0 or not LOUDEST[0] < loudest < LOUDEST[1]:
        return Fitted(full, f"1: {seen}, so it is not taken for bass notes")
    share = round(share, 2)
    return Fitted(replace(full, bass=share),
                  f"1, but {share:g} below {BASS_HZ:g} Hz: {seen}, as bass notes have")


def _bass_powers(noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns the power of each frame from `MIN_HZ` to `BASS_HZ`."""
    size = max(HOPS, round(FRAME_SECONDS * sample_rate))
    if len(noise) < size or sample_rate < 2.0 * BASS_HZ:
        return np.zeros(0)
    frequencies = np.arange(size // 2 + 1) * sample_rate / size
    bass = (frequencies >= MIN_HZ) & (frequencies < BASS_HZ)
    frames = np.lib.stride_tricks.sliding_window_view(as_channels(noise), size, axis=0)
    frames = frames[:: size // HOPS]
    return np.stack([dsp.power_spectra(frame)[:, bass].sum() for frame in frames])


def excerpts(read: Callable[[], Iterable[np.ndarray]], surveyed: Survey, sample_rate: int,
             with_ends: bool = False, count: int = EXCERPTS, seconds: float = EXCERPT_SECONDS,
             ) -> list[list[np.ndarray]]:
    """Returns a few excerpts spread over a recording, or all of a short one.

    Args:
        read: Reads the recording from its start, in blocks.
        surveyed: From `survey` of all blocks.
        sample_rate: In Hz.
        with_ends: Whether one excerpt is replaced by two halves, at the beginning and at the end,
            where a groove may be audible before and after the music.
        count: Number of excerpts.
        seconds: Length of each.

    Returns:
        For each excerpt its parts, without the silence between them.
    """
    length, samples = round(seconds * sample_rate), surveyed.audible_samples
    if samples <= count * length:
        places = [(0, samples)]
    else:
        count -= with_ends
        middles = [round((number + 0.5) * samples / count) for number in range(count)]
        places = [(middle - length // 2, middle - length // 2 + length) for middle in middles]
        if with_ends:
            places = [(0, length // 2), *places, (samples - length // 2, samples)]
    parts = [silence.split(place, surveyed.silences) for place in places]
    tape, found = Tape(silence.leave_out(read(), surveyed.silences)), []
    for number, each in enumerate(parts):
        # Excerpts may overlap.
        following = min((start for later in parts[number + 1 :] for start, _ in later),
                        default=samples)
        pieces = [list(tape.play(start, stop, min(stop, following))) for start, stop in each]
        found.append([np.concatenate(piece) for piece in pieces if piece])
    return found
