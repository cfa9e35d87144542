"""Tests of film: one track is written anew at its place, all else is copied."""

import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import film_samples
import mutagen
import numpy as np
import pytest
import soundfile as sf
from film_samples import Sound, cover_picture, heard, packets_of, remux, write_film
from mutagen import asf, mp4

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import chunks, containers, film
from historical_denoiser.formats.containers import Reader, Track
from historical_denoiser.formats.film import FilmFormat, FilmWriter


def rewrite(path: Path, choice: str = "same", number: int | None = None,
            gain: float = 0.5, history: str = "") -> tuple[Path, Track, FilmFormat]:
    """Writes a film whose track is half as loud."""
    track = containers.open_track(path, number)
    output = film.choose_format(track, choice)
    surveyed, reader = Reader(track), Reader(track, keep_times=True)
    assert sum(map(len, surveyed)) > 0
    result = path.with_name(f"result{output.ending}")
    with FilmWriter(result, track, output, reader.timeline, surveyed.bit_rate,
                    history=history) as writer:
        for block in reader:
            writer.write(gain * block)
    return result, track, output


def described(path: Path) -> tuple[list[dict], dict, list]:
    """Returns what is known of the streams, the file's tags and its chapters."""
    with av.open(str(path)) as container:
        streams = []
        for stream in container.streams:
            tags = {key: value for key, value in stream.metadata.items() if key != "DURATION"}
            known = {"type": stream.type, "tags": tags, "disposition": stream.disposition}
            if stream.type == "attachment":
                known["data"] = stream.data
            elif stream.codec_context is not None:
                known["codec"] = stream.codec_context.name
                known["tag"] = stream.codec_context.codec_tag
            elif stream.type == "data":
                known["tags"].pop("handler_name")  # FFmpeg's own for a timecode
            if stream.type == "video":
                known["extradata"] = stream.codec_context.extradata
                frame = next(container.decode(stream))
                container.seek(0)
                known["picture"] = (frame.width, frame.height, frame.rotation,
                                    stream.sample_aspect_ratio, stream.average_rate)
            if stream.type == "audio":
                known["layout"] = stream.layout.name
            streams.append(known)
        chapters = [(chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"],
                     chapter["metadata"]["title"]) for chapter in container.chapters()]
        return streams, container.metadata, chapters


def cover_of(path: Path) -> bytes:
    """Returns the picture of a file that has no other."""
    with av.open(str(path)) as container:
        (cover,) = container.streams.video
        assert cover.disposition & av.stream.Disposition.attached_pic
        return bytes(next(container.demux(cover)))


def assert_same_places(result: Path, path: Path, tolerance: Fraction | float = 0,
                       **kwargs: int) -> None:
    """Checks that clicks keep their times, within a tolerance in s."""
    found, expected = film_samples.clicks(result, **kwargs), film_samples.clicks(path, **kwargs)
    assert np.shape(found) == np.shape(expected)
    late = np.array(found) - np.array(expected)
    assert (abs(late) <= tolerance).all(), late.astype(float)


# --- Everything else is copied ---------------------------------------------------------------


@pytest.mark.parametrize(("muxer", "ending", "video", "sounds", "settings"), [
    ("matroska", "mkv", "libx264", [
        Sound("aac", metadata={"language": "eng", "title": "Main"}),
        Sound("ac3", layout="5.1(side)", metadata={"language": "fra"}, default=True)],
     {"subtitles": True, "chapters": True, "attachment": True, "cover": True,
      "metadata": {"title": "A film", "MY_TAG": "x"}}),
    ("mp4", "mp4", "libx264", [
        Sound("aac", 44100, metadata={"language": "eng"}),
        Sound("aac", layout="5.1", metadata={"language": "fra"}, default=True)],
     {"subtitles": True, "chapters": True, "cover": True, "rotation": 90,
      "metadata": {"title": "A film", "artist": "x"}}),
    ("mov", "mov", "mpeg4", [Sound("pcm_s16le", layout="5.1"), Sound("aac")],
     {"subtitles": True, "chapters": True, "rotation": 180,
      "metadata": {"title": "A film", "timecode": "01:00:00:00"}}),
    ("avi", "avi", "mpeg4", [Sound("libmp3lame"), Sound("pcm_s16le")],
     {"metadata": {"title": "A film"}}),
    ("webm", "webm", "libvpx-vp9", [Sound("libopus", layout="5.1")],
     {"subtitles": True, "metadata": {"title": "A film"}}),
    ("mp4", "mp4", "libx265", [Sound("flac", layout="mono", start=Fraction(1, 3))],
     {"video_start": 7}),
    ("mpegts", "ts", "mpeg2video", [Sound("mp2")], {}),
])
def test_a_film_is_the_same_but_for_one_track(tmp_path, muxer, ending, video, sounds, settings):
    path = tmp_path / f"film.{ending}"
    write_film(path, muxer, sounds, 1.0, video=video, **settings)
    before = path.read_bytes()
    result, track, output = rewrite(path)
    assert (output.muxer, result.suffix) == (muxer, path.suffix)
    assert path.read_bytes() == before
    copied, original = packets_of(result, track.stream), packets_of(path, track.stream)
    assert len(copied) >= 1 and any(copied)
    for number, (found, expected) in enumerate(zip(copied, original, strict=True)):
        assert found == expected, number
    assert described(result) == described(path)
    assert_same_places(result, path, Fraction(1, track.rate), track=(track.track or 1) - 1)


@pytest.fixture
def book(tmp_path):
    """An MP3 file with two chapters, a cover and tags."""
    path = tmp_path / "book.mp3"
    write_film(path, "mp3", [Sound("libmp3lame")], 2.0, video=None, chapters=True, cover=True,
               metadata={"title": "A book", "reel": "17"})
    return path


def test_where_the_result_is_a_flac_file_it_has_the_cover_and_the_chapters(book):
    result, _, output = rewrite(book, "flac")
    assert output.ending == ".flac"
    with av.open(str(book)) as source, av.open(str(result)) as made:
        names = [[(chapter["start"] * chapter["time_base"], chapter["metadata"]["title"])
                  for chapter in each.chapters()] for each in (source, made)]
        assert names[0] == names[1] == [(0, "Reel 1"), (1, "Reel 2")]
        assert made.metadata["title"] == "A book"
    assert cover_of(result) == cover_picture()
    assert len(heard(result)[1]) == len(heard(book)[1])


def test_where_the_result_is_a_wave_file_it_has_cover_chapters_and_all_tags(book, caplog):
    result, _, output = rewrite(book, history="denoised at 1")
    assert output.ending == ".wav" and caplog.text == ""
    with result.open("rb") as file:
        found = {chunk[0]: chunks.content_of(file, chunk) for chunk in chunks.find_chunks(file)}
    assert found[b"cue "] == struct.pack("<I2I4sIII2I4sIII", 2, 1, 0, b"data", 0, 0, 0,
                                         2, 48000, b"data", 0, 0, 48000)
    tags = mutagen.File(result).tags
    assert (tags["TIT2"].text, tags["TXXX:reel"].text) == (["A book"], ["17"])
    assert tags["APIC:"].data == cover_picture() and tags["APIC:"].mime == "image/jpeg"
    assert tags["COMM::eng"].text == ["denoised at 1"]
    np.testing.assert_array_equal(sf.read(result, always_2d=True)[0].shape, heard(book)[1].shape)


def test_the_sound_of_an_itunes_file_begins_with_its_first_sample(tmp_path):
    path = tmp_path / "a.m4a"
    write_film(path, "mp4", [Sound("aac", 44100)], 1.0, None)
    path.write_bytes(path.read_bytes().replace(b"edts", b"free"))  # of the delay, 1024 samples
    tune = mp4.MP4(path)
    tune["----:com.apple.iTunes:iTunSMPB"] = mp4.MP4FreeForm(
        b" 00000000 00000400 00000000 000000000000AC44")
    tune.save()
    result, _, _ = rewrite(path)
    start, found, rate = heard(result)
    assert start == 0 and abs(np.argmax(np.abs(found[:, 0])) - 0.15 * rate) <= 1


def test_the_cover_of_a_wma_file_stays_one(tmp_path):
    path = tmp_path / "a.wma"
    write_film(path, "asf", [Sound("wmav2", 44100)], 1.0, video=None, metadata={"title": "A tune"})
    tune = asf.ASF(path)
    picture = (b"\3" + len(cover_picture()).to_bytes(4, "little")
               + "image/jpeg\0\0".encode("utf-16-le") + cover_picture())
    tune.tags["WM/Picture"] = [asf.ASFByteArrayAttribute(picture)]
    tune.save()
    result, _, _ = rewrite(path)
    assert [stream["type"] for stream in described(result)[0]] == [
        stream["type"] for stream in described(path)[0]]
    assert cover_of(result) == cover_picture()
    assert_same_places(result, path, Fraction(1, 1000))


@pytest.mark.parametrize(("place", "harm"), [(0, b"\xff\xff"), (2, b"\x05\0")])
def test_a_wma_file_whose_tags_are_damaged_is_written_without_them(tmp_path, caplog, place, harm):
    """A type of value that there is none of; a text of an odd number of bytes."""
    path = tmp_path / "a.wma"
    write_film(path, "asf", [Sound("wmav2", 44100)], 0.5, video=None, metadata={"reel": "1234"})
    content = path.read_bytes()
    start = content.index("reel\0".encode("utf-16-le")) + 10
    path.write_bytes(content[: start + place] + harm + content[start + place + 2 :])
    result, _, _ = rewrite(path)
    assert "a.wma: not all tags and pictures are copied: its tags" in caplog.text
    assert containers.open_track(result).codec == "wmav2"


def test_tags_that_have_names_of_their_own_in_mp4_are_kept(tmp_path, caplog):
    path, name = tmp_path / "a.m4a", "----:com.apple.iTunes:ISRC"
    write_film(path, "mp4", [Sound("aac")], 1.0, video=None, cover=True, chapters=True,
               metadata={"title": "A tune"})
    tune = mp4.MP4(path)
    tune[name], tune["soal"] = [mp4.MP4FreeForm(b"DE1230000001")], ["Tunes"]
    tune.save()
    result, _, _ = rewrite(path, history="denoised at 1")
    tags = mp4.MP4(result).tags
    assert (tags[name], tags["soal"], tags["\xa9cmt"]) == (
        [b"DE1230000001"], ["Tunes"], ["denoised at 1"])
    assert bytes(tags["covr"][0]) == cover_picture()
    assert described(result)[2] == described(path)[2] and "are lost" not in caplog.text
    assert_same_places(result, path, Fraction(1, 48000))


@pytest.mark.parametrize(("ending", "codec"), [("mov", "pcm_s16le"), ("mp4", "aac"),
                                               ("mp4", "alac")])
def test_what_an_edit_list_hides_at_the_start_stays_hidden(tmp_path, ending, codec):
    """As where a film was cut without decoding it."""
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    write_film(whole, ending, [Sound(codec)], 3.0)

    def earlier(packet: av.Packet) -> None:
        shift = round(Fraction(1, 3) / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift

    remux([whole], cut, ending, earlier, avoid_negative_ts="disabled", movie_timescale="48000")
    (start, before, rate), (begin, after, _) = heard(cut), heard(rewrite(cut)[0])
    assert start == begin
    assert abs(len(before) - len(after)) <= (1024 if codec == "aac" else 0)  # of its last frame
    assert len(before) == pytest.approx(len(heard(whole)[1]) - rate / 3, abs=2100)
    assert np.argmax(np.correlate(after[:rate, 0], before[:rate, 0], "same")) == rate // 2


def test_the_four_letters_that_name_a_codec_are_kept(tmp_path):
    """Apple's players want `hvc1`; FFmpeg writes `hev1`."""
    path = tmp_path / "film.mp4"
    write_film(path, "mp4", [Sound("aac")], 0.5, video="libx265")
    content = path.read_bytes()
    assert content.count(b"hev1") == 1
    path.write_bytes(content.replace(b"hev1", b"hvc1"))
    assert rewrite(path)[0].read_bytes().count(b"hvc1") == 1


@pytest.mark.skipif(os.name != "posix", reason="names are Unicode elsewhere")
def test_names_and_tags_need_not_be_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.avi")
    write_film(tmp_path / "a.avi", "avi", [Sound("pcm_s16le")], 0.3, metadata={"title": "cafe"})
    path.write_bytes((tmp_path / "a.avi").read_bytes().replace(b"cafe", b"caf\xe9"))
    result, _, _ = rewrite(path)
    assert b"caf\xe9" in result.read_bytes()
    write_film(tmp_path / "a.mkv", "matroska", [Sound("flac")], 0.3, chapters=True)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content.replace(b"Reel 2", b"Reel \xe9"))
    assert described(rewrite(tmp_path / "a.mkv")[0])[2][1][2] == "Reel \ufffd"


def widen(path: Path) -> None:
    """Gives the pictures of a film, 64 by 48 pixels, a width of 96 in its header alone."""
    content = bytearray(path.read_bytes())
    if content.startswith(b"RIFF"):
        for place in (92, 16, 4):  # sizes of the stream's header, of all headers, and of the file
            size = int.from_bytes(content[place : place + 4], "little")
            if place == 92:
                content[96 + size : 96 + size] = struct.pack(
                    "<4s18I", b"vprp", 68, 0, 0, 25, 64, 48, (2 << 16) + 1, 64, 48, *[0] * 9)
            content[place : place + 4] = (size + 76).to_bytes(4, "little")
    elif b"ftyp" in content[:8]:
        content[content.index(b"tkhd") + 81] = 96
    else:
        unknown = b"\x54\xb2\x81\4"  # a unit; the other is the width
        assert content.count(unknown) == 1
        content = content.replace(unknown, b"\x54\xb0\x81\x60")
    path.write_bytes(content)


@pytest.mark.parametrize(("muxer", "ending", "video", "sound"), [
    ("matroska", "mkv", "libx264", "flac"), ("matroska", "mkv", "ffv1", "pcm_s16le"),
    ("mov", "mov", "mpeg4", "pcm_s16le"),
    ("mp4", "mp4", "libx264", "aac"), ("avi", "avi", "utvideo", "pcm_s16le"),
    ("matroska", "webm", "libvpx-vp9", "libopus")])
def test_a_shape_that_only_the_header_holds_is_kept(tmp_path, caplog, muxer, ending, video, sound):
    path = tmp_path / f"film.{ending}"
    write_film(path, muxer, [Sound(sound), Sound(sound)], 0.5, video=video)
    widen(path)
    wide = described(path)[0][0]["picture"]
    assert wide[3] == Fraction(3, 2)
    result, track, _ = rewrite(path)
    if ending == "webm":  # has no room for it in what FFmpeg writes
        assert "film.webm: the film's header gives its pictures another shape" in caplog.text
        return
    assert described(result)[0][0]["picture"] == wide and caplog.text == ""
    assert packets_of(result, track.stream) == packets_of(path, track.stream)
    assert_same_places(result, path, Fraction(1, 48000))
    if ending in ("mp4", "mov"):
        content = result.read_bytes()
        assert content[content.index(b"tkhd") + 81] == 96


def test_a_film_with_an_atom_beyond_any_place_is_restored(tmp_path):
    path = tmp_path / "film.mov"
    write_film(path, "mov", [Sound("pcm_s16le")], 0.5)
    path.write_bytes(path.read_bytes() + struct.pack(">I4sQ", 1, b"free", 2**63 + 16))
    result, track, _ = rewrite(path)
    assert packets_of(result, track.stream) == packets_of(path, track.stream)


def element(kind: int, *content: bytes) -> bytes:
    """Returns an element of a Matroska file."""
    inside = b"".join(content)
    return (kind.to_bytes((kind.bit_length() + 7) // 8, "big")
            + (1 << 56 | len(inside)).to_bytes(8, "big") + inside)


def test_lost_chapters_and_tags_of_matroska_are_reported(tmp_path, caplog):
    path = tmp_path / "film.mkv"
    write_film(path, "matroska", [Sound("flac")], 0.5, chapters=True, metadata={"TITLE": "x"})
    rewrite(path)
    assert caplog.text == ""

    def chapter(*inside: bytes) -> bytes:
        shown = element(0x80, element(0x85, b"Act"), element(0x437C, b"ger"))
        return element(0xB6, element(0x73C4, b"1"), element(0x91, b"\0"), shown, *inside)

    set_of_films = element(0x63C0, element(0x68CA, b"\x46"))
    tag = element(0x67C8, element(0x45A3, b"TITLE"), element(0x4487, b"S"), element(0x447A, b"und"))
    more = (element(0x1043A770, element(0x45B9, chapter(chapter())), element(0x45B9, chapter()))
            + element(0x1254C367, element(0x7373, set_of_films, tag)))
    content = path.read_bytes()
    start = content.rindex(b"\x10\x43\xa7\x70")  # the chapters, not their place in the index
    end = start + 5 + (content[start + 4] & 0x7F)
    size = content.index(b"\x18\x53\x80\x67") + 4
    assert content[start + 4] & 0x80 and content[size] == 1  # sizes of one byte, and of eight
    path.write_bytes(content[:size] + b"\1" + b"\xff" * 7 + content[size + 8 : start] + more
                     + content[end:])
    rewrite(path)
    assert ("film.mkv: cannot be written again and are lost: editions of chapters, languages of "
            "chapters, nested chapters, targets of tags") in caplog.text


# --- In sync ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("muxer", "codec", "rate"), [
    ("matroska", "flac", 44100), ("matroska", "aac", 44100), ("matroska", "libmp3lame", 44100),
    ("matroska", "mp2", 48000), ("matroska", "ac3", 48000), ("matroska", "eac3", 48000),
    ("matroska", "libopus", 48000), ("mp4", "flac", 48000), ("mp4", "aac", 44100),
    ("mp4", "aac", 22050), ("mp4", "ac3", 48000), ("mp4", "libmp3lame", 44100),
    ("mov", "alac", 44100), ("mov", "pcm_s24le", 96000), ("avi", "pcm_s16le", 48000),
    ("avi", "libmp3lame", 44100), ("avi", "ac3", 48000), ("webm", "libopus", 48000),
    ("mpegts", "aac", 48000), ("mpegts", "mp2", 48000), ("vob", "ac3", 48000),
    ("asf", "wmav2", 44100), ("avi", "wmav2", 44100), ("flv", "aac", 44100),
])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(7011, 44100)])
def test_a_click_stays_where_it_is(tmp_path, muxer, codec, rate, start):
    """To the sample, two more or less if lossy; and the end is there."""
    video = {"webm": "libvpx-vp9", "mpegts": "mpeg2video", "vob": "mpeg2video",
             "asf": "msmpeg4", "flv": "flv"}.get(muxer, "mpeg4")
    endings = [ending for muxers in film.MUXERS.values() for name, found in muxers.items()
               if name == muxer for ending in found]
    path = tmp_path / f"film{endings[0]}"
    write_film(path, muxer, [Sound(codec, rate, start=start, clicks=(0.3, 0.7, 1.1))], 1.3,
               video=video)
    result, track, _ = rewrite(path)
    assert track.codec == containers.open_track(result).codec
    # ASF stores times in milliseconds, of packets whose places the encoder's delay changes.
    tolerance = 0 if track.is_lossless else Fraction(2, rate) if muxer != "asf" else (
        Fraction(1, 1000))
    assert_same_places(result, path, tolerance, number=3)
    (old_start, old, _), (new_start, new, _) = heard(path), heard(result)
    # MP4 pads what starts late; ASF rounds.
    assert new_start <= old_start + Fraction(muxer == "asf", 1000)
    slack = Fraction(2048 if muxer in ("mp4", "asf") else 1, rate)  # a frame's padding
    assert new_start + Fraction(len(new), rate) >= old_start + Fraction(len(old), rate) - slack
    begin = max(old_start, new_start)
    old, new = (audio[round((begin - start) * rate) :]
                for start, audio in ((old_start, old), (new_start, new)))
    both = min(len(old), len(new))
    error = (new[:both] - 0.5 * old[:both])[rate // 10 :]
    assert np.sqrt(np.mean(error**2)) < (
        3e-5 if track.is_lossless else 5e-3 if muxer == "asf" else 2e-3)


@pytest.mark.parametrize(("muxer", "ending", "codec"), [
    ("mp4", "mp4", "flac"), ("mp4", "mp4", "aac"), ("matroska", "mkv", "flac"),
    ("matroska", "mkv", "aac"), ("matroska", "mkv", "libopus")])
def test_a_gap_moves_nothing(tmp_path, muxer, ending, codec):
    path = tmp_path / f"film.{ending}"
    write_film(path, muxer, [Sound(codec, start=Fraction(1, 10), clicks=(0.3, 1.5, 1.8),
                                   gap=(0.5, 1.1))], 2.0)
    result, _, _ = rewrite(path)
    assert_same_places(result, path, Fraction(1, 48000) if muxer == "mp4" else 0.0011, number=3)


def test_jitter_is_written_again(tmp_path):
    """Timestamps that wander by less than a gap come out as they went in."""
    path, source = tmp_path / "film.mkv", tmp_path / "source.mkv"
    write_film(source, "matroska", [Sound("flac")], 1.0)
    shifts = np.random.default_rng(2).integers(0, 40, 11).tolist()

    def late(packet: av.Packet) -> None:
        if packet.stream.type == "audio":
            packet.pts = packet.dts = packet.pts + shifts[round(packet.pts / 96)]

    remux([source], path, "matroska", late)
    result, track, _ = rewrite(path)
    times = [[packet[1] for packet in packets_of(place)[track.stream]] for place in (result, path)]
    assert len(times[0]) == len(times[1]) == 11
    np.testing.assert_allclose(np.array(times[0], float), np.array(times[1], float), atol=0.0021)


def test_pictures_whose_times_go_back_are_copied(tmp_path):
    path = tmp_path / "film.mkv"
    write_film(path, "matroska", [Sound("flac")], 1.0)
    film_samples.move_blocks(path, 0, 600, 640, -300)
    result, track, _ = rewrite(path)
    (copied,), (original,) = packets_of(result, track.stream), packets_of(path, track.stream)
    assert [packet[0] for packet in copied] == [packet[0] for packet in original]
    times = [packet[2] for packet in copied]
    assert times == sorted(times)


def test_a_picture_whose_time_is_far_ahead_is_refused(tmp_path):
    path = tmp_path / "film.mkv"
    write_film(path, "matroska", [Sound("flac")], 1.0)
    film_samples.move_blocks(path, 0, 600, 640, 30_000)
    with pytest.raises(UserError, match=r"film\.mkv: the timestamps of its video jump by -30 s"):
        rewrite(path)


@pytest.mark.parametrize(("muxer", "sound", "seconds"), [
    ("adts", Sound("aac", 8000, clicks=()), 0.03), ("ac3", Sound("ac3", 44100, "mono", clicks=()),
                                                    0.005)])
def test_a_track_of_which_nothing_could_be_read_is_refused(tmp_path, muxer, sound, seconds):
    path = tmp_path / f"a.{muxer}"
    write_film(path, muxer, [sound], seconds, None)
    with pytest.raises(UserError, match=rf"a\.{muxer}: its 0\.\d\d s of sound are too short for"):
        rewrite(path)


def test_a_track_of_which_most_would_be_lost_is_refused(tmp_path):
    path = tmp_path / "a.avi"
    write_film(path, "avi", [Sound("libmp3lame")], 0.5)
    track = containers.open_track(path)
    with pytest.raises(UserError, match=r"a\.avi: its 0\.03 s of sound are too short"), FilmWriter(
            tmp_path / "b.avi", track, film.choose_format(track), Reader(track).timeline,
            128000) as writer:
        writer.write(np.zeros((1500, 2)))


@pytest.mark.parametrize(("codec", "encoder"), [("eac3", "libmp3lame"), ("flac", "flac")])
def test_an_avi_film_gets_sound_that_it_can_hold(tmp_path, codec, encoder):
    path = tmp_path / "film.avi"
    write_film(tmp_path / "a.mkv", "matroska", [Sound(codec), Sound("aac")], 1.0)
    remux([tmp_path / "a.mkv"], path, "avi")  # where AAC's mark is no text
    result, _, output = rewrite(path)
    assert (output.muxer, output.encoder) == ("avi", encoder)
    found, expected = ([[packet[0] for packet in stream] for stream in packets_of(each, 1)]
                       for each in (result, path))
    assert found == expected and all(found)
    assert_same_places(result, path, Fraction(1, 1000))


def test_another_track_of_adpcm_keeps_its_clock(tmp_path):
    path = tmp_path / "film.avi"
    write_film(path, "avi", [Sound("pcm_s16le"), Sound("adpcm_ms", bit_rate=128000)], 2.0)
    result, _, _ = rewrite(path, number=1)
    (_, found), (_, expected) = packets_of(result, 1), packets_of(path, 1)
    assert [packet[0] for packet in found] == [packet[0] for packet in expected]
    assert abs(found[-1][1] - expected[-1][1]) < 0.05 and len(found) > 40


def test_a_raw_stream_keeps_its_tag_and_cover(tmp_path, caplog):
    path = tmp_path / "a.aac"
    write_film(path, "adts", [Sound("aac")], 0.5, None)
    tags = mutagen.id3.ID3()
    for frame in (mutagen.id3.TIT2(text="Side A"), mutagen.id3.TXXX(desc="replaygain_x", text="1"),
                  mutagen.id3.APIC(mime="image/jpeg", data=cover_picture())):
        tags.add(frame)
    tags.save(path)
    result, _, _ = rewrite(path, history="denoised at 1")
    found = mutagen.id3.ID3(result)
    assert found["TIT2"].text == ["Side A"] and "TXXX:replaygain_x" not in found
    assert found["COMM:denoised:eng"].text == ["denoised at 1"] and caplog.text == ""
    assert cover_of(result) == cover_picture()


def test_the_shape_of_pictures_is_not_looked_for_in_a_header_that_is_damaged(tmp_path):
    path = tmp_path / "a.avi"
    write_film(path, "avi", [Sound("libmp3lame")], 0.5)
    content = path.read_bytes()
    path.write_bytes(content[:19] + b"\x7f" + content[20:])  # the size of the first chunk
    assert len(heard(rewrite(path)[0])[1])


# --- Formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("muxer", "codec"), [
    ("matroska", "flac"), ("mov", "pcm_s24le"), ("mov", "alac"), ("matroska", "pcm_s32le"),
    ("matroska", "pcm_f32le"), ("avi", "pcm_u8"), ("mov", "pcm_s16be")])
def test_lossless_audio_is_written_to_the_last_bit(tmp_path, muxer, codec):
    path = tmp_path / "film"
    write_film(path, muxer, [Sound(codec)], 0.5)
    result, _, output = rewrite(path, gain=1.0)
    assert output.encoder == codec
    np.testing.assert_array_equal(heard(result)[1], heard(path)[1])


@pytest.mark.parametrize(("choice", "muxer", "ending", "encoder"), [
    ("flac", "matroska", "mkv", "flac"), ("pcm", "matroska", "mkv", "pcm_s24le"),
    ("flac", "mp4", "mp4", "flac"), ("pcm", "mov", "mov", "pcm_s24le"),
    ("pcm", "avi", "avi", "pcm_s24le")])
def test_lossless_on_request(tmp_path, choice, muxer, ending, encoder):
    path = tmp_path / f"film.{ending}"
    write_film(path, muxer, [Sound("libmp3lame")], 0.5)
    result, _, output = rewrite(path, choice)
    assert output.encoder == encoder and containers.open_track(result).subtype == "PCM_24"
    assert film_samples.clicks(result) == film_samples.clicks(path)


@pytest.mark.parametrize(("muxer", "name", "ending"), [
    ("mp4", "film.mov", ".mov"), ("mov", "film.mp4", ".mp4"), ("matroska", "film.mp4", ".mkv"),
    ("avi", "film", ".avi"), ("mp4", "film.M4V", ".M4V")])
def test_a_film_that_is_named_wrong_stays_what_it_is(tmp_path, muxer, name, ending):
    write_film(tmp_path / name, muxer, [Sound("pcm_s16le")], 0.3)
    result, _, output = rewrite(tmp_path / name)
    assert (output.muxer, result.suffix) == (muxer, ending)


@pytest.mark.parametrize(("muxer", "ending", "video", "sound", "choice", "result"), [
    ("webm", "webm", "libvpx-vp9", "libopus", "flac", (".mkv", "flac")),
    ("mov", "mov", "mpeg4", "aac", "flac", (".mkv", "flac")),
    ("mpegts", "ts", "mpeg2video", "mp2", "pcm", (".mkv", "pcm_s24le")),
    ("mpegts", "m2ts", "mpeg2video", "pcm_bluray", "same", (".mkv", "flac")),
    ("vob", "vob", "mpeg2video", "pcm_dvd", "same", (".mkv", "flac")),
    ("mxf", "mxf", "mpeg2video", "pcm_s16le", "same", (".mov", "pcm_s16le"))])
def test_where_a_container_cannot_be_written_with_a_codec_another_is(
        tmp_path, caplog, muxer, ending, video, sound, choice, result):
    path = tmp_path / f"film.{ending}"
    write_film(path, muxer, [Sound(sound)], 0.4, video=video)
    made, track, output = rewrite(path, choice)
    assert (made.suffix, output.encoder) == result
    assert "cannot be written with this sound; the result is a film in" in caplog.text
    assert [packet[0] for packet in packets_of(made, track.stream)[0]] == [
        packet[0] for packet in packets_of(path, track.stream)[0]]
    assert_same_places(made, path, Fraction(1, 1000))


def test_what_cannot_be_encoded_is_replaced(tmp_path, caplog):
    """Vorbis, of which FFmpeg has no good encoder: Opus at its own rate takes its place."""
    caplog.set_level("INFO")
    sound = Sound("vorbis", 44100)
    sf.write(tmp_path / "a.ogg", film_samples.sound_of(sound, 1.0).T, 44100, "VORBIS", format="OGG")
    write_film(tmp_path / "silent.webm", "webm", [], 1.0, video="libvpx-vp9")
    path = tmp_path / "film.webm"
    remux([tmp_path / "silent.webm", tmp_path / "a.ogg"], path, "webm")
    result, track, output = rewrite(path)
    assert (track.codec, output.encoder, output.rate) == ("vorbis", "libopus", 48000)
    assert "vorbis, cannot be encoded for this container; libopus is used" in caplog.text
    assert packets_of(result, track.stream) == packets_of(path, track.stream)
    assert_same_places(result, path, Fraction(1, 44100))


@pytest.mark.parametrize(("arguments", "kilobits"), [
    (("aac", 2, 48000, 320e3), 320), (("aac", 2, 48000, 48e3), 192), (("aac", 6, 48000, 4e6), 1728),
    (("libopus", 2, 48000, 96e3), 128), (("libmp3lame", 2, 44100, 191e3), 192),
    (("libmp3lame", 2, 44100, 1411e3), 320), (("libmp3lame", 1, 16000, 320e3), 160),
    (("ac3", 6, 48000, 448e3), 640), (("ac3", 2, 48000, 193e3), 224),
    (("mp2", 2, 48000, 200e3), 256), (("flac", 2, 48000, 800e3), 0),
    (("pcm_s16le", 2, 48000, 800e3), 0)])
def test_the_bit_rate_is_as_good_as_the_source_s(arguments, kilobits):
    assert film.target_bit_rate(*arguments) == 1000 * kilobits


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "quad(side)", "5.1(side)"])
def test_the_level_of_dialogue_is_kept(tmp_path, codec, layout):
    """Else players would change the loudness."""
    path = tmp_path / "film.mkv"
    write_film(path, "matroska", [Sound(codec, layout=layout, options={"dialnorm": "-24"})], 0.2)
    for place in (path, rewrite(path)[0]):
        with av.open(str(place)) as container:
            packet = bytes(next(container.demux(container.streams.audio[0])))
        assert film.dialogue_level(packet, codec) == -24
    assert film.dialogue_level(b"\x0b\x76" + packet[2:], codec) is None
    assert film.dialogue_level(packet, "aac") is None


def test_samples_beyond_full_scale_are_counted(tmp_path):
    write_film(tmp_path / "film.mkv", "matroska", [Sound("flac")], 0.5)
    track = containers.open_track(tmp_path / "film.mkv")
    reader = Reader(track, keep_times=True)
    with FilmWriter(tmp_path / "result.mkv", track, film.choose_format(track), reader.timeline,
                    0.0) as writer:
        for block in reader:
            stored = writer.write(2.0 * block)
    assert writer.clipped == 2 and stored.max() == 1.0 - 2.0**-15
    np.testing.assert_array_equal(heard(tmp_path / "result.mkv")[1], stored)
