"""Tests of containers: audio tracks that FFmpeg decodes, and the times of their samples."""

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from audio_samples import write_audio
from film_samples import Sound, move_blocks, remux, sound_of, write_film

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.formats.containers import Reader, Timeline

POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows knows no such names")


def read_all(path, track=None) -> np.ndarray:
    return np.concatenate(list(Reader(containers.open_track(path, track))))


# --- Which track -----------------------------------------------------------------------------


def test_a_track_is_the_default_one_the_first_or_the_one_asked_for(tmp_path):
    path = tmp_path / "a.mkv"
    sounds = [Sound("aac", metadata={"language": "eng"}), Sound("flac", 44100, "5.1", default=True),
              Sound("ac3", layout="mono")]
    write_film(path, "matroska", sounds, 0.5)
    chosen = {number: containers.open_track(path, number) for number in (None, 1, 2, 3)}
    assert chosen[None] == chosen[2]
    assert [(track.codec, track.rate, track.channels, track.layout, track.track, track.subtype)
            for track in (chosen[1], chosen[2], chosen[3])] == [
        ("aac", 48000, 2, "stereo", 1, "aac"), ("flac", 44100, 6, "5.1", 2, "PCM_16"),
        ("ac3", 48000, 1, "mono", 3, "ac3")]
    assert all(track.is_film for track in chosen.values())
    with pytest.raises(UserError, match=r"a\.mkv: there is no audio track 4; there are "
                                        r"1 \(aac, stereo, eng\), 2 \(flac, 5\.1\)"):
        containers.open_track(path, 4)
    write_film(path, "matroska", [Sound("aac"), Sound("ac3")], 0.5)
    assert containers.open_track(path).track == 1


def test_a_file_without_audio_is_refused_in_one_line(tmp_path):
    write_film(tmp_path / "silent.mp4", "mp4", [], 0.2)
    with pytest.raises(UserError, match=r"silent\.mp4: the file holds no audio, only video"):
        containers.open_audio(tmp_path / "silent.mp4")
    for name in ("noise.mkv", "noise.wav", "noise.au", "noise.vox"):  # not samples without a header
        (tmp_path / name).write_bytes(b"\x91 no film" * 100)
        with pytest.raises(UserError, match=rf"{name}: not .*audio that can be read"):
            containers.open_audio(tmp_path / name)
    (tmp_path / "empty.mov").write_bytes(b"")
    with pytest.raises(UserError, match=r"empty\.mov: the file is empty"):
        containers.open_audio(tmp_path / "empty.mov")
    with pytest.raises(FileNotFoundError, match="gone.mkv: no such file"):
        containers.open_audio(tmp_path / "gone.mkv")


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.flac", "a.m4a", "a"])
@pytest.mark.parametrize(("content", "told"), [
    (b"<!DOCTYPE html>\n<html>Not found</html>" * 2000, "holds a web page, not sound"),
    (b"{'error': 'Stra\xc3\x9fe'}\n" * 200, "holds text, not sound"),
    (b"\xff\xd8\xff\xe0" + bytes(99), "holds a picture, not sound"),
    (b"%PDF-1.4\n", "holds a PDF document, not sound"), (bytes(5000), "holds zeros, not sound"),
    (b"PK\3\4" + bytes(99), "holds an archive, not sound"),
    (b"\0\0\0\x18ftypM4A " + bytes(12) + b"\0\0\x09\0mdat12", "without its index (`moov`)")])
def test_what_a_file_that_is_no_sound_holds_is_named(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(told)):
        containers.open_audio(tmp_path / name)


@pytest.mark.parametrize(("name", "muxer", "codec"), [("a.avi", "avi", "libmp3lame"),
                                                      ("a.wmv", "asf", "wmav2")])
def test_a_late_start_is_no_promise_of_sound(tmp_path, name, muxer, codec):
    write_film(tmp_path / name, muxer, [Sound(codec, start=Fraction(1))], 2.0)
    track = containers.open_track(tmp_path / name)
    assert track.header_samples - sum(map(len, Reader(track))) < 0.1 * track.rate


def test_what_libsndfile_reads_stays_with_it(tmp_path):
    write_audio(tmp_path / "a.ogg")
    recording = containers.open_audio(tmp_path / "a.ogg", 1)
    assert type(recording) is audio_io.Recording and recording.track is None
    with pytest.raises(UserError, match=r"a\.ogg: there is no audio track 2, only one"):
        containers.open_audio(tmp_path / "a.ogg", 2)
    # Whatever a file is called: AAC that someone named as WAV.
    write_film(tmp_path / "a.m4a", "mp4", [Sound("aac")], 0.3, video=None)
    (tmp_path / "a.m4a").rename(tmp_path / "a.wav")
    track = containers.open_audio(tmp_path / "a.wav")
    assert (track.codec, track.is_film) == ("aac", False)


@pytest.mark.parametrize("name", [
    "http:a.mkv", "concat:a|b.mkv", "file:a.mkv", "100%d.mkv", "-i.mkv", "\u042f \u4e2d.mkv",
    pytest.param("http:1.mov", marks=POSIX)])  # another process opens MOV files with PCM first
def test_names_mean_themselves(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    muxer, codec = ("mov", "pcm_s16le") if name.endswith(".mov") else ("matroska", "flac")
    write_film(tmp_path / "plain.film", muxer, [Sound(codec)], 0.2)
    (tmp_path / "plain.film").rename(tmp_path / name)
    assert len(read_all((tmp_path / name).relative_to(tmp_path))) == 9600


# --- Samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("muxer", "codec", "layout", "subtype", "bits"), [
    ("matroska", "flac", "5.1", "PCM_16", 16), ("mov", "pcm_s24le", "stereo", "PCM_24", 24),
    ("mov", "alac", "mono", "PCM_24", 24), ("avi", "pcm_u8", "stereo", "PCM_U8", 8),
    ("matroska", "pcm_f32le", "7.1", "FLOAT", 24),
    ("matroska", "pcm_s32le", "stereo", "PCM_32", 24),
])
def test_lossless_samples_are_read_as_they_are(tmp_path, muxer, codec, layout, subtype, bits):
    sound, path = Sound(codec, 44100, layout), tmp_path / "a.film"
    write_film(path, muxer, [sound], 0.5)
    assert containers.open_track(path).subtype == subtype
    np.testing.assert_allclose(read_all(path), sound_of(sound, 0.5).T,
                               atol=1.01 * 2.0 ** (1 - bits))


def test_a_gap_is_silence(tmp_path):
    path, sound = tmp_path / "a.mp4", Sound("flac", gap=(0.4, 0.8))
    write_film(path, "mp4", [sound], 1.0)
    whole = sound_of(sound, 1.0).T
    whole[5 * 4608 : 9 * 4608] = 0.0  # packets of 4608 samples; those that start in the gap
    np.testing.assert_allclose(read_all(path), whole, atol=1e-4)


def test_an_overlap_is_dropped(tmp_path):
    """From 0.4 s on the packets say that they come 0.2 s earlier."""
    path, sound = tmp_path / "a.mkv", Sound("pcm_s16le")
    write_film(path, "matroska", [sound], 1.0)
    whole = sound_of(sound, 1.0).T
    move_blocks(path, 1, 400, 10_000, -200)
    audio = read_all(path)
    assert len(audio) == pytest.approx(0.8 * 48000, abs=50)
    np.testing.assert_allclose(audio[:19000], whole[:19000], atol=1e-4)
    np.testing.assert_allclose(audio[-18000:], whole[-18000:], atol=1e-4)


@pytest.mark.parametrize("shift", [-20_000, -300, 3000])
def test_one_time_that_is_out_of_order_moves_nothing(tmp_path, shift):
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("flac")], 1.0)
    whole = read_all(path)
    move_blocks(path, 1, 400, 490, shift)
    np.testing.assert_array_equal(read_all(path), whole)


def test_a_clock_that_makes_no_sense_is_refused(tmp_path):
    write_film(tmp_path / "a.mkv", "matroska", [Sound("pcm_s16le", gap=(0.2, 0.7))], 1.0, None)

    def late(packet: av.Packet) -> None:
        packet.pts = packet.dts = packet.pts + 4_000_000 * (packet.pts > 500)

    remux([tmp_path / "a.mkv"], tmp_path / "b.mkv", "matroska", late)
    with pytest.raises(UserError, match=r"b\.mkv: the timestamps .* jump by 4000 s after 0\.2 s"):
        read_all(tmp_path / "b.mkv")


def test_raw_aac_of_one_packet_is_read(tmp_path):
    path = tmp_path / "a.aac"
    write_film(path, "adts", [Sound("aac")], 0.5, None)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(content[:2], 2)])
    assert len(read_all(path)) == 1024


def test_a_length_that_ffmpeg_guesses_is_none(tmp_path):
    write_film(tmp_path / "a.aac", "adts", [Sound("aac")], 1.0, None)
    write_film(tmp_path / "a.mp3", "mp3", [Sound("libmp3lame")], 1.0, None, cover=True)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(whole.replace(b"Info", bytes(4)).replace(b"Xing", bytes(4)))
    lengths = [containers.open_track(tmp_path / name).header_samples
               for name in ("a.aac", "a.mp3", "b.mp3")]
    assert lengths[0] == lengths[2] == 0 and lengths[1] >= 48000


def test_samples_of_64_bits_are_read():
    values = np.array([[-0.5, 0.25, 2.0**-20]], np.float32)
    frame = av.AudioFrame.from_ndarray(values, format="flt", layout="mono")
    frame.sample_rate = 48000
    (wide,) = av.AudioResampler(format="s64").resample(frame)
    np.testing.assert_array_equal(containers.as_samples(wide), values.T)


def test_loss_after_damage_that_ends_the_file_is_reported(tmp_path, caplog):
    path = tmp_path / "a.wv"
    write_film(path, "wv", [Sound("wavpack")], 2.0, None)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    blocks = Reader(containers.open_track(path), keep_times=True)
    assert 0.8 < sum(map(len, blocks)) / 48000 < 1.3
    assert "the file is damaged after 1." in caplog.text and "cannot be read further" in caplog.text


def test_the_end_of_lossy_audio_in_mp4_is_that_of_its_last_packet(tmp_path):
    write_film(tmp_path / "a.mp4", "mp4", [Sound("aac")], 1.0)
    assert len(read_all(tmp_path / "a.mp4")) == 48000


def test_a_damaged_packet_is_silence(tmp_path, caplog):
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("ac3", bit_rate=448000)], 3.0, video=None)
    expected = len(read_all(path))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as film:
        packets = [packet for packet in film.demux(film.streams.audio[0]) if packet.size]
    for packet in packets[20:30]:
        place = content.index(bytes(packet))
        content[place : place + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    audio = np.concatenate(list(Reader(containers.open_track(path), keep_times=True)))
    assert abs(len(audio) - expected) < 50 and not audio[35000:44000].any() and audio[60000:].any()
    assert "10 packets of the audio track are damaged, the first after 0.6 s" in caplog.text


@pytest.fixture(scope="module")
def mp3(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """Four seconds whose bit rate varies, and where each frame starts; the first tells how many."""
    path, rng = tmp_path_factory.mktemp("mp3") / "a.mp3", np.random.default_rng(0)
    tone = 0.3 * np.sin(np.arange(4 * 44100) / 16.0)
    sf.write(path, tone + 0.05 * rng.standard_normal(len(tone)), 44100)
    with av.open(str(path)) as file:
        return path.read_bytes(), [packet.pos for packet in file.demux() if packet.size]


def read_mp3(path: Path, content: bytes) -> float:
    """Returns how many seconds can be read; damage is logged."""
    path.write_bytes(content)
    track = containers.open_audio(path)
    assert track.is_mpeg and not track.is_film
    return sum(map(len, Reader(track, keep_times=True))) / track.rate


@pytest.mark.parametrize(("change", "seconds"), [
    (lambda whole, first: whole, 4.0), (lambda whole, first: whole[first:], 4.0),
    (lambda whole, first: bytes(3000) + whole[first:], 4.0),
    (lambda whole, first: whole + b"TAG" + bytes(125), 4.0), (lambda whole, first: 2 * whole, 8.0),
    (lambda whole, first: whole.replace(b"Xing\0\0\0\x0f\0\0\0", b"Xing\0\0\0\x0f\0\0\7"), 4.0)])
def test_a_whole_mp3_file_is_read_whatever_it_tells_of_its_length(
        tmp_path, mp3, caplog, change, seconds):
    whole, starts = mp3
    content = change(whole, starts[0])
    assert read_mp3(tmp_path / "a.mp3", content) == pytest.approx(seconds, abs=0.15)
    assert caplog.text == ""


@pytest.mark.parametrize(("place", "new", "lost"), [
    (0, b"\xfe", 0.0), (2, b"\0", 0.0), (0, bytes(8000), 0.9), (0, b"\xff" * 8000, 0.9)])
def test_damage_in_an_mp3_file_is_told_and_all_else_is_read(
        tmp_path, mp3, caplog, place, new, lost):
    whole, starts = mp3
    start = starts[len(starts) // 2] + place
    content = whole[:start] + new + whole[start + len(new) :]
    assert read_mp3(tmp_path / "a.mp3", content) == pytest.approx(4.0 - lost, abs=0.16)
    assert "packets of the audio track are damaged, the first after 2.0 s; their" in caplog.text


def test_mp3_in_a_wave_file_is_read_as_such(tmp_path, mp3, caplog):
    source, path = tmp_path / "a.mp3", tmp_path / "a.wav"
    source.write_bytes(mp3[0])
    remux([source], path, "wav")
    content = path.read_bytes()
    assert read_mp3(path, content) == pytest.approx(4.0, abs=0.15) and caplog.text == ""
    read_mp3(path, content[:20000] + bytes(3000) + content[23000:])
    assert "a.wav" in caplog.text and "are damaged" in caplog.text


def test_the_bit_rate_is_measured(tmp_path):
    write_film(tmp_path / "a.mkv", "matroska", [Sound("ac3", bit_rate=256000)], 3.0)
    reader = Reader(containers.open_track(tmp_path / "a.mkv"))
    assert sum(map(len, reader)) == reader.samples
    assert reader.bit_rate == pytest.approx(256000, rel=0.02)


# --- Times -----------------------------------------------------------------------------------


def test_a_timeline_follows_timestamps_but_not_their_rounding():
    timeline = Timeline(1000)
    for frame in range(100):  # 25.6 samples each, in ticks of 10 samples
        time = 5 + Fraction(round(2.56 * frame), 100)
        timeline.set(round(25.6 * frame), time, Fraction(15, 1000))
    assert timeline.expected(3000) == 8
    timeline.set(3000, Fraction(9), Fraction(15, 1000))
    assert timeline.time_of(Fraction(-10)) == 5 - Fraction(10, 1000)
    assert timeline.time_of(Fraction(5, 2)) == 5 + Fraction(25, 10000)
    assert timeline.time_of(Fraction(2999)) == 5 + Fraction(2999, 1000)
    assert timeline.time_of(Fraction(3001)) == 9 + Fraction(1, 1000)


def test_jitter_stays_in_the_timestamps(tmp_path):
    """What a browser records: each packet up to 40 ms early or late."""
    write_film(tmp_path / "a.mkv", "matroska", [Sound("flac")], 1.0, video=None)
    shifts = np.random.default_rng(1).integers(0, 40, 11).tolist()

    def late(packet: av.Packet) -> None:
        packet.pts = packet.dts = packet.pts + shifts[round(packet.pts / 96)]

    remux([tmp_path / "a.mkv"], tmp_path / "b.mkv", "matroska", late)
    reader = Reader(containers.open_track(tmp_path / "b.mkv"), keep_times=True)
    audio = np.concatenate(list(reader))
    np.testing.assert_array_equal(audio, read_all(tmp_path / "a.mkv"))
    for number, shift in enumerate(shifts):
        time = reader.timeline.time_of(Fraction(number * 4608))
        assert time == pytest.approx(number * 0.096 + shift / 1000, abs=0.0016)
