"""A folder spread over a cluster gives what a plain run gives, also when a worker is killed."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from audio_samples import write_audio

import config
import inference
from historical_denoiser import denoise
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.run import cluster
from historical_denoiser.run.jobs import InferenceConfig, Job, find_recordings, plan
from historical_denoiser.run.report import REPORT_NAME

ROOT = Path(inference.__file__).resolve().parent
LONGEST_SECONDS = 300.0
SECONDS = 20.0  # of each recording
TIMES = ("began", "ended")


def arguments(output: str, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "inference.py"), "recordings",
            f"inference.output_dir={output}", *more]


def start(folder: Path, output: str, *more: str) -> subprocess.Popen:
    """Spreads a folder over two workers of this machine."""
    return subprocess.Popen(
        arguments(output, "inference.cluster=ray", "inference.cluster_cores=1", *more), cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def find_busy_worker(process: subprocess.Popen, output: Path, stem: str = "") -> psutil.Process:
    """Waits for a worker that is in the middle of writing a result (of `stem`); returns it."""
    ends = time.monotonic() + LONGEST_SECONDS
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
        for name in TIMES:
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


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lsa", "network"])
def test_a_killed_worker_changes_nothing(collection, tiny_run, method):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    # Without a journal, the first of the plain run would be rounded otherwise.
    chosen = ["method=lsa"] if method == "lsa" else [f"weights={tiny_run}", "inference.resume=true"]
    plain = subprocess.run(arguments("plain", *chosen), cwd=collection, capture_output=True,
                           text=True, timeout=LONGEST_SECONDS)
    process = start(collection, "spread", *chosen)
    victim = find_busy_worker(process, collection / "spread")
    os.kill(victim.pid, signal.SIGKILL)
    told = process.communicate(timeout=LONGEST_SECONDS)[0]

    assert "died while it restored this; another tries" in told
    assert process.returncode == plain.returncode == inference.SOME_FAILED_STATUS
    assert contents(collection / "spread") == contents(collection / "plain")
    assert len(contents(collection / "spread")) == 8  # and no temporary file is left
    assert report_without_times(collection / "spread") == report_without_times(
        collection / "plain")
    # Nothing but the lines of a plain run, and two of the cluster.
    lines = {line for line in told.splitlines() if not line.startswith(("INFO: ", "WARNING: "))}
    assert lines == {line.replace("plain", "spread") for line in plain.stderr.splitlines()
                     if not line.startswith(("INFO: ", "WARNING: "))}
    again = subprocess.run(arguments("spread", "inference.cluster=ray", *chosen), cwd=collection,
                           capture_output=True, text=True, timeout=LONGEST_SECONDS)
    assert again.stderr.count("has its results already and is left alone") == 4
    assert again.returncode == inference.SOME_FAILED_STATUS and "workers" not in again.stderr


@pytest.mark.slow
def test_ctrl_c_ends_all_and_leaves_nothing(collection):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    # So long that it is not done before the signal comes, however busy this machine is.
    write_audio(collection / "recordings" / "long.wav", 15.0 * SECONDS)
    process = start(collection, "spread", "method=lsa")
    find_busy_worker(process, collection / "spread", "long")
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    told = process.communicate(timeout=LONGEST_SECONDS)[0]
    assert process.returncode == -signal.SIGINT and "Traceback" not in told
    assert not any(path.name.startswith(".") for path in (collection / "spread").rglob("*"))
    assert psutil.wait_procs(children, timeout=20)[1] == []


@pytest.mark.slow
def test_a_recording_that_kills_its_workers_fails_alone(tmp_path):
    """As one does that does not fit into memory."""
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    write_audio(tmp_path / "recordings" / "long.wav", 60.0)
    write_audio(tmp_path / "recordings" / "short.wav", 1.0)
    process = start(tmp_path, "spread", "method=lsa")
    for _ in range(cluster.ATTEMPTS):
        victim = find_busy_worker(process, tmp_path / "spread", "long_")
        victim.kill()
        victim.wait()
    told = process.communicate(timeout=LONGEST_SECONDS)[0]
    assert process.returncode == inference.SOME_FAILED_STATUS
    assert "recordings/long.wav: 3 workers died while they restored it" in told
    assert told.count("died while it restored this; another tries") == cluster.ATTEMPTS - 1
    assert "Traceback" not in told
    report = report_without_times(tmp_path / "spread")
    assert report["last_run"]["done"] == ["short_denoised.wav"]
    assert list(report["last_run"]["failed"]) == ["recordings/long.wav"]


@pytest.fixture
def two_machines(tmp_path, monkeypatch):
    """The address of a cluster of two machines with a core each, both of which are this one."""
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
    program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1",
               "--disable-usage-stats"]
    with ExitStack() as stack:
        # Sockets lie in this folder, and their paths may not be long.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", dir="/tmp"))
        told = _start_machine([*program, "--head", f"--port={free_port()}", "--temp-dir", folder,
                               "--include-dashboard=false"], tmp_path / "head.log", stack)
        address = re.search(r"--address='(\S+)'", told)[1]
        _start_machine([*program, f"--address={address}"], tmp_path / "other.log", stack)
        yield address


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _start_machine(call: list[str], log: Path, stack: ExitStack) -> str:
    """Starts Ray, has it ended with `stack`, and returns what it said."""
    with log.open("w") as file:
        machine = subprocess.Popen(call, stdout=file, stderr=file, start_new_session=True)
    stack.callback(machine.wait, LONGEST_SECONDS)
    stack.callback(machine.terminate)  # comes first; it ends what it started
    ends = time.monotonic() + LONGEST_SECONDS
    while "--block" not in log.read_text():  # the last that it says
        assert machine.poll() is None and time.monotonic() < ends, log.read_text()
        time.sleep(0.1)
    return log.read_text()


@pytest.mark.slow
def test_machines_that_wait_for_work_share_it(two_machines, collection):
    done = subprocess.run(
        arguments("spread", "method=lsa", "inference.cluster=ray",
                  f"inference.cluster_address={two_machines}"),
        cwd=collection, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    assert done.returncode == inference.SOME_FAILED_STATUS, done.stderr
    assert "cluster: 2 workers with up to 1 cores each, 2 machines" in done.stderr
    assert len(contents(collection / "spread")) == 8
    # Whoever does not know the token is told so, in one line.
    done = subprocess.run(
        arguments("other", "method=lsa", "inference.cluster=ray",
                  f"inference.cluster_address={two_machines}"),
        cwd=collection, capture_output=True, text=True, timeout=LONGEST_SECONDS,
        env=os.environ | {"RAY_AUTH_TOKEN": "f" * 64})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: inference.cluster_address={two_machines}: " in done.stderr.splitlines()[-1]
    assert "token" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(collection):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    done = subprocess.run(
        arguments("spread", "method=lsa", "inference.cluster=ray",
                  "inference.cluster_address=127.0.0.1:1"),
        cwd=collection, capture_output=True, text=True, timeout=LONGEST_SECONDS)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: inference.cluster_address=127.0.0.1:1: ")
    assert not list((collection / "spread").rglob("*.wav"))


@pytest.mark.slow
def test_a_cluster_of_this_machine_listens_to_it_alone(collection):
    pytest.importorskip("ray", reason="Ray is not installed (requirements-cluster.txt)")
    write_audio(collection / "recordings" / "long.wav", 15.0 * SECONDS)
    process = start(collection, "spread", "method=lsa")
    find_busy_worker(process, collection / "spread")
    root = psutil.Process(process.pid)
    listening = {each.laddr.ip for one in [root, *root.children(recursive=True)]
                 for each in one.net_connections("tcp") if each.status == psutil.CONN_LISTEN}
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=LONGEST_SECONDS)
    assert listening and listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


# --- A cluster that is only told of ----------------------------------------------------------


class DeadError(Exception):
    """As Ray tells of a worker that died."""


class ToldCluster:
    """Ray as `Cluster` sees it; each worker answers what it is told to, in turn.

    Args:
        workers: For each worker the answers to its calls: an exception is raised, None is no
            answer at all. Later workers never start.
    """

    def __init__(self, *workers: list) -> None:
        self.workers, self.made, self.calls, self.answers = deque(workers), 0, [], {}
        self.exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, RayActorError=DeadError)

    def nodes(self) -> list[dict]:
        return [{"Alive": True, "Resources": {"CPU": 1.0}}]

    def available_resources(self) -> dict[str, float]:
        return {}

    def remote(self, _: type) -> SimpleNamespace:
        return SimpleNamespace(options=lambda num_cpus: SimpleNamespace(remote=self.make))

    def make(self) -> SimpleNamespace:
        own, number = deque(self.workers.popleft() if self.workers else []), self.made
        self.made += 1

        def call(name: str) -> SimpleNamespace:
            def ask(*_, **__) -> tuple[int, int]:
                self.calls.append((number, name))
                reference = (number, len(self.calls))
                self.answers[reference] = own.popleft() if own else None
                return reference

            return SimpleNamespace(remote=ask)

        return SimpleNamespace(**{name: call(name) for name in ("load", "answer", "advance")})

    def wait(self, asked: list, timeout: float) -> tuple[list, list]:
        ready = [reference for reference in asked if self.answers[reference] is not None]
        time.sleep(0.0 if ready else 0.01)
        return ready, []

    def get(self, reference: tuple[int, int]):
        answer = self.answers[reference]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def restore(self, *jobs: str) -> list[tuple[str, object]]:
        """Returns what becomes of recordings with these names."""
        named = [Job(Recording(Path(name), 8000, 1, 0, "WAV", "PCM_16"), Path(name), Path(name),
                     None) for name in jobs]
        outcomes = cluster.Cluster("entry", ())._restore_all(self, named, lambda *_: None, print,
                                                             set(), [])
        return [(job.recording.path.name, outcome) for job, outcome in outcomes]


DEAD, ALIVE = DeadError("it died"), ""
READY, DONE = "machine", [("done", {})]


def test_no_recording_is_blamed_for_workers_that_died_idle():
    told = ToldCluster(*[[READY, DEAD]] * (cluster.ATTEMPTS + 1), [READY, ALIVE, DONE])
    assert told.restore("a.wav") == [("a.wav", {})]
    assert (0, "advance") not in told.calls


def test_a_recording_is_blamed_for_workers_that_died_with_it():
    told = ToldCluster(*[[READY, ALIVE, DEAD]] * cluster.ATTEMPTS)
    assert told.restore("a.wav") == [
        ("a.wav", "a.wav: 3 workers died while they restored it (it died)")]
    assert told.made == cluster.ATTEMPTS  # none is made for nothing


def test_deaths_before_workers_are_ready_are_counted_from_the_last_that_was():
    told = ToldCluster([DEAD], [DEAD], [READY, ALIVE, DEAD], [DEAD], [DEAD], [READY, ALIVE, DONE])
    assert told.restore("a.wav") == [("a.wav", {})]
    with pytest.raises(UserError, match="3 workers died before they had anything to do"):
        ToldCluster([DEAD], [DEAD], [DEAD]).restore("a.wav")


def test_a_cluster_without_a_place_for_workers_is_told_and_given_up(monkeypatch, caplog):
    monkeypatch.setattr(cluster, "TELL_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "GIVE_UP_SECONDS", 0.3)
    with pytest.raises(UserError, match="none of 1 machines had 1 free cores"):
        ToldCluster().restore("a.wav")
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1 and "waiting for a machine with 1 free cores" in told[0].getMessage()
    # One that never answers again is none.
    with pytest.raises(UserError, match="no worker could begin"):
        ToldCluster([READY, None]).restore("a.wav")


@pytest.mark.parametrize(("address", "told"), [("local", "0"), ("auto", None)])
def test_ray_is_told_before_it_is_loaded_whom_to_listen_to(address, told, monkeypatch):
    seen = []
    monkeypatch.setattr(cluster.os, "environ", {})
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(
        exceptions=SimpleNamespace(RayError=DeadError),
        init=lambda *_, **__: seen.append(os.environ.get(cluster.LISTENS_TO_OTHERS))))
    cluster._connect(address)
    assert seen == [told]


# --- A worker by itself, in this process -----------------------------------------------------


@pytest.fixture
def worker(monkeypatch):
    """A worker; it changes its process, which is this one, so all of that is undone."""
    for name in cluster.THREADS:
        monkeypatch.setenv(name, "2")
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = list(root.handlers)
    yield cluster.Worker()
    root.setLevel(level)
    root.handlers[:] = handlers


def load(worker, tmp_path, monkeypatch) -> tuple[config.Config, list]:
    write_audio(tmp_path / "recordings" / "a.wav", 1.0)
    monkeypatch.chdir(tmp_path)
    cfg = config.Config(path_experiment="none", method="lsa", inference=InferenceConfig(
        audio="recordings/a.wav", output_dir="out"))
    jobs, _ = plan(find_recordings(cfg.inference.audio), cfg.inference)
    made_with = inference.choose_method(cfg).made_with
    worker.load(denoise.MAKE_READY, (cfg, set(), made_with), os.getcwd(), 1)
    return cfg, jobs


def advance_until(worker, kind, **order) -> list[tuple]:
    events = worker.advance(**order)
    ends = time.monotonic() + LONGEST_SECONDS
    while kind not in [event[0] for event in events] and time.monotonic() < ends:
        events += worker.advance()
    return events


def test_a_worker_asks_before_it_replaces(worker, tmp_path, monkeypatch):
    _, (job,) = load(worker, tmp_path, monkeypatch)
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "1"  # its share of the cores
    events = advance_until(worker, "forget", job=job)
    assert not job.denoised.exists()
    assert [value for kind, value in events if kind == "at"][-1] == pytest.approx(1.0)
    events = advance_until(worker, "done", answer=(None,))
    assert job.denoised.is_file()
    assert any(kind == "log" and "written to" in value[2] for kind, value in events)
    assert events[-1][0] == "done" and events[-1][1]["seconds"] == 1.0


def test_a_report_that_cannot_be_written_stops_a_worker(worker, tmp_path, monkeypatch):
    _, (job,) = load(worker, tmp_path, monkeypatch)
    advance_until(worker, "forget", job=job)
    events = advance_until(worker, "done", answer=("the disk is full",))
    assert events[-1] == ("done", f"{job.recording.path}: the disk is full")
    assert list(job.denoised.parent.iterdir()) == []


def test_another_program_on_a_machine_is_refused(worker, tmp_path, monkeypatch):
    cfg, _ = load(worker, tmp_path, monkeypatch)
    with pytest.raises(UserError, match="the same program and weights on each machine"):
        denoise.make_ready(cfg, set(), {"results_version": 0})


def test_a_folder_that_a_machine_does_not_see_is_named(worker):
    with pytest.raises(UserError, match="/not/shared: all machines of the cluster must see"):
        worker.load(denoise.MAKE_READY, (), "/not/shared", 1)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what cannot be imported
    with pytest.raises(UserError, match="pip install -r requirements-cluster.txt"):
        next(cluster.Cluster(denoise.MAKE_READY, ()).restore_all([], print, print), None)
