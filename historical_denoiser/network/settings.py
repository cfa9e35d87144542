"""The settings that define the form of the network."""

from dataclasses import dataclass, field, fields

from historical_denoiser.core.checks import require

MASK_SETTINGS = ("form", "depth", "channels", "dropout")  # those that apply to the form "mask"


@dataclass
class UnetConfig:
    """A network: the two-stage U-Net, whose defaults are the published form at depth 3, or one
    that masks magnitudes."""

    form: str = "two_stage"  # or "mask": `mask_unet.MaskUnet`, to which `MASK_SETTINGS` apply
    depth: int = 3  # number of downsampling steps
    num_tfc: int = 1  # 3x3 convolutions in each dense block
    num_stages: int = 2
    use_SAM: bool = True  # noqa: N815 - the published key
    use_fencoding: bool = True
    activation: str = "elu"
    channels: list[int] = field(default_factory=lambda: [32, 64, 64, 128, 128, 256, 512])
    dropout: float = 0.5  # of the two deepest levels of the form "mask"
    # Options beyond the paper, for networks that a CPU can train and run.
    extractor_kernel: int = 7  # side of the first kernel of each stage
    fold_bins: int = 1  # largest number of adjacent bins that are folded into channels
    fold_start: int = 0  # lower bins are not folded; each octave above folds twice as many
    compression: float = 1.0  # the network's input is X |X|^(compression - 1); 1 changes nothing
    use_floor: bool = False  # additional input: magnitude and noise floor of each bin
    use_steady: bool = False  # additional input: steady tones below `fold_start`, with own masks
    use_short: bool = False  # additional input and output: windows an eighth as long
    use_long: bool = False  # the same with windows four times as long, for bins below `fold_start`
    # Bins over which the output of the long view fades out below `fold_start`; 0 for an abrupt end,
    # where noise is left.
    long_fade: int = 0
    own_low: bool = False  # the bins below `fold_start` have kernels of their own
    use_profile: bool = False  # additional input: a noise profile, if one is given
    output: str = "spectrum"  # or "mask": Y = X (1 + M), starting from M = 0

    def __post_init__(self) -> None:
        folds_octaves = self.output == "mask" and self.fold_start > 0
        has_views = folds_octaves and self.fold_bins == 8 and self.fold_start % 8 == 0
        is_power_of_two = self.fold_bins & (self.fold_bins - 1) == 0
        for name, is_valid, expected in (
                *((name, getattr(self, name) >= 1, "at least 1")
                  for name in ("depth", "num_tfc", "extractor_kernel", "fold_bins")),
                ("num_stages", self.num_stages in (1, 2), "1 or 2"),
                ("channels", len(self.channels) > self.depth,
                 f"a list of more than depth={self.depth} numbers"),
                ("channels", all(count >= 1 for count in self.channels), "positive"),
                ("fold_start", self.fold_start == 0 or (
                    self.fold_start > 0 and self.fold_start % 2 == 0 and is_power_of_two),
                 "0, or an even number with `unet.fold_bins` a power of two"),
                ("compression", 0.0 < self.compression <= 1.0, "in (0, 1]"),
                ("form", self.form in ("two_stage", "mask"), "'two_stage' or 'mask'"),
                ("dropout", 0.0 <= self.dropout < 1.0, "in [0, 1)"),
                *((each.name, self.form != "mask" or each.name in MASK_SETTINGS
                   or getattr(self, each.name) == each.default, f"{each.default!r}, as the form "
                   "'mask' has no such setting") for each in fields(self)),
                ("output", self.output in ("spectrum", "mask"), "'spectrum' or 'mask'"),
                *((name, has_views or not getattr(self, name), "false, unless `unet.output` is "
                   "'mask', `unet.fold_bins` 8 and `unet.fold_start` a multiple of 8")
                  for name in ("use_short", "use_long")),
                ("long_fade", self.long_fade >= 0 and (
                    not self.use_long or self.long_fade <= self.fold_start),
                 "from 0 to `unet.fold_start`"),
                ("own_low", not self.own_low or self.fold_start > 0,
                 "false, unless `unet.fold_start` is not 0"),
                ("use_steady", not self.use_steady or folds_octaves,
                 "false, unless `unet.output` is 'mask' and `unet.fold_start` is not 0")):
            require(is_valid, f"unet.{name}", expected, getattr(self, name))
