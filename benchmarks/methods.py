"""Measures the time and memory of the methods that `evaluate.py` compares.

    python benchmarks/methods.py                                  # own methods and all tools
    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/methods.py network lsa    # on one core
    python benchmarks/methods.py network lsa adeclick+afftdn experiments/mine --seconds=60

Each method runs in its own process, once to warm up and then `--repeats` times, on an artificial
voice with white noise 20 dB below it. Prints a Markdown table with medians of elapsed and of CPU
time divided by the length of the sound; the peak of the resident memory, and the memory before the
method was loaded. The time and memory of the program sox are not included. Elapsed times are valid
only on a machine without other work.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np
from hydra import compose, initialize_config_dir

from benchmarks.memory import peak_megabytes
from evaluate import NETWORK, is_weights, own_methods
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import methods
from historical_denoiser.core.command_line import run_main
from historical_denoiser.settings import load_config

PROFILE_SECONDS = 1.5
SNR_DB = 20.0
DEFAULTS = (NETWORK, f"{NETWORK}{methods.PROFILE_ENDING}", "lsa", f"lsa{methods.PROFILE_ENDING}",
            *methods.TOOLS, "adeclick+afftdn", "grooveclean+logmmse")
MEASURED = ("clock / sound", "CPU / sound", "peak MB", "MB before")


def measure_method(name: str, seconds: float, repeats: int) -> list[str]:
    """Measures one method, named as in `methods` of evaluate.py; returns the cells of its row."""
    before = peak_megabytes()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf"))
    (method,), _ = methods.choose([name], own_methods(cfg, set()), is_weights)
    rng = np.random.default_rng(0)
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    voice = sum(np.sin(2.0 * np.pi * 150.0 * order * times) / order for order in range(1, 30))
    voice = (0.1 * voice * np.clip(np.sin(2.0 * np.pi * 2.0 * times), 0.0, 1.0)).astype(np.float32)
    noise = rng.standard_normal(len(voice)).astype(np.float32)
    noisy = dsp.mix_at_snr(voice, noise, SNR_DB)
    profile = (noisy - voice)[:round(PROFILE_SECONDS * SAMPLE_RATE)]
    taken = []
    for _ in range(1 + repeats):
        began = np.array([time.perf_counter(), time.process_time()])
        method.each(noisy[None], profile)
        taken.append(np.array([time.perf_counter(), time.process_time()]) - began)
    clock, cpu = np.median(taken[1:], axis=0) / seconds  # the first run compiles
    return [f"{clock:.3f}", f"{cpu:.3f}", f"{peak_megabytes():.0f}", f"{before:.0f}"]


def main() -> None:
    """Measures each method in a process, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*",
                        help="as for evaluate.py; default: own methods and all tools")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        cells = measure_method(arguments.methods[0], arguments.seconds, arguments.repeats)
        sys.stdout.write(json.dumps(cells) + "\n")
        return
    sys.stdout.write(f"| method | {' | '.join(MEASURED)} |\n|{'---|' * (1 + len(MEASURED))}\n")
    for name in arguments.methods or DEFAULTS:
        done = subprocess.run(
            [sys.executable, __file__, name, "--child", f"--seconds={arguments.seconds}",
             f"--repeats={arguments.repeats}"], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            cells = [said[-1], *[""] * (len(MEASURED) - 1)]
        else:
            cells = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(f"| {' | '.join([name, *cells])} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run_main(main)
