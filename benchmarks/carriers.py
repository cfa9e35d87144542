"""Measures what the presets of `conf/carrier/` gain over `carrier=auto`.

    python benchmarks/carriers.py data/heldout/music/{unknown-horizons,megaglest-data} \
        data/heldout/speech/unknown-horizons

The folders hold clean recordings; those of the open test are loaded by `prepare_data.py`
(docs/data.md). Of so many recordings of each folder, 8 s get what the carrier did to them: its
band, a dropout a second, clipped peaks, or a mono groove that a stereo pickup plays with noise of
its own on both walls; and generated noise of its kind, 10 dB below them. `inference.py` restores
all of them with `carrier=auto` and with the preset. Prints the table of docs/carriers.md: the SNR
improvement in dB. What azimuth gains is not in it: without a delay there is nothing to correct.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.repair import some
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench.pairs import read_mono
from historical_denoiser.noise.generator import generate

SECONDS, SNR_DB, SEED = 8, 10.0, 0
DROPOUT_SECONDS, CLIPPED_SDR_DB = (0.005, 0.03), 15.0


class Carrier(NamedTuple):
    """What a carrier does to sound.

    Attributes:
        kind: The kind of its noise.
        band: The frequencies that it holds, in Hz.
        channels: 2 for one groove or track that is transferred in stereo.
        damage: "dropouts" or "clipping", or an empty string.
    """

    kind: str
    band: tuple[float, float]
    channels: int = 1
    damage: str = ""


CARRIERS = {"acoustic_disc": Carrier("gramophone", (100.0, 2500.0), 2),
            "electrical_disc": Carrier("gramophone", (50.0, 6000.0), 2),
            "lp": Carrier("gramophone", (30.0, 15000.0), 2),
            "optical_film": Carrier("film", (50.0, 6000.0)),
            "magnetic_film": Carrier("tape", (40.0, 12000.0), 1, "dropouts"),
            "cassette": Carrier("tape", (40.0, 12000.0), 1, "dropouts"),
            "open_reel": Carrier("tape", (30.0, 18000.0), 1, "dropouts"),
            "radio": Carrier("tape", (40.0, 15000.0)),
            "voice_memo": Carrier("tape", (100.0, 7000.0), 1, "clipping")}


def play(sound: np.ndarray, carrier: Carrier, rng: np.random.Generator,
         ) -> tuple[np.ndarray, np.ndarray]:
    """Returns a sound as the carrier holds it and as it is transferred, `(samples, channels)`."""
    low, high = (dsp.highpass(sound, hz, SAMPLE_RATE) for hz in carrier.band)
    clean = low - high
    noise = np.stack([generate(carrier.kind, len(clean), rng)
                      for _ in range(carrier.channels)], axis=1)
    noise *= dsp.to_gain(-SNR_DB) * np.std(clean) / np.std(noise)
    damaged = dsp.clip_at_sdr(clean, CLIPPED_SDR_DB) if carrier.damage == "clipping" else clean
    transferred = damaged[:, None] + noise
    if carrier.damage == "dropouts":
        for second in range(SECONDS - 1):
            start = int((second + rng.uniform(0.5, 1.0)) * SAMPLE_RATE)
            transferred[start:start + int(rng.uniform(*DROPOUT_SECONDS) * SAMPLE_RATE)] = 0.0
    gain = 0.9 / np.abs(transferred).max()
    return gain * clean, gain * transferred


def restore(folder: Path, preset: str) -> Path:
    """Restores all recordings in a folder as a user does; returns the folder of the results."""
    results = folder.with_name(f"{folder.name}_{preset}")
    subprocess.run([sys.executable, ROOT / "inference.py", folder, f"carrier={preset}",
                    f"inference.output_dir={results}"], check=True, capture_output=True)
    return results


def gain_db(clean: np.ndarray, transferred: np.ndarray, path: Path) -> float:
    """Returns the SNR improvement of a restored file."""
    restored, _ = soundfile.read(path, always_2d=True)
    return dsp.decibels(dsp.power(transferred - clean[:, None])
                        / dsp.power(restored - clean[:, None]))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, help="clean recordings")
    parser.add_argument("--each", type=int, default=4, help="recordings of each folder")
    arguments = parser.parse_args()
    sounds = [read_mono(path) for folder in arguments.folders
              for path in some(folder, arguments.each)]
    sys.stdout.write("| carrier | auto | preset |\n|---|---|---|\n")
    for name, carrier in CARRIERS.items():
        rng, wanted = np.random.default_rng(SEED), {}
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / name
            folder.mkdir()
            for number, sound in enumerate(sounds):
                start = max(0, (len(sound) - SECONDS * SAMPLE_RATE) // 2)
                clean, transferred = play(sound[start:start + SECONDS * SAMPLE_RATE], carrier, rng)
                wanted[f"{number:02}"] = clean, transferred
                soundfile.write(folder / f"{number:02}.wav", transferred, SAMPLE_RATE, "FLOAT")
            gains = []
            for preset in ("auto", name):
                results = restore(folder, preset)
                gains.append(np.mean([gain_db(*one, results / f"{stem}_denoised.wav")
                                      for stem, one in wanted.items()]))
        sys.stdout.write(f"| `{name}` | {gains[0]:+.2f} | {gains[1]:+.2f} |\n")


if __name__ == "__main__":
    main()
