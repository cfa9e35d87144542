"""Tests of audio_io: reading and writing of recordings."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from small_corpus import forget_length, write_tone

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import audio_io

SECOND = 0.1 * np.ones((SAMPLE_RATE, 2))


def read_all(path: Path) -> np.ndarray:
    return np.concatenate(list(audio_io.read_blocks(audio_io.open_recording(path))))


# --- Headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "AIFF", "RF64", "W64", "AU"])
def test_the_header_of_a_truncated_file_gives_its_former_length(tmp_path, container):
    path = tmp_path / "a"
    sf.write(path, SECOND, SAMPLE_RATE, "PCM_16", format=container)
    whole = path.read_bytes()
    assert audio_io.open_recording(path).header_samples == SAMPLE_RATE
    path.write_bytes(whole[: len(whole) // 3])
    recording = audio_io.open_recording(path)
    assert recording.header_samples == pytest.approx(SAMPLE_RATE, abs=100)
    assert len(read_all(path)) == pytest.approx(SAMPLE_RATE / 3, abs=100)
    path.write_bytes(whole + bytes(1000))  # what a program adds behind the audio
    assert audio_io.open_recording(path).header_samples == pytest.approx(SAMPLE_RATE, abs=250)


@pytest.mark.parametrize(("container", "sizes", "order"), [
    ("WAV", {4: 0xFFFFFFFF, 40: 0xFFFFFFFF}, "little"),
    ("WAV", {4: 0x7FFFF024, 40: 0x7FFFF000}, "little"),
    ("WAV", {4: 0x7FFFFFFF, 40: 0x7FFFFFDB}, "little"),
    ("WAV", {4: 0}, "little"),
    ("AIFF", {4: 0x7FFFFFFF, 42: 0x7FFFFFD1}, "big"),
    ("AIFF", {4: 0}, "big"),
    ("AU", {8: 0xFFFFFFFF}, "big"),
])
def test_a_size_that_was_unknown_when_the_header_was_written_is_no_promise(
        tmp_path, container, sizes, order):
    path = tmp_path / "a"
    sf.write(path, SECOND, SAMPLE_RATE, "PCM_16", format=container)
    content = bytearray(path.read_bytes())
    for place, size in sizes.items():
        content[place : place + 4] = size.to_bytes(4, order)
    path.write_bytes(content)
    assert audio_io.open_recording(path).header_samples == SAMPLE_RATE
    assert len(read_all(path)) == SAMPLE_RATE


def test_a_header_that_denies_its_audio_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, SECOND, SAMPLE_RATE, "PCM_16")
    path.write_bytes(path.read_bytes()[:44])
    with pytest.raises(ValueError, match=r"a\.wav: no audio can be read"):
        audio_io.open_recording(path)
    sf.write(path, SECOND[:0], SAMPLE_RATE, "PCM_16")  # an honest file without any
    assert audio_io.open_recording(path).header_samples == 0 and len(path.read_bytes()) == 44


@pytest.mark.parametrize("seconds", [0.5, 25.0])  # within a block, and over several
def test_a_flac_file_of_unknown_length_is_read_to_its_end(tmp_path, rng, seconds):
    path = tmp_path / "a.flac"
    audio = rng.uniform(-0.5, 0.5, (round(seconds * SAMPLE_RATE), 1))
    sf.write(path, audio, SAMPLE_RATE)
    expected = read_all(path)
    forget_length(path)
    assert sf.info(path).frames >= audio_io.UNKNOWN_SAMPLES
    assert audio_io.open_recording(path).header_samples == 0
    np.testing.assert_array_equal(read_all(path), expected)


@pytest.mark.skipif(os.name != "posix", reason="names are Unicode elsewhere")
def test_a_name_need_not_be_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    output = audio_io.Format("WAV", "FLOAT", ".wav")
    with audio_io.Writer(path, SAMPLE_RATE, 2, output) as writer:
        writer.write(SECOND)
    np.testing.assert_allclose(read_all(path), SECOND)


# --- Samples ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 20, 24, 32])
def test_apples_lossless_codec_is_read_as_it_is(tmp_path, bits):
    path = tmp_path / "a.caf"
    steps = np.round(0.3 * 2 ** (bits - 1) * np.sin(np.arange(5000) / 20.0)).astype(np.int64)
    sf.write(path, (steps << (32 - bits)).astype(np.int32), SAMPLE_RATE, f"ALAC_{bits}")
    np.testing.assert_array_equal(read_all(path)[:, 0], steps / 2.0 ** (bits - 1))


@pytest.mark.parametrize(("name", "container", "subtype", "expected"), [
    ("a.wav", "RF64", "PCM_16", ("RF64", "PCM_16", ".wav")),
    ("a.wav", "AIFF", "PCM_24", ("AIFF", "PCM_24", ".aiff")),
    ("a.mp3", "WAV", "PCM_16", ("WAV", "PCM_16", ".wav")),
    ("a.WAV", "WAVEX", "FLOAT", ("WAVEX", "FLOAT", ".WAV")),
    ("a", "FLAC", "PCM_24", ("FLAC", "PCM_24", ".flac")),
    ("a.side1", "WAV", "PCM_16", ("WAV", "PCM_16", ".side1")),
    ("a.caf", "CAF", "ALAC_16", ("CAF", "PCM_16", ".caf")),
    ("a.voc", "VOC", "PCM_U8", ("WAV", "PCM_U8", ".wav")),
    ("a.side1", "OGG", "VORBIS", ("WAV", "PCM_24", ".wav")),
])
def test_output_format(name, container, subtype, expected):
    recording = audio_io.Recording(Path(name), 44100, 2, 100, container, subtype)
    form = audio_io.output_format(recording, 100)
    assert (form.container, form.subtype, form.ending) == expected


@pytest.mark.parametrize(("subtype", "sample_bytes"), [("PCM_24", 3), ("FLOAT", 4), ("DOUBLE", 8)])
def test_a_result_that_is_too_long_for_wav_becomes_rf64(subtype, sample_bytes):
    recording = audio_io.Recording(Path("a.wav"), 48000, 6, 0, "WAV", subtype)
    longest = audio_io.MAX_WAV_BYTES // (6 * sample_bytes)
    assert audio_io.output_format(recording, longest).container == "WAV"
    assert audio_io.output_format(recording, longest + 1).container == "RF64"


def test_a_file_that_vanished_after_its_header_was_read_is_named(tmp_path):
    write_tone(tmp_path / "a.wav")
    recording = audio_io.open_recording(tmp_path / "a.wav")
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match=r"a\.wav: cannot be read any more"):
        next(audio_io.read_blocks(recording))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24"])
def test_few_bits_are_dithered(tmp_path, subtype):
    """Then the error has no harmonics, and means nothing; more bits are rounded."""
    step = 2.0 ** (1 - audio_io.BITS[subtype])
    tone = 0.7 * step * np.sin(2 * np.pi * 1000.0 * np.arange(96000) / 48000)[:, None]
    written = []
    output = audio_io.Format("WAV", subtype, ".wav")
    for seed in (5, 5, 6):
        with audio_io.Writer(tmp_path / "a.wav", 48000, 1, output, seed) as writer:
            written.append(np.concatenate([writer.write(part) for part in np.split(tone, 2)]))
    np.testing.assert_array_equal(written[0], written[1])
    error = (written[0] - tone)[:, 0] / step
    third = np.abs(np.fft.rfft(error))[3000 * 2] / len(error)
    if subtype == "PCM_24":
        np.testing.assert_array_equal(written[0], written[2])
        assert third > 0.05
        return
    assert np.any(written[0] != written[2])
    # One twelfth is rounding's power, two twelfths that of the noise; where the tone lies on a
    # step, neither is there.
    assert np.var(error) == pytest.approx(3.0 / 12.0, rel=0.05)
    assert third < 0.01
    with audio_io.Writer(tmp_path / "a.wav", 48000, 1, output, 5) as writer:
        assert not writer.write(np.zeros((100, 1))).any()


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
@pytest.mark.parametrize(("container", "subtype"), [
    ("FLAC", "PCM_16"), ("WAV", "PCM_24"), ("CAF", "FLOAT"), ("AIFF", "PCM_16")])
def test_a_disk_that_fills_up_at_the_very_end_is_reported(tmp_path, rng, container, subtype):
    """As within the last frame of a FLAC file, which is written when it is closed."""
    import resource

    audio, path = rng.uniform(-0.5, 0.5, (10000, 2)), tmp_path / "a"

    def write() -> None:
        with audio_io.Writer(path, 44100, 2, audio_io.Format(container, subtype, "")) as writer:
            writer.write(audio[:7000])
            writer.write(audio[7000:])

    write()
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for missing in (1, 2, 100, 2000, size // 2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, limits[1]))
        try:
            with pytest.raises(OSError, match="the results cannot be written there"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
