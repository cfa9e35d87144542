"""The cache of pairs, as the mixer uses it."""

import os
import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from small_corpus import ROOT, write_noise

from dataset_loader import Mixer
from historical_denoiser.audio import dsp
from historical_denoiser.data.pair_cache import PairCache
from historical_denoiser.noise.carriers import CarrierConfig


@pytest.fixture
def cached(dset, folders):
    """Settings with a cache of twelve pairs."""
    return replace(dset, cache_items=12, path_cache=str(folders / "cache"))


def test_what_is_kept_is_what_was_made(cached):
    mixer = Mixer(replace(cached, share_generated=0.5), "train", 0.3)
    for number in range(6):
        made, kept = mixer.cache.make(number), mixer.cache[number]
        for one, other in ((made.clean, kept.clean), (made.noise, kept.noise)):
            assert other.dtype == np.float32
            np.testing.assert_allclose(other, one, atol=np.abs(one).max() / 60000.0)
        assert (kept.category, kept.noise_name) == (made.category, made.noise_name)
    (mixer.cache.folder / "5.pair").write_bytes(b"")  # as a power cut can leave it
    np.testing.assert_array_equal(mixer.cache[5].clean, kept.clean)
    mixer.cache.make = lambda number: replace(made, clean=np.zeros_like(made.clean))
    assert not mixer.cache[6].clean.any()


def test_a_cache_gives_the_same_mixtures_whether_filled_or_not(cached):
    cached = replace(cached, share_generated=0.5, noise_db_spread=3.0)
    first, again = (Mixer(cached, "train", 0.3, seed=1) for _ in range(2))
    made = [first.item(index) for index in range(20)]
    assert len(list(again.cache.folder.iterdir())) > 6  # of 12, all by chance
    for index in reversed(range(20)):
        item = again.item(index)
        np.testing.assert_array_equal(item.noisy, made[index].noisy)
        np.testing.assert_array_equal(item.clean, made[index].clean)
        assert (item.category, item.noise) == (made[index].category, made[index].noise)


def test_a_cache_mixes_its_pairs_anew(cached):
    mixer = Mixer(replace(cached, snr_db=[8.0, 8.0], reference_dbfs=-20.0), "train", 0.3)
    items = [mixer.item(index) for index in range(24)]
    noises = np.array([item.noisy - item.clean for item in items])
    for item, noise in zip(items, noises, strict=True):
        snr_db = dsp.decibels(dsp.power(item.clean) / dsp.power(noise))
        assert snr_db == pytest.approx(8.0, abs=0.05)
    same_noise = np.corrcoef(noises)[:12, 12:] > 0.99
    same_clean = np.corrcoef([item.clean for item in items])[:12, 12:] >= 0.9
    assert np.any(same_noise & ~same_clean)  # one noise, two signals


def test_noise_that_follows_a_signal_stays_with_it(cached):
    mixer = Mixer(replace(cached, share_generated=1.0, share_following=1.0), "train", 0.3,
                  carrier=CarrierConfig(kind="tape"))
    pairs = [mixer.cache[number] for number in range(12)]
    for item in map(mixer.item, range(30)):
        (pair,) = (pair for pair in pairs if np.corrcoef(
            pair.noise.astype(float), item.noisy - item.clean)[0, 1] > 0.999)
        assert np.corrcoef(pair.clean.astype(float), item.clean)[0, 1] > 0.999


def test_other_settings_and_files_have_another_cache(cached, folders):
    def folder_of(seconds=0.3, changes=None, **more):
        return Mixer(replace(cached, **changes or {}), "train", seconds, **more).cache.folder

    one = folder_of()
    assert folder_of(changes={"snr_db": [0.0, 5.0], "cache_items": 20}) == one
    others = {folder_of(changes={"noise_db_spread": 2.0}), folder_of(0.4), folder_of(seed=1),
              folder_of(carrier=CarrierConfig(kind="tape"))}
    for path in (folders / "noise/tape").iterdir():
        write_noise(path, 1.6, 10)
    assert len({one, *others, folder_of()}) == 6
    assert Mixer(cached, "validation", 0.3).cache is None


FILL = """
import sys
from pathlib import Path
import numpy as np
from historical_denoiser.data.pair_cache import PairCache, SourcePair

def make(number):
    noise = np.random.default_rng(number).standard_normal((2, 5000)).astype(np.float32)
    return SourcePair(*noise, "music", "hiss")

if __name__ == "__main__":
    cache = PairCache(Path(sys.argv[1]), 1000, 5000, make)
    for number in range(1000):
        cache[number if sys.argv[2] == "up" else 999 - number]
        if number == 100:
            print("begun", flush=True)
"""


def test_processes_share_a_cache_and_one_may_be_killed(tmp_path):
    (tmp_path / "fill.py").write_text(FILL)
    command = [sys.executable, str(tmp_path / "fill.py"), str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed, other = (subprocess.Popen([*command, way], env=environment, text=True,
                                      stdout=subprocess.PIPE) for way in ("down", "up"))
    assert killed.stdout.readline() == "begun\n"
    killed.kill()
    killed.communicate()
    other.communicate()
    assert other.returncode == 0
    make = runpy.run_path(str(tmp_path / "fill.py"))["make"]
    cache = PairCache(tmp_path / "cache", 1000, 5000, make)
    assert len(list(cache.folder.glob("*.pair"))) == 1000
    for number in range(0, 1000, 50):
        made = make(number)
        np.testing.assert_allclose(cache[number].clean, made.clean, atol=1e-4)
        np.testing.assert_allclose(cache[number].noise, made.noise, atol=1e-4)


def test_a_disk_too_small_for_the_cache_is_answered_at_the_start(cached):
    with pytest.raises(OSError, match="cache_items"):
        Mixer(replace(cached, cache_items=10**9), "train", 0.3)
