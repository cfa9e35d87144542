"""Means and single mixtures are held against the limits."""

import pytest

from historical_denoiser.training import guards


def rows_of(**changes):
    """Rows that keep to every limit, with the changes in those of music at 3 dB."""
    good = {"clean_si_sdr_db": 35.0, "noise_left_db": -30.0, "energy_db": -0.1,
            "residual_correlation": 0.05, "snr_gain_db": 4.0}
    return [{"category": category, "noise": f"tape {snr}", "input_snr_db": snr, **good,
             **(changes if (category, snr) == ("music", 3.0) else {})}
            for category in ("effects", "music", "speech") for snr in (3.0, 20.0) for _ in range(2)]


@pytest.mark.parametrize(("changes", "failed", "where"), [
    ({}, None, None), ({"clean_si_sdr_db": 20.0}, 0, "music"),
    ({"noise_left_db": -9.0}, 1, "tape 3.0"), ({"energy_db": -0.6}, 2, "music at 3 dB"),
    ({"energy_db": 0.6}, 2, "music at 3 dB"), ({"residual_correlation": 0.14}, None, None),
    ({"residual_correlation": 0.16}, 3, "music at 3 dB"),
    ({"energy_db": float("nan")}, 2, "music at 3 dB")])
def test_guards_find_the_worst_mean_and_hold_it_against_its_limit(changes, failed, where):
    found = guards.check_guards(rows_of(**changes))
    assert [place for place, guard in enumerate(found) if not guard.passes] == (
        [] if failed is None else [failed])
    table = guards.format_guards(found)
    assert table.count("| pass |") == 4 - (failed is not None)
    if failed is not None:
        assert found[failed].where == where
        assert "FAIL" in table.splitlines()[2 + failed]


def test_every_mixture_is_held_against_the_limits():
    """Of two mixtures whose mean passes, both fail."""
    rows = [{**row, "energy_db": 2.0 * (-1) ** number}
            for number, row in enumerate(rows_of(residual_correlation=0.16))]
    assert guards.check_guards(rows)[2].passes
    kept, left, energy, correlation = guards.check_guards(rows, each_item=True)
    assert kept.passes and left.passes
    assert (energy.broken, energy.count) == (12, 12)
    assert (correlation.broken, correlation.limit) == (2, 0.15)
    assert correlation.where == "item 4, music with tape 3.0 at 3 dB"
    assert "| FAIL: 2 of 12 |" in guards.format_guards([correlation])
