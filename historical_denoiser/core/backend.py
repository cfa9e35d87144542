"""Loads Keras and its backend without the usual start-up messages, and names the device."""

import contextlib
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
# Lines that TensorFlow writes on every start, whatever the log level: information in two formats,
# and messages of its CUDA build that do not matter. The last pattern matches Ray's lines about each
# attempt to reach a cluster.
NOISE = "|".join([
    r"^I\d{4} ", r"^\d{4}-\d\d-\d\d .*: I ", r"All log messages before absl::InitializeLog",
    r"^To enable the following instructions", r"Unable to register cu\w+ factory",
    r"computation placer already registered", r"TF-TRT Warning", r"CUDA_ERROR_NO_DEVICE",
    r"^\[\d{4}-\d\d-\d\d [\d:,]+ [IW] "])
FILTER = """
import re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
noise = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not noise.search(line):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""
FILTER_SECONDS = 2.0  # longest wait for the filter's last lines


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Removes the lines of `NOISE` from this process's stderr, also those of native libraries.

    Another process filters them, so that messages of a library that aborts still come through.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    read_end, write_end = os.pipe()
    process = subprocess.Popen([sys.executable, "-ISc", FILTER, NOISE], stdin=read_end,
                               stdout=stderr)
    os.dup2(write_end, 2)
    os.close(read_end)
    os.close(write_end)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        # A process that was started meanwhile may keep the pipe open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FILTER_SECONDS)


def has_tensorflow() -> bool:
    """Returns whether Keras and TensorFlow are installed; loads neither."""
    return all(importlib.util.find_spec(name) for name in ("keras", "tensorflow"))


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """Returns whether TensorFlow may find a GPU; loads nothing.

    It looks for the devices of drivers: of NVIDIA, of AMD, and of Windows under WSL.
    """
    return any(any(devices.glob(name)) for name in ("nvidia[0-9]*", "kfd", "dxg"))


def load_backend() -> None:
    """Loads Keras and its backend, TensorFlow unless `KERAS_BACKEND` says otherwise."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone
    with filtered_stderr():
        importlib.import_module("keras")


def describe_device() -> str:
    """Returns backend and device, for example "TensorFlow 2.21.0 on GPU: NVIDIA H100"."""
    import keras

    backend = keras.backend.backend()
    with filtered_stderr():  # TensorFlow searches for GPUs here
        library = importlib.import_module(backend)
        if backend == "tensorflow":
            gpus = [library.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
                    for gpu in library.config.list_physical_devices("GPU")]
        elif backend == "jax":
            gpus = [device.device_kind for device in library.devices() if device.platform != "cpu"]
        elif library.backends.mps.is_available():
            gpus = ["Apple MPS"]
        else:
            gpus = [library.cuda.get_device_name(gpu) for gpu in range(library.cuda.device_count())]
    device = f"GPU: {', '.join(gpus)}" if gpus else f"CPU ({os.cpu_count()} cores)"
    return f"{LIBRARIES[backend]} {library.__version__} on {device}"
