"""Tests of the public data sets, in miniature, against a server of our own."""

import functools
import json
import logging
from pathlib import Path

import pytest
import soundfile as sf
from packing import (
    encode,
    groups_and_splits,
    make_tone,
    pack_tar,
    pack_zip,
    read_manifest,
    split_zip,
    write_all,
)

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import conversion
from historical_denoiser.corpus.public_data import build_public
from historical_denoiser.data.audio_index import find_clips, find_noise
from historical_denoiser.data.settings import DsetConfig


def tone(frequency_hz: float, seconds: float = 0.35) -> bytes:
    return encode(make_tone(seconds, frequency_hz))


# The data sets, laid out as the published ones; cached, as archives hold the time.


@functools.cache
def musicnet() -> dict[str, bytes]:
    recordings = {"train_data/1727": 300, "train_data/1728": 310, "train_data/1729": 320,
                  "test_data/1759": 330}
    tar = pack_tar({"musicnet/train_labels/1727.csv": b"start_time\n", "../evil.wav": b"no"}
                   | {f"musicnet/{name}.wav": tone(hz) for name, hz in recordings.items()})
    rows = ["id,composer,composition,movement"] + [
        f"{number},Schubert,{work},I" for number, work in
        ((1727, "Quintet"), (1728, "Quintet"), (1729, '"Trio, in B"'), (1759, "Sonata"))]
    return {"musicnet_metadata.csv": "\n".join(rows).encode(), "musicnet.tar.gz": tar}


@functools.cache
def fsd50k() -> dict[str, bytes]:
    dev = {"11": "Bark,Dog", "12": "Speech,Human_voice", "13": "Guitar,Music",
           "14": "Speech,Music", "15": "Rain"}
    truth = {"FSD50K.ground_truth/dev.csv": "fname,labels,mids,split\n" + "".join(
                 f'{name},"{labels}",/m/1,train\n' for name, labels in dev.items()),
             "FSD50K.ground_truth/eval.csv": 'fname,labels,mids\n21,"Bark,Dog",/m/1\n'}
    known = {name: {"title": "t", "license": f"http://licence/{name}",
                    "uploader": "zoe" if name == "15" else f"user{name}"} for name in dev}
    metadata = {"FSD50K.metadata/dev_clips_info_FSD50K.json": json.dumps(known),
                "FSD50K.metadata/eval_clips_info_FSD50K.json": json.dumps(
                    {"21": {"license": "CC0", "uploader": "zoe"}})}
    audio = {f"FSD50K.dev_audio/{name}.wav": tone(400 + int(name)) for name in dev}
    return {"FSD50K.ground_truth.zip": pack_zip({k: v.encode() for k, v in truth.items()}),
            "FSD50K.metadata.zip": pack_zip({k: v.encode() for k, v in metadata.items()}),
            **split_zip(audio, "FSD50K.dev_audio", 30_000),
            **split_zip({"FSD50K.eval_audio/21.wav": tone(555)}, "FSD50K.eval_audio", 20_000)}


@functools.cache
def aishell3() -> dict[str, bytes]:
    clips = {f"{part}/wav/SSB{speaker:04d}/SSB{speaker:04d}{clip:04d}.wav":
             tone(300 + 2 * speaker + clip, 0.05)
             for speaker in range(20) for clip in range(2)
             for part in (["test"] if speaker < 4 else ["train"])}
    return {"data_aishell3.tgz": pack_tar({"train/content.txt": b"text", **clips})}


@functools.cache
def gramophone() -> dict[str, bytes]:
    rows = ["recording,split,largest_segment,segments"]
    files = {}
    for recording, split in (("disc 1", "train"), ("disc2", "validation"), ("disc3", "test")):
        names = [f"{recording}_{number}.wav" for number in range(2)]
        rows.append(f'{recording},{split},{names[0]},"{names}"')
        files |= {f"Gramophone_Record_Noise_Dataset/{recording}/{name}": tone(90) for name in names}
    files["Gramophone_Record_Noise_Dataset/info.csv"] = "\n".join(rows).encode()
    files["__MACOSX/info.csv/._x"] = b"junk"
    return {"Gramophone_Record_Noise_Dataset.zip": pack_zip(files)}


DATASETS = {"musicnet": musicnet, "fsd50k": fsd50k}


def build(server, folder: Path, name: str, archives: Path | None = None, keep: bool = False,
          checksums: bool = True) -> dict[str, dict[str, str]]:
    """Builds `folder/out` from what the server has; returns the manifest."""
    build_public(server.list_files(name, checksums), folder / "out", archives, 1, keep)
    rows = read_manifest(folder / "out")
    for file, row in rows.items():
        info = sf.info(folder / "out" / file)
        assert (info.samplerate, info.channels, info.format) == (SAMPLE_RATE, 1, "FLAC")
        assert row["category"] == file.split("/")[0]
    return rows


def test_musicnet_is_laid_out(server, tmp_path):
    server.files |= musicnet()
    rows = build(server, tmp_path, "musicnet")
    assert list(rows) == [f"music/musicnet/musicnet/{name}.wav.flac" for name in (
        "test_data/1759", "train_data/1727", "train_data/1728", "train_data/1729")]
    by_name = {file.split("/")[-1].split(".")[0]: row for file, row in rows.items()}
    assert by_name["1759"]["split"] == "test"
    assert by_name["1727"]["group"] == by_name["1728"]["group"] == "musicnet/Schubert: Quintet"
    assert by_name["1729"]["group"] == "musicnet/Schubert: Trio, in B"
    assert by_name["1727"]["split"] == by_name["1728"]["split"] in ("train", "validation")
    assert by_name["1727"]["licence"] == "CC0"
    assert by_name["1727"]["source"] == "musicnet: musicnet/train_data/1727.wav"
    assert not list(tmp_path.rglob("evil*"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.csv", "music", "parts"]  # the archives are gone
    clips = find_clips(DsetConfig(path_manifests=[str(tmp_path / "out" / "manifest.csv")]))
    assert {clip.category for clip in clips} == {"music"}


def test_fsd50k_is_laid_out(server, tmp_path):
    server.files |= fsd50k()
    rows = build(server, tmp_path, "fsd50k")
    found = {file.split("/")[-1].split(".")[0]: row for file, row in rows.items()}
    assert {name: row["category"] for name, row in found.items()} == {
        "11": "effects", "12": "speech", "13": "music", "14": "effects", "15": "effects",
        "21": "effects"}
    assert found["21"]["split"] == found["15"]["split"] == "test"  # of the same uploader
    assert all(found[name]["split"] in ("train", "validation") for name in ("11", "12", "13"))
    assert found["11"]["licence"] == "http://licence/11"
    assert found["11"]["group"] == "fsd50k/user11"


def test_aishell3_is_laid_out_by_speaker(server, tmp_path):
    server.files |= aishell3()
    rows = build(server, tmp_path, "aishell3")
    assert len(rows) == 40 and {row["category"] for row in rows.values()} == {"speech"}
    splits = groups_and_splits(rows)
    assert len(splits) == 20 and all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_gramophone_noise_keeps_its_layout(server, tmp_path, caplog):
    server.files |= gramophone()
    files, out = server.list_files("gramophone"), tmp_path / "out"
    with caplog.at_level(logging.INFO):
        build_public(files, out, None, 1, False)
    noise = find_noise(DsetConfig(path_noise=[str(out)]))
    assert [recording.split for recording in noise] == ["train", "validation", "test"]
    assert all(sf.info(path).samplerate == SAMPLE_RATE
               for recording in noise for path in recording.files)
    assert "1 recordings for validation" in caplog.text
    assert sorted(path.name for path in out.iterdir()) == ["disc 1", "disc2", "disc3", "info.csv"]
    server.files.clear()
    build_public(files, out, None, 1, False)  # nothing is asked for again
    (out / "disc2" / "disc2_1.wav").unlink()
    with pytest.raises(UserError, match="disc2_1.wav: named by info.csv but"):
        build_public(files, out, None, 1, False)
    server.files |= gramophone()
    (out / "info.csv").unlink()
    build_public(files, out, None, 1, False)
    assert (out / "disc2" / "disc2_1.wav").exists()


def test_no_noise_is_written_outside_its_folder(server, tmp_path):
    server.files["a.zip"] = pack_zip({"set/info.csv": b"recording,split,segments\n"
                                      b"disc,train,\"['0.wav']\"\n", "set/disc/0.wav": tone(90),
                                      "set/../../../evil.wav": b"no", "/evil.wav": b"no"})
    build_public(server.list_files("gramophone"), tmp_path / "out", None, 1, False)
    assert (tmp_path / "out" / "disc" / "0.wav").read_bytes() == tone(90)
    assert {path.parent for path in tmp_path.rglob("evil*")} <= {tmp_path / "out"}


def test_an_archive_without_noise_is_named(server, tmp_path):
    server.files["a.zip"] = pack_zip({"a.wav": b""})
    with pytest.raises(UserError, match=r"a\.zip: there is no info.csv in it"):
        build_public(server.list_files("gramophone"), tmp_path, None, 1, False)


@pytest.mark.parametrize("name", ["musicnet", "fsd50k"])
def test_an_interrupted_conversion_goes_on(server, tmp_path, monkeypatch, name):
    convert, converted = conversion.convert_clip, []

    def stop_at_third(*clip):
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(clip)
        return convert(*clip)

    monkeypatch.setattr(conversion, "BATCH_CLIPS", 1)
    server.files |= DATASETS[name]()
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_clip", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            build(server, tmp_path, name)
    journal = tmp_path / "out" / "parts" / f"{name}.jsonl"
    with journal.open("a") as stream:
        stream.write('{"source": "half a li')  # killed while it wrote
    assert not (tmp_path / "out" / "manifest.csv").exists()
    asked = len(server.asked)
    monkeypatch.setattr(conversion, "convert_clip",
                        lambda *clip: converted.append(clip) or convert(*clip))
    rows = build(server, tmp_path, name)
    assert len(rows) == len(converted) == (4 if name == "musicnet" else 6)
    assert len(server.asked) == asked  # the archives were still there
    table = (tmp_path / "out" / "manifest.csv").read_bytes()
    build(server, tmp_path, name)
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == table
    assert len(converted) == len(rows) and len(server.asked) == asked


def test_archives_that_are_there_are_used_and_kept(server, tmp_path):
    server.files |= musicnet()
    write_all(tmp_path / "archives", musicnet())
    assert len(build(server, tmp_path, "musicnet", archives=tmp_path / "archives")) == 4
    assert server.asked == []
    assert sorted(path.name for path in (tmp_path / "archives").iterdir()) == sorted(musicnet())


def test_data_sets_can_share_a_corpus(server, tmp_path):
    server.files |= musicnet()
    build(server, tmp_path, "musicnet")
    server.files = dict(fsd50k())
    rows = build(server, tmp_path, "fsd50k", keep=True)
    assert len(rows) == 4 + 6
    assert (tmp_path / "out" / "downloads" / "FSD50K.dev_audio.zip").exists()


def test_an_archive_without_checksum_is_checked_by_its_own(server, tmp_path, monkeypatch):
    packed = musicnet()["musicnet.tar.gz"]
    monkeypatch.setattr(conversion, "BATCH_CLIPS", 2)  # some are converted before the end
    server.files |= musicnet() | {"musicnet.tar.gz": packed[:-8] + bytes(4) + packed[-4:]}
    with pytest.raises(UserError, match=r"musicnet\.tar\.gz: cannot be read \(BadGzipFile: CRC"):
        build(server, tmp_path, "musicnet", checksums=False)
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert len((tmp_path / "out" / "parts" / "musicnet.jsonl").read_text().splitlines()) == 1
