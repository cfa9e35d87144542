"""What cannot be is refused by its key."""

import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.page.settings import AppConfig


@pytest.mark.parametrize("wrong", [{"port": 0}, {"port": 65536}, {"largest_mb": 0}, {"waiting": 0},
                                   {"most_million_samples": 0}, {"longest_minutes": 0.0},
                                   {"keep_hours": float("inf")}, {"host": ""},
                                   {"all_users_gb": 0.0}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"`app.{next(iter(wrong))}` must be"):
        AppConfig(**wrong)
