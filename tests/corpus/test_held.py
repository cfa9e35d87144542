"""Pieces of held notes: how long they stand, how low, and how they differ."""

from collections import Counter

import numpy as np

from historical_denoiser.corpus import held, scores
from historical_denoiser.corpus.performance import DRUMS


def test_notes_of_a_bass_stand_for_seconds(rng):
    pieces = [held.hold(rng) for _ in range(60)]
    for strokes in pieces:
        assert min(stroke.start for stroke in strokes) >= 0.0
        assert all(1 <= stroke.velocity <= 127 and stroke.program != DRUMS for stroke in strokes)
        lowest = min(strokes, key=lambda stroke: stroke.pitch)
        assert held.LOWEST_BASS[0] <= lowest.pitch < held.LOWEST_BASS[1] + 12
        assert lowest.seconds >= 0.9 * held.BASS_SECONDS[0]
        assert held.PIECE_SECONDS[0] - 17.0 < max(stroke.start for stroke in strokes) < 80.0
    longest = [max(stroke.seconds for stroke in strokes) for strokes in pieces]
    assert np.mean(np.array(longest) > 4.0) > 0.7  # as long as a training item
    alone = [len({stroke.program for stroke in strokes}) == 1 for strokes in pieces]
    assert 0.05 < np.mean(alone) < 0.5
    players = Counter(program for strokes in pieces
                      for program in {stroke.program for stroke in strokes})
    assert len(players) > 30


def test_held_pieces_do_not_test(tmp_path):
    renders = scores.list_renders(tmp_path, [], 0)
    splits = {kind: Counter(render.split for render in renders
                            if render.name.startswith(kind)) for kind in scores.DRAWN}
    assert splits["held"]["test"] == 0 < splits["held"]["validation"]
    assert splits["band"]["test"] > 0
