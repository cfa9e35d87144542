"""The diffusion model from end to end: a tiny run resumes exactly, and restores files."""

import json
import shutil

import numpy as np
import programs
import pytest
import soundfile
from small_corpus import composed, read_table, read_weights

from dataset_loader import Mixer
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import panels
from historical_denoiser.core.checks import UserError
from historical_denoiser.denoiser import choose_method
from historical_denoiser.diffusion.settings import DiffusionConfig
from historical_denoiser.training import prior
from historical_denoiser.training.report import read_history

TINY = ("diffusion.sample_rate=8000", "diffusion.octaves=2", "diffusion.bins_per_octave=6",
        "diffusion.channels=[4,4]", "diffusion.dilations=[1]", "diffusion.embedding=8",
        "seg_len_s_train=0.1", "seg_len_s_val=0.1", "batch_size=2", "steps_per_epoch=2",
        "diffusion.sigma_max=9", "validation_items=7", "ema_momentum=0.5", "epochs=2",
        "probe_sounds=0")


@pytest.fixture(scope="module")
def train(three_tunes):
    """Returns a function that trains in a folder, and returns what the program said."""
    def run(folder, *settings):
        done = programs.run(
            "train.py", "--config-name", "conf_diffusion", *TINY, "dset.path_manifests=[]",
            f"dset.path_music=[{three_tunes}/music]", f"dset.path_noise=[{three_tunes}/noise]",
            f"path_experiment={folder}", *settings, cwd=folder, EAGERLY="")
        assert done.returncode == 0, done.stderr
        return done.stderr

    return run


@pytest.fixture(scope="module")
def run(train, tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("prior")
    train(folder)
    return folder


def test_a_run_resumes_exactly_and_validates_by_level(run, train, tmp_path):
    assert "stopped at step 1" in train(tmp_path, "max_minutes=1e-9")
    assert "the samplers improve damaged sounds by" in train(tmp_path, "probe_sounds=1")
    (row, last), history = read_history(tmp_path / "history.csv", 99), read_history(
        run / "history.csv", 99)
    for name in prior.measure_names():
        assert [row[name], last[name]] == [each[name] for each in history], name
    assert row["validation_loss"] != last["validation_loss"]
    assert all(np.isfinite(row[name]) for name in prior.PROBES)
    assert row["gap_snr_db"] != last["gap_snr_db"]
    weights, others = (read_weights(path / "last.weights.h5") for path in (run, tmp_path))
    assert len(weights) > 30  # with the state of the optimiser and the averages
    for name, array in weights.items():
        assert np.array_equal(array, others[name]), name


def test_training_adds_noise_of_the_level_to_clean_sound(three_tunes):
    form = *TINY, "diffusion.octaves=7", "diffusion.channels=[4,4,4,4,4,4,4]"
    cfg = composed(*form, "dset.path_manifests=[]", f"dset.path_music=[{three_tunes}/music]",
                   f"dset.path_noise=[{three_tunes}/noise]", name="conf_diffusion")
    mixtures = prior.GaussianMixtures(Mixer(cfg.dset, "train", 0.5), cfg.diffusion)
    items = [mixtures.item(index) for index in range(30)]
    for item in items:
        assert item.clean.shape == item.noisy.shape == (4000,)
        noise = np.std(item.noisy.astype(np.float64) - item.clean)
        assert noise == pytest.approx(item.sigma, rel=0.1, abs=1e-7)
    sigmas = np.array([item.sigma for item in items])
    assert sigmas.min() < 0.01 and sigmas.max() > 1.0
    rms = np.sqrt(np.mean([np.var(item.clean) for item in items]))
    stated = float(mixtures.describe_levels().split(" is ")[1].split(";")[0])
    assert stated == pytest.approx(rms, rel=0.3)  # of other items
    # The powers of all octaves add up to that of the whole, and silent ones have a number, too.
    stated = mixtures.describe_levels().split()[-1]
    config = composed(*form, stated, name="conf_diffusion").diffusion
    widths = 2.0 ** np.arange(-config.octaves, 0)
    power = np.sum(widths * 10.0 ** (0.1 * np.array(config.data_shape_db)))
    assert power == pytest.approx(1.0, rel=0.2)


def restore(path, run, *settings, steps=2):
    return programs.run("inference.py", path, "method=diffusion", f"weights={run}",
                        f"diffusion.steps={steps}", *settings, cwd=path.parent, EAGERLY="")


@pytest.fixture
def recording(tmp_path, rng):
    path = tmp_path / "side.wav"
    soundfile.write(path, 0.05 * rng.standard_normal((SAMPLE_RATE, 2)), SAMPLE_RATE)
    return path


def test_a_file_is_restored_and_reported(recording, run, three_tunes):
    done = restore(recording, run, f"diffusion.noise={three_tunes}/noise",
                   "inference.denoising_strength=0.01", "seed=5")
    assert done.returncode == 0, done.stderr
    denoised, residual = (soundfile.read(recording.with_name(f"side_{name}_s0.1.wav"))[0]
                          for name in ("denoised", "residual"))
    before, _ = soundfile.read(recording)
    assert denoised.shape == before.shape and np.any(residual)
    np.testing.assert_allclose(denoised + residual, before, atol=1e-4)
    report = json.loads((recording.parent / "denoised_report.json").read_text())
    assert report["last_run"]["diffusion"]["mode"] == "estimated_gain"
    assert report["last_run"]["diffusion"]["sample_rate"] == 8000  # that of the weights
    assert report["last_run"]["diffusion"]["sigma_max"] == 9.0  # likewise
    assert report["last_run"]["diffusion"]["seed"] == 5


def test_a_gap_is_filled_in_a_file(recording, run):
    audio, rate = soundfile.read(recording)
    audio[20000:26000, 0] = 0.0
    soundfile.write(recording, audio, rate, subtype="FLOAT")
    done = restore(recording, run, "diffusion.mode=inpaint", "diffusion.sigma_max=8")
    assert done.returncode == 0, done.stderr
    denoised, _ = soundfile.read(recording.with_name("side_denoised.wav"))
    is_same = denoised == soundfile.read(recording)[0]
    assert np.all(is_same[:, 1]) and np.all(is_same[:20000, 0]) and np.all(is_same[26000:, 0])
    assert np.mean(is_same[20000:26000, 0]) < 0.01
    report = json.loads((recording.parent / "denoised_report.json").read_text())
    (entry,) = report["results"].values()
    assert entry["repaired"]["gaps"]["number"] == 1
    assert report["last_run"]["diffusion"]["sigma_max"] == 8.0


def test_a_new_sound_has_the_length_and_the_level_of_the_file(recording, run):
    done = restore(recording, run, "diffusion.mode=sample", "diffusion.sigma_max=0.5", steps=4)
    assert done.returncode == 0, done.stderr
    drawn, before = (soundfile.read(recording.with_name(name))[0]
                     for name in ("side_denoised.wav", "side.wav"))
    assert drawn.shape == before.shape and 0.1 < np.std(drawn) / np.std(before) < 10.0
    assert abs(np.corrcoef(drawn[:, 0], before[:, 0])[0, 1]) < 0.1


def test_a_prior_stands_beside_other_methods(recording, run, three_tunes):
    pytest.importorskip("jinja2", reason="not installed: requirements-bench.txt")
    tune, rate = soundfile.read(three_tunes / "music/test/tune.wav", frames=SAMPLE_RATE // 2)
    noise = 0.02 * np.random.default_rng(3).standard_normal(len(tune))
    for kind, sound in (("noisy", tune + noise), ("clean", tune), ("noise", noise)):
        path = recording.parent / f"pairs/music/{kind}/a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, sound, rate)
    names = ["none", str(run), f"{run}:profile"]
    done = programs.run("evaluate.py", f"methods=[{','.join(map(repr, names))}]",
                        "bench.pairs=pairs", f"diffusion.noise={three_tunes}/noise",
                        "diffusion.steps=1", cwd=recording.parent, EAGERLY="")
    assert done.returncode == 0, done.stderr
    rows = read_table(recording.parent / "experiments/evaluation/bench/pairs/bench.csv")
    assert [row["method"] for row in rows] == names
    assert len({row["snr_gain_db"] for row in rows}) == 3


@pytest.mark.parametrize(("settings", "message"), [
    ((), "`weights` must be given with method=diffusion"),
    (("weights={tiny}",), "`weights` must be those of a diffusion model"),
    (("weights={run}",), "`diffusion.noise` must be a folder of recordings of the carrier's noise"),
    (("weights={run}", "diffusion.mode=extend"), "`diffusion.cutoff_hz` must be the frequency"),
    (("weights={run}", "diffusion.mode=inpaint", "diffusion.octaves=3"),
     "`diffusion.channels` must be a multiple of 4 for each of 3 octaves"),
    (("weights={run}", "diffusion.mode=inpaint", "diffusion.embedding=16"),
     "`diffusion.embedding` must be left out with .* which was trained with 8"),
    (("weights={run}", "method=network"), "`method` must be diffusion with"),
    (("weights={run}", "diffusion.mode=declick"), "`diffusion.mode` must be one of fixed_gain, ")])
def test_mistakes_are_named(run, tiny_run, settings, message):
    keys = [each.format(run=run, tiny=tiny_run) for each in settings]
    with pytest.raises(UserError, match=message):
        cfg = composed("method=diffusion", *keys)
        choose_method(cfg, {key.partition("=")[0] for key in keys})


@pytest.mark.parametrize(("panel", "file"), [("panel", "file"), ("painel", "arquivo")])
def test_a_panel_is_restored_by_any_method(tmp_path, rng, three_tunes, run, panel, file):
    method = ["method=lsa"] if panel == "panel" else [
        "method=diffusion", f"weights={run}", "diffusion.steps=1", "diffusion.mode=fixed_gain",
        f"diffusion.noise={three_tunes}/noise"]
    for folder in ("noisy", "clean"):
        (tmp_path / f"{panel}-2/{folder}").mkdir(parents=True)
    clean = three_tunes / "music/test/tune.wav"
    shutil.copy(clean, tmp_path / f"{panel}-2/clean/Track 1.wav")
    tune, rate = soundfile.read(clean)
    soundfile.write(tmp_path / f"{panel}-2/noisy/Track 1.wav",
                    tune + 0.03 * rng.standard_normal(len(tune)), rate)
    info = tmp_path / "sample-info.csv"
    info.write_text(f"{file},snr-{panel}-1,snr-{panel}-2,noise-gain-{panel}-2\n"
                    "some/folder/Track 1.wav,30,20,0.5\n")
    done = programs.run("evaluate.py", f"panels={tmp_path}", "panel=2", *method, cwd=tmp_path,
                        EAGERLY="")
    assert done.returncode == 0, done.stderr
    assert "| Track 1.wav | 20 |" in done.stdout and "mean of 1" in done.stdout
    assert "segmental_snr_db" in done.stdout
    (table,) = tmp_path.glob(f"{panel}-2/*/results.csv")
    (row,) = read_table(table)
    assert float(row["snr_db"]) == 20.0 and float(row["noise_gain"]) == 0.5
    assert panel == "painel" or float(row["snr_gain_db"]) > 0.0
    assert (table.parent / "Track 1_denoised.wav").is_file()


def test_a_panel_states_what_is_known_and_how_sure_its_means_are():
    item = panels.Item(None, None, snr_db=20.0, noise_gain=0.5)
    config = panels.fit(DiffusionConfig(), item)
    assert config.snr_db == [18.0, 22.0] and config.gain == 0.5
    assert config.xi == pytest.approx(0.105 * 20.0 - 0.7)
    assert panels.fit(DiffusionConfig(xi=0.2), item).xi == 0.2
    rows = [{"file": name, "snr_db": 20.0, "noise_gain": 1.0, "snr_gain_db": value}
            for name, value in zip("abc", (1.0, 2.0, 6.0), strict=True)]
    assert "| 3.00 [1.00, 6.00] |" in panels.format_rows(rows)


@pytest.mark.parametrize(("text", "message"), [
    ("name,snr-panel-1,noise-gain-panel-1\n1.wav,3,1\n",
     "must have a column file or arquivo. Received: name, snr-panel-1"),
    ("file,snr-panel-2\n1.wav,3\n", "must have a column snr-panel-1 or snr-painel-1"),
    ("file,snr-panel-1,noise-gain-panel-1\n1.wav,3,loud\n", "the gain of 1.wav must be numbers"),
    ("file,snr-panel-1,noise-gain-panel-1\n2.wav,3,1\n", "names 2.wav, but there is no"),
    ("file,snr-panel-1,noise-gain-panel-1\n", "must hold a row for each file")])
def test_mistakes_in_a_panel_are_named(tmp_path, text, message):
    (tmp_path / "panel-1/noisy").mkdir(parents=True)
    (tmp_path / "panel-1/noisy/1.wav").touch()
    with pytest.raises(UserError, match="`panels` must be a folder that holds sample-info.csv"):
        panels.find_items(str(tmp_path), 1)
    (tmp_path / "sample-info.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        panels.find_items(str(tmp_path), 1)
    with pytest.raises(UserError, match="`panel` must be the number of a folder"):
        panels.find_items(str(tmp_path), 3)
