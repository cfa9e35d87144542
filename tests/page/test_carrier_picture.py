"""The picture of a carrier has the limits of its settings, and the guide as well."""

import re

import numpy as np
import pytest
from omegaconf import OmegaConf
from small_corpus import ROOT

from historical_denoiser.page import bands, carriers, choices
from historical_denoiser.page.texts import TEXT

NAMES = [name for _, name in choices.carriers()]


@pytest.mark.parametrize("name", NAMES)
def test_a_carrier_has_words_and_the_guide_its_numbers(name):
    sets = choices.chosen_by(name, ())
    assert getattr(TEXT.carriers, name).name
    assert not re.search(r"\w_\w", carriers.draw(name, sets, None, ()).partition("<figcaption>")[2])
    guide = (ROOT / "docs" / "carriers.md").read_text(encoding="utf-8")
    (limits,) = re.findall(rf"(?m)^\| `{name}` \|.*?\| *(?:`(\[.*?\])`)? *\|", guide)
    assert (OmegaConf.create(limits or "null") or None) == sets.get("band_hz")


def outline(picture: str) -> np.ndarray:
    """Returns how far the gain of the band limits is below 0 dB at each place, `(places, 2)`."""
    path = re.search('data-part="band" d="M0,70L(.*?)V70z"', picture)[1]
    return np.array([pair.split(",") for pair in path.split("L")], float)


def test_the_band_is_drawn_as_it_is_filtered_and_the_spectrum_is_divided_there():
    spectrum = [-60.0] * bands.THIRDS
    picture = carriers.draw("optical_film", {}, [100, 8000], spectrum)
    place, below_db = outline(picture).T
    hz = 1000.0 * 2.0 ** ((place - 13.5) / 3.0)
    np.testing.assert_allclose(np.interp([100.0, 8000.0], hz, below_db), 6.0, atol=0.8)
    assert below_db[(hz > 113.0) & (hz < 7000.0)].max() < 0.1
    assert below_db[(hz < 87.0) | (hz > 9050.0)].min() == bands.RANGE_DB
    kept, outside = (re.search(f'data-part="{name}" d="(.*?)"', picture)[1].count("M")
                     for name in ("recording", "outside"))
    assert (kept, outside) == (19, 8)  # by their centres, from 125 Hz to 8 kHz
    assert "Sound from 100 Hz to 8 kHz is kept" in picture and "4 dB softer" in picture
    silent = spectrum[:23] + [-130.0] * 4
    assert "more than 60 dB softer" in carriers.draw("optical_film", {}, [None, 8000], silent)
    assert "is it another carrier?" in carriers.draw("acoustic_disc", {}, [9000, None], spectrum)
    everything = carriers.draw("auto", {}, None, spectrum)
    assert outline(everything)[:, 1].max() < 0.01 and "will be removed" not in everything
