"""Checks of the settings of the data."""

import math

import pytest

from denoiser.checks import UserError
from denoiser.data.settings import DsetConfig


@pytest.mark.parametrize("values", [[], [3.0, math.nan], [math.inf]])
def test_evaluation_snrs_must_be_finite_numbers(values):
    with pytest.raises(UserError, match="`dset.evaluation_snrs_db` must be one or more finite"):
        DsetConfig(evaluation_snrs_db=values)
    assert DsetConfig(evaluation_snrs_db=[-5.0]).evaluation_snrs_db == [-5.0]
