"""Intervals against what theory says, and tables against their rows."""

import numpy as np
import pytest
import scipy.stats

from historical_denoiser.bench.intervals import Comparison, Table, mean, middle


def test_the_interval_is_near_that_of_students_t(rng):
    values = rng.normal(3.0, 2.0, 60)
    found = mean(values)
    low, high = scipy.stats.t.interval(0.95, 59, values.mean(), scipy.stats.sem(values))
    assert found.value == pytest.approx(values.mean()) and found.items == 60
    assert found.low == pytest.approx(low, abs=0.1) and found.high == pytest.approx(high, abs=0.1)
    assert mean(values) == found


@pytest.mark.parametrize(("values", "text"), [
    ([], "-"), ([float("nan")], "-"), ([1.5], "1.50"), ([2.0, 2.0, 2.0], "2.00 [2.00, 2.00]"),
    ([float("inf"), float("inf")], "inf"), ([-np.inf, -np.inf], "-inf"), ([np.inf, -np.inf], "-"),
    ([1.0, float("nan")], "1.00 (1 of 2)"), ([2.0, 2.0, np.inf], "2.00 [2.00, 2.00] (2 of 3)"),
    ([np.inf, np.nan], "inf (1 of 2)")])
def test_means_of_little(values, text):
    assert str(mean(values)) == text
    assert middle(values).short() == text.replace(" [2.00, 2.00]", "")


def test_every_table_states_which_items_a_mean_leaves_out(rows):
    """Item 3 has no SNR gain with one method; the other failed on items 5 and 6."""
    rows[3]["snr_gain_db"] = float("-inf")
    fewer = [row for row in rows if row["method"] == "a" or row["item"] not in (5, 6)]
    tables = Comparison(fewer).tables(("snr_gain_db",))
    gains, over, of_music, by_noise, _ = tables
    for table in (gains, of_music, by_noise):
        assert [row[1].partition(" (")[2] for row in table.rows] == ["39 of 40)", "38 of 40)"]
    assert over.rows[1][1].endswith("(37 of 40)")


@pytest.fixture
def rows(rng):
    """Two methods on 40 items that differ much from each other; the second is 1 dB better."""
    hard = rng.normal(5.0, 4.0, 40)
    small = rng.normal(1.0, 0.1, 40)
    measures = {"energy_db": 0.0, "residual_correlation": 0.05, "clean_si_sdr_db": 40.0,
                "noise_left_db": -30.0}
    return [{"method": method, "item": item, "category": "music", "input_snr_db": 10.0,
             "noise": "tape hiss", "snr_gain_db": gain, **measures}
            for method, gains in (("a", hard), ("b", hard + small))
            for item, gain in enumerate(gains)]


def test_differences_are_those_of_the_same_items(rows):
    comparison = Comparison(rows)
    assert comparison.methods == ["a", "b"]
    alone = comparison.mean("b", "snr_gain_db")
    paired = comparison.difference("b", "snr_gain_db", category="music")
    assert paired.value == pytest.approx(1.0, abs=0.05)
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)
    # An item that one method left out does not count.
    less = [row for row in rows if row["method"] == "a" or row["item"] < 10]
    assert Comparison(less).difference("b", "snr_gain_db").items == 10


def test_tables_have_a_line_for_each_method(rows):
    tables = Comparison(rows).tables(("snr_gain_db", "energy_db", "visqol"))
    gains, over, of_music, by_noise, guards = tables
    assert gains.header == ["method", "music at 10 dB"]
    assert over.rows[0] == ["a", "0.00 [0.00, 0.00]"]
    assert of_music.header == ["method", "snr_gain_db", "energy_db"]
    assert by_noise.header == ["method", "tape hiss"]
    assert [row[0] for row in guards.rows] == ["a", "b"]
    assert guards.rows[0][1:] == ["40.00 pass", "-30.00 pass", "0.00 pass", "0.05 pass"]
    expected = np.mean([row["snr_gain_db"] for row in rows if row["method"] == "a"])
    assert of_music.rows[0][1] == f"{expected:.2f}"


def test_markdown_holds_together():
    text = Table("Title", ["a", "b"], [["x|y", "1"]]).markdown()
    assert text.splitlines() == ["**Title**", "", "| a | b |", "| --- | --- |", "| x\\|y | 1 |"]
