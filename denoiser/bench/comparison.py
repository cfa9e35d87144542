"""Runs methods side by side, and writes what came of it: CSV, Markdown and a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from denoiser.bench import measures, page, pairs
from denoiser.bench.intervals import Comparison, Table, mean
from denoiser.bench.methods import Method
from denoiser.bench.pairs import Pair
from denoiser.bench.settings import BenchConfig
from denoiser.checks import require
from denoiser.data.mixture import Mixture
from denoiser.files import replacing
from denoiser.training import metrics
from denoiser.training.metrics import Row

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


def judge(methods: list[Method], mixtures: Iterable[tuple[Mixture, float]], highpass_hz: float,
          judge_more: metrics.JudgeMore) -> list[Row]:
    """Denoises and measures each mixture with each method.

    A method that is told the noise leaves out a mixture without a profile. That clean sound is
    kept is not judged of one that cannot do without, as clean sound has no noise to be told of.

    Args:
        methods: What is compared.
        mixtures: With their SNRs in dB, before these were rounded for the tables.
        highpass_hz: What lies below is not judged.
        judge_more: From `measures.load_judge`.

    Returns:
        A row for each mixture and method: as of `metrics.judge_mixtures`, with `method`, `item`
        (the number of the mixture) and `measured_snr_db`.
    """
    rows = []
    for item, (mixture, snr_db) in enumerate(mixtures):
        for method in methods:
            if method.uses_profile and mixture.profile is None:
                continue
            row = metrics.judge_mixture(method.each, mixture, highpass_hz, judge_more)
            if not method.works_blind:
                row["clean_si_sdr_db"] = float("nan")
            rows.append({"method": method.name, "item": item, "measured_snr_db": snr_db, **row})
    return rows


def choose_items(rows: list[Row]) -> dict[str, int]:
    """Returns the numbers of the items with the greatest, the middle and the least SNR gain."""
    ranked = sorted(rows, key=lambda row: -float(row["snr_gain_db"]))
    places = dict(zip(RANKS, (0, len(ranked) // 2, len(ranked) - 1), strict=True))
    return {rank: int(ranked[place]["item"]) for rank, place in places.items()}


def show_mixtures(comparison: Comparison, methods: list[Method],
                  mixture_of: Callable[[int], Mixture], clip_seconds: float) -> list[page.Section]:
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
    seconds = page.shorten(clip_seconds, outputs + 2 * sum(map(len, shown.values())))
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
           notes: list[str], settings: BenchConfig, folder: Path) -> str:
    """Writes the files of a comparison with clean targets, and returns the Markdown.

    Args:
        rows: From `judge`.
        methods: What was compared.
        mixture_of: Makes mixture number `item` again, for the page.
        notes: Lines on what was compared.
        settings: Of the bootstrap and of the page.
        folder: Where `bench.csv`, `bench.md` and `bench.html` go.
    """
    comparison = Comparison(rows, settings.resamples, settings.seed)
    tables = comparison.tables(SHOWN)
    text = _write(rows, notes, tables, folder)
    if settings.page:  # after the tables: it denoises once more
        _write_page("Methods side by side", notes, tables, page.draw_gains(comparison),
                    show_mixtures(comparison, methods, mixture_of, settings.clip_seconds), folder)
    return text


def report_alone(methods: list[Method], recordings: Iterable[Pair], notes: list[str],
                 settings: BenchConfig, folder: Path) -> str:
    """Denoises recordings of which no clean version is known; writes and returns as `report`."""
    rows: list[Row] = []
    sections: list[page.Section] = []
    recordings = list(recordings)
    shown = min(len(recordings), SHOWN_RECORDINGS)
    seconds = page.shorten(settings.clip_seconds, shown * (2 * len(methods) + 1))
    without = []
    for number, pair in enumerate(recordings):
        audio, profile = pairs.read_recording(pair, settings.recording_seconds)
        if profile is None:
            without.append(pair.name)
        items = []
        for method in methods:
            if method.uses_profile and profile is None:
                continue
            (restored,) = method.each(audio[None], profile)
            judged = measures.judge_alone(audio, restored)
            rows.append({"method": method.name, "recording": pair.name, **judged})
            if number < shown and settings.page:
                facts = (f"floor {judged['floor_dbfs']:.1f} dBFS, changed by "
                         f"{judged['floor_change_db']:+.1f} dB")
                sounds = {"recording": audio, method.name: restored,
                          "removed": audio - restored}
                heard = (*(() if items else ("recording",)), method.name, "removed")
                items.append(page.make_item(method.name, facts, sounds, seconds, heard=heard))
        if items:
            sections.append(page.Section(pair.name, items))
    if without and any(method.uses_profile for method in methods):
        notes = [*notes, "Methods that are told the noise left out, as no stretch of noise "
                 f"alone was found: {', '.join(without)}."]
    require(bool(rows), "methods", "some that do without a noise profile, or recordings with one",
            [method.name for method in methods])
    names = [name for name in rows[0] if name not in ("method", "recording")]
    found = {method.name: [row for row in rows if row["method"] == method.name]
             for method in methods}
    overall = [name for name in names if "_at_" not in name]
    tables = [
        Table("Means over all recordings, with 95 % intervals", ["method", *overall],
              [[name, *(str(mean([float(row[measure]) for row in own if measure in row],
                                 settings.resamples, settings.seed)) for measure in overall)]
               for name, own in found.items()]),
        *(_table_of_bands(title, measure, names, found) for title, measure in (
            ("By how many dB the noise floor in each octave changed", measures.FLOOR_CHANGE),
            ("Removed in each octave, dB over the input's power there (0: everything)",
             measures.REMOVED)))]
    notes = [*notes, EXPLANATION]
    text = _write(rows, notes, tables, folder)
    if settings.page:
        _write_page("What was done to recordings", notes, tables, [], sections, folder)
    return text


def _table_of_bands(title: str, measure: str, names: list[str],
                    found: dict[str, list[Row]]) -> Table:
    """Returns the means of a measure by octave."""
    bands = [name for name in names if name.startswith(f"{measure}_at_")]
    return Table(title, ["method", *(f"{name.rpartition('_')[2]} Hz" for name in bands)],
                 [[name, *(f"{np.mean([float(row[band]) for row in own]):.1f}" if own else "-"
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
