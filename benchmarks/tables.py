"""Writes the tables of the guides from what was measured, so that all of them say the same.

Run: python benchmarks/tables.py [--check]
     python benchmarks/tables.py --keep NAME FOLDER    # copies those of `evaluate.py`

`docs/tables/NAME/` holds `evaluation.csv` and `probes.csv` as `evaluate.py` wrote them. Between
`<!-- table: NAME -->` and `<!-- end -->` in a guide stands what `TABLES` makes of them. `--check`
writes nothing and ends with status 1 where a guide differs.
"""

from __future__ import annotations

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

from historical_denoiser.core.files import replacing  # noqa: E402

MEASURED = ROOT / "docs" / "tables"
GUIDES = [ROOT / name for name in ("README.md", "pretrained/README.md", "docs/RESULTS.md",
                                   "docs/stages.md")]
MARKED = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
SNRS_DB, CATEGORIES = (3.0, 10.0, 20.0), ("music", "speech")

# Of the noises that come alone: what carriers do, and the octave that is heard worst.
PROBES = ("octave 125", "pink", "fluctuating", "thumps", "hum")
KEPT = ("evaluation.csv", "probes.csv", "bench.csv")  # tables that `evaluate.py` writes

Row = Mapping[str, Any]


def read(name: str, table: str = "evaluation.csv") -> list[Row]:
    """Returns the rows of a measured table; none where it was not measured."""
    path = MEASURED / name / table
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def mean(rows: Sequence[Row], measure: str, **where: str | float) -> float:
    """Returns the mean of a measure over the rows that match, or NaN where none does."""
    values = [float(row[measure]) for row in rows if row.get(measure, "") != "" and all(
        float(row[key]) == value if isinstance(value, float) else row[key] == value
        for key, value in where.items())]
    return float(np.mean(values)) if values else float("nan")


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join("| " + " | ".join(line) + " |"
                     for line in [head, ["---"] * len(head), *lines])


def signed(value: float, digits: int = 1) -> str:
    """Returns a number with its sign, as gains are printed."""
    return "" if np.isnan(value) else f"{value:+.{digits}f}"


def lowered(value: float) -> str:
    """Returns by how many dB a noise is lowered, without a sign."""
    return "" if np.isnan(value) else f"{-value:.0f}"


def in_turn(values: Sequence[float]) -> str:
    """Returns values of the input SNRs in turn: "+10.4 / +9.9 / +5.5"."""
    return " / ".join(map(signed, values)) if not np.isnan(values).all() else ""


def summary(name: str) -> str:
    """Three rows on one network: what the README shows."""
    rows = read(name)
    lines = [[category, *(signed(mean(rows, "snr_gain_db", category=category, input_snr_db=snr))
                          for snr in SNRS_DB)] for category in CATEGORIES]
    left = [lowered(mean(rows, "noise_left_db", input_snr_db=snr)) for snr in SNRS_DB]
    return table(["", *(f"{snr:g} dB" for snr in SNRS_DB)],
                 [*lines, ["noise alone is lowered by", *left]])


def gains(*names: str) -> str:
    """SNR gains of several networks by category and noise, at each input SNR in turn."""
    measured = {name: read(name) for name in names}
    noises = sorted({row["noise"] for rows in measured.values() for row in rows})
    lines = [[label, *(in_turn([mean(rows, "snr_gain_db", input_snr_db=snr, **{key: label})
                                for snr in SNRS_DB]) for rows in measured.values())]
             for key, labels in (("category", CATEGORIES), ("noise", noises)) for label in labels]
    return table(["SNR gain at 3 / 10 / 20 dB", *titles(names)], lines)


def alone(*names: str) -> str:
    """By how much noise that comes alone is lowered, by recording and by probe."""
    measured = [(read(name), {row["probe"]: row for row in read(name, "probes.csv")})
                for name in names]
    noises = sorted({row["noise"] for rows, _ in measured for row in rows})
    probes = list(dict.fromkeys(
        probe for _, rows in measured for probe, row in rows.items()
        if row.get("noise_left_db") and probe.startswith(PROBES)))
    lines = [[noise, *(signed(mean(rows, "noise_left_db", noise=noise), 0)
                       for rows, _ in measured)] for noise in noises]
    lines += [[probe, *(signed(mean([rows[probe]] if probe in rows else [], "noise_left_db"), 0)
                        for _, rows in measured)] for probe in probes]
    return table(["noise alone, dB", *titles(names)], lines)


def kept(*names: str) -> str:
    """How much of clean sounds is kept: those of the mixtures, and those that are like noise."""
    measured = [(read(name), {row["probe"]: row for row in read(name, "probes.csv")
                              if row.get("kept_si_sdr_db")}) for name in names]
    sounds = list(dict.fromkeys(sound for _, rows in measured for sound in rows))
    lines = [[category, *(signed(mean(rows, "clean_si_sdr_db", category=category), 0)
                          for rows, _ in measured)] for category in CATEGORIES]
    lines += [[sound, *(signed(mean([rows[sound]] if sound in rows else [], "kept_si_sdr_db"), 0)
                        for _, rows in measured)] for sound in sounds]
    return table(["clean sound kept, SI-SDR in dB", *titles(names)], lines)


def titles(names: Sequence[str]) -> list[str]:
    """Returns the names of networks as columns show them."""
    return [f"`{name.rsplit('/', 1)[-1]}`" for name in names]


def transfers(name: str) -> str:
    """Real transfers: noise removed in pauses, and deviation where they are loud, by method."""
    rows = read(name, "bench.csv")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["recording"], row["method"]): row for row in rows}
    lines = [[recording, *(
        f"{signed(float(row['floor_change_db']))} / {signed(float(row['deviation_db']))}"
        if (row := found.get((recording, method))) else "" for method in methods)]
        for recording in dict.fromkeys(row["recording"] for row in rows)]
    return table(["recording", *titles(methods)], lines)


def stages(name: str) -> str:
    """What each stage gains and costs, from the table that `benchmarks/stages.py` writes."""
    rows = read(name, "stages.csv")
    return table(
        ["stage", "music", "speech", "LSD gain", "noise alone", "clean kept", "CPU time"],
        [[row["stage"], *(in_turn([float(row[f"{category}_at_{snr:g}"]) for snr in SNRS_DB])
                          for category in CATEGORIES),
          signed(float(row["lsd_gain_db"]), 2), signed(float(row["noise_left_db"])),
          signed(float(row["clean_si_sdr_db"])), f"{float(row['time_ratio']):.2f}"]
         for row in rows])


TABLES: dict[str, Callable[..., str]] = {
    "summary": summary, "gains": gains, "alone": alone, "kept": kept, "transfers": transfers,
    "stages": stages}


def fill(text: str) -> str:
    """Returns a guide with its tables as they are measured; a marker says which: "gains a b"."""
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
    """Fills all guides, or says which differ."""
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
