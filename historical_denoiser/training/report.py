"""Reports of a training run: history.csv, its log, and what TensorBoard shows."""

import csv
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from tensorboardX import SummaryWriter

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.formats import spectrogram

logger = logging.getLogger(__name__)

HISTORY_NAME = "history.csv"  # has a row for each epoch of a run


def read_history(path: Path, last_step: int) -> list[dict[str, float]]:
    """Returns the rows of a history.csv up to `last_step`, or none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [{name: float(value) for name, value in row.items()}
                for row in csv.DictReader(stream)]
    return [row for row in rows if row["step"] <= last_step]


class Report(SummaryWriter):
    """Writes TensorBoard's files to `folder`, and to the log; a context manager.

    TensorBoard hides what an earlier part of the run wrote for `next_step` and later steps.
    """

    def __init__(self, folder: Path, next_step: int) -> None:
        super().__init__(str(folder), purge_step=next_step)

    def add_epoch(self, row: Mapping[str, float], tables: list[str], faults: list[str],
                  left_out: Mapping[str, int]) -> None:
        """Reports an epoch: curves, and in the log tables and a warning for each fault.

        Args:
            row: The epoch's row of history.csv.
            tables: What the validation found, as text.
            faults: A sentence on each fault.
            left_out: How many segments could not be used, by reason.
        """
        for name, value in row.items():
            self.add_scalar(name, value, row["step"])
        self.flush()
        for table in tables:
            logger.info("epoch %d: %s", row["epoch"], table)
        for fault in faults:
            logger.warning("epoch %d: %s", row["epoch"], fault)
        for reason, count in left_out.items():
            logger.warning("%d segments were left out so far: %s", count, reason)

    def add_item(self, index: int, mixture: Mixture, denoised: np.ndarray, step: int,
                 with_input: bool) -> None:
        """Adds the sounds and spectrograms of a mixture and of its denoised waveform.

        Args:
            index: The mixture's number, with which the title begins.
            mixture: The noisy and the clean waveform.
            denoised: The network's output, `(samples,)`.
            step: The training step after which it was made.
            with_input: Whether to add the noisy and the clean waveform, too. They are the same
                after every epoch.
        """
        noise = re.sub("[ /]", "_", mixture.noise)
        title = f"{index}_{mixture.category}_{mixture.snr_db:g}dB_{noise}"
        sounds = {"noisy": mixture.noisy, "clean": mixture.clean, "denoised": denoised,
                  "residual": mixture.noisy - denoised}
        full_scale = max(float(np.abs(sound).max()) for sound in sounds.values())
        for name, sound in sounds.items():
            if with_input or name in ("denoised", "residual"):
                self.add_audio(f"{title}/{name}", sound[:, None] / full_scale, step, SAMPLE_RATE)
        panels = [(name, spectrogram.of_array(sound, SAMPLE_RATE))
                  for name, sound in sounds.items()]
        figure = spectrogram.draw(panels, len(denoised) / SAMPLE_RATE, SAMPLE_RATE)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.add_image(f"{title}/spectrogram", np.asarray(canvas.buffer_rgba())[..., :3], step,
                       dataformats="HWC")
