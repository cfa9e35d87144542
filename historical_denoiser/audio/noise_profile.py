"""Noise profiles: mean and spread of the noise's spectrum in each bin."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig

POWER_FLOOR = 1e-6  # added to |X|^2, so that the gradient at silence is finite
TO_BE_HEARD = np.float32(-1.0)  # measured profiles are never negative
MIN_SECONDS = 0.1  # of noise for a profile
MAX_SECONDS = 60.0  # length of noise that is used; more would not change the profile
TINY = np.finfo(np.float32).tiny
STROKE = 4.0  # times the median magnitude, which Gaussian noise never reaches


@dataclass(frozen=True)
class ProfileForm:
    """Measures the noise profiles for a network.

    Attributes:
        stft: The network's transform.
        compression: Exponent to which magnitudes are raised.
    """

    stft: StftConfig
    compression: float

    def measure(self, noise: np.ndarray) -> np.ndarray:
        """Returns the mean over frames and the standard deviation of compressed magnitudes.

        Args:
            noise: `(samples,)` at the network's rate and level, after its high-pass. Frames beyond
                its end count only if there is no complete one.

        Returns:
            float32 `(1, bins, 2)`. Unlike `nothing`, it is never zero, even for silence.
        """
        win_size, hop_size = self.stft.win_size, self.stft.hop_size
        whole = max(1, (len(noise) - win_size) // hop_size + 1)
        spectrum = dsp.stft(noise, win_size, hop_size)[:whole]
        power = dsp.power_of_bins(spectrum) + np.float32(POWER_FLOOR)
        magnitude = np.power(power, np.float32(0.5 * self.compression))
        return np.stack([magnitude.mean(axis=0), magnitude.std(axis=0)], axis=-1)[None]

    def mean_power(self, profile: np.ndarray) -> np.ndarray:
        """Returns the mean |N|^2 of the noise, from `(..., bins, 2)` to `(..., bins)`.

        A profile determines the mean of |N|^(2 compression). For Gaussian noise, whose |N|^2 is
        exponentially distributed with mean m, this equals Gamma(1 + compression) m^compression.
        Without compression the result is exact for any noise.
        """
        mean, spread = np.moveaxis(np.asarray(profile, np.float64), -1, 0)
        moment = (mean**2 + spread**2) / math.gamma(1.0 + self.compression)
        return np.maximum(moment ** (1.0 / self.compression) - POWER_FLOOR, 0.0)

    def to_be_heard(self) -> np.ndarray:
        """Returns the mark for a profile that has to be measured from the network's residual."""
        return self.nothing() + TO_BE_HEARD

    def nothing(self) -> np.ndarray:
        """Returns the mark for no profile: zeros, `(1, bins, 2)`."""
        return np.zeros((1, self.stft.bins, 2), np.float32)


@dataclass(frozen=True)
class Origin:
    """Where a noise profile was measured.

    Attributes:
        why: "given" for an excerpt, "file", "run-in", "run-out" or "pause" for a section that the
            finder chose, "pauses" that the network heard, or "noise estimate" of the network.
        seconds: Length of the noise.
        start_seconds: Where it starts, if it is one excerpt of the recording.
    """

    why: str
    seconds: float
    start_seconds: float | None = None

    def describe(self, speed: float = 1.0) -> dict[str, Any]:
        """Returns the facts for the report, in seconds before the speed was changed."""
        facts: dict[str, Any] = {"why": self.why, "seconds": round(speed * self.seconds, 2)}
        if self.start_seconds is not None:
            facts |= {"start": round(speed * self.start_seconds, 2),
                      "end": round(speed * (self.start_seconds + self.seconds), 2)}
        return facts


def without_strokes(noise: np.ndarray) -> np.ndarray:
    """Limits short peaks in the noise estimate of a recording.

    They may be strokes, of castanets or a typewriter, that the network took for clicks. A noise
    profile with them would make it remove more of their kind. Magnitudes are limited to `STROKE`
    times the median over time at their frequency; dense crackle raises that median, and stays.

    Args:
        noise: `(samples, channels)`, about ten seconds at most, at any sample rate.
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
