"""Training steps, on one device with any Keras backend or on many through `tf.distribute`.

Several workers train the same network as one alone would: each makes a share of every batch.
`make_workers` chooses between the two.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.core.checks import UserError
from historical_denoiser.data.feeding import MixtureSource, numpy_batches
from historical_denoiser.network import tensor_dsp
from historical_denoiser.training.losses import make_loss
from historical_denoiser.training.settings import LossConfig

TrainStep = Callable[[Any, Any], Any]


class OnWaveforms(keras.Model):
    """A network with an input of waveforms, of which this model computes the spectra, and its loss.

    Args:
        network: The network to train.
        loss: The weights of the parts of the loss.
        stft: The transform of the network.
        estimates_profiles: Whether a profile of `ProfileForm.to_be_heard` is replaced by that of
            the noise which the network removes without a profile, as `inference.listen_first`
            does when a recording is restored.
        teacher: A network with as many stages, whose estimates replace the clean spectrum as the
            targets of the loss (after Hinton et al. 2015, "Distilling the knowledge in a neural
            network"); None without one.

    Input: waveforms `(batch, samples)`, or the list [waveforms, noise profiles].
    Output: that of `network`, a list of estimated spectra of which the last stage's is the first;
        then that of `teacher`, if there is one.
    """

    def __init__(self, network: keras.Model, loss: LossConfig, stft: StftConfig,
                 estimates_profiles: bool = False, teacher: keras.Model | None = None) -> None:
        # Spectra are computed in single precision even if the network uses mixed precision.
        super().__init__(name="on_waveforms", dtype="float32")
        self.network, self.stft, self.estimates_profiles = network, stft, estimates_profiles
        self.teacher = teacher
        if teacher is not None:
            teacher.trainable = False
        self.stage_loss = make_loss(loss, stft)
        self.stage_weights = (1.0, loss.stage1_weight)

    def call(self, inputs: Any) -> list[Any]:
        waveforms, *profile = inputs if isinstance(inputs, (list, tuple)) else [inputs]
        spectra = tensor_dsp.stft(waveforms, self.stft)
        if profile and self.estimates_profiles:
            profile = [self._estimate_profiles(spectra, *profile)]
        given = [spectra, *profile] if profile else spectra
        estimates = self.network(given, training=True)
        if self.teacher is None:
            return estimates
        # In training mode it would drop out features, and backends would record its operations.
        targets = self.teacher(given, training=False)
        return [*estimates, *(ops.stop_gradient(each) for each in targets)]

    def _estimate_profiles(self, spectra: Any, profiles: Any) -> Any:
        """Replaces negative profiles by those of the noise that the network removes without one.

        No gradient passes through these estimates.
        """
        known = ops.maximum(profiles, 0.0)
        denoised = self.network([spectra, ops.zeros_like(known)], training=True)[0]
        noise = ops.stop_gradient(spectra - ops.cast(denoised, "float32"))
        estimated = tensor_dsp.measure_profile(noise, self.network.settings.compression)
        return ops.where(profiles < 0.0, estimated, known)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None,
                     sample_weight: Any = None, training: bool = True) -> Any:
        """Returns the weighted sum of the losses of all stages, for clean waveforms `y` or the
        estimates of the teacher.

        Args:
            x, y, y_pred, sample_weight, training: As in `keras.Model.compute_loss`.
        """
        waveforms = x[0] if isinstance(x, (list, tuple)) else x
        noisy, target = (tensor_dsp.stft(each, self.stft) for each in (waveforms, y))
        targets = [target] * len(y_pred)
        if self.teacher is not None:
            stages = len(y_pred) // 2
            y_pred, targets = y_pred[:stages], y_pred[stages:]
        return sum(weight * self.stage_loss(target, estimate, noisy)  # there may be one stage
                   for weight, estimate, target in zip(self.stage_weights, y_pred, targets,
                                                       strict=False))


def make_workers(strategy: str, batch_size: int) -> Workers:
    """Returns the workers of this process.

    Args:
        strategy: "none" (one device), "mirrored" (all GPUs of this machine) or "multi_worker" (the
            machines that the environment variable `TF_CONFIG` names).
        batch_size: Number of items in a step of all workers together.

    Raises:
        UserError: The batch cannot be divided among the devices, or several devices are used with
            another backend than TensorFlow.
    """
    if strategy == "none":
        return SingleWorker(batch_size)
    if keras.backend.backend() != "tensorflow":
        raise UserError(f"`strategy` must be 'none' on Keras's {keras.backend.backend()} backend. "
                        f"Received: strategy={strategy!r}")
    return DistributedWorkers(strategy, batch_size)


class SingleWorker:
    """A single process on one device, with any Keras backend."""

    index = 0

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which model and optimiser are made."""
        return contextlib.nullcontext()

    def batches(self, mixer: MixtureSource, first_step: int, steps: int, loader_workers: int,
                ) -> Iterator[list[Any]]:
        """Yields the batches of `feeding.numpy_batches`.

        Args:
            mixer, first_step, steps, loader_workers: As in `feeding.numpy_batches`.
        """
        return numpy_batches(mixer, self.batch_size, first_step, steps, loader_workers)

    def make_train_step(self, trained: OnWaveforms, optimizer: keras.optimizers.LossScaleOptimizer,
                        ) -> TrainStep:
        """Returns a function that trains a step on the arrays of a batch and returns the loss."""
        # With TensorFlow on a CPU, XLA is not faster and takes more memory; JAX always uses it.
        trained.compile(optimizer, auto_scale_loss=False,
                        jit_compile=keras.backend.backend() == "jax")

        def step(noisy: Any, clean: Any, *profile: Any) -> float:
            trained.reset_metrics()  # otherwise Keras returns a running mean
            inputs = [noisy, *profile] if profile else noisy
            return trained.train_on_batch(inputs, clean, return_dict=True)["loss"]

        return step


class DistributedWorkers:
    """The devices of this process in a `tf.distribute` strategy."""

    def __init__(self, strategy: str, batch_size: int) -> None:
        import tensorflow as tf

        self.batch_size = batch_size
        self.strategy = (tf.distribute.MirroredStrategy() if strategy == "mirrored"
                         else tf.distribute.MultiWorkerMirroredStrategy())
        self.replicas = self.strategy.num_replicas_in_sync
        self.local_replicas = len(self.strategy.extended.worker_devices)
        resolver = self.strategy.cluster_resolver
        if resolver is not None and resolver.task_type not in (None, "", "worker"):
            raise UserError("`TF_CONFIG` must name tasks of the type \"worker\" alone. "
                            f"Received: {resolver.task_type!r}")
        self.index = resolver.task_id or 0 if resolver is not None else 0
        if batch_size % self.replicas:
            raise UserError(f"`batch_size` must be a multiple of the {self.replicas} devices. "
                            f"Received: batch_size={batch_size}")

    def scope(self) -> contextlib.AbstractContextManager:
        """Returns the context in which model and optimiser are made."""
        return self.strategy.scope()

    def batches(self, mixer: MixtureSource, first_step: int, steps: int, loader_workers: int,
                ) -> Iterator[list[Any]]:
        """Yields this process's share of each batch, with every array divided among its devices.

        Args:
            mixer, first_step, steps, loader_workers: As in `feeding.numpy_batches`.
        """
        own = self.batch_size * self.local_replicas // self.replicas
        share = slice(self.index * own, (self.index + 1) * own)

        def split(array: np.ndarray) -> Any:
            parts = np.split(array, self.local_replicas)
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: parts[context.replica_id_in_sync_group % self.local_replicas])

        for batch in numpy_batches(mixer, self.batch_size, first_step, steps, loader_workers,
                                   share):
            yield [split(array) for array in batch]

    def make_train_step(self, trained: OnWaveforms, optimizer: keras.optimizers.LossScaleOptimizer,
                        ) -> TrainStep:
        """Returns a function that trains a step on all workers and returns the loss.

        Keras's own step does not run on several workers, and would clip the gradients of each
        replica before they are added.
        """
        import tensorflow as tf

        model, max_norm = trained.network, optimizer.inner_optimizer.global_clipnorm

        def replica_step(noisy: Any, clean: Any, *profile: Any) -> Any:
            inputs = [noisy, *profile] if profile else noisy
            variables = [variable.value for variable in model.trainable_variables]
            with tf.GradientTape() as tape:
                value = trained.compute_loss(inputs, clean, trained(inputs)) / self.replicas
                scaled = optimizer.scale_loss(value)
            gradients = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, tape.gradient(scaled, variables))
            if max_norm is not None:
                gradients, _ = tf.clip_by_global_norm(gradients, max_norm * optimizer.dynamic_scale)
            # The optimiser adds the gradients of all replicas, each of which is the sum already.
            optimizer.apply([gradient / self.replicas for gradient in gradients],
                            model.trainable_variables)
            return value

        @tf.function
        def step(*batch: Any) -> Any:
            values = self.strategy.run(replica_step, args=batch)
            return self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)

        return step


Workers = SingleWorker | DistributedWorkers
