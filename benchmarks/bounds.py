"""Sets the network between a classical method and masks made from the clean signal.

    python benchmarks/bounds.py test_items=144           # the model card's tables
    python benchmarks/bounds.py weights=FILE test_items=72

Prints the SNR gain in dB on the mixtures of `evaluate.py`, by category and by noise, of

- the high-pass before the network alone: most of a disc's noise is rumble below hearing;
- log-MMSE (Ephraim and Malah 1985), told the mean spectrum of the very noise in the mixture: more
  than a stretch of noise alone, from before the recording starts, can tell;
- the network, which is told nothing;
- ideal masks, which are made from the clean signal: the Wiener gain |X|^2 / (|X|^2 + |N|^2) of
  each bin, and the gain between 0 and 1 that is best for each bin by itself (phase-sensitive mask,
  Erdogan et al. 2015); and the former in windows four times as long, which part more of the
  partials of music, and smear speech.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra import compose, initialize_config_dir  # noqa: E402

import config  # noqa: E402
from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.classical import spectral  # noqa: E402
from historical_denoiser.core import command_line  # noqa: E402
from historical_denoiser.core.command_line import keys_of  # noqa: E402
from historical_denoiser.denoiser import Denoiser, choose_network  # noqa: E402
from historical_denoiser.training import metrics  # noqa: E402

CONF = Path(__file__).resolve().parents[1] / "conf"
TINY = 1e-12
LONGER = 4  # windows than the network's
METHODS = ("high-pass", "log-MMSE", "network", "ideal Wiener mask", "ideal phase-sensitive mask",
           "ideal Wiener mask, long windows")


def apply_ideal_masks(noisy: np.ndarray, clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the two ideal masks make of complex spectra `(frames, bins)`."""
    noise = noisy - clean
    wiener = np.abs(clean) ** 2 / (np.abs(clean) ** 2 + np.abs(noise) ** 2 + TINY)
    best = (clean * noisy.conj()).real / (np.abs(noisy) ** 2 + TINY)
    return wiener * noisy, np.clip(best, 0.0, 1.0) * noisy


def main() -> None:
    """Measures and prints two Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="settings, as those of evaluate.py")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = parser.parse_args().overrides
        cfg = config.load_config(compose("conf", overrides))
    weights, settings = choose_network(cfg, keys_of(overrides))
    cfg.dset.reference_dbfs, cfg.stft = settings.reference_dbfs, settings.stft
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise)
    denoiser = Denoiser.load(weights, settings)
    win_size, hop_size = cfg.stft.win_size, cfg.stft.hop_size
    lead_frames = dsp.lead_samples(win_size, hop_size) // hop_size

    def apply_informed(spectra: np.ndarray) -> np.ndarray:
        """Returns the estimates of the methods that are told noise or signal."""
        noisy, clean = spectra.view(np.complex64)[..., 0]
        noise_power = np.mean(np.abs(noisy - clean)[lead_frames:] ** 2, axis=0)
        masked = np.stack(apply_ideal_masks(noisy, clean)).astype(np.complex64)
        return np.concatenate([spectral.suppress(spectra[:1], cfg.stft, noise_power),
                               masked[..., None].view(np.float32)])

    def apply_long(spectra: np.ndarray) -> np.ndarray:
        """Returns the estimates of the ideal masks alone."""
        masked = np.stack(apply_ideal_masks(*spectra.view(np.complex64)[..., 0]))
        return masked.astype(np.complex64)[..., None].view(np.float32)

    informed = dsp.in_spectral_domain(apply_informed, win_size, hop_size)
    informed_long = dsp.in_spectral_domain(apply_long, LONGER * win_size, LONGER * hop_size)
    rows: list[metrics.Row] = []
    for index in tqdm(range(cfg.test_items), disable=None):
        item = mixer.evaluation_item(index)
        pair = np.stack([item.noisy, item.clean])
        log_mmse, wiener, phase_sensitive = informed(pair)
        outputs = [dsp.highpass(item.noisy, cfg.stft.highpass_hz, SAMPLE_RATE), log_mmse,
                   denoiser(item.noisy, SAMPLE_RATE), wiener, phase_sensitive,
                   informed_long(pair)[0]]
        clean, before, *after = (dsp.highpass(audio, cfg.dset.snr_highpass_hz, SAMPLE_RATE)
                                 for audio in (item.clean, item.noisy, *outputs))
        gains = [metrics.snr_db(clean, output) - metrics.snr_db(clean, before)
                 for output in after]
        rows.append({"category": item.category, "noise": item.noise, "input_snr_db": item.snr_db,
                     **dict(zip(METHODS, gains, strict=True))})
    of_all = [row | {"category": "all"} for row in rows]
    tables = [metrics.format_table(rows + of_all, ("category", "input_snr_db"), METHODS),
              metrics.format_table(rows, ("noise", "input_snr_db"), METHODS)]
    sys.stdout.write("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    command_line.run_main(main)
