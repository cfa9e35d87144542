"""Levels that change: how far, alike on every run, and noise at the power that was asked for."""

from dataclasses import replace

import numpy as np
import pytest

from dataset_loader import Mixer
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import changing


@pytest.mark.parametrize("seed", range(20))
def test_either_the_noise_or_all_changes(seed):
    samples, more = 2 * SAMPLE_RATE, SAMPLE_RATE
    gain, of_all = changing.draw_gains(np.random.default_rng(seed), samples, more)
    assert gain.shape == (samples + more,) and of_all.shape == (samples,)
    assert gain.dtype == of_all.dtype == np.float32 and (gain > 0.0).all() and (of_all > 0.0).all()
    assert (np.ptp(gain) > 0.0) != (np.ptp(of_all) > 0.0)
    assert np.mean(np.square(gain[:samples], dtype=np.float64)) == pytest.approx(1.0, rel=1e-4)
    again = changing.draw_gains(np.random.default_rng(seed), samples, more)
    np.testing.assert_array_equal(again[0], gain)


def test_a_share_of_the_items_changes_and_the_others_stay(dset):
    plain, changed = (Mixer(replace(dset, share_changing=share), "train", 1.0, seed=3)
                      for share in (0.0, 0.5))
    same = 0
    for index in range(12):
        one, other = plain.item(index), changed.item(index)
        is_same = np.array_equal(one.noisy, other.noisy)
        same += is_same
        assert is_same or not np.allclose(one.noisy, other.noisy, rtol=1e-3)
        np.testing.assert_array_equal(other.noisy, changed.item(index).noisy)
    assert 2 <= same <= 10
