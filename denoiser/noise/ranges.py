"""Settings that noise is drawn from: how a range is declared, and how it is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields

from denoiser.checks import require, require_range
from denoiser.noise.parts import BAND_HZ

# What the numbers of a setting must be: the words of the error, and the check.
Limit = tuple[str, Callable[[list], bool]]
POSITIVE: Limit = ("above 0", lambda values: min(values, default=0.0) > 0.0)
NOT_NEGATIVE: Limit = ("at least 0", lambda values: min(values) >= 0.0)
SHARE: Limit = ("in [0, 1]", lambda values: 0.0 <= min(values) <= max(values) <= 1.0)
THIRD_OCTAVES: Limit = (f"rows of {len(BAND_HZ)} levels each",
                        lambda rows: all(len(row) == len(BAND_HZ) for row in rows))


def between(low: float, high: float, limit: Limit | None = None) -> list[float]:
    """Declares a setting `[low, high]`, from which each noise draws one value."""
    return field(default_factory=lambda: [low, high], metadata={"range": True, "limit": limit})


def chance(value: float) -> float:
    """Declares the chance that a noise has something."""
    return field(default=value, metadata={"limit": SHARE})


def choices(values: list[float]) -> list[float]:
    """Declares a list of positive numbers, of which each noise has one."""
    return field(default_factory=values.copy, metadata={"limit": POSITIVE})


def spectra(rows: list[list[float]]) -> list[list[float]]:
    """Declares spectra in dB per Hz: in each row the third octaves from 32 Hz to 20 kHz."""
    return field(default_factory=lambda: [[float(level) for level in row] for row in rows],
                 metadata={"limit": THIRD_OCTAVES})


class Ranges:
    """The settings of a kind of noise; those in `noise.film` are called `FilmConfig`.

    Raises:
        UserError: A value is not what its field allows; the message names the setting.
    """

    def __post_init__(self) -> None:
        kind = type(self).__name__.removesuffix("Config").lower()
        for item in fields(self):
            name, value = f"noise.{kind}.{item.name}", getattr(self, item.name)
            if item.metadata.get("range"):
                require_range(name, value)
            if item.metadata.get("limit"):
                expected, holds = item.metadata["limit"]
                require(holds(value if isinstance(value, list) else [value]), name, expected,
                        value)
