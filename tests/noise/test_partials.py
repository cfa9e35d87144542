"""Paths of partials are followed through levels, whatever computes the filters."""

import numpy as np
import scipy.ndimage

from historical_denoiser.noise import partials


def test_paths_are_those_of_plain_filters(rng):
    levels_db = rng.normal(0.0, 6.0, (40, 60)).astype(np.float32)
    around = scipy.ndimage.median_filter(
        levels_db, (1, partials.PATH_NEIGHBOURS), mode="nearest")
    height = np.clip(levels_db - around, *partials.PATH_RANGE_DB)
    total = height[:33]
    for later in range(1, partials.PATH_FRAMES):
        total = scipy.ndimage.maximum_filter(total, (1, 3)) + height[later : later + 33]
    np.testing.assert_array_equal(partials._path_db(levels_db),
                                  total.max(axis=1) / partials.PATH_FRAMES)


def test_a_gliding_partial_stands_out_of_noise(rng):
    levels_db = rng.normal(0.0, 3.0, (40, 60)).astype(np.float32)
    quiet = partials._path_db(levels_db)
    levels_db[np.arange(40), 10 + np.arange(40) // 2] += 15.0
    assert (partials._path_db(levels_db) > quiet + 3.0).all()
