"""Measures whole calls of `inference.py`, including the time to load.

    python benchmarks/command.py                                   # the bundled example
    python benchmarks/command.py FILE "inference.listen_first=false"
    python benchmarks/command.py FOLDER "" "inference.cluster=ray inference.cluster_cores=1"

Each argument after the recording, or the folder of recordings, holds the settings of one call. The
calls alternate, so that the load of the machine is the same for all. Prints a Markdown table of
medians: elapsed seconds, elapsed seconds divided by the length of the sound (the real-time factor),
seconds of CPU time, and the peak of the resident memory. CPU time and memory include processes
that the command waits for, but not the workers of a cluster.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "noisy.flac"
CALLS = ("", "method=lsa")
HEADER = ("settings", "seconds", "/ sound", "CPU s", "peak MB")


def measure(command: list[str]) -> tuple[float, float, float]:
    """Runs a command; returns elapsed seconds, seconds of CPU time, and its peak memory in MB.

    If the command fails, this program ends with the last line of its output.
    """
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        # A child is counted with this process's memory until it runs its own program, so this
        # program imports as little as possible.
        _, status, used = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            lines = output.read().decode(errors="replace").strip().splitlines()
            sys.exit(f"error: {shlex.join(command)}: "
                     f"{lines[-1] if lines else f'exit status {process.returncode}'}")
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # bytes in the unit of ru_maxrss
    return elapsed, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


def sound_seconds(place: Path) -> float:
    """Returns the length of a recording, or of all recordings in a folder (without films)."""
    endings = {f".{name.lower()}" for name in soundfile.available_formats()}
    paths = [place] if place.is_file() else [path for path in place.rglob("*")
                                             if path.suffix.lower() in endings]
    return sum(soundfile.info(path).duration for path in paths)


def main() -> None:
    """Measures each call, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, default=EXAMPLE,
                        help="a file or a folder")
    parser.add_argument("calls", nargs="*", metavar="SETTINGS", help="of one call, in quotes")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    place, sound = arguments.recording.resolve(), sound_seconds(arguments.recording)
    taken: dict[str, list[tuple[float, float, float]]] = {
        settings: [] for settings in arguments.calls or CALLS}
    for _ in range(arguments.repeats):
        for settings, times in taken.items():
            with tempfile.TemporaryDirectory() as folder:
                times.append(measure([
                    sys.executable, str(ROOT / "inference.py"), str(place),
                    f"inference.output_dir={folder}", *shlex.split(settings)]))
    rows = [HEADER, ("---",) * len(HEADER)]
    for settings, times in taken.items():
        clock, cpu, peak = map(statistics.median, zip(*times, strict=True))
        rows.append((settings, f"{clock:.1f}", f"{clock / sound:.2f}", f"{cpu:.1f}", f"{peak:.0f}"))
    sys.stdout.write(f"{place.name}: {sound:.1f} s of sound, median of {arguments.repeats}\n\n")
    sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
