"""The module `historical_denoiser.settings` under its published name."""

import sys

from historical_denoiser import settings

sys.modules[__name__] = settings
