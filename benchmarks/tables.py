"""Fills the tables of the guides from measured results, so that all guides agree.

Run: python benchmarks/tables.py [--check]
     python benchmarks/tables.py --keep NAME FOLDER    # copies results of `evaluate.py` first

`docs/tables/NAME/` holds CSV files as `evaluate.py`, `benchmarks/stages.py` and
`examples/make_damages.py` write them. A guide has the marker `<!-- table: KIND NAME ... -->`, where
KIND is a key of `TABLES`, and `<!-- end -->` after the table. `--check` writes nothing and ends
with status 1 if a guide differs.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.bench import intervals  # noqa: E402
from historical_denoiser.core.files import replacing  # noqa: E402
from historical_denoiser.training import guards, metrics  # noqa: E402

MEASURED = ROOT / "docs" / "tables"
GUIDES = [ROOT / name for name in ("README.md", "pretrained/README.md", "docs/RESULTS.md",
                                   "docs/stages.md", "docs/damages.md", "docs/judging.md")]
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
SNRS_DB, CATEGORIES = (3.0, 10.0, 20.0), ("music", "speech")

# The probes with noise alone that are shown: noises of carriers, and the worst octave.
PROBES = ("octave 125", "pink", "fluctuating", "thumps", "hum")
KEPT = ("evaluation.csv", "probes.csv", "bench.csv")  # tables that `evaluate.py` writes

Row = Mapping[str, Any]


def read(name: str, table: str = "evaluation.csv") -> list[Row]:
    """Returns the rows of a measured table; none if it was not measured."""
    path = MEASURED / name / table
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def values(rows: Sequence[Row], measure: str, **where: str | float) -> list[float]:
    """Returns a measure of the rows that have it, with these values."""
    return [float(row[measure]) for row in rows if row.get(measure, "") != "" and all(
        float(row[key]) == value if isinstance(value, float) else row[key] == value
        for key, value in where.items())]


def mean(rows: Sequence[Row], measure: str, **where: str | float) -> float:
    """Returns the mean of a measure over the rows with these values, or NaN if there are none."""
    found = values(rows, measure, **where)
    return float(np.mean(found)) if found else float("nan")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines])


def signed(value: float, digits: int = 1) -> str:
    """Returns a number with its sign, or an empty text for NaN."""
    return "" if np.isnan(value) else f"{value:+.{digits}f}"


def lowered(value: float) -> str:
    """Returns by how many dB a noise is lowered, without a sign."""
    return "" if np.isnan(value) else f"{-value:.0f}"


def in_turn(values: Sequence[float]) -> str:
    """Returns the values of all input SNRs, such as "+10.4 / +9.9 / +5.5"."""
    return " / ".join(signed(value) for value in values if not np.isnan(value))


def summary(name: str) -> str:
    """Returns the three rows about one network that the README shows."""
    rows = read(name)
    lines = [[category, *(signed(mean(rows, "snr_gain_db", category=category, input_snr_db=snr))
                          for snr in SNRS_DB)] for category in CATEGORIES]
    left = [lowered(mean(rows, "noise_left_db", input_snr_db=snr)) for snr in SNRS_DB]
    return table(["", *(f"{snr:g} dB" for snr in SNRS_DB)],
                 [*lines, ["noise alone is lowered by", *left]])


def gains(*names: str) -> str:
    """Returns SNR gains of several networks by category and noise, at each input SNR."""
    measured = {name: read(name) for name in names}
    noises = sorted({row["noise"] for rows in measured.values() for row in rows})
    lines = [[label, *(in_turn([mean(rows, "snr_gain_db", input_snr_db=snr, **{key: label})
                                for snr in SNRS_DB]) for rows in measured.values())]
             for key, labels in (("category", CATEGORIES), ("noise", noises)) for label in labels]
    return table(["SNR gain at 3 / 10 / 20 dB", *titles(names)], lines)


def sure(name: str) -> str:
    """Returns means of a network with 95 % intervals, at the input SNRs of the paper."""
    rows, measures = read(name), {"SNR improvement, dB": "snr_gain_db",
                                  "LSD improvement, dB": "lsd_gain_db",
                                  "segmental SNR, dB": "segmental_snr_db"}
    return table(["", *(f"{category} at {snr:g} dB" for category in CATEGORIES
                        for snr in SNRS_DB[:2])],
                 [[title, *(str(intervals.mean(values(
                     rows, measure, category=category, input_snr_db=snr)))
                     for category in CATEGORIES for snr in SNRS_DB[:2])]
                  for title, measure in measures.items()])


def alone(*names: str) -> str:
    """Returns by how much noise alone is lowered, by recording and by probe."""
    noises = sorted({row["noise"] for name in names for row in read(name)})
    return by_item("noise alone, dB", names, noises, "noise", "noise_left_db", "noise_left_db",
                   lambda probe: probe.startswith(PROBES))


def kept(*names: str) -> str:
    """Returns how well clean sounds are kept: those of the mixtures, and sounds like noise."""
    return by_item("clean sound kept, SI-SDR in dB", names, CATEGORIES, "category",
                   "clean_si_sdr_db", "kept_si_sdr_db")


def by_item(title: str, names: Sequence[str], items: Sequence[str], key: str, measure: str,
            probe_measure: str, is_shown: Callable[[str], bool] = lambda probe: True) -> str:
    """Returns a table of means over the mixtures with each item, and of each probe.

    Args:
        title: Title of the first column.
        names: Folders of measured tables, one for each further column.
        items: Values of `key`, one for each of the first rows.
        key: Column of `evaluation.csv`.
        measure: Measure of the mixtures.
        probe_measure: Measure of the probes.
        is_shown: Whether a probe has a row.
    """
    mixtures, probes = ([read(name, file) for name in names]
                        for file in ("evaluation.csv", "probes.csv"))
    shown = dict.fromkeys(row["probe"] for rows in probes for row in rows
                          if row.get(probe_measure) and is_shown(row["probe"]))
    lines = [[item, *(signed(mean(rows, measure, **{key: item}), 0) for rows in mixtures)]
             for item in items]
    lines += [[probe, *(signed(mean(rows, probe_measure, probe=probe), 0) for rows in probes)]
              for probe in shown]
    return table([title, *titles(names)], lines)


def titles(names: Sequence[str]) -> list[str]:
    """Returns the titles of the columns of networks."""
    return [f"`{name.rsplit('/', 1)[-1]}`" for name in names]


def transfers(name: str) -> str:
    """Returns, for real transfers, the change in pauses, the deviation where it is loud, clicks."""
    rows = read(name, "bench.csv")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["recording"], row["method"]): row for row in rows}
    lines = [[recording, f"{float(found[recording, methods[0]]['clicks_before']):.1f}", *(
        f"{signed(float(row['floor_change_db']))} / {signed(float(row['deviation_db']))}"
        f" / {float(row['clicks_after']):.1f}"
        if (row := found.get((recording, method))) else "" for method in methods)]
        for recording in dict.fromkeys(row["recording"] for row in rows)]
    return table(["recording", "clicks/s", *titles(methods)], lines)


def items(*names: str) -> str:
    """Returns how many mixtures break each guard, and the worst of them."""
    measures = [measure for (_, _, measure), _ in guards.GUARDED]
    measured = [guards.check_guards([
        {**row, **{name: float(row[name]) for name in ("input_snr_db", *measures)}}
        for row in read(name)], each_item=True) for name in names]
    lines = []
    for measure, *same in zip(measures, *measured, strict=True):
        limits = dict.fromkeys(f"{guards.limit_of(measure, snr):g}" for snr in SNRS_DB)
        title = same[0].name.removeprefix(guards.EACH)
        lines.append([f"{title}, {same[0].bound} {' / '.join(limits)}", *(
            f"{guard.broken} of {guard.count} ({guard.value:.2f}: {guard.where})"
            for guard in same)])
    return table(["mixtures that fail (the worst)", *titles(names)], lines)


def scenes(*names: str) -> str:
    """Returns SNR gain and energy of the sounds that are made in code, each under one noise."""
    measured = [[row for row in read(name, "probes.csv") if row.get("energy_db")]
                for name in names]
    shown = dict.fromkeys(row["probe"] for rows in measured for row in rows)
    return table(["SNR gain / energy, dB", *titles(names)], [[probe, *(
        in_turn([mean(rows, measure, probe=probe) for measure in ("snr_gain_db", "energy_db")])
        for rows in measured)] for probe in shown])


def grooves(blind: str, told: str) -> str:
    """Returns, for real noise of grooves, the SNR gain under music and the change of it alone."""
    rows = {name: read(name) for name in (blind, told)}
    bands = metrics.BAND_MEASURES

    def line(title: str, **where: str) -> list[str]:
        left = [mean(rows[blind], band, **where) for band in bands]
        return [title, *(signed(mean(rows[name], "snr_gain_db", **where)) for name in rows),
                *map(signed, left), *(signed(float(np.mean([
                    mean(rows[name], band, **where) for band in bands]))) for name in rows)]

    edges = [f"{hz:.0f}" for hz in metrics.NOISE_BANDS_HZ]
    return table(
        ["noise", "under music, blind", "told",
         *(f"alone, {low}-{high} Hz" for low, high in zip(edges, edges[1:], strict=False)),
         "mean", "told"],
        [*(line(noise.split()[-1], noise=noise)
           for noise in sorted({row["noise"] for row in rows[blind]})), line("mean")])


def stages(name: str) -> str:
    """Returns what each stage gains and costs, measured by `benchmarks/stages.py`."""
    rows = read(name, "stages.csv")
    return table(
        ["stage", "music", "speech", "LSD gain", "noise alone", "clean kept", "pauses", "loud",
         "CPU time"],
        [[row["stage"], *(in_turn([float(row[f"{category}_at_{snr:g}"]) for snr in SNRS_DB])
                          for category in CATEGORIES),
          signed(float(row["lsd_gain_db"]), 2), signed(float(row["noise_left_db"])),
          *(signed(float(row[measure])) for measure in (
              "clean_si_sdr_db", "floor_change_db", "deviation_db")),
          f"{float(row['time_ratio']):.2f}"]
         for row in rows])


def damages(name: str) -> str:
    """Returns the SNR gains and links of docs/damages.md, from `examples/make_damages.py`."""
    return table(["damage", "SNR gain at 10 dB", "sound"], [
        [f"[{row['damage']}](#{row['damage']})", f"{signed(float(row['snr_gain_db']))} dB",
         ", ".join(f"[{side}](damages/{row['damage']}_{side}.ogg)" for side in ("before", "after"))]
        for row in read(name, "damages.csv")])


TABLES: dict[str, Callable[..., str]] = {
    "summary": summary, "gains": gains, "sure": sure, "alone": alone, "kept": kept,
    "transfers": transfers, "stages": stages, "damages": damages, "items": items, "scenes": scenes,
    "grooves": grooves}


def fill(text: str) -> str:
    """Returns a guide with filled tables; a marker "gains a b" stands for `gains("a", "b")`."""
    def write(found: re.Match[str]) -> str:
        kind, *names = found[2].split()
        return f"{found[1]}{TABLES[kind](*names)}\n{found[3]}"

    return MARKED.sub(write, text)


def keep(name: str, folder: Path) -> None:
    """Copies the tables of a run of `evaluate.py` to docs/tables."""
    found = [path for table_name in KEPT if (path := folder / table_name).is_file()]
    if not found:
        sys.exit(f"{folder}: expected a table of evaluate.py ({', '.join(KEPT)}), found none")
    (MEASURED / name).mkdir(parents=True, exist_ok=True)
    for path in found:
        with path.open(newline="", encoding="utf-8") as source:
            rows = list(csv.reader(source))
        with replacing(MEASURED / name / path.name) as temporary, temporary.open(
                "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(
                [[shorten(value) for value in row] for row in rows])


def shorten(value: str) -> str:
    """Returns a number with three decimals, and other text as it is."""
    try:
        return f"{float(value):.3f}".rstrip("0").rstrip(".")
    except ValueError:
        return value


def main() -> None:
    """Fills all guides, or lists those that differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--keep", nargs=2, metavar=("NAME", "FOLDER"))
    args = parser.parse_args()
    if args.keep:
        keep(args.keep[0], Path(args.keep[1]))
    differ = []
    for guide in GUIDES:
        text = guide.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            differ.append(guide.relative_to(ROOT))
            if not args.check:
                guide.write_text(filled, encoding="utf-8")
    if args.check and differ:
        sys.exit(f"{', '.join(map(str, differ))}: not as measured; run benchmarks/tables.py")


if __name__ == "__main__":
    main()
