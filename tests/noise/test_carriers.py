"""The kinds of noise: what each consists of, and its settings."""

from collections.abc import Callable

import numpy as np
import pytest
from carrier_samples import band_levels_db, plain_disc, rng
from scipy import fft

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise import carriers, episodes, parts
from historical_denoiser.noise.carriers import KINDS, CarrierConfig, FilmConfig, GramophoneConfig
from historical_denoiser.noise.generator import draw_carrier
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
        cfg = carriers.HumConfig(speed=[1.0, 1.0], drift_percent=[0.0, 0.0], buzz_chance=chance)
        powers = []
        for seed in range(30):
            audio = parts.render(carriers.draw_bare_hum(rng(seed), cfg)[1], 2 * SAMPLE_RATE)
            power = np.abs(fft.rfft(audio * np.hanning(len(audio)))) ** 2
            high = power[6000:44000].reshape(-1, 20).sum(axis=0)  # bins are half a hertz apart
            powers.append((high.sum() / power.sum(), high[[19, 0, 1]].sum() / high.sum()))
        spans[chance] = np.array(powers)
    assert np.median(spans[0.0][:, 0]) < 1e-4 < 0.01 < np.median(spans[1.0][:, 0])
    assert np.median(spans[1.0][:, 1]) > 0.99


def test_an_arc_flares_up_twice_in_a_period() -> None:
    cfg = carriers.HumConfig(speed=[1.0, 1.0], arc_chance=1.0, arc_db=[20.0, 20.0])
    for seed in range(4):
        hiss = carriers.CARRIERS["hum"](rng(seed), cfg).parts["hiss"][1]
        power = parts.render(hiss, 4 * SAMPLE_RATE) ** 2
        spectrum = np.abs(fft.rfft(power))[: 4 * 200]  # bins of a quarter of a hertz
        assert np.argmax(spectrum[40:]) + 40 in (4 * 100, 4 * 120)


@pytest.mark.parametrize("kind", KINDS)
def test_each_part_has_a_name_and_can_be_left_out(kind: str) -> None:
    ranges = CarrierConfig(
        kind, alone_share=0.0, gramophone=GramophoneConfig(part_chance=1.0),
        film=FilmConfig(part_chance=1.0, mechanism_chance=1.0),
        tape=carriers.TapeConfig(part_chance=1.0))
    carrier = draw_carrier(kind, rng(1), carrier=ranges)
    assert list(carrier.parts) == PARTS[kind]
    assert (carrier.following is not None) == (kind in carriers.FOLLOWING_KINDS)
    if kind != "hum":
        for name in ("gramophone", "film", "tape"):
            getattr(ranges, name).part_chance = 0.0
        ranges.film.mechanism_chance = 0.0
        kept = [part for part in ("hiss", "crackle", "clicks") if part in PARTS[kind]]
        assert list(draw_carrier(kind, rng(1), carrier=ranges).parts) == kept


def test_a_mechanism_strikes_with_each_frame(monkeypatch) -> None:
    monkeypatch.setattr(carriers, "CLATTER_CHANCE", 0.0)  # it may be louder than the strokes
    cfg = FilmConfig(strokes_per_second=[20.0, 20.0], stroke_ms=[10.0, 20.0])
    found = []
    for seed in range(12):
        noise = parts.render(carriers.draw_mechanism(rng(seed), cfg), 4 * SAMPLE_RATE)
        power = np.square(noise, dtype=np.float64).reshape(-1, 441).sum(axis=1)  # 100 a second
        spectrum = np.abs(fft.rfft(power - power.mean()))[:len(power) // 2]
        harmonics = spectrum[[80, 160]]  # of 4 s
        found.append(harmonics.max() / np.median(spectrum))
    assert np.median(found) > 15.0 and min(found) > 3.0


def test_print_through_precedes_and_follows_the_programme() -> None:
    programme = np.zeros(6 * SAMPLE_RATE, np.float32)
    tone = slice(3 * SAMPLE_RATE, round(3.2 * SAMPLE_RATE))
    programme[tone] = np.sin(2.0 * np.pi * 600.0 * np.arange(tone.stop - tone.start) / SAMPLE_RATE)
    cfg = carriers.TapeConfig(
        print_db=[-40.0, -40.0], print_seconds=[1.5, 1.5], print_hz=[600.0, 600.0])
    levels = parts.to_gain(40.0) * carriers.print_through(programme, rng(), cfg)
    power = np.mean(np.square(levels.reshape(-1, SAMPLE_RATE // 10)), axis=1)  # of tenths
    assert set(np.flatnonzero(power > 0.1)) == {15, 16, 45, 46}
    np.testing.assert_allclose(power[[15, 16, 45, 46]], 0.5, rtol=0.1)  # as the programme's


def test_a_clogged_head_takes_the_treble_of_the_hiss_for_a_while() -> None:
    for seed in range(4):
        plain, clogged = (parts.render(carriers.CARRIERS["tape"](rng(seed), carriers.TapeConfig(
            clog_chance=chance, clog_db=[20.0, 20.0], clog_hz=[1500.0, 1500.0], part_chance=0.0,
            )).parts["hiss"][1], 12 * SAMPLE_RATE) for chance in (0.0, 1.0))
        treble, bass = (band_levels_db(clogged, *band_hz) - band_levels_db(plain, *band_hz)
                        for band_hz in ((8000.0, 12000.0), (100.0, 400.0)))
        assert -21.0 < treble.min() < -8.0 and np.abs(bass).max() < 1.0
        assert np.mean(np.abs(treble) < 1.0) > 0.1  # and it returns


@pytest.mark.parametrize("kind", ["gramophone", "film"])
def test_level_and_colour_of_each_part_change_by_themselves(kind: str) -> None:
    def render(name: str, chance: float) -> np.ndarray:
        cfg = {"gramophone": GramophoneConfig, "film": FilmConfig}[kind](
            part_chance=1.0, episode_chance=chance)
        return parts.render(carriers.CARRIERS[kind](rng(3), cfg).parts[name][1], 12 * SAMPLE_RATE)

    changes = {}
    for name in PARTS[kind][:-1]:
        plain, changed = (render(name, chance) for chance in (0.0, 1.0))
        if name not in episodes.TREBLE_HZ:
            np.testing.assert_array_equal(plain, changed)
            continue
        bands_hz = ((5.0, 15.0), (90.0, 200.0)) if name == "rumble" else (
            (40.0, 300.0), (6000.0, 9000.0))
        low, high = (band_levels_db(changed, *band_hz, 0.1) - band_levels_db(plain, *band_hz, 0.1)
                     for band_hz in bands_hz)
        assert 3.0 < np.abs(low).max() < 45.0 and np.mean(np.abs(low) < 1.0) > 0.02
        assert np.abs(high - low).max() > 1.0
        changes[name] = low
    assert len(changes) == (3 if kind == "gramophone" else 2)
    assert np.abs(np.corrcoef(list(changes.values()))[0, 1]) < 0.9


def test_a_run_out_changes_level_and_colour_with_each_turn() -> None:
    cfg = plain_disc(run_out_chance=1.0, run_out_db=[20.0, 20.0], run_out_treble_db=[8.0, 8.0],
                     turns_per_minute=[60.0]).gramophone
    hiss = carriers.CARRIERS["gramophone"](rng(2), cfg).parts["hiss"][1]
    hiss = parts.render(hiss, 12 * SAMPLE_RATE)
    low, high = (band_levels_db(hiss, *band_hz).reshape(12, 20).mean(axis=0)
                 for band_hz in ((100.0, 600.0), (9000.0, 12000.0)))
    assert 12.0 < np.ptp(low) < 22.0 and np.ptp(high - low) > 4.0


@pytest.mark.parametrize(("call", "words"), [
    (lambda: CarrierConfig(kind="wax"), "noise.kind"),
    (lambda: CarrierConfig(film_share=-1.0), "_share"),
    (lambda: CarrierConfig(alone_share=1.5), "noise.alone_share"),
    (lambda: CarrierConfig(alone_share=0.7, dominant_share=0.5), "noise.dominant_share"),
    (lambda: CarrierConfig(dominant_db=[5.0, 3.0]), "noise.dominant_db"),
    (lambda: carriers.PartShares(hum=-0.1), "noise.part_shares.hum"),
    (lambda: carriers.PartShares(**dict.fromkeys(vars(carriers.PartShares()), 0.0)),
     "noise.part_shares"),
    (lambda: FilmConfig(strokes_per_second=[0.0, 24.0]), "noise.film.strokes_per_second"),
    (lambda: GramophoneConfig(click_db=[3.0, 1.0]), "noise.gramophone.click_db"),
    (lambda: GramophoneConfig(crackle_spread_db=[-2.0, 1.0]), "gramophone.crackle_spread_db"),
    (lambda: FilmConfig(part_chance=2.0), "noise.film.part_chance"),
    (lambda: FilmConfig(click_ms=[0.0, 0.4]), "noise.film.click_ms"),
    (lambda: carriers.TapeConfig(dropout_ms=[0.0, 200.0]), "noise.tape.dropout_ms"),
    (lambda: GramophoneConfig(turns_per_minute=[0.0]), "noise.gramophone.turns_per_minute"),
    (lambda: GramophoneConfig(turns_per_minute=[]), "noise.gramophone.turns_per_minute"),
    (lambda: GramophoneConfig(locked_share=[0.5, 2.0]), "noise.gramophone.locked_share"),
    (lambda: carriers.HumConfig(speed=[0.0, 0.0]), "noise.hum.speed"),
    (lambda: carriers.TapeConfig(dropouts_per_second=[-1.0, 1.0]), "dropouts_per_second"),
    (lambda: GramophoneConfig(spectra_db=[[0.0]]), "spectra_db"),
    (lambda: MovingConfig(band_hz=[0.0, 10.0]), "noise.moving.band_hz"),
    (lambda: MovingConfig(low_chance=1.5), "noise.moving.low_chance"),
])
def test_wrong_settings_are_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call()
