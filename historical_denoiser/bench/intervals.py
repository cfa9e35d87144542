"""Means with bootstrap intervals, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.stats

from historical_denoiser.training import metrics
from historical_denoiser.training.metrics import Row

CONFIDENCE = 0.95
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Mean:
    """A mean and the bounds of its 95 % interval, NaN where there are too few values.

    It is that of `items` of `total` items; the others are told of, as in `1.50 (3 of 5)`.
    """

    value: float
    low: float
    high: float
    items: int
    total: int

    def __str__(self) -> str:
        bounds = "" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        return self._tell(f"{self.value:.2f}{bounds}")

    def short(self, digits: int = 2) -> str:
        """Returns it without its interval, with so many digits after the point."""
        return self._tell(f"{self.value:.{digits}f}")

    def _tell(self, text: str) -> str:
        if not self.items:
            return "-"
        return text if self.items == self.total else f"{text} ({self.items} of {self.total})"


@dataclass(frozen=True)
class Table:
    """A table as text, before it is Markdown or HTML."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Returns the title and the table in Markdown."""
        cells = [self.header, ["---"] * len(self.header), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
                 for row in cells]
        return "\n".join([f"**{self.title}**", "", *lines])


def middle(values: Sequence[float], total: int | None = None) -> Mean:
    """Returns the mean of the finite values, without an interval.

    Args:
        values: Those that are there; where none is finite, all that are numbers may be the same
            infinity, which is their mean then.
        total: Of how many items they are; the number of values when absent.
    """
    total = len(values) if total is None else total
    known = [value for value in values if np.isfinite(value)]
    if not known:
        # Doing nothing leaves clean sound as it is: an SI-SDR without bound.
        known = [value for value in values if not np.isnan(value)]
        known = known if len(set(known)) == 1 else []
    value = float(np.mean(known)) if known else float("nan")
    return Mean(value, float("nan"), float("nan"), len(known), total)


def mean(values: Sequence[float], total: int | None = None) -> Mean:
    """Returns the mean of the finite values and its percentile bootstrap interval.

    (Efron and Tibshirani 1993, chapter 13.) The same values give the same interval.
    `total` is that of `middle`.
    """
    found = middle(values, total)
    known = np.array([value for value in values if np.isfinite(value)], np.float64)
    if len(known) < 2:
        return found
    interval = scipy.stats.bootstrap((known,), np.mean, n_resamples=RESAMPLES, method="percentile",
                                     confidence_level=CONFIDENCE, rng=np.random.default_rng(0))
    low, high = map(float, interval.confidence_interval)
    return replace(found, low=low, high=high)


class Comparison:
    """The rows of several methods on the same items, each with its `method` and `item`."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.methods = list(dict.fromkeys(str(row["method"]) for row in rows))
        self.cells = sorted({(str(row["category"]), float(row["input_snr_db"])) for row in rows})
        self.categories = sorted({category for category, _ in self.cells})

    def of(self, method: str, **where: float | str) -> list[Row]:
        """Returns a method's rows that have these values."""
        return [row for row in self.rows if row["method"] == method
                and all(row[name] == value for name, value in where.items())]

    def count(self, **where: float | str) -> int:
        """Returns how many items have these values, with whatever method."""
        return len({row["item"] for row in self.rows
                    if all(row[name] == value for name, value in where.items())})

    def mean(self, method: str, measure: str, **where: float | str) -> Mean:
        """Returns the mean of a measure over a method's rows that have it."""
        return mean(self._values(method, measure, where), self.count(**where))

    def _values(self, method: str, measure: str, where: dict[str, float | str]) -> list[float]:
        return [float(row[measure]) for row in self.of(method, **where) if measure in row]

    def difference(self, method: str, measure: str, **where: float | str) -> Mean:
        """Returns the mean difference to the first method on the items that both have."""
        first = {row["item"]: row for row in self.of(self.methods[0], **where)}
        return mean([float(row[measure]) - float(first[row["item"]][measure])
                     for row in self.of(method, **where)
                     if row["item"] in first and measure in row
                     and measure in first[row["item"]]], self.count(**where))

    def tables(self, measures: Sequence[str]) -> list[Table]:
        """Returns all tables; `measures` are those that stand side by side for each category."""
        labels = [f"{category} at {snr:g} dB" for category, snr in self.cells]
        found = [
            self._table("SNR gain in dB, with 95 % intervals of the mean", labels,
                        lambda method, category, snr: self.mean(
                            method, "snr_gain_db", category=category, input_snr_db=snr)),
        ]
        if len(self.methods) > 1:
            found.append(self._table(
                f"SNR gain over that of {self.methods[0]} in dB, on the same items", labels,
                lambda method, category, snr: self.difference(
                    method, "snr_gain_db", category=category, input_snr_db=snr)))
        known = [name for name in measures if any(name in row for row in self.rows)]
        for category in self.categories:
            rows = [[method, *(self._short(method, name, category=category)
                               for name in known)] for method in self.methods]
            found.append(Table(f"{category}: means of all SNRs", ["method", *known], rows))
        noises = sorted({str(row["noise"]) for row in self.rows})
        rows = [[method, *(self._short(method, "snr_gain_db", noise=noise)
                           for noise in noises)] for method in self.methods]
        found.append(Table("SNR gain in dB by noise", ["method", *noises], rows))
        return [*found, self._guards()]

    def _table(self, title: str, labels: list[str], cell: Callable[..., Mean]) -> Table:
        rows = [[method, *(str(cell(method, *values)) for values in self.cells)]
                for method in self.methods]
        return Table(title, ["method", *labels], rows)

    def _short(self, method: str, measure: str, **where: float | str) -> str:
        return middle(self._values(method, measure, where), self.count(**where)).short()

    def _guards(self) -> Table:
        """Returns what must not be lost for a gain: the worst mean of each method, as in tests."""
        names, rows = [], []
        for method in self.methods:
            guards = metrics.check_guards(self.of(method))
            names = [f"{guard.name}" for guard in guards]
            rows.append([method, *("-" if np.isnan(guard.value) else
                                   f"{guard.value:.2f} {'pass' if guard.passes else 'FAIL'}"
                                   for guard in guards)])
        return Table("Guards: the worst mean, and whether it keeps to the limit of evaluate.py",
                     ["method", *names], rows)
