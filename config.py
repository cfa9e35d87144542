"""The settings under the name that scripts know; they stand in `historical_denoiser.settings`."""

from historical_denoiser.settings import *  # noqa: F403
