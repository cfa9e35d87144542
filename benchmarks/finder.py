"""Judges the finder of noise alone, which is `inference.noise_profile=auto`.

    python benchmarks/finder.py FOLDER --pictures=FOLDER      # what it finds in real recordings
    python benchmarks/finder.py --joined                      # sounds whose noise is known

The first prints what is found in each recording, with the profile in bold, and draws spectrograms
in which it is marked. The default uses certain sections only. The second joins music and speech of
the open test to 1.5 to 4 s of the noise that lies under them, before or after; and passages of
effects, such as water, fire and wind, to music and speech in quiet noise (`prepare_data.py` loads
both, see docs/data.md). A section is right if noise alone makes up four fifths of it.
"""

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.repair import some
from benchmarks.sounds import join
from benchmarks.tables import table
from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.bench.pairs import read_mono
from historical_denoiser.core.command_line import run_main
from historical_denoiser.data.recordings import take_stretch
from historical_denoiser.formats import containers, spectrogram
from historical_denoiser.formats.audio_io import AUDIO_ENDINGS
from historical_denoiser.noise import finder, foreign, generator

PROGRAMME_SECONDS, BARE_SECONDS, EFFECT_SECONDS = 10.0, (1.5, 4.0), (2.5, 6.0)
SNR_DB, QUIET_SNR_DB, EFFECT_DB = (5.0, 25.0), (25.0, 45.0), (-15.0, 0.0)
RIGHT_SHARE = 0.8  # of the frames of a section that hold noise alone
HIDDEN_DB = 6.0  # sound so far below the noise adds less than 1 dB to it
FRAME_SECONDS = 0.1
RECORDED = ("vinyl1_runoff", "vinyl2_oldvinyl_L", "vinyl4_crackle_analogue_L")
EFFECTS = ("water", "fire", "wind", "lava", "furnace", "steam", "thunder", "atm")
PANEL_INCHES, COLOUR = (10.0, 2.4), "cyan"

KINDS = {"groove, generated": partial(generator.generate, "gramophone"), **{
    kind: foreign.OPEN[kind] for kind in (
        "groove fluctuating by 4 dB", "groove with ripple", "groove swinging with the turn")}}


@dataclass(frozen=True)
class Joined:
    """A sound in noise, both `(samples,)` at 44.1 kHz."""

    sound: np.ndarray
    noise: np.ndarray

    def right_share(self, found: finder.NoiseSegment) -> float:
        """Returns the share of a section's frames that hold noise alone."""
        span = slice(*(round(each * SAMPLE_RATE) for each in (found.start_seconds,
                                                              found.end_seconds)))
        frame = round(FRAME_SECONDS * SAMPLE_RATE)
        levels = [np.var(each[span][: (span.stop - span.start) // frame * frame].reshape(-1, frame),
                         axis=1) for each in (self.sound, self.noise)]
        return float(np.mean(levels[0] < 10.0 ** (-0.1 * HIDDEN_DB) * np.median(levels[1])))


def programmes(folder: Path, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields sounds of 10 s from a folder of clean recordings; short ones are joined."""
    samples, paths = round(PROGRAMME_SECONDS * SAMPLE_RATE), itertools.cycle(some(folder, 10**6))
    skipped = max(1, len(some(folder, 10**6)) // count)
    for _ in range(count):
        clips: list[np.ndarray] = []
        while sum(map(len, clips)) < samples:
            clips.append(read_mono(next(paths), 3.0 * PROGRAMME_SECONDS))
        yield join(clips, rng)[-samples:]
        next(itertools.islice(paths, skipped, skipped), None)


def take(recorded: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a part of recorded noise, which is repeated by whole turns."""
    return take_stretch(recorded, samples, True, rng)


def with_noise(sound: np.ndarray, kind: str, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Returns noise for a sound, at an SNR where the sound is not silent."""
    noise = KINDS[kind](len(sound), rng)
    return noise * np.std(sound[sound != 0.0]) / np.std(noise) * to_gain(-snr_db)


def join_bare(sound: np.ndarray, kind: str, is_before: bool, rng: np.random.Generator) -> Joined:
    """Joins a sound to noise, which goes on under it."""
    silence = np.zeros(round(rng.uniform(*BARE_SECONDS) * SAMPLE_RATE), np.float32)
    sound = np.concatenate([silence, sound] if is_before else [sound, silence])
    return Joined(sound, with_noise(sound, kind, rng.uniform(*SNR_DB), rng))


def join_effect(sound: np.ndarray, effect: np.ndarray, place: float, kind: str,
                rng: np.random.Generator) -> Joined:
    """Puts an effect into a sound, at a share of its length, in quiet noise."""
    effect = effect[: round(rng.uniform(*EFFECT_SECONDS) * SAMPLE_RATE)]
    effect = effect * np.std(sound) / np.std(effect) * to_gain(rng.uniform(*EFFECT_DB))
    before, after = np.split(sound, [round(place * len(sound))])
    sound = np.concatenate([before, effect, after])
    return Joined(sound, with_noise(sound, kind, rng.uniform(*QUIET_SNR_DB), rng))


def judge(row: Counter, joined: Joined) -> None:
    """Adds what is found in a joined sound to the numbers of a row."""
    heard = (joined.sound + joined.noise).astype(np.float32)
    found, _ = finder.search([heard[:, None]], SAMPLE_RATE)
    best = finder.choose_profile(found)
    row["joined"] += 1
    row["sections"] += len(found)
    row["wrong sections"] += sum(joined.right_share(each) < RIGHT_SHARE for each in found)
    certain = finder.choose_profile(each for each in found if each.is_certain)
    is_long = best is not None and best.seconds >= finder.PROFILE_SECONDS
    for each, prefix in ((best, "2 s: " if is_long else ""), (certain, "certain: ")):
        if each is not None:
            row[prefix + ("right" if joined.right_share(each) >= RIGHT_SHARE else "wrong")] += 1


def judge_joined(arguments: argparse.Namespace) -> str:
    """Returns the table of joined sounds."""
    rng, rows = np.random.default_rng(0), {}
    for path in sorted(arguments.noise.glob("*.flac")):
        if path.stem in RECORDED:
            recorded = read_mono(path)
            KINDS[f"recorded, {path.stem}"] = partial(take, recorded)
    effects = [read_mono(path, 2.0 * EFFECT_SECONDS[1]) for path in sorted({
        path for word in EFFECTS for path in arguments.effects.rglob(f"*{word}*.flac")})]
    effects = [each for each in effects if len(each) >= EFFECT_SECONDS[0] * SAMPLE_RATE]
    for folder in arguments.clean:
        for kind in KINDS:
            row = rows[f"{folder.name}, {kind}"] = Counter()
            for number, sound in enumerate(programmes(folder, arguments.each, rng)):
                judge(row, join_bare(sound, kind, number % 2 == 0, rng))
        kinds = itertools.cycle(["groove, generated", "groove with ripple"])
        for name, place in (("before", 0.0), ("inside", 0.5), ("after", 1.0)):
            row = rows[f"{folder.name}, effect {name} it"] = Counter()
            for sound, effect, kind in zip(programmes(folder, len(effects), rng), effects, kinds,
                                           strict=False):
                judge(row, join_effect(sound, effect, place, kind, rng))
    columns = ("joined", "2 s: right", "2 s: wrong", "certain: right", "certain: wrong", "right",
               "wrong", "sections", "wrong sections")
    return table(("", *columns), [[name, *(str(row[column]) for column in columns)]
                                  for name, row in rows.items()])


def judge_recording(path: Path, pictures: Path | None) -> list[str]:
    """Returns what is found in a recording, a row of the table, and draws it."""
    recording = containers.open_audio(path)
    sound = np.concatenate(list(containers.read_blocks(recording)))
    found, why = finder.search([sound], recording.rate)
    best = finder.choose_profile(found)
    cells = [f"{each.start_seconds:.2f} to {each.end_seconds:.2f} ({each.place}, "
             f"-{each.below_program_db:.0f} dB{', certain' * each.is_certain})" for each in found]
    cells = [f"**{cell}**" if each == best else cell
             for cell, each in zip(cells, found, strict=True)]
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        levels = spectrogram.of_array(sound.mean(axis=1), recording.rate)
        figure = spectrogram.draw_beside({path.stem: levels}, len(sound) / recording.rate,
                                         recording.rate, PANEL_INCHES)
        for each in found:
            figure.axes[0].axvspan(each.start_seconds, each.end_seconds, edgecolor=COLOUR,
                                   facecolor="none", linewidth=4.0 if each == best else 1.5)
        figure.savefig(pictures / f"{path.stem}.png")
    return [path.stem, f"{len(sound) / recording.rate:.1f}", "; ".join(cells) or f"none: {why}"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="recordings")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each recording")
    parser.add_argument("--joined", action="store_true", help="judge joined sounds")
    data = Path("data")
    parser.add_argument("--clean", type=Path, nargs="+", help="folders of clean recordings",
                        default=[data / "heldout" / each for each in ("music", "speech")])
    parser.add_argument("--noise", type=Path, default=data / "noise" / "gramophone")
    parser.add_argument("--effects", type=Path, default=data / "starter" / "effects")
    parser.add_argument("--each", type=int, default=4, help="sounds of each folder and noise")
    arguments = parser.parse_args()
    if arguments.joined == (arguments.folder is not None):
        parser.error("one of FOLDER and --joined must be given")
    if arguments.joined:
        found = judge_joined(arguments)
    else:
        paths = [path for path in sorted(arguments.folder.rglob("*"))
                 if path.suffix.lower() in AUDIO_ENDINGS]
        found = table(("recording", "s", "noise alone, in seconds; how far below the rest"),
                      [judge_recording(path, arguments.pictures) for path in paths])
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    run_main(main)
