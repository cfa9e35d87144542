"""Tests of what the conversions of packages, data sets and folders share."""

from __future__ import annotations

from pathlib import Path

import pytest

from denoiser.checks import UserError
from denoiser.corpus.conversion import make_job, prepare_output


@pytest.mark.parametrize("name", ["../../../e.wav", "/e.wav", "a/../../e.wav", "./e.wav"])
def test_an_archives_names_stay_inside_the_corpus(name, tmp_path):
    *_, output, file = make_job(Path("x"), "music", "set", name, tmp_path, set())
    target = (Path(output) / file).resolve()
    assert target.is_relative_to(tmp_path / "music/set") and target.name == "e.wav.flac"


def test_two_clips_never_share_a_file(tmp_path):
    taken: set[str] = set()
    files = [make_job(Path("x"), "music", "set", name, tmp_path, taken)[3]
             for name in ("a b.wav", "a_b.wav", "A_b.wav")]
    assert files == ["music/set/a_b.wav.flac", "music/set/a_b.wav_.flac",
                     "music/set/A_b.wav__.flac"]


def test_a_corpus_of_another_kind_is_not_overwritten(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "klettres-data.json").write_text("{}")
    (tmp_path / ".unpacked-1").mkdir()
    with pytest.raises(UserError, match="another kind"):
        prepare_output(tmp_path, foreign="*.json")
    prepare_output(tmp_path, foreign="*.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]  # nothing half done
