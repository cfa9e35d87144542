"""Measures how fast a folder is denoised by workers of a Ray cluster on this machine.

    python benchmarks/cluster.py                       # 6 copies of the example, 14 s each
    python benchmarks/cluster.py method=lsa --runs 0 3 # settings of inference.py go on to it

Each run is the whole command: without a cluster, with one worker on one core, with one on all
cores, and with as many workers as cores. Prints the seconds until the first result is begun, and
the sound that was restored in a second of the clock after that and altogether.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import soundfile

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "noisy.flac"
LOOK_SECONDS = 0.1


def measure(folder: Path, output: str, settings: list[str], cores: int,
            ) -> tuple[float, float, float]:
    """Runs the command as on a machine of `cores` cores.

    Returns:
        The seconds until it begins, those of all, and the CPU seconds.
    """
    began, start = time.perf_counter(), None
    # Read by Ray when it starts a cluster.
    there = os.environ | {"RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": cores})}
    process = psutil.Popen(
        [sys.executable, str(ROOT / "inference.py"), "recordings",
         f"inference.output_dir={output}", *settings],
        cwd=folder, env=there, stderr=subprocess.DEVNULL)
    used: dict[int, float] = {}
    while process.poll() is None:
        if start is None and any((folder / output).rglob(".*")):
            start = time.perf_counter() - began
        with suppress(psutil.NoSuchProcess):
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    used[one.pid] = sum(one.cpu_times()[:2])  # user and system
        time.sleep(LOOK_SECONDS)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return start, time.perf_counter() - began, sum(used.values())


def main() -> None:
    """Reads the command line, and measures each form of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=6)
    parser.add_argument("--runs", nargs="+", type=int, default=[0, 1, 2, 3],
                        help="of the four, from 0")
    arguments, settings = parser.parse_known_args()
    all_cores = os.cpu_count()
    runs = [("no cluster", 0, all_cores), ("1 worker, 1 core", 1, 1),
            (f"1 worker, {all_cores} cores", all_cores, all_cores),
            (f"{all_cores} workers, 1 core each", 1, all_cores)]
    sound = arguments.files * soundfile.info(EXAMPLE).duration
    sys.stdout.write(f"{sound:.0f} s of sound in {arguments.files} files\n"
                     "run                       start (s)  sound / clock  with the start"
                     "  CPU / sound\n")
    for number in arguments.runs:
        name, cores, machine = runs[number]
        cluster = ["inference.cluster=ray", f"inference.cluster_cores={cores}"] if cores else []
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "recordings").mkdir()
            for copy in range(arguments.files):
                shutil.copy(EXAMPLE, folder / "recordings" / f"{copy}.flac")
            start, whole, used = measure(folder, "restored", [*settings, *cluster],
                                           machine)
        sys.stdout.write(f"{name:<25} {start:9.1f} {sound / (whole - start):14.2f} "
                         f"{sound / whole:15.2f} {used / sound:12.2f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
