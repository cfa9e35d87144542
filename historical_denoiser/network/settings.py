"""The settings that define the form of the network."""

from __future__ import annotations

from dataclasses import dataclass, field

from historical_denoiser.core.checks import require


@dataclass
class UnetConfig:
    """The two-stage U-Net. The defaults are the published form at depth 3."""

    depth: int = 3  # number of downsampling steps
    num_tfc: int = 1  # 3x3 convolutions in each dense block
    num_stages: int = 2
    use_SAM: bool = True  # noqa: N815 - the published key
    use_fencoding: bool = True
    activation: str = "elu"
    channels: list[int] = field(default_factory=lambda: [32, 64, 64, 128, 128, 256, 512])
    # Options beyond the paper, for networks that a CPU can train and run.
    extractor_kernel: int = 7  # side of the first kernel of each stage
    fold_bins: int = 1  # largest number of adjacent bins that are folded into channels
    fold_start: int = 0  # lower bins are not folded; each octave above folds twice as many
    compression: float = 1.0  # the network's input is X |X|^(compression - 1); 1 changes nothing
    use_floor: bool = False  # additional input: magnitude and noise floor of each bin
    use_steady: bool = False  # additional input: steady tones below `fold_start`, with own masks
    use_short: bool = False  # additional input and output: windows an eighth as long
    use_long: bool = False  # the same with windows four times as long, for bins below `fold_start`
    own_low: bool = False  # the bins below `fold_start` have kernels of their own
    use_profile: bool = False  # additional input: a noise profile, if one is given
    output: str = "spectrum"  # or "mask": Y = X (1 + M), starting from M = 0

    def __post_init__(self) -> None:
        for name in ("depth", "num_tfc", "extractor_kernel", "fold_bins"):
            value = getattr(self, name)
            require(value >= 1, f"unet.{name}", "at least 1", value)
        require(self.num_stages in (1, 2), "unet.num_stages", "1 or 2", self.num_stages)
        require(len(self.channels) > self.depth, "unet.channels",
                f"a list of more than depth={self.depth} numbers", self.channels)
        require(min(self.channels) >= 1, "unet.channels", "positive", self.channels)
        powers_of_two = self.fold_bins & (self.fold_bins - 1) == 0
        require(self.fold_start == 0
                or (self.fold_start > 0 and self.fold_start % 2 == 0 and powers_of_two),
                "unet.fold_start", "0, or an even number with `unet.fold_bins` a power of two",
                self.fold_start)
        require(0.0 < self.compression <= 1.0, "unet.compression", "in (0, 1]", self.compression)
        require(self.output in ("spectrum", "mask"), "unet.output", "'spectrum' or 'mask'",
                self.output)
        for name in ("use_short", "use_long"):
            require(not getattr(self, name) or (
                self.output == "mask" and self.fold_bins == 8 and self.fold_start > 0
                and self.fold_start % 8 == 0), f"unet.{name}", "false, unless `unet.output` is "
                "'mask', `unet.fold_bins` 8 and `unet.fold_start` a multiple of 8", True)
        require(not self.own_low or self.fold_start > 0, "unet.own_low",
                "false, unless `unet.fold_start` is not 0", self.own_low)
        require(not self.use_steady or (self.output == "mask" and self.fold_start > 0),
                "unet.use_steady", "false, unless `unet.output` is 'mask' and `unet.fold_start` "
                "is not 0", self.use_steady)
