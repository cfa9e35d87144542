"""The manifest of a corpus of clean audio, and the criteria for clean clips.

A corpus is a folder of FLAC files, `<category>/<data set or package>/...`, with a `manifest.csv`
that gives the origin, licence, split and measures of each file.
"""

import csv
import itertools
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import replacing
from historical_denoiser.corpus.clips import MIN_SOURCE_RATE
from historical_denoiser.data.settings import CATEGORIES, SPLITS

logger = logging.getLogger(__name__)
Record = TypeVar("Record")

MANIFEST_NAME = "manifest.csv"
WIDE_HZ = 12000  # bandwidth of the clips in the last column of the summary

MIN_CLEAN_DB = 45.0
MIN_GATED_DB = 35.0  # limit for speech with silent pauses
MAX_CLIPPED = 1e-4  # share of the samples
MIN_CLEAN_SECONDS = 0.3
# Effects of this length must have at least this range between floor and level.
STEADY_SECONDS, MIN_EFFECT_RANGE_DB = 2.0, 10.0
MAX_NOISE_LIKE = 0.15  # share of the power of music and of long effects


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Reads a CSV file whose columns are the fields of the dataclass `kind`; values are strings.

    Raises:
        UserError: The columns differ from the fields, or a line has too few or too many cells.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        lines = [cells for cells in csv.reader(stream) if cells]
    expected = [field.name for field in fields(kind)]
    if lines[:1] != [expected]:
        raise UserError(f"`{path}` must have the columns {expected}. Received: {lines[:1]}")
    for cells in lines[1:]:
        if len(cells) != len(expected):
            raise UserError(f"`{path}` must have {len(expected)} cells in each line. "
                            f"Received: {cells}")
    return [kind(*cells) for cells in lines[1:]]


@dataclass
class Row:
    """One line of the manifest; `file` is relative to the manifest's folder."""

    file: str
    category: str
    seconds: float
    source: str
    licence: str
    group: str
    split: str
    floor_db: float
    noise_db: float
    noise_like: float
    bandwidth_hz: int
    clipped: float
    clean: int
    original_rate: int


def is_clean(row: Row) -> bool:
    """Whether a clip is clean enough to be a training target.

    In speech, the noise floor or the steady noise must lie `MIN_CLEAN_DB` below the level. The
    steady noise must lie `MIN_GATED_DB` below it even if the pauses are digital silence. In music
    and effects, the steady noise alone is decisive. The level of a long effect must also vary: that
    of wind, engines and static, which a denoiser should remove, hardly does.

    Music and long effects that are mostly noise themselves, such as pads of a synthesizer, surf and
    thunder, would teach a network to keep noise. They are left out, except from the test.
    """
    if row.category == "speech":
        quiet = max(row.floor_db, row.noise_db) >= MIN_CLEAN_DB and row.noise_db >= MIN_GATED_DB
    else:
        quiet = row.noise_db >= MIN_CLEAN_DB
    is_long_effect = row.category == "effects" and row.seconds >= STEADY_SECONDS
    if is_long_effect:
        quiet = quiet and row.floor_db >= MIN_EFFECT_RANGE_DB
    if row.split != "test" and (row.category == "music" or is_long_effect):
        quiet = quiet and row.noise_like <= MAX_NOISE_LIKE
    return (quiet and row.clipped <= MAX_CLIPPED and row.seconds >= MIN_CLEAN_SECONDS
            and row.original_rate >= MIN_SOURCE_RATE)


def write_manifest(clips: Iterable[dict[str, Any]], output: Path) -> None:
    """Writes the manifest, sorted by file, and logs a summary.

    Args:
        clips: For each clip, the values of `Row`'s fields and the `digest` of its sound. Of several
            clips with the same digest, only the first is listed.
        output: Folder of the corpus.

    Raises:
        UserError: There are no clips.
    """
    distinct: dict[str, Row] = {}
    for stored in clips:
        values = stored | {"clean": 0}
        row = Row(**{field.name: values[field.name] for field in fields(Row)})
        row.clean = int(is_clean(row))
        distinct.setdefault(stored["digest"], row)
    if not distinct:
        raise UserError(f"{output}: no clip could be used")
    path = output / MANIFEST_NAME
    rows = sorted(distinct.values(), key=lambda row: row.file)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    logger.info("%s\n%s: %d files", format_summary(rows), path, len(rows))


def format_summary(rows: list[Row]) -> str:
    """Returns a table of the minutes in each category and split."""
    lines = [f"{'category':<10}{'split':<12}{'files':>7}{'minutes':>9}{'clean files':>13}"
             f"{'clean minutes':>15}{'above 12 kHz':>14}"]
    for category, split in itertools.product(CATEGORIES, SPLITS):
        chosen = [row for row in rows if (row.category, row.split) == (category, split)]
        clean = [row for row in chosen if row.clean]
        wide = [row for row in clean if row.bandwidth_hz >= WIDE_HZ]
        total, good, full = (sum(row.seconds for row in some) / 60.0
                             for some in (chosen, clean, wide))
        if chosen:
            lines.append(f"{category:<10}{split:<12}{len(chosen):>7}{total:>9.1f}{len(clean):>13}"
                         f"{good:>15.1f}{full:>14.1f}")
    return "\n".join(lines)
