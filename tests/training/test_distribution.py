"""Several workers do together what one does alone; other backends train without TensorFlow."""

import importlib.util
import json
import os
import socket
import subprocess
import sys

import numpy as np
import programs
import pytest
import small_run
import tensorflow as tf
from small_corpus import read_weights

import unet
from historical_denoiser.training import distribution
from historical_denoiser.training.checkpoints import LAST_NAME


@pytest.fixture(scope="module")
def start_weights(tmp_path_factory):
    """Backends draw other random numbers from the same seed: all start from this file."""
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    unet.build_model_denoise(small_run.UNET).save_weights(path)
    return path


@pytest.fixture
def start(three_tunes, start_weights, tmp_path):
    """Starts a process that trains in `tmp_path`."""
    def run(strategy="none", **environment):
        arguments = (three_tunes, tmp_path, start_weights, strategy)
        if "KERAS_BACKEND" not in environment:
            return programs.start(small_run.__file__, *arguments, cwd=tmp_path, **environment)
        return subprocess.Popen([sys.executable, small_run.__file__, *arguments],
                                env=os.environ | environment, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    return run


def finish(*processes):
    """Returns what the processes wrote to stdout, once all have ended well."""
    written = []
    for process in processes:
        output, messages = process.communicate(timeout=300)
        assert process.returncode == 0, messages
        written.append(output)
    return "".join(written)


@pytest.fixture(scope="module")
def alone(three_tunes, start_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    tf.config.run_functions_eagerly(True)  # tracing takes longer than four steps
    small_run.train(three_tunes, folder, "none", start_weights)
    tf.config.run_functions_eagerly(False)
    return read_weights(folder / LAST_NAME)


def assert_same(weights, alone):
    assert weights.keys() == alone.keys() and len(alone) > 10
    for name, value in alone.items():
        np.testing.assert_allclose(weights[name], value, atol=1e-3 * np.abs(value).max() + 1e-6,
                                   err_msg=name)


def start_cluster(start, kind, count):
    """Starts the tasks of a cluster of one kind, at ports that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    cluster = {kind: [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]}
    for server in sockets:
        server.close()
    return [start("multi_worker", TF_CONFIG=json.dumps(
        {"cluster": cluster, "task": {"type": kind, "index": index}})) for index in range(count)]


def test_two_devices_do_what_one_does_and_refuse_what_they_cannot_share(start, tmp_path, alone):
    written = finish(start("mirrored"))  # a CPU stands as two devices for two GPUs
    assert_same(read_weights(tmp_path / LAST_NAME), alone)
    assert written.splitlines() == [
        "`batch_size` must be a multiple of the 2 devices. Received: batch_size=3",
        "4 among 2", "6 among 2"]


@pytest.mark.slow
def test_two_workers_do_what_one_does(start, tmp_path, alone):
    finish(*start_cluster(start, "worker", 2))
    assert_same(read_weights(tmp_path / LAST_NAME), alone)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_trains_alike_without_tensorflow(backend, start, start_weights, tmp_path,
                                                         alone):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    # Four steps compute in less time than they compile in.
    finish(start(KERAS_BACKEND=backend, WITHOUT_TENSORFLOW="1",
                 XLA_FLAGS="--xla_backend_optimization_level=0"))
    before, after = (read_weights(path) for path in (start_weights, tmp_path / LAST_NAME))
    assert len(before) > 10
    # Adam's first steps are signs of gradients: where one is nearly zero, rounding decides. All
    # weights together are the same.
    before, after, expected = (np.concatenate([weights[name].ravel() for name in before])
                               for weights in (before, after, alone))
    assert np.linalg.norm(after - expected) < 0.2 * np.linalg.norm(expected - before)


def test_a_strategy_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(distribution.keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="strategy.*jax"):
        distribution.make_workers("mirrored", 4)


@pytest.mark.slow
def test_a_chief_beside_the_workers_is_refused(start):
    (chief,) = start_cluster(start, "chief", 1)
    _, errors = chief.communicate(timeout=300)
    assert chief.returncode != 0 and "must name tasks of the type" in errors
