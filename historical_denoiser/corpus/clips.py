"""Measures one clip of audio and stores it as the FLAC file that a corpus holds.

Signals are arrays `(samples,)` at `SAMPLE_RATE`.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
import soundfile as sf
import soxr

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.files import replacing
from historical_denoiser.formats.audio_io import UNKNOWN_SAMPLES

BROKEN = "broken"  # problem of a clip that cannot be decoded; `detail` gives the reason
MIN_SOURCE_RATE = 22050  # files with a lower sample rate in Hz are left out
MIN_PEAK = 1e-3  # clips with a lower peak are taken for silence
MAX_PEAK = 0.998
HASH_SECONDS = 20.0

FRAME_SECONDS = 0.02
FLOOR_PERCENTILE = 5.0
MAX_FLOOR_DB = 120.0  # upper limit, used for digital silence
TINY = 1e-30  # lower limit of a power, so that its level is finite
SILENCE_DBFS = -100.0  # frames below this level are digital silence
BANDWIDTH_RANGE_DB = 60.0
CLIPPING_LEVEL = 0.999
SPECTRUM_SAMPLES = 2048
FRAMES_AT_ONCE = 2048  # keeps memory small in long files
BAND_EDGES_HZ = np.concatenate([[0.0], np.geomspace(200.0, 20000.0, 21)])
HISS_RANGE_HZ = (3000.0, 12600.0)
# Tiles of the spectrogram whose flatness is measured: 0.19 s and 172 Hz, above 129 Hz. The flatness
# of noise in so few bins is -2.5 dB in the mean, and hardly ever below `NOISE_FLATNESS_DB`.
TILE_SAMPLES, TILE_FRAMES, TILE_BINS, LOWEST_TILE_BIN = 4096, 2, 16, 12
NOISE_FLATNESS_DB = -4.5


def split_frames(samples: np.ndarray, size: int = round(FRAME_SECONDS * SAMPLE_RATE)) -> np.ndarray:
    """Returns the whole frames `(frames, size)`; a shorter signal is padded to one frame."""
    samples = np.pad(samples, (0, max(size - len(samples), 0)))
    return samples[: len(samples) // size * size].reshape(-1, size)


def _frame_powers(samples: np.ndarray) -> np.ndarray:
    return np.mean(np.square(split_frames(samples), dtype=np.float64), axis=1)


def measure_level_dbfs(samples: np.ndarray) -> float:
    """Returns the RMS in dBFS of the frames that are not pauses."""
    return dsp.decibels(dsp.active_power(_frame_powers(samples)), TINY)


def measure_floor_db(samples: np.ndarray) -> float:
    """Returns how many dB the `FLOOR_PERCENTILE`th percentile of the frames lies below the level.

    If the percentile is digital silence, the result is `MAX_FLOOR_DB`.
    """
    floor = np.percentile(dsp.decibels(_frame_powers(samples), TINY), FLOOR_PERCENTILE)
    if floor <= SILENCE_DBFS:
        return MAX_FLOOR_DB
    return float(min(measure_level_dbfs(samples) - floor, MAX_FLOOR_DB))


def _band_minima(samples: np.ndarray) -> np.ndarray:
    """Returns the `FLOOR_PERCENTILE`th percentile of each band's power, without digital silence."""
    frames = split_frames(samples)
    frames = frames[dsp.decibels(np.mean(np.square(frames), axis=1), TINY) > SILENCE_DBFS]
    size = frames.shape[1]
    points = scipy.fft.next_fast_len(size, real=True)
    edges = np.searchsorted(np.fft.rfftfreq(points, 1.0 / SAMPLE_RATE), BAND_EDGES_HZ)
    window = np.hanning(size).astype(np.float32)
    window *= np.sqrt(2.0 / (np.sum(window**2) * points))  # the bins' sum is the mean square
    bands = [np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
             for power in _power_spectra(frames, window, points)]
    if not bands:
        return np.zeros(len(edges) - 1)
    return np.percentile(np.concatenate(bands), FLOOR_PERCENTILE, axis=0)


def _power_spectra(frames: np.ndarray, window: np.ndarray, points: int) -> Iterator[np.ndarray]:
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        yield np.square(np.abs(scipy.fft.rfft(frames[start : start + FRAMES_AT_ONCE] * window,
                                              points)))


def measure_noise_db(samples: np.ndarray, sustained: bool, bandwidth_hz: float) -> float:
    """Measures how many dB the steady noise in a clip lies below its level.

    Single words have no pauses and music is never silent, but unlike noise, few sounds fill every
    band at every moment. The noise is therefore measured in the quietest frames of each band.

    Args:
        samples: The clip.
        sustained: False for speech: the noise is the sum of the minima of all bands. True for music
            and effects, whose low bands may be filled all the time: the noise is white noise with
            the lowest density of a band from `HISS_RANGE_HZ[0]` up.
        bandwidth_hz: Bandwidth of the clip; the empty bands above it are not considered.

    Returns:
        Decibels in [0, `MAX_FLOOR_DB`].
    """
    minima = _band_minima(samples)
    if sustained:
        highest = max(min(HISS_RANGE_HZ[1], bandwidth_hz), HISS_RANGE_HZ[0] * 1.5)
        use = (BAND_EDGES_HZ[:-1] >= HISS_RANGE_HZ[0]) & (BAND_EDGES_HZ[1:] <= highest)
        density = minima[use] / np.diff(BAND_EDGES_HZ)[use]
        noise = density.min() * SAMPLE_RATE / 2.0
    else:
        noise = minima.sum()
    below_db = measure_level_dbfs(samples) - dsp.decibels(noise, TINY)
    return float(np.clip(below_db, 0.0, MAX_FLOOR_DB))


def measure_bandwidth_hz(samples: np.ndarray) -> int:
    """Returns the highest frequency within `BANDWIDTH_RANGE_DB` of the loudest, long-term."""
    frames = split_frames(samples, SPECTRUM_SAMPLES)
    window = np.hanning(SPECTRUM_SAMPLES).astype(np.float32)
    total = np.zeros(SPECTRUM_SAMPLES // 2 + 1)
    for power in _power_spectra(frames, window, SPECTRUM_SAMPLES):
        total += np.sum(power, axis=0)
    near = np.flatnonzero(total >= total.max() * 10.0 ** (-BANDWIDTH_RANGE_DB / 10.0))
    return round(near[-1] * SAMPLE_RATE / SPECTRUM_SAMPLES)


def measure_noise_like(samples: np.ndarray) -> float:
    """Returns the share of the power whose spectrum is that of noise, 0 to 1.

    Wind, surf, and the noise of synthesizers have it in every tile of the spectrogram, notes and
    voices in few. It is the power of the tiles whose spectral flatness, the ratio of the geometric
    to the arithmetic mean (Gray and Markel, "A spectral-flatness measure for studying the
    autocorrelation method", 1974), is that of noise.
    """
    shortest = TILE_SAMPLES * TILE_FRAMES
    frames = split_frames(dsp.fit_length(samples, max(len(samples), shortest)), TILE_SAMPLES)
    window = np.hanning(TILE_SAMPLES).astype(np.float32)
    power = flat = 0.0
    for spectra in _power_spectra(frames, window, TILE_SAMPLES):
        rows, bins = (size // step for size, step in (
            (len(spectra), TILE_FRAMES), (spectra.shape[1] - LOWEST_TILE_BIN, TILE_BINS)))
        last = LOWEST_TILE_BIN + bins * TILE_BINS
        tiles = spectra[: rows * TILE_FRAMES, LOWEST_TILE_BIN:last].reshape(
            rows, TILE_FRAMES, bins, TILE_BINS) + TINY
        mean = tiles.mean(axis=(1, 3), dtype=np.float64)
        flatness_db = dsp.decibels(np.exp(np.log(tiles).mean(axis=(1, 3))) / mean, TINY)
        power += mean.sum()
        flat += mean[flatness_db > NOISE_FLATNESS_DB].sum()
    return float(flat / power)


def convert_clip(source: Path | bytes, target: Path, sustained: bool) -> dict[str, Any]:
    """Decodes a clip, stores it as a FLAC file and returns its measures.

    Args:
        source: File of the clip, or its content.
        target: The FLAC file to write.
        sustained: As in `measure_noise_db`.

    Returns:
        The measures; for a clip that is not stored, a `problem`, for some with a `detail`.

    Raises:
        OSError: The disk is full.
    """
    try:
        with sf.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            if file.frames >= UNKNOWN_SAMPLES:
                return {"problem": BROKEN, "detail": "its header does not say how long it is"}
            samples, rate = file.read(dtype="float32", always_2d=True), file.samplerate
    except sf.LibsndfileError as error:
        return {"problem": BROKEN, "detail": str(error)}
    if not np.all(np.isfinite(samples)):
        return {"problem": BROKEN, "detail": "samples that are not finite"}
    if rate < MIN_SOURCE_RATE:
        return {"problem": f"below {MIN_SOURCE_RATE} Hz"}
    mono = samples.mean(axis=1)
    if np.abs(mono).max(initial=0.0) < MIN_PEAK:
        return {"problem": "silent or empty"}
    clipped = np.mean(np.abs(samples) >= CLIPPING_LEVEL)
    head = np.round(mono[: round(HASH_SECONDS * rate)] * 32768.0).astype("<i4")
    digest = hashlib.sha256(head.tobytes()).hexdigest()
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    mono *= min(1.0, MAX_PEAK / np.abs(mono).max())  # decoders of lossy formats overshoot
    encoded = io.BytesIO()
    sf.write(encoded, mono, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    with replacing(target) as temporary:
        temporary.write_bytes(encoded.getbuffer())
    bandwidth_hz = measure_bandwidth_hz(mono)
    return {"digest": digest, "seconds": round(len(mono) / SAMPLE_RATE, 3),
            "floor_db": round(measure_floor_db(mono), 1),
            "noise_db": round(measure_noise_db(mono, sustained, bandwidth_hz), 1),
            "noise_like": round(measure_noise_like(mono), 3),
            "bandwidth_hz": bandwidth_hz, "clipped": float(f"{clipped:.3g}"),
            "original_rate": rate}
