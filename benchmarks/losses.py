"""Compares losses by the runs of `conf_ablation`, which train the same network with each of them.

    python train.py --config-name conf_ablation --multirun
    python benchmarks/losses.py                    # all of experiments/ablation
    python benchmarks/losses.py experiments/one experiments/other

Measures are means over the validation mixtures after the last epoch, at each input SNR
(3 / 10 / 20 dB, unless `dset.evaluation_snrs_db` was set).
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import tables
from historical_denoiser.training.report import HISTORY_NAME, read_history

AT_EACH_SNR = {"snr_gain_db": "SNR gain", "lsd_db": "LSD", "energy_db": "energy",
               "residual_correlation": "correlation"}
OVERALL = {"clean_si_sdr_db": "clean kept", "noise_left_db": "noise left"}


def main() -> None:
    """Prints a Markdown table, the run with the highest mean SNR gain first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs")
    folders = parser.parse_args().runs or sorted(
        path.parent for path in Path("experiments/ablation").glob(f"*/{HISTORY_NAME}"))
    if not folders:
        sys.exit("error: experiments/ablation holds no run; see the first lines of this file")
    last_rows = {}
    for folder in folders:
        history = read_history(folder / HISTORY_NAME, math.inf)
        if not history:
            sys.exit(f"error: {folder} must hold a run with {HISTORY_NAME}, but does not")
        last_rows[folder] = history[-1]
    lines = []
    for folder, row in sorted(last_rows.items(), key=lambda run: -run[1]["snr_gain_db"]):
        is_unique = [other.name for other in folders].count(folder.name) == 1
        cells = [folder.name if is_unique else str(folder), f"{row['step']:.0f}"]
        cells += [" / ".join(f"{value:.2f}" for key, value in row.items()
                             if key.startswith(f"{measure}_at_")) for measure in AT_EACH_SNR]
        lines.append([*cells, *(f"{row[measure]:.1f}" for measure in OVERALL)])
    titles = ["loss", "steps", *AT_EACH_SNR.values(), *OVERALL.values()]
    sys.stdout.write(tables.table(titles, lines) + "\n")


if __name__ == "__main__":
    main()
