"""Measures made after listeners' judgements: ViSQOL and wideband PESQ, from packages of their own.

They are slow and need `pip install -r requirements-metrics.txt`; nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError

VISQOL_RATE = 48000  # of ViSQOL's audio mode
PESQ_RATE = 16000  # of wideband PESQ
MEASURES = ("visqol", "pesq_wb")


def load_judge() -> Callable[[str, np.ndarray, np.ndarray], dict[str, float]]:
    """Returns a function of a category, a clean and a denoised waveform at 44.1 kHz.

    It gives `visqol` (Chinen et al. 2020, audio mode; 1 to 4.73, which is identity) and, of speech
    in which PESQ finds any, `pesq_wb` (ITU-T P.862.2; 1 to 4.64).

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
            if value > 0.0:  # -1: no utterance was found
                found["pesq_wb"] = float(value)
        return found

    return judge
