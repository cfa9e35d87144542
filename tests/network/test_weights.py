"""Weights that do not fit, or whose files are damaged, are refused and change nothing."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tensorflow as tf
from numpy_unet import NumpyUnet, write_checkpoint

import unet
from historical_denoiser.network.weights import store_hash
from historical_denoiser.settings import UnetConfig

TINY = {"depth": 1, "channels": [3, 4, 4]}


def build():
    return unet.build_model_denoise(SimpleNamespace(**TINY))


def assert_refused(path, message):
    """Loading fails with `message` and changes no weight."""
    model = build()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        unet.load_weights(model, path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.fixture
def reference(rng):
    """A NumPy network with random weights."""
    network = NumpyUnet(UnetConfig(**TINY), rng)
    network(np.zeros((1, 4, 2)))
    return network


@pytest.fixture(params=["checkpoint", "model.weights.h5"])
def write_weights(request, rng, tmp_path):
    """Returns a function that stores a network with one change and returns the path."""
    def write(change=None, **settings):
        settings = UnetConfig(**(TINY | settings))
        path = tmp_path / request.param
        if request.param == "checkpoint":
            reference = NumpyUnet(settings, rng)
            reference(np.zeros((1, 4, 2)))
            weights = reference.weights
            if change is not None:
                name, value = change
                weights.pop(name) if value is None else weights.update({name: value})
            write_checkpoint(weights, path)
        else:
            unet.build_model_denoise(settings).save_weights(path)
            if change is not None:
                name, value = change
                with h5py.File(path, "a") as file:
                    stored = "final/conv/vars/1" if name == "finalblock/conv2/bias" else name
                    if stored in file:
                        del file[stored]
                    if value is not None:
                        file[stored] = value
        return path
    return write


@pytest.mark.parametrize(("change", "message"), [
    (("finalblock/conv2/bias", np.zeros(3, "float32")), r"expected .*\(2,\).* found .*\(3,\)"),
    (("finalblock/conv2/bias", None), r"expected .*\(2,\).* found nothing"),
    (("finalblock/conv9/bias", np.zeros(3, "float32")), r"conv9.*expected nothing.*\(3,\)"),
])
def test_mismatch_is_named_and_changes_nothing(change, message, write_weights):
    assert_refused(write_weights(change),
                   rf"`weights` must .*final.*{message}.* Received: weights=")


@pytest.mark.parametrize("settings", [{"depth": 2}, {"num_stages": 1}, {"channels": [3, 6, 4]}])
def test_weights_of_another_network_are_refused(settings, write_weights):
    assert_refused(write_weights(**settings), r"Variable .*: expected .*, found .*")


def test_missing_and_broken_files(tmp_path):
    for name in ("none.weights.h5", "none"):
        with pytest.raises(FileNotFoundError, match="Received: weights=.*none"):
            unet.load_weights(build(), tmp_path / name)
    (tmp_path / "broken.weights.h5").write_bytes(b"not HDF5")
    assert_refused(tmp_path / "broken.weights.h5", "Received: weights=.*broken")


@pytest.mark.parametrize("damage", ["no_data", "short_data", "no_index_content"])
def test_incomplete_checkpoints_are_named(damage, reference, tmp_path):
    write_checkpoint(reference.weights, tmp_path / "checkpoint")
    (data,) = tmp_path.glob("checkpoint.data*")
    if damage == "no_data":
        data.unlink()
    elif damage == "short_data":
        data.write_bytes(data.read_bytes()[:100])
    else:
        (tmp_path / "checkpoint.index").write_bytes(b"")
    assert_refused(tmp_path / "checkpoint", "complete TensorFlow checkpoint.*Received: weights=")


def test_state_of_an_optimizer_is_not_a_weight(reference, tmp_path):
    write_checkpoint(reference.weights, tmp_path / "checkpoint",
                     {"optimizer": {"iter": tf.Variable(1)}})
    model = build()
    unet.load_weights(model, tmp_path / "checkpoint")
    np.testing.assert_array_equal(model.final.conv.bias, reference.weights["finalblock/conv2/bias"])


@pytest.mark.parametrize("bit", [0, 31])
def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path, bit):
    path, model = tmp_path / "a.weights.h5", build()
    model.save_weights(path)
    store_hash(path)
    unet.load_weights(build(), path)
    content = bytearray(path.read_bytes())
    place = content.index(model.get_weights()[0].tobytes()[:64])
    content[place + bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    assert_refused(path, "it was damaged. Received: weights=.*a.weights.h5")
