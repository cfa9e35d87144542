"""What the methods that `evaluate.py` compares cost, and what they gain.

    python benchmarks/methods.py                                  # ours, and every tool
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/methods.py small lsa    # on one core
    python benchmarks/methods.py network lsa adeclick+afftdn experiments/mine --seconds=60
    python benchmarks/methods.py --repeats=0                      # without speed and memory
    python benchmarks/methods.py --bench=experiments/evaluation/bench/bench.csv    # with the gain

Each runs in a process of its own, once to warm up and then `--repeats` times, on a voice-like sound
with white noise 20 dB under it. Prints a Markdown table: of networks the parameters, the operations
for one second of one channel, and the size of the weights (`benchmarks/cost.py` counts them); the
median of the clock and of the CPU time over the length of the sound, the peak of the resident
memory, and what of it there was before the method was loaded (time and memory of the programs that
sox starts do not count). On a machine that does other work, the clock says nothing. With a table
that `evaluate.py 'methods=[...]'` wrote, also each method's mean SNR gain by category.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
from hydra import compose, initialize_config_dir  # noqa: E402

from benchmarks import cost  # noqa: E402
from benchmarks.forward import measure  # noqa: E402
from benchmarks.memory import peak_megabytes  # noqa: E402
from evaluate import NETWORK, is_weights, own_methods  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.bench import methods  # noqa: E402
from historical_denoiser.core.checks import require  # noqa: E402
from historical_denoiser.core.command_line import run_main  # noqa: E402
from historical_denoiser.denoiser import choose_network  # noqa: E402
from historical_denoiser.settings import Config, load_config  # noqa: E402

PROFILE_SECONDS = 1.5
SNR_DB = 20.0
DEFAULTS = (NETWORK, f"{NETWORK}{methods.PROFILE_ENDING}", "small",
            f"small{methods.PROFILE_ENDING}", "lsa", f"lsa{methods.PROFILE_ENDING}",
            *methods.TOOLS, "adeclick+afftdn", "grooveclean+logmmse")
MEASURED = ("clock / sound", "CPU / sound", "peak MB", "MB before")


def count_cost(name: str) -> cost.Cost | None:
    """Counts what the networks of a method, or of the steps of a chain, cost; None without any."""
    steps = [name] if is_weights(name.removesuffix(methods.PROFILE_ENDING)) else name.split("+")
    counted = [found for found in map(_count_step, steps) if found]
    if not counted:
        return None
    return cost.Cost(*(sum(getattr(one, field.name) for one in counted)
                       for field in dataclasses.fields(cost.Cost)))


def _count_step(name: str) -> cost.Cost | None:
    name = name.removesuffix(methods.PROFILE_ENDING)
    if name == NETWORK or is_weights(name):
        weights, settings = choose_network(
            _settings(() if name == NETWORK else (f"weights={name}",)))
        return cost.of_own(settings, weights)
    return cost.count(name)


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


def _as_row(counted: cost.Cost | None) -> dict[str, float] | None:
    return None if counted is None else dataclasses.asdict(counted)


def measure_method(name: str, seconds: float, repeats: int) -> dict[str, Any]:
    """Runs one method in this process."""
    if repeats == 0:
        return {"cost": _as_row(count_cost(name))}
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
    peak = peak_megabytes()  # before parameters are counted, which builds the network again
    return {"clock": clock, "cpu": cpu, "before": before, "peak": peak,
            "cost": _as_row(count_cost(name))}


def main() -> None:
    """Reads the command line, and measures each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*",
                        help="as those of evaluate.py; else ours and all tools")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3, help="0: count without measuring")
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
    """Returns the cells of a row, but for the gains."""
    counted, cells = found["cost"], ["-"] * 3
    if counted is not None:
        cells = [f"{counted['parameters']:,}", f"{counted['flops'] / 1e9:.2f}",
                 f"{counted['megabytes']:.1f}"]
    if "clock" in found:
        cells += [f"{found['clock']:.3f}", f"{found['cpu']:.3f}", f"{found['peak']:.0f}",
                  f"{found['before']:.0f}"]
    return cells


if __name__ == "__main__":
    run_main(main)
