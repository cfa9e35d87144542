"""Pieces for a band: who plays, how low, and how they differ."""

from collections import Counter

import numpy as np

from historical_denoiser.corpus import band
from historical_denoiser.corpus.performance import DRUMS


def test_bands_play_bass_lines_and_drums_within_reach(rng):
    pieces = [band.jam(rng) for _ in range(40)]
    for strokes in pieces:
        assert min(stroke.start for stroke in strokes) >= 0.0
        assert all(1 <= stroke.velocity <= 127 and stroke.seconds > 0.0 for stroke in strokes)
        end = max(stroke.start for stroke in strokes)
        assert 16 * 4 * 0.35 - 4.0 < end < 40 * 4 * 1.0
        low = [stroke.pitch for stroke in strokes if stroke.program != DRUMS and stroke.pitch < 49]
        assert len(set(low)) > 1  # a line, not a drone
        assert min(low) >= band.LOWEST_BASS
    players = Counter(program for strokes in pieces
                      for program in {stroke.program for stroke in strokes})
    assert players[DRUMS] > 30
    assert len(players) > 25
    drums = Counter(stroke.pitch for strokes in pieces for stroke in strokes
                    if stroke.program == DRUMS)
    assert set(drums) >= {*band.KICKS, *band.SNARES, *band.CYMBALS, *band.TOMS, band.CRASH}


def test_parts_rest_and_vary(rng):
    def bars_with(strokes, drums):
        beat = np.median(np.diff(sorted({stroke.start for stroke in strokes}))) / 0.5
        return {int(stroke.start / (4 * beat)) for stroke in strokes
                if (stroke.program == DRUMS) == drums}

    pieces = [band.jam(rng) for _ in range(20)]
    assert any(bars_with(strokes, False) - bars_with(strokes, True) for strokes in pieces)
    assert any(bars_with(strokes, True) - bars_with(strokes, False) for strokes in pieces)
