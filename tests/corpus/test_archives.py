"""Tests of archives of data sets and of games' containers."""

from __future__ import annotations

import gzip
import shutil
import struct
import subprocess
import zipfile

import numpy as np
import pytest
from packing import encode, make_tone, pack_tar, pack_zip, split_zip, write_all

from historical_denoiser.corpus import archives

needs_zip = pytest.mark.skipif(shutil.which("zip") is None, reason="zip is missing")


def read_all(parts):
    return dict(archives.read_archive(parts))


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    return {f"a/{number}.wav": rng.bytes(700 * number) + bytes(500) for number in range(1, 9)}


@pytest.mark.parametrize("size", [333, 4000, 100_000])
def test_a_split_zip_is_read(tmp_path, files, size):
    paths = write_all(tmp_path, split_zip(files, "a.b", size))
    groups = archives.group_archives(reversed(paths.values()))
    assert [[path.name for path in parts] for parts in groups] == [list(paths)]
    assert dict(archives.read_split_zip(groups[0])) == files


@needs_zip
@pytest.mark.parametrize("options", [[], ["-fz"], ["-0"]])  # with ZIP64 records, uncompressed
def test_a_split_zip_of_the_zip_program_is_read(tmp_path, options):
    rng = np.random.default_rng(2)
    contents = {f"a/{number}.wav": rng.bytes(50_000) + bytes(9000) for number in range(6)}
    write_all(tmp_path, contents)
    subprocess.run(["zip", "-q", "-r", "-s", "64k", *options, "a.zip", "a"], cwd=tmp_path,
                   check=True)
    paths = list(tmp_path.glob("a.z*"))
    assert len(paths) > 3
    (parts,) = archives.group_archives(paths)
    assert read_all(parts) == contents


@pytest.mark.parametrize("damage", ["first missing", "one missing", "flipped", "no directory"])
def test_a_damaged_split_zip_is_refused(tmp_path, files, damage):
    packed = split_zip(files, "a", 4000)
    if damage == "first missing":
        del packed["a.z01"]
    elif damage == "one missing":
        del packed["a.z03"]
    elif damage == "flipped":
        packed["a.z02"] = packed["a.z02"][:2000] + b"X" + packed["a.z02"][2001:]
    else:
        packed["a.zip"] = packed["a.zip"][: packed["a.zip"].index(b"PK\1\2")]
    (parts,) = archives.group_archives(write_all(tmp_path, packed).values())
    with pytest.raises(archives.ARCHIVE_ERRORS):
        read_all(parts)


def test_zip_and_tar_are_read(tmp_path, files):
    paths = write_all(tmp_path, {"a.zip": pack_zip(files), "b.tar.gz": pack_tar(files),
                                 "c.csv": b""})
    groups = archives.group_archives(paths.values())
    assert len(groups) == 2
    for parts in groups:
        assert read_all(parts) == files


@pytest.mark.parametrize("split", [False, True])
def test_an_encrypted_zip_is_refused(tmp_path, split):
    content = bytearray(pack_zip({"sound.wav": b"secret" * 9}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    packed = {"a.z01": content[:20], "a.zip": content[20:]} if split else {"a.zip": content}
    (parts,) = archives.group_archives(write_all(tmp_path, packed).values())
    with pytest.raises(archives.ARCHIVE_ERRORS) as refused:
        read_all(parts)
    assert split or str(refused.value) == "sound.wav is encrypted"


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 3000)])
def test_a_damaged_tar_is_refused(tmp_path, files, damage):
    paths = write_all(tmp_path, {"b.tgz": pack_tar(files)[damage]})
    with pytest.raises(archives.ARCHIVE_ERRORS):
        read_all([paths["b.tgz"]])


# Containers.


def pack_c4group(entries: list[tuple[str, bytes | list]]) -> bytes:
    table, contents = b"", b""
    for name, content in entries:
        is_group = isinstance(content, list)
        body = pack_c4group(content) if is_group else content
        numbers = struct.pack("<5i", 0, is_group, len(body), 0, len(contents))
        table += (name.encode().ljust(260, b"\0") + numbers).ljust(316, b"\0")
        contents += body
    header = bytearray(204)
    struct.pack_into("<i", header, 36, len(entries))
    scrambled = np.frombuffer(bytes(header), np.uint8).reshape(-1, 3)[:, ::-1] ^ 237
    return scrambled.tobytes() + table + contents


def test_c4group_yields_nested_files():
    packed = gzip.compress(pack_c4group([("a.ogg", b"one"), ("Sub.ocg", [("b.wav", b"two")])]))
    read = dict(archives.read_c4group(b"\x1e\x8c" + packed[2:]))
    assert read == {"a.ogg": b"one", "Sub.ocg/b.wav": b"two"}


def test_c4group_with_an_impossible_count_is_refused():
    packed = gzip.compress(pack_c4group([("a.ogg", b"one")])[:-200])
    with pytest.raises(ValueError, match="cannot hold"):
        list(archives.read_c4group(packed))


def test_ogg_streams_are_carved_out_unchanged():
    streams = [encode(make_tone(0.5), "OGG"), encode(make_tone(1.0, 880.0), "OGG")]
    data = b"OggS junk " + streams[0] + b"\0\1\2" * 99 + streams[1] + b"tail"
    assert [content for _, content in archives.read_ogg_streams(data)] == streams


def test_pk3_yields_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pk3", "w") as archive:
        archive.writestr("sound/a.ogg", b"one")
        archive.mkdir("sound/empty")
    read = archives.CONTAINERS[".pk3"]((tmp_path / "a.pk3").read_bytes())
    assert dict(read) == {"sound/a.ogg": b"one"}


def pack_sound_cat(sounds: list[tuple[str, bytes]]) -> bytes:
    table, body = b"", b""
    for name, content in sounds:
        offset = 8 * len(sounds) + len(body)
        table += struct.pack("<II", offset | 0x80000000, len(content))
        body += bytes([len(name) + 1]) + name.encode() + b"\0" + content + b"\x04end\0"
    return table + body


def test_sound_cat_yields_named_wavs():
    sounds = [('"Good Year". By Somebody', b"RIFF1"), ("plop", b"RIFF22")]
    read = list(archives.read_sound_cat(pack_sound_cat(sounds)))
    assert read == [("good_year-00.wav", b"RIFF1"), ("plop-01.wav", b"RIFF22")]
