"""Parts of a noise that are used alone or as the dominant part, such as hiss, clicks or hum.

If every training noise contained hiss, a network would take any noise without hiss for signal. So
each part is also drawn by itself, from wider ranges than as part of a carrier's noise, and with an
RMS of about 1. Start reading at `draw_part`.
"""

from collections.abc import Callable

import numpy as np

from historical_denoiser.noise import carriers, episodes, parts
from historical_denoiser.noise.carriers import CarrierConfig
from historical_denoiser.noise.parts import Part, draw_rate

# Length of the filter that shapes a narrow band: a resolution of 2.7 Hz, and together with
# `parts.CHUNK` a length for which the FFT is fast.
TAPS = 16577
BAND_OCTAVES = (0.5, 3.0)
BAND_HZ = (20.0, 16000.0)
# Most bands lie in this range, where hiss and music are hardest to distinguish.
LOW_BAND_HZ = (50.0, 1000.0)
LOW_BAND_CHANCE = 0.6
FULL_BAND_CHANCE = 0.1
SKIRT_ORDERS = (2.0, 16.0)  # skirts of 12 to 96 dB per octave
# Some bands have edges that are practically vertical.
WALL_ORDER = 40.0
WALL_CHANCE = 0.3
# Some noises have several bands, like that of a motor, so that a network learns each of them.
SEVERAL_BANDS_CHANCE = 0.4
MAX_BANDS = 5
MODULATION_CHANCE = 0.35  # of the level
CLICKS_PER_SECOND = (1.0, 500.0)
CLICK_MS = (0.1, 2.0)  # what is longer, or rings, is struck wood or metal, a wanted sound
RINGING_CHANCE, MAX_RINGING_MS = 0.2, 0.5  # ringing lasts three times as long
MAX_CLICK_TIME = 0.4  # maximal share of the time that clicks fill
THUMPS_PER_SECOND = (0.7, 4.0)
EPISODE_CHANCE = 0.15  # of hiss, crackle and rumble that rise or fall for a while
RUMBLE_HZ = (20.0, 200.0)


def _draw_band_db(rng: np.random.Generator, frequency_hz: np.ndarray) -> np.ndarray:
    """Draws the levels in dB of a band that is half an octave to three octaves wide."""
    octaves = draw_rate(rng, BAND_OCTAVES)
    bounds_hz = LOW_BAND_HZ if rng.uniform() < LOW_BAND_CHANCE else BAND_HZ
    low_hz = draw_rate(rng, (bounds_hz[0], bounds_hz[1] / 2.0**octaves))
    is_wall = rng.uniform() < WALL_CHANCE
    orders = (WALL_ORDER, WALL_ORDER) if is_wall else rng.uniform(*SKIRT_ORDERS, 2)
    return parts.band_pass_db(frequency_hz, low_hz, low_hz * 2.0**octaves, orders)


def _draw_hiss(rng: np.random.Generator, carrier: CarrierConfig) -> Part:
    """Draws Gaussian noise of one, several or all bands; some of it has a modulated level."""
    frequency_hz = parts.grid_hz(TAPS)
    if rng.uniform() < FULL_BAND_CHANCE:
        level_db = parts.draw_colour_db(rng, frequency_hz, rng.uniform(-6.0, 3.0), 5.0)
    else:
        level_db = _draw_band_db(rng, frequency_hz)
        if rng.uniform() < SEVERAL_BANDS_CHANCE:
            for _ in range(rng.integers(1, MAX_BANDS)):
                level_db = np.maximum(
                    level_db, _draw_band_db(rng, frequency_hz) - rng.uniform(0.0, 20.0))
        level_db = level_db + rng.uniform(-6.0, 3.0) * np.log2(frequency_hz / parts.LEVEL_HZ)
    hiss = parts.hiss(rng, level_db, above_hz=0.0)
    if rng.uniform() < MODULATION_CHANCE:
        modulation_db = 0.5 * rng.uniform(2.0, 12.0) * np.cos(2.0 * np.pi * np.arange(32) / 32)
        hiss = parts.multiply(hiss, parts.swing(rng, rng.uniform(0.0, 4.0), modulation_db,
                                                draw_rate(rng, (0.12, 3.0))))
    return hiss


def _draw_clicks(rng: np.random.Generator, carrier: CarrierConfig) -> Part:
    """Draws short clicks as on discs, or longer ones, at random or regular intervals."""
    if rng.uniform() < 0.5:
        milliseconds = carrier.gramophone.click_ms[1]
        bank = parts.impulse_bank(rng, carrier.gramophone.click_ms)
    else:
        milliseconds = draw_rate(rng, CLICK_MS)
        is_ringing = milliseconds < MAX_RINGING_MS and rng.uniform() < RINGING_CHANCE
        bank = parts.burst_bank(rng, milliseconds, carriers.draw_burst_band(rng), is_ringing)
    most = max(2.0 * CLICKS_PER_SECOND[0], MAX_CLICK_TIME / (1e-3 * milliseconds))
    per_second = draw_rate(rng, (CLICKS_PER_SECOND[0], min(CLICKS_PER_SECOND[1], most)))
    spread_db = rng.uniform(0.0, 9.0)
    if rng.uniform() < 0.35:
        return parts.strokes(rng, per_second, rng.uniform(0.0, 0.1), spread_db, bank)
    return parts.events(rng, per_second, 0.0, spread_db, bank, is_alone=True)


def _draw_crackle(rng: np.random.Generator, carrier: CarrierConfig) -> Part:
    cfg = carrier.gramophone
    return parts.events(
        rng, draw_rate(rng, cfg.crackles_per_second), 0.0,
        parts.draw(rng, cfg.crackle_spread_db), parts.impulse_bank(rng, cfg.crackle_ms),
        burst=rng.uniform(0.3, 0.7), is_alone=True)


def _draw_rumble(rng: np.random.Generator, carrier: CarrierConfig) -> Part:
    cfg = carrier.gramophone
    turn = 60.0 / float(rng.choice(cfg.turns_per_minute))
    return parts.rumble(rng, turn, rng.uniform(0.0, 0.7), RUMBLE_HZ, cfg.rumble_ring_seconds)


def _draw_thumps(rng: np.random.Generator, carrier: CarrierConfig) -> Part:
    return parts.thumps(rng, draw_rate(rng, THUMPS_PER_SECOND), 0.0, 4.0, is_alone=True)


MAKERS: dict[str, Callable[[np.random.Generator, CarrierConfig], Part]] = {
    "hiss": _draw_hiss,
    "hum": lambda rng, carrier: carriers.draw_bare_hum(rng, carrier.hum)[1],
    "clicks": _draw_clicks,
    "mechanism": lambda rng, carrier: carriers.draw_mechanism(rng, carrier.film),
    "crackle": _draw_crackle, "rumble": _draw_rumble, "thumps": _draw_thumps}
# The parts that each kind of carrier has. With "mixed", any part can be drawn.
KIND_PARTS = {
    "gramophone": ("hiss", "hum", "clicks", "crackle", "rumble", "thumps"),
    "film": ("hiss", "hum", "clicks", "mechanism", "crackle", "thumps"),
    "tape": ("hiss", "hum"),
    "hum": ("hum",),
    "mixed": tuple(MAKERS),
}


def draw_part(rng: np.random.Generator, carrier: CarrierConfig) -> tuple[str, Part]:
    """Draws one part, with an RMS of 1 over its first two seconds; returns its name as well.

    `carrier.kind` determines which parts can be drawn, `carrier.part_shares` how often.
    """
    names = KIND_PARTS[carrier.kind]
    shares = np.array([getattr(carrier.part_shares, name) for name in names])
    odds = shares / shares.sum() if shares.any() else None
    name = str(rng.choice(names, p=odds))
    part = MAKERS[name](rng, carrier)
    if name in episodes.TREBLE_HZ and rng.uniform() < EPISODE_CHANCE:
        part = episodes.modulate(rng, part, episodes.TREBLE_HZ[name])
    return name, parts.at_unit_level(part)
