"""Settings of the loss and of the learning rate."""

from dataclasses import dataclass, field, fields

from historical_denoiser.core.checks import require

SCHEDULES = ("step", "cosine", "minutes")


@dataclass
class LossWeights:
    """The weight of each part of the loss; `losses` has a function for each."""

    mae: float = 1.0  # mean absolute error, the loss of the paper
    compressed: float = 0.0  # squared error after a power law on the magnitudes
    over_suppression: float = 0.0  # the same, but only where the estimate is below the target
    log_spectral: float = 0.0  # log-spectral distance in bel
    multi_resolution_stft: float = 0.0  # error of the magnitudes at three resolutions
    si_sdr: float = 0.0  # minus SI-SDR in bel
    snr: float = 0.0  # minus SNR in bel
    mask: float = 0.0  # error of the ratio of magnitudes to those of the input, for cassettes


LOSS_PARTS = tuple(part.name for part in fields(LossWeights))


@dataclass
class LossConfig(LossWeights):
    """The loss: a weighted sum of parts, of the spectra of both stages."""

    exponent: float = 0.3  # of the power law of `compressed` and `over_suppression`
    erb_weighting: bool = False  # whether `compressed` weights the bins by `losses.erb_weights`
    stage1_weight: float = 1.0  # weight of the first stage's loss; that of the second stage is 1

    def __post_init__(self) -> None:
        for name in (*LOSS_PARTS, "stage1_weight"):
            require(getattr(self, name) >= 0.0, f"loss.{name}", "at least 0", getattr(self, name))
        require(any(getattr(self, name) for name in LOSS_PARTS), "loss",
                 f"a positive weight for one of {LOSS_PARTS}", "all are 0")
        require(0.0 < self.exponent <= 1.0, "loss.exponent", "in (0, 1]", self.exponent)


@dataclass
class ScheduleConfig:
    """The learning rate as a function of the step, or of the time."""

    # "step": times `factor` at each boundary; "cosine": warm-up, then a cosine; "minutes": the
    # same, but the cosine ends with `max_minutes`, however many steps there are until then.
    name: str = "step"
    boundaries_epochs: list[int] = field(default_factory=lambda: [50, 100, 125])
    factor: float = 0.1
    warmup_steps: int = 0
    final_ratio: float = 0.01  # "cosine", "minutes": the last learning rate over the greatest

    def __post_init__(self) -> None:
        require(self.name in SCHEDULES, "schedule.name", f"one of {SCHEDULES}", self.name)
        require(self.factor > 0.0, "schedule.factor", "above 0", self.factor)
        require(0.0 <= self.final_ratio <= 1.0, "schedule.final_ratio", "in [0, 1]",
                 self.final_ratio)
        require(self.warmup_steps >= 0, "schedule.warmup_steps", "at least 0", self.warmup_steps)
        require(list(self.boundaries_epochs) == sorted(set(self.boundaries_epochs)),
                 "schedule.boundaries_epochs", "increasing", self.boundaries_epochs)
