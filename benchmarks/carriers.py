"""Measures what the presets of `conf/carrier/` gain over `carrier=auto`.

    python benchmarks/carriers.py data/heldout/music/{unknown-horizons,megaglest-data} \
        data/heldout/speech/unknown-horizons

The folders hold clean recordings; those of the open test are loaded by `prepare_data.py`
(docs/data.md). Of so many recordings of each folder, 8 s are limited to what the carrier holds, and
get 10 dB below them generated noise of its kind. Both results come from one noise estimate. Prints
the table of docs/carriers.md: the SNR improvement in dB, for the carriers whose band is limited.
Repairs and mono sources, for which these mixtures are no test, are left out.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.repair import some  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.audio.removal import Strength, remove  # noqa: E402
from historical_denoiser.audio.survey import survey  # noqa: E402
from historical_denoiser.bench.pairs import read_mono  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.noise.generator import generate  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402

SECONDS, SNR_DB, SEED = 8, 10.0, 0
# The kind of noise, and the band of the sound in Hz.
CARRIERS = {"acoustic_disc": ("gramophone", (100.0, 2500.0)),
            "electrical_disc": ("gramophone", (50.0, 6000.0)),
            "optical_film": ("film", (50.0, 6000.0)),
            "cassette": ("tape", (40.0, 12000.0))}


def limited(audio: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """Returns a waveform with the frequencies within a band."""
    low, high = (dsp.highpass(audio, hz, SAMPLE_RATE) for hz in band)
    return low - high


def gains(denoiser: Denoiser, clean: np.ndarray, noise: np.ndarray,
          strengths: list[Strength]) -> list[float]:
    """Returns the SNR improvement in dB at each strength."""
    noisy = dsp.mix_at_snr(clean, noise, SNR_DB)
    known = denoiser.analyse(survey([noisy], SAMPLE_RATE), lambda: [noisy], SAMPLE_RATE)
    pairs = list(denoiser.separate([noisy], SAMPLE_RATE, known))
    errors = [dsp.power(np.concatenate([
        block - removed for block, removed in remove(iter(pairs), SAMPLE_RATE, one)]) - clean)
        for one in strengths]
    return [dsp.decibels(dsp.power(noisy - clean) / error) for error in errors]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="clean recordings")
    parser.add_argument("--each", type=int, default=4, help="recordings of each folder")
    arguments = parser.parse_args()
    denoiser, lines = Denoiser.load(), ["| carrier | auto | preset |", "|---|---|---|"]
    for carrier, (kind, band) in CARRIERS.items():
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            preset = load_config(compose("conf", [f"carrier={carrier}"])).inference.strength
        rng, found = np.random.default_rng(SEED), []
        for path in (path for folder in arguments.folders
                     for path in some(folder, arguments.each)):
            audio = read_mono(path)
            start = max(0, (len(audio) - SECONDS * SAMPLE_RATE) // 2)
            clean = limited(audio[start:start + SECONDS * SAMPLE_RATE], band).astype(np.float32)
            noise = generate(kind, len(clean), rng).astype(np.float32)
            found.append(gains(denoiser, clean, noise, [Strength(), preset]))
        usual, chosen = np.mean(found, axis=0)
        lines.append(f"| `{carrier}` | {usual:+.2f} | {chosen:+.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
