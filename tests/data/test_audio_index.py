"""Finding clean audio and noise, and their splits, on small files made here."""

import csv
import os
import shutil

import pytest
from small_corpus import forget_length, write_noise

from dataset_loader import Mixer
from denoiser.data import audio_index
from denoiser.data.audio_index import NoiseRecording
from denoiser.data.settings import DsetConfig


def test_splits_share_nothing_and_keep_groups_together(dset):
    clips = audio_index.find_clips(dset)
    assert len(clips) == 40
    for attribute in ("group", "path"):
        seen = {split: {getattr(clip, attribute) for clip in clips if clip.split == split}
                for split in ("train", "validation", "test")}
        assert all(seen.values())
        assert not (seen["train"] & seen["test"] or seen["train"] & seen["validation"]
                    or seen["validation"] & seen["test"])
    speakers = {clip.group for clip in clips if clip.category == "speech"}
    assert len(speakers) == 10


def test_splits_do_not_depend_on_how_a_folder_is_named(folders, dset, monkeypatch):
    def splits():
        return {clip.path.resolve(): clip.split for clip in audio_index.find_clips(dset)}

    absolute = splits()
    monkeypatch.chdir(folders / "music")
    dset.path_speech, dset.path_music = ["../speech"], ["."]
    dset.path_effects = [f"{folders}/speech/../effects/"]
    assert splits() == absolute and len(set(absolute.values())) == 3


def test_files_of_unknown_length_and_odd_names_are_named_and_left_out(folders, dset, caplog):
    forget_length(folders / "music/tune1.flac")
    shutil.copy(folders / "music/tune2.flac", os.fsencode(folders / "music") + b"/caf\xe9.flac")
    forget_length(folders / "noise/gramophone/disc1_L.flac")
    with caplog.at_level("WARNING"):
        clips = audio_index.find_clips(dset)
    assert sum(clip.category == "music" for clip in clips) == 9
    assert "tune1.flac (its header does not say how long it is)" in caplog.text
    assert "caf\\udce9.flac' is skipped: its name is not UTF-8" in caplog.text
    mixer = Mixer(dset, "train", 0.3)
    mixer.noise = {"gramophone": [NoiseRecording(
        tuple(folders.glob("noise/gramophone/disc1_*.flac")), "gramophone", "train")]}
    dset.share_generated = 0.0
    for index in range(8):
        mixer.item(index)
    assert "disc1_L.flac cannot be read and is skipped: its header" in caplog.text


def test_channels_of_one_noise_recording_stay_together(dset):
    discs = [found for found in audio_index.find_noise(dset) if found.category == "gramophone"]
    assert len(discs) == 4 and all(len(found.files) == 2 for found in discs)
    assert sorted(found.split for found in discs) == ["test", "train", "train", "validation"]


def test_published_noise_layout(tmp_path):
    for recording in ("one", "two", "three"):
        for number in range(2):
            write_noise(tmp_path / recording / f"{recording}_{number}.wav", 0.5)
    with (tmp_path / "info.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["recording", "split", "largest_segment", "segments"])
        for recording, split in (("one", "train"), ("two", "validation"), ("three", "test")):
            rows.writerow([recording, split, 0.5, [f"{recording}_0.wav", f"{recording}_1.wav"]])
    found = audio_index.find_noise(DsetConfig(path_noise=[str(tmp_path)]))
    assert [(len(noise.files), noise.split) for noise in found] == [
        (2, "train"), (2, "validation"), (2, "test")]
    assert all(path.exists() for noise in found for path in noise.files)


def test_malformed_noise_list_names_the_file(tmp_path):
    (tmp_path / "info.csv").write_text("recording,split,segments\na,train,not a list\n")
    with pytest.raises(ValueError, match="info.csv"):
        audio_index.find_noise(DsetConfig(path_noise=[str(tmp_path)]))


def test_missing_folder_and_manifest_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audio_index.find_clips(DsetConfig(path_speech=[str(tmp_path / "nowhere")]))
    with pytest.raises(FileNotFoundError, match="prepare_data.py"):
        audio_index.find_clips(DsetConfig(path_manifests=[str(tmp_path / "manifest.csv")]))


def test_manifest_gives_splits_and_leaves_out_what_is_not_clean(tmp_path):
    rows = [("a.wav", "speech", "train", 1), ("b.wav", "music", "test", 1),
            ("c.wav", "speech", "train", 0)]
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "category", "seconds", "group", "split", "clean", "clipped",
                        "floor_db"])
        table.writerows([name, category, 1.0, name, split, clean, 0.0, 60.0]
                        for name, category, split, clean in rows)
    clips = audio_index.find_clips(DsetConfig(path_manifests=[str(tmp_path / "manifest.csv")]))
    assert [(clip.path.name, clip.split) for clip in clips] == [("a.wav", "train"),
                                                                ("b.wav", "test")]


def test_stretches_cut_from_one_side_stay_together(tmp_path):
    for disc in range(4):
        for number in range(1, 4):
            write_noise(tmp_path / f"gramophone/side {disc}_seg{number:02d}.flac", 0.3, disc)
    found = audio_index.find_noise(DsetConfig(path_noise=[str(tmp_path)]))
    assert [len(recording.files) for recording in found] == [3, 3, 3, 3]


def test_a_file_that_is_no_manifest_is_named(tmp_path):
    (tmp_path / "manifest.csv").write_text("# Notes\nthis, is, not a table\n")
    with pytest.raises(ValueError, match="manifest.csv.* must be a manifest with the columns"):
        audio_index.find_clips(DsetConfig(path_manifests=[str(tmp_path / "manifest.csv")]))
