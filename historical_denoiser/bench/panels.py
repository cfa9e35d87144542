"""Reads a test in the published layout, and measures its restored files.

B. V. Miranda, diffusion-audio-restoration (2024), README and testing.py: `panel-1/noisy/NAME.wav`,
and `sample-info.csv` beside the panels with a row for each file: its name, and for each panel its
SNR and the gain of its noise. Folders and columns may say "painel", and one "arquivo" for "file".
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from historical_denoiser.bench import intervals
from historical_denoiser.bench.pairs import read_mono
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.diffusion.settings import DiffusionConfig, around
from historical_denoiser.run.report import read_results
from historical_denoiser.training import metrics

INFO_NAME = "sample-info.csv"
TABLE_NAME = "results.csv"
FILE_COLUMNS = ("file", "arquivo")
WORDS = ("panel", "painel")
MEASURES = ("removed_db", "snr_gain_db", "segmental_snr_db", "si_sdr_db", "lsd_db")


@dataclass(frozen=True)
class Item:
    """A file of a panel.

    Attributes:
        noisy: The recording.
        clean: Its clean version, if `clean/` beside `noisy/` or beside the panels has it.
        snr_db: Its SNR, estimated by whoever made the test.
        noise_gain: Gain of the recordings of noise.
    """

    noisy: Path
    clean: Path | None
    snr_db: float
    noise_gain: float


def find_items(folder: str, panel: int) -> list[Item]:
    """Returns the files of a panel.

    Raises:
        UserError: Folders, files, columns or numbers are missing; the message names them.
    """
    place = Path(folder)
    info = place / INFO_NAME
    require(info.is_file(), "panels", f"a folder that holds {INFO_NAME}", folder)
    own = next((place / f"{word}-{panel}" for word in WORDS
                if (place / f"{word}-{panel}" / "noisy").is_dir()), None)
    require(own is not None, "panel", f"the number of a folder {place}/panel-N/noisy", panel)
    try:
        with info.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{info} must be a table of comma-separated values: {error}") from error
    if not rows:
        raise UserError(f"{info} must hold a row for each file; it is empty")
    columns = [_column(info, list(rows[0]), names) for names in (
        FILE_COLUMNS, *([f"{kind}-{word}-{panel}" for word in WORDS]
                        for kind in ("snr", "noise-gain")))]
    items = []
    for row in rows:
        name, *numbers = (row[column] for column in columns)
        path = own / "noisy" / Path(name or "").name
        if not path.is_file():
            raise UserError(f"{info} names {name}, but there is no {path}")
        snr_db, gain = (_number(info, name, value) for value in numbers)
        clean = next((top / "clean" / path.name for top in (own, place)
                      if (top / "clean" / path.name).is_file()), None)
        items.append(Item(path, clean, snr_db, gain))
    return items


def _column(info: Path, present: Sequence[str], names: Sequence[str]) -> str:
    found = [name for name in names if name in present]
    if not found:
        raise UserError(f"{info} must have a column {' or '.join(names)}. "
                        f"Received: {', '.join(map(str, present))}")
    return found[0]


def _number(info: Path, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{info}: the SNR and the gain of {name} must be numbers. Received: {text}")
    return value


def fit(config: DiffusionConfig, item: Item) -> DiffusionConfig:
    """Returns the settings of a diffusion model for a file whose SNR and gain of noise are known.

    Args:
        config: The settings for all files; a given `xi` stays.
        item: The file.
    """
    # The published testing.py has steps that meet this line at 10, 20 and 30 dB: 0.35 from 8 dB,
    # 1.4 from 15, 2.45 from 25.
    return replace(config, xi=config.weight(item.snr_db), gain=item.noise_gain,
                   snr_db=list(around(item.snr_db)))


def judge(items: Iterable[Item], folder: Path) -> list[metrics.Row]:
    """Returns a row for each restored file.

    Args:
        items: The files.
        folder: Holds the restored files and their report.
    """
    restored = {entry["input"]: (folder / name, entry)
                for name, entry in read_results(folder).items()}
    rows = []
    for item in items:
        if str(item.noisy) not in restored:
            continue
        path, entry = restored[str(item.noisy)]
        row: metrics.Row = {"file": item.noisy.name, "snr_db": item.snr_db,
                            "noise_gain": item.noise_gain}
        row |= {name: entry[name] for name in MEASURES[:1] if entry[name] is not None}
        if item.clean is not None:
            sounds = [read_mono(each) for each in (item.clean, item.noisy, path)]
            shortest = min(map(len, sounds))
            found = metrics.judge(*(sound[:shortest] for sound in sounds))
            row |= {name: found[name] for name in MEASURES[1:]}
        rows.append(row)
    return rows


def format_rows(rows: list[metrics.Row]) -> str:
    """Returns a table of the result of `judge`, with a line of means and 95 % intervals."""
    names = [name for name in MEASURES if any(name in row for row in rows)]
    lines = [[str(row["file"]), f"{row['snr_db']:g}",
              *(f"{row[name]:.2f}" if name in row else "-" for name in names)] for row in rows]
    means = [str(intervals.mean([row[name] for row in rows if name in row], len(rows)))
             for name in names]
    return metrics.make_table(["file", "snr_db", *names],
                              [*lines, [f"mean of {len(rows)}", "", *means]])
