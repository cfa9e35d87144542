"""Measures beside those of `training.metrics`: segments, loudness, speech; and without a target.

Waveforms are `(samples,)` at 44.1 kHz.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import scipy.signal

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.clicks import remove_clicks
from historical_denoiser.core.checks import UserError
from historical_denoiser.training import metrics, perceptual

SEGMENT_SECONDS = 0.03
SEGMENTAL_RANGE_DB = (-10.0, 35.0)  # what one segment counts at most (Hansen and Pellom 1998)
SPEECH_RATE = 16000  # of DNSMOS; STOI resamples to its own
MIN_LOUDNESS_SECONDS = 0.4  # a block of ITU-R BS.1770
MIN_STOI = 1e-4  # what the package returns where it hears too little speech is lower
PAUSE_SECONDS = 0.05  # of the frames in which the noise floor is measured
PAUSE_SHARE = 0.05  # of the frames: the quietest ones of the input
LOUD_SHARE = 0.05  # and the loudest ones
BANDS_HZ = (31.25, 62.5, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
BAND_WINDOW = 8192
TINY_POWER = 1e-20
REMOVED, FLOOR_CHANGE = "removed_db", "floor_change_db"  # with `_at_` and an octave's middle

OF_ALL = ("segmental_snr_db", "loudness_change_lu")
OF_LISTENERS = (*perceptual.MEASURES, "stoi", "dnsmos")

JudgeMore = Callable[[str, np.ndarray, np.ndarray], dict[str, float]]
JudgeAlone = Callable[[str, np.ndarray], dict[str, float]]


def segmental_snr_db(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Mean SNR in dB of segments of 30 ms, each held between -10 and 35 dB.

    Segments in which the clean sound is silent, 60 dB under its loudest, do not count.
    """
    size = round(SEGMENT_SECONDS * SAMPLE_RATE)
    count = max(1, len(clean) // size)
    signal, error = (np.mean(np.square(audio[:count * size].astype(np.float64)).reshape(count, -1),
                             axis=1) for audio in (clean, estimate - clean))
    if not np.isfinite(error).all() or signal.max() == 0.0:
        return float("nan")
    heard = signal > signal.max() * 1e-6
    ratios = 10.0 * np.log10(signal[heard] / np.maximum(error[heard], TINY_POWER))
    return float(np.mean(np.clip(ratios, *SEGMENTAL_RANGE_DB)))


def load_judge(with_listeners: bool) -> tuple[JudgeMore, list[str]]:
    """Returns a function of a category, a clean and a denoised waveform, and what it leaves out.

    It gives `segmental_snr_db`; `loudness_change_lu`, output over clean target by ITU-R BS.1770,
    with pyloudnorm; with listeners also ViSQOL and PESQ (`training.perceptual`), and of speech
    `stoi` (Taal et al. 2011, 0 to 1) and `dnsmos` (Reddy et al. 2022, overall, 1 to 5) where their
    packages are installed.

    Raises:
        UserError: The packages of `training.perceptual` are missing and listeners are asked for.
    """
    left_out, judges = [], [_judge_segments]
    judges += _optional(_load_loudness, "loudness_change_lu: pip install pyloudnorm", left_out)
    if with_listeners:
        judges.append(perceptual.load_judge())
        judges += _optional(_load_stoi, "stoi: pip install pystoi", left_out)
        judges += _optional(_load_dnsmos, "dnsmos: pip install speechmos onnxruntime", left_out)

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        found: dict[str, float] = {}
        if np.isfinite(denoised).all():
            for one in judges:
                found |= one(category, clean, denoised)
        return found

    return judge, left_out


def _optional(load: Callable[[], JudgeMore], name: str, left_out: list[str]) -> list[JudgeMore]:
    try:
        return [load()]
    except ImportError:
        left_out.append(name)
        return []


def _judge_segments(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
    return {"segmental_snr_db": segmental_snr_db(clean, denoised)}


def _load_loudness() -> JudgeMore:
    loudness = load_meter()

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        change = loudness(denoised) - loudness(clean)
        return {"loudness_change_lu": change} if np.isfinite(change) else {}

    return judge


def load_meter() -> Callable[[np.ndarray], float]:
    """Returns a function of a waveform: its integrated loudness in LUFS (ITU-R BS.1770).

    It is NaN for what is shorter than 0.4 s, and minus infinity for silence.

    Raises:
        ImportError: pyloudnorm is not installed.
    """
    import pyloudnorm

    meter = pyloudnorm.Meter(SAMPLE_RATE)

    def loudness(audio: np.ndarray) -> float:
        if len(audio) < MIN_LOUDNESS_SECONDS * SAMPLE_RATE:
            return float("nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the logarithm of silence
            return float(meter.integrated_loudness(audio.astype(np.float64)))

    return loudness


def _load_stoi() -> JudgeMore:
    import pystoi

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        if category != "speech":
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # too little speech: see below
            value = float(pystoi.stoi(clean, denoised, SAMPLE_RATE))
        return {"stoi": value} if value > MIN_STOI else {}

    return judge


def _load_dnsmos() -> JudgeMore:
    import onnxruntime  # noqa: F401 - the package below needs it and does not say so
    from speechmos import dnsmos

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        if category != "speech":
            return {}
        audio = dsp.resample(denoised, SAMPLE_RATE, SPEECH_RATE)
        audio = audio / max(1.0, float(np.abs(audio).max()))
        return {"dnsmos": float(dnsmos.run(audio, SPEECH_RATE)["ovrl_mos"])}

    return judge


# --- Without a clean target ------------------------------------------------------------------


def load_judge_alone(with_listeners: bool) -> JudgeAlone:
    """Returns a function of a category and a denoised waveform: further measures of it.

    With listeners it gives `dnsmos` of speech; all other measures need a clean version.

    Raises:
        UserError: The package that measures it is missing and listeners are asked for.
    """
    if not with_listeners:
        return lambda category, denoised: {}
    try:
        judge = _load_dnsmos()
    except ImportError as error:
        raise UserError(f"`perceptual=true` needs a package that is not installed ({error.name}): "
                        "pip install speechmos onnxruntime") from error
    return lambda category, denoised: judge(category, denoised, denoised)


def check_alone(audio: np.ndarray, name: str = "the recording") -> None:
    """Raises UserError where a recording is silent, or too short to have pauses."""
    size = round(PAUSE_SECONDS * SAMPLE_RATE)
    if len(audio) // size < 1.0 / PAUSE_SHARE:
        raise UserError(f"{name}: must be at least {PAUSE_SECONDS / PAUSE_SHARE:g} s long. "
                        f"Received: {len(audio) / SAMPLE_RATE:.2f} s")
    if dsp.power(audio) <= TINY_POWER:
        raise UserError(f"{name}: must hold sound; it is silent")


def pauses(audio: np.ndarray, heard: np.ndarray | None = None) -> np.ndarray:
    """Returns which samples lie in the quietest twentieth of a recording's frames, bool.

    Args:
        audio: The recording; see `check_alone`.
        heard: What of it decides which frames are quiet; all of it when absent.
    """
    check_alone(audio)
    size = round(PAUSE_SECONDS * SAMPLE_RATE)
    count = len(audio) // size
    whole, powers = (np.var(one[:count * size].astype(np.float64).reshape(count, size), axis=1)
                     for one in (audio, audio if heard is None else heard))
    # Digital silence, as between tracks, is no noise floor; a filter rings into it.
    ranked = np.argsort(np.where(whole > TINY_POWER, powers, np.inf), kind="stable")
    found = np.zeros(len(audio), bool)
    for frame in ranked[:max(1, round(PAUSE_SHARE * count))]:
        found[frame * size:(frame + 1) * size] = True
    return found


def loud_moments(audio: np.ndarray) -> np.ndarray:
    """Returns which samples lie in the loudest twentieth of a recording's frames, bool."""
    check_alone(audio)
    size = round(PAUSE_SECONDS * SAMPLE_RATE)
    powers = np.var(audio[: len(audio) // size * size].reshape(-1, size), axis=1)
    loudest = np.argsort(powers, kind="stable")[-max(1, round(LOUD_SHARE * len(powers))):]
    found = np.zeros(len(audio), bool)
    for frame in loudest:
        found[frame * size:(frame + 1) * size] = True
    return found


def count_clicks(audio: np.ndarray) -> float:
    """Returns how many places a second the click stage would repair in a waveform `(samples,)`."""
    changed = remove_clicks(audio.astype(np.float32)) != audio.astype(np.float32)
    begins = np.count_nonzero(changed[1:] & ~changed[:-1]) + int(changed[0])
    return begins * SAMPLE_RATE / len(audio)


def band_powers(audio: np.ndarray) -> np.ndarray:
    """Returns the mean power in each octave around `BANDS_HZ`, `(bands,)`."""
    frequencies, density = scipy.signal.welch(audio.astype(np.float64), SAMPLE_RATE,
                                              nperseg=min(BAND_WINDOW, len(audio)))
    return np.array([density[(frequencies >= middle / np.sqrt(2.0))
                             & (frequencies < middle * np.sqrt(2.0))].sum() * frequencies[1]
                     for middle in BANDS_HZ])


def band_floors(audio: np.ndarray, noisy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Returns by how many dB the floor in each octave around `BANDS_HZ` changed, `(bands,)`.

    The floor of an octave is its power in the quietest twentieth of its own frames, so that music
    which never pauses shows a floor wherever it leaves an octave free. `audio` is the recording as
    it is, which tells digital silence; the others may be what lies above a high-pass.
    """
    frequencies, _, spectra = scipy.signal.stft(
        np.stack([audio, noisy, restored]).astype(np.float64), SAMPLE_RATE,
        nperseg=min(BAND_WINDOW, len(noisy)), boundary=None, padded=False)
    powers = np.square(np.abs(spectra))
    changes = []
    for middle in BANDS_HZ:
        of_band = (frequencies >= middle / np.sqrt(2.0)) & (frequencies < middle * np.sqrt(2.0))
        whole, before, after = powers[:, of_band].sum(axis=1)
        # Digital silence is no noise floor.
        ranked = np.argsort(np.where(whole > TINY_POWER, before, np.inf), kind="stable")
        quiet = ranked[:max(1, round(PAUSE_SHARE * len(before)))]
        floors = [max(float(found[quiet].mean()), TINY_POWER) for found in (before, after)]
        changes.append(dsp.decibels(floors[1] / floors[0]))
    return np.array(changes)


def judge_alone(noisy: np.ndarray, restored: np.ndarray, highpass_hz: float = 0.0,
                ) -> dict[str, float]:
    """Measures what a method did to a recording of which no clean version is known.

    Args:
        noisy: The recording; see `check_alone`.
        restored: What the method made of it.
        highpass_hz: What lies below is not judged, neither in the input nor in the output.

    Returns:
        `floor_dbfs`, the power in the pauses of the input, and `floor_change_db`, that of the
        output over it; `deviation_db`, the power of what was removed over that of the input where
        the programme is loudest; `clicks_before` and `clicks_after`, clicks in a second (see
        `count_clicks`); `loudness_change_lu` where pyloudnorm is installed; `energy_change_db`;
        `input_correlation` of what was removed with the input (see `metrics.judge`);
        `removed_db_at_31` to `removed_db_at_16000`: in each octave the power of what was removed,
        over that of the input; and `floor_change_db_at_31` ... (see `band_floors`).
    """
    audio = noisy
    noisy, restored = (dsp.highpass(one, highpass_hz, SAMPLE_RATE) for one in (noisy, restored))
    quiet, removed = pauses(audio, noisy), noisy - restored
    floor = max(dsp.power(noisy[quiet]), TINY_POWER)
    found = {"floor_dbfs": dsp.decibels(floor),
             "floor_change_db": dsp.decibels(dsp.power(restored[quiet]) / floor)}
    loud = loud_moments(noisy)
    found["deviation_db"] = dsp.decibels(
        max(dsp.power(removed[loud]), TINY_POWER) / max(dsp.power(noisy[loud]), TINY_POWER))
    found |= {"clicks_before": count_clicks(audio), "clicks_after": count_clicks(restored)}
    if (loudness := _meter_if_installed()) is not None:
        found["loudness_change_lu"] = loudness(restored) - loudness(noisy)
    found["energy_change_db"] = dsp.decibels(
        dsp.power(restored) / max(dsp.power(noisy), TINY_POWER))
    found["input_correlation"] = metrics.correlation(removed, noisy)
    ratios = band_powers(removed) / np.maximum(band_powers(noisy), TINY_POWER)
    for name, values in ((REMOVED, map(dsp.decibels, ratios)),
                         (FLOOR_CHANGE, map(float, band_floors(audio, noisy, restored)))):
        found |= {f"{name}_at_{int(middle)}": value
                  for middle, value in zip(BANDS_HZ, values, strict=True)}
    return found


@functools.cache
def _meter_if_installed() -> Callable[[np.ndarray], float] | None:
    try:
        return load_meter()
    except ImportError:
        return None
