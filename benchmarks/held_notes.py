"""What becomes of notes that are held: by the network alone, and with what was taken given back.

Run: python benchmarks/held_notes.py [--seconds=16] [--weights=small] [--picture=FILE]

Drawn pieces (of 40 s), a bass and chords of three tones, with notes of 2 to 8 s: the SI-SDR
that is kept of the clean piece, and the SNR gain under hiss at 20 dB, both above 20 Hz. Then
drones, one tone throughout (10 s), at each semitone of two octaves, the same. Prints Markdown
tables. `--picture` draws one piece below 600 Hz instead.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.training.metrics import si_sdr_db, snr_db  # noqa: E402

SECONDS = 40.0
NOTE_SECONDS = (2.0, 4.0, 8.0)
PIECES = {"bass": (55.0, (0,)), "chords": (110.0, (0, 2, 4))}  # lowest pitch in Hz, chord
SCALE = (0, 2, 3, 5, 7, 8, 10)  # semitones
HARMONICS, FADE_SECONDS = 10, 0.05
HISS_DB = 20.0
LOWEST_HZ = 20.0
DRONE_SECONDS, DRONE_NOTES = 10.0, range(28, 52)  # MIDI: E1 to E flat 3
NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
SHOWN, SHOWN_SECONDS, SHOWN_HZ, SHOWN_WINDOW, SHOWN_FLOOR = "bass", 4.0, 600.0, 8192, 1e-6


def heard(audio: np.ndarray) -> np.ndarray:
    """Returns audio as it is judged."""
    return dsp.highpass(audio.astype(np.float32), LOWEST_HZ, SAMPLE_RATE)


def make_piece(kind: str, note_seconds: float, rng: np.random.Generator,
               seconds: float = SECONDS) -> np.ndarray:
    """Makes notes of about one length, one after the other, `(samples,)`."""
    lowest_hz, chord = PIECES[kind]
    piece, start = np.zeros(round(seconds * SAMPLE_RATE)), 0
    while start < len(piece):
        samples = min(round(note_seconds * rng.uniform(0.9, 1.1) * SAMPLE_RATE),
                      len(piece) - start)
        time_s = np.arange(samples) / SAMPLE_RATE
        fade = np.clip(np.minimum(time_s, time_s[::-1]) / FADE_SECONDS, 0.0, 1.0)
        root = rng.integers(len(SCALE))
        for step in chord:
            octave, place = divmod(root + step, len(SCALE))
            hz = lowest_hz * 2.0 ** (octave + SCALE[place] / 12.0)
            for order in range(1, HARMONICS + 1):
                piece[start : start + samples] += fade * order**-1.2 * np.sin(
                    2.0 * np.pi * (hz * order * time_s + rng.uniform()))
        start += samples
    return heard(0.08 * piece / np.std(piece))


def make_drone(note: int, rng: np.random.Generator) -> np.ndarray:
    """Makes one tone that sounds throughout, `(samples,)`; `note` is that of MIDI."""
    time_s = np.arange(round(DRONE_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    hz = 440.0 * 2.0 ** ((note - 69) / 12.0)
    drone = sum(order**-1.2 * np.sin(2.0 * np.pi * (hz * order * time_s + rng.uniform()))
                for order in range(1, HARMONICS + 1))
    return heard(0.08 * drone / np.std(drone))


def measure(denoisers: list[Denoiser], piece_seconds: float) -> None:
    """Prints the tables."""
    sys.stdout.write("| notes | clean, kept: network alone | given back | under hiss at "
                     f"{HISS_DB:g} dB, gain: network alone | given back |\n|---|---|---|---|---|\n")
    rng = np.random.default_rng(0)
    for kind in PIECES:
        for seconds in NOTE_SECONDS:
            _measure_sound(f"{kind}, {seconds:g} s", make_piece(kind, seconds, rng, piece_seconds),
                           denoisers, rng)
    for note in DRONE_NOTES:
        octave, place = divmod(note, 12)
        _measure_sound(f"drone, {NAMES[place]} {octave - 1}", make_drone(note, rng), denoisers, rng)


def _measure_sound(name: str, clean: np.ndarray, denoisers: list[Denoiser],
                   rng: np.random.Generator) -> None:
    """Prints a row."""
    hiss = (10.0 ** (-HISS_DB / 20.0) * np.std(clean)
            * rng.standard_normal(len(clean))).astype(np.float32)
    noisy = heard(clean + hiss)
    kept = (si_sdr_db(clean, heard(one(clean, SAMPLE_RATE))) for one in denoisers)
    gains = (snr_db(clean, heard(one(noisy, SAMPLE_RATE))) - snr_db(clean, noisy)
             for one in denoisers)
    sys.stdout.write(f"| {name} | {' | '.join(f'{db:.1f}' for db in kept)} "
                     f"| {' | '.join(f'{db:+.1f}' for db in gains)} |\n")
    sys.stdout.flush()


def draw(denoisers: list[Denoiser], path: str) -> None:
    """Draws the low end of a piece, and of what becomes of it."""
    from matplotlib.figure import Figure  # takes a second to load

    clean = make_piece(SHOWN, SHOWN_SECONDS, np.random.default_rng(0))
    sounds = {f"clean: {SHOWN} of {SHOWN_SECONDS:g} s": clean,
              **{title: one(clean, SAMPLE_RATE) for title, one in
                 zip(("the network alone", "held notes given back"), denoisers, strict=True)}}
    figure = Figure(figsize=(9.0, 3.0), layout="constrained")
    for axes, (title, sound) in zip(figure.subplots(1, len(sounds), sharey=True), sounds.items(),
                                    strict=True):
        power = dsp.power_of_bins(dsp.stft(heard(sound), SHOWN_WINDOW, SHOWN_WINDOW // 8))
        shown = power[:, : round(SHOWN_HZ * SHOWN_WINDOW / SAMPLE_RATE)].T
        axes.imshow(10.0 * np.log10(shown + SHOWN_FLOOR), origin="lower", aspect="auto",
                    extent=(0.0, SECONDS, 0.0, SHOWN_HZ), vmin=-20.0, vmax=50.0)
        axes.set(title=title, xlabel="s")
        axes.title.set_fontsize(10)
    figure.axes[0].set_ylabel("Hz")
    figure.savefig(path, dpi=80)


def main() -> None:
    """Prints the table, or draws the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="length of a piece")
    parser.add_argument("--weights", help="other weights than the shipped ones")
    parser.add_argument("--picture", help="file for a picture")
    arguments = parser.parse_args()
    denoisers = [Denoiser.load(arguments.weights, keep_held=keep_held)
                 for keep_held in (False, True)]
    if arguments.picture:
        draw(denoisers, arguments.picture)
        return
    measure(denoisers, arguments.seconds)


if __name__ == "__main__":
    main()
