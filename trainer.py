"""Training: optimiser, schedule, steps, validation by what one hears, checkpoints and resuming."""

from __future__ import annotations

import csv
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from tensorboard.summary import Writer
from tqdm import tqdm

import dsp
import losses
import metrics
import unet
from config import (
    BEST_NAME,
    CONFIG_NAME,
    LAST_NAME,
    SAMPLE_RATE,
    Config,
    ScheduleConfig,
    replacing,
    save_config,
)
from dataset_loader import Mixer, numpy_batches, tf_batches

logger = logging.getLogger(__name__)

HISTORY_NAME = "history.csv"
BEST_METRIC = "snr_gain_db"
SMALLEST_FREE_BYTES = 100 * 2**20  # a checkpoint and its copy fit many times


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


class Trainer:
    """Trains one network in the folder `cfg.path_experiment` and goes on where it stopped.

    Args:
        cfg: All settings.
        training: Makes the training mixtures.
        validation: Makes the fixed validation mixtures.

    Raises:
        ValueError: The folder holds a run of another network.
    """

    def __init__(self, cfg: Config, training: Mixer, validation: Mixer) -> None:
        self.cfg, self.training, self.validation = cfg, training, validation
        self.folder = Path(cfg.path_experiment)
        self.steps = cfg.epochs * cfg.steps_per_epoch
        keras.utils.set_random_seed(cfg.seed)
        self.model = unet.build_model_denoise(cfg.unet)
        # What is validated and saved: the averaged weights, without the optimiser's state.
        self.averaged = unet.build_model_denoise(cfg.unet)
        self.optimizer = keras.optimizers.Adam(
            make_learning_rate(cfg.lr, cfg.schedule, cfg.steps_per_epoch, self.steps),
            beta_1=cfg.beta1, beta_2=cfg.beta2, global_clipnorm=cfg.gradient_clip,
            use_ema=cfg.ema_momentum is not None, ema_momentum=cfg.ema_momentum or 0.0)
        loss = losses.make_loss(cfg.loss)
        stages = cfg.unet.num_stages
        self.model.compile(
            self.optimizer, loss=[loss] * stages,
            loss_weights=[1.0, cfg.loss.stage1_weight][:stages],
            # XLA's convolutions are several times slower than oneDNN's on a CPU.
            jit_compile=keras.backend.backend() == "jax")
        self.optimizer.build(self.model.trainable_variables)
        self.swap = None
        if cfg.ema_momentum is not None:
            self.swap = keras.callbacks.SwapEMAWeights()
            self.swap.set_model(self.model)
        self.history: list[dict[str, float]] = []

    @property
    def step(self) -> int:
        """Number of steps done."""
        return int(keras.ops.convert_to_numpy(self.optimizer.iterations))

    def fit(self) -> None:
        """Trains up to the last epoch; a run that was stopped goes on from its last checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._resume()
        save_config(self.cfg, self.folder / CONFIG_NAME)
        writer = Writer(str(self.folder / "tensorboard"))
        first_step = self.step
        batches = self._batches(first_step)
        progress = tqdm(batches, total=self.steps, initial=first_step, unit="step", disable=None)
        started = time.monotonic()
        epoch_losses: list[float] = []
        try:
            for noisy, clean in progress:
                values = self.model.train_on_batch(noisy, [clean] * self.cfg.unet.num_stages,
                                                   return_dict=True)
                self.model.reset_metrics()  # or Keras returns running means
                step = self.step
                if not np.isfinite(values["loss"]):
                    raise ValueError(f"the loss is {values['loss']} at step {step}: the run stops "
                                     f"before it saves such weights. Try a smaller `lr` or set "
                                     f"`gradient_clip`.")
                epoch_losses.append(float(values["loss"]))
                progress.set_postfix(loss=f"{np.mean(epoch_losses):.4f}")
                epoch_ends = step % self.cfg.steps_per_epoch == 0
                if epoch_ends:
                    seconds = (time.monotonic() - started) / (step - first_step)
                    self._end_epoch(float(np.mean(epoch_losses)), seconds, writer)
                    epoch_losses.clear()
                if epoch_ends or step % self.cfg.save_every_steps == 0:
                    self._save_last()
        except KeyboardInterrupt:
            self._save_last()
            logger.info("stopped at step %d; the same command goes on from there", self.step)
            raise
        finally:
            writer.close()

    def validate(self) -> dict[str, float]:
        """Denoises the fixed mixtures and averages their measures.

        Returns:
            Each measure's mean, and the SNR gain for each category and each input SNR.
        """
        self._update_averaged()
        mixtures = map(self.validation.evaluation_item, range(self.cfg.validation_items))
        rows = metrics.judge_mixtures(make_predict(self.averaged, self.cfg), mixtures)
        return metrics.average(rows)

    def _batches(self, first_step: int):
        make = tf_batches if keras.backend.backend() == "tensorflow" else numpy_batches
        return make(self.training, self.cfg.stft, self.cfg.batch_size, first_step, self.steps,
                    self.cfg.loader_workers)

    def _resume(self) -> None:
        last = self.folder / LAST_NAME
        if not last.exists():
            logger.info("a new run in %s", self.folder)
            return
        unet.load_weights(self.model, last)
        history = self.folder / HISTORY_NAME
        if history.exists():
            with history.open(newline="", encoding="utf-8") as stream:
                self.history = [{key: float(value) for key, value in row.items()}
                                for row in csv.DictReader(stream)]
            self.history = [row for row in self.history if row["step"] <= self.step]
        logger.info("going on from step %d of %d in %s", self.step, self.steps, self.folder)

    def _update_averaged(self) -> None:
        if self.swap is not None and self.step > 0:
            self.swap.on_test_begin()
        self.averaged.set_weights(self.model.get_weights())
        if self.swap is not None and self.step > 0:
            self.swap.on_test_end()

    def _save_last(self) -> None:
        if shutil.disk_usage(self.folder).free < SMALLEST_FREE_BYTES:
            raise OSError(f"{self.folder}: the disk is full; the last checkpoint is kept as it is")
        with replacing(self.folder / LAST_NAME) as temporary:
            self.model.save_weights(temporary, overwrite=True)

    def _end_epoch(self, loss: float, seconds_per_step: float, writer: Writer) -> None:
        step = self.step
        learning_rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))
        row = {"step": step, "epoch": step // self.cfg.steps_per_epoch, "lr": learning_rate,
               "seconds_per_step": seconds_per_step, "loss": loss,
               **self.validate()}
        for name, value in row.items():
            writer.add_scalar(name, value, step)
        writer.flush()
        logger.info("epoch %d: %s", row["epoch"],
                    " ".join(f"{name}={value:.3g}" for name, value in row.items()))
        best = max((past[BEST_METRIC] for past in self.history), default=-np.inf)
        if row[BEST_METRIC] > best:
            with replacing(self.folder / BEST_NAME) as temporary:
                self.averaged.save_weights(temporary, overwrite=True)
        self.history.append(row)
        with (replacing(self.folder / HISTORY_NAME) as temporary,
              temporary.open("w", newline="", encoding="utf-8") as stream):
            table = csv.DictWriter(stream, fieldnames=list(row), restval="nan",
                                   extrasaction="ignore")
            table.writeheader()
            table.writerows(self.history)


def make_predict(model: keras.Model, cfg: Config) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the network as a map of waveforms `(batch, samples)`, each at the network's level."""
    return dsp.at_level(
        dsp.in_spectral_domain(lambda spectra: model.predict_on_batch(spectra)[0],
                               cfg.stft.win_size, cfg.stft.hop_size, cfg.stft.highpass_hz,
                               SAMPLE_RATE), cfg.dset.reference_dbfs)
