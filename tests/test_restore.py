"""Restoring waveforms, with functions in the network's place whose result is known."""

import weakref
from functools import partial

import numpy as np
import pytest
import scipy
from carrier_samples import tune
from restorers import make_restorer

from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.audio.noise_profile import Origin
from historical_denoiser.audio.survey import survey
from historical_denoiser.classical import spectral
from historical_denoiser.core.checks import UserError
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.separation import Separator

# What no filter of the way to the network and back takes away.
BAND_PASS = scipy.signal.butter(2, [0.02, 0.6], "bandpass", output="sos")
SHORT = NetworkSettings(reference_dbfs=-20.0, context_seconds=0.2)


def halve(spectra: np.ndarray) -> np.ndarray:
    """Stands for a network: half of everything is noise."""
    return 0.5 * spectra


@pytest.mark.parametrize("shape", [(0,), (1,), (4000,), (100_000,), (70_000, 1), (70_000, 3)])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 48000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_form_and_type_stay(rng, shape, rate, dtype):
    audio = np.cumsum(0.01 * rng.standard_normal(shape), axis=0).astype(dtype)
    before = audio.copy()
    shares: list[float] = []
    restored = make_restorer(halve, SHORT, 1.0)(audio, rate, 0.5, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0
    assert restored.shape == audio.shape and restored.dtype == audio.dtype
    np.testing.assert_array_equal(audio, before)
    if rate == SAMPLE_RATE and len(audio) > 1:
        np.testing.assert_allclose(restored, 0.75 * audio, atol=1e-5 * np.abs(audio).max())
    if len(audio) > 1:
        np.testing.assert_array_equal(make_restorer(halve, SHORT)(audio, rate, strength=0.0), audio)


@pytest.mark.parametrize("lengths", [[150_001], [3, 0, 40_000, 90_000, 19_998, 1, 0], [500] * 300])
def test_blocks_of_any_length_give_the_same(rng, lengths):
    audio = rng.standard_normal((sum(lengths), 2)).astype(np.float32)
    audio[:50_000] *= 0.01  # the level of the whole is another one than that of the start
    restorer = make_restorer(lambda spectra: np.maximum(spectra, 0.0), SHORT, 1.0)
    blocks = np.split(audio, np.cumsum(lengths)[:-1])
    restored = list(restorer.stream(blocks, SAMPLE_RATE, 0.7, survey(blocks, SAMPLE_RATE)))
    assert [len(block) for block in restored] == [length for length in lengths if length]
    np.testing.assert_allclose(np.concatenate(restored),
                               restorer(audio, SAMPLE_RATE, 0.7), atol=1e-5)


def test_a_stream_is_restored_before_it_ends(rng):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield 0.1 * rng.standard_normal(4410).astype(np.float32)

    stream = make_restorer(halve, SHORT, 1.0).stream(endless(), SAMPLE_RATE)
    for _ in range(100):
        next(stream)
    assert taken < 100 + 25


def test_a_stream_without_a_survey_is_levelled_by_its_start(rng):
    heard = []

    def note(spectra):
        heard.append(spectra)
        return halve(spectra)

    audio = 1e-3 * rng.standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    audio[SAMPLE_RATE:] *= 10.0
    restored = np.concatenate(list(make_restorer(note, SHORT, 1.0).stream(
        np.split(audio, 20), SAMPLE_RATE)))
    np.testing.assert_allclose(restored, 0.5 * audio, atol=1e-6)
    # White noise of -20 dBFS has this mean power in each bin of a Hamming window.
    window_power = np.sum(np.hamming(2049)[:-1] ** 2)
    level = np.mean(np.sum(heard[0][:, 4:70, 8:-8].astype(np.float64) ** 2, axis=-1))
    assert 10.0 * np.log10(level / window_power) == pytest.approx(-20.0, abs=0.5)


@pytest.mark.parametrize(("waveform", "strength", "message"), [
    (np.zeros(100, np.int16), 1.0, "must be float32 or float64"),
    (np.zeros(100, np.float16), 1.0, "must be float32 or float64"),
    (np.zeros(100, complex), 1.0, "must be float32 or float64"),
    (None, 1.0, "must be float32 or float64"),
    (np.zeros((100, 0)), 1.0, r"\(samples,\) or \(samples, channels\)"),
    (np.zeros((2, 3, 4)), 1.0, r"\(samples,\) or \(samples, channels\)"),
    (np.zeros((2, 5000)), 1.0, r"is it \(channels, samples\)"),
    *((np.zeros(100), strength, r"`strength` must be in \[0, 1\]")
      for strength in (1.5, -0.1, float("nan"), None, "all")),
    (np.full(100, np.inf), 1.0, "holds NaN or infinite samples, the first at 0.000 s"),
])
def test_what_cannot_be_restored_is_refused(waveform, strength, message):
    with pytest.raises(ValueError, match=message):
        make_restorer(halve, SHORT)(waveform, SAMPLE_RATE, strength)


@pytest.mark.parametrize("rate", [0, -44100, 500, 44100.5, float("nan"), float("inf"), None, "1"])
def test_sample_rates_that_make_no_sense_are_refused(rate):
    restorer, waveform = make_restorer(halve, SHORT, 1.0), np.zeros(100)
    for restore in (restorer, lambda *given: list(restorer.stream([given[0]], given[1]))):
        with pytest.raises(ValueError, match="`sample_rate` must be a whole number of Hz"):
            restore(waveform, rate)


@pytest.mark.parametrize(("blocks", "error", "message"), [
    ([np.arange(2.0 * SAMPLE_RATE), np.zeros((100, 2))], ValueError, "must all have 1 channels"),
    ([np.arange(2.0 * SAMPLE_RATE), np.full(100, np.nan)], UserError, "the recording holds NaN"),
    (np.zeros((100, 2)), ValueError, "must be several waveforms"),
    ("side A.wav", ValueError, "`waveform` must be float32 or float64"),
    ([[0.1] * 100, [1] * 100], ValueError, "`waveform` must be float32 or float64"),
])
def test_blocks_that_cannot_be_restored_are_named(blocks, error, message):
    with pytest.raises(error, match=message):
        list(make_restorer(halve, SHORT, 1.0).stream(blocks, SAMPLE_RATE))


def test_an_all_but_silent_leader_does_not_set_the_level(rng):
    """Dither before the programme would be raised to the network's level, and all after it."""
    heard = []

    def note(spectra):
        heard.append(np.abs(spectra).max())
        return halve(spectra)

    audio = 1e-5 * rng.standard_normal(4 * SAMPLE_RATE)
    audio[2 * SAMPLE_RATE :] *= 1e4
    list(make_restorer(note, SHORT, 1.0).stream(np.split(audio, 40), SAMPLE_RATE))
    assert max(heard) < 100.0  # of noise at -20 dBFS; it would be 10,000 times this


def test_each_waveform_of_a_batch_has_its_own_level(noise):
    heard = []

    def note(spectra):
        heard.append(np.sqrt(np.mean(np.square(spectra[:, 4:-8]))))
        return halve(spectra)

    batch = np.stack([0.01 * noise, noise])
    restored = make_restorer(note, SHORT).each(batch)
    np.testing.assert_allclose(restored, 0.5 * batch, rtol=1e-3, atol=1e-8)
    assert heard[0] == pytest.approx(heard[1], rel=1e-3)
    assert np.isnan(make_restorer(lambda spectra: spectra * np.nan, SHORT).each(batch)).any()


def test_clicks_are_cut_out_before_the_network(rng):
    audio = 0.05 * rng.standard_normal(4 * SAMPLE_RATE)
    clicked = audio.copy()
    places = np.arange(5000, len(audio), 17_321)
    clicked[places] += 2.0
    whole, streamed = (make_restorer(lambda spectra: spectra, SHORT, seconds, declick=True)(
        clicked, SAMPLE_RATE) for seconds in (20.0, 0.7))
    assert np.abs(whole - audio).max() < 0.3
    np.testing.assert_allclose(streamed, whole, atol=1e-5)
    left = make_restorer(lambda spectra: spectra, SHORT)(clicked, SAMPLE_RATE)
    np.testing.assert_allclose(left, clicked, atol=1e-5)


def test_the_classical_method_is_the_same_in_segments(rng):
    audio = 0.05 * rng.standard_normal(12 * SAMPLE_RATE)
    whole, streamed = (make_restorer(partial(spectral.suppress, settings=StftConfig()),
                                NetworkSettings(), seconds)(audio, SAMPLE_RATE)
                       for seconds in (20.0, 4.0))
    assert np.std(streamed - whole) < 0.03 * np.std(audio)
    assert np.std(whole) < 0.2 * np.std(audio)


def test_auto_spares_bass_notes_in_long_recordings_and_in_streams(rng):
    """Here the network takes everything; `auto` keeps what comes and goes in the lowest octave."""
    rate, seconds = 8000, 40
    times = np.arange(seconds * rate) / rate
    notes = np.sin(2.0 * np.pi * 41.0 * times) * np.sin(np.pi * times) ** 8
    hiss = 0.1 * rng.standard_normal(len(times))
    restorer = make_restorer(lambda spectra: 0.0 * spectra, SHORT, 12.0)
    for audio, kept in ((notes + hiss, 0.6), (hiss, 0.0)):
        shares = []
        result = restorer.restore(audio, rate, "auto", progress=shares.append)
        assert not result.strength.is_auto and result.known.samples == len(audio)
        assert shares == sorted(shares) and shares[0] < 0.5 and shares[-1] == 1.0
        restored = result.waveform
        assert np.dot(restored, notes) / np.dot(notes, notes) == pytest.approx(kept, abs=0.02)
        for blocks in (40, 1000):
            streamed = list(restorer.stream(np.split(audio, blocks), rate, "auto"))
            assert len(streamed) == blocks
            np.testing.assert_allclose(np.concatenate(streamed), restored, atol=0.02)


@pytest.mark.parametrize("rate", [1000, 8000, SAMPLE_RATE])
@pytest.mark.parametrize("channels", [1, 2])
def test_what_changes_so_seldom_that_it_passes_for_silence_stays_as_it_is(rate, channels):
    square = np.where(np.arange(4 * rate) // max(rate // 100, 1) % 2 == 0, 0.1, -0.1)
    square = np.stack([square, -square][:channels], axis=1)

    def hear(inputs):
        return inputs[0] if isinstance(inputs, list) else inputs

    restorer = make_restorer(hear, PROFILED, mono_source="auto", listen_first=True, dehum=True)
    restored = restorer(square, rate)
    assert restored.shape == square.shape and np.isfinite(restored).all()


def test_two_channels_of_a_mono_carrier_are_denoised_as_one(rng):
    rate, gain = 22050, 0.7
    times = np.arange(10 * rate) / rate
    notes = np.repeat(rng.uniform(200.0, 900.0, 20), rate // 2)
    clean = 0.2 * sum(np.sin(2.0 * np.pi * k * np.cumsum(notes) / rate) / k for k in range(1, 9))
    clean *= np.exp(-6.0 * (times % 0.5)) * rng.choice([0.2, 1.0], 20).repeat(rate // 2)
    wanted = clean[:, None] * [1.0, gain]
    audio = wanted + rng.standard_normal(wanted.shape) * [0.02, 0.03]
    gained = {}
    for name in ("false", "auto"):
        restorer = make_restorer(partial(spectral.suppress, settings=StftConfig()),
                                 NetworkSettings(), mono_source=name)
        restored = restorer(audio, rate)
        assert restored.shape == audio.shape
        left = np.var(restored - wanted, axis=0)
        gained[name] = 10.0 * np.log10(np.var(audio - wanted, axis=0) / left)
        streamed = np.concatenate(list(restorer.stream(np.split(audio, 50), rate)))
        np.testing.assert_allclose(streamed, restored, atol=2e-3)
    assert (gained["auto"] > gained["false"] + [0.4, 4.0]).all()
    np.testing.assert_allclose(restored[:, 1], gain * restored[:, 0], atol=0.01)


# --- A noise profile --------------------------------------------------------------------------

PROFILED = NetworkSettings(UnetConfig(use_profile=True, compression=0.3), reference_dbfs=-20.0,
                          context_seconds=0.2)


class KeepsProfiles:
    """Stands for a network that takes profiles, and keeps those that it was given."""

    def __init__(self):
        self.profiles = []

    def __call__(self, inputs):
        spectra, profile = inputs
        self.profiles.append(profile)
        return 0.5 * spectra


def test_a_profile_has_the_level_of_the_recording_and_each_channel_its_own(rng):
    audio = rng.standard_normal((40_000, 2)).astype(np.float32)
    noise = 0.1 * rng.standard_normal((20_000, 2)).astype(np.float32) * [1.0, 0.2]
    plain, gained, averaged = KeepsProfiles(), KeepsProfiles(), KeepsProfiles()
    restored = make_restorer(plain, PROFILED)(audio, SAMPLE_RATE, noise_profile=noise)
    np.testing.assert_allclose(restored, 0.5 * audio, atol=1e-4)
    # The gain that brings the recording to the network's level applies to the profile.
    left, right = (profile[0, 0, :, 0].mean() for profile in plain.profiles)
    expected = [PROFILED.profile_form.measure((0.1 * channel).astype(np.float32))[0, :, 0].mean()
                for channel in noise.T]
    assert [left, right] == pytest.approx(expected, rel=0.01)
    make_restorer(gained, PROFILED)(8.0 * audio, SAMPLE_RATE, noise_profile=8.0 * noise)
    np.testing.assert_allclose(gained.profiles, plain.profiles, rtol=1e-3)
    make_restorer(averaged, PROFILED)(audio, SAMPLE_RATE, noise_profile=noise[:, 0])
    np.testing.assert_array_equal(averaged.profiles, 2 * [plain.profiles[0]])


def test_a_profile_at_another_rate_and_in_a_stream_is_the_same(rng):
    one, other = KeepsProfiles(), KeepsProfiles()
    times = np.arange(48_000) / 48_000
    tone = 0.1 * np.sin(2.0 * np.pi * 1000.0 * times).astype(np.float32)
    make_restorer(one, PROFILED)(tone, 48_000, noise_profile=tone)
    loudest = int(np.argmax(one.profiles[0][0, 0, :, 0]))
    assert loudest == round(1000.0 / SAMPLE_RATE * 2048)
    list(make_restorer(other, PROFILED).stream([tone], 48_000, noise_profile=tone))
    np.testing.assert_array_equal(one.profiles, other.profiles)
    each = make_restorer(other, PROFILED).each(tone[None], tone)
    np.testing.assert_allclose(each[0], 0.5 * tone, atol=1e-4)


def test_clicks_are_removed_from_a_profile_if_declicking_is_on(rng):
    """The network's input has no clicks then, so its profile must not contain any either."""
    noise = 0.05 * rng.standard_normal(2 * SAMPLE_RATE)
    clicked = noise.copy()
    clicked[5000::2_021] += 2.0
    means = {}
    for name, profile, declick in (("clean", noise, True), ("clicked", clicked, True),
                                   ("left", clicked, False)):
        network = KeepsProfiles()
        make_restorer(network, PROFILED, declick=declick)(noise, SAMPLE_RATE, noise_profile=profile)
        means[name] = network.profiles[0][0, 0, :, 0].mean()
    assert means["clicked"] == pytest.approx(means["clean"], rel=0.02)
    assert means["left"] > 1.05 * means["clean"]


@pytest.mark.parametrize("rate", [11025, 22255, SAMPLE_RATE])
def test_a_tenth_of_a_second_suffices_at_every_rate(rng, rate):
    noise = rng.standard_normal(2 * rate).astype(np.float32)
    stretch = noise[round(0.2 * rate) : round(0.3 * rate)]
    network = KeepsProfiles()
    make_restorer(network, PROFILED)(noise, rate, noise_profile=stretch)
    assert len(network.profiles) == 1
    with pytest.raises(UserError, match="must be at least 0.1 s long"):
        make_restorer(network, PROFILED)(noise, rate, noise_profile=stretch[2:])


@pytest.mark.parametrize(("noise", "message"), [
    (np.zeros(10_000, np.float32), "must be a section of noise. Received: noise_profile='silence'"),
    (np.ones(4000, np.float32), "must be at least 0.1 s long.*0.091 s"),
    (np.ones((10_000, 3), np.float32), "must be of one channel or of 2, as the recording"),
    (np.full(10_000, np.nan, np.float32), "must be finite"),
    (np.ones(10_000, np.int16), "`noise_profile` must be float32 or float64")])
def test_an_unusable_profile_is_refused(noise, message, rng):
    audio = rng.standard_normal((10_000, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=message):
        make_restorer(KeepsProfiles(), PROFILED)(audio, SAMPLE_RATE, noise_profile=noise)


class HalfBlind(KeepsProfiles):
    """Leaves the share `rest` without a profile, and the share `told` with one."""

    def __init__(self, rest=0.5, told=0.4):
        super().__init__()
        self.rest, self.told = rest, told

    def __call__(self, inputs):
        if not isinstance(inputs, list):
            return self.rest * inputs
        return self.told / 0.5 * super().__call__(inputs)


def test_what_is_removed_at_first_is_the_profile_of_the_rest(rng):
    audio = rng.standard_normal((60_000, 2)).astype(np.float32) * np.float32([1.0, 0.1])
    audio[17_640:48_510] = 0.0  # digital silence says nothing about the noise
    network, informed = HalfBlind(), KeepsProfiles()
    restored = make_restorer(network, PROFILED, listen_first=True)(audio, SAMPLE_RATE)
    np.testing.assert_allclose(restored, 0.4 * audio, atol=1e-4)
    sounding = np.concatenate([audio[:17_640], audio[48_510:]])
    make_restorer(informed, PROFILED)(audio, SAMPLE_RATE, noise_profile=0.5 * sounding)
    assert len(informed.profiles) == 4  # two channels before and after it
    tried = 2  # of the profile that was found, on both channels
    np.testing.assert_allclose(network.profiles[tried:], informed.profiles, rtol=0.1)
    once, each = HalfBlind(), HalfBlind()
    make_restorer(once, PROFILED, listen_first=True)(audio[:20_000, 0], SAMPLE_RATE)
    make_restorer(each, PROFILED, listen_first=True).each(audio[None, :20_000, 0])
    np.testing.assert_array_equal(once.profiles, each.profiles)


@pytest.mark.parametrize(("told", "is_used"), [(0.6, True), (0.7, False)])
def test_a_profile_that_leaves_more_in_quiet_moments_is_not_used(told, is_used, rng, caplog):
    caplog.set_level("INFO")
    audio = rng.standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    audio[SAMPLE_RATE:] *= 10.0
    network = HalfBlind(0.5, told)  # by 1.6 dB more, or by 2.9 dB
    found = make_restorer(network, PROFILED, listen_first=True).restore(audio, SAMPLE_RATE)
    np.testing.assert_allclose(found.waveform, (told if is_used else 0.5) * audio, atol=1e-3)
    assert found.known.profile_origin == (Origin("noise estimate", 3.0) if is_used else None)
    assert ("it would leave 2.9 dB more in the quietest moments" in caplog.text) != is_used


def test_the_analysis_pass_covers_thirty_seconds_of_a_long_recording(rng):
    audio = np.tile(rng.standard_normal(SAMPLE_RATE).astype(np.float32), 60)
    audio[:10 * SAMPLE_RATE] *= 0.01  # not one of the three stretches of 10 s
    seconds = []

    def hear(inputs):
        spectra = inputs[0] if isinstance(inputs, list) else inputs
        seconds.append(spectra.shape[1] * PROFILED.stft.hop_size / SAMPLE_RATE)
        return 0.5 * spectra

    make_restorer(hear, SHORT, 60.0).each(audio[None])
    once = sum(seconds)
    seconds.clear()
    settings = NetworkSettings(UnetConfig(use_profile=True), context_seconds=0.2)
    make_restorer(hear, settings, 60.0, listen_first=True).each(audio[None])
    assert sum(seconds) - once == pytest.approx(30.0 + 5.0, abs=1.0)  # and five of them again


@pytest.mark.parametrize("rest", [0.1, 0.4])
def test_where_nearly_all_is_removed_the_noise_is_taken_whole(rng, rest):
    """Beside sound, only a part of the noise is removed; in a pause, all of it."""
    audio = rng.standard_normal(3 * SAMPLE_RATE).astype(np.float32)
    audio[:SAMPLE_RATE] *= 2.0  # not the usual noise
    network, informed = HalfBlind(rest, rest), KeepsProfiles()
    restored = make_restorer(network, PROFILED, listen_first=True).restore(audio, SAMPLE_RATE)
    assert restored.known.profile_origin.why == ("pauses" if rest == 0.1 else "noise estimate")
    make_restorer(informed, PROFILED)(audio, SAMPLE_RATE,
                            noise_profile=audio if rest == 0.1 else 0.6 * audio)
    np.testing.assert_allclose(network.profiles[0], informed.profiles[0], rtol=0.1)


@pytest.mark.parametrize(("bare_seconds", "why"), [(3.0, "run-in"), (1.4, "noise estimate")])
def test_bare_noise_that_the_network_takes_for_sound_is_the_profile(rng, bare_seconds, why):
    """If it lasts two seconds, and certainly goes on beneath the rest."""
    silence = np.zeros(round(bare_seconds * SAMPLE_RATE))
    audio = np.concatenate([silence, tune(9.0)])
    audio = (audio + 0.01 * rng.standard_normal(len(audio))).astype(np.float32)
    network = HalfBlind(0.4, 0.4)  # which hears no pauses
    known = make_restorer(network, PROFILED, listen_first=True).restore(audio, SAMPLE_RATE).known
    assert known.profile_origin.why == why
    if why == "run-in":
        assert known.profile_origin.start_seconds == 0.0
        assert known.profile_origin.seconds == pytest.approx(bare_seconds, abs=0.3)
        # The profile is that of the noise, in place of that of what the network removes.
        informed = KeepsProfiles()
        make_restorer(informed, PROFILED)(audio, SAMPLE_RATE,
                                          noise_profile=audio[: 2 * SAMPLE_RATE])
        np.testing.assert_allclose(network.profiles[0], informed.profiles[0], rtol=0.2)


def test_the_sound_of_a_profile_is_not_kept(rng):
    audio, noise = (rng.standard_normal(9000).astype(np.float32) for _ in range(2))
    kept = weakref.ref(noise)
    network = HalfBlind()
    restorer = make_restorer(network, PROFILED)
    known = restorer.analyse(survey([audio], SAMPLE_RATE), lambda: [audio], SAMPLE_RATE, noise)
    pairs = restorer.separate([audio], SAMPLE_RATE, known)
    del noise
    next(pairs)
    assert kept() is None and network.profiles


@pytest.mark.parametrize("audio", [np.zeros((0, 2)), np.ones((9000, 2)), np.ones(1)])
def test_silent_or_empty_audio_has_no_analysis_pass(audio):
    network = HalfBlind()
    restorer = make_restorer(network, PROFILED, listen_first=True)
    np.testing.assert_array_equal(restorer(audio, SAMPLE_RATE, "auto"), audio)
    assert not network.profiles


def test_a_sound_too_short_for_a_profile_is_denoised_without(rng):
    audio, network = rng.standard_normal(4000).astype(np.float32), HalfBlind()
    restored = make_restorer(network, PROFILED, listen_first=True)(audio, SAMPLE_RATE)
    np.testing.assert_allclose(restored, 0.5 * audio, atol=1e-4)
    assert not network.profiles


def test_a_network_without_profiles_refuses_one(rng):
    audio = rng.standard_normal(10_000).astype(np.float32)
    with pytest.raises(UserError, match="trained without `unet.use_profile`"):
        make_restorer(halve, SHORT)(audio, SAMPLE_RATE, noise_profile=audio)


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 22050])
def test_silence_stays_and_the_network_does_not_hear_it(rng, rate):
    heard = []

    def note(spectra):
        heard.append(np.sum(np.square(spectra[:, 4:-4]), axis=(2, 3)).min())
        return halve(spectra)

    audio = 0.1 * rng.standard_normal((6 * rate, 2)).astype(np.float32)
    silences = ((0, rate), (3 * rate, 4 * rate), (5 * rate, 6 * rate))
    for start, stop in silences:
        audio[start:stop] = 0.25  # a constant, as a converter with an offset gives
    restorer = make_restorer(note, SHORT, 1.0)
    restored = restorer(audio, rate)
    frame = rate // 100  # to which its ends are rounded
    for start, stop in silences:
        inner = slice(start + frame, stop - frame)
        np.testing.assert_array_equal(restored[inner], audio[inner])
    for start, stop in ((rate, 3 * rate), (4 * rate, 5 * rate)):
        high = np.array([scipy.signal.sosfiltfilt(BAND_PASS, each[start:stop], axis=0)[500:-500]
                         for each in (audio, restored)])
        np.testing.assert_allclose(high[1], 0.5 * high[0], atol=2e-3)
    assert min(heard) > 1.0
    mono = restorer.each(audio[None, :, 0]) if rate == SAMPLE_RATE else None
    if mono is not None:
        np.testing.assert_allclose(mono[0], restored[:, 0], atol=1e-5)
    blocks = np.array_split(audio, 50)
    streamed = list(restorer.stream(blocks, rate, 1.0, survey(blocks, rate)))
    assert [len(block) for block in streamed] == [len(block) for block in blocks]
    np.testing.assert_allclose(np.concatenate(streamed), restored, atol=1e-5)


def test_less_than_was_given_is_no_result(rng, monkeypatch):
    audio = rng.standard_normal(9000).astype(np.float32)
    monkeypatch.setattr(Separator, "_estimates", lambda self, blocks, *_: iter(
        [np.concatenate(list(blocks), axis=-1)[:, :-1000]]))
    with pytest.raises(UserError, match="1000 samples less than it was given"):
        make_restorer(halve, SHORT)(audio, SAMPLE_RATE)
