"""The benchmarks run, and compare with the right values; times are not tested."""

import argparse
import importlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import programs
import pytest
import soundfile
from carrier_samples import tune

from benchmarks import align, command, finder, sounds, tables
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.noise.finder import NoiseSegment
from historical_denoiser.training import metrics

ROOT = Path(__file__).resolve().parent.parent


def test_each_finds_what_it_imports():
    for path in (ROOT / "benchmarks").glob("*.py"):
        importlib.import_module(f"benchmarks.{path.stem}")


def test_short_clips_are_joined_and_long_ones_left(rng):
    short = [np.full(SAMPLE_RATE // 2, value, np.float32) for value in (0.5, -0.5)]
    made = sounds.join(short, rng)
    assert sounds.SECONDS <= len(made) / SAMPLE_RATE < sounds.SECONDS + 1.2
    assert made.min() < 0.0 < made.max() and (made == 0.0).any()
    long = np.ones(4 * SAMPLE_RATE, np.float32)
    assert sounds.join([short[0], long], rng) is long


def test_sounds_of_a_corpus_are_its_groups(rng, tmp_path):
    for name in ("one", "two", "long"):
        audio = rng.standard_normal((4 if name == "long" else 1) * SAMPLE_RATE) * 0.1
        soundfile.write(tmp_path / f"{name}.wav", audio, SAMPLE_RATE)
    alone = sounds.find_sounds(tmp_path)
    assert [sound.name for sound in alone] == ["long", "one", "two"]
    (tmp_path / "manifest.csv").write_text(
        "file,group\none.wav,p/steps\ntwo.wav,p/steps\nlong.wav,p/rain\n")
    steps, rain = sounds.find_sounds(tmp_path)
    assert (steps.name, rain.name) == ("steps", "rain") and len(rain.audio) == 4 * SAMPLE_RATE
    with pytest.raises(UserError, match="a recording, or a folder with some"):
        (tmp_path / "empty").mkdir()
        sounds.find_sounds(tmp_path / "empty")


def test_a_tape_is_aligned_with_its_original(rng, tmp_path, monkeypatch, capsys):
    notes = np.repeat(rng.uniform(0.2, 1.0, 90), SAMPLE_RATE // 10)
    original = notes * np.convolve(rng.standard_normal(len(notes)), 0.9 ** np.arange(90), "same")
    original[4 * SAMPLE_RATE : 5 * SAMPLE_RATE] = 0.0  # between two pieces
    places = np.arange(len(original)) - 700.0
    places += 12.0 * np.sin(2.0 * np.pi * 0.8 * places / SAMPLE_RATE)  # wow, of 0.14 %
    taped = align.read_at(original, np.maximum(places, 0.0))
    taped = 0.5 * np.convolve(taped, [0.3, 0.5, 0.2], "same")
    hiss = 1e-4 * rng.standard_normal(len(taped))
    for name, sound in (("original", original), ("tape", taped + hiss)):
        soundfile.write(tmp_path / f"{name}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    monkeypatch.setattr(sys, "argv", ["align.py", *(str(tmp_path / name) for name in (
        "original.wav", "tape.wav", "pairs"))])
    align.main()
    assert abs(int(capsys.readouterr().out.split()[1]) - 700) < 14
    names = ["tape_1.wav", "tape_2.wav"]
    assert [path.name for path in sorted((tmp_path / "pairs" / "noisy").iterdir())] == names
    for name in names:
        clean, noisy = (soundfile.read(tmp_path / "pairs" / folder / name)[0]
                        for folder in ("clean", "noisy"))
        assert len(clean) == len(noisy) > 3 * SAMPLE_RATE
        assert metrics.snr_db(clean, noisy) > 20.0  # -0.5 dB and less with a constant lag


def test_the_finder_is_drawn_and_judged_by_what_is_noise_alone(rng, tmp_path):
    noise = 0.01 * rng.standard_normal(12 * SAMPLE_RATE)
    sound = np.concatenate([np.zeros(3 * SAMPLE_RATE), tune(9.0)])
    soundfile.write(tmp_path / "side.wav", sound + noise, SAMPLE_RATE)
    name, seconds, found = finder.judge_recording(tmp_path / "side.wav", tmp_path / "pictures")
    assert (name, seconds) == ("side", "12.0") and found.startswith("**0.00 to 2.")
    assert (tmp_path / "pictures" / "side.png").stat().st_size > 1000
    found = NoiseSegment(1.0, 5.0, "run-in", -40.0, 20.0, 6.0)
    assert finder.Joined(sound, noise).right_share(found) == pytest.approx(0.5, abs=0.03)
    row = Counter()
    finder.judge(row, finder.Joined(sound, noise))
    finder.judge(row, finder.join_effect(tune(9.0), noise[:3 * SAMPLE_RATE], 0.5,
                                         "groove with ripple", rng))
    assert row["joined"] == 2 and row["2 s: right"] == 1 and row["wrong sections"] == 0


@pytest.mark.slow
def test_sounds_prints_what_is_kept_and_draws_it(rng, tmp_path):
    soundfile.write(tmp_path / "hiss.wav", 0.1 * rng.standard_normal(4 * SAMPLE_RATE), SAMPLE_RATE)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/sounds.py"), "hiss.wav", "--pictures=pictures"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    header, _, row = ([cell.strip() for cell in line.split("|")[1:-1]]
                      for line in done.stdout.splitlines())
    found = dict(zip(header, row, strict=True))
    assert found["sound"] == "hiss" and float(found["loudness"]) < -10.0  # it is noise, after all
    assert (tmp_path / "pictures" / "hiss.webp").read_bytes()[8:12] == b"WEBP"


@pytest.mark.slow
def test_memory_does_not_grow_with_a_recording():
    """As `benchmarks/memory.py` measures it, without the network: two minutes against six.

    In one minute there are too few segments for the peak.
    """
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "memory.py", "120", "360"],
                          capture_output=True, text=True, check=True)
    short, long = (float(line.split(":")[1].split()[0]) for line in done.stdout.splitlines())
    assert 100.0 < short < 600.0 and long < 1.1 * short


@pytest.mark.slow
def test_each_method_is_measured_in_a_process_of_its_own(tmp_path):
    done = programs.run("benchmarks/methods.py", "none", "network", "nope", "--seconds=1",
                        "--repeats=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in done.stdout.splitlines()[2:]]
    none, network, missing = rows
    assert none[0] == "none" and float(none[1]) < 0.1 < float(network[2])
    assert float(network[3]) > float(none[3]) > float(none[4]) > 10.0
    assert missing[1].startswith("error: `methods` must be")


@pytest.mark.slow
def test_commands_are_measured_on_a_film_beside_tools(tmp_path, monkeypatch):
    """What fails stands in the table with its reason, and in the first case alone."""
    monkeypatch.setitem(command.CASES, "short", (*command.CASES["film"][:3], 2, "mkv"))
    command.make("short", tmp_path, ROOT / "examples" / "noisy.flac")
    assert soundfile.info(tmp_path / "short.wav").duration == 2.0
    arguments = argparse.Namespace(beside=[], calls=["method=lsa", "nope=1"], tools=["afftdn"],
                                   repeats=1)
    own, failed, tool = command.rows("short", tmp_path, arguments)
    assert own[1] == "inference.py method=lsa" and float(own[-1]) > 0.0  # there was a bar
    assert failed[2].startswith("error: 'nope=1' is neither a file nor a setting")
    assert 0.0 < float(tool[5]) < 1.0 == float(own[5]) and float(own[6]) > 10.0
    with av.open(str(tmp_path / "out" / "short_denoised.mkv")) as film:
        assert len(film.streams.video) == 1 and film.streams.audio[0].channels == 2


@pytest.mark.slow
def test_a_step_is_compared_with_its_arithmetic(tmp_path):
    done = programs.run("benchmarks/step.py", "--repeats=1", "unet.channels=[4,4]", "unet.depth=1",
                        "batch_size=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    product, forward, step = (list(map(float, line.split("|")[2:6]))
                              for line in done.stdout.splitlines()[-3:])
    assert product[2] == 1.0 and 0.0 < forward[0] and 0.5 < forward[2] and 0.5 < step[2]
    # A step of 2 s is three passes, and a pass is one of 5 s.
    assert step[0] == pytest.approx(3 * 2 / 5 * forward[0], rel=0.05)


def test_a_summary_has_means_by_category_and_snr(tmp_path, monkeypatch):
    """Values that were not measured stay empty."""
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "evaluation.csv").write_text(
        "category,input_snr_db,noise,snr_gain_db,noise_left_db\n"
        "music,3.0,hiss,4.0,-20\nmusic,3.0,hum,6.123456,-30\nspeech,20.0,hum,0.0,-10\n")
    tables.keep("kept", folder)
    assert tables.summary("kept").splitlines()[2:] == [
        "| music | +5.1 |  |  |", "| speech |  |  | +0.0 |",
        "| noise alone is lowered by | 25 |  | 10 |"]
    assert "6.123\n" not in tables.summary("kept") and "6.123," in (
        tmp_path / "kept" / "evaluation.csv").read_text()
    text = "before\n<!-- table: summary kept -->\nold\n<!-- end -->\nafter"
    assert tables.fill(text) == text.replace("old", tables.summary("kept"))
    with pytest.raises(SystemExit, match="expected a table of evaluate.py"):
        tables.keep("kept", tmp_path)


def test_tables_of_single_mixtures_made_sounds_grooves_and_transfers(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MEASURED", tmp_path)
    bands = metrics.BAND_MEASURES
    for name, gain in (("blind", 2.0), ("told", 5.0)):
        rows = [{"category": "music", "noise": noise, "input_snr_db": 10.0, "snr_gain_db": gain,
                 "clean_si_sdr_db": 40, "noise_left_db": -30, "energy_db": energy,
                 "residual_correlation": 0.05, **dict.fromkeys(bands[1:], -10), bands[0]: -60}
                for noise, energy in (("disc", -0.7), ("reel", 0.9), ("reel", 0.1))]
        metrics.write_table(tmp_path / name / "evaluation.csv", rows)
    metrics.write_table(tmp_path / "blind" / "probes.csv", [
        {"probe": "solo", "snr_gain_db": 3, "energy_db": -0.1}, {"probe": "pink"}])
    metrics.write_table(tmp_path / "real" / "bench.csv", [
        {"method": "x", "recording": "side", "floor_change_db": -20, "deviation_db": -30,
         "clicks_before": 2.5, "clicks_after": 0.25}])
    kept, _, energy, _ = tables.items("blind").splitlines()[2:]
    assert "| 0 of 3 (" in kept
    assert energy.endswith("| 2 of 3 (0.90: item 1, music with reel at 10 dB) |")
    assert tables.scenes("blind").splitlines()[2:] == ["| solo | +3.0 / -0.1 |"]
    disc, *_, total = tables.grooves("blind", "told").splitlines()[2:]
    assert disc == f"| disc | +2.0 | +5.0 | -60.0 |{4 * ' -10.0 |'} -20.0 | -20.0 |"
    assert total == disc.replace("disc", "mean")
    assert tables.transfers("real").splitlines()[2:] == ["| side | 2.5 | -20.0 / -30.0 / 0.2 |"]
