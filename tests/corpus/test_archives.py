"""Tests of archives of data sets."""

import shutil
import subprocess

import numpy as np
import pytest
from packing import pack_tar, pack_zip, split_zip, write_all

from historical_denoiser.corpus import archives

needs_zip = pytest.mark.skipif(shutil.which("zip") is None, reason="zip is missing")


def read_all(parts):
    return dict(archives.read_archive(parts))


@pytest.fixture
def files() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    return {f"a/{number}.wav": rng.bytes(700 * number) + bytes(500) for number in range(1, 9)}


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
