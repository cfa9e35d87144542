"""What a network gains by being told of buzz of the mains that does not stand still.

Run: python benchmarks/buzz.py [--items=90] [--pieces=8] [--clean] [key=value ...]

Prints Markdown tables of SNR gains in dB, of the network as it was and told of the buzz that is
heard:

- the mixtures of `evaluate.py dset=heldout`, by noise recording, those in which buzz is found;
- music of that test, 5 s each, under drawn buzz: fifty lines of one level, which sputters 20 times
  a second, and wow;
- with `--clean`, in place of all this: in how many clean stretches of the data buzz is found.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

import numpy as np
from hydra import compose, initialize_config_dir
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.hum import heard, music_of, print_clean  # noqa: E402
from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.classical import buzz  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

SNRS_DB = (3, 10, 20)
BUZZ_HZ, LINES = (49.9, 100.1, 60.1), 50  # in turn
MOMENTS_PER_SECOND, LEVELS = 20.0, (0.2, 1.8)  # at which the level changes, and its bounds
WOW_SECONDS, WOW_HZ = 5e-5, 0.7

Case = tuple[str, float, np.ndarray, np.ndarray]  # noise, SNR in dB, clean, noisy


def make_buzz(samples: int, base_hz: float, rng: np.random.Generator,
              rate: float = SAMPLE_RATE) -> np.ndarray:
    """Draws buzz with a power of one, `(samples,)`."""
    time_s = np.arange(samples) / rate
    moments = np.arange(int(MOMENTS_PER_SECOND * time_s[-1]) + 2) / MOMENTS_PER_SECOND
    level = np.interp(time_s, moments, rng.uniform(*LEVELS, len(moments)))
    turns = time_s + WOW_SECONDS * np.sin(2.0 * np.pi * WOW_HZ * time_s)
    made = level * sum(np.cos(2.0 * np.pi * (base_hz * order * turns + rng.uniform()))
                       for order in range(1, LINES + 1))
    return made / np.sqrt(dsp.power(made))


def mixtures(mixer: Mixer, count: int) -> Iterable[Case]:
    """Yields the mixtures of the test."""
    for index in tqdm(range(count), disable=None):
        item = mixer.evaluation_item(index)
        yield f"{item.noise}, {item.category}", item.snr_db, heard(item.clean), heard(item.noisy)


def drawn(mixer: Mixer, count: int) -> Iterable[Case]:
    """Yields music under drawn buzz."""
    rng = np.random.default_rng(0)
    for number, clean in enumerate(tqdm(music_of(mixer, count), disable=None)):
        for level_db in SNRS_DB:
            noise = make_buzz(len(clean), BUZZ_HZ[number % len(BUZZ_HZ)], rng)
            yield "drawn buzz, music", level_db, clean, dsp.mix_at_snr(clean, noise, level_db)


def measure(denoiser: Denoiser, cases: Iterable[Case]) -> None:
    """Prints a table; what holds no buzz is not denoised, as nothing changes."""
    changes: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    counts: dict[tuple[str, float], int] = defaultdict(int)
    for noise, input_snr_db, clean, noisy in cases:
        counts[noise, input_snr_db] += 1
        if buzz.find_buzz([noisy]) is None:
            continue
        with mock.patch.object(buzz, "find_buzz", return_value=None):
            before = denoiser(noisy, SAMPLE_RATE)
        gains = [float(snr_db(clean, heard(output)) - snr_db(clean, noisy))
                 for output in (before, denoiser(noisy, SAMPLE_RATE))]
        changes[noise, input_snr_db].append((gains[0], gains[1]))
    if not changes:
        sys.stdout.write("\nno buzz is found\n")
        return
    sys.stdout.write("\n| noise | input SNR | found | gain, as it was | told of it | "
                     "least change |\n|---|---|---|---|---|---|\n")
    for (noise, input_snr_db), pairs in sorted(changes.items()):
        before, told = np.mean(pairs, axis=0)
        sys.stdout.write(f"| {noise} | {input_snr_db:g} dB | {len(pairs)} of "
                         f"{counts[noise, input_snr_db]} | {before:+.1f} | {told:+.1f} | "
                         f"{np.diff(pairs, axis=1).min():+.1f} |\n")
    sys.stdout.flush()


def describe(sound: np.ndarray) -> str | None:
    """Says what buzz is found in a sound."""
    found = buzz.find_buzz([sound])
    return None if found is None else f"{len(found.hz)} lines from {found.hz[0]:.1f} Hz on"


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=90, help="mixtures of the test")
    parser.add_argument("--pieces", type=int, default=8, help="of music under drawn buzz")
    parser.add_argument("--clean", action="store_true", help="look for it in clean sound")
    parser.add_argument("overrides", nargs="*", help="settings, as those of evaluate.py")
    arguments = parser.parse_args()
    if arguments.clean:
        print_clean("buzz", describe)
        return
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *arguments.overrides]))
    denoiser = Denoiser.load()
    cfg.dset.reference_dbfs = denoiser.settings.reference_dbfs
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise)
    measure(denoiser, mixtures(mixer, arguments.items))
    measure(denoiser, drawn(mixer, arguments.pieces))


if __name__ == "__main__":
    main()
