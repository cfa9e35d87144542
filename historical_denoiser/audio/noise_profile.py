"""The profile of a noise: what a stretch that holds nothing else looks like, bin by bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.special

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig

POWER_FLOOR = 1e-6  # added to |X|^2, so that the gradient at silence is finite
TO_BE_HEARD = np.float32(-1.0)  # no profile of a noise is anywhere below zero
MIN_SECONDS = 0.1  # of noise that a profile is measured from
TINY = np.finfo(np.float32).tiny
STROKE = 4.0  # times what is usual at a frequency, which a magnitude of Gaussian noise never is


@dataclass(frozen=True)
class ProfileForm:
    """What the profiles of a network are made with.

    Attributes:
        stft: The network's transform.
        compression: Exponent to which magnitudes are raised.
    """

    stft: StftConfig
    compression: float

    def measure(self, noise: np.ndarray) -> np.ndarray:
        """Returns the mean over frames and the standard deviation of compressed magnitudes.

        Args:
            noise: `(samples,)` at the network's rate and level, after its high-pass. Frames that
                reach beyond its end count only where there is no whole one.

        Returns:
            float32 `(1, bins, 2)`. It is nowhere zero, not for silence either, unlike `nothing`.
        """
        win_size, hop_size = self.stft.win_size, self.stft.hop_size
        whole = max(1, (len(noise) - win_size) // hop_size + 1)
        spectrum = dsp.stft(noise, win_size, hop_size)[:whole]
        power = dsp.power_of_bins(spectrum) + np.float32(POWER_FLOOR)
        magnitude = np.power(power, np.float32(0.5 * self.compression))
        return np.stack([magnitude.mean(axis=0), magnitude.std(axis=0)], axis=-1)[None]

    def mean_power(self, profile: np.ndarray) -> np.ndarray:
        """Returns the mean |N|^2 that the noise of a profile had, of the profile's shape but two.

        What `measure` returns tells the mean of |N|^(2 compression). Of Gaussian noise, whose |N|^2
        is distributed exponentially with the mean m, that is Gamma(1 + compression) m^compression.
        Without compression it is exact for any noise.
        """
        mean, spread = np.moveaxis(np.asarray(profile, np.float64), -1, 0)
        moment = (mean**2 + spread**2) / scipy.special.gamma(1.0 + self.compression)
        return np.maximum(moment ** (1.0 / self.compression) - POWER_FLOOR, 0.0)

    def to_be_heard(self) -> np.ndarray:
        """Returns what stands for a profile that is to be made of what the network removes."""
        return self.nothing() + TO_BE_HEARD

    def nothing(self) -> np.ndarray:
        """Returns what stands for no profile: zeros, `(1, bins, 2)`."""
        return np.zeros((1, self.stft.bins, 2), np.float32)


def without_strokes(noise: np.ndarray) -> np.ndarray:
    """Returns what a network removed beside sound, with less of what stands out for moments.

    That may be strokes, of castanets or a typewriter, that were taken for clicks. In a profile of
    the noise they would have more of their kind removed. No magnitude stays above `STROKE` times
    the median over time at its frequency; crackle that is dense is usual, and stays.

    Args:
        noise: `(samples, channels)`, up to some ten seconds at any sample rate.
    """
    limited = np.empty_like(noise)
    stft = StftConfig()
    for channel, audio in enumerate(noise.T):
        spectrum = dsp.stft(audio, stft.win_size, stft.hop_size)
        magnitude = np.sqrt(dsp.power_of_bins(spectrum))
        most = np.float32(STROKE) * np.median(magnitude, axis=0)
        spectrum *= (most / np.maximum(np.maximum(magnitude, most), TINY))[..., None]
        limited[:, channel] = dsp.istft(spectrum, stft.win_size, stft.hop_size, len(audio))
    return limited
