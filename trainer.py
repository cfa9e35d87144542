"""Training: optimiser, schedule, steps, validation by what one hears, checkpoints and resuming."""

from __future__ import annotations

import csv
import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import psutil
from matplotlib.backends.backend_agg import FigureCanvasAgg
from omegaconf import OmegaConf
from tensorboardX import SummaryWriter
from tqdm import tqdm

import unet
from config import BEST_NAME, CONFIG_NAME, HISTORY_NAME, LAST_NAME, Config, save_config
from dataset_loader import Mixer
from denoiser.audio import dsp, spectrogram
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.files import replacing
from denoiser.training import distribution, losses, metrics
from denoiser.training.settings import ScheduleConfig

logger = logging.getLogger(__name__)

SMALLEST_FREE_BYTES = 100 * 2**20
SPARE_CHECKPOINTS = 3  # that must fit on the disk before one is written
MOST_SKIPPED_IN_A_ROW = 20  # steps without a finite gradient, before the run gives up
INITIAL_LOSS_SCALE = 2.0**15  # of float16: its gradients underflow otherwise
LOSS_SCALE_STEPS = 2000  # good steps after which it is doubled
NEVER = 2**31 - 1
FLOAT32_BYTES = 4


def make_learning_rate(lr: float, schedule: ScheduleConfig, steps_per_epoch: int, steps: int,
                       ) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate as a function of the step.

    Args:
        lr: First (after the warm-up) learning rate.
        schedule: "step" as in the paper, or "cosine".
        steps_per_epoch: Steps in each epoch.
        steps: Steps in the whole run.

    Returns:
        A Keras schedule.
    """
    if schedule.name == "step":
        boundaries = [epoch * steps_per_epoch for epoch in schedule.boundaries_epochs]
        values = [lr * schedule.factor**count for count in range(len(boundaries) + 1)]
        return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return keras.optimizers.schedules.CosineDecay(
        lr / max(schedule.warmup_steps, 1), max(steps - schedule.warmup_steps, 1),
        alpha=schedule.final_ratio, warmup_target=lr, warmup_steps=schedule.warmup_steps)


def make_optimizer(cfg: Config, steps: int) -> keras.optimizers.Optimizer:
    """Returns Adam, in a shell that leaves out steps whose gradients are not finite.

    The shell is Keras's loss scaling; only float16 needs the scale, which stays 1 otherwise.
    """
    adam = keras.optimizers.Adam(
        make_learning_rate(cfg.lr, cfg.schedule, cfg.steps_per_epoch, steps),
        beta_1=cfg.beta1, beta_2=cfg.beta2, global_clipnorm=cfg.gradient_clip,
        use_ema=cfg.ema_momentum is not None, ema_momentum=cfg.ema_momentum or 0.0)
    scale, growth = ((INITIAL_LOSS_SCALE, LOSS_SCALE_STEPS) if cfg.precision == "mixed_float16"
                     else (1.0, NEVER))
    return keras.optimizers.LossScaleOptimizer(adam, initial_scale=scale,
                                               dynamic_growth_steps=growth)


@dataclass
class Progress:
    """Where a run stands; it is stored inside the checkpoint, so that both are of one moment."""

    step: int = 0  # batches seen
    skipped: int = 0  # of these, without a finite gradient
    loss_sum: float = 0.0  # over the finite losses of this epoch
    loss_count: int = 0

    @property
    def loss(self) -> float:
        """Mean loss of this epoch so far."""
        return self.loss_sum / self.loss_count if self.loss_count else float("nan")


class Trainer:
    """Trains one network in the folder `cfg.path_experiment` and goes on where it stopped.

    Args:
        cfg: All settings.
        training: Makes the training mixtures.
        validation: Makes the fixed validation mixtures.

    Raises:
        ValueError: The folder holds a run of another network, or a setting names what does not
            exist.
    """

    def __init__(self, cfg: Config, training: Mixer, validation: Mixer) -> None:
        self.cfg, self.training, self.validation = cfg, training, validation
        self.folder = Path(cfg.path_experiment)
        measured = metrics.average_names(*validation.evaluation_grid(cfg.validation_items))
        if cfg.best_metric not in measured:  # the loss is none of them
            raise UserError(f"`best_metric` must be one of {sorted(measured)}. "
                            f"Received: best_metric={cfg.best_metric!r}")
        self.steps = cfg.epochs * cfg.steps_per_epoch
        self.progress = Progress()
        self.history: list[dict[str, float]] = []
        self.workers = distribution.make_workers(cfg.strategy, cfg.batch_size)
        keras.utils.set_random_seed(cfg.seed)
        keras.config.set_dtype_policy("float32")
        # What is validated and saved: the averaged weights, without the optimiser's state.
        self.averaged = unet.build_model_denoise(cfg.unet)
        keras.config.set_dtype_policy(cfg.precision)
        with self.workers.scope():
            self.model = unet.build_model_denoise(cfg.unet)
            self.optimizer = make_optimizer(cfg, self.steps)
            self.optimizer.build(self.model.trainable_variables)
        self.model.set_weights(self.averaged.get_weights())
        weights = [1.0, cfg.loss.stage1_weight][: cfg.unet.num_stages]
        trained = distribution.OnWaveforms(self.model, losses.make_loss(cfg.loss, cfg.stft),
                                           weights, cfg.stft)
        self.train_step = self.workers.make_train_step(trained, self.optimizer, cfg.gradient_clip)

    @property
    def is_chief(self) -> bool:
        """Whether this process validates and writes; the only one does, of several the first."""
        return self.workers.index == 0

    @property
    def best_value(self) -> float:
        """The best value of `best_metric` so far; not a number before the first epoch's end."""
        name, best = self.cfg.best_metric, float("nan")
        for row in self.history:
            if np.isnan(best) or metrics.is_better(name, row[name], best):
                best = row[name]
        return best

    def fit(self) -> None:
        """Trains up to the last epoch; a run that was stopped goes on from its last checkpoint.

        Raises:
            ValueError: The gradients were not finite many times in a row.
            OSError: The folder cannot be written or the disk is full. The last good checkpoint
                stays.
        """
        for index in range(len(self.validation.categories)):
            self.validation.evaluation_item(index)  # what cannot be read is said now, not later
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        if not self.is_chief:
            self._train(None)
            return
        if self.progress.step >= self.steps:
            logger.warning("the run in %s is finished: nothing is trained. For another run give "
                           "another `path_experiment`, or more `epochs`", self.folder)
            return
        self._report_changes()
        save_config(self.cfg, self.folder / CONFIG_NAME)
        with SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.progress.step + 1,
                           ) as writer:
            self._train(writer)

    def _report_changes(self) -> None:
        """Says which settings are not those with which this run began."""
        path = self.folder / CONFIG_NAME
        if not path.exists():
            return
        before, now = (_flatten(OmegaConf.to_container(settings)) for settings in (
            OmegaConf.load(path), OmegaConf.structured(self.cfg)))
        changed = [f"{name} {before.get(name)} -> {value}" for name, value in now.items()
                   if before.get(name) != value and not name.startswith(("inference.", "test_"))]
        if changed:
            logger.warning("the run in %s goes on with other settings than it had: %s. For a run "
                           "of its own give another `path_experiment`", self.folder,
                           ", ".join(changed))

    def validate(self) -> list[metrics.Row]:
        """Denoises the fixed mixtures with the averaged weights and measures each."""
        self._update_averaged()
        mixtures = map(self.validation.evaluation_item, range(self.cfg.validation_items))
        return metrics.judge_mixtures(make_predict(self.averaged, self.cfg), mixtures)

    def _train(self, writer: SummaryWriter | None) -> None:
        cfg, progress = self.cfg, self.progress
        batches = self.workers.batches(self.training, progress.step, self.steps,
                                       cfg.loader_workers)
        bar = tqdm(batches, total=self.steps, initial=progress.step, unit="step", disable=None)
        skipped_in_a_row = 0
        clock = _Clock()
        with _Interruption() as interruption:
            for noisy, clean in bar:
                loss = float(self.train_step(noisy, clean))
                progress.step += 1
                if self._updates() < progress.step - progress.skipped:
                    progress.skipped += 1
                    skipped_in_a_row += 1
                    self._refuse_divergence(skipped_in_a_row, loss)
                else:
                    skipped_in_a_row = 0
                    progress.loss_sum += loss
                    progress.loss_count += 1
                clock.steps += 1
                bar.set_postfix(loss=f"{progress.loss:.4f}")
                epoch_ends = progress.step % cfg.steps_per_epoch == 0
                seconds_per_step = clock.seconds_per_step
                if epoch_ends and writer is not None:
                    self._end_epoch(seconds_per_step, writer)
                if epoch_ends:
                    progress.loss_sum, progress.loss_count = 0.0, 0
                if epoch_ends or progress.step % cfg.save_every_steps == 0:
                    self._save_last()
                    if bar.disable:  # no bar where no one watches: a line in the log instead
                        logger.info("step %d of %d, loss %.4f, %.2f s a step", progress.step,
                                    self.steps, loss, seconds_per_step)
                    clock = _Clock()
                if interruption.wanted:
                    self._save_last()
                    logger.info("stopped at step %d; the same command goes on from there",
                                progress.step)
                    raise KeyboardInterrupt

    def _updates(self) -> int:
        """Number of steps that changed the weights."""
        return int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    def _refuse_divergence(self, skipped_in_a_row: int, loss: float) -> None:
        step = self.progress.step
        logger.warning("step %d is left out: its gradients are not finite (loss %g)", step, loss)
        if skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise UserError(f"the gradients were not finite {skipped_in_a_row} times in a row up "
                            f"to step {step}: the run stops and its last checkpoint stays. Try a "
                            f"smaller `lr` or set `gradient_clip`.")

    def _resume(self) -> None:
        last = self.folder / LAST_NAME
        if not last.exists():
            logger.info("a new run in %s", self.folder)
            if self.cfg.weights is not None:
                unet.load_weights(self.averaged, self.cfg.weights)  # it has no optimiser's state
                self.model.set_weights(self.averaged.get_weights())
                logger.info("it starts from %s", self.cfg.weights)
            return
        unet.load_weights(self.model, last)
        with h5py.File(last) as file:
            stored = {name: file.attrs[name].item() for name in vars(self.progress)}
        self.progress = Progress(**stored)
        history = self.folder / HISTORY_NAME
        if history.exists():
            with history.open(newline="", encoding="utf-8") as stream:
                self.history = [{key: float(value) for key, value in row.items()}
                                for row in csv.DictReader(stream)]
            self.history = [row for row in self.history if row["step"] <= self.progress.step]
        logger.info("going on from step %d of %d in %s", self.progress.step, self.steps,
                    self.folder)

    def _update_averaged(self) -> None:
        trained = self.model.get_weights()
        if self._updates() > 0:
            # Keras writes the average, if there is one, over the weights; they are put back.
            self.optimizer.finalize_variable_values(self.model.trainable_variables)
        self.averaged.set_weights(self.model.get_weights())
        self.model.set_weights(trained)

    def _save_last(self) -> None:
        if not self.is_chief:
            return
        self._refuse_full_disk()
        with replacing(self.folder / LAST_NAME) as temporary:
            self.model.save_weights(temporary, overwrite=True)
            with h5py.File(temporary, "a") as file:
                file.attrs.update(vars(self.progress))

    def _refuse_full_disk(self) -> None:
        """Stops the run before a writer does so half-way; TensorBoard's would wait for ever."""
        state = [*self.model.variables, *self.optimizer.variables]
        checkpoint = sum(FLOAT32_BYTES * math.prod(variable.shape) for variable in state)
        needed = max(SMALLEST_FREE_BYTES, SPARE_CHECKPOINTS * checkpoint)
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(f"{self.folder}: the disk is full, {needed / 1e6:.0f} MB must be free; "
                          f"the last checkpoint is kept as it is")

    def _end_epoch(self, seconds_per_step: float, writer: SummaryWriter) -> None:
        self._refuse_full_disk()
        progress, step = self.progress, self.progress.step
        rows = self.validate()
        means = metrics.average(rows)
        row = {"step": step, "epoch": step // self.cfg.steps_per_epoch,
               "lr": float(keras.ops.convert_to_numpy(self.optimizer.learning_rate)),
               "seconds_per_step": seconds_per_step, "memory_gb": _memory_gb(),
               "skipped_steps": progress.skipped,
               "loss": progress.loss, **means}
        for name, value in row.items():
            writer.add_scalar(name, value, step)
        self._show(writer)
        writer.flush()
        logger.info("epoch %d: loss %.4f, SNR gain %.2f dB, clean input kept at %.1f dB, noise "
                    "alone lowered by %.1f dB\n%s", row["epoch"], progress.loss,
                    means["snr_gain_db"], means["clean_si_sdr_db"], -means["noise_left_db"],
                    metrics.format_table(rows, ("category", "input_snr_db")))
        for fault in metrics.find_faults(means):
            logger.warning("epoch %d: %s", row["epoch"], fault)
        for reason, count in self.training.skipped.items():
            logger.warning("%d segments were left out so far: %s", count, reason)
        metric, best = self.cfg.best_metric, self.best_value
        if np.isnan(best) or metrics.is_better(metric, row[metric], best):
            with replacing(self.folder / BEST_NAME) as temporary:
                self.averaged.save_weights(temporary, overwrite=True)
        self.history.append(row)
        with (replacing(self.folder / HISTORY_NAME) as temporary,
              temporary.open("w", newline="", encoding="utf-8") as stream):
            table = csv.DictWriter(stream, fieldnames=list(row), restval="nan",
                                   extrasaction="ignore")
            table.writeheader()
            table.writerows(self.history)

    def _show(self, writer: SummaryWriter) -> None:
        """Lets one hear and see the same few items after every epoch."""
        predict = make_predict(self.averaged, self.cfg)
        for index in range(self.cfg.shown_items):
            mixture = self.validation.evaluation_item(index)
            noise = mixture.noise.replace(" ", "_")
            title = f"{index}_{mixture.category}_{mixture.snr_db:g}dB_{noise}"
            sounds = {"noisy": mixture.noisy, "clean": mixture.clean,
                      "denoised": predict(mixture.noisy[None])[0]}
            sounds["residual"] = mixture.noisy - sounds["denoised"]
            full_scale = max(float(np.abs(sound).max()) for sound in sounds.values())
            panels = []
            for name, sound in sounds.items():
                if self.progress.step == self.cfg.steps_per_epoch or name in ("denoised",
                                                                              "residual"):
                    writer.add_audio(f"{title}/{name}", sound[:, None] / full_scale,
                                     self.progress.step, SAMPLE_RATE)
                panels.append((name, spectrogram.of_array(sound, SAMPLE_RATE)))
            figure = spectrogram.draw(panels, len(mixture.noisy) / SAMPLE_RATE, SAMPLE_RATE)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            writer.add_image(f"{title}/spectrogram", np.asarray(canvas.buffer_rgba())[..., :3],
                             self.progress.step, dataformats="HWC")


def _memory_gb() -> float:
    """Returns what this process holds in memory, without processes that load for it."""
    return psutil.Process().memory_info().rss / 1e9


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns `{"loss.mae": 1.0}` for `{"loss": {"mae": 1.0}}`."""
    flat = {}
    for name, value in tree.items():
        flat |= (_flatten(value, f"{prefix}{name}.") if isinstance(value, dict)
                 else {f"{prefix}{name}": value})
    return flat


class _Interruption:
    """Notes Ctrl-C until a step is whole: within one, half an update would be saved.

    A second Ctrl-C stops at once, and saves nothing.
    """

    def __init__(self) -> None:
        self.wanted = False

    def __enter__(self) -> _Interruption:
        self.before = signal.getsignal(signal.SIGINT)
        # A job in the background ignores Ctrl-C; another thread may not set a handler.
        self.heeds = (self.before is not signal.SIG_IGN
                      and threading.current_thread() is threading.main_thread())
        if self.heeds:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.heeds:
            signal.signal(signal.SIGINT, self.before)

    def _note(self, *_: object) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        logger.info("stopping when this step is done; Ctrl-C again stops at once")


class _Clock:
    """Time for each step since it was made."""

    def __init__(self) -> None:
        self.started, self.steps = time.monotonic(), 0

    @property
    def seconds_per_step(self) -> float:
        return (time.monotonic() - self.started) / max(self.steps, 1)


def make_predict(model: keras.Model, cfg: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the network as a map of waveforms `(batch, samples)`, each at the network's level."""
    return dsp.at_level(
        dsp.in_spectral_domain(lambda spectra: model.predict_on_batch(spectra)[0],
                               cfg.stft.win_size, cfg.stft.hop_size, cfg.stft.highpass_hz,
                               SAMPLE_RATE), cfg.dset.reference_dbfs)


def load_predict(weights: Path, cfg: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the network of `cfg.unet` with `weights`, as `make_predict`.

    Raises:
        FileNotFoundError, ValueError: As `unet.load_weights`.
    """
    model = unet.build_model_denoise(cfg.unet)
    unet.load_weights(model, weights)
    return make_predict(model, cfg)
