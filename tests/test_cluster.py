"""A folder spread over a cluster gives what a plain run gives, also when a worker is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import types
from contextlib import ExitStack, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import programs
import psutil
import pytest
from audio_samples import write_audio

import config
import inference
from historical_denoiser import denoise
from historical_denoiser.core.checks import UserError
from historical_denoiser.run import cluster
from historical_denoiser.run.inputs import find_recordings
from historical_denoiser.run.jobs import Job, plan
from historical_denoiser.run.report import REPORT_NAME
from historical_denoiser.run.settings import InferenceConfig

ROOT = Path(inference.__file__).resolve().parent
MAX_SECONDS = 300.0
SECONDS = 20.0  # of each recording


def needs_ray(test):
    return pytest.mark.slow(pytest.mark.skipif(
        find_spec("ray") is None, reason="Ray is not installed (requirements-cluster.txt)")(test))


def arguments(output: str, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "inference.py"), "recordings",
            f"inference.output_dir={output}", *more]


def run(folder: Path, output: str, *more: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(arguments(output, *more), cwd=folder, capture_output=True, text=True,
                          timeout=MAX_SECONDS, env=os.environ | environment)


def start(folder: Path, output: str, *more: str) -> subprocess.Popen:
    """Spreads a folder over two workers of this machine."""
    return subprocess.Popen(
        arguments(output, "inference.cluster=ray", "inference.cluster_cores=1", *more), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def find_busy_worker(process: subprocess.Popen, output: Path, stem: str = "") -> psutil.Process:
    """Waits for a worker that is in the middle of writing a result (of `stem`); returns it."""
    ends = time.monotonic() + MAX_SECONDS
    while process.poll() is None and time.monotonic() < ends:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                paths = [Path(file.path) for file in child.open_files()]
                if any(path.is_relative_to(output) and stem in path.name for path in paths):
                    return child
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.01)
    raise AssertionError(f"no worker wrote anything: {process.communicate()[0]}")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != REPORT_NAME}


def report_without_times(folder: Path) -> dict:
    """Returns a report; recordings come in any order."""
    report = json.loads((folder / REPORT_NAME).read_text())
    for entry in (report["last_run"], *report["results"].values()):
        for name in ("began", "ended"):
            entry.pop(name, None)
    report["last_run"]["done"].sort()
    return report


@pytest.fixture
def collection(tmp_path):
    """A folder above a folder `recordings`, with one that cannot be read."""
    for name in ("a.wav", "side/b.wav", "side/c.flac", "d.wav"):
        write_audio(tmp_path / "recordings" / name, SECONDS)
    (tmp_path / "recordings" / "broken.wav").write_bytes(b"no sound")
    return tmp_path


@needs_ray
def test_a_killed_worker_changes_nothing(collection, tiny_run):
    # Without a journal, the first of the plain run would be rounded otherwise.
    chosen = [f"weights={tiny_run}", "inference.resume=true"]
    plain = run(collection, "plain", *chosen)
    process = start(collection, "spread", *chosen)
    victim = find_busy_worker(process, collection / "spread")
    os.kill(victim.pid, signal.SIGKILL)
    told = process.communicate(timeout=MAX_SECONDS)[0]

    assert "died while it restored this; another tries" in told
    assert process.returncode == plain.returncode == inference.SOME_FAILED_STATUS
    assert contents(collection / "spread") == contents(collection / "plain")
    assert len(contents(collection / "spread")) == 8  # and no temporary file is left
    assert report_without_times(collection / "spread") == report_without_times(collection / "plain")
    # Nothing but the lines of a plain run, and two of the cluster.
    lines = {line for line in told.splitlines() if not line.startswith(("INFO: ", "WARNING: "))}
    assert lines == {line.replace("plain", "spread") for line in plain.stderr.splitlines()
                     if not line.startswith(("INFO: ", "WARNING: "))}
    again = run(collection, "spread", "inference.cluster=ray", *chosen)
    assert again.stderr.count("has its results already and is left alone") == 4
    assert again.returncode == inference.SOME_FAILED_STATUS and "workers" not in again.stderr


@needs_ray
def test_a_local_cluster_listens_to_this_machine_and_ends_at_ctrl_c(collection):
    # So long that it is not done before the signal comes, however busy this machine is.
    write_audio(collection / "recordings" / "long.wav", 15.0 * SECONDS)
    process = start(collection, "spread", "method=lsa")
    find_busy_worker(process, collection / "spread", "long")
    children = psutil.Process(process.pid).children(recursive=True)
    listening = set()
    for one in [psutil.Process(process.pid), *children]:
        with suppress(psutil.NoSuchProcess):  # some of Ray's helpers live for a moment only
            listening |= {each.laddr.ip for each in one.net_connections("tcp")
                          if each.status == psutil.CONN_LISTEN}
    assert listening and listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    told = process.communicate(timeout=MAX_SECONDS)[0]
    assert process.returncode == -signal.SIGINT and "Traceback" not in told
    assert not any(path.name.startswith(".") for path in (collection / "spread").rglob("*"))
    assert psutil.wait_procs(children, timeout=20)[1] == []


@needs_ray
def test_a_recording_that_kills_its_workers_fails_alone(tmp_path):
    write_audio(tmp_path / "recordings" / "long.wav", 60.0)
    write_audio(tmp_path / "recordings" / "short.wav", 1.0)
    process = start(tmp_path, "spread", "method=lsa")
    for _ in range(cluster.MAX_ATTEMPTS):
        victim = find_busy_worker(process, tmp_path / "spread", "long_")
        victim.kill()
        victim.wait()
    told = process.communicate(timeout=MAX_SECONDS)[0]
    assert process.returncode == inference.SOME_FAILED_STATUS
    assert "recordings/long.wav: 3 workers died while they restored it" in told
    assert told.count("died while it restored this; another tries") == cluster.MAX_ATTEMPTS - 1
    assert "Traceback" not in told
    report = report_without_times(tmp_path / "spread")
    assert report["last_run"]["done"] == ["short_denoised.wav"]
    assert list(report["last_run"]["failed"]) == ["recordings/long.wav"]


@pytest.fixture
def two_machines(tmp_path, monkeypatch):
    """The address of a cluster of two machines with a core each, both of which are this one."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1",
               "--disable-usage-stats"]
    with ExitStack() as stack:
        # Sockets lie in this folder, and their paths may not be long.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", dir="/tmp"))
        told = _start_machine([*program, "--head", f"--port={programs.free_port()}",
                               "--include-dashboard=false", "--temp-dir", folder],
                              tmp_path / "head.log", stack)
        address = re.search(r"--address='(\S+)'", told)[1]
        _start_machine([*program, f"--address={address}"], tmp_path / "other.log", stack)
        yield address


def _start_machine(call: list[str], log: Path, stack: ExitStack) -> str:
    """Starts Ray, has it ended with `stack`, and returns what it said."""
    with log.open("w") as file:
        machine = subprocess.Popen(call, stdout=file, stderr=file, start_new_session=True)
    stack.callback(machine.wait, MAX_SECONDS)
    stack.callback(machine.terminate)  # comes first; it ends what it started
    ends = time.monotonic() + MAX_SECONDS
    while "--block" not in log.read_text():  # the last that it says
        assert machine.poll() is None and time.monotonic() < ends, log.read_text()
        time.sleep(0.1)
    return log.read_text()


@needs_ray
def test_machines_that_wait_for_work_share_it(two_machines, collection):
    chosen = ["method=lsa", "inference.cluster=ray", f"inference.cluster_address={two_machines}"]
    done = run(collection, "spread", *chosen)
    assert done.returncode == inference.SOME_FAILED_STATUS, done.stderr
    assert "cluster: 2 workers with up to 1 cores each, 2 machines" in done.stderr
    assert len(contents(collection / "spread")) == 8
    # A wrong token is reported in one line.
    done = run(collection, "other", *chosen, RAY_AUTH_TOKEN="f" * 64)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: inference.cluster_address={two_machines}: " in done.stderr.splitlines()[-1]
    assert "token" in done.stderr.splitlines()[-1]


@needs_ray
def test_a_cluster_that_is_not_there_is_named(collection):
    done = run(collection, "spread", "method=lsa", "inference.cluster=ray",
               "inference.cluster_address=127.0.0.1:1")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: inference.cluster_address=127.0.0.1:1: ")
    assert not list((collection / "spread").rglob("*.wav"))


# --- In this process -------------------------------------------------------------------------


@pytest.fixture
def restore_one(tmp_path, monkeypatch):
    """Restores one recording on a cluster of this machine; takes what forgets former results."""
    write_audio(tmp_path / "recordings" / "a.wav", 1.0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers know the folder of the program otherwise
    cfg = config.Config(path_experiment="none", method="lsa", inference=InferenceConfig(
        audio="recordings/a.wav", output_dir="out"))
    jobs, _ = plan(find_recordings(cfg.inference.audio), cfg.inference)
    make_ready = partial(denoise.make_ready, cfg, set(), inference.choose_method(cfg).made_with)

    def restore(forget=lambda job: None):
        (outcome,) = cluster.restore_all(jobs, lambda *_: None, forget, make_ready=make_ready)
        return outcome

    return restore


@needs_ray
def test_a_report_that_cannot_be_written_stops_a_worker(restore_one):
    def refuse(job: Job) -> None:
        raise OSError("the disk is full")

    job, outcome = restore_one(refuse)
    assert outcome == f"{job.recording.path}: the disk is full"
    assert list(job.denoised.parent.iterdir()) == []


@needs_ray
def test_a_cluster_without_a_place_for_workers_is_reported_and_given_up(restore_one, monkeypatch,
                                                                     caplog):
    monkeypatch.setattr(cluster, "WARN_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "MAX_WAIT_SECONDS", 0.6)
    monkeypatch.setattr(cluster, "_run_task", lambda *_: time.sleep(60.0))  # a worker that is slow
    with pytest.raises(UserError, match=r"no worker could begin for \d+ s: it needs 1 free"):
        restore_one()
    assert caplog.text.count("1 machines have") == 1


def test_another_program_on_a_machine_is_refused():
    cfg = config.Config(path_experiment="none", method="lsa")
    with pytest.raises(UserError, match="the same program and weights on each machine"):
        denoise.make_ready(cfg, set(), {"results_version": 0})


def test_a_cluster_that_does_not_start_is_one_line(monkeypatch):
    def init(*_, **__):
        raise Exception("The current node timed out during startup.\nThis could happen because")

    ray = types.ModuleType("ray")
    ray.init, ray.util = init, types.ModuleType("ray.util")
    for name in ("ray", "ray.util", "ray.util.scheduling_strategies"):
        monkeypatch.setitem(sys.modules, name, ray)
    with pytest.raises(UserError, match="local: The current node timed out during startup.$"):
        next(cluster.restore_all([], print, print, make_ready=print))


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what cannot be imported
    with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"):
        next(cluster.restore_all([], print, print, make_ready=print))
