"""Tests of dsp: spectra, levels, mixing, resampling and joins."""

import itertools

import numpy as np
import pytest
import scipy.signal

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE

WIN_SIZE, HOP_SIZE = 2048, 512


def level_db(error: np.ndarray, signal: np.ndarray) -> float:
    """Largest error over the signal's RMS."""
    return 20.0 * np.log10(np.max(np.abs(error)) / np.sqrt(np.mean(signal**2)) + 1e-12)


def run(predict: dsp.Predict, audio: np.ndarray, segment_samples: int, context_samples: int,
        step_samples: int = 1, lengths: tuple[int, ...] = (10**9,)) -> np.ndarray:
    """Streams `audio` in blocks of changing lengths, by default in one, and joins the result."""
    ends = itertools.takewhile(lambda end: end < audio.shape[-1],
                               itertools.accumulate(itertools.cycle(lengths)))
    pieces = dsp.stream_in_segments(predict, np.split(audio, list(ends), axis=-1),
                                    segment_samples, context_samples, step_samples)
    return np.concatenate([audio[:, :0], *pieces], axis=-1)


# --- Spectra ---------------------------------------------------------------------------------


def test_stft_is_that_of_the_definition(rng):
    audio = rng.standard_normal(3 * WIN_SIZE).astype(np.float32)
    spectrum = dsp.stft(audio, WIN_SIZE, HOP_SIZE)
    window = 0.54 - 0.46 * np.cos(2.0 * np.pi * np.arange(WIN_SIZE) / WIN_SIZE)
    expected = np.fft.rfft(audio[4 * HOP_SIZE : 4 * HOP_SIZE + WIN_SIZE] * window)
    assert spectrum.shape == (12, WIN_SIZE // 2 + 1, 2) and spectrum.dtype == np.float32
    np.testing.assert_allclose(spectrum[4, :, 0] + 1j * spectrum[4, :, 1], expected, atol=2e-4)


@pytest.mark.parametrize("samples", [1, 511, 512, 513, 2048, 44100])
@pytest.mark.parametrize(("win_size", "hop_size"), [(2048, 512), (1024, 300), (64, 32)])
def test_waveform_survives_the_spectral_domain(rng, samples, win_size, hop_size):
    audio = rng.uniform(-1.0, 1.0, (2, samples)).astype(np.float32)
    result = dsp.in_spectral_domain(lambda spectrum: spectrum, win_size, hop_size)(audio)
    assert result.shape == audio.shape
    np.testing.assert_allclose(result, audio, atol=1e-5)
    direct = dsp.istft(dsp.stft(audio, win_size, hop_size), win_size, hop_size, samples)
    np.testing.assert_allclose(direct, audio, atol=1e-5)


def test_istft_refuses_another_length():
    with pytest.raises(ValueError, match="3 frames for 1025 samples"):
        dsp.istft(np.zeros((2, 1025, 2), np.float32), WIN_SIZE, HOP_SIZE, 1025)


# --- Segments --------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [0, 1, 511, 2048, 40000, 40001, 79999, 80000, 80001])
@pytest.mark.parametrize("context_samples", [0, 1000, 30000, 100000])
def test_no_sample_is_lost(rng, samples, context_samples):
    audio = rng.uniform(-1.0, 1.0, (2, samples)).astype(np.float32)
    result = run(lambda piece: 2.0 * piece, audio, 40000, context_samples)
    assert result.shape == audio.shape
    np.testing.assert_allclose(result, 2.0 * audio, rtol=1e-6, atol=1e-6)


def test_segments_start_at_multiples_of_the_step():
    audio = np.arange(100000, dtype=np.float32)[None]
    starts = []

    def predict(piece: np.ndarray) -> np.ndarray:
        starts.append(int(piece[0, 0]))
        return piece

    run(predict, audio, 10001, 2500, 4096)
    assert len(starts) > 5 and all(start % 4096 == 0 for start in starts)
    assert list(dsp.stream_in_segments(predict, [], 1000, 100)) == []


def test_result_does_not_depend_on_where_the_cuts_fall(rng):
    """A filter that reaches 0.2 s to each side gives the same with every segment length."""
    audio = rng.standard_normal((1, 6 * SAMPLE_RATE)).astype(np.float32)
    reach = SAMPLE_RATE // 5
    kernel = np.exp(-np.abs(np.arange(-reach, reach + 1)) / (reach / 20.0)).astype(np.float32)

    def predict(piece: np.ndarray) -> np.ndarray:
        padded = np.pad(piece[0], reach)
        return scipy.signal.oaconvolve(padded, kernel, "valid")[None].astype(np.float32)

    whole = predict(audio)
    for seconds in (1, 4):
        joined = run(predict, audio, seconds * SAMPLE_RATE, 2 * SAMPLE_RATE // 5)
        assert level_db(joined - whole, whole) < -60.0


def test_joins_are_faded_over_the_context():
    """Where neighbours disagree, the result passes from one to the other without a step.

    No segment is longer than another, contexts included: those at the ends, without one, reach
    further.
    """
    calls = []

    def predict(piece: np.ndarray) -> np.ndarray:
        calls.append(piece)
        return np.full_like(piece, len(calls))

    result = run(predict, np.zeros((1, 3400), np.float32), 1000, 200)[0]
    assert np.all(result[:1150] == 1.0)
    assert np.all(result[1250:2150] == 2.0)
    assert np.all(result[2250:] == 3.0)
    assert np.abs(np.diff(result)).max() < 0.011
    assert [piece.shape[-1] for piece in calls] == [1400, 1400, 1400]
    calls.clear()
    run(predict, np.zeros((1, 1400), np.float32), 1000, 200)
    assert len(calls) == 1


@pytest.mark.parametrize("lengths", [[1], [777], [5000, 1, 40], [100000]])
def test_stream_is_the_same_in_any_blocks(rng, lengths):
    audio = rng.standard_normal((2, 5001)).astype(np.float32)

    def predict(piece: np.ndarray) -> np.ndarray:
        return piece - piece.mean(axis=-1, keepdims=True)  # depends on the cuts

    expected = run(predict, audio, 1000, 300, 64)
    result = run(predict, audio, 1000, 300, 64, lengths)
    np.testing.assert_array_equal(result, expected)


# --- Level and mixing ------------------------------------------------------------------------


def test_pauses_do_not_count_for_the_level():
    powers = np.concatenate([np.full(100, 1e-3), np.full(5000, 1e-9), np.zeros(5000)])
    assert dsp.active_power(powers) == pytest.approx(1e-3)
    assert dsp.active_power(np.zeros(5)) == 0.0
    assert dsp.active_power(np.zeros(0)) == 0.0


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.0])
def test_mix_at_snr(sine, noise, snr_db):
    mixed = dsp.mix_at_snr(sine, noise, snr_db)
    assert mixed.dtype == sine.dtype
    found_db = dsp.decibels(dsp.power(sine) / dsp.power(mixed - sine))
    assert found_db == pytest.approx(snr_db, abs=0.01)
    assert dsp.decibels(dsp.power(sine - sine)) == float("-inf")


def test_a_sound_is_clipped_to_its_sdr(noise):
    for sdr_db in (3.0, 15.0):
        clipped = dsp.clip_at_sdr(noise, sdr_db)
        error = np.sum((noise - clipped) ** 2, dtype=np.float64)
        assert dsp.decibels(np.sum(noise**2, dtype=np.float64) / error) == pytest.approx(
            sdr_db, abs=0.01)
        assert np.array_equal(clipped, np.clip(noise, -clipped.max(), clipped.max()))


def test_mix_at_snr_refuses_silence_and_other_shapes(sine, noise):
    with pytest.raises(ValueError, match="must not be silent"):
        dsp.mix_at_snr(sine, np.zeros_like(sine), 3.0)
    with pytest.raises(ValueError, match="shaped as `clean`"):
        dsp.mix_at_snr(sine, noise[:-1], 3.0)


def test_repetition_keeps_the_power_of_noise(rng):
    noise = rng.standard_normal(SAMPLE_RATE).astype(np.float32)
    longer = dsp.repeat_with_crossfade(noise, 5 * SAMPLE_RATE, SAMPLE_RATE // 4)
    assert longer.shape == (5 * SAMPLE_RATE,)
    tenths = longer.reshape(-1, SAMPLE_RATE // 10)
    assert np.abs(10.0 * np.log10(tenths.var(axis=1))).max() < 1.0
    np.testing.assert_array_equal(longer[: SAMPLE_RATE // 2], noise[: SAMPLE_RATE // 2])


def test_repetition_keeps_whole_turns():
    """A click once per turn stays at its angle where the recording is longer than a turn."""
    turn = 1000
    clicks = np.zeros(3700, np.float32)
    clicks[500::turn] = 1.0
    longer = dsp.repeat_with_crossfade(clicks, 20000, 200, turn_samples=turn)
    assert set(np.flatnonzero(longer > 0.5) % turn) == {500}
    assert np.count_nonzero(longer > 0.5) == 20


def test_repetition_of_long_and_of_no_noise(noise):
    np.testing.assert_array_equal(dsp.repeat_with_crossfade(noise, 100, 10), noise[:100])
    with pytest.raises(ValueError, match="must not be empty"):
        dsp.repeat_with_crossfade(noise[:0], 100, 10)
    assert dsp.repeat_with_crossfade(noise[:1], 5, 10).shape == (5,)


# --- Resampling ------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 22050, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_resampled_stream_stays_aligned(rate, channels):
    """Resampled to the network's rate and back, a tone keeps its place, to the last sample."""
    time = np.arange(3 * rate + 17) / rate
    tone = np.stack([np.sin(2.0 * np.pi * (440.0 + 100.0 * channel) * time)
                     for channel in range(channels)]).astype(np.float32)
    blocks = (tone[:, begin : begin + 10007] for begin in range(0, tone.shape[-1], 10007))
    inner = dsp.resample_blocks(blocks, rate, SAMPLE_RATE)
    back = np.concatenate(list(dsp.resample_blocks(inner, SAMPLE_RATE, rate)), axis=-1)
    assert back.dtype == np.float32
    assert back.shape[-1] >= tone.shape[-1]
    edge = rate // 100  # the cut ends of the tone ring
    error = (back[:, : tone.shape[-1]] - tone)[:, edge:-edge]
    assert np.abs(error).max() < 1e-4


def test_equal_rates_change_nothing(sine):
    assert dsp.resample(sine, SAMPLE_RATE, SAMPLE_RATE) is sine
    blocks = [sine[None]]
    assert list(dsp.resample_blocks(blocks, SAMPLE_RATE, SAMPLE_RATE)) == blocks
    assert list(dsp.resample_blocks([], 8000, SAMPLE_RATE)) == []


def test_resample_and_fit_length(sine):
    twice = dsp.resample(sine, SAMPLE_RATE, 2 * SAMPLE_RATE)
    assert abs(len(twice) - 2 * len(sine)) <= 1
    np.testing.assert_allclose(twice[2000:-2000:2], sine[1000:-1000], atol=1e-4)
    assert dsp.fit_length(sine, 10).shape == (10,)
    padded = dsp.fit_length(np.ones((3, 2)), 5)
    assert padded.shape == (5, 2) and padded[3:].sum() == 0.0


# --- The high-pass and the level -------------------------------------------------------------


@pytest.mark.parametrize(("hz", "lowest_db", "highest_db"), [
    (5.0, -200.0, -50.0), (15.0, -200.0, -50.0), (20.0, -6.5, -5.5), (25.0, -0.05, 0.05),
    (440.0, -0.01, 0.01)])
def test_highpass_divides_at_its_cutoff(hz, lowest_db, highest_db):
    tone = np.sin(2.0 * np.pi * hz * np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32)
    high = dsp.highpass(tone, 20.0, SAMPLE_RATE)
    deviations = [audio[SAMPLE_RATE : 3 * SAMPLE_RATE].std() for audio in (high, tone)]
    assert lowest_db <= 20.0 * np.log10(deviations[0] / deviations[1]) <= highest_db


@pytest.mark.parametrize("samples", [100, 20000])
def test_highpass_shifts_nothing_and_takes_what_surrounds_the_audio_for_silence(rng, samples):
    audio = rng.standard_normal((2, samples)).astype(np.float32)
    half = round(0.5 * 3.3 * SAMPLE_RATE / (dsp.HIGHPASS_TRANSITION * 20.0))
    taps = scipy.signal.firwin(2 * half + 1, 20.0, pass_zero=False, fs=SAMPLE_RATE)
    expected = scipy.signal.oaconvolve(audio, taps[None], axes=-1)[:, half : half + samples]
    np.testing.assert_allclose(dsp.highpass(audio, 20.0, SAMPLE_RATE), expected, atol=1e-5)
    assert dsp.highpass(audio, 0.0, SAMPLE_RATE) is audio


def test_highpass_that_wraps_does_the_same_away_from_the_ends(rng):
    audio = np.cumsum(rng.standard_normal((2, 3 * SAMPLE_RATE)), axis=-1).astype(np.float32)
    plain, wrapped = (dsp.highpass(audio, 20.0, SAMPLE_RATE, wrap) for wrap in (False, True))
    inner = slice(SAMPLE_RATE, 2 * SAMPLE_RATE)
    assert wrapped.shape == audio.shape and wrapped.dtype == np.float32
    assert level_db((wrapped - plain)[:, inner], plain[:, inner]) < -80.0
    assert dsp.highpass(audio[:, :100], 20.0, SAMPLE_RATE, wrap=True).shape == (2, 100)


@pytest.mark.parametrize("reach", [1, 2, 9])
def test_the_largest_around_is_that_of_a_sliding_window(reach, rng):
    values = rng.standard_normal((3, 7))
    wanted = scipy.ndimage.maximum_filter1d(values, 2 * reach + 1, mode="nearest")
    np.testing.assert_array_equal(dsp.largest_around(values, reach), wanted)
