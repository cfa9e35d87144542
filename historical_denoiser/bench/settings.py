"""Settings of the comparison of methods."""

from dataclasses import dataclass

from historical_denoiser.core.checks import require


@dataclass
class BenchConfig:
    """The sounds on which methods are compared; by default the mixtures of the test."""

    pairs: str | None = None  # folder of noisy and clean files
    recordings: str | None = None  # recording without a clean version, or a folder of such
    recording_seconds: float = 60.0  # length of each recording that is used, from its start

    def __post_init__(self) -> None:
        require(self.pairs is None or self.recordings is None, "bench.pairs",
                "left out if `bench.recordings` is given", self.pairs)
        require(1.0 <= self.recording_seconds < float("inf"), "bench.recording_seconds",
                "at least 1 and finite", self.recording_seconds)
