"""The two checkpoints of a run: the last one, from which it resumes, and the best weights."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from historical_denoiser.core.files import replacing
from historical_denoiser.network.stored import BEST_NAME
from historical_denoiser.network.weights import store_hash

LAST_NAME = "last.weights.h5"
MIN_FREE_BYTES = 100 * 2**20
SPARE_CHECKPOINTS = 3  # a checkpoint is only written if this many fit on the disk
FLOAT32_BYTES = 4


@dataclass
class Progress:
    """The progress of a run, which is stored in the same file as the weights."""

    step: int = 0  # number of batches seen
    skipped: int = 0  # number of batches left out because their gradients were not finite
    loss_sum: float = 0.0  # of this epoch, without the batches left out
    loss_count: int = 0

    @property
    def loss(self) -> float:
        """Mean loss of this epoch so far."""
        return self.loss_sum / self.loss_count if self.loss_count else float("nan")


class Checkpoints:
    """The two checkpoints in the folder of a run; each file is complete at every moment.

    Attributes:
        last: Holds the weights, the optimiser's state and the progress, to resume the run.
        best: Holds only the best weights so far.
    """

    def __init__(self, folder: Path) -> None:
        self.last, self.best = folder / LAST_NAME, folder / BEST_NAME

    def save_last(self, model: keras.Model, progress: Progress) -> None:
        """Writes the model, its optimiser and the progress to `last`.

        Raises:
            OSError: The file cannot be written.
        """
        self.refuse_full_disk(model)
        _save(self.last, model, vars(progress))

    def read_progress(self) -> Progress:
        """Returns the progress at which `last` was written."""
        with h5py.File(self.last) as file:
            return Progress(**{name: file.attrs[name].item() for name in vars(Progress())})

    def save_best(self, model: keras.Model, step: int) -> None:
        """Writes a model without an optimiser, and the number of its step, to `best`."""
        _save(self.best, model, {"step": step})

    def find_best(self, history: list[dict[str, float]]) -> dict[str, float] | None:
        """Returns the row of `history` that belongs to the weights in `best`, if there is one."""
        if not self.best.exists():
            return None
        with h5py.File(self.best) as file:
            step = file.attrs.get("step")
        return next((row for row in history if row["step"] == step), None)

    def refuse_full_disk(self, model: keras.Model) -> None:
        """Raises OSError if the disk is too full for a few checkpoints.

        On a full disk TensorBoard's writer would wait for ever.
        """
        state = [*model.variables, *model.optimizer.variables]
        checkpoint = sum(FLOAT32_BYTES * math.prod(variable.shape) for variable in state)
        needed = max(MIN_FREE_BYTES, SPARE_CHECKPOINTS * checkpoint)
        folder = self.last.parent
        if shutil.disk_usage(folder).free < needed:
            raise OSError(f"{folder}: the disk is full, {needed / 1e6:.0f} MB must be free; "
                          f"the last checkpoint remains")


def _save(path: Path, model: keras.Model, attributes: dict[str, float]) -> None:
    with replacing(path) as temporary:
        model.save_weights(temporary, overwrite=True)
        with h5py.File(temporary, "a") as file:
            file.attrs.update(attributes)
        store_hash(temporary)
