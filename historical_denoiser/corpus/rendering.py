"""Renders strokes with a sound font, and simulates the recording of a performance.

Audio is mono at `SAMPLE_RATE`. Start reading at `synthesise` and `record`.
"""

import subprocess
import tempfile
from pathlib import Path

import mido
import numpy as np
import soundfile as sf

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus.clips import measure_level_dbfs
from historical_denoiser.corpus.performance import DRUMS, Stroke
from historical_denoiser.data.ageing import limit_band
from historical_denoiser.data.rooms import make_room, sound_in_room

TICKS_PER_SECOND = 1000
DRUM_CHANNEL = 9
SILENCE = 1e-5  # a lower peak is only dither
TAIL_SECONDS = 2.0  # time for the last note to decay

SHARE_ROOM = 0.7
SHARE_NARROW = 0.2  # share of the renders with the bandwidth of an old microphone
NARROW_HZ = (4000.0, 12000.0)
LEVEL_DBFS = (-28.0, -18.0)
PEAK = 0.9


def write_midi(strokes: list[Stroke], kit: int, path: Path) -> None:
    """Writes strokes to a MIDI file with ticks of 1 ms.

    Args:
        strokes: Strokes of at most 15 programs besides `DRUMS`.
        kit: Program of percussion without pitch.
        path: The file.
    """
    programs = sorted({stroke.program for stroke in strokes})
    melodic = (number for number in range(16) if number != DRUM_CHANNEL)
    channels = {program: DRUM_CHANNEL if program == DRUMS else next(melodic)
                for program in programs}
    timed = [(0, 0, mido.Message("program_change", channel=channel,
                                 program=kit if program == DRUMS else program))
             for program, channel in channels.items()]
    for stroke in join_unisons(strokes):
        channel = channels[stroke.program]
        start = round(stroke.start * TICKS_PER_SECOND)
        end = max(round((stroke.start + stroke.seconds) * TICKS_PER_SECOND), start + 1)
        timed.append((start, 2, mido.Message("note_on", channel=channel, note=stroke.pitch,
                                             velocity=stroke.velocity)))
        timed.append((end, 1, mido.Message("note_off", channel=channel, note=stroke.pitch)))
    timed.sort(key=lambda event: event[:2])
    # 120 beats a minute, the default: a beat of 500 ticks makes a tick a millisecond.
    file = mido.MidiFile(ticks_per_beat=TICKS_PER_SECOND // 2)
    track, now = file.add_track(), 0
    for ticks, _, message in timed:
        track.append(message.copy(time=ticks - now))
        now = ticks
    file.save(path)


def join_unisons(strokes: list[Stroke]) -> list[Stroke]:
    """Ends notes where the same instrument plays the same key again, and drops duplicates."""
    joined: list[Stroke] = []
    for stroke in sorted(strokes, key=lambda stroke: (stroke.program, stroke.pitch, stroke.start)):
        last = joined[-1] if joined else None
        if last and (last.program, last.pitch) == (stroke.program, stroke.pitch):
            if stroke.start - last.start < 0.03:
                continue
            joined[-1] = last._replace(seconds=min(last.seconds, stroke.start - last.start - 0.005))
        joined.append(stroke)
    return joined


def synthesise(strokes: list[Stroke], kit: int, font: Path) -> np.ndarray:
    """Plays strokes with FluidSynth and a sound font; returns dry audio, float32 `(samples,)`.

    Args:
        strokes: Strokes to play, at least one.
        kit: Program of percussion without pitch.
        font: SF2 or SF3 file.

    Raises:
        UserError: FluidSynth failed or returned silence.
    """
    with tempfile.TemporaryDirectory() as folder:
        midi, wave = Path(folder, "score.mid"), Path(folder, "score.wav")
        write_midi(strokes, kit, midi)
        # Without `default-soundfont=`, FluidSynth would replace a font that it cannot read.
        done = subprocess.run(
            ["fluidsynth", "-n", "-i", "-q", "-g", "0.4", "-R", "0", "-C", "0",
             "-o", "synth.default-soundfont=", "-r", str(SAMPLE_RATE), "-T", "wav", "-O", "float",
             "-F", str(wave), str(font), str(midi)], capture_output=True, text=True, check=False)
        if done.returncode or not wave.exists():
            raise UserError(f"fluidsynth failed: {done.stderr.strip() or done.returncode}")
        audio, _ = sf.read(wave, dtype="float32", always_2d=True)
    end = max(stroke.start + stroke.seconds for stroke in strokes) + TAIL_SECONDS
    audio = audio[: round(end * SAMPLE_RATE)].mean(axis=1)
    if np.max(np.abs(audio), initial=0.0) < SILENCE:
        raise UserError(f"fluidsynth returned silence: {done.stderr.strip()}")
    return audio


def record(audio: np.ndarray, rng: np.random.Generator,
           level_dbfs: tuple[float, float] = LEVEL_DBFS) -> np.ndarray:
    """Simulates the recording of a performance: the room, the microphone and the level.

    Args:
        audio: Dry waveform `(samples,)`.
        rng: Source of all randomness.
        level_dbfs: Range of the level; it is reduced where the waveform would clip.

    Returns:
        float32 array `(samples,)`, 1 s longer than `audio` with the reverberation of a room.
    """
    if rng.random() < SHARE_ROOM:
        audio = sound_in_room(np.pad(audio, (0, SAMPLE_RATE)), make_room(rng))
    if rng.random() < SHARE_NARROW:
        audio = limit_band(audio, float(np.exp(rng.uniform(*np.log(NARROW_HZ)))))
    gain = 10.0 ** ((rng.uniform(*level_dbfs) - measure_level_dbfs(audio)) / 20.0)
    gain = min(gain, PEAK / float(np.max(np.abs(audio))))
    return (gain * audio).astype(np.float32)
