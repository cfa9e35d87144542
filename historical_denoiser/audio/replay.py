"""Corrects how a disc or a tape was replayed: the equalisation, the speed, and the azimuth.

`CURVES` lists the replay curves, docs/replay.md their sources. Start reading at `Replay.apply`.
"""

import functools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from historical_denoiser.audio import dsp
from historical_denoiser.audio.blocks import Frames
from historical_denoiser.audio.mono_source import delay_taps, find_delay, frame_spectra
from historical_denoiser.core.checks import require

REFERENCE_HZ = 1000.0  # curves have 0 dB there
LOWEST_HZ = 20.0  # where the bass boost of a curve ends that has no shelf
MIN_SHELF_HZ, MAX_TREBLE_DB = 10.0, -30.0
TAPS_SECONDS = 0.4  # 25 time constants of a shelf at 10 Hz
MAX_SPEED = 10.0  # and its reciprocal: from 16 to 78 turns is 4.9
# Azimuth: the recording is measured in chunks of this length, whose delays must agree. Within the
# chunks, this share of what the channels have in common must have that delay.
CHUNK_SECONDS, MIN_CHUNK_SECONDS = 10.0, 2.0
MAX_SPREAD_SECONDS = 5e-6
MIN_SHARE = 0.5
MIN_SAMPLES = 0.005  # a smaller delay is none


def disc_replay_db(frequency_hz: np.ndarray, bass_hz: float, treble_hz: float,
                   shelf_hz: float = 50.0) -> np.ndarray:
    """Returns the replay equalisation of a disc in dB.

    Args:
        frequency_hz: Frequencies.
        bass_hz: Turnover frequency, below which the bass is boosted; 0 for no boost.
        treble_hz: Frequency above which the treble is attenuated; 0 for no attenuation.
        shelf_hz: Frequency at which the boost of the bass ends.
    """
    level = np.zeros_like(frequency_hz)
    if bass_hz:
        level += 10.0 * np.log10((frequency_hz**2 + bass_hz**2) / (frequency_hz**2 + shelf_hz**2))
    if treble_hz:
        level -= 10.0 * np.log10(1.0 + (frequency_hz / treble_hz) ** 2)
    return level


@dataclass(frozen=True)
class Curve:
    """A replay curve of discs.

    Attributes:
        name: Its name in `CURVES`, or what the user wrote.
        bass_hz, treble_hz, shelf_hz: As in `disc_replay_db`.
    """

    name: str
    bass_hz: float = 0.0
    treble_hz: float = 0.0
    shelf_hz: float = LOWEST_HZ

    @property
    def is_flat(self) -> bool:
        """Whether it changes nothing."""
        return not (self.bass_hz or self.treble_hz)

    def level_db(self, frequency_hz: np.ndarray) -> np.ndarray:
        """Returns the gain of the replay amplifier in dB, relative to that at 1 kHz."""
        level, reference = (disc_replay_db(np.asarray(each, float), self.bass_hz, self.treble_hz,
                                           self.shelf_hz) for each in (frequency_hz, REFERENCE_HZ))
        return level - reference


def _of_us(name: str, shelf_us: float, bass_us: float, treble_us: float) -> Curve:
    """Returns a curve by its time constants in microseconds."""
    return Curve(name, *(1e6 / (2.0 * np.pi * each) for each in (bass_us, treble_us, shelf_us)))


def _of_roll_off(name: str, bass_hz: float, treble_db: float, shelf_hz: float = LOWEST_HZ) -> Curve:
    """Returns a curve by its turnover and what its treble loses at 10 kHz, 0 for nothing."""
    treble_hz = 1e4 / math.sqrt(10.0 ** (-0.1 * treble_db) - 1.0) if treble_db else 0.0
    return Curve(name, bass_hz, treble_hz, shelf_hz)


# The sources are in docs/replay.md.
CURVES = {curve.name: curve for curve in (
    Curve("flat"),
    _of_roll_off("emi_78", 250.0, 0.0),
    _of_roll_off("blumlein_300", 300.0, 0.0),
    _of_roll_off("500_flat", 500.0, 0.0),
    _of_roll_off("columbia_78", 300.0, -16.0),
    _of_roll_off("ffrr_78", 300.0, -5.5),
    _of_us("bs_1928_78", 3180.0, 450.0, 50.0),
    _of_roll_off("aes", 400.0, -12.0, 50.0),
    _of_roll_off("mgm", 500.0, -12.0),
    _of_us("nab", 3180.0, 318.0, 100.0),
    _of_us("columbia_lp", 1590.0, 318.0, 100.0),
    _of_us("london_lp", 1590.0, 318.0, 50.0),
    _of_us("teldec", 3180.0, 318.0, 50.0),
    _of_us("riaa", 3180.0, 318.0, 75.0))}


def read_curve(value: Any, key: str) -> Curve | None:
    """Returns the curve that a setting names; None for none.

    Args:
        value: None, a name of `CURVES`, or the turnover in Hz, the treble at 10 kHz in dB, and
            possibly the shelf in Hz: "500,-13.7" or [500, -13.7, 50].
        key: Name of the setting.

    Raises:
        UserError: It is none of these.
    """
    if value is None:
        return None
    text = re.sub(r"hz|db|[\[\]\s]", "", str(value).lower())
    if text in CURVES:
        return CURVES[text]
    numbers = [float(part) if re.fullmatch(r"-?\d+(\.\d+)?", part) else np.nan
               for part in text.split(",")]
    bass_hz, treble_db, shelf_hz = (numbers + [LOWEST_HZ])[:3] if len(numbers) in (2, 3) else (
        np.nan, np.nan, np.nan)
    is_bass = bass_hz == 0.0 or MIN_SHELF_HZ <= shelf_hz < bass_hz < 1e4
    require(is_bass and MAX_TREBLE_DB <= treble_db <= 0.0, key,
            f"one of {', '.join(CURVES)}; or TURNOVER,TREBLE or TURNOVER,TREBLE,SHELF, as "
            f"500,-13.7,50: Hz, dB at 10 kHz (from {MAX_TREBLE_DB:g} to 0), Hz (at least "
            f"{MIN_SHELF_HZ:g})", value)
    return _of_roll_off(text, bass_hz, treble_db, shelf_hz)


def read_speed(value: Any, key: str) -> float:
    """Returns by what the speed is multiplied.

    Args:
        value: A number; or "78.26>80" for a transfer at 78.26 of a disc that turned at 80.
        key: Name of the setting.

    Raises:
        UserError: It is neither, or the factor is beyond `MAX_SPEED`.
    """
    parts = str(value).replace(" ", "").split(">")
    try:
        numbers = [float(part) for part in parts]
        speed = numbers[-1] / (numbers[0] if len(numbers) == 2 else 1.0)
    except (ValueError, ZeroDivisionError):
        speed = np.nan
    require(len(parts) <= 2 and 1.0 / MAX_SPEED <= speed <= MAX_SPEED, key,
            f"a factor from {1.0 / MAX_SPEED:g} to {MAX_SPEED:g}, as 0.98, or the speed of the "
            "transfer and the right one, as '78.26>80'; or auto", value)
    return speed


@dataclass(frozen=True)
class Replay:
    """How the replay of a recording is corrected.

    Attributes:
        replay_curve: The curve that the recording needs.
        transfer_curve: The curve with which it was transferred, and which is undone.
        speed: By what the speed is multiplied.
        finds_azimuth: Whether `late_seconds` is measured.
        late_seconds: By how much the second of two channels comes too late.
        finds_speed: Whether `speed` is measured by the hum.
        hum_hz: The hum of the transfer by which `speed` was measured, in Hz; None for none.
    """

    replay_curve: Curve | None = None
    transfer_curve: Curve | None = None
    speed: float = 1.0
    finds_azimuth: bool = False
    late_seconds: float = 0.0
    finds_speed: bool = False
    hum_hz: float | None = None

    @property
    def changes(self) -> bool:
        """Whether samples change."""
        return self.speed != 1.0 or self.late_seconds != 0.0 or any(
            curve and not curve.is_flat for curve in (self.replay_curve, self.transfer_curve))

    def apply(self, blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        """Yields a recording as it should have been replayed, with constant memory.

        The transfer curve is that of the speed of the transfer, the replay curve that of the right
        one.

        Args:
            blocks: Adjacent float64 blocks `(samples, channels)`, of two channels if
                `late_seconds` is not 0.
            rate: Sample rate in Hz, which stays: another speed changes the number of samples.
        """
        if self.late_seconds:
            taps = np.stack([delay_taps(delay, rate) for delay in (
                0.0, -self.late_seconds * rate)], axis=-1)
            blocks = convolve(blocks, taps, len(taps) // 2)
        if self.transfer_curve and not self.transfer_curve.is_flat:
            blocks = convolve(blocks, curve_taps(self.transfer_curve, rate, -1.0))
        blocks = change_speed(blocks, rate, self.speed)
        if self.replay_curve and not self.replay_curve.is_flat:
            blocks = convolve(blocks, curve_taps(self.replay_curve, rate, 1.0))
        return filter(len, blocks)

    def describe(self, rate: int) -> dict[str, Any]:
        """Returns what is corrected, for a report; `rate` is the sample rate in Hz."""
        facts = {name: vars(curve) for name in ("transfer_curve", "replay_curve")
                 if (curve := getattr(self, name))}
        if self.speed != 1.0 or self.finds_speed:
            facts["speed"] = self.speed
        if self.finds_speed:
            facts["transfer_hum_hz"] = self.hum_hz and round(self.hum_hz, 3)
        if self.finds_azimuth:
            facts["second_channel_late_samples"] = round(self.late_seconds * rate, 3)
        return facts

    def corrections(self, rate: int) -> list[str]:
        """Returns each correction in words, in their order; `rate` is the sample rate in Hz."""
        transfer, hum = self.transfer_curve, self.hum_hz
        return list(filter(None, [
            f"second channel moved by {-self.late_seconds * rate:.3f} samples"
            if self.late_seconds else "",
            f"curve {transfer.name} of the transfer undone"
            if transfer and not transfer.is_flat else "",
            f"speed x {self.speed:.6g}" + (f" for its hum of {hum:.2f} Hz" if hum else "")
            if self.speed != 1.0 else "",
            f"replay curve {self.replay_curve.name}" if self.replay_curve else ""]))


UNCHANGED = Replay()


@functools.lru_cache(maxsize=8)
def curve_taps(curve: Curve, rate: int, sign: float) -> np.ndarray:
    """Returns the minimum-phase filter of a curve, or of its inverse, `(taps, 1)`.

    Args:
        curve: The curve.
        rate: Sample rate in Hz.
        sign: 1 for the curve, -1 for its inverse.
    """
    grid_hz = np.linspace(0.0, 0.5 * rate, rate // 2 + 1)
    return dsp.minimum_phase(sign * curve.level_db(grid_hz), round(TAPS_SECONDS * rate))[:, None]


def convolve(blocks: Iterable[np.ndarray], taps: np.ndarray, lead: int = 0) -> Iterator[np.ndarray]:
    """Yields a filtered recording, of the same length.

    Args:
        blocks: Adjacent blocks `(samples, channels)`.
        taps: The filter, `(taps, channels)` or `(taps, 1)`.
        lead: Place of the tap that belongs to the current sample.
    """
    rest, skipped = np.zeros((0, 1)), lead
    for block in filter(len, blocks):
        found = scipy.signal.oaconvolve(block, taps, axes=0)
        found[: len(rest)] += rest
        done, rest = found[: len(block)], found[len(block) :]
        yield done[skipped:]
        skipped -= min(skipped, len(done))
    yield rest[skipped : lead]


def change_speed(blocks: Iterable[np.ndarray], rate: int, speed: float) -> Iterator[np.ndarray]:
    """Yields blocks `(samples, channels)` of a recording at another speed.

    Args:
        blocks: Adjacent blocks.
        rate: Sample rate in Hz.
        speed: 2 halves the length and raises all pitches by an octave.
    """
    read = written = 0

    def count() -> Iterator[np.ndarray]:
        nonlocal read
        for block in filter(len, blocks):
            read += len(block)
            yield block.T

    for piece in dsp.resample_blocks(count(), rate * speed, rate):
        piece = piece.T[: round(read / speed) - written]
        written += len(piece)
        yield piece


def find_azimuth(blocks: Iterable[np.ndarray], rate: int) -> tuple[float, str]:
    """Measures a constant delay between the channels of a stereo tape.

    Args:
        blocks: The recording in blocks `(samples, 2)`.
        rate: Sample rate in Hz.

    Returns:
        By how many seconds the second channel is late, 0 if there is no constant delay; and a
        sentence about it.
    """
    frames, found = Frames(round(CHUNK_SECONDS * rate)), []

    def measure(chunk: np.ndarray) -> None:
        one, other = frame_spectra(chunk, rate)
        late, _, share = find_delay(one, other, rate)
        if share >= MIN_SHARE:
            found.append(late)

    for block in blocks:
        for chunk in frames.add(block):
            measure(chunk)
    if frames.rest is not None and len(frames.rest) >= MIN_CHUNK_SECONDS * rate:
        measure(frames.rest)
    if not found:
        return 0.0, "the recording is too short, or its channels share too little, for a delay " \
                    "between them to be measured"
    late, spread = float(np.median(found)), float(np.subtract(*np.quantile(found, (0.75, 0.25))))
    text = f"the second channel is {late:.3f} samples late (half of the measurements are within " \
           f"{spread:.3f})"
    if spread > MAX_SPREAD_SECONDS * rate:
        return 0.0, f"{text}, which is no constant delay: nothing is changed"
    if abs(late) < MIN_SAMPLES:
        return 0.0, f"{text}: nothing has to be changed"
    return late / rate, text
