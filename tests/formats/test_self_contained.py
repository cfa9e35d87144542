"""Tests of self_contained: no file makes us open another one, or the network."""

import socket
import struct
from pathlib import Path

import pytest
from film_samples import Sound, write_film

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import containers, self_contained
from historical_denoiser.page.sessions import open_upload
from historical_denoiser.page.settings import AppConfig

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile '{}'\n"
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet contentType="audio">
<Representation id="0" bandwidth="100" mimeType="audio/mp4"><BaseURL>{}</BaseURL></Representation>
</AdaptationSet></Period></MPD>"""
SDP = "v=0\no=- 0 0 IN IP4 {0}\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
LISTS = {"a.m3u8": HLS, "a.ts": HLS, "a.mkv": CONCAT, "a.wav": CONCAT, "a.mp4": DASH, "a.sdp": SDP,
         "a.idx": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n"}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_film(Path("private.ts"), "mpegts", [Sound("aac")], 1.0)
    Path(name).write_text(LISTS[name].format("private.ts"))
    for opened in (containers.open_audio, containers.open_track,
                   lambda path: open_upload(path, None, AppConfig())):  # the command and the page
        with pytest.raises(UserError, match=f"^{name}: a list of other files, not a recording"):
            opened(Path(name))


@pytest.mark.parametrize(("name", "content"), [("a.m3u8", HLS), ("a.mkv", CONCAT), ("a.mp4", DASH)])
def test_no_file_leads_to_the_network(tmp_path, name, content):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        (tmp_path / name).write_text(content.format(f"http://127.0.0.1:{port}/a.ts"))
        with pytest.raises(UserError, match=f"{name}: a list of other files"):
            containers.open_audio(tmp_path / name)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()


def alias(name: str) -> bytes:
    """Returns a QuickTime alias of a file in the same folder, as FFmpeg reads it."""
    path = f":{name}".encode()
    path += bytes(len(path) % 2)
    return (struct.pack(">IHHHB", 0, 150, 2, 0, 3) + b"Vol".ljust(27, b"\0") + bytes(4) + b"H+"
            + bytes(6) + bytes([len(name)]) + name.encode().ljust(63, b"\0") + bytes(16)
            + struct.pack(">hh", 1, 1) + bytes(16) + struct.pack(">hH", 2, len(path)) + path
            + struct.pack(">hH", -1, 0))


def refer(path: Path, track: int, kind: bytes, name: bytes, own: bool = False) -> None:
    """Makes a track of a MOV or MP4 film, from 0, say that its samples are in another file."""
    content = bytearray(path.read_bytes())
    place = -1
    for _ in range(track + 1):
        place = content.index(b"dref", place + 1)
    place -= 4
    old = int.from_bytes(content[place : place + 4], "big")
    box = (struct.pack(">I4sII", 28 + len(name), b"dref", 0, 1)
           + struct.pack(">I4sI", 12 + len(name), kind, int(own)) + name)
    start = 0
    while start < place:  # each box around it grows
        size = int.from_bytes(content[start : start + 4], "big")
        if start + size <= place:
            start += size
            continue
        content[start : start + 4] = (size + len(box) - old).to_bytes(4, "big")
        start += 8
    assert start == place
    content[place : place + old] = box
    path.write_bytes(content)


@pytest.mark.parametrize("track", [0, 1])
@pytest.mark.parametrize(("kind", "name"), [(b"alis", alias("other.mov")),
                                            (b"url ", b"file:other.mov\0")])
def test_a_film_whose_tracks_lie_elsewhere_is_refused(tmp_path, track, kind, name):
    path = tmp_path / "a.mov"
    for other in (path, tmp_path / "other.mov"):
        write_film(other, "mov", [Sound("pcm_s16le")], 0.5)
    refer(path, track, kind, name)
    with pytest.raises(UserError, match=r"a\.mov: its pictures or sound lie in other files"):
        containers.open_audio(path)


def test_a_film_that_says_that_it_is_whole_is_believed(tmp_path):
    """By a flag, or by no name."""
    path = tmp_path / "a.mov"
    for kind, name, own in ((b"url ", b"a.mov\0", True), (b"alis", b"", True), (b"url ", b"\0", 0)):
        write_film(path, "mov", [Sound("pcm_s16le")], 0.5)
        refer(path, 1, kind, name, own)
        track = containers.open_track(path)
        assert sum(map(len, containers.Reader(track))) == 24000
    # What only looks like such a box, among the samples and in a tag.
    write_film(path, "mov", [Sound("pcm_s16le")], 0.5,
               metadata={"comment": "dref\x01\x01\x01\x01\x00\x00\x00\x05of a poem"})
    assert containers.open_track(path).codec == "pcm_s16le"


def test_a_reference_that_is_cut_off_is_none(tmp_path):
    path = tmp_path / "a.mov"
    path.write_bytes(b"\0\0\0\x64moov" + b"dref\0\0\0\0\0\0\0\1" + b"\0\0\0\x20url ")
    self_contained.require_own_samples(path)
