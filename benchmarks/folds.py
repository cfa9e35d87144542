r"""Prints what a network gains on a noise recording when trained with it and without it.

    python train.py --multirun dset.noise_folds=3 dset.noise_fold=0,1,2 \
        'path_experiment=experiments/folds/${dset.noise_fold}' epochs=2 steps_per_epoch=200
    for k in 0 1 2; do
        python evaluate.py weights=experiments/folds/$k 'dset.path_noise_test=[data/noise]' \
            test_items=324 path_evaluation=experiments/evaluation/folds
    done
    python benchmarks/folds.py experiments/evaluation/folds/*/evaluation.csv

Each run tests a third of the recordings, validates on another third and trains on the last one.
Then each is measured on all of them (18 recordings, 3 categories and 3 SNRs: 162 mixtures a round).
"Without" is the SNR gain in dB of the run that neither trained nor validated on a recording, "with"
that of the runs that trained on it: the difference is what is not generalised.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

COLUMNS = {"noise", "input_snr_db", "snr_gain_db", "split_in_training"}
WITHOUT, WITH = "test", "train"


def read_gains(paths: list[Path]) -> dict[tuple[str, str, float], list[float]]:
    """Returns the SNR gains of `evaluate.py`'s tables by recording, its split, and input SNR."""
    gains = defaultdict(list)
    for path in paths:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        if not rows or not COLUMNS <= rows[0].keys():
            sys.exit(f"error: {path} must be a table of evaluate.py with the columns "
                     f"{sorted(COLUMNS)}: it is not")
        if not any(row["split_in_training"] for row in rows):
            sys.exit(f"error: {path} must be of weights that were trained with `dset.noise_folds`: "
                     f"it does not say which recordings they were trained on")
        for row in rows:
            key = row["noise"], row["split_in_training"], float(row["input_snr_db"])
            gains[key].append(float(row["snr_gain_db"]))
    return gains


def main() -> None:
    """Prints a Markdown table with a line for each recording, and the means of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="+", type=Path, help="evaluation.csv of each run")
    gains = read_gains(parser.parse_args().tables)
    snrs_db = sorted({snr for *_, snr in gains})
    names = sorted({name for name, *_ in gains})
    titles = [f"{word} at {snr:g} dB" for snr in snrs_db for word in ("without", "with")]
    lines = ["| noise | " + " | ".join(titles) + " | difference |",
             "|" + "---|" * (2 + len(titles))]
    means = np.array([[[np.mean(gains.get((name, split, snr), [np.nan]))
                        for split in (WITHOUT, WITH)] for snr in snrs_db] for name in names])
    # Only recordings that some run tested and another trained on can be compared.
    compared = means[~np.isnan(means).any(axis=(1, 2))]
    for name, row in [*zip(names, means, strict=True), ("all", compared.mean(axis=0))]:
        cells = ["-" if np.isnan(mean) else f"{mean:+.2f}" for mean in row.flat]
        difference = np.mean(row[:, 1] - row[:, 0])
        lines.append("| " + " | ".join([name, *cells, "-" if np.isnan(difference)
                                        else f"{difference:+.2f}"]) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
