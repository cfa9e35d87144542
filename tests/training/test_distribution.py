"""Several workers do together what one does alone; other backends train without TensorFlow."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

import unet
from config import LAST_NAME, UnetConfig
from dataset_loader import Mixer
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.data.settings import DsetConfig
from denoiser.training import distribution

ROOT = Path(__file__).resolve().parents[2]

UNET = {"depth": 1, "channels": [4, 4], "extractor_kernel": 3, "fold_bins": 4, "output": "mask",
        "compression": 0.5}
# A few steps of a tiny network; the weights after them go to a file.
TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import config
{before}
from dataset_loader import Mixer
dset = config.DsetConfig(path_music=[sys.argv[2] + "/music"], path_noise=[sys.argv[2] + "/noise"])
cfg = config.Config(
    path_experiment=sys.argv[3], strategy="{strategy}", epochs=1, steps_per_epoch=4, batch_size=4,
    lr=1e-2, seg_len_s_train=0.2, seg_len_s_val=0.2, validation_items=1, shown_items=0,
    gradient_clip=0.1, ema_momentum=0.5, stft=config.StftConfig(512, 128), dset=dset,
    weights=sys.argv[2] + "/start.weights.h5", unet=config.UnetConfig(**{unet}),
    loss=config.LossConfig(compressed=1.0, snr=0.5))
config.load_backend()
import trainer
run = trainer.Trainer(cfg, Mixer(dset, "train", 0.2, 1), Mixer(dset, "validation", 0.2))
run.fit()
assert run.progress.step == 4 and run._updates() == 4
{after}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    times = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for name in ("music", "noise/gramophone"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        tone = 0.2 * np.sin(2 * np.pi * (300 + 100 * number) * times)
        soundfile.write(folder / f"music/tune{number}.wav", tone, SAMPLE_RATE)
        soundfile.write(folder / f"noise/gramophone/disc{number}.wav",
                        0.05 * rng.standard_normal(len(times)), SAMPLE_RATE)
    # Backends draw other random numbers from the same seed: all start from one file.
    unet.build_model_denoise(UnetConfig(**UNET)).save_weights(folder / "start.weights.h5")
    return folder


def start(corpus, folder, strategy="none", before="", after="", **environment):
    script = TRAIN.format(strategy=strategy, before=before, after=after, unet=UNET)
    return subprocess.Popen([sys.executable, "-c", script, str(ROOT), str(corpus), str(folder)],
                            env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, messages = process.communicate(timeout=300)
        assert process.returncode == 0, messages


def read_weights(path):
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, node: names.append(name) if hasattr(node, "shape") else None)
        return {name: np.asarray(file[name]) for name in names}


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    finish(start(corpus, folder))
    return read_weights(folder / LAST_NAME)


def assert_same(weights, alone):
    assert weights.keys() == alone.keys() and len(alone) > 10
    for name, value in alone.items():
        np.testing.assert_allclose(weights[name], value, atol=1e-3 * np.abs(value).max() + 1e-6,
                                   err_msg=name)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def test_an_error_of_the_mixing_comes_through_tensorflow_as_it_is(corpus, tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"silence{number}.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    dset = DsetConfig(path_music=[str(folder)], path_noise=[str(corpus / "noise")])
    worker = distribution.make_workers("none", 2)
    with pytest.raises(ValueError, match="`dset` must hold audible music for train"):
        next(worker.batches(Mixer(dset, "train", 0.2), 0, 4, 1))


def test_two_workers_do_what_one_does(corpus, tmp_path, alone):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    finish(*[start(corpus, tmp_path, "multi_worker", TF_CONFIG=json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": index}})) for index in range(2)])
    assert_same(read_weights(tmp_path / LAST_NAME), alone)


def test_two_devices_do_what_one_does(corpus, tmp_path, alone):
    # A CPU stands as two devices for two GPUs.
    before = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
plain = tf.distribute.MirroredStrategy
tf.distribute.MirroredStrategy = lambda: plain(["CPU:0", "CPU:1"])
"""
    finish(start(corpus, tmp_path, "mirrored", before))
    assert_same(read_weights(tmp_path / LAST_NAME), alone)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_trains_alike_without_tensorflow(backend, corpus, tmp_path, alone):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    # As if TensorFlow were not installed: importing it fails.
    before = 'sys.modules["tensorflow"] = None'
    after = 'import keras; assert keras.backend.backend() == "' + backend + '"'
    finish(start(corpus, tmp_path, before=before, after=after, KERAS_BACKEND=backend))
    start_weights, trained = (read_weights(path) for path in (corpus / "start.weights.h5",
                                                              tmp_path / LAST_NAME))
    assert len(start_weights) > 10
    # Adam's first steps are signs of gradients: where one is nearly zero, rounding decides. All
    # weights together are the same.
    before, after, expected = (np.concatenate([weights[name].ravel() for name in start_weights])
                               for weights in (start_weights, trained, alone))
    assert np.linalg.norm(after - expected) < 0.2 * np.linalg.norm(expected - before)


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    workers = distribution.make_workers("mirrored", 3)  # one CPU: any batch will do
    assert workers.index == 0 and workers.replicas == 1
    monkeypatch.setattr(distribution.keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="strategy.*jax"):
        distribution.make_workers("mirrored", 4)


def test_a_chief_beside_the_workers_is_refused(corpus, tmp_path):
    cluster = {"chief": [f"127.0.0.1:{free_ports(1)[0]}"]}
    chief = start(corpus, tmp_path, "multi_worker", TF_CONFIG=json.dumps(
        {"cluster": cluster, "task": {"type": "chief", "index": 0}}))
    _, errors = chief.communicate(timeout=300)
    assert chief.returncode != 0 and "must name tasks of the type" in errors
