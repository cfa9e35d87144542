"""What `benchmarks/` compares with is right; its times are nobody's to assert."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile

from benchmarks import bounds
from denoiser.audio.dsp import SAMPLE_RATE

ROOT = Path(__file__).resolve().parent.parent


def complex_normal(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def snr_db(wanted, found):
    return 10.0 * np.log10(np.sum(np.abs(wanted) ** 2) / np.sum(np.abs(found - wanted) ** 2))


@pytest.fixture
def spectra(rng):
    """Tones in noise, `(frames, bins)`: clean and noisy."""
    clean = np.zeros((200, 64), complex)
    clean[50:, ::8] = 10.0 * np.exp(1j * rng.uniform(0.0, 2.0 * np.pi, (150, 8)))
    return clean, clean + complex_normal(rng, 200, 64)


def test_ideal_masks_bound_all_others(rng, spectra):
    clean, noisy = spectra
    wiener, best = (snr_db(clean, made) for made in bounds.apply_ideal_masks(noisy, clean))
    assert snr_db(clean, noisy) < wiener < best
    for _ in range(20):  # no mask between 0 and 1 passes the best one
        near = np.clip((clean * noisy.conj()).real / np.abs(noisy) ** 2
                       + 0.1 * rng.standard_normal(clean.shape), 0.0, 1.0)
        assert snr_db(clean, near * noisy) < best


def test_bounds_prints_a_table_of_the_shipped_network(rng, tmp_path):
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    for name in ("music/test", "noise/gramophone/test"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(3):
        tone = 0.2 * np.sin(2.0 * np.pi * (300 + 50 * number) * times) * (times % 0.5)
        soundfile.write(tmp_path / f"music/test/tune{number}.wav", tone, SAMPLE_RATE)
        soundfile.write(tmp_path / f"noise/gramophone/test/disc{number}.wav",
                        0.05 * rng.standard_normal(len(times)), SAMPLE_RATE)
    done = programs.run(
        "benchmarks/bounds.py", "dset=folders", f"dset.path_music=[{tmp_path / 'music'}]",
        f"dset.path_noise=[{tmp_path / 'noise'}]",
        f"weights={ROOT / 'pretrained/best.weights.h5'}", "test_items=2", "seg_len_s_val=1.0",
        cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    by_category, by_noise = [[[cell.strip() for cell in line.split("|")[1:-1]]
                              for line in table.splitlines()]
                             for table in done.stdout.strip().split("\n\n")]
    assert by_category[0] == ["category", "input_snr_db", "items", *bounds.METHODS]
    assert by_noise[0] == ["noise", *by_category[0][1:]]
    assert [row[:2] for row in by_category[2:]] == [["all", "3"], ["all", "10"], ["music", "3"],
                                                    ["music", "10"]]
    assert [row[:2] for row in by_noise[2:]] == [["gramophone disc0", "3"],
                                                 ["gramophone disc0", "10"]]
    for row in by_category[2:] + by_noise[2:]:
        highpass, _, network, wiener, best = map(float, row[3:])
        # White noise has a thousandth of its power below 20 Hz.
        assert abs(highpass) < 0.2 and 0.0 < wiener <= best and network < best


def write_evaluation(path, rows):
    lines = [",".join(map(str, row)) for row in rows]
    path.write_text("noise,input_snr_db,snr_gain_db,split_in_training\n" + "\n".join(lines))


def run_folds(*tables):
    return programs.run("benchmarks/folds.py", *tables, cwd=ROOT)


def test_folds_set_the_gain_without_a_recording_beside_that_with_it(tmp_path):
    write_evaluation(tmp_path / "0.csv", [
        ("hum a", 3.0, 2.0, "test"), ("hum a", 3.0, 4.0, "test"), ("hum a", 10.0, 1.0, "test"),
        ("tape b", 3.0, 5.0, "train"), ("tape b", 10.0, 4.0, "train"),
        ("film c", 3.0, 7.0, "validation"), ("film c", 10.0, 9.0, "train")])
    write_evaluation(tmp_path / "1.csv", [
        ("hum a", 3.0, 6.0, "train"), ("hum a", 10.0, 3.5, "train"),
        ("tape b", 3.0, 4.0, "test"), ("tape b", 10.0, 3.0, "test")])
    done = run_folds(tmp_path / "0.csv", tmp_path / "1.csv")
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]]
             for line in done.stdout.splitlines()]
    assert lines[0] == ["noise", "without at 3 dB", "with at 3 dB", "without at 10 dB",
                        "with at 10 dB", "difference"]
    assert lines[2:] == [
        ["film c", "-", "-", "-", "+9.00", "-"],  # no run tested it
        ["hum a", "+3.00", "+6.00", "+1.00", "+3.50", "+2.75"],
        ["tape b", "+4.00", "+5.00", "+3.00", "+4.00", "+1.00"],
        ["all", "+3.50", "+5.50", "+2.00", "+3.75", "+1.88"]]


def test_folds_name_a_table_that_tells_nothing(tmp_path):
    write_evaluation(tmp_path / "plain.csv", [("hum a", 3.0, 2.0, "")])
    assert "plain.csv must be of weights that were trained with" in run_folds(
        tmp_path / "plain.csv").stderr
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert "other.csv must be a table of evaluate.py" in run_folds(tmp_path / "other.csv").stderr


@pytest.mark.slow
def test_memory_does_not_grow_with_a_recording():
    """As `benchmarks/memory.py` measures it, without the network: one minute against three."""
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "memory.py", "60", "180"],
                          capture_output=True, text=True, check=True)
    short, long = (float(line.split(":")[1].split()[0]) for line in done.stdout.splitlines())
    assert 100.0 < short < 600.0 and long < 1.1 * short


@pytest.mark.slow
def test_restore_prints_the_stages(tmp_path):
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    done = programs.run("benchmarks/restore.py", "a.wav", "--repeats=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, _, *stages = done.stdout.splitlines()
    assert first == "a.wav: 1.0 s of sound, median of 1"
    assert [line.split()[0] for line in stages] == ["network", "clicks", "both"]
    assert all(float(value) > 0.0 for line in stages for value in line.split()[1:])


@pytest.mark.slow
def test_each_method_is_measured_in_a_process_of_its_own(tmp_path):
    done = programs.run("benchmarks/methods.py", "none", "network", "nope", "--seconds=1",
                        "--repeats=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in done.stdout.splitlines()[2:]]
    none, network, missing = rows
    assert none[0] == "none" and none[1] == "-" and float(none[2]) < 0.1
    assert int(network[1].replace(",", "")) > 10**6
    assert float(network[4]) > float(none[4]) > float(none[5]) > 10.0
    assert missing[1].startswith("error: `methods` must be")
