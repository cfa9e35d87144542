"""The picture of what a carrier holds, with the spectrum of a recording. Start at `draw`."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.removal import NO_LIMITS
from historical_denoiser.page import bands
from historical_denoiser.page.choices import words_of
from historical_denoiser.page.texts import TEXT

RATE, SIZE = 48000, 2**16  # of the filters that are drawn
POINTS_PER_THIRD = 8
LOBES_DB = 45.0  # the sidelobes of the filters are lower, and are not drawn
NOTHING_DB = 60.0  # a part of a recording that is softer than the rest by more is next to nothing
AXIS = "".join(f"<span>{text}</span>" for text in (
    63, 125, 250, 500, "1k", "2k", "4k", "8k", "16k"))
FIGURE = ('<figure>{picture}<div class="axis" aria-hidden="true">{axis}</div>'
          '<div class="legend">{legend}</div><figcaption>{caption}</figcaption></figure>')


def draw(carrier: str, sets: Mapping[str, Any], band_hz: Sequence[float | None] | None,
         spectrum: Sequence[float]) -> str:
    """Returns a picture and a description of what a carrier holds, as HTML.

    Args:
        carrier: Name of the carrier.
        sets: The settings that it chooses, by their names below `inference`.
        band_hz: Its band as in `inference.band_hz`.
        spectrum: That of the recording, see `bands.measure_spectrum`; empty for none.
    """
    low_hz, high_hz = band_hz or NO_LIMITS
    kept = _is_kept(len(spectrum), low_hz, high_hz)
    spectra, parts = {}, ["band"]
    for name, drawn in (("recording", kept), ("outside", ~kept)):
        if drawn.any():
            parts.append(name)
            spectra[name] = [level if each else None for level, each in zip(
                spectrum, drawn, strict=True)]
    legend = "".join(f'<span><i data-part="{part}"></i>{html.escape(getattr(TEXT.legend, part))}'
                     '</span>' for part in parts)
    caption = "".join(f"<p>{html.escape(text)}</p>" for text in (
        words_of(carrier).known, _describe_band(low_hz, high_hz), _describe_settings(sets),
        _describe_outside(np.array(spectrum), kept)) if text)
    return FIGURE.format(
        picture=bands.draw(TEXT.carrier.picture, _outline(low_hz, high_hz), **spectra), axis=AXIS,
        legend=legend, caption=caption)


def _hz_of(third: np.ndarray) -> np.ndarray:
    """Returns the frequency at a place of the picture, whose unit is a third octave."""
    return 1000.0 * 2.0 ** ((third - 0.5 * bands.THIRDS) / 3.0)


def _is_kept(thirds: int, low_hz: float | None, high_hz: float | None) -> np.ndarray:
    centres = _hz_of(np.arange(thirds) + 0.5)
    return (centres >= (low_hz or 0.0)) & (centres <= (high_hz or np.inf))


def _outline(low_hz: float | None, high_hz: float | None) -> str:
    """Returns the gain of the band limits in dB as a path."""
    gain = np.ones(SIZE // 2 + 1) if low_hz is None else dsp.highpass_gain(low_hz, RATE, SIZE)
    if high_hz is not None and high_hz < 0.5 * RATE:
        gain = gain - dsp.highpass_gain(high_hz, RATE, SIZE)
    places = np.arange(POINTS_PER_THIRD * bands.THIRDS + 1) / POINTS_PER_THIRD
    below_db = -dsp.decibels(np.square(np.interp(
        _hz_of(places), np.fft.rfftfreq(SIZE, 1.0 / RATE), gain)), bands.LOWEST_POWER)
    below_db[below_db > LOBES_DB] = bands.RANGE_DB
    points = "".join(f"L{place:g},{level:.1f}" for place, level in zip(
        places, below_db, strict=True))
    return f"M0,{bands.RANGE_DB}{points}V{bands.RANGE_DB}z"


def _describe_band(low_hz: float | None, high_hz: float | None) -> str:
    text = {(True, True): TEXT.carrier.no_limits, (True, False): TEXT.carrier.upper,
            (False, True): TEXT.carrier.lower, (False, False): TEXT.carrier.both,
            }[low_hz is None, high_hz is None]
    low, high = (f"{hz / 1000.0:g} kHz" if hz >= 1000.0 else f"{hz:g} Hz"
                 for hz in (low_hz or 0.0, high_hz or 0.0))
    return text.format(low=low, high=high)


def _describe_settings(sets: Mapping[str, Any]) -> str:
    """Returns a sentence about settings other than the band limits."""
    named = [f"{name}_{value}" for name, values in sets.items() if name != "band_hz"
             for value in (values if isinstance(values, Sequence) and not isinstance(values, str)
                           else [values])]
    texts = ", ".join(getattr(TEXT.carrier_sets, name, name) for name in named)
    return TEXT.carrier.also.format(settings=texts) if texts else ""


def _describe_outside(spectrum: np.ndarray, kept: np.ndarray) -> str:
    """Returns a sentence about what a recording has outside of the band."""
    if kept.all():
        return ""
    powers = 10.0 ** (0.1 * spectrum)
    softer = float(dsp.decibels(powers[kept].sum() / powers[~kept].sum(), bands.LOWEST_POWER))
    if softer > NOTHING_DB:
        return TEXT.carrier.nothing.format(db=f"{NOTHING_DB:.0f}")
    return (TEXT.carrier.louder if softer < 0.0 else TEXT.carrier.softer).format(
        db=f"{abs(softer):.0f}")
