"""Measures what each level of `inference.declick` finds, and what it takes from music's impulses.

    python benchmarks/clicks.py

Clicks of `noise.foreign`, 20 a second, are added to organ and plucked notes with hiss 40 dB below
them, at their power less 10, 30 and 40 dB. Prints the table of docs/stages.md: the share of the
clicks that is found; the repairs a minute where there is none; then, of the castanets of
`training.look_alikes`, and of dry strokes with their resonances that decay to 1/e within so many
milliseconds, both at 10 dB below the same tune, the share that a repair touches.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.classical.clicks import LEVELS, Repair, repair_clicks
from historical_denoiser.noise.foreign import make_clicks
from historical_denoiser.training import look_alikes

SAMPLES, PER_SECOND = 20 * SAMPLE_RATE, 20
TUNE_HISS_DB, STROKES_DB, CLICKS_DB = -40.0, -10.0, (-10.0, -30.0, -40.0)
STROKES, DECAYS_MS, KNOCK_SECONDS = "castanets", (1, 2, 4, 8), 0.0005
APART, NEAR = 100, 16  # samples between two clicks; from one to its repair


def with_hiss(sound: np.ndarray, level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a sound at a power of 0.01 with white noise at this level relative to it."""
    sound = 0.1 * sound / np.std(sound)
    return sound + 0.1 * to_gain(level_db) * rng.standard_normal(len(sound))


def make_dry(decay_s: float, rng: np.random.Generator) -> np.ndarray:
    """Returns strokes without a room, two a second, with a decay to 1/e in seconds."""
    time_s, dry = np.arange(SAMPLE_RATE // 4) / SAMPLE_RATE, np.zeros(SAMPLES)
    for start in range(SAMPLE_RATE // 4, SAMPLES, SAMPLE_RATE // 2):
        dry[start:start + len(time_s)] += np.exp(-time_s / KNOCK_SECONDS) * rng.standard_normal(
            len(time_s))
        for hz in look_alikes.STRUCK[STROKES][1]:
            dry[start:start + len(time_s)] += rng.uniform(0.3, 1.0) * np.exp(
                -time_s / decay_s) * np.sin(2.0 * np.pi * hz * rng.uniform(0.97, 1.03) * time_s)
    return dry


def touched(repairs: list[Repair], sound: np.ndarray) -> tuple[float, int]:
    """Returns the share of the events in a sound that is repaired, and the other repairs."""
    places = np.flatnonzero(np.abs(sound) > 0.1 * np.abs(sound).max())
    places = places[np.diff(places, prepend=-SAMPLE_RATE) > APART]  # where each begins
    near = [[repair.place.start - NEAR <= place < repair.place.stop + NEAR for repair in repairs]
            for place in places]
    near = np.array(near).reshape(len(places), len(repairs))
    return 100.0 * float(near.any(axis=1).mean()), int((~near.any(axis=0)).sum())


def main() -> None:
    """Prints the table."""
    tune = with_hiss(look_alikes.make_held("organ pedal", SAMPLES, np.random.default_rng(1)),
                     TUNE_HISS_DB, np.random.default_rng(2))
    clicks = make_clicks(PER_SECOND, SAMPLES, np.random.default_rng(3))
    strokes = [look_alikes.make_strokes(STROKES, SAMPLES, np.random.default_rng(4)),
               *(make_dry(1e-3 * decay, np.random.default_rng(5)) for decay in DECAYS_MS)]
    for level in LEVELS:
        shares = [touched(repair_clicks(
            tune + 0.1 * to_gain(level_db) * clicks / np.std(clicks), level)[1], clicks)[0]
            for level_db in CLICKS_DB]
        others = 60.0 * SAMPLE_RATE / SAMPLES * len(repair_clicks(tune, level)[1])
        kept = [touched(repair_clicks(tune + 0.1 * to_gain(STROKES_DB) * stroke / np.std(stroke),
                                      level)[1], stroke)[0] for stroke in strokes]
        sys.stdout.write("| " + " | ".join([f"`{level}`", *(f"{share:.0f}" for share in (
            *shares, others, *kept))]) + " |\n")


if __name__ == "__main__":
    main()
