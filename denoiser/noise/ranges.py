"""What generated noise is drawn from: ranges for discs, optical tracks, tapes and mains hum.

`conf/noise/` chooses values, `noise.py` renders them, `docs/noise.md` names their sources.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from denoiser.checks import UserError

KINDS = ("gramophone", "film", "tape", "hum")
THIRD_OCTAVES = 29  # from 32 Hz to 20 kHz

# Third-octave levels (dB per Hz, 32 Hz to 20 kHz) of the hiss of recorded noise, as
# `noise_fit.measure` finds them in vinyl1_runoff, vinyl2_oldvinyl_L and _R, and
# static3_film_static. These are training material; what the loader keeps for validation and test
# is left out on purpose.
GRAMOPHONE_SPECTRA_DB = [
    [25, 27, 29, 28, 24, 16, 20, 16, 18, 13, 7, 4, 4, 1, 0,
     -1, -1, -1, -2, -1, -2, -1, 0, -1, -4, -10, -18, -19, -21],
    [47, 40, 43, 35, 33, 34, 31, 29, 26, 23, 19, 14, 11, 7, 2,
     -1, -5, -6, -7, -7, -8, -10, -14, -17, -14, -14, -14, -18, -20],
    [51, 41, 41, 34, 33, 32, 30, 28, 26, 23, 18, 13, 9, 6, 1,
     -2, -4, -5, -6, -5, -5, -8, -9, -10, -10, -10, -14, -18, -21],
]
FILM_SPECTRA_DB = [
    [13, 9, 10, 13, 5, 4, 11, 6, 5, 2, 1, 1, 1, 1, 1,
     1, 0, -1, -2, -4, -6, -9, -12, -14, -16, -17, -18, -19, -42],
]


def _range(low: float, high: float, least: float | None = None,
           most: float | None = None) -> list[float]:
    """Returns a field of two bounds: both above `least`, or in [0, `most`], where given."""
    return field(default_factory=lambda: [low, high],
                 metadata={"range": True, "least": least, "most": most})


def _check_ranges(group: object, name: str) -> None:
    for item in fields(group):
        bounds = getattr(group, item.name)
        if item.metadata.get("range") and not (
                len(bounds) == 2 and -math.inf < bounds[0] <= bounds[1] < math.inf):
            raise UserError(f"`{name}.{item.name}` must be [low, high] with low <= high, both "
                             f"finite. Received: {bounds}")
        least, most = item.metadata.get("least"), item.metadata.get("most")
        if least is not None and min(bounds, default=least) <= least:
            raise UserError(f"`{name}.{item.name}` must be above {least:g}. Received: {bounds}")
        if most is not None and not 0.0 <= min(bounds) <= max(bounds) <= most:
            raise UserError(f"`{name}.{item.name}` must be in [0, {most:g}]. Received: {bounds}")
        if item.name.endswith("_per_second") and bounds[0] < 0.0:
            raise UserError(f"`{name}.{item.name}` must be at least 0. Received: {bounds}")
        if item.name.endswith("_chance") and not 0.0 <= bounds <= 1.0:
            raise UserError(f"`{name}.{item.name}` must be in [0, 1]. Received: {bounds}")
        if item.name == "spectra_db" and any(len(row) != THIRD_OCTAVES for row in bounds):
            raise UserError(f"`{name}.spectra_db` must hold {THIRD_OCTAVES} levels in each row. "
                             f"Received: {[len(row) for row in bounds]}")


def _spectra(rows: list[list[float]]) -> list[list[float]]:
    return field(default_factory=lambda: [[float(level) for level in row] for row in rows])


@dataclass
class GramophoneConfig:
    """A disc. Every noise draws one value from each `[low, high]`.

    Levels in dB are relative to the RMS of the hiss above 1 kHz; those of clicks are peaks.
    """

    spectra_db: list[list[float]] = _spectra(GRAMOPHONE_SPECTRA_DB)
    fitted_chance: float = 0.5  # of a hiss from `spectra_db`, else from replay equalisation
    tilt_db_per_octave: list[float] = _range(-2.0, 2.0)
    colour_db: list[float] = _range(0.0, 5.0)  # height of random broad bumps in the spectrum
    cutoff_hz: list[float] = _range(4000.0, 20000.0, least=0.0)
    turns_per_minute: list[float] = field(
        default_factory=lambda: [78.26, 78.26, 78.26, 76.0, 80.0, 45.0, 33.333],
        metadata={"least": 0.0})
    swish_db: list[float] = _range(0.0, 4.0)  # swing of the hiss over one turn
    crackles_per_second: list[float] = _range(10.0, 800.0)
    crackle_db: list[float] = _range(5.0, 23.0)  # median
    crackle_spread_db: list[float] = _range(3.0, 9.0)
    crackle_ms: list[float] = _range(0.04, 0.2, least=0.0)  # length of the pulse
    clicks_per_second: list[float] = _range(0.3, 100.0)
    click_db: list[float] = _range(20.0, 33.0)
    click_spread_db: list[float] = _range(3.0, 10.0)
    click_ms: list[float] = _range(0.06, 0.4, least=0.0)
    locked_share: list[float] = _range(0.0, 0.7, most=1.0)  # of the clicks: they return
    thumps_per_second: list[float] = _range(0.02, 0.7)
    thump_db: list[float] = _range(15.0, 32.0)
    rumble_db: list[float] = _range(-10.0, 25.0)
    hum_db: list[float] = _range(-20.0, 15.0)
    part_chance: float = 0.6  # of thumps, rumble and hum, each

    def __post_init__(self) -> None:
        _check_ranges(self, "noise.gramophone")


@dataclass
class FilmConfig:
    """An optical track; levels as in `GramophoneConfig`."""

    spectra_db: list[list[float]] = _spectra(FILM_SPECTRA_DB)
    fitted_chance: float = 0.3  # of a hiss from `spectra_db`, else grain through slit and filter
    academy_chance: float = 0.7  # that the Academy curve rolled off both ends
    tilt_db_per_octave: list[float] = _range(-2.0, 1.0)
    colour_db: list[float] = _range(0.0, 4.0)
    cutoff_hz: list[float] = _range(5000.0, 16000.0, least=0.0)
    slit_um: list[float] = _range(12.0, 35.0, least=0.0)  # width of the scanning beam
    photocell_db: list[float] = _range(-40.0, -12.0)  # white hiss behind the filters
    crackles_per_second: list[float] = _range(20.0, 1200.0)  # frying
    crackle_db: list[float] = _range(0.0, 12.0)
    crackle_spread_db: list[float] = _range(2.0, 6.0)
    crackle_ms: list[float] = _range(0.05, 0.3, least=0.0)
    clicks_per_second: list[float] = _range(0.2, 12.0)  # ticks
    click_db: list[float] = _range(12.0, 28.0)
    click_spread_db: list[float] = _range(3.0, 6.0)
    click_ms: list[float] = _range(0.08, 0.5, least=0.0)
    buzz_db: list[float] = _range(-15.0, 15.0)  # of perforations or frames
    splices_per_second: list[float] = _range(0.02, 0.3)
    splice_db: list[float] = _range(12.0, 30.0)
    hum_db: list[float] = _range(-20.0, 15.0)
    signal_hiss_db: list[float] = _range(-6.0, 9.0)  # hiss that follows the signal, at its RMS
    part_chance: float = 0.6  # of buzz, splices, mains hum and lamp hum, each

    def __post_init__(self) -> None:
        _check_ranges(self, "noise.film")


@dataclass
class TapeConfig:
    """A magnetic tape; levels as in `GramophoneConfig`."""

    spectra_db: list[list[float]] = field(default_factory=list)
    fitted_chance: float = 0.5  # counts when there are `spectra_db`
    tilt_db_per_octave: list[float] = _range(-2.5, 0.5)
    colour_db: list[float] = _range(0.0, 3.0)
    cutoff_hz: list[float] = _range(6000.0, 20000.0, least=0.0)
    dropouts_per_second: list[float] = _range(0.05, 2.0)
    dropout_db: list[float] = _range(3.0, 20.0)
    dropout_ms: list[float] = _range(5.0, 200.0, least=0.0)
    hum_db: list[float] = _range(-25.0, 10.0)
    modulation_db: list[float] = _range(-6.0, 9.0)  # noise that follows the signal, at its RMS
    part_chance: float = 0.6  # of dropouts and hum, each

    def __post_init__(self) -> None:
        _check_ranges(self, "noise.tape")


@dataclass
class HumConfig:
    """Mains hum, or a motor's, above a little hiss."""

    speed: list[float] = _range(0.7, 1.5, least=0.0)  # of the replay: seldom at 50 or 60 Hz
    rectified_chance: float = 0.5  # of ripple at twice the mains frequency
    harmonics: list[float] = _range(2.0, 40.0, least=0.0)
    slope_db_per_octave: list[float] = _range(-14.0, -3.0)
    drift_percent: list[float] = _range(0.0, 0.3)
    hum_db: list[float] = _range(10.0, 45.0)

    def __post_init__(self) -> None:
        _check_ranges(self, "noise.hum")


@dataclass
class CarrierConfig:
    """Which kinds of noise there are, and what generated noise is drawn from."""

    kind: str = "mixed"  # or "gramophone", "film", "tape", "hum"
    gramophone_share: float = 0.25  # shares of "mixed"
    film_share: float = 0.25
    tape_share: float = 0.25
    hum_share: float = 0.25
    gramophone: GramophoneConfig = field(default_factory=GramophoneConfig)
    film: FilmConfig = field(default_factory=FilmConfig)
    tape: TapeConfig = field(default_factory=TapeConfig)
    hum: HumConfig = field(default_factory=HumConfig)

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, "mixed"):
            raise UserError(f"`noise.kind` must be one of {(*KINDS, 'mixed')}. "
                             f"Received: {self.kind!r}")
        shares = [getattr(self, f"{kind}_share") for kind in KINDS]
        if min(shares) < 0.0 or sum(shares) == 0.0:
            raise UserError(f"`noise.*_share` must be at least 0 and not all 0. "
                             f"Received: {shares}")

    def share(self, category: str) -> float:
        """Returns how often noise of a category is wanted, relative to the others.

        A category of the user's own, none of `KINDS`, counts as one kind among the others.
        """
        if category not in KINDS:
            return 1.0 / len(KINDS)
        if self.kind != "mixed":
            return float(category == self.kind)
        return getattr(self, f"{category}_share") / sum(
            getattr(self, f"{kind}_share") for kind in KINDS)
