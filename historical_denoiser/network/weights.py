"""Loads weights into a network: from Keras files and from TensorFlow checkpoints.

The published weights of the 2022 model are a TensorFlow object-graph checkpoint, in which a
variable is named after its place in the original program. `_checkpoint_layers` maps the layers of
`unet.TwoStageUnet` to these names. Start reading at `load_keras_file`.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import WEIGHTS_ENDING, temporary_file

Shape = tuple[int | None, ...]

CHECKPOINT_ROOT = "layer_with_weights-0"  # the network inside its one-layer functional model
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
