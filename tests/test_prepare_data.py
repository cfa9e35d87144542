"""Tests of the command: options, error lines, exit status, workers."""

from __future__ import annotations

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
    pack_tar,
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
    build_debs(tmp_path)
    options = ["--recipe", str(write_records(tmp_path / "recipe.csv", TINY_RECIPE)), "--source",
               str(tmp_path), "--output"]
    prepare_data.main([*options, str(tmp_path / "alone"), "--jobs", "1"])
    done = subprocess.run([sys.executable, prepare_data.__file__, *options, str(tmp_path / "both"),
                           "--jobs", "2"], check=True, capture_output=True, text=True)
    assert "package 2 of 2: tiny-effects" in done.stderr
    alone, both = (tmp_path / name / "manifest.csv" for name in ("alone", "both"))
    assert both.read_bytes() == alone.read_bytes()
    assert len(read_manifest(tmp_path / "both")) == 8


def test_a_data_set_is_built_from_archives_that_are_there(tmp_path):
    tar = pack_tar({f"musicnet/train_data/{number}.wav": encode(make_tone(0.1, 300 + number))
                    for number in range(3)})
    paths = write_all(tmp_path, {"musicnet_metadata.csv": b"id,composer,composition\n",
                                 "musicnet.tar.gz": tar})
    table = write_records(tmp_path / "table.csv", [
        RemoteFile("musicnet", name, "", "", "music", "CC0", "http://127.0.0.1:9", "", "")
        for name in paths])
    prepare_data.main(["musicnet", "--recipe", str(table), "--archives", str(tmp_path), "--output",
                       str(tmp_path / "out"), "--jobs", "1"])
    assert len(read_manifest(tmp_path / "out")) == 3


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


@pytest.mark.parametrize(("words", "message"), [
    (["--only", "tiny"], "`--only` must be packages"),
    (["--jobs", "0"], "`--jobs` must be at least 1"),
    (["--source", "nowhere"], "`--source` must be a folder"),
    (["--category", "music"], "must come with a data set or a folder"),
    (["{folder}"], "must come with `--category`"),
    (["{folder}", "--category", "music", "--archives", "x"], "without `--archives`"),
    (["{folder}/nowhere", "--category", "music"], "must be one of .*musicnet.* or a folder"),
    (["nix"], "must be one of starter, scores, .*musicnet.*, pack, or a folder of audio"),
    (["musicnet", "--category", "music"], "must be given with a folder alone"),
    (["musicnet", "--only", "klettres-data"], "must go with the starter corpus"),
    (["musicnet", "--source", "{folder}"], "with scores"),
    (["scores", "--hours", "0"], "`--hours` must be above 0"),
    (["scores", "--seed", "-1"], "`--seed` must be at least 0"),
    (["scores", "--recipe", "x"], "must not go with scores"),
    (["scores", "--category", "music"], "or a folder of audio"),
])
def test_wrong_options_are_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        prepare_data.main([word.format(folder=tmp_path) for word in words])
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare_data.main(["--output", str(tmp_path / "file" / "out")])
