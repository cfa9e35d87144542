"""Drawing and mixing, on small files made here."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from small_corpus import spectrum_db, tunes_and_noise, write_noise, write_tone

from dataset_loader import Mixer
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.core.checks import UserError
from historical_denoiser.data import audio_index, feeding, recordings
from historical_denoiser.data.audio_index import Clip, find_clips
from historical_denoiser.data.settings import DsetConfig, MixConfig
from historical_denoiser.data.sources import choose_by_name
from historical_denoiser.noise.carriers import KINDS, CarrierConfig, PartShares
from historical_denoiser.training.metrics import snr_db

STEADY = CarrierConfig(moving_share=0.0, fluctuating_share=0.0)


def train_items(dset, count, seconds=0.3, **more):
    """Returns the first training mixtures."""
    return list(map(Mixer(dset, "train", seconds, **more).item, range(count)))


def fixed_items(mixer, count):
    """Returns the first fixed mixtures."""
    return list(map(mixer.evaluation_item, range(count)))


def test_noise_of_which_nothing_is_held_out_is_named_and_generated_for_validation(dset):
    mixer = Mixer(dset, "test", 0.5)
    assert mixer.noise.missing == ["tape"] and "tape noise none" in mixer.describe()
    assert {item.noise for item in fixed_items(mixer, 18)} == {"gramophone album0"}
    noises = {item.noise for item in fixed_items(Mixer(dset, "validation", 0.5), 18)}
    assert len(noises) == 2 and "tape generated" in noises
    with pytest.raises(UserError, match="must hold noise for test: no recording is held out"):
        Mixer(dset, "test", 0.5, carrier=CarrierConfig(kind="tape"))


def test_each_recording_that_tests_has_mixtures_of_its_own(dset, folders):
    for number in range(3):
        write_tone(folders / f"rigs/hum{number}.wav", 100.0 * (1 + number), 1.0)
    dset = replace(dset, path_noise_test=[str(folders / "rigs")])
    for index, item in enumerate(fixed_items(Mixer(dset, "test", 1.0), 27)):
        number = index // 9
        assert item.noise == f"rigs hum{number}"
        spectrum = np.abs(np.fft.rfft(item.noisy - item.clean))
        assert np.argmax(spectrum) == pytest.approx(100 * (1 + number), abs=2)  # one bin is 1 Hz
    assert not {"rigs"} & set(Mixer(dset, "train", 1.0).noise.recordings)


@pytest.mark.parametrize("highpass_hz", [0.0, 20.0])
def test_snr_is_that_above_the_snr_highpass(tmp_path, highpass_hz):
    times = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(times))
    for split in ("train", "test"):
        (tmp_path / "noise" / split).mkdir(parents=True)
        soundfile.write(tmp_path / f"noise/{split}/warped.wav",
                        noise + 0.03 * np.sin(2.0 * np.pi * 4.0 * times), SAMPLE_RATE)
        write_tone(tmp_path / f"music/{split}/tune.wav", 440.0, 3.0)
    dset = tunes_and_noise(tmp_path)
    for item in (Mixer(dset, "train", 2.0, highpass_hz=highpass_hz).item(0),
                 Mixer(dset, "test", 2.0).evaluation_item(1)):
        noisy, clean = (dsp.highpass(audio, 20.0, SAMPLE_RATE)
                        for audio in (item.noisy, item.clean))
        assert snr_db(clean, noisy) == pytest.approx(item.snr_db, abs=0.1)
        assert snr_db(item.clean, item.noisy) < item.snr_db - 5.0 or highpass_hz
    whole = Mixer(replace(dset, snr_highpass_hz=0.0), "test", 2.0).evaluation_item(1)
    assert snr_db(whole.clean, whole.noisy) == pytest.approx(whole.snr_db, abs=0.01)


def test_probes_hear_the_same_clean_sounds_on_every_run(dset):
    one, other = (Mixer(dset, "validation", 0.5, seed=seed).probe_sounds(4, 0.3) for seed in (1, 2))
    assert [category for category, _ in one] == ["music", "speech", "music", "speech"]
    for (_, sound), (_, same) in zip(one, other, strict=True):
        assert sound.shape == (round(0.3 * SAMPLE_RATE),)
        np.testing.assert_array_equal(sound, same)
    assert np.any(one[0][1] != one[2][1])
    dset.path_speech = dset.path_music = []
    assert Mixer(dset, "validation", 0.5).probe_sounds(1, 0.3)[0][0] == "effects"


@pytest.mark.parametrize("snr", [2.0, 17.5])
def test_mixtures_have_the_drawn_snr_and_level(dset, snr):
    loud, plain = (Mixer(replace(dset, snr_db=[snr, snr], level_db=[level, level]), "train", 1.0,
                         seed=3).item(5) for level in (-6.0, 0.0))
    assert snr_db(loud.clean, loud.noisy) == pytest.approx(snr, abs=0.01)
    np.testing.assert_allclose(loud.noisy, plain.noisy * 10.0 ** (-6.0 / 20.0), rtol=1e-5)
    np.testing.assert_allclose(loud.clean, plain.clean * 10.0 ** (-6.0 / 20.0), rtol=1e-5)


def test_snr_is_uniform_in_decibels(dset):
    drawn = np.array([item.snr_db for item in train_items(dset, 300, 0.05)])
    counts, _ = np.histogram(drawn, bins=6, range=(2.0, 20.0))
    assert drawn.min() >= 2.0 and drawn.max() <= 20.0 and counts.min() > 25


def test_shares_of_the_categories(dset):
    drawn = [item.category for item in train_items(dset, 400, 0.05)]
    assert [round(drawn.count(name) / 400, 1) for name in ("speech", "effects", "music")] == [
        0.6, 0.2, 0.2]
    dset.mix = MixConfig(0.6, 0.0, 0.2)
    for split in ("train", "test"):  # without a share, it is not judged on either
        assert Mixer(dset, split, 0.05).categories == ["speech", "music"]
    assert Mixer(dset, "train", 0.05).clean.shares == pytest.approx([0.75, 0.25])
    dset.mix, dset.path_effects = MixConfig(), []
    assert Mixer(dset, "train", 0.05).clean.shares == pytest.approx([0.75, 0.25])
    dset.mix = MixConfig(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="dset.mix"):
        Mixer(dset, "train", 0.05)


def test_shares_of_clean_and_of_silent_items(dset):
    (clean,) = train_items(replace(dset, share_clean=1.0), 1)
    np.testing.assert_array_equal(clean.noisy, clean.clean)
    (silent,) = train_items(replace(dset, share_silent=1.0, reference_dbfs=-20.0,
                                    level_db=[0.0, 0.0]), 1)
    assert not silent.clean.any() and silent.snr_db == float("-inf")
    assert 10.0 * np.log10(dsp.power(silent.noisy)) == pytest.approx(-20.0, abs=0.01)
    drawn = [item.snr_db for item in train_items(replace(
        dset, share_silent=0.3, share_clean=0.2), 300, 0.05)]
    assert 60 < drawn.count(float("-inf")) < 120 and 35 < drawn.count(float("inf")) < 85


def test_unreadable_and_silent_files_are_skipped_and_counted(folders, dset, caplog):
    (folders / "speech/talker1/broken.wav").write_bytes(b"RIFF nothing more")
    soundfile.write(folders / "speech/talker2/empty.wav", np.zeros((0, 1)), SAMPLE_RATE)
    with caplog.at_level("WARNING"):
        clips = audio_index.find_clips(dset)
    assert len(clips) == 40
    assert "talker1/broken.wav (Format" in caplog.text
    assert "talker2/empty.wav (it is empty)" in caplog.text
    for path in (folders / "music").glob("*.flac"):
        soundfile.write(path, np.zeros(3 * SAMPLE_RATE), SAMPLE_RATE)
    dset.mix = MixConfig(0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="audible music"):
        Mixer(dset, "train", 0.5).item(0)


def test_silent_and_broken_noise_is_skipped_and_counted(folders, dset, caplog):
    tape = folders / "noise/tape"
    soundfile.write(tape / "silent.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(tape / "empty.wav", np.zeros((0, 1)), SAMPLE_RATE)
    soundfile.write(tape / "infinite.wav", np.full(SAMPLE_RATE, np.inf), SAMPLE_RATE, "FLOAT")
    (tape / "broken.wav").write_bytes(b"RIFF nothing more")
    mixer = Mixer(dset, "train", 0.3, carrier=CarrierConfig(kind="tape"))
    mixer.noise.recordings["tape"] = [found for found in audio_index.find_noise(dset)
                                      if found.category == "tape"]
    assert all(np.ptp(item.noisy - item.clean) > 0.0 for item in map(mixer.item, range(20)))
    assert mixer.skipped["silent noise"] > 0
    for name in ("broken", "empty", "infinite"):
        assert mixer.skipped[str(tape / f"{name}.wav")] > 0
        assert caplog.text.count(f"{name}.wav cannot be read") == 1
    (tape / "hiss.wav").unlink()
    recordings._read_block.cache_clear()
    recordings.read_seconds.cache_clear()
    with pytest.raises(ValueError, match="audible tape noise"):
        mixer.item(0)


def test_validation_is_the_same_on_every_run_and_training_follows_its_seed(dset):
    one, other = (Mixer(dset, "validation", 0.5, seed=seed) for seed in (1, 2))
    for index in range(3):  # speech, effects, music
        np.testing.assert_array_equal(one.evaluation_item(index).noisy,
                                      other.evaluation_item(index).noisy)
    first, same, another = (Mixer(dset, "train", 0.5, seed).item(7).noisy for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.any(first != another)
    assert np.any(first != Mixer(dset, "train", 0.5, 1).item(8).noisy)


def test_a_file_that_goes_changes_only_the_fixed_mixtures_that_hold_it(dset, tmp_path):
    for number in range(6):
        for split in ("train", "test"):
            write_noise(tmp_path / f"clean/{split}/{number}.wav", 1.0 + number, number)
    dset = replace(dset, path_speech=[], path_effects=[], path_music=[str(tmp_path / "clean")])
    before = fixed_items(Mixer(dset, "test", 0.5), 24)
    (tmp_path / "clean/test/4.wav").unlink()
    after = fixed_items(Mixer(dset, "test", 0.5), 24)
    same = sum(np.array_equal(one.clean, other.clean)
               for one, other in zip(before, after, strict=True))
    assert 12 <= same < 24  # the file was 5 of 21 s


def test_clips_are_chosen_by_their_weight_and_two_of_one_name_both():
    clips = [Clip(Path("a"), "music", "a", "test", 1.0, name=name) for name in ("0", "1", "2")]
    chosen = Counter(choose_by_name(clips, np.array([1.0, 2.0, 5.0]), number.to_bytes(4, "big")
                                    ).name for number in range(4000))
    for name, share in zip("012", (0.125, 0.25, 0.625), strict=True):
        assert chosen[name] / 4000 == pytest.approx(share, abs=0.03)


def test_files_of_one_name_in_two_folders_have_names_of_their_own(tmp_path):
    for folder in ("one", "two"):
        write_noise(tmp_path / folder / "test/01.wav")
    clips = find_clips(DsetConfig(path_music=[str(tmp_path / "one"), str(tmp_path / "two")]))
    assert [clip.name for clip in clips] == ["test/01.wav#0", "test/01.wav#1"]


def test_old_recording_conditions_are_on_both_sides_and_only_in_training(dset):
    def train_and_validation(dset):
        return (Mixer(dset, "train", 0.5, seed=1).item(3),
                Mixer(dset, "validation", 0.5).evaluation_item(3))

    plain = train_and_validation(dset)
    for name in ("share_bass", "share_horn", "share_saturated", "share_band_limited"):
        train, validation = train_and_validation(replace(dset, **{name: 1.0}))
        assert np.abs(train.clean - plain[0].clean).max() > 1e-4, name
        # What was changed is the signal, not the noise on it.
        assert snr_db(train.clean, train.noisy) == pytest.approx(train.snr_db, abs=0.01)
        np.testing.assert_array_equal(validation.clean, plain[1].clean)


def test_clean_audio_varies_in_training_only(tmp_path):
    for split in ("train", "validation"):
        write_tone(tmp_path / f"music/{split}/tune.wav", 440.0, 8.0)
        write_noise(tmp_path / f"noise/{split}/hiss.wav")
    dset = tunes_and_noise(tmp_path, clean_speed=[0.5, 2.0], clean_db_spread=3.0,
                           share_layered=0.5)
    pitches = []
    for item in train_items(dset, 24, seconds=1.0, carrier=STEADY):
        spectrum = np.abs(np.fft.rfft(item.clean * np.hanning(len(item.clean))))
        peaks = scipy.signal.find_peaks(spectrum, height=0.05 * spectrum.max(), distance=5)[0]
        assert 1 <= len(peaks) <= 2  # one tone, or a second under it
        pitches.append(peaks)
        assert snr_db(item.clean, item.noisy) == pytest.approx(item.snr_db, abs=0.01)
    everything = np.concatenate(pitches)
    assert 220 <= everything.min() < 300 and 700 < everything.max() <= 880
    assert 6 <= sum(len(peaks) == 2 for peaks in pitches) <= 18
    validation = Mixer(dset, "validation", 1.0).evaluation_item(0)
    assert np.argmax(np.abs(np.fft.rfft(validation.clean))) == 440


def test_training_has_the_highpass_of_inference(dset):
    whole, heard = (Mixer(dset, "train", 1.0, carrier=STEADY, highpass_hz=hz).item(0)
                    for hz in (0.0, 600.0))
    assert spectrum_db(heard.clean, 300.0) < spectrum_db(whole.clean, 300.0) - 30.0
    low, high = spectrum_db(whole.noisy - whole.clean, 300.0, 9000.0)
    assert abs(low - high) < 3.0  # it was white
    low, high = spectrum_db(heard.noisy - heard.clean, 300.0, 9000.0)
    assert low < high - 30.0


def test_fixed_mixtures_have_the_wanted_snrs(dset):
    dset.evaluation_snrs_db = [10.0, 17.5]
    mixer = Mixer(dset, "validation", 0.3)
    items = fixed_items(mixer, 12)
    assert [item.snr_db for item in items] == 2 * (3 * [10.0] + 3 * [17.5])
    for item in items:
        noise = dsp.highpass(item.noisy - item.clean, 20.0, SAMPLE_RATE, wrap=True)
        assert snr_db(item.clean, item.clean + noise) == pytest.approx(item.snr_db, abs=0.01)
    assert mixer.evaluation_grid(3) == (["speech", "effects", "music"], [10.0])
    assert mixer.evaluation_grid(36)[1] == [10.0, 17.5]
    assert len({item.noisy.tobytes() for item in items}) == 12


def test_where_no_clean_audio_is_held_out_training_clips_are_measured(tmp_path, caplog):
    write_tone(tmp_path / "music/train/tune.wav", seconds=0.5)
    dset = DsetConfig(path_music=[str(tmp_path / "music")])
    mixer = Mixer(dset, "validation", 0.3)
    assert mixer.evaluation_item(0).category == "music"
    assert "validation: no clean audio is held out" in caplog.text
    assert "clips of training" in mixer.describe()
    write_tone(tmp_path / "music/validation/tune.wav", seconds=0.5)
    held_out = Mixer(dset, "validation", 0.3)
    assert [clip.split for clip in held_out.clean.clips["music"]] == ["validation"]
    assert "clips of training" not in held_out.describe()


def test_what_cannot_be_trained_on_is_named(tmp_path, caplog):
    write_tone(tmp_path / "music/train/tune.wav", seconds=0.5)
    write_tone(tmp_path / "noise/mains/test/hum.wav", seconds=0.5)
    dset = tunes_and_noise(tmp_path)
    Mixer(dset, "train", 0.3)
    assert "every recording of the noise category mains is held out" in caplog.text
    (tmp_path / "music/train").rename(tmp_path / "music/test")
    with pytest.raises(UserError, match="`dset` must hold clean audio for train"):
        Mixer(dset, "train", 0.3)


def test_only_the_wanted_noise_is_mixed(dset):
    for kind, wanted in (("mixed", {"gramophone", "tape", "film", "hum", "moving"}),
                         ("gramophone", {"gramophone"}), ("tape", {"tape"})):
        items = train_items(replace(dset, share_generated=0.5), 40,
                            carrier=CarrierConfig(kind=kind))
        assert {item.noise.split()[0] for item in items} == wanted
    tape = Mixer(dset, "validation", 0.3, carrier=CarrierConfig(kind="tape"))
    assert {item.noise for item in fixed_items(tape, 12)} == {"tape generated"}


def test_every_mixture_has_noise_of_its_own(dset):
    dset = replace(dset, share_generated=1.0, share_clean=0.0)
    for carrier in (CarrierConfig(kind="film"), CarrierConfig(moving_share=1.0)):
        noises = [item.noisy - item.clean for item in train_items(dset, 6, carrier=carrier)]
        for one, other in itertools.combinations(noises, 2):
            found = scipy.signal.correlate(one, other, "full", "fft")
            assert np.abs(found).max() < 0.7 * np.sqrt(np.sum(one**2) * np.sum(other**2))


def test_shares_of_noise_that_moves(dset):
    dset = replace(dset, share_generated=0.5)

    def draw(count, **shares):
        return train_items(dset, count, carrier=CarrierConfig(**shares))

    def count_moving(**shares):
        return sum(item.noise == "moving generated" for item in draw(60, **shares))

    assert 8 <= count_moving(moving_share=0.6) <= 28
    assert count_moving(moving_share=0.0) == count_moving(moving_share=0.6, kind="film") == 0
    dset = replace(dset, share_following=1.0)
    for kind in ("mixed", "film"):  # also if the noise follows the signal
        still, moves = (draw(4, kind=kind, moving_share=0.0, fluctuating_share=share)[3]
                        for share in (0.0, 1.0))
        assert still.noise == moves.noise and not np.array_equal(still.noisy, moves.noisy)
        np.testing.assert_allclose(still.clean / np.std(still.clean),
                                   moves.clean / np.std(moves.clean), rtol=1e-4)


def test_noise_fluctuates_in_a_third_of_the_validation_and_in_none_of_the_test(dset, monkeypatch):
    def items(split):
        return fixed_items(Mixer(dset, split, 0.5), 18)

    moving, tested = items("validation"), items("test")
    monkeypatch.setattr("dataset_loader.fluctuate", lambda noise, rng, cfg: noise)
    counts = Counter()
    for item, still in zip(moving, items("validation"), strict=True):
        if not np.array_equal(item.noisy, still.noisy):
            counts.update([item.category, item.snr_db, item.noise])
    assert counts == {"speech": 2, "effects": 2, "music": 2, 3.0: 2, 10.0: 2, 20.0: 2,
                      moving[0].noise: 3, moving[-1].noise: 3}
    for item, same in zip(tested, items("test"), strict=True):
        np.testing.assert_array_equal(item.noisy, same.noisy)


def test_print_through_is_added_to_noise_of_tape_at_a_level_below_the_programme(dset):
    dset = replace(dset, share_generated=1.0, snr_db=[50.0, 50.0])
    for kind, has_prints in (("tape", True), ("film", False)):
        printed, plain = (train_items(replace(dset, share_printed=share), 4,
                                      carrier=CarrierConfig(kind)) for share in (1.0, 0.0))
        for item, other in zip(printed, plain, strict=True):
            np.testing.assert_array_equal(item.clean, other.clean)
            echo = item.noisy - other.noisy
            assert echo.any() == has_prints
            assert dsp.decibels(dsp.power(echo) / dsp.power(item.clean) + 1e-9) < -26.0


def test_coded_mixtures_keep_step_with_their_target(dset):
    coded, plain = (train_items(replace(dset, share_coded=share, snr_db=[40.0, 40.0]), 6, 1.0)
                    for share in (1.0, 0.0))
    for one, other in zip(coded, plain, strict=True):
        found = scipy.signal.correlate(one.noisy, one.clean, "full", "fft")
        assert np.argmax(found) == len(one.clean) - 1
        assert not np.array_equal(one.noisy, other.noisy)


def test_no_stretch_of_rare_thumps_is_silent(dset):
    shares = PartShares(**dict.fromkeys(vars(PartShares()), 0.0) | {"thumps": 1.0})
    thumps = CarrierConfig(alone_share=1.0, dominant_share=0.0, part_shares=shares)
    for item in train_items(replace(dset, share_generated=1.0), 30, carrier=thumps):
        assert np.ptp(item.noisy - item.clean) > 0.0


def test_parts_stand_alone_in_training_only(dset):
    for split, share in (("train", 0.3), ("validation", 0.0), ("test", 0.0)):
        assert Mixer(dset, split, 0.3).noise.carrier.alone_share == share


def test_the_balance_of_recorded_noise_changes_in_training_only(folders, dset):
    hiss = 0.01 * np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE)
    hiss[::4000] += 1.0
    ticks = folders / "ticks.wav"
    soundfile.write(ticks, hiss, SAMPLE_RATE)

    def draw(split, spread_db):
        mixer = Mixer(replace(dset, noise_balance_db=spread_db), split, 0.3)
        (one, *_) = mixer.noise.recordings["gramophone"]
        mixer.noise.recordings["tape"] = [replace(one, files=(ticks,), category="tape")]
        return mixer.noise.draw_recorded("tape", np.random.default_rng(2))

    assert np.abs(draw("train", 12.0) - draw("train", 0.0)).max() > 0.05
    np.testing.assert_array_equal(draw("train", 12.0), draw("train", 12.0))
    np.testing.assert_array_equal(draw("validation", 12.0), draw("validation", 0.0))


def test_recorded_noise_is_played_at_other_speeds(tmp_path):
    for number in range(10):
        write_tone(tmp_path / f"music/tune{number}.flac", 5000, 3.0)
    write_tone(tmp_path / "noise/hum/mains.wav", 100, 3.0)
    items = train_items(tunes_and_noise(tmp_path, noise_speed=[0.5, 2.0]), 40, 1.0)
    peaks_hz = [np.argmax(np.abs(np.fft.rfft(item.noisy - item.clean))) for item in items]
    assert 49 <= min(peaks_hz) < 80 and 130 < max(peaks_hz) <= 202


# ---- profiles of the noise ----

FORM = ProfileForm(StftConfig(512, 128), 0.3)


def loudest_hz(audio):
    """Returns the frequency at which a waveform has most of its energy."""
    return np.argmax(np.abs(np.fft.rfft(audio * np.hanning(len(audio))))) * SAMPLE_RATE / len(audio)


@pytest.fixture
def hums(folders, dset):
    """Noise with a pitch, long enough for a profile from another section of it."""
    for number in range(6):
        write_tone(folders / f"hums/train/hum{number}.wav", 500.0 * (1 + number), 8.0)
    write_tone(folders / "hums/validation/hum.wav", 300.0, 8.0)
    return replace(dset, path_noise=[str(folders / "hums")], level_db=[0.0, 0.0])


@pytest.mark.parametrize("speed", [1.0, 1.3])
def test_a_profile_is_another_stretch_of_the_same_noise_at_its_gain(hums, speed):
    hums = replace(hums, share_profile=1.0, noise_speed=[speed, speed])
    profiled, blind = (train_items(hums, 12, 0.5, carrier=STEADY, highpass_hz=20.0,
                                   profile_form=form) for form in (FORM, None))
    for item, plain in zip(profiled, blind, strict=True):
        noise = item.noisy - item.clean
        assert loudest_hz(item.profile) == pytest.approx(loudest_hz(noise), abs=4.0)
        assert dsp.power(item.profile) == pytest.approx(dsp.power(noise), rel=0.1)
        assert snr_db(item.clean, item.noisy) == pytest.approx(item.snr_db, abs=0.1)
        if speed == 1.0:  # all else is as without profiles
            np.testing.assert_array_equal(item.clean, plain.clean)
            assert item.snr_db == plain.snr_db and plain.profile is None
    seconds = [len(item.profile) / SAMPLE_RATE for item in profiled]
    assert 0.5 <= min(seconds) < 1.0 < 1.5 < max(seconds) <= 2.0


def test_a_share_of_the_items_has_a_profile_and_clean_ones_have_none(hums):
    items = train_items(hums, 200, 0.05, profile_form=FORM)
    known = [item.profile is not None for item in items]
    assert 0.4 < np.mean(known) < 0.6  # three standard deviations
    (clean,) = train_items(replace(hums, share_clean=1.0, share_profile=1.0), 1, profile_form=FORM)
    assert clean.profile is None
    mixer = Mixer(hums, "train", 0.05, profile_form=FORM)
    noisy, target, profiles = feeding.make_batch(mixer, 0, 40)
    assert noisy.shape == target.shape and profiles.shape == (40, 1, 257, 2)
    np.testing.assert_array_equal(profiles.any(axis=(1, 2, 3)), known[:40])
    assert len(feeding.make_batch(Mixer(hums, "train", 0.05), 0, 2)) == 2


def test_a_share_of_the_items_needs_an_estimate_of_the_network(hums):
    dset = replace(hums, share_profile=0.3, share_heard=0.5)
    items = train_items(dset, 200, 0.05, profile_form=FORM)
    assert 0.4 < np.mean([item.needs_estimate for item in items]) < 0.6
    assert not any(item.needs_estimate and item.profile is not None for item in items)
    assert any(not item.needs_estimate and item.profile is None for item in items)
    *_, profiles = feeding.make_batch(Mixer(dset, "train", 0.05, profile_form=FORM), 0, 40)
    np.testing.assert_array_equal((profiles < 0.0).all(axis=(1, 2, 3)),
                                  [item.needs_estimate for item in items[:40]])
    assert (profiles[profiles < 0.0] == -1.0).all()
    with pytest.raises(UserError, match="at most 1 together with `dset.share_profile`"):
        replace(hums, share_profile=0.6, share_heard=0.5)


def test_processes_make_the_same_mixtures(hums, folders):
    mixer = Mixer(replace(hums, cache_items=4, path_cache=str(folders / "cache"),
                          share_generated=0.5), "train", 0.3, seed=2, profile_form=FORM)
    for step, batch in enumerate(feeding.numpy_batches(mixer, 2, 0, 4, workers=2)):
        for made, same in zip(batch, feeding.make_batch(mixer, step, 2), strict=True):
            np.testing.assert_array_equal(made, same)


@pytest.mark.parametrize("kind", KINDS)
def test_generated_noise_has_a_profile_of_the_same_carrier(dset, kind):
    mixer = Mixer(replace(dset, share_generated=1.0, share_profile=1.0, share_following=0.5),
                  "train", 1.0, highpass_hz=20.0, profile_form=FORM,
                  carrier=CarrierConfig(kind=kind, alone_share=0.0, dominant_share=0.0))
    items = [mixer.item(index) for index in range(0, 2560, 256)]  # each from reels of its own
    profiles, noises = (np.log([FORM.measure(audio)[0, 4:, 0] for audio in found]) for found in (
        [item.profile for item in items], [item.noisy - item.clean for item in items]))
    distances = np.abs(profiles[:, None] - noises).mean(axis=-1)
    is_own = np.eye(len(items), dtype=bool)
    assert np.median(distances[is_own]) < 0.5 * np.median(distances[~is_own])


def test_some_profiles_hold_a_little_of_the_signal(hums):
    items = train_items(replace(hums, share_profile=1.0, snr_db=[60.0, 60.0]), 40, 1.0,
                        profile_form=FORM)
    ratios = [dsp.decibels(dsp.power(item.profile) / dsp.power(item.clean)) for item in items]
    leaking = [ratio for ratio in ratios if ratio > -55.0]
    assert 3 <= len(leaking) <= 20 and max(leaking) < -25.0


def test_fixed_mixtures_are_the_same_with_profiles(hums):
    profiled, blind = (fixed_items(Mixer(hums, "validation", 0.5, profile_form=form), 3)
                      for form in (FORM, None))
    for item, plain in zip(profiled, blind, strict=True):
        np.testing.assert_array_equal(item.noisy, plain.noisy)
        assert len(item.profile) == 1.5 * SAMPLE_RATE and plain.profile is None
    for item in profiled[1:]:  # the noise of the first fluctuates
        assert dsp.power(item.profile) == pytest.approx(dsp.power(item.noisy - item.clean),
                                                        rel=0.01)


def test_cached_pairs_keep_their_profiles(hums, tmp_path):
    cached = replace(hums, cache_items=6, path_cache=str(tmp_path / "cache"), share_profile=1.0)
    mixer = Mixer(cached, "train", 0.5, profile_form=FORM)
    for item in map(mixer.item, [*range(8), *range(8)]):  # made, then read
        assert loudest_hz(item.profile) == pytest.approx(loudest_hz(item.noisy - item.clean),
                                                         abs=4.0)
    assert mixer.cache.folder != Mixer(cached, "train", 0.5).cache.folder
