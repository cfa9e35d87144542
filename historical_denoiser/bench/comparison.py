"""Runs methods side by side, and writes the results as CSV, Markdown and an HTML page.

Start reading at `judge` and `report` (with clean targets) or at `report_alone` (without).
"""

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
SHOWN_RECORDINGS = 5  # largest number of recordings on the page
EXPLANATION = ("floor_dbfs is the level of the quietest twentieth of a recording; in music without "
               "pauses, these are its soft notes. The floor of an octave is the level of the "
               "octave's own quietest twentieth. input_correlation is the correlation of the "
               "residual with the recording: near 1, everything was removed.")
NAMED_ITEMS = 5  # largest number of items that are named in the note of a method that failed


class Faults:
    """Collects what could not be read or denoised, for the log and for the notes."""

    def __init__(self) -> None:
        self._of_items: list[str] = []
        self._of_methods: dict[str, list[tuple[str, str]]] = defaultdict(list)

    def __bool__(self) -> bool:
        return bool(self._of_items or self._of_methods)

    def leave_out(self, error: UserError | OSError) -> None:
        """Adds an item that cannot be used; the error names its file."""
        self._of_items.append(reason_of(error))
        logger.warning("left out: %s", self._of_items[-1])

    def failed(self, method: Method, item: str, error: MethodError) -> None:
        """Adds an item on which a method failed; a tool's first traceback is logged.

        Args:
            method: The method.
            item: Name of the item.
            error: Its message is shown; its cause is what the tool raised.
        """
        failures = self._of_methods[method.name]
        is_new = not failures and not isinstance(error.__cause__, UserError)
        failures.append((item, str(error)))
        logger.warning("%s: %s", item, error, exc_info=error.__cause__ if is_new else None)

    def notes(self) -> list[str]:
        """Returns a line for each item that was left out, and for each method that failed."""
        lines = [f"Left out: {reason}." for reason in self._of_items]
        for name, failures in self._of_methods.items():
            items = ", ".join(item for item, _ in failures[:NAMED_ITEMS])
            more = len(failures) - NAMED_ITEMS
            lines.append(f"{name} failed on {items}{f' and {more} more' if more > 0 else ''}. "
                         f"The first time: {failures[0][1]}.")
        return lines

    def require_rows(self, rows: list[Row], methods: list[Method]) -> None:
        """Raises UserError if nothing was measured."""
        if not rows and self:
            raise UserError(f"`methods`: nothing could be measured. {' '.join(self.notes())}")
        require(bool(rows), "methods", "some that work without a noise profile, as there is none",
                [method.name for method in methods])


def judge(methods: list[Method], names: Sequence[str],
          read: Callable[[int], tuple[Mixture, float]], highpass_hz: float,
          judge_more: metrics.JudgeMore | None, folder: Path, faults: Faults) -> list[Row]:
    """Denoises and measures each mixture with each method.

    Mixtures without a noise profile are left out for methods that use one. `clean_si_sdr_db` is
    NaN for a method that cannot work without a profile, because clean sound has no noise.

    Args:
        methods: The methods to compare.
        names: Names of the mixtures, for messages.
        read: Returns the mixture with a number, and its SNR in dB before rounding for the tables.
        highpass_hz: Frequencies below this one are not judged.
        judge_more: From `measures.load_judge`.
        folder: Folder of `bench.csv`, which is written after each mixture.
        faults: Collects mixtures that cannot be read, and methods that fail.

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
    """Returns the numbers of the items with the largest, the median and the lowest SNR gain."""
    ranked = sorted(rows, key=lambda row: -float(row["snr_gain_db"]))
    places = dict(zip(RANKS, (0, len(ranked) // 2, len(ranked) - 1), strict=True))
    return {rank: int(ranked[place]["item"]) for rank, place in places.items()}


def show_mixtures(comparison: Comparison, methods: list[Method],
                  mixture_of: Callable[[int], Mixture]) -> list[page.Section]:
    """Returns a section for each category, with the best, median and worst items of each method.

    These are denoised again, because all outputs of all methods would not fit into memory.

    Args:
        comparison: Rows of all methods.
        methods: The methods that made them.
        mixture_of: Returns the mixture with a number.
    """
    chosen = {category: {method.name: choose_items(own) for method in methods
                         if (own := comparison.of(method.name, category=category))}
              for category in comparison.categories}
    of_methods = [set(ranks.values()) for found in chosen.values() for ranks in found.values()]
    seconds = page.shorten(sum(map(len, of_methods)) + 2 * len(set().union(*of_methods)))
    sections = []
    for category, found in chosen.items():
        items = []
        for number in sorted({number for ranks in found.values() for number in ranks.values()}):
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
        methods: The methods that were compared.
        mixture_of: Returns the mixture with a number again, for the page.
        notes: Lines about the comparison.
        folder: Folder of `bench.csv`, `bench.md` and `bench.html`.
    """
    comparison = Comparison(rows)
    tables = comparison.tables(SHOWN)
    text = _write(rows, notes, tables, folder)
    _write_page("Methods side by side", notes, tables, page.draw_gains(comparison),
                show_mixtures(comparison, methods, mixture_of), folder)
    return text


def report_alone(methods: list[Method], recordings: list[Pair], notes: list[str],
                 longest_seconds: float, folder: Path, highpass_hz: float,
                 judge_more: measures.JudgeAlone, faults: Faults) -> str:
    """Denoises recordings without clean versions; writes files and returns Markdown like `report`.

    Args:
        methods: The methods to compare.
        recordings: The recordings.
        notes: Lines about the comparison.
        longest_seconds: Length of each recording that is used, from its start.
        folder: Folder of `bench.csv`, `bench.md` and `bench.html`.
        highpass_hz: Frequencies below this one are not judged.
        judge_more: From `measures.load_judge_alone`.
        faults: Collects recordings that cannot be read, and methods that fail.

    Raises:
        UserError: There is no row.
    """
    rows, sections, without = [], [], []
    total = 0  # recordings that some method denoised
    seconds = page.shorten(min(len(recordings), SHOWN_RECORDINGS) * (2 * len(methods) + 1))
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
            try:
                (restored,) = method.each(audio[None], profile)
                if not np.isfinite(restored).all():
                    raise MethodError(f"{method.name} failed: it returned NaN or infinite samples")
            except MethodError as error:
                faults.failed(method, pair.name, error)
                continue
            judged = measures.judge_alone(audio, restored, highpass_hz)
            filtered = dsp.highpass(restored, highpass_hz, SAMPLE_RATE)
            rows.append({"method": method.name, "recording": pair.name, **judged,
                         **judge_more(pair.category, filtered)})
            if len(sections) < SHOWN_RECORDINGS:
                items.append(_show_recording(method.name, audio, restored, judged, seconds,
                                             is_first=not items))
        if items:
            sections.append(page.Section(pair.name, items))
        total += len(rows) > before
        metrics.write_table(folder / TABLE_NAME, rows)
    if without and any(method.uses_profile for method in methods):
        notes = [*notes, "Methods with a noise profile left out recordings in which no noise alone "
                 f"was found: {', '.join(without)}."]
    faults.require_rows(rows, methods)
    tables = _tables_alone(rows, total, methods)
    notes = [*notes, *faults.notes(), EXPLANATION]
    text = _write(rows, notes, tables, folder)
    _write_page("What was done to recordings", notes, tables, [], sections, folder)
    return text


def _show_recording(name: str, audio: np.ndarray, restored: np.ndarray, judged: dict[str, float],
                    seconds: float, is_first: bool) -> page.Item:
    facts = (f"floor {judged['floor_dbfs']:.1f} dBFS, changed by "
             f"{judged['floor_change_db']:+.1f} dB")
    sounds = {"recording": audio, name: restored, "removed": audio - restored}
    players = (*(("recording",) if is_first else ()), name, "removed")
    return page.make_item(name, facts, sounds, seconds, players=players)


def _tables_alone(rows: list[Row], total: int, methods: list[Method]) -> list[Table]:
    """Returns the main measures of each recording, means over all recordings, and by octave."""
    columns = {"noise in pauses, change (dB)": "floor_change_db",
               "deviation in loud passages (dB)": "deviation_db",
               "clicks per second before": "clicks_before", "after": "clicks_after"}
    tables = [Table("Each recording: change of the noise, and deviation of the programme",
                    ["recording", "method", *columns],
                    [[str(row["recording"]), str(row["method"]),
                      *(f"{float(row[name]):.1f}" for name in columns.values())] for row in rows])]
    names = list(dict.fromkeys(name for row in rows for name in row))[2:]

    def add_means(title: str, columns: dict[str, str], as_text: Callable[..., str]) -> None:
        tables.append(Table(title, ["method", *columns], [
            [method.name, *(as_text([float(row[name]) for row in rows
                                     if row["method"] == method.name and name in row])
                            for name in columns.values())] for method in methods]))

    add_means("Means over all recordings, with 95 % intervals",
              {name: name for name in names if "_at_" not in name},
              lambda values: str(mean(values, total)))
    for title, measure in (
            ("By how many dB the noise floor in each octave changed", measures.FLOOR_CHANGE),
            ("Removed in each octave, in dB relative to the input (0: everything)",
             measures.REMOVED)):
        add_means(title, {f"{name.rpartition('_')[2]} Hz": name for name in names
                          if name.startswith(f"{measure}_at_")},
                  lambda values: middle(values, total).short(1))
    return tables


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
        temporary.write_text(page.render(title, notes, tables, figures, sections), encoding="utf-8")
