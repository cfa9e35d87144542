"""Broken files are read or refused; `tests/fuzz.py` tries more of them, and denoises each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import fuzz
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES_PER_KIND = 230  # 2,070 in all
PLACES = st.integers(0, 1999).map(lambda thousandths: thousandths / 1000)
EDITS = st.lists(st.tuples(st.sampled_from(fuzz.KINDS), PLACES,
                           st.sampled_from(fuzz.VALUES) | st.binary(min_size=1, max_size=4)),
                 min_size=1, max_size=4)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return fuzz.originals(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("name", fuzz.NAMES)
def test_a_broken_file_is_read_or_refused(name, wholes, tmp_path_factory):
    """Any other error is the program's own mistake, which a user would see a traceback of."""
    path: Path = tmp_path_factory.mktemp("broken") / name
    outcomes: Counter[str] = Counter()

    @settings(max_examples=CASES_PER_KIND, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))
    @given(EDITS)
    def attempt(edits: list[fuzz.Edit]) -> None:
        path.write_bytes(fuzz.broken(wholes[name], edits))
        outcomes[fuzz.read(path)] += 1

    attempt()
    assert min(outcomes["read"], outcomes["refused"]) > 0  # both ways were tried


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.NAMES)
def test_a_broken_file_is_denoised_or_leaves_nothing(name, wholes, tmp_path):
    for case in range(40):
        (tmp_path / name).write_bytes(fuzz.broken(
            wholes[name], fuzz.draw_edits(np.random.default_rng([7, case]))))
        fuzz.denoise(tmp_path / name)


@pytest.mark.parametrize("name", ["a.w64", "a.caf"])
def test_a_header_that_leads_before_the_beginning_prints_nothing(tmp_path, capfd, name):
    """FFmpeg goes where it says; what PyAV makes of that must not reach the user."""
    whole = fuzz.originals(tmp_path, [name])[name]
    for case in range(150):
        (tmp_path / name).write_bytes(fuzz.broken(whole, fuzz.draw_edits(
            np.random.default_rng([77, 1200 + case]))))
        fuzz.read(tmp_path / name)
    assert "Traceback" not in capfd.readouterr().err
