"""`inference.denoising_strength=auto` against 1, on mixtures whose clean side is known.

Run: python benchmarks/strength.py [mixtures] [test or validation] [key=value ...]

Prints for each cell of `evaluate.py`, and for clean sound alone (every third mixture), by how many
dB `auto` changes the SNR above 20 Hz: mean, worst and best mixture.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.audio.fitting import fit  # noqa: E402
from historical_denoiser.audio.removal import Strength, remove  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

MIXTURES = 90
CLEAN_EVERY = 3
HIGHPASS_HZ = 20.0


def main() -> None:
    """Prints a table."""
    count, split = (*sys.argv[1:3], *(str(MIXTURES), "test")[len(sys.argv[1:3]) :])
    data = "heldout" if split == "test" else "starter"
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=[f"dset={data}", *sys.argv[3:]]))
    denoiser = Denoiser.load()
    cfg.dset.reference_dbfs = denoiser.settings.reference_dbfs
    mixer = Mixer(cfg.dset, split, 5.0, carrier=cfg.noise)
    changes = defaultdict(list)
    for index in range(int(count)):
        mixture = mixer.evaluation_item(index)
        heard = {f"{mixture.snr_db:g} dB": mixture.noisy}
        if index % CLEAN_EVERY == 0:
            heard["clean"] = mixture.clean
        for name, audio in heard.items():
            (full,) = denoiser.each(audio[None])
            pairs = [(audio, audio - full)]
            ((_, removed),) = remove(pairs, SAMPLE_RATE, fit(Strength("auto"), pairs,
                                                            SAMPLE_RATE).strength)
            judged = dsp.highpass(np.stack([mixture.clean, full, audio - removed]), HIGHPASS_HZ,
                                  SAMPLE_RATE)
            changes[mixture.category, name].append(
                snr_db(judged[0], judged[2]) - snr_db(judged[0], judged[1]))
    lines = ["| | items | mean | worst | best |", "|---|---|---|---|---|"]
    lines += [f"| {category}, {name} | {len(found)} | {np.mean(found):+.2f} | {min(found):+.1f} | "
              f"{max(found):+.1f} |" for (category, name), found in sorted(changes.items())]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
