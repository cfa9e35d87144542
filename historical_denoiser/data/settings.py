"""Settings of the training data: where they are and how they are mixed."""

import math
from dataclasses import dataclass, field

from historical_denoiser.core.checks import require, require_range

CATEGORIES = ("speech", "effects", "music")
SPLITS = ("train", "validation", "test")
MADE_GROUPS = ("open", "sealed")  # the groups of noises in `noise/foreign.py`


@dataclass
class MixConfig:
    """Shares of the categories, which are normalised over the categories that are present."""

    speech: float = 0.6
    effects: float = 0.2
    music: float = 0.2

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            require(share >= 0.0, f"dset.mix.{name}", "at least 0", share)


@dataclass
class DsetConfig:
    """Where clean audio and noise are, and how they are mixed."""

    path_manifests: list[str] = field(default_factory=list)  # CSV files of prepare_data.py
    path_speech: list[str] = field(default_factory=list)  # folders
    path_effects: list[str] = field(default_factory=list)
    path_music: list[str] = field(default_factory=list)
    path_noise: list[str] = field(default_factory=lambda: ["data/noise"])
    # Folders and files of noise for the test, instead of what is held out of `path_noise`.
    path_noise_test: list[str] = field(default_factory=list)
    # Those of `MADE_GROUPS` whose noises are part of the test.
    made_noise: list[str] = field(default_factory=list)
    recorded_noise: bool = True  # whether recorded noises are part of the test
    snr_highpass_hz: float = 20.0  # lower frequencies do not count in an SNR; 0: all count
    mix: MixConfig = field(default_factory=MixConfig)
    snr_db: list[float] = field(default_factory=lambda: [2.0, 20.0])  # range in training
    evaluation_snrs_db: list[float] = field(default_factory=lambda: [3.0, 10.0, 20.0])
    level_db: list[float] = field(default_factory=lambda: [-6.0, 4.0])
    noise_db_spread: float = 0.0  # standard deviation of the spectral tilt and peaks of noise
    noise_balance_db: float = 0.0  # standard deviation of the clicks' level in recorded noise
    noise_speed: list[float] = field(default_factory=lambda: [1.0, 1.0])  # range for recorded noise
    share_clean: float = 0.0  # share of items without any noise
    share_silent: float = 0.0  # share of items that are noise alone
    share_generated: float = 0.0  # share of items with generated noise
    share_following: float = 0.0  # share of generated film and tape noise that follows the signal
    share_room: float = 0.0  # share of speech with the reverberation of a room
    share_profile: float = 0.5  # share of items with a profile of the noise (`unet.use_profile`)
    share_coded: float = 0.0  # share of items coded as MP3, AAC, Vorbis or Opus
    share_printed: float = 0.0  # share of items with noise of tape that have print-through
    share_changing: float = 0.0  # share of items in which a level changes: `data/changing.py`
    # Share of items with a profile of what the network itself removes, as `inference.listen_first`.
    share_heard: float = 0.0
    # Variety of the clean side in training: few recordings then stand for many instruments.
    clean_speed: list[float] = field(default_factory=lambda: [1.0, 1.0])  # range, with its pitch
    clean_db_spread: float = 0.0  # standard deviation of its spectral tilt and peaks
    share_layered: float = 0.0  # share of items with a second, softer sound: music under speech
    # Ageing of the clean side, the same for target and input; shares of the items:
    share_bass: float = 0.0  # bass raised by 3 to 12 dB
    share_horn: float = 0.0  # thin and resonant, as through a recording horn
    share_saturated: float = 0.0  # peaks softly flattened
    share_band_limited: float = 0.0  # low-passed at 3 to 14 kHz
    reference_dbfs: float | None = None  # RMS to which a mixture is brought before `level_db`
    cache_items: int = 0  # number of clean segments and noises that are kept on disk
    path_cache: str = "data/cache"

    def __post_init__(self) -> None:
        require_range("dset.snr_db", self.snr_db)
        require(self.evaluation_snrs_db and all(map(math.isfinite, self.evaluation_snrs_db)),
                "dset.evaluation_snrs_db", "one or more finite numbers", self.evaluation_snrs_db)
        require_range("dset.level_db", self.level_db)
        for name in ("noise_speed", "clean_speed"):
            speed = getattr(self, name)
            require_range(f"dset.{name}", speed)
            require(0.25 <= speed[0] and speed[1] <= 4.0, f"dset.{name}", "in [0.25, 4]", speed)
        require(self.reference_dbfs is None or -100.0 <= self.reference_dbfs <= 0.0,
                "dset.reference_dbfs", "null or in [-100, 0]", self.reference_dbfs)
        require(self.cache_items >= 0, "dset.cache_items", "at least 0", self.cache_items)
        require(set(self.made_noise) <= set(MADE_GROUPS), "dset.made_noise",
                f"a list of {MADE_GROUPS}", self.made_noise)
        require(self.recorded_noise or self.made_noise, "dset.recorded_noise",
                "true where `dset.made_noise` is empty", self.recorded_noise)
        shares = [name for name in vars(self) if name.startswith("share_")]
        for name, largest in {"noise_balance_db": 40, "clean_db_spread": 40,
                              "snr_highpass_hz": 1000, **dict.fromkeys(shares, 1)}.items():
            value = getattr(self, name)
            require(0.0 <= value <= largest, f"dset.{name}", f"in [0, {largest}]", value)
        for one, other in (("silent", "clean"), ("heard", "profile")):
            value = getattr(self, f"share_{one}")
            require(value + getattr(self, f"share_{other}") <= 1.0, f"dset.share_{one}",
                    f"at most 1 together with `dset.share_{other}`", value)
