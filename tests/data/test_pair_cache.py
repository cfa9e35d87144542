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


def test_what_is_kept_is_what_was_made(dset, folders):
    mixer = Mixer(cached(dset, folders, share_generated=0.5), "train", 0.3)
    for number in range(6):
        made, kept = mixer.cache.make(number), mixer.cache[number]
        for name in ("clean", "noise"):
            one, other = getattr(made, name), getattr(kept, name)
            assert other.dtype == np.float32
            np.testing.assert_allclose(other, one, atol=np.abs(one).max() / 60000.0)
        assert (kept.category, kept.noise_name) == (made.category, made.noise_name)
    (mixer.cache.folder / "5.pair").write_bytes(b"")  # as a power cut can leave it
    np.testing.assert_array_equal(mixer.cache[5].clean, kept.clean)
    mixer.cache.make = lambda number: replace(made, clean=np.zeros_like(made.clean))
    assert not mixer.cache[6].clean.any()


def cached(dset, folders, **settings):
    return replace(dset, cache_items=12, path_cache=str(folders / "cache"), **settings)


def test_a_cache_gives_the_same_mixtures_whether_filled_or_not(dset, folders):
    dset = cached(dset, folders, share_generated=0.5, noise_db_spread=3.0)
    first = Mixer(dset, "train", 0.3, seed=1)
    made = [first.item(index) for index in range(20)]
    again = Mixer(dset, "train", 0.3, seed=1)
    assert len(list(again.cache.folder.iterdir())) > 6  # of 12, all by chance
    for index in reversed(range(20)):
        item = again.item(index)
        np.testing.assert_array_equal(item.noisy, made[index].noisy)
        np.testing.assert_array_equal(item.clean, made[index].clean)
        assert (item.category, item.noise) == (made[index].category, made[index].noise)


def test_a_cache_mixes_its_pairs_anew(dset, folders):
    mixer = Mixer(cached(dset, folders, snr_db=[8.0, 8.0], reference_dbfs=-20.0), "train", 0.3)
    items = [mixer.item(index) for index in range(24)]
    for item in items:
        snr = dsp.decibels(dsp.power(item.clean) / dsp.power(item.noisy - item.clean))
        assert snr == pytest.approx(8.0, abs=0.05)
    together = np.array([np.corrcoef(one.noisy - one.clean, other.noisy - other.clean)[0, 1]
                         for one in items[:12] for other in items[12:24]])
    same_clean = np.array([np.corrcoef(one.clean, other.clean)[0, 1]
                           for one in items[:12] for other in items[12:24]])
    assert np.any((together > 0.99) & (same_clean < 0.9))  # one noise, two signals


def test_noise_that_follows_a_signal_stays_with_it(dset, folders):
    dset = cached(dset, folders, share_generated=1.0, share_following=1.0)
    mixer = Mixer(dset, "train", 0.3, carrier=CarrierConfig(kind="tape"))
    pairs = [mixer.cache[number] for number in range(12)]
    for index in range(30):
        item = mixer.item(index)
        noise = item.noisy - item.clean
        same = [number for number, pair in enumerate(pairs)
                if np.corrcoef(pair.noise.astype(float), noise)[0, 1] > 0.999]
        assert len(same) == 1
        assert np.corrcoef(pairs[same[0]].clean.astype(float), item.clean)[0, 1] > 0.999


def test_other_settings_and_files_have_another_cache(dset, folders):
    dset = cached(dset, folders)
    one = Mixer(dset, "train", 0.3)
    same = Mixer(replace(dset, snr_db=[0.0, 5.0], cache_items=20), "train", 0.3)
    others = [Mixer(replace(dset, noise_db_spread=2.0), "train", 0.3),
              Mixer(dset, "train", 0.4), Mixer(dset, "train", 0.3, seed=1),
              Mixer(dset, "train", 0.3, carrier=CarrierConfig(kind="tape"))]
    places = [mixer.cache.folder for mixer in (one, same, *others)]
    for path in (folders / "noise/tape").iterdir():
        write_noise(path, 1.6, 10)
    places.append(Mixer(dset, "train", 0.3).cache.folder)
    assert places[0] == places[1] and len(set(places)) == 6
    assert Mixer(dset, "validation", 0.3).cache is None


FILL = """
import sys
from pathlib import Path
import numpy as np
from historical_denoiser.data.pair_cache import PairCache, SourcePair

def make(number):
    noise = np.random.default_rng(number).standard_normal((2, 5000)).astype(np.float32)
    return SourcePair(*noise, "music", "hiss")

if __name__ == "__main__":
    cache = PairCache(Path(sys.argv[1]), 4000, 5000, make)
    for number in range(4000):
        cache[number if sys.argv[2] == "up" else 3999 - number]
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
    cache = PairCache(tmp_path / "cache", 4000, 5000, make)
    assert len(list(cache.folder.glob("*.pair"))) == 4000
    for number in range(0, 4000, 100):
        made = make(number)
        np.testing.assert_allclose(cache[number].clean, made.clean, atol=1e-4)
        np.testing.assert_allclose(cache[number].noise, made.noise, atol=1e-4)


def test_a_disk_too_small_for_the_cache_is_answered_at_the_start(dset, folders):
    with pytest.raises(OSError, match="cache_items"):
        Mixer(replace(cached(dset, folders), cache_items=10**9), "train", 0.3)
