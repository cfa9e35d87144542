"""A training run: optimiser, schedule, steps, validation, and going on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
from omegaconf import OmegaConf
from tqdm import tqdm

import unet
from dataset_loader import Mixer
from historical_denoiser import settings as config
from historical_denoiser.core.checks import UserError
from historical_denoiser.network import weights
from historical_denoiser.network.stored import (
    CONFIG_NAME,
    read_network_settings,
    read_settings,
)
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import StageSettings
from historical_denoiser.settings import Config
from historical_denoiser.training import distribution, metrics, probes
from historical_denoiser.training.checkpoints import Checkpoints, Progress
from historical_denoiser.training.probes import ProbeReport
from historical_denoiser.training.report import HISTORY_NAME, Report, read_history, write_history

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 20  # steps without a finite gradient, before the run gives up
NEVER = 2**31 - 1  # as a number of steps
# Settings that may differ without making the results those of another run.
WITHOUT_EFFECT = ("path_experiment", "inference.", "test_items", "shown_items", "save_every_steps",
                  "loader_workers", "max_minutes", "strategy", "dset.path_cache", "probe_",
                  "test_probe_sounds", "perceptual", "profile", "path_evaluation",
                  "dset.made_noise", "dset.recorded_noise", "sealed_log")


class Diverged(UserError):
    """A run's gradients were not finite many times in a row."""


def make_learning_rate(cfg: Config) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate as a function of the step."""
    schedule, steps = cfg.schedule, cfg.epochs * cfg.steps_per_epoch
    if schedule.name == "step":
        boundaries = [epoch * cfg.steps_per_epoch for epoch in schedule.boundaries_epochs]
        values = [cfg.lr * schedule.factor**count for count in range(len(boundaries) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return keras.optimizers.schedules.CosineDecay(
        cfg.lr / max(schedule.warmup_steps, 1), max(steps - schedule.warmup_steps, 1),
        alpha=schedule.final_ratio, warmup_target=cfg.lr, warmup_steps=schedule.warmup_steps)


def make_optimizer(cfg: Config) -> keras.optimizers.LossScaleOptimizer:
    """Returns Adam that leaves out steps whose gradients are not finite.

    Keras's loss scaling does so; only the gradients of float16 need scaling as well.
    """
    adam = keras.optimizers.Adam(
        make_learning_rate(cfg), beta_1=cfg.beta1, beta_2=cfg.beta2,
        global_clipnorm=cfg.gradient_clip,
        # Without a momentum the average is the weights themselves: a run can go on with another.
        use_ema=True, ema_momentum=cfg.ema_momentum or 0.0)
    if cfg.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return keras.optimizers.LossScaleOptimizer(adam, initial_scale=1.0, dynamic_growth_steps=NEVER)


class Learner:
    """A network, its optimiser, and the moving average of its weights.

    Attributes:
        model: The network that is trained.
        averaged: What is validated and kept as best: the averaged weights without an optimiser.
        train_step: A function of a batch's arrays that makes a step; returns the loss.
    """

    def __init__(self, cfg: Config, workers: distribution.Workers) -> None:
        keras.utils.set_random_seed(cfg.seed)
        keras.config.set_dtype_policy("float32")
        self.averaged = unet.build_model_denoise(cfg.unet)
        keras.config.set_dtype_policy(cfg.precision)
        with workers.scope():
            self.model = unet.build_model_denoise(cfg.unet)
            self.optimizer = make_optimizer(cfg)
            self.optimizer.build(self.model.trainable_variables)
        self.model.optimizer = self.optimizer  # so that both are saved together
        self.model.set_weights(self.averaged.get_weights())
        self.train_step = workers.make_train_step(
            distribution.OnWaveforms(self.model, cfg.loss, cfg.stft, cfg.dset.share_heard > 0.0),
            self.optimizer)

    @property
    def updates(self) -> int:
        """Number of steps that changed the weights."""
        return int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def predict(self, spectra: np.ndarray) -> np.ndarray:
        """Denoises spectra `(batch, frames, bins, 2)` with the averaged weights."""
        return self.averaged.predict_on_batch(spectra)[0]

    def start_from(self, path: str) -> None:
        """Takes weights from a file that holds no optimiser's state.

        They may be those of a network whose form is a part of this one, as the settings beside
        them say.
        """
        file = config.locate_weights(path)
        stored = read_network_settings(file)
        if stored is None or stored.unet == self.averaged.settings:
            unet.load_weights(self.averaged, file)
        else:
            older = unet.build_model_denoise(stored.unet)
            unet.load_weights(older, file)
            weights.grow(self.averaged, older)
        self.model.set_weights(self.averaged.get_weights())

    def update_averaged(self) -> None:
        """Brings `averaged` up to date."""
        trained = self.model.get_weights()
        if self.updates > 0:
            # Keras writes the average over the weights, which are then put back.
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.averaged.set_weights(self.model.get_weights())
        self.model.set_weights(trained)


class Trainer:
    """Trains one network in the folder `cfg.path_experiment` and goes on where it stopped.

    Args:
        cfg: All settings.
        training: Makes the training mixtures.
        validation: Makes the fixed validation mixtures.
        may_change: Whether an unfinished run may go on with other settings than it had. It may
            not where results are compared, as in a search.

    Raises:
        UserError: `cfg.best_metric` or `cfg.strategy` cannot be used.
    """

    def __init__(self, cfg: Config, training: Mixer, validation: Mixer,
                 may_change: bool = True) -> None:
        self.cfg, self.training, self.validation = cfg, training, validation
        self.may_change = may_change
        self.folder = Path(cfg.path_experiment)
        self.checkpoints = Checkpoints(self.folder)
        measured = metrics.average_names(*validation.evaluation_grid(cfg.validation_items))
        measured += probes.AVERAGE_NAMES if cfg.probe_sounds else []
        if cfg.best_metric not in measured:  # the loss is none of them
            raise UserError(f"`best_metric` must be one of {sorted(measured)}. "
                            f"Received: best_metric={cfg.best_metric!r}")
        self.steps = cfg.epochs * cfg.steps_per_epoch
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None  # the row of the weights that are kept as best
        self.workers = distribution.make_workers(cfg.strategy, cfg.batch_size)
        self.learner = Learner(cfg, self.workers)
        self.restorer = Restorer(self.learner.predict, config.network_settings(cfg),
                                 StageSettings.only())

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes: the first of several, or the only one."""
        return self.workers.index == 0

    @property
    def best_value(self) -> float:
        """`best_metric` of the weights that are kept as best; NaN before the first epoch's end."""
        return (self.best or {}).get(self.cfg.best_metric, float("nan"))

    def fit(self) -> None:
        """Trains up to the last epoch; a run that was stopped goes on from its last checkpoint.

        Raises:
            UserError: The folder holds a run that cannot go on with these settings.
            Diverged: The gradients were not finite many times in a row.
            OSError: The folder cannot be written or the disk is full.
        """
        for index in range(len(self.validation.categories)):
            self.validation.evaluation_item(index)  # what cannot be read is said now, not later
        if self.checkpoints.last.exists():
            self._resume()
        else:
            if self.cfg.weights is not None:  # before there is a folder: it may be mistyped
                self.learner.start_from(self.cfg.weights)
            logger.info("a new run in %s", self.folder)
            if self.cfg.weights is not None:
                logger.info("it starts from %s", self.cfg.weights)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_chief:
            self._train(None)
        elif self._is_finished():
            logger.warning("the run in %s is finished: nothing is trained. For another run give "
                           "another `path_experiment`, or more `epochs`", self.folder)
        else:
            config.save_config(self.cfg, self.folder / CONFIG_NAME)
            with Report(self.folder / "tensorboard", self.progress.step + 1) as report:
                self._train(report)

    def validate(self) -> list[metrics.Row]:
        """Denoises the fixed mixtures with the averaged weights and measures each."""
        self.learner.update_averaged()
        mixtures = map(self.validation.evaluation_item, range(self.cfg.validation_items))
        return metrics.judge_mixtures(self.restorer.each, mixtures, self.cfg.dset.snr_highpass_hz)

    def probe(self) -> ProbeReport | None:
        """Tries the averaged weights, as `validate` left them, on noises that come alone."""
        if not self.cfg.probe_sounds:
            return None
        return probes.measure(self.restorer.each, self._probe_sounds,
                              self.cfg.dset.snr_highpass_hz)

    @functools.cached_property
    def _probe_sounds(self) -> list[tuple[str, np.ndarray]]:
        return self.validation.probe_sounds(self.cfg.probe_sounds, self.cfg.probe_seconds)

    def _is_finished(self) -> bool:
        return self.progress.step >= self.steps

    def _resume(self) -> None:
        """Takes up the run in the folder at its last checkpoint."""
        self.progress = self.checkpoints.read_progress()
        self._check_settings()
        if not self._is_finished():
            self._load_last()
        self.history = read_history(self.folder / HISTORY_NAME, self.progress.step)
        logger.info("going on from step %d of %d in %s", self.progress.step, self.steps,
                    self.folder)
        metric = self.cfg.best_metric
        self.best = self.checkpoints.find_best(self.history)
        top = max(self.history, key=self._score, default=None)
        if self.best is not None and self._score(top) > self._score(self.best):
            logger.warning("by `best_metric=%s` epoch %d was the best so far (%.3f), but its "
                           "weights were not kept: %s holds those of epoch %d (%.3f) until a later "
                           "epoch is better", metric, top["epoch"], top[metric],
                           self.checkpoints.best.name, self.best["epoch"], self.best_value)

    def _load_last(self) -> None:
        try:
            unet.load_weights(self.learner.model, self.checkpoints.last)
        except UserError as error:
            raise UserError(
                f"the run in {self.folder} cannot go on: it is of another network. Start anew with "
                f"another `path_experiment`, and with weights={self.checkpoints.best} for what it "
                f"has learnt. ({error})") from error

    def _check_settings(self) -> None:
        """Refuses or reports settings that are not those with which the run in the folder began."""
        changes = _find_changes(self.folder / CONFIG_NAME, self.cfg)
        if changes and (self._is_finished() or not self.may_change):
            state = "is finished" if self._is_finished() else "began"
            raise UserError(f"the run in {self.folder} {state} with other settings: "
                            f"{', '.join(changes)}. Give another `path_experiment` (in a search: "
                            f"`hydra.sweep.dir`), or delete that folder")
        if changes and self.is_chief:
            logger.warning("the run in %s goes on with other settings than it had: %s. For a run "
                           "of its own give another `path_experiment`", self.folder,
                           ", ".join(changes))

    def _train(self, report: Report | None) -> None:
        cfg, progress = self.cfg, self.progress
        batches = self.workers.batches(self.training, progress.step, self.steps,
                                       cfg.loader_workers)
        bar = tqdm(batches, total=self.steps, initial=progress.step, unit="step", disable=None)
        skipped_in_a_row = 0
        timed_from, since = progress.step, time.monotonic()
        end = since + 60.0 * (cfg.max_minutes or math.inf)
        with _noted_interrupts() as is_interrupted:
            for batch in bar:
                loss = float(self.learner.train_step(*batch))
                skipped_in_a_row = 0 if self._count_step(loss) else skipped_in_a_row + 1
                if skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
                    raise Diverged(
                        f"the gradients were not finite {skipped_in_a_row} times in a row up to "
                        f"step {progress.step}: the run stops and its last checkpoint stays. Try "
                        f"a smaller `lr` or set `gradient_clip`.")
                bar.set_postfix(loss=f"{progress.loss:.4f}")
                epoch_ends = progress.step % cfg.steps_per_epoch == 0
                seconds_per_step = (time.monotonic() - since) / (progress.step - timed_from)
                if epoch_ends and report is not None:
                    self._end_epoch(seconds_per_step, report)
                if epoch_ends:
                    progress.loss_sum, progress.loss_count = 0.0, 0
                if epoch_ends or progress.step % cfg.save_every_steps == 0:
                    self._save_last()
                    if bar.disable:  # no bar where no one watches: a line in the log instead
                        logger.info("step %d of %d, loss %.4f, %.2f s a step", progress.step,
                                    self.steps, loss, seconds_per_step)
                    timed_from, since = progress.step, time.monotonic()
                if is_interrupted():
                    self._save_last()
                    logger.info("stopped at step %d; the same command goes on from there",
                                progress.step)
                    raise KeyboardInterrupt
                if time.monotonic() >= end and not self._is_finished():
                    self._save_last()
                    logger.info("stopped at step %d after `max_minutes`; the same command goes on "
                                "from there", progress.step)
                    return

    def _count_step(self, loss: float) -> bool:
        """Counts a step, and returns whether its gradients were finite and changed the weights."""
        progress = self.progress
        progress.step += 1
        if self.learner.updates < progress.step - progress.skipped:
            progress.skipped += 1
            logger.warning("step %d is left out: its gradients are not finite (loss %g)",
                           progress.step, loss)
            return False
        progress.loss_sum += loss
        progress.loss_count += 1
        return True

    def _save_last(self) -> None:
        if self.is_chief:
            self.checkpoints.save_last(self.learner.model, self.progress)

    def _end_epoch(self, seconds_per_step: float, report: Report) -> None:
        self.checkpoints.refuse_full_disk(self.learner.model)
        progress, step = self.progress, self.progress.step
        judged, probed = self.validate(), self.probe()
        row = {"step": step, "epoch": step // self.cfg.steps_per_epoch,
               "lr": self.learner.learning_rate, "seconds_per_step": seconds_per_step,
               "memory_gb": psutil.Process().memory_info().rss / 1e9,  # without loading processes
               "skipped_steps": progress.skipped, "loss": progress.loss, **metrics.average(judged),
               **(probed.average() if probed else {})}
        report.add_epoch(row, judged, self.training.skipped, probed)
        self._show(report)
        if self.best is None or self._score(row) > self._score(self.best):
            self.checkpoints.save_best(self.learner.averaged, step)
            self.best = row
        self.history.append(row)
        write_history(self.folder / HISTORY_NAME, self.history)

    def _score(self, row: dict[str, float]) -> float:
        metric = self.cfg.best_metric
        return metrics.score(metric, row.get(metric, float("nan")))

    def _show(self, report: Report) -> None:
        """Lets one hear and see the same few items after every epoch."""
        step = self.progress.step
        for index in range(self.cfg.shown_items):
            mixture = self.validation.evaluation_item(index)
            report.add_item(index, mixture, self.restorer.each(mixture.noisy[None])[0], step,
                            with_input=step == self.cfg.steps_per_epoch)


def _find_changes(path: Path, cfg: Config) -> list[str]:
    """Returns "name before -> now" of each setting that is not as in the file and matters."""
    if not path.exists():
        return []
    defaults, stored, now = (
        _flatten(OmegaConf.to_container(settings)) for settings in (
            OmegaConf.structured(Config), read_settings(path), OmegaConf.structured(cfg)))
    before = defaults | stored
    return [f"{name} {before[name]} -> {value}" for name, value in now.items()
            if before[name] != value and not name.startswith(WITHOUT_EFFECT)]


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns `{"loss.mae": 1.0}` for `{"loss": {"mae": 1.0}}`."""
    flat = {}
    for name, value in tree.items():
        flat |= (_flatten(value, f"{prefix}{name}.") if isinstance(value, dict)
                 else {f"{prefix}{name}": value})
    return flat


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether Ctrl-C was pressed, so that a run can end with a whole step.

    A second Ctrl-C raises KeyboardInterrupt at once.
    """
    noted = []

    def note(*_: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(signal.SIGINT)
        logger.info("stopping when this step is done; Ctrl-C again stops at once")

    before = signal.getsignal(signal.SIGINT)
    # A job in the background ignores Ctrl-C; another thread may not set a handler.
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before)
