"""Means with bootstrap intervals, and the tables that hold them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

from historical_denoiser.training.guards import check_guards
from historical_denoiser.training.metrics import Row

CONFIDENCE = 0.95
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class Mean:
    """A mean over `items` of `total` items, printed as "1.50 (3 of 5)".

    The bounds of its 95 % interval are NaN if there are too few values.
    """

    value: float
    low: float
    high: float
    items: int
    total: int

    def __str__(self) -> str:
        bounds = "" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        return self._with_items(f"{self.value:.2f}{bounds}")

    def short(self, digits: int = 2) -> str:
        """Returns the mean without its interval, with `digits` decimals."""
        return self._with_items(f"{self.value:.{digits}f}")

    def _with_items(self, text: str) -> str:
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
        values: The values. If none is finite and those that are numbers are the same infinity, the
            mean is infinite too.
        total: Number of items; the number of values when absent.
    """
    total = len(values) if total is None else total
    used = [value for value in values if np.isfinite(value)]
    if not used:
        # The SI-SDR of clean sound that a method leaves unchanged is infinite.
        used = [value for value in values if not np.isnan(value)]
        used = used if len(set(used)) == 1 else []
    value = float(np.mean(used)) if used else float("nan")
    return Mean(value, float("nan"), float("nan"), len(used), total)


def mean(values: Sequence[float], total: int | None = None) -> Mean:
    """Returns the mean like `middle`, with its percentile bootstrap interval.

    See Efron and Tibshirani 1993, chapter 13. The same values give the same interval.
    """
    found = middle(values, total)
    finite = np.array([value for value in values if np.isfinite(value)], np.float64)
    if len(finite) < 2:
        return found
    interval = scipy.stats.bootstrap((finite,), np.mean, n_resamples=RESAMPLES, method="percentile",
                                     confidence_level=CONFIDENCE, rng=np.random.default_rng(0))
    low, high = map(float, interval.confidence_interval)
    return replace(found, low=low, high=high)


class Comparison:
    """The rows of several methods for the same items, each with its `method` and `item`."""

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
        """Returns how many items have these values, over all methods."""
        return len({row["item"] for row in self.rows
                    if all(row[name] == value for name, value in where.items())})

    def mean(self, method: str, measure: str, **where: float | str) -> Mean:
        """Returns the mean of a measure over a method's rows that have it."""
        return mean(self._values(method, measure, where), self.count(**where))

    def _values(self, method: str, measure: str, where: dict[str, float | str]) -> list[float]:
        return [float(row[measure]) for row in self.of(method, **where) if measure in row]

    def difference(self, method: str, measure: str, **where: float | str) -> Mean:
        """Returns the mean difference from the first method, over the items of both."""
        first = {row["item"]: row for row in self.of(self.methods[0], **where)}
        return mean([float(row[measure]) - float(first[row["item"]][measure])
                     for row in self.of(method, **where)
                     if row["item"] in first and measure in row
                     and measure in first[row["item"]]], self.count(**where))

    def tables(self, measures: Sequence[str]) -> list[Table]:
        """Returns all tables; those of each category have a column for each of `measures`."""
        labels = [f"{category} at {snr:g} dB" for category, snr in self.cells]
        kinds = {"SNR gain in dB, with 95 % intervals of the mean": self.mean}
        if len(self.methods) > 1:
            kinds[f"SNR gain over that of {self.methods[0]} in dB, on the same items"] = (
                self.difference)
        found = [Table(title, ["method", *labels], [
            [method, *(str(measure(method, "snr_gain_db", category=category, input_snr_db=snr))
                       for category, snr in self.cells)] for method in self.methods])
            for title, measure in kinds.items()]
        shown = [name for name in measures if any(name in row for row in self.rows)]
        for category in self.categories:
            rows = [[method, *(self._short(method, name, category=category)
                               for name in shown)] for method in self.methods]
            found.append(Table(f"{category}: means of all SNRs", ["method", *shown], rows))
        noises = sorted({str(row["noise"]) for row in self.rows})
        rows = [[method, *(self._short(method, "snr_gain_db", noise=noise)
                           for noise in noises)] for method in self.methods]
        found.append(Table("SNR gain in dB by noise", ["method", *noises], rows))
        return [*found, self._guards()]

    def _short(self, method: str, measure: str, **where: float | str) -> str:
        return middle(self._values(method, measure, where), self.count(**where)).short()

    def _guards(self) -> Table:
        """Returns the guards of `evaluate.py` for each method."""
        guards = {method: check_guards(self.of(method)) for method in self.methods}
        rows = [[method, *("-" if np.isnan(guard.value) else
                           f"{guard.value:.2f} {'pass' if guard.passes else 'FAIL'}"
                           for guard in found)] for method, found in guards.items()]
        return Table("Guards: the worst mean, and whether it keeps to the limit of evaluate.py",
                     ["method", *(guard.name for guard in guards[self.methods[0]])], rows)
