"""Writes a network for a runtime that denoises without Keras and TensorFlow.

Usage: python export.py [weights=FILE] format=onnx [output=FILE.onnx] [key=value ...]

    pip install -r requirements-export.txt
    python export.py format=onnx                       # the shipped weights: best.onnx beside them
    python inference.py FILE weights=pretrained/best.onnx

    python export.py format=litert output=NETWORK/small.tflite

Before the file gets its name, it is compared with the network on two lengths of a noisy recording.
The network's settings are written beside it as config.yaml, as beside all weights.
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from historical_denoiser.audio import dsp
from historical_denoiser.core.backend import load_backend
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.core.files import end_on_signals, hash_of, replacing
from historical_denoiser.denoiser import choose_network
from historical_denoiser.network import plain, runtimes
from historical_denoiser.network.stored import CONFIG_NAME, NetworkSettings, read_network_settings
from historical_denoiser.settings import Config, run_with_settings, save_config

logger = logging.getLogger(__name__)

OPSET = 18  # version of ONNX's operators; ONNX Runtime supports it since 1.14
MAX_DIFFERENCE = 3e-4  # of spectra whose loudest bins are near 100: -110 dB
EXAMPLE = Path(__file__).resolve().parent / "examples" / "noisy.flac"
# Neither is the length of a segment, and the network cannot halve the frames of the second evenly.
CHECKED_SECONDS = (4.0, 1.37)
REQUIREMENTS = "requirements-export.txt"


def output_path(output: str | None, kind: str, weights: Path) -> Path:
    """Returns the path of the exported network.

    Args:
        output: Path to use, with the ending of `kind`; None for a file beside the weights.
        kind: A key of `runtimes.ENDINGS`.
        weights: Path of the weights.

    Raises:
        UserError: `output` has another ending, or is the path of the weights.
    """
    ending = runtimes.ENDINGS[kind]
    path = Path(output or weights.with_name(weights.name.split(".")[0] + ending))
    require(path.suffix == ending, "output", f"a name that ends in {ending}, for format={kind}",
            str(path))
    require(path.resolve() != weights.resolve(), "output", "another file than `weights`", str(path))
    return path


def write(model: Any, settings: NetworkSettings, kind: str, path: Path, digest: str) -> None:
    """Writes the network's last stage as a graph for any number of frames.

    Args:
        model: The network.
        settings: Its settings.
        kind: A key of `runtimes.ENDINGS`.
        path: The file to write.
        digest: Hash of the weights, which an ONNX file stores (see `runtimes.find_twin`).

    Raises:
        UserError: The converter is not installed, or Keras does not use TensorFlow.
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

        # Otherwise some networks keep their weights as variables, which have no values when the
        # file is run. TensorFlow has no public function for this.
        frozen = convert_variables_to_constants_v2(concrete)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        # With other operations, running the file would need TensorFlow.
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
    """Converts mirror padding by one sample to one edge padding; tf2onnx itself needs two."""
    pads = node.inputs[1].get_tensor_value(as_list=False)
    if pads.max() > 1:
        raise ValueError(f"{name} must be padded by at most one sample. Received: {pads.tolist()}")
    places = graph.make_const(f"{name}_pads", pads.astype(np.int64).T.flatten())
    graph.replace_input(node, node.input[1], places.output[0], 1)
    node.type = "Pad"
    node.set_attr("mode", "edge")


def predictor(model: Any) -> Callable[[Any], np.ndarray]:
    """Returns a function for `check` that runs the network without tracing each length."""
    import keras

    return lambda inputs: keras.ops.convert_to_numpy(model(inputs)[0])


def check(predict: Callable[[Any], np.ndarray], run: runtimes.Run,
          settings: NetworkSettings) -> float:
    """Returns the largest difference of an exported network from the network itself.

    Args:
        predict: The network, a function of a spectrogram or a list of it and a noise profile.
        run: The exported network, likewise.
        settings: The network's settings.

    Raises:
        UserError: The difference is larger than `MAX_DIFFERENCE`.
    """
    waveform, _ = soundfile.read(EXAMPLE, dtype="float32")
    if settings.reference_dbfs is not None:
        waveform *= np.float32(dsp.to_gain(settings.reference_dbfs) / np.sqrt(dsp.power(waveform)))
    largest, stft, form = 0.0, settings.stft, settings.profile_form
    for seconds in CHECKED_SECONDS:
        spectra = dsp.stft(waveform[None, :round(seconds * dsp.SAMPLE_RATE)], stft.win_size,
                           stft.hop_size)
        cases = [spectra]
        if form is not None:  # without a profile, the network takes zeros in its place
            cases.append([spectra, form.measure(waveform[-dsp.SAMPLE_RATE:])[None]])
        for inputs in cases:
            difference = float(np.max(np.abs(run(inputs) - predict(inputs))))
            if not difference <= MAX_DIFFERENCE:  # also if it is NaN
                raise UserError(f"the exported network differs from the network by {difference:g} "
                                f"in {seconds:g} s of {EXAMPLE.name}, more than {MAX_DIFFERENCE:g}")
            largest = max(largest, difference)
    return largest


def export(cfg: Config, given: set[str]) -> None:
    """Exports the network of `cfg.weights`; `given` are the keys that the user set."""
    weights, settings = choose_network(cfg, given)
    require(runtimes.format_of(weights) is None, "weights", "a network that is not exported yet",
            str(weights))
    path = output_path(cfg.output, cfg.format, weights)
    config, own_config = path.parent / CONFIG_NAME, weights.parent / CONFIG_NAME
    require(not config.is_file() or config.resolve() == own_config.resolve()
            or read_network_settings(path) == settings, "output",
            f"in a folder of its own: {config} belongs to another network", str(path))
    load_backend()
    import unet

    model = unet.build_model_denoise(settings.unet)
    unet.load_weights(model, weights)
    logger.info("converting, which takes a minute or two")
    for converter in ("tf2onnx", "absl"):  # they log each step
        logging.getLogger(converter).setLevel(logging.ERROR)
    with replacing(path) as temporary:
        write(model, settings, cfg.format, temporary, hash_of(weights) if weights.is_file() else "")
        difference = check(predictor(model), runtimes.load(temporary, settings.profile_form),
                           settings)
        size = temporary.stat().st_size
        if not config.is_file():
            if own_config.is_file():
                shutil.copyfile(own_config, config)
            else:
                save_config(cfg, config)
    logger.info("%s: %.1f MB, differs from the network by %.1e at most", path, size / 1e6,
                difference)


def main() -> None:
    """Reads the command line and exports."""
    end_on_signals()
    run_with_settings(export, __doc__.strip())


if __name__ == "__main__":
    run_main(main)
