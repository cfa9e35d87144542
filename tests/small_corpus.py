"""Small files of tones and noise, settings, and the contents of audio, tables and weights."""

import csv
from pathlib import Path

import h5py
import numpy as np
import soundfile
from hydra import compose, initialize_config_dir

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.command_line import read_arguments
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.settings import load_config

ROOT = Path(__file__).resolve().parents[1]


def write_tone(path, hz=440.0, seconds=1.0, rate=SAMPLE_RATE, channels=1, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2.0 * np.pi * hz * times)
    soundfile.write(path, np.stack([tone] * channels, axis=1), rate, subtype=subtype)


def write_noise(path, seconds=1.0, seed=0, level=0.05):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = level * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    soundfile.write(path, noise, SAMPLE_RATE)


def composed(*arguments, groups=(), name="conf"):
    """Returns the settings by the arguments of a command.

    `groups` are choices that only `evaluate.py` takes, and `name` is that of the configuration.
    """
    overrides, names = read_arguments(list(arguments))
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return load_config(compose(name, [*groups, *overrides]), names)


def read_table(path):
    """Returns the rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def forget_length(path):
    """Makes a FLAC file one that was encoded from a pipe: its header does not say how long it is.

    The number of samples is the 36 bits at the end of the eight bytes from the 18th on.
    """
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)


def spectrum_db(audio, *places_hz):
    """Levels of a long recording around some frequencies."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    bins = [hz * len(audio) / SAMPLE_RATE for hz in places_hz]
    return np.array([10.0 * np.log10(spectrum[round(0.95 * k) : round(1.05 * k)].mean())
                     for k in bins])


def read_weights(path):
    """Returns the arrays of a file of weights by their names."""
    with h5py.File(path) as file:
        arrays = {}
        file.visititems(lambda name, node: arrays.update({name: np.asarray(node)})
                        if hasattr(node, "shape") else None)
        return arrays


def tunes_and_noise(folder, **settings):
    """Returns settings with the clean audio in `music` and the noise in `noise` of a folder."""
    return DsetConfig(path_music=[str(folder / "music")], path_noise=[str(folder / "noise")],
                      **settings)
