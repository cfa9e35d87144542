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
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    before = model.get_weights()
    with pytest.raises(ValueError,
                       match=rf"`weights` must .*final.*{message}.* Received: weights="):
        unet.load_weights(model, write_weights(change))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("settings", [
    {"depth": 2}, {"num_tfc": 2}, {"num_stages": 1}, {"channels": [3, 6, 4]},
    {"use_fencoding": False}, {"extractor_kernel": 3}])
def test_weights_of_another_network_are_refused(settings, write_weights):
    path = write_weights(**settings)
    with pytest.raises(ValueError, match=r"Variable .*: expected .*, found .*"):
        unet.load_weights(unet.build_model_denoise(SimpleNamespace(**TINY)), path)


def test_missing_and_broken_files(tmp_path):
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    for name in ("none.weights.h5", "none"):
        with pytest.raises(FileNotFoundError, match="Received: weights=.*none"):
            unet.load_weights(model, tmp_path / name)
    (tmp_path / "broken.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match="Received: weights=.*broken"):
        unet.load_weights(model, tmp_path / "broken.weights.h5")


@pytest.mark.parametrize("damage", ["no_data", "short_data", "no_index_content"])
def test_incomplete_checkpoints_are_named(damage, rng, tmp_path):
    reference = NumpyUnet(UnetConfig(**TINY), rng)
    reference(np.zeros((1, 4, 2)))
    write_checkpoint(reference.weights, tmp_path / "checkpoint")
    (data,) = tmp_path.glob("checkpoint.data*")
    if damage == "no_data":
        data.unlink()
    elif damage == "short_data":
        data.write_bytes(data.read_bytes()[:100])
    else:
        (tmp_path / "checkpoint.index").write_bytes(b"")
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    before = model.get_weights()
    with pytest.raises(ValueError, match="complete TensorFlow checkpoint.*Received: weights="):
        unet.load_weights(model, tmp_path / "checkpoint")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_state_of_an_optimizer_is_not_a_weight(rng, tmp_path):
    reference = NumpyUnet(UnetConfig(**TINY), rng)
    reference(np.zeros((1, 4, 2)))
    write_checkpoint(reference.weights, tmp_path / "checkpoint",
                     {"optimizer": {"iter": tf.Variable(1)}})
    model = unet.build_model_denoise(SimpleNamespace(**TINY))
    unet.load_weights(model, tmp_path / "checkpoint")
    np.testing.assert_array_equal(model.final.conv.bias,
                                  reference.weights["finalblock/conv2/bias"])


@pytest.mark.parametrize("bit", [0, 3, 31])
def test_a_flipped_bit_in_a_weight_is_noticed(tmp_path, bit):
    settings = SimpleNamespace(**TINY)
    path, model = tmp_path / "a.weights.h5", unet.build_model_denoise(settings)
    model.save_weights(path)
    store_hash(path)
    unet.load_weights(unet.build_model_denoise(settings), path)
    whole = path.read_bytes()
    kernel = np.concatenate([np.ravel(weight) for weight in model.get_weights()[:1]]).tobytes()
    place = whole.index(kernel[:64]) + bit // 8
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit % 8]) + whole[place + 1 :])
    other = unet.build_model_denoise(settings)
    before = other.get_weights()
    with pytest.raises(ValueError, match="it was damaged. Received: weights=.*a.weights.h5"):
        unet.load_weights(other, path)
    for old, new in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
