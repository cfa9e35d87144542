"""Compares a forward pass and a training step with the time that their arithmetic takes.

    python benchmarks/step.py                                   # the form of conf/conf.yaml
    python benchmarks/step.py 'unet.channels=[12,16,24,32,48]' batch_size=8
    KERAS_BACKEND=torch python benchmarks/step.py

The arithmetic is that of the convolutions, multiplications and additions, at the rate of a large
float32 matrix product on the same backend; a training step counts as three forward passes. Products
and passes alternate, so that they meet the same load of the machine. Prints ratios of elapsed and
of CPU time, which depends less on that load; medians of `--repeats`.
"""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
from hydra import compose, initialize_config_dir

from historical_denoiser.audio.dsp import SAMPLE_RATE, count_frames
from historical_denoiser.core import backend
from historical_denoiser.core.command_line import run_main
from historical_denoiser.core.resources import PRETRAINED
from historical_denoiser.network import runtimes
from historical_denoiser.network.stored import read_network_settings
from historical_denoiser.settings import Config, load_config, network_settings

FORWARD_SECONDS = 5.0  # of sound
MATRIX_SIDE = 2048
MULTIPLY_ADD = 2  # operations


def count_operations(model: Any, frames: int, bins: int) -> int:
    """Returns the operations of all convolutions for one item of `frames` by `bins`.

    Padding, activations, sums and the transforms of views are left out.
    """
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


def prepare(cfg: Config) -> dict[str, tuple[Callable[[], Any], int]]:
    """Returns what is measured, each with its operations; the first call of each compiles it."""
    from keras import ops

    import trainer
    from historical_denoiser.training import distribution

    learner = trainer.Learner(cfg, distribution.make_workers("none", cfg.batch_size))
    rng, bins, hop = np.random.default_rng(cfg.seed), cfg.stft.bins, cfg.stft.hop_size
    frames = count_frames(round(FORWARD_SECONDS * SAMPLE_RATE), hop)
    spectra = rng.standard_normal((1, frames, bins, 2)).astype("float32")
    forward = count_operations(learner.averaged, frames, bins)
    samples = round(cfg.seg_len_s_train * SAMPLE_RATE)
    noisy, clean = 0.1 * rng.standard_normal((2, cfg.batch_size, samples)).astype("float32")
    form = network_settings(cfg).profile_form
    batch = [noisy, clean] + ([] if form is None else [np.stack([form.nothing()] * len(noisy))])
    step = 3 * len(noisy) * count_operations(learner.averaged, count_frames(samples, hop), bins)
    matrix = ops.convert_to_tensor(rng.standard_normal([MATRIX_SIDE] * 2).astype("float32"))
    found = {  # reading waits for the result
        "matrix product": (lambda: ops.convert_to_numpy(ops.matmul(matrix, matrix)),
                           MULTIPLY_ADD * MATRIX_SIDE**3),
        "forward pass by Keras": (lambda: learner.predict(spectra), forward),
        "training step": (lambda: float(learner.train_step(*batch)), step)}
    exported = PRETRAINED / "best.onnx"
    stored = read_network_settings(exported)
    if stored is not None and stored.unet == cfg.unet:
        run = runtimes.load(exported, form)
        found["forward pass by ONNX Runtime"] = (lambda: run(spectra), forward)
    return found


def main() -> None:
    """Measures, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("overrides", nargs="*", help="settings, as those of train.py")
    arguments = parser.parse_args()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", arguments.overrides))
    backend.load_backend()
    calls = prepare(cfg)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for repeat in range(arguments.repeats + 1):
        for name, (call, _) in calls.items():
            clock, cpu = time.perf_counter(), time.process_time()
            call()
            if repeat:
                taken[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    rates = [calls["matrix product"][1] / statistics.median(times)
             for times in zip(*taken["matrix product"], strict=True)]
    sys.stdout.write(f"{backend.describe_device()}: {rates[0] / 1e9:.0f} GFLOP/s\n\n"
                     "| | GFLOP | seconds | over its arithmetic | the same, CPU time |\n"
                     f"|{'---|' * 5}\n")
    for name, (_, operations) in calls.items():
        wall, cpu = map(statistics.median, zip(*taken[name], strict=True))
        sys.stdout.write(f"| {name} | {operations / 1e9:.1f} | {wall:.3f} | "
                         f"{wall * rates[0] / operations:.2f} | {cpu * rates[1] / operations:.2f} "
                         "|\n")


if __name__ == "__main__":
    run_main(main)
