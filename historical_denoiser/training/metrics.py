"""Measures of denoising quality. NumPy waveforms `(samples,)` in, plain numbers out."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.files import replacing
from historical_denoiser.data.mixture import Mixture

Row = dict[str, float | str]
JudgeMore = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]

MEASURES = ("snr_gain_db", "si_sdr_db", "lsd_db", "lsd_gain_db", "energy_db",
            "residual_correlation", "input_correlation", "clean_si_sdr_db", "noise_left_db")
LOWER_IS_BETTER = ("lsd_db", "residual_correlation", "input_correlation", "noise_left_db",
                   "probe_noise_left_db")
# Where `find_faults` speaks up.
MIN_ENERGY_DB = -2.0
MAX_CORRELATION = 0.35
MIN_CLEAN_SI_SDR_DB = 12.0
MAX_NOISE_LEFT_DB = -3.0
MIN_LSD_GAIN_DB = 0.2
# What a finished network should reach: `check_guards`.
WANTED_CLEAN_SI_SDR_DB = 30.0
WANTED_NOISE_LEFT_DB = -20.0
WANTED_ENERGY_DB = 0.5  # above or below
WANTED_CORRELATION = 0.1
WANTED_CORRELATION_LOUD = 0.15  # of music under noise as loud as `LOUD_NOISE_SNR_DB`
LOUD_NOISE_SNR_DB = 3.0

LSD_WIN_SIZE = 2048
LSD_HOP_SIZE = 512
LSD_RANGE_DB = 80.0  # below the recording's peak, what a listener might still hear


def snr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-noise ratio of `estimate` in dB; all that differs from `clean` is noise."""
    return _ratio_db(dsp.power(clean), dsp.power(estimate - clean))


def si_sdr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 5)."""
    reference = clean - clean.mean(dtype=np.float64)
    heard = estimate - estimate.mean(dtype=np.float64)
    target = np.dot(heard, reference) / np.dot(reference, reference) * reference
    return _ratio_db(np.dot(target, target), np.dot(heard - target, heard - target))


def _ratio_db(signal: float, error: float) -> float:
    """Returns the ratio of two powers in dB; without a signal, or with no number, the worst."""
    if not (np.isfinite(error) and signal > 0.0):
        return float("-inf")
    return dsp.decibels(signal / error) if error > 0.0 else float("inf")


def log_spectral_distance_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Log-spectral distance in dB: root mean square over bins, mean over frames.

    Levels are floored at `LSD_RANGE_DB` below the clean peak, so that digital silence does not
    decide the result (Gray and Markel 1976, with a floor).
    """
    spectra = dsp.stft(np.stack([clean, estimate]), LSD_WIN_SIZE, LSD_HOP_SIZE)
    powers = dsp.power_of_bins(spectra, np.float64)
    floor = powers[0].max() * 10.0 ** (-LSD_RANGE_DB / 10.0) + np.finfo(np.float64).tiny
    levels = dsp.decibels(powers, floor)
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=-1))))


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two waveforms; 0 where one is constant."""
    if np.ptp(one) == 0.0 or np.ptp(other) == 0.0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def judge(clean: np.ndarray, noisy: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
    """Measures one denoised mixture: what came of `noisy`, and should have been `clean`.

    Returns:
        `snr_gain_db`, `si_sdr_db`, `lsd_db`, `lsd_gain_db` (how much nearer to the target),
        `energy_db` (output over target), `residual_correlation` (what was removed with the clean
        target: how much of the signal went with the noise) and `input_correlation` (what was
        removed with the input: 1 where everything went; the noise alone has 0.58, 0.30 and 0.10
        at 3, 10 and 20 dB).
    """
    lsd = log_spectral_distance_db(clean, denoised)
    return {
        "snr_gain_db": snr_db(clean, denoised) - snr_db(clean, noisy),
        "si_sdr_db": si_sdr_db(clean, denoised),
        "lsd_db": lsd,
        "lsd_gain_db": log_spectral_distance_db(clean, noisy) - lsd,
        "energy_db": dsp.decibels(dsp.power(denoised) / dsp.power(clean)),
        "residual_correlation": correlation(noisy - denoised, clean),
        "input_correlation": correlation(noisy - denoised, noisy),
    }


def judge_no_more(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
    """Returns no further measures."""
    return {}


def judge_mixtures(predict: Callable[..., np.ndarray], mixtures: Iterable[Mixture],
                   highpass_hz: float = 0.0, judge_more: JudgeMore = judge_no_more,
                   ) -> list[Row]:
    """Denoises mixtures, and their clean and noise sides alone, and measures all three.

    Args:
        predict: Takes and returns waveforms `(batch, samples)`; where a mixture has a profile of
            its noise, it takes that as well, for the mixture and for the noise alone.
        mixtures: What is denoised.
        highpass_hz: What lies below is not judged, neither in the input nor in the output.
        judge_more: Further measures of a category's clean and denoised waveform.

    Returns:
        For each mixture its `category`, `noise` and `input_snr_db`, the measures of `judge` and
        `judge_more`, `clean_si_sdr_db` (what is left of clean input) and `noise_left_db` (output
        over input where the input is noise alone).
    """
    return [judge_mixture(predict, mixture, highpass_hz, judge_more) for mixture in mixtures]


def judge_mixture(predict: Callable[..., np.ndarray], mixture: Mixture, highpass_hz: float = 0.0,
                  judge_more: JudgeMore = judge_no_more) -> Row:
    """Returns the row of one mixture; args are those of `judge_mixtures`."""
    heard = np.stack([mixture.noisy, mixture.clean, mixture.noisy - mixture.clean])
    if mixture.profile is None:
        restored = predict(heard)
    else:  # clean sound has no noise that could be known
        restored = np.concatenate([predict(heard[:1], mixture.profile), predict(heard[1:2]),
                                   predict(heard[2:], mixture.profile)])
    (noisy, clean, noise), (noisy_out, clean_out, noise_out) = (
        dsp.highpass(audio, highpass_hz, SAMPLE_RATE) for audio in (heard, restored))
    return {
        "category": mixture.category,
        "noise": mixture.noise,
        "input_snr_db": mixture.snr_db,
        **judge(clean, noisy, noisy_out),
        "clean_si_sdr_db": si_sdr_db(clean, clean_out),
        "noise_left_db": dsp.decibels(dsp.power(noise_out) / dsp.power(noise)),
        **judge_more(mixture.category, clean, noisy_out),
    }


def average(rows: list[Row]) -> dict[str, float]:
    """Averages the measures of `judge_mixtures`.

    Returns the mean of each over all rows, those of each category (`snr_gain_db_music`) and those
    of each input SNR (`snr_gain_db_at_10`).
    """
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name in MEASURES:
            for key in (name, f"{name}_{row['category']}", f"{name}_at_{row['input_snr_db']:g}"):
                found[key].append(float(row[name]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def average_names(categories: Iterable[str], snrs_db: Iterable[float]) -> list[str]:
    """Returns the names that `average` gives for mixtures of these categories and input SNRs."""
    endings = ["", *(f"_{category}" for category in categories),
               *(f"_at_{snr:g}" for snr in snrs_db)]
    return [f"{name}{ending}" for name in MEASURES for ending in endings]


def score(name: str, value: float) -> float:
    """Turns a value of the measure `name` of `average` so that greater is better.

    Returns the value, its negative where less is better, minus its size where 0 is best, and
    minus infinity where it is not a number.
    """
    if np.isnan(value):
        return float("-inf")
    if name.startswith("energy_db"):
        return -abs(value)
    return -value if name.startswith(LOWER_IS_BETTER) else value


def find_faults(means: dict[str, float]) -> list[str]:
    """Says in words, one sentence for each fault, what a network with these `means` does wrong.

    One that removes everything can have a small loss.
    """
    faults = []
    for name in sorted(name for name in means if name.startswith("energy_db_at_")):
        snr = name.removeprefix("energy_db_at_")
        energy, gain = means[name], means[f"snr_gain_db_at_{snr}"]
        kept, nearer = means[f"residual_correlation_at_{snr}"], means[f"lsd_gain_db_at_{snr}"]
        if energy < MIN_ENERGY_DB or kept > MAX_CORRELATION:
            faults.append(f"over-denoising at {snr} dB: the output holds {energy:+.1f} dB of the "
                          f"signal's energy, and what was removed has a correlation of {kept:.2f} "
                          f"with it")
        elif nearer < MIN_LSD_GAIN_DB:
            # Inaudible rumble can be most of the noise's power: removing it raises the SNR, though
            # it sounds as before.
            faults.append(f"under-denoising at {snr} dB: the spectrum comes only {nearer:+.1f} dB "
                          f"nearer to the clean one")
        if gain < 0.0:
            faults.append(f"harm at {snr} dB: the SNR changes by {gain:+.1f} dB")
    if means["clean_si_sdr_db"] < MIN_CLEAN_SI_SDR_DB:
        faults.append(f"clean input is damaged: an SI-SDR of {means['clean_si_sdr_db']:.1f} dB is "
                      f"left of it")
    if means["noise_left_db"] > MAX_NOISE_LEFT_DB:
        faults.append(f"under-denoising: noise alone comes out at "
                      f"{means['noise_left_db']:.1f} dB of what went in")
    return faults


@dataclass(frozen=True)
class Guard:
    """What must not get worse for the sake of a gain: the worst value, and its limit.

    Attributes:
        name: What is measured.
        value: The worst mean.
        where: Of which sounds.
        bound: "at least", "at most" or "within +-".
        limit: What the value is held against.
    """

    name: str
    value: float
    where: str
    bound: str
    limit: float

    @property
    def passes(self) -> bool:
        """Whether the value keeps to the limit; what is no number does not."""
        if self.bound == "at least":
            return self.value >= self.limit
        return (self.value if self.bound == "at most" else abs(self.value)) <= self.limit


def worst(values: dict[str, float], badness: Callable[[float], float] = float) -> str:
    """Returns the name of the value with the greatest `badness`; no number is worst of all."""
    return max(values, key=lambda name: (np.isnan(values[name]), badness(values[name])))


def check_guards(rows: list[Row]) -> list[Guard]:
    """Finds the worst means of `judge_mixtures`' rows and sets them against what is wanted.

    Clean input goes by category, noise alone by recording; energy, and the correlation of what was
    removed with the clean target, go by category and input SNR.
    """
    by_cell = _group(rows, ("category", "input_snr_db"))
    cells = {f"{category} at {snr:g} dB": (category, snr, members)
             for (category, snr), members in by_cell.items()}
    kept = {name: _mean(members, "clean_si_sdr_db")
            for (name,), members in _group(rows, ("category",)).items()}
    left = {name: _mean(members, "noise_left_db")
            for (name,), members in _group(rows, ("noise",)).items()}
    energy = {name: _mean(members, "energy_db") for name, (*_, members) in cells.items()}
    removed, limits = {}, {}
    for name, (category, snr, members) in cells.items():
        is_loud = category == "music" and snr <= LOUD_NOISE_SNR_DB
        limits[name] = WANTED_CORRELATION_LOUD if is_loud else WANTED_CORRELATION
        removed[name] = _mean(members, "residual_correlation")
    excess = {name: value - limits[name] for name, value in removed.items()}
    least, most, farthest, nearest = (
        worst(kept, lambda value: -value), worst(left), worst(energy, abs), worst(excess))
    return [
        Guard("clean input kept, SI-SDR (dB)", kept[least], least, "at least",
              WANTED_CLEAN_SI_SDR_DB),
        Guard("a recording's noise alone (dB)", left[most], most, "at most", WANTED_NOISE_LEFT_DB),
        Guard("energy of the output (dB)", energy[farthest], farthest, "within +-",
              WANTED_ENERGY_DB),
        Guard("correlation of what was removed with the signal", removed[nearest], nearest,
              "at most", limits[nearest])]


def format_guards(guards: Iterable[Guard]) -> str:
    """Returns a Markdown table of guards with the words pass and fail."""
    lines = ["| guard | worst | of | limit | |", "|---|---|---|---|---|"]
    lines += [f"| {guard.name} | {guard.value:.2f} | {guard.where} | {guard.bound} "
              f"{guard.limit:g} | {'pass' if guard.passes else 'FAIL'} |" for guard in guards]
    return "\n".join(lines)


def _group(rows: list[Row], keys: tuple[str, ...]) -> dict[tuple, list[Row]]:
    """Returns rows by the values of `keys`, in the order of these values."""
    cells: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        cells[tuple(row[key] for key in keys)].append(row)
    return dict(sorted(cells.items()))


def _mean(rows: list[Row], name: str) -> float:
    """Returns the mean of a measure over the rows that have it; NaN where none has."""
    values = [row[name] for row in rows if name in row]
    return float(np.mean(values)) if values else float("nan")


def format_table(rows: list[Row], keys: tuple[str, ...], measures: Sequence[str] = MEASURES,
                 ) -> str:
    """Returns a Markdown table of the mean `measures` of each combination of the `keys`' values."""
    lines = ["| " + " | ".join([*keys, "items", *measures]) + " |",
             "|" + "---|" * (len(keys) + 1 + len(measures))]
    for values, members in _group(rows, keys).items():
        means = [_mean(members, name) for name in measures]
        labels = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        lines.append("| " + " | ".join([*labels, str(len(members)), *map(_format, means)]) + " |")
    return "\n".join(lines)


def format_noises(rows: list[Row]) -> str:
    """Returns a Markdown table with a line for each noise: SNR gain at each input SNR, and more."""
    snrs_db = sorted({float(row["input_snr_db"]) for row in rows})
    titles = ["noise", "items", *(f"snr_gain_db_at_{snr:g}" for snr in snrs_db), "noise_left_db",
              "residual_correlation"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for (name,), members in _group(rows, ("noise",)).items():
        means = [_mean([row for row in members if row["input_snr_db"] == snr], "snr_gain_db")
                 for snr in snrs_db]
        means += [_mean(members, measure) for measure in titles[-2:]]
        lines.append("| " + " | ".join([name, str(len(members)), *map(_format, means)]) + " |")
    return "\n".join(lines)


def _format(mean: float) -> str:
    return "-" if np.isnan(mean) else f"{mean:.2f}"


def write_table(path: Path, rows: list[Row]) -> None:
    """Writes rows as CSV in one step; what some of them have not stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)
