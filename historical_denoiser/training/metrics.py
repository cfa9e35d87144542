"""Measures of denoising quality. NumPy waveforms `(samples,)` in, plain numbers out."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.files import replacing
from historical_denoiser.data.mixture import Mixture

Row = dict[str, float | str]
JudgeMore = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]

MEASURES = ("snr_gain_db", "segmental_snr_db", "si_sdr_db", "lsd_db", "lsd_gain_db",
            "energy_db", "residual_correlation", "input_correlation", "clean_si_sdr_db",
            "noise_left_db")
LOWER_IS_BETTER = ("lsd_db", "residual_correlation", "input_correlation", "noise_left_db",
                   "probe_noise_left_db", "validation_loss")
# Beyond these limits `find_faults` reports a fault.
MIN_ENERGY_DB = -2.0
MAX_CORRELATION = 0.35
MIN_CLEAN_SI_SDR_DB = 12.0
MAX_NOISE_LEFT_DB = -3.0
MIN_LSD_GAIN_DB = 0.2
NOISE_BANDS_HZ = np.geomspace(100.0, 10000.0, 6)  # edges of the five bands of a noise alone
BAND_MEASURES = tuple(f"noise_left_db_from_{low:.0f}_hz" for low in NOISE_BANDS_HZ[:-1])

LSD_WIN_SIZE = 2048
LSD_HOP_SIZE = 512
LSD_RANGE_DB = 80.0  # lower levels, relative to the peak of the clean spectrum, are inaudible

SEGMENT_SAMPLES = 1024  # of the segmental SNR: 23 ms
SEGMENT_RANGE_DB = (-10.0, 35.0)  # beyond these, a segment sounds no worse or no better


def snr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-noise ratio of `estimate` in dB: the power of `clean` over that of the error."""
    return _ratio_db(dsp.power(clean), dsp.power(estimate - clean))


def si_sdr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019, eq. 5)."""
    reference = clean - clean.mean(dtype=np.float64)
    centred = estimate - estimate.mean(dtype=np.float64)
    target = np.dot(centred, reference) / np.dot(reference, reference) * reference
    return _ratio_db(np.dot(target, target), np.dot(centred - target, centred - target))


def segmental_snr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Mean SNR in dB of segments of `SEGMENT_SAMPLES`, each limited to `SEGMENT_RANGE_DB`.

    J. H. L. Hansen and B. L. Pellom, "An effective quality evaluation protocol for speech
    enhancement algorithms", ICSLP 1998: there, too, each segment lies in [-10, 35] dB.
    """
    samples = len(clean) // SEGMENT_SAMPLES * SEGMENT_SAMPLES
    signal, error = (np.var(each[:samples].reshape(-1, SEGMENT_SAMPLES), axis=-1, dtype=np.float64)
                     for each in (clean, estimate - clean))
    levels_db = dsp.decibels(signal, floor=1e-30) - dsp.decibels(error, floor=1e-30)
    lowest, highest = SEGMENT_RANGE_DB
    return float(np.mean(np.clip(np.nan_to_num(levels_db, nan=lowest), lowest, highest)))


def _ratio_db(signal: float, error: float) -> float:
    """Returns the ratio of two powers in dB: -inf for a silent signal or an error of NaN or inf."""
    if not (np.isfinite(error) and signal > 0.0):
        return float("-inf")
    return dsp.decibels(signal / error) if error > 0.0 else float("inf")


def log_spectral_distance_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Log-spectral distance in dB: root mean square over bins, mean over frames.

    The measure of Gray and Markel 1976, with levels floored at `LSD_RANGE_DB` below the clean peak:
    without a floor, digital silence would dominate the result.
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
    """Measures one denoised mixture.

    Args:
        clean: The target, `(samples,)`.
        noisy: The network's input, of the same shape.
        denoised: Its output, of the same shape.

    Returns:
        `snr_gain_db` (SNR improvement), `segmental_snr_db`, `si_sdr_db`, `lsd_db` (log-spectral
        distance), `lsd_gain_db` (by how much that has become smaller), `energy_db` (output over
        target),
        `residual_correlation` (of the residual with the clean target: 0 where no signal was removed
        with the noise) and `input_correlation` (of the residual with the input: 1 where everything
        was removed; 0.58, 0.30 and 0.10 at 3, 10 and 20 dB where only the noise was).
    """
    lsd = log_spectral_distance_db(clean, denoised)
    return {
        "snr_gain_db": snr_db(clean, denoised) - snr_db(clean, noisy),
        "segmental_snr_db": segmental_snr_db(clean, denoised),
        "si_sdr_db": si_sdr_db(clean, denoised),
        "lsd_db": lsd,
        "lsd_gain_db": log_spectral_distance_db(clean, noisy) - lsd,
        "energy_db": dsp.decibels(dsp.power(denoised) / dsp.power(clean)),
        "residual_correlation": correlation(noisy - denoised, clean),
        "input_correlation": correlation(noisy - denoised, noisy),
    }


def judge_mixtures(predict: Callable[..., np.ndarray], mixtures: Iterable[Mixture],
                   highpass_hz: float = 0.0, judge_more: JudgeMore | None = None,
                   ) -> list[Row]:
    """Denoises each mixture, its clean signal alone and its noise alone, and measures all three.

    Args:
        predict: Denoises waveforms `(batch, samples)`. If a mixture has a noise profile,
            `predict` gets it as a second argument with the mixture and with the noise alone.
        mixtures: The mixtures to denoise.
        highpass_hz: Cutoff of a high-pass filter on inputs and outputs before they are measured.
        judge_more: Makes further measures from a category, a clean and a denoised waveform, if any.

    Returns:
        A row for each mixture: `category`, `noise`, `input_snr_db`, the measures of `judge` and
        `judge_more`, `clean_si_sdr_db` (SI-SDR of the denoised clean signal), `noise_left_db`
        (level of the denoised noise relative to the noise) and the `BAND_MEASURES` (the same by
        band).
    """
    return [judge_mixture(predict, mixture, highpass_hz, judge_more) for mixture in mixtures]


def judge_mixture(predict: Callable[..., np.ndarray], mixture: Mixture, highpass_hz: float = 0.0,
                  judge_more: JudgeMore | None = None) -> Row:
    """Returns the row of one mixture, as described in `judge_mixtures`.

    Args:
        predict, highpass_hz, judge_more: As in `judge_mixtures`.
        mixture: The mixture.
    """
    inputs = np.stack([mixture.noisy, mixture.clean, mixture.noisy - mixture.clean])
    if mixture.profile is None:
        outputs = predict(inputs)
    else:  # the clean signal has no noise to be profiled
        outputs = np.concatenate([predict(inputs[:1], mixture.profile), predict(inputs[1:2]),
                                  predict(inputs[2:], mixture.profile)])
    (noisy, clean, noise), (noisy_out, clean_out, noise_out) = (
        dsp.highpass(audio, highpass_hz, SAMPLE_RATE) for audio in (inputs, outputs))
    return {
        "category": mixture.category,
        "noise": mixture.noise,
        "input_snr_db": mixture.snr_db,
        **judge(clean, noisy, noisy_out),
        "clean_si_sdr_db": si_sdr_db(clean, clean_out),
        "noise_left_db": dsp.decibels(dsp.power(noise_out) / dsp.power(noise)),
        **dict(zip(BAND_MEASURES, noise_left_by_band_db(noise, noise_out), strict=True)),
        **(judge_more(mixture.category, clean, noisy_out) if judge_more else {}),
    }


def noise_left_by_band_db(noise: np.ndarray, denoised: np.ndarray) -> list[float]:
    """Returns the level of the denoised noise relative to the noise in each of `NOISE_BANDS_HZ`.

    Args:
        noise, denoised: Waveforms `(samples,)` of the same length.
    """
    hz, powers = scipy.signal.welch(np.stack([noise, denoised]).astype(np.float64), SAMPLE_RATE,
                                    nperseg=min(LSD_WIN_SIZE, len(noise)))
    edges = np.searchsorted(hz, NOISE_BANDS_HZ)
    before, after = np.add.reduceat(powers, edges, axis=-1)[:, :-1] + np.finfo(np.float64).tiny
    return dsp.decibels(after / before).tolist()


def average(rows: list[Row]) -> dict[str, float]:
    """Averages each measure of `judge_mixtures` over all rows, by category and by input SNR.

    Returns:
        Means called `snr_gain_db`, `snr_gain_db_music` and `snr_gain_db_at_10`.
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
    """Converts the value of a measure of `average` to a score, which is greater for a better value.

    Returns:
        `value`; its negative where a lower value is better; minus its absolute value where 0 is
        best; minus infinity for NaN.
    """
    if np.isnan(value):
        return float("-inf")
    if name.startswith("energy_db"):
        return -abs(value)
    return -value if name.startswith(LOWER_IS_BETTER) else value


def find_faults(means: dict[str, float]) -> list[str]:
    """Returns a sentence on each fault that the averaged measures of a network show.

    The loss does not show them: a network that removes everything can have a small one.
    """
    faults = []
    for name in sorted(name for name in means if name.startswith("energy_db_at_")):
        snr = name.removeprefix("energy_db_at_")
        energy, gain = means[name], means[f"snr_gain_db_at_{snr}"]
        removed, nearer = means[f"residual_correlation_at_{snr}"], means[f"lsd_gain_db_at_{snr}"]
        if energy < MIN_ENERGY_DB or removed > MAX_CORRELATION:
            faults.append(f"over-suppression at {snr} dB: the energy of the output is "
                          f"{energy:+.1f} dB relative to the clean signal, whose correlation "
                          f"with the residual is {removed:.2f}")
        elif nearer < MIN_LSD_GAIN_DB:
            # The SNR does not show this fault: most of the noise's power can be inaudible rumble.
            faults.append(f"under-suppression at {snr} dB: the log-spectral distance to the clean "
                          f"signal improves by only {nearer:+.1f} dB")
        if gain < 0.0:
            faults.append(f"harm at {snr} dB: the SNR changes by {gain:+.1f} dB")
    if means["clean_si_sdr_db"] < MIN_CLEAN_SI_SDR_DB:
        faults.append("clean input is damaged: its SI-SDR after denoising is "
                      f"{means['clean_si_sdr_db']:.1f} dB")
    if means["noise_left_db"] > MAX_NOISE_LEFT_DB:
        faults.append("under-suppression: the level of noise alone changes by only "
                      f"{means['noise_left_db']:.1f} dB")
    return faults


def _group(rows: list[Row], keys: tuple[str, ...]) -> dict[tuple, list[Row]]:
    """Groups rows by their values of `keys`; the groups are sorted by these values."""
    cells: dict[tuple, list[Row]] = defaultdict(list)
    for row in rows:
        cells[tuple(row[key] for key in keys)].append(row)
    return dict(sorted(cells.items()))


def mean_of(rows: list[Row], name: str) -> float:
    """Returns the mean of a measure over the rows that hold it; NaN if none does."""
    values = [row[name] for row in rows if name in row]
    return float(np.mean(values)) if values else float("nan")


def format_table(rows: list[Row], keys: tuple[str, ...], measures: Sequence[str] = MEASURES) -> str:
    """Returns a Markdown table with a line for each combination of values of `keys`.

    Args:
        rows: The rows of `judge_mixtures`.
        keys: The columns by which the rows are grouped.
        measures: The columns whose means the table shows.
    """
    lines = []
    for values, members in _group(rows, keys).items():
        labels = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        lines.append([*labels, str(len(members)),
                      *(_format(mean_of(members, name)) for name in measures)])
    return make_table([*keys, "items", *measures], lines)


def format_noises(rows: list[Row]) -> str:
    """Returns a Markdown table with a line for each noise and its `snr_gain_db` at each SNR."""
    snrs_db = sorted({float(row["input_snr_db"]) for row in rows})
    titles = ["noise", "items", *(f"snr_gain_db_at_{snr:g}" for snr in snrs_db), "noise_left_db",
              "residual_correlation"]
    lines = []
    for (name,), members in _group(rows, ("noise",)).items():
        means = [mean_of([row for row in members if row["input_snr_db"] == snr], "snr_gain_db")
                 for snr in snrs_db]
        means += [mean_of(members, measure) for measure in titles[-2:]]
        lines.append([name, str(len(members)), *map(_format, means)])
    return make_table(titles, lines)


def _format(mean: float) -> str:
    return "-" if np.isnan(mean) else f"{mean:.2f}"


def make_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join(["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles),
                      *("| " + " | ".join(line) + " |" for line in lines)])


def write_table(path: Path, rows: Sequence[Mapping[str, float | str]],
                columns: Sequence[str] | None = None, missing: str = "") -> None:
    """Writes rows as a CSV file, which is replaced only when it is complete.

    Args:
        path: The file.
        rows: Each with its values by column.
        columns: The columns to write; all columns of any row when absent.
        missing: Stands for a value that a row does not have.
    """
    columns = columns or list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, missing, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
