"""Measures what each stage around the network gains, harms and costs, by leaving it out.

Run: python benchmarks/stages.py [--weights=FILE] [--every=1] [--recordings=FOLDER]
         [--name=stages] [key=value ...]

The mixtures are those of `python evaluate.py dset=heldout`, with which two rules were chosen
(docs/stages.md; `test_items=`, `seg_len_s_val=` and `dset.path_manifests=` choose which, and
`--every=5` every fifth of them). Each mixture, its clean sound and its noise are restored with all
stages, with the click stage alone, with none, and with all stages but one; so are the first 12 s of
real transfers in a folder. Prints a table and writes it to `docs/tables/NAME/stages.csv`. Times are
CPU times divided by that of the network without stages.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import tables
from dataset_loader import Mixer
from historical_denoiser.bench import measures, pairs
from historical_denoiser.denoiser import Denoiser
from historical_denoiser.restoration.settings import STAGES, StageSettings
from historical_denoiser.settings import load_config
from historical_denoiser.training import metrics

NONE, CLICKS, ALL = "none", "clicks alone", "all"
RECORDING_SECONDS = 12.0


def variants() -> Iterator[tuple[str, StageSettings]]:
    """Yields names and settings, beginning with no stage, which sets the unit of time."""
    yield NONE, StageSettings.only()
    yield CLICKS, StageSettings.only(declick=True)
    yield ALL, StageSettings()
    for stage in STAGES:
        if stage not in ("repair", "mono_source"):  # which need other sounds
            yield f"all but `{stage}`", replace(StageSettings(), **{stage: False})


def average(measured: list[metrics.Row]) -> dict[str, float]:
    """Returns the means that `tables.stages` prints."""
    gains = {f"{category}_at_{snr:g}": tables.mean(
        measured, "snr_gain_db", category=category, input_snr_db=snr)
        for category in tables.CATEGORIES for snr in tables.SNRS_DB}
    return gains | {measure: tables.mean(measured, measure)
                    for measure in ("lsd_gain_db", "noise_left_db", "clean_si_sdr_db")}


def judge_transfers(restore: Callable[[np.ndarray], np.ndarray], recordings: list[np.ndarray],
                    ) -> dict[str, float]:
    """Returns the medians of what is removed in pauses of real transfers, and where they are loud.

    Args:
        restore: Restores waveforms `(batch, samples)`.
        recordings: Recordings without clean versions, `(samples,)` at 44.1 kHz.
    """
    judged = [measures.judge_alone(audio, restore(audio[None])[0]) for audio in recordings]
    return {measure: float(np.median([one[measure] for one in judged])) if judged else math.nan
            for measure in ("floor_change_db", "deviation_db")}


def main() -> None:
    """Measures all variants, and writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", default=None, help="a file or a run's folder")
    parser.add_argument("--every", type=int, default=1, help="use every so many-th mixture")
    parser.add_argument("--recordings", help="folder of real transfers")
    parser.add_argument("--name", default="stages", help="folder below docs/tables")
    arguments, overrides = parser.parse_known_args()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", ["dset=heldout", "test_items=66", *overrides]))
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise)
    mixtures = [mixer.evaluation_item(item) for item in range(0, cfg.test_items, arguments.every)]
    found = pairs.find_recordings(arguments.recordings) if arguments.recordings else []
    recordings = [pairs.read_recording(one, RECORDING_SECONDS)[0] for one in found]
    loaded = Denoiser.load(arguments.weights)
    loaded.each(mixtures[0].noisy[None])  # the first call takes longer
    rows, network_seconds = [], 0.0
    for name, stages in tqdm(list(variants()), disable=None):
        start = time.process_time()
        measured = metrics.judge_mixtures(replace(loaded, stages=stages).each, mixtures,
                                          cfg.dset.snr_highpass_hz)
        seconds = time.process_time() - start
        network_seconds = network_seconds or seconds
        rows.append({"stage": name, **average(measured), "time_ratio": seconds / network_seconds,
                     **judge_transfers(replace(loaded, stages=stages).each, recordings)})
    folder = tables.MEASURED / arguments.name
    folder.mkdir(parents=True, exist_ok=True)
    metrics.write_table(folder / "stages.csv", [
        {key: value if isinstance(value, str) else round(value, 3) for key, value in row.items()}
        for row in rows])
    sys.stdout.write(tables.stages(arguments.name) + "\n")


if __name__ == "__main__":
    main()
