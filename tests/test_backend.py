"""What the backend says at its start: noise is left out, errors are not, the device is named."""

import os
import signal
import subprocess
import sys

import pytest
from small_corpus import ROOT

from historical_denoiser.core.backend import may_have_gpu


def run_python(script, **environment):
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          env=os.environ | environment, check=False)


def test_what_is_said_before_an_abort_comes_through_and_noise_does_not():
    done = run_python("""
import os, sys
from historical_denoiser.core.backend import filtered_stderr
with filtered_stderr():
    os.write(2, b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\\n")
    sys.stderr.write("2026-01-01 10:00:00.1: I tensorflow/core/x.cc:1] information\\n")
    os.write(2, b"E0000 00:00:1 cuda_dnn.cc:8579] Unable to register cuDNN factory: again\\n")
    os.write(2, b"2026-01-01 10:00:00.1: F x.cc:1] compiled to use AVX instructions\\n")
    os.abort()
""")
    assert done.returncode == -signal.SIGABRT
    assert done.stderr == "2026-01-01 10:00:00.1: F x.cc:1] compiled to use AVX instructions\n"


@pytest.mark.parametrize(("devices", "expected"), [
    ([], False), (["nvidiactl", "nvidia-uvm"], False), (["nvidiactl", "nvidia0"], True),
    (["kfd"], True), (["dxg"], True)])
def test_a_gpu_is_recognised_by_its_devices(devices, expected, tmp_path):
    for name in devices:
        (tmp_path / name).touch()
    assert may_have_gpu(tmp_path) is expected
    assert not may_have_gpu(tmp_path / "gone")  # as on Windows


def test_a_broken_backend_says_why(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'libcudart.so: cannot open\\n')\nraise ImportError('broken')\n")
    done = run_python("from historical_denoiser.core.backend import load_backend; load_backend()",
                      PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "libcudart.so: cannot open" in done.stderr
    assert "ImportError: broken" in done.stderr


def test_a_backend_that_works_loads_silently():
    done = run_python("from historical_denoiser.core.backend import describe_device, load_backend\n"
                      "load_backend(); print(describe_device())", TF_CPP_MIN_LOG_LEVEL="2")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("TensorFlow 2.") and done.stdout.endswith(" cores)\n")


@pytest.mark.slow
def test_jax_is_named():
    pytest.importorskip("jax")
    done = run_python("from historical_denoiser.core import backend\n"
                      "print(backend.describe_device())",
                      KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    assert done.stdout.startswith("JAX ") and " on CPU (" in done.stdout, done.stderr
