"""Aligns a recording of a carrier with its original, as a pair that `evaluate.py` measures.

    python benchmarks/align.py ORIGINAL RECORDING FOLDER
    python evaluate.py bench.pairs=FOLDER 'methods=[network,lsa]' perceptual=true

A tape lags behind its original by a time that wow and flutter change, and has another frequency
response. So the recording is read at the places that correspond to those of the original, and the
original gets the recording's response, in thirds of an octave. What is left between them is the
carrier's noise, its distortion, and flutter faster than `WINDOW_SECONDS`. Passages between which
both are silent are written as pairs of their own.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import scipy
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench.pairs import CLEAN, NOISY, read_mono
from historical_denoiser.core.command_line import run_main
from historical_denoiser.training import metrics

BAND_HZ = (500.0, 5000.0)  # in which the lag is measured: below it is vague, above there is noise
WINDOW_SECONDS = 0.05  # in which it is measured, every half of it
REACH_SECONDS = 0.0012  # by which it may differ from that of the whole
FINER = 8  # steps of a sample in which the lag is measured
MIN_CORRELATION = 0.3  # of a window; the lag of others is interpolated
SMOOTHED = 3  # windows whose median lag is taken
RESPONSE_SIZE = 4096
SILENCE_DB, MIN_SECONDS = -60.0, 1.0  # below the loudest; of a passage


def in_band(audio: np.ndarray) -> np.ndarray:
    """Returns the slope of a waveform in `BAND_HZ`, without a delay: high partials count more."""
    sections = scipy.signal.butter(2, BAND_HZ, "band", fs=SAMPLE_RATE, output="sos")
    return scipy.signal.sosfiltfilt(sections, np.diff(audio, prepend=0.0))


def find_lag(original: np.ndarray, recording: np.ndarray) -> int:
    """Returns by how many samples a recording `(samples,)` of one polarity lags behind."""
    found = scipy.signal.correlate(recording, original, method="fft")
    return int(np.argmax(found)) - (len(original) - 1)


def follow_lag(original: np.ndarray, recording: np.ndarray, lag: int) -> tuple[np.ndarray, ...]:
    """Returns places in the original in samples, and the lag at each, `(places,)`."""
    window, reach = round(WINDOW_SECONDS * SAMPLE_RATE), round(REACH_SECONDS * SAMPLE_RATE)
    places, lags = [], []
    for start in range(0, len(original) - window, window // 2):
        first = start + lag - reach
        if first < 0 or first + window + 2 * reach > len(recording):
            continue
        part = original[start : start + window]
        around = recording[first : first + window + 2 * reach]
        found = scipy.signal.correlate(around, part, mode="valid", method="fft")
        energy = np.convolve(np.square(around), np.ones(window), "valid")
        found = found / np.sqrt(np.maximum(energy * np.sum(np.square(part)), 1e-12))
        fine = scipy.signal.resample_poly(found, FINER, 1)
        best = int(np.argmax(fine))
        if fine[best] > MIN_CORRELATION:
            places.append(start + window / 2)
            lags.append(lag - reach + best / FINER)
    return np.array(places), scipy.ndimage.median_filter(np.array(lags), SMOOTHED, mode="nearest")


def read_at(recording: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the samples of a recording at fractional places."""
    fine = dsp.resample(recording, SAMPLE_RATE, 4 * SAMPLE_RATE)
    return scipy.interpolate.CubicSpline(np.arange(len(fine)) / 4.0, fine)(places)


def with_response(original: np.ndarray, aligned: np.ndarray) -> np.ndarray:
    """Returns the original with the frequency response of its aligned recording.

    The response is the cross-spectrum over the original's power, both in thirds of an octave: noise
    that the original does not hold has no part in it.
    """
    size = RESPONSE_SIZE
    _, cross = scipy.signal.csd(original, aligned, nperseg=size)
    frequency, power = scipy.signal.welch(original, nperseg=size)
    smooth = np.empty(len(frequency), complex)
    for index, middle in enumerate(frequency):
        near = np.abs(frequency - middle) <= middle * (2.0 ** (1.0 / 6.0) - 1.0)
        smooth[index] = np.sum(cross[near]) / np.maximum(np.sum(power[near]), 1e-20)
    taps = np.roll(np.fft.irfft(smooth), size // 2) * scipy.signal.windows.hann(size)
    return scipy.signal.oaconvolve(original, taps)[size // 2 :][: len(original)]


def passages(original: np.ndarray) -> list[slice]:
    """Returns the passages between silences of the original."""
    frame = SAMPLE_RATE // 20
    levels = np.square(original[: len(original) // frame * frame]).reshape(-1, frame).mean(axis=1)
    sounds = dsp.decibels(levels, 1e-12) > dsp.decibels(levels.max()) + SILENCE_DB
    return [slice(run.start * frame, run.stop * frame)
            for run, in scipy.ndimage.find_objects(scipy.ndimage.label(sounds)[0])
            if (run.stop - run.start) * frame >= MIN_SECONDS * SAMPLE_RATE]


def main() -> None:
    """Aligns, writes the pairs, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("original", "recording", "folder"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    original, recording = (read_mono(path).astype(np.float64)
                           for path in (arguments.original, arguments.recording))
    filtered = in_band(original), in_band(recording)
    lag = find_lag(*filtered)
    places, lags = follow_lag(*filtered, lag)
    if len(places) < 2:
        sys.exit(f"{arguments.recording} must be a recording of {arguments.original}. Received: "
                 "less than two windows in which they correlate")
    sys.stdout.write(f"lag {lag} samples, which varies from {lags.min() - lag:+.1f} to "
                     f"{lags.max() - lag:+.1f}\n")
    known = slice(*(int(place) for place in (places[0], places[-1])))
    original, at = original[known], np.arange(known.start, known.stop)
    aligned = read_at(recording, at + np.interp(at, places, lags))
    for folder in (CLEAN, NOISY):
        (arguments.folder / folder).mkdir(parents=True, exist_ok=True)
    for number, passage in enumerate(passages(original), start=1):
        clean, noisy = with_response(original[passage], aligned[passage]), aligned[passage]
        name = f"{arguments.recording.stem}_{number}.wav"
        for folder, sound in ((CLEAN, clean), (NOISY, noisy)):
            soundfile.write(arguments.folder / folder / name, sound, SAMPLE_RATE, subtype="FLOAT")
        sys.stdout.write(
            f"{name}: {len(clean) / SAMPLE_RATE:.1f} s, SNR {metrics.snr_db(clean, noisy):.1f} dB, "
            f"LSD {metrics.log_spectral_distance_db(clean, noisy):.2f} dB\n")


if __name__ == "__main__":
    run_main(main)
