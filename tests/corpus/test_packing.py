"""Tests of packing corpora into little space."""

import csv

import numpy as np
import pytest
import soundfile
from small_corpus import read_table

import prepare_data
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus.packing import EXCERPT_SECONDS, pack_corpus
from historical_denoiser.data.audio_index import find_clips
from historical_denoiser.data.recordings import read_segment
from historical_denoiser.data.settings import DsetConfig

SHARES = {"speech": 0.5, "music": 0.5}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A corpus of one spoken clip and three tunes, of which one is not clean and one tests."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    clips = [("voice", "speech", 3.0, "train", 1), ("long", "music", 50.0, "train", 1),
             ("hissing", "music", 2.0, "train", 0), ("unseen", "music", 2.0, "test", 1),
             ("judged", "music", 2.0, "validation", 1)]
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "category", "seconds", "group", "split", "clean", "licence"])
        for name, category, seconds, split, clean in clips:
            time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
            sound = 0.2 * np.sin(2 * np.pi * 440 * time) + 1e-3 * rng.normal(size=len(time))
            soundfile.write(folder / f"{name}.flac", sound, SAMPLE_RATE)
            writer.writerow([f"{name}.flac", category, seconds, name, split, clean, "CC0"])
    return folder / "manifest.csv"


def test_a_packed_corpus_is_one_to_train_on(manifest, tmp_path):
    packed = tmp_path / "packed"
    pack_corpus([manifest], packed, 10.0, SHARES, seed=1)
    rows = read_table(packed / "manifest.csv")
    assert sorted((row["group"], float(row["seconds"])) for row in rows) == [
        ("judged", 2.0), ("long", 10.0), ("long", EXCERPT_SECONDS), ("long", EXCERPT_SECONDS),
        ("voice", 3.0)]
    assert {row["licence"] for row in rows} == {"CC0"}
    clips = find_clips(DsetConfig(path_manifests=[str(packed / "manifest.csv")]))
    voice = next(clip for clip in clips if clip.category == "speech")
    unpacked = read_segment(voice.path, 0.0, 3.0)
    said = read_segment(manifest.parent / "voice.flac", 0.0, 3.0)
    error = unpacked[:len(said)] - said
    assert np.mean(error**2) < 0.01 * np.mean(said**2)


def test_the_space_is_kept_and_the_seed_decides(manifest, tmp_path):
    chosen = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", 3), ("e", 4)):
        pack_corpus([manifest], tmp_path / name, 0.4, SHARES, seed)
        files = [path for path in (tmp_path / name).rglob("*.ogg")]
        assert 0 < sum(path.stat().st_size for path in files) <= 4e5
        chosen.append([row["file"] for row in read_table(tmp_path / name / "manifest.csv")])
    assert chosen[0] == chosen[1]
    assert any(chosen[0] != others for others in chosen[2:])


@pytest.mark.parametrize(("changes", "complaint"), [
    ({"shares": {"opera": 1.0}}, "--shares"), ({"shares": {"effects": 1.0}}, "--shares"),
    ({"megabytes": 0.0}, "--megabytes"), ({"megabytes": 1e-3}, "--megabytes")])
def test_impossible_packing_is_refused(manifest, tmp_path, changes, complaint):
    values = {"megabytes": 1.0, "shares": SHARES, "seed": 0} | changes
    with pytest.raises(UserError, match=complaint):
        pack_corpus([manifest], tmp_path / "packed", **values)
    with pytest.raises(UserError, match="new or empty"):
        pack_corpus([manifest], manifest.parent, 1.0, SHARES, 0)


def test_the_command_packs(manifest, tmp_path):
    prepare_data.main(["pack", "--manifests", str(manifest), "--output", str(tmp_path / "packed"),
                       "--megabytes", "1", "--shares", "speech=1"])
    assert {row["category"] for row in read_table(tmp_path / "packed/manifest.csv")} == {"speech"}
    with pytest.raises(UserError, match="speech=0.25"):
        prepare_data.main(["pack", "--manifests", str(manifest), "--output", str(tmp_path / "x"),
                           "--shares", "speech"])
