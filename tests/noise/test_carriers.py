"""The kinds of noise: what each consists of, and its settings."""

from collections.abc import Callable

import numpy as np
import pytest
from carrier_samples import rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise import carriers, parts
from historical_denoiser.noise.carriers import (
    CARRIERS,
    FOLLOWING_KINDS,
    KINDS,
    CarrierConfig,
    FilmConfig,
    GramophoneConfig,
    HumConfig,
    PartShares,
    TapeConfig,
    draw_bare_hum,
    draw_mechanism,
)
from historical_denoiser.noise.generator import CarrierNoise, draw_carrier
from historical_denoiser.noise.moving import MovingConfig

PARTS = {
    "gramophone": ["hiss", "crackle", "clicks", "thumps", "rumble", "hum"],
    "film": ["hiss", "crackle", "clicks", "buzz", "splices", "hum", "lamp", "mechanism"],
    "tape": ["hiss", "hum"],
    "hum": ["hiss", "hum"],
}


def test_buzz_has_lines_over_the_whole_band_and_hum_has_not() -> None:
    """Share of the power above 3 kHz, and of that the share near multiples of 10 Hz."""
    spans = {}
    for chance in (0.0, 1.0):
        cfg = HumConfig(speed=[1.0, 1.0], drift_percent=[0.0, 0.0], buzz_chance=chance)
        powers = []
        for seed in range(30):
            audio = parts.render(draw_bare_hum(rng(seed), cfg)[1], 2 * SAMPLE_RATE)
            power = np.abs(fft.rfft(audio * np.hanning(len(audio)))) ** 2
            high = power[6000:44000].reshape(-1, 20).sum(axis=0)  # bins are half a hertz apart
            powers.append((high.sum() / power.sum(), high[[19, 0, 1]].sum() / high.sum()))
        spans[chance] = np.array(powers)
    assert np.median(spans[0.0][:, 0]) < 1e-4 < 0.01 < np.median(spans[1.0][:, 0])
    assert np.median(spans[1.0][:, 1]) > 0.99


def test_an_arc_flares_up_twice_in_a_period() -> None:
    cfg = HumConfig(speed=[1.0, 1.0], arc_chance=1.0, arc_db=[20.0, 20.0])
    for seed in range(4):
        hiss = CARRIERS["hum"](rng(seed), cfg).parts["hiss"][1]
        power = parts.render(hiss, 4 * SAMPLE_RATE) ** 2
        spectrum = np.abs(fft.rfft(power))[: 4 * 200]  # bins of a quarter of a hertz
        assert np.argmax(spectrum[40:]) + 40 in (4 * 100, 4 * 120)


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_has_a_name_and_can_be_left_out(kind: str) -> None:
    ranges = CarrierConfig(
        kind, alone_share=0.0, gramophone=GramophoneConfig(part_chance=1.0),
        film=FilmConfig(part_chance=1.0, mechanism_chance=1.0), tape=TapeConfig(part_chance=1.0))
    carrier = draw_carrier(kind, rng(1), carrier=ranges)
    assert list(carrier.parts) == PARTS[kind]
    assert (carrier.following is not None) == (kind in FOLLOWING_KINDS)
    if kind != "hum":
        for name in ("gramophone", "film", "tape"):
            getattr(ranges, name).part_chance = 0.0
        ranges.film.mechanism_chance = 0.0
        kept = [part for part in ("hiss", "crackle", "clicks") if part in PARTS[kind]]
        assert list(draw_carrier(kind, rng(1), carrier=ranges).parts) == kept


def test_parts_can_be_left_out_or_amplified() -> None:
    def render(change: Callable[[dict], dict], per_second: float = 8.0) -> np.ndarray:
        ranges = CarrierConfig(alone_share=0.0, dominant_share=0.0, gramophone=GramophoneConfig(
            clicks_per_second=[per_second, per_second], click_db=[20.0, 33.0], part_chance=1.0))
        carrier = draw_carrier("gramophone", rng(4), carrier=ranges)
        carrier.parts = change(carrier.parts)
        return CarrierNoise(carrier).read(2 * SAMPLE_RATE)

    def only_clicks(parts: dict) -> dict:
        return {"clicks": parts["clicks"]}

    whole, alone = render(dict), render(only_clicks)
    assert not render(only_clicks, per_second=0.0).any()
    assert np.mean(np.abs(alone) < 1e-9) > 0.5 > 0.01 > np.mean(np.abs(whole) < 1e-9)
    louder = render(lambda parts: parts | {"clicks": (80.0, parts["clicks"][1])})
    assert np.mean(np.abs(louder) < 1e-4) > 0.5 > 0.1 > np.mean(np.abs(whole) < 1e-4)


def test_a_mechanism_strikes_with_each_frame(monkeypatch) -> None:
    monkeypatch.setattr(carriers, "CLATTER_CHANCE", 0.0)  # it may be louder than the strokes
    cfg = FilmConfig(strokes_per_second=[20.0, 20.0], stroke_ms=[10.0, 20.0])
    found = []
    for seed in range(12):
        noise = parts.render(draw_mechanism(rng(seed), cfg), 4 * SAMPLE_RATE)
        power = np.square(noise, dtype=np.float64).reshape(-1, 441).sum(axis=1)  # 100 a second
        spectrum = np.abs(fft.rfft(power - power.mean()))[:len(power) // 2]
        harmonics = spectrum[[80, 160]]  # of 4 s
        found.append(harmonics.max() / np.median(spectrum))
    assert np.median(found) > 15.0 and min(found) > 3.0


@pytest.mark.parametrize(("call", "words"), [
    (lambda: CarrierConfig(kind="wax"), "noise.kind"),
    (lambda: CarrierConfig(film_share=-1.0), "_share"),
    (lambda: CarrierConfig(alone_share=1.5), "noise.alone_share"),
    (lambda: CarrierConfig(alone_share=0.7, dominant_share=0.5), "noise.dominant_share"),
    (lambda: CarrierConfig(dominant_db=[5.0, 3.0]), "noise.dominant_db"),
    (lambda: PartShares(hum=-0.1), "noise.part_shares.hum"),
    (lambda: PartShares(**dict.fromkeys(vars(PartShares()), 0.0)), "noise.part_shares"),
    (lambda: FilmConfig(strokes_per_second=[0.0, 24.0]), "noise.film.strokes_per_second"),
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
    (lambda: MovingConfig(band_hz=[0.0, 10.0]), "noise.moving.band_hz"),
    (lambda: MovingConfig(low_chance=1.5), "noise.moving.low_chance"),
])
def test_wrong_settings_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()
