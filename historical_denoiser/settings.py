"""The settings as a whole: each room's own, put together, and those of a training run.

YAML under `conf/` chooses values; the dataclasses say what exists. Nothing here imports
TensorFlow, so that a mistyped key is answered at once.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf

from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.bench.settings import BenchConfig
from historical_denoiser.core.checks import require
from historical_denoiser.core.command_line import (
    SCHEMA_NAME,
    answer_help,
    exit_on_user_error,
    keys_of,
    read_arguments,
)
from historical_denoiser.core.resources import CONF, PRETRAINED  # noqa: F401 - a name of `config`
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.network.runtimes import ENDINGS
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings, write_settings
from historical_denoiser.noise.carriers import CarrierConfig
from historical_denoiser.page.settings import AppConfig
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.training.settings import LossConfig, ScheduleConfig

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
METHODS = ("network", "lsa", "cassette", "diffusion")
STRATEGIES = ("none", "mirrored", "multi_worker")
PREFIX = "inference."  # of keys that stand below it

@dataclass
class Config:
    """The root of all settings."""

    path_experiment: str = MISSING  # folder of one training run
    carrier: str = "auto"  # name of the file in conf/carrier with the settings for that carrier
    # Of inference.py; or lsa: a log-spectral amplitude estimator; cassette: a network of
    # conf_cassette; or diffusion. Training makes a network or, with method=diffusion, a diffusion
    # model.
    method: str = "network"
    # File, folder of a run, or prefix of a TensorFlow checkpoint; the shipped ones when absent.
    weights: str | None = None
    # Weights whose estimates training imitates, in place of the clean sound.
    teacher: str | None = None
    format: str = "onnx"  # of export.py: or litert
    output: str | None = None  # file that export.py writes; beside the weights when absent
    methods: list[str] = field(default_factory=list)  # evaluate.py: compared side by side
    bench: BenchConfig = field(default_factory=BenchConfig)  # of that comparison
    panels: str | None = None  # evaluate.py: folder of a test in the published layout
    panel: int = 1  # number of its panel
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    unet: UnetConfig = field(default_factory=UnetConfig)
    stft: StftConfig = field(default_factory=StftConfig)
    dset: DsetConfig = field(default_factory=DsetConfig)
    noise: CarrierConfig = field(default_factory=CarrierConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    app: AppConfig = field(default_factory=AppConfig)  # of app.py
    seed: int = 42
    epochs: int = 150
    steps_per_epoch: int = 2000
    max_minutes: float | None = None  # after which a run stops; the same command goes on
    batch_size: int = 8
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.9
    gradient_clip: float | None = None  # largest global norm
    ema_momentum: float | None = None  # moving average of the weights, used for validation
    seg_len_s_train: float = 5.0
    seg_len_s_val: float = 5.0
    validation_items: int = 36
    test_items: int = 198  # of evaluate.py, two rounds of all noises
    probe_sounds: int = 2  # clean sounds that validation mixes with each probe; 0: no probes
    test_probe_sounds: int = 6  # the same of evaluate.py
    probe_seconds: float = 4.0
    perceptual: bool = False  # evaluate.py: ViSQOL and PESQ as well (requirements-metrics.txt)
    profile: bool = False  # evaluate.py: each mixture comes with another excerpt of its noise
    path_evaluation: str = "experiments/evaluation"  # of evaluate.py, a folder for each weights
    sealed_log: str | None = None  # CSV file in which evaluate.py notes each run of the sealed test
    save_every_steps: int = 200  # of the checkpoint from which a stopped run goes on
    best_metric: str = "snr_gain_db"  # column of history.csv by which the best weights are kept
    shown_items: int = 3  # validation items that TensorBoard lets one hear and see
    precision: str = "float32"  # or "mixed_float16", "mixed_bfloat16"
    strategy: str = "none"  # or "mirrored" (GPUs of one machine), "multi_worker" (several)
    loader_workers: int = 1  # that read and mix meanwhile: 1 is a thread, more are processes

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "batch_size", "validation_items", "test_items",
                     "save_every_steps", "loader_workers"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("lr", "seg_len_s_train", "seg_len_s_val", "probe_seconds"):
            require(0.0 < getattr(self, name) < math.inf, name, "above 0 and finite",
                     getattr(self, name))
        has_views = self.unet.use_short or self.unet.use_long
        require(not has_views or (self.stft.hop_size * 4 == self.stft.win_size
                                  and self.stft.win_size % 64 == 0), "stft",
                "windows of a multiple of 64 samples with a hop of a quarter for `unet.use_short` "
                "and `unet.use_long`", self.stft)
        require(self.seed >= 0, "seed", "at least 0", self.seed)
        for name in ("shown_items", "probe_sounds", "test_probe_sounds"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        require(self.precision in PRECISIONS, "precision", f"one of {PRECISIONS}", self.precision)
        require(self.method in METHODS, "method", f"one of {METHODS}", self.method)
        require(self.format in ENDINGS, "format", f"one of {', '.join(ENDINGS)}", self.format)
        require(not self.methods or (self.method == "network" and not self.profile), "methods",
                "left out with `method` and `profile`: name lsa or network:profile among them",
                self.methods)
        require(bool(self.methods) or (self.bench.pairs is None and self.bench.recordings is None),
                "methods", "given with `bench.pairs` and `bench.recordings`, [all] for example",
                self.methods)
        require(self.panels is None or not self.methods, "methods", "left out with `panels`",
                self.methods)
        require(self.method != "lsa" or self.weights is None, "weights",
                "left out: method=lsa has none", self.weights)
        require(self.method != "diffusion" or self.precision == "float32", "precision",
                "float32 with method=diffusion", self.precision)
        require(self.method == "network" or self.teacher is None, "teacher",
                "left out with another method than network", self.teacher)
        require(self.strategy in STRATEGIES, "strategy", f"one of {STRATEGIES}", self.strategy)
        for name in ("beta1", "beta2", "ema_momentum"):
            value = getattr(self, name)
            require(value is None or 0.0 <= value < 1.0, name, "in [0, 1)", value)
        require(self.max_minutes is None or self.max_minutes > 0.0, "max_minutes", "above 0",
                self.max_minutes)
        require(self.max_minutes is not None or self.schedule.name != "minutes", "max_minutes",
                "given with `schedule.name=minutes`", self.max_minutes)
        # The clocks of several workers differ, and so would their weights.
        require(self.strategy == "none" or self.schedule.name != "minutes", "strategy",
                "'none' with `schedule.name=minutes`", self.strategy)
        require(self.gradient_clip is None or self.gradient_clip > 0.0, "gradient_clip",
                 "above 0", self.gradient_clip)


ConfigStore.instance().store(name=SCHEMA_NAME, node=Config)


def load_config(raw: DictConfig, names: Mapping[str, Any] = MappingProxyType({})) -> Config:
    """Turns Hydra's composed tree into checked dataclasses.

    Args:
        raw: The composed configuration.
        names: Settings that hold names of files, by their keys: they replace those in `raw`.

    Returns:
        The `Config`.

    Raises:
        ValueError: A value is out of range; the message names the key.
    """
    cfg = OmegaConf.to_object(raw)
    if not names:
        return cfg
    # The names are set here as in a tree each `${` in them would be taken for an interpolation.
    below = {key.removeprefix(PREFIX): name for key, name in names.items()
             if key.startswith(PREFIX)}
    top = {key: name for key, name in names.items() if not key.startswith(PREFIX)}
    return replace(cfg, inference=replace(cfg.inference, **below), **top)


def run_with_settings(task: Callable[[Config, set[str]], None], usage: str) -> None:
    """Reads the command line and calls `task`; a user's mistake ends the program with one line.

    Args:
        task: Called with the settings and the keys that the user gave.
        usage: What `--help` prints first.
    """
    answer_help(usage)
    sys.argv[1:], names = read_arguments(sys.argv[1:])

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="conf")
    @exit_on_user_error
    def run(raw: DictConfig) -> None:
        task(load_config(raw, names), keys_of(HydraConfig.get().overrides.task) | names.keys())

    run()


def network_settings(cfg: Config) -> NetworkSettings:
    """Returns what the network that `cfg` describes needs."""
    return NetworkSettings(cfg.unet, cfg.stft, cfg.dset.reference_dbfs,
                           cfg.inference.context_seconds)


def save_config(cfg: Config, path: Path) -> None:
    """Writes what `cfg` holds other than the defaults as YAML at `path`, in one step."""
    write_settings(cfg, path)
