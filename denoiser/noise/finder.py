"""Finds the stretches of a recording that hold noise alone: run-in and run-out grooves, pauses.

`docs/noise.md` says how it decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import librosa
import numpy as np
from scipy import ndimage

from denoiser.checks import UserError, require
from denoiser.noise.fit import frame_powers
from denoiser.noise.parts import to_gain

SLOT_FRAMES = 12  # STFT frames in a slot: the 0.3 s that are judged as a whole
JUDGED_HZ = (60.0, 354.0, 5657.0)  # the bass's level counts; above it half octaves are judged
SLOT_FLATNESS_DB = -0.75  # least mean flatness of a slot of noise
RUN_FLATNESS_DB = -0.58  # least median of this over a stretch; speech and music lie below
BAND_FLATNESS_DB = -1.8  # least flatness of a slot's second least flat half octave
STEADY_DB = 4.0  # most by which noise is louder than the quietest noise of the recording
STEADY_BASS_DB = 5.0  # most by which its bass is louder
SLOT_CHANGE_DB = 3.0  # largest distance from the usual noise, RMS over half octaves
RUN_CHANGE_DB = 2.0  # largest median of this over a stretch
LINE_DB = 3.0  # a line that is always this far above its neighbours is hum or buzz
LINE_REACH = 12  # neighbours in bins on each side
HIGHEST_HUM_HZ = 1200.0
SILENCE_DBFS = -96.0  # below this nothing was recorded
LONGEST_GAP = 3  # slots
SHORTEST_SECONDS = 0.75  # of a stretch: as much as `fit.measure` needs
LEAST_DROP_DB = 6.0  # of the noise below the louder part of the rest
LOWEST_RATE = 4000  # Hz
PLACES = {(True, True): "whole", (True, False): "run-in", (False, True): "run-out",
          (False, False): "pause"}  # by whether a stretch is at the recording's start and end


@dataclass(frozen=True)
class NoiseSegment:
    """A stretch of noise alone in a recording."""

    start_seconds: float
    end_seconds: float
    place: str  # one of `PLACES`
    level_dbfs: float  # of the noise between 0.35 and 5.7 kHz
    below_program_db: float  # how far this lies below the rest; infinite where there is none
    flatness_db: float  # 0: as flat as noise can be


def _frame_size(sample_rate: int) -> int:
    """The power of two that is closest to 46 ms, in samples."""
    return 2 ** round(np.log2(0.046 * sample_rate))


def _slot_samples(sample_rate: int) -> int:
    """The length of a slot, whose frames overlap by half."""
    return (SLOT_FRAMES + 1) * (_frame_size(sample_rate) // 2)


def _slot_powers(blocks: Iterable[np.ndarray], sample_rate: int) -> tuple[np.ndarray, int]:
    """Power spectra `(slots, bins)` of 0 to 5.7 kHz, and how many samples the blocks have.

    A spectrum is the median over the slot's frames, which clicks hardly change. Slots overlap by
    half.
    """
    size = _frame_size(sample_rate)
    hop, step = size // 2, SLOT_FRAMES // 2
    length = _slot_samples(sample_rate)
    bins = min(int(JUDGED_HZ[-1] / sample_rate * size), size // 2) + 1
    powers, rest, samples = [np.zeros((0, bins), np.float32)], None, 0
    for block in blocks:
        samples += len(block)
        if not np.isfinite(block).all():
            raise UserError("the recording must be finite: it holds NaN or infinite samples")
        rest = block if rest is None else np.concatenate([rest, block])
        count = (len(rest) - length) // (step * hop) + 1
        if count < 1:
            continue
        piece = rest[:(count - 1) * step * hop + length]
        frames = sum(frame_powers(channel, size, hop)[:bins] for channel in piece.T)
        windows = librosa.util.frame(frames, frame_length=SLOT_FRAMES, hop_length=step)
        powers.append(np.median(windows, axis=1).T / (np.log(2.0) * piece.shape[1]))
        rest = rest[count * step * hop:]
    return np.concatenate(powers) + 1e-20, samples


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(power)


def _without_hum(powers: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
    """Lowers the lines below 1.2 kHz that are always above their neighbours to their level."""
    usual = np.quantile(powers, 0.1, axis=0)
    around = np.quantile(librosa.util.frame(np.pad(usual, LINE_REACH, mode="edge"),
                                            frame_length=2 * LINE_REACH + 1, hop_length=1),
                         0.3, axis=0)
    line = (usual > to_gain(2.0 * LINE_DB) * around) & (frequency_hz < HIGHEST_HUM_HZ)
    return np.where(line, powers * around / usual, powers)


@dataclass(frozen=True)
class _Slots:
    """What is judged of each slot, in dB; bands are half octaves."""

    sample_rate: int
    samples: int  # of the recording
    level: np.ndarray  # (slots,), re full scale
    bass: np.ndarray  # (slots,)
    bands: np.ndarray  # (bands, slots)
    flatness: np.ndarray  # (slots,), 0: flat; mean of all bands but the least flat: it may hum
    least_flatness: np.ndarray  # (slots,), of these bands

    @classmethod
    def judge(cls, powers: np.ndarray, sample_rate: int, samples: int) -> _Slots:
        """Judges the spectra of `_slot_powers`."""
        size = _frame_size(sample_rate)
        frequency = librosa.fft_frequencies(sr=sample_rate, n_fft=size)[:powers.shape[1]]
        spectra = _without_hum(powers, frequency).astype(np.float64).T
        edges = JUDGED_HZ[1] * 2.0 ** (0.5 * np.arange(9))
        bands = [spectra[(frequency >= low) & (frequency < high)]
                 for low, high in itertools.pairwise(edges[edges < 0.45 * sample_rate])]
        flatness = _decibels(np.sort([librosa.feature.spectral_flatness(
            S=band, power=1.0, amin=1e-30)[0] for band in bands], axis=0))
        bass = spectra[(frequency >= JUDGED_HZ[0]) & (frequency < JUDGED_HZ[1])]
        return cls(sample_rate, samples,
                   level=_decibels(2.0 * sum(band.sum(axis=0) for band in bands) / size),
                   bass=_decibels(bass.sum(axis=0)),
                   bands=_decibels(np.stack([band.mean(axis=0) for band in bands])),
                   flatness=flatness[1:].mean(axis=0), least_flatness=flatness[1])

    def span_seconds(self, run: slice) -> tuple[float, float]:
        """A run's start and end, without half a slot at each end that may hold its neighbour."""
        step = SLOT_FRAMES // 2 * (_frame_size(self.sample_rate) // 2)
        start = 0 if run.start == 0 else (run.start + 1) * step
        end = self.samples if run.stop == len(self.level) else run.stop * step
        return start / self.sample_rate, end / self.sample_rate

    def long_runs(self, mask: np.ndarray, min_seconds: float) -> list[slice]:
        """Runs of true values that are long and, as a whole, flat enough."""
        return [run for run in _runs(mask)
                if np.subtract(*self.span_seconds(run)) <= -min_seconds
                and np.median(self.flatness[run]) >= RUN_FLATNESS_DB]


def _runs(mask: np.ndarray) -> list[slice]:
    """The runs of true values."""
    return [run for run, in ndimage.find_objects(ndimage.label(mask)[0])]


def _is_usual(slots: _Slots, flat: np.ndarray, floor_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Which flat slots are like the quietest noise, and each slot's distance from it in dB."""
    noise = flat & (slots.level < floor_db + STEADY_DB)
    noise &= slots.bass < np.quantile(slots.bass[noise], 0.2) + STEADY_BASS_DB
    usual = np.median(slots.bands[:, noise], axis=1, keepdims=True)
    change = np.sqrt(np.mean(np.square(slots.bands - usual), axis=0))
    return noise & (change < SLOT_CHANGE_DB), change


def _fill_gaps(noise: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Adds the short flat gaps between noise, where dense crackle was too loud."""
    filled = noise.copy()
    for gap in _runs(~noise):
        inside = gap.start > 0 and gap.stop < len(noise)
        if inside and gap.stop - gap.start <= LONGEST_GAP and flat[gap].all():
            filled[gap] = True
    return filled


def _describe(slots: _Slots, run: slice, loudness_db: float) -> NoiseSegment:
    place = PLACES[run.start == 0, run.stop == len(slots.level)]
    level_db = float(np.median(slots.level[run]))
    return NoiseSegment(*slots.span_seconds(run), place, level_db, loudness_db - level_db,
                        float(np.median(slots.flatness[run])))


def _choose(slots: _Slots, min_seconds: float, min_drop_db: float,
            ) -> tuple[list[NoiseSegment], str]:
    """Picks the noise among a recording's slots; says why there is none."""
    audible = slots.level > SILENCE_DBFS
    if not audible.any():
        return [], "there is only digital silence"
    flat = (audible & (slots.flatness >= SLOT_FLATNESS_DB)
            & (slots.least_flatness >= BAND_FLATNESS_DB))
    levels_db = [np.median(slots.level[run]) for run in slots.long_runs(flat, min_seconds)]
    if not levels_db:
        return [], _why_no_run(slots, flat, min_seconds)
    floor_db = min(levels_db)
    noise, change_db = _is_usual(slots, flat, floor_db)
    noise = _fill_gaps(noise, flat)
    programme_db = slots.level[~noise & audible]
    loudness_db = float(np.quantile(programme_db, 0.75)) if len(programme_db) else np.inf
    if loudness_db < floor_db + min_drop_db:
        return [], (f"its quietest noise, at {floor_db:.0f} dBFS, lies "
                    f"{loudness_db - floor_db:.1f} dB below the rest; what lies less than "
                    f"{min_drop_db:g} dB below it may be sound")
    steady = [run for run in slots.long_runs(noise, min_seconds)
              if np.median(change_db[run]) <= RUN_CHANGE_DB]
    return ([_describe(slots, run, loudness_db) for run in steady], "" if steady else
            f"its noise never stays the same for {min_seconds:g} s: level, bass or colour change")


def _why_no_run(slots: _Slots, flat: np.ndarray, min_seconds: float) -> str:
    """Returns why no stretch is flat for long enough."""
    longest = max((end - start for start, end in map(slots.span_seconds, _runs(flat))), default=0.0)
    if longest >= min_seconds:
        return "where it sounds most like noise, faint tones or voices still stand out"
    if longest > 0.0:
        return (f"what may be noise alone lasts {longest:.2f} s at most, less than the "
                f"{min_seconds:g} s that are asked for")
    return "tones, voices or hum stand out of the noise everywhere"


def search(blocks: Iterable[np.ndarray], sample_rate: int, min_seconds: float = SHORTEST_SECONDS,
           min_drop_db: float = LEAST_DROP_DB) -> tuple[list[NoiseSegment], str]:
    """Finds stretches that hold noise alone, and says why there are none; see the function below.

    Returns:
        The stretches; and where there are none, the reason, else nothing.
    """
    require(sample_rate >= LOWEST_RATE, "sample_rate", f"at least {LOWEST_RATE}", sample_rate)
    powers, samples = _slot_powers(blocks, sample_rate)
    if not len(powers):
        return [], (f"{samples / sample_rate:.2f} s are too short: "
                    f"{_slot_samples(sample_rate) / sample_rate:.2f} s are judged at once")
    return _choose(_Slots.judge(powers, sample_rate, samples), min_seconds, min_drop_db)


def find_noise_segments(blocks: Iterable[np.ndarray], sample_rate: int,
                        min_seconds: float = SHORTEST_SECONDS,
                        min_drop_db: float = LEAST_DROP_DB) -> list[NoiseSegment]:
    """Finds stretches that hold noise alone: run-in and run-out grooves, pauses.

    Noise has a smooth spectrum: within half an octave, the median of a third of a second is flat
    to about 0.5 dB, while tones and harmonics stand out of it. Of such stretches those at the
    recording's lowest steady level are taken, if the rest of the recording is louder.

    Args:
        blocks: The recording, piece by piece: float arrays `(samples, channels)` of any length.
        sample_rate: Samples per second.
        min_seconds: Shortest stretch.
        min_drop_db: How far noise must lie below the louder part of the rest.

    Raises:
        UserError: The rate is so low that it leaves no band to judge noise by, or the recording
            holds samples that are not finite.
    """
    return search(blocks, sample_rate, min_seconds, min_drop_db)[0]
