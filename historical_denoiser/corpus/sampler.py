"""Plays strokes with recorded notes. Start reading at `play`.

The note with the nearest pitch and dynamic is resampled to the pitch of the stroke, looped if it is
sustained and too short, and faded out at its end. Audio is mono at `SAMPLE_RATE`.
"""

from dataclasses import dataclass, field

import numpy as np
import scipy.signal
import soxr

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import note_bank, note_sounds
from historical_denoiser.corpus.note_bank import Instrument, RecordedNote
from historical_denoiser.corpus.note_sounds import Sound
from historical_denoiser.corpus.performance import DRUMS, Stroke
from historical_denoiser.corpus.rendering import TAIL_SECONDS, join_unisons

# The note with the lowest cost is played. Costs are in semitones.
DYNAMIC_STEP = 16.0  # difference in velocity that costs one semitone
SHORT_COST = 4.0  # cost of a recording without any length
MAX_PREFERENCE = 1.5  # upper limit of a note's cost for one player, constant in a performance
MAX_RANDOM = 0.5  # upper limit of the cost that is drawn for each stroke
REPEATED_COST = 2.0  # cost of the note that was played last
TRIES = 8  # number of notes to try before the next instrument

LOUD_VELOCITY, LEVEL = 100.0, 0.1  # velocity, and the RMS of its notes
VELOCITY_POWER = 2.0  # the amplitude is this power of the velocity
PLAYER_DB = 2.5  # standard deviation of a player's loudness
PLAYER_CENTS, NOTE_CENTS = 4.0, 2.0  # standard deviations of the tuning
RELEASE_SECONDS = (0.05, 0.3)  # fade-out of sustained instruments
RING_SECONDS = (0.15, 4.0)  # fade-out of decaying instruments

MIN_SUSTAINED_SECONDS = 0.12
ENOUGH = 0.85  # a recording with this share of the length is not looped
LOOP_START_SECONDS = 0.12  # time after the onset
MIN_LOOP_SECONDS = 0.4
MAX_LOOPS = 20
JOIN_SECONDS, SEARCH_SECONDS = 0.08, 0.03
STEADY_PERCENTILE, STEADY_DB = 75.0, -8.0  # a loop is louder than this, relative to the percentile
LEVEL_SECONDS = 0.02
SMOOTH_FRAMES = 15
MAX_LEVELLING = 2.0  # greatest gain, or attenuation, that levels a loop


@dataclass
class _Player:
    """The player of a program in one performance.

    Args:
        instruments: Instruments in order of preference; the first that has the pitch is played.
        gain: Gain of all notes.
        cents: Deviation of the tuning.
        release_seconds: Fade-out of a sustained note.
        ring_seconds: Fade-out of a decaying note.
        last: Name of the instrument, and number of the note, that was played last.
        preferences: Costs of an instrument's notes by its name. Because of them, a player uses few
            different notes for a pitch, and few need to be decoded.
    """

    instruments: list[Instrument]
    gain: float
    cents: float
    release_seconds: float
    ring_seconds: float
    last: tuple[str, int] | None = None
    preferences: dict[str, np.ndarray] = field(default_factory=dict)


def play(strokes: list[Stroke], bank: tuple[Instrument, ...], rng: np.random.Generator
         ) -> np.ndarray:
    """Plays strokes with recorded notes and returns dry audio, float32 `(samples,)`.

    Strokes that no instrument can play are left out.

    Args:
        strokes: At least one stroke.
        bank: The instruments.
        rng: Source of all randomness: of the players, and of the choice among similar notes.

    Raises:
        UserError: No stroke can be played.
    """
    end = max(stroke.start + stroke.seconds for stroke in strokes) + TAIL_SECONDS
    audio = np.zeros(round(end * SAMPLE_RATE), np.float32)
    players: dict[tuple[int, int], _Player] = {}
    is_played = False
    for stroke in sorted(join_unisons(strokes), key=lambda stroke: stroke[:4]):
        name = (stroke.program, stroke.pitch if stroke.program == DRUMS else 0)
        if name not in players:
            players[name] = _draw_player(stroke, bank, rng)
        note, lead = _play_stroke(stroke, players[name], rng)
        start = round(stroke.start * SAMPLE_RATE) - lead
        note = note[max(-start, 0) : len(audio) - start]
        audio[max(start, 0) : max(start, 0) + len(note)] += note
        is_played |= len(note) > 0
    if not is_played:
        raise UserError("none of its notes can be played by the instruments in the folders")
    note_sounds.fade_out(audio, round(TAIL_SECONDS / 2.0 * SAMPLE_RATE))
    return audio


def _draw_player(stroke: Stroke, bank: tuple[Instrument, ...], rng: np.random.Generator) -> _Player:
    """Draws a player: first the instruments that fit the program, then others of the same kind."""
    fitting = note_bank.choose_players(bank, stroke.program, stroke.pitch)
    is_pitched = stroke.program != DRUMS and stroke.program not in note_bank.TUNED_DRUMS
    others = [one for one in bank if not one.is_drum and one not in fitting] if is_pitched else []
    decays = stroke.program in note_bank.DECAYING_PROGRAMS
    groups = (fitting, [one for one in others if one.decays == decays],
              [one for one in others if one.decays != decays])
    order = [group[place] for group in groups for place in rng.permutation(len(group))]
    return _Player(order, to_gain(rng.normal(0.0, PLAYER_DB)), rng.normal(0.0, PLAYER_CENTS),
                   rng.uniform(*RELEASE_SECONDS), float(np.exp(rng.uniform(*np.log(RING_SECONDS)))))


def _play_stroke(stroke: Stroke, player: _Player, rng: np.random.Generator
                 ) -> tuple[np.ndarray, int]:
    """Returns the audio of a stroke, and the number of its samples before the onset."""
    for instrument in player.instruments:
        if not instrument.has_pitch(stroke.pitch):
            continue
        seconds = _sounding_seconds(stroke, instrument, player)
        name, place = player.last or ("", None)
        if instrument.name not in player.preferences:
            player.preferences[instrument.name] = rng.uniform(0.0, MAX_PREFERENCE,
                                                              len(instrument.notes))
        costs = player.preferences[instrument.name].copy()
        if name == instrument.name:
            costs[place] += REPEATED_COST
        found = _choose_note(instrument, stroke, seconds, costs, rng)
        if found is None:
            continue
        place, sound = found
        player.last = instrument.name, place
        cents = player.cents - sound.cents + rng.normal(0.0, NOTE_CENTS)
        semitones = _transposition(stroke, instrument, instrument.notes[place])
        note, lead = _transpose(sound, semitones + cents / 100.0, seconds)
        if not instrument.decays:
            note = _loop_note(note, round(seconds * SAMPLE_RATE), rng)
        note = _release(note, seconds, instrument, player)
        loudness = LEVEL * (stroke.velocity / LOUD_VELOCITY) ** VELOCITY_POWER * player.gain
        return (loudness / sound.level * note).astype(np.float32), lead
    return np.zeros(0, np.float32), 0


def _sounding_seconds(stroke: Stroke, instrument: Instrument, player: _Player) -> float:
    """Returns how long a note sounds, including its fade-out; drums are never cut."""
    if instrument.is_drum:
        return note_sounds.MAX_NOTE_SECONDS
    if instrument.decays:
        return stroke.seconds + player.ring_seconds
    return max(stroke.seconds, MIN_SUSTAINED_SECONDS) + player.release_seconds


def _transposition(stroke: Stroke, instrument: Instrument, note: RecordedNote) -> float:
    """Returns by how many semitones a recorded note has to be transposed."""
    if not instrument.is_drum:
        return stroke.pitch - note.pitch - 12.0 * instrument.octave
    if stroke.program not in note_bank.TUNED_DRUMS:
        return 0.0
    higher = stroke.pitch - note_bank.TUNED_DRUMS[stroke.program][1]
    return float(np.clip(note_bank.TUNED_SHARE * higher, -note_bank.TUNED_SHIFT,
                         note_bank.TUNED_SHIFT))


def _choose_note(instrument: Instrument, stroke: Stroke, seconds: float, costs: np.ndarray,
                 rng: np.random.Generator) -> tuple[int, Sound] | None:
    """Draws a note with a similar pitch, dynamic and length; returns its number and sound.

    `costs` are additional costs of the notes in semitones, `(notes,)`. The pitch has no influence
    for drums, and the length only for sustained instruments.
    """
    cost = np.nan_to_num(np.abs(instrument.pitches - stroke.pitch))
    far = cost > note_bank.MAX_SHIFT
    cost += np.nan_to_num(np.abs(instrument.velocities - stroke.velocity)) / DYNAMIC_STEP
    cost += costs + rng.uniform(0.0, MAX_RANDOM, len(cost))
    if not instrument.decays:
        cost += SHORT_COST * np.clip(1.0 - instrument.seconds / seconds, 0.0, 1.0)
    cost[far] = np.inf
    for place in np.argsort(cost)[:TRIES]:
        if not np.isfinite(cost[place]):
            break
        sound = instrument.load(int(place))
        if sound is not None:
            return int(place), sound
    return None


def _transpose(sound: Sound, semitones: float, seconds: float) -> tuple[np.ndarray, int]:
    """Returns the beginning of a sound, transposed by resampling, and its lead in samples."""
    rate = sound.rate * 2.0 ** (semitones / 12.0)
    needed = sound.samples[: round((seconds + 0.1) * rate) + sound.lead]
    # The lead is resampled as well, so that the signal does not begin abruptly.
    resampled = soxr.resample(needed, rate, SAMPLE_RATE, quality="MQ")
    return resampled, round(sound.lead * SAMPLE_RATE / rate)


def _loop_note(note: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Extends a sustained note that is too short by crossfaded copies of its steady part.

    A copy begins at a random position, shifted to where the waveform resembles the end of the copy
    before it. A note without a steady part of `MIN_LOOP_SECONDS` is returned as it is.
    """
    if len(note) >= ENOUGH * samples:
        return note
    first, last = _find_steady(note)
    if last - first < MIN_LOOP_SECONDS * SAMPLE_RATE:
        return note
    steady = _level_loop(note, first, last)
    pieces, length = [steady], last
    fade, search = round(JOIN_SECONDS * SAMPLE_RATE), round(SEARCH_SECONDS * SAMPLE_RATE)
    for _ in range(MAX_LOOPS):
        if length >= samples:
            break
        begin = first + int(rng.integers(0, (last - first) // 3))
        begin += _best_lag(steady[begin : begin + fade + search], pieces[-1][-fade:])
        piece = steady[begin:].copy()
        pieces[-1], piece = _join(pieces[-1], piece, fade)
        pieces.append(piece)
        length = sum(map(len, pieces))
    return np.concatenate(pieces)


def _find_steady(note: np.ndarray) -> tuple[int, int]:
    """Returns the first and last sample of the section whose level is nearly constant."""
    size = round(LEVEL_SECONDS * SAMPLE_RATE)
    levels = note_sounds.frame_levels(note, size)
    near = levels >= np.percentile(levels, STEADY_PERCENTILE) * to_gain(STEADY_DB)
    near[: -(-round(LOOP_START_SECONDS * SAMPLE_RATE) // size)] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]])))
    if not len(edges):
        return 0, 0
    first, last = max(edges.reshape(-1, 2), key=lambda run: run[1] - run[0])
    return int(first) * size, int(last) * size


def _level_loop(note: np.ndarray, first: int, last: int) -> np.ndarray:
    """Returns a note up to `last`, without slow changes of its level from `first` on."""
    size = round(LEVEL_SECONDS * SAMPLE_RATE)
    levels = np.maximum(note_sounds.frame_levels(note[first:last], size), 1e-9)
    padded = np.pad(levels, SMOOTH_FRAMES // 2, mode="edge")
    smooth = np.convolve(padded, np.ones(SMOOTH_FRAMES) / SMOOTH_FRAMES, "valid")
    gains = np.clip(np.median(levels) / smooth, 1.0 / MAX_LEVELLING, MAX_LEVELLING)
    samples = np.arange(last - first)
    share = np.clip(samples / (JOIN_SECONDS * SAMPLE_RATE), 0.0, 1.0)
    steady = note[:last].astype(np.float32)
    gain = np.interp(samples, (np.arange(len(levels)) + 0.5) * size, gains)
    steady[first:] *= 1.0 + share * (gain - 1.0)
    return steady


def _best_lag(wave: np.ndarray, tail: np.ndarray) -> int:
    """Returns the position in `wave` with the greatest normalised correlation with `tail`."""
    products = scipy.signal.correlate(wave, tail, "valid", "fft")
    total = np.cumsum(np.pad(np.square(wave, dtype=np.float64), (1, 0)))
    energies = total[len(tail):] - total[: -len(tail)]
    return int(np.argmax(products / np.sqrt(np.maximum(energies, 1e-12))))


def _join(before: np.ndarray, after: np.ndarray, fade: int) -> tuple[np.ndarray, np.ndarray]:
    """Crossfades two waveforms; the power is constant whatever the correlation between them.

    Returns:
        `before` without its last `fade` samples, and `after` with the crossfade at its beginning.
    """
    tail, head = before[-fade:], after[:fade]
    scale = np.sqrt(np.sum(tail**2) * np.sum(head**2)) + 1e-12
    correlation = float(np.clip(np.sum(tail * head) / scale, 0.0, 1.0))
    rise = (np.arange(fade) + 0.5) / fade
    power = rise**2 + (1.0 - rise) ** 2 + 2.0 * correlation * rise * (1.0 - rise)
    after[:fade] = ((1.0 - rise) * tail + rise * head) / np.sqrt(power)
    return before[:-fade], after


def _release(note: np.ndarray, seconds: float, instrument: Instrument, player: _Player
             ) -> np.ndarray:
    """Cuts a note to its length and fades it out; a drum rings on."""
    length = round(seconds * SAMPLE_RATE)
    if instrument.is_drum or len(note) <= length:
        return note
    note = note[:length].copy()
    fade = player.ring_seconds if instrument.decays else player.release_seconds
    note_sounds.fade_out(note, round(fade * SAMPLE_RATE))
    return note
