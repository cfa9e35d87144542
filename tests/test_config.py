"""Every configuration composes, and what is out of range is named."""

import pytest
from omegaconf import OmegaConf
from small_corpus import ROOT, composed

import config
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.network.stored import read_network_settings, read_settings
from historical_denoiser.noise.carriers import CarrierConfig, FilmConfig
from historical_denoiser.page.settings import AppConfig
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.settings import Config, UnetConfig
from historical_denoiser.training.settings import LOSS_PARTS, LossConfig, ScheduleConfig

CONF = ROOT / "conf"
SECTIONS = {"": Config, "unet": UnetConfig, "stft": StftConfig, "dset": DsetConfig,
            "loss": LossConfig, "schedule": ScheduleConfig, "inference": InferenceConfig,
            "noise.film": FilmConfig, "diffusion": DiffusionConfig, "app": AppConfig}


@pytest.mark.parametrize(("name", "unet"), [
    ("conf", None), ("conf_film", None), ("conf_diffusion", None),
    ("conf_prototype", UnetConfig(depth=3, num_tfc=1)),
    ("conf_paper", UnetConfig(depth=4, num_tfc=3)),
    ("conf_cassette", UnetConfig(form="mask", depth=4, channels=[64, 128, 256, 512, 1024])),
    ("conf_cassette_narrow", UnetConfig(form="mask", depth=4, channels=[16, 32, 64, 128, 256]))])
def test_configurations_compose(name, unet):  # the three before the last as published
    cfg = composed(name=name)
    assert isinstance(cfg, Config) and cfg.path_experiment.startswith("experiments/")
    assert unet is None or cfg.unet == unet
    if name == "conf":  # faint hiss, and print-through, are part of the training
        assert cfg.dset.snr_db == [-4.0, 50.0] and cfg.dset.share_printed > 0.0


@pytest.mark.parametrize("kind", ["gramophone", "film", "tape", "mixed"])
def test_noise_group(kind):
    noise = composed(f"noise={kind}").noise
    chosen = OmegaConf.load(CONF / f"noise/{kind}.yaml")
    assert noise.kind == kind and noise.fluctuating_share == 0.4
    assert noise == OmegaConf.to_object(OmegaConf.merge(CarrierConfig, chosen))
    shares = [noise.share(name) for name in ("gramophone", "film", "tape", "hum")]
    assert sum(shares) == pytest.approx(1.0)
    assert noise.share("my_wax_cylinders") > 0.0
    if kind != "mixed":
        assert noise.share(kind) == 1.0


@pytest.mark.parametrize("name", ["mae", "multi_resolution_stft", "log_spectral", "si_sdr", "mask",
                                  "film"])
def test_loss_group(name):
    chosen = composed(f"loss={name}").loss
    if name in LOSS_PARTS:
        assert max(LOSS_PARTS, key=lambda part: getattr(chosen, part)) == name
    else:
        assert {part for part in LOSS_PARTS if getattr(chosen, part)} == {
            "compressed", "over_suppression", "snr", "log_spectral"}


@pytest.mark.parametrize(("name", "value"), [
    ("unet.num_stages", 3), ("unet.output", "gain"), ("stft.hop_size", 0), ("stft.win_size", 1),
    ("unet.form", "gain"), ("unet.dropout", 1.0),
    ("dset.snr_db", [20.0, 2.0]), ("dset.snr_db", [2.0, float("inf")]),
    ("dset.reference_dbfs", float("nan")), ("diffusion.sigma_min", 20.0),
    ("diffusion.overlap_seconds", 0.5), ("diffusion.snr_db", [3.0]), ("diffusion.xi", -1.0),
    ("noise.film.hum_db", [-float("inf"), 3.0]),
    ("dset.share_clean", 1.5), ("dset.noise_speed", [0.1, 1.0]),
    *(("dset.evaluation_snrs_db", snrs_db) for snrs_db in (
        [], [3.0, float("nan")], [float("inf")])),
    ("dset.snr_highpass_hz", -1.0), ("dset.snr_highpass_hz", float("nan")),
    ("dset.noise_balance_db", 41.0), ("loss.mae", -1.0), ("loss.snr", -1.0), ("loss.exponent", 0.0),
    ("precision", "float8"), ("strategy", "all"), ("schedule.name", "linear"),
    ("unet.long_fade", -1),
    ("schedule.boundaries_epochs", [2, 1]), ("schedule.warmup_steps", -5),
    ("schedule.factor", -1.0), ("schedule.final_ratio", -1.0),
    ("inference.denoising_strength", 1.1), ("inference.denoising_strength", "some"),
    ("inference.denoising_strength", True), ("inference.mono_source", "perhaps"),
    ("inference.cluster_address", "auto"), ("inference.cluster_cores", 2), ("inference.track", 0),
    *(("inference.track", track) for track in (-1, True, 1.0, "both")),
    ("inference.track_codec", "mp3"), ("inference.strength_per_band", [[500]]),
    *(("inference.band_hz", band) for band in (100, [100], [200, 100], [5, None], [True, None])),
    *(("inference.repair", kinds) for kinds in ("gaps", ["gap"], [["gaps"]], 1)),
    ("inference.noise_floor_db", -1.0), ("inference.segment_seconds", 1e-9),
    ("inference.segment_seconds", float("inf")), ("inference.context_seconds", float("inf")),
    ("gradient_clip", -1.0), ("gradient_clip", float("nan")), ("ema_momentum", 1.0),
    ("lr", float("inf")), ("seed", -1), ("epochs", 0), ("beta1", 1.0), ("method", "wiener"),
    ("app.port", 0), ("app.port", 65536), ("app.largest_mb", 0), ("app.waiting", 0),
    ("app.most_million_samples", 0), ("app.longest_minutes", 0.0), ("app.host", ""),
    ("app.keep_hours", float("inf")), ("app.all_users_gb", 0.0)])
def test_impossible_values_are_named(name, value):
    section, _, field = name.rpartition(".")
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received"):
        SECTIONS[section](**{field: value})


def test_values_at_their_limits_are_allowed():
    chosen = DsetConfig(evaluation_snrs_db=[-5.0], noise_balance_db=40.0)
    assert chosen.evaluation_snrs_db == [-5.0] and chosen.noise_balance_db == 40.0


def test_values_that_do_not_fit_each_other_are_named():
    with pytest.raises(ValueError, match="`loss` must be .* Received"):
        LossConfig(mae=0.0)
    with pytest.raises(ValueError, match="`unet.channels` must be .* Received"):
        UnetConfig(depth=7)
    with pytest.raises(ValueError, match="`weights` must be .* Received"):
        Config(method="lsa", weights="a.weights.h5")
    with pytest.raises(ValueError, match="`precision` must be .* Received"):
        Config(method="diffusion", precision="mixed_bfloat16")
    with pytest.raises(ValueError, match="`max_minutes` must be .* Received"):
        Config(schedule=ScheduleConfig("minutes"))
    with pytest.raises(ValueError, match="`strategy` must be .* Received"):
        Config(schedule=ScheduleConfig("minutes"), max_minutes=1.0, strategy="multi_worker")
    with pytest.raises(ValueError, match="`unet.long_fade` must be .* Received"):
        composed("unet.long_fade=65")


def test_the_views_of_the_default_can_be_left_out():
    assert not composed("unet.use_short=false", "unet.use_long=false").unet.use_long


def test_the_guidance_is_stronger_where_little_noise_is_known():
    chosen = DiffusionConfig()
    assert [chosen.weight(snr_db) for snr_db in (None, 3.0, 10.0)] == pytest.approx([0.35] * 3)
    # B. V. Miranda's testing.py: 1.4 at 20 dB, 2.45 at 30 dB.
    assert [chosen.weight(snr_db) for snr_db in (20.0, 30.0)] == pytest.approx([1.4, 2.45])
    assert DiffusionConfig(xi=0.1).weight(30.0) == 0.1


@pytest.mark.parametrize("name", ["conf", "conf_paper", "conf_prototype", "dset/folders",
                                  "dset/starter", "loss/film", "loss/log_spectral", "loss/mae",
                                  "loss/multi_resolution_stft", "loss/si_sdr", "noise/film",
                                  "noise/gramophone", "noise/mixed", "noise/tape"])
def test_a_file_of_settings_holds_only_what_differs_from_the_defaults(name):
    """Those that build on another configuration may also change what that one has changed."""
    def repeated(chosen, defaults, prefix=""):
        for key, value in chosen.items():
            if isinstance(value, dict):
                yield from repeated(value, defaults[key], f"{prefix}{key}.")
            elif value == defaults[key]:
                yield f"{prefix}{key}"

    chosen = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml") or OmegaConf.create())
    chosen.pop("defaults", None)
    defaults = OmegaConf.to_container(OmegaConf.structured(Config))
    assert not list(repeated(chosen, defaults.get(name.split("/")[0], defaults)))


@pytest.mark.parametrize("path", sorted(CONF.glob("carrier/*.yaml")), ids=lambda path: path.stem)
def test_a_carrier_changes_settings_of_a_restoration_alone(path):
    """In each configuration; what the user gives goes before."""
    cfg, usual = composed(f"carrier={path.stem}"), composed()
    assert cfg.carrier == path.stem
    changed = {name for name, value in vars(cfg.inference).items()
               if value != getattr(usual.inference, name)}
    assert changed == set(OmegaConf.load(path).get("inference", {}))
    assert bool(changed) == (path.stem != "auto")
    cfg.carrier, cfg.inference = "auto", usual.inference
    assert cfg == usual
    given = composed(f"carrier={path.stem}", "inference.band_hz=[null,9000]", name="conf_film")
    assert given.inference.band_hz == [None, 9000]
    assert f"`{path.stem}`" in (ROOT / "docs" / "carriers.md").read_text(encoding="utf-8")


def test_a_saved_configuration_is_read_back_and_holds_what_differs(tmp_path):
    cfg = Config(path_experiment="run", unet=UnetConfig(depth=2, channels=[4, 4, 4]), lr=0.5,
                 inference=InferenceConfig(audio=["a.wav"]), dset=DsetConfig(reference_dbfs=-20.0))
    config.save_config(cfg, tmp_path / "config.yaml")
    stored = read_settings(tmp_path / "config.yaml")
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), stored)) == cfg
    assert (tmp_path / "config.yaml").read_text().splitlines() == [
        "settings_version: 4", "path_experiment: run", "unet:", "  depth: 2", "  channels:",
        "  - 4", "  - 4", "  - 4", "dset:", "  reference_dbfs: -20.0", "inference:", "  audio:",
        "  - a.wav", "lr: 0.5"]


def test_the_shipped_settings_are_those_of_the_configuration():
    """Network and transform; what it was trained with may be anything."""
    shipped = read_network_settings(config.PRETRAINED / "best.weights.h5")
    assert shipped == config.network_settings(composed())
