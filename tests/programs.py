"""Starts the programs of this repository in forks of a process that has loaded what they load.

Loading takes 7 s of computing, far more than most of what is tested, and a fork does not repeat it.
All else is as on a command line: a process of its own, which ends as it ends, and may be killed.
What a program loads, and what it says meanwhile, is tested without this (`test_imports.py`,
`test_backend.py`). With `EAGERLY` in its environment, a program makes no graphs: tracing one takes
longer than a few steps of a tiny network.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.02
MAX_SECONDS = 1200.0


class Forked:
    """A program that was started: as `subprocess.Popen`, as far as it is needed here."""

    def __init__(self, command: list[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.args, self.returncode = command, None
        self._files = [tempfile.NamedTemporaryFile() for _ in range(2)]
        self.pid = _ask(command=command, cwd=str(cwd), environment=dict(environment),
                        outputs=[file.name for file in self._files])

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(status_of=self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = MAX_SECONDS) -> tuple[str, str]:
        """Waits for the end; returns what was written to stdout and stderr."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                os.kill(self.pid, 9)
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(POLL_SECONDS)
        return tuple(file.read().decode(errors="replace") for file in self._files)


def start(program: str | Path, *arguments: object, cwd: Path, **environment: str,
          ) -> Forked | subprocess.Popen:
    """Starts a program of this repository, named by its path from the top."""
    command = [str(ROOT / program), *map(str, arguments)]
    if sys.platform == "linux":
        return Forked(command, cwd, os.environ | environment)
    return subprocess.Popen([sys.executable, *command], cwd=cwd, env=os.environ | environment,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, errors="replace")


def free_port() -> int:
    """Returns a port of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(program: str | Path, *arguments: object, cwd: Path, **environment: str,
        ) -> subprocess.CompletedProcess[str]:
    """Runs a program of this repository to its end."""
    process = start(program, *arguments, cwd=cwd, **environment)
    output, messages = process.communicate(timeout=MAX_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, output, messages)


# --- The process that is forked --------------------------------------------------------------

_lock = threading.Lock()


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen([sys.executable, __file__], cwd=ROOT, text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    atexit.register(server.communicate)  # which closes its input, and so ends it
    return server


def _ask(**order: Any) -> Any:
    """Gives the server an order, and returns its answer."""
    with _lock:
        server = _server()
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        return json.loads(server.stdout.readline())


def _serve() -> dict[str, Any]:
    """Follows the orders; returns, in each fork, the one that it is to follow."""
    for line in iter(sys.stdin.readline, ""):
        order = json.loads(line)
        if "status_of" in order:
            pid, status = os.waitpid(order["status_of"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                return order
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    sys.exit()


def _become(order: dict[str, Any]) -> None:
    """Makes this fork the process that a command line would have started."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, name in enumerate(order["outputs"], start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["command"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    if "EAGERLY" in os.environ:
        tensorflow.config.run_functions_eagerly(True)
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    with contextlib.redirect_stdout(sys.stderr):
        import librosa.core.spectrum
        import librosa.display  # noqa: F401
        import matplotlib.figure  # noqa: F401
        import scipy.signal  # noqa: F401
        import scipy.stats  # noqa: F401
        import tensorflow

        import evaluate  # noqa: F401
        import export  # noqa: F401
        import trainer  # noqa: F401
        import unet  # noqa: F401

        with contextlib.suppress(ImportError):  # of what only a comparison needs
            from historical_denoiser.bench import comparison  # noqa: F401
    gc.freeze()  # or each fork's garbage collection would copy all of it
    _become(_serve())
