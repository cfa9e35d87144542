"""Finding, splitting, reading and mixing, on small files made here."""

import csv
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

import dataset_loader
import dsp
from carriers import KINDS, CarrierConfig
from config import SAMPLE_RATE, DsetConfig, MixConfig
from dataset_loader import Mixer

ROOT = Path(__file__).resolve().parent.parent


def write_tone(path, hz=440.0, seconds=1.0, rate=SAMPLE_RATE, channels=1, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2.0 * np.pi * hz * times)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate, subtype=subtype)


def write_noise(path, seconds=1.0, seed=0, level=0.05):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = level * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    soundfile.write(path, noise, SAMPLE_RATE)


@pytest.fixture
def folders(tmp_path):
    """Ten speakers, ten tunes, ten effects; four disc noises and one tape noise."""
    for number in range(10):
        write_tone(tmp_path / f"speech/speaker{number}/a.wav", 200 + 20 * number, 0.4)
        write_tone(tmp_path / f"speech/speaker{number}/b.wav", 300 + 20 * number, 0.7)
        write_tone(tmp_path / f"music/tune{number}.flac", 440 + 10 * number, 3.0)
        write_tone(tmp_path / f"effects/effect{number}.wav", 1000 + 100 * number, 0.5)
    for number in range(4):
        for channel in "LR":
            write_noise(tmp_path / f"noise/gramophone/disc{number}_{channel}.flac", 1.2, number)
    write_noise(tmp_path / "noise/tape/hiss.wav", 1.5, 9)
    return tmp_path


@pytest.fixture
def dset(folders):
    return DsetConfig(path_speech=[str(folders / "speech")], path_music=[str(folders / "music")],
                      path_effects=[str(folders / "effects")], path_noise=[str(folders / "noise")])


def test_splits_share_nothing_and_keep_groups_together(dset):
    clips = dataset_loader.find_clips(dset)
    assert len(clips) == 40
    for attribute in ("group", "path"):
        seen = {split: {getattr(clip, attribute) for clip in clips if clip.split == split}
                for split in ("train", "validation", "test")}
        assert all(seen.values())
        assert not (seen["train"] & seen["test"] or seen["train"] & seen["validation"]
                    or seen["validation"] & seen["test"])
    speakers = {clip.group for clip in clips if clip.category == "speech"}
    assert len(speakers) == 10


def test_channels_of_one_noise_recording_stay_together(dset):
    discs = [found for found in dataset_loader.find_noise(dset) if found.category == "gramophone"]
    assert len(discs) == 4 and all(len(found.files) == 2 for found in discs)
    assert sorted(found.split for found in discs) == ["test", "train", "train", "validation"]


def test_scarce_noise_trains_only_and_is_generated_for_tests(dset):
    mixer = Mixer(dset, "test", 0.5)
    assert mixer.train_only == ["tape"]
    noises = {mixer.evaluation_item(index).noise for index in range(18)}
    assert noises == {"gramophone recorded", "tape generated"}


def test_published_noise_layout(tmp_path):
    for recording in ("one", "two", "three"):
        for number in range(2):
            write_noise(tmp_path / recording / f"{recording}_{number}.wav", 0.5)
    with (tmp_path / "info.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["recording", "split", "largest_segment", "segments"])
        for recording, split in (("one", "train"), ("two", "validation"), ("three", "test")):
            rows.writerow([recording, split, 0.5, [f"{recording}_0.wav", f"{recording}_1.wav"]])
    found = dataset_loader.find_noise(DsetConfig(path_noise=[str(tmp_path)]))
    assert [(len(noise.files), noise.split) for noise in found] == [
        (2, "train"), (2, "validation"), (2, "test")]
    assert all(path.exists() for noise in found for path in noise.files)


def test_malformed_noise_list_names_the_file(tmp_path):
    (tmp_path / "info.csv").write_text("recording,split,segments\na,train,not a list\n")
    with pytest.raises(ValueError, match="info.csv"):
        dataset_loader.find_noise(DsetConfig(path_noise=[str(tmp_path)]))


def test_missing_folder_and_manifest_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        dataset_loader.find_clips(DsetConfig(path_speech=[str(tmp_path / "nowhere")]))
    with pytest.raises(FileNotFoundError, match="prepare_data.py"):
        dataset_loader.find_clips(DsetConfig(path_manifests=[str(tmp_path / "manifest.csv")]))


def test_manifest_gives_splits_and_leaves_out_what_is_not_clean(tmp_path):
    rows = [("a.wav", "speech", "train", 1), ("b.wav", "music", "test", 1),
            ("c.wav", "speech", "train", 0)]
    with (tmp_path / "manifest.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "category", "seconds", "group", "split", "clean", "clipped",
                        "floor_db"])
        table.writerows([name, category, 1.0, name, split, clean, 0.0, 60.0]
                        for name, category, split, clean in rows)
    clips = dataset_loader.find_clips(DsetConfig(path_manifests=[str(tmp_path / "manifest.csv")]))
    assert [(clip.path.name, clip.split) for clip in clips] == [("a.wav", "train"),
                                                               ("b.wav", "test")]


@pytest.mark.parametrize("snr_db", [2.0, 17.5])
def test_mixtures_have_the_drawn_snr_and_level(dset, snr_db):
    dset.snr_db, dset.level_db = [snr_db, snr_db], [-6.0, -6.0]
    loud = Mixer(dset, "train", 1.0, seed=3).item(5)
    measured = dsp.decibels(dsp.power(loud.clean) / dsp.power(loud.noisy - loud.clean))
    assert measured == pytest.approx(snr_db, abs=0.01)
    dset.level_db = [0.0, 0.0]
    plain = Mixer(dset, "train", 1.0, seed=3).item(5)
    np.testing.assert_allclose(loud.noisy, plain.noisy * 10.0 ** (-6.0 / 20.0), rtol=1e-5)
    np.testing.assert_allclose(loud.clean, plain.clean * 10.0 ** (-6.0 / 20.0), rtol=1e-5)


def test_snr_is_uniform_in_decibels(dset):
    mixer = Mixer(dset, "train", 0.05)
    drawn = np.array([mixer.item(index).snr_db for index in range(300)])
    counts, _ = np.histogram(drawn, bins=6, range=(2.0, 20.0))
    assert drawn.min() >= 2.0 and drawn.max() <= 20.0 and counts.min() > 25


def test_shares_of_the_categories(dset):
    mixer = Mixer(dset, "train", 0.05)
    drawn = [mixer.item(index).category for index in range(400)]
    assert [round(drawn.count(name) / 400, 1) for name in ("speech", "effects", "music")] == [
        0.6, 0.2, 0.2]
    dset.path_effects = []
    assert Mixer(dset, "train", 0.05).shares == pytest.approx([0.75, 0.25])
    dset.mix = MixConfig(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="dset.mix"):
        Mixer(dset, "train", 0.05)


def test_clean_share_returns_the_input_untouched(dset):
    dset.share_clean = 1.0
    mixture = Mixer(dset, "train", 0.5).item(0)
    np.testing.assert_array_equal(mixture.noisy, mixture.clean)


def test_silent_share_returns_noise_alone(dset):
    dset.share_silent, dset.reference_dbfs, dset.level_db = 1.0, -20.0, [0.0, 0.0]
    mixture = Mixer(dset, "train", 0.5).item(0)
    assert not mixture.clean.any() and mixture.snr_db == float("-inf")
    assert 10.0 * np.log10(dsp.power(mixture.noisy)) == pytest.approx(-20.0, abs=0.01)
    dset.share_silent, dset.share_clean = 0.3, 0.2
    mixer = Mixer(dset, "train", 0.05)
    drawn = [mixer.item(index).snr_db for index in range(300)]
    assert 60 < drawn.count(float("-inf")) < 120 and 35 < drawn.count(float("inf")) < 85


def test_other_rates_are_resampled_and_stereo_is_averaged(tmp_path):
    write_tone(tmp_path / "low.wav", 441.0, 1.0, 22050, channels=2)
    audio = dataset_loader.read_segment(tmp_path / "low.wav", 0.0, 1.0)
    assert audio.shape == (SAMPLE_RATE,)
    assert np.argmax(np.abs(np.fft.rfft(audio))) == 441


def test_unreadable_and_silent_files_are_skipped_and_counted(folders, dset, caplog):
    (folders / "speech/speaker1/broken.wav").write_bytes(b"RIFF nothing more")
    soundfile.write(folders / "speech/speaker2/empty.wav", np.zeros((0, 1)), SAMPLE_RATE)
    with caplog.at_level("WARNING"):
        clips = dataset_loader.find_clips(dset)
    assert len(clips) == 40
    assert "1 unreadable and 1 empty" in caplog.text
    for path in (folders / "music").glob("*.flac"):
        soundfile.write(path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    dset.mix = MixConfig(0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="audible music"):
        Mixer(dset, "train", 0.5).item(0)


def test_silent_and_broken_noise_is_skipped_and_counted(folders, dset, caplog):
    tape = folders / "noise/tape"
    soundfile.write(tape / "silent.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(tape / "empty.wav", np.zeros((0, 1)), SAMPLE_RATE)
    (tape / "broken.wav").write_bytes(b"RIFF nothing more")
    only_tape = CarrierConfig(kind="tape")
    dset.path_noise = [str(folders / "noise")]
    mixer = Mixer(dset, "train", 0.3, carrier=only_tape)
    mixer.noise["tape"] = [found for found in dataset_loader.find_noise(dset)
                           if found.category == "tape"]
    items = [mixer.item(index) for index in range(20)]
    assert all(np.ptp(item.noisy - item.clean) > 0.0 for item in items)
    assert mixer.skipped["silent noise"] > 0 and mixer.skipped[str(tape / "broken.wav")] > 0
    assert caplog.text.count("broken.wav cannot be read") == 1
    (tape / "hiss.wav").unlink()
    dataset_loader._read_noise.cache_clear()
    with pytest.raises(ValueError, match="audible tape noise"):
        mixer.item(0)


def test_validation_is_the_same_on_every_run_and_training_follows_its_seed(dset):
    one, other = Mixer(dset, "validation", 0.5, seed=1), Mixer(dset, "validation", 0.5, seed=2)
    np.testing.assert_array_equal(one.evaluation_item(4).noisy, other.evaluation_item(4).noisy)
    first = Mixer(dset, "train", 0.5, seed=1)
    np.testing.assert_array_equal(first.item(7).noisy, Mixer(dset, "train", 0.5, 1).item(7).noisy)
    assert np.any(first.item(7).noisy != Mixer(dset, "train", 0.5, 2).item(7).noisy)
    assert np.any(first.item(7).noisy != first.item(8).noisy)


def test_a_thread_processes_and_tf_data_feed_the_same_batches_from_any_step(dset):
    mixer = Mixer(dset, "train", 0.3)
    alone = list(dataset_loader.numpy_batches(mixer, 2, 0, 9))
    assert len(alone) == 9 and alone[0][0].shape == (2, mixer.samples)
    together = list(dataset_loader.numpy_batches(mixer, 2, 0, 9, workers=2))
    tf_fed = list(dataset_loader.tf_batches(mixer, 2, 6, 9, workers=2).as_numpy_iterator())
    shared = list(dataset_loader.numpy_batches(mixer, 2, 4, 9, 2, share=slice(1, 2)))
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(tf_fed, alone[6:])
    np.testing.assert_array_equal(shared, np.array(alone)[4:, :, 1:2])


def test_batches_of_processes_stay_as_they_are_while_someone_holds_them(dset):
    mixer = Mixer(dset, "train", 0.3)
    batches = dataset_loader.numpy_batches(mixer, 2, 0, 40, workers=2)
    _, held = next(batches)
    kept = held.copy()
    for _ in range(20):  # more than there are slots
        noisy, clean = next(batches)
    np.testing.assert_array_equal(held, kept)
    np.testing.assert_array_equal((noisy, clean), dataset_loader.make_batch(mixer, 20, 2))
    batches.close()
    assert not multiprocessing.active_children()


def test_processes_report_what_they_skip_and_what_stops_them(folders, dset):
    dset.mix = MixConfig(0.0, 0.0, 1.0)
    mixer = Mixer(dset, "train", 0.3, seed=2)
    silenced = mixer.clips["music"][0].path
    soundfile.write(silenced, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    list(dataset_loader.numpy_batches(mixer, 2, 0, 20))
    expected, mixer.skipped = mixer.skipped, Counter()
    list(dataset_loader.numpy_batches(mixer, 2, 0, 20, workers=2))
    assert mixer.skipped == expected and expected["silent"] > 0
    for clip in mixer.clips["music"]:
        soundfile.write(clip.path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(ValueError, match="audible music"):
        list(dataset_loader.numpy_batches(mixer, 2, 0, 20, workers=2))
    assert not multiprocessing.active_children()


FEED = """
import sys
sys.path.insert(0, sys.argv[1])
from config import DsetConfig
from dataset_loader import Mixer, numpy_batches
mixer = Mixer(DsetConfig(path_music=[sys.argv[2] + "/music"], path_noise=[sys.argv[2] + "/noise"]),
              "train", 0.3)
for _ in numpy_batches(mixer, 2, 0, 10**6, workers=2):
    print("fed", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_processes_end_with_a_parent_that_is_killed_or_interrupted(folders, name):
    parent = subprocess.Popen([sys.executable, "-c", FEED, str(ROOT), str(folders)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              start_new_session=True)
    assert parent.stdout.readline() == "fed\n"
    number = getattr(signal, name)
    if name == "SIGKILL":
        parent.kill()
    else:
        os.killpg(parent.pid, number)  # as a terminal does: to all processes
    # The pipes end when the last process that writes to them has ended.
    parent.communicate(timeout=120)
    assert parent.returncode == -number


def test_colour_changes_the_spectrum_and_not_the_length(rng):
    noise = rng.standard_normal(20000).astype(np.float32)
    coloured = dataset_loader.shape_noise(noise, 6.0, 0.0, rng)
    assert coloured.shape == noise.shape and coloured.dtype == np.float32
    assert dsp.power(coloured) == pytest.approx(1.0, rel=1e-4)
    before, after = (np.abs(np.fft.rfft(audio)) for audio in (noise, coloured))
    thirds_db = [20 * np.log10(after[k : k + 500].mean() / before[k : k + 500].mean())
                 for k in range(100, 9000, 1000)]
    assert np.ptp(thirds_db) > 3.0


def test_rumble_that_is_not_heard_counts_in_the_noise_power(rng):
    times = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    hiss = rng.standard_normal(len(times))
    rumble = 3.0 * np.sin(2.0 * np.pi * 5.0 * times)
    shaped = dataset_loader.shape_noise((hiss + rumble).astype(np.float32), 0.0, 20.0, rng)
    assert dsp.power(shaped) == pytest.approx(1.0 / 5.5, rel=0.02)  # of 1 + 3^2 / 2
    expected = dsp.highpass(hiss.astype(np.float32), 20.0, SAMPLE_RATE)
    middle = slice(SAMPLE_RATE, -SAMPLE_RATE)
    np.testing.assert_allclose(shaped[middle] * np.sqrt(5.5), expected[middle], atol=0.05)
    with pytest.raises(ValueError, match="silent"):
        dataset_loader.shape_noise(np.zeros(1000, np.float32), 3.0, 20.0, rng)


@pytest.mark.parametrize("length", [15000, 20000, 20011, 27000])
def test_noise_of_another_length_is_heard_at_another_speed(rng, length):
    times = np.arange(length) / SAMPLE_RATE
    tone = np.sin(2.0 * np.pi * 3000.0 * times).astype(np.float32)
    tone += 0.5 * np.sin(2.0 * np.pi * 20000.0 * times).astype(np.float32)
    shaped = dataset_loader.shape_noise(tone, 0.0, 0.0, rng, 20000)
    assert shaped.shape == (20000,) and shaped.dtype == np.float32
    assert dsp.power(shaped) == pytest.approx(1.0, rel=1e-4)
    spectrum = np.abs(np.fft.rfft(shaped * np.hanning(20000)))
    assert np.argmax(spectrum) == pytest.approx(3000.0 * length / SAMPLE_RATE, abs=1.0)
    top = 20000.0 * length / SAMPLE_RATE  # beyond the last bin it would fold back
    assert (spectrum[5000:].max() > 0.1 * spectrum.max()) == (top < 10000)


def test_halves_are_widened_exactly():
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    np.testing.assert_array_equal(dataset_loader._widen(halves), halves.astype(np.float32))


def cached(dset, folders, **settings):
    return replace(dset, cache_items=12, path_cache=str(folders / "cache"), **settings)


def test_a_cache_gives_the_same_mixtures_whether_filled_or_not(dset, folders):
    dset = cached(dset, folders, share_generated=0.5, noise_db_spread=3.0)
    first = Mixer(dset, "train", 0.3, seed=1)
    made = [first.item(index) for index in range(20)]
    again = Mixer(dset, "train", 0.3, seed=1)
    assert again.cache.notes[:, 0].sum() > 6  # of 12, all by chance
    for index in reversed(range(20)):
        item = again.item(index)
        np.testing.assert_array_equal(item.noisy, made[index].noisy)
        np.testing.assert_array_equal(item.clean, made[index].clean)
        assert (item.category, item.noise) == (made[index].category, made[index].noise)


def test_a_cache_mixes_its_stems_anew(dset, folders):
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
    stems = [mixer.cache[number] for number in range(12)]
    for index in range(30):
        item = mixer.item(index)
        noise = item.noisy - item.clean
        same = [number for number, stem in enumerate(stems)
                if np.corrcoef(stem.noise.astype(float), noise)[0, 1] > 0.999]
        assert len(same) == 1
        assert np.corrcoef(stems[same[0]].clean.astype(float), item.clean)[0, 1] > 0.999


def test_other_settings_have_another_cache(dset, folders):
    dset = cached(dset, folders)
    one = Mixer(dset, "train", 0.3)
    same = Mixer(replace(dset, snr_db=[0.0, 5.0], cache_items=20), "train", 0.3)
    others = [Mixer(replace(dset, noise_db_spread=2.0), "train", 0.3),
              Mixer(dset, "train", 0.4), Mixer(dset, "train", 0.3, seed=1),
              Mixer(dset, "train", 0.3, carrier=CarrierConfig(kind="tape"))]
    places = [Path(mixer.cache.audio.filename) for mixer in (one, same, *others)]
    assert places[0] == places[1] and len(set(places)) == 5
    assert Mixer(dset, "validation", 0.3).cache is None


def test_changed_files_have_another_cache(dset, folders):
    dset = cached(dset, folders)
    before = Mixer(dset, "train", 0.3).cache.audio.filename
    for path in (folders / "noise/tape").iterdir():
        write_noise(path, 1.6, 10)
    assert Mixer(dset, "train", 0.3).cache.audio.filename != before


def test_a_smaller_cache_leaves_a_larger_one_whole(dset, folders):
    large = Mixer(cached(dset, folders), "train", 0.3)
    large.cache[11]
    small = Mixer(replace(large.dset, cache_items=2), "train", 0.3)
    assert len(small.cache) == 2
    assert Mixer(large.dset, "train", 0.3).cache.notes[11, 0] == 1
    np.testing.assert_array_equal(large.cache[11].clean, large._open_cache()[11].clean)


def test_a_stem_whose_sound_was_lost_is_made_again(dset, folders):
    mixer = Mixer(cached(dset, folders), "train", 0.3)
    made = np.array(mixer.cache[3].clean)
    mixer.cache.audio[3] = 0.0
    np.testing.assert_array_equal(mixer.cache[3].clean, made)


FILL = """
import sys
sys.path.insert(0, sys.argv[1])
from config import DsetConfig
from dataset_loader import Mixer
folder = sys.argv[2]
cache = Mixer(DsetConfig(path_music=[folder + "/music"], path_noise=[folder + "/noise"],
                         cache_items=300, path_cache=folder + "/cache"), "train", 0.3).cache
for number in range(300):
    cache[number if sys.argv[3] == "up" else 299 - number]
"""


def test_processes_share_a_cache_and_one_may_be_killed(folders):
    command = [sys.executable, "-c", FILL, str(ROOT), str(folders)]
    killed = subprocess.Popen([*command, "down"])
    other = subprocess.Popen([*command, "up"])
    time.sleep(3.0)
    killed.kill()
    killed.wait()
    assert other.wait(120) == 0
    dset = DsetConfig(path_music=[str(folders / "music")], path_noise=[str(folders / "noise")],
                      cache_items=300, path_cache=str(folders / "cache"))
    cache = Mixer(dset, "train", 0.3).cache
    assert cache.notes[:, 0].all()
    for number in range(0, 300, 10):
        stem = cache.make(number)
        np.testing.assert_array_equal(cache[number].clean, stem.clean.astype(np.float16))
        np.testing.assert_array_equal(cache[number].noise, stem.noise.astype(np.float16))


def test_a_disk_too_small_for_the_cache_is_answered_at_the_start(dset, folders):
    with pytest.raises(OSError, match="cache_items"):
        Mixer(replace(cached(dset, folders), cache_items=10**9), "train", 0.3)


def spectrum_db(audio, hz):
    """Level of a long recording around a frequency."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    place = round(hz * len(audio) / SAMPLE_RATE)
    return 10.0 * np.log10(spectrum[round(0.95 * place) : round(1.05 * place)].mean())


def test_a_horn_takes_the_bass_and_rings(rng):
    noise = rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    for _ in range(5):
        heard = dataset_loader.sound_through_horn(noise, rng)
        assert heard.dtype == np.float32 and heard.shape == noise.shape
        change = {hz: spectrum_db(heard, hz) - spectrum_db(noise, hz)
                  for hz in (30, *np.geomspace(250, 3500, 40), 15000)}
        assert change[30] < -10.0 and abs(change[15000]) < 3.0
        assert max(change.values()) > 2.5  # a resonance


def test_saturation_flattens_peaks_only(rng):
    audio = (0.1 * rng.standard_normal(SAMPLE_RATE)).astype(np.float32)
    flattened = dataset_loader.saturate(audio, 6.0)
    quiet = np.abs(audio) < 0.02
    np.testing.assert_allclose(flattened[quiet], audio[quiet], rtol=0.01)
    assert np.abs(flattened).max() < 0.55 * np.abs(audio).max()
    assert not dataset_loader.saturate(np.zeros(10, np.float32), 6.0).any()


def test_old_recording_conditions_are_on_both_sides_and_only_in_training(dset):
    plain = [Mixer(dset, "train", 0.5, seed=1).item(3),
             Mixer(dset, "validation", 0.5).evaluation_item(3)]
    for name in ("share_horn", "share_saturated", "share_band_limited"):
        aged_dset = replace(dset, **{name: 1.0})
        train = Mixer(aged_dset, "train", 0.5, seed=1).item(3)
        validation = Mixer(aged_dset, "validation", 0.5).evaluation_item(3)
        assert np.abs(train.clean - plain[0].clean).max() > 1e-4, name
        # What was changed is the signal, not the noise on it.
        snr = 10.0 * np.log10(dsp.power(train.clean) / dsp.power(train.noisy - train.clean))
        assert snr == pytest.approx(train.snr_db, abs=0.01)
        np.testing.assert_array_equal(validation.clean, plain[1].clean)


def test_training_hears_what_the_network_will_hear(dset):
    whole, heard = (Mixer(dset, "train", 1.0, highpass_hz=hz).item(0) for hz in (0.0, 600.0))
    assert spectrum_db(heard.clean, 300.0) < spectrum_db(whole.clean, 300.0) - 30.0
    noise = [spectrum_db(item.noisy - item.clean, hz) for item in (whole, heard)
             for hz in (300.0, 9000.0)]
    assert abs(noise[0] - noise[1]) < 3.0 and noise[2] < noise[3] - 30.0  # it was white


def test_only_the_wanted_noise_is_mixed(dset):
    mixed, discs, tape = (Mixer(replace(dset, share_generated=0.5), "train", 0.3,
                                carrier=CarrierConfig(kind=kind))
                          for kind in ("mixed", "gramophone", "tape"))
    for mixer, wanted in ((mixed, {"gramophone", "tape", "film", "hum"}), (discs, {"gramophone"}),
                          (tape, {"tape"})):
        assert {mixer.item(index).noise.split()[0] for index in range(40)} == wanted
    test = Mixer(dset, "test", 0.3, carrier=CarrierConfig(kind="tape"))
    assert {test.evaluation_item(index).noise for index in range(12)} == {"tape generated"}


def test_mixtures_share_reels_of_generated_noise_in_any_order(dset):
    dset = replace(dset, share_generated=1.0, share_following=0.0, share_clean=0.0,
                   noise_db_spread=0.0)
    far = 60 * dataset_loader.REEL_ITEMS

    def make():
        return Mixer(dset, "train", 0.3, carrier=CarrierConfig(kind="film"))

    def noise(mixer, index):
        item = mixer.item(index)
        return (item.noisy - item.clean).astype(np.float64)

    mixer = make()
    first = [noise(mixer, index) for index in range(40)]
    reels = {number: reel.copy() for (_, number), reel in mixer.reels.items()}
    assert sorted(reels) == list(range(dataset_loader.REELS))

    def similarity(reel, one):
        found = scipy.signal.correlate(reel, one, "valid", "fft")
        total = np.concatenate([[0.0], np.cumsum(reel.astype(np.float64)**2)])
        energy = total[len(one):] - total[:-len(one)]
        return np.max(found / np.sqrt(energy * np.sum(one**2)))

    for one in first:  # each is a stretch of one of the reels, at some level
        assert max(similarity(reel, one) for reel in reels.values()) > 0.999
    starts = {float(one[0] / np.abs(one).max()) for one in first}
    assert len(starts) == len(first)
    for index in range(0, far, dataset_loader.REEL_ITEMS):  # the first ones are long forgotten
        mixer.item(index)
    assert len(mixer.reels) <= dataset_loader.REELS * len(KINDS) + 1
    assert ("film", 0) not in mixer.reels
    for index in (7, far + 3, 39):
        np.testing.assert_array_equal(mixer.item(index).noisy, make().item(index).noisy)


def test_recorded_noise_is_heard_at_other_speeds(tmp_path):
    for number in range(10):
        write_tone(tmp_path / f"music/tune{number}.flac", 5000, 3.0)
    write_tone(tmp_path / "noise/hum/mains.wav", 100, 3.0)
    dset = DsetConfig(path_music=[str(tmp_path / "music")], path_noise=[str(tmp_path / "noise")],
                      noise_speed=[0.5, 2.0])
    mixer = Mixer(dset, "train", 1.0)
    peaks = []
    for index in range(40):
        item = mixer.item(index)
        noise = np.abs(np.fft.rfft(item.noisy - item.clean))
        peaks.append(float(np.argmax(noise)))  # one bin is 1 Hz
    assert 49 <= min(peaks) < 80 and 130 < max(peaks) <= 202


def test_unknown_split_is_refused(dset):
    with pytest.raises(ValueError, match="split"):
        Mixer(dset, "holdout", 1.0)
