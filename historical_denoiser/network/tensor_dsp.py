"""`dsp.stft` and `dsp.istft` for tensors of any Keras backend.

In training, batches are sent to the device as waveforms, which have a quarter of the bytes of their
spectra, and are transformed there. Start reading at `stft`.
"""

import numpy as np
from keras import ops

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import POWER_FLOOR
from historical_denoiser.network.fourier import irfft, rfft
from historical_denoiser.network.tensor_ops import Tensor, overlap_add


def stft(waveforms: Tensor, settings: StftConfig) -> Tensor:
    """Computes the short-time Fourier transform like `dsp.stft`, always in single precision.

    Args:
        waveforms: `(batch, samples)` with a known number of samples, at least one.
        settings: Window and hop.

    Returns:
        `(batch, frames, bins, 2)`.
    """
    win_size, hop_size = settings.win_size, settings.hop_size
    samples = waveforms.shape[-1]
    padding = (dsp.count_frames(samples, hop_size) - 1) * hop_size + win_size - samples
    padded = ops.pad(ops.cast(waveforms, "float32"), ((0, 0), (0, padding)))
    pieces = ops.extract_sequences(padded, win_size, hop_size)
    return rfft(pieces * ops.convert_to_tensor(dsp.hamming(win_size)))


def istft(spectrum: Tensor, settings: StftConfig, least_samples: int = 0) -> Tensor:
    """Inverts `stft` by least-squares overlap-add, for all samples that the frames cover.

    Args:
        spectrum: `(batch, frames, bins, 2)` with a known number of frames.
        settings: Window and hop of the transform.
        least_samples: A shorter result is padded with zeros to this length.

    Returns:
        `(batch, samples)`.
    """
    frames, window = spectrum.shape[1], dsp.hamming(settings.win_size)
    pieces = irfft(spectrum, settings.win_size)
    pieces = pieces * ops.convert_to_tensor(window)
    total = overlap_add(pieces[..., None], settings.hop_size)[..., 0]
    weights = dsp.overlap_add(np.broadcast_to(window**2, (frames, settings.win_size)),
                              settings.hop_size)
    samples = len(weights)
    waveform = total[:, :samples] / ops.convert_to_tensor(weights)
    return ops.pad(waveform, ((0, 0), (0, max(0, least_samples - samples))))


def measure_profile(spectra: Tensor, compression: float) -> Tensor:
    """Measures noise profiles `(batch, 1, bins, 2)` like `ProfileForm.measure`.

    Args:
        spectra: Spectra of noise alone, `(batch, frames, bins, 2)`.
        compression: Exponent of the magnitudes.
    """
    power = ops.sum(ops.square(spectra), axis=-1) + POWER_FLOOR
    magnitude = ops.power(power, 0.5 * compression)
    return ops.stack([ops.mean(magnitude, axis=1, keepdims=True),
                      ops.std(magnitude, axis=1, keepdims=True)], axis=-1)
