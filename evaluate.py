"""Measures a network on the fixed test mixtures: `python evaluate.py [weights=FILE] [key=value]`.

Prints the tables of the README: clean files and noise that no training run has seen.
"""

from __future__ import annotations

import csv
import logging
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from config import load_config
from dataset_loader import Mixer
from denoiser.command_line import exit_on_user_error, keys_of, run_main
from denoiser.files import replacing
from denoiser.training import metrics
from inference import Denoiser, choose_network

logger = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def main(raw: DictConfig) -> None:
    """Denoises the test mixtures and prints what was gained and what was lost."""
    cfg = load_config(raw)
    weights, settings = choose_network(cfg, keys_of(HydraConfig.get().overrides.task))
    cfg.dset.reference_dbfs = settings.reference_dbfs
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise)
    denoiser = Denoiser.load(weights, settings, cfg.inference.segment_seconds)
    mixtures = map(mixer.evaluation_item, tqdm(range(cfg.test_items), disable=None))
    rows = metrics.judge_mixtures(denoiser.each, mixtures)
    sections = [f"{weights.name}: {cfg.test_items} mixtures of {cfg.seg_len_s_val:g} s",
                mixer.describe()]
    if mixer.train_only:
        sections.append("Generated noise stands for the categories of which no recording is held "
                        f"out: {', '.join(mixer.train_only)}.")
    sections += [metrics.format_table(rows, ("input_snr_db",)),
                 metrics.format_table(rows, ("category", "input_snr_db")),
                 metrics.format_table(rows, ("noise", "input_snr_db"))]
    sys.stdout.write("\n\n".join(sections) + "\n")
    table = Path(cfg.path_experiment) / "evaluation.csv"
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    logger.info("each item's measures: %s", table)


if __name__ == "__main__":
    run_main(main)
