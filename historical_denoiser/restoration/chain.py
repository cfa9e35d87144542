"""The order of the stages within one segment of one channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.classical import clicks, held_notes, hum, spectral
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.settings import StageSettings

# Takes and returns `(batch, frames, bins, 2)`; with a noise profile it takes the list of these and
# the profile, `(batch, 1, bins, 2)`.
Network = Callable[[Any], np.ndarray]


@dataclass(frozen=True)
class KnownNoise:
    """What is known of the noise of a channel, at the network's sample rate and level.

    Attributes:
        hum_hz: The frequency of which all lines of its hum are multiples; None: it does not hum.
        floor: From `held_notes.measure_floor`; None: no notes are given back.
        profile: `(1, bins, 2)`, as the network takes it; None: it is told none.
    """

    hum_hz: float | None = None
    floor: np.ndarray | None = None
    profile: np.ndarray | None = None


def restore_segment(audio: np.ndarray, network: Network, settings: NetworkSettings,
                    stages: StageSettings, noise: KnownNoise) -> np.ndarray:
    """Restores `(samples,)` at the network's sample rate and level."""
    heard = clean_first(audio, noise.hum_hz, stages)
    if stages.wiener:
        network = spectral.join_filter(network, settings.profile_form
                                       or ProfileForm(settings.stft, compression=1.0))
    if noise.profile is not None:
        network = partial(_predict_knowing, network, noise.profile)
    predict = dsp.in_spectral_domain(network, settings.stft.win_size, settings.stft.hop_size,
                                     settings.stft.highpass_hz, dsp.SAMPLE_RATE)
    restored = predict(heard[None])[0]
    if noise.floor is not None:
        restored = held_notes.give_back(heard, restored, noise.floor)
    return restored


def clean_first(audio: np.ndarray, hum_hz: float | None, stages: StageSettings) -> np.ndarray:
    """Returns `(samples,)` as the network hears it: without hum and clicks."""
    if hum_hz is not None:
        audio = hum.remove_hum(audio, hum_hz)
    return clicks.remove_clicks(audio) if stages.declick else audio


def _predict_knowing(network: Network, profile: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    return network([spectra, profile[None]])
