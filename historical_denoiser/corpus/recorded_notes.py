"""A corpus of music played from recorded notes of real instruments; begin at `build_notes`.

Scores and drawn pieces are performed as in `scores`, but by a sampler of our own. Works go to
train, validation or test as a whole, as there, and to the same split. The notes themselves cannot
be split: a work needs most of the instruments, so that one recorded note sounds in all splits. To
judge weights on instruments that they have not met, take other recordings.
"""

from __future__ import annotations

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
    sampler,
    scores,
)
from historical_denoiser.corpus.performance import Stroke
from historical_denoiser.corpus.scores import Drawn, Render

logger = logging.getLogger(__name__)

NAME = "notes"  # of the data set

SHARE_LARGE = {"score": 0.4, "held": 0.4}  # that 5 to 12 players play
SHARE_QUIET = 0.5  # of those that are large
QUIET_VELOCITY, QUIET_LEVEL_DBFS = 35, (-36.0, -26.0)  # velocity that they are softer by

# About two fifths of the renders are scores. Kits do not matter: the folders have the drums.
DRAWN = {"percussion": Drawn(150, performance.improvise, (0,), "effects"),
         "band": Drawn(800, band.jam, (0,), "music"),
         "held": Drawn(1100, held.hold, (0,), "music"),
         "solo": Drawn(1000, lines.draw_solo, (0,), "music"),
         "rhythm": Drawn(800, lines.draw_rhythm_section, (0,), "music"),
         "drums": Drawn(500, lines.draw_low_drums, (0,), "music")}


def build_notes(folders: list[Path], output: Path, hours: float, seed: int, jobs: int) -> None:
    """Renders from recorded notes until the corpus holds `hours`; see `scores.build_renders`.

    What an earlier run rendered stays, where the folders still hold the same notes.

    Raises:
        UserError: A folder is not there or holds no notes.
        OSError: `output` cannot be written or the disk is full.
    """
    bank = note_bank.open_bank(tuple(folders))
    logger.info("%d instruments and drums, %d notes", len(bank),
                sum(len(one.notes) for one in bank))
    conversion.prepare_output(output)
    make = partial(make_render, output=output, folders=tuple(folders), seed=seed)
    scores.build_renders(NAME, DRAWN, f" {_digest(bank)}", make, output, hours, seed, jobs)


def _digest(bank: tuple[note_bank.Instrument, ...]) -> str:
    names = [f"{one.name}/{note.path.name} {note.seconds:.3f}"
             for one in bank for note in one.notes]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def make_render(render: Render, output: Path, folders: tuple[Path, ...], seed: int
                ) -> dict[str, Any]:
    """Plays one render from recorded notes, records and stores it; returns its row."""
    def make_sound() -> np.ndarray:
        rng = np.random.default_rng([seed, scores.digest(seed, f"{NAME}/{render.name}")])
        kind = "score" if render.score else render.name.partition("/")[0]
        strokes, level_dbfs = _seat_players(scores.play_notes(render, output, rng), kind, rng)
        return performance.record(sampler.play(strokes, note_bank.open_bank(folders), rng), rng,
                                  level_dbfs)

    return scores.store_render(render, NAME, "recorded notes: "
                               f"{', '.join(folder.name for folder in folders)}", output,
                               make_sound)


def _seat_players(strokes: list[Stroke], kind: str, rng: np.random.Generator
                  ) -> tuple[list[Stroke], tuple[float, float]]:
    """Lets some ensembles be large, and some of those quiet; returns the range of levels, too."""
    if rng.random() >= SHARE_LARGE.get(kind, 0.0):
        return strokes, performance.LEVEL_DBFS
    strokes = lines.enlarge(strokes, rng)
    if rng.random() >= SHARE_QUIET:
        return strokes, performance.LEVEL_DBFS
    return [stroke._replace(velocity=performance.as_velocity(stroke.velocity - QUIET_VELOCITY))
            for stroke in strokes], QUIET_LEVEL_DBFS
