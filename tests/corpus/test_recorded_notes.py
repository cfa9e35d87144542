"""Recorded notes: their names, how a stroke sounds, and a small corpus that is really rendered."""

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile as sf
from packing import assert_same_files, render_in_two_runs

import prepare_data
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import note_bank, note_sounds, recorded_notes, sampler, scores
from historical_denoiser.corpus.manifest import MANIFEST_NAME, Row, read_records
from historical_denoiser.corpus.performance import DRUMS, Stroke

RATE = 48000  # of the notes: they must be resampled
CELLO, PIANO = 42, 0


def make_note(pitch, seconds, decay_seconds=None, silence=0.3):
    """Returns harmonics after silence; they die away, or stop after `seconds`."""
    times = np.arange(round(seconds * RATE)) / RATE
    hz = librosa.midi_to_hz(pitch)
    tone = sum(np.sin(2.0 * np.pi * hz * number * times + number) / number
               for number in range(1, 6) if hz * number < RATE / 2.5)
    tone *= np.exp(-times / decay_seconds) if decay_seconds else np.clip(
        np.minimum(times, times[-1] - times) / 0.02, 0.0, 1.0)
    return 0.2 * np.concatenate([np.zeros(round(silence * RATE)), tone, np.zeros(RATE // 5)])


def write(folder, name, samples):
    folder.mkdir(parents=True, exist_ok=True)
    sf.write(folder / name, samples, RATE)


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """A cello, a piano whose names are an octave low, and a kick drum."""
    folder = tmp_path_factory.mktemp("notes") / "bank"
    for pitch, name in ((36, "C2"), (40, "E2"), (44, "Gs2"), (48, "C3"), (52, "E3"), (56, "Gs3")):
        for dynamic in ("piano", "forte"):
            write(folder / "cello", f"cello_{name}_1_{dynamic}_arco-normal.wav",
                  make_note(pitch, 1.2))
    for pitch, name in ((60, "C3"), (63, "D#3"), (66, "F#3"), (69, "A3"), (72, "C4")):
        write(folder / "piano", f"Mf {name}.wav", make_note(pitch, 3.0, 0.4))
    rng = np.random.default_rng(0)
    for layer in (1, 5):
        write(folder / "kit", f"36-Kick-{layer}.wav",
              make_note(30, 0.5, 0.05) + 1e-6 * rng.standard_normal(RATE))
    return folder


@pytest.fixture(scope="module")
def bank(notes):
    return note_bank.open_bank((notes,))


def play(bank, *strokes, seed=0):
    return sampler.play(list(strokes), bank, np.random.default_rng(seed))


def measure_hz(audio):
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 16 * len(audio)))
    return np.argmax(spectrum) * SAMPLE_RATE / (16 * len(audio))


def cents(hz, pitch):
    return 1200.0 * np.log2(hz / librosa.midi_to_hz(pitch))


def sounding_seconds(audio):
    """Returns when the sound rises above -40 dB of its peak, and when it falls below for good."""
    levels = note_sounds.frame_levels(audio, SAMPLE_RATE // 1000)
    loud = np.flatnonzero(levels > 0.01 * levels.max())
    return loud[0] / 1000.0, (loud[-1] + 1) / 1000.0


@pytest.mark.parametrize(("stem", "pitch"), [
    ("cello_A2_025_forte_arco-normal", 45), ("arco__arco_a2_mf_down", 45), ("Mf D#6", 87),
    ("C#2", 37), ("D#6v10", 87), ("clarinet_As4_1_piano_normal", 70), ("pizz__pizz_bb1_pd", 34),
    ("PP B-1", 11), ("b1", 35), ("43-Pearl16FloorTomEdge-2", None), ("60-Paiste2002-22-5", None),
    ("pizz_noise_mute_a", None), ("bass-drum__025_forte_bass-drum-mallet", None)])
def test_the_pitch_is_in_the_name(stem, pitch):
    assert note_bank.parse_pitch(stem) == pitch


@pytest.mark.parametrize(("stem", "velocity"), [
    ("cello_A2_025_forte_arco-normal", 92), ("arco__arco_a2_mf_down", 76), ("pizz_a2_pb", 50),
    ("FF G#2", 112), ("oboe_A4_1_mezzo-piano_normal", 62), ("D#6v10", None)])
def test_the_dynamic_is_in_the_name(stem, velocity):
    assert note_bank.parse_velocity(stem) == velocity


def test_instruments_are_found_by_their_folders(bank):
    found = {one.name: one for one in bank}
    assert set(found) == {"cello", "piano", "kit 36-Kick"}
    assert len(found["cello"].notes) == 12 and not found["cello"].decays
    assert found["piano"].decays and found["piano"].octave == 1
    assert found["cello"].octave == 0
    assert found["kit 36-Kick"].is_drum and found["kit 36-Kick"].key == 36


def test_phrases_and_trills_are_no_notes(tmp_path):
    for name in ("C2_phrase", "D2_major-trill", "E2_glissando"):
        write(tmp_path / "cello", f"cello_{name}.wav", make_note(36, 1.0))
    with pytest.raises(UserError, match="cello_A2_forte.mp3"):
        note_bank.open_bank((tmp_path,))


def test_players_are_chosen_by_family_then_by_kind(bank):
    def names(program, pitch=60):
        return [one.name for one in note_bank.choose_players(bank, program, pitch)]
    assert names(42) == names(48) == ["cello"]
    assert names(73) == ["cello"]  # no flute, but it is sustained as well
    assert names(0) == names(24) == ["piano"]
    assert names(DRUMS, 36) == names(DRUMS, 35) == ["kit 36-Kick"]
    assert names(DRUMS, 85) == []


@pytest.mark.parametrize(("program", "pitch"), [
    (CELLO, 36), (CELLO, 42), (CELLO, 50), (CELLO, 55), (PIANO, 61)])  # also if names mean others
@pytest.mark.parametrize("seed", [0, 1])
def test_a_stroke_has_its_pitch(bank, program, pitch, seed):
    audio = play(bank, Stroke(0.5, 1.0, program, pitch, 80), seed=seed)
    start = round(0.7 * SAMPLE_RATE)
    assert abs(cents(measure_hz(audio[start : start + SAMPLE_RATE // 2]), pitch)) < 25.0


def test_a_note_that_is_out_of_tune_is_tuned(tmp_path):
    for pitch, name in ((36, "C2"), (38, "D2"), (40, "E2"), (41, "F2"), (43, "G2")):
        write(tmp_path / "cello", f"cello_{name}.wav", make_note(pitch + 0.4, 1.2))
    audio = play(note_bank.open_bank((tmp_path,)), Stroke(0.0, 1.0, CELLO, 40, 80))
    assert abs(cents(measure_hz(audio[5000:30000]), 40)) < 25.0


@pytest.mark.parametrize(("program", "pitch"), [(CELLO, 40), (PIANO, 66), (DRUMS, 36)])
def test_an_onset_is_in_time(bank, program, pitch):
    audio = play(bank, Stroke(0.5, 0.8, program, pitch, 80))
    assert abs(sounding_seconds(audio)[0] - 0.5) < 0.012


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.0, 4.0, 9.0])
def test_a_sustained_note_has_its_length(bank, seconds):
    start, end = sounding_seconds(play(bank, Stroke(0.2, seconds, CELLO, 44, 80)))
    assert seconds - 0.1 < end - start < seconds + sampler.RELEASE_SECONDS[1] + 0.05


def test_a_note_that_is_continued_neither_clicks_nor_swells(bank):
    audio = play(bank, Stroke(0.2, 6.0, CELLO, 44, 80))[SAMPLE_RATE : 5 * SAMPLE_RATE]
    levels = note_sounds.frame_levels(audio, SAMPLE_RATE // 20)
    assert levels.max() < 1.15 * levels.min()
    high = np.abs(np.diff(audio, 4))
    assert high.max() < 1.5 * np.percentile(high, 99.0)


def test_a_decaying_note_is_not_continued(bank):
    _, end = sounding_seconds(play(bank, Stroke(0.0, 9.0, PIANO, 66, 80)))
    assert end < 3.0


def test_a_drum_rings_on(bank):
    short, long = (sounding_seconds(play(bank, Stroke(0.0, seconds, DRUMS, 36, 80)))[1]
                   for seconds in (0.05, 0.8))
    assert short == long > 0.15


def test_a_louder_stroke_is_louder(bank):
    quiet, loud = (np.abs(play(bank, Stroke(0.0, 1.0, CELLO, 44, velocity))).max()
                   for velocity in (40, 100))
    assert 8.0 < 20.0 * np.log10(loud / quiet) < 24.0


def test_repeated_notes_differ(bank):
    strokes = [Stroke(1.0 * number, 0.8, CELLO, 44, 70) for number in range(6)]
    audio = play(bank, *strokes)
    spans = [audio[number * SAMPLE_RATE :][: SAMPLE_RATE // 2] for number in range(6)]
    for first, second in zip(spans, spans[1:], strict=False):
        assert np.max(np.abs(first - second)) > 0.01 * np.max(np.abs(first))


def test_a_noisy_note_is_left_out_and_rumble_removed(tmp_path):
    rng = np.random.default_rng(0)
    note = make_note(60, 1.5)
    write(tmp_path, "noisy_C4.wav", note + 3e-3 * rng.standard_normal(len(note)))
    assert note_sounds.load_note(tmp_path / "noisy_C4.wav", 60) is None
    rumble = 0.05 * np.sin(2.0 * np.pi * 25.0 * np.arange(len(note)) / RATE)
    write(tmp_path, "rumbling_C4.wav", note + rumble)
    sound = note_sounds.load_note(tmp_path / "rumbling_C4.wav", 60)
    spectrum = np.abs(np.fft.rfft(sound.samples))
    low = np.fft.rfftfreq(len(sound.samples), 1.0 / sound.rate) < 60.0
    assert np.sum(spectrum[low] ** 2) < 1e-5 * np.sum(spectrum**2)


def test_a_wrong_name_and_a_broken_file_are_left_out(tmp_path):
    write(tmp_path, "oboe_C5.wav", make_note(60, 1.0))
    assert note_sounds.load_note(tmp_path / "oboe_C5.wav", 72) is None
    (tmp_path / "oboe_D5.wav").write_bytes(b"")
    assert note_sounds.load_note(tmp_path / "oboe_D5.wav", 74) is None


def test_strokes_that_nobody_plays_are_left_out(bank):
    castanets = Stroke(0.0, 0.2, DRUMS, 85, 80)
    with pytest.raises(UserError, match="none of its notes"):
        play(bank, castanets)
    assert np.any(play(bank, castanets, Stroke(0.5, 0.2, DRUMS, 36, 80)))


@pytest.fixture
def small(notes, songs, monkeypatch):
    """Two songs, and two pieces of each drawn kind."""
    monkeypatch.setattr(recorded_notes, "DRAWN", {
        name: replace(drawn, pieces=2) for name, drawn in recorded_notes.DRAWN.items()
        if name in ("held", "rhythm")})
    monkeypatch.setattr(scores, "MAX_RENDERS", 1)

    def build(output, hours):
        prepare_data.main(["notes", "--hours", str(hours), "--jobs", "1", "--output", str(output),
                           str(notes)])
        return read_records(output / MANIFEST_NAME, Row)

    return build


@pytest.mark.slow
def test_a_corpus_is_rendered_and_a_stopped_run_goes_on(small, tmp_path):
    rows = render_in_two_runs(small, tmp_path / "one")
    assert len(rows) == 6
    assert {row.group for row in rows} == {
        "scores/songs/one", "scores/songs/two", "notes/held/000", "notes/held/001",
        "notes/rhythm/000", "notes/rhythm/001"}
    assert {row.licence for row in rows} == {
        f"score: {words}; recorded notes: bank" for words in ("public domain",
                                                              "drawn by this program")}
    assert all(row.clean == "1" for row in rows)
    assert small(tmp_path / "two", 1.0) == rows
    assert_same_files(rows, tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(("folders", "message"), [
    ([], "`notes` must be followed by folders.*cello_A2"),
    (["{folder}/nowhere"], "nowhere.*must be a folder.*cello_A2"),
    (["{folder}/empty"], "empty.*must hold audio files.*cello_A2"),
    (["{folder}/songs"], "songs.*must hold recorded notes.*cello_A2")])
def test_wrong_folders_are_refused(tmp_path, monkeypatch, folders, message):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "songs", "My song.wav", make_note(60, 1.0))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        prepare_data.main(["notes", *(name.format(folder=tmp_path) for name in folders)])
    assert not Path("data").exists()
