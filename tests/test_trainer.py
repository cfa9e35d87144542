"""Tiny runs from end to end: they learn, resume exactly, and report what they do."""

import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import programs
import pytest
import soundfile
import tensorflow as tf
import yaml
from hydra import compose, initialize_config_dir
from small_corpus import ROOT, read_weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import config
import train
import trainer
import unet
from dataset_loader import Mixer
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE, StftConfig
from historical_denoiser.core.checks import UserError
from historical_denoiser.data import feeding
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.denoiser import Denoiser, choose_method
from historical_denoiser.noise.carriers import CarrierConfig
from historical_denoiser.settings import Config, UnetConfig
from historical_denoiser.training import checkpoints, metrics, probes, report
from historical_denoiser.training.settings import LossConfig, ScheduleConfig

pytestmark = pytest.mark.filterwarnings("ignore:.*run_functions_eagerly:UserWarning")
UNET = UnetConfig(depth=1, num_stages=1, channels=[6, 8], extractor_kernel=3, fold_bins=4,
                  output="mask", compression=0.5)


@pytest.fixture(scope="module", autouse=True)
def eager():
    """Without graphs: tracing one takes longer than the few steps of these runs."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def graphs(eager):
    """With graphs, as in any run: worth it for many steps."""
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.fixture(scope="module")
def make_run(three_tunes):
    """Returns a function that makes a `Trainer` in a folder, with changes of the settings."""
    dset = DsetConfig(path_music=[str(three_tunes / "music")],
                      path_noise=[str(three_tunes / "noise")])

    def make(folder, may_change=True, **changes):
        cfg = Config(**{
            "path_experiment": str(folder), "epochs": 2, "steps_per_epoch": 3, "batch_size": 2,
            "lr": 3e-3, "seg_len_s_train": 0.1, "seg_len_s_val": 0.2, "validation_items": 1,
            "save_every_steps": 2, "gradient_clip": 1.0, "ema_momentum": 0.5, "shown_items": 0,
            "probe_sounds": 0, "stft": StftConfig(512, 128), "unet": UNET, "dset": dset,
            "loss": LossConfig(mae=0.0, compressed=1.0, snr=0.1),
            "schedule": ScheduleConfig(name="cosine")} | changes)
        form = config.network_settings(cfg).profile_form
        return trainer.Trainer(
            cfg, Mixer(cfg.dset, "train", cfg.seg_len_s_train, cfg.seed, cfg.noise,
                       profile_form=form),
            Mixer(cfg.dset, "validation", cfg.seg_len_s_val), may_change)

    return make


def read_history(folder):
    return report.read_history(folder / report.HISTORY_NAME, np.inf)


def note_weights(run):
    """Returns a list to which each step adds the weights after it."""
    train_step, weights = run.learner.train_step, []

    def noted(*batch):
        loss = train_step(*batch)
        weights.append(run.learner.model.get_weights())
        return loss

    run.learner.train_step = noted
    return weights


def assert_same(weights, others, atol=0.0):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, rtol=0.0, atol=atol)


def assert_averaged(run, start, steps, momentum):
    """The averaged weights of a run are the moving average of `start` and those after each step."""
    for weights in steps:
        start = [momentum * one + (1.0 - momentum) * other
                 for one, other in zip(start, weights, strict=True)]
    assert_same(run.learner.averaged.get_weights(), start, atol=1e-6)


def assert_same_run(folder, other):
    """The history up to times, and the best weights, are those of a run that never stopped."""
    for row, same in zip(read_history(folder), read_history(other), strict=True):
        for name in row.keys() - {"seconds_per_step", "memory_gb"}:
            assert same[name] == pytest.approx(row[name], rel=1e-4, abs=1e-5), name
    weights, others = (read_weights(path / "best.weights.h5") for path in (folder, other))
    assert weights and weights.keys() == others.keys()
    assert_same(weights.values(), others.values(), atol=1e-6)


def read_best(run):
    model = unet.build_model_denoise(run.cfg.unet)
    unet.load_weights(model, run.folder / "best.weights.h5")
    return model.get_weights()


@pytest.fixture(scope="module")
def finished(make_run, tmp_path_factory):
    """A finished run that nobody changes: its folder, itself, and the weights after each step."""
    run = make_run(tmp_path_factory.mktemp("finished"), shown_items=1)
    weights = note_weights(run)
    run.fit()
    return SimpleNamespace(folder=run.folder, run=run, weights=weights)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the folder of a finished run."""
    return shutil.copytree(finished.folder, tmp_path / "copied")


@pytest.fixture
def heeds_interrupts():
    """Ctrl-C, as in a terminal: a job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_run_writes_its_files(finished):
    for name in ("best.weights.h5", "last.weights.h5", "config.yaml", "history.csv"):
        assert (finished.folder / name).stat().st_size > 0
    history = read_history(finished.folder)
    assert [row["step"] for row in history] == [3, 6]
    assert {"snr_gain_db", "snr_gain_db_music", "clean_si_sdr_db", "noise_left_db"} <= set(
        history[0])
    assert 0.1 < history[1]["memory_gb"] < 10.0
    with (h5py.File(finished.folder / "best.weights.h5") as best,
          h5py.File(finished.folder / "last.weights.h5") as last):
        assert "optimizer" in last and "optimizer" not in best


def test_tensorboard_holds_curves_sounds_and_pictures(finished):
    found = EventAccumulator(str(finished.folder / "tensorboard"),
                             size_guidance={"audio": 0, "images": 0})
    found.Reload()
    tags = found.Tags()
    assert {"loss", "lr", "snr_gain_db_at_3", "si_sdr_db_music", "skipped_steps"} <= set(
        tags["scalars"])
    assert {Path(tag).name: len(found.Audio(tag)) for tag in tags["audio"]} == {
        "clean": 1, "denoised": 2, "noisy": 1, "residual": 2}
    (picture,) = tags["images"]
    assert found.Images(picture)[0].width > 500


def test_what_is_validated_is_the_moving_average(finished):
    first, *others = finished.weights
    assert_averaged(finished.run, first, others, 0.5)
    assert any(np.abs(one - other).max() > 1e-4 for one, other in zip(
        others[-1], finished.run.learner.averaged.get_weights(), strict=True))


def interrupt_at_end(owner, name, call):
    """Presses Ctrl-C at the end of the given call of a method."""
    method, calls = getattr(owner, name), []

    def interrupted(*arguments):
        result = method(*arguments)
        calls.append(result)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return result

    setattr(owner, name, interrupted)


def change_batches(run, change):
    """Lets a function of its number and its arrays change each batch of a run."""
    batches = run.workers.batches
    run.workers.batches = lambda *arguments: (
        change(number, batch) for number, batch in enumerate(batches(*arguments)))


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupted_run_ends_as_one_that_was_not(make_run, finished, tmp_path):
    def interrupt_loader(number, batch):
        if number == 1:
            signal.raise_signal(signal.SIGINT)
        return batch

    # Ctrl-C within a step, then within the first validation, while the average is in the weights'
    # place, then while the run waits for its second batch.
    for step, interrupt in (
            (2, lambda run: interrupt_at_end(run.learner, "train_step", 2)),
            (3, lambda run: interrupt_at_end(run.learner.optimizer, "finalize_variable_values", 1)),
            (5, lambda run: change_batches(run, interrupt_loader))):
        stopped = make_run(tmp_path)
        interrupt(stopped)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit()
        assert stopped.progress.step == step
    resumed = make_run(tmp_path)
    resumed.fit()
    assert resumed.progress.step == 6
    assert_same_run(finished.folder, tmp_path)
    for one, other in zip(finished.run.learner.optimizer.variables,
                          resumed.learner.optimizer.variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.usefixtures("heeds_interrupts")
def test_a_second_interrupt_stops_at_once_and_saves_nothing(make_run, tmp_path):
    run = make_run(tmp_path)

    def interrupted(*batch):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run.learner.train_step = interrupted
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.progress.step == 0 and not (tmp_path / "last.weights.h5").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_finished_run_is_taken_as_it_is_or_refused(make_run, finished, copied, caplog):
    settings = (copied / "config.yaml").read_text()
    same = make_run(copied, loader_workers=2)
    same.fit()
    assert "is finished: nothing is trained" in caplog.text
    assert same.best_value == finished.run.best_value
    for changes, named in (({"lr": 1e-4}, "lr 0.003 -> 0.0001"), ({"epochs": 1}, "epochs 2 -> 1"),
                           ({"unet": replace(UNET, fold_bins=8)}, "unet.fold_bins 4 -> 8")):
        with pytest.raises(ValueError, match=f"is finished with other settings: .*{named}"):
            make_run(copied, **changes).fit()
    assert (copied / "config.yaml").read_text() == settings  # those of the weights


@pytest.mark.slow
def test_an_unfinished_run_goes_on_with_other_settings_unless_it_is_compared(
        make_run, copied, caplog):
    changes = {"epochs": 3, "lr": 1e-4, "ema_momentum": None}
    with pytest.raises(ValueError, match="began with other settings: epochs 2 -> 3, lr 0.003"):
        make_run(copied, may_change=False, **changes).fit()
    run = make_run(copied, **changes)
    run.fit()
    assert "is resumed with other settings: epochs 2 -> 3, lr 0.003 -> 0.0001" in caplog.text
    start = run.learner.model.get_weights()
    assert_same(run.learner.averaged.get_weights(), start)  # there is no average any more

    again = make_run(copied, epochs=4, lr=1e-4, ema_momentum=0.9)
    weights = note_weights(again)
    again.fit()
    assert_averaged(again, start, weights, 0.9)


def validate_as(run, **columns):
    """Gives measures a value for each epoch; returns a list of the epochs' averaged weights."""
    averaged = []

    def validate():
        epoch, rows = len(averaged), trainer.Trainer.validate(run)
        averaged.append(run.learner.averaged.get_weights())
        return [row | {name: values[epoch] for name, values in columns.items()} for row in rows]

    run.validate = validate
    return averaged


@pytest.mark.slow
def test_the_best_weights_are_those_of_the_named_metric(make_run, tmp_path, caplog):
    run = make_run(tmp_path, best_metric="noise_left_db", steps_per_epoch=1)
    averaged = validate_as(run, noise_left_db=(-3.0, -1.0), snr_gain_db=(1.0, 2.0))
    run.fit()
    assert [row["noise_left_db"] for row in read_history(tmp_path)] == [-3.0, -1.0]
    assert run.best_value == -3.0
    assert_same(read_best(run), averaged[0])

    # By another metric the weights of the second epoch were better, but they are gone.
    run = make_run(tmp_path, best_metric="snr_gain_db", steps_per_epoch=1, epochs=4)
    averaged = validate_as(run, noise_left_db=(-9.0, -9.0), snr_gain_db=(0.5, 1.5))
    run.fit()
    assert "by `best_metric=snr_gain_db` epoch 2 was the best so far (2.000)" in caplog.text
    assert "best.weights.h5 holds those of epoch 1 (1.000)" in caplog.text
    assert run.best_value == 1.5  # better than the 1.0 of the file, not than the 2.0 that is gone
    assert_same(read_best(run), averaged[1])


@pytest.mark.usefixtures("graphs")
def test_training_gains_snr(make_run, tmp_path):
    """Of both stages, the second by way of the attention between them."""
    run = make_run(tmp_path, epochs=1, steps_per_epoch=80, ema_momentum=None, save_every_steps=100,
                   lr=1e-2, validation_items=2, unet=replace(UNET, num_stages=2))
    before = metrics.average(run.validate())
    run.fit()
    after = metrics.average(run.validate())
    assert abs(before["snr_gain_db"]) < 0.01  # a fresh mask changes nothing
    assert after["snr_gain_db"] > 2.0


def poison(run, bad_steps):
    """Replaces the noisy waveforms of the given batches by NaN."""
    change_batches(run, lambda number, batch: [
        np.full_like(batch[0], np.nan) if number in bad_steps else batch[0], batch[1]])


def test_a_step_without_finite_gradients_is_left_out_and_counted(make_run, tmp_path, caplog):
    run = make_run(tmp_path, steps_per_epoch=2)
    poison(run, {1, 2})
    run.fit()
    assert run.progress.step == 4 and run.progress.skipped == 2 and run.learner.updates == 2
    assert all(np.isfinite(weight).all() for weight in run.learner.model.get_weights())
    assert all(np.isfinite(value).all() for value in run.learner.optimizer.variables)
    history = read_history(tmp_path)
    assert [row["skipped_steps"] for row in history] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in history)
    assert "step 2 is left out" in caplog.text


def test_a_diverged_run_stops_and_keeps_its_checkpoint(make_run, copied, monkeypatch):
    monkeypatch.setattr(trainer, "MAX_SKIPPED_IN_A_ROW", 4)
    kept = (copied / "last.weights.h5").read_bytes()
    run = make_run(copied, epochs=1, steps_per_epoch=1000, save_every_steps=1000)
    poison(run, range(1000))
    with pytest.raises(ValueError, match="4 times in a row up to step 10"):
        run.fit()
    assert (copied / "last.weights.h5").read_bytes() == kept


def test_an_unwritable_folder_and_a_full_disk_say_why(make_run, copied, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_run(tmp_path / "file" / "run").fit()
    kept = (copied / "last.weights.h5").read_bytes()
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(OSError, match="disk is full"):
        make_run(copied, epochs=3).fit()
    assert (copied / "last.weights.h5").read_bytes() == kept
    # At the epoch's end, before anything is written.
    with pytest.raises(OSError, match="disk is full"):
        make_run(tmp_path / "new", save_every_steps=1000, steps_per_epoch=1).fit()
    assert not (tmp_path / "new/history.csv").exists()


def test_a_metric_that_is_not_measured_is_named(make_run, tmp_path):
    for name in ("nice", "loss", "probe_mean_db"):
        with pytest.raises(ValueError, match=f"best_metric.*'{name}'"):
            make_run(tmp_path, best_metric=name)


def test_silent_validation_files_are_named_before_the_first_step(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    clips = run.validation.clean.clips
    clips["music"] = [replace(clip, path=tmp_path / "silent.wav") for clip in clips["music"]]
    soundfile.write(tmp_path / "silent.wav", np.zeros(2 * SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(ValueError, match="audible music for validation"):
        run.fit()
    assert run.progress.step == 0


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_saves_float32(make_run, finished, tmp_path, precision):
    form = replace(UNET, fold_bins=8, fold_start=8, use_steady=True, use_short=True,
                   use_long=True, own_low=True, num_stages=2)
    run = make_run(tmp_path, precision=precision, unet=form, epochs=1, steps_per_epoch=4,
                   save_every_steps=100)
    before = run.learner.model.get_weights()
    assert run.learner.model.compute_dtype == precision.removeprefix("mixed_")
    run.fit()
    assert run.learner.updates > 0
    assert any(np.any(one != other) for one, other in
               zip(before, run.learner.model.get_weights(), strict=True))
    assert read_best(run)[0].dtype == np.float32
    # Only half precision needs the loss scaled.
    scale = float(run.learner.optimizer.dynamic_scale)
    assert scale > 1.0 if precision == "mixed_float16" else scale == 1.0
    assert float(finished.run.learner.optimizer.dynamic_scale) == 1.0


def test_a_mask_network_trains_goes_on_and_restores(three_tunes, tmp_path, rng, finished):
    def run(name, *settings):
        done = run_train(
            tmp_path, "conf_cassette", "dset=folders", f"dset.path_music=[{three_tunes / 'music'}]",
            f"dset.path_noise=[{three_tunes / 'noise'}]", "unet.depth=1", "unet.channels=[4,6]",
            "stft.win_size=511", "stft.hop_size=256", "batch_size=1", "epochs=1",
            "steps_per_epoch=2", "seg_len_s_train=0.1", "seg_len_s_val=0.2", "validation_items=1",
            "shown_items=0", "probe_sounds=0", f"path_experiment={tmp_path / name}", *settings)
        assert done.returncode == 0, done.stderr
        return done.stderr

    run("whole")
    assert "stopped at step 1" in run("stopped", "max_minutes=1e-9")
    run("stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    audio = rng.standard_normal(9000).astype(np.float32)
    denoiser = Denoiser.load(tmp_path / "whole", declick=False, dehum=False)
    assert 0.0 < dsp.power(denoiser(audio, SAMPLE_RATE)) < dsp.power(audio)
    # 512 frames with a hop of 512, which overlap by half
    segment, context = (round(seconds * SAMPLE_RATE) for seconds in (
        denoiser.segment_seconds, denoiser.settings.context_seconds))
    assert segment == 2 * context == 256 * 512
    cassette = Config(path_experiment="x", method="cassette", weights=str(tmp_path / "whole"))
    assert choose_method(cassette).weights.parent == tmp_path / "whole"
    with pytest.raises(UserError, match="`method` must be network with .* conf_cassette did not"):
        choose_method(replace(cassette, weights=str(finished.folder)))
    with pytest.raises(FileNotFoundError, match="conf_cassette"):
        choose_method(replace(cassette, weights=None))


def test_a_run_of_another_network_is_refused(make_run, copied):
    other = replace(UNET, channels=[7, 8])
    with pytest.raises(ValueError, match="cannot be resumed: .*weights=.*best.weights.h5.*shape"):
        make_run(copied, epochs=3, unet=other).fit()


@pytest.mark.parametrize(("name", "step", "expected"), [
    ("step", 0, 1e-3), ("step", 9, 1e-3), ("step", 11, 1e-4), ("step", 21, 1e-5),
    ("cosine", 0, 1e-4), ("cosine", 10, 1e-3), ("cosine", 55, 5.05e-4), ("cosine", 100, 1e-5)])
def test_learning_rate(name, step, expected):
    schedule = ScheduleConfig(name=name, boundaries_epochs=[1, 2], warmup_steps=10)
    rate = trainer.make_learning_rate(Config(lr=1e-3, schedule=schedule, epochs=10,
                                             steps_per_epoch=10))
    assert float(keras.ops.convert_to_numpy(rate(step))) == pytest.approx(expected, rel=0.02)


def test_a_run_reports_probes_and_can_be_judged_by_them(make_run, tmp_path, caplog):
    caplog.set_level("INFO")
    run = make_run(tmp_path, epochs=1, steps_per_epoch=1, probe_sounds=1, probe_seconds=0.2,
                   best_metric="probe_worst_octave_db", lr=1e-9)
    run.fit()
    (row,) = read_history(tmp_path)
    assert set(probes.AVERAGE_NAMES) <= set(row)
    # With steps too small to see, the network still does nothing.
    assert run.best_value == row["probe_worst_octave_db"] == pytest.approx(0.0, abs=0.5)
    assert "| octave 250 Hz |" in caplog.text and "clean impulses" in caplog.text
    assert "does not remove noise of one octave" in caplog.text


@pytest.mark.slow
def test_a_run_stops_after_its_minutes_and_goes_on_as_if_it_had_not(make_run, finished, tmp_path,
                                                                     caplog):
    with caplog.at_level("INFO"):
        make_run(tmp_path, max_minutes=1e-9).fit()
    assert "stopped at step 1 after `max_minutes`" in caplog.text
    run = make_run(tmp_path)
    run.fit()
    assert_same(run.learner.model.get_weights(), finished.weights[-1])


def test_the_rate_by_the_clock_ends_with_the_minutes_and_the_last_weights_are_validated(
        make_run, tmp_path):
    cfg = Config(lr=1e-3, max_minutes=1.0, schedule=ScheduleConfig("minutes", warmup_steps=10))
    assert trainer.rate_by_clock(cfg, 0, 0.0) == pytest.approx(1e-4)
    rates = [trainer.rate_by_clock(cfg, 10, part) for part in (0.0, 0.5, 1.0, 2.0)]
    assert rates == pytest.approx([1e-3, 5.05e-4, 1e-5, 1e-5])
    run = make_run(tmp_path, max_minutes=1e-9, schedule=ScheduleConfig("minutes"))
    run.fit()
    assert run.history[-1]["step"] == run.progress.step == 1
    assert run.history[-1]["lr"] == pytest.approx(0.01 * run.cfg.lr)
    assert run.checkpoints.best.exists()
    with pytest.raises(UserError, match="`schedule.name` must stay .*minutes -> cosine"):
        make_run(tmp_path).fit()


@pytest.mark.slow
@pytest.mark.parametrize("own_low", [False, True])
def test_a_run_starts_from_weights_of_its_form_or_a_smaller_one(make_run, tmp_path, rng, own_low):
    small = replace(UNET, num_stages=2, fold_start=4)
    older = make_run(tmp_path / "older", unet=small, epochs=1)
    older.fit()
    newer = make_run(tmp_path / "newer", unet=replace(small, own_low=own_low), epochs=1,
                     weights=str(tmp_path / "older"), steps_per_epoch=1, lr=1e-9)
    newer.fit()  # with steps too small to see
    spectra = rng.standard_normal((1, 6, 257, 2)).astype(np.float32)
    best = unet.build_model_denoise(small)
    best.set_weights(read_best(older))
    np.testing.assert_allclose(newer.learner.predict(spectra), best.predict_on_batch(spectra)[0],
                               atol=1e-5)


@pytest.mark.slow
def test_a_smaller_network_learns_from_its_teacher(make_run, tmp_path, rng):
    large = replace(UNET, num_stages=2, channels=[8, 12])
    older = make_run(tmp_path / "older", unet=large, epochs=1)
    older.fit()
    model = unet.build_model_denoise(large)
    model.set_weights([0.2 * rng.standard_normal(each.shape) for each in model.get_weights()])
    model.save_weights(older.checkpoints.best)
    weights, small = str(tmp_path / "older"), replace(large, channels=[4, 6])
    spectra = rng.standard_normal((1, 20, 257, 2)).astype(np.float32)
    distances = []
    for name, others in (("alone", {}), ("pruned", {"weights": weights, "lr": 1e-9}),
                         ("taught", {"weights": weights, "teacher": weights, "lr": 1e-2})):
        run = make_run(tmp_path / name, unet=small, epochs=1, steps_per_epoch=40,
                       save_every_steps=100, ema_momentum=None, **others)
        run.fit()
        run.learner.update_averaged()
        distances.append(np.linalg.norm(run.learner.predict(spectra) - model.predict_on_batch(
            spectra)[0]))
    assert distances[2] < 0.9 * min(distances[:2])


def test_a_teacher_that_cannot_be_one_is_refused_by_name(make_run, tmp_path):
    two = replace(UNET, num_stages=2)
    older = make_run(tmp_path / "older", unet=two)
    older.folder.mkdir()
    older.checkpoints.save_best(older.learner.averaged, step=1)
    config.save_config(older.cfg, older.folder / "config.yaml")
    with pytest.raises(UserError, match="`teacher` must be .*unet.num_stages=2, here 1"):
        make_run(tmp_path / "one", unet=UNET, teacher=str(tmp_path / "older"))
    for name in ("", "nix"):
        with pytest.raises(FileNotFoundError, match="`teacher` cannot be read: "):
            make_run(tmp_path / "other", unet=two, teacher=name)


@pytest.mark.slow
@pytest.mark.usefixtures("graphs")
def test_a_network_learns_to_use_a_profile(make_run, three_tunes, tmp_path):
    dset = DsetConfig(path_music=[str(three_tunes / "music")],
                      path_noise=[str(three_tunes / "noise")], snr_db=[-5.0, 25.0])
    steady = CarrierConfig(fluctuating_share=0.0)  # a profile tells most about noise that stays
    run = make_run(tmp_path, epochs=1, steps_per_epoch=60, batch_size=4, lr=1e-2, dset=dset,
                   noise=steady, ema_momentum=None, save_every_steps=100,
                   unet=replace(UNET, use_profile=True))
    run.fit()
    run.learner.update_averaged()
    known = Mixer(replace(dset, share_profile=1.0), "train", run.cfg.seg_len_s_train, 99, steady,
                  profile_form=run.training.profile_form)
    noisy, clean, profiles = feeding.make_batch(known, 0, 64)
    spectra, target = dsp.stft(noisy, 512, 128), dsp.stft(clean, 512, 128)
    profiled, blind, misled = (
        np.abs(run.learner.predict(given) - target).mean()
        for given in ([spectra, profiles], spectra, [spectra, profiles[::-1]]))
    assert profiled < 0.97 * min(blind, misled)


# ---- train.py ----


@pytest.fixture(scope="module")
def tiny(three_tunes):
    """The settings of a tiny run on the command line."""
    return ["dset=folders", f"dset.path_music=[{three_tunes / 'music'}]",
            f"dset.path_noise=[{three_tunes / 'noise'}]", "unet.depth=1", "unet.channels=[4,4]",
            "unet.num_stages=1", "unet.fold_bins=4", "unet.use_short=false", "unet.use_long=false",
            "unet.own_low=false", "stft.win_size=512", "stft.hop_size=128", "batch_size=1",
            "seg_len_s_train=0.1", "seg_len_s_val=0.2", "validation_items=1",
            "shown_items=0", "probe_sounds=0"]


def run_train(folder, name, *arguments):
    return programs.run("train.py", "--config-name", name, *arguments, cwd=folder, EAGERLY="1")


def call_main(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return train.main(compose("conf_prototype", list(overrides)))


def test_train_returns_what_a_search_maximises(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    value = call_main(*tiny, f"path_experiment={tmp_path}", "epochs=1", "steps_per_epoch=1",
                      "best_metric=lsd_db")
    assert value == -read_history(tmp_path)[0]["lsd_db"] < 0.0
    assert "TensorFlow 2." in caplog.text and " on CPU (" in caplog.text


def test_mistakes_end_in_one_line(tiny, tmp_path):
    tiny = [*tiny, f"path_experiment={tmp_path / 'run'}"]
    for argument, named in (("lr=-1", "lr"), ("dset.path_music=[nowhere]", "nowhere"),
                            ("precision=float8", "precision"), ("strategy=many", "strategy"),
                            ("loss.mae=0", "loss"), (f"path_experiment={__file__}",
                                                     "`path_experiment` must be a folder"),
                            ("weights=nix.h5", "nix.h5: no such file")):
        with pytest.raises(SystemExit, match=f"error: .*{named}"):
            call_main(*tiny, argument)
        assert not (tmp_path / "run").exists()
    done = run_train(tmp_path, "conf_prototype", *tiny, "unet.channel=[1]")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "Did you mean `unet.channels`?" in done.stderr


@pytest.mark.slow
def test_a_run_killed_at_odd_moments_ends_as_one_that_was_not(tiny, tmp_path, rng):
    tiny = [*tiny, "epochs=2", "steps_per_epoch=15", "save_every_steps=3"]
    done = run_train(tmp_path, "conf_prototype", *tiny, f"path_experiment={tmp_path / 'whole'}")
    assert done.returncode == 0, done.stderr
    kills, last = 0, tmp_path / "killed/last.weights.h5"
    for _ in range(20):
        before = last.stat().st_mtime_ns if last.exists() else 0
        run = programs.start("train.py", "--config-name", "conf_prototype", *tiny,
                             f"path_experiment={tmp_path / 'killed'}", cwd=tmp_path, EAGERLY="1")
        # From the next checkpoint on the moment is any: within a step, a save or a validation.
        while run.poll() is None and not (last.exists() and last.stat().st_mtime_ns > before):
            time.sleep(0.02)
        if kills < 3:
            time.sleep(float(rng.uniform(0.0, 0.5)))
            kills += run.poll() is None
            run.send_signal(signal.SIGKILL)
        _, messages = run.communicate()
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, messages
    assert run.returncode == 0 and kills > 0
    assert "resuming at step" in messages
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_each_search_tries_settings_of_its_own_and_names_the_best(tiny, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    arguments = ["conf_search", "--multirun", *tiny, "epochs=1", "steps_per_epoch=2",
                 "hydra.sweeper.n_trials=2"]
    found = set()
    for metric, seed, choose in (("snr_gain_db", 42, np.argmax), ("lsd_db", 43, np.argmin)):
        done = run_train(tmp_path, *arguments, f"best_metric={metric}",
                         f"hydra.sweeper.sampler.seed={seed}")
        assert done.returncode == 0, done.stderr
        (search,) = set((tmp_path / "experiments/search").iterdir()) - found
        found.add(search)
        best = yaml.safe_load((search / "optimization_results.yaml").read_text())
        values = [read_history(search / str(trial))[-1][metric] for trial in range(2)]
        rates = [yaml.safe_load((search / str(trial) / "config.yaml").read_text())["lr"]
                 for trial in range(2)]
        assert len(set(rates)) == 2
        assert abs(best["best_value"]) == pytest.approx(abs(values[choose(values)]))
        assert best["best_params"]["lr"] == pytest.approx(rates[choose(values)])
    # In the folder of the last one, the same search has its results already, another is refused.
    into = f"hydra.sweep.dir={search}"
    same = run_train(tmp_path, *arguments, "best_metric=lsd_db", "hydra.sweeper.sampler.seed=43",
                     into)
    assert same.returncode == 0 and same.stderr.count("nothing is trained") == 2
    other = run_train(tmp_path, *arguments, "best_metric=lsd_db", into)
    assert other.returncode == 1 and "is finished with other settings" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.slow
def test_a_search_goes_on_past_a_diverged_trial(tiny, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    done = run_train(tmp_path, "conf_search", "--multirun", *tiny, "epochs=1", "steps_per_epoch=20",
                     "hydra.sweep.dir=search", "hydra.sweeper.n_trials=2",
                     "hydra.sweeper.sampler.seed=41",  # draws the greater one first,
                     "loss.mae=choice(1.0,1e39)")  # which is infinite in float32
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((tmp_path / "search/optimization_results.yaml").read_text())
    assert best["best_params"]["loss.mae"] == 1.0 and np.isfinite(best["best_value"])
    first, _, rest = done.stderr.partition("this trial counts as the worst")
    assert "done: the weights" not in first and "done: the weights" in rest
