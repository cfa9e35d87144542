"""Decodes a recorded note, cuts it out of the silence around it, and measures its pitch.

Start reading at `load_note`.
"""

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import librosa
import numpy as np
import scipy
import soundfile as sf

from historical_denoiser.corpus.clips import (
    MIN_PEAK,
    measure_bandwidth_hz,
    measure_noise_db,
    split_frames,
)
from historical_denoiser.corpus.manifest import MIN_CLEAN_DB

MAX_NOTE_SECONDS = 16.0
# Levels are relative to the peak of the note. The level of an attack rises from `ONSET_DB` to
# `RISEN_DB` within `MAX_RISE_SECONDS`; a note that rises more slowly is faded in.
ONSET_DB, RISEN_DB = -36.0, -18.0
MAX_RISE_SECONDS = 0.15
SLOW_FADE_SECONDS = 0.1
MIN_FADE_SECONDS = 0.0005  # shortest fade-in, for a recording that begins with the attack
# A note ends where its level has been below `END_DB` for `END_SECONDS`.
END_DB, END_SECONDS = -50.0, 0.1
LEAD_SECONDS = 0.005  # time before the onset that is kept
FADE_SECONDS = 0.05
CUT_FADE_SECONDS, CUT_DB = 0.15, -35.0  # fade of a recording that ends above this level
FRAME_SECONDS = 0.005
LOUD_SECONDS = 0.05
MIN_SECONDS = 0.05
MEASURED_SECONDS = 0.2  # in a shorter note, noise cannot be distinguished from the note
SOUNDS_KEPT = 2000  # size of the cache of decoded notes, about 1 GB

RUMBLE_SHARE, RUMBLE_ORDER = 0.65, 6  # high-pass: cutoff relative to the pitch, and order
PITCH_SECONDS = 0.4  # length of the excerpt whose pitch is measured
SEARCH_CENTS = 70.0
MIN_CORRELATION = 0.9


@dataclass(frozen=True)
class Sound:
    """One decoded note: mono, without the silence around it.

    Args:
        samples: `(samples,)`, float32, at the sample rate of the file.
        rate: Sample rate in Hz.
        lead: Number of samples before the onset.
        level: RMS of its loudest `LOUD_SECONDS`.
        cents: Deviation from the pitch for which it was loaded; 0 if it is unknown.
    """

    samples: np.ndarray
    rate: int
    lead: int
    level: float
    cents: float = 0.0


@functools.lru_cache(maxsize=SOUNDS_KEPT)
def load_note(path: Path, pitch: int | None) -> Sound | None:
    """Decodes a note and measures its tuning; None if `load_sound` returns None.

    A note that sounds octaves lower than `pitch`, its MIDI number, has a wrong name, and None is
    returned as well. One that seems to sound octaves higher may only have a weak fundamental.
    """
    sound = load_sound(path, pitch)
    if sound is None or pitch is None:
        return sound
    octave, cents, correlation = measure_pitch(sound, pitch)
    if correlation < MIN_CORRELATION:
        return sound
    if octave < 0:
        return None
    if octave > 0:
        _, cents, correlation = measure_pitch(sound, pitch, octaves=(0,))
    return replace(sound, cents=cents if correlation >= MIN_CORRELATION else 0.0)


def load_sound(path: Path, pitch: int | None) -> Sound | None:
    """Decodes a note; None if it cannot be read, is silent, or is too noisy to be a target.

    A high-pass filter removes the rumble below the pitch of the note. Other noise is measured in
    the quietest frames of each band, as in the manifest; it must lie `MIN_CLEAN_DB` below the note.
    The sound is cut where it has decayed by 50 dB, so that the noise after it does not add up.
    """
    try:
        with sf.SoundFile(path) as file:
            rate = file.samplerate
            samples = file.read(round(MAX_NOTE_SECONDS * rate), dtype="float32", always_2d=True)
    except sf.LibsndfileError:
        return None
    mono = samples.mean(axis=1)
    if not np.all(np.isfinite(mono)) or np.max(np.abs(mono), initial=0.0) < MIN_PEAK:
        return None
    if pitch is not None:
        mono = scipy.signal.sosfilt(_rumble_filter(rate, pitch), mono).astype(np.float32)
    mono, lead = _trim(mono, rate)
    if len(mono) < MIN_SECONDS * rate:
        return None
    if len(mono) >= MEASURED_SECONDS * rate:
        bandwidth_hz = measure_bandwidth_hz(mono)
        if measure_noise_db(mono, sustained=True, bandwidth_hz=bandwidth_hz) < MIN_CLEAN_DB:
            return None
    level = float(frame_levels(mono, round(LOUD_SECONDS * rate)).max())
    return Sound(mono, rate, lead, level)


@functools.cache
def _rumble_filter(rate: int, pitch: int) -> np.ndarray:
    # The filter is causal; a zero-phase filter would ring before the onset.
    return scipy.signal.butter(RUMBLE_ORDER, RUMBLE_SHARE * librosa.midi_to_hz(pitch), "highpass",
                               fs=rate, output="sos")


def frame_levels(samples: np.ndarray, size: int) -> np.ndarray:
    """Returns the RMS of each whole frame of `size` samples; there is at least one."""
    return np.sqrt(np.mean(np.square(split_frames(samples, size)), axis=1))


def _trim(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Cuts off the sound before and after a note; returns the note and its lead in samples.

    A note begins where its level last exceeds `ONSET_DB` before it reaches `RISEN_DB`. If this
    takes longer than `MAX_RISE_SECONDS`, for instance out of breath noise, it is faded in.
    """
    size = round(FRAME_SECONDS * rate)
    levels = frame_levels(samples, size)
    loudest = int(levels.argmax())
    below = 20.0 * np.log10(np.maximum(levels / levels[loudest], 1e-9))
    risen = int(np.argmax(below >= RISEN_DB))
    quiet = np.flatnonzero(below[:risen] < ONSET_DB)
    onset = int(quiet[-1]) + 1 if len(quiet) else 0
    earliest = risen - round(MAX_RISE_SECONDS / FRAME_SECONDS)
    if onset < earliest:
        start, fade = earliest * size, round(SLOW_FADE_SECONDS * rate)
        lead = fade
    else:
        lead = min(round(LEAD_SECONDS * rate), onset * size)
        start, fade = onset * size - lead, lead
    end = _find_end(below[loudest:], loudest)
    note = samples[start : end * size].copy()
    _fade_in(note, max(fade, round(MIN_FADE_SECONDS * rate)))
    is_cut = below[end - 1] > CUT_DB
    fade_out(note, round((CUT_FADE_SECONDS if is_cut else FADE_SECONDS) * rate))
    return note, lead


def _find_end(below: np.ndarray, first: int) -> int:
    """Returns the number of the frame in which a note has been below `END_DB` for long enough.

    `below` are the levels of the frames from number `first` on, in dB relative to the peak.
    """
    needed = round(END_SECONDS / FRAME_SECONDS)
    if len(below) >= needed:
        runs = np.convolve(below < END_DB, np.ones(needed), "valid") >= needed
        if np.any(runs):
            return first + int(np.argmax(runs)) + needed
    return first + len(below)


def _fade_in(samples: np.ndarray, length: int) -> None:
    """Fades the beginning of a note in, in place."""
    length = min(length, len(samples))
    samples[:length] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))


def fade_out(samples: np.ndarray, length: int) -> None:
    """Fades the end of a note out, in place; the fade is at most half as long as the note."""
    length = min(length, len(samples) // 2)
    _fade_in(samples[::-1], length)


def measure_pitch(sound: Sound, pitch: int, octaves: tuple[int, ...] = (2, 1, 0, -1, -2),
                   ) -> tuple[int, float, float]:
    """Measures at which octave and cents above a pitch a note sounds, by its autocorrelation.

    The maximum of the normalised autocorrelation is searched for near the period of the pitch in
    each of the octaves. Since a multiple of a period is a period, too, the highest octave whose
    maximum is nearly the greatest is returned, with the cents above it and the correlation.

    Args:
        sound: The note.
        pitch: A MIDI number.
        octaves: The octaves to search, from the highest to the lowest.
    """
    start = len(sound.samples) // 5
    excerpt = sound.samples[start : start + round(PITCH_SECONDS * sound.rate)]
    points = 1 << (2 * len(excerpt) - 1).bit_length()
    power = np.abs(scipy.fft.rfft(excerpt, points)) ** 2
    correlation = scipy.fft.irfft(power)[: len(excerpt)]
    correlation /= correlation[0] * (1.0 - np.arange(len(excerpt)) / len(excerpt)) + 1e-12
    found = [(octave, *_find_period(correlation, sound.rate, pitch + 12 * octave))
             for octave in octaves]
    best = max(value for _, _, value in found)
    return next(one for one in found if one[2] >= 0.95 * best or one[2] == best)


def _find_period(correlation: np.ndarray, rate: int, pitch: float) -> tuple[float, float]:
    """Returns the cents above `pitch` of the best period near it, and its correlation."""
    period = rate / float(librosa.midi_to_hz(pitch))
    spread = 2.0 ** (SEARCH_CENTS / 1200.0)
    low, high = int(period / spread), int(np.ceil(period * spread)) + 1
    if low < 4 or high >= 0.7 * len(correlation):
        return 0.0, 0.0
    place = low + int(np.argmax(correlation[low:high]))
    left, middle, right = correlation[place - 1 : place + 2]
    curve = left - 2.0 * middle + right
    shift = 0.5 * (left - right) / curve if curve < 0.0 else 0.0
    cents = 1200.0 * np.log2(period / (place + np.clip(shift, -0.5, 0.5)))
    return float(cents), float(middle)
