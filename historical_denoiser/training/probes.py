"""Noises that come alone, impulses and held tones that are signal: what is to be told apart.

Clean sounds are mixed with noise of a single kind, made here and by no generator that trains:
Gaussian noise of one octave, white, pink, clicks, bursts, hum. A network that takes away white
noise and leaves one octave of it has learnt what comes along with noise, and not what noise is; one
that removes steady noise and leaves the same noise when its bands fluctuate has learnt that noise
is what is steady. No recording is needed, and every run gives the same values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.coding import code
from historical_denoiser.noise import foreign
from historical_denoiser.noise.foreign import BURSTS_PER_SECOND, MakeNoise
from historical_denoiser.training import look_alikes, metrics
from historical_denoiser.training.metrics import Guard, Row

Predict = Callable[[np.ndarray], np.ndarray]
MakeSound = Callable[[str, int, np.random.Generator], np.ndarray]

SNR_DB = 10.0  # of clean sound and probe
OCTAVES_HZ = (31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
JUDGED_HZ = OCTAVES_HZ[1:-1]  # of which the worst octave is reported
CLICKS_PER_SECOND = (1, 10, 100, 1000)
HISS_DB = -20.0  # under the hum
# As grooves: the level of each band goes its own way, by 2 to 5 dB within 23 ms.
FLUCTUATIONS_DB = (0, 2, 4, 6)
FLUCTUATING_BANDS_HZ = (200, 1000)
FLUCTUATION_OF_GROOVES_DB = 4
HISS_SNRS_DB = (30, 40, 50)  # at which good transfers have it
CODED_KBPS = 64  # of MP3
ORCHESTRA_SNR_DB = 3.0
AVERAGE_NAMES = ["probe_mean_db", "probe_worst_octave_db", "probe_noise_left_db",
                 "impulses_si_sdr_db", "tones_si_sdr_db"]  # of `ProbeReport.average`
# Where `ProbeReport.find_faults` speaks up.
MIN_OCTAVE_GAIN_DB = 3.0
MIN_KEPT_SI_SDR_DB = 12.0
MAX_LEFT_DB = -3.0
STEADY_LEFT_DB, MOVING_LEFT_DB = -15.0, -8.0
# What a finished network should reach.
WANTED_KEPT_SI_SDR_DB = 20.0


@dataclass(frozen=True)
class ProbeReport:
    """What came of the probes.

    Attributes:
        rows: For each probe its name, `snr_gain_db`, the same of each category of clean sound
            (`snr_gain_db_music`), and `noise_left_db` of the noise without a sound.
        impulses_db: SI-SDR in dB that is left of each clean sound made of impulses.
        tones_db: The same of clean sounds in which tones are held.
        orchestra: `energy_db` and `residual_correlation` (see `metrics.judge`) of a quiet orchestra
            under a groove's noise at 3 dB.
    """

    rows: list[Row]
    impulses_db: dict[str, float]
    tones_db: dict[str, float]
    orchestra: dict[str, float]

    def table(self) -> list[Row]:
        """Returns the rows, and one with `kept_si_sdr_db` for each clean sound."""
        return [*self.rows, *({"probe": name, "kept_si_sdr_db": kept_db}
                              for name, kept_db in (self.impulses_db | self.tones_db).items())]

    def average(self) -> dict[str, float]:
        """Returns what history.csv holds of the probes."""
        octaves = [self._gain_db(octave(hz)) for hz in JUDGED_HZ]
        gains, left = ([float(row[name]) for row in self.rows]
                       for name in ("snr_gain_db", "noise_left_db"))
        values = (np.mean(gains), np.min(octaves), np.mean(left),
                  min(self.impulses_db.values()), min(self.tones_db.values()))
        return dict(zip(AVERAGE_NAMES, map(float, values), strict=True))

    def find_faults(self) -> list[str]:
        """Says in words, one sentence for each fault, what the network takes for what."""
        faults = []
        white_db = self._gain_db("white")
        gains = {hz: self._gain_db(octave(hz)) for hz in JUDGED_HZ}
        poor = [hz for hz, gain in gains.items() if gain < MIN_OCTAVE_GAIN_DB]
        if poor and white_db >= MIN_OCTAVE_GAIN_DB:
            places = ", ".join(f"{hz} Hz ({gains[hz]:+.1f} dB)" for hz in poor)
            faults.append(f"hears white noise ({white_db:+.1f} dB) but not the octave at {places}: "
                          f"noise that comes without hiss is taken for signal")
        elif poor:
            faults.append(f"does not hear noise of one octave: the gain is "
                          f"{min(gains.values()):.1f} dB at worst, and {white_db:.1f} dB for white "
                          f"noise")
        steady_db, moving_db = (self._left_db(fluctuating(deviation_db, FLUCTUATING_BANDS_HZ[0]))
                                for deviation_db in (0, FLUCTUATION_OF_GROOVES_DB))
        if steady_db < STEADY_LEFT_DB and moving_db > MOVING_LEFT_DB:
            faults.append(f"takes what moves for sound: a groove's noise alone comes out at "
                          f"{steady_db:.1f} dB where it is steady, and at {moving_db:.1f} dB where "
                          f"its bands fluctuate by {FLUCTUATION_OF_GROOVES_DB} dB")
        if self.orchestra["energy_db"] < metrics.MIN_ENERGY_DB:
            faults.append(f"over-denoising: of a quiet orchestra at {ORCHESTRA_SNR_DB:g} dB "
                          f"{self.orchestra['energy_db']:.1f} dB of the energy is left")
        probe, left_db = self._worst_left()
        if left_db > MAX_LEFT_DB:
            faults.append(f"under-denoising: {probe} alone comes out at {left_db:.1f} dB of what "
                          f"went in")
        for kind, kept_db in self._kept().items():
            name = _least(kept_db)
            if kept_db[name] < MIN_KEPT_SI_SDR_DB:
                faults.append(f"{kind} that are signal are damaged: an SI-SDR of "
                              f"{kept_db[name]:.1f} dB is left of {name}")
        return faults

    def guards(self) -> list[Guard]:
        """Sets what a finished network should reach against its limits."""
        probe, left_db = self._worst_left()
        kept = [Guard(f"clean {kind} kept, SI-SDR (dB)", kept_db[_least(kept_db)], _least(kept_db),
                      "at least", WANTED_KEPT_SI_SDR_DB) for kind, kept_db in self._kept().items()]
        orchestra = self.orchestra
        return [*kept,
                Guard("energy of a quiet orchestra at 3 dB", orchestra["energy_db"], "orchestra",
                      "within +-", metrics.WANTED_ENERGY_DB),
                Guard("correlation of what was removed with it", orchestra["residual_correlation"],
                      "orchestra", "at most", metrics.WANTED_CORRELATION_LOUD),
                Guard("a probe's noise alone (dB)", left_db, probe, "at most",
                      metrics.WANTED_NOISE_LEFT_DB)]

    def format(self) -> str:
        """Returns a Markdown table of the probes, and a line on each kind of clean sounds."""
        measures = [name for name in self.rows[0] if name != "probe"]
        lines = ["| " + " | ".join([f"probe at {SNR_DB:g} dB", *measures]) + " |",
                 "|" + "---|" * (1 + len(measures))]
        lines += ["| " + " | ".join([row["probe"], *(f"{row[name]:.1f}" for name in measures)])
                  + " |" for row in self.rows]
        for kind, kept_db in self._kept().items():
            kept = ", ".join(f"{name} {value:.1f} dB" for name, value in kept_db.items())
            lines += ["", f"clean {kind}, SI-SDR that is kept: {kept}"]
        lines += ["", f"quiet orchestra at {ORCHESTRA_SNR_DB:g} dB: energy "
                      f"{self.orchestra['energy_db']:+.2f} dB, correlation of what was removed "
                      f"with it {self.orchestra['residual_correlation']:.2f}"]
        return "\n".join(lines)

    def _worst_left(self) -> tuple[str, float]:
        left_db = {str(row["probe"]): float(row["noise_left_db"]) for row in self.rows}
        probe = metrics.worst(left_db)
        return probe, left_db[probe]

    def _kept(self) -> dict[str, dict[str, float]]:
        return {"impulses": self.impulses_db, "held tones": self.tones_db}

    def _gain_db(self, probe: str) -> float:
        return self._find(probe, "snr_gain_db")

    def _left_db(self, probe: str) -> float:
        return self._find(probe, "noise_left_db")

    def _find(self, probe: str, measure: str) -> float:
        return next(float(row[measure]) for row in self.rows if row["probe"] == probe)


def _least(values: dict[str, float]) -> str:
    return metrics.worst(values, lambda value: -value)


def octave(centre_hz: float) -> str:
    """Returns the name of the probe with Gaussian noise of the octave around `centre_hz`."""
    return f"octave {centre_hz} Hz"


def fluctuating(deviation_db: float, band_hz: float) -> str:
    """Returns the name of the probe with noise whose bands fluctuate by so much."""
    return f"fluctuating {deviation_db} dB, bands of {band_hz} Hz"


def measure(predict: Predict, sounds: Sequence[tuple[str, np.ndarray]], highpass_hz: float,
            ) -> ProbeReport:
    """Mixes every sound with every probe at `SNR_DB`, denoises, and measures.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`.
        sounds: Categories and clean waveforms `(samples,)` of one length, without anything below
            `highpass_hz`.
        highpass_hz: What lies below is not judged.

    Returns:
        The gains, the noise that is left where there is no sound, and the clean sounds that are
        kept.
    """
    def listen(waveform: np.ndarray) -> np.ndarray:
        return dsp.highpass(predict(waveform[None])[0], highpass_hz, SAMPLE_RATE)

    samples, rows = len(sounds[0][1]), []
    for place, (name, probe) in enumerate(PROBES.items()):
        gains: dict[str, list[float]] = defaultdict(list)
        noise_left_db = 0.0
        for number, (category, clean) in enumerate(sounds):
            noise = dsp.highpass(probe.make(samples, np.random.default_rng([place, number])),
                                 highpass_hz, SAMPLE_RATE)
            gain = np.sqrt(dsp.power(clean) / dsp.power(noise) / 10.0 ** (probe.snr_db / 10.0))
            noise = (gain * noise).astype(np.float32)
            noisy = probe.send(clean + noise)
            gains[category].append(metrics.snr_db(clean, listen(noisy))
                                   - metrics.snr_db(clean, noisy))
            if number == 0:
                noise_left_db = dsp.decibels(dsp.power(listen(noise)) / dsp.power(noise))
        rows.append({"probe": name, "snr_gain_db": float(np.mean(sum(gains.values(), []))),
                     **{f"snr_gain_db_{category}": float(np.mean(found))
                        for category, found in gains.items()},
                     "noise_left_db": noise_left_db})
    def keep(make: MakeSound, names: Iterable[str]) -> dict[str, float]:
        kept_db = {}
        for place, name in enumerate(names):
            clean = dsp.highpass(make(name, samples, np.random.default_rng(place)), highpass_hz,
                                 SAMPLE_RATE)
            kept_db[name] = metrics.si_sdr_db(clean, listen(clean))
        return kept_db

    rng = np.random.default_rng(len(PROBES))
    orchestra = look_alikes.make_orchestra(samples, rng)
    groove = foreign.make_fluctuating(0.0, 200.0, samples, rng).astype(np.float32)
    noisy = dsp.mix_at_snr(orchestra, groove, ORCHESTRA_SNR_DB)
    judged = metrics.judge(orchestra, noisy, listen(noisy))
    return ProbeReport(rows, keep(look_alikes.make_strokes, look_alikes.STRUCK),
                       keep(look_alikes.make_held, look_alikes.HELD),
                       {name: judged[name] for name in ("energy_db", "residual_correlation")})


@dataclass(frozen=True)
class Probe:
    """A noise, the SNR at which it is mixed, and what the mixture is sent through."""

    make: MakeNoise
    snr_db: float = SNR_DB
    send: Callable[[np.ndarray], np.ndarray] = lambda audio: audio


NOISES: dict[str, MakeNoise] = {
    **{octave(hz): partial(foreign.make_shaped, partial(foreign.octave_gain, hz))
       for hz in OCTAVES_HZ},
    "white": foreign.make_white,
    "pink": partial(foreign.make_shaped, foreign.pink_gain),
    **{fluctuating(deviation_db, band_hz): partial(
        foreign.make_fluctuating, deviation_db, band_hz)
       for band_hz in FLUCTUATING_BANDS_HZ for deviation_db in FLUCTUATIONS_DB
       if deviation_db or band_hz == FLUCTUATING_BANDS_HZ[0]},
    "ripple": foreign.make_rippled,
    "thumps": foreign.make_thumps,
    **{f"clicks {rate}/s": partial(foreign.make_clicks, rate) for rate in CLICKS_PER_SECOND},
    f"bursts {BURSTS_PER_SECOND}/s": foreign.make_bursts,
    "hum": partial(foreign.make_hum, None),
    "hum with hiss": partial(foreign.make_hum, HISS_DB)}
PROBES: dict[str, Probe] = {
    **{name: Probe(make) for name, make in NOISES.items()},
    **{f"pink, at {snr_db} dB": Probe(NOISES["pink"], float(snr_db)) for snr_db in HISS_SNRS_DB},
    f"white, MP3 at {CODED_KBPS} kbit/s": Probe(
        foreign.make_white, send=partial(code, codec="mp3", kbps=CODED_KBPS))}
