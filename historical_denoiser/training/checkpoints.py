"""The files of weights that a run writes: the last, from which it goes on, and the best."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras

from historical_denoiser.core.files import replacing
from historical_denoiser.network.stored import BEST_NAME
from historical_denoiser.network.weights import store_hash

LAST_NAME = "last.weights.h5"  # from which a stopped run goes on
MIN_FREE_BYTES = 100 * 2**20
SPARE_CHECKPOINTS = 3  # that must fit on the disk before one is written
FLOAT32_BYTES = 4


@dataclass
class Progress:
    """Where a run stands; stored inside the checkpoint, so that both are of one moment."""

    step: int = 0  # batches seen
    skipped: int = 0  # of these, without a finite gradient
    loss_sum: float = 0.0  # over the finite losses of this epoch
    loss_count: int = 0

    @property
    def loss(self) -> float:
        """Mean loss of this epoch so far."""
        return self.loss_sum / self.loss_count if self.loss_count else float("nan")


class Checkpoints:
    """The two files of weights in the folder of a run; each is complete at every moment.

    `last` has the weights and the optimiser's state from which the run goes on, `best` the best
    weights so far alone.
    """

    def __init__(self, folder: Path) -> None:
        self.last, self.best = folder / LAST_NAME, folder / BEST_NAME

    def save_last(self, model: keras.Model, progress: Progress) -> None:
        """Writes the model, its optimiser and where the run stands; OSError where it cannot."""
        self.refuse_full_disk(model)
        _save(self.last, model, vars(progress))

    def read_progress(self) -> Progress:
        """Returns where the run stood when `last` was written."""
        with h5py.File(self.last) as file:
            return Progress(**{name: file.attrs[name].item() for name in vars(Progress())})

    def save_best(self, model: keras.Model, step: int) -> None:
        """Writes a model without an optimiser, and the step after which it was so good."""
        _save(self.best, model, {"step": step})

    def find_best(self, history: list[dict[str, float]]) -> dict[str, float] | None:
        """Returns the row of `history` that was measured with the weights in `best`, if any was."""
        if not self.best.exists():
            return None
        with h5py.File(self.best) as file:
            step = file.attrs.get("step")
        return next((row for row in history if row["step"] == step), None)

    def refuse_full_disk(self, model: keras.Model) -> None:
        """Raises OSError where the disk is too full for a few checkpoints.

        So a run stops before a writer does so half-way; TensorBoard's would wait for ever.
        """
        state = [*model.variables, *model.optimizer.variables]
        checkpoint = sum(FLOAT32_BYTES * math.prod(variable.shape) for variable in state)
        needed = max(MIN_FREE_BYTES, SPARE_CHECKPOINTS * checkpoint)
        folder = self.last.parent
        if shutil.disk_usage(folder).free < needed:
            raise OSError(f"{folder}: the disk is full, {needed / 1e6:.0f} MB must be free; "
                          f"the last checkpoint is kept as it is")


def _save(path: Path, model: keras.Model, attributes: dict[str, float]) -> None:
    with replacing(path) as temporary:
        model.save_weights(temporary, overwrite=True)
        with h5py.File(temporary, "a") as file:
            file.attrs.update(attributes)
        store_hash(temporary)
