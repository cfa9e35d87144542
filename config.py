"""The settings under the name that scripts know: the module `historical_denoiser.settings`."""

import sys

from historical_denoiser import settings

sys.modules[__name__] = settings
