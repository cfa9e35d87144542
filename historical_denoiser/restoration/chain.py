"""The order of the stages within one segment of one channel.

Start reading at `restore_segment`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.classical import clicks, held_notes, hum
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.settings import StageSettings

# Takes a spectrogram `(batch, frames, bins, 2)`, or the list of a spectrogram and a noise profile
# `(batch, 1, bins, 2)`. Returns a spectrogram of the same shape.
Network = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class KnownNoise:
    """The analysis results for the noise of a channel, at the network's sample rate and level.

    Attributes:
        hum_hz: Frequency of which all lines of the hum are multiples; None for no hum.
        floor: Result of `held_notes.measure_floor`; None to restore no held notes.
        profile: Noise profile `(1, bins, 2)` for the network; None for blind restoration.
    """

    hum_hz: float | None = None
    floor: np.ndarray | None = None
    profile: np.ndarray | None = None


def restore_segment(audio: np.ndarray, network: Network, settings: NetworkSettings,
                    stages: StageSettings, noise: KnownNoise) -> np.ndarray:
    """Restores one segment of one channel.

    Args:
        audio: `(samples,)` at the network's sample rate and level.
        network: The network.
        settings: What is needed to run the network as in training.
        stages: The stages that are enabled.
        noise: Analysis results for this channel.

    Returns:
        `(samples,)`.
    """
    cleaned = remove_hum_and_clicks(audio, noise.hum_hz, stages)
    profile, stft = noise.profile, settings.stft
    predict = dsp.in_spectral_domain(
        network if profile is None else lambda spectra: network([spectra, profile[None]]),
        stft.win_size, stft.hop_size, stft.highpass_hz, dsp.SAMPLE_RATE)
    restored = predict(cleaned[None])[0]
    if noise.floor is not None:
        restored = held_notes.restore_notes(cleaned, restored, noise.floor)
    return restored


def remove_hum_and_clicks(audio: np.ndarray, hum_hz: float | None, stages: StageSettings,
                          ) -> np.ndarray:
    """Removes hum and clicks, before the network.

    Args:
        audio: `(samples,)` at the network's sample rate.
        hum_hz: Frequency of which all lines of the hum are multiples; None for no hum.
        stages: The stages that are enabled.

    Returns:
        `(samples,)`.
    """
    if hum_hz is not None:
        audio = hum.remove_hum(audio, hum_hz)
    return clicks.remove_clicks(audio, stages.declick) if stages.is_on("declick") else audio
