"""What a command does not need, it does not load: that is why it answers at once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.denoise import require_packages
from historical_denoiser.run.settings import InferenceConfig

ROOT = Path(__file__).resolve().parent.parent
TENSORFLOW = {"tensorflow", "keras", "jax", "torch", "h5py"}
RUNTIMES = {"onnxruntime", "ai_edge_litert", "tf2onnx"}
OF_OTHER_JOBS = {"matplotlib", "librosa", "numba", "sklearn", "music21", "tensorboard", "requests",
                 "pandas", "trainer", "dataset_loader", "unet"}
# Runs a command as a user does, and prints at the end what it loaded.
TELLING = """
import atexit, json, runpy, sys
atexit.register(lambda: print("LOADED", json.dumps(sorted(sys.modules)), file=sys.__stdout__))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def loaded_by(*arguments: object, cwd: Path, program: str = "inference.py",
              ) -> tuple[set[str], subprocess.CompletedProcess]:
    """Returns which modules a program loaded, and what it said."""
    done = subprocess.run([sys.executable, "-c", TELLING, ROOT / program,
                           *map(str, arguments)], cwd=cwd, text=True, capture_output=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED ")]
    return set(json.loads(line.removeprefix("LOADED "))), done


@pytest.mark.parametrize(("arguments", "status"), [
    (["--help"], 0), (["missing.wav"], 1), (["inference.strenght=2"], 1)])
def test_help_and_mistakes_load_neither_a_network_nor_signal_code(tmp_path, arguments, status):
    modules, done = loaded_by(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert "historical_denoiser.restoration.restorer" in modules
    assert modules & (TENSORFLOW | RUNTIMES | OF_OTHER_JOBS
                      | {"scipy.signal", "scipy.stats", "scipy.ndimage"}) == set()


@pytest.mark.parametrize("program", ["train.py", "evaluate.py"])
def test_help_starts_neither_hydra_nor_signal_code(tmp_path, program):
    modules, done = loaded_by("seed=2", "-h", cwd=tmp_path, program=program)
    assert done.returncode == 0 and f"Usage: python {program}" in done.stdout
    assert "\nloss: film, log_spectral, mae," in done.stdout
    # Hydra finds its plugins before it reads settings.
    assert modules & {"tensorflow", "scipy.signal", "hydra._internal.core_plugins"} == set()


def test_what_a_small_environment_lacks_is_said_before_any_work(monkeypatch):
    for name in ("librosa", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)  # as Python marks what cannot be imported
    require_packages(InferenceConfig(spectrogram=False, noise_profile="auto"))
    with pytest.raises(UserError, match="pip install librosa matplotlib$"):
        require_packages(InferenceConfig(spectrogram=True))


def test_the_classical_method_loads_no_network(tmp_path, rng):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(SAMPLE_RATE // 2), SAMPLE_RATE)
    modules, done = loaded_by("a.wav", "method=lsa", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.any(soundfile.read(tmp_path / "a_residual.wav")[0])
    # scipy.signal takes as long to load as a second of sound to restore.
    assert modules & (TENSORFLOW | RUNTIMES | OF_OTHER_JOBS | {"scipy.signal"}) == set()
