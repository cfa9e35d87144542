"""How notes are played: times, accents, ranges, MIDI, and the sound of a font made here."""

import shutil

import mido
import numpy as np
import pytest
from soundfont import write_sound_font

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import performance, rendering
from historical_denoiser.corpus.clips import measure_bandwidth_hz, measure_level_dbfs
from historical_denoiser.corpus.performance import DRUMS, Stroke
from historical_denoiser.corpus.score_notes import Note

NEEDS_FLUIDSYNTH = pytest.mark.skipif(shutil.which("fluidsynth") is None,
                                      reason="fluidsynth is missing")


def scale(bars: int = 4, parts: int = 1) -> list[Note]:
    return sorted(Note(float(beat), 1.0, 60 + beat % 8 - 12 * part, part)
                  for part in range(parts) for beat in range(4 * bars))


def test_no_two_notes_are_alike(rng):
    for _ in range(10):
        strokes = [stroke for stroke in performance.perform(scale(16), 90.0, rng)
                   if stroke.program != DRUMS]
        strokes = [stroke for stroke in strokes if stroke.program == strokes[0].program]
        assert len({stroke.velocity for stroke in strokes}) > 8
        gaps = np.diff(sorted(stroke.start for stroke in strokes))
        assert np.std(gaps) > 0.002


def test_performances_differ_in_tempo_key_and_players(rng):
    played = [performance.perform(scale(parts=4), 90.0, rng) for _ in range(60)]
    ends = [max(stroke.start for stroke in strokes) for strokes in played]
    written = 15.0 * 60.0 / 90.0
    assert 0.55 * written < min(ends) < 0.85 * written
    assert 1.2 * written < max(ends) < 2.0 * written  # with sway and a slow end
    assert len({strokes[0].program for strokes in played}) > 12
    players = {len({stroke.program for stroke in strokes} - {DRUMS}) for strokes in played}
    assert players >= {1, 2, 4}
    drummed = np.mean([any(stroke.program == DRUMS for stroke in strokes) for strokes in played])
    assert 0.02 < drummed < 0.35


def test_a_chosen_ensemble_plays_every_part_of_every_score(rng):
    for parts in (1, 3, 6):
        played = [performance.perform(scale(parts=parts), 90.0, rng, "winds") for _ in range(20)]
        assert {stroke.program for strokes in played for stroke in strokes} <= {73, 68, 71, 70}
        assert len(played[0]) == 16 * parts


def test_notes_stay_within_what_instruments_play(rng):
    for _ in range(40):
        for stroke in performance.perform(scale(parts=3), 90.0, rng):
            low, high = performance.RANGES.get(stroke.program, performance.DEFAULT_RANGE)
            assert stroke.program == DRUMS or low <= stroke.pitch <= high
            assert 1 <= stroke.velocity <= 127 and stroke.start >= 0.0 and stroke.seconds > 0.0
            keys = [key for some in performance.DRUM_SETS.values() for key in some]
            assert stroke.program != DRUMS or stroke.pitch in keys


def test_a_long_work_is_played_in_part(rng):
    starts = set()
    for _ in range(10):
        strokes = performance.perform(scale(bars=400), 90.0, rng)
        assert 60.0 < max(stroke.start for stroke in strokes) < 2.0 * performance.MAX_SECONDS
        starts.add(tuple(stroke.pitch for stroke in strokes[:5]))
    assert len(starts) > 5
    rest = [Note(0.0, 1.0, 60, 0), Note(4000.0, 1.0, 60, 0)]
    assert all(performance.perform(rest, 60.0, rng) for _ in range(20))


def test_a_score_without_a_tempo_gets_one_by_its_notes(rng):
    slow = [note._replace(start=8.0 * note.start, quarters=8.0) for note in scale()]
    ends = [max(stroke.start for stroke in performance.perform(notes, tempo, rng))
            for notes in (scale(), slow) for tempo in (None, 2000.0) for _ in range(20)]
    assert 1.5 < min(ends) and max(ends) < 20.0


def test_midi_holds_the_strokes(tmp_path):
    strokes = [Stroke(0.5, 0.25, 40, 60, 90), Stroke(1.0, 0.5, 73, 72, 50),
               Stroke(1.0, 0.1, DRUMS, 85, 70)]
    rendering.write_midi(strokes, 48, tmp_path / "a.mid")
    now, found, programs = 0.0, [], {}
    for message in mido.MidiFile(tmp_path / "a.mid"):  # times in seconds
        now += message.time
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on":
            found.append((round(now, 3), programs[message.channel], message.note, message.velocity))
    assert sorted(found) == [(0.5, 40, 60, 90), (1.0, 48, 85, 70), (1.0, 73, 72, 50)]
    assert programs[rendering.DRUM_CHANNEL] == 48


def test_a_key_is_released_before_it_is_struck_again(tmp_path):
    strokes = [Stroke(start, seconds, 0, 60, 90)
               for start, seconds in ((0.0, 2.0), (0.01, 2.0), (1.0, 1.0))]
    rendering.write_midi(strokes, 0, tmp_path / "a.mid")
    kinds = [message.type for message in mido.MidiFile(tmp_path / "a.mid") if not message.is_meta]
    assert kinds == ["program_change", "note_on", "note_off", "note_on", "note_off"]


@NEEDS_FLUIDSYNTH
def test_a_font_sounds_at_the_pitch_and_time_of_the_strokes(tmp_path):
    write_sound_font(tmp_path / "sine.sf2")
    audio = rendering.synthesise([Stroke(0.5, 1.0, 40, 81, 100)], 0, tmp_path / "sine.sf2")
    assert len(audio) == round((1.5 + rendering.TAIL_SECONDS) * SAMPLE_RATE)
    assert not np.any(np.abs(audio[: round(0.49 * SAMPLE_RATE)]) > 1e-4)
    assert np.std(audio[round(0.7 * SAMPLE_RATE) : round(1.3 * SAMPLE_RATE)]) > 0.005
    peak = np.argmax(np.abs(np.fft.rfft(audio))) * SAMPLE_RATE / len(audio)
    assert peak == pytest.approx(882.0, abs=2.0)


@NEEDS_FLUIDSYNTH
def test_a_font_that_is_none_is_named(tmp_path):
    (tmp_path / "none.sf2").write_bytes(b"nothing")
    with pytest.raises(UserError, match="fluidsynth"):
        rendering.synthesise([Stroke(0.0, 0.1, 0, 60, 100)], 0, tmp_path / "none.sf2")


def test_recordings_differ_in_level_and_band_and_never_clip(rng):
    dry = rng.standard_normal(SAMPLE_RATE // 4).astype(np.float32)
    made = [rendering.record(dry, rng) for _ in range(40)]
    assert max(np.max(np.abs(audio)) for audio in made) <= rendering.PEAK + 1e-6
    levels = [measure_level_dbfs(audio) for audio in made]
    low, high = rendering.LEVEL_DBFS
    assert low - 0.1 < min(levels) < low + 3.0 and high - 3.0 < max(levels) < high + 0.1
    narrow = np.mean([measure_bandwidth_hz(audio) < 21000 for audio in made])
    assert 0.05 < narrow < 0.4
    assert 0.5 < np.mean([len(audio) > len(dry) for audio in made]) < 0.9  # rings on in a room
