"""Recordings spread over the machines of a Ray cluster, each restored whole by one worker.

A worker is a process with its share of a machine's cores. It loads the network once, and reads and
writes files itself: all machines must see them under the same names. What is told of them, on the
terminal and in the report, passes through the process that the user started, which alone writes the
report. When a worker dies, another takes its place and its recording.
"""

from __future__ import annotations

import importlib
import logging
import os
import platform
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from typing import Any

from historical_denoiser.core.backend import filtered_stderr
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import held_signals, remove_unfinished
from historical_denoiser.run.jobs import Job
from historical_denoiser.run.report import LOGGERS

logger = logging.getLogger(__name__)

LOCAL = "local"  # in place of an address: a cluster of this machine alone, for this run
ATTEMPTS = 3  # at one recording, whose workers died; and at loading
NEWS_SECONDS = 0.25  # between two looks at what a worker does
CONNECT_SECONDS = 10.0  # that a cluster gets to answer
TELL_SECONDS = 60.0  # without a worker that can begin, after which it is said what is missing
GIVE_UP_SECONDS = 1800.0  # and after which the run ends
END_SECONDS = 3.0  # that workers get to remove their temporary files
OBJECT_BYTES = 100 * 2**20  # of shared memory in a local cluster: only jobs and figures pass
# Where it is 0, which is the default on Windows and macOS alone, Ray listens at 127.0.0.1. Its
# argument `_node_ip_address` cannot say that: Ray puts the machine's address in place of this one.
LISTENS_TO_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# By which TensorFlow, and what else computes in threads, learn how many cores they have.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")

Outcome = dict[str, Any] | str  # what the report tells of a recording, or why it failed
Attempt = Callable[[Job, Callable[[float], object], Callable[[], object]], Outcome]


class Worker:
    """Restores one recording at a time, in a process of its own somewhere in the cluster."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, Any]] = deque()
        self._news = threading.Event()
        self._answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[Outcome] | None = None
        self._attempt: Attempt | None = None

    def load(self, entry: str, arguments: tuple[Any, ...], folder: str, cores: int) -> str:
        """Makes this worker ready.

        Args:
            entry: `module:function` that returns what is called with each job.
            arguments: Of that function.
            folder: From which names of files start.
            cores: How many this worker may use.

        Returns:
            The machine's name.

        Raises:
            UserError: The folder is not there, or what `function` raises.
        """
        os.environ.update(dict.fromkeys(THREADS, str(cores)))
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(f"{folder}: all machines of the cluster must see this folder, but "
                            f"{platform.node()} does not ({error.strerror})") from error
        module, function = entry.split(":")
        self._attempt = getattr(importlib.import_module(module), function)(*arguments)
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger().addHandler(_Passed(self._events))
        return platform.node()

    def answer(self) -> None:
        """Tells by returning that this worker is alive."""

    def advance(self, job: Job | None = None, answer: tuple[str | None] | None = None,
                ) -> list[tuple[str, Any]]:
        """Returns what happened since the last call, after waiting for it for a moment.

        Args:
            job: A recording to begin with.
            answer: To the event `forget`: None, or why the results cannot be replaced.

        Returns:
            Events: `at` with the seconds that are finished, `log` with a logger's name, level and
            message, `forget` before results replace others, `done` with the outcome.
        """
        if job is not None:
            self._running = self._thread.submit(self._attempt, job, self._report, self._forget)
            self._running.add_done_callback(lambda _: self._news.set())
        if answer is not None:
            self._answers.put(answer[0])
        self._news.wait(NEWS_SECONDS)
        self._news.clear()
        done = self._running.done()  # asked first: all events came before
        events = [self._events.popleft() for _ in range(len(self._events))]
        return [*events, ("done", self._running.result())] if done else events

    def end(self) -> None:
        """Ends this process, and leaves no temporary file."""
        remove_unfinished()
        os._exit(0)

    def _report(self, seconds: float) -> None:
        self._events.append(("at", seconds))

    def _forget(self) -> None:
        """Waits until the report no longer vouches for what is about to be replaced."""
        self._events.append(("forget", None))
        self._news.set()
        refusal = self._answers.get()
        if refusal is not None:
            raise OSError(refusal)


class _Passed(logging.Handler):
    """Keeps this program's lines for the terminal of the user."""

    def __init__(self, events: deque[tuple[str, Any]]) -> None:
        super().__init__(logging.INFO)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.split(".")[0] in LOGGERS:
            self._events.append(("log", (record.name, record.levelno, record.getMessage())))


@dataclass(eq=False)
class _Place:
    """A worker as it is seen from here; `job` is what it does, or will, if anything."""

    actor: Any
    host: str | None = None  # None until it is ready
    job: Job | None = None
    at_work: bool = False  # it was alive when it was given the job


@dataclass
class Cluster:
    """Where recordings are restored.

    Attributes:
        entry: See `Worker.load`, and `arguments` too.
        address: Of the cluster's head, "auto" for the one that this machine belongs to, or "local".
        cores: Of each worker; where no machine has as many, all of the largest machine.
    """

    entry: str
    arguments: tuple[Any, ...]
    address: str = LOCAL
    cores: int = 1
    _deaths: dict[Job | None, int] = field(default_factory=dict)

    def restore_all(self, jobs: list[Job], report: Callable[[Job, float], object],
                    forget: Callable[[Job], object]) -> Iterator[tuple[Job, Outcome]]:
        """Restores recordings, several at a time.

        Args:
            jobs: What to do.
            report: Called with a job and the seconds of it that are finished; 0 when it starts.
            forget: Called with each job before its results replace others.

        Yields:
            Each job with its outcome, as they come.

        Raises:
            UserError: There is no Ray, no such cluster, its workers cannot be made ready, or it has
                no place for any.
        """
        ray = _connect(self.address)
        places: set[_Place] = set()
        # Signals are held from here on, as Ray has handlers of its own by now. It also prints, past
        # the progress bar, what is logged here in one line.
        with held_signals() as signals, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            try:
                yield from self._restore_all(ray, jobs, report, forget, places, signals)
            finally:
                _end(ray, places)
                ray.shutdown()

    def _restore_all(self, ray: Any, jobs: list[Job], report: Callable[[Job, float], object],
                     forget: Callable[[Job], object], places: set[_Place], signals: list[int],
                     ) -> Iterator[tuple[Job, Outcome]]:
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        cores = max(min(self.cores, max(machines)), 1)
        number = min(sum(count // cores for count in machines) or 1, len(jobs))
        make = ray.remote(Worker).options(num_cpus=cores)
        waiting, idle, asked = deque(jobs), [], {}

        def add() -> None:
            place = _Place(make.remote())
            places.add(place)
            asked[place.actor.load.remote(self.entry, self.arguments, os.getcwd(), cores)] = place

        logger.info("cluster: %d workers with up to %d cores each, %d machines", number, cores,
                    len(machines))
        for _ in range(number):
            add()
        since, is_told = time.monotonic(), False
        while not signals and (waiting or any(place.job for place in places)):
            while waiting and idle:
                place = idle.pop()
                place.job = waiting.popleft()
                # It may have died meanwhile, which no recording is to blame for.
                asked[place.actor.answer.remote()] = place
            if any(place.at_work for place in places):
                since, is_told = time.monotonic(), False
            elif (seconds := time.monotonic() - since) > (
                    GIVE_UP_SECONDS if is_told else TELL_SECONDS):
                is_told = _tell_of_no_worker(ray, cores, seconds)
            ready, _ = ray.wait(list(asked), timeout=NEWS_SECONDS)
            for reference in ready:
                place = asked.pop(reference)
                try:
                    news = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayActorError as error:
                    places.remove(place)
                    failure = self._count_death(place, error)
                    if failure is not None:
                        yield place.job, failure
                    elif place.job is not None:
                        waiting.appendleft(place.job)
                    if sum(other.job is None for other in places) < len(waiting):
                        add()
                    continue
                if place.host is None:
                    place.host = news
                    self._deaths.pop(None, None)
                    logger.info("cluster: a worker on %s is ready", news)
                    idle.append(place)
                    continue
                if not place.at_work:
                    place.at_work = True
                    report(place.job, 0.0)
                    asked[place.actor.advance.remote(place.job)] = place
                    continue
                answer = None
                for kind, value in news:
                    if kind == "at":
                        report(place.job, value)
                    elif kind == "log":
                        name, level, message = value
                        logging.getLogger(name).log(level, "%s", message)
                    elif kind == "forget":
                        answer = (_refusal(forget, place.job),)
                    else:
                        yield place.job, value
                        place.job, place.at_work = None, False
                if place.job is None:
                    idle.append(place)
                else:
                    asked[place.actor.advance.remote(answer=answer)] = place

    def _count_death(self, place: _Place, error: Exception) -> str | None:
        """Notes that a worker died; returns why its recording is given up, if it is.

        Raises:
            UserError: Workers die before they are ready.
        """
        if place.host is not None and not place.at_work:
            logger.info("cluster: the worker on %s died while it had nothing to do", place.host)
            return None
        self._deaths[place.job] = count = self._deaths.get(place.job, 0) + 1
        if place.job is None:
            if count == ATTEMPTS:
                raise UserError(f"cluster: {count} workers died before they had anything to do "
                                f"({_first_line(error)})")
            return None
        path = place.job.recording.path
        if count == ATTEMPTS:
            return f"{path}: {count} workers died while they restored it ({_first_line(error)})"
        logger.warning("%s: the worker on %s died while it restored this; another tries", path,
                       place.host)
        return None


def _end(ray: Any, places: set[_Place]) -> None:
    """Ends the workers that are in the middle of something; their temporary files would stay."""
    ends = [place.actor.end.remote() for place in places if place.job is not None]
    if ends:
        ray.wait(ends, num_returns=len(ends), timeout=END_SECONDS)


def _tell_of_no_worker(ray: Any, cores: int, seconds: float) -> bool:
    """Says what is waited for where no worker could begin for so long; returns True.

    Raises:
        UserError: It took too long.
    """
    machines = sum(1 for node in ray.nodes() if node["Alive"])
    free = ray.available_resources().get("CPU", 0.0)
    if seconds > GIVE_UP_SECONDS:
        raise UserError(f"cluster: no worker could begin for {seconds:.0f} s: none of {machines} "
                        f"machines had {cores} free cores, or they were too slow ({free:g} cores "
                        "are free now)")
    logger.warning("cluster: no worker could begin for %.0f s; waiting for a machine with %d free "
                   "cores, or for a worker that starts on one (%d machines, %g free cores in all)",
                   seconds, cores, machines, free)
    return True


def _refusal(forget: Callable[[Job], object], job: Job) -> str | None:
    try:
        forget(job)
    except (UserError, OSError) as error:
        return str(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _connect(address: str) -> Any:
    """Returns the module Ray, connected to a cluster.

    Raises:
        UserError: It is not installed, or there is no such cluster.
    """
    # Ray would hide the GPUs from workers that do not ask for one.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call its makers
    if address == LOCAL:
        os.environ.setdefault(LISTENS_TO_OTHERS, "0")  # read while Ray is imported
    try:
        import ray
    except ImportError as error:
        raise UserError("inference.cluster=ray needs Ray: pip install -r requirements-cluster.txt "
                        f"({error})") from error
    own = {"object_store_memory": OBJECT_BYTES, "include_dashboard": False}
    try:
        _require_answer(address)
        with filtered_stderr():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR,
                     **(own if address == LOCAL else {}))
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        hint = "" if address == LOCAL else ("; it must be a cluster of the same release of Ray, "
                                            "and the token of both the same")
        raise UserError(f"inference.cluster_address={address}: {_first_line(error)}{hint}"
                        ) from error
    return ray


def _require_answer(address: str) -> None:
    """Raises OSError where nobody listens at `HOST:PORT`; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
