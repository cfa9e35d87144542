"""A tiny run from end to end: it learns, resumes exactly, and reports what one hears."""

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import soundfile
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import trainer
import unet
from config import Config, UnetConfig
from dataset_loader import Mixer
from denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from denoiser.data.settings import DsetConfig
from denoiser.training import metrics
from denoiser.training.settings import LossConfig, ScheduleConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three tunes of many notes and three noises, so that each split has one."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for name in ("music", "noise/gramophone"):
        (folder / name).mkdir(parents=True)
    for number in range(3):
        notes_hz = np.repeat(rng.uniform(200.0, 3000.0, 20), len(times) // 20)
        tone = 0.2 * np.sin(2 * np.pi * np.cumsum(notes_hz) / SAMPLE_RATE)
        soundfile.write(folder / f"music/tune{number}.wav", tone, SAMPLE_RATE)
        soundfile.write(folder / f"noise/gramophone/disc{number}.wav",
                        0.05 * rng.standard_normal(len(times)), SAMPLE_RATE)
    return folder


def make_config(corpus, folder, **changes) -> Config:
    return Config(
        path_experiment=str(folder), epochs=2, steps_per_epoch=3, batch_size=2, lr=3e-3,
        seg_len_s_train=0.2, seg_len_s_val=0.5, validation_items=3, save_every_steps=2,
        gradient_clip=1.0, ema_momentum=0.5, shown_items=0, stft=StftConfig(512, 128),
        unet=UnetConfig(depth=1, channels=[6, 8], extractor_kernel=3, fold_bins=4, output="mask",
                        compression=0.5),
        dset=DsetConfig(path_music=[str(corpus / "music")], path_noise=[str(corpus / "noise")]),
        loss=LossConfig(mae=0.0, compressed=1.0, snr=0.1),
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


@pytest.fixture
def heeds_interrupts():
    """Ctrl-C, as in a terminal: a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_interrupts")
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
    assert 0.1 < float(history[1]["memory_gb"]) < 10.0

    # Ctrl-C within a step, then within the first validation, then in the loader.
    for step, interrupt in ((2, interrupt_step), (3, interrupt_validation), (5, interrupt_loader)):
        stopped = make_trainer(make_config(corpus, parts))
        interrupt(stopped)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit()
        assert stopped.progress.step == step
    resumed = make_trainer(make_config(corpus, parts))
    resumed.fit()
    assert resumed.progress.step == 6
    assert_same_run(whole, parts)
    whole_model = make_trainer(make_config(corpus, whole))
    whole_model._resume()
    for one, other in zip(whole_model.optimizer.variables, resumed.optimizer.variables,
                          strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def interrupt_step(run):
    """Presses Ctrl-C when the second step has changed the weights and not yet returned."""
    train_step, steps = run.train_step, []

    def interrupted(*batch):
        loss = train_step(*batch)
        steps.append(loss)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return loss

    run.train_step = interrupted


def interrupt_validation(run):
    """Presses Ctrl-C while the average is in the weights' place."""
    finalize = run.optimizer.finalize_variable_values

    def interrupted(variables):
        finalize(variables)
        signal.raise_signal(signal.SIGINT)

    run.optimizer.finalize_variable_values = interrupted


def interrupt_loader(run):
    """Presses Ctrl-C while the run waits for its second batch."""
    batches = run.workers.batches

    def interrupted(*arguments):
        for number, batch in enumerate(batches(*arguments)):
            if number == 1:
                signal.raise_signal(signal.SIGINT)
            yield batch

    run.workers.batches = interrupted


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_second_interrupt_stops_at_once_and_saves_nothing(corpus, tmp_path):
    run = make_trainer(make_config(corpus, tmp_path))

    def interrupted(*batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run.train_step = interrupted
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.progress.step == 0 and not (tmp_path / "last.weights.h5").exists()
    assert signal.getsignal(signal.SIGINT) is before


def assert_same_run(one, other):
    """The history up to times, and the best weights, are those of a run that never stopped."""
    histories = [read_history(folder) for folder in (one, other)]
    for row, same in zip(*histories, strict=True):
        for name in row:
            if name not in ("seconds_per_step", "memory_gb"):
                assert float(same[name]) == pytest.approx(float(row[name]), rel=1e-4,
                                                          abs=1e-5), name
    with (h5py.File(one / "best.weights.h5") as file, h5py.File(other / "best.weights.h5") as same):
        names = []
        file.visititems(lambda name, node: names.append(name) if hasattr(node, "shape") else None)
        assert names
        for name in names:
            np.testing.assert_allclose(same[name], file[name], atol=1e-6)


def test_other_settings_and_a_finished_run_are_named(corpus, tmp_path, caplog):
    make_trainer(make_config(corpus, tmp_path, epochs=1)).fit()
    assert "other settings" not in caplog.text
    settings = (tmp_path / "config.yaml").read_text()
    make_trainer(make_config(corpus, tmp_path, epochs=1, lr=1e-4)).fit()
    assert "is finished: nothing is trained" in caplog.text
    assert (tmp_path / "config.yaml").read_text() == settings  # those of the weights
    make_trainer(make_config(corpus, tmp_path, lr=1e-4)).fit()
    assert "goes on with other settings than it had: epochs 1 -> 2, lr 0.003 -> 0.0001" in (
        caplog.text)


def test_training_gains_snr(corpus, tmp_path):
    run = make_trainer(make_config(corpus, tmp_path, epochs=3, steps_per_epoch=80,
                                   ema_momentum=None, save_every_steps=100, lr=5e-3))
    before = metrics.average(run.validate())
    run.fit()
    after = metrics.average(run.validate())
    assert abs(before["snr_gain_db"]) < 0.01  # a fresh mask changes nothing
    assert after["snr_gain_db"] > 2.0


def test_best_weights_load_without_the_optimiser(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path, epochs=1)
    run = make_trainer(cfg)
    run.fit()
    model = unet.build_model_denoise(cfg.unet)
    unet.load_weights(model, tmp_path / "best.weights.h5")
    for one, other in zip(model.get_weights(), run.averaged.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with (h5py.File(tmp_path / "best.weights.h5") as best,
          h5py.File(tmp_path / "last.weights.h5") as last):
        assert "optimizer" in last and "optimizer" not in best


def poison(run, bad_steps):
    """Lets the given batches hold a value that is no number."""
    batches = run.workers.batches

    def poisoned(*arguments):
        for number, (noisy, clean) in enumerate(batches(*arguments)):
            bad = np.full_like(noisy, np.nan) if number in bad_steps else noisy
            yield bad, clean

    run.workers.batches = poisoned


def test_a_step_without_finite_gradients_is_left_out_and_counted(corpus, tmp_path, caplog):
    run = make_trainer(make_config(corpus, tmp_path))
    poison(run, {1, 4})
    run.fit()
    assert run.progress.step == 6 and run.progress.skipped == 2 and run._updates() == 4
    assert all(np.isfinite(weight).all() for weight in run.model.get_weights())
    assert all(np.isfinite(value).all() for value in run.optimizer.variables)
    history = read_history(tmp_path)
    assert [row["skipped_steps"] for row in history] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) for row in history)
    assert "step 2 is left out" in caplog.text


def test_a_diverged_run_stops_and_keeps_its_checkpoint(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path)
    make_trainer(cfg).fit()
    kept = (tmp_path / "last.weights.h5").read_bytes()
    cfg.epochs, cfg.save_every_steps, cfg.steps_per_epoch = 1, 1000, 1000
    run = make_trainer(cfg)
    poison(run, range(1000))
    with pytest.raises(ValueError, match="20 times in a row up to step 26"):
        run.fit()
    assert (tmp_path / "last.weights.h5").read_bytes() == kept


def test_an_unwritable_folder_and_a_full_disk_say_why(corpus, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_trainer(make_config(corpus, tmp_path / "file" / "run")).fit()
    cfg = make_config(corpus, tmp_path / "run")
    make_trainer(cfg).fit()
    kept = (tmp_path / "run/last.weights.h5").read_bytes()
    cfg.epochs = 3
    monkeypatch.setattr(trainer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(OSError, match="disk is full"):
        make_trainer(cfg).fit()
    assert (tmp_path / "run/last.weights.h5").read_bytes() == kept
    cfg.path_experiment, cfg.save_every_steps = str(tmp_path / "new"), 1000
    new = make_trainer(cfg)  # at the epoch's end, before anything is written
    with pytest.raises(OSError, match="disk is full"):
        new.fit()
    assert not (tmp_path / "new/history.csv").exists()


def test_loss_is_scaled_in_half_precision_alone(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "LOSS_SCALE_STEPS", 2)
    scales = {}
    for precision in ("float32", "mixed_float16"):
        run = make_trainer(make_config(corpus, tmp_path / precision, precision=precision))
        run.fit()
        scales[precision] = float(run.optimizer.dynamic_scale)
    assert scales["float32"] == 1.0 and scales["mixed_float16"] > 1.0


def test_the_best_weights_are_those_of_the_named_metric(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path, best_metric="noise_left_db", epochs=3)
    run = make_trainer(cfg)
    averaged = []

    def validate():
        rows = trainer.Trainer.validate(run)
        averaged.append(run.averaged.get_weights())
        return [{**row, "noise_left_db": (-1.0, -3.0, -2.0)[len(averaged) - 1]} for row in rows]

    run.validate = validate
    run.fit()
    assert [row["noise_left_db"] for row in read_history(tmp_path)] == ["-1.0", "-3.0", "-2.0"]
    model = unet.build_model_denoise(cfg.unet)
    unet.load_weights(model, tmp_path / "best.weights.h5")
    for one, other in zip(model.get_weights(), averaged[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_metric_that_does_not_exist_is_named(corpus, tmp_path):
    for name in ("nice", "loss"):
        with pytest.raises(ValueError, match=f"best_metric.*'{name}'"):
            make_trainer(make_config(corpus, tmp_path / name, best_metric=name))  # no step yet


def test_silent_validation_files_are_named_before_the_first_step(corpus, tmp_path):
    cfg = make_config(corpus, tmp_path / "run")
    run = make_trainer(cfg)
    run.validation.clips = {"music": [replace(clip, path=tmp_path / "silent.wav")
                                      for clip in run.validation.clips["music"]]}
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(ValueError, match="audible music for validation"):
        run.fit()
    assert run.progress.step == 0


def test_tensorboard_holds_curves_sounds_and_pictures(corpus, tmp_path):
    make_trainer(make_config(corpus, tmp_path, shown_items=1)).fit()
    found = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"audio": 0, "images": 0})
    found.Reload()
    tags = found.Tags()
    assert {"loss", "lr", "snr_gain_db_at_3", "si_sdr_db_music", "skipped_steps"} <= set(
        tags["scalars"])
    assert [Path(tag).name for tag in sorted(tags["audio"])] == ["clean", "denoised", "noisy",
                                                                 "residual"]
    assert len(found.Audio(next(tag for tag in tags["audio"] if "denoised" in tag))) == 2
    (picture,) = tags["images"]
    assert found.Images(picture)[0].width > 500


def test_weights_to_start_from(corpus, tmp_path):
    make_trainer(make_config(corpus, tmp_path / "one")).fit()
    best = tmp_path / "one/best.weights.h5"
    run = make_trainer(make_config(corpus, tmp_path / "two", weights=str(best)))
    run._resume()
    model = unet.build_model_denoise(run.cfg.unet)
    unet.load_weights(model, best)
    for one, other in zip(model.get_weights(), run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_saves_float32(corpus, tmp_path, precision):
    run = make_trainer(make_config(corpus, tmp_path, precision=precision, steps_per_epoch=8))
    before = run.model.get_weights()
    assert run.model.compute_dtype == precision.removeprefix("mixed_")
    run.fit()
    assert run._updates() > 0
    changed = [np.abs(one - other).max() for one, other in
               zip(before, run.model.get_weights(), strict=True)]
    assert max(changed) > 0.0
    model = unet.build_model_denoise(run.cfg.unet)
    unet.load_weights(model, tmp_path / "best.weights.h5")
    assert model.get_weights()[0].dtype == np.float32


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
            "validation_items=1", "save_every_steps=1", "shown_items=0", *more]


def test_a_run_killed_at_odd_moments_ends_as_one_that_was_not(corpus, tmp_path, rng):
    steps = ["epochs=3", "steps_per_epoch=20", "save_every_steps=3"]
    whole = train_command(corpus, tmp_path / "whole", *steps)
    subprocess.run(whole, check=True, cwd=tmp_path, stderr=subprocess.PIPE)
    command = train_command(corpus, tmp_path / "killed", *steps)
    kills = 0
    for _ in range(20):
        last = tmp_path / "killed/last.weights.h5"
        before = last.stat().st_mtime_ns if last.exists() else 0
        run = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
        # From the next checkpoint on the moment is any: within a step, a save or a validation.
        while run.poll() is None and not (last.exists() and last.stat().st_mtime_ns > before):
            time.sleep(0.02)
        if kills < 3:
            time.sleep(float(rng.uniform(0.0, 0.5)))
            kills += run.poll() is None
            run.kill()
        _, messages = run.communicate()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, messages.decode()
    assert run.returncode == 0 and kills > 0
    assert b"going on from step" in messages
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_search_tries_settings_and_names_the_best(corpus, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    command = train_command(corpus, tmp_path / "unused", "epochs=1", "steps_per_epoch=2")
    settings = [word for word in command[4:] if not word.startswith("path_experiment=")]
    done = subprocess.run([*command[:2], "--config-name", "conf_search", "--multirun", *settings,
                           "hydra.sweeper.n_trials=2"], cwd=tmp_path, stderr=subprocess.PIPE,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    search = tmp_path / "experiments/search"
    best = yaml.safe_load((search / "optimization_results.yaml").read_text())
    gains = [float(read_history(search / str(trial))[-1]["snr_gain_db"]) for trial in range(2)]
    rates = [yaml.safe_load((search / str(trial) / "config.yaml").read_text())["lr"]
             for trial in range(2)]
    assert len(set(rates)) == 2
    assert best["best_value"] == pytest.approx(max(gains))
    assert best["best_params"]["lr"] == pytest.approx(rates[int(np.argmax(gains))])


def test_mistakes_end_in_one_line(tmp_path, corpus):
    for arguments, expected in (
            (["lr=-1"], "lr"), (["dset.path_music=[nowhere]"], "nowhere"),
            (["unet.channel=[1]"], "unet.channel"), (["precision=float8"], "precision"),
            (["strategy=many"], "strategy"), (["loss.mae=0"], "loss")):
        command = train_command(corpus, tmp_path / "run", *arguments)
        done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
                              check=False)
        assert done.returncode != 0
        assert expected in done.stderr and "Traceback" not in done.stderr
