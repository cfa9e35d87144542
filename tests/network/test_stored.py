"""Settings beside weights: only changes are written, and files of all releases are read."""

import pytest
from omegaconf import OmegaConf

from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import exit_on_user_error
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import NetworkSettings, read_network_settings, read_settings
from historical_denoiser.settings import Config, save_config

WEIGHTS = "best.weights.h5"
CFG = Config(path_experiment="run", unet=UnetConfig(depth=2, fold_bins=4),
             stft=StftConfig(highpass_hz=20.0), dset=DsetConfig(reference_dbfs=-20.0))
EXPECTED = NetworkSettings(CFG.unet, CFG.stft, -20.0, 1.25)


def test_what_differs_is_enough(tmp_path):
    assert read_network_settings(tmp_path / WEIGHTS) is None
    save_config(CFG, tmp_path / "config.yaml")
    with (tmp_path / "config.yaml").open("a", encoding="utf-8") as stream:
        stream.write("setting_of_a_later_release: 1\n")
    assert read_network_settings(tmp_path / WEIGHTS) == EXPECTED
    save_config(Config(path_experiment="run"), tmp_path / "config.yaml")
    assert read_network_settings(tmp_path / WEIGHTS) == NetworkSettings()


def test_earlier_releases_stored_everything(tmp_path):
    OmegaConf.save(OmegaConf.structured(CFG), tmp_path / "config.yaml")
    assert read_network_settings(tmp_path / WEIGHTS) == EXPECTED
    assert "settings_version" not in read_settings(tmp_path / "config.yaml")


@pytest.mark.parametrize(("text", "highpass_hz", "context_seconds"), [
    ("lr: 0.1", 0.0, 3.0), ("settings_version: 1\ndset: {mix: {music: 0.7}}", 0.0, 3.0),
    ("settings_version: 1\ndset: {snr_highpass_hz: 30.0}", 30.0, 3.0),
    ("settings_version: 2\nlr: 0.1", None, 3.0), ("settings_version: 3", None, 2.25),
    ("settings_version: 4", None, 1.25),
    ("settings_version: 2\ninference: {context_seconds: 4.0}", None, 4.0)])
def test_a_file_is_read_with_the_defaults_of_its_release(
        tmp_path, text, highpass_hz, context_seconds):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert OmegaConf.select(read_settings(path), "dset.snr_highpass_hz") == highpass_hz
    assert read_network_settings(tmp_path / WEIGHTS).context_seconds == context_seconds


@pytest.mark.parametrize(("text", "message"), [
    ("settings_version: 99", "`settings_version` must be at most 4; .* Received: 99"),
    ("unet: {deepness: 3}", "`unet` cannot be understood: .*deepness"),
    ("unet: {depth: 0}", "`unet` cannot be understood: `unet.depth` must be at least 1"),
    ("dset: {reference_dbfs: loud}", "reference_dbfs` must be null or in .* Received"),
    ("inference: {context_seconds: null}", "context_seconds` must be at least 0"),
    ("unet: 3", "`unet` cannot be understood"),
    ("[1, 2]", "must hold settings"), ("5", "must be YAML: .*int"),
    ("? [1]", "must be YAML: .*unhashable key"), ("a: *b", "must be YAML: .*undefined alias"),
    ("unet: [1, 2", "must be YAML: .*line"), ("unet: null", "`unet` cannot be understood: .*None"),
    ("unet: {depth: abc}", "`unet` cannot be understood: .*'abc'"),
    ("unet: {channels: [a]}", "`unet` cannot be understood: .*'a'"),
    ("stft: abc", "`stft` cannot be understood"),
    ("inference: [1]", "`inference.context_seconds` cannot be understood"),
    ("dset: {reference_dbfs: {a: 1}}", "reference_dbfs` must be null or in .* Received")])
def test_faults_are_named_with_their_file(tmp_path, text, message):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_network_settings(tmp_path / WEIGHTS)
    assert str(tmp_path / "config.yaml") in str(caught.value)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
def test_settings_are_data_and_run_nothing(tmp_path, tag):
    made = tmp_path / "made"
    (tmp_path / "config.yaml").write_text(f"unet: {tag} ['{made}']\n")
    with pytest.raises(SystemExit, match=r"error: .*config.yaml"):
        exit_on_user_error(read_settings)(tmp_path / "config.yaml")
    assert not made.exists()
