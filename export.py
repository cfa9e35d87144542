"""Writes a network for a runtime that denoises without Keras and TensorFlow.

Usage: python export.py [weights=FILE] format=onnx [output=FILE.onnx] [key=value ...]

    pip install -r requirements-export.txt
    python export.py format=onnx                       # the shipped weights: best.onnx beside them
    python inference.py FILE weights=pretrained/best.onnx

    python export.py format=litert output=NETWORK/small.tflite

The file is compared with the network, on a noisy recording and in two lengths, before it gets its
name. Beside it lies config.yaml, which tells what the network needs, as beside all weights.
"""

from __future__ import annotations

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.core.backend import load_backend
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.core.files import end_on_signals, hash_of, replacing
from historical_denoiser.denoiser import choose_network
from historical_denoiser.formats import audio_io
from historical_denoiser.network import plain, runtimes
from historical_denoiser.network.stored import CONFIG_NAME, NetworkSettings, read_network_settings
from historical_denoiser.settings import Config, run_with_settings, save_config

logger = logging.getLogger(__name__)

OPSET = 18  # of ONNX: the operators that a runtime must know; ONNX Runtime 1.14 has them
MAX_DIFFERENCE = 1e-4  # in spectra whose loudest bins are near 100
EXAMPLE = Path(__file__).resolve().parent / "examples" / "noisy.flac"
# Neither is that of a segment; the second one is no multiple of what the network halves.
CHECKED_SECONDS = (4.0, 1.37)
REQUIREMENTS = "requirements-export.txt"


def output_path(output: str | None, kind: str, weights: Path) -> Path:
    """Returns where an exported network goes: as it is named, or beside the weights."""
    ending = runtimes.ENDINGS[kind]
    path = Path(output or weights.with_name(weights.name.split(".")[0] + ending))
    require(path.suffix == ending, "output", f"a name that ends in {ending}, for format={kind}",
            str(path))
    require(path.resolve() != weights.resolve(), "output", "another file than `weights`", str(path))
    return path


def write(model: Any, settings: NetworkSettings, kind: str, path: Path, digest: str) -> None:
    """Writes the network's last stage as a graph of any number of frames.

    The `digest` of the weights is kept in a file of ONNX (`runtimes.find_twin`).

    Raises:
        UserError: What converts it is not installed, or knows one of its operations not.
    """
    import keras

    require(keras.backend.backend() == "tensorflow", "KERAS_BACKEND", "tensorflow for export.py",
            keras.backend.backend())
    import tensorflow as tf

    bins = settings.stft.bins
    signature = [tf.TensorSpec((1, None, bins, 2), tf.float32, "spectrogram")]
    if settings.profile_form is not None:
        signature.append(tf.TensorSpec((1, 1, bins, 2), tf.float32, "profile"))
    graph = tf.function(
        lambda *inputs: model(inputs[0] if len(inputs) == 1 else list(inputs))[0],
        input_signature=signature)
    with plain.as_plain_operations():
        concrete = graph.get_concrete_function()
    if kind == "litert":
        from tensorflow.python.framework.convert_to_constants import (
            convert_variables_to_constants_v2,
        )

        # Without it some networks keep their weights as variables, which have no values where the
        # file is run. TensorFlow has no public function for it.
        frozen = convert_variables_to_constants_v2(concrete)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        # Other operations would need TensorFlow again where the network runs.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        path.write_bytes(converter.convert())
        return
    try:
        import tf2onnx
    except ImportError as error:
        raise UserError(f"format=onnx needs tf2onnx ({error}): pip install -r {REQUIREMENTS}"
                        ) from error
    import onnx

    converted, _ = tf2onnx.convert.from_function(
        graph, signature, opset=OPSET, custom_op_handlers={"MirrorPad": (_repeat_edges, [])})
    onnx.helper.set_model_props(converted, {runtimes.WEIGHTS_KEY: digest})
    path.write_bytes(runtimes.seal(converted.SerializeToString()))


def _repeat_edges(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Converts a padding by mirrored samples, of which `tensor_ops` has at most one at each edge.

    tf2onnx's own form of it takes two paddings.
    """
    pads = node.inputs[1].get_tensor_value(as_list=False)
    if pads.max() > 1:
        raise ValueError(f"{name} must be padded by at most one sample. Received: {pads.tolist()}")
    places = graph.make_const(f"{name}_pads", pads.astype(np.int64).T.flatten())
    graph.replace_input(node, node.input[1], places.output[0], 1)
    node.type = "Pad"
    node.set_attr("mode", "edge")


def predictor(model: Any) -> Callable[[Any], np.ndarray]:
    """Returns a network as a function of `check`, which traces no graph for each length."""
    import keras

    return lambda inputs: keras.ops.convert_to_numpy(model(inputs)[0])


def check(predict: Callable[[Any], np.ndarray], run: runtimes.Run,
          settings: NetworkSettings) -> float:
    """Returns the largest difference of an exported network from the network itself.

    Args:
        predict: The network, of a spectrogram or the list of it and a noise profile.
        run: The same of the exported one.
        settings: What the network needs.

    Raises:
        UserError: It is larger than `MAX_DIFFERENCE`.
    """
    recording = audio_io.open_recording(EXAMPLE)
    heard = np.concatenate(list(audio_io.read_blocks(recording))).reshape(
        -1, recording.channels)[:, 0].astype(np.float32)
    if settings.reference_dbfs is not None:
        heard *= np.float32(dsp.to_gain(settings.reference_dbfs)
                            / np.sqrt(dsp.power(heard)))
    largest, stft, form = 0.0, settings.stft, settings.profile_form
    for seconds in CHECKED_SECONDS:
        spectra = dsp.stft(heard[None, :round(seconds * dsp.SAMPLE_RATE)], stft.win_size,
                           stft.hop_size)
        given = [spectra]
        if form is not None:
            # With a profile; without one the network is given zeros in its place.
            given.append([spectra, form.measure(heard[-dsp.SAMPLE_RATE:])[None]])
        for inputs in given:
            difference = float(np.max(np.abs(run(inputs) - predict(inputs))))
            if not difference <= MAX_DIFFERENCE:  # also where it is NaN
                raise UserError(f"the exported network differs from the network by {difference:g} "
                                f"in {seconds:g} s of {EXAMPLE.name}; no more than "
                                f"{MAX_DIFFERENCE:g} is right")
            largest = max(largest, difference)
    return largest


def export(cfg: Config, given: set[str]) -> None:
    """Exports the network that `weights` names; the user gave the keys `given`."""
    weights, settings = choose_network(cfg, given)
    require(runtimes.format_of(weights) is None, "weights", "a network that is not exported yet",
            str(weights))
    path = output_path(cfg.output, cfg.format, weights)
    told, known = path.parent / CONFIG_NAME, weights.parent / CONFIG_NAME
    require(not told.is_file() or told.resolve() == known.resolve()
            or read_network_settings(path) == settings, "output",
            f"in a folder of its own: {told} belongs to another network", str(path))
    load_backend()
    import unet

    model = unet.build_model_denoise(settings.unet)
    unet.load_weights(model, weights)
    logger.info("converting, which takes a minute or two")
    for converter in ("tf2onnx", "absl"):  # they tell of each step
        logging.getLogger(converter).setLevel(logging.ERROR)
    with replacing(path) as temporary:
        write(model, settings, cfg.format, temporary, hash_of(weights) if weights.is_file() else "")
        difference = check(predictor(model), runtimes.load(temporary, settings.profile_form),
                           settings)
        size = temporary.stat().st_size
        if not told.is_file():
            if known.is_file():
                shutil.copyfile(known, told)
            else:
                save_config(cfg, told)
    logger.info("%s: %.1f MB, differs from the network by %.1e at most", path, size / 1e6,
                difference)


def main() -> None:
    """Reads the command line and exports."""
    end_on_signals()
    run_with_settings(export, __doc__.strip())


if __name__ == "__main__":
    run_main(main)
