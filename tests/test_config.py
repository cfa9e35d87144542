"""Every configuration composes, and what is out of range is named."""

import pytest
from hydra import compose, initialize_config_dir

import config
from config import (
    Config,
    DsetConfig,
    InferenceConfig,
    LossConfig,
    ScheduleConfig,
    StftConfig,
    UnetConfig,
)

CONF = str(config.PRETRAINED.parent / "conf")


@pytest.mark.parametrize("name", ["conf", "conf_prototype", "conf_paper"])
def test_configurations_compose(name):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = config.load_config(compose(name))
    assert isinstance(cfg, Config) and cfg.path_experiment.startswith("experiments/")


def test_published_forms():
    with initialize_config_dir(CONF, version_base="1.3"):
        prototype = config.load_config(compose("conf_prototype")).unet
        paper = config.load_config(compose("conf_paper")).unet
    assert prototype == UnetConfig(depth=3, num_tfc=1)
    assert paper == UnetConfig(depth=4, num_tfc=3)


@pytest.mark.parametrize(("make", "name"), [
    (lambda: UnetConfig(depth=7), "unet.channels"), (lambda: UnetConfig(num_stages=3),
                                                     "unet.num_stages"),
    (lambda: UnetConfig(output="gain"), "unet.output"),
    (lambda: StftConfig(hop_size=0), "stft.hop_size"),
    (lambda: StftConfig(win_size=2047), "stft.win_size"),
    (lambda: DsetConfig(snr_db=[20.0, 2.0]), "dset.snr_db"),
    (lambda: DsetConfig(share_clean=1.5), "dset.share_clean"),
    (lambda: LossConfig(name="mse"), "loss.name"),
    (lambda: ScheduleConfig(name="linear"), "schedule.name"),
    (lambda: ScheduleConfig(boundaries_epochs=[2, 1]), "schedule.boundaries_epochs"),
    (lambda: InferenceConfig(denoising_strength=1.1), "inference.denoising_strength"),
    (lambda: Config(epochs=0), "epochs"), (lambda: Config(beta1=1.0), "beta1")])
def test_impossible_values_are_named(make, name):
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received"):
        make()


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "last.weights.h5"
    path.write_text("old")

    def write_half():
        with config.replacing(path) as temporary:
            assert temporary.name.endswith(".weights.h5")
            temporary.write_text("half of the new")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk"):
        write_half()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_weights_are_chosen_in_order(tmp_path):
    cfg = Config(path_experiment=str(tmp_path))
    assert config.weights_path(cfg) == config.PRETRAINED / "best.weights.h5"
    (tmp_path / "best.weights.h5").touch()
    assert config.weights_path(cfg) == tmp_path / "best.weights.h5"
    cfg.weights = "other.weights.h5"
    assert str(config.weights_path(cfg)) == "other.weights.h5"


def test_stored_network_is_read_back(tmp_path):
    cfg = Config(path_experiment=str(tmp_path), unet=UnetConfig(depth=2, fold_bins=4),
                 dset=DsetConfig(reference_dbfs=-20.0))
    config.save_config(cfg, tmp_path / "config.yaml")
    stored = config.stored_unet_config(tmp_path / "best.weights.h5")
    assert stored == (cfg.unet, cfg.stft, -20.0)
