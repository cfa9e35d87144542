"""Compares the time of the network's forward pass with that of equally large matrix products.

    python benchmarks/forward.py --seconds 5                 # the published form at depth 3
    python benchmarks/forward.py depth=4 num_tfc=3           # other settings of `unet`
    python benchmarks/forward.py --config conf/conf.yaml     # the shipped form
    KERAS_BACKEND=jax python benchmarks/forward.py

Prints the floating-point operations of the convolutions, the float32 rate of a large matrix
product on the same backend, the time of a forward pass, and that time over operations / rate.
Products and passes alternate, so that the load of the machine is the same for both. CPU time is
printed too because it depends less on that load. With `--train` it also prints the time of a
training step, and its ratio to the operations of three forward passes.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import config  # noqa: E402 - the path above makes it visible
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig, count_frames  # noqa: E402
from historical_denoiser.core import backend, command_line  # noqa: E402

MULTIPLY_ADD = 2  # operations
REPEATS = 7
MATRIX_SIDE = 2048
TRAIN_SECONDS = 2.0  # length of the audio in a training step


def count_flops(model: Any, frames: int, bins: int) -> int:
    """Returns the operations of all convolutions for one input of `frames` by `bins`.

    A multiplication and an addition each count once, for each output sample. Padding, activations,
    sums and the transforms of views are left out.
    """
    import numpy as np

    from historical_denoiser.network import tensor_ops

    convolve, total = tensor_ops.convolve, 0

    def count_and_convolve(inputs: Any, kernel: Any, strides: int = 1) -> Any:
        nonlocal total
        outputs = convolve(inputs, kernel, strides)
        total += MULTIPLY_ADD * math.prod(outputs.shape[1:3]) * math.prod(kernel.shape)
        return outputs

    with mock.patch.object(tensor_ops, "convolve", count_and_convolve):
        model(np.zeros((1, frames, bins, 2), "float32"))
    return total


def measure(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns elapsed seconds and seconds of CPU time of one call."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - cpu


def make_train_step(model: Any, batch: int, frames: int, bins: int) -> Callable[[], Any]:
    """Returns a training step on fixed noise, with Adam; the first call compiles it."""
    import numpy as np

    noisy, clean = np.random.default_rng(0).standard_normal(
        (2, batch, frames, bins, 2)).astype("float32")
    targets = [clean] * model.settings.num_stages
    model.compile("adam", loss=["mae"] * len(targets))
    return lambda: model.train_on_batch(noisy, targets)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", help="of the network, for example depth=4")
    parser.add_argument("--config", type=Path, help="YAML file whose `unet` block is used")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the audio")
    parser.add_argument("--train", action="store_true", help="time a training step as well")
    parser.add_argument("--train_batch", type=int, default=4)
    return parser.parse_args()


def read_settings(arguments: argparse.Namespace) -> config.UnetConfig:
    """Returns the network's settings: those of a file, changed by those of the command line."""
    from omegaconf import OmegaConf

    stored = OmegaConf.load(arguments.config).get("unet", {}) if arguments.config else {}
    return OmegaConf.to_object(OmegaConf.merge(
        config.UnetConfig, stored, OmegaConf.from_dotlist(arguments.settings)))


def main() -> None:
    """Measures, and prints the results."""
    arguments = parse_arguments()
    settings = read_settings(arguments)
    backend.load_backend()
    import keras
    import numpy as np
    from keras import ops

    import unet

    stft = StftConfig()
    frames, train_frames = (count_frames(round(seconds * SAMPLE_RATE), stft.hop_size)
                            for seconds in (arguments.seconds, TRAIN_SECONDS))
    model = unet.build_model_denoise(settings)
    rng = np.random.default_rng(0)
    spectrogram = rng.standard_normal((1, frames, stft.bins, 2)).astype("float32")
    matrix = ops.convert_to_tensor(
        rng.standard_normal((MATRIX_SIDE, MATRIX_SIDE)).astype("float32"))

    def multiply() -> None:
        ops.convert_to_numpy(ops.matmul(matrix, matrix)[0, 0])  # reading waits for the result

    calls = {"matmul": multiply, "forward": lambda: model.predict_on_batch(spectrogram)}
    if arguments.train:
        calls["train"] = make_train_step(model, arguments.train_batch, train_frames, stft.bins)
    for call in calls.values():
        call()  # compiles
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            times[name].append(measure(call))
            times["matmul"].append(measure(multiply))
    medians = {name: np.median(values, axis=0) for name, values in times.items()}

    flops = count_flops(model, frames, stft.bins)
    ideal = medians["matmul"] * flops / (MULTIPLY_ADD * MATRIX_SIDE**3)
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
        seconds, cpu_seconds = medians["train"]
        train_ratio = medians["train"] / (medians["matmul"] * train_flops
                                          / (MULTIPLY_ADD * MATRIX_SIDE**3))
        lines += [f"training step    {seconds:.3f} s ({cpu_seconds:.3f} s CPU), batch "
                  f"{arguments.train_batch} x "
                  f"{train_frames} frames, three forward passes' {train_flops / 1e9:.1f} GFLOP",
                  f"training ratio   {train_ratio[0]:.3f} (CPU time: {train_ratio[1]:.3f})"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    command_line.run_main(main)
