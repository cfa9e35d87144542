"""Settings of the comparison of methods."""

from __future__ import annotations

from dataclasses import dataclass

from historical_denoiser.core.checks import require


@dataclass
class BenchConfig:
    """What methods are compared on, and what is shown of it."""

    pairs: str | None = None  # folder of noisy and clean files in place of the project's test
    recordings: str | None = None  # or a recording, or a folder of them, without clean targets
    recording_seconds: float = 60.0  # of each recording, from its start
    resamples: int = 2000  # of the bootstrap
    seed: int = 0  # of the bootstrap
    page: bool = True  # whether bench.html is written
    clip_seconds: float = 4.0  # of its players, at most

    def __post_init__(self) -> None:
        require(self.pairs is None or self.recordings is None, "bench.pairs",
                "left out where `bench.recordings` is given", self.pairs)
        require(self.resamples >= 100, "bench.resamples", "at least 100", self.resamples)
        require(self.seed >= 0, "bench.seed", "at least 0", self.seed)
        for name, least in (("recording_seconds", 1.0), ("clip_seconds", 0.5)):
            require(least <= getattr(self, name) < float("inf"), f"bench.{name}",
                    f"at least {least:g} and finite", getattr(self, name))
