"""Declares and checks the settings that noise is drawn from.

Start reading at `Ranges`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from historical_denoiser.core.checks import require, require_range
from historical_denoiser.noise.parts import BAND_HZ

# The conditions that the values of a setting can have to meet.
LIMITS: dict[str, Callable[[list], bool]] = {
    "above 0": lambda values: min(values, default=0.0) > 0.0,
    "at least 0": lambda values: min(values) >= 0.0,
    "at least 1": lambda values: min(values) >= 1.0,
    "in [0, 1]": lambda values: 0.0 <= min(values) <= max(values) <= 1.0,
    "rows of 29 levels each": lambda rows: all(len(row) == len(BAND_HZ) for row in rows),
}


def between(low: float, high: float, limit: str | None = None) -> list[float]:
    """Declares a setting `[low, high]` from whose range each noise draws a value.

    Args:
        low: Default lower bound.
        high: Default upper bound.
        limit: Condition for both values, a key of `LIMITS`; None for none.
    """
    return field(default_factory=lambda: [low, high], metadata={"range": True, "limit": limit})


def chance(value: float) -> float:
    """Declares the probability that a noise has a property."""
    return field(default=value, metadata={"limit": "in [0, 1]"})


def choices(values: list[float]) -> list[float]:
    """Declares a list of positive numbers, one of which each noise draws."""
    return field(default_factory=values.copy, metadata={"limit": "above 0"})


def spectra(rows: list[list[float]]) -> list[list[float]]:
    """Declares spectra in dB per Hz: one per row, in third octaves from 32 Hz to 20 kHz."""
    return field(default_factory=lambda: [[float(level) for level in row] for row in rows],
                 metadata={"limit": "rows of 29 levels each"})


@dataclass
class Ranges:
    """Base class of the settings of a kind of noise; `FilmConfig` holds those of `noise.film`.

    Raises:
        UserError: A value violates the limit of its field; the message names the setting.
    """

    def __post_init__(self) -> None:
        kind = type(self).__name__.removesuffix("Config").lower()
        for item in fields(self):
            name, value = f"noise.{kind}.{item.name}", getattr(self, item.name)
            if item.metadata.get("range"):
                require_range(name, value)
            if limit := item.metadata.get("limit"):
                values = value if isinstance(value, list) else [value]
                require(LIMITS[limit](values), name, limit, value)
