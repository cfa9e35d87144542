"""Makes the pictures and sounds of `docs/damages.md`, and the figures of its table.

Usage: python examples/make_damages.py [WEIGHTS]
       python benchmarks/tables.py                # then fills the table

It needs the starter corpus, of which it uses a tune that no weights were trained on.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data import changing, recordings
from historical_denoiser.denoiser import Denoiser
from historical_denoiser.formats import spectrogram
from historical_denoiser.noise import foreign, parts
from historical_denoiser.training.metrics import snr_db, write_table

TUNE = ROOT / "data/starter/music/openclonk-data/TheSkylands.ogg.flac"
START_SECONDS, SECONDS = 40.0, 30.0
SHOWN_SECONDS = (12.0, 18.0)  # of these
SNR_DB, LEVEL_DBFS, HIGHPASS_HZ = 10.0, -20.0, 20.0
FOLDER, TABLE = ROOT / "docs" / "damages", ROOT / "docs" / "tables" / "damages" / "damages.csv"
PANEL_INCHES = (3.2, 2.2)


def make_buzz(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the buzz of a dimmer: a pulse in each half of the mains period."""
    return parts.render(parts.make_hum(rng, 100.0, 160, 0.0, is_pulsed=True), samples)


def make_levels(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the hiss of a groove, whose level changes with each turn of the disc."""
    hiss = foreign.make_fluctuating(0.0, 200.0, samples, rng)
    turns = changing.turning(rng, np.arange(samples) / SAMPLE_RATE)
    return hiss * 10.0 ** (turns / 20.0)


DAMAGES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "hiss": lambda samples, rng: foreign.make_shaped(np.ones_like, samples, rng),
    "groove": lambda samples, rng: foreign.make_fluctuating(4.0, 200.0, samples, rng),
    "crackle": foreign.make_frying,
    "clicks": lambda samples, rng: foreign.make_clicks(6, samples, rng),
    "thumps": foreign.make_thumps,
    "hum": lambda samples, rng: foreign.make_hum(None, samples, rng),
    "buzz": make_buzz,
    "levels": make_levels}


def main() -> None:
    """Restores the tune with each damage, and writes sounds, pictures and the table."""
    denoiser = Denoiser.load(*sys.argv[1:2])
    shown = slice(*(round(seconds * SAMPLE_RATE) for seconds in SHOWN_SECONDS))
    clean = recordings.read_segment(TUNE, START_SECONDS, SECONDS)
    for folder in (FOLDER, TABLE.parent):
        folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, make) in enumerate(DAMAGES.items()):
        noise = make(len(clean), np.random.default_rng(number)).astype(np.float32)
        before = dsp.mix_at_snr(clean, noise, SNR_DB)
        scale = np.float32(10.0 ** (LEVEL_DBFS / 20.0) / np.std(before))
        before, wanted = scale * before, scale * clean
        after = denoiser(before, SAMPLE_RATE)
        panels = {title: audio[shown] for title, audio in (
            ("before", before), ("after", after), ("removed", before - after))}
        for title in ("before", "after"):
            soundfile.write(FOLDER / f"{name}_{title}.ogg", panels[title], SAMPLE_RATE,
                            format="OGG", subtype="VORBIS")
        figure = spectrogram.draw_beside(
            {title: spectrogram.of_array(audio, SAMPLE_RATE) for title, audio in panels.items()},
            SHOWN_SECONDS[1] - SHOWN_SECONDS[0], SAMPLE_RATE, PANEL_INCHES)
        figure.savefig(FOLDER / f"{name}.webp", dpi=110, pil_kwargs={"quality": 60})
        high = [dsp.highpass(audio, HIGHPASS_HZ, SAMPLE_RATE) for audio in (wanted, before, after)]
        gain = snr_db(high[0], high[2]) - snr_db(high[0], high[1])
        rows.append({"damage": name, "snr_gain_db": round(gain, 3)})
    write_table(TABLE, rows)


if __name__ == "__main__":
    main()
