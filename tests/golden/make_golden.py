"""Cuts the files of this folder out of the reference, which is too large for the repository.

    python tests/golden/make_golden.py FOLDER_OF_THE_REFERENCE

Of each kernel and bias it keeps the first channels (`CHANNELS`), of the reference's input the first
frames and bins. The kernels are doubled, so that with fewer channels the deep levels still matter
in the outputs. The outputs are those of `numpy_unet.py`, which returns the reference's exact
outputs for the whole checkpoint (`test_unet.py` checks this where the reference is present).
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from numpy_unet import NumpyUnet, read_checkpoint, write_checkpoint  # noqa: E402

from historical_denoiser.settings import UnetConfig  # noqa: E402

HERE = Path(__file__).resolve().parent
CHANNELS = [8, 12, 12, 16]  # as in the published list, only the second and the third are equal
FRAMES, BINS = 21, 37  # odd on several levels, so that something has to be cropped


def main() -> None:
    reference = Path(sys.argv[1])
    whole = read_checkpoint(reference / "checkpoint")
    spectrogram = np.load(reference / "golden.npz")["input"][:, :FRAMES, :BINS]
    settings = UnetConfig(channels=CHANNELS)
    small = NumpyUnet(settings, np.random.default_rng(0))
    small(spectrogram[0])  # gives each weight its shape
    small.weights = {name: whole[name][tuple(map(slice, weight.shape))]
                     * np.float32(2.0 if name.endswith("kernel") else 1.0)
                     for name, weight in small.weights.items()}
    stage2, stage1 = small(spectrogram[0])
    write_checkpoint(small.weights, HERE / "checkpoint")
    np.savez_compressed(HERE / "golden.npz", channels=CHANNELS, input=spectrogram,
                        stage2=np.float32(stage2[None]), stage1=np.float32(stage1[None]))


if __name__ == "__main__":
    main()
