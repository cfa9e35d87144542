"""Restores recordings on the machines of a Ray cluster. Start reading at `restore_all`.

Each recording is one Ray task, which reads and writes the files itself. It sends its progress and
its log records through an actor, `Messages`, to the user's process, which alone writes the report.
"""

import asyncio
import logging
import os
import platform
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

from historical_denoiser.core.backend import filtered_stderr
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import end_on_signals, held_signals
from historical_denoiser.run.batch import Outcome
from historical_denoiser.run.jobs import Job
from historical_denoiser.run.report import passed_on

logger = logging.getLogger(__name__)

LOCAL = "local"  # the address of a temporary cluster on this machine only
MAX_ATTEMPTS = 3  # a recording fails if this number of workers died while restoring it
POLL_SECONDS = 0.25
CONNECT_SECONDS = 10.0  # timeout of the connection to a cluster
# If no worker runs for this time, a warning says what is missing; then the run ends.
WARN_SECONDS, MAX_WAIT_SECONDS = 60.0, 1800.0
END_SECONDS = 10.0  # time for cancelled workers to remove their temporary files
OBJECT_BYTES = 100 * 2**20  # shared memory of a local cluster; jobs and messages are small
# Prevents Ray from hiding the GPUs from tasks that do not ask for one, and from sending statistics.
ENVIRONMENT = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_USAGE_STATS_ENABLED": "0"}
# If this variable is 0, Ray listens at 127.0.0.1 only. That is the default on Windows and macOS.
LISTENS_TO_OTHERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# Variables that limit the threads of TensorFlow and of other libraries.
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")

Attempt = Callable[[Job, Callable[[float], object], Callable[[], object]], Outcome]

_attempts: list[Attempt] = []  # in a worker: its only element, after the method was loaded


class Messages:
    """Holds the messages of the workers until the user's process reads them."""

    def __init__(self) -> None:
        self._sent: list[tuple[int, str, Any]] = []
        self._answers: dict[int, asyncio.Future[str | None]] = {}

    async def send(self, number: int, kind: str, content: Any = None) -> None:
        """Adds a message of the job `number`.

        Args:
            number: Index of the job.
            kind: `begin`, `at` or `log`.
            content: The machine's name, the seconds finished, or a log record.
        """
        self._sent.append((number, kind, content))

    async def ask_to_replace(self, number: int) -> str | None:
        """Asks to replace results; returns None, or the reason why that is not possible."""
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._sent.append((number, "replace", None))
        return await self._answers[number]

    async def answer(self, number: int, refusal: str | None) -> None:
        """Answers a call of `ask_to_replace`."""
        self._answers.pop(number).set_result(refusal)

    async def read(self) -> list[tuple[int, str, Any]]:
        """Returns the messages since the last call, as job number, kind and content."""
        sent, self._sent = self._sent, []
        return sent


def _run_task(number: int, job: Job, make_ready: Callable[[], Attempt], folder: str, cores: int,
              messages: Any) -> Outcome:
    """Restores one recording in a worker of the cluster. Each worker loads the method once.

    Relative paths start at `folder`; `messages` is the actor `Messages`.
    """
    import ray

    def send(kind: str, content: Any) -> None:
        ray.get(messages.send.remote(number, kind, content))

    def ask() -> None:
        if (refusal := ray.get(messages.ask_to_replace.remote(number))) is not None:
            raise OSError(refusal)

    # Ray cancels a task by SIGINT, which a worker started under `nohup` would ignore.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_on_signals()
    send("begin", platform.node())
    if not _attempts:
        os.environ.update(dict.fromkeys(THREADS, str(cores)))
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(f"{folder}: all machines of the cluster must have access to this "
                            f"folder, but {platform.node()} has none ({error.strerror})"
                            ) from error
        _attempts.append(make_ready())
        logging.getLogger().setLevel(logging.INFO)
    with passed_on(lambda record: send("log", (record.name, record.levelno, record.getMessage())),
                   logging.INFO):
        return _attempts[0](job, lambda seconds: send("at", seconds), ask)


def restore_all(jobs: list[Job], report: Callable[[Job, float], object],
                before_replacing: Callable[[Job], object], *,
                make_ready: Callable[[], Attempt], address: str = LOCAL, cores: int = 1,
                ) -> Iterator[tuple[Job, Outcome]]:
    """Restores recordings on a cluster, several at a time.

    Args:
        jobs: The recordings, and the files to write.
        report: Called with a job and its seconds of audio finished so far; 0 when it starts.
        before_replacing: Called with each job before its results replace existing ones.
        make_ready: Called in each worker; loads the method, and returns `batch.attempt` with it.
        address: Address of the cluster's head, "auto" for the cluster of this machine, or "local".
        cores: Number of cores of each worker; if no machine has so many, all of the largest one.

    Yields:
        Each job with its outcome, in any order.

    Raises:
        UserError: Ray is not installed, the cluster does not exist, a worker cannot load the
            method, or no machine can start a worker.
    """
    ray = _connect(address)
    # Signals are held because Ray has installed its own handlers. Its output is discarded, since it
    # repeats what is logged here and would break the progress bar.
    with held_signals() as signals, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        tasks: dict[Any, int] = {}
        try:
            yield from _follow_tasks(ray, tasks, jobs, report, before_replacing, make_ready, cores,
                                     signals)
        except ray.exceptions.RayError as error:  # not of a task, which is tried again
            raise UserError(f"inference.cluster=ray: Ray broke down ({_first_line(error)})"
                            ) from error
        finally:
            for task in tasks:
                ray.cancel(task)
            if tasks:
                ray.wait(list(tasks), num_returns=len(tasks), timeout=END_SECONDS)
            ray.shutdown()


def _follow_tasks(ray: Any, tasks: dict[Any, int], jobs: list[Job],
                  report: Callable[[Job, float], object],
                  before_replacing: Callable[[Job], object], make_ready: Callable[[], Attempt],
                  cores: int, signals: list[int]) -> Iterator[tuple[Job, Outcome]]:
    """Runs all jobs as tasks of a connected cluster; see `restore_all`.

    The unfinished tasks are kept in `tasks`, which is empty at first, with the index of their job.
    After the first of `signals`, no further result is waited for.
    """
    machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cores = max(min(cores, max(machines)), 1)
    logger.info("cluster: %d workers with up to %d cores each, %d machines",
                min(sum(count // cores for count in machines) or 1, len(jobs)), cores,
                len(machines))
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False)
    messages = ray.remote(Messages).options(num_cpus=0, scheduling_strategy=here).remote()
    # Without Ray's own retries, which would hide that a worker died and that none replaces it.
    run = ray.remote(_run_task).options(num_cpus=cores, max_retries=0)

    def start(number: int) -> None:
        tasks[run.remote(number, jobs[number], make_ready, os.getcwd(), cores, messages)] = number

    for number in range(len(jobs)):
        start(number)
    hosts: dict[int, str] = {}  # machines of the jobs that are being restored
    deaths: Counter[int] = Counter()
    since, limit = time.monotonic(), WARN_SECONDS
    while tasks and not signals:
        ready, _ = ray.wait(list(tasks), timeout=POLL_SECONDS)
        _read_messages(ray, messages, jobs, report, before_replacing, hosts)
        for task in ready:
            number = tasks.pop(task)
            path, host = jobs[number].recording.path, hosts.pop(number, None)
            try:
                yield jobs[number], ray.get(task)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                deaths[number] += host is not None  # otherwise the recording is not the cause
                if deaths[number] == MAX_ATTEMPTS:
                    yield jobs[number], (f"{path}: {MAX_ATTEMPTS} workers died while they restored "
                                         f"it ({_first_line(error)})")
                    continue
                logger.warning("%s: %s; another tries", path, "a worker died before it began"
                               if host is None else
                               f"the worker on {host} died while it restored this")
                start(number)
        if hosts:
            since, limit = time.monotonic(), WARN_SECONDS
        elif tasks and time.monotonic() - since > limit:
            _warn_of_no_worker(ray, cores, time.monotonic() - since, limit == MAX_WAIT_SECONDS)
            limit = MAX_WAIT_SECONDS


def _read_messages(ray: Any, messages: Any, jobs: list[Job], report: Callable[[Job, float], object],
                   before_replacing: Callable[[Job], object], hosts: dict[int, str]) -> None:
    """Handles the messages of the workers; adds the machine of each started job to `hosts`."""
    for number, kind, content in ray.get(messages.read.remote()):
        if kind == "begin":
            hosts[number] = content
            report(jobs[number], 0.0)
        elif kind == "at":
            report(jobs[number], content)
        elif kind == "log":
            name, level, message = content
            logging.getLogger(name).log(level, "%s", message)
        else:
            refusal = None
            try:
                before_replacing(jobs[number])
            except (UserError, OSError) as error:
                refusal = str(error)
            messages.answer.remote(number, refusal)


def _warn_of_no_worker(ray: Any, cores: int, seconds: float, is_last: bool) -> None:
    """Warns that no worker has started for this time, or raises UserError if `is_last`."""
    found = (f"cluster: no worker could begin for {seconds:.0f} s: it needs {cores} free cores on "
             f"one machine; {sum(node['Alive'] for node in ray.nodes())} machines have "
             f"{ray.available_resources().get('CPU', 0.0):g} free cores in all")
    if is_last:
        raise UserError(found)
    logger.warning("%s; waiting", found)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _connect(address: str) -> Any:
    """Returns the module Ray, connected to a cluster.

    Raises:
        UserError: It is not installed, or there is no such cluster.
    """
    os.environ |= ENVIRONMENT | os.environ
    if address == LOCAL:
        os.environ.setdefault(LISTENS_TO_OTHERS, "0")  # Ray reads it when it is imported
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise UserError("inference.cluster=ray needs Ray: pip install -r requirements-cluster.txt "
                        f"({error})") from error
    own = {"object_store_memory": OBJECT_BYTES, "include_dashboard": False}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray itself would try to connect for minutes
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        with filtered_stderr():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR,
                     **(own if address == LOCAL else {}))
    # Where one of its processes does not start, Ray raises a plain `Exception`.
    except Exception as error:  # noqa: BLE001
        hint = "" if address == LOCAL else ("; it must be a cluster of the same release of Ray, "
                                            "and the token of both the same")
        raise UserError(f"inference.cluster_address={address}: {_first_line(error)}{hint}"
                        ) from error
    return ray
