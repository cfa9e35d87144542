"""Measures the peak memory of denoising recordings of several lengths.

    python benchmarks/memory.py 60 360            # seconds; "network" that halves its input
    python benchmarks/memory.py --network 60      # the shipped network
    python benchmarks/memory.py --network 60 --weights=FOLDER

Each length is measured in its own process. It writes noise to a file (stereo at 96 kHz, 24 bits)
and denoises it like `inference.py`, with both results and the journal of `inference.resume`. Prints
the peak of the resident memory in MB of 10^6 bytes, its ratio to that of the first length, and the
memory before the recording was opened.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RATE, BLOCK_SECONDS = 96000, 10


def peak_megabytes() -> float:
    """Returns the peak of this process's resident memory in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # preferred because `getrusage` includes memory of the parent process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def write_noise(path: Path, seconds: int) -> None:
    """Writes noise block by block."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24", format="RF64") as file:
        for done in range(0, seconds, BLOCK_SECONDS):
            samples = min(BLOCK_SECONDS, seconds - done) * RATE
            file.write(0.1 * rng.standard_normal((samples, 2), dtype=np.float32))


def measure(arguments: argparse.Namespace) -> None:
    """Denoises one file in this process; prints memory before, peak memory, and seconds."""
    import inference
    from historical_denoiser.core.memory import give_back_arrays
    from historical_denoiser.network.stored import NetworkSettings
    from historical_denoiser.restoration.restorer import Restorer
    from historical_denoiser.restoration.settings import StageSettings
    from historical_denoiser.run.settings import InferenceConfig

    give_back_arrays()  # like inference.py
    if arguments.network:
        restorer = inference.Denoiser.load(arguments.weights)
    else:
        restorer = Restorer(lambda spectra: 0.5 * spectra, NetworkSettings(reference_dbfs=-20.0),
                            StageSettings.only())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        write_noise(path, arguments.seconds[0])
        before, began = peak_megabytes(), time.perf_counter()
        (job,), _ = inference.plan([path], InferenceConfig())
        inference.denoise_recording(job, restorer, resume="benchmark")
        sys.stdout.write(f"{before:.1f} {peak_megabytes():.1f} {time.perf_counter() - began:.1f}\n")


def main() -> None:
    """Measures each length in a process, and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=int, nargs="+", help="lengths of the recordings")
    parser.add_argument("--network", action="store_true", help="use a real network")
    parser.add_argument("--weights", help="default: the shipped ones")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments)
        return
    # Options are written as --option=value, so that a number alone is a length.
    given = [argument for argument in sys.argv[1:] if not argument.isdecimal()]
    first = None
    for seconds in arguments.seconds:
        done = subprocess.run([sys.executable, __file__, str(seconds), "--child", *given],
                              stdout=subprocess.PIPE, text=True, check=True, env=os.environ)
        before, peak, elapsed = map(float, done.stdout.splitlines()[-1].split())
        first = first or peak
        sys.stdout.write(f"{seconds:6d} s: {peak:6.0f} MB at most, {peak / first:.3f} of the first;"
                         f" {before:.0f} MB before; {elapsed:.0f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
