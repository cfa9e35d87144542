"""Tests of odd files: joined, damaged, of coded sound, of an absurd form, with old statements."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from audio_samples import write_audio
from film_samples import Sound, write_film

from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import audio_io, chunks, containers, film
from historical_denoiser.formats.audio_io import Writer, output_format
from historical_denoiser.formats.coded import require_sound
from historical_denoiser.formats.integrity import find_damage
from historical_denoiser.formats.metadata import carry_over


def read_all(path) -> np.ndarray:
    return np.concatenate(list(containers.read_blocks(containers.open_audio(path), True)))


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_24"),
                                               ("a.ogg", "VORBIS"), ("a.opus", "OPUS")])
def test_joined_recordings_are_read_to_their_end(tmp_path, name, subtype):
    path, parts, wanted = tmp_path / name, [], []
    form = {"subtype": subtype, "format": "OGG" if "a.o" < name < "a.w" else name[2:]}
    for seconds in (0.5, 2.5, 0.25):
        write_audio(path, seconds, 48000, 2, **form)
        parts.append(path.read_bytes())
        wanted.append(sf.read(path)[0])
    path.write_bytes(b"".join(parts))
    recording = containers.open_audio(path)
    np.testing.assert_allclose(read_all(path), np.concatenate(wanted), atol=1e-12)
    assert find_damage(recording) is None
    samples = sum(map(len, wanted))
    output = output_format(recording, samples)
    result = tmp_path / f"out{output.ending}"
    with Writer(result, 48000, 2, output) as writer:
        for block in containers.read_blocks(recording):
            writer.write(block)
    carry_over(recording, result, output, "denoised")
    assert sf.info(result).frames == samples  # nothing of the others was taken for a chunk
    write_audio(path, 0.5, 48000, 1, **form)
    path.write_bytes(parts[0] + path.read_bytes())
    with pytest.raises(UserError, match=f"after 0.5 s begins another recording, of .* split the "
                                        f"file at byte {len(parts[0])}"):
        read_all(path)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_damage_within_a_flac_file_costs_its_frame_alone(tmp_path, caplog, place):
    path = tmp_path / "a.flac"
    write_audio(path, 6.0, channels=2)
    wanted, content = sf.read(path)[0], bytearray(path.read_bytes())
    content[round(place * len(content))] ^= 0x10
    path.write_bytes(content)
    found = read_all(path)
    assert len(found) == len(wanted)
    wrong = np.flatnonzero(np.any(found != wanted, axis=1))
    assert 0 < len(wrong) and np.ptp(wrong) < 2 * 4608
    assert not found[wrong].any()
    assert "packets of the audio track are damaged" in caplog.text


def test_a_flac_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.flac"
    write_audio(path, 6.0)
    wanted, size = sf.read(path, always_2d=True)[0], path.stat().st_size
    path.write_bytes(path.read_bytes()[:size // 2])
    found = read_all(path)
    assert 0.4 < len(found) / len(wanted) < 0.6
    np.testing.assert_array_equal(found[:-4608], wanted[:len(found) - 4608])


def test_a_flac_file_whose_header_has_too_few_channels_is_refused(tmp_path):
    path = tmp_path / "a.flac"
    write_audio(path, 2.0, channels=2)
    content = bytearray(path.read_bytes())
    content[20] &= 0b11110001  # the number of channels, less 1, of the frames that follow
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.flac: the file is damaged after 0\.0 s"):
        read_all(path)


def as_coded(rng, mark: tuple[int, int], every: int) -> np.ndarray:
    words = rng.integers(-2**15, 2**15, (96000, 2)).astype(np.int16)
    words[::every] = np.array(mark, np.uint16).astype(np.int16)
    return words


@pytest.mark.parametrize(("mark", "name"), [((0x7FFE, 0x8001), "DTS"), ((0x1FFF, 0xE800), "DTS"),
                                            ((0xF872, 0x4E1F), "S/PDIF")])
@pytest.mark.parametrize("ending", ["wav", "flac", "caf", "mov"])
def test_coded_sound_is_refused(tmp_path, rng, mark, name, ending):
    path = tmp_path / f"a.{ending}"
    sound = as_coded(rng, mark, 1024)
    sf.write(tmp_path / "a.wav", sound, 48000)
    if ending == "mov":
        import av
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=48000, layout="stereo")
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), "s16", "stereo")
            frame.sample_rate = 48000
            container.mux(stream.encode(frame))
    elif ending != "wav":
        sf.write(path, sound, 48000, "PCM_16")
    with pytest.raises(UserError, match=rf"a\.{ending}: its samples are coded sound \({name}\)"):
        read_all(path)


def test_samples_beyond_all_scales_are_no_coded_sound():
    with np.errstate(all="raise"):
        require_sound(Path("a.au"), np.array([[1e305, np.inf], [np.nan, -1e308]]))


def test_noise_is_not_taken_for_coded_sound(tmp_path, rng):
    path = tmp_path / "a.wav"
    for sound in (rng.integers(-2**15, 2**15, (48000, 2)).astype(np.int16),
                  np.zeros((48000, 2), np.int16)):
        sf.write(path, sound, 48000)
        assert len(read_all(path)) == 48000


@pytest.mark.parametrize("rate", [1, 10, 999, 500_000_000])
def test_absurd_rates_are_refused(tmp_path, rate):
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(1000), rate)
    with pytest.raises(UserError, match=rf"the sample rate must be 1000 to 1000000 Hz. Received: "
                                        rf"{rate} Hz"):
        containers.open_audio(path)


def test_what_describes_the_old_samples_is_not_copied(tmp_path, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "a.wav"
    audio = write_audio(path, 0.5)
    broadcast = bytearray(602) + b"A=ANALOGUE\r\n"
    broadcast[348:412] = b"\1" * 64
    broadcast[412:422] = b"\2" * 10
    chunks.append_chunks(path, [(b"bext", bytes(broadcast)), (b"MD5 ", b"\3" * 16),
                                (b"levl", b"\4" * 120), (b"umid", b"\5" * 64), (b"iXML", (
                                    b"<BWFXML><BWF_UMID>00</BWF_UMID><BWF_LOUDNESS_VALUE>-20"
                                    b"</BWF_LOUDNESS_VALUE></BWFXML>"))])
    recording = audio_io.open_recording(path)
    output = output_format(recording, len(audio))
    result = tmp_path / "out.wav"
    with Writer(result, recording.rate, 1, output) as writer:
        writer.write(audio)
    carry_over(recording, result, output, "denoised")
    with result.open("rb") as file:
        found = {chunk[0]: chunks.content_of(file, chunk) for chunk in chunks.find_chunks(file)}
    assert not {b"MD5 ", b"levl", b"umid"} & set(found)
    assert found[b"iXML"] == b"<BWFXML></BWFXML>"
    assert "left out, as they describe the old samples: MD5, levl, umid" in caplog.text
    assert found[b"bext"][348:412] == bytes(64)
    assert found[b"bext"][412:422] == b"\xff\x7f" * 5


def test_tags_of_levels_are_not_copied(tmp_path):
    import mutagen

    path, result = tmp_path / "a.flac", tmp_path / "out.flac"
    write_audio(path, 0.5)
    shutil.copy(path, result)
    tags = mutagen.File(path)
    tags.update({"title": "Side A", "replaygain_track_gain": "-3 dB", "R128_TRACK_GAIN": "7"})
    tags.save()
    recording = audio_io.open_recording(path)
    carry_over(recording, result, output_format(recording, 22050), "denoised")
    assert dict(mutagen.File(result)) == {"title": ["Side A"], "comment": ["denoised"]}


def test_a_track_without_a_layout_gets_the_usual_one(tmp_path):
    path = tmp_path / "a.avi"
    write_film(path, "avi", [Sound("adpcm_ima_wav", 44100, "mono")], 1.0)
    track = containers.open_track(path)
    job = film.choose_format(track)
    assert (track.layout, job.encoder) == ("1 channels", "libmp3lame")
    assert film.encoder_delay(track, job, 128000) > 0  # it can be encoded
