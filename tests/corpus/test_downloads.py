"""Tests of downloads, archives, public data sets and folders, against a server of our own."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import io
import json
import logging
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

import prepare_data
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.command_line import run_main
from denoiser.corpus import archives, downloads, manifest, public_data
from denoiser.corpus.downloads import RemoteFile
from denoiser.corpus.manifest import CorpusError
from denoiser.data.audio_index import find_clips, find_noise
from denoiser.data.settings import DsetConfig

needs_zip = pytest.mark.skipif(shutil.which("zip") is None, reason="zip is missing")


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; each of the other attributes is a way to make it worse."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []  # bytes after which the next responses break off
        self.stalls: list[float] = []  # seconds that these wait before they do
        self.statuses: list[int] = []  # of the next responses
        self.ranges = True  # whether it understands the header
        self.lengths = True  # whether it says how long the content is
        self.shift = 0  # bytes by which a part starts too late
        self.asked: list[str | None] = []  # the Range headers of all requests

    def table(self, folder: Path, dataset: str, checksums: bool = True) -> list[RemoteFile]:
        """Writes the table of all files; returns its lines."""
        rows = [RemoteFile(dataset, name, str(len(content)) if checksums else "",
                           f"md5:{hashlib.md5(content).hexdigest()}" if checksums else "",
                           "music", "CC0", f"http://127.0.0.1:{self.server_port}/{name}", "", "")
                for name, content in self.files.items()]
        with (folder / "table.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(field.name for field in fields(RemoteFile))
            writer.writerows(astuple(row) for row in rows)
        return rows


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        content = self.server.files.get(self.path.strip("/"))
        status = 404 if content is None else 200
        if self.server.statuses:
            status = self.server.statuses.pop(0)
        start = 0
        if status == 200 and asked and self.server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + self.server.shift
            status = 206 if start < len(content) else 416
        self.send_response(status)
        body = content[start:] if status in (200, 206) else b""
        if status == 206:
            self.send_header("Content-Range",
                             f"bytes {start}-{len(content) - 1}/{len(content)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(content)}")
        if self.server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts and body:
            body = body[: self.server.cuts.pop(0)]
        self.wfile.write(body)
        if self.server.stalls and body:
            self.wfile.flush()
            time.sleep(self.server.stalls.pop(0))

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(downloads, "SPARE_BYTES", 0)
    monkeypatch.setattr(downloads, "CHUNK_BYTES", 1000)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def content(server) -> bytes:
    """A file of 5000 bytes on the server, `a.zip`."""
    server.files["a.zip"] = np.random.default_rng(0).bytes(5000)
    return server.files["a.zip"]


def make_tone(seconds: float, frequency_hz: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.1 * np.sin(2.0 * np.pi * frequency_hz * time)).astype(np.float32)


def encode(frequency_hz: float, seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, make_tone(seconds, frequency_hz), SAMPLE_RATE, format="WAV")
    return buffer.getvalue()


# Downloads.


def test_a_download_goes_on_after_each_break(server, content, tmp_path):
    server.cuts = [2000, 1500]
    path = downloads.download(server.table(tmp_path, "x")[0], tmp_path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=2000-", "bytes=3500-"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.zip", "table.csv"]


def test_a_server_that_falls_silent_is_left(server, content, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.5)
    server.cuts, server.stalls = [2345], [2.0]
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2345-"]


def test_a_later_run_goes_on_where_an_earlier_one_was_killed(server, content, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(content[:1234])
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert server.asked == ["bytes=1234-"]


@pytest.mark.parametrize("checksums", [True, False])
def test_a_complete_part_needs_no_content(server, content, tmp_path, checksums):
    (tmp_path / "a.zip.part").write_bytes(content)
    file = server.table(tmp_path, "x", checksums)[0]
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == ([] if checksums else ["bytes=5000-"])  # answered by 416


def test_a_server_without_ranges_starts_anew(server, content, tmp_path, caplog):
    server.ranges, server.cuts = False, [2000]
    with caplog.at_level("INFO"):
        path = downloads.download(server.table(tmp_path, "x")[0], tmp_path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=2000-"]
    assert "cannot go on from byte 2000" in caplog.text


def test_a_server_that_sends_another_part_is_not_believed(server, content, tmp_path):
    server.cuts, server.shift = [2000], 7
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2000-", None]


def test_a_part_longer_than_the_file_is_dropped(server, content, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(content + b"more")
    file = server.table(tmp_path, "x", checksums=False)[0]
    assert downloads.download(file, tmp_path).read_bytes() == content


def test_a_server_without_lengths_is_checked_by_the_table(server, content, tmp_path):
    server.lengths, server.cuts = False, [2000]
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2000-"]


def test_an_overloaded_server_is_asked_again(server, content, tmp_path, caplog):
    server.statuses = [503, 429]
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert "503" in caplog.text and "429" in caplog.text


def test_progress_resets_the_count_of_failures(server, content, tmp_path):
    server.cuts = [100] * 40
    assert downloads.download(server.table(tmp_path, "x")[0], tmp_path).read_bytes() == content
    assert len(server.asked) == 41


def test_a_download_without_progress_is_given_up(server, content, tmp_path):
    server.cuts = [2000] + [0] * 50
    with pytest.raises(CorpusError, match=r"127\.0\.0\.1.*gave up after 6 .*2000 bytes.*go on"):
        downloads.download(server.table(tmp_path, "x")[0], tmp_path)
    assert (tmp_path / "a.zip.part").read_bytes() == content[:2000]
    assert not (tmp_path / "a.zip").exists()


def test_a_server_that_does_not_answer_is_named(server, content, tmp_path):
    file = server.table(tmp_path, "x")[0]
    file = RemoteFile(*astuple(file)[:6], "http://127.0.0.1:9/a.zip", "", "")
    with pytest.raises(CorpusError, match=r"http://127\.0\.0\.1:9/a\.zip: gave up after 6"):
        downloads.download(file, tmp_path)


def test_a_missing_file_is_named_at_once(server, content, tmp_path):
    file = server.table(tmp_path, "x")[0]
    server.files.clear()
    with pytest.raises(CorpusError, match=r"/a\.zip: the server answers 404"):
        downloads.download(file, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("there", [False, True])
def test_corrupted_content_is_set_aside_and_never_used(server, content, tmp_path, there):
    file = server.table(tmp_path, "x")[0]
    wrong = bytes([content[0] ^ 1]) + content[1:]
    server.files["a.zip"] = wrong
    if there:  # someone put it there by hand
        (tmp_path / "a.zip").write_bytes(wrong)
    expected = hashlib.md5(content).hexdigest()
    with pytest.raises(CorpusError, match=rf"md5 [0-9a-f]{{32}}, expected {expected}.*a\.zip\.bad"):
        downloads.download(file, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip.bad", "table.csv"]
    server.files["a.zip"] = content
    assert downloads.download(file, tmp_path).read_bytes() == content


def test_another_length_than_the_table_says_is_refused(server, content, tmp_path):
    file = server.table(tmp_path, "x")[0]
    server.files["a.zip"] += b"more"
    with pytest.raises(CorpusError, match="offers 5004 bytes, public.csv says 5000"):
        downloads.download(file, tmp_path)


def test_sha256_is_checked_as_well(server, content, tmp_path):
    file = server.table(tmp_path, "x")[0]
    values = list(astuple(file))
    values[3] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert downloads.download(RemoteFile(*values), tmp_path).read_bytes() == content


def test_the_disk_is_checked_first(server, content, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SPARE_BYTES", 1 << 60)
    with pytest.raises(CorpusError, match="GB are free"):
        downloads.download_all(server.table(tmp_path, "x"), tmp_path)
    assert server.asked == []


def test_the_shipped_table_is_valid():
    files = downloads.read_table(downloads.TABLE)
    assert {file.dataset for file in files} == {*public_data.CLASSIFIERS, public_data.NOISE_SET}
    assert len({file.file for file in files}) == len(files)
    assert all(file.url.endswith((file.file, f"{file.file}?download=1")) for file in files)
    assert all(file.licence and file.page for file in files)


@pytest.mark.parametrize(("column", "value"), [
    ("checksum", "1234"), ("bytes", "11 GB"), ("licence", None)])
def test_a_wrong_table_is_refused(server, content, tmp_path, column, value):
    server.table(tmp_path, "x")
    with (tmp_path / "table.csv").open(newline="") as stream:
        row = next(csv.DictReader(stream))
    row = {key: text for key, text in (row | {column: value}).items() if text is not None}
    (tmp_path / "table.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    with pytest.raises(ValueError, match=column if value else "columns"):
        downloads.read_table(tmp_path / "table.csv")


# Archives.


def pack_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def pack_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def split_zip(files: dict[str, bytes], stem: str, size: int, zip64: bool = False
              ) -> dict[str, bytes]:
    """Packs `files` as `zip -s` does, the parts `size` bytes long; returns them by name."""
    buffer = io.BytesIO(b"PK\7\x08")
    buffer.seek(4)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        infos, start = archive.infolist(), archive.start_dir
    data, wide, wider = buffer.getvalue()[:start], 0xFFFFFFFF, 0xFFFF
    for info in infos:
        disk, offset = divmod(info.header_offset, size)
        name, numbers, extra = info.filename.encode(), [info.compress_size, info.file_size], b""
        if zip64:
            extra = struct.pack("<2H2s2H3QI", 0x5455, 2, b"..", 1, 28, numbers[1], numbers[0],
                                offset, disk)
            numbers, offset, disk = [wide, wide], wide, wider
        data += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, info.compress_type, 0, 0,
                            info.CRC, *numbers, len(name), len(extra), 0, disk, 0, 0, offset)
        data += name + extra
    (disk, offset), count, length = divmod(start, size), len(infos), len(data) - start
    last = len(data) // size
    if zip64:
        end_disk, end_offset = divmod(len(data), size)
        data += struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, last, disk, count, count, length,
                            offset)
        data += struct.pack("<4sIQI", b"PK\6\7", end_disk, end_offset, last + 1)
        disk, count, length, offset = wider, wider, wide, wide
    data += struct.pack("<4s4H2IH", b"PK\5\6", last, disk, count, count, length, offset, 0)
    parts = [data[at : at + size] for at in range(0, last * size, size)] + [data[last * size :]]
    names = [f"{stem}.z{number:02d}" for number in range(1, len(parts))] + [f"{stem}.zip"]
    return dict(zip(names, parts, strict=True))


def write_all(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def read_all(parts: list[Path]) -> dict[str, bytes]:
    return {name: stream.read() for name, stream in archives.read_archive(parts)}


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    return {f"a/{number}.wav": rng.bytes(700 * number) + bytes(500) for number in range(1, 9)}


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("size", [333, 4000, 100_000])
def test_a_split_zip_is_read(tmp_path, files, size, zip64):
    paths = write_all(tmp_path, split_zip(files, "a.b", size, zip64))
    groups = archives.group_archives(dict(reversed(paths.items())))
    assert [[path.name for path in parts] for parts in groups] == [list(paths)]
    read = {name: stream.read() for name, stream in archives.read_split_zip(groups[0])}
    assert read == files


@needs_zip
def test_a_split_zip_of_the_zip_program_is_read(tmp_path):
    rng = np.random.default_rng(2)
    contents = {f"a/{number}.wav": rng.bytes(50_000) + bytes(9000) for number in range(6)}
    (tmp_path / "a").mkdir()
    write_all(tmp_path, contents)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", "a.zip", "a"], cwd=tmp_path, check=True)
    paths = {path.name: path for path in tmp_path.glob("a.z*")}
    assert len(paths) > 3
    (parts,) = archives.group_archives(paths)
    assert read_all(parts) == contents


@pytest.mark.parametrize("damage", ["missing", "flipped", "no end"])
def test_a_damaged_split_zip_is_refused(tmp_path, files, damage):
    packed = split_zip(files, "a", 4000)
    if damage == "missing":
        del packed["a.z01"]
    elif damage == "flipped":
        packed["a.z02"] = packed["a.z02"][:2000] + b"X" + packed["a.z02"][2001:]
    else:
        packed["a.zip"] = packed["a.zip"][:-30]
    (parts,) = archives.group_archives(write_all(tmp_path, packed))
    with pytest.raises(archives.ARCHIVE_ERRORS):
        read_all(parts)


def test_zip_and_tar_are_read(tmp_path, files):
    paths = write_all(tmp_path, {"a.zip": pack_zip(files), "b.tar.gz": pack_tar(files),
                                 "c.csv": b""})
    for parts in archives.group_archives(paths):
        assert read_all(parts) == files


def test_an_encrypted_zip_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sound.wav", b"secret")
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(archives.ARCHIVE_ERRORS, match=r"sound\.wav is encrypted"):
        list(archives.read_archive([path]))


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 3000)])
def test_a_damaged_tar_is_refused(tmp_path, files, damage):
    paths = write_all(tmp_path, {"b.tgz": pack_tar(files)[damage]})
    with pytest.raises(archives.ARCHIVE_ERRORS):
        read_all([paths["b.tgz"]])


# Data sets in miniature, laid out as the published ones; cached, as archives hold the time.


@functools.cache
def musicnet() -> dict[str, bytes]:
    recordings = {"train_data/1727": 300, "train_data/1728": 310, "train_data/1729": 320,
                  "test_data/1759": 330}
    tar = pack_tar({"musicnet/train_labels/1727.csv": b"start_time\n", "../evil.wav": b"no"}
                   | {f"musicnet/{name}.wav": encode(hz) for name, hz in recordings.items()})
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
    audio = {f"FSD50K.dev_audio/{name}.wav": encode(400 + int(name)) for name in dev}
    return {"FSD50K.ground_truth.zip": pack_zip({k: v.encode() for k, v in truth.items()}),
            "FSD50K.metadata.zip": pack_zip({k: v.encode() for k, v in metadata.items()}),
            **split_zip(audio, "FSD50K.dev_audio", 30_000),
            **split_zip({"FSD50K.eval_audio/21.wav": encode(555)}, "FSD50K.eval_audio", 20_000)}


@functools.cache
def aishell3() -> dict[str, bytes]:
    clips = {f"{part}/wav/SSB{speaker:04d}/SSB{speaker:04d}{clip:04d}.wav":
             encode(300 + 2 * speaker + clip, 0.35)
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
        files |= {f"Gramophone_Record_Noise_Dataset/{recording}/{name}": encode(90)
                  for name in names}
    files["Gramophone_Record_Noise_Dataset/info.csv"] = "\n".join(rows).encode()
    files["__MACOSX/info.csv/._x"] = b"junk"
    return {"Gramophone_Record_Noise_Dataset.zip": pack_zip(files)}


DATASETS = {"musicnet": musicnet, "fsd50k": fsd50k, "aishell3": aishell3,
            "gramophone": gramophone}


def options(folder: Path, name: str, *more: str) -> list[str]:
    return [name, "--recipe", str(folder / "table.csv"), "--output", str(folder / "out"),
            "--jobs", "1", *more]


def read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out" / "manifest.csv").open(newline="") as stream:
        return {row["file"]: row for row in csv.DictReader(stream)}


def build(server: Server, folder: Path, name: str, *more: str) -> dict[str, dict[str, str]]:
    server.files |= DATASETS[name]()
    server.table(folder, name)
    prepare_data.main(options(folder, name, *more))
    rows = read_manifest(folder)
    for file, row in rows.items():
        info = sf.info(folder / "out" / file)
        assert (info.samplerate, info.channels, info.format) == (SAMPLE_RATE, 1, "FLAC")
        assert row["category"] == file.split("/")[0]
    return rows


def test_musicnet_is_laid_out(server, tmp_path):
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
    rows = build(server, tmp_path, "aishell3")
    assert len(rows) == 40
    splits: dict[str, set[str]] = {}
    for row in rows.values():
        assert row["category"] == "speech"
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(splits) == 20 and all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}


def test_gramophone_noise_keeps_its_layout(server, tmp_path, caplog):
    server.files |= gramophone()
    server.table(tmp_path, "gramophone")
    with caplog.at_level(logging.INFO):
        prepare_data.main(options(tmp_path, "gramophone"))
    noise = find_noise(DsetConfig(path_noise=[str(tmp_path / "out")]))
    assert [recording.split for recording in noise] == ["train", "validation", "test"]
    assert all(sf.info(path).samplerate == SAMPLE_RATE
               for recording in noise for path in recording.files)
    assert "1 recordings for validation" in caplog.text
    assert not (tmp_path / "out" / "downloads").exists()
    server.files.clear()
    prepare_data.main(options(tmp_path, "gramophone"))  # nothing is asked for again
    (tmp_path / "out" / "disc2" / "disc2_1.wav").unlink()
    with pytest.raises(CorpusError, match="disc2_1.wav: named by info.csv but"):
        prepare_data.main(options(tmp_path, "gramophone"))


@pytest.mark.parametrize("name", ["musicnet", "fsd50k"])
def test_an_interrupted_conversion_goes_on(server, tmp_path, monkeypatch, name):
    convert, converted = manifest.convert_clip, []

    def stop_at_third(job):
        if len(converted) == 3:
            raise KeyboardInterrupt
        converted.append(job)
        return convert(job)

    monkeypatch.setattr(manifest, "BATCH_CLIPS", 1)
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "convert_clip", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            build(server, tmp_path, name)
    journal = tmp_path / "out" / "parts" / f"{name}.jsonl"
    with journal.open("a") as stream:
        stream.write('{"member": "half a li')  # killed while it wrote
    assert not (tmp_path / "out" / "manifest.csv").exists()
    asked = len(server.asked)
    monkeypatch.setattr(manifest, "convert_clip",
                        lambda job: converted.append(job) or convert(job))
    rows = build(server, tmp_path, name)
    assert len(rows) == len(converted) == (4 if name == "musicnet" else 6)
    assert len(server.asked) == asked  # the archives were still there
    table = (tmp_path / "out" / "manifest.csv").read_bytes()
    build(server, tmp_path, name)
    assert (tmp_path / "out" / "manifest.csv").read_bytes() == table
    assert len(converted) == len(rows) and len(server.asked) == asked


def test_archives_that_are_there_are_used_and_kept(server, tmp_path):
    folder = tmp_path / "archives"
    folder.mkdir()
    write_all(folder, musicnet())
    assert len(build(server, tmp_path, "musicnet", "--archives", str(folder))) == 4
    assert server.asked == []
    assert sorted(path.name for path in folder.iterdir()) == sorted(musicnet())


def test_data_sets_can_share_a_corpus(server, tmp_path):
    build(server, tmp_path, "musicnet")
    server.files.clear()
    rows = build(server, tmp_path, "aishell3", "--keep-downloads")
    assert {row["category"] for row in rows.values()} == {"speech", "music"}
    assert (tmp_path / "out" / "downloads" / "data_aishell3.tgz").exists()


def test_an_archive_without_checksum_is_checked_by_its_own(server, tmp_path, monkeypatch):
    packed = aishell3()["data_aishell3.tgz"]
    monkeypatch.setattr(manifest, "BATCH_CLIPS", 4)  # some are converted before the end
    server.files["data_aishell3.tgz"] = packed[:-8] + bytes(4) + packed[-4:]  # another CRC
    server.table(tmp_path, "aishell3", checksums=False)
    with pytest.raises(CorpusError, match=r"data_aishell3\.tgz: cannot be read"):
        prepare_data.main(options(tmp_path, "aishell3"))
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert len((tmp_path / "out" / "parts" / "aishell3.jsonl").read_text().splitlines()) == 1


def test_duplicates_and_broken_clips_are_left_out(server, tmp_path, caplog):
    files = dict(musicnet())
    files["musicnet.tar.gz"] = pack_tar({f"musicnet/train_data/{name}.wav": content
                                         for name, content in {
        "1": encode(300), "2": encode(300), "3": b"RIFF no", "4": encode(310)}.items()})
    server.files |= files
    server.table(tmp_path, "musicnet")
    with caplog.at_level("INFO"):
        prepare_data.main(options(tmp_path, "musicnet"))
    assert [file.split("/")[-1] for file in read_manifest(tmp_path)] == ["1.wav.flac", "4.wav.flac"]
    assert "2 clips kept, left out: 1 broken, 1 duplicates" in caplog.text
    assert len(list((tmp_path / "out").rglob("*.flac"))) == 2


def test_the_command_ends_in_one_line_and_a_failure(server, tmp_path, monkeypatch):
    server.files |= musicnet()
    server.table(tmp_path, "musicnet")
    del server.files["musicnet.tar.gz"]
    monkeypatch.setattr(sys, "argv", ["prepare_data.py", *options(tmp_path, "musicnet")])
    with pytest.raises(SystemExit) as ended:
        run_main(prepare_data.main)
    assert isinstance(ended.value.code, str) and "\n" not in ended.value.code  # status 1
    assert ended.value.code.startswith("error: http://127.0.0.1:")
    assert ended.value.code.endswith("musicnet.tar.gz: the server answers 404 Not Found")


# Folders.


@pytest.fixture
def scores(tmp_path) -> Path:
    folder = tmp_path / "my scores"
    for number in range(12):
        (folder / f"album {number}").mkdir(parents=True)
        for track in range(2):
            sf.write(folder / f"album {number}" / f"{track}.wav",
                     make_tone(0.4, 200.0 + 10 * number + track), SAMPLE_RATE)
    sf.write(folder / "single.flac", np.stack([make_tone(0.4, 900.0)] * 2, axis=1), SAMPLE_RATE)
    (folder / "notes.txt").write_text("not audio")
    return folder


def test_any_folder_is_taken(scores, tmp_path):
    command = [str(scores), "--category", "music", "--output", str(tmp_path / "out"),
               "--jobs", "1"]
    prepare_data.main(command)
    rows = read_manifest(tmp_path)
    assert len(rows) == 25
    assert "music/my_scores/album_3/1.wav.flac" in rows
    splits = {}
    for row in rows.values():
        splits.setdefault(row["group"], set()).add(row["split"])
    assert len(splits) == 13 and all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "validation", "test"}
    assert sf.info(tmp_path / "out" / "music/my_scores/single.flac.flac").channels == 1


def test_a_changed_folder_is_followed(scores, tmp_path, monkeypatch):
    command = [str(scores), "--category", "music", "--output", str(tmp_path / "out"),
               "--jobs", "1"]
    prepare_data.main(command)
    shutil.rmtree(scores / "album 0")
    sf.write(scores / "single.flac", make_tone(1.0, 950.0), SAMPLE_RATE)
    sf.write(scores / "new.wav", make_tone(0.4, 970.0), SAMPLE_RATE)
    convert, converted = manifest.convert_clip, []
    monkeypatch.setattr(manifest, "convert_clip",
                        lambda job: converted.append(Path(job[0]).name) or convert(job))
    prepare_data.main(command)
    rows = read_manifest(tmp_path)
    assert sorted(converted) == ["new.wav", "single.flac"]
    assert len(rows) == 24 == len(list((tmp_path / "out").rglob("*.flac")))
    assert rows["music/my_scores/single.flac.flac"]["seconds"] == "1.0"


def test_no_file_of_the_user_is_deleted(scores, tmp_path):
    """Not where the output is such that the originals lie in it, nor beside them."""
    before = {path: path.read_bytes() for path in scores.rglob("*") if path.is_file()}
    inside = tmp_path / "library" / "music" / "my_scores"
    shutil.copytree(scores, inside)
    options = ["--category", "music", "--jobs", "1", "--output", str(tmp_path / "library")]
    for folder, message in ((inside, "own FLAC files go"), (scores, "must be empty: it holds")):
        with pytest.raises(ValueError, match=message):
            prepare_data.main([str(folder), *options])
    assert all(path.read_bytes() == data for path, data in before.items())
    for path, data in before.items():
        assert (inside / path.relative_to(scores)).read_bytes() == data


def test_two_folders_of_one_name_do_not_replace_each_other(scores, tmp_path):
    options = ["--category", "music", "--jobs", "1", "--output", str(tmp_path / "out")]
    prepare_data.main([str(scores), *options])
    rows = read_manifest(tmp_path)
    other = tmp_path / "other" / "my_scores"  # its clips would go to the same folder
    shutil.copytree(scores, other)
    with pytest.raises(ValueError, match="must have another name.*my scores was converted"):
        prepare_data.main([str(other), *options])
    prepare_data.main([str(scores), *options])
    assert read_manifest(tmp_path) == rows
    assert all((tmp_path / "out" / file).exists() for file in rows)


def test_channels_of_one_recording_are_one_group(tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(6):
        for channel in "LR":
            sf.write(folder / f"take{number}_{channel}.wav", make_tone(0.4, 300.0 + 20 * number),
                     SAMPLE_RATE)
    prepare_data.main([str(folder), "--category", "music", "--jobs", "1", "--output",
                       str(tmp_path / "out")])
    splits = {}
    for file, row in read_manifest(tmp_path).items():
        splits.setdefault(Path(file).name[:5], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())


@pytest.mark.parametrize(("words", "message"), [
    (["{folder}"], "must come with `--category`"),
    (["{folder}/nowhere", "--category", "music"], "must be one of .*musicnet.* or a folder"),
    (["{folder}", "--category", "music", "--output", "{folder}/out"], "must lie outside"),
    (["{folder}/empty", "--category", "music"], "must hold audio files"),
    (["musicnet", "--category", "music"], "must go with a folder alone"),
    (["musicnet", "--only", "klettres-data"], "must go with the starter corpus"),
    (["--category", "music"], "must come with a data set or a folder"),
    (["{folder}", "--category", "music", "--jobs", "0"], "`--jobs` must be at least 1"),
])
def test_wrong_options_are_refused(scores, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (scores / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        prepare_data.main([word.format(folder=scores) for word in words])
    assert not (tmp_path / "data").exists()


def test_a_starter_corpus_is_not_overwritten(scores, tmp_path):
    (tmp_path / "out" / "parts").mkdir(parents=True)
    (tmp_path / "out" / "parts" / "klettres-data.json").write_text("{}")
    with pytest.raises(ValueError, match="another kind"):
        prepare_data.main([str(scores), "--category", "music", "--output", str(tmp_path / "out")])
