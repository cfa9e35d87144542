"""Reads the notes of a score. It is a separate program, so that it can be stopped if it hangs.

    python -m historical_denoiser.corpus.score_notes SCORE NOTES.json
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import music21

from historical_denoiser.core.files import replacing

GRACE_QUARTERS = 0.125  # length of notes that have no length in the score


class Note(NamedTuple):
    """A note of a score; times are in quarter notes."""

    start: float
    quarters: float
    pitch: int  # MIDI number, 60 is middle C
    part: int  # number of the part; 0 is the one with the highest mean pitch


def read_notes(path: Path) -> tuple[list[Note], float | None]:
    """Reads a score.

    Returns:
        The notes sorted by start, with ties joined and repeats expanded; and the first tempo mark
        in quarter notes per minute, None if there is none.
    """
    score = music21.converter.parse(path, forceSource=True)
    if isinstance(score, music21.stream.Opus):
        score = score.mergeScores()
    with contextlib.suppress(music21.exceptions21.Music21Exception, IndexError, ValueError):
        score = score.expandRepeats()  # malformed repeats are not expanded
    score = score.stripTies()
    parts = [_notes_of(part) for part in score.parts] or [_notes_of(score)]
    parts = sorted((part for part in parts if part),
                   key=lambda part: -sum(pitch for _, _, pitch in part) / len(part))
    notes = [Note(start, quarters, pitch, number)
             for number, part in enumerate(parts) for start, quarters, pitch in part]
    marks = [mark.getQuarterBPM()
             for mark in score.recurse().getElementsByClass(music21.tempo.MetronomeMark)]
    return sorted(notes), next((float(mark) for mark in marks if mark), None)


def _notes_of(part: music21.stream.Stream) -> list[tuple[float, float, int]]:
    return [(float(element.offset), float(element.quarterLength) or GRACE_QUARTERS, pitch.midi)
            for element in part.flatten().notes
            if not isinstance(element, music21.harmony.Harmony) for pitch in element.pitches]


if __name__ == "__main__":
    found, tempo = read_notes(Path(sys.argv[1]))
    with replacing(Path(sys.argv[2])) as temporary:
        temporary.write_text(json.dumps({"notes": found, "tempo": tempo}), encoding="utf-8")
