"""Mixtures that need no files. Processes import this file: it imports little."""

from collections import Counter

import numpy as np

from historical_denoiser.data.mixture import Mixture


class NumberedMixtures:
    """Mixtures that hold their own number; `skipped` counts how many were made."""

    samples = 5
    profile_form = None

    def __init__(self, broken=None):
        self.broken, self.skipped = broken, Counter()

    def item(self, index):
        if index == self.broken:
            raise ValueError(f"mixture {index} cannot be made")
        self.skipped["made"] += 1
        number = np.full(self.samples, index, np.float32)
        return Mixture(number, -number, "music", "none", 0.0)
