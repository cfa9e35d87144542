"""The tables of `evaluate.py`, of a tiny network on small files."""

import csv
import subprocess
import sys

from small_corpus import ROOT

from denoiser.network.stored import BEST_NAME
from denoiser.training import metrics


def test_tables_and_measures_of_the_test_mixtures(folders, tiny_run, tmp_path):
    paths = [f"dset.path_{name}=[{folders / name}]"
             for name in ("speech", "music", "effects", "noise")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "evaluate.py"), "dset=folders", *paths, "test_items=9",
         "seg_len_s_val=0.5", f"weights={tiny_run / BEST_NAME}", f"path_experiment={tmp_path}/run"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{BEST_NAME}: 9 mixtures of 0.5 s")
    with (tmp_path / "run/evaluation.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 9 and set(metrics.MEASURES) < rows[0].keys()
    assert {row["category"] for row in rows} == {"speech", "music", "effects"}
    # The means of the first table are those of the file.
    means = [line.split("|")[1:4] for line in done.stdout.splitlines() if line.startswith("| 3 |")]
    gains = [float(row["snr_gain_db"]) for row in rows if float(row["input_snr_db"]) == 3.0]
    assert [cell.strip() for cell in means[0]] == ["3", "3", f"{sum(gains) / 3:.2f}"]
