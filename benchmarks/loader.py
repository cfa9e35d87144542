"""Measures how fast the loader makes mixtures, as a training run does, from files on disk.

    python benchmarks/loader.py                       # the starter corpus, two processes
    python benchmarks/loader.py --profile             # time by function, in one process
    python benchmarks/loader.py dset.cache_items=200  # from a cache, which is filled first
    python benchmarks/loader.py --workers 1 --train 10  # how long training steps wait for batches
"""

import argparse
import cProfile
import pstats
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra import compose, initialize_config_dir

import config
from dataset_loader import Mixer
from historical_denoiser.core import backend, command_line
from historical_denoiser.data.feeding import make_batch, numpy_batches

WARM_UP = 20  # batches that are made first, to load all noise and plan the transforms
CONF = Path(__file__).resolve().parents[1] / "conf"


def measure_waiting(cfg: config.Config, mixer: Mixer, steps: int, loaders: int) -> str:
    """Trains, and returns a sentence about how long steps wait for their batches."""
    backend.load_backend()
    import trainer
    from historical_denoiser.training import distribution

    workers = distribution.make_workers("none", cfg.batch_size)
    learner = trainer.Learner(cfg, workers)
    batches = workers.batches(mixer, 0, 2 + steps, loaders)
    waited, trained = 0.0, 0.0
    for number in range(2 + steps):
        start = time.perf_counter()
        batch = next(batches)
        arrived = time.perf_counter()
        learner.train_step(*batch)
        if number >= 2:  # the first steps include tracing
            waited += arrived - start
            trained += time.perf_counter() - arrived
    return (f"{steps} steps of {cfg.batch_size} x {cfg.seg_len_s_train:g} s, {loaders} "
            f"worker{'s' * (loaders > 1)}: each waits {1e3 * waited / steps:.1f} ms for its "
            f"batch and computes for {1e3 * trained / steps:.0f} ms\n")


def measure_loader(cfg: config.Config, mixer: Mixer, steps: int, loaders: int) -> str:
    """Returns a sentence about how much audio `loaders` processes make in a second."""
    batches = numpy_batches(mixer, cfg.batch_size, 0, WARM_UP + steps, loaders)
    for _ in range(WARM_UP):
        next(batches)
    clock, cpu = time.perf_counter(), time.process_time()
    for _ in batches:
        pass
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    seconds = steps * cfg.batch_size * cfg.seg_len_s_train
    text = (f"{seconds:.0f} s of audio in {clock:.2f} s: {seconds / clock:.0f} s/s with "
            f"{loaders} worker{'s' * (loaders > 1)}\n")
    if loaders == 1:  # the time of other processes is not counted
        text += f"{seconds / cpu:.0f} s for each second of processor time\n"
    return text


def print_profile(cfg: config.Config, mixer: Mixer, steps: int) -> None:
    """Prints the functions in which most time is spent, with batches made in this process."""
    for step in range(WARM_UP):
        make_batch(mixer, step, cfg.batch_size)
    with cProfile.Profile() as profile:
        for step in range(WARM_UP, WARM_UP + steps):
            make_batch(mixer, step, cfg.batch_size)
    pstats.Stats(profile).sort_stats("cumtime").print_stats(30)


def main() -> None:
    """Reads the command line, and prints what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--train", type=int, default=0, metavar="STEPS",
                        help="measure how long so many training steps wait")
    parser.add_argument("overrides", nargs="*", help="settings, as those of train.py")
    arguments = parser.parse_args()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = config.load_config(compose("conf", arguments.overrides))
    mixer = Mixer(cfg.dset, "train", cfg.seg_len_s_train, cfg.seed, cfg.noise, cfg.stft.highpass_hz)
    for number in range(len(mixer.cache or ())):
        mixer.cache[number]  # fills the cache
    if arguments.profile:
        print_profile(cfg, mixer, arguments.steps)
    elif arguments.train:
        sys.stdout.write(measure_waiting(cfg, mixer, arguments.train, arguments.workers))
    else:
        sys.stdout.write(measure_loader(cfg, mixer, arguments.steps, arguments.workers))


if __name__ == "__main__":
    command_line.run_main(main)
