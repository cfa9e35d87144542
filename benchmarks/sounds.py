"""Measures the harm to clean sounds that are like noise or clicks: rain, applause, castanets.

    python prepare_data.py --recipe conf/corpus/sounds.csv --output data/sounds     # loads 100 MB
    python benchmarks/sounds.py --pictures=docs/images/sounds      # the table of docs/sounds.md
    python benchmarks/sounds.py FOLDER_OR_FILE ... --weights=FILE  # clean recordings of your own

By default it uses data/sounds, and instruments and effects played from a sound font that is held
out of training (this needs `fluidsynth`). Each sound is up to 10 s long; clips shorter than 3 s are
joined with pauses. Everything that is removed from a clean sound is harm. Prints a Markdown table
of the SI-SDR, the changes of loudness (ITU-R BS.1770) and spectrum, and results of other strengths.
`--pictures` draws each sound before and after, and the residual.
"""

import argparse
import csv
import re
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.fitting import fit
from historical_denoiser.audio.removal import Strength, remove
from historical_denoiser.bench.measures import load_meter
from historical_denoiser.bench.pairs import read_mono
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.command_line import run_main
from historical_denoiser.corpus import performance, rendering, scores
from historical_denoiser.corpus.manifest import MANIFEST_NAME
from historical_denoiser.corpus.performance import DRUMS, Stroke
from historical_denoiser.denoiser import Denoiser
from historical_denoiser.formats import spectrogram
from historical_denoiser.formats.audio_io import AUDIO_ENDINGS
from historical_denoiser.training import metrics

OWN_FOLDER = Path("data") / "sounds"
SECONDS = 10.0  # maximum length of a sound
SHORT_SECONDS = 3.0  # shorter clips are joined
GAP_SECONDS = (0.1, 0.6)  # pauses between joined clips
LEVEL_DB = (-9.0, 0.0)  # levels of joined clips
HIGHPASS_HZ = 20.0  # lower frequencies are not judged
FLOOR_DB = 12.0  # a value of `inference.noise_floor_db` to try
BRUSHES = 40  # program of the drum kit
# Sounds played from a sound font: General MIDI program, keys, interval and length of notes in s.
PLAYED = {"ride cymbal": (DRUMS, (51, 51, 59), 0.35, 0.3),
          "crash cymbals": (DRUMS, (49, 57), 2.5, 2.4),
          "castanets": (DRUMS, (85,), 0.18, 0.15),
          "brushed snare": (DRUMS, (38, 38, 39, 40), 0.3, 0.29),
          "flute": (73, (72, 74, 76, 79), 1.5, 1.4),
          "church organ": (19, (48, 55, 60, 64), 2.5, 2.4),
          "church organ, long notes": (19, (36, 41, 43, 48), 5.0, 4.9),
          "contrabass, long notes": (43, (33, 36, 38, 40), 5.0, 4.9),
          "accordion, long notes": (21, (53, 57, 60, 64), 5.0, 4.9),
          "drone of strings": (48, (38,), SECONDS, SECONDS),
          "sea": (122, (60,), SECONDS, SECONDS),
          "applause of a hall": (126, (60,), SECONDS, SECONDS)}
PANEL_INCHES = (3.2, 2.2)
DOTS_PER_INCH = 80


@dataclass(frozen=True)
class Sound:
    """A clean sound `(samples,)` at 44.1 kHz; `origin` is "recorded" or "played"."""

    name: str
    origin: str
    audio: np.ndarray


# --- Where sounds come from ------------------------------------------------------------------


def find_sounds(place: Path) -> list[Sound]:
    """Reads a recording or a folder; in a corpus, each group of clips becomes one sound."""
    if place.is_file():
        groups = {place.stem: [place]}
    elif (table := place / MANIFEST_NAME).is_file():
        groups = defaultdict(list)
        with table.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                groups[row["group"].rpartition("/")[2]].append(place / row["file"])
    else:
        groups = {path.stem: [path] for path in sorted(place.rglob("*"))
                  if path.suffix.lower() in AUDIO_ENDINGS}
    require(bool(groups), "FOLDER_OR_FILE", "a recording, or a folder with some", place)
    rng = np.random.default_rng(0)
    return [Sound(name, "recorded", join([read_mono(path, SECONDS) for path in paths], rng))
            for name, paths in groups.items()]


def join(clips: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Returns the longest clip; if all are short, random ones with pauses, for `SECONDS`."""
    longest = max(clips, key=len)
    if len(longest) >= SHORT_SECONDS * SAMPLE_RATE:
        return longest
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < SECONDS * SAMPLE_RATE:
        gain = 10.0 ** (rng.uniform(*LEVEL_DB) / 20.0)
        silence = np.zeros(round(rng.uniform(*GAP_SECONDS) * SAMPLE_RATE))
        pieces += [silence, gain * clips[rng.integers(len(clips))]]
    return np.concatenate(pieces).astype(np.float32)


def play(font: Path) -> list[Sound]:
    """Plays `PLAYED` from a sound font, in one pass per drum kit because loading takes long."""
    rng, silence = np.random.default_rng(1), 3.0
    found = {}
    for kit in (0, BRUSHES):
        strokes, places = [], {}
        for name, (program, keys, every, hold) in PLAYED.items():
            if (name == "brushed snare") != (kit == BRUSHES):
                continue
            start = places[name] = len(places) * (SECONDS + silence)
            times = np.arange(start, start + SECONDS - hold + 0.01, every)
            strokes += [Stroke(time, hold, program, int(rng.choice(keys)),
                               performance.as_velocity(rng.uniform(60.0, 110.0)))
                        for time in times]
        audio = rendering.synthesise(strokes, kit, font)
        for name, start in places.items():
            found[name] = audio[round(start * SAMPLE_RATE):][:round(SECONDS * SAMPLE_RATE)]
    return [Sound(name, "played", found[name]) for name in PLAYED]


def own_sounds() -> list[Sound]:
    """Returns the sounds of docs/sounds.md."""
    if not (OWN_FOLDER / MANIFEST_NAME).is_file():
        raise UserError(f"`FOLDER_OR_FILE` must be given, or {OWN_FOLDER} be built: see --help")
    if shutil.which("fluidsynth") is None:
        raise UserError("`fluidsynth` is needed to play sounds from a sound font, but was not "
                        "found; install it with your system's package manager")
    font = scores.get_font(scores.TEST_FONT[0], OWN_FOLDER)
    return [*find_sounds(OWN_FOLDER), *play(font)]


# --- What becomes of them --------------------------------------------------------------------


def judge(clean: np.ndarray, denoiser: Denoiser) -> tuple[dict[str, float], np.ndarray]:
    """Returns the columns of the table, and the restored sound.

    All measures but loudness are of frequencies above `HIGHPASS_HZ`.
    """
    restored = denoiser(clean, SAMPLE_RATE)
    pairs = [(clean, clean - restored)]
    loudness = load_meter()
    strengths = {"auto": fit(Strength("auto"), pairs, SAMPLE_RATE).strength,
                 "floor": Strength(1.0, noise_floor_db=FLOOR_DB)}
    weaker = {name: clean - np.concatenate([removed for _, removed in
                                            remove(pairs, SAMPLE_RATE, strength)])
              for name, strength in strengths.items()}
    before, after = dsp.highpass(np.stack([clean, restored]), HIGHPASS_HZ, SAMPLE_RATE)
    return {
        "kept": kept_db(clean, restored),
        "loudness": loudness(restored) - loudness(clean),
        "removed": dsp.decibels(dsp.power(before - after) / dsp.power(before)),
        "LSD": metrics.log_spectral_distance_db(before, after),
        "kept, auto": kept_db(clean, weaker["auto"]),
        f"loudness, noise_floor_db={FLOOR_DB:g}": loudness(weaker["floor"]) - loudness(clean),
    }, restored


def kept_db(clean: np.ndarray, restored: np.ndarray) -> float:
    """Returns the SI-SDR in dB above `HIGHPASS_HZ`."""
    return metrics.si_sdr_db(*dsp.highpass(np.stack([clean, restored]), HIGHPASS_HZ, SAMPLE_RATE))


def save_picture(sound: Sound, restored: np.ndarray, folder: Path) -> None:
    """Draws a sound before and after, and the residual, to a WebP file with its name."""
    folder.mkdir(parents=True, exist_ok=True)
    panels = {"before": sound.audio, "after": restored, "removed": sound.audio - restored}
    levels = {name: spectrogram.of_array(audio, SAMPLE_RATE) for name, audio in panels.items()}
    figure = spectrogram.draw_beside(levels, len(restored) / SAMPLE_RATE, SAMPLE_RATE, PANEL_INCHES)
    name = re.sub("[^a-z0-9-]+", "_", sound.name.lower())
    figure.savefig(folder / f"{name}.webp", dpi=DOTS_PER_INCH, pil_kwargs={"quality": 70})


def main() -> None:
    """Measures each sound, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", type=Path, metavar="FOLDER_OR_FILE")
    parser.add_argument("--weights", help="default: the shipped ones")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw pictures there")
    arguments = parser.parse_args()
    for place in arguments.places:
        require(place.exists(), "FOLDER_OR_FILE", "one that exists", place)
    sounds = [sound for place in arguments.places for sound in find_sounds(place)] or own_sounds()
    denoiser = Denoiser.load(arguments.weights)
    for number, sound in enumerate(sounds):
        found, restored = judge(sound.audio.astype(np.float32), denoiser)
        if number == 0:
            header = ["sound", "origin", *found]
            sys.stdout.write(f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n")
        cells = [sound.name, sound.origin, *(f"{value:.1f}" for value in found.values())]
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
        sys.stdout.flush()
        if arguments.pictures:
            save_picture(sound, restored, arguments.pictures)


if __name__ == "__main__":
    run_main(main)
