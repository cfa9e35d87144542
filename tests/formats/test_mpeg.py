"""Frames of MP3 files are counted, and all of them are read."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
import pytest
import soundfile as sf

from historical_denoiser.formats import containers, mpeg
from historical_denoiser.formats.chunks import append_chunks, find_chunks
from historical_denoiser.formats.integrity import find_damage

SECONDS, RATE, FRAME = 4.0, 44100, 1152
Change = Callable[[bytes, list[int]], bytes]


def frames_of(content: bytes) -> list[int]:
    """Returns where the frames of a whole file start."""
    return [start for start, _, frame in mpeg._walk(content, 0, len(content)) if frame is not None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("mp3") / "a.mp3"
    rng, times = np.random.default_rng(0), np.arange(round(SECONDS * RATE)) / RATE
    sf.write(path, 0.3 * np.sin(2760.0 * times) + 0.05 * rng.standard_normal(len(times)), RATE,
             format="MP3")
    return path.read_bytes()


def read(path, content: bytes) -> tuple[float, str | None]:
    """Returns how many seconds can be read of a file, and what is told of it."""
    path.write_bytes(content)
    recording = containers.open_audio(path)
    samples = sum(map(len, containers.read_blocks(recording)))
    return samples / recording.rate, find_damage(recording)


def flipped(byte: int, bit: int) -> Change:
    """Returns what flips a bit in the head of the middle frame."""

    def flip(content: bytes, starts: list[int]) -> bytes:
        place = starts[len(starts) // 2] + byte
        return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]

    return flip


def between(new: bytes, removed: int) -> Change:
    """Returns what puts bytes in place of some before the middle frame."""
    return lambda content, starts: (content[: starts[len(starts) // 2]] + new
                                    + content[starts[len(starts) // 2] + removed :])


def with_count(number: int) -> Change:
    """Returns what changes the number of frames that the file tells."""

    def change(content: bytes, starts: list[int]) -> bytes:
        place = content.index(b"Xing") + 8
        return content[:place] + number.to_bytes(4, "big") + content[place + 4 :]

    return change


def test_all_kinds_of_frames_are_known(tmp_path):
    """Their sizes by the rates and layers, as another decoder finds them."""
    for rate in (8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000):
        for channels in (1, 2):
            path = tmp_path / f"{rate}_{channels}.mp3"
            sf.write(path, np.random.default_rng(rate).uniform(-0.2, 0.2, (rate, channels)), rate)
            frames = mpeg.count_frames(path)
            assert frames.rate == rate and frames.damaged_places == 0
            assert 0 <= frames.samples - rate < 4 * FRAME


@pytest.mark.parametrize("change", [
    lambda content, starts: content[starts[1] :],  # tells no length, and the rate varies
    lambda content, starts: bytes(3000) + content[starts[1] :],
    with_count(0), with_count(1), with_count(60), with_count(2**32 - 1),
    between(b"ID3\x04\0\0\0\0\x07\x76" + bytes(1014), 0),
    lambda content, starts: content + b"TAG" + bytes(125)])
def test_a_whole_file_is_read_whatever_it_tells_of_its_length(tmp_path, whole, change):
    seconds, told = read(tmp_path / "a.mp3", change(whole, frames_of(whole)))
    assert seconds == pytest.approx(SECONDS, abs=0.06) and told is None


def test_two_files_in_one_are_read_to_the_end(tmp_path, whole):
    seconds, told = read(tmp_path / "a.mp3", whole + whole)
    assert seconds == pytest.approx(2.0 * SECONDS, abs=0.15) and told is None


@pytest.mark.parametrize(("change", "lost"), [
    (flipped(0, 1), 0.0), (flipped(2, 0x10), 0.0), (flipped(2, 4), 0.0), (flipped(3, 0x40), 0.0),
    (flipped(1, 2), 0.0), (flipped(1, 8), 0.0), (between(bytes(8000), 8000), 0.9),
    (between(b"\xff" * 8000, 8000), 0.9),
    (between(np.random.default_rng(3).bytes(9000), 9000), 1.0)])
def test_damage_in_the_middle_is_told_and_all_else_is_read(tmp_path, whole, change, lost, capfd):
    seconds, told = read(tmp_path / "a.mp3", change(whole, frames_of(whole)))
    assert told.startswith("the file is damaged in 1 places, the first after 2.0 s, and about "
                           f"{lost:.1f} s in all are lost there")
    assert seconds == pytest.approx(SECONDS - lost, abs=0.16)
    assert capfd.readouterr().err == ""  # nothing of the decoder's own


def test_what_is_missing_at_the_end_is_told(tmp_path, whole):
    middle = frames_of(whole)[78]
    seconds, told = read(tmp_path / "a.mp3", whole[: middle + 50])
    assert seconds == pytest.approx(2.0, abs=0.1) and told is None  # the header promises more
    seconds, told = read(tmp_path / "a.mp3", whole[:middle] + bytes(len(whole) - middle))
    assert "the first after 2.0 s, and about 2." in told


@pytest.mark.parametrize(("change", "lost"), [
    (lambda content, starts: content, 0.0), (flipped(0, 1), 0.0),
    (between(bytes(8000), 8000), 0.9)])
def test_frames_in_a_wave_file_are_counted_too(tmp_path, whole, change, lost, caplog):
    """Its other chunks are no frames: room behind the samples, such as an editor leaves."""
    path, source = tmp_path / "a.wav", tmp_path / "a.mp3"
    source.write_bytes(whole)
    with av.open(str(source)) as mp3, av.open(str(path), "w", format="wav") as wave:
        copy = wave.add_stream_from_template(mp3.streams.audio[0])
        for packet in mp3.demux():
            if packet.size:
                packet.stream = copy
                wave.mux(packet)
    with path.open("rb") as file:
        (start, size), = (chunk[1:] for chunk in find_chunks(file) if chunk[0] == b"data")
    content = path.read_bytes()
    inside = content[start : start + size]
    path.write_bytes(content[:start] + change(inside, frames_of(inside)) + content[start + size :])
    append_chunks(path, [(b"PAD ", bytes(20000))])
    seconds, told = read(path, path.read_bytes())
    assert seconds == pytest.approx(SECONDS - lost, abs=0.16) and caplog.text == ""
    if inside in path.read_bytes():
        assert told is None
    else:
        assert told.startswith("the file is damaged in 1 places, the first after 2.0 s, and about "
                               f"{lost:.1f} s in all are lost there")
