"""A training run: optimiser, schedule, steps, validation and checkpoints to resume from.

Start reading at `Trainer.fit`.
"""

import contextlib
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
from historical_denoiser.diffusion import edm
from historical_denoiser.diffusion import network as diffusion
from historical_denoiser.network import resizing
from historical_denoiser.network.stored import (
    CONFIG_NAME,
    NetworkSettings,
    find_weights,
    read_network_settings,
    read_settings,
)
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.settings import StageSettings
from historical_denoiser.settings import Config
from historical_denoiser.training import distribution, metrics, prior, probes
from historical_denoiser.training.checkpoints import Checkpoints, Progress
from historical_denoiser.training.report import HISTORY_NAME, Report, read_history

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 20  # a run stops after so many steps without finite gradients
NEVER = 2**31 - 1  # as a number of steps
# Settings that do not influence the weights. A name stands for all that begin with it.
WITHOUT_EFFECT = ("path_experiment", "inference.", "test_items", "shown_items", "save_every_steps",
                  "loader_workers", "max_minutes", "strategy", "dset.path_cache", "probe_",
                  "test_probe_sounds", "perceptual", "profile", "path_evaluation",
                  "dset.made_noise", "dset.recorded_noise", "sealed_log")


class Diverged(UserError):
    """The gradients of a run were not finite in many successive steps."""


def make_learning_rate(cfg: Config) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """Returns the learning rate as a function of the step; a number if it follows the clock."""
    schedule, steps = cfg.schedule, cfg.epochs * cfg.steps_per_epoch
    if schedule.name == "minutes":
        return cfg.lr  # `rate_by_clock` changes it
    if schedule.name == "step":
        boundaries = [epoch * cfg.steps_per_epoch for epoch in schedule.boundaries_epochs]
        boundaries = boundaries or [NEVER]  # Keras wants at least one
        values = [cfg.lr * schedule.factor**count for count in range(len(boundaries) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return keras.optimizers.schedules.CosineDecay(
        cfg.lr / max(schedule.warmup_steps, 1), max(steps - schedule.warmup_steps, 1),
        alpha=schedule.final_ratio, warmup_target=cfg.lr, warmup_steps=schedule.warmup_steps)


def rate_by_clock(cfg: Config, step: int, elapsed: float) -> float:
    """Returns the learning rate of `schedule.name=minutes`: a warm-up times half a cosine.

    Args:
        cfg: All settings.
        step: Number of steps before this one.
        elapsed: Part of `max_minutes` that is over, 0 to 1.
    """
    schedule = cfg.schedule
    warm = min(1.0, (step + 1) / max(schedule.warmup_steps, 1))
    falling = 0.5 * (1.0 + math.cos(math.pi * min(elapsed, 1.0)))
    return cfg.lr * warm * (schedule.final_ratio + (1.0 - schedule.final_ratio) * falling)


def make_optimizer(cfg: Config) -> keras.optimizers.LossScaleOptimizer:
    """Returns Adam, wrapped so that steps whose gradients are not finite are left out.

    Keras's loss scaling leaves them out; the scaling itself is only used for float16.
    """
    adam = keras.optimizers.Adam(
        make_learning_rate(cfg), beta_1=cfg.beta1, beta_2=cfg.beta2,
        global_clipnorm=cfg.gradient_clip,
        # With a momentum of 0 the average equals the weights. There always is an average, so that a
        # run can be resumed with another momentum.
        use_ema=True, ema_momentum=cfg.ema_momentum or 0.0)
    if cfg.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return keras.optimizers.LossScaleOptimizer(adam, initial_scale=1.0, dynamic_growth_steps=NEVER)


def build_network(cfg: Config) -> keras.Model:
    """Returns the network or the diffusion model that the settings describe, with new weights."""
    if cfg.method == "diffusion":
        return diffusion.build(cfg.diffusion)
    return unet.build_model_denoise(cfg.unet)


def read_network(file: Path, settings: NetworkSettings) -> keras.Model:
    """Returns the network of a weights file, which has these settings."""
    model = unet.build_model_denoise(settings.unet)
    unet.load_weights(model, file)
    return model


def read_teacher(cfg: Config) -> keras.Model:
    """Returns the network of `cfg.teacher`.

    Raises:
        FileNotFoundError: There are no such weights.
        UserError: It takes other inputs than the network that is trained, or has other stages.
    """
    own = config.network_settings(cfg)
    try:
        file = find_weights(cfg.teacher)
        theirs = read_network_settings(file) or own
        teacher = read_network(file, theirs)
    except (UserError, FileNotFoundError) as error:
        raise type(error)(f"`teacher` cannot be read: {error}") from error
    differing = [f"{name}={there}, here {here}" for name, here, there in (
        ("unet.form", own.unet.form, theirs.unet.form),
        ("unet.num_stages", own.unet.num_stages, theirs.unet.num_stages),
        ("unet.use_profile", own.unet.use_profile, theirs.unet.use_profile),
        ("unet.compression", own.unet.compression, theirs.unet.compression),
        ("stft", own.stft, theirs.stft),
        ("dset.reference_dbfs", own.reference_dbfs, theirs.reference_dbfs)) if here != there]
    if differing:
        raise UserError("`teacher` must be a network with the inputs and outputs of this one. "
                        f"Received: teacher={file} with {'; '.join(differing)}")
    return teacher


class Learner:
    """A network, its optimiser, and the moving average of its weights.

    Attributes:
        model: The network that is trained.
        averaged: A network with the averaged weights, which is validated and kept as the best.
        train_step: Trains a step on the arrays of a batch and returns the loss.
    """

    def __init__(self, cfg: Config, workers: distribution.Workers) -> None:
        self.is_prior = cfg.method == "diffusion"
        keras.utils.set_random_seed(cfg.seed)
        keras.config.set_dtype_policy("float32")
        self.averaged = build_network(cfg)
        keras.config.set_dtype_policy(cfg.precision)
        with workers.scope():
            self.model = build_network(cfg)
            self.optimizer = make_optimizer(cfg)
            self.optimizer.build(self.model.trainable_variables)
            teacher = None if cfg.teacher is None else read_teacher(cfg)
        self.model.optimizer = self.optimizer  # so that both are saved together
        self.model.set_weights(self.averaged.get_weights())
        trained = prior.OnLevels(self.model, cfg.diffusion) if self.is_prior else (
            distribution.OnWaveforms(self.model, cfg.loss, cfg.stft,
                                     estimates_profiles=cfg.dset.share_heard > 0.0,
                                     teacher=teacher))
        self.train_step = workers.make_train_step(trained, self.optimizer)
        logger.info("%.2f M parameters", self.model.count_params() / 1e6)

    @property
    def updates(self) -> int:
        """Number of steps that changed the weights."""
        return int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    def predict(self, spectra: np.ndarray) -> np.ndarray:
        """Denoises spectra `(batch, frames, bins, 2)` with the averaged weights."""
        return self.averaged.predict_on_batch(spectra)[0]

    def start_from(self, path: str) -> None:
        """Loads the weights of another run, but no optimiser's state.

        They may be those of a network of another size, if `resizing` can fit it to this one; the
        settings beside the file describe it.
        """
        file = find_weights(path)
        stored = read_network_settings(file)
        if stored is None or self.is_prior or stored.unet == self.averaged.settings:
            unet.load_weights(self.averaged, file)
        else:
            resizing.resize(self.averaged, read_network(file, stored))
        self.model.set_weights(self.averaged.get_weights())

    def update_averaged(self) -> None:
        """Copies the current average of the weights to `averaged`."""
        trained = self.model.get_weights()
        if self.updates > 0:
            # Keras replaces the weights by their average; the weights are restored below.
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.averaged.set_weights(self.model.get_weights())
        self.model.set_weights(trained)


class Trainer:
    """Trains a network in the folder `cfg.path_experiment`, where it also resumes a stopped run.

    Args:
        cfg: All settings.
        training: Makes the training mixtures.
        validation: Makes the fixed validation mixtures.
        may_change: Whether an unfinished run may be resumed with other settings.

    Raises:
        UserError: `cfg.best_metric` is no measure of the validation, or `cfg.strategy` cannot be
            used.
    """

    def __init__(self, cfg: Config, training: Mixer, validation: Mixer,
                 may_change: bool = True) -> None:
        self.cfg, self.training, self.validation = cfg, training, validation
        self.may_change = may_change
        self.folder = Path(cfg.path_experiment)
        self.checkpoints = Checkpoints(self.folder)
        measured = self._names_of_measures()
        if cfg.best_metric not in measured:
            raise UserError(f"`best_metric` must be one of {sorted(measured)}. "
                            f"Received: best_metric={cfg.best_metric!r}")
        self.steps = cfg.epochs * cfg.steps_per_epoch
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] | None = None  # the row of `history` of the best weights
        self.workers = distribution.make_workers(cfg.strategy, cfg.batch_size)
        self.learner = Learner(cfg, self.workers)
        self._prepare_validation()

    def _names_of_measures(self) -> list[str]:
        """Returns the names of the columns of history.csv that `_measure` gives."""
        names = metrics.average_names(*self.validation.evaluation_grid(self.cfg.validation_items))
        return names + (probes.AVERAGE_NAMES if self.cfg.probe_sounds else [])

    def _prepare_validation(self) -> None:
        cfg = self.cfg
        self.probe_sounds = (self.validation.probe_sounds(cfg.probe_sounds, cfg.probe_seconds)
                             if cfg.probe_sounds else [])
        self.restorer = Restorer(self.learner.predict, config.network_settings(cfg),
                                 StageSettings.only())

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes files; only the first one does."""
        return self.workers.index == 0

    @property
    def best_value(self) -> float:
        """`best_metric` of the best weights; NaN before the first epoch's end."""
        return (self.best or {}).get(self.cfg.best_metric, float("nan"))

    def fit(self) -> None:
        """Trains up to the last epoch; a stopped run is resumed at its last checkpoint.

        Raises:
            UserError: The folder holds a run that cannot be resumed with these settings.
            Diverged: The gradients were not finite in many successive steps.
            OSError: The folder cannot be written or the disk is full.
        """
        for index in range(len(self.validation.categories)):
            self.validation.evaluation_item(index)  # reports unreadable files before the first step
        if self.checkpoints.last.exists():
            self._resume()
        elif self.cfg.weights is not None:
            self.learner.start_from(self.cfg.weights)
            logger.info("a new run in %s, which starts from %s", self.folder, self.cfg.weights)
        else:
            logger.info("a new run in %s", self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.is_chief:
            self._train(None)
        elif self._is_finished():
            logger.warning("the run in %s is finished: nothing is trained. Choose another "
                           "`path_experiment` to train anew, or more `epochs` to train on",
                           self.folder)
        else:
            config.save_config(self.cfg, self.folder / CONFIG_NAME)
            with Report(self.folder / "tensorboard", self.progress.step + 1) as report:
                self._train(report)

    def validate(self) -> list[metrics.Row]:
        """Updates the averaged weights and measures them on the fixed mixtures."""
        self.learner.update_averaged()
        mixtures = map(self.validation.evaluation_item, range(self.cfg.validation_items))
        return metrics.judge_mixtures(self.restorer.each, mixtures, self.cfg.dset.snr_highpass_hz)

    def _is_finished(self) -> bool:
        return self.progress.step >= self.steps

    def _resume(self) -> None:
        """Loads the last checkpoint and the history of the run in the folder."""
        self.progress = self.checkpoints.read_progress()
        self._check_settings()
        if not self._is_finished():
            try:
                unet.load_weights(self.learner.model, self.checkpoints.last)
            except UserError as error:
                raise UserError(
                    f"the run in {self.folder} cannot be resumed: its network is another one. "
                    f"Start a new run with another `path_experiment`, and with "
                    f"weights={self.checkpoints.best} to start from its weights. ({error})",
                ) from error
        self.history = read_history(self.folder / HISTORY_NAME, self.progress.step)
        logger.info("resuming at step %d of %d in %s", self.progress.step, self.steps, self.folder)
        metric = self.cfg.best_metric
        self.best = self.checkpoints.find_best(self.history)
        top = max(self.history, key=self._score, default=None)
        if self.best is not None and self._score(top) > self._score(self.best):
            logger.warning("by `best_metric=%s` epoch %d was the best so far (%.3f), but its "
                           "weights were not kept: %s holds those of epoch %d (%.3f) until a later "
                           "epoch is better", metric, top["epoch"], top[metric],
                           self.checkpoints.best.name, self.best["epoch"], self.best_value)

    def _check_settings(self) -> None:
        """Refuses or reports settings that differ from those of the run in the folder."""
        changes = _find_changes(self.folder / CONFIG_NAME, self.cfg)
        if changes and (self._is_finished() or not self.may_change):
            state = "is finished" if self._is_finished() else "began"
            raise UserError(f"the run in {self.folder} {state} with other settings: "
                            f"{', '.join(changes)}. Choose another `path_experiment` (in a search: "
                            f"`hydra.sweep.dir`), or delete that folder")
        if any(each.startswith("schedule.name ") and "minutes" in each for each in changes):
            # The optimiser stores a rate that the clock sets, but none that follows the steps.
            raise UserError(f"`schedule.name` must stay as it is in the run in {self.folder}, "
                            f"because of 'minutes': {', '.join(changes)}. Start a new run with "
                            f"another `path_experiment` and weights={self.checkpoints.best}")
        if changes and self.is_chief:
            logger.warning("the run in %s is resumed with other settings: %s. To start a new run "
                           "instead, choose another `path_experiment`", self.folder,
                           ", ".join(changes))

    def _train(self, report: Report | None) -> None:
        cfg, progress = self.cfg, self.progress
        batches = self.workers.batches(self.training, progress.step, self.steps, cfg.loader_workers)
        bar = tqdm(batches, total=self.steps, initial=progress.step, unit="step", disable=None)
        skipped_in_a_row = 0
        timed_from, since = progress.step, time.monotonic()
        begin, allowed = since, 60.0 * (cfg.max_minutes or math.inf)
        by_clock = cfg.schedule.name == "minutes"
        with _noted_interrupts() as is_interrupted:
            for batch in bar:
                if by_clock:
                    self.learner.optimizer.learning_rate = rate_by_clock(
                        cfg, progress.step, (time.monotonic() - begin) / allowed)
                loss = float(self.learner.train_step(*batch))
                skipped_in_a_row = 0 if self._count_step(loss) else skipped_in_a_row + 1
                if skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
                    raise Diverged(
                        f"the gradients were not finite {skipped_in_a_row} times in a row up to "
                        f"step {progress.step}: the run stops, its last checkpoint remains. Try "
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
                    if bar.disable:  # no terminal shows the progress bar
                        logger.info("step %d of %d, loss %.4f, %.2f s a step", progress.step,
                                    self.steps, loss, seconds_per_step)
                    timed_from, since = progress.step, time.monotonic()
                if is_interrupted():
                    self._save_last()
                    logger.info("stopped at step %d; the same command resumes there", progress.step)
                    raise KeyboardInterrupt
                if time.monotonic() - begin >= allowed and not self._is_finished():
                    if by_clock and report is not None and not epoch_ends:  # the run is complete
                        self._end_epoch(seconds_per_step, report)
                    self._save_last()
                    logger.info("stopped at step %d after `max_minutes`; the same command resumes "
                                "there", progress.step)
                    return

    def _count_step(self, loss: float) -> bool:
        """Counts a step and returns whether it changed the weights."""
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
        cfg, progress, step = self.cfg, self.progress, self.progress.step
        measured, tables, faults = self._measure()
        row = {"step": step, "epoch": step // cfg.steps_per_epoch,
               "lr": float(keras.ops.convert_to_numpy(self.learner.optimizer.learning_rate)),
               "seconds_per_step": seconds_per_step,
               "memory_gb": psutil.Process().memory_info().rss / 1e9,  # of this process only
               "skipped_steps": progress.skipped, "loss": progress.loss, **measured}
        report.add_epoch(row, tables, faults, self.training.skipped)
        self._show(report)
        if self.best is None or self._score(row) > self._score(self.best):
            self.checkpoints.save_best(self.learner.averaged, step)
            self.best = row
        self.history.append(row)
        metrics.write_table(self.folder / HISTORY_NAME, self.history, list(row), missing="nan")

    def _measure(self) -> tuple[dict[str, float], list[str], list[str]]:
        """Returns the measures of the validation, tables of them, and a sentence on each fault."""
        judged = self.validate()
        means = metrics.average(judged)
        faults = metrics.find_faults(means)
        tables = [f"SNR gain {means['snr_gain_db']:.2f} dB, SI-SDR of clean input "
                  f"{means['clean_si_sdr_db']:.1f} dB, noise alone lowered by "
                  f"{-means['noise_left_db']:.1f} dB\n"
                  + metrics.format_table(judged, ("category", "input_snr_db"))]
        if self.probe_sounds:
            probed = probes.measure(self.restorer.each, self.probe_sounds,
                                    self.cfg.dset.snr_highpass_hz)
            tables.append(f"probes\n{probed.format()}")
            faults += probed.find_faults()
            means |= probed.average()
        return means, tables, faults

    def _show(self, report: Report) -> None:
        """Adds sounds to hear and see to a report."""
        step = self.progress.step
        for index in range(self.cfg.shown_items):
            mixture = self.validation.evaluation_item(index)
            report.add_item(index, mixture, self.restorer.each(mixture.noisy[None])[0], step,
                            with_input=step == self.cfg.steps_per_epoch)

    def _score(self, row: dict[str, float]) -> float:
        metric = self.cfg.best_metric
        return metrics.score(metric, row.get(metric, float("nan")))


class PriorTrainer(Trainer):
    """Trains a diffusion model; `training` and `validation` are `prior.GaussianMixtures`."""

    def _names_of_measures(self) -> list[str]:
        return prior.measure_names() + [*prior.PROBES] * bool(self.cfg.probe_sounds)

    def _prepare_validation(self) -> None:
        self.sounds = [self.validation.evaluation_item(index).clean
                       for index in range(self.cfg.probe_sounds)]
        self.denoise = edm.precondition(self.learner.averaged, self.cfg.diffusion)
        if self.sounds and keras.backend.backend() != "tensorflow":
            logger.info("the samplers are not measured (`probe_sounds`): they need TensorFlow")
            self.sounds = []
        elif self.sounds:
            import tensorflow as tf

            self.denoise = tf.function(self.denoise)

    def _measure(self) -> tuple[dict[str, float], list[str], list[str]]:
        self.learner.update_averaged()
        losses = prior.measure(self.learner.averaged, self.cfg.diffusion, map(
            self.validation.evaluation_item, range(self.cfg.validation_items)))
        gains = prior.measure_samplers(self.denoise, self.cfg.diffusion, self.sounds)
        tables = [prior.format_losses(losses)]
        if gains:
            tables.append("the samplers improve damaged sounds by " + ", ".join(
                f"{value:.1f} dB ({name})" for name, value in gains.items()))
        return losses | gains, tables, []

    def _show(self, report: Report) -> None:
        """Nothing is shown: a single estimate is no sound of the model."""


def _find_changes(path: Path, cfg: Config) -> list[str]:
    """Returns "name before -> now" for each setting that differs from the file and matters."""
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
    """Yields a function that returns whether Ctrl-C was pressed, so that a run can finish its step.

    A second Ctrl-C raises KeyboardInterrupt at once.
    """
    noted = []

    def note(*_: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(signal.SIGINT)
        logger.info("stopping when this step is done; Ctrl-C again stops at once")

    before = signal.getsignal(signal.SIGINT)
    # A job in the background ignores Ctrl-C; only the main thread may set a handler.
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(noted)
    finally:
        signal.signal(signal.SIGINT, before)
