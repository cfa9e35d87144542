"""Measures what a hundred short files cost, over one file of their length.

    python benchmarks/short_files.py                              # 100 files of 1 to 3 s
    python benchmarks/short_files.py --files 20 inference.listen_first=false weights=small

Cuts the bundled example into files of all different lengths, and runs `inference.py` on their
folder, on one file that holds all of them, and on the shortest alone, in turn, so that all meet the
same load of the machine. Prints the medians: seconds on the clock and of CPU time, and both over
those of the long file. Settings of inference.py go on to it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
import soundfile  # noqa: E402

from benchmarks.command import EXAMPLE, measure  # noqa: E402

SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 3.0


def cut(audio: np.ndarray, rate: int, count: int) -> list[np.ndarray]:
    """Returns pieces of different lengths, from places that are spread over the recording."""
    lengths = np.linspace(SHORTEST_SECONDS, LONGEST_SECONDS, count) * rate
    starts = np.linspace(0.0, 1.0, count) * (len(audio) - lengths)
    return [audio[int(start) : int(start) + int(length)]
            for start, length in zip(starts, lengths, strict=True)]


def main() -> None:
    """Reads the command line, and measures each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    arguments, settings = parser.parse_known_args()
    audio, rate = soundfile.read(EXAMPLE)
    pieces = cut(audio, rate, arguments.files)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("short", "long", "shortest"):
            (folder / part).mkdir()
        for number, piece in enumerate(pieces):
            soundfile.write(folder / "short" / f"{number}.flac", piece, rate)
        soundfile.write(folder / "long" / "all.flac", np.concatenate(pieces), rate)
        soundfile.write(folder / "shortest" / "one.flac", pieces[0], rate)
        taken: dict[str, list[tuple[float, float, float]]] = {
            part: [] for part in ("long", "short", "shortest")}
        for _ in range(arguments.repeats):
            for part, times in taken.items():
                times.append(measure([
                    sys.executable, str(ROOT / "inference.py"), str(folder / part),
                    f"inference.output_dir={folder / 'restored'}", "inference.overwrite=true",
                    *settings]))
    medians = {part: [statistics.median(each) for each in zip(*times, strict=True)]
               for part, times in taken.items()}
    sound = sum(map(len, pieces)) / rate
    sys.stdout.write(f"{sound:.0f} s of sound in {arguments.files} files, median of "
                     f"{arguments.repeats}\n"
                     "run                 clock (s)  CPU (s)  clock / long  CPU / long\n")
    for part, label in (("long", "one long file"), ("short", f"{arguments.files} short files"),
                        ("shortest", "the shortest alone")):
        clock, used, _ = medians[part]
        sys.stdout.write(f"{label:<19} {clock:9.1f} {used:8.1f} {clock / medians['long'][0]:13.2f} "
                         f"{used / medians['long'][1]:11.2f}\n")


if __name__ == "__main__":
    main()
