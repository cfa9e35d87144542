"""Tests of the command: options, error lines, exit status, workers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packing import (
    TINY_RECIPE,
    build_debs,
    encode,
    make_tone,
    read_manifest,
    write_all,
    write_records,
)

import prepare_data
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import run_main
from historical_denoiser.corpus import downloads
from historical_denoiser.corpus.downloads import RemoteFile


def exit_line(monkeypatch, *words: str) -> str:
    """Runs the command; returns what it ends with, for which the exit status is 1."""
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *words])
    with pytest.raises(SystemExit) as ended:
        run_main(prepare_data.main)
    assert isinstance(ended.value.code, str) and "\n" not in ended.value.code
    return ended.value.code


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing")
def test_workers_and_one_process_agree(tmp_path):
    for name in ("alone", "both"):
        build_debs(tmp_path / name / "downloads")
    options = ["--recipe", str(write_records(tmp_path / "recipe.csv", TINY_RECIPE)), "--output"]
    prepare_data.main([*options, str(tmp_path / "alone"), "--jobs", "1"])
    done = subprocess.run([sys.executable, prepare_data.__file__, *options, str(tmp_path / "both"),
                           "--jobs", "2"], check=True, capture_output=True, text=True)
    assert "package 2 of 2: tiny-effects" in done.stderr
    alone, both = (tmp_path / name / "manifest.csv" for name in ("alone", "both"))
    assert both.read_bytes() == alone.read_bytes()
    assert len(read_manifest(tmp_path / "both")) == 8


def test_a_folder_is_taken_as_a_category(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path, {"scores/a.wav": encode(make_tone(0.1))})
    prepare_data.main(["scores", "--category", "music", "--jobs", "1"])
    assert list(read_manifest(Path("data/scores"))) == ["music/scores/a.wav.flac"]


def test_a_file_that_cannot_be_had_gives_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    url = "http://127.0.0.1:9/musicnet.tar.gz"
    table = write_records(tmp_path / "table.csv", [
        RemoteFile("musicnet", "musicnet.tar.gz", "", "", "music", "CC0", url, "", "")])
    line = exit_line(monkeypatch, "musicnet", "--recipe", str(table), "--output", str(tmp_path))
    assert line.startswith(f"error: {url}: gave up")


def test_missing_tools_give_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = exit_line(monkeypatch, "--only", "klettres-data", "--output", str(tmp_path / "out"))
    assert line.startswith("error: 1 of 1 packages failed; `apt-get` is needed to download klettre")


def test_missing_python_packages_give_one_line(tmp_path):
    """Help needs none of them."""
    code = ("import runpy, sys; sys.modules |= dict.fromkeys(['music21', 'mido', 'requests', "
            "'stream_unzip']); sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    for words, status, line in ((["--help"], 0, ""), (["nix"], 1, "must be one of starter"),
                                (["musicnet"], 1, "pip install -r requirements-corpus.txt\n")):
        done = subprocess.run([sys.executable, "-c", code, prepare_data.__file__, *words],
                              cwd=tmp_path, capture_output=True, text=True, check=False,
                              env={"PYTHONPATH": str(Path(prepare_data.__file__).parent)})
        assert done.returncode == status and line in done.stderr, done.stderr
        assert done.stderr.count("\n") == status
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "message"), [
    (["--only", "tiny"], "`--only` must be packages"),
    (["--jobs", "0"], "`--jobs` must be at least 1"),
    (["scores", "--hours", "0"], "`--hours` must be above 0"),
    (["scores", "--ensemble", "kazoos"], "`--ensemble` must be one of string quartet"),
    (["notes", "FOLDER", "--ensemble", "piano"], "`--ensemble` must not go with notes"),
    (["scores", "--seed", "-1"], "`--seed` must be at least 0"),
    (["{folder}"], "must be one of starter, scores, .*musicnet.*, a folder of audio with `--cat"),
    (["{folder}/nowhere", "--category", "music"], "must be a folder of audio files: it does not"),
    (["{folder}", "--category", "music", "--archives", "x"], "`--archives` must not go with a fol"),
    (["musicnet", "--only", "klettres-data"], "`--only` must not go with musicnet"),
    (["scores", "--recipe", "x"], "`--recipe` must not go with scores"),
    (["scores", "{folder}"], "`folders` must not go with scores"),
    (["pack"], "pack must come with `--manifests` and `--output`"),
])
def test_wrong_options_are_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, FileNotFoundError), match=message):
        prepare_data.main([word.format(folder=tmp_path) for word in words])
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare_data.main(["--output", str(tmp_path / "file" / "out")])
