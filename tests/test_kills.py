"""Runs that are ended by signals at random moments leave nothing broken, and can be gone on with.

`KILLS=200 python -m pytest -m slow tests/test_kills.py` ends so many runs.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile as sf

from historical_denoiser.run.report import REPORT_NAME

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")]
KILLS = int(os.environ.get("KILLS", 3))
RATE, SECONDS, RESUMED_SECONDS = 44100, 12.0, 24.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


def hidden(folder: Path) -> set[str]:
    """Returns the names of temporary files and journals."""
    return {path.name for path in folder.rglob(".*")}


def entries(folder: Path) -> dict[str, dict]:
    """Returns what the report in a folder says of each result, but for the time."""
    path = folder / REPORT_NAME
    results = json.loads(path.read_text())["results"] if path.exists() else {}
    return {name: {key: value for key, value in entry.items() if key != "ended"}
            for name, entry in results.items()}


def require_sound(folder: Path, originals: dict[str, bytes]) -> None:
    """Asserts that originals are as before, results whole, and the report right."""
    for name, content in originals.items():
        assert (folder / name).read_bytes() == content
    for path in folder.glob("[ab]_*.[wf]*"):
        assert len(sf.read(path)[0]) == round(RATE * SECONDS), path
    for entry in entries(folder).values():
        for name, size in entry["files"].items():
            assert (folder / name).stat().st_size == size, name


def start(folder: Path, *arguments: str, writes: bool = True) -> subprocess.Popen | programs.Forked:
    """Starts the program; with `writes`, returns when it writes results, or is over."""
    before = hidden(folder)
    process = programs.start("inference.py", *arguments, cwd=folder)
    while writes and process.poll() is None and not any(
            name.endswith((".wav", ".flac")) for name in hidden(folder) - before):
        time.sleep(0.02)
    return process


def measure(folder: Path, *arguments: str) -> tuple[float, float]:
    """Does a run; returns the seconds until it writes, and those until it ends after that."""
    began = time.monotonic()
    process = start(folder, *arguments)
    loading = time.monotonic() - began
    _, lines = process.communicate()
    assert process.returncode == 0, lines
    return loading, time.monotonic() - began - loading


def test_runs_that_are_ended_by_signals_leave_nothing_broken(tmp_path):
    rng = np.random.default_rng(4)
    audio = rng.uniform(-0.3, 0.3, round(RATE * SECONDS))
    for name in ("a.wav", "b.flac"):
        sf.write(tmp_path / name, audio, RATE)
    originals = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    arguments = (*originals, "method=lsa")
    loading, writing = measure(tmp_path, *arguments)
    for number in range(KILLS):
        chosen, writes = SIGNALS[number % len(SIGNALS)], number // len(SIGNALS) % 2 == 0
        process = start(tmp_path, *arguments, "inference.overwrite=true", writes=writes)
        time.sleep(rng.uniform(0.02, 1.0) * (writing if writes else loading))
        process.send_signal(chosen)
        _, lines = process.communicate()
        assert "Traceback" not in lines
        require_sound(tmp_path, originals)
        if chosen == signal.SIGKILL:  # its temporary files go with the next run
            measure(tmp_path, *arguments, "inference.overwrite=true")
        assert hidden(tmp_path) == set()


@pytest.mark.parametrize("method", ["lsa", "network"])
def test_a_run_that_goes_on_gives_what_one_that_nothing_disturbs_gives(tmp_path, method, tiny_run):
    rng = np.random.default_rng(3)
    sf.write(tmp_path / "a.wav", rng.uniform(-0.3, 0.3, round(RATE * RESUMED_SECONDS)), RATE)
    arguments = ("a.wav", "method=lsa" if method == "lsa" else f"path_experiment={tiny_run}",
                 "inference.resume=true", "inference.segment_seconds=4")
    _, writing = measure(tmp_path, *arguments)
    results = [tmp_path / f"a_{what}.wav" for what in ("denoised", "residual")]
    whole, told = [path.read_bytes() for path in results], entries(tmp_path)
    killed = 0
    while killed < KILLS:
        for path in [*results, tmp_path / REPORT_NAME]:
            path.unlink(missing_ok=True)
        process = start(tmp_path, *arguments)
        while process.poll() is None:  # after each kill, the next run goes on
            time.sleep(rng.uniform(0.0, 0.6) * writing)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == -signal.SIGKILL:
                killed += 1
                process = start(tmp_path, *arguments)
            if killed >= KILLS:
                break
        _, lines = process.communicate()
        assert process.returncode == 0, lines
        assert [path.read_bytes() for path in results] == whole
        assert entries(tmp_path) == told and hidden(tmp_path) == set()
