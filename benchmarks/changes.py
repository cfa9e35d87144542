"""What is gained by restoring a recording whose noise changes in sections.

Run: python benchmarks/changes.py [pairs] [key=value ...]

Two mixtures of `evaluate.py dset=heldout` at 10 dB, 12 s each with another noise, are joined to one
recording, as reels of a film are. Prints the SNR gain in dB above 20 Hz of each half: restored by
itself; in the whole, heard as one (`inference.follow_noise=false`); and in the whole as it is by
default, with the second at which a change is found.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.audio.survey import survey  # noqa: E402
from historical_denoiser.data.mixture import Mixture  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

PAIRS = 8
SECONDS, SNR_DB = 12.0, 10.0


def gain_db(mixture: Mixture, restored: np.ndarray) -> float:
    """Returns the SNR gain above 20 Hz."""
    wanted, before, after = (dsp.highpass(each, 20.0, SAMPLE_RATE)
                             for each in (mixture.clean, mixture.noisy, restored))
    return float(snr_db(wanted, after) - snr_db(wanted, before))


def restore(denoiser: Denoiser, audio: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Returns what is restored, and the seconds at which its noise changes."""
    known = denoiser.analyse(survey([audio], SAMPLE_RATE), lambda: [audio], SAMPLE_RATE)
    restored = np.concatenate(list(denoiser.stream([audio], SAMPLE_RATE, 1.0, known)))
    return restored, [section.start / SAMPLE_RATE for section in known.sections[1:]]


def main() -> None:
    """Prints a line for each pair, and the means."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *sys.argv[2:]]))
    as_one, denoiser = Denoiser.load(follow_noise=False), Denoiser.load()
    cfg.dset.reference_dbfs = denoiser.settings.reference_dbfs
    mixer = Mixer(cfg.dset, "test", SECONDS, carrier=cfg.noise)
    names, snrs_db = mixer.evaluation_grid(len(mixer.categories) * len(cfg.dset.evaluation_snrs_db))
    step = len(names) * len(snrs_db)
    first = len(names) * snrs_db.index(SNR_DB)
    sys.stdout.write("| category | noises | alone | as one | in sections | changes at |\n"
                     + 6 * "|---" + "|\n")
    gains = []
    for number in range(count):
        category, start = number % len(names), number // len(names)
        halves = [mixer.evaluation_item(first + category + step * place)
                  for place in (start, start + 1)]
        whole = np.concatenate([half.noisy for half in halves])
        edge = len(halves[0].noisy)
        alone = [restore(denoiser, half.noisy)[0] for half in halves]
        one = np.split(restore(as_one, whole)[0], [edge])
        parts, changes = restore(denoiser, whole)
        found = [[gain_db(half, each) for half, each in zip(halves, restored, strict=True)]
                 for restored in (alone, one, np.split(parts, [edge]))]
        gains.append(found)
        sys.stdout.write(
            f"| {halves[0].category} | {halves[0].noise}, {halves[1].noise} | "
            + " | ".join("{:+.1f}, {:+.1f}".format(*each) for each in found)
            + f" | {', '.join(f'{change:.2f}' for change in changes)} |\n")
        sys.stdout.flush()
    means = np.mean(gains, axis=(0, 2))
    sys.stdout.write("| all | | " + " | ".join(f"{mean:+.1f}" for mean in means) + " | |\n")


if __name__ == "__main__":
    main()
