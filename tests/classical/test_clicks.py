"""Clicks go, gaps are bridged as the sound would have gone on, and music's own attacks stay."""

import numpy as np
import pytest
import scipy.signal

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.classical import clicks
from historical_denoiser.training import look_alikes, metrics, probes

SAMPLES = SAMPLE_RATE
# Of two resonances, at 500 Hz and 2.3 kHz.
POLES = np.array([0.995, 0.98]) * np.exp(2j * np.pi * np.array([500.0, 2300.0]) / SAMPLE_RATE)
FILTER = np.poly(np.concatenate([POLES, POLES.conj()])).real


@pytest.fixture
def resonant(rng) -> np.ndarray:
    """A second of an AR process."""
    return 0.01 * scipy.signal.lfilter([1.0], FILTER, rng.standard_normal(SAMPLES))


@pytest.fixture
def brass() -> np.ndarray:
    """A tone of many harmonics in phase: a pulse in each period."""
    time_s = np.arange(SAMPLES) / SAMPLE_RATE
    hz = 233.0 * np.arange(1, 40)
    loudness = np.exp(-np.square((hz - 1200.0) / 2500.0))
    return 0.05 * np.cos(2.0 * np.pi * np.outer(time_s, hz)) @ loudness


def add_clicks(clean: np.ndarray, per_second: float, rng: np.random.Generator) -> np.ndarray:
    noise = probes.NOISES[f"clicks {per_second}/s"](len(clean), rng)
    return clean + np.std(clean) / np.std(noise) / np.sqrt(10.0) * noise


def test_the_model_of_an_ar_process_is_its_filter(rng):
    poles = np.array([0.8j, -0.8j, 0.5])
    process = scipy.signal.lfilter([1.0], np.poly(poles).real, rng.standard_normal(SAMPLES))
    np.testing.assert_allclose(clicks.fit_model(process[None], order=3)[0],
                               np.poly(poles).real, atol=0.02)
    assert np.array_equal(clicks.fit_model(np.zeros((1, 500)), 3), [[1.0, 0.0, 0.0, 0.0]])


@pytest.mark.parametrize("samples", [2048, 2127])  # of the latter, fast transforms have odd lengths
def test_the_model_solves_the_equations_of_the_autocorrelation(samples, rng):
    frame = np.cumsum(rng.standard_normal(samples))
    shaped = frame * np.hanning(samples + 2)[1:-1]
    weights = np.array([shaped[lag:] @ shaped[:samples - lag] for lag in range(1 + clicks.ORDER)])
    weights[0] *= 1.0 + 10.0 ** (clicks.FLOOR_DB / 10.0)
    wanted = scipy.linalg.solve_toeplitz(weights[:-1], -weights[1:])
    np.testing.assert_allclose(clicks.fit_model(frame[None])[0, 1:], wanted, atol=1e-6)


def test_errors_are_scaled_by_their_quantile(rng):
    errors = np.abs(rng.standard_normal((3, clicks.HOP)))
    np.testing.assert_allclose(
        clicks._scale_of(errors),
        np.quantile(errors, clicks.SCALE_QUANTILE, axis=1) / clicks.QUANTILE_OF_GAUSSIAN)


def test_what_is_predicted_exactly_has_no_score():
    click = np.zeros(3000)
    click[1500] = 20.0
    assert not clicks.measure_errors(click, np.zeros(3000)).score.any()


@pytest.mark.parametrize("samples", [30, 900, 5000])
@pytest.mark.parametrize("period", [61, 200])
def test_whether_there_is_a_period_does_not_depend_on_the_likely_one(samples, period, rng):
    found = []
    for pulse in (10.0, 0.0):
        score = 0.5 * np.abs(rng.standard_normal(samples))
        score[::period] += pulse
        place = slice(samples // 2, samples // 2 + 3)
        periods = [clicks._find_period(place, score, clicks.Sensitivity(), likely)
                   for likely in (0, period, 3 * period, 97, 4000)]
        assert len({each > 0 for each in periods}) == 1
        found.append(periods[0] > 0)
    assert found == [samples > 2 * period, False]


def test_gaps_are_bridged_far_better_than_by_lines(resonant):
    missing = np.zeros(SAMPLES, bool)
    for start in range(1000, SAMPLES - 200, 400):
        missing[start:start + 30] = True  # one and a half periods of the upper resonance
    damaged = np.where(missing, 0.7, resonant)
    bridged = clicks.interpolate(damaged, missing, FILTER)
    known = np.flatnonzero(~missing)
    lines = np.interp(np.arange(SAMPLES), known, resonant[known])
    errors = [np.sum(np.square(each - resonant)) for each in (bridged, lines)]
    assert errors[0] < 0.1 * errors[1]
    np.testing.assert_array_equal(bridged[known], resonant[known])
    # And as well as the theory says.
    variance = clicks.interpolation_variance(30, FILTER)
    weights = np.correlate(FILTER, FILTER, "full")[4:]
    matrix = scipy.linalg.toeplitz(np.pad(weights, (0, 25)))
    np.testing.assert_allclose(variance, np.diag(np.linalg.inv(matrix)), rtol=1e-4)
    measured = np.square(bridged - resonant)[missing].reshape(-1, 30).mean(axis=0)
    assert np.sum(measured) == pytest.approx(0.01**2 * np.sum(variance), rel=0.4)


def test_a_bridge_has_the_least_prediction_error(rng):
    """Against a least-squares solution of the filter's own equations."""
    audio, missing = rng.standard_normal(60), np.zeros(60, bool)
    missing[[20, 21, 22, 24, 35, 36]] = True
    matrix = scipy.linalg.convolution_matrix(FILTER, 60, "full")
    wanted = np.linalg.lstsq(matrix[:, missing], -matrix[:, ~missing] @ audio[~missing])[0]
    np.testing.assert_allclose(clicks.interpolate(audio, missing, FILTER)[missing], wanted)


@pytest.mark.parametrize("name", look_alikes.STRUCK)
def test_strokes_are_kept(name):
    clean = look_alikes.make_strokes(name, SAMPLES, np.random.default_rng(3))
    assert metrics.si_sdr_db(clean, clicks.remove_clicks(clean)) > 30.0


def test_tones_and_noise_are_kept(rng, brass, resonant):
    for clean in (brass, resonant, rng.standard_normal(SAMPLES), brass * (brass > 0.0)):
        assert metrics.si_sdr_db(clean, clicks.remove_clicks(clean)) > 40.0


def test_clicks_are_removed(rng, resonant):
    noisy = add_clicks(resonant, 10, rng)
    restored = clicks.remove_clicks(noisy)
    assert metrics.snr_db(resonant, restored) > 14.0
    assert np.mean(restored != noisy) < 0.05


def test_levels_find_more_and_more_of_the_clicks(rng, resonant):
    noisy = add_clicks(resonant, 100, rng)
    numbers = []
    for level in ("gentle", "normal", "strong"):
        restored, repairs = clicks.repair_clicks(noisy, level)
        numbers.append(len(repairs))
        inside = np.zeros(SAMPLES, bool)
        for repair in repairs:
            inside[repair.place] = True
        np.testing.assert_array_equal(restored[~inside], noisy[~inside])
        changed = np.flatnonzero(restored != noisy)
        assert inside[changed].all() and len(changed) > 0.9 * inside.sum()
    assert numbers[0] < 0.9 * numbers[1] < 0.9 * numbers[2]
    loud = max(repairs, key=lambda repair: repair.strength_db)
    assert loud.strength_db == pytest.approx(20.0 * np.log10(
        np.abs((noisy - restored)[loud.place]).max() / np.std(resonant)), abs=3.0)


def test_clicks_in_brass_are_removed(rng, brass):
    assert metrics.snr_db(brass, clicks.remove_clicks(add_clicks(brass, 1, rng))) > 13.0


def test_form_type_and_silence_stay(resonant):
    for samples in (0, 1, 80, 81, 1024, 1500):
        for dtype in ("float32", "float64"):
            audio = resonant[:samples].astype(dtype)
            restored = clicks.remove_clicks(audio)
            assert restored.shape == audio.shape and restored.dtype == dtype
    assert not clicks.remove_clicks(np.zeros(3000, np.float32)).any()
    lone = np.zeros(3000)
    lone[[500, 1500, 1530]] = 1.0, 0.8, -0.8
    np.testing.assert_array_equal(clicks.remove_clicks(lone), lone)


@pytest.mark.parametrize("from_end", range(1, 11))
def test_clicks_at_the_very_end_of_near_silence_do_no_harm(from_end):
    """The gap may be shorter than what its level is averaged over."""
    audio = np.zeros(8000)
    audio[[6807, 7500]] = 1e-5  # without any sound at all nothing would be sought
    audio[-from_end] = 0.5
    restored = clicks.remove_clicks(audio)
    assert restored.shape == audio.shape and np.isfinite(restored).all()
    np.testing.assert_array_equal(restored[:6000], audio[:6000])
    assert np.abs(restored).max() <= 0.5 + 1e-9


def test_a_place_depends_on_its_surroundings_alone(rng, resonant):
    noisy = add_clicks(resonant, 10, rng)
    start, stop = 8 * clicks.HOP, 34 * clicks.HOP
    margin = SAMPLE_RATE // 5
    part = clicks.remove_clicks(noisy[start:stop])[margin:-margin]
    np.testing.assert_array_equal(part, clicks.remove_clicks(noisy)[start + margin:stop - margin])
