"""The notebook runs from top to bottom, as on Colab but for the upload."""

import subprocess
from pathlib import Path

import nbclient
import nbformat

ROOT = Path(__file__).resolve().parent.parent


def test_notebook_runs_from_top_to_bottom(tmp_path):
    # A clone, so that the results do not land in this checkout.
    clone = tmp_path / "denoiser"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    notebook = nbformat.read(ROOT / "colab" / "demo.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300,
                            resources={"metadata": {"path": str(clone / "colab")}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert kinds.count("image/png") == 1
    sounds = [output for output in outputs if "<audio" in output.get("data", {}).get(
        "text/html", "")]
    assert len(sounds) == 3
    assert {path.name for path in (clone / "restored").iterdir()} == {
        "noisy_denoised.flac", "noisy_residual.flac", "noisy_spectrogram.png"}
