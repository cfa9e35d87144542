"""Loads weights into a network: from Keras files and from TensorFlow checkpoints.

The published weights of the 2022 model are a TensorFlow object-graph checkpoint, in which a
variable is named after its place in the original program. `_checkpoint_layers` maps the layers of
`unet.TwoStageUnet` to these names. Start reading at `load_keras_file`.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import WEIGHTS_ENDING, temporary_file

Shape = tuple[int | None, ...]

CHECKPOINT_ROOT = "layer_with_weights-0"  # the network inside its one-layer functional model
# Settings that add inputs and outputs, in the order in which the network concatenates them.
GROWING_INPUTS = ("use_floor", "use_steady", "use_short", "use_long")
HASH_NAME = "sha256"  # attribute of a weights file: the hash of its arrays
CHECKPOINT_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


def load_keras_file(model: keras.Model, path: Path) -> None:
    """Loads a `.weights.h5` file into any built model; on any mismatch no weight is changed.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged or not HDF5, or a variable is missing, additional or of
            another shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`weights` must name weights that exist. Received: weights={path}")
    with temporary_file(Path(tempfile.gettempdir()), "own.", WEIGHTS_ENDING) as own:
        # Keras chooses the names inside the file. They are found by saving this model.
        model.save_weights(own, overwrite=True)
        with h5py.File(own) as file:
            expected = _stored_shapes(file)
    try:
        with h5py.File(path) as file:
            _check_shapes(_stored_shapes(file), expected, path)
            stored = file.attrs.get(HASH_NAME)  # older files have none
            is_whole = stored is None or stored == _hash_of_arrays(file)
    except (OSError, KeyError, RuntimeError) as error:  # h5py's classes vary
        raise UserError("`weights` must name a complete HDF5 file. "
                        f"Received: weights={path}") from error
    if not is_whole:
        raise UserError("`weights` must hold the weights as they were stored, but they do not "
                        f"match the hash in the file: it was damaged. Received: weights={path}")
    model.load_weights(path)


def store_hash(path: Path) -> None:
    """Adds the hash of its arrays to a weights file, so that damage can be detected."""
    with h5py.File(path, "a") as file:
        file.attrs[HASH_NAME] = _hash_of_arrays(file)


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Returns the arrays of an HDF5 file by their names, in the order of these."""
    nodes: dict[str, Any] = {}
    file.visititems(nodes.__setitem__)
    return {name: node for name, node in nodes.items() if isinstance(node, h5py.Dataset)}


def _hash_of_arrays(file: h5py.File) -> str:
    """Returns the hexadecimal SHA-256 of all arrays of an HDF5 file and their names."""
    digest = hashlib.sha256()
    for name, array in _arrays(file).items():
        values = array[()]
        digest.update(f"{name} {values.shape} {values.dtype.str}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _stored_shapes(file: h5py.File) -> dict[str, Shape]:
    """Returns the shape of each array of a weights file by its readable name."""
    return {name.replace("/vars/0", "/kernel").replace("/vars/1", "/bias"): array.shape
            for name, array in _arrays(file).items()}


def load_tensorflow_checkpoint(model: Any, prefix: Path) -> None:
    """Loads a TensorFlow object-graph checkpoint; on any mismatch no weight is changed.

    Args:
        model: A `unet.TwoStageUnet`.
        prefix: Path of the checkpoint without `.index`.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        UserError: It is incomplete, or a variable is missing, additional or of another shape.
    """
    if not Path(f"{prefix}.index").is_file():
        raise FileNotFoundError(f"`weights` must end in {WEIGHTS_ENDING} or be the prefix of a "
                                f"TensorFlow checkpoint that exists. Received: weights={prefix}")
    import tensorflow as tf  # only TensorFlow reads this format; other backends do not need it

    variables = {f"{CHECKPOINT_ROOT}/{name}/{kind}/{CHECKPOINT_VALUE}": getattr(layer, kind)
                 for name, layer in _checkpoint_layers(model) for kind in ("kernel", "bias")}
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        found = {key: tuple(shape) for key, shape in reader.get_variable_to_shape_map().items()
                 if key.startswith(CHECKPOINT_ROOT) and ".OPTIMIZER_SLOT" not in key}
        _check_shapes(found, {key: tuple(variable.shape) for key, variable in variables.items()},
                      prefix)
        values = {key: reader.get_tensor(key) for key in variables}  # read all before changing any
    except (tf.errors.OpError, RuntimeError, IndexError) as error:  # TensorFlow's classes vary
        raise UserError("`weights` must be the prefix of a complete TensorFlow checkpoint, with "
                        "its `.index` and all `.data` files. "
                        f"Received: weights={prefix}") from error
    for key, variable in variables.items():
        variable.assign(values[key])


def _checkpoint_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields each layer that has a kernel and a bias, with its published name."""
    for stage, (extractor, unet) in enumerate(zip(model.extractors, model.unets, strict=True),
                                              start=1):
        yield f"conv2d_{stage}", extractor
        for level, encoder in enumerate(unet.encoder):
            name = f"encoder_s{stage}/eblocks/{level}"
            yield from _block_layers(f"{name}/i_block", encoder.block)
            yield f"{name}/conv2d_2", encoder.down.conv
        yield from _block_layers(f"encoder_s{stage}/i_block", unet.bottom)
        for level, decoder in enumerate(unet.decoder):
            name = f"decoder_s{stage}/dblocks/{level}"
            yield f"{name}/tconv_1", decoder.up
            if decoder.projection.built:
                yield f"{name}/projection", decoder.projection.conv
            yield from _block_layers(f"{name}/i_block", decoder.block)
    if model.settings.num_stages == 2:
        yield "sam_1/conv1", model.attention.attended.conv
        yield "sam_1/conv2", model.attention.residual.conv
        yield "sam_1/conv3", model.attention.mask.conv
    yield "finalblock/conv2", model.final.conv


def _block_layers(name: str, block: Any) -> Iterator[tuple[str, Any]]:
    for index, conv in enumerate(block.dense):
        yield f"{name}/tfc/H/{index}", conv.conv
    yield f"{name}/conv2d_res", block.residual.conv


def _check_shapes(found: dict[str, Shape], expected: dict[str, Shape], path: Path) -> None:
    """Raises UserError for the first variable that is missing, additional or of another shape."""
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            shapes = [f"of shape {shapes[name]}" if name in shapes else "nothing"
                      for shapes in (expected, found)]
            raise UserError(f"`weights` must hold the weights of this network. Variable {name}: "
                            f"expected {shapes[0]}, found {shapes[1]}. Received: weights={path}")


def grow(model: Any, older: Any) -> None:
    """Copies the weights of a smaller network into one that has more inputs, outputs or channels.

    Afterwards it computes exactly the same as the smaller network: the weights of new inputs are
    zero, and kernels that only low bins use start as copies of the common kernels. New channels
    keep their initial weights, and so learn from the first step (after Chen, Goodfellow and Shlens
    2016, "Net2Net", sec. 2.3, with zeros in place of divided copies).

    Args:
        model: A `unet.TwoStageUnet` with new weights.
        older: Another one with the same depth, but without some of the views of `model`, or with
            fewer channels.

    Raises:
        UserError: `older` is not a part of `model`; nothing is changed.
    """
    before, now = ([name for name in GROWING_INPUTS if getattr(network.settings, name)]
                   for network in (older, model))
    if before != now[:len(before)] or older.settings.use_fencoding != model.settings.use_fencoding:
        raise UserError("`weights` must be of a network that is a part of this one, with the first "
                        f"of its inputs, {now}. Received: {before}")
    sources = {_name_in_network(variable): variable for variable in older.variables}
    values = []
    for variable in model.variables:
        name = _name_in_network(variable)
        source = sources.get(name, sources.get(name.replace("/low", "/conv" if "/low/" in name
                                                            else "/kernel")))
        if source is None:
            raise UserError(f"`weights` must be of a network that is a part of this one: it has no "
                            f"variable {name}")
        value, initial = (keras.ops.convert_to_numpy(each) for each in (source, variable))
        if value.ndim == 4:
            value = _spread_inputs(value, *(_concatenated(name, network)
                                            for network in (older, model)))
        values.append(_widen(value, initial, name))
    for variable, value in zip(model.variables, values, strict=True):
        variable.assign(value)


def _name_in_network(variable: Any) -> str:
    return variable.path.split("/", 1)[1]


def _concatenated(name: str, network: Any) -> dict[str, int]:
    """Returns the numbers of channels that a convolution takes of each of its inputs, in order."""
    if name.startswith("extractor"):
        return network.extractor_inputs
    place = re.match(r"unet_(\d)/(?:bottom|(en|de)coder_(\d)/block)/(?:dense_(\d+)|residual)/",
                     name)
    if place is None:
        return {}
    stage, kind, level, outputs = place.groups()
    count = network.settings.channels[network.settings.depth if level is None else int(level)]
    inputs = {f"output {number}": count for number in range(int(outputs or 0))} | {"own": count}
    is_joined = kind == "de" or (stage, level) == ("2", "0")  # a skip, or attention
    return inputs | ({"joined": count} if is_joined else {})


def _spread_inputs(kernel: np.ndarray, before: dict[str, int], now: dict[str, int]) -> np.ndarray:
    """Returns a kernel with zeros for new inputs.

    Args:
        kernel: `(height, width, inputs, filters)`.
        before: Number of its inputs of each kind, in their order; empty if all are of one kind.
        now: Number of inputs of each kind in the result; new kinds may stand between others.
    """
    for kind, count in before.items():
        if count > now.get(kind, 0):
            raise UserError("`weights` must be of a network that is a part of this one: its first "
                            f"layers take {count} channels of `{kind}`, this one's "
                            f"{now.get(kind, 0)}")
    if not now:
        return kernel
    parts = dict(zip(before, np.split(kernel, np.cumsum([*before.values()])[:-1], axis=2),
                     strict=True))
    empty = kernel[:, :, :0]
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, count - part.shape[2]), (0, 0)))
                           for kind, count in now.items()
                           for part in [parts.get(kind, empty)]], axis=2)


def _widen(value: np.ndarray, initial: np.ndarray, name: str) -> np.ndarray:
    """Returns `value` with zeros for new inputs, and `initial` for new outputs."""
    if value.ndim != initial.ndim or np.any(np.greater(value.shape, initial.shape)):
        raise UserError(f"`weights` must be of a network that is a part of this one. Variable "
                        f"{name}: it has the shape {value.shape}, this one {initial.shape}")
    # Kernels end with inputs and outputs, but those of `UpsamplingConv2D` with outputs and inputs.
    outputs = -2 if name.endswith("up/kernel") else -1
    wide = initial.copy()
    np.moveaxis(wide, outputs, 0)[: value.shape[outputs]] = 0.0
    wide[tuple(map(slice, value.shape))] = value
    return wide
