"""Generated noise of old carriers: gramophone records, optical film tracks, magnetic tape, hum.

Endless, seeded, pure NumPy and SciPy. `carriers.py` holds the ranges that are drawn from,
`docs/noise.md` names the source of every part, and `noise_tools.py` has commands that learn the
ranges from recordings, write noise to files and draw it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import fft

from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.noise.parts import (
    CHUNK,
    LEVEL_HZ,
    Events,
    Hiss,
    Part,
    Rumble,
    Swing,
    academy_db,
    dip_bank,
    disc_replay_db,
    draw,
    draw_colour_db,
    draw_rate,
    grid_hz,
    impulse_bank,
    interpolate_bands,
    low_pass_db,
    make_hum,
    slit_db,
    tape_replay_db,
    thump_bank,
    to_gain,
)
from denoiser.noise.ranges import (
    KINDS,
    CarrierConfig,
    FilmConfig,
    GramophoneConfig,
    HumConfig,
    TapeConfig,
)

TARGET_DBFS = -30.0  # RMS of a noise's first moments; later events make it vary around this
ENVELOPE_SECONDS = 0.01  # half the window over which a signal's level is taken

# Bass turnover and treble roll-off in Hz (0: none) of disc replay, IASA-TC 04 sections 5.2.6 and
# 5.3.6; acoustic records are played flat.
DISC_REPLAY_HZ = ((0, 0), (0, 0), (250, 0), (300, 0), (400, 0), (500, 0), (300, 2120),
                  (400, 2500), (450, 3180), (500, 1590), (500, 2122), (500, 3180))
# Bass and treble time constants in microseconds (0: none) of tape replay, IASA-TC 04 section 5.4.
TAPE_REPLAY_US = ((0, 17.5), (0, 35), (3180, 50), (0, 50), (0, 70), (0, 100), (3180, 90),
                  (3180, 120), (3180, 140), (0, 200), (3180, 200))
FILM_GAUGES = ((457.2, 96.0), (457.2, 96.0), (182.9, 24.0))  # mm/s and perforations/s: 35, 16 mm


class CarrierNoise:
    """One endless noise: what it is made of is drawn once, `read` renders it piece by piece.

    Args:
        kind: "gramophone", "film", "tape", "hum", or "mixed", which draws one of these.
        rng: Source of all randomness.
        sample_rate: Samples per second.
        carrier: Ranges that are drawn from; the defaults when absent.

    Raises:
        ValueError: An unknown `kind`.
    """

    def __init__(self, kind: str, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE,
                 carrier: CarrierConfig | None = None) -> None:
        if kind not in (*KINDS, "mixed"):
            raise ValueError(f"`kind` must be one of {(*KINDS, 'mixed')}. Received: kind={kind!r}")
        carrier = carrier or CarrierConfig()
        self.rng = np.random.default_rng(rng.integers(2**63))
        if kind == "mixed":
            shares = np.array([carrier.share(name) for name in KINDS])
            kind = KINDS[self.rng.choice(len(KINDS), p=shares / shares.sum())]
        self.kind, self.sample_rate = kind, sample_rate
        self.grid_hz = grid_hz(sample_rate)
        self.swing: Swing | None = None  # of the hiss
        self.dropouts: Events | None = None
        self.parts: list[tuple[np.float32, Part]] = []
        self.follow_db: float | None = None  # level of what follows a signal
        draw_kind = {"gramophone": self._draw_gramophone, "film": self._draw_film,
                     "tape": self._draw_tape, "hum": self._draw_hum}[kind]
        draw_kind(getattr(carrier, kind))
        self.gain = np.float32(1.0)
        first = self._render()
        self.gain = np.float32(to_gain(TARGET_DBFS) / np.sqrt(np.mean(first**2, dtype=np.float64)))
        self.ready = first * self.gain

    def _add(self, level_db: float, part: Part) -> None:
        self.parts.append((np.float32(to_gain(level_db)), part))

    def _set_hiss(self, level_db: np.ndarray) -> None:
        self.hiss_db = level_db
        self.hiss = Hiss(self.rng, self.sample_rate, level_db)

    def _fitted_or(self, cfg: GramophoneConfig | FilmConfig | TapeConfig,
                   level_db: np.ndarray) -> np.ndarray:
        """A blend of two fitted spectra, or `level_db`; both coloured at random."""
        rng = self.rng
        if cfg.spectra_db and rng.uniform() < cfg.fitted_chance:
            pair = rng.integers(len(cfg.spectra_db), size=2)
            level_db = interpolate_bands(
                np.average(np.array(cfg.spectra_db)[pair], axis=0,
                           weights=rng.dirichlet([1.0, 1.0])), self.grid_hz)
        return level_db + draw_colour_db(rng, self.grid_hz, draw(rng, cfg.tilt_db_per_octave),
                                         draw(rng, cfg.colour_db))

    def _band(self, cutoff_hz: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
        """A random low-pass: the bandwidth of pick-up, amplifier or transfer."""
        cutoff, order = draw_rate(self.rng, cutoff_hz), self.rng.uniform(1.0, 5.0)
        return lambda frequency_hz: low_pass_db(frequency_hz, cutoff, order)

    def _add_mains(self, bounds: Sequence[float],
                   band: Callable[[np.ndarray], np.ndarray] | None = None,
                   multiple: int = 1) -> None:
        rng = self.rng
        mains_hz = multiple * rng.choice([50.0, 60.0]) * (1.0 + 0.002 * rng.normal())
        self._add(draw(rng, bounds), make_hum(rng, self.sample_rate, mains_hz,
                                              int(rng.integers(2, 16)), rng.uniform(-15.0, -4.0),
                                              band_db=band))

    def _add_crackle(self, cfg: GramophoneConfig | FilmConfig,
                     band: Callable[[np.ndarray], np.ndarray], turn_seconds: float = 1.0,
                     locked_share: float = 0.0, burst: float = 0.3) -> None:
        rng, rate = self.rng, self.sample_rate
        self._add(0.0, Events(rng, rate, draw_rate(rng, cfg.crackles_per_second),
                              draw(rng, cfg.crackle_db), draw(rng, cfg.crackle_spread_db),
                              impulse_bank(rng, rate, cfg.crackle_ms, band),
                              turn_seconds, locked_share * rng.uniform(), burst))
        self._add(0.0, Events(rng, rate, draw_rate(rng, cfg.clicks_per_second),
                              draw(rng, cfg.click_db), draw(rng, cfg.click_spread_db),
                              impulse_bank(rng, rate, cfg.click_ms, band),
                              turn_seconds, locked_share, burst))

    def _draw_gramophone(self, cfg: GramophoneConfig) -> None:
        """Surface hiss, swish, crackle, clicks, thumps, rumble and hum of a disc."""
        rng, rate = self.rng, self.sample_rate
        band = self._band(cfg.cutoff_hz)
        bass_hz, treble_hz = DISC_REPLAY_HZ[rng.integers(len(DISC_REPLAY_HZ))]
        self._set_hiss(band(self.grid_hz) + self._fitted_or(
            cfg, disc_replay_db(self.grid_hz, bass_hz, treble_hz)))
        turn = 60.0 / float(rng.choice(cfg.turns_per_minute))
        pattern = fft.irfft(np.append([0.0], rng.normal(size=6) + 1j * rng.normal(size=6)), 64)
        pattern *= 0.5 * draw(rng, cfg.swish_db) / np.abs(pattern).max()
        self.swing = Swing(rng, rate, rng.uniform(0.0, 1.0), pattern, turn)
        locked = draw(rng, cfg.locked_share)
        self._add_crackle(cfg, band, turn, locked)
        if rng.uniform() < cfg.part_chance:
            self._add(0.0, Events(rng, rate, draw_rate(rng, cfg.thumps_per_second),
                                  draw(rng, cfg.thump_db), 4.0, thump_bank(rng, rate), turn,
                                  locked))
        if rng.uniform() < cfg.part_chance:
            self._add(draw(rng, cfg.rumble_db), Rumble(rng, rate, turn, rng.uniform(0.0, 0.7)))
        if rng.uniform() < cfg.part_chance:
            self._add_mains(cfg.hum_db)

    def _draw_film(self, cfg: FilmConfig) -> None:
        """Grain and photocell hiss, frying, ticks, buzz, splices and hum of an optical track."""
        rng, rate = self.rng, self.sample_rate
        speed, perforations_hz = FILM_GAUGES[rng.integers(len(FILM_GAUGES))]
        cutoff, slit = self._band(cfg.cutoff_hz), draw(rng, cfg.slit_um)
        academy = float(rng.uniform() < cfg.academy_chance)

        def band(frequency_hz: np.ndarray) -> np.ndarray:
            return (cutoff(frequency_hz) + slit_db(frequency_hz, slit, speed)
                    + academy * academy_db(frequency_hz))

        grain = self._fitted_or(cfg, band(self.grid_hz))
        photocell = np.interp(LEVEL_HZ, self.grid_hz, grain) + draw(rng, cfg.photocell_db)
        self._set_hiss(20.0 * np.log10(np.hypot(to_gain(grain), to_gain(photocell))))
        self.swing = Swing(rng, rate, rng.uniform(0.0, 1.5))
        self.follow_db = draw(rng, cfg.signal_hiss_db)
        self._add_crackle(cfg, band, burst=0.7)
        if rng.uniform() < cfg.part_chance:
            frequency = float(rng.choice([24.0, perforations_hz, perforations_hz]))
            self._add(draw(rng, cfg.buzz_db),
                      make_hum(rng, rate, frequency, int(rng.integers(8, 60)),
                               rng.uniform(-9.0, -1.0), 0.001, band))
        if rng.uniform() < cfg.part_chance:
            self._add(0.0, Events(rng, rate, draw_rate(rng, cfg.splices_per_second),
                                  draw(rng, cfg.splice_db), 4.0, thump_bank(rng, rate)))
        for multiple in (1, 2):  # mains, and the lamp, which shines twice in each period
            if rng.uniform() < cfg.part_chance:
                self._add_mains(cfg.hum_db, band, multiple)

    def _draw_tape(self, cfg: TapeConfig) -> None:
        """Hiss through the replay equalisation, dropouts and hum of a tape."""
        rng, rate = self.rng, self.sample_rate
        bass_us, treble_us = TAPE_REPLAY_US[rng.integers(len(TAPE_REPLAY_US))]
        band = self._band(cfg.cutoff_hz)
        self._set_hiss(band(self.grid_hz) + self._fitted_or(
            cfg, tape_replay_db(self.grid_hz, bass_us, treble_us)))
        self.swing = Swing(rng, rate, rng.uniform(0.0, 0.7))
        self.follow_db = draw(rng, cfg.modulation_db)
        if rng.uniform() < cfg.part_chance:
            self.dropouts = _draw_dropouts(rng, rate, cfg)
        if rng.uniform() < cfg.part_chance:
            self._add_mains(cfg.hum_db)

    def _draw_hum(self, cfg: HumConfig) -> None:
        """Mains hum with many harmonics, and a little hiss."""
        rng, rate = self.rng, self.sample_rate
        self._set_hiss(draw_colour_db(rng, self.grid_hz, rng.uniform(-4.0, 0.0), 3.0))
        frequency_hz = float(rng.choice([50.0, 60.0])) * draw_rate(rng, cfg.speed)
        if rng.uniform() < cfg.rectified_chance:
            frequency_hz *= 2.0
        self._add(draw(rng, cfg.hum_db), make_hum(
            rng, rate, frequency_hz, int(draw_rate(rng, cfg.harmonics)),
            draw(rng, cfg.slope_db_per_octave), 0.01 * draw(rng, cfg.drift_percent)))

    def _render(self) -> np.ndarray:
        out = self.hiss.render()
        if self.swing is not None:
            out *= self.swing.render()
        if self.dropouts is not None:
            out *= to_gain(-self.dropouts.render())
        for gain, part in self.parts:
            out += gain * part.render()
        out *= self.gain
        return out

    def read(self, samples: int) -> np.ndarray:
        """Returns the next `samples` of the noise, `(samples,)`, float32."""
        pieces, ready = [self.ready], len(self.ready)
        while ready < samples:
            pieces.append(self._render())
            ready += CHUNK
        joined = np.concatenate(pieces)
        self.ready = joined[samples:]
        return joined[:samples]

    def follow(self, signal: np.ndarray) -> np.ndarray:
        """Returns the noise that exists only while there is a signal; none on discs.

        On film the grain's hiss grows with the light through the track, so it follows the
        signal's envelope. On tape it also multiplies the signal by slow random variations of the
        coating (asperity noise), which gives sidebands around every tone. Levels are relative to
        the stationary hiss, for a signal at its own RMS, whatever its scale.

        Args:
            signal: Float array `(samples,)`, the clean signal.

        Returns:
            float32 array `(samples,)`, to be added to as much of `read`.
        """
        power = np.mean(np.square(signal, dtype=np.float64))
        if self.follow_db is None or power == 0.0:
            return np.zeros(len(signal), np.float32)
        smooth = max(1, int(ENVELOPE_SECONDS * self.sample_rate))
        total = np.cumsum(np.pad(np.square(signal, dtype=np.float64), (smooth, smooth)))
        window = 2 * smooth
        local = (total[window:] - total[:-window]) / window
        envelope = np.sqrt(np.maximum(local[:len(signal)], 0.0) / power)
        hiss = Hiss(self.rng, self.sample_rate, self.hiss_db)
        noise = self._take(hiss, len(signal)) * envelope
        if self.kind == "tape":
            asperity = Hiss(self.rng, self.sample_rate, low_pass_db(
                self.grid_hz, np.exp(self.rng.uniform(np.log(50.0), np.log(2000.0))), 1.0))
            variation = self._take(asperity, len(signal))
            variation /= np.sqrt(np.mean(variation**2))
            noise = np.sqrt(0.5) * (noise + signal / np.sqrt(power) * variation)
        return (float(self.gain * to_gain(self.follow_db)) * noise).astype(np.float32)

    @staticmethod
    def _take(part: Part, samples: int) -> np.ndarray:
        return np.concatenate([part.render() for _ in range(-(-samples // CHUNK))])[:samples]


def _draw_dropouts(rng: np.random.Generator, sample_rate: int, cfg: TapeConfig) -> Events:
    depth_db = draw_rate(rng, cfg.dropout_db)
    return Events(rng, sample_rate, draw_rate(rng, cfg.dropouts_per_second),
                  20.0 * np.log10(max(depth_db, 1e-3)), 3.0,
                  dip_bank(rng, sample_rate, cfg.dropout_ms), signed=False)


def generate(kind: str, samples: int, rng: np.random.Generator, sample_rate: int = SAMPLE_RATE,
             carrier: CarrierConfig | None = None,
             signal: np.ndarray | None = None) -> np.ndarray:
    """Draws a new noise and returns its first `samples`.

    Args:
        kind: "gramophone", "film", "tape", "hum", or "mixed", which draws one of these.
        samples: Length, at least 1.
        rng: Source of all randomness.
        sample_rate: Samples per second.
        carrier: Ranges that are drawn from; the defaults when absent.
        signal: Clean signal `(samples,)` that film and tape noise then also follows.

    Returns:
        float32 array `(samples,)` with an RMS of about -30 dBFS.

    Raises:
        ValueError: An unknown `kind`, `samples` below 1, or a `signal` of another length.
    """
    if samples < 1:
        raise ValueError(f"`samples` must be at least 1. Received: samples={samples}")
    source = CarrierNoise(kind, rng, sample_rate, carrier)
    noise = source.read(samples)
    if signal is not None:
        if signal.shape != noise.shape:
            raise ValueError(f"`signal` must be shaped {noise.shape}. Received: {signal.shape}")
        noise = noise + source.follow(signal)
    return noise


def stream(kind: str, block_samples: int, rng: np.random.Generator,
           sample_rate: int = SAMPLE_RATE,
           carrier: CarrierConfig | None = None) -> Iterator[np.ndarray]:
    """Yields block after block of one endless noise; strung together they are `generate`'s.

    Args are those of `generate`, with blocks of `block_samples`.
    """
    source = CarrierNoise(kind, rng, sample_rate, carrier)
    while True:
        yield source.read(block_samples)
