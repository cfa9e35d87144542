"""Checks of the settings of the data."""

import math

import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.data.settings import DsetConfig


@pytest.mark.parametrize("values", [[], [3.0, math.nan], [math.inf]])
def test_evaluation_snrs_must_be_finite_numbers(values):
    with pytest.raises(UserError, match="`dset.evaluation_snrs_db` must be one or more finite"):
        DsetConfig(evaluation_snrs_db=values)
    assert DsetConfig(evaluation_snrs_db=[-5.0]).evaluation_snrs_db == [-5.0]


@pytest.mark.parametrize(("name", "value"), [
    ("noise_folds", 2), ("noise_folds", -1), ("noise_fold", 1),
    ("snr_highpass_hz", -1.0), ("snr_highpass_hz", math.nan)])
def test_what_the_test_cannot_be_is_named(name, value):
    with pytest.raises(UserError, match=f"`dset.{name}` must be .* Received"):
        DsetConfig(**{name: value})
    assert DsetConfig(noise_folds=3, noise_fold=2).noise_fold == 2
