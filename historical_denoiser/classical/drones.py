"""Distinguishes drones, which are music, from hum.

Both have steady tones. But the lines of hum are multiples of 50 or 60 Hz, changed by the transfer
speed at most, and machines turn at most about 20 times a second. Tones with another fundamental and
a series of harmonics come from an instrument: a bagpipe, the pedal of an organ, a hurdy-gurdy.
Tones whose fundamental happens to be that of hum cannot be distinguished from it, and count as hum.
Start reading at `find_drones`.
"""

from collections.abc import Sequence

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.hum import FASTER, MAINS_HZ, MAX_STEP, PIECE_SECONDS

WINDOW, HOP = 32768, 4096  # 743 ms; a main lobe is 2.7 Hz wide
BIN_HZ = SAMPLE_RATE / WINDOW
PIECE_SAMPLES = round(PIECE_SECONDS * SAMPLE_RATE)
MIN_SAMPLES = 2 * WINDOW  # shortest piece in which a tone can be called steady
MIN_HZ, MAX_HZ = 35.0, 4000.0
# A tone is continuous if it sounds in the quietest tenth of the frames.
QUIETEST_PERCENT = 10
# A line exceeds this percentile of the levels around it by `LINE_DB`.
AROUND_HZ = 100.0
AROUND_PERCENT = 40
LINE_DB = 15.0
PEAK_BINS = 7
MAX_FUNDAMENTAL_HZ = 500.0
LOW_ORDERS, MIN_LOW_ORDERS = 6, 4  # number of first harmonics, and how many of them a drone has
# A fundamental is fitted to this many orders, in turn.
FOLLOWED_ORDERS = (2, 4, 8, 16, 64, 1000)
# Tolerance of the frequency of a line, in Hz and as a share; notes have vibrato.
BESIDE_HZ, BESIDE_SHARE, HUM_BESIDE_SHARE = 0.7, 0.004, 0.002
MAX_BESIDE = 0.2  # share of the fundamental
# If the lowest line of hum is missing, every nth line looks like a series of its own. The other
# lines reveal the hum: at least this many, and this share of those that are possible up to this
# frequency.
MULTIPLES = range(2, 20)
MIN_BETWEEN, MIN_SHARE_BETWEEN, BETWEEN_HZ = 3, 0.3, 1500.0
FASTEST_MACHINE_HZ = 26.0  # 25 frames per second
MIN_SHARE = 0.5  # share of the power of all lines except hum
# Several series are one hum if a single comb of the mains has most of their lines.
COMB_STEP_HZ, COMB_SHARE, COMB_MOST_BESIDE = 0.05, 0.7, 0.03


def find_drones(sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the frequencies of all lines of drones in Hz, `(lines,)`.

    Args:
        sounds: Excerpts of one channel of a recording, each `(samples,)` at 44.1 kHz. A tone is
            found if it sounds throughout 5 s of one of them.
    """
    pieces = [piece for sound in sounds
              for piece in np.array_split(sound, max(1, len(sound) // PIECE_SAMPLES))]
    found = [_find_in(piece) for piece in pieces if len(piece) >= MIN_SAMPLES]
    return np.concatenate([np.zeros(0), *found])


def _find_in(piece: np.ndarray) -> np.ndarray:
    """Returns the lines of drones that sound throughout a piece, in Hz."""
    hz, power = _find_lines(piece)
    is_hum, is_drone = np.zeros(len(hz), bool), np.zeros(len(hz), bool)
    for place, lowest_hz in enumerate(hz[hz <= MAX_FUNDAMENTAL_HZ]):
        if is_hum[place] or is_drone[place]:
            continue
        base_hz, orders = _fit_series(hz, lowest_hz, BESIDE_SHARE)
        multiple = 1 if _may_be_hum(base_hz) else next(
            (each for each in MULTIPLES if _lies_between(hz, base_hz, each)), None)
        if multiple is not None:
            _, orders = _fit_series(hz, lowest_hz / multiple, HUM_BESIDE_SHARE)
            is_hum |= orders > 0
        elif len(set(orders[(orders > 0) & (orders <= LOW_ORDERS)])) >= MIN_LOW_ORDERS:
            is_drone |= orders > 0
    is_drone &= ~is_hum
    if not is_drone.any() or _are_one_comb(hz[is_drone]) or (
            power[is_drone].sum() < MIN_SHARE * power[~is_hum].sum()):
        return hz[:0]
    return hz[is_drone]


def _find_lines(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the frequencies in Hz, ascending, and the powers of all continuous lines."""
    frames = np.lib.stride_tricks.sliding_window_view(piece, WINDOW)[::HOP]
    bins = round((MAX_HZ + AROUND_HZ) / BIN_HZ)
    powers = np.stack([dsp.power_spectra(frame)[:bins] for frame in frames])
    level_db = dsp.decibels(np.percentile(powers, QUIETEST_PERCENT, axis=0) + 1e-12)
    around_db = scipy.ndimage.percentile_filter(level_db, AROUND_PERCENT, round(AROUND_HZ / BIN_HZ))
    is_line = ((level_db == scipy.ndimage.maximum_filter1d(level_db, PEAK_BINS))
               & (level_db > around_db + LINE_DB))
    places = np.flatnonzero(is_line)
    places = places[(places >= MIN_HZ / BIN_HZ) & (places <= MAX_HZ / BIN_HZ)]
    # The frequency is that of the vertex of the parabola through three levels.
    left, top, right = (level_db[places + step] for step in (-1, 0, 1))
    hz = (places + 0.5 * (left - right) / (left - 2.0 * top + right)) * BIN_HZ
    return hz, 10.0 ** (level_db[places] / 10.0)


def _fit_series(hz: np.ndarray, base_hz: float, share: float) -> tuple[float, np.ndarray]:
    """Fits a fundamental to the lines of its series, starting with the lowest.

    Args:
        hz: Frequencies of the lines.
        base_hz: Estimate of the fundamental.
        share: Tolerance of a line's frequency, as a share of it.

    Returns:
        The fundamental in Hz, and the order of each line; 0 if it is not part of the series.
    """
    orders = np.zeros(len(hz))
    for most in FOLLOWED_ORDERS:
        nearest = np.round(hz / base_hz)
        beside = np.clip(share * nearest * base_hz, BESIDE_HZ, MAX_BESIDE * base_hz)
        fits = (nearest > 0) & (nearest <= most) & (np.abs(hz - nearest * base_hz) <= beside)
        orders = np.where(fits, nearest, 0.0)
        if fits.any():
            base_hz = float(hz @ orders / (orders @ orders))
    return base_hz, orders


def _may_be_hum(base_hz: float) -> bool:
    """Returns whether this may be the fundamental of mains hum, a rectifier or a machine."""
    mains_hz = np.outer(MAINS_HZ, (1.0, 2.0))
    return bool(base_hz <= FASTEST_MACHINE_HZ or (np.abs(base_hz / mains_hz - 1.0) <= FASTER).any())


def _lies_between(hz: np.ndarray, series_hz: float, multiple: int) -> bool:
    """Returns whether a series is every `multiple`-th line of a hum that has the others, too."""
    base_hz = series_hz / multiple
    if not _may_be_hum(base_hz):
        return False
    base_hz, orders = _fit_series(hz, base_hz, HUM_BESIDE_SHARE)
    highest = int(min(BETWEEN_HZ, hz.max()) / base_hz)
    between = [order for order in range(1, highest + 1) if np.gcd(order, multiple) == 1]
    present = np.isin(between, orders).sum()
    return bool(present >= max(MIN_BETWEEN, MIN_SHARE_BETWEEN * len(between)))


def _are_one_comb(hz: np.ndarray) -> bool:
    """Returns whether most lines fit one comb of mains, at least every second line of it."""
    for mains_hz in MAINS_HZ:
        bases = np.arange(mains_hz * (1.0 - FASTER), mains_hz * (1.0 + FASTER), COMB_STEP_HZ)
        orders = np.maximum(np.round(hz / bases[:, None]), 1.0)
        beside = np.clip(HUM_BESIDE_SHARE * hz, BESIDE_HZ, COMB_MOST_BESIDE * mains_hz)
        fits = np.abs(hz - orders * bases[:, None]) <= beside
        step = np.gcd.reduce(np.where(fits, orders, 0.0).astype(int), axis=1)
        if ((fits.mean(axis=1) >= COMB_SHARE) & (step <= MAX_STEP)).any():
            return True
    return False
