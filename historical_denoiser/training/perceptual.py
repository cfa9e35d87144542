"""Perceptual measures: ViSQOL and wideband PESQ.

They are slow, and their packages are only installed by `pip install -r requirements-metrics.txt`.
"""

from collections.abc import Callable

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError

VISQOL_RATE = 48000  # Hz, in audio mode
PESQ_RATE = 16000  # Hz, wideband
MEASURES = ("visqol", "pesq_wb")


def load_judge() -> Callable[[str, np.ndarray, np.ndarray], dict[str, float]]:
    """Returns a function of a category, a clean and a denoised waveform at 44.1 kHz.

    It returns `visqol` (Chinen et al. 2020, audio mode; 1 to 4.73) and, for the category "speech"
    if PESQ finds an utterance, `pesq_wb` (ITU-T P.862.2; 1 to 4.64).

    Raises:
        UserError: The packages are not installed.
    """
    try:
        import pesq
        import visqol
    except ImportError as error:
        raise UserError(f"`perceptual=true` needs a package that is not installed ({error.name}): "
                        f"pip install -r requirements-metrics.txt") from error
    api = visqol.VisqolApi()
    api.create(mode="audio")

    def judge(category: str, clean: np.ndarray, denoised: np.ndarray) -> dict[str, float]:
        pair = [dsp.resample(audio, SAMPLE_RATE, VISQOL_RATE) for audio in (clean, denoised)]
        found = {"visqol": float(api.measure_from_arrays(*pair, VISQOL_RATE).moslqo)}
        if category == "speech":
            pair = [dsp.resample(audio, SAMPLE_RATE, PESQ_RATE) for audio in (clean, denoised)]
            value = pesq.pesq(PESQ_RATE, *pair, "wb", on_error=pesq.PesqError.RETURN_VALUES)
            if value > 0.0:  # -1 means that no utterance was found
                found["pesq_wb"] = float(value)
        return found

    return judge
