"""`python tests/kills.py 200` ends runs by signals at random moments, and looks at what is left.

There must never be a part of a file under the name of a result, nor a changed original, nor a
report that tells of other files than are there; after SIGINT and SIGTERM no temporary file, and
after SIGKILL none any more when the next run is done.

With `--resume`, every run goes on where the one before was killed by SIGKILL, up to `MOST_KILLS`
times, until it comes to its end: its results must be those of a run that nothing disturbed, bit
for bit, and so must what the report tells of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import programs
import soundfile as sf

ROOT = Path(__file__).resolve().parent.parent
PROGRAM, REPORT_NAME = ROOT / "inference.py", "denoised_report.json"
RATE, SECONDS = 44100, 12.0
NAMES = ("a.wav", "b.flac")
RESUMED_SECONDS = 120.0  # of one file, in steps of 4 s
MOST_KILLS = 4
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LONGEST_RUN_SECONDS = 600.0


def hidden(folder: Path) -> list[str]:
    """Returns the names of temporary files."""
    return sorted(path.name for path in folder.rglob(".*"))


def told(folder: Path) -> dict[str, dict]:
    """Returns what the report in a folder tells of each result, but for the time."""
    path = folder / REPORT_NAME
    if not path.exists():
        return {}
    return {name: {key: value for key, value in entry.items() if key != "ended"}
            for name, entry in json.loads(path.read_text())["results"].items()}


def look(folder: Path, originals: dict[str, bytes]) -> list[str]:
    """Returns what is wrong with the files of a folder in which a run has ended."""
    wrong = [f"{name} was changed" for name, content in originals.items()
             if (folder / name).read_bytes() != content]
    for path in folder.glob("[ab]_*.[wf]*"):
        try:
            samples = len(sf.read(path)[0])
        except sf.LibsndfileError as error:
            wrong.append(f"{path.name} cannot be read ({error})")
            continue
        if samples != round(RATE * SECONDS):
            wrong.append(f"{path.name} has {samples} samples")
    for entry in told(folder).values():
        wrong += [f"the report tells of {size} bytes of {name}"
                  for name, size in entry["files"].items()
                  if not (folder / name).is_file() or (folder / name).stat().st_size != size]
    return wrong


def start(folder: Path, names: Iterable[str], settings: list[str], loaded: bool = False,
          ) -> subprocess.Popen | programs.Forked:
    """Starts the program in a folder; with `loaded`, in a fork of what has loaded TensorFlow."""
    if loaded:
        return programs.start(PROGRAM, *names, *settings, cwd=folder)
    return subprocess.Popen([sys.executable, str(PROGRAM), *names, *settings], cwd=folder,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def start_and_wait(folder: Path, names: Iterable[str], settings: list[str], loaded: bool = False,
                   ) -> subprocess.Popen | programs.Forked:
    """Starts the program, and returns when it has begun to write results, or is over."""
    before = hidden(folder)
    process = start(folder, names, settings, loaded)
    while process.poll() is None and not any(
            name.endswith((".wav", ".flac")) and name not in before for name in hidden(folder)):
        time.sleep(0.02)
    return process


def undisturbed(folder: Path, names: Iterable[str], settings: list[str], loaded: bool = False,
                ) -> tuple[float, float]:
    """Does a run; returns how many seconds it takes, and those until it begins to write."""
    began = time.monotonic()
    process = start_and_wait(folder, names, settings, loaded)
    loading = time.monotonic() - began
    process.communicate(timeout=LONGEST_RUN_SECONDS)
    return time.monotonic() - began, loading


def kill_and_look(folder: Path, kills: int, rng: np.random.Generator, settings: list[str],
                  ) -> tuple[Counter, list[str]]:
    """Ends runs by each of the signals; returns how that went, and what broke the rules."""
    counts, wrong = Counter(), []
    audio = rng.uniform(-0.3, 0.3, (round(RATE * SECONDS), 1))
    for name in NAMES:
        sf.write(folder / name, audio, RATE)
    originals = {name: (folder / name).read_bytes() for name in NAMES}
    longest, loading = undisturbed(folder, NAMES, settings)
    settings = [*settings, "inference.overwrite=true"]
    for number in range(kills):
        chosen = SIGNALS[number % len(SIGNALS)]
        # Every other one while it loads, where Python itself answers to Ctrl-C at first; the rest
        # while it writes.
        loads = number // len(SIGNALS) % 2 == 0
        process = (start if loads else start_and_wait)(folder, NAMES, settings)
        time.sleep(float(rng.uniform(0.02, 1.0)) * (loading if loads else longest - loading))
        process.send_signal(chosen)
        _, lines = process.communicate(timeout=LONGEST_RUN_SECONDS)
        found = look(folder, originals)
        if chosen != signal.SIGKILL and hidden(folder):
            found.append(f"{hidden(folder)} are left")
        if "Traceback" in lines:
            found.append(lines)
        counts[f"{chosen.name}: "
               f"{'ended by it' if process.returncode == -chosen else 'was done before'}"] += 1
        if chosen == signal.SIGKILL and hidden(folder):
            counts["left temporary files"] += 1
            start(folder, NAMES, settings).communicate(timeout=LONGEST_RUN_SECONDS)
            if hidden(folder):
                found.append(f"{hidden(folder)} are left after the next run")
        wrong += [f"{number}, {chosen.name}: {what}" for what in found]
    return counts, wrong


def kill_and_go_on(folder: Path, kills: int, rng: np.random.Generator, settings: list[str],
                   seconds: float = RESUMED_SECONDS) -> tuple[Counter, list[str]]:
    """Kills runs that then go on; returns as `kill_and_look`, of at least so many kills."""
    counts, wrong = Counter(), []
    settings = [*settings, "inference.resume=true", "inference.segment_seconds=4"]
    sf.write(folder / "a.wav", rng.uniform(-0.3, 0.3, (round(RATE * seconds), 1)), RATE)
    longest, loading = undisturbed(folder, ["a.wav"], settings, loaded=True)
    results = [folder / f"a_{what}.wav" for what in ("denoised", "residual")]
    if not all(path.exists() for path in results):
        return counts, ["the run that nothing disturbs fails"]
    whole, entries = [path.read_bytes() for path in results], told(folder)
    while counts["killed"] < kills and not wrong:
        for path in [*results, folder / REPORT_NAME]:
            path.unlink()
        for _ in range(MOST_KILLS):
            process = start_and_wait(folder, ["a.wav"], settings, loaded=True)
            time.sleep(float(rng.uniform(0.0, 0.6)) * (longest - loading))
            process.send_signal(signal.SIGKILL)
            _, lines = process.communicate(timeout=LONGEST_RUN_SECONDS)
            if process.returncode != -signal.SIGKILL:
                break
            counts["killed"] += 1
            counts["left something to go on with"] += any(
                path.stat().st_size for path in folder.glob(".*.resume"))
        else:
            process = start(folder, ["a.wav"], settings, loaded=True)
            _, lines = process.communicate(timeout=LONGEST_RUN_SECONDS)
        counts["came to their end"] += 1
        if process.returncode:
            wrong.append(f"what is to go on ends with {process.returncode}: {lines}")
        elif [path.read_bytes() for path in results] != whole:
            wrong.append("the results are others")
        elif told(folder) != entries:
            wrong.append(f"the report tells {told(folder)} instead of {entries}")
        elif hidden(folder):
            wrong.append(f"{hidden(folder)} are left")
    return counts, wrong


def main() -> None:
    """Ends runs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="let the runs go on")
    parser.add_argument("settings", nargs="*", default=["method=lsa"],
                        help="of the program; the default is method=lsa")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        counts, wrong = (kill_and_go_on if arguments.resume else kill_and_look)(
            folder, arguments.kills, np.random.default_rng(arguments.seed), arguments.settings)
    finally:
        shutil.rmtree(folder)
    for what, count in sorted(counts.items()):
        sys.stdout.write(f"{count:5d} {what}\n")
    sys.stdout.writelines(f"{line}\n" for line in wrong)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
