"""One training step, on one machine with any Keras backend or on many through `tf.distribute`.

What the workers together do is what one alone does with the whole batch: items are numbered over
the run, and each worker makes only its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from config import StftConfig
from dataset_loader import Mixer, numpy_batches, tf_batches
from losses import Loss

TrainStep = Callable[[Any, Any], Any]


def make_workers(strategy: str, batch_size: int) -> SingleWorker | DistributedWorkers:
    """Returns what trains.

    Args:
        strategy: "none", "mirrored" (all GPUs of this machine) or "multi_worker" (the machines
            that the environment variable `TF_CONFIG` names).
        batch_size: Items in a step of all workers together.

    Raises:
        ValueError: The batch cannot be divided among the devices, or the backend is not
            TensorFlow.
    """
    if strategy == "none":
        return SingleWorker(batch_size)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"`strategy` must be 'none' on Keras's {keras.backend.backend()} backend. "
                         f"Received: strategy={strategy!r}")
    return DistributedWorkers(strategy, batch_size)


class SingleWorker:
    """One process, one device, any backend."""

    index = 0

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which model and optimiser are made."""
        return contextlib.nullcontext()

    def batches(self, mixer: Mixer, stft: StftConfig, first_step: int, steps: int, workers: int,
                ) -> Iterator[tuple[Any, Any]]:
        """Yields noisy and clean spectra `(batch, frames, bins, 2)` of each step."""
        make = tf_batches if keras.backend.backend() == "tensorflow" else numpy_batches
        return iter(make(mixer, stft, self.batch_size, first_step, steps, workers))

    def make_train_step(self, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                        loss: Loss, weights: list[float], gradient_clip: float | None) -> TrainStep:
        """Returns a function of noisy and clean spectra that updates `model` and returns the loss.

        Args:
            model: Returns a list of estimates, one for each stage.
            optimizer: Clips gradients by itself.
            loss: Of one stage.
            weights: Of each stage's loss.
            gradient_clip: Unused: the optimiser knows it.
        """
        stages = len(weights)
        model.compile(optimizer, loss=[loss] * stages, loss_weights=weights,
                      auto_scale_loss=False,
                      # XLA's convolutions are several times slower than oneDNN's on a CPU.
                      jit_compile=keras.backend.backend() == "jax")

        def step(noisy: Any, clean: Any) -> float:
            model.reset_metrics()  # or Keras returns running means
            return model.train_on_batch(noisy, [clean] * stages, return_dict=True)["loss"]

        return step


class DistributedWorkers:
    """This process's part of a `tf.distribute` strategy."""

    def __init__(self, strategy: str, batch_size: int) -> None:
        import tensorflow as tf

        self.strategy = (tf.distribute.MirroredStrategy() if strategy == "mirrored"
                         else tf.distribute.MultiWorkerMirroredStrategy())
        self.replicas = self.strategy.num_replicas_in_sync
        self.local_replicas = len(self.strategy.extended.worker_devices)
        resolver = self.strategy.cluster_resolver
        self.index = resolver.task_id or 0 if resolver is not None else 0
        if batch_size % self.replicas:
            raise ValueError(f"`batch_size` must be a multiple of the {self.replicas} devices. "
                             f"Received: batch_size={batch_size}")
        self.batch_size = batch_size

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which model and optimiser are made."""
        return self.strategy.scope()

    def batches(self, mixer: Mixer, stft: StftConfig, first_step: int, steps: int, workers: int,
                ) -> Iterator[tuple[Any, Any]]:
        """Yields this worker's share of each step's noisy and clean spectra, by device."""
        own = self.batch_size * self.local_replicas // self.replicas
        share = slice(self.index * own, (self.index + 1) * own)

        def split(array: np.ndarray) -> Any:
            parts = np.split(array, self.local_replicas)
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group % self.local_replicas])

        for noisy, clean in numpy_batches(mixer, stft, self.batch_size, first_step, steps, workers,
                                          share):
            yield split(noisy), split(clean)

    def make_train_step(self, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                        loss: Loss, weights: list[float], gradient_clip: float | None) -> TrainStep:
        """Returns a function that updates `model` on all workers; as `SingleWorker`'s.

        Keras's own step does not run under several workers, and would clip each one's gradients
        before they are added.
        """
        import tensorflow as tf

        model.optimizer = optimizer  # its state is saved with the model's

        def replica_step(noisy: Any, clean: Any) -> Any:
            variables = [variable.value for variable in model.trainable_variables]
            with tf.GradientTape() as tape:
                estimates = model(noisy, training=True)
                value = sum(weight * loss(clean, estimate) for weight, estimate
                            in zip(weights, estimates, strict=True)) / self.replicas
                scaled = optimizer.scale_loss(value)
            gradients = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tape.gradient(scaled, variables))
            if gradient_clip is not None:
                largest = gradient_clip * optimizer.dynamic_scale
                gradients, _ = tf.clip_by_global_norm(gradients, largest)
            # The optimiser adds the replicas' gradients, which are already the sum.
            optimizer.apply([gradient / self.replicas for gradient in gradients],
                            model.trainable_variables)
            return value

        @tf.function
        def step(noisy: Any, clean: Any) -> Any:
            values = self.strategy.run(replica_step, args=(noisy, clean))
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

        return step
