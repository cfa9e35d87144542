"""Tests of matroska: where the shape of pictures is written, and where there is no room."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest
from film_samples import Sound, packets_of, write_film

from historical_denoiser.formats.matroska import set_display_sizes


def test_a_shape_is_written_and_nothing_moves(tmp_path):
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("aac")], 0.5, chapters=True, attachment=True)
    before, packets = path.read_bytes(), packets_of(path)
    assert set_display_sizes(path, [None]) and path.read_bytes() == before
    assert set_display_sizes(path, [(300, 169)])
    assert len(path.read_bytes()) == len(before) and packets_of(path) == packets
    with av.open(str(path)) as film:
        assert film.streams.video[0].sample_aspect_ratio == Fraction(300 * 48, 169 * 64)
        assert [chapter["metadata"]["title"] for chapter in film.chapters()] == [
            "Reel 1", "Reel 2"]
        assert len(film.streams.attachments) == 1


@pytest.mark.parametrize("sizes", [[], [(96, 48), (96, 48)]])
def test_other_tracks_than_expected_are_left_alone(tmp_path, sizes):
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("aac")], 0.5)
    before = path.read_bytes()
    assert not set_display_sizes(path, sizes) and path.read_bytes() == before


def test_without_room_nothing_is_written(tmp_path):
    """A second time there is none; nor is there in what is no Matroska file."""
    path = tmp_path / "a.mkv"
    write_film(path, "matroska", [Sound("aac")], 0.5)
    assert set_display_sizes(path, [(96, 48)])
    before = path.read_bytes()
    assert not set_display_sizes(path, [(90, 48)]) and path.read_bytes() == before
    for content in (b"", b"no Matroska at all" * 100, bytes(1000), before[:300]):
        path.write_bytes(content)
        assert not set_display_sizes(path, [(96, 48)]) and path.read_bytes() == content
