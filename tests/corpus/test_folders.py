"""Tests of corpora from any folder of audio."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from packing import groups_and_splits, make_tone, read_manifest

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.folders import build_folder
from historical_denoiser.data.audio_index import split_by_hash


@pytest.fixture
def scores(tmp_path) -> Path:
    folder = tmp_path / "my scores"
    for number in range(6):
        (folder / f"album {number}").mkdir(parents=True)
        for track in range(2):
            sf.write(folder / f"album {number}" / f"{track}.wav",
                     make_tone(0.1, 200.0 + 10 * number + track), SAMPLE_RATE)
    sf.write(folder / "single.flac", np.stack([make_tone(0.1, 900.0)] * 2, axis=1), SAMPLE_RATE)
    (folder / "notes.txt").write_text("not audio")
    return folder


def build(folder: Path, out: Path) -> dict[str, dict[str, str]]:
    build_folder(folder, "music", out, 1)
    return read_manifest(out)


def test_any_folder_is_taken(scores, tmp_path):
    rows = build(scores, tmp_path / "out")
    assert len(rows) == 13
    assert "music/my_scores/album_3/1.wav.flac" in rows
    splits = groups_and_splits(rows)
    assert len(splits) == 7
    assert splits == {group: {split_by_hash(group)} for group in splits}
    assert sf.info(tmp_path / "out" / "music/my_scores/single.flac.flac").channels == 1


def test_channels_of_one_recording_are_one_group(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(6):
        for channel, hz in (("L", 300.0), ("R", 305.0)):
            sf.write(folder / f"take{number}_{channel}.wav", make_tone(0.1, hz + 20 * number),
                     SAMPLE_RATE)
    rows = build(folder, tmp_path / "out")
    splits = groups_and_splits(rows)
    assert len(rows) == 12 and len(splits) == 6
    assert all(len(found) == 1 for found in splits.values())


def test_folders_can_name_the_splits(scores, tmp_path):
    before = groups_and_splits(build(scores, tmp_path / "out"))
    for number, split in enumerate(("train", "validation", "test")):
        (scores / split).mkdir()
        (scores / f"album {number}").rename(scores / split / f"album {number}")
    after = groups_and_splits(build(scores, tmp_path / "out"))
    assert after == before | {"my_scores/album 0": {"train"}, "my_scores/album 1": {"validation"},
                              "my_scores/album 2": {"test"}}


def test_a_changed_folder_is_followed(scores, tmp_path, monkeypatch):
    build(scores, tmp_path / "out")
    shutil.rmtree(scores / "album 0")
    sf.write(scores / "single.flac", make_tone(1.0, 950.0), SAMPLE_RATE)
    sf.write(scores / "new.wav", make_tone(0.1, 970.0), SAMPLE_RATE)
    convert, converted = conversion.convert_clip, []
    monkeypatch.setattr(conversion, "convert_clip",
                        lambda path, *more: converted.append(path.name) or convert(path, *more))
    rows = build(scores, tmp_path / "out")
    assert sorted(converted) == ["new.wav", "single.flac"]
    assert len(rows) == 12 == len(list((tmp_path / "out").rglob("*.flac")))
    assert rows["music/my_scores/single.flac.flac"]["seconds"] == "1.0"


def test_no_file_of_the_user_is_deleted(scores, tmp_path):
    """Not where the output is such that the originals lie in it, nor beside them."""
    before = {path: path.read_bytes() for path in scores.rglob("*") if path.is_file()}
    inside = tmp_path / "library" / "music" / "my_scores"
    shutil.copytree(scores, inside)
    for folder, message in ((inside, "own FLAC files go"), (scores, "must be empty: it holds")):
        with pytest.raises(UserError, match=message):
            build(folder, tmp_path / "library")
    assert all(path.read_bytes() == data for path, data in before.items())
    for path, data in before.items():
        assert (inside / path.relative_to(scores)).read_bytes() == data


def test_two_folders_of_one_name_do_not_replace_each_other(scores, tmp_path):
    rows = build(scores, tmp_path / "out")
    other = tmp_path / "other" / "my_scores"  # its clips would go to the same folder
    shutil.copytree(scores, other)
    with pytest.raises(UserError, match="must have another name.*my scores was converted"):
        build(other, tmp_path / "out")
    assert build(scores, tmp_path / "out") == rows
    assert all((tmp_path / "out" / file).exists() for file in rows)


def test_what_cannot_be_a_corpus_is_refused(scores, tmp_path):
    (scores / "empty").mkdir()
    with pytest.raises(UserError, match="must lie outside"):
        build(scores, scores / "out")
    with pytest.raises(FileNotFoundError, match="must hold audio files"):
        build(scores / "empty", tmp_path / "out")
