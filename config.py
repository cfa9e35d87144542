"""Every setting's name, type and default, and the checks on them.

YAML under `conf/` chooses values; these dataclasses say what exists. Nothing here imports
TensorFlow, so that a mistyped key is answered at once.
"""

from __future__ import annotations

import difflib
import functools
import glob
import importlib
import logging
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from denoiser.noise.ranges import CarrierConfig

logger = logging.getLogger(__name__)

SAMPLE_RATE = 44100  # Hz; the network's rate. Other rates are resampled to it and back.
CATEGORIES = ("speech", "effects", "music")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored", "multi_worker")
SPLITS = ("train", "validation", "test")
PRETRAINED = Path(__file__).resolve().parent / "pretrained"
BEST_NAME = "best.weights.h5"
LAST_NAME = "last.weights.h5"
HISTORY_NAME = "history.csv"
CONFIG_NAME = "config.yaml"
STALE_SECONDS = 3600.0  # since the last write: then a temporary file's process is long dead


def _require(condition: bool, name: str, expected: str, received: Any) -> None:
    if not condition:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={received!r}")


def _require_range(name: str, bounds: list[float]) -> None:
    _require(len(bounds) == 2 and -math.inf < bounds[0] <= bounds[1] < math.inf, name,
             "[low, high] with low <= high, both finite", bounds)


@dataclass
class StftConfig:
    """Short-time Fourier transform; lengths in samples, periodic Hamming window."""

    win_size: int = 2048
    hop_size: int = 512
    highpass_hz: float = 0.0  # what lies below is removed before the transform; 0 is nothing

    def __post_init__(self) -> None:
        _require(self.win_size >= 2 and self.win_size % 2 == 0, "stft.win_size",
                 "an even number of samples", self.win_size)
        _require(0 < self.hop_size <= self.win_size // 2, "stft.hop_size",
                 "in [1, win_size / 2]", self.hop_size)
        _require(0.0 <= self.highpass_hz < SAMPLE_RATE / 4, "stft.highpass_hz",
                 f"in [0, {SAMPLE_RATE / 4:g})", self.highpass_hz)

    @property
    def bins(self) -> int:
        """Number of frequency bins of one frame."""
        return self.win_size // 2 + 1


@dataclass
class UnetConfig:
    """The two-stage U-Net. The defaults are the published form at depth 3."""

    depth: int = 3  # downsamplings
    num_tfc: int = 1  # 3x3 convolutions in each dense block
    num_stages: int = 2
    use_SAM: bool = True  # noqa: N815 - the published key
    use_fencoding: bool = True
    activation: str = "elu"
    channels: list[int] = field(default_factory=lambda: [32, 64, 64, 128, 128, 256, 512])
    # Choices beyond the paper, for networks that a CPU can train and run:
    extractor_kernel: int = 7  # side of the first convolution of each stage
    fold_bins: int = 1  # the most neighbouring bins that are folded into channels
    fold_start: int = 0  # bins below stay single; each octave above folds twice as many
    compression: float = 1.0  # the network sees X |X|^(compression - 1); 1 is the spectrum itself
    use_floor: bool = False  # it also sees each bin's magnitude and noise floor
    use_steady: bool = False  # it also sees the steady tones below `fold_start`, with own masks
    output: str = "spectrum"  # or "mask": Y = X (1 + M), starting from M = 0

    def __post_init__(self) -> None:
        _require(self.depth >= 1, "unet.depth", "at least 1", self.depth)
        _require(self.num_tfc >= 1, "unet.num_tfc", "at least 1", self.num_tfc)
        _require(self.num_stages in (1, 2), "unet.num_stages", "1 or 2", self.num_stages)
        _require(len(self.channels) > self.depth, "unet.channels",
                 f"a list of more than depth={self.depth} numbers", self.channels)
        _require(min(self.channels) >= 1, "unet.channels", "positive", self.channels)
        _require(self.extractor_kernel >= 1, "unet.extractor_kernel", "at least 1",
                 self.extractor_kernel)
        _require(self.fold_bins >= 1, "unet.fold_bins", "at least 1", self.fold_bins)
        powers_of_two = self.fold_bins & (self.fold_bins - 1) == 0
        _require(self.fold_start == 0 or (self.fold_start > 0 and self.fold_start % 2 == 0
                                          and powers_of_two), "unet.fold_start",
                 "0, or an even number with `unet.fold_bins` a power of two", self.fold_start)
        _require(0.0 < self.compression <= 1.0, "unet.compression", "in (0, 1]", self.compression)
        _require(self.output in ("spectrum", "mask"), "unet.output", "'spectrum' or 'mask'",
                 self.output)
        _require(not self.use_steady or (self.output == "mask" and self.fold_start > 0),
                 "unet.use_steady", "false, unless `unet.output` is 'mask' and `unet.fold_start` "
                 "is not 0", self.use_steady)


@dataclass
class MixConfig:
    """Shares of the categories; they are normalised over the categories that are present."""

    speech: float = 0.6
    effects: float = 0.2
    music: float = 0.2

    def __post_init__(self) -> None:
        for name in CATEGORIES:
            _require(getattr(self, name) >= 0.0, f"dset.mix.{name}", "at least 0",
                     getattr(self, name))


@dataclass
class DsetConfig:
    """Where clean audio and noise lie and how they are mixed."""

    path_manifests: list[str] = field(default_factory=list)  # CSV files of prepare_data.py
    path_speech: list[str] = field(default_factory=list)  # folders
    path_effects: list[str] = field(default_factory=list)
    path_music: list[str] = field(default_factory=list)
    path_noise: list[str] = field(default_factory=lambda: ["data/noise"])
    mix: MixConfig = field(default_factory=MixConfig)
    snr_db: list[float] = field(default_factory=lambda: [2.0, 20.0])
    level_db: list[float] = field(default_factory=lambda: [-6.0, 4.0])
    noise_db_spread: float = 0.0  # the noise's spectral tilt and peaks vary by this much
    noise_speed: list[float] = field(default_factory=lambda: [1.0, 1.0])  # of recorded noise
    share_clean: float = 0.0  # share of items without any noise
    share_silent: float = 0.0  # share of items that are noise alone
    share_generated: float = 0.0  # share of items with generated noise
    share_following: float = 0.0  # share of generated film and tape noise that follows the signal
    # How old the clean side sounds, the target and the input alike; shares of the items:
    share_horn: float = 0.0  # thin and resonant, as through a recording horn
    share_saturated: float = 0.0  # peaks softly flattened
    share_band_limited: float = 0.0  # low-passed at 3 to 14 kHz
    reference_dbfs: float | None = None  # RMS to which a mixture is brought before `level_db`
    cache_items: int = 0  # clean segments and noises that are kept on disk and mixed anew
    path_cache: str = "data/cache"

    def __post_init__(self) -> None:
        _require_range("dset.snr_db", self.snr_db)
        _require_range("dset.level_db", self.level_db)
        _require_range("dset.noise_speed", self.noise_speed)
        _require(0.25 <= self.noise_speed[0] and self.noise_speed[1] <= 4.0, "dset.noise_speed",
                 "in [0.25, 4]", self.noise_speed)
        _require(self.reference_dbfs is None or -100.0 <= self.reference_dbfs <= 0.0,
                 "dset.reference_dbfs", "null or in [-100, 0]", self.reference_dbfs)
        _require(self.cache_items >= 0, "dset.cache_items", "at least 0", self.cache_items)
        for name in ("share_clean", "share_silent", "share_generated", "share_following",
                     "share_horn", "share_saturated", "share_band_limited"):
            _require(0.0 <= getattr(self, name) <= 1.0, f"dset.{name}", "in [0, 1]",
                     getattr(self, name))
        _require(self.share_clean + self.share_silent <= 1.0, "dset.share_silent",
                 "at most 1 together with `dset.share_clean`", self.share_silent)


LOSS_PARTS = ("mae", "compressed", "log_spectral", "multi_resolution_stft", "si_sdr", "snr")


@dataclass
class LossConfig:
    """Loss on the spectrograms of both stages: a sum of parts, each with its weight."""

    mae: float = 1.0  # mean absolute error, the paper's
    compressed: float = 0.0  # squared error after a power law on the magnitudes
    log_spectral: float = 0.0  # distance of levels, in bel
    multi_resolution_stft: float = 0.0  # magnitudes at three resolutions
    si_sdr: float = 0.0  # minus SI-SDR in bel
    snr: float = 0.0  # minus SNR in bel
    exponent: float = 0.3  # of the power law of "compressed"
    erb_weighting: bool = False  # "compressed": each bin counts as much as the ear resolves it
    stage1_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in (*LOSS_PARTS, "stage1_weight"):
            _require(getattr(self, name) >= 0.0, f"loss.{name}", "at least 0", getattr(self, name))
        _require(any(getattr(self, name) for name in LOSS_PARTS), "loss",
                 f"a positive weight for one of {LOSS_PARTS}", "all are 0")
        _require(0.0 < self.exponent <= 1.0, "loss.exponent", "in (0, 1]", self.exponent)


@dataclass
class ScheduleConfig:
    """Learning rate over the steps."""

    name: str = "step"  # "step": lr x `factor` at each boundary; "cosine": warm-up, then a cosine
    boundaries_epochs: list[int] = field(default_factory=lambda: [50, 100, 125])
    factor: float = 0.1
    warmup_steps: int = 0
    final_ratio: float = 0.01  # "cosine": last learning rate over the first

    def __post_init__(self) -> None:
        _require(self.name in ("step", "cosine"), "schedule.name", "'step' or 'cosine'", self.name)
        _require(self.factor > 0.0, "schedule.factor", "above 0", self.factor)
        _require(0.0 <= self.final_ratio <= 1.0, "schedule.final_ratio", "in [0, 1]",
                 self.final_ratio)
        _require(self.warmup_steps >= 0, "schedule.warmup_steps", "at least 0", self.warmup_steps)
        _require(list(self.boundaries_epochs) == sorted(set(self.boundaries_epochs)),
                 "schedule.boundaries_epochs", "increasing", self.boundaries_epochs)


@dataclass
class InferenceConfig:
    """What is denoised and how."""

    audio: Any = None  # one file or folder name, or a list of them
    output_dir: str | None = None  # beside the input when absent
    denoising_strength: float = 1.0
    segment_seconds: float = 20.0  # new audio in each step; memory grows with it
    context_seconds: float = 3.0  # audio on both sides that a step sees but does not return
    overwrite: bool = False
    spectrogram: bool = False

    def __post_init__(self) -> None:
        _require(0.0 <= self.denoising_strength <= 1.0, "inference.denoising_strength",
                 "in [0, 1]", self.denoising_strength)
        _require(0.01 <= self.segment_seconds < math.inf, "inference.segment_seconds",
                 "at least 0.01 and finite", self.segment_seconds)
        _require(0.0 <= self.context_seconds < math.inf, "inference.context_seconds",
                 "at least 0 and finite", self.context_seconds)
        _require(self.audio is None or isinstance(self.audio, str)
                 or (isinstance(self.audio, list)
                     and all(isinstance(name, str) for name in self.audio)),
                 "inference.audio", "a file name or a list of file names", self.audio)


@dataclass
class Config:
    """The root of all settings."""

    path_experiment: str = MISSING  # folder of one training run
    weights: str | None = None  # `.weights.h5` file or TensorFlow checkpoint prefix
    unet: UnetConfig = field(default_factory=UnetConfig)
    stft: StftConfig = field(default_factory=StftConfig)
    dset: DsetConfig = field(default_factory=DsetConfig)
    noise: CarrierConfig = field(default_factory=CarrierConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    seed: int = 42
    epochs: int = 150
    steps_per_epoch: int = 2000
    batch_size: int = 8
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.9
    gradient_clip: float | None = None  # largest global norm
    ema_momentum: float | None = None  # moving average of the weights, used for validation
    seg_len_s_train: float = 5.0
    seg_len_s_val: float = 5.0
    validation_items: int = 36
    test_items: int = 144  # of evaluate.py
    save_every_steps: int = 200  # of the checkpoint from which a stopped run goes on
    best_metric: str = "snr_gain_db"  # column of history.csv by which the best weights are kept
    shown_items: int = 3  # validation items that TensorBoard lets one hear and see
    precision: str = "float32"  # or "mixed_float16", "mixed_bfloat16"
    strategy: str = "none"  # or "mirrored" (GPUs of one machine), "multi_worker" (several)
    loader_workers: int = 1  # that read and mix meanwhile: 1 is a thread, more are processes

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "validation_items", "test_items",
                     "save_every_steps", "loader_workers"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("lr", "seg_len_s_train", "seg_len_s_val"):
            _require(0.0 < getattr(self, name) < math.inf, name, "above 0 and finite",
                     getattr(self, name))
        _require(self.seed >= 0, "seed", "at least 0", self.seed)
        _require(self.shown_items >= 0, "shown_items", "at least 0", self.shown_items)
        _require(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}", self.precision)
        _require(self.strategy in STRATEGIES, "strategy", f"one of {STRATEGIES}", self.strategy)
        for name in ("beta1", "beta2", "ema_momentum"):
            value = getattr(self, name)
            _require(value is None or 0.0 <= value < 1.0, name, "in [0, 1)", value)
        _require(self.gradient_clip is None or self.gradient_clip > 0.0, "gradient_clip",
                 "above 0", self.gradient_clip)


ConfigStore.instance().store(name="schema", node=Config)


def load_config(raw: DictConfig) -> Config:
    """Turns Hydra's composed tree into checked dataclasses.

    Args:
        raw: The composed configuration.

    Returns:
        The `Config`.

    Raises:
        ValueError: A value is out of range; the message names the key.
    """
    return OmegaConf.to_object(raw)


def save_config(cfg: Config, path: Path) -> None:
    """Writes `cfg` as YAML at `path`, in one step."""
    with replacing(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.structured(cfg)), encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside `path` with the same ending, renamed to `path` at the end.

    The file at `path` is complete at every moment: when the block raises or the process dies,
    what was there before is still there. The temporary name starts with a dot; one that a killed
    process left behind is removed here the next time, at the earliest after an hour.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path.parent}: the folder cannot be made ({error.strerror})") from error
    ending = "".join(path.suffixes[-2:]) if path.name.endswith(".weights.h5") else path.suffix
    prefix = f".{path.name[:40]}."  # names are limited to 255 bytes, up to four for a character
    for left_over in path.parent.glob(f"{glob.escape(prefix)}????????{glob.escape(ending)}"):
        with suppress(FileNotFoundError):  # another process may just have finished it
            if time.time() - left_over.stat().st_mtime > STALE_SECONDS:
                left_over.unlink()
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=ending, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    mask = os.umask(0)
    os.umask(mask)
    try:
        temporary.chmod(0o666 & ~mask)  # mkstemp's own mode hides the file from everyone else
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def weights_path(cfg: Config) -> Path:
    """Returns the weights that inference uses: `weights`, the run's best, or the shipped ones."""
    if cfg.weights is not None:
        return Path(cfg.weights)
    best = Path(cfg.path_experiment) / BEST_NAME
    return best if best.exists() else PRETRAINED / BEST_NAME


def stored_unet_config(weights: Path) -> tuple[UnetConfig, StftConfig, float | None] | None:
    """Returns the network, STFT and level settings stored beside `weights`, if there are any."""
    path = weights.parent / CONFIG_NAME
    if not path.exists():
        return None
    stored = OmegaConf.load(path)
    # The other settings do not matter here, and may be those of another version.
    unet, stft = (OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), part))
                  for kind, part in ((UnetConfig, stored.unet), (StftConfig, stored.stft)))
    return unet, stft, stored.dset.reference_dbfs


def adopt_network(cfg: Config) -> Path:
    """Returns `weights_path`, and puts the settings stored beside these weights into `cfg`."""
    weights = weights_path(cfg)
    stored = stored_unet_config(weights)
    if stored is not None:
        cfg.unet, cfg.stft, cfg.dset.reference_dbfs = stored
    return weights


def load_backend() -> None:
    """Loads Keras and its backend, TensorFlow unless `KERAS_BACKEND` says otherwise.

    While it loads, TensorFlow writes to stderr before any logging is set up; that is kept quiet.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        importlib.import_module("keras")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nothing)


# --- The command line --------------------------------------------------------------------------

USER_ERRORS = (ValueError, OSError, HydraException, OmegaConfBaseException, YAMLError)


def known_keys() -> list[str]:
    """Returns every key of the configuration: `unet`, `unet.depth`, ..."""
    keys = []

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            keys.append(f"{prefix}{name}")
            if not OmegaConf.is_missing(node, name) and isinstance(node[name], DictConfig):
                walk(node[name], f"{prefix}{name}.")

    walk(OmegaConf.structured(Config), "")
    return keys


def closest_key(key: str) -> str:
    """Returns " Did you mean `...`?" for a mistyped key, or nothing where none is similar."""
    keys = known_keys()
    matches = difflib.get_close_matches(key, keys, n=1) or [
        known for known in keys if known.split(".")[-1] == key.split(".")[-1]]
    return f" Did you mean `{matches[0]}`?" if matches else ""


def describe_error(error: BaseException) -> str:
    """Returns an error's message on one line."""
    if isinstance(error, OverrideParseException):
        return f"cannot read the argument {error.override!r}: {str(error).splitlines()[0]}"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        lines = [str(error).split("\n")[0]]
        if error.__cause__ is not None:
            lines.append(str(error.__cause__).split("\n")[0])
        text = ": ".join(dict.fromkeys(lines))  # a cause often repeats the line
        override = re.match(r"Could not override '([\w.]+)'", text)
        return text + (closest_key(override[1]) if override else "")
    return " ".join(str(error).split("\n"))


def exit_on_user_error(task: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function: a user's mistake becomes one line on stderr and exit status 1.

    Inside `hydra.main`, so that Hydra does not announce the error with lines of its own.
    """

    @functools.wraps(task)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return task(*args, **kwargs)
        except USER_ERRORS as error:
            sys.exit(f"error: {describe_error(error)}")

    return guarded


def run_main(main: Callable[[], Any]) -> None:
    """Runs an entry point; a user's mistake becomes one line on stderr and exit status 1."""
    # Hydra would print its own errors, over several lines, and exit; now it raises them.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        exit_on_user_error(main)()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(130)  # what a shell reports for a program that Ctrl-C ended
