"""The notebook runs from top to bottom, as on Colab but for the upload."""

import http.server
import json
import re
import subprocess
import sys
import threading
import types
import urllib.parse
from pathlib import Path

import nbclient
import nbformat
import pytest
import soundfile
from film_samples import Sound, write_film

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE, EXAMPLE_SECONDS = "examples/noisy.flac", 3.0
ADDRESS = "https://github.com/someone/denoiser"
BRANCH = "trial/one"


@pytest.fixture
def clone(tmp_path):
    """A clone, so that the results do not land in this checkout; its example is short."""
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    audio, rate = soundfile.read(folder / EXAMPLE)
    soundfile.write(folder / EXAMPLE, audio[: round(EXAMPLE_SECONDS * rate)], rate)
    return folder


@pytest.fixture
def sessions():
    """What Colab's own server says of a notebook that was opened from GitHub."""
    opened = urllib.parse.quote(f"{ADDRESS}/blob/{BRANCH}/colab/demo.ipynb", safe="")

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802 - the library's name
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([{"path": f"fileId={opened}"}]).encode())

        def log_message(self, *_):
            """Nothing on stderr."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api/sessions"
        server.shutdown()


def run(notebook, folder):
    nbclient.NotebookClient(notebook, timeout=600,
                            resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.fixture
def notebook():
    return nbformat.read(ROOT / "colab" / "demo.ipynb", as_version=4)


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(notebook, clone):
    outputs = run(notebook, clone / "colab")
    pictures = [output["data"]["image/png"] for output in outputs
                if "image/png" in output.get("data", {})]
    assert len(pictures) == 2  # spectrograms, and how the training went
    sounds = [output for output in outputs if "<audio" in output.get("data", {}).get(
        "text/html", "")]
    assert len(sounds) == 8  # before, three strengths, residual; before, blind, told
    told = "".join(output.get("text", "") for output in outputs)
    blind, with_profile = (float(gain) for gain in re.findall(r"(?:blind|told): (\S+) dB", told))
    assert with_profile > blind + 3.0
    assert {path.name for path in (clone / "restored").iterdir()} == {
        "noisy_denoised_sauto.flac", "noisy_residual_sauto.flac", "denoised_report.json", "blind",
        "told"}
    assert (clone / "experiments" / "demo" / "best.weights.h5").is_file()


@pytest.mark.slow
def test_a_film_can_be_uploaded(notebook, clone):
    """As by Colab, which asks in the browser, writes what it gets, and returns it."""
    write_film(clone / "chosen" / "reel 1.mp4", "mp4", [Sound("aac")], 3.0)
    (clone / "google" / "colab").mkdir(parents=True)
    (clone / "google" / "colab" / "files.py").write_text("""import pathlib
def upload():
    contents = {path.name: path.read_bytes() for path in pathlib.Path("chosen").iterdir()}
    for name, content in contents.items():
        pathlib.Path(name).write_bytes(content)
    return contents
""")
    notebook.cells = notebook.cells[:7]
    upload = notebook.cells[4]
    assert "UPLOAD = False" in upload.source
    upload.source = upload.source.replace("UPLOAD = False", "UPLOAD = True")
    outputs = run(notebook, clone / "colab")
    assert sum("<audio" in output.get("data", {}).get("text/html", "") for output in outputs) == 5


def test_without_an_upload_the_example_is_restored(notebook, tmp_path, monkeypatch, capsys):
    """Colab returns no file where the upload is cancelled."""
    colab = types.ModuleType("google.colab")
    colab.files = types.SimpleNamespace(upload=dict)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    source = notebook.cells[4].source.replace("UPLOAD = False", "UPLOAD = True")
    names = {"Path": Path}
    exec(compile(source.partition("recording =")[0], "cell", "exec"), names)
    assert names["AUDIO"] == EXAMPLE
    assert capsys.readouterr().out == f"nothing was uploaded: {EXAMPLE} is denoised\n"


def test_colab_needs_no_address_and_keeps_its_tensorflow(notebook, clone, sessions, tmp_path,
                                                         monkeypatch):
    """Opened from GitHub, which git finds in this very checkout; pip is only asked what it did.

    The code is that of the branch in which the notebook was opened.
    """
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for step in (["checkout", "--quiet", "-b", BRANCH],
                 ["commit", "--quiet", "--allow-empty", "-m", "of a branch"],
                 ["checkout", "--quiet", "-"]):
        subprocess.run([*git, *step], check=True)
    for key, value in {"COUNT": "2", "KEY_0": f"url.{clone}.insteadOf", "VALUE_0": ADDRESS,
                       "KEY_1": "protocol.file.allow", "VALUE_1": "always"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    report = tmp_path / "pip.log"
    monkeypatch.setenv("PIP_LOG", str(report))
    content = tmp_path / "content"
    content.mkdir()
    (setup,) = [cell for cell in notebook.cells[:4] if cell.cell_type == "code"]
    setup.source = setup.source.replace("http://172.28.0.12:9000/api/sessions", sessions)
    assert sessions in setup.source
    notebook.cells = [setup]
    run(notebook, content)
    assert (content / "denoiser_code" / "inference.py").is_file()
    last = subprocess.run(["git", "-C", content / "denoiser_code", "log", "-1", "--format=%s"],
                          check=True, capture_output=True, text=True)
    assert last.stdout == "of a branch\n"
    asked = report.read_text()
    assert "soundfile>=" in asked and "tensorboard>=" in asked
    assert "tensorflow-cpu" not in asked and "tensorflow>=" not in asked
