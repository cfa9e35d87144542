"""How many seconds of mixed audio the loader makes in a second, and where its time goes.

    python benchmarks/loader.py                       # the starter corpus, two threads
    python benchmarks/loader.py --threads 1 --profile # one thread, by function

Reads, mixes and transforms as a training run does, from the files on disk.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra import compose, initialize_config_dir  # noqa: E402

import config  # noqa: E402
from dataset_loader import Mixer, numpy_batches  # noqa: E402

CONF = Path(__file__).resolve().parents[1] / "conf"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("overrides", nargs="*", help="settings, as those of train.py")
    arguments = parser.parse_args()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = config.load_config(compose("conf", arguments.overrides))
    mixer = Mixer(cfg.dset, "train", cfg.seg_len_s_train, cfg.seed, cfg.noise,
                  cfg.stft.highpass_hz)
    threads = 1 if arguments.profile else arguments.threads
    batches = numpy_batches(mixer, cfg.stft, cfg.batch_size, 0, arguments.steps, threads)
    next(batches)  # reads the noise, plans the transforms
    profile = cProfile.Profile()
    clock, cpu = time.perf_counter(), time.process_time()
    if arguments.profile:
        profile.enable()
    count = sum(1 for _ in batches)
    profile.disable()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    seconds = count * cfg.batch_size * cfg.seg_len_s_train
    sys.stdout.write(f"{seconds:.0f} s of audio in {clock:.2f} s: {seconds / clock:.0f} s/s with "
                     f"{threads} threads, {seconds / cpu:.0f} s for each second of CPU time\n")
    if arguments.profile:
        pstats.Stats(profile).sort_stats("cumtime").print_stats(30)


if __name__ == "__main__":
    main()
