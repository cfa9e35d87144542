"""Removes noise from old recordings: `from historical_denoiser import Denoiser`.

All that is below the named files of a checkout: imported by them, importing none of them.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Loads the library when it is asked for, so that `denoise --help` need not."""
    if name == "Denoiser":
        return import_module("historical_denoiser.denoiser").Denoiser
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
