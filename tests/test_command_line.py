"""A user's mistake ends in one line; a mistake of the program keeps its traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import exit_on_user_error, keys_of, run_main

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("error", [UserError("the value is wrong"), OSError("the disk is full")])
def test_a_mistake_of_the_user_is_one_line(error):
    @exit_on_user_error
    def fail():
        raise error

    with pytest.raises(SystemExit, match=f"error: {error}"):
        fail()


@pytest.mark.parametrize("error", [ValueError("shapes differ"), KeyError("name"), TypeError("x")])
def test_any_other_error_keeps_its_traceback(error):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        run_main(fail)
    assert caught.value is error


def test_a_shape_error_inside_keras_is_not_taken_for_a_mistake_of_the_user():
    """The program ends with a traceback, which names the line to mend."""
    done = subprocess.run([sys.executable, "-c", """
import sys
import hydra
from historical_denoiser.settings import load_config
from historical_denoiser.core.command_line import exit_on_user_error, run_main
@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def main(raw):
    import numpy, unet
    unet.build_model_denoise(load_config(raw).unet)(numpy.zeros((1, 2, 3)))
run_main(main)
"""], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "unet.py" in done.stderr


def test_keys_of_overrides():
    assert keys_of(["unet.depth=3", "+a.b=1=2", "~c", "++d="]) == {"unet.depth", "a.b", "c", "d"}
    assert keys_of(["stft={highpass_hz:0,hop_size: 256}"]) == {
        "stft", "stft.highpass_hz", "stft.hop_size"}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
@pytest.mark.parametrize("name", ["app", "evaluate", "export", "inference", "noise_tools",
                                  "prepare_data", "train"])
def test_ctrl_c_while_a_program_loads_leaves_no_traceback(name):
    """Whether it comes at this moment or at another, which differs from machine to machine."""
    process = subprocess.Popen([sys.executable, ROOT / f"{name}.py", "--help"], text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate()[1]
    assert process.returncode in (-signal.SIGINT, 130, 0)
