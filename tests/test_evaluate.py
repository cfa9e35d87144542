"""The tables of `evaluate.py`, of a tiny network on small files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile
from small_corpus import composed, read_table

import evaluate
from dataset_loader import Mixer
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.bench.settings import BenchConfig
from historical_denoiser.core.checks import UserError
from historical_denoiser.network.stored import BEST_NAME
from historical_denoiser.noise import foreign
from historical_denoiser.run.settings import InferenceConfig
from historical_denoiser.settings import Config
from historical_denoiser.training import look_alikes, metrics, probes


def paths_of(folders):
    """The settings that name `folders`."""
    return [f"dset.path_{name}=[{folders / name}]"
            for name in ("speech", "music", "effects", "noise")]


def run_evaluate(folders, *settings):
    """Runs evaluate.py on mixtures of half a second; returns what it printed."""
    done = programs.run("evaluate.py", "dset=folders", *paths_of(folders), "seg_len_s_val=0.5",
                        *settings, cwd=folders)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_sealed_test_holds_noises_of_its_own_and_notes_each_run(folders, tmp_path):
    cfg, usual = composed(groups=["test=sealed"]), composed()
    assert cfg.sealed_log is not None and usual.sealed_log is None
    mixers = [Mixer(replace(one.dset, path_manifests=[], path_noise=[str(folders / "noise")],
                            path_music=[str(folders / "music")]), "test", 0.5)
              for one in (cfg, usual)]
    sealed, opened = ({mixer.evaluation_item(index).noise for index in range(60)}
                      for mixer in mixers)
    assert sealed == set(foreign.SEALED)
    assert set(foreign.OPEN) < opened and not sealed & opened
    log, weights = tmp_path / "lab" / "runs.csv", tmp_path / "x.weights.h5"
    weights.write_bytes(b"some weights")
    rows = [{"category": "music", "input_snr_db": snr, "snr_gain_db": snr / 2.0,
             "noise_left_db": -12.0} for snr in (3.0, 3.0, 10.0)]
    evaluate.note_sealed(log, "x", weights, rows)
    evaluate.note_sealed(log, "x", weights, rows)
    first, second = read_table(log)
    assert first == second
    assert (first["music_at_3"], first["music_at_10"]) == ("1.50", "5.00")
    assert len(first["sha256"]) == 12 and first["items"] == "3"


def test_tables_and_measures_of_the_test_mixtures(folders, tiny_run):
    lines = run_evaluate(folders, "test_items=9", "test_probe_sounds=1", "probe_seconds=0.3",
                         f"weights={tiny_run}").splitlines()
    assert lines[0] == f"{BEST_NAME}: 9 mixtures of 0.5 s"
    for line in ("SNRs are set and measured above 20 Hz.", "Enabled stages: dehum, declick, "
                 "listen_first, keep_held.",
                 "Not tested, as no recording is held out: tape."):
        assert line in lines
    folder = folders / "experiments/evaluation" / tiny_run.name
    rows = read_table(folder / evaluate.TABLE_NAME)
    assert len(rows) == 9 and set(metrics.MEASURES) < rows[0].keys()
    assert {row["category"] for row in rows} == {"speech", "music", "effects"}
    assert {row["noise"] for row in rows} == {"gramophone album0"}
    # The means of the first table are those of the file.
    means = [line.split("|")[1:4] for line in lines if line.startswith("| 3 |")]
    gains = [float(row["snr_gain_db"]) for row in rows if float(row["input_snr_db"]) == 3.0]
    assert [cell.strip() for cell in means[0]] == ["3", "3", f"{sum(gains) / 3:.2f}"]
    # Then come a line for the recording, the probes and the guards.
    recording, bands = [line for line in lines if line.startswith("| gramophone album0 |")]
    assert len(bands.split("|")) == 4 + len(metrics.BAND_MEASURES)
    assert recording.split("|")[3].strip() == f"{sum(gains) / 3:.2f}"
    probed = read_table(folder / evaluate.PROBES_NAME)
    assert [row["probe"] for row in probed if row["noise_left_db"]] == list(probes.PROBES)
    assert [row["probe"] for row in probed if row["kept_si_sdr_db"]] == [
        *look_alikes.STRUCK, *look_alikes.LOW_OR_HELD]
    assert [row["probe"] for row in probed if row["energy_db"]] == list(probes.SCENES)
    verdicts = [line.split("|")[-2].strip() for line in lines[lines.index(
        "| guard | worst | of | limit | result |") + 2 :]]
    assert len(verdicts) == 14
    limits = read_table(folder / evaluate.GUARDS_NAME)
    assert [row["broken"] == "0" for row in limits] == [one == "pass" for one in verdicts]
    assert [row["count"] for row in limits[-4:]] == 4 * ["9"]


@pytest.mark.parametrize(("weights", "settings", "name"), [
    ("experiments/default/best.weights.h5", {}, "default"),
    ("result/alone.weights.h5", {}, "result_alone"), ("old/checkpoint", {}, "old_checkpoint"),
    ("a/best.weights.h5", {"inference": InferenceConfig(declick=False), "profile": True},
     "a_no_declick_profile"),
    (None, {"method": "lsa"}, "lsa"),
    (None, {"method": "lsa", "inference": InferenceConfig(declick="gentle")}, "lsa_gentle_declick"),
    (None, {"method": "lsa", "inference": InferenceConfig(denoising_strength="auto")}, "lsa_sauto"),
    (None, {"method": "lsa", "inference": InferenceConfig(
        denoising_strength=0.5, strength_per_band=[[100, 0.5]], noise_floor_db=12)},
     "lsa_s5_per_band_floor12"),
    (None, {"method": "lsa", "inference": InferenceConfig(declick=False)}, "lsa_no_declick")])
def test_tables_of_different_methods_lie_apart(weights, settings, name):
    cfg = Config(path_experiment="x", **settings)
    assert evaluate.name_of(cfg, weights and Path(weights)) == name


def test_the_classical_method_is_measured_on_the_same_mixtures(folders):
    """Without a network: the levels are those of the configuration."""
    lines = run_evaluate(folders, "test_items=3", "test_probe_sounds=0", "method=lsa").splitlines()
    assert lines[0] == "the log-spectral amplitude estimator: 3 mixtures of 0.5 s"
    assert "Enabled stages: dehum, declick, keep_held." in lines
    rows = read_table(folders / "experiments/evaluation/lsa" / evaluate.TABLE_NAME)
    assert len(rows) == 3 and all(abs(float(row["snr_gain_db"])) > 0.0 for row in rows)


def test_the_strength_is_that_of_the_call(folders):
    """The level of restored noise alone shows it."""
    def measured(setting: str, text: str | None) -> dict:
        cfg = composed("dset=folders", *paths_of(folders), "test_items=1", "method=lsa",
                       "seg_len_s_val=2.5", "inference.declick=false", setting)
        restorer = evaluate.choose_method(cfg).load()
        mixer = evaluate.Mixer(cfg.dset, "test", cfg.seg_len_s_val)
        (row,) = evaluate.metrics.judge_mixtures(
            evaluate.at_strength(restorer, cfg.inference.strength), [mixer.evaluation_item(0)])
        lines = evaluate.describe("lsa", cfg, mixer, restorer)
        assert [line for line in lines if "denoised at" in line] == (
            [f"Each item is denoised at {text}."] if text else [])
        return row

    full = measured("inference.denoising_strength=1", None)["noise_left_db"]
    fitted = measured("inference.denoising_strength=auto", "strength auto")
    assert fitted["noise_left_db"] == pytest.approx(full, abs=3.0)
    half = measured("inference.denoising_strength=0.5", "strength 0.5")["noise_left_db"]
    assert full + 0.5 < half and half > -6.5
    floor = measured("inference.noise_floor_db=6", "strength 1, noise lowered by at most 6 dB")
    assert full + 0.5 < floor["noise_left_db"] and floor["noise_left_db"] > -7.0
    none = measured("inference.strength_per_band=[[0,0]]", "strength 1 (0 from 0 Hz)")
    assert none["noise_left_db"] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("methods", [[], ["none"]])
@pytest.mark.parametrize(("settings", "message"), [
    ({"noise_profile": [0.0, 1.0]}, "`inference.noise_profile` must be none here; .*profile"),
    ({"mono_source": "auto"}, "`inference.mono_source` must be false here, .*one channel")])
def test_settings_that_would_not_be_used_are_refused(methods, settings, message):
    with pytest.raises(UserError, match=message):
        evaluate.require_used(Config(path_experiment="x", methods=methods,
                                     inference=InferenceConfig(**settings)))
    evaluate.require_used(Config(path_experiment="x", methods=methods))


def test_models_of_listeners_judge_only_recordings_of_speech(folders):
    pytest.importorskip("jinja2", reason="not installed: requirements-bench.txt")
    cfg = Config(path_experiment="x", methods=["none"], perceptual=True,
                 bench=BenchConfig(recordings=str(folders / "music")))
    with pytest.raises(UserError, match="`perceptual` must be false, or some of `bench.rec"):
        evaluate.compare(cfg, set())


def test_pairs_and_recordings_of_a_users(tmp_path, noise):
    """All of the report, with one file that is silent."""
    pytest.importorskip("jinja2", reason="not installed: requirements-bench.txt")
    times = np.arange(len(noise)) / SAMPLE_RATE
    tone = 0.2 * np.sin(2.0 * np.pi * 700.0 * times) * (times % 1.0 < 0.7)
    for name, sound in (("pairs/Music/a_noisy", tone + noise), ("pairs/Music/a_clean", tone),
                        ("recordings/Music/side", tone + noise),
                        ("recordings/Music/side_denoised", tone),
                        ("recordings/silent", 0.0 * tone)):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, SAMPLE_RATE)
    for kind, status, columns in (("pairs", 0, {("music", "0")}),
                                  ("recordings", 3, {"Music/side"})):
        done = programs.run("evaluate.py", "methods=[none,lsa]", f"bench.{kind}={kind}",
                            cwd=tmp_path)
        assert done.returncode == status, done.stderr
        folder = tmp_path / "experiments/evaluation/bench" / kind
        rows = read_table(folder / "bench.csv")
        assert [row["method"] for row in rows] == ["none", "lsa"] * (len(rows) // 2)
        found = {(row["category"], row["item"]) if kind == "pairs" else row["recording"]
                 for row in rows}
        assert found == columns
        assert (folder / "bench.md").read_text(encoding="utf-8") == done.stdout
        assert "<audio" in (folder / "bench.html").read_text(encoding="utf-8")
    assert "Left out: recordings/silent.wav: must hold sound; it is silent." in done.stdout
    gains = [float(row["floor_change_db"]) for row in rows]
    assert gains[0] == 0.0 and gains[1] < -5.0


@pytest.mark.parametrize(("settings", "message"), [
    ({"methods": ["none"], "method": "lsa"}, "`methods` must be left out with `method`"),
    ({"methods": ["none"], "profile": True}, "name lsa or network:profile among them"),
    ({"bench": BenchConfig(pairs="x")}, "`methods` must be given with `bench.pairs`")])
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(UserError, match=message):
        Config(path_experiment="x", **settings)
    with pytest.raises(UserError, match="`bench.pairs` must be left out"):
        BenchConfig(pairs="x", recordings="y")


def test_methods_side_by_side_on_the_mixtures_of_the_test(folders, dset, tiny_run, knowing_run):
    pytest.importorskip("jinja2", reason="not installed: requirements-bench.txt")
    names = ["network", "none", "lsa+logmmse", f"{knowing_run}:profile"]
    printed = run_evaluate(folders, "test_items=3", f"weights={tiny_run}",
                           f"methods=[{','.join(map(repr, names))}]")
    rows = read_table(folders / "experiments/evaluation/bench/bench.csv")
    assert [row["method"] for row in rows] == 3 * names
    assert {float(row["snr_gain_db"]) for row in rows if row["method"] == "none"} == {0.0}
    gains = {name: [row["snr_gain_db"] for row in rows if row["method"] == name] for name in names}
    assert len({*map(tuple, gains.values())}) == 4
    # The mixtures are those of an evaluation of one method, which have no profile.
    mixers = [Mixer(dset, "test", 0.5, profile_form=form)
              for form in (None, ProfileForm(Config(path_experiment="x").stft, 1.0))]
    for blind, other in ([mixer.evaluation_item(item) for mixer in mixers] for item in range(3)):
        assert (blind.noisy == other.noisy).all() and blind.profile is None
        assert other.profile is not None
    assert printed.count("| none |") >= 5 and "Noise profiles are 1.5 s of the same" in printed


def test_a_network_that_takes_no_profile_is_named(tiny_run):
    cfg = Config(path_experiment="x", methods=["network:profile"], weights=str(tiny_run))
    with pytest.raises(UserError, match="without network:profile, whose network takes no profile"):
        evaluate.own_methods(cfg, set())["network:profile"]("network:profile")


@pytest.mark.slow
def test_mixtures_come_with_a_profile_where_the_network_takes_one(folders, tiny_run, knowing_run):
    done = programs.run("evaluate.py", f"weights={tiny_run}", "profile=true", cwd=folders)
    assert done.returncode == 1 and "`profile` must be false with" in done.stderr
    gains = {}
    for profile in ("true", "false"):
        printed = run_evaluate(folders, "test_items=2", "test_probe_sounds=0",
                               f"weights={knowing_run}", f"profile={profile}")
        assert ("Each mixture comes with 1.5 s of its noise" in printed) == (profile == "true")
        folder = knowing_run.name + "_profile" * (profile == "true")
        gains[profile] = [row["snr_gain_db"] for row in read_table(
            folders / "experiments/evaluation" / folder / evaluate.TABLE_NAME)]
    assert gains["true"] != gains["false"]
