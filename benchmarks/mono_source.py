"""Two channels of a mono carrier made one before the network, against each denoised by itself.

Run: python benchmarks/mono_source.py [mixtures] [key=value ...]

Stereo transfers are simulated from the mixtures of `evaluate.py dset=heldout`: the clean sound in
both channels, in the second one 0.08 ms later and 1 dB lower, each with another stretch of the
same noise recording at the mixture's SNR. Prints SNR gains in dB, above 20 Hz, of the mean of both
channels.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

MIXTURES = 30
LATE_SECONDS, QUIETER = 0.00008, 10.0 ** (-1.0 / 20.0)
SEED = 1


def late(audio: np.ndarray) -> np.ndarray:
    """Returns audio as the second channel holds it."""
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(len(audio)) * LATE_SECONDS * SAMPLE_RATE)
    return QUIETER * np.fft.irfft(np.fft.rfft(audio) * turn, len(audio)).astype(np.float32)


def main() -> None:
    """Prints a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MIXTURES
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *sys.argv[2:]]))
    each = Denoiser.load()
    ways = {"each channel": each, "auto": replace(each, mono_source="auto"),
            "true": replace(each, mono_source="true")}
    cfg.dset.reference_dbfs = each.settings.reference_dbfs
    mixer = Mixer(cfg.dset, "test", 5.0, carrier=cfg.noise)
    rng = np.random.default_rng(SEED)
    gains, acted = defaultdict(list), 0
    for index in range(count):
        mixture = mixer.evaluation_item(index)
        noise = mixture.noisy - mixture.clean
        kind, recording = mixer.noise.evaluated[
            index // len(mixer.categories) // len(cfg.dset.evaluation_snrs_db)
            % len(mixer.noise.evaluated)]
        other = (mixer.noise.generate(kind, rng) if recording is None
                 else mixer.noise.draw_recorded(kind, rng, recording))
        other = dsp.mix_at_snr(dsp.highpass(mixture.clean, 20.0, SAMPLE_RATE), dsp.highpass(
            other, 20.0, SAMPLE_RATE), mixture.snr_db) - dsp.highpass(
                mixture.clean, 20.0, SAMPLE_RATE)
        clean = np.stack([mixture.clean, late(mixture.clean)], axis=-1)
        noisy = clean + np.stack([noise, QUIETER * other], axis=-1)

        def mean_snr_db(heard: np.ndarray, wanted: np.ndarray = clean) -> float:
            pairs = (dsp.highpass(both.T, 20.0, SAMPLE_RATE) for both in (wanted, heard))
            return float(np.mean([snr_db(*pair) for pair in zip(*pairs, strict=True)]))

        cell = (mixture.category, mixture.snr_db)
        found = {}
        for name, way in ways.items():
            found[name] = way(noisy, SAMPLE_RATE)
            gains[name, cell].append(mean_snr_db(found[name]) - mean_snr_db(noisy))
        acted += not np.array_equal(found["auto"], found["each channel"])
    cells = sorted({cell for _, cell in gains})
    lines = [f"| | {' | '.join(f'{category} {snr:g} dB' for category, snr in cells)} |",
             "|---" * (len(cells) + 1) + "|"]
    for name in ways:
        values = " | ".join(f"{np.mean(gains[name, cell]):+.1f}" for cell in cells)
        lines.append(f"| {name} | {values} |")
    sys.stdout.write("\n".join(lines) + f"\nauto acted on {acted} of {count}\n")


if __name__ == "__main__":
    main()
