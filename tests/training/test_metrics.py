"""Measures on signals whose values are known."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.training import metrics


@pytest.fixture
def clean():
    return np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)


@pytest.fixture
def noise():
    return np.random.default_rng(0).standard_normal(44100).astype(np.float32)


@pytest.fixture
def mix(clean, noise):
    """Returns a function that makes mixtures with given input SNRs of given categories."""
    def make(*snrs_db, categories=("music", "music", "music")):
        return [Mixture(dsp.mix_at_snr(clean, noise, snr), clean, category, "none", snr)
                for category, snr in zip(categories, snrs_db, strict=False)]

    return make


def means_of(predict, mixtures):
    return metrics.average(metrics.judge_mixtures(predict, mixtures))


def test_snr_and_si_sdr(clean, noise):
    noisy = dsp.mix_at_snr(clean, noise, 10.0)
    assert metrics.snr_db(clean, noisy) == pytest.approx(10.0, abs=1e-3)
    assert metrics.si_sdr_db(clean, noisy) == pytest.approx(10.0, abs=0.2)
    # A change of gain is an error for the one and not for the other.
    assert metrics.si_sdr_db(clean, 0.5 * noisy) == pytest.approx(
        metrics.si_sdr_db(clean, noisy), abs=1e-3)
    assert metrics.snr_db(clean, 0.5 * clean) == pytest.approx(6.02, abs=0.01)


def test_segmental_snr_is_the_mean_over_limited_segments(clean, noise):
    half = len(clean) // 2 // metrics.SEGMENT_SAMPLES * metrics.SEGMENT_SAMPLES
    for first, second, wanted in ((5.0, 25.0, 15.0), (-40.0, 60.0, 12.5)):
        scale = dsp.to_gain(np.where(np.arange(len(clean)) < half, -first, -second))
        noisy = clean + scale * noise * np.std(clean) / np.std(noise)
        # The noise of single segments is a little louder or softer than its mean.
        assert metrics.segmental_snr_db(clean, noisy) == pytest.approx(wanted, abs=0.6)
    assert metrics.segmental_snr_db(clean, np.full_like(clean, np.nan)) == -10.0


def test_silence_and_what_is_no_number_are_the_worst(clean, mix):
    worst = float("-inf")
    for output in (np.full_like(clean, np.nan), np.zeros_like(clean)):
        assert metrics.si_sdr_db(clean, output) == worst
    assert metrics.snr_db(clean, np.full_like(clean, np.nan)) == worst
    assert metrics.snr_db(clean, np.zeros_like(clean)) == pytest.approx(0.0, abs=1e-6)
    for factor, gain in ((np.nan, worst), (0.0, -3.0)):  # silence has an SNR of 0 dB
        means = means_of(lambda audio, by=factor: by * audio, mix(3.0))
        assert means["snr_gain_db"] == pytest.approx(gain, abs=1e-3)
        assert means["si_sdr_db"] == means["clean_si_sdr_db"] == worst
        faults = " ".join(metrics.find_faults(means))
        assert "harm at 3 dB" in faults and "clean input is damaged" in faults
    assert "over-suppression at 3 dB" in faults


def test_what_was_removed_is_compared_with_the_input(clean, noise):
    for snr_db, share in ((3.0, 0.58), (10.0, 0.30), (20.0, 0.10)):
        noisy = dsp.mix_at_snr(clean, noise, snr_db)
        perfect = metrics.judge(clean, noisy, clean)["input_correlation"]
        assert perfect == pytest.approx(share, abs=0.02)
        assert metrics.judge(clean, noisy, 0.1 * noisy)["input_correlation"] > 0.999


def test_log_spectral_distance_of_a_gain_is_that_gain(noise):
    assert metrics.log_spectral_distance_db(noise, noise) == 0.0
    assert metrics.log_spectral_distance_db(noise, 0.5 * noise) == pytest.approx(6.02, abs=0.05)


def test_judging_separates_over_and_under_suppression(clean, noise):
    noisy = dsp.mix_at_snr(clean, noise, 3.0)
    kept = metrics.judge(clean, noisy, noisy)
    assert kept["snr_gain_db"] == 0.0 and kept["residual_correlation"] == 0.0
    gutted = metrics.judge(clean, noisy, 0.1 * noisy)
    assert gutted["energy_db"] < -15.0 and gutted["residual_correlation"] > 0.7
    perfect = metrics.judge(clean, noisy, clean)
    assert perfect["snr_gain_db"] == float("inf") and abs(perfect["residual_correlation"]) < 0.02


def test_mixtures_are_averaged_and_listed_by_category_and_snr(mix):
    mixtures = mix(3.0, 10.0, 3.0, categories=("speech", "music", "music"))
    rows = metrics.judge_mixtures(lambda audio: 0.5 * audio, mixtures)
    means = metrics.average(rows)
    assert len(rows) == 3
    assert means["noise_left_db"] == pytest.approx(-6.02, abs=0.01)
    gains = [row["snr_gain_db"] for row in rows]
    assert means["snr_gain_db_music"] == pytest.approx(np.mean(gains[1:]))
    assert means["snr_gain_db_at_3"] == pytest.approx(np.mean([gains[0], gains[2]]))
    assert means["si_sdr_db_at_10"] == pytest.approx(rows[1]["si_sdr_db"])
    assert means.keys() == set(metrics.average_names(["speech", "music"], [3.0, 10.0]))
    table = metrics.format_table(rows, ("category", "input_snr_db")).splitlines()
    assert [line.split(" | ")[:3] for line in table[2:]] == [
        ["| music", "3", "1"], ["| music", "10", "1"], ["| speech", "3", "1"]]


def test_faults_are_reported_in_words(clean, noise, mix):
    def faults(predict):
        return " ".join(metrics.find_faults(means_of(predict, mix(3.0, 20.0))))

    assert faults(lambda audio: audio).startswith("under-suppression")
    gutted = faults(lambda audio: 0.1 * audio)
    assert "over-suppression at 3 dB" in gutted and "over-suppression at 20 dB" in gutted
    assert "harm at 20 dB" in gutted and "under-suppression" not in gutted
    # Inaudible rumble can be most of the noise: removing it gains SNR, but nothing audible.
    rumble = np.sin(2.0 * np.pi * 6.0 * np.arange(len(clean)) / SAMPLE_RATE).astype(np.float32)
    rumbling = [Mixture(clean + 0.4 * rumble + 0.2 * noise, clean, "music", "none", 3.0)]
    means = means_of(lambda audio: dsp.highpass(audio, 20.0, SAMPLE_RATE), rumbling)
    assert means["snr_gain_db"] > 4.0 and means["noise_left_db"] < -4.0
    (fault,) = metrics.find_faults(means)
    assert fault.startswith("under-suppression at 3 dB")
    # All three of a mixture's sides are the clean one: nothing is left of noise.
    perfect = np.stack([clean, clean, 1e-3 * noise])
    assert faults(lambda audio: perfect) == ""
    assert "clean input is damaged" in faults(lambda audio: audio + 0.5 * noise)


@pytest.mark.parametrize(("name", "better", "worse"), [
    ("snr_gain_db_music", 3.0, 2.0), ("lsd_db", 2.0, 3.0), ("noise_left_db_at_3", -20.0, -3.0),
    ("energy_db", -0.1, 0.5), ("residual_correlation", 0.1, 0.2), ("lsd_gain_db", 3.0, 2.0),
    ("lsd_db", 3.0, float("nan")), ("snr_gain_db", -99.0, float("nan"))])
def test_the_better_value_has_the_greater_score(name, better, worse):
    assert metrics.score(name, better) > metrics.score(name, worse)


def test_what_lies_below_the_highpass_is_not_judged(clean, noise):
    rumble = np.sin(2.0 * np.pi * 5.0 * np.arange(len(clean)) / SAMPLE_RATE).astype(np.float32)
    mixture = Mixture(clean + rumble + 0.2 * noise, clean, "music", "none", 3.0)

    def without_rumble(audio):
        return dsp.highpass(audio, 20.0, SAMPLE_RATE)

    (old,) = metrics.judge_mixtures(without_rumble, [mixture])
    (new,) = metrics.judge_mixtures(without_rumble, [mixture], 20.0)
    assert old["snr_gain_db"] > 8.0 and old["noise_left_db"] < -8.0
    assert new["snr_gain_db"] == pytest.approx(0.0, abs=0.3)
    assert new["noise_left_db"] == pytest.approx(0.0, abs=0.3)
    assert new["si_sdr_db"] == pytest.approx(metrics.si_sdr_db(clean, clean + 0.2 * noise), abs=0.3)


def test_further_measures_join_the_others(mix):
    mixtures = mix(3.0, 3.0, categories=("music", "speech"))
    rows = metrics.judge_mixtures(
        lambda audio: audio, mixtures,
        judge_more=lambda category, clean, made: {"peak": np.ptp(made)} if category == "music"
        else {})
    assert rows[0]["peak"] == np.ptp(mixtures[0].noisy) and "peak" not in rows[1]
    table = metrics.format_table(rows, ("category",), ("peak",)).splitlines()
    assert table[3] == "| speech | 1 | - |"


def test_each_recording_has_a_line_with_its_gain_at_each_snr():
    rows = [{"noise": f"tape {snr}", "input_snr_db": snr, "noise_left_db": -25.0,
             "residual_correlation": 0.05, "snr_gain_db": gain}
            for snr, gains in ((3.0, (4.0, 8.0, 4.0)), (20.0, (4.0, 4.0, 4.0))) for gain in gains]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in metrics.format_noises(rows).splitlines()]
    assert lines[0] == ["noise", "items", "snr_gain_db_at_3", "snr_gain_db_at_20",
                        "noise_left_db", "residual_correlation"]
    assert lines[2:] == [["tape 20.0", "3", "-", "4.00", "-25.00", "0.05"],
                         ["tape 3.0", "3", "5.33", "-", "-25.00", "0.05"]]


def test_noise_alone_is_measured_in_five_bands(noise):
    def halve_low(audio):
        hz = np.fft.rfftfreq(audio.shape[-1], 1.0 / SAMPLE_RATE)
        return np.fft.irfft(np.fft.rfft(audio) * np.where(hz < 631.0, 0.5, 1.0))

    left_db = metrics.noise_left_by_band_db(noise, halve_low(noise))
    assert left_db == pytest.approx([-6.02, -6.02, 0.0, 0.0, 0.0], abs=0.4)
    (row,) = metrics.judge_mixtures(halve_low, [Mixture(2.0 * noise, noise, "music", "x", 0.0)])
    assert [row[name] for name in metrics.BAND_MEASURES] == pytest.approx(left_db, abs=0.1)


def test_a_profile_is_given_with_the_mixture_and_its_noise_but_not_with_clean_sound(clean, noise):
    given = []

    def predict(audio, profile=None):
        given.append((audio[0], profile))
        return 0.5 * audio

    mixture = Mixture(clean + noise, clean, "music", "disc", 10.0, profile=2.0 * noise)
    (row,) = metrics.judge_mixtures(predict, [mixture])
    for (audio, profile), (wanted, is_known) in zip(
            given, ((clean + noise, True), (clean, False), (noise, True)), strict=True):
        np.testing.assert_allclose(audio, wanted, atol=1e-6)
        assert (profile is mixture.profile) == is_known
    assert row["noise_left_db"] == pytest.approx(-6.02, abs=0.01)
