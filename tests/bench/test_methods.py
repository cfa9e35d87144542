"""Each installed tool works without delay, and missing tools are named."""

import re
import sys

import numpy as np
import pytest

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import methods
from historical_denoiser.bench.methods import TOOLS, Method, MethodError, Tool
from historical_denoiser.core.checks import UserError
from historical_denoiser.training import metrics

PROFILE = round(1.5 * SAMPLE_RATE)


def load(name):
    try:
        return methods.load_tool(TOOLS[name])
    except (ImportError, OSError) as error:
        pytest.skip(f"{name} is not installed ({error}): {TOOLS[name].install}")


def choose(*names, **own):
    return methods.choose(names, own, lambda name: False)


@pytest.fixture
def voice():
    """Two seconds of a buzz with another pitch than the one that delays are measured with."""
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    phase = 2.0 * np.pi * np.cumsum(180.0 + 30.0 * np.sin(2.0 * np.pi * 0.9 * times)) / SAMPLE_RATE
    voice = sum(np.sin(order * phase) / order for order in range(1, 40))
    return (0.1 * voice * np.clip(np.sin(2.0 * np.pi * 2.5 * times), 0.0, 1.0)).astype(np.float32)


@pytest.mark.parametrize("name", TOOLS)
def test_outputs_are_as_long_as_the_input_and_in_time(name, voice, rng):
    restore = load(name)
    noise = (1e-4 * rng.standard_normal(len(voice) + PROFILE)).astype(np.float32)
    noisy = voice + noise[PROFILE:]
    restored = restore(noisy, noise[:PROFILE])
    assert restored.shape == noisy.shape and restored.dtype == np.float32
    lags = np.arange(-40, 41)
    inner = slice(100, -100)
    # Differences of samples have a sharper maximum than the buzz itself.
    likeness = [np.dot(np.diff(restored)[inner], np.roll(np.diff(noisy), lag)[inner])
                for lag in lags]
    assert abs(lags[np.argmax(likeness)]) <= 1
    assert metrics.correlation(restored, noisy) > 0.25  # the buzz is not quite a voice
    np.testing.assert_array_equal(restore(noisy, noise[:PROFILE]), restored)  # repeatable
    if name not in ("logmmse", "noisereduce", "sox", "rnnoise", "deepfilternet"):
        return
    # These tools lower steady noise.
    noisy = voice + 100.0 * noise[PROFILE:]
    restored = restore(noisy, 100.0 * noise[:PROFILE])
    pause = slice(round(0.22 * SAMPLE_RATE), round(0.38 * SAMPLE_RATE))
    assert np.std(restored[pause]) < 0.3 * np.std(noisy[pause])


def test_a_filter_with_the_level_of_the_noise_lowers_it(rng):
    noise = (0.02 * rng.standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
    end = slice(SAMPLE_RATE // 2, None)
    restored, blind = load("afftdn_profile")(noise, noise), load("afftdn")(noise, None)
    assert np.std(restored[end]) < 0.7 * np.std(noise[end])
    assert np.std(restored[end]) < np.std(blind[end])


@pytest.mark.parametrize("name", ["adeclick", "grooveclean"])
def test_clicks_are_taken_out(name, voice, rng):
    restore = load(name)
    clean = voice + (1e-4 * rng.standard_normal(len(voice))).astype(np.float32)
    clicked = clean.copy()
    places = np.arange(4000, len(clean) - 4000, 8000)
    clicked[places] += 0.7
    clicked[places + 1] -= 0.5
    assert metrics.snr_db(clean, restore(clicked, None)) > metrics.snr_db(clean, clicked) + 5.0


def test_delay_and_clipping_of_a_tool_do_not_count(voice):
    """A tool at another rate that delays by 700 samples and clips at full scale."""
    tool = Tool(lambda: lambda audio, profile: np.clip(
        np.concatenate([np.zeros(700, np.float32), audio[:-700]]), -1.0, 1.0), rate=48000,
        needs_delay=True)
    loud = dsp.resample(dsp.resample(10.0 * voice, SAMPLE_RATE, 16000), 16000, SAMPLE_RATE)
    assert np.abs(loud).max() > 1.5
    restored = methods.load_tool(tool)(loud, None)
    assert metrics.snr_db(loud, restored) > 50.0
    # Halving is exact, except for denormal numbers.
    np.testing.assert_allclose(methods.load_tool(TOOLS["none"])(loud, None), loud, 0.0, 1e-30)


def test_the_steps_of_a_chain_process_sound_and_profile():
    def halve(audio, profile):
        return 0.5 * audio

    def add_profile(audio, profile):
        return audio + profile.mean()

    own = {"halve": lambda name: halve, "add:profile": lambda name: add_profile}
    (method,), _ = choose("halve+add:profile", **own)
    assert method.uses_profile
    restored = method.each(np.full((1, 4), 2.0), np.full(3, 4.0))
    np.testing.assert_array_equal(restored, np.full((1, 4), 3.0))


def test_without_a_needed_profile_the_output_is_nan():
    method = Method("x", lambda audio, profile: audio, True, False)
    assert np.isnan(method.each(np.zeros((2, 5)))).all()
    assert not method.each(np.zeros((2, 5)), np.zeros(3)).any()


@pytest.mark.parametrize(("name", "reason"), [
    ("noisereduce", ".*noisereduce.*: pip install noisereduce"), ("sox", "sox.*: apt install sox"),
    ("broken", "libtool.so: cannot open.*: pip install tool")])
def test_a_missing_tool_is_named_and_an_error_only_if_it_was_asked_for(name, reason, monkeypatch):
    def load_broken():
        raise OSError("libtool.so: cannot open shared object file")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    tool = Tool(load_broken, "pip install tool") if name == "broken" else TOOLS[name]
    monkeypatch.setattr(methods, "TOOLS", {"none": TOOLS["none"], name: tool})
    found, missing = choose("all")
    assert [method.name for method in found] == ["none"] and list(missing) == [name]
    message = rf"{name} is not installed \({reason}"
    assert re.search(message, missing[name])
    for names in ([name], ["all", name], [f"none+{name}"]):
        with pytest.raises(UserError, match=message):
            choose(*names)


def test_what_a_tool_raises_is_a_failure_of_that_method():
    def restore(audio, profile):
        raise ZeroDivisionError("float division by zero")

    with pytest.raises(MethodError, match="x failed: ZeroDivisionError: float division") as raised:
        Method("x", restore).each(np.zeros((1, 5)))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_unknown_method_raises_an_error_that_lists_all():
    with pytest.raises(UserError, match="`methods` must be mine, none, .*or weights .*"
                       "Received: methods='nnoe'"):
        choose("nnoe", mine=lambda name: None)


def test_each_name_counts_once_and_weights_may_have_a_plus():
    def load(name):
        return lambda audio, profile: audio

    found, _ = methods.choose(["none", "a+b", "none", "a+b:profile"], {"weights": load},
                              lambda name: name in ("a+b", "none"))
    assert [(method.name, method.uses_profile) for method in found] == [
        ("none", False), ("a+b", False), ("a+b:profile", True)]
