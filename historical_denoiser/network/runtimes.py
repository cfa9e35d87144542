"""Running a network that `export.py` wrote, without Keras and TensorFlow.

Where a file of ONNX lies beside the weights that it was made from, as it does beside the shipped
ones, it is used in their place: it starts at once. What it costs for long recordings: RESULTS.md.

An exported file takes `(1, frames, bins, 2)` and returns as many; that of a network with
`unet.use_profile` takes the noise profile, `(1, 1, bins, 2)`, after it.
"""

from __future__ import annotations

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

# Of a spectrogram, or of a spectrogram and a noise profile.
Run = Callable[[Any], np.ndarray]

ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}
REQUIREMENTS = "requirements-{}.txt"  # what installs the runtime of a format
WEIGHTS_KEY = "weights_sha256"  # of an ONNX file's properties: which weights it was made from
# The last property of an ONNX file is the SHA-256 of all before it. Written as protocol buffers
# are: the field `metadata_props` (14) of 74 bytes, with a key (1) of 6 and a value (2) of 64.
SEAL = b"\x72\x4a\x0a\x06sha256\x12\x40"
SEAL_BYTES = len(SEAL) + 64


def format_of(path: Path) -> str | None:
    """Returns in which of `ENDINGS` a network is exported; None: it is none of them."""
    return next((name for name, ending in ENDINGS.items() if path.suffix == ending), None)


def find_twin(weights: Path) -> Path | None:
    """Returns the ONNX file of these weights beside them, if it can be run here.

    Whoever trains on replaces the weights alone: what is of others is passed over. So is one of a
    TensorFlow checkpoint, which is no file: nothing tells whose it is.
    """
    path = weights.with_name(weights.name.split(".")[0] + ENDINGS["onnx"])
    if not (weights.is_file() and path.is_file()) or importlib.util.find_spec(
            "onnxruntime") is None:
        return None
    if not is_whole(path):
        logger.warning("%s is damaged: it is passed over; export.py makes it anew", path)
        return None
    known = _open_onnx(path, path.stat().st_mtime_ns).get_modelmeta().custom_metadata_map
    if known.get(WEIGHTS_KEY) != hash_of(weights):
        logger.warning("%s is not of %s: it is passed over; export.py makes it anew", path,
                       weights.name)
        return None
    return path


def seal(content: bytes) -> bytes:
    """Returns a serialised ONNX model with the hash of its content as a last property."""
    return content + SEAL + hashlib.sha256(content).hexdigest().encode()


def is_whole(path: Path) -> bool:
    """Whether an ONNX file is as `export.py` wrote it; one that nobody sealed is taken for it.

    Bytes that were flipped in a network's numbers would else be heard, or not.
    """
    content = path.read_bytes()
    sealed, told = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    return not told.startswith(SEAL) or content == seal(sealed)


def describe(path: Path) -> str:
    """Returns what computes an exported network: "ONNX Runtime 1.30.0 on CPU (2 cores)"."""
    module, name = {"onnx": ("onnxruntime", "ONNX Runtime"),
                    "litert": ("ai_edge_litert", "LiteRT")}[format_of(path)]
    version = getattr(importlib.import_module(module), "__version__", "")
    return f"{name} {version} on CPU ({os.cpu_count()} cores)"


def load(path: Path, form: ProfileForm | None) -> Run:
    """Returns an exported network as `restoration.chain.Network`.

    Args:
        path: Its file.
        form: What profiles of noise are made with; None where the network takes none.

    Raises:
        UserError: The runtime is not installed, or the file is none of its kind, or of a network
            with other inputs.
    """
    kind = format_of(path)
    try:
        inputs, run = {"onnx": _load_onnx, "litert": _load_litert}[kind](path)
    except ImportError as error:
        raise UserError(f"{path}: what runs it is not installed ({error}): pip install -r "
                        f"{REQUIREMENTS.format(kind)}") from error
    if inputs != (1 if form is None else 2):
        raise UserError(f"{path} must be of the network that the settings beside it describe, "
                        f"with {1 if form is None else 2} inputs. Received: {inputs} inputs")

    def predict(given: Any) -> np.ndarray:
        spectra, *known = given if isinstance(given, (list, tuple)) else [given]
        if form is not None and not known:
            known = [np.broadcast_to(form.nothing(), (len(spectra), *form.nothing().shape))]
        # The graph holds one at a time: a batch would need its memory at once, and gain nothing.
        return np.concatenate([run([each[None] for each in item])
                               for item in zip(spectra, *known, strict=True)])

    return predict


def _load_onnx(path: Path) -> tuple[int, Callable[[Sequence[np.ndarray]], np.ndarray]]:
    """Returns how many inputs an ONNX file has, and a function of them."""
    import onnxruntime

    if not is_whole(path):
        raise UserError(f"{path} is damaged: its hash is that of other content")
    session = _open_onnx(path, path.stat().st_mtime_ns)
    names = [each.name for each in session.get_inputs()]
    # What a run needed is given back after it: until the next one others need the memory.
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return len(names), lambda values: session.run(None, dict(zip(names, values, strict=True)),
                                                  options)[0]


@functools.lru_cache(maxsize=1)
def _open_onnx(path: Path, written: int) -> Any:
    """Returns an `onnxruntime.InferenceSession` of a file as it was `written`, in nanoseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = _threads_told()  # 0: one for each core
    # Threads that wait for work in a loop took a quarter of the CPU time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # With patterns of the tensors' places two runs took 1.7 times the memory
    # (docs/lab/whole_commands.md).
    options.enable_mem_pattern = False
    # In the other order what the second stage needs is computed before the first stage.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - of its own classes, which it does not export
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error


def _threads_told() -> int:
    """Returns how many threads may compute, or 0 where nobody says.

    ONNX Runtime and LiteRT do not read OMP_NUM_THREADS, by which other libraries are told, and by
    `cluster.py` each worker.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() else 0


def _load_litert(path: Path) -> tuple[int, Callable[[Sequence[np.ndarray]], np.ndarray]]:
    """Returns how many inputs a LiteRT file has, and a function of them."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(str(path), num_threads=_threads_told() or os.cpu_count())
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    # Their order is the converter's own; the profile has one frame alone.
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
