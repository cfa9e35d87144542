"""The kinds of noise: the settings of each, and the function that draws a noise from them.

To add a kind, write a dataclass of `Ranges` and a function that returns a `Carrier`, and add two
fields to `CarrierConfig` and an entry to `CARRIERS`; no other module needs a change. The sources of
every part are listed in `docs/noise_parts.md`. Start reading at `CARRIERS` and `_draw_disc`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import scipy

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.audio.replay import disc_replay_db
from historical_denoiser.core.checks import require, require_range
from historical_denoiser.noise import episodes, parts
from historical_denoiser.noise.moving import MovingConfig
from historical_denoiser.noise.parts import Part, draw, draw_rate, grid_hz
from historical_denoiser.noise.ranges import Ranges, between, chance, choices, spectra

Levels = Callable[[np.ndarray], np.ndarray]  # from frequencies in Hz to levels in dB

ENVELOPE_SECONDS = 0.01  # half the length of the window in which a signal's level is measured
BUZZ_COLOUR_DB = 20.0  # height of the bumps in the harmonics of a buzz


@dataclass
class Carrier:
    """One noise. Levels are in dB relative to the RMS of its hiss above 1 kHz.

    Attributes:
        parts: Level and part by name ("hiss", "clicks", "hum", ...). They are added up in this
            order, because they share one random generator. Impulses have the level 0, since each
            impulse has a level of its own.
        following: Level and function of the noise that follows the signal; None for discs. The
            function takes the signal `(samples,)` and its power, and returns the noise.
        dominant: Name, level and part of a dominant part that is added to the others. Its level is
            relative to the RMS of all `parts` together, and the RMS of the part is 1.
        rms: RMS of all `parts` together; if None, it is measured in the first chunk.
    """

    parts: dict[str, tuple[float, Part]]
    following: tuple[float, Callable[[np.ndarray, float], np.ndarray]] | None = None
    dominant: tuple[str, float, Part] | None = None
    rms: float | None = None


# --- Shared by several kinds -----------------------------------------------------------------


def _draw_spectrum_db(rng: np.random.Generator, cfg: GramophoneConfig | FilmConfig | TapeConfig,
                      frequency_hz: np.ndarray, otherwise_db: np.ndarray) -> np.ndarray:
    """Draws the spectrum of a hiss in dB.

    It is either a blend of two fitted spectra or `otherwise_db`; a random colour is added.
    """
    level_db = otherwise_db
    if cfg.spectra_db and rng.uniform() < cfg.fitted_chance:
        pair = np.array(cfg.spectra_db)[rng.integers(len(cfg.spectra_db), size=2)]
        level_db = parts.interpolate_db(
            frequency_hz, np.average(pair, axis=0, weights=rng.dirichlet([1.0, 1.0])))
    return level_db + parts.draw_colour_db(rng, frequency_hz, draw(rng, cfg.tilt_db_per_octave),
                                           draw(rng, cfg.colour_db))


def _draw_band(rng: np.random.Generator, cutoff_hz: Sequence[float]) -> Levels:
    """Draws a low-pass filter: the bandwidth of the pick-up, the amplifier or the transfer."""
    cutoff, order = draw_rate(rng, cutoff_hz), rng.uniform(1.0, 5.0)
    return lambda frequency_hz: parts.low_pass_db(frequency_hz, cutoff, order)


def _draw_mains(rng: np.random.Generator, hum_db: Sequence[float], band: Levels | None = None,
                multiple: int = 1) -> tuple[float, Part]:
    """Draws hum at the mains frequency or a multiple of it, and its level."""
    frequency_hz = multiple * rng.choice([50.0, 60.0]) * (1.0 + 0.002 * rng.normal())
    return draw(rng, hum_db), parts.make_hum(rng, frequency_hz, int(rng.integers(2, 16)),
                                             rng.uniform(-15.0, -4.0), band_db=band)


def _draw_impulses(rng: np.random.Generator, cfg: GramophoneConfig | FilmConfig, band: Levels,
                   turn_seconds: float = 1.0, locked_share: float = 0.0, burst: float = 0.3,
                   ) -> dict[str, tuple[float, Part]]:
    """Draws crackle (on film: frying) and clicks (ticks); clicks are rarer and louder."""
    return {
        "crackle": (0.0, parts.events(
            rng, draw_rate(rng, cfg.crackles_per_second), draw(rng, cfg.crackle_db),
            draw(rng, cfg.crackle_spread_db), parts.impulse_bank(rng, cfg.crackle_ms, band),
            turn_seconds, locked_share * rng.uniform(), burst, loudest_db=cfg.loudest_db)),
        "clicks": (0.0, parts.events(
            rng, draw_rate(rng, cfg.clicks_per_second), draw(rng, cfg.click_db),
            draw(rng, cfg.click_spread_db), parts.impulse_bank(rng, cfg.click_ms, band),
            turn_seconds, locked_share, burst, loudest_db=cfg.loudest_db))}


def _add_episodes(rng: np.random.Generator, drawn: dict[str, tuple[float, Part]], chance: float,
                  ) -> dict[str, tuple[float, Part]]:
    """Lets each part of `episodes.TREBLE_HZ` rise or fall for a while, with a probability."""
    return {name: (level_db, episodes.modulate(rng, part, episodes.TREBLE_HZ[name])
                   if name in episodes.TREBLE_HZ and rng.uniform() < chance else part)
            for name, (level_db, part) in drawn.items()}


def draw_burst_band(rng: np.random.Generator) -> tuple[float, float]:
    """Draws the band in Hz, lower and upper edge, of a mechanism's or a loose contact's noise."""
    low_hz = draw_rate(rng, (20.0, 1500.0)) if rng.uniform() < 0.6 else 20.0
    return low_hz, draw_rate(rng, (max(2.0 * low_hz, 500.0), 20000.0))


def _envelope(signal: np.ndarray, power: float) -> np.ndarray:
    """Returns the level of a signal over time, `(samples,)`, relative to the RMS sqrt(`power`)."""
    reach = int(ENVELOPE_SECONDS * SAMPLE_RATE)
    total = np.cumsum(np.pad(np.square(signal, dtype=np.float64), (reach, reach)))
    local = (total[2 * reach:] - total[:-2 * reach]) / (2 * reach)
    return np.sqrt(np.maximum(local[:len(signal)], 0.0) / power)


def _follow_with_hiss(rng: np.random.Generator, spectrum_db: np.ndarray, signal: np.ndarray,
                      power: float) -> np.ndarray:
    """Makes hiss with the signal's envelope; film grain is louder where the track is brighter."""
    hiss = parts.render(parts.hiss(rng, spectrum_db), len(signal))
    return hiss * _envelope(signal, power)


def _follow_with_frying(follow: Callable[[np.ndarray, float], np.ndarray], crackle: Part,
                        signal: np.ndarray, power: float) -> np.ndarray:
    """Adds crackle that follows the signal: with more light, more dirt on the track is scanned."""
    frying = parts.render(crackle, len(signal)) * _envelope(signal, power)
    return follow(signal, power) + frying


def _follow_with_modulation(rng: np.random.Generator, spectrum_db: np.ndarray, signal: np.ndarray,
                            power: float) -> np.ndarray:
    """Makes the modulation noise of a tape: hiss with the signal's envelope, and asperity noise.

    Asperity noise comes from slow random variations of the coating: they multiply the signal and so
    give every tone sidebands.
    """
    hiss = _follow_with_hiss(rng, spectrum_db, signal, power)
    level_db = parts.low_pass_db(grid_hz(), draw_rate(rng, (50.0, 2000.0)), 1.0)
    variation = parts.render(parts.hiss(rng, level_db), len(signal))
    variation /= np.sqrt(np.mean(variation**2))
    return np.sqrt(0.5) * (hiss + signal / np.sqrt(power) * variation)


# --- Discs -----------------------------------------------------------------------------------

# Bass turnover and treble roll-off in Hz (0: none) of disc replay, IASA-TC 04 sections 5.2.6 and
# 5.3.6; acoustic records are played flat.
DISC_REPLAY_HZ = ((0, 0), (0, 0), (250, 0), (300, 0), (400, 0), (500, 0), (300, 2120),
                  (400, 2500), (450, 3180), (500, 1590), (500, 2122), (500, 3180))


@dataclass
class GramophoneConfig(Ranges):
    """The noise of a disc. Every noise draws one value from each range `[low, high]`.

    Levels are in dB relative to the RMS of the hiss above 1 kHz; those of crackle, clicks and
    thumps are peak levels. A rate of [0, 0] turns a part off.
    """

    # Measured by `fit.measure` in vinyl1_runoff, vinyl2_oldvinyl_L and _R. These are training
    # material; the recordings that the loader reserves for validation and test were not used.
    spectra_db: list[list[float]] = spectra([
        [25, 27, 29, 28, 24, 16, 20, 16, 18, 13, 7, 4, 4, 1, 0,
         -1, -1, -1, -2, -1, -2, -1, 0, -1, -4, -10, -18, -19, -21],
        [47, 40, 43, 35, 33, 34, 31, 29, 26, 23, 19, 14, 11, 7, 2,
         -1, -5, -6, -7, -7, -8, -10, -14, -17, -14, -14, -14, -18, -20],
        [51, 41, 41, 34, 33, 32, 30, 28, 26, 23, 18, 13, 9, 6, 1,
         -2, -4, -5, -6, -5, -5, -8, -9, -10, -10, -10, -14, -18, -21]])
    fitted_chance: float = chance(0.5)  # use of `spectra_db`; otherwise equalised white noise
    tilt_db_per_octave: list[float] = between(-2.0, 2.0)
    colour_db: list[float] = between(0.0, 5.0)  # height of broad random bumps in the spectrum
    cutoff_hz: list[float] = between(4000.0, 20000.0, "above 0")
    turns_per_minute: list[float] = choices([78.26, 78.26, 78.26, 76.0, 80.0, 45.0, 33.333])
    swish_db: list[float] = between(0.0, 4.0)  # level modulation of the hiss within one turn
    run_out_chance: float = chance(0.12)  # a lead-in or run-out groove: the arm swings each turn
    run_out_db: list[float] = between(4.0, 26.0)  # level modulation of its hiss within one turn
    run_out_treble_db: list[float] = between(0.0, 12.0)  # and of the treble of its hiss, besides
    crackles_per_second: list[float] = between(10.0, 800.0, "at least 0")
    crackle_db: list[float] = between(5.0, 48.0)  # median
    crackle_spread_db: list[float] = between(3.0, 9.0, "at least 0")  # standard deviation
    crackle_ms: list[float] = between(0.04, 0.2, "above 0")  # duration of the pulse
    clicks_per_second: list[float] = between(0.3, 30.0, "at least 0")
    click_db: list[float] = between(20.0, 58.0)
    click_spread_db: list[float] = between(3.0, 10.0, "at least 0")
    click_ms: list[float] = between(0.06, 0.4, "above 0")  # 5 to 10 times as long with its decay
    locked_share: list[float] = between(0.0, 0.7, "in [0, 1]")  # clicks that recur each turn
    thumps_per_second: list[float] = between(0.02, 0.7, "at least 0")
    thump_db: list[float] = between(15.0, 32.0)
    loudest_db: float = parts.LOUDEST_DB  # upper limit of all impulses
    rumble_db: list[float] = between(-10.0, 50.0)
    rumble_hz: list[float] = between(8.0, 120.0, "above 0")  # resonance frequencies
    rumble_ring_seconds: list[float] = between(0.01, 0.2, "above 0")  # their decay times
    needle_chance: float = chance(0.1)  # a needle that is set down, lifted, or jumps
    needles_per_second: list[float] = between(0.02, 0.4, "above 0")
    needle_db: list[float] = between(20.0, 50.0)
    needle_ms: list[float] = between(20.0, 300.0, "above 0")
    hum_db: list[float] = between(-20.0, 15.0)
    part_chance: float = chance(0.6)  # for each of thumps, rumble and hum
    episode_chance: float = chance(0.12)  # for each of `episodes.TREBLE_HZ`


def _draw_swish(rng: np.random.Generator, swish_db: Sequence[float]) -> np.ndarray:
    """Draws levels in dB at 64 points of a turn."""
    swish = scipy.fft.irfft(np.append([0.0], rng.normal(size=6) + 1j * rng.normal(size=6)), 64)
    return swish * (0.5 * draw(rng, swish_db) / np.abs(swish).max())


def _draw_disc(rng: np.random.Generator, cfg: GramophoneConfig) -> Carrier:
    """Draws the noise of a disc: hiss with swish, crackle, clicks, thumps, rumble and hum."""
    band = _draw_band(rng, cfg.cutoff_hz)
    replay_hz = DISC_REPLAY_HZ[rng.integers(len(DISC_REPLAY_HZ))]
    frequency_hz = grid_hz()
    hiss = parts.hiss(rng, band(frequency_hz) + _draw_spectrum_db(
        rng, cfg, frequency_hz, disc_replay_db(frequency_hz, *replay_hz)))
    turn = 60.0 / float(rng.choice(cfg.turns_per_minute))
    swish = _draw_swish(rng, cfg.swish_db)
    hiss = parts.multiply(hiss, parts.swing(rng, rng.uniform(0.0, 1.0), swish, turn))
    locked = draw(rng, cfg.locked_share)
    drawn = {"hiss": (0.0, hiss), **_draw_impulses(rng, cfg, band, turn, locked)}
    if rng.uniform() < cfg.part_chance:
        drawn["thumps"] = 0.0, parts.thumps(
            rng, draw_rate(rng, cfg.thumps_per_second), draw(rng, cfg.thump_db), 4.0,
            turn_seconds=turn, locked_share=locked, loudest_db=cfg.loudest_db)
    if rng.uniform() < cfg.part_chance:
        drawn["rumble"] = draw(rng, cfg.rumble_db), parts.rumble(
            rng, turn, rng.uniform(0.0, 0.7), cfg.rumble_hz, cfg.rumble_ring_seconds)
    if rng.uniform() < cfg.part_chance:
        drawn["hum"] = _draw_mains(rng, cfg.hum_db)
    # A separate generator keeps all other parts the same, with or without a needle.
    own = rng.spawn(1)[0]
    if own.uniform() < cfg.needle_chance:
        bank = parts.burst_bank(own, draw_rate(own, cfg.needle_ms),
                                (draw_rate(own, (15.0, 80.0)), draw_rate(own, (1000.0, 12000.0))),
                                is_tonal=False)
        drawn["needle"] = 0.0, parts.events(own, draw_rate(own, cfg.needles_per_second),
                                            draw(own, cfg.needle_db), 5.0, bank)
    aside = rng.spawn(1)[0]
    if aside.uniform() < cfg.run_out_chance:
        swings = [parts.swing(aside, 0.0, _draw_swish(aside, range_db), turn)
                  for range_db in (cfg.run_out_db, cfg.run_out_treble_db)]
        drawn["hiss"] = 0.0, episodes.shelve(parts.multiply(hiss, swings[0]), swings[1],
                                             draw_rate(aside, episodes.TREBLE_HZ["hiss"]))
    return Carrier(_add_episodes(aside, drawn, cfg.episode_chance))


# --- Film ------------------------------------------------------------------------------------

SECOND_STROKE_CHANCE = 0.5
CLATTER_CHANCE = 0.5
CLATTER_MS = (0.5, 3.0)  # what rings longer is struck wood or metal, a wanted sound
# Speed in mm/s and perforations per second; twice 35 mm film, once 16 mm.
FILM_GAUGES = ((457.2, 96.0), (457.2, 96.0), (182.9, 24.0))


@dataclass
class FilmConfig(Ranges):
    """The noise of an optical track. Levels are as in `GramophoneConfig`; splices make thumps."""

    spectra_db: list[list[float]] = spectra([  # from static3_film_static, measured as for discs
        [13, 9, 10, 13, 5, 4, 11, 6, 5, 2, 1, 1, 1, 1, 1,
         1, 0, -1, -2, -4, -6, -9, -12, -14, -16, -17, -18, -19, -42]])
    fitted_chance: float = chance(0.3)  # use of `spectra_db`; otherwise filtered grain noise
    academy_chance: float = chance(0.7)  # the Academy curve attenuated both ends
    tilt_db_per_octave: list[float] = between(-2.0, 1.0)
    colour_db: list[float] = between(0.0, 4.0)
    cutoff_hz: list[float] = between(5000.0, 16000.0, "above 0")
    slit_um: list[float] = between(12.0, 35.0, "above 0")  # width of the scanning beam
    photocell_db: list[float] = between(-40.0, -12.0)  # white hiss that the filters do not affect
    crackles_per_second: list[float] = between(20.0, 1200.0, "at least 0")  # frying
    crackle_db: list[float] = between(0.0, 40.0)
    crackle_spread_db: list[float] = between(2.0, 6.0, "at least 0")
    crackle_ms: list[float] = between(0.05, 0.3, "above 0")
    clicks_per_second: list[float] = between(0.2, 12.0, "at least 0")  # ticks
    click_db: list[float] = between(12.0, 52.0)
    click_spread_db: list[float] = between(3.0, 6.0, "at least 0")
    click_ms: list[float] = between(0.08, 0.5, "above 0")
    buzz_db: list[float] = between(-15.0, 15.0)  # perforations at 96 Hz or frames at 24 Hz
    splices_per_second: list[float] = between(0.02, 0.3, "at least 0")
    splice_db: list[float] = between(12.0, 50.0)
    loudest_db: float = parts.LOUDEST_DB
    mechanism_chance: float = chance(0.4)  # projector noise
    mechanism_db: list[float] = between(-10.0, 30.0)  # RMS
    strokes_per_second: list[float] = between(16.0, 24.0, "at least 1")  # of shutter and claw
    stroke_ms: list[float] = between(10.0, 40.0, "above 0")
    clatters_per_second: list[float] = between(2.0, 100.0, "at least 0")  # loose metal
    hum_db: list[float] = between(-20.0, 15.0)  # mains, and the lamp at twice its frequency
    signal_hiss_db: list[float] = between(-6.0, 9.0)  # hiss that follows the signal, at its RMS
    signal_frying_chance: float = chance(0.3)  # crackle that follows the signal as well
    signal_frying_db: list[float] = between(-10.0, 15.0)  # its RMS over that of the hiss
    part_chance: float = chance(0.6)  # for each of buzz, splices, mains hum and lamp hum
    episode_chance: float = chance(0.12)  # for each of hiss and crackle


def draw_mechanism(rng: np.random.Generator, cfg: FilmConfig) -> Part:
    """Draws the noise of a projector's mechanism, with an RMS of 1.

    The shutter or the claw causes a burst at the frame rate, often with a second, weaker burst
    between two of them; loose metal adds clatter.
    """
    per_second, milliseconds = draw_rate(rng, cfg.strokes_per_second), draw(rng, cfg.stroke_ms)
    band_hz = draw_burst_band(rng)
    jitter = rng.uniform(0.0, 0.01)
    shapes = int(rng.choice([1, parts.BURSTS]))

    def draw_strokes(milliseconds: float) -> Part:
        bank = parts.burst_bank(rng, milliseconds, band_hz, is_tonal=False, shapes=shapes)
        return parts.strokes(rng, per_second, jitter, rng.uniform(0.0, 4.0), bank)

    mechanism = draw_strokes(milliseconds)
    if rng.uniform() < SECOND_STROKE_CHANCE:
        mechanism = parts.add(mechanism, parts.amplify(
            draw_strokes(milliseconds * rng.uniform(0.2, 1.0)), rng.uniform(-12.0, 0.0)))
    if rng.uniform() < CLATTER_CHANCE:
        bank = parts.burst_bank(rng, draw_rate(rng, CLATTER_MS), draw_burst_band(rng), True)
        mechanism = parts.add(mechanism, parts.events(
            rng, draw_rate(rng, cfg.clatters_per_second), rng.uniform(-12.0, 6.0), 6.0, bank))
    return parts.at_unit_level(mechanism)


def _draw_film(rng: np.random.Generator, cfg: FilmConfig) -> Carrier:
    """Draws the noise of film: grain, photocell hiss, frying, ticks, buzz, splices, hum, projector.
    """
    speed, perforations_hz = FILM_GAUGES[rng.integers(len(FILM_GAUGES))]
    cutoff, slit = _draw_band(rng, cfg.cutoff_hz), draw(rng, cfg.slit_um)
    academy = float(rng.uniform() < cfg.academy_chance)

    def band(frequency_hz: np.ndarray) -> np.ndarray:
        return (cutoff(frequency_hz) + parts.slit_db(frequency_hz, slit, speed)
                + academy * parts.academy_db(frequency_hz))

    frequency_hz = grid_hz()
    grain_db = _draw_spectrum_db(rng, cfg, frequency_hz, band(frequency_hz))
    photocell_db = np.interp(parts.LEVEL_HZ, frequency_hz, grain_db) + draw(rng, cfg.photocell_db)
    hiss_db = 20.0 * np.log10(np.hypot(to_gain(grain_db), to_gain(photocell_db)))
    hiss = parts.multiply(parts.hiss(rng, hiss_db), parts.swing(rng, rng.uniform(0.0, 1.5)))
    following = draw(rng, cfg.signal_hiss_db), partial(_follow_with_hiss, rng, hiss_db)
    drawn = {"hiss": (0.0, hiss), **_draw_impulses(rng, cfg, band, burst=0.7)}
    if rng.uniform() < cfg.part_chance:
        buzz_hz = float(rng.choice([24.0, perforations_hz, perforations_hz]))
        drawn["buzz"] = draw(rng, cfg.buzz_db), parts.make_hum(
            rng, buzz_hz, int(rng.integers(8, 60)), rng.uniform(-9.0, -1.0), 0.001, band)
    if rng.uniform() < cfg.part_chance:
        drawn["splices"] = 0.0, parts.thumps(
            rng, draw_rate(rng, cfg.splices_per_second), draw(rng, cfg.splice_db), 4.0,
            loudest_db=cfg.loudest_db)
    # A lamp brightens twice in each period of the mains.
    for name, multiple in (("hum", 1), ("lamp", 2)):
        if rng.uniform() < cfg.part_chance:
            drawn[name] = _draw_mains(rng, cfg.hum_db, band, multiple)
    # A separate generator keeps all other parts the same, with or without a mechanism.
    own = rng.spawn(1)[0]
    if own.uniform() < cfg.mechanism_chance:
        drawn["mechanism"] = draw(own, cfg.mechanism_db), draw_mechanism(own, cfg)
    aside = rng.spawn(1)[0]
    if aside.uniform() < cfg.signal_frying_chance:
        frying = parts.at_unit_level(parts.events(
            aside, draw_rate(aside, cfg.crackles_per_second), 0.0,
            draw(aside, cfg.crackle_spread_db), parts.impulse_bank(aside, cfg.crackle_ms, band),
            burst=0.7, is_alone=True))
        level_db, follow = following
        following = level_db, partial(_follow_with_frying, follow, parts.amplify(
            frying, draw(aside, cfg.signal_frying_db)))
    return Carrier(_add_episodes(aside, drawn, cfg.episode_chance), following)


# --- Tape ------------------------------------------------------------------------------------

# Bass and treble time constants in microseconds (0: none) of tape replay, IASA-TC 04 section 5.4.
TAPE_REPLAY_US = ((0, 17.5), (0, 35), (3180, 50), (0, 50), (0, 70), (0, 100), (3180, 90),
                  (3180, 120), (3180, 140), (0, 200), (3180, 200))
CLOG_ORDER = 3  # the loss grows with frequency, as the distance of the head does in wavelengths


@dataclass
class TapeConfig(Ranges):
    """The noise of a magnetic tape. Levels are as in `GramophoneConfig`."""

    spectra_db: list[list[float]] = spectra([])
    fitted_chance: float = chance(0.5)  # has no effect without `spectra_db`
    tilt_db_per_octave: list[float] = between(-4.0, 1.0)
    colour_db: list[float] = between(0.0, 8.0)
    cutoff_hz: list[float] = between(2500.0, 20000.0, "above 0")
    dropouts_per_second: list[float] = between(0.05, 2.0, "at least 0")
    dropout_db: list[float] = between(3.0, 20.0)
    dropout_ms: list[float] = between(5.0, 200.0, "above 0")
    hum_db: list[float] = between(-25.0, 10.0)
    modulation_db: list[float] = between(-6.0, 9.0)  # noise that follows the signal, at its RMS
    part_chance: float = chance(0.6)  # for each of dropouts and hum
    # Dirt on the head: the treble of the hiss falls for a while. (That of the sound stays, since a
    # denoiser cannot restore it.)
    clog_chance: float = chance(0.2)
    clog_db: list[float] = between(6.0, 30.0)
    clog_seconds: list[float] = between(0.1, 3.0, "above 0")
    clog_hz: list[float] = between(1000.0, 6000.0, "above 0")  # frequency at which the loss begins
    # Print-through (`dset.share_printed`): echoes one turn of the reel away.
    print_db: list[float] = between(-50.0, -30.0)  # relative to the programme
    print_seconds: list[float] = between(1.0, 2.0, "above 0")  # duration of the turn
    print_hz: list[float] = between(300.0, 1500.0, "above 0")  # frequency that is printed most


def _draw_tape(rng: np.random.Generator, cfg: TapeConfig) -> Carrier:
    """Draws the noise of a tape: hiss with replay equalisation and dropouts, and hum."""
    replay_us = TAPE_REPLAY_US[rng.integers(len(TAPE_REPLAY_US))]
    band, frequency_hz = _draw_band(rng, cfg.cutoff_hz), grid_hz()
    hiss_db = band(frequency_hz) + _draw_spectrum_db(
        rng, cfg, frequency_hz, parts.tape_replay_db(frequency_hz, *replay_us))
    hiss = parts.multiply(parts.hiss(rng, hiss_db), parts.swing(rng, rng.uniform(0.0, 0.7)))
    following = draw(rng, cfg.modulation_db), partial(_follow_with_modulation, rng, hiss_db)
    if rng.uniform() < cfg.part_chance:
        # `events` expects its median in dB, so the depth is converted as if it were an amplitude.
        depth_db = draw_rate(rng, cfg.dropout_db)
        dips = parts.events(rng, draw_rate(rng, cfg.dropouts_per_second),
                            20.0 * np.log10(max(depth_db, 1e-3)), 3.0,
                            parts.dip_bank(rng, cfg.dropout_ms), signed=False)
        hiss = parts.multiply(hiss, (to_gain(-dip) for dip in dips))
    own = rng.spawn(1)[0]
    if own.uniform() < cfg.clog_chance:
        loss_db = episodes.episodes(own, -draw(own, cfg.clog_db), cfg.clog_seconds,
                                    episodes.REST_SECONDS)
        hiss = episodes.shelve(hiss, map(to_gain, loss_db), draw_rate(own, cfg.clog_hz), CLOG_ORDER)
    drawn = {"hiss": (0.0, hiss)}
    if rng.uniform() < cfg.part_chance:
        drawn["hum"] = _draw_mains(rng, cfg.hum_db)
    return Carrier(drawn, following)


def print_through(signal: np.ndarray, rng: np.random.Generator, cfg: TapeConfig) -> np.ndarray:
    """Draws the print-through of a programme: an echo before it and another one after it.

    On the reel, each layer magnetises its neighbours. The field of the wavelength 2 pi / k at the
    distance d is proportional to k exp(-k d), so that a middle frequency is printed most.

    Args:
        signal: Programme `(samples,)`, taken as periodic.
        rng: Source of all randomness.
        cfg: The ranges `print_db`, `print_seconds` and `print_hz`.

    Returns:
        float32 array `(samples,)`.
    """
    size = len(signal)
    ratio = scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE) / draw_rate(rng, cfg.print_hz)
    printed = scipy.fft.irfft(scipy.fft.rfft(signal) * ratio * np.exp(1.0 - ratio), size)
    shift = round(draw(rng, cfg.print_seconds) * SAMPLE_RATE)
    before, after = (to_gain(draw(rng, cfg.print_db)) * np.roll(printed, way * shift)
                     for way in (-1, 1))
    return (before + after).astype(np.float32)


# --- Hum -------------------------------------------------------------------------------------


@dataclass
class HumConfig(Ranges):
    """Hum of the mains or of a motor, with a little hiss."""

    # Replay speed. A network that was trained with hum at any frequency took held notes for hum.
    speed: list[float] = between(0.95, 1.05, "above 0")
    rectified_chance: float = chance(0.5)  # ripple at twice the mains frequency
    harmonics: list[float] = between(1.0, 40.0, "at least 1")
    slope_db_per_octave: list[float] = between(-14.0, -3.0)
    drift_percent: list[float] = between(0.0, 0.3)
    hum_db: list[float] = between(10.0, 45.0)
    pulsed_chance: float = chance(0.3)  # pulses of a rectifier or a dimmer
    buzz_chance: float = chance(0.5)  # harmonics up to high frequencies, as in hum that couples in
    buzz_harmonics: list[float] = between(40.0, 400.0, "at least 1")
    buzz_tilt_db_per_octave: list[float] = between(-8.0, 2.0)
    arc_chance: float = chance(0.25)  # hiss that flares up in each half-period
    arc_db: list[float] = between(3.0, 30.0)


def draw_bare_hum(rng: np.random.Generator, cfg: HumConfig) -> tuple[float, Part]:
    """Draws mains hum, or buzz with harmonics over the whole band, without hiss.

    Returns:
        Level in dB relative to the hiss, and the hum with an RMS of 1.
    """
    frequency_hz = float(rng.choice([50.0, 60.0])) * draw_rate(rng, cfg.speed)
    if rng.uniform() < cfg.rectified_chance:
        frequency_hz *= 2.0
    level_db, harmonics = draw(rng, cfg.hum_db), draw_rate(rng, cfg.harmonics)
    slope, drift = draw(rng, cfg.slope_db_per_octave), 0.01 * draw(rng, cfg.drift_percent)
    # A separate generator leaves the later draws from `rng` unchanged.
    aside, band_db = rng.spawn(1)[0], None
    is_pulsed = aside.uniform() < cfg.pulsed_chance
    if aside.uniform() < cfg.buzz_chance:
        harmonics, slope = draw_rate(aside, cfg.buzz_harmonics), 0.0
        band_db = partial(parts.draw_colour_db, aside,
                          tilt_db_per_octave=draw(aside, cfg.buzz_tilt_db_per_octave),
                          height_db=BUZZ_COLOUR_DB)
    return level_db, parts.make_hum(rng, frequency_hz, int(harmonics), slope, drift, band_db,
                                    is_pulsed)


def _draw_hum(rng: np.random.Generator, cfg: HumConfig) -> Carrier:
    """Draws hum and a little hiss, which may flare up like that of an arc."""
    hiss = parts.hiss(rng, parts.draw_colour_db(rng, grid_hz(), rng.uniform(-4.0, 0.0), 3.0))
    hum = draw_bare_hum(rng, cfg)
    aside = rng.spawn(1)[0]
    if aside.uniform() < cfg.arc_chance:
        half_seconds = 0.5 / (float(aside.choice([50.0, 60.0])) * draw_rate(aside, cfg.speed))
        flare_db = 0.5 * draw(aside, cfg.arc_db) * np.cos(2.0 * np.pi * np.arange(8) / 8)
        hiss = parts.multiply(hiss, parts.swing(aside, aside.uniform(0.0, 4.0), flare_db,
                                                half_seconds))
    return Carrier({"hiss": (0.0, hiss), "hum": hum})


# --- All kinds -------------------------------------------------------------------------------

# Each function draws a noise from a random generator and the settings of its kind.
CARRIERS: dict[str, Callable[[np.random.Generator, Any], Carrier]] = {
    "gramophone": _draw_disc, "film": _draw_film, "tape": _draw_tape, "hum": _draw_hum}
KINDS = tuple(CARRIERS)
FOLLOWING_KINDS = ("film", "tape")  # kinds with noise that follows a signal
MOVING = "moving"  # noise that belongs to no carrier: `moving.make_moving`


@dataclass
class PartShares:
    """Relative frequency with which each part is chosen to be alone or dominant."""

    hiss: float = 0.50
    hum: float = 0.13
    clicks: float = 0.13
    mechanism: float = 0.10
    crackle: float = 0.07
    rumble: float = 0.04
    thumps: float = 0.03

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            require(share >= 0.0, f"noise.part_shares.{name}", "at least 0", share)
        require(any(vars(self).values()), "noise.part_shares", "not all 0", vars(self))


@dataclass
class CarrierConfig:
    """Settings of generated noise: which kinds there are, and the ranges each is drawn from."""

    kind: str = "mixed"  # or "gramophone", "film", "tape", "hum"
    alone_share: float = 0.3  # share of generated noises that consist of one part alone
    dominant_share: float = 0.15  # share in which one part is louder than all others
    dominant_db: list[float] = field(default_factory=lambda: [3.0, 25.0])  # its level over the rest
    part_shares: PartShares = field(default_factory=PartShares)
    # Share of the generated noises of "mixed" that belong to no carrier.
    moving_share: float = 0.5
    fluctuating_share: float = 0.4  # share of all other noises whose levels fluctuate
    moving: MovingConfig = field(default_factory=MovingConfig)
    gramophone_share: float = 0.25  # shares of the kinds in "mixed"
    film_share: float = 0.25
    tape_share: float = 0.25
    hum_share: float = 0.25
    gramophone: GramophoneConfig = field(default_factory=GramophoneConfig)
    film: FilmConfig = field(default_factory=FilmConfig)
    tape: TapeConfig = field(default_factory=TapeConfig)
    hum: HumConfig = field(default_factory=HumConfig)

    def __post_init__(self) -> None:
        kinds = (*KINDS, "mixed")
        require(self.kind in kinds, "noise.kind", f"one of {kinds}", self.kind)
        for name in ("alone_share", "dominant_share", "moving_share", "fluctuating_share"):
            share = getattr(self, name)
            require(0.0 <= share <= 1.0, f"noise.{name}", "in [0, 1]", share)
        require(self.alone_share + self.dominant_share <= 1.0, "noise.dominant_share",
                "at most 1 together with `noise.alone_share`", self.dominant_share)
        require_range("noise.dominant_db", self.dominant_db)
        shares = self._shares()
        require(min(shares) >= 0.0 and sum(shares) > 0.0, "noise.*_share",
                "at least 0 and not all 0", shares)

    def _shares(self) -> list[float]:
        return [getattr(self, f"{kind}_share") for kind in KINDS]

    def share(self, category: str) -> float:
        """Returns the relative frequency of a category of noise.

        A category that is not in `KINDS` is the user's own, and is as frequent as one kind on
        average.
        """
        if category not in KINDS:
            return 1.0 / len(KINDS)
        if self.kind != "mixed":
            return float(category == self.kind)
        return getattr(self, f"{category}_share") / sum(self._shares())
