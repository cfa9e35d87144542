"""The order of the stages within one segment of one channel.

Start reading at `restore_segment`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.classical import clicks, held_notes, hum_lines
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.settings import StageSettings

# The stages that `restore_segment` goes through, with their switches; the network has none.
ORDER = {"hum": "dehum", "clicks": "declick", "network": None, "held_notes": "keep_held"}

# Takes a spectrogram `(batch, frames, bins, 2)`, or the list of a spectrogram and a noise profile
# `(batch, 1, bins, 2)`. Returns a spectrogram of the same shape. A diffusion model has other
# arguments; see `diffusion.edm.Denoise`.
Network = Callable[..., np.ndarray]


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
                    stages: StageSettings, noise: KnownNoise) -> tuple[np.ndarray, ...]:
    """Restores one segment of one channel.

    Args:
        audio: `(samples,)` at the network's sample rate and level.
        network: The network.
        settings: What is needed to run the network as in training.
        stages: The stages that are enabled.
        noise: Analysis results for this channel.

    Returns:
        What each stage of `ORDER` leaves, `(samples,)`; the last one is the result.
    """
    without_hum = remove_hum(audio, noise.hum_hz)
    without_clicks = remove_clicks(without_hum, stages)
    profile, stft = noise.profile, settings.stft
    predict = dsp.in_spectral_domain(
        network if profile is None else lambda spectra: network([spectra, profile[None]]),
        stft.win_size, stft.hop_size, stft.highpass_hz)
    denoised = restored = predict(without_clicks[None])[0]
    if noise.floor is not None:
        restored = held_notes.restore_notes(without_clicks, denoised, noise.floor)
    return without_hum, without_clicks, denoised, restored


def remove_hum(audio: np.ndarray, hum_hz: float | None) -> np.ndarray:
    """Removes hum at multiples of `hum_hz`, if any, from `(samples,)` at the network's rate."""
    return audio if hum_hz is None else hum_lines.remove_hum(audio, hum_hz)


def remove_clicks(audio: np.ndarray, stages: StageSettings) -> np.ndarray:
    """Removes clicks, if this stage is enabled, from `(samples,)` at the network's rate."""
    return clicks.remove_clicks(audio, stages.declick) if stages.is_on("declick") else audio
