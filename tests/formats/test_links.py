"""Tests of links: recordings that were joined by writing one file behind the other."""

import io

import numpy as np
import pytest
import soundfile as sf

from historical_denoiser.formats.links import Section, find_links


@pytest.mark.parametrize(("container", "subtype"), [
    ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_each_recording_of_a_joined_file_is_found(tmp_path, rng, container, subtype):
    rate, parts = 48000, []
    for samples in (30001, 4800, 20000):
        file = io.BytesIO()
        sf.write(file, rng.uniform(-0.5, 0.5, (samples, 1)), rate, subtype, format=container)
        parts.append(file.getvalue() + b"\0" * (len(file.getvalue()) % 2 * (container == "WAV")))
    path = tmp_path / "joined"
    path.write_bytes(b"".join(parts))
    links = find_links(path, container)
    assert links == [(0, len(parts[0])), (len(parts[0]), len(parts[0]) + len(parts[1])),
                     (len(parts[0]) + len(parts[1]), path.stat().st_size)]
    for link, part in zip(links, parts, strict=True):
        wanted, _ = sf.read(io.BytesIO(part))
        np.testing.assert_array_equal(sf.read(Section(path, *link))[0], wanted)
    path.write_bytes(parts[0])
    assert find_links(path, container) == [(0, len(parts[0]))]


def test_a_section_is_a_file_of_its_own(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(20)))
    with Section(path, 5, 15) as section:
        assert section.read() == bytes(range(5, 15)) and section.tell() == 10
        assert section.seek(-3, io.SEEK_END) == 7 and section.read(9) == bytes((12, 13, 14))
        assert section.seek(2) == 2 and section.seek(3, io.SEEK_CUR) == 5
        assert section.read(1) == bytes((10,))
        assert section.seek(30) == 30 and section.read(1) == b""
