"""Settings of the comparison of methods."""

from __future__ import annotations

from dataclasses import dataclass

from historical_denoiser.core.checks import require


@dataclass
class BenchConfig:
    """What methods are compared on."""

    pairs: str | None = None  # folder of noisy and clean files in place of the project's test
    recordings: str | None = None  # or a recording, or a folder of them, without clean targets
    recording_seconds: float = 60.0  # of each recording, from its start

    def __post_init__(self) -> None:
        require(self.pairs is None or self.recordings is None, "bench.pairs",
                "left out where `bench.recordings` is given", self.pairs)
        require(1.0 <= self.recording_seconds < float("inf"), "bench.recording_seconds",
                "at least 1 and finite", self.recording_seconds)
