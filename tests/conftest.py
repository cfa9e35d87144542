"""What several test modules share: signals, a tiny network and its weights."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

# Before the first import of NumPy and TensorFlow: no chatter, no GPU, and one thread in each of the
# processes that test side by side, where more would spin while they wait for each other.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402
from small_corpus import write_noise, write_tone  # noqa: E402

from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.data.settings import DsetConfig  # noqa: E402
from historical_denoiser.network.stored import BEST_NAME, CONFIG_NAME  # noqa: E402
from historical_denoiser.settings import Config, UnetConfig, save_config  # noqa: E402

# Of two processes that take one module after the other, none is to wait for the other in the end.
SLOWEST_FIRST = ("test_notebook", "test_trainer", "test_export", "test_kills", "test_unet",
                 "test_inference", "test_evaluate", "test_distribution", "test_benchmarks",
                 "test_app", "test_network", "test_hum", "test_film", "test_fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the modules that take longest before all others."""
    places = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture
def rng() -> np.random.Generator:
    """Numbers that are the same in every run."""
    return np.random.default_rng(7)


@pytest.fixture
def sine() -> np.ndarray:
    """Two seconds of 440 Hz at -12 dBFS, float32."""
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.25 * np.sin(2.0 * np.pi * 440.0 * time)).astype(np.float32)


@pytest.fixture
def noise(rng: np.random.Generator) -> np.ndarray:
    """Two seconds of white noise at -30 dBFS, float32."""
    return (10.0 ** (-30.0 / 20.0) * rng.standard_normal(2 * SAMPLE_RATE)).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_unet() -> UnetConfig:
    """A network that runs in milliseconds."""
    return UnetConfig(depth=1, channels=[4, 4], extractor_kernel=3, fold_bins=16)


def _make_run(folder: Path, settings: UnetConfig) -> Path:
    """Leaves a folder as a training run does: random weights and their config."""
    import keras

    import unet

    keras.utils.set_random_seed(1)
    unet.build_model_denoise(settings).save_weights(folder / BEST_NAME)
    save_config(Config(path_experiment=str(folder), unet=settings), folder / CONFIG_NAME)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tiny_unet: UnetConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with random weights."""
    return _make_run(tmp_path_factory.mktemp("run"), tiny_unet)


@pytest.fixture(scope="session")
def knowing_run(tiny_unet: UnetConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a network that takes a noise profile."""
    return _make_run(tmp_path_factory.mktemp("knowing"), replace(tiny_unet, use_profile=True))


@pytest.fixture(scope="session")
def folders_made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `folders` copies."""
    folder = tmp_path_factory.mktemp("folders")
    for number in range(10):
        write_tone(folder / f"speech/talker{number}/a.wav", 200 + 20 * number, 0.4)
        write_tone(folder / f"speech/talker{number}/b.wav", 300 + 20 * number, 0.7)
        write_tone(folder / f"music/song{number}.flac", 440 + 10 * number, 3.0)
        write_tone(folder / f"effects/effect{number}.wav", 1000 + 100 * number, 0.5)
    for number in range(4):
        for channel in "LR":
            write_noise(folder / f"noise/gramophone/album{number}_{channel}.flac", 1.2, number)
    write_noise(folder / "noise/tape/hiss.wav", 1.5, 9)
    return folder


@pytest.fixture
def folders(folders_made_once: Path, tmp_path: Path) -> Path:
    """Ten speakers, ten tunes, ten effects; four disc noises and one tape noise.

    The names are such that each split has some of each category, but no tape noise is held out.
    """
    return shutil.copytree(folders_made_once, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def dset(folders: Path) -> DsetConfig:
    """What `folders` holds."""
    return DsetConfig(path_speech=[str(folders / "speech")], path_music=[str(folders / "music")],
                      path_effects=[str(folders / "effects")], path_noise=[str(folders / "noise")])


@pytest.fixture(scope="session")
def three_tunes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`music` and `noise` with a file for each split."""
    folder = tmp_path_factory.mktemp("three_tunes")
    rng = np.random.default_rng(0)
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for number, split in enumerate(("test", "validation", "train")):
        write_noise(folder / f"noise/gramophone/{split}/disc.wav", 2.0, number)
        notes_hz = np.repeat(rng.uniform(200.0, 3000.0, 20), len(times) // 20)
        tone = 0.2 * np.sin(2 * np.pi * np.cumsum(notes_hz) / SAMPLE_RATE)
        (folder / "music" / split).mkdir(parents=True)
        soundfile.write(folder / f"music/{split}/tune.wav", tone, SAMPLE_RATE)
    return folder
