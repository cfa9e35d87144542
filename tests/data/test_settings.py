"""Checks of the settings of the data, beside those of tests/test_config.py."""

import math

import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.data.settings import DsetConfig


@pytest.mark.parametrize(("name", "value"), [
    ("evaluation_snrs_db", []), ("evaluation_snrs_db", [3.0, math.nan]),
    ("evaluation_snrs_db", [math.inf]), 
    ("snr_highpass_hz", -1.0), ("snr_highpass_hz", math.nan), ("noise_balance_db", 41.0)])
def test_impossible_values_are_named(name, value):
    with pytest.raises(UserError, match=f"`dset.{name}` must be .* Received"):
        DsetConfig(**{name: value})
    DsetConfig(evaluation_snrs_db=[-5.0], noise_balance_db=40.0)
