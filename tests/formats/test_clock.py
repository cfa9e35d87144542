"""Tests of joined clips: one clock for all of them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from film_samples import Sound, write_film

from historical_denoiser.formats import containers
from historical_denoiser.formats.clock import demux, find_joins
from historical_denoiser.formats.containers import Reader


def join(path: Path, muxer: str, codec: str, seconds: tuple[float, ...]) -> list[float]:
    """Writes clips one behind the other; returns where the click of each belongs, in s."""
    clips = []
    for number, length in enumerate(seconds):
        clip = path.with_name(f"{number}")
        write_film(clip, muxer, [Sound(codec, clicks=(0.5,))], length)
        clips.append(clip.read_bytes())
    path.write_bytes(b"".join(clips))
    return [sum(seconds[:number]) + 0.5 for number in range(len(seconds))]


@pytest.mark.parametrize(("muxer", "codec"), [("mpegts", "mp2"), ("mpegts", "aac"),
                                              ("vob", "ac3"), ("vob", "mp2")])
@pytest.mark.parametrize("seconds", [(2.0, 3.0), (3.0, 1.0, 2.0), (12.0, 2.0)])
def test_all_sound_and_pictures_of_joined_clips_come_in_order(tmp_path, muxer, codec, seconds):
    path = tmp_path / "joined.ts"
    wanted = join(path, muxer, codec, seconds)
    reader = Reader(containers.open_track(path))
    sound = np.concatenate(list(reader))[:, 0]
    assert len(sound) / 48000 == pytest.approx(sum(seconds), abs=0.1 * len(seconds))
    found = [48000 * place + int(np.argmax(np.abs(sound[round(48000 * place - 9600):][:19200])))
             - 9600 for place in wanted]
    np.testing.assert_allclose(np.array(found) / 48000, wanted, atol=0.1)
    with av.open(str(path)) as container:
        times: dict[int, list[Fraction]] = {}
        for packet in demux(container, container.streams, containers.joins_of(path)):
            if packet.dts is not None:
                times.setdefault(packet.stream.index, []).append(packet.dts * packet.time_base)
    for each in times.values():
        steps = np.diff(np.array(each, float))
        assert steps.min() >= 0.0 and steps.max() < 0.2
        assert each[-1] - each[0] == pytest.approx(sum(seconds), abs=0.3)
    starts = [each[0] for each in times.values()]
    ends = [each[-1] for each in times.values()]
    # Sound and pictures are as far apart in the last clip as in the first.
    assert max(ends) - min(ends) == pytest.approx(max(starts) - min(starts), abs=0.12)


def test_damaged_times_of_one_stream_are_no_join(tmp_path):
    write_film(tmp_path / "film.ts", "mpegts", [Sound("mp2")], 8.0)
    with av.open(str(tmp_path / "film.ts")) as container:
        packets = [packet for packet in container.demux() if packet.dts is not None]
        for kind, seconds in (("audio", -4), ("video", -3), ("audio", 3)):
            place = [number for number, packet in enumerate(packets)
                     if packet.stream.type == kind][90 + 10 * seconds]
            packets[place].dts += seconds * 90000

        class Damaged:
            """The film with three wrong times."""

            streams = container.streams

            def demux(self, *streams):
                yield from packets

        assert find_joins(Damaged()) == []


def test_a_stream_that_comes_to_light_while_reading_ends_nothing(tmp_path):
    write_film(tmp_path / "film.ts", "mpegts", [Sound("mp2")], 0.5)
    with av.open(str(tmp_path / "film.ts")) as container:

        class Growing:
            """The film, with PyAV's error, which depends on what was in memory."""

            streams, format = container.streams, container.format

            def demux(self, *streams):
                yield from container.demux(*streams)
                raise IndexError("list index out of range")

        found = [packet for packet in demux(Growing(), container.streams) if packet.size]
    assert len(found) > 20


@pytest.mark.parametrize(("codec", "rate", "layout"), [
    ("g722", 16000, "mono"), ("eac3", 48000, "stereo"), ("dfpwm", 44100, "mono")])
def test_sound_in_avi_whose_clock_counts_something_else_is_read_without_gaps(tmp_path, codec, rate,
                                                                            layout, caplog):
    path, sound = tmp_path / "a.avi", Sound(codec, rate, layout, clicks=(0.5, 1.5))
    write_film(path, "avi", [Sound("pcm_s16le"), sound], 2.0)
    track = containers.open_track(path, 2)
    found = np.abs(np.concatenate(list(Reader(track, keep_times=True)))[:, 0])
    assert caplog.text == "" and 0 <= len(found) / rate - 2.0 < 0.05
    for seconds in sound.clicks if codec != "dfpwm" else ():  # which blurs them
        place = round(seconds * rate) + np.arange(-200, 1000)  # encoders delay
        assert found[place].max() > 0.1
    with containers.open_container(path) as film:  # and so are its packets, to be copied
        times = [packet.dts * packet.time_base for packet in demux(film, [film.streams.audio[1]])
                 if packet.size]
    assert 1.9 < times[-1] < 2.05
