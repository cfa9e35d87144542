"""The strength by octaves, and the average spectra that the page draws.

Start reading at `per_band`, `filter_result` and `draw`.
"""

import html
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.inspection import band_powers
from historical_denoiser.audio.removal import Strength, remove
from historical_denoiser.page.listening import Found, measure_sounds
from historical_denoiser.page.sessions import Upload
from historical_denoiser.page.sounds import LOUDEST, Sound, write_sound

BLOCK_SECONDS = 10.0
OCTAVES_HZ = tuple(62.5 * 2.0**number for number in range(9))  # centres; 62.5 includes all below
EDGES_HZ = (0, *(round(centre / 2.0**0.5) for centre in OCTAVES_HZ[1:]))
ALL = [1.0] * len(OCTAVES_HZ)
LOWEST_POWER = 1e-12
THIRDS, RANGE_DB, HEADROOM_DB = 3 * len(OCTAVES_HZ), 70, 6  # width and height of a picture
PICTURE = '<svg class="spectra" viewBox="0 0 {} {}" preserveAspectRatio="none" {}>{}</svg>'


def per_band(strengths: Sequence[float]) -> list[list[float]] | None:
    """Returns `inference.strength_per_band` for the strength of each octave; None if all are 1."""
    pairs = [[edge, strength] for edge, strength, former in zip(
        EDGES_HZ, strengths, [None, *strengths[:-1]], strict=True) if strength != former]
    return None if list(strengths) == ALL else pairs


def strengths_of(pairs: Sequence[Sequence[float]] | None) -> list[float]:
    """Returns the strength of each octave, for a result of `per_band`."""
    return [next((strength for edge, strength in reversed(pairs or []) if edge <= centre), 1.0)
            for centre in OCTAVES_HZ]


def filter_result(found: Found, before: Sound, pairs: Sequence[Sequence[float]] | None,
                  check: Callable[[float], object]) -> None:
    """Gives a result another strength by frequency; its files are to be written again.

    Args:
        found: The result.
        before: The sound of the recording.
        pairs: A result of `per_band`.
        check: Called with the seconds written so far.
    """
    if pairs == found.settings.strength_per_band:
        return
    found.settings = replace(found.settings, strength_per_band=pairs)
    found.job, former = None, found.filtered
    mark = time.monotonic_ns()  # new files, because the player may still load from the former ones
    found.filtered = {name: filter_sound(found.folder / f"filtered_{mark}_{name}", sound, pairs,
                                         check)
                      for name, sound in {"removed": found.removed, **found.parts}.items()
                      } if pairs else {}
    used = [sound.path.name for sounds in (former, found.filtered) for sound in sounds.values()]
    for path in found.folder.glob("filtered_*"):
        if path.name.partition(".")[0] not in used:
            path.unlink()
    measure_sounds(found, before, check)


def draw(alternative: str = "", under: str = "", **spectra: Sequence[float | None]) -> str:
    """Returns a picture of spectra over each other, as SVG; `page.css` has their colours by name.

    Args:
        alternative: Text for who does not see the picture; without one, it is hidden from them.
        under: The outline of an area in the same units, as an SVG path, which is drawn first.
        spectra: Levels in third octaves from 50 Hz, in dB; None where there is nothing to draw.
    """
    levels = [level for each in spectra.values() for level in each if level is not None]
    bottom_db = max(levels, default=0.0) + HEADROOM_DB - RANGE_DB
    bars = {name: "".join(f"M{third},{RANGE_DB}v{-max(0.0, level - bottom_db):.1f}h.9V{RANGE_DB}z"
                          for third, level in enumerate(each) if level is not None)
            for name, each in spectra.items()}
    role = f'role="img" aria-label="{html.escape(alternative)}"' if alternative else (
        'aria-hidden="true"')
    paths = {"band": under} | bars
    return PICTURE.format(THIRDS, RANGE_DB, role, "".join(
        f'<path data-part="{name}" d="{path}"/>' for name, path in paths.items()))


def spectrum_of(owner: Upload | Found, sound: Sound) -> list[float]:
    """Returns the average spectrum of the sound of a recording or a result, which keeps it."""
    if owner.spectrum is None:
        owner.spectrum = measure_spectrum(sound)
    return owner.spectrum


def filter_sound(path: Path, noise: Sound, pairs: Sequence[Sequence[float]],
                 check: Callable[[float], object]) -> Sound:
    """Writes the sound of a noise at another strength by frequency.

    Args:
        path: The file to write.
        noise: The noise at strength 1 everywhere.
        pairs: Result of `per_band`.
        check: Called with the seconds written so far.
    """
    strength = Strength(1.0, tuple((edge, share) for edge, share in pairs))
    removed = remove(((block, block) for block in _read(noise)), noise.rate, strength)
    return write_sound(path, (block for _, block in removed), noise, check)


def measure_spectrum(sound: Sound) -> list[float]:
    """Returns the average powers of a sound in third octaves from 50 Hz, in dB."""
    powers = [band_powers(block, sound.rate) for block in _read(sound)]
    frames = max(1, sum(map(len, powers)))  # a very short recording has none
    level_db = dsp.decibels(sum(power.sum(axis=0) for power in powers) / frames, LOWEST_POWER)
    return level_db[:THIRDS].round(1).tolist()


def _read(sound: Sound) -> Iterator[np.ndarray]:
    """Yields blocks `(samples, channels)` of a sound."""
    count = round(BLOCK_SECONDS * sound.rate) * sound.channels
    with sound.path.open("rb") as file:
        while len(samples := np.fromfile(file, "<i2", count)):
            yield (samples / LOUDEST).astype(np.float32).reshape(-1, sound.channels)
