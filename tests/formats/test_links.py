"""Tests of links: recordings that were joined by writing one file behind the other."""

import io

from historical_denoiser.formats.links import Section


def test_a_section_is_a_file_of_its_own(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(20)))
    with Section(path, 5, 15) as section:
        assert section.read() == bytes(range(5, 15)) and section.tell() == 10
        assert section.seek(-3, io.SEEK_END) == 7 and section.read(9) == bytes((12, 13, 14))
        assert section.seek(2) == 2 and section.seek(3, io.SEEK_CUR) == 5
        assert section.read(1) == bytes((10,))
        assert section.seek(30) == 30 and section.read(1) == b""
