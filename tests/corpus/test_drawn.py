"""Pieces that nobody wrote: what bounds they keep, and what each kind is drawn for."""

from collections import Counter

import numpy as np
import pytest

from historical_denoiser.corpus import band, held, lines, recorded_notes, scores
from historical_denoiser.corpus.performance import DRUMS, Stroke


def draw_pieces(kind, count):
    return [recorded_notes.DRAWN[kind].draw(np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("kind", recorded_notes.DRAWN)
def test_a_seed_is_a_drawn_piece_of_strokes_that_midi_has(kind):
    pieces = draw_pieces(kind, 4)
    assert pieces == draw_pieces(kind, 4) and pieces[0] != pieces[1]
    for stroke in (stroke for strokes in pieces for stroke in strokes):
        assert stroke.start >= 0.0 and stroke.seconds > 0.0
        assert 1 <= stroke.velocity <= 127 and 0 <= stroke.pitch <= 127


def test_bands_play_bass_lines_and_drums_within_reach():
    pieces = draw_pieces("band", 40)
    for strokes in pieces:
        end = max(stroke.start for stroke in strokes)
        assert 16 * 4 * 0.35 - 4.0 < end < 40 * 4 * 1.0
        low = {stroke.pitch for stroke in strokes if stroke.program != DRUMS and stroke.pitch < 49}
        assert len(low) > 1 and min(low) >= band.MIN_BASS  # a line, not a drone
    players = Counter(program for strokes in pieces
                      for program in {stroke.program for stroke in strokes})
    assert players[DRUMS] > 30 and len(players) > 25
    drums = {stroke.pitch for strokes in pieces for stroke in strokes if stroke.program == DRUMS}
    assert drums >= {*band.KICKS, *band.SNARES, *band.CYMBALS, *band.TOMS, band.CRASH}


def test_parts_of_a_band_rest():
    def bars_with(strokes, drums):
        beat = np.median(np.diff(sorted({stroke.start for stroke in strokes}))) / 0.5
        return {int(stroke.start / (4 * beat)) for stroke in strokes
                if (stroke.program == DRUMS) == drums}

    pieces = draw_pieces("band", 20)
    assert any(bars_with(strokes, False) - bars_with(strokes, True) for strokes in pieces)
    assert any(bars_with(strokes, True) - bars_with(strokes, False) for strokes in pieces)


def test_notes_of_a_held_bass_stand_for_seconds():
    pieces = draw_pieces("held", 60)
    for strokes in pieces:
        assert all(stroke.program != DRUMS for stroke in strokes)
        lowest = min(strokes, key=lambda stroke: stroke.pitch)
        assert held.MIN_BASS[0] <= lowest.pitch < held.MIN_BASS[1] + 12
        assert lowest.seconds >= 0.9 * held.BASS_SECONDS[0]
        assert held.PIECE_SECONDS[0] - 17.0 < max(stroke.start for stroke in strokes) < 80.0
    longest = [max(stroke.seconds for stroke in strokes) for strokes in pieces]
    assert np.mean(np.array(longest) > 4.0) > 0.7  # as long as a training item
    alone = [len({stroke.program for stroke in strokes}) == 1 for strokes in pieces]
    assert 0.05 < np.mean(alone) < 0.5


def test_held_pieces_do_not_test(tmp_path):
    renders = scores.list_renders(tmp_path, [], 0)
    splits = {kind: Counter(render.split for render in renders
                            if render.name.startswith(kind)) for kind in scores.DRAWN}
    assert splits["held"]["test"] == 0 < splits["held"]["validation"]
    assert splits["band"]["test"] > 0


def test_percussion_plays_alone():
    pieces = draw_pieces("percussion", 40)
    assert all(5.0 < max(stroke.start for stroke in piece) < 60.0 for piece in pieces)
    alone = [{stroke.program for stroke in piece} for piece in pieces]
    assert {DRUMS} in alone and any(DRUMS not in programs for programs in alone)


def test_a_large_ensemble_has_5_to_12_players():
    strokes = [Stroke(0.5 * number, 0.5, 40 + number % 3, 60, 70) for number in range(30)]
    for seed in range(20):
        large = lines.enlarge(strokes, np.random.default_rng(seed))
        assert large[:30] == strokes and 50 <= len(large) <= 120
