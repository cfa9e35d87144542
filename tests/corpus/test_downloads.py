"""Tests of downloads, against a server of our own."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from packing import write_records

from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import downloads, public_data


@pytest.fixture
def content(server) -> bytes:
    """A file of 5000 bytes on the server, `a.zip`."""
    server.files["a.zip"] = np.random.default_rng(0).bytes(5000)
    return server.files["a.zip"]


@pytest.fixture
def file(server, content) -> downloads.RemoteFile:
    return server.list_files("x")[0]


@pytest.mark.parametrize(("trouble", "asked", "words"), [
    ({"cuts": [2000, 1550] + [100] * 10},  # half a chunk is lost
     [None, "bytes=2000-", *(f"bytes={start}-" for start in range(3500, 4501, 100))], "again"),
    ({"cuts": [2000], "ranges": False}, [None, "bytes=2000-", None],
     "cannot resume at byte 2000"),
    ({"statuses": [503, 429]}, [None, None, None], "503")],
    ids=["breaks", "without ranges", "overloaded"])
def test_a_download_is_completed_in_spite_of(trouble, asked, words, server, content, file, tmp_path,
                                             caplog):
    caplog.set_level("INFO")
    vars(server).update(trouble)
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == asked and words in caplog.text
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


def test_a_server_that_falls_silent_is_left(server, content, file, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.1)
    server.cuts, server.silent = [2300], 1
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2300-"]


@pytest.mark.parametrize(("part", "asked"), [(1234, ["bytes=1234-"]), (5000, []), (5004, None)])
def test_a_later_run_goes_on_where_an_earlier_one_was_killed(server, content, file, tmp_path, part,
                                                             asked):
    (tmp_path / "a.zip.part").write_bytes((content + b"more")[:part])
    if asked is None:  # more than the file: it is not taken for one that is complete
        file = replace(file, bytes="", checksum="")
        asked = ["bytes=5004-", None]
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_without_progress_is_given_up(server, content, file, tmp_path, ranges):
    server.ranges = ranges
    server.cuts = [2000] + [0] * 50 if ranges else [2000, 1900] * 25
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*gave up after 6 .*[0-9]00 bytes.*resume"):
        downloads.download(file, tmp_path)
    assert len(server.asked) < 20
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip.part"]


def test_a_missing_file_is_named_at_once(server, file, tmp_path):
    server.files.clear()
    with pytest.raises(UserError, match=r"/a\.zip: gave up after 1 .* 404 .*Not Found"):
        downloads.download(file, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("kind", "damage"), [
    ("md5", b"X"), ("sha256", b"X"), ("bytes, expected 5000", b"more")])
def test_corrupted_content_is_set_aside_and_never_used(server, content, file, tmp_path, there,
                                                       kind, damage):
    if kind == "sha256":
        file = replace(file, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    wrong = damage + content[len(damage) == 1 :]
    server.files["a.zip"] = wrong
    if there:  # someone put it there by hand
        (tmp_path / "a.zip").write_bytes(wrong)
    with pytest.raises(UserError, match=rf"{kind}.*a\.zip\.bad"):
        downloads.download(file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.bad"]
    server.files["a.zip"] = content
    assert downloads.download(file, tmp_path).read_bytes() == content


def test_the_disk_is_checked_first(server, file, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SPARE_BYTES", 1 << 60)
    with pytest.raises(UserError, match="GB are free"):
        downloads.download_all([file], tmp_path)
    assert server.asked == []


def test_the_shipped_table_is_valid():
    files = downloads.read_table(downloads.TABLE)
    assert {file.dataset for file in files} == {*public_data.CLASSIFIERS, public_data.NOISE_SET}
    assert len({file.file for file in files}) == len(files)
    assert all(file.url.endswith((file.file, f"{file.file}?download=1")) for file in files)
    assert all(file.licence and file.page for file in files)


@pytest.mark.parametrize(("column", "value"), [("checksum", "1234"), ("bytes", "11 GB")])
def test_a_wrong_table_is_refused(file, tmp_path, column, value):
    table = write_records(tmp_path / "table.csv", [replace(file, **{column: value})])
    with pytest.raises(UserError, match=rf"`{column}` must be .*{value}"):
        downloads.read_table(table)
