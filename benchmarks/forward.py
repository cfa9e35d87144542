"""Compares the network's forward pass with what its arithmetic would cost as matrix products.

    python benchmarks/forward.py --seconds 5                 # the golden form, depth 3
    python benchmarks/forward.py --config conf/conf.yaml     # the shipped form
    KERAS_BACKEND=jax python benchmarks/forward.py

Prints the floating-point operations counted from the layers' shapes, the float32 rate of a large
matrix product on the same backend, the time of a forward pass, and that time over
operations / rate. Products and passes alternate, so that both see the same load of the machine;
CPU time is given beside the time on the clock because it says the same on a busy machine. With
`--train` also the time of a training step, over that of three forward passes' arithmetic
(TensorFlow only).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import config  # noqa: E402 - the path above makes it visible
from denoiser import backend, command_line  # noqa: E402
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig  # noqa: E402

MULTIPLY_ADD = 2  # operations


def count_flops(model: Any, frames: int, bins: int) -> int:
    """Returns the operations of all convolutions for one input of `frames` by `bins`.

    A multiplication and an addition each count once. Transposed convolutions count each input
    sample's products with the kernel, and the projections count at the resolution where the paper
    has them, after the upsampling. Padding, activations and sums are left out.
    """
    return sum(MULTIPLY_ADD * samples * size for samples, size in _conv_sizes(model, frames, bins))


def _conv_sizes(model: Any, frames: int, bins: int) -> Iterator[tuple[int, int]]:
    """Yields the number of positions and the kernel's size of each convolution."""
    from denoiser.network import tensor_ops  # loads Keras

    chosen = model.settings
    full = (frames, tensor_ops.count_folded_bins(bins, chosen.fold_bins, chosen.fold_start))
    sizes = [full]
    for _ in range(chosen.depth):
        sizes.append(tuple(-(-size // 2) for size in sizes[-1]))
    areas = [size[0] * size[1] for size in sizes]

    def block(layer: Any, area: int) -> Iterator[tuple[int, int]]:
        for conv in (*layer.dense, layer.residual):
            yield area, _size(conv.conv.kernel)

    for extractor, stage in zip(model.extractors, model.unets, strict=True):
        yield areas[0], _size(extractor.kernel)
        for level, encoder in enumerate(stage.encoder):
            yield from block(encoder.block, areas[level])
            yield areas[level + 1], _size(encoder.down.conv.kernel)
        yield from block(stage.bottom, areas[-1])
        for level, decoder in enumerate(stage.decoder):
            yield areas[level + 1], _size(decoder.up.kernel)
            if decoder.projection.built:
                yield areas[level], _size(decoder.projection.conv.kernel)
            yield from block(decoder.block, areas[level])
    if chosen.num_stages == 2:
        attention = model.attention
        used = [attention.residual]
        if chosen.use_SAM:
            used += [attention.attended, attention.mask]
        for conv in used:
            yield areas[0], _size(conv.conv.kernel)
    yield areas[0], _size(model.final.conv.kernel)


def _size(kernel: Any) -> int:
    height, width, rows, columns = kernel.shape
    return height * width * rows * columns


def measure(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns seconds on the clock and seconds of CPU time of one call."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - cpu


def make_train_step(model: Any, batch: int, frames: int, bins: int) -> Callable[[], Any]:
    """Returns a compiled training step on fixed noise, with Adam."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)
    generator = tf.random.Generator.from_seed(0)
    noisy, clean = (generator.normal((batch, frames, bins, 2)) for _ in range(2))

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            estimates = model(noisy, training=True)
            loss = tf.add_n([tf.reduce_mean(tf.abs(estimate - clean)) for estimate in estimates])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: step().numpy()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="YAML file whose `unet` block is used")
    parser.add_argument("--depth", type=int)
    parser.add_argument("--num_tfc", type=int)
    parser.add_argument("--num_stages", type=int)
    parser.add_argument("--channels", type=lambda text: [int(part) for part in text.split(",")],
                        help="comma between the numbers")
    parser.add_argument("--extractor_kernel", type=int)
    parser.add_argument("--fold_bins", type=int)
    parser.add_argument("--fold_start", type=int)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--matmul_size", type=int, default=2048)
    parser.add_argument("--train", action="store_true", help="time a training step as well")
    parser.add_argument("--train_batch", type=int, default=4)
    parser.add_argument("--train_seconds", type=float, default=2.0)
    return parser.parse_args(arguments)


def read_settings(arguments: argparse.Namespace) -> config.UnetConfig:
    """Returns the network's settings: the file's where one is given, then the command line's."""
    from omegaconf import OmegaConf

    values = {}
    if arguments.config:
        values = OmegaConf.to_container(OmegaConf.load(arguments.config)).get("unet")
        if values is None:
            raise ValueError(f"`--config` must have a `unet` block. Received: {arguments.config}")
    names = [field.name for field in dataclasses.fields(config.UnetConfig)]
    values |= {name: getattr(arguments, name) for name in names
               if getattr(arguments, name, None) is not None}
    return config.UnetConfig(**values)


def main() -> None:
    """Measures and prints."""
    arguments = parse_arguments()
    settings = read_settings(arguments)
    backend.load_backend()
    import keras
    import numpy as np
    from keras import ops

    import unet

    stft = StftConfig()

    def frames_of(seconds: float) -> int:
        return -(-round(seconds * SAMPLE_RATE) // stft.hop_size) + 1

    frames = frames_of(arguments.seconds)
    model = unet.build_model_denoise(settings)
    rng = np.random.default_rng(0)
    spectrogram = rng.standard_normal((1, frames, stft.bins, 2)).astype("float32")
    side = arguments.matmul_size
    matrix = ops.convert_to_tensor(rng.standard_normal((side, side)).astype("float32"))

    def multiply() -> None:
        ops.convert_to_numpy(ops.matmul(matrix, matrix)[0, 0])  # reading waits for the result

    def forward() -> None:
        model.predict_on_batch(spectrogram)

    calls = {"matmul": multiply, "forward": forward}
    if arguments.train:
        train_frames = frames_of(arguments.train_seconds)
        calls["train"] = make_train_step(model, arguments.train_batch, train_frames, stft.bins)
    for call in calls.values():
        call()  # compiles
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(arguments.repeats):
        for name, call in calls.items():
            times[name].append(measure(call))
            times["matmul"].append(measure(multiply))
    medians = {name: np.median(values, axis=0) for name, values in times.items()}

    flops = count_flops(model, frames, stft.bins)
    ideal = medians["matmul"] * flops / (MULTIPLY_ADD * side**3)
    rate = flops / ideal[0]
    ratio = medians["forward"] / ideal
    lines = [f"backend          {keras.backend.backend()}",
             f"parameters       {model.count_params():,}",
             f"input            {frames} frames x {stft.bins} bins, {arguments.seconds:g} s",
             f"operations       {flops / 1e9:.1f} GFLOP",
             f"matrix product   {rate / 1e9:.1f} GFLOP/s, so at least {ideal[0]:.3f} s",
             f"forward          {medians['forward'][0]:.3f} s ({medians['forward'][1]:.3f} s CPU)",
             f"ratio            {ratio[0]:.3f} (CPU time: {ratio[1]:.3f})"]
    if arguments.train:
        train_flops = 3 * arguments.train_batch * count_flops(model, train_frames, stft.bins)
        seconds = medians["train"][0]
        lines += [f"training step    {seconds:.3f} s, batch {arguments.train_batch} x "
                  f"{train_frames} frames, three forward passes' {train_flops / 1e9:.1f} GFLOP",
                  f"training ratio   {seconds * rate / train_flops:.3f}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    command_line.run_main(main)
