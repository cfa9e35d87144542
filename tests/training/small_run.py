"""A few steps of a tiny network, for tests here and in processes of their own.

As a script: `small_run.py TUNES FOLDER START_WEIGHTS STRATEGY`. On two devices it also writes to
stdout which batch sizes it takes and with which words it refuses others.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[up]) for up in (1, 2)]
    if "WITHOUT_TENSORFLOW" in os.environ:  # as if it were not installed: importing it fails
        sys.modules["tensorflow"] = None

from small_corpus import tunes_and_noise  # noqa: E402

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio.dsp import StftConfig  # noqa: E402
from historical_denoiser.settings import Config, UnetConfig, network_settings  # noqa: E402
from historical_denoiser.training.settings import LossConfig  # noqa: E402

UNET = UnetConfig(depth=1, channels=[4, 4], num_stages=1, extractor_kernel=3, fold_bins=4,
                  output="mask", compression=0.5, use_profile=True)


def train(corpus: Path, folder: Path, strategy: str, start: Path) -> None:
    """Trains four steps from the weights in `start`."""
    import trainer

    dset = tunes_and_noise(corpus)
    cfg = Config(
        path_experiment=str(folder), strategy=strategy, epochs=1, steps_per_epoch=4, batch_size=4,
        lr=1e-2, seg_len_s_train=0.1, seg_len_s_val=0.2, validation_items=1, shown_items=0,
        probe_sounds=0, gradient_clip=0.1, ema_momentum=0.5, stft=StftConfig(512, 128), dset=dset,
        weights=str(start), unet=UNET, loss=LossConfig(compressed=1.0, snr=0.5))
    training = Mixer(dset, "train", 0.1, 1, profile_form=network_settings(cfg).profile_form)
    run = trainer.Trainer(cfg, training, Mixer(dset, "validation", 0.2))
    run.fit()
    if run.progress.step != 4 or run.learner.updates != 4:
        sys.exit(f"{run.progress.step} steps and {run.learner.updates} updates instead of 4")


def main() -> None:
    """Trains as the command line says; `mirrored` is on two devices made of one CPU."""
    corpus, folder, start = map(Path, sys.argv[1:4])
    strategy = sys.argv[4]
    if strategy == "mirrored":
        import tensorflow as tf

        from historical_denoiser.training import distribution

        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                                   [tf.config.LogicalDeviceConfiguration()] * 2)
        plain = tf.distribute.MirroredStrategy
        tf.distribute.MirroredStrategy = lambda: plain(["CPU:0", "CPU:1"])
        for batch_size in (3, 4, 6):
            try:
                workers = distribution.make_workers("mirrored", batch_size)
                sys.stdout.write(f"{batch_size} among {workers.replicas}\n")
            except ValueError as error:
                sys.stdout.write(f"{error}\n")
    train(corpus, folder, strategy, start)


if __name__ == "__main__":
    main()
