"""Where the finder finds noise alone, where it misses it, and where it takes sound for it.

Run: python benchmarks/bare_noise.py CLEAN [--noise=FOLDER ...] [--real=FOLDER ...]
     [--transfers=20] [--half=judge] [--pictures=FOLDER]

CLEAN has the folders `music`, `speech` and `effects` (`prepare_data.py corpus=starter` makes them).
Transfers of 20 s are joined from music or speech and moving noise, of which 1.5 to 4 s lie bare
before or after the rest; films from speech and passages of effects, as rain or applause. The noise
is drawn here, apart from `historical_denoiser/noise`; `--noise` adds recorded noise. What was
tuned on is told from what is judged on by the names of files. Prints a table, and where noise was
found in the recordings of `--real`; `--pictures` draws them, and what is false.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.formats import audio_io  # noqa: E402
from historical_denoiser.noise import finder  # noqa: E402
from historical_denoiser.noise.finder import NoiseSegment  # noqa: E402

SECONDS, BARE_SECONDS, FADE_SECONDS = 20.0, (1.5, 4.0), 0.02
SNR_DB = (5.0, 25.0)
DEVIATIONS_DB = (2.0, 4.0, 6.0)
BAND_HZ, HIGHEST_BAND_HZ = 200.0, 10000.0
FRAME_SECONDS = 0.1
HIDDEN_DB = 6.0  # programme so far below the noise adds less than 1 dB to a profile
QUIET_DB = 50.0  # of clean sound: so far below its RMS, its own room may be noise
PROFILE_SECONDS = 2.0  # of noise that `inference.py` takes without being asked
PASSAGE_SECONDS = (2.5, 6.0)
EDGES = {"before": True, "after": False}


@dataclass(frozen=True)
class Transfer:
    """What the finder hears, `(samples,)` at 44.1 kHz, and what is known of it."""

    name: str
    heard: np.ndarray
    is_sound: np.ndarray  # (frames,), of `FRAME_SECONDS`: what must not be found
    bare: tuple[float, float] | None = None  # seconds


# --- Noise -----------------------------------------------------------------------------------


def draw_noise(samples: int, rng: np.random.Generator, deviation_db: float) -> np.ndarray:
    """Draws noise with bands of 200 Hz that fluctuate, a ripple, ticks and crackle; its RMS is 1.

    Each band has log-normal levels of its own, Gaussian noise through a low-pass of the first order
    (0.5 to 20 Hz). The ripple is a sum of cosines over the frequency.
    """
    size = scipy.fft.next_fast_len(samples, real=True)
    hz = scipy.fft.rfftfreq(size, 1.0 / SAMPLE_RATE)
    ripple_db = sum(rng.normal(0.0, 1.5) * np.cos(2.0 * np.pi * (hz / step + rng.uniform()))
                    for step in np.exp(rng.uniform(np.log(30.0), np.log(600.0), 8)))
    tilt_db = rng.uniform(-6.0, 0.0) * np.log2(np.maximum(hz, 50.0) / 1000.0)
    gain = 10.0 ** (0.05 * (ripple_db + tilt_db))
    gain *= 1.0 / np.sqrt(1.0 + (hz / rng.uniform(4000.0, 16000.0)) ** 8)
    spectrum = scipy.fft.rfft(rng.standard_normal(samples), size) * gain
    moved = np.zeros(len(spectrum) + size, complex)
    width = round(BAND_HZ * size / SAMPLE_RATE)
    for first in range(0, round(HIGHEST_BAND_HZ * size / SAMPLE_RATE), width):
        # Its envelope at 800 Hz: the levels widen the band.
        band = np.concatenate([np.zeros(2 * width), spectrum[first : first + width],
                               np.zeros(width)])
        rate = len(band) * SAMPLE_RATE / size
        pole = np.exp(-2.0 * np.pi * np.exp(rng.uniform(np.log(0.5), np.log(20.0))) / rate)
        level_db = scipy.signal.lfilter([np.sqrt(1.0 - pole**2)], [1.0, -pole],
                                        rng.standard_normal(2 * len(band)))[-len(band):]
        envelope = scipy.fft.ifft(band) * 10.0 ** (0.05 * deviation_db * level_db)
        moved[first : first + len(band)] += scipy.fft.fft(envelope)
    moved = moved[2 * width : 2 * width + len(spectrum)]
    noise = scipy.fft.irfft(moved, size)[:samples]
    noise /= noise.std()
    for rate, low_db, high_db in ((rng.uniform(0.0, 3.0), 10.0, 26.0),  # ticks
                                  (rng.choice([0.0, rng.uniform(20.0, 400.0)]), -3.0, 12.0)):
        count = rng.poisson(rate * samples / SAMPLE_RATE)
        impulses = np.zeros(samples)
        heights = 10.0 ** (0.05 * rng.uniform(low_db, high_db, count)) * rng.choice([-1, 1], count)
        impulses[rng.integers(samples, size=count)] = heights
        noise += scipy.signal.lfilter(*scipy.signal.butter(2, rng.uniform(0.1, 0.5)), 4 * impulses)
    return noise / noise.std()


def read_noise(path: Path, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Reads recorded noise, said again from its start where it is too short; its RMS is 1."""
    noise = _read(path)
    fade = min(len(noise) // 4, SAMPLE_RATE // 4)
    ramp = np.sqrt(np.linspace(0.0, 1.0, fade))
    while len(noise) < samples + SAMPLE_RATE:
        again = _read(path)
        joint = noise[-fade:] * ramp[::-1] + again[:fade] * ramp
        noise = np.concatenate([noise[:-fade], joint, again[fade:]])
    start = rng.integers(len(noise) - samples)
    noise = noise[start : start + samples]
    return noise / noise.std()


# --- Sound -----------------------------------------------------------------------------------


def _read(path: Path, start_seconds: float = 0.0, seconds: float = 60.0) -> np.ndarray:
    with soundfile.SoundFile(path) as file:
        file.seek(min(round(start_seconds * file.samplerate), file.frames))
        audio = file.read(round(seconds * file.samplerate), dtype="float32", always_2d=True)
        mono = audio.mean(axis=1)
        return dsp.resample(mono, file.samplerate, SAMPLE_RATE).astype(np.float64)


def _is_judged(path: Path) -> bool:
    """Whether a file is judged on: one half by name; the finder was tuned on the other."""
    return int(hashlib.sha256(path.name.encode()).hexdigest(), 16) % 2 == 1


class Sounds:
    """Draws clean sound from a folder."""

    def __init__(self, folder: Path, half: str) -> None:
        self.files = {category: [
            path for path in sorted((folder / category).rglob("*.flac"))
            if _is_judged(path) == (half == "judge")]
            for category in ("music", "speech", "effects")}
        # Those that no passage can be made of are drums, knocks and shots.
        self.files["effects"] = [path for path in self.files["effects"] if audio_io.open_recording(
            path).header_seconds >= PASSAGE_SECONDS[0]]

    def music(self, rng: np.random.Generator) -> np.ndarray:
        """Returns 20 s of one piece, half of them from its beginning on."""
        while True:
            path = self.files["music"][rng.integers(len(self.files["music"]))]
            length = audio_io.open_recording(path).header_seconds
            if length < SECONDS:
                continue
            start = rng.uniform(0.0, length - SECONDS) * (rng.uniform() < 0.5)
            audio = _read(path, start, SECONDS)
            if audio.std() > 0.0 and len(_trimmed(audio)) > 0.7 * SECONDS * SAMPLE_RATE:
                return _trimmed(audio)

    def speech(self, rng: np.random.Generator) -> np.ndarray:
        """Returns 20 s of sentences with pauses of 0.1 to 0.8 s."""
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < SECONDS * SAMPLE_RATE:
            path = self.files["speech"][rng.integers(len(self.files["speech"]))]
            if audio_io.open_recording(path).header_seconds < 1.0:
                continue
            audio = _trimmed(_read(path))
            parts += [audio / audio.std(), np.zeros(round(rng.uniform(0.1, 0.8) * SAMPLE_RATE))]
        return np.concatenate(parts)[:round(SECONDS * SAMPLE_RATE)]


def _trimmed(audio: np.ndarray) -> np.ndarray:
    """Leaves out what is quieter than -50 dB at the ends, and fades what is left."""
    audible = np.flatnonzero(np.abs(audio) > 3e-3 * np.abs(audio).max())
    audio = audio[audible[0] : audible[-1] + 1].copy()
    fade = np.minimum(np.arange(len(audio)) / (FADE_SECONDS * SAMPLE_RATE), 1.0)
    return audio * fade * fade[::-1]


def _levels_db(audio: np.ndarray) -> np.ndarray:
    """Returns the level of each frame, 60 Hz to 5.7 kHz."""
    filtered = scipy.signal.sosfilt(scipy.signal.butter(
        2, (60.0, 5657.0), "bandpass", fs=SAMPLE_RATE, output="sos"), audio)
    frame = round(FRAME_SECONDS * SAMPLE_RATE)
    whole = filtered[: len(filtered) // frame * frame].reshape(-1, frame)
    return 10.0 * np.log10(np.mean(np.square(whole), axis=1) + 1e-20)


def join(clean: np.ndarray, noise: np.ndarray, is_before: bool, bare_seconds: float,
         snr_db: float, name: str) -> Transfer:
    """Joins bare noise and a programme in the same noise."""
    gap = np.zeros(len(noise) - len(clean))
    noise = noise * clean.std() / noise.std() * 10.0 ** (-0.05 * snr_db)
    clean = np.concatenate([gap, clean] if is_before else [clean, gap])
    is_sound = _levels_db(clean) > scipy.ndimage.median_filter(_levels_db(noise), 21) - HIDDEN_DB
    end = len(clean) / SAMPLE_RATE
    return Transfer(name, _leveled(clean + noise), is_sound,
                    (0.0, bare_seconds) if is_before else (end - bare_seconds, end))


def _leveled(audio: np.ndarray) -> np.ndarray:
    return (0.1 * audio / audio.std()).astype(np.float32)


def joined(sounds: Sounds, count: int, rng: np.random.Generator,
           draw: Callable[[int, np.random.Generator], np.ndarray], label: str,
           ) -> Iterator[tuple[str, Transfer]]:
    """Yields transfers that are joined, with their row of the table."""
    for number in range(count):
        for category in ("music", "speech"):
            for place, is_before in EDGES.items():
                clean, bare = getattr(sounds, category)(rng), rng.uniform(*BARE_SECONDS)
                snr_db = rng.uniform(*SNR_DB)
                noise = draw(len(clean) + round(bare * SAMPLE_RATE), rng)
                yield f"{category}, {label}", join(
                    clean, noise, is_before, bare, snr_db,
                    f"{category}_{label}_{place}_{number}_{snr_db:.0f}dB".replace(" ", "_"))


def films(sounds: Sounds, rng: np.random.Generator) -> Iterator[tuple[str, Transfer]]:
    """Yields speech in quiet noise, with each effect of some length inside it or at its start."""
    for path in sounds.files["effects"]:
        passage = _trimmed(_read(path)[:round(PASSAGE_SECONDS[1] * SAMPLE_RATE)])
        speech = sounds.speech(rng)
        passage *= speech.std() / max(passage.std(), 1e-9) * 10.0 ** (0.05 * rng.uniform(-15, 0))
        for place, at in (("inside", len(speech) // 2), ("at the start", 0)):
            clean = np.concatenate([speech[:at], passage, speech[at:]])
            noise = speech.std() * draw_noise(len(clean), rng, 2.0) * 10.0 ** (
                0.05 * rng.uniform(-45.0, -25.0))
            levels = _levels_db(clean)
            yield f"film, effect {place}", Transfer(
                f"film_{place}_{path.name}".replace(" ", "_"), _leveled(clean + noise),
                levels > scipy.ndimage.median_filter(_levels_db(noise), 21) - HIDDEN_DB)


def clean_alone(sounds: Sounds, count: int, rng: np.random.Generator,
                ) -> Iterator[tuple[str, Transfer]]:
    """Yields music, speech and effects as they are."""
    for number in range(2 * count):
        for category in ("music", "speech"):
            audio = getattr(sounds, category)(rng)
            yield f"{category} alone", _alone(audio, f"{category}_alone_{number}")
    for path in sounds.files["effects"]:
        audio = _read(path)[:round(2 * SECONDS * SAMPLE_RATE)]
        if audio.std() > 0.0:
            yield "effects alone", _alone(audio, f"effect_{path.name}")


def _alone(audio: np.ndarray, name: str) -> Transfer:
    levels = _levels_db(audio)
    loud = 10.0 * np.log10(np.mean(10.0 ** (0.1 * levels)))
    return Transfer(name, _leveled(audio), levels > loud - QUIET_DB)


# --- Judging ---------------------------------------------------------------------------------


def find(audio: np.ndarray, sample_rate: int) -> tuple[list[NoiseSegment], str]:
    """Returns what the finder finds."""
    return finder.search([audio.reshape(len(audio), -1)], sample_rate)


@dataclass(frozen=True)
class Judged:
    """Seconds of one transfer."""

    found: float  # in all
    sound: float  # of these
    bare: float  # that there are
    bare_found: float
    is_profile: bool  # whether a stretch is long enough, and the recording holds more
    profile_sound: float  # share of it


def judge(transfer: Transfer, found: list[NoiseSegment]) -> Judged:
    """Compares what was found with what is known."""
    def sound_in(segment: NoiseSegment) -> float:
        first, last = (int(seconds / FRAME_SECONDS + 0.5)
                       for seconds in (segment.start_seconds, segment.end_seconds))
        return float(transfer.is_sound[first:last].sum() * FRAME_SECONDS)

    def overlap(segment: NoiseSegment) -> float:
        start, end = transfer.bare or (0.0, 0.0)
        return max(0.0, min(end, segment.end_seconds) - max(start, segment.start_seconds))

    def seconds(segment: NoiseSegment) -> float:
        return segment.end_seconds - segment.start_seconds

    chosen = finder.choose_profile(found, PROFILE_SECONDS)
    start, end = transfer.bare or (0.0, 0.0)
    return Judged(sum(map(seconds, found)), sum(map(sound_in, found)), end - start,
                  sum(map(overlap, found)), chosen is not None and chosen.place != "whole",
                  sound_in(chosen) / seconds(chosen) if chosen is not None else 0.0)


def table(rows: dict[str, list[Judged]]) -> str:
    """Returns a table in Markdown."""
    lines = ["| | transfers | with any found | bare and found, 1 s and more | of bare seconds, "
             "found | of found seconds, sound | profiles of 2 s | more than a tenth sound | a half "
             "|",
             "|---" * 9 + "|"]
    for name, judged in rows.items():
        found, bare = sum(each.found for each in judged), sum(each.bare for each in judged)
        used = [each for each in judged if each.is_profile]
        lines.append(
            f"| {name} | {len(judged)} | {sum(each.found > 0.0 for each in judged)} | "
            + (f"{sum(each.bare_found >= 1.0 for each in judged)} | "
               f"{100.0 * sum(each.bare_found for each in judged) / bare:.0f} % | "
               if bare else "| | ")
            + f"{100.0 * sum(each.sound for each in judged) / max(found, 1e-9):.0f} % | "
            f"{len(used)} | {sum(each.profile_sound > 0.1 for each in used)} | "
            f"{sum(each.profile_sound > 0.5 for each in used)} |")
    return "\n".join(lines)


def draw_picture(path: Path, audio: np.ndarray, sample_rate: int, found: list[NoiseSegment],
                 title: str, bare: tuple[float, float] | None = None) -> None:
    """Draws a spectrogram with what was found, and what there was to be found below it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    hz, times, power = scipy.signal.spectrogram(
        audio.reshape(len(audio), -1)[:, 0], sample_rate, nperseg=1024, noverlap=256)
    keep = hz <= 8000.0
    level_db = 10.0 * np.log10(power[keep] + 1e-14)
    figure, axes = pyplot.subplots(figsize=(12.0, 4.0), layout="constrained")
    axes.pcolormesh(times, hz[keep], level_db, vmin=level_db.max() - 85.0, rasterized=True)
    for segment in found:
        axes.axvspan(segment.start_seconds, segment.end_seconds, 0.9, 1.0, color="red", alpha=0.8)
        axes.axvline(segment.start_seconds, color="red", linewidth=0.8)
        axes.axvline(segment.end_seconds, color="red", linewidth=0.8)
    if bare is not None:
        axes.axvspan(*bare, 0.0, 0.05, color="white", alpha=0.8)
    axes.set(title=title[:150], xlabel="seconds", ylabel="Hz")
    figure.savefig(path, dpi=70)
    pyplot.close(figure)


def main() -> None:
    """Prints a line for each recording and each mistake, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path)
    parser.add_argument("--noise", type=Path, nargs="*", default=[])
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--transfers", type=int, default=20, help="of each kind and place")
    parser.add_argument("--half", choices=("judge", "tune"), default="judge")
    parser.add_argument("--only", default="", help="rows whose name has this in it")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1 if options.half == "judge" else 2)
    sounds = Sounds(options.clean, options.half)
    effects = sounds.files["effects"]
    sounds.files["effects"] = [effects[number] for number in
                               rng.permutation(len(effects))[:2 * options.transfers]]

    def picture(name: str, *drawn: object) -> None:
        if options.pictures is not None:
            draw_picture(options.pictures / f"{name[:90]}.png", *drawn)

    for path in sorted(each for folder in options.real for each in folder.rglob("*")
                       if each.suffix in (".flac", ".ogg", ".wav")):
        recording = audio_io.open_recording(path)
        audio = np.concatenate(list(audio_io.read_blocks(recording)))
        found, reason = find(audio, recording.rate)
        where = "; ".join(f"{each.place} {each.start_seconds:.2f} to {each.end_seconds:.2f}"
                          for each in found) or reason
        sys.stdout.write(f"{path.name}: {where}\n")
        picture(path.stem, audio, recording.rate, found, f"{path.name}: {where}")

    cases = [joined(sounds, max(1, options.transfers // 3), rng, functools.partial(
        draw_noise, deviation_db=each), f"bands of {each:g} dB") for each in DEVIATIONS_DB]
    recorded = sorted(path for folder in options.noise for path in folder.rglob("*.flac")
                      if audio_io.open_recording(path).header_seconds >= 2.0)
    if recorded:
        cases.append(joined(
            sounds, options.transfers, rng, lambda samples, rng: read_noise(
                recorded[rng.integers(len(recorded))], samples, rng), "recorded noise"))
    cases += [films(sounds, rng), clean_alone(sounds, options.transfers, rng)]
    rows: dict[str, list[Judged]] = defaultdict(list)
    for case in cases:
        for row, transfer in case:
            if options.only not in row:
                continue
            found, reason = find(transfer.heard, SAMPLE_RATE)
            judged = judge(transfer, found)
            rows[row].append(judged)
            is_false = judged.found and judged.sound > 0.1 * judged.found
            is_missed = judged.bare and judged.bare_found < 1.0
            if is_false or is_missed:
                where = "; ".join(f"{each.place} {each.start_seconds:.1f} to {each.end_seconds:.1f}"
                                  for each in found) or reason
                sys.stdout.write(f"{'false' if is_false else 'missed'}: {transfer.name}, "
                                 f"bare {transfer.bare}: {where} ({judged.sound:.1f} s sound)\n")
                sys.stdout.flush()
                picture(transfer.name, transfer.heard, SAMPLE_RATE, found,
                        f"{transfer.name}: {where}", transfer.bare)
    sys.stdout.write("\n" + table(rows) + "\n")


if __name__ == "__main__":
    main()
