"""The kinds of noise: what each consists of, and its settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from carrier_samples import ROOT, rng
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from config import load_config
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.checks import UserError
from denoiser.noise.carriers import (
    FOLLOWING_KINDS,
    KINDS,
    CarrierConfig,
    FilmConfig,
    GramophoneConfig,
    HumConfig,
    TapeConfig,
)
from denoiser.noise.generator import CarrierNoise, draw_carrier

PARTS = {
    "gramophone": ["hiss", "crackle", "clicks", "thumps", "rumble", "hum"],
    "film": ["hiss", "crackle", "clicks", "buzz", "splices", "hum", "lamp"],
    "tape": ["hiss", "hum"],
    "hum": ["hiss", "hum"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_has_a_name_and_can_be_left_out(kind: str) -> None:
    ranges = CarrierConfig(
        kind, gramophone=GramophoneConfig(part_chance=1.0), film=FilmConfig(part_chance=1.0),
        tape=TapeConfig(part_chance=1.0))
    carrier = draw_carrier(kind, rng(1), carrier=ranges)
    assert list(carrier.parts) == PARTS[kind]
    assert (carrier.following is not None) == (kind in FOLLOWING_KINDS)
    if kind != "hum":
        for name in ("gramophone", "film", "tape"):
            getattr(ranges, name).part_chance = 0.0
        kept = [part for part in ("hiss", "crackle", "clicks") if part in PARTS[kind]]
        assert list(draw_carrier(kind, rng(1), carrier=ranges).parts) == kept


def test_a_part_can_stand_alone_or_dominate() -> None:
    def listen(change: Callable[[dict], object], per_second: float = 8.0) -> np.ndarray:
        ranges = CarrierConfig(gramophone=GramophoneConfig(
            clicks_per_second=[per_second, per_second], part_chance=1.0))
        carrier = draw_carrier("gramophone", rng(2), carrier=ranges)
        change(carrier.parts)
        return CarrierNoise(carrier).read(2 * SAMPLE_RATE)

    whole = listen(lambda parts: None)
    def only_clicks(parts: dict) -> None:
        for name in set(parts) - {"clicks"}:
            del parts[name]

    alone = listen(only_clicks)
    assert not listen(only_clicks, per_second=0.0).any()
    assert np.mean(np.abs(alone) < 1e-9) > 0.5 > 0.01 > np.mean(np.abs(whole) < 1e-9)
    louder = listen(lambda parts: parts.update(clicks=(80.0, parts["clicks"][1])))
    assert np.mean(np.abs(louder) < 1e-4) > 0.5 > 0.1 > np.mean(np.abs(whole) < 1e-4)


@pytest.mark.parametrize("kind", ["gramophone", "film", "tape", "mixed"])
def test_config_files_choose_a_kind_and_repeat_no_default(kind: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", [f"noise={kind}", "path_experiment=run"]))
    assert cfg.noise == CarrierConfig(kind=kind)
    for name, value in OmegaConf.load(ROOT / "conf" / "noise" / f"{kind}.yaml").items():
        assert value != getattr(CarrierConfig(), name)


def test_each_kind_has_its_settings() -> None:
    names = {item.name for item in fields(CarrierConfig)}
    assert names == {"kind", *KINDS, *(f"{kind}_share" for kind in KINDS)}


@pytest.mark.parametrize(("call", "words"), [
    (lambda: CarrierConfig(kind="wax"), "noise.kind"),
    (lambda: CarrierConfig(film_share=-1.0), "_share"),
    (lambda: GramophoneConfig(click_db=[3.0, 1.0]), "noise.gramophone.click_db"),
    (lambda: GramophoneConfig(crackle_spread_db=[-2.0, 1.0]), "gramophone.crackle_spread_db"),
    (lambda: FilmConfig(part_chance=2.0), "noise.film.part_chance"),
    (lambda: FilmConfig(click_ms=[0.0, 0.4]), "noise.film.click_ms"),
    (lambda: TapeConfig(dropout_ms=[0.0, 200.0]), "noise.tape.dropout_ms"),
    (lambda: GramophoneConfig(turns_per_minute=[0.0]), "noise.gramophone.turns_per_minute"),
    (lambda: GramophoneConfig(turns_per_minute=[]), "noise.gramophone.turns_per_minute"),
    (lambda: GramophoneConfig(locked_share=[0.5, 2.0]), "noise.gramophone.locked_share"),
    (lambda: HumConfig(speed=[0.0, 0.0]), "noise.hum.speed"),
    (lambda: TapeConfig(dropouts_per_second=[-1.0, 1.0]), "dropouts_per_second"),
    (lambda: GramophoneConfig(spectra_db=[[0.0]]), "spectra_db"),
])
def test_wrong_settings_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()
