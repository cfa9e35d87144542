"""Restorers whose stages are off unless a test asks for them, and a batch without a program."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.separation import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import StageSettings
from historical_denoiser.run.batch import follow, one_by_one
from historical_denoiser.run.jobs import Job
from historical_denoiser.run.recording import denoise_recording


def make_restorer(network: Callable, settings: NetworkSettings,
                  segment_seconds: float = SEGMENT_SECONDS, **stages: Any) -> Restorer:
    """Returns what restores with the stages that are named, and no others."""
    return Restorer(network, settings, StageSettings.only(**stages), segment_seconds)


def denoise_all(jobs: list[Job], restorer: Restorer, strength: Any, tell: Callable[[str], object],
                note: Callable[[Job, dict[str, Any]], object] = lambda job, facts: None,
                announce: Callable[[Job], object] = lambda job: None, **others: Any,
                ) -> dict[Path, str]:
    """Denoises one recording after the other; `others` are those of `denoise_recording`."""
    restore = functools.partial(denoise_recording, restorer=restorer, strength=strength, **others)
    return follow(jobs, functools.partial(one_by_one, restore), tell, note, announce)
