"""Runs methods side by side, and writes what came of it: CSV, Markdown and a page."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import measures, page, pairs
from historical_denoiser.bench.intervals import Comparison, Table, mean, middle
from historical_denoiser.bench.methods import Method, MethodError
from historical_denoiser.bench.pairs import Pair
from historical_denoiser.core.checks import UserError, reason_of, require
from historical_denoiser.core.files import replacing
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.training import metrics
from historical_denoiser.training.metrics import Row

logger = logging.getLogger(__name__)

TABLE_NAME, TEXT_NAME, PAGE_NAME = "bench.csv", "bench.md", "bench.html"
SHOWN = ("snr_gain_db", "si_sdr_db", "segmental_snr_db", "lsd_db", "energy_db",
         "loudness_change_lu", "residual_correlation", "clean_si_sdr_db", "noise_left_db",
         *measures.OF_LISTENERS)
RANKS = ("best", "median", "worst")
SHOWN_RECORDINGS = 5  # on the page
EXPLANATION = ("floor_dbfs is the level of the quietest twentieth of a recording, of music without "
               "pauses that of its soft notes; the floor of an octave is that of its own quietest "
               "twentieth. input_correlation is that of what was removed with the recording: near "
               "1, everything went.")
TOLD_ITEMS = 5  # of those on which a method failed


class Faults:
    """What could not be read or denoised: told as it happens, and again in the notes."""

    def __init__(self) -> None:
        self._of_items: list[str] = []
        self._of_methods: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self._of_items or self._of_methods)

    def leave_out(self, error: UserError | OSError) -> None:
        """Notes an item that cannot be used; the error names its file."""
        self._of_items.append(reason_of(error))
        logger.warning("left out: %s", self._of_items[-1])

    def failed(self, method: Method, item: str, error: MethodError) -> None:
        """Notes that a method failed on an item; the first time, with a tool's traceback."""
        told = self._of_methods[method.name]
        is_new = not told and not isinstance(error.__cause__, UserError)
        told.append((item, str(error)))
        logger.warning("%s: %s", item, error, exc_info=error.__cause__ if is_new else None)

    def notes(self) -> list[str]:
        """Returns a line for each item, and for each method."""
        lines = [f"Left out: {reason}." for reason in self._of_items]
        for name, told in self._of_methods.items():
            items = ", ".join(item for item, _ in told[:TOLD_ITEMS])
            more = f" and {len(told) - TOLD_ITEMS} more" if len(told) > TOLD_ITEMS else ""
            lines.append(f"{name} failed on {items}{more}. The first time: {told[0][1]}.")
        return lines

    def require_rows(self, rows: list[Row], methods: list[Method]) -> None:
        """Raises UserError where nothing was measured."""
        if not rows and self:
            raise UserError(f"`methods`: nothing could be measured. {' '.join(self.notes())}")
        require(bool(rows), "methods", "some that do without a noise profile, or what is denoised "
                "with one", [method.name for method in methods])


def judge(methods: list[Method], names: Sequence[str],
          read: Callable[[int], tuple[Mixture, float]], highpass_hz: float,
          judge_more: metrics.JudgeMore, folder: Path, faults: Faults) -> list[Row]:
    """Denoises and measures each mixture with each method.

    A method that is told the noise leaves out a mixture without a profile. That clean sound is
    kept is not judged of one that cannot do without, as clean sound has no noise to be told of.

    Args:
        methods: What is compared.
        names: Of the mixtures, for what is told of them.
        read: Returns mixture number `item`, and its SNR in dB before it was rounded for the tables.
        highpass_hz: What lies below is not judged.
        judge_more: From `measures.load_judge`.
        folder: Where `bench.csv` grows, so that what ends the program costs one mixture at most.
        faults: Takes what cannot be read, and the methods that fail.

    Returns:
        A row for each mixture and method: that of `metrics.judge_mixtures`, with `method`, `item`
        (the number of the mixture) and `measured_snr_db`.

    Raises:
        UserError: There is no row.
    """
    rows: list[Row] = []
    for item, name in enumerate(tqdm(names, disable=None)):
        try:
            mixture, snr_db = read(item)
        except (UserError, OSError) as error:
            faults.leave_out(error)
            continue
        for method in methods:
            if method.uses_profile and mixture.profile is None:
                continue
            try:
                row = metrics.judge_mixture(method.each, mixture, highpass_hz, judge_more)
            except MethodError as error:
                faults.failed(method, name, error)
                continue
            if not method.works_blind:
                row["clean_si_sdr_db"] = float("nan")
            rows.append({"method": method.name, "item": item, "measured_snr_db": snr_db, **row})
        metrics.write_table(folder / TABLE_NAME, rows)
    faults.require_rows(rows, methods)
    return rows


def choose_items(rows: list[Row]) -> dict[str, int]:
    """Returns the numbers of the items with the greatest, the middle and the least SNR gain."""
    ranked = sorted(rows, key=lambda row: -float(row["snr_gain_db"]))
    places = dict(zip(RANKS, (0, len(ranked) // 2, len(ranked) - 1), strict=True))
    return {rank: int(ranked[place]["item"]) for rank, place in places.items()}


def show_mixtures(comparison: Comparison, methods: list[Method],
                  mixture_of: Callable[[int], Mixture]) -> list[page.Section]:
    """Returns a section for each category: the items that are best, median or worst of a method.

    They are denoised again: all outputs of all methods would not fit into memory.
    """
    chosen = {category: {method.name: choose_items(own) for method in methods
                         if (own := comparison.of(method.name, category=category))}
              for category in comparison.categories}
    shown = {category: sorted({number for ranks in found.values() for number in ranks.values()})
             for category, found in chosen.items()}
    outputs = sum(len(set(ranks.values())) for found in chosen.values()
                  for ranks in found.values())
    seconds = page.shorten(outputs + 2 * sum(map(len, shown.values())))
    sections = []
    for category, found in chosen.items():
        items = []
        for number in shown[category]:
            mixture = mixture_of(number)
            sounds, facts = {"noisy": mixture.noisy, "clean": mixture.clean}, []
            for method in methods:
                ranks = [rank for rank, one in found.get(method.name, {}).items() if one == number]
                if ranks:
                    (row,) = comparison.of(method.name, item=number)
                    (sounds[method.name],) = method.each(mixture.noisy[None], mixture.profile)
                    facts.append(f"{method.name} ({', '.join(ranks)}) "
                                 f"{float(row['snr_gain_db']):+.1f} dB")
            items.append(page.make_item(
                f"item {number}: {mixture.noise} at {float(row['measured_snr_db']):.1f} dB",
                "SNR gains: " + "; ".join(facts), sounds, seconds, f"item{number}"))
        links = {name: {rank: f"item{one}" for rank, one in ranks.items()}
                 for name, ranks in found.items()}
        sections.append(page.Section(f"How it sounds: {category}", items, links))
    return sections


def report(rows: list[Row], methods: list[Method], mixture_of: Callable[[int], Mixture],
           notes: list[str], folder: Path) -> str:
    """Writes the files of a comparison with clean targets, and returns the Markdown.

    Args:
        rows: From `judge`.
        methods: What was compared.
        mixture_of: Makes mixture number `item` again, for the page.
        notes: Lines on what was compared.
        folder: Where `bench.csv`, `bench.md` and `bench.html` go.
    """
    comparison = Comparison(rows)
    tables = comparison.tables(SHOWN)
    text = _write(rows, notes, tables, folder)
    # After the tables, as it denoises once more.
    _write_page("Methods side by side", notes, tables, page.draw_gains(comparison),
                show_mixtures(comparison, methods, mixture_of), folder)
    return text


def report_alone(methods: list[Method], recordings: list[Pair], notes: list[str],
                 longest_seconds: float, folder: Path, highpass_hz: float,
                 judge_more: measures.JudgeAlone, faults: Faults) -> str:
    """Denoises recordings of which no clean version is known; writes and returns as `report`.

    Args:
        methods: What is compared.
        recordings: What is denoised.
        notes: Lines on what was compared.
        longest_seconds: How much of each recording is taken, from its start.
        folder: Where `bench.csv`, which grows, `bench.md` and `bench.html` go.
        highpass_hz: What lies below is not judged.
        judge_more: From `measures.load_judge_alone`.
        faults: Takes what cannot be read, and the methods that fail.

    Raises:
        UserError: There is no row.
    """
    rows: list[Row] = []
    total = 0  # recordings that some method denoised
    sections: list[page.Section] = []
    shown = min(len(recordings), SHOWN_RECORDINGS)
    seconds = page.shorten(shown * (2 * len(methods) + 1))
    without = []
    for pair in tqdm(recordings, disable=None):
        try:
            audio, profile = pairs.read_recording(pair, longest_seconds)
        except (UserError, OSError) as error:
            faults.leave_out(error)
            continue
        if profile is None:
            without.append(pair.name)
        items, before = [], len(rows)
        for method in methods:
            if method.uses_profile and profile is None:
                continue
            restored = _restore(method, audio, profile, pair.name, faults)
            if restored is None:
                continue
            judged = measures.judge_alone(audio, restored, highpass_hz)
            heard = dsp.highpass(restored, highpass_hz, SAMPLE_RATE)
            rows.append({"method": method.name, "recording": pair.name, **judged,
                         **judge_more(pair.category, heard)})
            if len(sections) < shown:
                items.append(_show_recording(method.name, audio, restored, judged, seconds,
                                             is_first=not items))
        if items:
            sections.append(page.Section(pair.name, items))
        total += len(rows) > before
        metrics.write_table(folder / TABLE_NAME, rows)
    if without and any(method.uses_profile for method in methods):
        notes = [*notes, "Methods that are told the noise left out, as no stretch of noise "
                 f"alone was found: {', '.join(without)}."]
    faults.require_rows(rows, methods)
    tables = [_table_of_recordings(rows), *_tables_alone(rows, total, methods)]
    notes = [*notes, *faults.notes(), EXPLANATION]
    text = _write(rows, notes, tables, folder)
    _write_page("What was done to recordings", notes, tables, [], sections, folder)
    return text


def _restore(method: Method, audio: np.ndarray, profile: np.ndarray | None, name: str,
             faults: Faults) -> np.ndarray | None:
    """Returns what a method makes of `(samples,)`; None, and a fault, where it fails."""
    try:
        (restored,) = method.each(audio[None], profile)
        if not np.isfinite(restored).all():
            raise MethodError(f"{method.name} failed: NaN or infinite samples came back")
    except MethodError as error:
        faults.failed(method, name, error)
        return None
    return restored


def _show_recording(name: str, audio: np.ndarray, restored: np.ndarray, judged: dict[str, float],
                    seconds: float, is_first: bool) -> page.Item:
    facts = (f"floor {judged['floor_dbfs']:.1f} dBFS, changed by "
             f"{judged['floor_change_db']:+.1f} dB")
    sounds = {"recording": audio, name: restored, "removed": audio - restored}
    heard = (*(("recording",) if is_first else ()), name, "removed")
    return page.make_item(name, facts, sounds, seconds, heard=heard)


def _tables_alone(rows: list[Row], total: int, methods: list[Method]) -> list[Table]:
    """Returns the means over all recordings, and those by octave."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row)
             if name not in ("method", "recording")]
    found = {method.name: [row for row in rows if row["method"] == method.name]
             for method in methods}
    overall = [name for name in names if "_at_" not in name]
    return [
        Table("Means over all recordings, with 95 % intervals", ["method", *overall],
              [[name, *(str(mean([float(row[measure]) for row in own if measure in row], total))
                        for measure in overall)]
               for name, own in found.items()]),
        *(_table_of_bands(title, measure, names, found, total) for title, measure in (
            ("By how many dB the noise floor in each octave changed", measures.FLOOR_CHANGE),
            ("Removed in each octave, dB over the input's power there (0: everything)",
             measures.REMOVED)))]


def _table_of_recordings(rows: list[Row]) -> Table:
    """Returns the two opposed numbers of each recording: noise removed, programme changed."""
    columns = {"noise in pauses, change (dB)": "floor_change_db",
               "deviation where it is loud (dB)": "deviation_db",
               "clicks a second before": "clicks_before", "after": "clicks_after"}
    return Table("Each recording: how much noise went, and how far the programme deviates",
                 ["recording", "method", *columns],
                 [[str(row["recording"]), str(row["method"]),
                   *(f"{float(row[name]):.1f}" for name in columns.values())] for row in rows])


def _table_of_bands(title: str, measure: str, names: list[str],
                    found: dict[str, list[Row]], total: int) -> Table:
    """Returns the means of a measure by octave."""
    bands = [name for name in names if name.startswith(f"{measure}_at_")]
    return Table(title, ["method", *(f"{name.rpartition('_')[2]} Hz" for name in bands)],
                 [[name, *(middle([float(row[band]) for row in own], total).short(1)
                           for band in bands)] for name, own in found.items()])


def _write(rows: list[Row], notes: list[str], tables: list[Table], folder: Path) -> str:
    """Writes the rows and the tables, and returns the Markdown."""
    text = "\n\n".join(["\n".join(notes), *(table.markdown() for table in tables)]) + "\n"
    metrics.write_table(folder / TABLE_NAME, rows)
    with replacing(folder / TEXT_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return text


def _write_page(title: str, notes: list[str], tables: list[Table], figures: list[page.Picture],
                sections: list[page.Section], folder: Path) -> None:
    with replacing(folder / PAGE_NAME) as temporary:
        temporary.write_text(page.render(title, notes, tables, figures, sections),
                             encoding="utf-8")
