"""A tiny run from end to end: it learns, resumes exactly, and reports what one hears."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import soundfile

import trainer
import unet
from config import (
    SAMPLE_RATE,
    Config,
    DsetConfig,
    LossConfig,
    ScheduleConfig,
    StftConfig,
    UnetConfig,
)
from dataset_loader import Mixer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three tunes and three noises, so that each split has one."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for name in ("music", "noise/gramophone"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        tone = 0.2 * np.sin(2 * np.pi * (300 + 100 * number) * times)
        soundfile.write(folder / f"music/tune{number}.wav", tone, SAMPLE_RATE)
        soundfile.write(folder / f"noise/gramophone/disc{number}.wav",
                        0.05 * rng.standard_normal(len(times)), SAMPLE_RATE)
    return folder


def make_config(corpus, folder, **changes) -> Config:
    return Config(
        path_experiment=str(folder), epochs=2, steps_per_epoch=3, batch_size=2, lr=3e-3,
        seg_len_s_train=0.2, seg_len_s_val=0.5, validation_items=3, save_every_steps=2,
        gradient_clip=1.0, ema_momentum=0.5, stft=StftConfig(512, 128),
        unet=UnetConfig(depth=1, channels=[6, 8], extractor_kernel=3, fold_bins=4, output="mask",
                        compression=0.5),
        dset=DsetConfig(path_music=[str(corpus / "music")], path_noise=[str(corpus / "noise")]),
        loss=LossConfig(name="compressed", log_weight=0.1),
        schedule=ScheduleConfig(name="cosine")) if not changes else dataclass_replace(
            make_config(corpus, folder), changes)


def dataclass_replace(cfg, changes):
    for name, value in changes.items():
        setattr(cfg, name, value)
    return cfg


def make_trainer(cfg):
    return trainer.Trainer(cfg, Mixer(cfg.dset, "train", cfg.seg_len_s_train, cfg.seed),
                           Mixer(cfg.dset, "validation", cfg.seg_len_s_val))


def read_history(folder):
    with (folder / trainer.HISTORY_NAME).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_writes_its_files_and_an_interrupted_one_ends_the_same(corpus, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    make_trainer(make_config(corpus, whole)).fit()
    for name in ("best.weights.h5", "last.weights.h5", "config.yaml", "history.csv"):
        assert (whole / name).stat().st_size > 0
    assert list((whole / "tensorboard").iterdir())
    history = read_history(whole)
    assert [row["step"] for row in history] == ["3", "6"]
    assert {"snr_gain_db", "snr_gain_db_music", "clean_si_sdr_db", "noise_left_db"} <= set(
        history[0])

    # Stopped after step 4 by the loader, inside the second epoch.
    stopped = make_trainer(make_config(corpus, parts))
    batches = stopped._batches

    def four_batches(first_step):
        for number, batch in enumerate(batches(first_step)):
            if number == 4:
                raise KeyboardInterrupt
            yield batch

    stopped._batches = four_batches
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    assert stopped.step == 4
    resumed = make_trainer(make_config(corpus, parts))
    resumed.fit()
    assert resumed.step == 6
    whole_model = make_trainer(make_config(corpus, whole))
    whole_model._resume()
    for one, other in zip(whole_model.model.get_weights(), resumed.model.get_weights(),
                          strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(whole_model.optimizer.variables, resumed.optimizer.variables,
                          strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_training_gains_snr(corpus, tmp_path):
    run = make_trainer(make_config(corpus, tmp_path, epochs=3, steps_per_epoch=40,
                                   ema_momentum=None, save_every_steps=100, lr=5e-3))
    before = run.validate()
    run.fit()
    after = run.validate()
    assert abs(before["snr_gain_db"]) < 0.01  # a fresh mask changes nothing
    assert after["snr_gain_db"] > 2.0


def test_best_weights_load_without_the_optimiser(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path)
    run = make_trainer(cfg)
    run.fit()
    model = unet.build_model_denoise(cfg.unet)
    unet.load_weights(model, tmp_path / "best.weights.h5")
    best = max(read_history(tmp_path), key=lambda row: float(row["snr_gain_db"]))
    if best["step"] == "6":
        for one, other in zip(model.get_weights(), run.averaged.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    with (h5py.File(tmp_path / "best.weights.h5") as best,
          h5py.File(tmp_path / "last.weights.h5") as last):
        assert "optimizer" in last and "optimizer" not in best


def test_a_diverged_run_stops_and_keeps_its_checkpoint(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path)
    make_trainer(cfg).fit()
    kept = (tmp_path / "last.weights.h5").read_bytes()
    cfg.epochs = 3
    run = make_trainer(cfg)
    run._batches = lambda first: iter([(np.full((2, 69, 257, 2), np.nan, np.float32),) * 2])
    with pytest.raises(ValueError, match="step 7"):
        run.fit()
    assert (tmp_path / "last.weights.h5").read_bytes() == kept


def test_a_run_of_another_network_is_refused(corpus, tmp_path):
    make_trainer(make_config(corpus, tmp_path)).fit()
    other = make_config(corpus, tmp_path)
    other.unet = UnetConfig(depth=1, channels=[7, 8], extractor_kernel=3, fold_bins=4)
    with pytest.raises(ValueError, match="shape"):
        make_trainer(other).fit()


@pytest.mark.parametrize(("name", "step", "expected"), [
    ("step", 0, 1e-3), ("step", 9, 1e-3), ("step", 11, 1e-4), ("step", 21, 1e-5),
    ("cosine", 0, 1e-4), ("cosine", 10, 1e-3), ("cosine", 55, 5.05e-4), ("cosine", 100, 1e-5)])
def test_learning_rate(name, step, expected):
    schedule = ScheduleConfig(name=name, boundaries_epochs=[1, 2], warmup_steps=10)
    rate = trainer.make_learning_rate(1e-3, schedule, 10, 100)
    assert float(keras.ops.convert_to_numpy(rate(step))) == pytest.approx(expected, rel=0.02)


def train_command(corpus, folder, *more):
    return [sys.executable, str(ROOT / "train.py"), "--config-name", "conf_prototype",
            "dset=folders", f"dset.path_music=[{corpus / 'music'}]",
            f"dset.path_noise=[{corpus / 'noise'}]", f"path_experiment={folder}",
            "unet.depth=1", "unet.channels=[4,4]", "unet.fold_bins=4", "stft.win_size=512",
            "stft.hop_size=128", "batch_size=1", "seg_len_s_train=0.1", "seg_len_s_val=0.2",
            "validation_items=1", "save_every_steps=1", *more]


def test_command_line_survives_a_kill(corpus, tmp_path):
    command = train_command(corpus, tmp_path / "run", "epochs=400", "steps_per_epoch=10")
    run = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
    last = tmp_path / "run/last.weights.h5"
    while not last.exists() and run.poll() is None:
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert last.exists()
    again = subprocess.run(train_command(corpus, tmp_path / "run", "epochs=4",
                                         "steps_per_epoch=1"), cwd=tmp_path,
                           stderr=subprocess.PIPE, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "going on from step" in again.stderr


def test_mistakes_end_in_one_line(tmp_path, corpus):
    for arguments, expected in (
            (["lr=-1"], "lr"), (["dset.path_music=[nowhere]"], "nowhere"),
            (["unet.channel=[1]"], "unet.channel")):
        command = train_command(corpus, tmp_path / "run", *arguments)
        done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                              check=False)
        assert done.returncode != 0
        assert expected in done.stderr and "Traceback" not in done.stderr
