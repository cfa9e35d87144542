"""Reading, mixing and feeding, on small files made here."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import scipy.signal
import soundfile
from small_corpus import ROOT, write_tone

import dataset_loader
from dataset_loader import Mixer
from denoiser.audio import dsp
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.data import audio_index, feeding
from denoiser.data.settings import DsetConfig, MixConfig
from denoiser.noise.carriers import KINDS, CarrierConfig


def test_scarce_noise_trains_only_and_is_generated_for_tests(dset):
    mixer = Mixer(dset, "test", 0.5)
    assert mixer.train_only == ["tape"]
    noises = {mixer.evaluation_item(index).noise for index in range(18)}
    assert noises == {"gramophone recorded", "tape generated"}


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
        clips = audio_index.find_clips(dset)
    assert len(clips) == 40
    assert "speaker1/broken.wav (cannot be read)" in caplog.text
    assert "speaker2/empty.wav (empty)" in caplog.text
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
    mixer.noise["tape"] = [found for found in audio_index.find_noise(dset)
                           if found.category == "tape"]
    items = [mixer.item(index) for index in range(20)]
    assert all(np.ptp(item.noisy - item.clean) > 0.0 for item in items)
    assert mixer.skipped["silent noise"] > 0 and mixer.skipped[str(tape / "broken.wav")] > 0
    assert caplog.text.count("broken.wav cannot be read") == 1
    (tape / "hiss.wav").unlink()
    dataset_loader._read_noise.cache_clear()
    dataset_loader._count_blocks.cache_clear()
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
    alone = list(feeding.numpy_batches(mixer, 2, 0, 9))
    assert len(alone) == 9 and alone[0][0].shape == (2, mixer.samples)
    together = list(feeding.numpy_batches(mixer, 2, 0, 9, workers=2))
    tf_fed = list(feeding.tf_batches(mixer, 2, 6, 9, workers=2).as_numpy_iterator())
    shared = list(feeding.numpy_batches(mixer, 2, 4, 9, 2, share=slice(1, 2)))
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(tf_fed, alone[6:])
    np.testing.assert_array_equal(shared, np.array(alone)[4:, :, 1:2])


def test_batches_of_processes_stay_as_they_are_while_someone_holds_them(dset):
    mixer = Mixer(dset, "train", 0.3)
    batches = feeding.numpy_batches(mixer, 2, 0, 40, workers=2)
    _, held = next(batches)
    kept = held.copy()
    for _ in range(20):  # more than there are slots
        noisy, clean = next(batches)
    np.testing.assert_array_equal(held, kept)
    np.testing.assert_array_equal((noisy, clean), feeding.make_batch(mixer, 20, 2))
    batches.close()
    assert not multiprocessing.active_children()


def test_processes_report_what_they_skip_and_what_stops_them(folders, dset):
    dset.mix = MixConfig(0.0, 0.0, 1.0)
    mixer = Mixer(dset, "train", 0.3, seed=2)
    silenced = mixer.clips["music"][0].path
    soundfile.write(silenced, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    list(feeding.numpy_batches(mixer, 2, 0, 20))
    expected, mixer.skipped = mixer.skipped, Counter()
    list(feeding.numpy_batches(mixer, 2, 0, 20, workers=2))
    assert mixer.skipped == expected and expected["silent"] > 0
    for clip in mixer.clips["music"]:
        soundfile.write(clip.path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(ValueError, match="audible music"):
        list(feeding.numpy_batches(mixer, 2, 0, 20, workers=2))
    assert not multiprocessing.active_children()


def test_a_killed_process_is_told_in_a_line(dset):
    batches = feeding.numpy_batches(Mixer(dset, "train", 0.3), 2, 0, 200, workers=2)
    next(batches)
    multiprocessing.active_children()[0].kill()
    with pytest.raises(OSError, match="was killed.*loader_workers"):
        list(batches)


FEED = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
sys.path.insert(0, sys.argv[1])
from config import DsetConfig
from dataset_loader import Mixer
from denoiser.data.feeding import numpy_batches
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


def test_long_noise_is_heard_from_beginning_to_end(folders, dset, monkeypatch):
    monkeypatch.setattr(dataset_loader, "NOISE_BLOCK_SECONDS", 1.0)
    for path in (folders / "noise/gramophone").iterdir():
        path.unlink()
    levels = np.repeat([0.001, 0.01, 0.1], SAMPLE_RATE)
    soundfile.write(folders / "noise/tape/hiss.wav",
                    levels * np.random.default_rng(0).standard_normal(len(levels)), SAMPLE_RATE)
    mixer = Mixer(dset, "train", 0.2)
    drawn = [dsp.power(mixer._draw_noise("tape", False, None, False, np.random.default_rng(seed)))
             for seed in range(30)]
    loud, middle, quiet = (sum(low < power < high for power in drawn)
                           for low, high in ((5e-3, 1.0), (5e-5, 5e-4), (0.0, 5e-6)))
    assert loud > 3 and middle > 3 and quiet > 3 and loud + middle + quiet == 30


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
