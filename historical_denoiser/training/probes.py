"""Tests a network on simple noises and on clean sounds that resemble noise.

Clean sounds are mixed with one kind of noise at a time: Gaussian noise of one octave, white, pink,
clicks, bursts, hum. No generator of training noise makes them. A network that removes white noise
but not one octave of it relies on something that accompanies noise in training; one that removes
steady noise but not noise with fluctuating bands takes everything that changes for signal.
Sounds made in code, under one noise each, show what is lost or left in well-known cases. No
recording is needed for any of this, and every run gives the same values. `measure` runs the probes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.coding import code
from historical_denoiser.noise import foreign
from historical_denoiser.noise.foreign import BURSTS_PER_SECOND, MakeNoise
from historical_denoiser.training import guards, look_alikes, metrics
from historical_denoiser.training.guards import Guard
from historical_denoiser.training.metrics import Row

Predict = Callable[[np.ndarray], np.ndarray]
MakeSound = Callable[[int, np.random.Generator], np.ndarray]

SNR_DB = 10.0  # at which clean sound and probe are mixed
OCTAVES_HZ = (31, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
JUDGED_HZ = OCTAVES_HZ[1:-1]  # the octaves of which the worst is reported
CLICKS_PER_SECOND = (1, 10, 100, 1000)
HISS_DB = -20.0  # level of the hiss relative to the hum
# Standard deviations in dB. In the noise of grooves, bands fluctuate by 2 to 5 dB within 23 ms.
FLUCTUATIONS_DB = (0, 2, 4, 6)
FLUCTUATING_BANDS_HZ = (200, 1000)
FLUCTUATION_OF_GROOVES_DB = 4
HISS_SNRS_DB = (30, 40, 50)  # the SNRs of good transfers
CODED_KBPS = 64
ENVELOPE_SAMPLES = 882  # 20 ms
AVERAGE_NAMES = ["probe_mean_db", "probe_worst_octave_db", "probe_noise_left_db",
                 "impulses_si_sdr_db", "tones_si_sdr_db"]  # in the result of `ProbeReport.average`
# Beyond these limits `ProbeReport.find_faults` reports a fault.
MIN_OCTAVE_GAIN_DB = 3.0
MIN_KEPT_SI_SDR_DB = 12.0
MAX_LEFT_DB = -3.0
STEADY_LEFT_DB, MOVING_LEFT_DB = -15.0, -8.0
WANTED_IMPULSES_SI_SDR_DB = 20.0  # limit of `ProbeReport.guards`


@dataclass(frozen=True)
class ProbeReport:
    """The results of the probes.

    Attributes:
        rows: For each probe its name, the mean `snr_gain_db`, that of each category of clean sound
            (`snr_gain_db_music`), and `noise_left_db`, which is measured on the noise alone.
        scenes: For each of `SCENES` its name, and `SCENE_MEASURES` (see `metrics.judge`).
        impulses_db: For each clean sound made of impulses, the SI-SDR in dB after denoising.
        tones_db: The same for low and for held notes.
    """

    rows: list[Row]
    scenes: list[Row]
    impulses_db: dict[str, float]
    tones_db: dict[str, float]

    def table(self) -> list[Row]:
        """Returns all rows, followed by a row with `kept_si_sdr_db` for each clean sound."""
        return [*self.rows, *self.scenes, *({"probe": name, "kept_si_sdr_db": kept_db}
                              for name, kept_db in (self.impulses_db | self.tones_db).items())]

    def average(self) -> dict[str, float]:
        """Returns the columns of history.csv that summarise the probes."""
        octaves = [self._find(octave(hz), "snr_gain_db") for hz in JUDGED_HZ]
        gains, left = ([float(row[name]) for row in self.rows]
                       for name in ("snr_gain_db", "noise_left_db"))
        values = (np.mean(gains), np.min(octaves), np.mean(left),
                  min(self.impulses_db.values()), min(self.tones_db.values()))
        return dict(zip(AVERAGE_NAMES, map(float, values), strict=True))

    def find_faults(self) -> list[str]:
        """Returns a sentence on each fault that the probes show."""
        faults = []
        white_db = self._find("white", "snr_gain_db")
        gains = {hz: self._find(octave(hz), "snr_gain_db") for hz in JUDGED_HZ}
        poor = [hz for hz, gain in gains.items() if gain < MIN_OCTAVE_GAIN_DB]
        if poor and white_db >= MIN_OCTAVE_GAIN_DB:
            places = ", ".join(f"{hz} Hz ({gains[hz]:+.1f} dB)" for hz in poor)
            faults.append(f"removes white noise ({white_db:+.1f} dB) but not the octave at "
                          f"{places}: noise of a narrow band is taken for signal")
        elif poor:
            faults.append("does not remove noise of one octave: the SNR improves by "
                          f"{min(gains.values()):.1f} dB at worst, and by {white_db:.1f} dB with "
                          "white noise")
        steady_db, moving_db = (
            self._find(fluctuating(deviation_db, FLUCTUATING_BANDS_HZ[0]), "noise_left_db")
            for deviation_db in (0, FLUCTUATION_OF_GROOVES_DB))
        if steady_db < STEADY_LEFT_DB and moving_db > MOVING_LEFT_DB:
            faults.append("takes noise that fluctuates for signal: the level of a groove's noise "
                          f"changes by {steady_db:.1f} dB if it is steady, but by {moving_db:.1f} "
                          f"dB if its bands fluctuate by {FLUCTUATION_OF_GROOVES_DB} dB")
        faults += [f"over-suppression: the energy of {row['probe']} changes by "
                   f"{row['energy_db']:.1f} dB" for row in self.scenes
                   if row["energy_db"] < metrics.MIN_ENERGY_DB]
        left_db = self._left()
        probe = guards.worst(left_db)
        if left_db[probe] > MAX_LEFT_DB:
            faults.append(f"under-suppression: the level of {probe} alone changes by only "
                          f"{left_db[probe]:.1f} dB")
        for kind, (_, kept_db) in self._kept().items():
            name = guards.worst(kept_db, lambda value: -value)
            if kept_db[name] < MIN_KEPT_SI_SDR_DB:
                faults.append(f"{kind} that are signal are damaged: the SI-SDR of {name} after "
                              f"denoising is {kept_db[name]:.1f} dB")
        return faults

    def guards(self) -> list[Guard]:
        """Compares the results with the limits that a finished network should keep."""
        found = [guards.make_guard(f"clean {kind} kept, SI-SDR (dB)", "at least", kept_db, limit)
                 for kind, (limit, kept_db) in self._kept().items()]
        for name, bound, measure in (guards.ENERGY, guards.CORRELATION):
            found.append(guards.make_guard(
                f"made sounds: {name}", bound,
                {row["probe"]: row[measure] for row in self.scenes},
                {name: guards.limit_of(measure, scene.snr_db) for name, scene in SCENES.items()}))
        left_db = self._left()
        for kind, is_steady in (("steady", True), ("moving", False)):
            found.append(guards.make_guard(
                f"a {kind} probe's noise alone (dB)", "at most",
                {name: value for name, value in left_db.items()
                 if PROBES[name].is_steady == is_steady}, guards.WANTED_NOISE_LEFT_DB))
        return found

    def format(self) -> str:
        """Returns a Markdown table of the probes, and a line on each kind of clean sound."""
        measures = [name for name in self.rows[0] if name != "probe"]
        lines = [metrics.make_table(
            [f"probe at {SNR_DB:g} dB", *measures],
            [[row["probe"], *(f"{row[name]:.1f}" for name in measures)] for row in self.rows])]
        for kind, (_, kept_db) in self._kept().items():
            kept = ", ".join(f"{name} {value:.1f} dB" for name, value in kept_db.items())
            lines += ["", f"clean {kind}, SI-SDR that is kept: {kept}"]
        lines += ["", metrics.make_table(["made sound", *SCENE_MEASURES], [
            [row["probe"], *(f"{row[name]:.2f}" for name in SCENE_MEASURES)]
            for row in self.scenes])]
        return "\n".join(lines)

    def _left(self) -> dict[str, float]:
        return {str(row["probe"]): float(row["noise_left_db"]) for row in self.rows}

    def _kept(self) -> dict[str, tuple[float, dict[str, float]]]:
        """Returns the limit and the values of each kind of clean sound."""
        return {"impulses": (WANTED_IMPULSES_SI_SDR_DB, self.impulses_db),
                "low or held notes": (guards.WANTED_CLEAN_SI_SDR_DB, self.tones_db)}

    def _find(self, probe: str, measure: str) -> float:
        return next(float(row[measure]) for row in self.rows if row["probe"] == probe)


def octave(centre_hz: float) -> str:
    """Returns the name of the probe with Gaussian noise of the octave around `centre_hz`."""
    return f"octave {centre_hz} Hz"


def fluctuating(deviation_db: float, band_hz: float) -> str:
    """Returns the name of the probe whose bands, `band_hz` wide, fluctuate by `deviation_db`."""
    return f"fluctuating {deviation_db} dB, bands of {band_hz} Hz"


def measure(predict: Predict, sounds: Sequence[tuple[str, np.ndarray]], highpass_hz: float,
            ) -> ProbeReport:
    """Mixes every sound with every probe, denoises the mixtures and measures the results.

    Args:
        predict: Denoises waveforms `(batch, samples)`.
        sounds: Categories and clean waveforms `(samples,)` of the same length, without
            frequencies below `highpass_hz`.
        highpass_hz: Cutoff of a high-pass filter on everything that is measured.
    """
    def denoise(waveform: np.ndarray) -> np.ndarray:
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
            noisy = probe.process(clean + noise)
            gains[category].append(metrics.snr_db(clean, denoise(noisy))
                                   - metrics.snr_db(clean, noisy))
            if number == 0:
                alone = probe.process(noise)
                noise_left_db = dsp.decibels(dsp.power(denoise(alone)) / dsp.power(alone))
        rows.append({"probe": name, "snr_gain_db": float(np.mean(sum(gains.values(), []))),
                     **{f"snr_gain_db_{category}": float(np.mean(found))
                        for category, found in gains.items()},
                     "noise_left_db": noise_left_db})

    def measure_kept(makers: Mapping[str, MakeSound]) -> dict[str, float]:
        kept_db = {}
        for place, (name, make) in enumerate(makers.items()):
            clean = dsp.highpass(make(samples, np.random.default_rng(place)), highpass_hz,
                                 SAMPLE_RATE)
            kept_db[name] = metrics.si_sdr_db(clean, denoise(clean))
        return kept_db

    scenes: list[Row] = []
    for name, scene in SCENES.items():
        clean, noisy = (dsp.highpass(audio, highpass_hz, SAMPLE_RATE) for audio in scene.mix(
            samples, np.random.default_rng(0)))  # the same solo at each SNR
        judged = metrics.judge(clean, noisy, denoise(noisy))
        scenes.append({"probe": name, **{measure: judged[measure] for measure in SCENE_MEASURES}})
    strokes = {name: partial(look_alikes.make_strokes, name) for name in look_alikes.STRUCK}
    return ProbeReport(rows, scenes, measure_kept(strokes), measure_kept(look_alikes.LOW_OR_HELD))


@dataclass(frozen=True)
class Probe:
    """A noise, its SNR, a process of the mixture and of the noise alone, whether it is steady."""

    make: MakeNoise
    snr_db: float = SNR_DB
    process: Predict = lambda audio: audio
    is_steady: bool = True


@dataclass(frozen=True)
class Scene:
    """A sound made in code, a noise, their SNR, and whether the noise follows the sound's level."""

    make: MakeSound
    make_noise: MakeNoise
    snr_db: float = SNR_DB
    follows: bool = False

    def mix(self, samples: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sound and the mixture, float32 `(samples,)`."""
        clean, noise = self.make(samples, rng), self.make_noise(samples, rng).astype(np.float32)
        if self.follows:
            noise *= scipy.ndimage.uniform_filter1d(np.abs(clean), ENVELOPE_SAMPLES)
        return clean, dsp.mix_at_snr(clean, noise, self.snr_db)


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
MOVING = ("fluctuating 2", "fluctuating 4", "fluctuating 6", "thumps", "clicks", "bursts")
CODED = fluctuating(FLUCTUATION_OF_GROOVES_DB, 1000)  # the noise under sounds that are coded
PROBES: dict[str, Probe] = {
    **{name: Probe(make, is_steady=not name.startswith(MOVING)) for name, make in NOISES.items()},
    **{f"pink, at {snr_db} dB": Probe(NOISES["pink"], float(snr_db)) for snr_db in HISS_SNRS_DB},
    **{f"{noise}, {codec} at {CODED_KBPS} kbit/s": Probe(
        NOISES[noise], process=partial(code, codec=codec.lower(), kbps=CODED_KBPS),
        is_steady=noise == "white")
       for noise, codec in (("white", "MP3"), (CODED, "AAC"), (CODED, "Opus"), (CODED, "Vorbis"))}}

SCENE_MEASURES = ("snr_gain_db", "energy_db", "residual_correlation")
_make_solo = partial(look_alikes.make_plucked, look_alikes.SOLO)
SCENES: dict[str, Scene] = {
    **{f"quiet orchestra, {name} groove, at 3 dB": Scene(
        look_alikes.make_orchestra, partial(foreign.make_fluctuating, deviation_db, 200.0), 3.0)
       for name, deviation_db in (("steady", 0.0), ("fluctuating", FLUCTUATION_OF_GROOVES_DB))},
    **{f"solo, thumps, at {snr_db} dB": Scene(_make_solo, foreign.make_thumps, float(snr_db))
       for snr_db in (3, 10, 20)},
    "solo, needle drop, at 10 dB": Scene(_make_solo, foreign.make_needle_drop),
    "solo, frying that follows it, at 10 dB": Scene(_make_solo, NOISES["clicks 1000/s"],
                                                    follows=True)}
