"""Makes what is delivered beside a restored recording. Start reading at `Delivery`."""

import logging
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from historical_denoiser.audio.removal import Strength
from historical_denoiser.audio.survey import Survey
from historical_denoiser.restoration.click_list import Click, find_clicks
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.run import labels
from historical_denoiser.run.jobs import Job

logger = logging.getLogger(__name__)


class Delivery:
    """What is delivered beside one restored recording.

    Attributes:
        kept: The clicks that stay as in the recording.
        marks: Cue points for the restored file, in seconds, with their names.
    """

    def __init__(self, job: Job) -> None:
        """Reads the lists that a user gives; raises UserError if they cannot be read."""
        self._job, self._wanted = job, job.extras
        self._rate = job.recording.rate
        path = self._wanted.keep_clicks
        self.kept = labels.Kept(path and Path(path), self._rate, job.recording.channels)
        self.marks: list[tuple[Fraction, str]] = []
        self._clicks: list[Click] = []

    def list_clicks(self, restorer: Restorer, strength: Strength, known: Survey,
                    read: Callable[[], Iterable[np.ndarray]]) -> None:
        """Lists the clicks that are removed, if that is wanted."""
        if self._wanted.click_list and not strength.removes_nothing:
            self._clicks = find_clicks(restorer, read(), self._rate, known)
            logger.info("%s: %d clicks are removed", self._job.recording.path, len(self._clicks))
            self.marks += [(Fraction(click.start, self._rate), labels.label_of(
                click, self._rate)[2]) for click in self._clicks]

    def write(self, places: dict[str, Path]) -> None:
        """Writes the lists to temporary files, by the ends of their names."""
        for ending, place in places.items():
            if ending == "_clicks.csv":
                labels.write_clicks(place, self._clicks, self._rate)
            elif ending == "_clicks.txt":
                labels.write_labels(place, (labels.label_of(click, self._rate)
                                            for click in self._clicks))

    def describe(self) -> dict[str, Any]:
        """Returns the facts for a report."""
        facts: dict[str, Any] = {}
        if self._wanted.click_list:
            facts["clicks_removed"] = len(self._clicks)
        if self.kept.number:
            facts["clicks_kept"] = self.kept.number
        return facts
