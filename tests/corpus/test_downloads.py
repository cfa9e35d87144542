"""Tests of downloads, against a server of our own."""

from __future__ import annotations

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


def test_a_download_goes_on_after_each_break(server, content, file, tmp_path):
    server.cuts = [2000, 1550]
    path = downloads.download(file, tmp_path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=2000-", "bytes=3500-"]  # half a chunk is lost
    assert [found.name for found in tmp_path.iterdir()] == ["a.zip"]


def test_a_server_that_falls_silent_is_left(server, content, file, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.1)
    server.cuts, server.silent = [2300], 1
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2300-"]


def test_a_later_run_goes_on_where_an_earlier_one_was_killed(server, content, file, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(content[:1234])
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == ["bytes=1234-"]


@pytest.mark.parametrize("checksums", [True, False])
def test_a_complete_part_needs_no_content(server, content, tmp_path, checksums):
    (tmp_path / "a.zip.part").write_bytes(content)
    file = server.list_files("x", checksums)[0]
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == ([] if checksums else ["bytes=5000-"])  # answered by 416


def test_a_server_without_ranges_starts_anew(server, content, file, tmp_path, caplog):
    server.ranges, server.cuts = False, [2000]
    with caplog.at_level("INFO"):
        path = downloads.download(file, tmp_path)
    assert path.read_bytes() == content
    assert server.asked == [None, "bytes=2000-", None]
    assert "cannot go on from byte 2000" in caplog.text


def test_a_server_that_sends_another_part_is_not_believed(server, content, file, tmp_path):
    server.cuts, server.shift = [2000], 7
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2000-", None]


def test_a_part_longer_than_the_file_is_dropped(server, content, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(content + b"more")
    file = server.list_files("x", checksums=False)[0]
    assert downloads.download(file, tmp_path).read_bytes() == content


def test_a_server_without_lengths_is_checked_by_the_table(server, content, file, tmp_path):
    server.lengths, server.cuts = False, [2000]
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert server.asked == [None, "bytes=2000-"]


def test_an_overloaded_server_is_asked_again(server, content, file, tmp_path, caplog):
    server.statuses = [503, 429]
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert "answers 503 Service Unavailable; next attempt" in caplog.text and "429" in caplog.text


def test_progress_resets_the_count_of_failures(server, content, file, tmp_path):
    server.cuts = [100] * 40
    assert downloads.download(file, tmp_path).read_bytes() == content
    assert len(server.asked) == 41


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_without_progress_is_given_up(server, content, file, tmp_path, ranges):
    server.ranges = ranges
    server.cuts = [2000] + [0] * 50 if ranges else [2000, 1900] * 25
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*gave up after 6 .*[0-9]00 bytes.*go on"):
        downloads.download(file, tmp_path)
    left = (tmp_path / "a.zip.part").read_bytes()
    assert len(left) >= 1900 and left == content[: len(left)]
    assert not (tmp_path / "a.zip").exists()


def test_a_server_that_does_not_answer_is_named(server, file, tmp_path):
    file = replace(file, url="http://127.0.0.1:9/a.zip")
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9/a\.zip: gave up after 6 attempts "
                                        r"without progress, 0 bytes are there: \[Errno 111\]"):
        downloads.download(file, tmp_path)


def test_a_missing_file_is_named_at_once(server, file, tmp_path):
    server.files.clear()
    with pytest.raises(UserError, match=r"/a\.zip: the server answers 404 Not Found"):
        downloads.download(file, tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("there", [False, True])
def test_corrupted_content_is_set_aside_and_never_used(server, content, file, tmp_path, there):
    wrong = bytes([content[0] ^ 1]) + content[1:]
    server.files["a.zip"] = wrong
    if there:  # someone put it there by hand
        (tmp_path / "a.zip").write_bytes(wrong)
    expected = hashlib.md5(content).hexdigest()
    with pytest.raises(UserError, match=rf"md5 [0-9a-f]{{32}}, expected {expected}.*a\.zip\.bad"):
        downloads.download(file, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip.bad"]
    server.files["a.zip"] = content
    assert downloads.download(file, tmp_path).read_bytes() == content


def test_another_length_than_the_table_says_is_refused(server, file, tmp_path):
    server.files["a.zip"] += b"more"
    with pytest.raises(UserError, match="offers 5004 bytes, public.csv says 5000"):
        downloads.download(file, tmp_path)


def test_sha256_is_checked_as_well(server, content, file, tmp_path):
    right = replace(file, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    assert downloads.download(right, tmp_path).read_bytes() == content
    wrong = replace(file, checksum=f"sha256:{'0' * 64}")
    with pytest.raises(UserError, match="has the sha256"):
        downloads.download(wrong, tmp_path)


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
