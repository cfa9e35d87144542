"""Runs networks that `export.py` wrote, without Keras and TensorFlow.

If an ONNX file lies beside the weights that it was exported from, as it does for the shipped ones,
it is used instead of them, because it starts at once; `docs/lab/whole_commands.md` has figures.
Start reading at `load`.

An exported network takes a spectrogram `(1, frames, bins, 2)` and returns one of the same shape;
with `unet.use_profile`, its second input is the noise profile `(1, 1, bins, 2)`.
"""

import functools
import hashlib
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import hash_of

logger = logging.getLogger(__name__)

# Takes a spectrogram, or the list of a spectrogram and a noise profile.
Run = Callable[[Any], np.ndarray]

ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}
FORMATS = {ending: name for name, ending in ENDINGS.items()}
REQUIREMENTS = "requirements-{}.txt"  # installs the runtime of a format
WEIGHTS_KEY = "weights_sha256"  # property of an ONNX file: the hash of its weights
# The last property of an ONNX file is the SHA-256 hash of all bytes before it, serialised as a
# protocol buffer: the field `metadata_props` (14) of 74 bytes, with a key (1) of 6 and a value (2)
# of 64 bytes.
HASH_FIELD = b"\x72\x4a\x0a\x06sha256\x12\x40"
HASH_FIELD_BYTES = len(HASH_FIELD) + 64


def format_of(path: Path) -> str | None:
    """Returns the format of an exported network, a key of `ENDINGS`; None for any other file."""
    return FORMATS.get(path.suffix)


def find_twin(weights: Path) -> Path | None:
    """Returns the ONNX file that was exported from these weights and lies beside them.

    It returns None if there is no such file, it cannot be run here, it is damaged, or it was
    exported from other weights, which happens when training continues and replaces only the
    weights. TensorFlow checkpoints have no ONNX file, because they are not a single file that could
    be compared.
    """
    path = weights.with_name(weights.name.split(".")[0] + ENDINGS["onnx"])
    if not (weights.is_file() and path.is_file()) or importlib.util.find_spec(
            "onnxruntime") is None:
        return None
    try:
        session = _open_whole(path)
    except UserError:
        logger.warning("%s is damaged and not used; export.py writes it again", path)
        return None
    properties = session.get_modelmeta().custom_metadata_map
    if properties.get(WEIGHTS_KEY) != hash_of(weights):
        logger.warning("%s was not exported from this %s and is not used; export.py writes it "
                       "again", path, weights.name)
        return None
    return path


def seal(content: bytes) -> bytes:
    """Returns a serialised ONNX model with the hash of its content appended as a property."""
    return content + HASH_FIELD + hashlib.sha256(content).hexdigest().encode()


def _open_whole(path: Path) -> Any:
    """Returns an `onnxruntime.InferenceSession`.

    Raises:
        UserError: The file cannot be read, or does not match the hash at its end, if it has one.
    """
    content = path.read_bytes()
    if content[-HASH_FIELD_BYTES:].startswith(HASH_FIELD) and (
            content != seal(content[:-HASH_FIELD_BYTES])):
        raise UserError(f"{path} is damaged: its content does not match its hash")
    return _open_onnx(path, path.stat().st_mtime_ns)


def describe(path: Path) -> str:
    """Returns the name of the runtime, such as "ONNX Runtime 1.30.0 on CPU (2 cores)"."""
    module, name = {"onnx": ("onnxruntime", "ONNX Runtime"),
                    "litert": ("ai_edge_litert", "LiteRT")}[FORMATS[path.suffix]]
    version = getattr(importlib.import_module(module), "__version__", "")
    return f"{name} {version} on CPU ({os.cpu_count()} cores)"


def load(path: Path, form: ProfileForm | None) -> Run:
    """Returns an exported network as a `restoration.chain.Network`.

    Args:
        path: The exported file.
        form: How noise profiles are measured; None if the network takes none.

    Raises:
        UserError: The runtime is not installed, the file cannot be read, or the number of its
            inputs does not match `form`.
    """
    kind = FORMATS[path.suffix]
    try:
        inputs, run = {"onnx": _load_onnx, "litert": _load_litert}[kind](path)
    except ImportError as error:
        raise UserError(f"{path}: its runtime is not installed ({error}): pip install -r "
                        f"{REQUIREMENTS.format(kind)}") from error
    if inputs != (1 if form is None else 2):
        raise UserError(f"{path} must be of the network that the settings beside it describe, "
                        f"with {1 if form is None else 2} inputs. Received: {inputs} inputs")

    def predict(given: Any) -> np.ndarray:
        spectra, *profiles = given if isinstance(given, (list, tuple)) else [given]
        if form is not None and not profiles:
            profiles = [np.broadcast_to(form.nothing(), (len(spectra), *form.nothing().shape))]
        # The graph takes one item at a time. A batch would need a multiple of the memory and gain
        # nothing.
        return np.concatenate([run([each[None] for each in item])
                               for item in zip(spectra, *profiles, strict=True)])

    return predict


def _load_onnx(path: Path) -> tuple[int, Callable[[Sequence[np.ndarray]], np.ndarray]]:
    """Returns the number of inputs of an ONNX file, and a function that runs it."""
    import onnxruntime

    session = _open_whole(path)
    names = [each.name for each in session.get_inputs()]
    keeping, freeing = onnxruntime.RunOptions(), onnxruntime.RunOptions()
    freeing.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    longest = 0

    def run(values: Sequence[np.ndarray]) -> np.ndarray:
        # Memory that is freed after each run costs an eighth of the CPU time, since the system
        # fills it with zeros for the next one. So it is freed only after a shorter run, as at the
        # end of a recording, when others need it.
        nonlocal longest
        frames = values[0].shape[1]
        longest = max(longest, frames)
        return session.run(None, dict(zip(names, values, strict=True)),
                           freeing if frames < longest else keeping)[0]

    return len(names), run


@functools.lru_cache(maxsize=1)
def _open_onnx(path: Path, written: int) -> Any:
    """Implements `_open_whole`.

    Args:
        path: The ONNX file.
        written: Time of modification in nanoseconds; it makes the cache reopen a changed file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = _max_threads()  # 0 uses all cores
    # Threads that wait in a busy loop took a quarter of the CPU time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # With memory patterns, two runs took 1.7 times the memory (docs/lab/whole_commands.md).
    options.enable_mem_pattern = False
    # The default order computes inputs of the second stage before the first stage.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime does not export its exceptions
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _max_threads() -> int:
    """Returns how many threads may compute, or 0 if OMP_NUM_THREADS does not limit them.

    Other libraries read this variable themselves, and `cluster.py` sets it for each worker, but
    ONNX Runtime and LiteRT ignore it.
    """
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return int(threads) if threads.isdecimal() else 0


def _load_litert(path: Path) -> tuple[int, Callable[[Sequence[np.ndarray]], np.ndarray]]:
    """Returns the number of inputs of a LiteRT file, and a function that runs it."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=_max_threads() or os.cpu_count())
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    # The converter chooses the order of the inputs. Only the noise profile has a single frame.
    places = [place["index"] for place in sorted(
        interpreter.get_input_details(), key=lambda place: place["shape_signature"][1] == 1)]
    output = interpreter.get_output_details()[0]["index"]

    def run(values: Sequence[np.ndarray]) -> np.ndarray:
        for place, value in zip(places, values, strict=True):
            interpreter.resize_tensor_input(place, value.shape)
        interpreter.allocate_tensors()
        for place, value in zip(places, values, strict=True):
            interpreter.set_tensor(place, value)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return len(places), run
