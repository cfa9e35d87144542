"""Exported networks: written, checked, and run as a user runs them, without TensorFlow."""

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile
from test_imports import OF_OTHER_JOBS, TENSORFLOW, loaded_by

import export
import unet
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.network import runtimes
from historical_denoiser.network.stored import (
    BEST_NAME,
    CONFIG_NAME,
    NetworkSettings,
    read_network_settings,
)
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.settings import Config, UnetConfig, save_config
from inference import Denoiser, choose_method

ROOT = Path(__file__).resolve().parent.parent
# The command on a machine that seems to have a GPU.
WITH_GPU = """
import runpy, sys
from historical_denoiser.core import backend
backend.may_have_gpu = lambda: True
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MODULES = {"onnx": ("onnxruntime", "tf2onnx"), "litert": ("ai_edge_litert",)}
# Every part of a stage of the shipped network, in a form that runs in milliseconds.
EVERY_PART = UnetConfig(depth=1, num_stages=1, channels=[4, 4], extractor_kernel=3, fold_bins=8,
                        fold_start=64, compression=0.3, use_floor=True, use_steady=True,
                        use_short=True, use_long=True, own_low=True, use_profile=True,
                        output="mask")


@pytest.mark.parametrize("kind", list(runtimes.ENDINGS))
def test_what_is_installed_without_tensorflow_has_the_same_floors(kind):
    def lines(name: str) -> set[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        return {line for line in text.splitlines() if line and not line.startswith("#")}

    installed = lines("requirements.txt") | lines(export.REQUIREMENTS)
    needed = lines(runtimes.REQUIREMENTS.format(kind))
    assert needed <= installed
    assert any(line.startswith(MODULES[kind][0].replace("_", "-")) for line in needed)


@pytest.fixture(params=list(runtimes.ENDINGS))
def kind(request) -> str:
    """Each format, if its packages are installed."""
    need(request.param)
    return request.param


def need(kind: str) -> None:
    for module in MODULES[kind]:
        pytest.importorskip(module, reason=f"pip install -r requirements-{kind}.txt")


def write_noise(path: Path, seconds: float) -> np.ndarray:
    noise = 0.1 * np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE))
    soundfile.write(path, noise, SAMPLE_RATE, subtype="FLOAT")
    return noise.astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_an_exported_network_denoises_without_tensorflow(tmp_path, tiny_run, kind):
    need(kind)
    ending = runtimes.ENDINGS[kind]
    done = programs.run("export.py", f"weights={tiny_run}", f"format={kind}",
                        f"output=made/net{ending}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "differs from the network by" in done.stderr
    made = tmp_path / "made" / f"net{ending}"
    assert read_network_settings(made) == read_network_settings(tiny_run / BEST_NAME)
    noise = write_noise(tmp_path / "a.wav", 1.3)
    modules, done = loaded_by("a.wav", f"weights={made}", "inference.declick=false", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert modules & (TENSORFLOW | OF_OTHER_JOBS) == set()
    restored, _ = soundfile.read(tmp_path / "a_denoised.wav", dtype="float32")
    expected = Denoiser.load(tiny_run, declick=False)(noise, SAMPLE_RATE)
    assert np.abs(expected - noise).max() > 0.01
    assert np.allclose(restored, expected, atol=1e-5)


@pytest.mark.slow
def test_what_is_exported_beside_weights_takes_their_place(tmp_path, tiny_run, caplog):
    need("onnx")
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    with pytest.raises(UserError, match="`inference.runtime` must be keras with"):
        Denoiser.load(folder, runtime="onnx")
    assert programs.run("export.py", f"weights={folder}", cwd=tmp_path).returncode == 0
    noise = write_noise(tmp_path / "a.wav", 1.3)
    modules, done = loaded_by("a.wav", f"weights={folder}", cwd=tmp_path)
    assert done.returncode == 0 and "ONNX Runtime" in done.stderr
    assert modules & TENSORFLOW == set()
    # With a GPU, Keras computes long recordings.
    soundfile.write(tmp_path / "long.wav", np.tile(noise, 50)[::6], SAMPLE_RATE // 6)
    for name, library in (("a.wav", "ONNX Runtime"), ("long.wav", "TensorFlow")):
        done = subprocess.run([sys.executable, "-c", WITH_GPU, ROOT / "inference.py", name,
                               f"weights={folder}", "inference.overwrite=true"], cwd=tmp_path,
                              text=True, capture_output=True,
                              env=os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0 and f"INFO: {library}" in done.stderr, done.stderr
    by_keras, by_onnx = (Denoiser.load(folder, runtime=runtime)(noise, SAMPLE_RATE)
                         for runtime in ("keras", "onnx"))
    np.testing.assert_allclose(by_onnx, by_keras, atol=1e-5)
    # Weights that were trained on are not those that were exported.
    other = unet.build_model_denoise(read_network_settings(folder / BEST_NAME).unet)
    other.save_weights(folder / BEST_NAME)
    assert "was not exported from this best.weights.h5" not in caplog.text
    assert runtimes.find_twin(folder / BEST_NAME) is None
    assert "was not exported from this best.weights.h5" in caplog.text


@pytest.mark.parametrize("place", [0.1, 0.5, -1, None])
def test_flipped_bits_and_a_lost_end_of_a_shipped_network_are_found(tmp_path, caplog, place):
    folder = shutil.copytree(ROOT / "pretrained", tmp_path / "shipped")
    network = folder / "best.onnx"
    assert runtimes.find_twin(folder / BEST_NAME) == network
    content = bytearray(network.read_bytes())
    if place is None:
        del content[len(content) // 2 :]
    else:
        content[round(place * len(content)) if place > 0 else place] ^= 0x40
    network.write_bytes(content)
    assert runtimes.find_twin(folder / BEST_NAME) is None
    assert "best.onnx is damaged and not used" in caplog.text
    with pytest.raises(UserError, match="best.onnx (is damaged: its content does|cannot be read)"):
        Denoiser.load(network)


def test_a_network_beside_a_tensorflow_checkpoint_is_passed_over(tmp_path):
    shutil.copy(ROOT / "pretrained" / "best.onnx", tmp_path / "checkpoint.onnx")
    (tmp_path / "checkpoint.index").write_bytes(b"")
    assert runtimes.find_twin(tmp_path / "checkpoint") is None


@pytest.mark.parametrize(("name", "runtime", "expected"), [
    ("net.onnx", "keras", "auto or onnx"), ("net.tflite", "keras", "auto"),
    ("net.tflite", "onnx", "auto")])
def test_a_runtime_that_cannot_read_a_network_is_refused(name, runtime, expected, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"not read")
    save_config(Config(path_experiment="x"), tmp_path / CONFIG_NAME)
    message = f"`inference.runtime` must be {expected} with .*{name}. Received: .*'{runtime}'"
    with pytest.raises(UserError, match=message):
        Denoiser.load(path, runtime=runtime)
    with pytest.raises(UserError, match=message):
        choose_method(Config(path_experiment="x", weights=str(path),
                             inference=InferenceConfig(runtime=runtime)))


@pytest.mark.slow
def test_every_part_of_a_network_is_exported_with_and_without_a_profile(tmp_path, rng, kind):
    settings = NetworkSettings(EVERY_PART)
    model = unet.build_model_denoise(EVERY_PART)
    model.set_weights([0.1 * rng.standard_normal(each.shape) for each in model.get_weights()])
    path = tmp_path / f"net{runtimes.ENDINGS[kind]}"
    export.write(model, settings, kind, path, "0")
    run, predict = runtimes.load(path, settings.profile_form), export.predictor(model)
    spectra = dsp.stft(rng.standard_normal((2, SAMPLE_RATE)).astype(np.float32), 2048, 512)
    profile = rng.uniform(0.0, 2.0, (2, 1, 1025, 2)).astype(np.float32)
    for frames in (1, 31, spectra.shape[1]):
        for given in (spectra[:, :frames], [spectra[:, :frames], profile]):
            expected = predict(given)
            assert np.allclose(run(given), expected, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(run(spectra), run([spectra, profile]), atol=0.01)
    with pytest.raises(UserError, match="with 1 inputs. Received: 2"):
        runtimes.load(path, None)
    # What differs from the network is found.
    with pytest.raises(UserError, match="differs from the network by"):
        export.check(lambda given: predict(given) * 1.1, run, settings)


def test_a_network_computes_in_as_many_threads_as_the_environment_says(tmp_path, monkeypatch, kind):
    path = tmp_path / f"net{runtimes.ENDINGS[kind]}"
    path.write_bytes(b"none")
    asked, (module, name) = [], {"onnx": ("onnxruntime", "InferenceSession"),
                                 "litert": ("ai_edge_litert.interpreter", "Interpreter")}[kind]

    def note(path, options=None, providers=None, num_threads=None):
        asked.append(num_threads or options.intra_op_num_threads)
        raise ValueError("not a network")

    monkeypatch.setattr(importlib.import_module(module), name, note)
    for threads in ("3", "1"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        with pytest.raises(UserError, match="not a network"):
            runtimes.load(path, None)
    assert asked == [3, 1]


def test_a_file_that_is_no_network_is_named(tmp_path, kind):
    path = tmp_path / f"net{runtimes.ENDINGS[kind]}"
    path.write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot be read"):
        runtimes.load(path, None)
    if kind == "litert":  # the program does the same with either
        return
    save_config(Config(path_experiment="x", unet=UnetConfig(depth=2)), tmp_path / CONFIG_NAME)
    write_noise(tmp_path / "a.wav", 0.1)
    modules, done = loaded_by("a.wav", f"weights={path}", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(f"error: {path} cannot")
    assert modules & TENSORFLOW == set()


def test_outputs_are_checked_before_anything_is_converted(tmp_path, tiny_run, tiny_unet):
    assert export.output_path(None, "onnx", Path("a/best.weights.h5")) == Path("a/best.onnx")
    with pytest.raises(UserError, match="ends in .tflite"):
        export.output_path("a.onnx", "litert", tiny_run / BEST_NAME)
    other = tmp_path / "other"
    other.mkdir()
    save_config(Config(path_experiment="x", unet=replace(tiny_unet, fold_bins=8)),
                other / CONFIG_NAME)
    done = programs.run("export.py", f"weights={tiny_run}", f"output={other / 'net.onnx'}",
                        cwd=tmp_path)
    assert done.returncode == 1 and "belongs to another network" in done.stderr
    assert [path.name for path in other.iterdir()] == [CONFIG_NAME]


def test_an_exported_network_cannot_be_trained_on(tmp_path, tiny_run, tiny_unet):
    path = shutil.copy(tiny_run / BEST_NAME, tmp_path / "net.onnx")
    with pytest.raises(UserError, match="is exported"):
        unet.load_weights(unet.build_model_denoise(tiny_unet), path)
