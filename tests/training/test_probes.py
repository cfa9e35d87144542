"""Probes are what their names say, and report the known faults of some methods."""

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.coding import code
from historical_denoiser.training import look_alikes, metrics, probes

SAMPLES = SAMPLE_RATE


@pytest.fixture(scope="module")
def sounds():
    """A chord and another one, silent in between: their categories and waveforms."""
    times = np.arange(SAMPLES) / SAMPLE_RATE
    chords = [sum(np.sin(2.0 * np.pi * hz * times) for hz in notes) * (times % 0.25 < 0.15)
              for notes in ((330.0, 1100.0, 5200.0), (700.0, 2900.0))]
    return [(name, (0.1 * dsp.highpass(chord, 20.0, SAMPLE_RATE)).astype(np.float32))
            for name, chord in zip(("music", "speech"), chords, strict=True)]


@pytest.fixture(scope="module")
def untouched(sounds):
    """The report on a method that does nothing, and all that it was given."""
    heard = []

    def restore(audio):
        heard.append(audio)
        return audio

    return measure(restore, sounds), heard


def make(name):
    return probes.PROBES[name].make(4 * SAMPLES, np.random.default_rng(0))


def measure(restore, sounds):
    """Probes a method that restores one waveform."""
    return probes.measure(lambda batch: restore(batch[0])[None], sounds, 20.0)


def loudest_share(audio):
    """Returns the share of the energy in the loudest 2 % of the samples; of Gaussian noise 0.15."""
    return np.sort(audio**2)[-len(audio) // 50 :].sum() / np.sum(audio**2)


def octave_shares(noise):
    """Shares of the noise's energy in the octaves of `OCTAVES_HZ`."""
    energy = np.abs(np.fft.rfft(noise)) ** 2
    hz = np.fft.rfftfreq(len(noise), 1.0 / SAMPLE_RATE)
    return np.array([energy[(hz > centre / 2**0.5) & (hz <= centre * 2**0.5)].sum()
                     for centre in probes.OCTAVES_HZ]) / energy.sum()


def test_an_octave_is_alone():
    for place, hz in enumerate(probes.OCTAVES_HZ):
        noise = make(probes.octave(hz))
        assert octave_shares(noise)[place] > 0.999
        kurtosis = np.mean(noise**4) / np.mean(noise**2) ** 2
        assert kurtosis == pytest.approx(3.0, abs=0.5), hz  # Gaussian


def test_white_and_pink_noise_have_their_slopes():
    for name, step_db in (("white", 3.0), ("pink", 0.0)):
        shares = octave_shares(make(name))[1:-1]
        assert np.diff(10.0 * np.log10(shares)) == pytest.approx(step_db, abs=0.7)


@pytest.mark.parametrize("rate", probes.CLICKS_PER_SECOND)
def test_clicks_come_as_often_as_named_and_alone(rate):
    noise = make(f"clicks {rate}/s")
    is_loud = np.abs(noise) > 0.05 * np.abs(noise).max()
    gaps = np.diff(np.flatnonzero(is_loud), prepend=-SAMPLES) > 0.002 * SAMPLE_RATE
    if rate <= 100:  # more of them run into each other
        assert 0.8 * 4 * rate <= gaps.sum() <= 1.1 * 4 * rate
        assert np.mean(noise == 0.0) > 0.1  # nothing between them
    assert loudest_share(noise) > (0.9 if rate <= 10 else 0.3)


def test_bursts_come_24_times_a_second_and_hum_is_lines():
    power = np.square(make("bursts 24/s"))
    rhythm = np.abs(np.fft.rfft(power - power.mean()))[: 4 * 40]
    assert np.argmax(rhythm) == 4 * 24
    spectrum = np.abs(np.fft.rfft(make("hum") * np.hanning(4 * SAMPLES))) ** 2
    hz = np.fft.rfftfreq(4 * SAMPLES, 1.0 / SAMPLE_RATE)
    assert spectrum[np.abs((hz + 25.0) % 50.0 - 25.0) < 1.5].sum() > 0.999 * spectrum.sum()
    assert octave_shares(make("hum"))[-1] < 1e-4 < octave_shares(make("hum with hiss"))[-1]


def test_struck_wood_is_made_of_impulses():
    for name in look_alikes.STRUCK:
        struck = look_alikes.make_strokes(name, 4 * SAMPLES, np.random.default_rng(0))
        assert np.isfinite(struck).all() and np.abs(struck).max() == pytest.approx(0.5)
        assert 0.3 < loudest_share(struck) < 0.99, name


@pytest.mark.parametrize("name", look_alikes.HELD)
def test_held_tones_stand_still_and_are_not_the_mains(name):
    held = look_alikes.make_held(name, 4 * SAMPLES, np.random.default_rng(0))
    assert np.abs(held).max() == pytest.approx(0.5)
    hz = np.fft.rfftfreq(SAMPLES, 1.0 / SAMPLE_RATE)
    pitches = look_alikes.HELD[name][0]
    for second in held.reshape(4, SAMPLES):
        energy = np.abs(np.fft.rfft(second * np.hanning(SAMPLES))) ** 2
        near = [energy[np.abs(hz - pitch) < 3.0].sum() / energy.sum() for pitch in pitches]
        assert min(near) > 0.1, name
    for mains in (50.0, 60.0):
        assert min(abs((pitch + mains / 2.0) % mains - mains / 2.0) for pitch in pitches) > 5.0


def test_low_notes_are_low_and_a_tanpuras_partials_swell_one_after_the_other():
    low = [look_alikes.LOW_OR_HELD[name](4 * SAMPLES, np.random.default_rng(0))
           for name in ("kick drum", "plucked bass", "tanpura", "quiet orchestra")]
    for sound, share in zip(low, (0.6, 0.6, 0.0, 0.0), strict=True):
        assert np.isfinite(sound).all() and octave_shares(sound)[:2].sum() >= share
    assert np.abs(low[3]).max() < 0.1 < np.abs(low[2]).max()
    tanpura = dsp.power_of_bins(dsp.stft(low[2], 4096, 1024))
    peaks = [np.argmax(tanpura[4:40, round(order * 110.0 / SAMPLE_RATE * 4096)])
             for order in (5, 10, 19)]
    assert peaks == sorted(set(peaks))


def test_scenes_hold_their_noise_at_their_snr():
    noises = []
    for scene in probes.SCENES.values():
        clean, noisy = scene.mix(2 * SAMPLES, np.random.default_rng(0))
        assert metrics.snr_db(clean, noisy) == pytest.approx(scene.snr_db, abs=0.01)
        noises.append(noisy - clean)
    *_, thumps, drop, frying = noises
    assert octave_shares(thumps)[:2].sum() > 0.9
    assert np.flatnonzero(np.abs(drop) > 1e-6)[0] > 0.1 * SAMPLES  # silence before the stylus
    levels = [np.log(np.std(one.reshape(-1, SAMPLES // 20), axis=1)) for one in (clean, frying)]
    assert metrics.correlation(*levels) > 0.5


def test_coded_probes_are_coded():
    for name, codec in (("AAC", "aac"), ("Opus", "opus"), ("Vorbis", "vorbis")):
        probe = probes.PROBES[f"{probes.CODED}, {name} at 64 kbit/s"]
        noise = probe.make(SAMPLES, np.random.default_rng(0)).astype(np.float32)
        np.testing.assert_array_equal(probe.process(noise), code(noise, codec, 64))


def test_a_network_that_does_nothing_gains_nothing_and_is_reported(untouched):
    report, _ = untouched
    assert [row["probe"] for row in report.rows] == list(probes.PROBES)
    for row in report.rows:
        # Down to the filter that is applied once more, which matters at 20 Hz alone.
        is_sensitive = row["probe"] == "octave 31 Hz" or ", at " in row["probe"]
        wanted = pytest.approx(0.0, abs=1.0 if is_sensitive else 0.05)
        assert row["snr_gain_db"] == wanted and row["noise_left_db"] == wanted
        assert row["snr_gain_db_music"] == wanted and row["snr_gain_db_speech"] == wanted
    assert report.average().keys() == set(probes.AVERAGE_NAMES)
    assert report.average()["impulses_si_sdr_db"] > 25.0
    faults = report.find_faults()
    assert [fault.split(":")[0] for fault in faults] == [
        "does not remove noise of one octave", "under-suppression"]
    impulses, tones, energy, correlation, steady, moving = report.guards()
    assert impulses.passes and tones.passes and correlation.passes
    assert (energy.broken, energy.count) == (3, 7)  # at 3 dB, the noise
    assert steady.broken == steady.count and moving.broken == moving.count
    assert steady.count + moving.count == len(report.rows) and moving.count == 15


def test_the_octave_that_is_left_is_named(sounds):
    """A method that takes all noise but that of 180 to 350 Hz, where it lets everything pass."""
    def restore(audio):
        hz = np.fft.rfftfreq(len(audio), 1.0 / SAMPLE_RATE)
        tones = [330.0, 1100.0, 5200.0, 700.0, 2900.0]
        kept = np.min(np.abs(hz[:, None] - tones), axis=1) < 30.0
        return np.fft.irfft(np.fft.rfft(audio) * (kept | ((hz > 175.0) & (hz < 355.0))))

    report = measure(restore, sounds)
    (fault,) = [one for one in report.find_faults() if one.startswith("removes white noise")]
    assert "but not the octave at 250 Hz (" in fault and "500 Hz" not in fault
    means = report.average()
    gains = {row["probe"]: row["snr_gain_db"] for row in report.rows}
    assert means["probe_worst_octave_db"] == gains["octave 250 Hz"] < 0.1
    assert means["probe_mean_db"] == pytest.approx(np.mean(list(gains.values())))
    table = report.format().splitlines()
    assert table[len(report.rows) + 3].startswith("clean impulses")
    assert table[-11].startswith("clean low or held notes, SI-SDR that is kept: organ pedal")
    assert table[-7].startswith("| quiet orchestra, steady groove, at 3 dB |")
    assert table[5].startswith("| octave 250 Hz |")


def test_a_network_that_takes_movement_for_sound_is_reported(sounds):
    """A gate for each band of 200 Hz: what is steady over the whole of it is taken away."""
    def restore(audio):
        spectrum = dsp.stft(audio, 2048, 512)
        power = dsp.power_of_bins(spectrum)
        bands = np.add.reduceat(power[4:-4], np.arange(0, 1025, 9), axis=1)  # no padding
        deviation = np.std(10.0 * np.log10(bands + 1e-9), axis=0)
        gain = np.repeat(np.where(deviation < 2.55, 0.05, 1.0), 9)[:1025]
        return dsp.istft(spectrum * gain[:, None].astype(np.float32), 2048, 512, len(audio))

    found = measure(restore, sounds[:1]).find_faults()
    assert any(one.startswith("takes noise that fluctuates for signal") for one in found)


def test_damage_to_impulses_is_reported(sounds):
    report = measure(lambda audio: np.clip(audio, -0.05, 0.05), sounds[:1])
    assert report.average()["impulses_si_sdr_db"] < 12.0
    assert any("impulses that are signal are damaged" in one for one in report.find_faults())
    assert not report.guards()[0].passes


def test_damage_to_held_tones_is_reported(sounds):
    """A method that takes what stands still for hum: lines of the whole, below 300 Hz."""
    def restore(audio):
        spectrum, hz = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1.0 / SAMPLE_RATE)
        loudest = np.abs(spectrum) > 0.05 * np.abs(spectrum).max()
        return np.fft.irfft(spectrum * ~(loudest & (hz < 300.0)), len(audio))

    report = measure(restore, sounds[:1])
    assert report.average()["tones_si_sdr_db"] < 6.0 < 20.0 < report.impulses_db["castanets"]
    assert any("held notes that are signal are damaged" in one for one in report.find_faults())
    impulses, tones, *_ = report.guards()
    assert tones.where in look_alikes.LOW_OR_HELD and not tones.passes


def test_probes_are_the_same_on_every_run_and_for_every_sound_others(sounds, untouched):
    report, heard = untouched
    before = iter(heard)

    def restore(audio):
        np.testing.assert_array_equal(audio, next(before))
        return audio

    assert measure(restore, sounds).rows == report.rows and next(before, None) is None
    noises = [heard[0] - sounds[0][1], heard[2] - sounds[1][1]]  # heard[1]: noise alone
    assert abs(metrics.correlation(*noises)) < 0.2
