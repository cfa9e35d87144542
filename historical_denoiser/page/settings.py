"""Settings of the page in the browser."""

from __future__ import annotations

from dataclasses import dataclass, field

from historical_denoiser.core.checks import require

LARGEST_PORT = 65535


@dataclass
class AppConfig:
    """Where the page is served, and what it takes."""

    host: str = "127.0.0.1"  # this computer alone; 0.0.0.0: all that reach it by network
    port: int = 7860
    # Offered beside those of `weights`.
    weights: list[str] = field(default_factory=lambda: ["small"])
    largest_mb: int = 500  # of an upload
    longest_minutes: float = 60.0  # of a recording
    # Of all its channels together; an hour of stereo at 48 kHz has 346.
    most_million_samples: int = 400
    waiting: int = 20  # users in the queue; more are told to come back later
    keep_hours: float = 4.0  # after which the files of a page that stays open are deleted

    def __post_init__(self) -> None:
        require(bool(self.host), "app.host", "the name or address of this computer", self.host)
        require(1 <= self.port <= LARGEST_PORT, "app.port", f"from 1 to {LARGEST_PORT}", self.port)
        for name in ("largest_mb", "most_million_samples", "waiting"):
            require(getattr(self, name) >= 1, f"app.{name}", "at least 1", getattr(self, name))
        for name in ("longest_minutes", "keep_hours"):
            require(0.0 < getattr(self, name) < float("inf"), f"app.{name}", "above 0 and finite",
                    getattr(self, name))
