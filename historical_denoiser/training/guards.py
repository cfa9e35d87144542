"""Limits to the damage that a method does to sound, and to the noise that it leaves.

`check_guards` compares means with the limits, or every single mixture.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from historical_denoiser.training.metrics import Row, make_table, mean_of

WANTED_CLEAN_SI_SDR_DB = 30.0
WANTED_NOISE_LEFT_DB = -25.0
WANTED_ENERGY_DB = 0.5  # above or below
WANTED_CORRELATION = 0.1
WANTED_CORRELATION_LOUD = 0.15  # at an input SNR of `LOUD_NOISE_SNR_DB` or less
LOUD_NOISE_SNR_DB = 3.0

# Title, bound and measure of each guard, and the columns by whose values means are taken.
ENERGY = "energy of the output (dB)", "within +-", "energy_db"
CORRELATION = ("correlation of what was removed with the signal", "at most",
               "residual_correlation")
GUARDED = ((("clean input kept, SI-SDR (dB)", "at least", "clean_si_sdr_db"), ("category",)),
           (("a recording's noise alone (dB)", "at most", "noise_left_db"), ("noise",)),
           (ENERGY, ("category", "input_snr_db")), (CORRELATION, ("category", "input_snr_db")))

EACH = "each mixture: "  # the names of guards begin with this if every row is compared


@dataclass(frozen=True)
class Guard:
    """Values of a measure, each with a limit that it must keep, and the worst of them.

    Attributes:
        name: What is measured.
        bound: "at least", "at most" or "within +-".
        limit: The limit of the worst value.
        value: The value that exceeds its limit most, or is nearest to it.
        where: The sounds for which it was found: a category, a recording, a probe or an item.
        count: The number of values.
        broken: The number of values that do not keep their limits; NaN does not.
    """

    name: str
    bound: str
    limit: float
    value: float
    where: str
    count: int
    broken: int

    @property
    def passes(self) -> bool:
        """Whether all values keep their limits."""
        return not self.broken


def worst(values: Mapping[str, float], badness: Callable[[float], float] = float) -> str:
    """Returns the name of the value with the greatest `badness`; NaN is the worst of all."""
    return max(values, key=lambda name: (np.isnan(values[name]), badness(values[name])))


def limit_of(measure: str, snr_db: float) -> float:
    """Returns the limit of a measure of `GUARDED` at an input SNR in dB."""
    if measure == "residual_correlation":
        return WANTED_CORRELATION_LOUD if snr_db <= LOUD_NOISE_SNR_DB else WANTED_CORRELATION
    return {"clean_si_sdr_db": WANTED_CLEAN_SI_SDR_DB, "noise_left_db": WANTED_NOISE_LEFT_DB,
            "energy_db": WANTED_ENERGY_DB}[measure]


def make_guard(name: str, bound: str, values: Mapping[str, float],
               limits: Mapping[str, float] | float) -> Guard:
    """Compares values with their limits.

    Args:
        name: What is measured.
        bound: As in `Guard`.
        values: The values by the names of the sounds.
        limits: The limit of each value, or of all.
    """
    if not isinstance(limits, Mapping):
        limits = dict.fromkeys(values, limits)
    excess = {where: {"at least": limits[where] - value, "at most": value - limits[where],
                      "within +-": abs(value) - limits[where]}[bound]
              for where, value in values.items()}
    where = worst(excess)
    return Guard(name, bound, limits[where], values[where], where, len(values),
                 sum(not value <= 0.0 for value in excess.values()))


def check_guards(rows: list[Row], each_item: bool = False) -> list[Guard]:
    """Compares the rows of `metrics.judge_mixtures` with their limits.

    Args:
        rows: The rows.
        each_item: Whether to compare every row. Otherwise these are means: of clean input by
            category, of noise alone by recording, of the output's energy and the residual's
            correlation with the clean target by category and input SNR.
    """
    found = []
    for (name, bound, measure), keys in GUARDED:
        groups: dict[str, list[Row]] = defaultdict(list)
        for number, row in enumerate(rows):
            snr = f"{row['input_snr_db']:g} dB"
            groups[f"item {number}, {row['category']} with {row['noise']} at {snr}" if each_item
                   else " at ".join({**row, "input_snr_db": snr}[key] for key in keys)].append(row)
        limits = {where: limit_of(measure, members[0]["input_snr_db"])
                  for where, members in groups.items()}
        values = {where: mean_of(members, measure) for where, members in groups.items()}
        found.append(make_guard(EACH * each_item + name, bound, values, limits))
    return found


def format_guards(guards: Iterable[Guard]) -> str:
    """Returns a Markdown table of guards, each with "pass", or "FAIL" and how many values fail."""
    return make_table(["guard", "worst", "of", "limit", "result"], [
        [guard.name, f"{guard.value:.2f}", guard.where, f"{guard.bound} {guard.limit:g}",
         "pass" if guard.passes else f"FAIL: {guard.broken} of {guard.count}"]
        for guard in guards])
