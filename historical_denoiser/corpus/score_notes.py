"""Reads a score into a list of notes; a program of its own, so that one that hangs can be ended.

    python -m historical_denoiser.corpus.score_notes SCORE NOTES.json
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import NamedTuple

import music21

from historical_denoiser.core.files import replacing

GRACE_QUARTERS = 0.125  # length given to notes that the score gives none


class Note(NamedTuple):
    """A note as it is written; times in quarter notes."""

    start: float
    quarters: float
    pitch: int  # MIDI number, 60 is middle C
    part: int  # 0 is the part that lies highest


def read_notes(path: Path) -> tuple[list[Note], float | None]:
    """Reads a score.

    Returns:
        Its notes by start, tied ones joined and repeats played where they are well formed; and
        the first tempo that it states, in quarter notes a minute.
    """
    score = music21.converter.parse(path, forceSource=True)
    if isinstance(score, music21.stream.Opus):
        score = score.mergeScores()
    with contextlib.suppress(music21.exceptions21.Music21Exception, IndexError, ValueError):
        score = score.expandRepeats()  # badly formed repeats are played once
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
