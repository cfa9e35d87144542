"""Makes `examples/noisy.flac` from the starter corpus and the bundled noise (see README.md).

Usage: python examples/make_example.py
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from historical_denoiser.audio import dsp
from historical_denoiser.core.files import replacing
from historical_denoiser.data import ageing, recordings

TUNE = ROOT / "data/starter/music/openclonk-data/TheSkylands.ogg.flac"
NOISE = ROOT / "data/noise/gramophone/vinyl4_crackle_analogue_R.flac"
START_SECONDS, SECONDS = 52.0, 14.0
HIGH_HZ = 8000.0  # upper limit of an electrical recording of the 1930s
SNR_DB = 9.0
LEVEL_DBFS = -20.0


def main() -> None:
    """Writes the example; no weights are trained on its tune or its noise."""
    samples = round(SECONDS * dsp.SAMPLE_RATE)
    clean = recordings.read_segment(TUNE, START_SECONDS, SECONDS)
    clean = ageing.limit_band(clean, HIGH_HZ)
    noise = dsp.repeat_with_crossfade(
        recordings.read_segment(NOISE, 0.0, SECONDS), samples,
        round(recordings.CROSSFADE_SECONDS * dsp.SAMPLE_RATE),
        round(recordings.TURN_SECONDS * dsp.SAMPLE_RATE))
    noisy = dsp.mix_at_snr(clean, noise, SNR_DB)
    noisy *= np.float32(10.0 ** (LEVEL_DBFS / 20.0) / np.std(noisy))
    with replacing(Path(__file__).parent / "noisy.flac") as temporary:
        soundfile.write(temporary, noisy, dsp.SAMPLE_RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
