"""Draws spectrograms of recordings: input, output and residual one above the other, or many panels.

The frequency axis is logarithmic: on a linear one, rumble and hum would all be in the lowest line.
Start reading at `of_blocks` and `draw`.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import librosa  # loads its parts only when they are used
import numpy as np
from matplotlib import image
from matplotlib.figure import Figure

from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import Recording

WINDOW_SECONDS = 0.093  # long enough to separate hum from rumble, short enough to show clicks
MAX_COLUMNS = 1200
MAX_ROWS = 400
RANGE_DB = 90.0  # from the loudest point of all panels down
MIN_POWER = 1e-20  # replaces zero, which has no level
TICKS_HZ = (0, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 40000, 80000)
TICK_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
MAX_TICKS = 12  # on the time axis
INCHES = (12.0, 9.0)
DOTS_PER_INCH = 120
SMALL_TICKS_HZ = (100, 1000, 10000)  # for small panels
SMALL_RANGE_DB = 80.0


def _window_samples(rate: float) -> int:
    return max(64, 2 ** round(np.log2(WINDOW_SECONDS * rate)))


def _first_bins(rate: float) -> np.ndarray:
    """Returns the first bin of each row, and the number of bins: all rows have the same height."""
    bins = _window_samples(rate) // 2 + 1
    return np.unique(np.concatenate([[0], np.geomspace(1, bins, MAX_ROWS).round().astype(int)]))


def of_blocks(blocks: Iterable[np.ndarray], channels: int, samples: int, rate: float,
              max_columns: int = MAX_COLUMNS) -> np.ndarray:
    """Returns the spectrogram of a recording that is read block by block.

    Args:
        blocks: The recording in blocks `(channels, samples)` of any length.
        channels: Number of channels.
        samples: Length of all blocks together.
        rate: Sample rate in Hz.
        max_columns: In longer recordings a column is the mean of several frames.

    Returns:
        Levels in dB, `(rows, columns)`; a sine at full scale has 0 dB. A column shows the mean
        power of its frames and of all channels; a row, the loudest of its bins, so that no tone is
        lost.
    """
    win_size, first_bins = _window_samples(rate), _first_bins(rate)
    hop_size = max(1, min(-(-samples // max_columns), win_size // 4))
    frames = max(1, -(-samples // (hop_size * max_columns)))  # per column
    step = frames * hop_size
    columns, done = max(1, -(-samples // step)), 0
    powers = np.zeros((len(first_bins) - 1, columns))
    waiting = np.zeros((channels, win_size // 2), np.float32)  # the first frame's centre is at 0
    zeros = np.zeros((channels, step + win_size))  # complete the last column
    for block in itertools.chain(blocks, [zeros]):
        waiting = np.concatenate([waiting, block], axis=-1, dtype=np.float32)
        ready = min((waiting.shape[-1] - win_size + hop_size) // step, columns - done)
        if ready > 0:
            spectra = librosa.stft(waiting[:, : ready * step + win_size - hop_size],
                                   n_fft=win_size, hop_length=hop_size, center=False)
            power = np.square(np.abs(spectra), dtype=np.float64)
            power = power.reshape(channels, -1, ready, frames)
            powers[:, done : done + ready] = np.maximum.reduceat(
                power.mean(axis=(0, 3)), first_bins[:-1])
            waiting, done = waiting[:, ready * step :], done + ready
    full_scale = (win_size / 4.0) ** 2  # a sine's power: the squared half sum of a Hann window
    return librosa.power_to_db(powers, ref=full_scale, amin=MIN_POWER, top_db=None)


def of_array(audio: np.ndarray, rate: float) -> np.ndarray:
    """Returns the spectrogram of `(samples,)`, see `of_blocks`."""
    return of_blocks([audio[None]], 1, len(audio), rate)


def save_image(path: Path, levels: np.ndarray, loudest_db: float) -> None:
    """Writes a spectrogram as a PNG without axes: one pixel each, high frequencies on top.

    Args:
        path: The file.
        levels: Levels in dB, `(bins, columns)`, from `of_blocks`.
        loudest_db: Level of the brightest colour; the darkest is `SMALL_RANGE_DB` below it.
    """
    image.imsave(path, levels, vmin=loudest_db - SMALL_RANGE_DB, vmax=loudest_db, cmap="magma",
                 origin="lower", format="png")


def rows_of(frequencies_hz: Sequence[float], rate: float) -> np.ndarray:
    """Returns the rows, fractional and from below, of frequencies in levels of `of_blocks`."""
    first_bins = _first_bins(rate)
    return np.interp(np.array(frequencies_hz) * _window_samples(rate) / rate, first_bins,
                     np.arange(len(first_bins)))


def save_spectrograms(picture: Path, panels: list[tuple[str, Recording]], samples: int) -> None:
    """Draws recordings of equal duration on one scale.

    Args:
        picture: The PNG file.
        panels: Title and recording of each panel, from top to bottom.
        samples: Length of the first recording.
    """
    rate = panels[0][1].rate
    drawn = [(title, of_blocks((block.T for block in containers.read_blocks(recording)),
                               recording.channels, round(samples * recording.rate / rate),
                               recording.rate)) for title, recording in panels]
    draw(drawn, max(samples, 1) / rate, rate).savefig(picture)


def draw(panels: list[tuple[str, np.ndarray]], seconds: float, rate: float) -> Figure:
    """Draws spectrograms one above the other on one scale.

    Args:
        panels: Title of each, and levels from `of_array` or `of_blocks`, from top to bottom.
        seconds: Duration of each.
        rate: Sample rate in Hz.
    """
    loudest = float(np.ceil(max(level.max() for _, level in panels)))
    edges_hz = np.maximum(_first_bins(rate) - 0.5, 0.0) * rate / _window_samples(rate)
    tick_seconds = next((step for step in TICK_SECONDS if seconds <= MAX_TICKS * step),
                        TICK_SECONDS[-1])
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (title, level) in zip(axes, panels, strict=True):
        image = librosa.display.specshow(
            level, x_coords=np.linspace(0.0, seconds, level.shape[1] + 1), y_coords=edges_hz,
            x_axis="s" if seconds <= 60.0 else "time", y_axis="log", ax=axis, cmap="magma",
            vmin=loudest - RANGE_DB, vmax=loudest)
        axis.set(title=title, ylabel="Frequency (Hz)", xticks=np.arange(0.0, seconds, tick_seconds),
                 yticks=[hz for hz in TICKS_HZ if hz <= rate / 2.0])
        axis.label_outer()
    figure.colorbar(image, ax=list(axes), label="Level (dB, sine at full scale = 0)")
    return figure


def draw_beside(panels: dict[str, np.ndarray], seconds: float, rate: float,
                panel_inches: tuple[float, float], panels_in_row: int = 5) -> Figure:
    """Draws small spectrograms side by side on one scale, in as many rows as needed.

    Args:
        panels: Titles, and levels from `of_array`, all of one length.
        seconds: Duration of each.
        rate: Sample rate in Hz.
        panel_inches: Width and height of each.
        panels_in_row: Number of panels in a row.
    """
    loudest = max(float(level.max()) for level in panels.values())
    columns = min(len(panels), panels_in_row)
    rows = -(-len(panels) // panels_in_row)
    figure = Figure(figsize=(columns * panel_inches[0], rows * panel_inches[1]),
                    layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    places = rows_of(SMALL_TICKS_HZ, rate)
    for axis in axes.flat[len(panels):]:
        axis.set_axis_off()
    for axis, (name, level) in zip(axes.flat, panels.items(), strict=False):
        axis.imshow(level, origin="lower", aspect="auto", cmap="magma",
                    vmin=loudest - SMALL_RANGE_DB, vmax=loudest,
                    extent=(0.0, seconds, 0.0, len(level)))
        axis.set_title(name, fontsize=8)
        axis.set_yticks(places, [f"{hz / 1000:g}" for hz in SMALL_TICKS_HZ])
        axis.tick_params(labelsize=7)
        axis.set_xlabel("s", fontsize=7)
        axis.set_ylabel("kHz", fontsize=7)
        axis.label_outer()
    return figure
