"""Tests of integrity: damage that libsndfile does not report."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from film_samples import Sound, write_film

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.formats.audio_io import open_recording, read_blocks
from historical_denoiser.formats.containers import open_audio
from historical_denoiser.formats.integrity import NO_END, find_damage


def write(path: Path, container: str, subtype: str | None = None, seconds: int = 2) -> bytes:
    """Writes white noise, and returns the file."""
    rate = 48000 if subtype == "OPUS" else SAMPLE_RATE
    audio = np.random.default_rng(1).uniform(-0.2, 0.2, (seconds * rate, 1))
    sf.write(path, audio, rate, subtype, format=container)
    return path.read_bytes()


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_a_truncated_or_damaged_ogg_file_is_reported(tmp_path, subtype):
    path = tmp_path / "a.ogg"
    whole = write(path, "OGG", subtype, 4)
    assert find_damage(open_recording(path)) is None
    recording, last = open_recording(path), whole.rindex(b"OggS")
    path.write_bytes(whole[:last])
    assert "has no end" in find_damage(recording)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    start = whole.rindex(b"OggS", 0, middle)
    for content, place in ((flipped, start), (whole[: last + 40], last),
                           (whole + b"Og", len(whole)),
                           (whole[:start] + b"X" + whole[start + 1 :], start)):
        path.write_bytes(content)
        assert f"is damaged, first at byte {place} of {len(content)}" in find_damage(recording)


@pytest.mark.parametrize(("container", "name"), [("WAV", "data"), ("AIFF", "SSND"),
                                                 ("WAVEX", "data")])
def test_samples_behind_those_of_the_header_are_reported(tmp_path, container, name):
    path = tmp_path / "a"
    whole = write(path, container)
    assert find_damage(open_recording(path)) is None
    path.write_bytes(whole + bytes(128))  # as an ID3 tag of 1996
    assert find_damage(open_recording(path)) is None
    order = "big" if container == "AIFF" else "little"
    for cut in (2, 1000):
        path.write_bytes(whole[:-cut])
        told = find_damage(open_recording(path))
        assert f" and {cut} of them are missing, as many as 0.0" in told
    place = whole.index(name.encode()) + 4
    fewer = (2 * SAMPLE_RATE // 4 * 2).to_bytes(4, order)
    path.write_bytes(whole[:place] + fewer + whole[place + 4 :])
    recording = open_recording(path)
    assert recording.header_seconds == pytest.approx(0.5, abs=0.001)
    assert "as many as 1.5 s of audio; they are not read" in find_damage(recording)


@pytest.mark.parametrize(("container", "place", "order"), [
    ("CAF", 4, "big"), ("RF64", 16, "little")])
def test_sizes_of_other_headers_are_not_believed_either(tmp_path, container, place, order):
    path, width = tmp_path / "a", 8
    whole = write(path, container, "PCM_16")
    place += whole.index({"CAF": b"data", "RF64": b"ds64"}[container])

    def told(size: int, seconds: float = 2.0) -> str | None:
        content = whole[:place] + size.to_bytes(width, order) + whole[place + width :]
        path.write_bytes(content[: len(content) - round((2.0 - seconds) * 2 * SAMPLE_RATE)])
        return find_damage(open_audio(path))

    size = int.from_bytes(whole[place : place + width], order)
    assert told(size) is None
    assert "as many as 1.5 s of audio; they are not read" in told(size // 4)
    if container == "CAF":  # for the others, the length in the header is reported
        assert "as many as 0.500 s of audio" in told(size, 1.5)
        assert told(2**64 - 1, 1.5) is None  # written to a pipe


@pytest.mark.parametrize("container", ["FLAC", "W64", "AU", "SVX"])
def test_others_are_whole_if_they_are_as_long_as_their_header_says(tmp_path, container):
    path = tmp_path / "a"
    whole = write(path, container)
    assert find_damage(open_recording(path)) is None
    path.write_bytes(whole[:-1000])
    if container != "FLAC":
        assert "1000 of them are missing, as many as 0.0" in find_damage(open_recording(path))


@pytest.mark.parametrize(("muxer", "codec", "video", "told"), [
    ("ogg", "libopus", "libvpx", "damaged, first at byte"),
    *((muxer, codec, video, "the header promises a file of") for muxer, codec, video in (
        ("flv", "aac", "flv1"), ("webm", "libopus", "libvpx"), ("asf", "wmav2", "wmv2"),
        ("avi", "pcm_s16le", "mpeg4")))])
def test_a_truncated_film_is_reported(tmp_path, muxer, codec, video, told):
    path = tmp_path / "a"
    write_film(path, muxer, [Sound(codec)], 2.0, video)
    track, content = open_audio(path), path.read_bytes()
    assert find_damage(track) is None
    path.write_bytes(content[: len(content) * 3 // 5])
    assert told in find_damage(track)


def test_flash_video_truncated_between_two_tags_is_reported(tmp_path):
    path = tmp_path / "a.flv"
    write_film(path, "flv", [Sound("aac")], 3.0, "flv1")
    whole, track, ends = path.read_bytes(), open_audio(path), [13]  # of the header and each tag
    assert find_damage(track) is None
    while ends[-1] < len(whole):
        ends.append(ends[-1] + 15 + int.from_bytes(whole[ends[-1] + 1 : ends[-1] + 4], "big"))
    cut = whole[: ends[len(ends) // 3]]
    path.write_bytes(cut)
    assert f"promises a file of {len(whole)} bytes, and it has {len(cut)}" in find_damage(track)
    path.write_bytes(cut.replace(b"filesize", b"anything"))
    assert "promises 3.0 s, and the file ends after 1.0" in find_damage(track)
    path.write_bytes(cut[:-50].replace(b"filesize", b"anything"))
    assert find_damage(track) == NO_END


@pytest.mark.parametrize("name", ["a.mp4", "a.wmv", "a.flv", "a.tta", "a.au", "a.w64"])
def test_a_second_recording_that_is_not_read_is_reported(tmp_path, name):
    path, kind = tmp_path / name, name[2:]
    if kind in ("au", "w64"):
        write(path, kind.upper(), "PCM_16")
    else:
        write_film(path, {"wmv": "asf"}.get(kind, kind), [Sound({"tta": "tta"}.get(kind, "aac"))],
                   0.5, {"tta": None, "flv": "flv1"}.get(kind, "mpeg4"))
    whole, recording = path.read_bytes(), open_audio(path)
    assert find_damage(recording) is None
    path.write_bytes(2 * whole)
    assert f"at byte {len(whole)} another recording begins" in find_damage(open_audio(path))


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
def test_a_wave_file_that_was_never_closed_is_read_to_its_end(tmp_path, subtype):
    path = tmp_path / "a.wav"
    whole = write(path, "WAV", subtype)
    samples, place = sf.read(path, always_2d=True)[0], whole.index(b"data") + 4
    path.write_bytes(whole[:4] + bytes(4) + whole[8:place] + bytes(4) + whole[place + 4 :])
    recording = open_recording(path)
    assert recording.header_samples == len(samples) and find_damage(recording) == NO_END
    np.testing.assert_array_equal(np.concatenate(list(read_blocks(recording))), samples)
    nothing = whole[8:place] + bytes(4) + b"LIST\4\0\0\0INFO"
    path.write_bytes(b"RIFF" + len(nothing).to_bytes(4, "little") + nothing)
    assert open_recording(path).header_samples == 0
