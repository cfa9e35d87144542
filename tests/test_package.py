"""The wheel holds all that restoring needs, and its command works from any folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from small_corpus import ROOT

PACKED = ("historical_denoiser", "conf", "pretrained", "examples")


def test_all_rooms_are_in_the_package():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    rooms = {".".join(path.parent.relative_to(ROOT).parts)
             for path in (ROOT / "historical_denoiser").rglob("__init__.py")}
    assert rooms == set(listed) - {f"historical_denoiser.{name}" for name in PACKED[1:]}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """The command of a wheel in an environment of its own, which borrows other packages."""
    pytest.importorskip("setuptools", reason="it builds the wheel (requirements-test.txt)")
    folder = tmp_path_factory.mktemp("package")
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    for name in PACKED:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("requirements*.txt"), *map(ROOT.joinpath, (
            "pyproject.toml", "README.md", "LICENSE"))):
        shutil.copy(path, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source],
                   check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel],
                   check=True)
    site = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                          text=True, capture_output=True, check=True).stdout.strip()
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin" / "denoise"


@pytest.mark.slow
def test_an_installed_program_denoises_where_there_is_no_checkout(program, tmp_path, rng):
    times = np.arange(2 * 44100) / 44100
    noisy = 0.2 * np.sin(2.0 * np.pi * 440.0 * times) + 0.02 * rng.standard_normal(len(times))
    sf.write(tmp_path / "side A.wav", noisy, 44100, subtype="FLOAT")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([program, "side A.wav", "carrier=acoustic_disc"], cwd=tmp_path, text=True,
                          capture_output=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "ONNX Runtime" in done.stderr + done.stdout
    report = json.loads((tmp_path / "denoised_report.json").read_text())
    assert str(ROOT) not in json.dumps(report)
    restored, removed = (sf.read(tmp_path / f"side A_{name}.wav")[0]
                         for name in ("denoised", "residual"))
    np.testing.assert_allclose(restored + removed, noisy, atol=1e-6)
    assert np.std(removed) > 0.01
    library = subprocess.run(
        [program.parent / "python", "-c", "from historical_denoiser import Denoiser, __version__; "
         "print(Denoiser.load().settings.unet.depth, __version__)"], cwd=tmp_path,
        text=True, capture_output=True, env=environ, check=True)
    assert library.stdout.split()[0] == "4"
