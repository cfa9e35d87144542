"""Tests of chunks: found in files, and added."""

import numpy as np
import pytest
import soundfile as sf

from historical_denoiser.formats import chunks


@pytest.mark.parametrize("container", ["WAV", "RF64", "AIFF", "CAF"])
@pytest.mark.parametrize("samples", [1000, 1001])  # the latter is padded
def test_what_is_added_is_found_and_the_samples_are_left_alone(tmp_path, container, samples):
    path = tmp_path / "a"
    audio = np.random.default_rng(3).integers(-100, 100, samples).astype(np.int16)
    sf.write(path, audio, 44100, "PCM_U8" if container in ("WAV", "RF64") else "PCM_S8",
             format=container)
    before = sf.read(path, dtype="int16")[0]
    added = [(b"odd ", b"123"), (b"even", b"1234")]
    chunks.append_chunks(path, added)
    with path.open("rb") as file:
        found = chunks.find_chunks(file)[-2:]
        assert [(chunk[0], chunks.content_of(file, chunk)) for chunk in found] == added
    np.testing.assert_array_equal(sf.read(path, dtype="int16")[0], before)


def test_a_caf_chunk_that_is_cut_off_or_lies_is_not_whole(tmp_path):
    path = tmp_path / "a.caf"
    sf.write(path, np.zeros(100), 44100, "PCM_16")
    whole = path.read_bytes()
    for lie, cut_off in ((b"mark" + (50).to_bytes(8, "big") + bytes(10), True),
                         (b"mark" + (2**63 - 1).to_bytes(8, "big"), True),
                         (b"mark" + (2**64 - 1).to_bytes(8, "big"), False), (b"mark", False)):
        path.write_bytes(whole + lie)
        with path.open("rb") as file:
            assert [name for name, *_ in chunks.find_chunks(file)] == [b"desc", b"free", b"data"]
            assert (b"mark" in [name for name, *_ in chunks.all_chunks(file)]) is cut_off
