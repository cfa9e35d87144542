"""Finding clean audio and noise, and their splits, on small files made here."""

import os
import shutil

import numpy as np
import pytest
import soundfile
from small_corpus import ROOT, forget_length, read_table, tunes_and_noise, write_noise, write_tone

from dataset_loader import Mixer
from historical_denoiser.core.checks import UserError
from historical_denoiser.data import audio_index
from historical_denoiser.data.audio_index import NoiseRecording
from historical_denoiser.data.settings import DsetConfig


def test_splits_share_nothing_and_keep_groups_together(dset):
    clips = audio_index.find_clips(dset)
    assert len(clips) == 40
    assert {clip.split for clip in clips} == {"train", "validation", "test"}
    for attribute in ("group", "path"):
        splits = {(getattr(clip, attribute), clip.split) for clip in clips}
        assert len(splits) == len({name for name, _ in splits})
    assert len({clip.group for clip in clips if clip.category == "speech"}) == 10


def test_splits_do_not_depend_on_how_a_folder_is_named(folders, dset, monkeypatch):
    def splits():
        return {clip.path.resolve(): clip.split for clip in audio_index.find_clips(dset)}

    absolute = splits()
    monkeypatch.chdir(folders / "music")
    dset.path_speech, dset.path_music = ["../speech"], ["."]
    dset.path_effects = [f"{folders}/speech/../effects/"]
    assert splits() == absolute and len(set(absolute.values())) == 3


def test_files_of_unknown_length_and_odd_names_are_named_and_left_out(folders, dset, caplog):
    forget_length(folders / "music/song1.flac")
    shutil.copy(folders / "music/song2.flac", os.fsencode(folders / "music") + b"/caf\xe9.flac")
    forget_length(folders / "noise/gramophone/album2_L.flac")
    with caplog.at_level("WARNING"):
        clips = audio_index.find_clips(dset)
    assert sum(clip.category == "music" for clip in clips) == 9
    assert "song1.flac (its header does not say how long it is)" in caplog.text
    assert "caf\\udce9.flac' is skipped: its name is not UTF-8" in caplog.text
    mixer = Mixer(dset, "train", 0.3)
    mixer.noise.recordings = {"gramophone": [NoiseRecording(
        tuple(folders.glob("noise/gramophone/album2_*.flac")), "gramophone", "train", "album2")]}
    for index in range(8):
        mixer.item(index)
    assert "album2_L.flac cannot be read and is skipped: its header" in caplog.text


def test_channels_of_one_noise_recording_stay_together(dset):
    discs = [found for found in audio_index.find_noise(dset) if found.category == "gramophone"]
    assert len(discs) == 4 and all(len(found.files) == 2 for found in discs)
    assert sorted(found.split for found in discs) == ["test", "train", "train", "validation"]


BUNDLED_HELD_OUT = {
    "vinyl4_crackle_analogue": "test", "machine7_oven_hum": "test",
    "static2_electrical_noise": "test", "mercury_electrical_noises": "test",
    "soundmonster_radio_static": "test", "sonicpi_vinyl_hiss": "validation",
    "hum3_electrical_hum": "validation", "mercury_radio_noise": "validation"}


@pytest.mark.parametrize("folder", ["", "gramophone", "film", "hum", "tape"])
def test_bundled_noise_has_the_documented_splits(folder):
    found = audio_index.find_noise(DsetConfig(path_noise=[str(ROOT / "data/noise" / folder)]))
    assert len(found) == {"": 18, "gramophone": 4, "film": 2, "hum": 9, "tape": 3}[folder]
    for recording in found:
        assert recording.split == BUNDLED_HELD_OUT.get(recording.name, "train"), recording.name
        assert recording.category == (folder or recording.category)
    tested = {one.category for one in found if one.split == "test"}
    assert tested == {one.category for one in found}


def test_bundled_noise_is_listed_with_its_licence_and_small():
    folder = ROOT / "data/noise"
    rows = read_table(folder / "SOURCES.csv")
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*.flac")]
    assert sorted(row["file"] for row in rows) == sorted(files)
    assert all(row["licence"] == "CC0-1.0" for row in rows)
    assert all(float(row["seconds"]) == pytest.approx(
        soundfile.info(folder / row["file"]).duration, abs=0.01) for row in rows)
    assert sum(path.stat().st_size for path in folder.rglob("*.flac")) < 10e6


def write_reels(folder, **counts):
    for category, count in counts.items():
        for number in range(count):
            for channel in "LR":
                write_noise(folder / f"{category}/side{number}_{channel}.wav", 0.01)


def test_noise_that_is_named_for_the_test_alone_tests(tmp_path):
    write_reels(tmp_path / "noise", tape=12)
    write_reels(tmp_path / "other", tonearm=3)
    dset = DsetConfig(path_noise=[str(tmp_path / "noise")],
                      path_noise_test=[str(tmp_path / "other")])
    found = audio_index.find_noise(dset)
    assert {one.title for one in found if one.split == "test"} == {
        f"tonearm side{number}" for number in range(3)}
    assert all(one.category == "tape" for one in found if one.split != "test")

    # A file that tests is never trained on, nor is the other channel of its recording.
    trained = next(one for one in found if one.split == "train")
    dset.path_noise_test = [str(trained.files[0])]
    found = audio_index.find_noise(dset)
    (test,) = [one for one in found if one.split == "test"]
    assert test.files == trained.files[:1] and test.title == trained.title
    assert trained.name not in {one.name for one in found if one.split != "test"}
    # Its channels may be named one by one, and a folder may be called like a split.
    dset.path_noise_test = list(map(str, trained.files))
    assert audio_index.find_noise(dset)[0].files == trained.files
    write_noise(tmp_path / "rigs/test/hum.wav", 0.01)
    dset.path_noise_test = [str(tmp_path / "rigs/test")]
    assert audio_index.find_noise(dset)[0].title == "rigs hum"


def test_more_files_move_none(tmp_path):
    def splits():
        dset = tunes_and_noise(tmp_path)
        found = [(clip.path.name, clip.split) for clip in audio_index.find_clips(dset)]
        return dict(found + [(recording.files[0].name, recording.split)
                             for recording in audio_index.find_noise(dset)])

    before = {}
    for last in (3, 12, 40):
        for number in range(len(before) // 2, last):
            write_tone(tmp_path / f"music/tune{number}.wav", seconds=0.01)
            write_noise(tmp_path / f"noise/tape/reel{number}.wav", 0.01)
        after = splits()
        assert len(after) == 2 * last and before.items() <= after.items()
        before = after
    held_out = [split for split in before.values() if split != "train"]
    assert set(held_out) == {"test", "validation"} and 8 <= len(held_out) <= 24  # of 80


def test_a_folder_can_name_the_split(tmp_path):
    for split in ("train", "validation", "test"):
        for name in "ab":
            write_tone(tmp_path / f"music/{split}/album {name}/1.wav", seconds=0.01)
        write_noise(tmp_path / f"noise/tape/{split}/reel.wav", 0.01)
    dset = tunes_and_noise(tmp_path)
    for clip in audio_index.find_clips(dset):
        assert f"/{clip.split}/" in clip.path.as_posix() and "/album " in clip.group
    noise = audio_index.find_noise(dset)
    assert {recording.category for recording in noise} == {"tape"} and len(noise) == 3
    assert all(f"/{found.split}/" in found.files[0].as_posix() for found in noise)


def test_what_libsndfile_reads_is_found_whatever_it_is_called(tmp_path):
    for number, ending in enumerate(("wav", "aiff", "MP3", "opus", "caf")):
        soundfile.write(tmp_path / f"{number}.{ending}", np.zeros(4800), 48000,
                        format={"opus": "OGG"}.get(ending), subtype={"opus": "OPUS"}.get(ending))
    (tmp_path / "notes.txt").write_text("no audio")
    assert len(audio_index.find_clips(DsetConfig(path_music=[str(tmp_path)]))) == 5


def test_published_noise_layout(tmp_path):
    for recording in ("one", "two", "three"):
        for number in range(2):
            write_noise(tmp_path / recording / f"{recording}_{number}.wav", 0.5)
    (tmp_path / "info.csv").write_text("recording,split,largest_segment,segments\n" + "".join(
        f"{recording},{split},0.5,\"['{recording}_0.wav', '{recording}_1.wav']\"\n"
        for recording, split in (("one", "train"), ("two", "val"), ("three", "test"))))
    found = audio_index.find_noise(DsetConfig(path_noise=[str(tmp_path)]))
    assert [(len(noise.files), noise.split) for noise in found] == [
        (2, "train"), (2, "validation"), (2, "test")]
    assert all(path.exists() for noise in found for path in noise.files)


@pytest.mark.parametrize(("find", "setting", "name", "error"), [
    (audio_index.find_noise, "path_noise", "", "info.csv` must have the columns"),
    (audio_index.find_noise, "path_noise_test", "nowhere", "nowhere"),
    (audio_index.find_clips, "path_speech", "nowhere", "nowhere"),
    (audio_index.find_clips, "path_music", "a.wav", "a.wav` must be a folder .*: it is a file"),
    (audio_index.find_clips, "path_manifests", "info.csv",
     "info.csv.* must be a manifest with the columns")])
def test_mistakes_are_named(tmp_path, find, setting, name, error):
    (tmp_path / "info.csv").write_text("recording,split,segments\na,train,not a list\n")
    (tmp_path / "a.wav").touch()
    with pytest.raises((FileNotFoundError, UserError), match=error):
        find(DsetConfig(**{setting: [str(tmp_path / name)]}))


@pytest.mark.parametrize(("names", "command"), [
    (["own"], "prepare_data.py"), (["starter"], "`python prepare_data.py`"),
    (["heldout", "scores"], "`python prepare_data.py --recipe conf/corpus/heldout.csv --output "
                            "data/heldout` and `python prepare_data.py scores`")])
def test_missing_manifests_are_named_with_the_commands_that_build_them(tmp_path, names, command):
    paths = [str(tmp_path / name / "manifest.csv") for name in names]
    with pytest.raises(FileNotFoundError) as caught:
        audio_index.find_clips(DsetConfig(path_manifests=paths))
    assert str(caught.value).endswith(f"no {', '.join(paths)}; build with {command}")


def test_manifest_gives_splits_and_leaves_out_what_is_not_clean(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("file,category,seconds,group,split,clean,clipped,floor_db\n"
                        "a.wav,speech,1.0,a,train,1,0.0,60.0\nb.wav,music,1.0,b,test,1,0.0,60.0\n"
                        "c.wav,speech,1.0,c,train,0,0.0,60.0\n")
    clips = audio_index.find_clips(DsetConfig(path_manifests=[str(manifest)]))
    assert [(clip.path.name, clip.split) for clip in clips] == [("a.wav", "train"),
                                                                ("b.wav", "test")]


def test_stretches_cut_from_one_side_stay_together(tmp_path):
    for disc in range(4):
        for number in range(1, 4):
            write_noise(tmp_path / f"gramophone/side {disc}_seg{number:02d}.flac", 0.3, disc)
    for seconds in ("0-9", "9-43"):
        write_noise(tmp_path / f"gramophone/side 4_{seconds}s.flac", 0.3, 4)
    found = audio_index.find_noise(DsetConfig(path_noise=[str(tmp_path)]))
    assert [len(recording.files) for recording in found] == [3, 3, 3, 3, 2]


def test_a_lone_file_is_trained_on_whatever_its_name(tmp_path, caplog):
    """One name in five is held out by its hash, but then nothing would be left to train on."""
    for number in range(20):
        folder = tmp_path / str(number)
        write_tone(folder / f"tune{number}.wav", seconds=0.1)
        (clip,) = audio_index.find_clips(DsetConfig(path_music=[str(folder)]))
        assert clip.split == "train"
    assert 0 < caplog.text.count("all would be held out") < 20
    # What a folder's name says holds.
    write_tone(tmp_path / "named/test/tune.wav", seconds=0.1)
    (clip,) = audio_index.find_clips(DsetConfig(path_music=[str(tmp_path / "named")]))
    assert clip.split == "test"
