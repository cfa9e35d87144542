"""Tests of the manifest: the rule for clean clips, and tables."""

from dataclasses import make_dataclass

import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus.manifest import Row, is_clean, read_records


def make_row(**changes: object) -> Row:
    values = {"file": "a.flac", "category": "speech", "seconds": 2.0, "source": "", "licence": "",
              "group": "g", "split": "train", "floor_db": 50.0, "noise_db": 50.0, "noise_like": 0.0,
              "bandwidth_hz": 9000, "clipped": 0.0, "clean": 1, "original_rate": 44100}
    return Row(**(values | changes))


@pytest.mark.parametrize(("changes", "clean"), [
    ({}, True),
    ({"floor_db": 30.0}, True),  # no pauses, but the noise is low
    ({"floor_db": 30.0, "noise_db": 44.0}, False),
    ({"floor_db": 120.0, "noise_db": 40.0}, True),
    ({"floor_db": 120.0, "noise_db": 30.0}, False),  # gated, and noisy behind the gate
    ({"category": "music", "floor_db": 8.0}, True),
    ({"category": "effects", "floor_db": 120.0, "noise_db": 40.0}, False),
    ({"category": "effects", "floor_db": 6.0}, False),  # an engine
    ({"category": "effects", "floor_db": 6.0, "seconds": 1.0}, True),  # a beep
    ({"category": "music", "noise_like": 0.3}, False),  # a pad of filtered noise
    ({"category": "music", "noise_like": 0.3, "split": "test"}, True),
    ({"category": "effects", "noise_like": 0.8}, False),  # surf
    ({"category": "effects", "noise_like": 0.8, "seconds": 0.5}, True),  # a footstep
    ({"noise_like": 0.3}, True),  # whispered
    ({"clipped": 2e-4}, False),
    ({"seconds": 0.2}, False),
    ({"original_rate": 22050}, True),
    ({"original_rate": 16000}, False),
])
def test_the_rule_for_clean(changes, clean):
    assert is_clean(make_row(**changes)) is clean


@pytest.mark.parametrize(("lines", "message"), [
    ("one,two,three\n1,2,3\na,b\n", "3 cells.*'a', 'b'"),
    ("one,two,three\n1,2,3\na,b,c,d\n", "3 cells.*'a', 'b'"),
    ("one,tow,three\n1,2,3\n", "columns.*'one', 'tow'")])
def test_a_malformed_table_is_named(lines, message, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(lines, encoding="utf-8")
    with pytest.raises(UserError, match=f"table.csv.*{message}"):
        read_records(table, make_dataclass("Record", ["one", "two", "three"]))
