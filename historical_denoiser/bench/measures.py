"""Measures in addition to those of `training.metrics`, with and without a clean target.

Waveforms are `(samples,)` at 44.1 kHz. Start reading at `load_judge` and `judge_alone`.
"""

import contextlib
import warnings
from collections.abc import Callable

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical.clicks import count_clicks
from historical_denoiser.core.checks import UserError
from historical_denoiser.training import metrics, perceptual
from historical_denoiser.training.metrics import JudgeMore

DNSMOS_RATE = 16000
MIN_LOUDNESS_SECONDS = 0.4  # a block of ITU-R BS.1770
MIN_STOI = 1e-4  # the package returns less if there is too little speech
FRAME_SECONDS = 0.05  # length of the frames that are ranked by their power
FRAME_SHARE = 0.05  # share of the frames that count as the quietest, and as the loudest
BANDS_HZ = (31.25, 62.5, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
BAND_WINDOW = 8192
TINY_POWER = 1e-20
REMOVED, FLOOR_CHANGE = "removed_db", "floor_change_db"  # `_at_` and the band's frequency follow

OF_LISTENERS = (*perceptual.MEASURES, "stoi", "dnsmos")

JudgeAlone = Callable[[str, np.ndarray], dict[str, float]]


def load_judge(with_listeners: bool) -> tuple[JudgeMore, list[str]]:
    """Returns a function that measures, and a line for each measure whose package is missing.

    The function takes a category, a clean and a denoised waveform. It returns
    `loudness_change_lu`, the loudness (ITU-R BS.1770) of the output minus that of the clean target.
    With listeners it also returns ViSQOL and PESQ (`training.perceptual`), and for speech `stoi`
    (Taal et al. 2011, 0 to 1) and `dnsmos` (Reddy et al. 2022, overall, 1 to 5).

    Raises:
        UserError: Listeners are asked for and the packages of `training.perceptual` are missing.
    """
    left_out: list[str] = []
    judges = _optional(_load_loudness, "loudness_change_lu: pip install pyloudnorm", left_out)
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


def _load_loudness() -> JudgeMore:
    loudness = load_meter()

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        change = loudness(denoised) - loudness(clean)
        return {"loudness_change_lu": change} if np.isfinite(change) else {}

    return judge


def load_meter() -> Callable[[np.ndarray], float]:
    """Returns a function that measures the integrated loudness in LUFS (ITU-R BS.1770).

    It returns NaN for a waveform shorter than 0.4 s, and minus infinity for silence.

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
            warnings.simplefilter("ignore", RuntimeWarning)  # too little speech
            value = float(pystoi.stoi(clean, denoised, SAMPLE_RATE))
        return {"stoi": value} if value > MIN_STOI else {}

    return judge


def _load_dnsmos() -> JudgeMore:
    import onnxruntime  # noqa: F401 - speechmos needs it but does not declare it
    from speechmos import dnsmos

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        if category != "speech":
            return {}
        audio = dsp.resample(denoised, SAMPLE_RATE, DNSMOS_RATE)
        audio = audio / max(1.0, float(np.abs(audio).max()))
        return {"dnsmos": float(dnsmos.run(audio, DNSMOS_RATE)["ovrl_mos"])}

    return judge


# --- Without a clean target ------------------------------------------------------------------


def load_judge_alone(with_listeners: bool) -> JudgeAlone:
    """Returns a function of a category and a denoised waveform that returns further measures.

    With listeners they are `dnsmos` for speech; all other ones need a clean version.

    Raises:
        UserError: Listeners are asked for and the package of DNSMOS is missing.
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
    """Raises UserError if a recording is silent, or too short to have pauses."""
    if len(_in_frames(audio)) < 1.0 / FRAME_SHARE:
        raise UserError(f"{name}: must be at least {FRAME_SECONDS / FRAME_SHARE:g} s long. "
                        f"Received: {len(audio) / SAMPLE_RATE:.2f} s")
    if dsp.power(audio) <= TINY_POWER:
        raise UserError(f"{name}: must hold sound; it is silent")


def _in_frames(audio: np.ndarray) -> np.ndarray:
    """Returns a waveform as `(frames, samples)`, without an incomplete last frame."""
    size = round(FRAME_SECONDS * SAMPLE_RATE)
    return audio[: len(audio) // size * size].reshape(-1, size)


def _mark_first(order: np.ndarray, samples: int) -> np.ndarray:
    """Returns which samples lie in the first twentieth of the frames in `order`, bool."""
    found = np.zeros(samples, bool)
    _in_frames(found)[order[:max(1, round(FRAME_SHARE * len(order)))]] = True
    return found


def find_pauses(audio: np.ndarray, filtered: np.ndarray | None = None) -> np.ndarray:
    """Returns which samples lie in the quietest twentieth of a recording's frames, bool.

    Args:
        audio: The recording; see `check_alone`.
        filtered: The recording after a filter, whose frames are ranked; `audio` when absent.
    """
    check_alone(audio)
    filtered = audio if filtered is None else filtered
    whole, powers = (np.var(_in_frames(each).astype(np.float64), axis=1)
                     for each in (audio, filtered))
    # Digital silence, as between tracks, is not a noise floor; after a filter it may not be silent.
    powers = np.where(whole > TINY_POWER, powers, np.inf)
    return _mark_first(np.argsort(powers, kind="stable"), len(audio))


def find_loud(audio: np.ndarray) -> np.ndarray:
    """Returns which samples lie in the loudest twentieth of a recording's frames, bool."""
    powers = np.var(_in_frames(audio), axis=1)
    return _mark_first(np.argsort(powers, kind="stable")[::-1], len(audio))


def band_powers(audio: np.ndarray) -> np.ndarray:
    """Returns the mean power in each octave around `BANDS_HZ`, `(bands,)`."""
    frequencies, density = scipy.signal.welch(audio.astype(np.float64), SAMPLE_RATE,
                                              nperseg=min(BAND_WINDOW, len(audio)))
    return np.array([density[_in_octave(frequencies, middle)].sum() * frequencies[1]
                     for middle in BANDS_HZ])


def _in_octave(frequencies: np.ndarray, middle: float) -> np.ndarray:
    return (frequencies >= middle / np.sqrt(2.0)) & (frequencies < middle * np.sqrt(2.0))


def floor_changes_db(audio: np.ndarray, noisy: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Returns by how many dB the floor in each octave around `BANDS_HZ` changed, `(bands,)`.

    The floor of an octave is its power in the quietest twentieth of its own frames. Music without
    pauses therefore shows a floor in each octave that is free at times.

    Args:
        audio: The recording without any filter, in which digital silence is recognised.
        noisy: The recording, which may be high-passed.
        restored: The restored recording, likewise.
    """
    frequencies, _, spectra = scipy.signal.stft(
        np.stack([audio, noisy, restored]).astype(np.float64), SAMPLE_RATE,
        nperseg=min(BAND_WINDOW, len(noisy)), boundary=None, padded=False)
    powers = np.square(np.abs(spectra))
    changes = []
    for middle in BANDS_HZ:
        whole, before, after = powers[:, _in_octave(frequencies, middle)].sum(axis=1)
        ranked = np.argsort(np.where(whole > TINY_POWER, before, np.inf), kind="stable")
        quiet = ranked[:max(1, round(FRAME_SHARE * len(before)))]
        floors = [max(float(found[quiet].mean()), TINY_POWER) for found in (before, after)]
        changes.append(dsp.decibels(floors[1] / floors[0]))
    return np.array(changes)


def judge_alone(noisy: np.ndarray, restored: np.ndarray, highpass_hz: float = 0.0,
                ) -> dict[str, float]:
    """Measures what a method did to a recording without a clean version.

    Args:
        noisy: The recording; see `check_alone`.
        restored: The restored recording.
        highpass_hz: Frequencies below this one are not judged, in the input and in the output.

    Returns:
        `floor_dbfs`, the power in the pauses of the input, and `floor_change_db`, that of the
        output relative to it; `deviation_db`, the power of the residual relative to the input in
        the loudest frames; `clicks_before` and `clicks_after` (see `count_clicks`);
        `loudness_change_lu` if pyloudnorm is installed; `energy_change_db`; `input_correlation` of
        the residual with the input (see `metrics.judge`); `removed_db_at_31` to
        `removed_db_at_16000`, the power of the residual in each octave relative to the input; and
        `floor_change_db_at_31` ... (see `floor_changes_db`).
    """
    audio = noisy
    noisy, restored = (dsp.highpass(one, highpass_hz, SAMPLE_RATE) for one in (noisy, restored))
    quiet, removed = find_pauses(audio, noisy), noisy - restored
    floor = max(dsp.power(noisy[quiet]), TINY_POWER)
    found = {"floor_dbfs": dsp.decibels(floor),
             "floor_change_db": dsp.decibels(dsp.power(restored[quiet]) / floor)}
    loud = find_loud(noisy)
    found["deviation_db"] = dsp.decibels(
        max(dsp.power(removed[loud]), TINY_POWER) / max(dsp.power(noisy[loud]), TINY_POWER))
    found |= {"clicks_before": count_clicks(audio), "clicks_after": count_clicks(restored)}
    with contextlib.suppress(ImportError):
        loudness = load_meter()
        found["loudness_change_lu"] = loudness(restored) - loudness(noisy)
    found["energy_change_db"] = dsp.decibels(
        dsp.power(restored) / max(dsp.power(noisy), TINY_POWER))
    found["input_correlation"] = metrics.correlation(removed, noisy)
    ratios = band_powers(removed) / np.maximum(band_powers(noisy), TINY_POWER)
    for name, values in ((REMOVED, map(dsp.decibels, ratios)),
                         (FLOOR_CHANGE, map(float, floor_changes_db(audio, noisy, restored)))):
        found |= {f"{name}_at_{int(middle)}": value
                  for middle, value in zip(BANDS_HZ, values, strict=True)}
    return found
