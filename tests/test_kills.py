"""Runs that are killed leave nothing broken and can be gone on with; `tests/kills.py` ends more."""

from __future__ import annotations

import os

import kills
import numpy as np
import pytest

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")]


@pytest.mark.parametrize("method", ["lsa", "network"])
def test_a_run_that_goes_on_gives_what_one_that_nothing_disturbs_gives(tmp_path, method, tiny_run):
    settings = ["method=lsa"] if method == "lsa" else [f"path_experiment={tiny_run}"]
    counts, wrong = kills.kill_and_go_on(tmp_path, 2, np.random.default_rng(3), settings, 24.0)
    assert wrong == [] and counts["killed"] >= 2


def test_runs_that_are_ended_by_signals_leave_nothing_broken(tmp_path):
    counts, wrong = kills.kill_and_look(tmp_path, 3, np.random.default_rng(4), ["method=lsa"])
    assert wrong == [] and sum(counts[name] for name in counts if ":" in name) == 3
