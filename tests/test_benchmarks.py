"""What `benchmarks/` compares with is right; its times are nobody's to assert."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import programs
import pytest
import soundfile

from benchmarks import (
    alone,
    bounds,
    buzz,
    cases,
    cost,
    held_notes,
    hum,
    methods,
    restore,
    short_files,
    situations,
    sounds,
)
from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench import methods as bench_methods
from historical_denoiser.classical import buzz as classical_buzz
from historical_denoiser.core.checks import UserError
from historical_denoiser.data.audio_index import Clip
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.training import look_alikes

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


def test_noise_alone_is_measured_by_band(rng):
    noise = rng.standard_normal(4 * SAMPLE_RATE).astype(np.float32)

    def halve_above_4_khz(audio, rate, noise_profile=None):
        spectrum, hz = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1.0 / rate)
        return np.fft.irfft(spectrum * np.where(hz > 3981.0, 0.5, 1.0), len(audio))

    *bands, mean, whole = alone.lowered_db(noise, halve_above_4_khz)
    np.testing.assert_allclose(bands, [0.0, 0.0, 0.0, 0.0, -6.02], atol=0.1)
    assert mean == pytest.approx(-1.2, abs=0.1) and -6.0 < whole < -4.0
    tone = np.sin(0.1 * np.arange(4 * SAMPLE_RATE)).astype(np.float32)
    blind, told = alone.gains_db(noise, tone, lambda audio, rate, noise_profile=None: (
        audio if noise_profile is None else tone))
    assert blind == pytest.approx(0.0, abs=1e-3) and told > 100.0


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
        highpass, _, network, wiener, best, long = map(float, row[3:])
        # White noise has a thousandth of its power below 20 Hz.
        assert abs(highpass) < 0.2 and 0.0 < wiener <= best and network < min(best, long)


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


def test_operations_of_a_graph_are_counted_by_hand():
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: requirements-bench.txt")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    weights = {"kernel": (4, 1, 3, 3), "gates": (1, 18, 8), "state": (1, 18, 6)}
    nodes = [onnx.helper.make_node("Conv", ["heard", "kernel"], ["maps"], pads=[1, 1, 1, 1]),
             onnx.helper.make_node("GRU", ["steps", "gates", "state"], ["", "last"],
                                   hidden_size=6)]
    number = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        nodes, "small",
        [onnx.helper.make_tensor_value_info("heard", number, [1, 1, "time", 5]),
         onnx.helper.make_tensor_value_info("steps", number, ["time", 1, 8])],
        [onnx.helper.make_tensor_value_info("maps", number, None),
         onnx.helper.make_tensor_value_info("last", number, None)],
        [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name)
         for name, shape in weights.items()])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)],
                                   ir_version=8)
    parameters, operations = cost.count_onnx(model.SerializeToString(), 10)
    assert parameters == 36 + 18 * 8 + 18 * 6
    # Nine products for each of 10 x 5 points and 4 maps; both matrices in each of 10 steps.
    assert operations == 2 * (10 * 5 * 4 * 9 + 10 * (18 * 8 + 18 * 6))


def test_rnnoise_is_counted_from_its_own_library():
    pytest.importorskip("pyrnnoise", reason="pyrnnoise is not installed: requirements-bench.txt")
    # Convolutions of 65 to 128 and 128 to 384 over 3 frames; three GRUs of 384 with a diagonal
    # beside them; gains of 32 bands and the voice from all four layers: rnnoise.py of version 0.2.
    layers = {"conv": 65 * 128 * 3 + 128 * 384 * 3, "gru": 3 * 2 * 3 * 384 * 384,
              "out": 4 * 384 * 33}
    biases = 128 + 384 + 3 * 3 * 3 * 384 + 33
    counted = cost.of_rnnoise()
    assert counted.parameters == sum(layers.values()) + biases
    assert counted.flops == 2 * 100 * sum(layers.values())


def test_gains_of_a_bench_are_means_by_method_and_category(tmp_path):
    table = tmp_path / "bench.csv"
    table.write_text("method,category,snr_gain_db\na,music,1\na,music,2\na,speech,5\nb,music,0\n")
    assert methods.read_gains(table) == {"a": {"music": 1.5, "speech": 5.0}, "b": {"music": 0.0}}
    table.write_text("method,recording,floor_dbfs\na,x,-50\n")
    with pytest.raises(UserError, match="must be a bench.csv"):
        methods.read_gains(table)


def test_short_clips_are_strung_together_and_long_ones_left(rng):
    short = [np.full(SAMPLE_RATE // 2, value, np.float32) for value in (0.5, -0.5)]
    made = sounds.string(short, rng)
    assert sounds.SECONDS <= len(made) / SAMPLE_RATE < sounds.SECONDS + 1.2
    assert made.min() < 0.0 < made.max() and (made == 0.0).any()
    long = np.ones(4 * SAMPLE_RATE, np.float32)
    assert sounds.string([short[0], long], rng) is long


def test_a_whisper_has_the_voice_s_formants_and_not_its_pitch(rng):
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2.0 * np.pi * 150.0 * order * times)
                / (1.0 + ((150.0 * order - 1500.0) / 200.0) ** 2) for order in range(1, 60))
    voice = (0.01 * voice).astype(np.float32)
    made = sounds.whisper(voice, rng)
    spectra = [np.abs(np.fft.rfft(audio)) ** 2 for audio in (voice, made)]
    hz = np.fft.rfftfreq(len(times), 1.0 / SAMPLE_RATE)
    near = np.abs(hz - 1500.0) < 500.0
    for spectrum in spectra:
        assert spectrum[near].sum() > 0.6 * spectrum.sum()
    on_harmonics = np.abs((hz + 75.0) % 150.0 - 75.0) < 5.0
    of_voice, of_whisper = (spectrum[on_harmonics].sum() / spectrum.sum() for spectrum in spectra)
    assert of_voice > 0.99 and of_whisper < 0.2


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
    """As `benchmarks/memory.py` measures it, without the network: one minute against three."""
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "memory.py", "60", "180"],
                          capture_output=True, text=True, check=True)
    short, long = (float(line.split(":")[1].split()[0]) for line in done.stdout.splitlines())
    assert 100.0 < short < 600.0 and long < 1.1 * short


@pytest.mark.slow
def test_restore_leaves_out_what_it_is_told_to(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    loaded = []

    def load(weights, **settings):
        loaded.append((weights, settings))
        return lambda audio, rate: audio

    monkeypatch.setattr(restore.Denoiser, "load", load)
    monkeypatch.setattr(sys, "argv", ["restore.py", str(tmp_path / "a.wav"), "--repeats=1",
                                      "--weights=small", "--runtime=keras", "--without",
                                      "listen_first", "keep_held"])
    restore.main()
    assert loaded == [("small", {"declick": declick, "runtime": "keras", "listen_first": False,
                                 "keep_held": False}) for declick in (False, True)]


def test_without_names_all_of_ours_and_every_tool_are_measured(monkeypatch, capsys):
    asked = []

    def run(command, **settings):
        asked.append(command[2])
        return subprocess.CompletedProcess(command, 0, json.dumps({"cost": None}), "")

    monkeypatch.setattr(methods.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["methods.py", "--repeats=0"])
    methods.main()
    assert {"network", "network:profile", "small", "small:profile", "lsa", "lsa:profile",
            *bench_methods.TOOLS} <= set(asked)
    assert len(asked) == len(set(asked)) == len(capsys.readouterr().out.splitlines()) - 2


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
    assert none[:4] == ["none", "-", "-", "-"] and float(none[4]) < 0.1
    assert int(network[1].replace(",", "")) > 10**6 and float(network[2]) > 1.0
    assert float(network[6]) > float(none[6]) > float(none[7]) > 10.0
    assert missing[1].startswith("error: `methods` must be")


@pytest.mark.skipif(sys.platform == "win32", reason="os.wait4 is not there")
def test_a_command_is_measured_with_its_memory_and_its_failure_told():
    def measure(code):  # in a small process: what this one holds would count
        meter = ("import sys; from benchmarks import command; "
                 "print(*command.measure([sys.executable, '-c', sys.argv[1]]))")
        done = subprocess.run([sys.executable, "-c", meter, code], cwd=ROOT, capture_output=True,
                              text=True, check=False)
        return done.stderr.splitlines()[-1:] or [float(value) for value in done.stdout.split()]

    clock, cpu, peak = measure("held = b'x' * 300_000_000; sum(range(3_000_000))")
    assert clock > 0.0 and cpu > 0.0 and 300.0 < peak < 400.0
    assert measure("")[2] < 100.0
    assert measure("import sys; sys.exit('no such luck')") == ["RuntimeError: no such luck"]


@pytest.mark.slow
def test_cluster_prints_the_throughput_of_a_plain_run(tmp_path):
    done = programs.run("benchmarks/cluster.py", "method=lsa", "--runs", "0", "--files", "1",
                        cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, _, row = done.stdout.splitlines()
    assert first == "14 s of sound in 1 files"
    assert row.startswith("no cluster ")
    assert all(float(value) > 0.0 for value in row.split()[2:])


class KeepsAll:
    """Stands for a denoiser."""

    def __call__(self, audio, sample_rate):
        return audio if classical_buzz.find_buzz([audio]) is None else 0.5 * audio


def test_what_is_told_of_buzz_is_measured_where_there_is_any(rng, capsys):
    clean = 0.1 * rng.standard_normal(6 * SAMPLE_RATE).astype(np.float32)
    drawn = buzz.make_buzz(len(clean), 49.9, rng)
    assert dsp.power(drawn) == pytest.approx(1.0)
    noisy = dsp.mix_at_snr(clean, drawn, 0.0)
    buzz.measure(KeepsAll(), [("a", 0.0, clean, noisy), ("a", 0.0, clean, 1.01 * clean)])
    noise, level, found, *gains = capsys.readouterr().out.strip().splitlines()[-1].split("|")[1:-1]
    assert (noise.strip(), level.strip(), found.strip()) == ("a", "0 dB", "1 of 2")
    # Of half the sum, half of both lies beside the clean sound: 3 dB less than the noise.
    assert [float(gain) for gain in gains] == pytest.approx([0.0, 3.0, 3.0], abs=0.05)
    buzz.measure(KeepsAll(), [("a", 0.0, clean, 1.01 * clean)])
    assert "no buzz is found" in capsys.readouterr().out


def test_strokes_that_pass_for_hum_are_counted(monkeypatch, capsys):
    monkeypatch.setattr(hum, "find_hum", lambda sounds: 50.0)
    hum.measure_strokes(6)
    rows = [line.strip("| \n").split(" | ") for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[0] for row in rows] == list(look_alikes.STRUCK)
    assert {tuple(row[1:3]) for row in rows} == {("2", "2")}


@pytest.mark.parametrize("kind", hum.LINES)
def test_drawn_hum_has_its_level_and_its_lines(rng, kind):
    clean = rng.standard_normal(4 * SAMPLE_RATE)
    made = hum.make_hum(kind, clean, 20.0, rng)
    assert dsp.decibels(dsp.power(clean) / dsp.power(made)) == pytest.approx(20.0, abs=0.01)
    energy = np.abs(np.fft.rfft(made * np.hanning(len(made)))) ** 2
    hz = np.fft.rfftfreq(len(made), 1.0 / SAMPLE_RATE)
    lines = hum.HUM_HZ * np.arange(1, hum.LINES[kind] + 1)
    near = np.min(np.abs(hz[:, None] - lines), axis=1) < 1.0
    assert energy[near].sum() > 0.999 * energy.sum()


@pytest.mark.parametrize("kind", held_notes.PIECES)
def test_drawn_pieces_hold_their_notes(rng, kind):
    piece = held_notes.make_piece(kind, 4.0, rng)
    assert len(piece) == held_notes.SECONDS * SAMPLE_RATE
    assert np.std(piece) == pytest.approx(0.08, rel=0.05)
    # The loudest bin of one second is that of the next, but for some ten changes.
    spectra = np.abs(np.fft.rfft(piece.reshape(40, -1) * np.hanning(SAMPLE_RATE)))
    loudest = spectra.argmax(axis=1)
    assert held_notes.PIECES[kind][0] - 1.0 <= loudest.min()
    assert np.sum(np.abs(np.diff(loudest)) > 1) <= 12


@pytest.mark.parametrize(("note", "hz"), [(28, 41.2), (45, 110.0)])
def test_a_drone_of_the_benchmark_sounds_throughout_at_its_pitch(rng, note, hz):
    drone = held_notes.make_drone(note, rng)
    levels = [np.abs(np.fft.rfft(second))[round(hz)] for second in np.split(
        drone[: len(drone) // SAMPLE_RATE * SAMPLE_RATE], len(drone) // SAMPLE_RATE)]
    assert min(levels[1:-1]) > 0.9 * max(levels)
    assert drone.dtype == np.float32


def test_drawn_rumble_lies_in_its_band(rng):
    noise = cases.make_rumble(4 * SAMPLE_RATE, rng)
    power = np.square(np.abs(np.fft.rfft(noise)))
    hz = np.fft.rfftfreq(len(noise), 1.0 / SAMPLE_RATE)
    inside = (hz >= 20.0) & (hz <= 200.0)
    assert power[inside].sum() > 0.999 * power.sum()
    low, high = (power[(hz >= a) & (hz < b)].mean() for a, b in ((20.0, 110.0), (110.0, 200.0)))
    assert 0.8 < low / high < 1.25


def test_drawn_impulses_are_mostly_impulses(rng):
    power = np.sort(np.square(cases.make_impulses(10 * SAMPLE_RATE, rng)))[::-1]
    assert power[: len(power) // 20].sum() > 0.95 * power.sum()
    assert np.median(power) > 0.0  # there is hiss between them


def test_a_quiet_stretch_is_no_pause(rng, tmp_path):
    """A loud, a quiet and a silent third."""
    third = round(cases.SECONDS * SAMPLE_RATE)
    audio = np.concatenate([0.3 * rng.standard_normal(third), 0.02 * rng.standard_normal(third),
                            np.zeros(third)])
    soundfile.write(tmp_path / "a.wav", audio, SAMPLE_RATE)
    clip = Clip(tmp_path / "a.wav", "music", "a", "test", 3.0 * cases.SECONDS)
    found = cases.read_quiet(clip)
    assert len(found) == third and 0.001 < np.std(found) <= 0.021
    soundfile.write(tmp_path / "a.wav", 0.0 * audio, SAMPLE_RATE)
    with pytest.raises(UserError, match="a.wav: must hold sound; it is silent"):
        cases.read_quiet(clip)


@pytest.mark.parametrize("wanted_db", [3.0, 20.0])
def test_a_case_has_its_snr_and_a_profile_at_its_gain(rng, wanted_db):
    clean = 0.1 * rng.standard_normal(SAMPLE_RATE).astype(np.float32)
    mixture = cases.mix(clean, cases.make_rumble, wanted_db, "music", "rumble", 0.0, rng)
    found_db = 10.0 * np.log10(np.var(clean) / np.var(mixture.noisy - mixture.clean))
    assert found_db == pytest.approx(wanted_db, abs=0.01)
    assert np.std(mixture.profile) == pytest.approx(np.std(mixture.noisy - mixture.clean), rel=0.3)


def test_cases_print_each_kind_of_noise(rng, tmp_path):
    times = np.arange(6 * SAMPLE_RATE) / SAMPLE_RATE
    for name in ("music/test/fiddle", "music/test/band", "noise/tape/test"):
        (tmp_path / name).mkdir(parents=True)
    for number, name in enumerate(("fiddle", "band")):
        soundfile.write(tmp_path / f"music/test/{name}/tune.wav",
                        0.2 * np.sin(2.0 * np.pi * (300 + 50 * number) * times), SAMPLE_RATE)
    soundfile.write(tmp_path / "noise/tape/test/hiss.wav",
                    0.05 * rng.standard_normal(len(times)), SAMPLE_RATE)
    settings = ["--set", "dset=folders", f"dset.path_music=[{tmp_path / 'music'}]",
                f"dset.path_noise=[{tmp_path / 'noise'}]"]
    done = programs.run("benchmarks/cases.py", "none", "--pieces=1", "--solo=fiddle", "--bound",
                        *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in done.stdout.strip().splitlines()[2:]]
    bounds = [row for row in rows if row[3] == cases.BOUND]
    assert len(bounds) == 7 and min(float(row[5]) for row in bounds) > 3.0
    assert [row[:6] for row in rows if row not in bounds] == [
        ["hiss, hiss", "music", "20", "none", "1", "0.00"],
        # Music and speech in turn: here there is no speech.
        *(["impulses", "music", snr, "none", "2", "0.00"] for snr in ("3", "10", "20")),
        *(["rumble", "music", snr, "none", "1", "0.00"] for snr in ("3", "10", "20"))]
    done = programs.run("benchmarks/cases.py", "none", "--solo=flute", *settings, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert 'has "flute" in the name of its group: --solo' in done.stderr


def test_short_files_are_of_all_different_lengths_and_whole(rng):
    audio = rng.standard_normal(14 * 8000)
    pieces = short_files.cut(audio, 8000, 100)
    lengths = [len(piece) for piece in pieces]
    assert len(set(lengths)) == 100 and (min(lengths), max(lengths)) == (8000, 24000)
    np.testing.assert_array_equal(pieces[0], audio[:8000])
    np.testing.assert_array_equal(pieces[-1], audio[-24000:])


@pytest.fixture(scope="module")
def tenfold_better():
    """A mixture, and what is left of it with a tenth of its noise."""
    rng = np.random.default_rng(0)
    times = np.arange(round(situations.SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    clean = (0.1 * np.sin(2.0 * np.pi * 440.0 * times)).astype(np.float32)
    noise = 0.02 * rng.standard_normal(len(times)).astype(np.float32)
    return Mixture(clean + noise, clean, "music", "white", 11.0), clean + 0.1 * noise


@pytest.mark.parametrize("name", situations.SITUATIONS)
def test_no_situation_changes_how_much_noise_there_is(tenfold_better, name):
    """So that the gains in it and without it compare."""
    mixture, restored = tenfold_better
    trial = situations.SITUATIONS[name](mixture, restored)
    assert trial.heard.shape == trial.wanted.shape == trial.restored_before.shape
    assert trial.gain_db(trial.restored_before) == pytest.approx(20.0, abs=0.3)
    assert not np.array_equal(trial.heard, mixture.noisy)
    if name.startswith("noise") and "channel" not in name:
        assert dsp.power(trial.heard - trial.wanted) == pytest.approx(
            dsp.power(mixture.noisy - mixture.clean), rel=1e-3)
