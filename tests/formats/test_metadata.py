"""Tests of metadata: mutagen and libsndfile read the tags of restored files."""

import base64
import errno
import struct
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile as sf
from mutagen import apev2, flac, id3

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import chunks, metadata
from historical_denoiser.formats.audio_io import Format, Writer, open_recording, output_format

HISTORY = "denoised at strength 0.5, network 0123"
COVER = b"\x89PNG not really" * 50


def little(*chunk: bytes) -> bytes:
    return chunks.chain([chunk])


def broadcast(history: bytes) -> bytes:
    return b"Transfer of side A".ljust(256, b"\0") + bytes(602 - 256) + history


CUE = (1).to_bytes(4, "little") + b"\1\0\0\0\5\0\0\0data" + bytes(8) + b"\5\0\0\0"
CHUNKS = {b"bext": broadcast(b"A=ANALOGUE,M=mono,T=Studer A80\r\n\0\0"), b"iXML": b"<BWFXML/>",
          b"cue ": CUE, b"LIST": b"adtl" + little(b"labl", b"\1\0\0\0verse\0")}


def restore(path: Path, audio: np.ndarray) -> Path:
    """Writes what became of a recording, and carries over what stands beside the samples."""
    recording = open_recording(path)
    output = output_format(recording, len(audio))
    result = path.with_name(f"out{output.ending}")
    with Writer(result, recording.rate, audio.shape[1], output) as writer:
        writer.write(0.5 * audio)
    metadata.carry_over(recording, result, output, HISTORY)
    info = sf.info(result)
    assert (info.frames, info.format) == (len(audio), output.container)
    atol = 2.0 ** (-6 if output.subtype == "PCM_U8" else -14)
    np.testing.assert_allclose(sf.read(result, always_2d=True)[0], 0.5 * audio, atol=atol)
    return result


def found_in(path: Path) -> dict[bytes, bytes]:
    with path.open("rb") as file:
        return {chunk[0]: chunks.content_of(file, chunk) for chunk in chunks.find_chunks(file)}


@pytest.fixture
def audio(rng) -> np.ndarray:
    return 0.1 * rng.standard_normal((1001, 1))  # of an odd length


@pytest.mark.parametrize("container", ["WAV", "RF64"])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "FLOAT"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_chunks_of_wave_files_survive(tmp_path, rng, container, subtype, place):
    audio = np.round(0.2 * rng.standard_normal((1001, 1)) * 64) / 128
    path = tmp_path / "a.wav"
    sf.write(path, audio, 48000, subtype, format=container)
    if place == "behind" or container != "WAV":
        chunks.append_chunks(path, list(CHUNKS.items()))
    else:
        whole = path.read_bytes()
        inserted = chunks.chain(CHUNKS.items())
        size = (len(whole) + len(inserted) - 8).to_bytes(4, "little")
        path.write_bytes(whole[:4] + size + whole[8:12] + inserted + whole[12:])
    assert sf.info(path).frames == len(audio)
    kept = found_in(restore(path, audio))
    for name in (b"iXML", b"cue ", b"LIST"):
        assert kept[name] == CHUNKS[name]
    assert kept[b"bext"].startswith(
        broadcast(b"A=ANALOGUE,M=mono,T=Studer A80\r\nA=PCM,F=48000,W="))
    assert kept[b"bext"].endswith(b",M=mono,T=denoised at strength 0.5; network 0123\r\n")


def test_a_wave_file_without_broadcast_chunk_gets_a_comment(tmp_path, audio):
    path = tmp_path / "a.wav"
    with sf.SoundFile(path, "w", 44100, 1) as file:
        file.title, file.comment = "Side A", "odd"
        file.write(audio)
    result = restore(path, audio)
    with sf.SoundFile(result) as file:
        assert (file.title, file.comment) == ("Side A", f"odd; {HISTORY}")
    sf.write(path, audio, 44100)
    with sf.SoundFile(restore(path, audio)) as file:
        assert file.comment == HISTORY
    # Whoever reads the whole size finds the whole file.
    content = result.read_bytes()
    assert int.from_bytes(content[4:8], "little") == result.stat().st_size - 8


def test_marks_of_aiff_files_survive(tmp_path, audio):
    path = tmp_path / "a.aiff"
    sf.write(path, audio, 44100, "PCM_24")
    mark = b"\0\1\0\1\0\0\0\5\4side\0"
    chunks.append_chunks(path, [(b"MARK", mark), (b"NAME", b"Side A")])
    tags = mutagen.File(path)
    tags.add_tags()
    tags.tags.add(id3.APIC(encoding=3, mime="image/png", type=3, desc="", data=COVER))
    tags.save()
    result = restore(path, audio)
    kept = found_in(result)
    assert (kept[b"MARK"], kept[b"NAME"], kept[b"ANNO"]) == (mark, b"Side A", HISTORY.encode())
    assert mutagen.File(result).tags["APIC:"].data == COVER


@pytest.mark.parametrize("mask", [0x60F, 0x3F, 0])
def test_speakers_survive(tmp_path, rng, mask):
    path, audio = tmp_path / "a.wav", 0.1 * rng.standard_normal((100, 6))
    sf.write(path, audio, 48000, "PCM_24", format="WAVEX")
    content = bytearray(path.read_bytes())
    content[40:44] = mask.to_bytes(4, "little")
    path.write_bytes(content)
    assert found_in(path)[b"fmt "][20:24] == found_in(restore(path, audio))[b"fmt "][20:24] == (
        mask.to_bytes(4, "little"))


def test_a_disk_that_fills_while_tags_are_written_is_no_success(tmp_path, audio, monkeypatch):
    path = tmp_path / "a.flac"
    sf.write(path, audio, 44100)

    def save(*_, **__):
        raise mutagen.MutagenError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(flac.FLAC, "save", save)
    with pytest.raises(OSError, match="No space left on device"):
        restore(path, audio)


def picture() -> flac.Picture:
    cover = flac.Picture()
    cover.type, cover.mime, cover.data = 3, "image/png", COVER
    return cover


def test_tags_and_pictures_of_flac_survive(tmp_path, audio):
    path = tmp_path / "a.flac"
    sf.write(path, audio, 44100)
    file = flac.FLAC(path)
    file["TITLE"], file["comment"] = ["Side A", "two"], "mine"
    file["WAVEFORMATEXTENSIBLE_CHANNEL_MASK"] = "0x4"
    file.add_picture(picture())
    sheet = flac.CueSheet(None)
    sheet.tracks = [flac.CueSheetTrack(1, 0), flac.CueSheetTrack(170, 1001)]
    file.cuesheet = sheet
    file.metadata_blocks.append(sheet)
    file.save()
    around, front = apev2.APEv2(), id3.ID3()
    around.update({"Title": "no", "Label": "HMV", "MP3GAIN_UNDO": "1"})
    front.add(id3.TIT2(encoding=3, text=["no"]))
    front.add(id3.TXXX(encoding=3, desc="Matrix=\xe9", text=["17"]))
    for tag in (around, front):
        tag.save(path)
    kept = flac.FLAC(restore(path, audio))
    assert kept["label"] == ["HMV"] and kept["matrix__"] == ["17"] and "mp3gain_undo" not in kept
    assert kept["title"] == ["Side A", "two"] and kept["comment"] == ["mine", HISTORY]
    assert kept["WAVEFORMATEXTENSIBLE_CHANNEL_MASK"] == ["0x4"]
    assert [block.data for block in kept.pictures] == [COVER]
    assert [track.start_offset for track in kept.cuesheet.tracks] == [0, 1001]


@pytest.mark.parametrize("ending", ["wav", "aiff", "caf", "au"])
def test_a_tag_behind_the_samples_is_copied_or_reported(tmp_path, audio, caplog, ending):
    path = tmp_path / f"a.{ending}"
    sf.write(path, audio, 44100)
    tag = apev2.APEv2()
    tag.update({"Label": "HMV", "MP3GAIN_UNDO": "1"})
    tag.save(path)
    kept = mutagen.File(restore(path, audio))
    if ending in ("wav", "aiff"):
        assert kept["TXXX:label"] == "HMV" and len(kept) == 1
    assert ("are lost: label" in caplog.text) == (ending in ("caf", "au"))


def test_tags_and_chapters_of_ogg_files_become_those_of_a_wave_file(tmp_path, audio):
    path = tmp_path / "a.ogg"
    sf.write(path, np.tile(audio, (60, 1)), 44100)
    file = mutagen.File(path)
    names = ("Verse", "Refrain", "Caf\xe9")
    file["TITLE"], file["matrix"] = "Side A", "17"
    file["metadata_block_picture"] = [base64.b64encode(picture().write()).decode(), "?"]
    for number, title in enumerate(names):
        file[f"CHAPTER{number:03d}"] = f"00:00:0{number / 2:.3f}"
        file[f"CHAPTER{number:03d}NAME"] = title
    file.save()
    result = restore(path, sf.read(path, always_2d=True)[0])
    tags, kept = mutagen.File(result).tags, found_in(result)
    assert tags["TIT2"].text == ["Side A"] and tags["TXXX:matrix"].text == ["17"]
    assert tags["APIC:"].data == COVER and tags["COMM:denoised:eng"].text == [HISTORY]
    points = [struct.unpack("<II4sIII", kept[b"cue "][place : place + 24])
              for place in range(4, len(kept[b"cue "]), 24)]
    assert points == [(number, place, b"data", 0, 0, place) for number, place in
                      ((1, 0), (2, 22050), (3, 44100))]
    assert kept[b"LIST"] == b"adtl" + b"".join(
        little(b"labl", number.to_bytes(4, "little") + title.encode() + b"\0")
        for number, title in enumerate(names, start=1))


def test_what_a_caf_file_holds_survives(tmp_path, rng):
    """Its speakers, its marks with their names, and its texts, to which the history is added."""
    path, audio = tmp_path / "a.caf", 0.1 * rng.standard_normal((1001, 3))
    sf.write(path, audio, 48000, "PCM_24")
    held = {b"chan": (113 << 16 | 3).to_bytes(4, "big") + bytes(8),
            b"mark": bytes(8) + b"\0\0\0\1" + bytes(40), b"strg": bytes(4),
            b"info": b"\0\0\0\3title\0Side A\0REPLAYGAIN_TRACK_GAIN\0-3\0comments\0odd\0"}
    chunks.append_chunks(path, [*held.items(), (b"ovvw", b"of the old samples")])
    assert len(sf.read(path)[0]) == 1001
    kept = found_in(restore(path, audio))
    assert all(kept[name] == held[name] for name in (b"chan", b"mark", b"strg"))
    assert kept[b"info"] == (b"\0\0\0\2title\0Side A\0comments\0odd; " + HISTORY.encode() + b"\0")
    assert b"ovvw" not in kept
    with av.open(str(tmp_path / "out.caf")) as made:
        assert made.metadata["title"] == "Side A"
        assert made.metadata["comments"] == f"odd; {HISTORY}"
        assert [channel.name for channel in made.streams.audio[0].layout.channels] == [
            "FL", "FR", "FC"]
    with sf.SoundFile(path, "w", 48000, 1) as file:
        file.comment = "libsndfile's"
        file.write(audio[:, :1])
    with sf.SoundFile(restore(path, audio[:, :1])) as file:
        assert file.comment == f"libsndfile's; {HISTORY}"


def test_a_bw64_file_stays_rf64_with_its_chunks(tmp_path, audio):
    path = tmp_path / "a.wav"
    sf.write(path, audio, 48000, "PCM_16", format="RF64")
    chunks.append_chunks(path, [(b"axml", b"<axml/>"), (b"chna", bytes(44))])
    path.write_bytes(b"BW64" + path.read_bytes()[4:])
    assert open_recording(path).container == "RF64"
    kept = found_in(restore(path, audio))
    assert kept[b"axml"] == b"<axml/>" and kept[b"chna"] == bytes(44)


def test_what_does_not_fit_is_refused_and_the_file_left_whole(tmp_path, audio, monkeypatch):
    path = tmp_path / "a.wav"
    sf.write(path, audio, 44100)
    before = path.read_bytes()
    monkeypatch.setattr(chunks, "MAX_RIFF_BYTES", len(before))
    with pytest.raises(UserError, match="larger than its format allows"):
        metadata.carry_over(open_recording(path), path, Format("WAV", "PCM_16", ".wav"), HISTORY)
    assert path.read_bytes() == before


def test_a_list_of_texts_gets_the_comment_and_keeps_all_else(tmp_path, audio):
    path = tmp_path / "a.wav"
    sf.write(path, audio, 44100)
    kept = little(b"IARL", b"Shelf 7\0") + little(b"ISRC", b"odd")
    chunks.append_chunks(path, [(b"LIST", b"INFO" + kept + little(b"ICMT", b"worn\0"))])
    found = found_in(restore(path, audio))[b"LIST"]
    assert found == b"INFO" + kept + little(b"ICMT", b"worn; " + HISTORY.encode() + b"\0")


def test_chunks_that_lie_about_their_size_are_left_out(tmp_path, audio):
    path = tmp_path / "a.wav"
    sf.write(path, audio, 44100)
    content = path.read_bytes()
    for lie in (b"cue \xff\xff\xff\x7f1234", b"LIST", b"LIST\x08\0\0\0INFOICMT"):
        path.write_bytes(content + lie)
        assert b"cue " not in found_in(restore(path, audio))


def test_samples_are_not_taken_for_chunks(tmp_path, audio):
    """Where a recorder was cut off, its samples have no size; others have bytes behind them."""
    path = tmp_path / "a.wav"
    chunk = little(b"cue ", CUE)  # samples may happen to be anything
    sf.write(path, audio, 44100)
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + bytes(4) + chunk + whole[44:])
    assert list(found_in(path)) == [b"fmt "]
    odd = whole[:40] + (5).to_bytes(4, "little") + b"12345"
    for padding in (b"", b"\0"):  # some programs leave it out
        path.write_bytes(odd + padding + chunk)
        assert found_in(path)[b"cue "] == CUE
    path.write_bytes(whole[:40] + bytes(4))  # an honest file without any
    assert found_in(path) == {b"fmt ": whole[20:36], b"data": b""}
    path.write_bytes(whole + bytes(len(whole) % 2) + little(b"\1\0\2\0", b"1234") + chunk)
    assert list(found_in(path)) == [b"fmt ", b"data"]
