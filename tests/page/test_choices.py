"""What can be chosen on the page is what the command line has."""

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_corpus import composed

from historical_denoiser.page import choices
from historical_denoiser.page.sounds import Sound
from historical_denoiser.run.findings import Finding

FOUND = [Finding("noise", "1 < 2 dB", {}, ("inference.noise_profile=[0.50,1.50]",)),
         Finding("hum", "none", {})]


def test_findings_are_a_table_and_suggestions_set_the_controls():
    handlers = pytest.importorskip("historical_denoiser.page.answers", exc_type=ImportError,
                                 reason="the page needs requirements-app.txt")
    assert choices.as_table(FOUND) == ("<table><tr><th>noise</th><td>1 &lt; 2 dB</td></tr>"
                                       "<tr><th>not found</th><td>hum</td></tr></table>")
    ((label, setting),) = choices.suggestions(FOUND)
    assert setting in label
    answers = handlers.Answers(SimpleNamespace(settings=lambda carrier: SimpleNamespace(
        declick=f"as for {carrier}")))
    assert answers.take([setting], [])[2:5] == (handlers.MARKED_PROFILE, 0.5, 1.5)
    assert answers.take([], [setting])[2] == handlers.NO_PROFILE
    assert answers.take(["carrier=lp"], [])[1::4] == ("lp", "as for lp")
    first, *others = choices.carriers()
    assert first == ("Unknown (auto)", "auto")
    assert ("Compact cassettes (cassette)", "cassette") in others and len(others) == 9


def test_an_excerpt_is_the_loudest_the_quietest_that_is_not_silent_or_where_the_player_stands(
        tmp_path):
    def start(which: str, *levels: int, position: float = 0.0) -> float:
        np.repeat(levels, 1000).astype("<u2").tofile(tmp_path / "a.peaks")  # ten seconds each
        return choices.excerpt_start(which, Sound(
            tmp_path / "a", 8000, 1, 80000 * len(levels), []), position)

    levels = (0, 300, 20, 9000, 300, 0)
    assert start(choices.LOUDEST, *levels) == 30.0 and start(choices.QUIETEST, *levels) == 20.0
    assert start(choices.QUIETEST, 0, 0) == 0.0 and start(choices.LOUDEST, 5) == 0.0
    assert start(choices.POSITION, *levels, position=12.3) == 12.3
    assert start(choices.POSITION, *levels, position=58.0) == 50.0


def test_the_command_has_the_settings_of_the_run_and_no_defaults():
    settings = choices.settings_of(
        composed().inference, (), "cassette", ["inference.repair=[gaps,clipping]"],
        denoising_strength=0.4, noise_profile=[0.5, 1.5], declick="strong",
        keep_clicks="/tmp/root/side A_clicks.csv")
    line = choices.command_of(Path("/tmp/root/side A.wav"), settings, "carrier=cassette",
                              "method=lsa")
    first, name, *words = shlex.split(line)
    assert (first, name, len(words)) == ("denoise", "side A.wav", 7) and "/tmp" not in line
    cfg = composed(*words)
    assert (cfg.carrier, cfg.method) == ("cassette", "lsa")
    assert cfg.inference == replace(settings, keep_clicks="side A_clicks.csv")


def test_the_address_sets_what_is_offered_and_nothing_else():
    usual, offered = {"carrier": "auto", "strength": 1.0}, {"carrier": ["auto", "lp"]}
    query = {"carrier": "lp", "strength": "0.4", "__theme": "dark"}
    assert choices.read_address(query, usual, offered) == ({"carrier": "lp", "strength": 0.4}, [])
    for strength in ("2", "nan", "-1", "", "1e400", "1_0"):
        found, wrong = choices.read_address(query | {"carrier": "<b>", "strength": strength}, usual,
                                            offered)
        assert found == {} and wrong == ["carrier=<b>", f"strength={strength}"]
