"""The settings of the browser page."""

from dataclasses import dataclass, field

from historical_denoiser.core.checks import require

MAX_PORT = 65535


@dataclass
class AppConfig:
    """The address of the page, and the limits of what it accepts."""

    host: str = "127.0.0.1"  # this computer only; 0.0.0.0 for everyone on the network
    port: int = 7860
    # Offered in addition to `weights`.
    weights: list[str] = field(default_factory=list)
    # Of the recordings of one user together: size, length,
    largest_mb: int = 2000
    longest_minutes: float = 180.0
    # and samples in all channels; three hours of stereo at 48 kHz have 1037, which are 1978 MB in
    # 16 bits.
    most_million_samples: int = 1100
    all_users_gb: float = 50.0  # size of the files of all users together
    waiting: int = 20  # users in the queue; others are asked to come back later
    keep_hours: float = 4.0  # the files of an open page are deleted after this time

    def __post_init__(self) -> None:
        require(bool(self.host), "app.host", "the name or address of this computer", self.host)
        require(1 <= self.port <= MAX_PORT, "app.port", f"from 1 to {MAX_PORT}", self.port)
        for name in ("largest_mb", "most_million_samples", "waiting"):
            require(getattr(self, name) >= 1, f"app.{name}", "at least 1", getattr(self, name))
        for name in ("longest_minutes", "keep_hours", "all_users_gb"):
            require(0.0 < getattr(self, name) < float("inf"), f"app.{name}", "above 0 and finite",
                    getattr(self, name))
