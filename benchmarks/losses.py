"""Prints what each loss taught the same network, from the runs of `conf_ablation`.

    python train.py --config-name conf_ablation --multirun
    python benchmarks/losses.py                    # all of experiments/ablation
    python benchmarks/losses.py experiments/one experiments/other

Measures are means over the validation mixtures after the last epoch, at each input SNR
(3 / 10 / 20 dB, unless `dset.evaluation_snrs_db` was set).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config import HISTORY_NAME  # noqa: E402

AT_EACH_SNR = {"snr_gain_db": "SNR gain", "lsd_db": "LSD", "energy_db": "energy",
               "residual_correlation": "correlation"}
OVERALL = {"clean_si_sdr_db": "clean kept", "noise_left_db": "noise left"}


def read_last_row(folder: Path) -> dict[str, str]:
    """Returns the measures of a run's last epoch.

    Raises:
        FileNotFoundError: The run has not ended an epoch.
    """
    history = folder / HISTORY_NAME
    if not history.is_file():
        raise FileNotFoundError(f"{folder} must hold a run with {HISTORY_NAME}: it does not.")
    with history.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))[-1]


def main() -> None:
    """Prints a Markdown table, the run with the highest mean SNR gain first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs")
    folders = parser.parse_args().runs or sorted(
        path.parent for path in Path("experiments/ablation").glob(f"*/{HISTORY_NAME}"))
    try:
        names = [folder.name for folder in folders]
        runs = {folder.name if names.count(folder.name) == 1 else str(folder):
                read_last_row(folder) for folder in folders}
    except FileNotFoundError as error:
        sys.exit(f"error: {error}")
    if not runs:
        sys.exit("error: experiments/ablation holds no run; see the first lines of this file")
    titles = ["loss", "steps", *AT_EACH_SNR.values(), *OVERALL.values()]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name, row in sorted(runs.items(), key=lambda run: -float(run[1]["snr_gain_db"])):
        cells = [name, f"{float(row['step']):.0f}"]
        cells += [" / ".join(f"{float(value):.2f}" for key, value in row.items()
                             if key.startswith(f"{measure}_at_")) for measure in AT_EACH_SNR]
        cells += [f"{float(row[measure]):.1f}" for measure in OVERALL]
        lines.append("| " + " | ".join(cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
