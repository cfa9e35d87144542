"""Measures whether several segments at once fill the cores better than one after the other.

    python benchmarks/segments.py                       # the shipped network
    python benchmarks/segments.py --repeats=5 --weights=small

The network hears as many segments of 14 s (9.5 s and their context) as there are cores: one after
the other on all cores, and at once: by ONNX Runtime each on a core of its own, by Keras as one
batch. Each form is a process of its own, and all run in turn, so that they meet the same load of
the machine. Prints medians: seconds on the clock and of CPU time for a second of sound, and the
peak of the resident memory. Loading is left out of the times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEGMENT_SECONDS = 14.0
FORMS = {"ONNX Runtime, one after the other": ("onnx", False),
         "ONNX Runtime, one on each core": ("onnx", True),
         "Keras, one after the other": ("keras", False),
         "Keras, one batch": ("keras", True)}


def run(runtime: str, at_once: bool, weights: str | None) -> tuple[float, float, float]:
    """Returns seconds on the clock and of CPU time, and the peak memory in MB, of this process."""
    sys.path.insert(0, str(ROOT))  # as where the commands are
    import numpy as np

    from benchmarks.forward import measure
    from historical_denoiser.audio.dsp import SAMPLE_RATE
    from historical_denoiser.denoiser import Denoiser

    denoiser = Denoiser.load(weights, wiener=False, runtime=runtime)
    stft, cores = denoiser.settings.stft, os.cpu_count()
    shape = (cores, round(SEGMENT_SECONDS * SAMPLE_RATE / stft.hop_size), stft.bins, 2)
    spectra = np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    def one_by_one() -> None:
        for each in spectra:
            denoiser.network(each[None])

    def together() -> None:
        if runtime == "keras":
            denoiser.network(spectra)
            return
        with ThreadPoolExecutor(cores) as threads:
            list(threads.map(lambda each: denoiser.network(each[None]), spectra))

    call = together if at_once else one_by_one
    call()  # compiles
    clock, used = measure(call)
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # of ru_maxrss, in bytes
    return clock, used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Reads the command line, and measures each form."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", help="of another network than the shipped one")
    parser.add_argument("--form", choices=list(FORMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.form:
        json.dump(run(*FORMS[arguments.form], arguments.weights), sys.stdout)
        return
    taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in FORMS}
    for _ in range(arguments.repeats):
        for name, times in taken.items():
            own = {"OMP_NUM_THREADS": "1"} if FORMS[name] == ("onnx", True) else {}
            done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--form", name],
                                  env=os.environ | own, stdout=subprocess.PIPE, text=True,
                                  check=True)
            times.append(json.loads(done.stdout))
    sound = SEGMENT_SECONDS * os.cpu_count()
    sys.stdout.write(f"{os.cpu_count()} segments of {SEGMENT_SECONDS:g} s, median of "
                     f"{arguments.repeats}\n"
                     "form                                clock / sound  CPU / sound  peak MB\n")
    for name, times in taken.items():
        clock, used, peak = map(statistics.median, zip(*times, strict=True))
        sys.stdout.write(f"{name:<36}{clock / sound:13.3f} {used / sound:12.3f} {peak:8.0f}\n")


if __name__ == "__main__":
    main()
