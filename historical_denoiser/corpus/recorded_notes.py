"""Renders a corpus of music from recorded notes of real instruments. Begin at `build_notes`.

Scores and drawn pieces are performed as in `scores.py`, but played by `sampler.py`. A work is in
the same split as there. The notes themselves cannot be split: a work needs most of the instruments,
so a recorded note occurs in all splits. Other recordings are needed to evaluate weights on
instruments that they were not trained with.
"""

import hashlib
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.corpus import (
    band,
    conversion,
    held,
    lines,
    note_bank,
    performance,
    rendering,
    sampler,
    scores,
)
from historical_denoiser.corpus.performance import Stroke
from historical_denoiser.corpus.scores import Drawn, Render

logger = logging.getLogger(__name__)

NAME = "notes"  # of the data set

SHARE_LARGE = {"score": 0.4, "held": 0.4}  # share of the pieces with 5 to 12 players
SHARE_QUIET = 0.5  # share of these that are quiet: reduction of velocity, and level
QUIET_VELOCITY, QUIET_LEVEL_DBFS = 35, (-36.0, -26.0)

# About two fifths of the renders are scores.
DRAWN = {"percussion": Drawn(150, performance.improvise, "effects"),
         "band": Drawn(800, band.jam), "held": Drawn(1100, held.hold),
         "solo": Drawn(1000, lines.draw_solo), "rhythm": Drawn(800, lines.draw_rhythm_section),
         "drums": Drawn(500, lines.draw_low_drums)}


def build_notes(folders: list[Path], output: Path, hours: float, seed: int, jobs: int) -> None:
    """Renders from recorded notes until the corpus has `hours`; see `scores.build_renders`.

    Renders of an earlier run are kept if the folders still contain the same notes.

    Args:
        folders: Folders of recorded notes.
        output: Folder of the corpus.
        hours: Total length of the audio.
        seed: Seed of the order and of all performances.
        jobs: Number of worker processes.

    Raises:
        UserError: A folder is missing or contains no notes.
        OSError: `output` cannot be written or the disk is full.
    """
    bank = note_bank.open_bank(tuple(folders))
    logger.info("%d instruments and drums, %d notes", len(bank),
                sum(len(one.notes) for one in bank))
    conversion.prepare_output(output)
    make = partial(_make_render, output=output, folders=tuple(folders), seed=seed)
    names = [f"{one.name}/{note.path.name} {note.seconds:.3f}"
             for one in bank for note in one.notes]
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    scores.build_renders(NAME, DRAWN, f" {key}", make, output, hours, seed, jobs)


def _make_render(render: Render, output: Path, folders: tuple[Path, ...], seed: int
                 ) -> dict[str, Any]:
    """Plays one render with recorded notes, records and stores it; returns its row."""
    def make_sound() -> np.ndarray:
        rng = np.random.default_rng([seed, scores.digest(seed, f"{NAME}/{render.name}")])
        kind = "score" if render.score else render.name.partition("/")[0]
        strokes, level_dbfs = _draw_ensemble(scores.play_notes(render, output, rng), kind, rng)
        return rendering.record(sampler.play(strokes, note_bank.open_bank(folders), rng), rng,
                                level_dbfs)

    names = ", ".join(folder.name for folder in folders)
    return scores.store_render(render, NAME, f"recorded notes: {names}", output, make_sound)


def _draw_ensemble(strokes: list[Stroke], kind: str, rng: np.random.Generator
                   ) -> tuple[list[Stroke], tuple[float, float]]:
    """Makes some ensembles large and some of these quiet; returns strokes and a range of levels."""
    if rng.random() >= SHARE_LARGE.get(kind, 0.0):
        return strokes, rendering.LEVEL_DBFS
    strokes = lines.enlarge(strokes, rng)
    if rng.random() >= SHARE_QUIET:
        return strokes, rendering.LEVEL_DBFS
    return [stroke._replace(velocity=performance.as_velocity(stroke.velocity - QUIET_VELOCITY))
            for stroke in strokes], QUIET_LEVEL_DBFS
