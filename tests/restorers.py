"""Restorers whose stages are off unless a test asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.restorer import SEGMENT_SECONDS, Restorer
from historical_denoiser.restoration.settings import StageSettings


def make_restorer(network: Callable, settings: NetworkSettings,
                  segment_seconds: float = SEGMENT_SECONDS, **stages: Any) -> Restorer:
    """Returns what restores with the stages that are named, and no others."""
    return Restorer(network, settings, StageSettings.only(**stages), segment_seconds)
