"""The picture of a restoration: spectrograms of input, output and residual, one above the other."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from denoiser.audio import audio_io, dsp

WINDOW_SECONDS = 0.046
COLUMNS = 1600  # at most; longer recordings are averaged over time
RANGE_DB = 90.0  # below the loudest point of the three
INCHES = (12.0, 9.0)
DOTS_PER_INCH = 120


def spectrogram_db(recording: audio_io.Recording, samples: int) -> np.ndarray:
    """Returns the spectrogram of a recording, its channels averaged.

    Args:
        recording: From `audio_io.open_recording`.
        samples: Its length.

    Returns:
        Levels in dB, `(bins, columns)`; a sine at full scale has 0 dB.
    """
    win_size = max(64, 2 ** round(np.log2(WINDOW_SECONDS * recording.rate)))
    hop_size = min(max(1, samples // COLUMNS), win_size // 4)
    frames = dsp.count_frames(samples, hop_size)
    frames_per_column = max(1, -(-frames // COLUMNS))
    total = np.zeros((max(1, -(-frames // frames_per_column)), win_size // 2 + 1))
    count = np.zeros((len(total), 1))
    waiting = np.zeros((recording.channels, 0))
    done = 0
    # Zeros at the end complete the last frame.
    for block in itertools.chain(audio_io.read_blocks(recording),
                                 [np.zeros((win_size, recording.channels))]):
        waiting = np.concatenate([waiting, block.T], axis=-1)
        whole = min((waiting.shape[-1] - win_size) // hop_size + 1, frames - done)
        if whole <= 0:
            continue
        spectra = dsp.stft(waiting[:, : (whole - 1) * hop_size + win_size], win_size, hop_size)
        powers = np.sum(np.square(spectra[:, :whole], dtype=np.float64), axis=-1).mean(axis=0)
        columns = (done + np.arange(whole)) // frames_per_column
        np.add.at(total, columns, powers)
        np.add.at(count, columns, 1.0)
        done += whole
        waiting = waiting[:, whole * hop_size :]
    full_scale = np.sum(dsp.hamming(win_size), dtype=np.float64) / 2.0
    mean = total / np.maximum(count, 1.0) / full_scale**2
    return 10.0 * np.log10(np.maximum(mean, np.finfo(np.float64).tiny)).T


def of_array(audio: np.ndarray, rate: int) -> np.ndarray:
    """Returns the spectrogram of `(samples,)` as `spectrogram_db` does that of a recording."""
    win_size = 2 ** round(np.log2(WINDOW_SECONDS * rate))
    spectra = dsp.stft(audio, win_size, win_size // 4)
    full_scale = np.sum(dsp.hamming(win_size), dtype=np.float64) / 2.0
    powers = np.sum(np.square(spectra, dtype=np.float64), axis=-1) / full_scale**2
    return 10.0 * np.log10(np.maximum(powers, np.finfo(np.float64).tiny)).T


def save_spectrograms(picture: Path, panels: list[tuple[str, Path]], samples: int) -> None:
    """Draws recordings of equal length and rate on one scale.

    Args:
        picture: The PNG file.
        panels: Title and file of each, top down.
        samples: Length of each.
    """
    recordings = [audio_io.open_recording(path) for _, path in panels]
    levels = [spectrogram_db(recording, samples) for recording in recordings]
    titles = [title for title, _ in panels]
    rate = recordings[0].rate
    draw(list(zip(titles, levels, strict=True)), max(samples, 1) / rate, rate).savefig(picture)


def draw(panels: list[tuple[str, np.ndarray]], seconds: float, rate: float) -> Figure:
    """Draws spectrograms one above the other on one scale.

    Args:
        panels: Title and levels in dB `(bins, columns)` of each, top down.
        seconds: Length of each.
        rate: Sample rate in Hz.

    Returns:
        The figure.
    """
    loudest = float(np.ceil(max(level.max() for _, level in panels)))
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, level) in zip(axes, panels, strict=True):
        image = axis.imshow(level, origin="lower", aspect="auto", cmap="magma",
                            vmin=loudest - RANGE_DB, vmax=loudest,
                            extent=(0.0, seconds, 0.0, rate / 2000.0))
        axis.set_title(title)
        axis.set_ylabel("Frequency (kHz)")
    axes[-1].set_xlabel("Time (s)")
    figure.colorbar(image, ax=list(axes), label="Level (dB, sine at full scale = 0)")
    return figure
