"""Each tool that is installed does its work at the right time; what is missing is named."""

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
        return methods.at_its_rate(TOOLS[name])
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
def test_what_comes_out_is_as_long_and_in_time(name, voice, rng):
    restore = load(name)
    noise = (1e-4 * rng.standard_normal(len(voice) + PROFILE)).astype(np.float32)
    heard = voice + noise[PROFILE:]
    restored = restore(heard, noise[:PROFILE])
    assert restored.shape == heard.shape and restored.dtype == np.float32
    lags = np.arange(-40, 41)
    inner = slice(100, -100)
    # Differences: on them one sample's shift can be told, of a buzz itself hardly.
    likeness = [np.dot(np.diff(restored)[inner], np.roll(np.diff(heard), lag)[inner])
                for lag in lags]
    assert abs(lags[np.argmax(likeness)]) <= 1
    assert metrics.correlation(restored, heard) > 0.25  # the buzz is not quite a voice
    np.testing.assert_array_equal(restore(heard, noise[:PROFILE]), restored)  # repeatable


@pytest.mark.parametrize("name", ["logmmse", "noisereduce", "sox", "rnnoise", "deepfilternet"])
def test_steady_noise_is_lowered(name, voice, rng):
    restore = load(name)
    noise = (0.01 * rng.standard_normal(len(voice) + PROFILE)).astype(np.float32)
    heard = voice + noise[PROFILE:]
    restored = restore(heard, noise[:PROFILE])
    pause = slice(round(0.22 * SAMPLE_RATE), round(0.38 * SAMPLE_RATE))
    assert np.std(restored[pause]) < 0.3 * np.std(heard[pause])


def test_a_filter_that_is_told_the_level_of_the_noise_lowers_it(rng):
    noise = (0.02 * rng.standard_normal(2 * SAMPLE_RATE)).astype(np.float32)
    told, blind = load("afftdn_profile"), load("afftdn")
    middle = slice(SAMPLE_RATE // 2, None)
    assert np.std(told(noise, noise)[middle]) < 0.7 * np.std(noise[middle])
    assert np.std(told(noise, noise)[middle]) < np.std(blind(noise, None)[middle])


@pytest.mark.parametrize("name", ["adeclick", "grooveclean"])
def test_clicks_are_taken_out(name, voice, rng):
    restore = load(name)
    heard = voice + (1e-4 * rng.standard_normal(len(voice))).astype(np.float32)
    clicked = heard.copy()
    places = np.arange(4000, len(heard) - 4000, 8000)
    clicked[places] += 0.7
    clicked[places + 1] -= 0.5
    assert metrics.snr_db(heard, restore(clicked, None)) > metrics.snr_db(heard, clicked) + 5.0


def test_delay_and_clipping_of_a_tool_do_not_count(voice):
    """A tool at another rate that delays by 700 samples and clips at full scale."""
    tool = Tool(lambda: lambda audio, profile: np.clip(
        np.concatenate([np.zeros(700, np.float32), audio[:-700]]), -1.0, 1.0), rate=48000,
        needs_delay=True)
    loud = dsp.resample(dsp.resample(10.0 * voice, SAMPLE_RATE, 16000), 16000, SAMPLE_RATE)
    assert np.abs(loud).max() > 1.5
    restored = methods.at_its_rate(tool)(loud, None)
    assert metrics.snr_db(loud, restored) > 50.0
    # Halving is exact down to where numbers end.
    np.testing.assert_allclose(methods.at_its_rate(TOOLS["none"])(loud, None), loud, 0.0, 1e-30)


def test_a_chain_gives_on_what_it_made_of_sound_and_noise():
    def halve(audio, profile):
        return 0.5 * audio

    def add_profile(audio, profile):
        return audio + profile.mean()

    own = {"halve": lambda name: halve, "add:profile": lambda name: add_profile}
    (method,), _ = choose("halve+add:profile", **own)
    assert method.uses_profile
    restored = method.each(np.full((1, 4), 2.0), np.full(3, 4.0))
    np.testing.assert_array_equal(restored, np.full((1, 4), 3.0))


def test_what_cannot_do_without_a_profile_returns_no_numbers():
    method = Method("x", lambda audio, profile: audio, True, False)
    assert np.isnan(method.each(np.zeros((2, 5)))).all()
    assert not method.each(np.zeros((2, 5)), np.zeros(3)).any()


def test_what_is_missing_is_named_and_an_error_only_where_it_was_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    monkeypatch.setattr(methods, "TOOLS", {name: TOOLS[name] for name in ("none", "noisereduce")})
    found, missing = choose("all")
    assert [method.name for method in found] == ["none"] and list(missing) == ["noisereduce"]
    assert "pip install noisereduce" in missing["noisereduce"]
    for names in (["noisereduce"], ["all", "noisereduce"], ["none+noisereduce"]):
        with pytest.raises(UserError, match="noisereduce is not installed .*pip install"):
            choose(*names)


def test_a_library_that_cannot_be_loaded_is_not_installed(monkeypatch):
    def load():
        raise OSError("libtool.so: cannot open shared object file")

    monkeypatch.setattr(methods, "TOOLS", {"none": TOOLS["none"],
                                           "tool": Tool(load, "pip install tool")})
    found, missing = choose("all")
    assert [method.name for method in found] == ["none"]
    assert "tool is not installed (libtool.so: cannot open" in missing["tool"]
    with pytest.raises(UserError, match="tool is not installed .*pip install tool"):
        choose("tool")


def test_what_a_tool_raises_is_a_failure_of_that_method():
    def restore(audio, profile):
        raise ZeroDivisionError("float division by zero")

    with pytest.raises(MethodError, match="x failed: ZeroDivisionError: float division") as told:
        Method("x", restore).each(np.zeros((1, 5)))
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_a_missing_program_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="sox is not installed .*apt install sox"):
        choose("sox")


def test_an_unknown_method_is_told_what_there_is():
    with pytest.raises(UserError, match="`methods` must be mine, none, .*weights .small, .*"
                       "Received: methods='nnoe'"):
        choose("nnoe", mine=lambda name: None)


def test_each_name_counts_once_and_weights_may_have_a_plus():
    def load(name):
        return lambda audio, profile: audio

    found, _ = methods.choose(["none", "a+b", "none", "a+b:profile"], {"weights": load},
                              lambda name: name in ("a+b", "none"))
    assert [(method.name, method.uses_profile) for method in found] == [
        ("none", False), ("a+b", False), ("a+b:profile", True)]
