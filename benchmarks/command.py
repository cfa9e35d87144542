"""Measures whole commands on one file: this project's, by each runtime, and other people's tools.

    python benchmarks/command.py                                    # the bundled example
    python benchmarks/command.py FILE --repeats=3
    python benchmarks/command.py --weights ALONE/best.weights.h5 pretrained/best.onnx small

Weights beside which no ONNX file lies are run by Keras.

Each is a process of its own that reads the file, denoises it and writes the result: what a user
waits for, loading included. All of them are run in turn, so that they meet the same load of the
machine. Prints a Markdown table of medians: seconds on the clock, these over the length of the
sound (the real-time factor), seconds of CPU time, the peak of the resident memory, and the size of
the weights where they are a file. Tools that are not installed are named. Further packages may be
found by PYTHONPATH. On a machine that does other work, the clock says little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "noisy.flac"
# Their names are those of `historical_denoiser.bench.methods`.
TOOLS = ("afftdn", "noisereduce_blind", "rnnoise", "deepfilternet")
NOT_INSTALLED = 3  # exit status of a child
HEADER = ["command", "seconds", "/ sound", "CPU s", "peak MB", "weights MB"]


def run_tool(name: str, source: Path, target: Path) -> None:
    """Denoises a file with a tool, channel by channel, in this process."""
    sys.path.insert(0, str(ROOT))  # as where the commands are
    import numpy as np
    import soundfile

    from historical_denoiser.audio import dsp
    from historical_denoiser.bench.methods import TOOLS as known

    tool = known[name]
    try:
        restore = tool.load()
    except (ImportError, FileNotFoundError) as error:
        sys.stderr.write(f"not installed ({error}): {tool.install}\n")
        sys.exit(NOT_INSTALLED)
    audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
    restored = [dsp.resample(np.asarray(restore(dsp.resample(channel, rate, tool.rate), None)),
                             tool.rate, rate)[:len(audio)] for channel in audio.T]
    soundfile.write(target, np.stack(restored, axis=-1), rate)


def measure(command: list[str]) -> tuple[float, float, float]:
    """Runs a command; returns seconds on the clock, of CPU time, and its peak memory in MB.

    Raises:
        RuntimeError: It failed; the message is the last line that it said.
    """
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said)
        # What this process has in memory counts for a child until it runs its own program, so this
        # one loads next to nothing.
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read().decode(errors="replace").strip().splitlines()[-1])
    unit = 1.0 if sys.platform == "darwin" else 1024.0  # of ru_maxrss, in bytes
    return took, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


def commands(source: Path, folder: Path, weights: list[str]) -> dict[str, list[str]]:
    """Returns what is run, by its name in the table."""
    own = [sys.executable, str(ROOT / "inference.py"), str(source),
           f"inference.output_dir={folder}", "inference.overwrite=true"]
    return ({name: [*own, f"weights={name}"] for name in weights}
            | {"method=lsa": [*own, "method=lsa"]}
            | {name: [sys.executable, __file__, "--tool", name, str(source),
                      str(folder / f"{name}.wav")] for name in TOOLS})


def main() -> None:
    """Reads the command line, and measures each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=EXAMPLE)
    parser.add_argument("target", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", nargs="+", metavar="FILE",
                        default=[str(ROOT / "pretrained" / "best.weights.h5")])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tool", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tool:
        run_tool(arguments.tool, arguments.file, arguments.target)
        return
    told = subprocess.run(
        [sys.executable, "-c", "import soundfile, sys; print(soundfile.info(sys.argv[1]).duration)",
         str(arguments.file)], stdout=subprocess.PIPE, text=True, check=True)
    sound = float(told.stdout)
    with tempfile.TemporaryDirectory() as name:
        chosen = commands(arguments.file.resolve(), Path(name), arguments.weights)
        taken: dict[str, list[tuple[float, float, float]]] = {name: [] for name in chosen}
        failed: dict[str, str] = {}
        for _ in range(arguments.repeats):
            for label, command in chosen.items():
                if label not in failed:
                    try:
                        taken[label].append(measure(command))
                    except RuntimeError as error:
                        failed[label] = str(error)
    sizes = {name: os.path.getsize(name) / 1e6 for name in arguments.weights
             if os.path.isfile(name)}
    rows = [HEADER, ["---"] * len(HEADER)]
    for label in chosen:
        if label in failed:
            rows.append([label, failed[label], *[""] * (len(HEADER) - 2)])
            continue
        clock, cpu, peak = map(statistics.median, zip(*taken[label], strict=True))
        rows.append([label, f"{clock:.1f}", f"{clock / sound:.2f}", f"{cpu:.1f}", f"{peak:.0f}",
                     f"{sizes[label]:.1f}" if label in sizes else ""])
    sys.stdout.write(f"{arguments.file.name}: {sound:.1f} s of sound, median of "
                     f"{arguments.repeats}\n\n")
    sys.stdout.writelines(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    main()
