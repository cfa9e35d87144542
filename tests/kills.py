"""`python tests/kills.py 200` ends runs by signals at random moments, and looks at what is left.

There must never be a part of a file under the name of a result, nor a changed original; after
SIGINT and SIGTERM no temporary file, and after SIGKILL none any more when the next run is done.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile as sf

PROGRAM = Path(__file__).resolve().parent.parent / "inference.py"
RATE, SECONDS = 44100, 30.0
NAMES = ("a.wav", "b.flac")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LONGEST_RUN_SECONDS = 600.0


def hidden(folder: Path) -> list[str]:
    """Returns the names of temporary files."""
    return sorted(path.name for path in folder.rglob(".*"))


def look(folder: Path, originals: dict[str, bytes]) -> list[str]:
    """Returns what is wrong with the files of a folder in which a run has ended."""
    wrong = [f"{name} was changed" for name, content in originals.items()
             if (folder / name).read_bytes() != content]
    for path in folder.glob("*_*.[wf]*"):
        try:
            samples = len(sf.read(path)[0])
        except sf.LibsndfileError as error:
            wrong.append(f"{path.name} cannot be read ({error})")
            continue
        if samples != round(RATE * SECONDS):
            wrong.append(f"{path.name} has {samples} samples")
    return wrong


def start(folder: Path, arguments: list[str]) -> subprocess.Popen:
    """Starts the program in a folder."""
    return subprocess.Popen([sys.executable, str(PROGRAM), *NAMES, *arguments], cwd=folder,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def main() -> None:
    """Ends runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", default=["method=lsa"],
                        help="of the program; the default is method=lsa")
    arguments = parser.parse_args()
    rng, counts, wrong = np.random.default_rng(arguments.seed), Counter(), []
    audio = rng.uniform(-0.3, 0.3, (round(RATE * SECONDS), 1))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in NAMES:
            sf.write(folder / name, audio, RATE)
        originals = {name: (folder / name).read_bytes() for name in NAMES}
        began = time.monotonic()
        start(folder, arguments.settings).communicate(timeout=LONGEST_RUN_SECONDS)
        longest = time.monotonic() - began
        settings = [*arguments.settings, "inference.overwrite=true"]
        for number in range(arguments.kills):
            chosen = SIGNALS[number % len(SIGNALS)]
            process = start(folder, settings)
            # Python itself takes a moment, in which it answers to Ctrl-C on its own.
            time.sleep(float(rng.uniform(0.02, 1.0)) * longest)
            process.send_signal(chosen)
            _, told = process.communicate(timeout=LONGEST_RUN_SECONDS)
            found = look(folder, originals)
            if chosen != signal.SIGKILL and hidden(folder):
                found.append(f"{hidden(folder)} are left")
            if "Traceback" in told:
                found.append(told)
            counts[f"{chosen.name}: "
                   f"{'ended by it' if process.returncode == -chosen else 'was done before'}"] += 1
            if chosen == signal.SIGKILL and hidden(folder):
                counts["left temporary files"] += 1
                start(folder, settings).communicate(timeout=LONGEST_RUN_SECONDS)
                if hidden(folder):
                    found.append(f"{hidden(folder)} are left after the next run")
            wrong += [f"{number}, {chosen.name}: {what}" for what in found]
    for what, count in sorted(counts.items()):
        sys.stdout.write(f"{count:5d} {what}\n")
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
