"""Measures the speed and the memory of the methods that `evaluate.py` compares.

    python benchmarks/methods.py                                  # every method that is installed
    python benchmarks/methods.py network lsa adeclick+afftdn experiments/mine --seconds=60

Each runs in a process of its own, once to warm up and then `--repeats` times, on a voice-like sound
with white noise 20 dB under it. Prints a Markdown table: parameters where the weights tell them,
the median of the clock and of the CPU time over the length of the sound, the peak of the resident
memory, and what of it there was before the method was loaded (time and memory of the programs that
sox starts do not count). On a machine that does other work, the times say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
from hydra import compose, initialize_config_dir  # noqa: E402

from benchmarks.forward import measure  # noqa: E402
from benchmarks.memory import peak_megabytes  # noqa: E402
from config import Config, load_config  # noqa: E402
from denoiser.audio import dsp  # noqa: E402
from denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from denoiser.bench import methods  # noqa: E402
from denoiser.command_line import run_main  # noqa: E402
from evaluate import is_weights, own_methods  # noqa: E402

PROFILE_SECONDS = 1.5
SNR_DB = 20.0


def count_parameters(name: str) -> int | None:
    """Returns the number of a network's parameters, where its weights can be read; else None."""
    name = name.removesuffix(methods.PROFILE_ENDING)
    if name == "grooveclean":
        from grooveclean import detect

        model = detect.Detector.load(None, detect.resolve_device("cpu")).model
        return sum(parameter.numel() for parameter in model.parameters())
    if name == "network" or is_weights(name):
        import unet
        from inference import choose_network

        cfg = _settings(() if name == "network" else (f"weights={name}",))
        return int(unet.build_model_denoise(choose_network(cfg)[1].unet).count_params())
    return None


def _settings(overrides: tuple[str, ...] = ()) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(compose("conf", list(overrides)))


def measure_method(name: str, seconds: float, repeats: int) -> dict[str, float | str | None]:
    """Runs one method in this process."""
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
            "parameters": count_parameters(name)}


def main() -> None:
    """Reads the command line, and measures each method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="as those of evaluate.py; else all")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        found = measure_method(arguments.methods[0], arguments.seconds, arguments.repeats)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write("| method | parameters | clock / sound | CPU / sound | peak MB | MB before |\n"
                     "|---|---|---|---|---|---|\n")
    names = arguments.methods or ["network", "lsa", *methods.TOOLS]
    for name in names:
        done = subprocess.run(
            [sys.executable, __file__, name, "--child", f"--seconds={arguments.seconds}",
             f"--repeats={arguments.repeats}"], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.stdout.write(f"| {name} | {done.stderr.strip().splitlines()[-1]} | | | | |\n")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        parameters = "-" if found["parameters"] is None else f"{found['parameters']:,}"
        sys.stdout.write(f"| {name} | {parameters} | {found['clock']:.3f} | {found['cpu']:.3f} | "
                         f"{found['peak']:.0f} | {found['before']:.0f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run_main(main)
