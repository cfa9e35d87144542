"""Plays strokes from recorded notes: `play` takes the place of a synthesiser.

The nearest note of the fitting dynamic is resampled to the pitch, sustained ones that are too
short are continued, and each is let go at its end. Audio is mono at `SAMPLE_RATE`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.signal
import soxr

from historical_denoiser.audio.dsp import SAMPLE_RATE, to_gain
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import note_bank
from historical_denoiser.corpus.note_bank import Instrument, RecordedNote, Sound
from historical_denoiser.corpus.performance import DRUMS, TAIL_SECONDS, Stroke, join_unisons

DYNAMIC_STEP = 16.0  # velocity that weighs as much as a semitone
SHORT_WEIGHT = 4.0  # semitones that a note without any length would weigh
TASTE = 1.5  # semitones by which a player prefers some notes to others, in a whole performance
CHANCE = 0.5  # semitones by which each choice is blurred
REPEATED = 2.0  # semitones that the note played last weighs
TRIES = 8  # notes, after which another instrument is asked

LOUD_VELOCITY = 100.0  # at which a note's level is `LEVEL`
LEVEL = 0.1  # RMS
VELOCITY_POWER = 2.0  # of velocity, that amplitude follows (40 dB a decade)
PLAYER_DB = 2.5  # standard deviation of a player's loudness
PLAYER_CENTS, NOTE_CENTS = 4.0, 2.0  # standard deviations of tuning
RELEASE_SECONDS = (0.05, 0.3)  # of sustained instruments
RING_SECONDS = (0.15, 4.0)  # of those that die away

MIN_SUSTAINED_SECONDS = 0.12
ENOUGH = 0.85  # of a note's length: a recording as long needs not be continued
LOOP_START_SECONDS = 0.12  # after the onset
MIN_LOOP_SECONDS = 0.4
MAX_LOOPS = 20
JOIN_SECONDS, SEARCH_SECONDS = 0.08, 0.03
STEADY_PERCENTILE, STEADY_DB = 75.0, -8.0  # what is quieter than that is no part of the loop
LEVEL_SECONDS = 0.02
SMOOTH_FRAMES = 15
MAX_EVENING = 2.0  # gain that evens a loop's level, up and down


@dataclass
class Player:
    """Who plays a program in one performance.

    Args:
        instruments: In the order in which they are asked; the first that has the pitch plays.
        gain: Of all notes.
        cents: By which all notes are higher.
        release_seconds: In which a note fades after its end.
        ring_seconds: The same where it dies away by itself.
        last: The instrument's name and the number of the note that was played last.
        tastes: By instrument, what each of its notes weighs besides, in semitones. So a player has
            few notes for a pitch, and few need be decoded.
    """

    instruments: list[Instrument]
    gain: float
    cents: float
    release_seconds: float
    ring_seconds: float
    last: tuple[str, int] | None = None
    tastes: dict[str, np.ndarray] = field(default_factory=dict)


def play(strokes: list[Stroke], bank: tuple[Instrument, ...], rng: np.random.Generator
         ) -> np.ndarray:
    """Plays strokes from a bank of recorded notes, dry, float32 `(samples,)`.

    Strokes that nobody in the bank can play are left out.

    Args:
        strokes: What is played, at least one.
        bank: The instruments.
        rng: Draws the players, and the choice among notes that fit alike.

    Raises:
        UserError: Not one stroke could be played.
    """
    end = max(stroke.start + stroke.seconds for stroke in strokes) + TAIL_SECONDS
    audio = np.zeros(round(end * SAMPLE_RATE), np.float32)
    players: dict[tuple[int, int], Player] = {}
    played = 0
    for stroke in sorted(join_unisons(strokes), key=lambda stroke: stroke[:4]):
        name = (stroke.program, stroke.pitch if stroke.program == DRUMS else 0)
        if name not in players:
            players[name] = draw_player(stroke, bank, rng)
        note, lead = play_stroke(stroke, players[name], rng)
        start = round(stroke.start * SAMPLE_RATE) - lead
        note = note[max(-start, 0) : len(audio) - start]
        audio[max(start, 0) : max(start, 0) + len(note)] += note
        played += len(note) > 0
    if not played:
        raise UserError("none of its notes can be played by the instruments that are there")
    note_bank.fade_out(audio, round(TAIL_SECONDS / 2.0 * SAMPLE_RATE))
    return audio


def draw_player(stroke: Stroke, bank: tuple[Instrument, ...], rng: np.random.Generator) -> Player:
    """Draws who plays a stroke's program: those that fit in any order, then others of the kind."""
    fitting = note_bank.choose_players(bank, stroke.program, stroke.pitch)
    is_pitched = stroke.program != DRUMS and stroke.program not in note_bank.TUNED_DRUMS
    others = [one for one in bank if not one.is_drum and one not in fitting] if is_pitched else []
    decays = stroke.program in note_bank.DECAYING_PROGRAMS
    groups = (fitting, [one for one in others if one.decays == decays],
              [one for one in others if one.decays != decays])
    order = [group[place] for group in groups for place in rng.permutation(len(group))]
    return Player(order, to_gain(rng.normal(0.0, PLAYER_DB)),
                  rng.normal(0.0, PLAYER_CENTS), rng.uniform(*RELEASE_SECONDS),
                  float(np.exp(rng.uniform(*np.log(RING_SECONDS)))))


def play_stroke(stroke: Stroke, player: Player, rng: np.random.Generator
                ) -> tuple[np.ndarray, int]:
    """Returns a note as it sounds, and how many of its samples come before the onset."""
    for instrument in player.instruments:
        pitch = _pitch_for(stroke, instrument)
        if pitch is None:
            continue
        seconds = _sounding_seconds(stroke, instrument, player)
        name, place = player.last or ("", None)
        if instrument.name not in player.tastes:
            player.tastes[instrument.name] = rng.uniform(0.0, TASTE, len(instrument.notes))
        weights = player.tastes[instrument.name].copy()
        if name == instrument.name:
            weights[place] += REPEATED
        found = choose_note(instrument, pitch, stroke.velocity, seconds, weights, rng)
        if found is None:
            continue
        place, sound = found
        player.last, recorded = (instrument.name, place), instrument.notes[place]
        cents = player.cents - sound.cents + rng.normal(0.0, NOTE_CENTS)
        note, lead = _at_pitch(sound, _shift(stroke, instrument, recorded, pitch) + cents / 100.0,
                               seconds)
        if not instrument.decays:
            note = continue_note(note, round(seconds * SAMPLE_RATE), rng)
        note = _let_go(note, seconds, instrument, player)
        loudness = LEVEL * (stroke.velocity / LOUD_VELOCITY) ** VELOCITY_POWER * player.gain
        return (loudness / sound.level * note).astype(np.float32), lead
    return np.zeros(0, np.float32), 0


def _pitch_for(stroke: Stroke, instrument: Instrument) -> float | None:
    """Returns the pitch that the instrument plays; None where it has not got it."""
    if instrument.is_drum:
        return 0.0
    return stroke.pitch if instrument.has_pitch(stroke.pitch) else None


def _sounding_seconds(stroke: Stroke, instrument: Instrument, player: Player) -> float:
    """Returns how long a note sounds, its release included; a drum is left alone."""
    if instrument.is_drum:
        return note_bank.MAX_NOTE_SECONDS
    if instrument.decays:
        return stroke.seconds + player.ring_seconds
    return max(stroke.seconds, MIN_SUSTAINED_SECONDS) + player.release_seconds


def _shift(stroke: Stroke, instrument: Instrument, note: RecordedNote, pitch: float) -> float:
    """Returns by how many semitones a recorded note must be raised."""
    if not instrument.is_drum:
        return pitch - note.pitch - 12.0 * instrument.octave
    if stroke.program not in note_bank.TUNED_DRUMS:
        return 0.0
    higher = stroke.pitch - note_bank.TUNED_DRUMS[stroke.program][1]
    return float(np.clip(note_bank.TUNED_SHARE * higher, -note_bank.TUNED_SHIFT,
                         note_bank.TUNED_SHIFT))


def choose_note(instrument: Instrument, pitch: float, velocity: int, seconds: float,
                weights: np.ndarray, rng: np.random.Generator) -> tuple[int, Sound] | None:
    """Draws the number of one of the notes that are near in pitch, dynamic and length.

    Args:
        instrument: Whose notes.
        pitch: MIDI, as it shall sound; no matter where the instrument is a drum.
        velocity: MIDI.
        seconds: That it shall sound; shorter recordings of sustained instruments are chosen less.
        weights: Of the notes, in semitones, `(notes,)`: the higher, the less a note is chosen.
        rng: Blurs the choice.
    """
    cost = np.nan_to_num(np.abs(instrument.pitches - pitch))
    far = cost > note_bank.MAX_SHIFT
    cost += np.nan_to_num(np.abs(instrument.velocities - velocity)) / DYNAMIC_STEP
    cost += weights + rng.uniform(0.0, CHANCE, len(cost))
    if not instrument.decays:
        cost += SHORT_WEIGHT * np.clip(1.0 - instrument.seconds / seconds, 0.0, 1.0)
    cost[far] = np.inf
    for place in np.argsort(cost)[:TRIES]:
        if not np.isfinite(cost[place]):
            break
        sound = instrument.load(int(place))
        if sound is not None:
            return int(place), sound
    return None


def _at_pitch(sound: Sound, semitones: float, seconds: float) -> tuple[np.ndarray, int]:
    """Returns as much of a sound as is needed, resampled so that it is higher, and its lead."""
    rate = sound.rate * 2.0 ** (semitones / 12.0)
    needed = sound.samples[: round((seconds + 0.1) * rate) + sound.lead]
    # soxr gets the attack with its lead: neither edge of what it filters is loud.
    resampled = soxr.resample(needed, rate, SAMPLE_RATE, quality="MQ")
    return resampled, round(sound.lead * SAMPLE_RATE / rate)


def continue_note(note: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Continues a sustained note that is too short, by repeating its steady part.

    The copies begin at random places, moved to where they fit the wave before them, and fade over.
    A note that has no steady part of `MIN_LOOP_SECONDS` stays as it is.

    Args:
        note: `(length,)`.
        samples: That are needed.
        rng: Draws where the copies begin.
    """
    if len(note) >= ENOUGH * samples:
        return note
    first, last = _find_steady(note)
    if last - first < MIN_LOOP_SECONDS * SAMPLE_RATE:
        return note
    steady = _even_level(note, first, last)
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
    """Returns the samples between which the level stays near what it is most of the time."""
    size = round(LEVEL_SECONDS * SAMPLE_RATE)
    levels = note_bank.frame_levels(note, size)
    near = levels >= np.percentile(levels, STEADY_PERCENTILE) * to_gain(STEADY_DB)
    near[: -(-round(LOOP_START_SECONDS * SAMPLE_RATE) // size)] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]])))
    if not len(edges):
        return 0, 0
    first, last = max(edges.reshape(-1, 2), key=lambda run: run[1] - run[0])
    return int(first) * size, int(last) * size


def _even_level(note: np.ndarray, first: int, last: int) -> np.ndarray:
    """Returns a note up to `last`, whose slow changes of level are gone from `first` on."""
    size = round(LEVEL_SECONDS * SAMPLE_RATE)
    levels = np.maximum(note_bank.frame_levels(note[first:last], size), 1e-9)
    padded = np.pad(levels, SMOOTH_FRAMES // 2, mode="edge")  # what follows would bend the ends
    smooth = np.convolve(padded, np.ones(SMOOTH_FRAMES) / SMOOTH_FRAMES, "valid")
    gains = np.clip(np.median(levels) / smooth, 1.0 / MAX_EVENING, MAX_EVENING)
    samples = np.arange(last - first)
    share = np.clip(samples / (JOIN_SECONDS * SAMPLE_RATE), 0.0, 1.0)
    steady = note[:last].astype(np.float32)
    gain = np.interp(samples, (np.arange(len(levels)) + 0.5) * size, gains)
    steady[first:] *= 1.0 + share * (gain - 1.0)
    return steady


def _best_lag(wave: np.ndarray, tail: np.ndarray) -> int:
    """Returns where in `wave` something begins that resembles `tail` most."""
    products = scipy.signal.correlate(wave, tail, "valid", "fft")
    total = np.cumsum(np.pad(np.square(wave, dtype=np.float64), (1, 0)))
    energies = total[len(tail):] - total[: -len(tail)]
    return int(np.argmax(products / np.sqrt(np.maximum(energies, 1e-12))))


def _join(before: np.ndarray, after: np.ndarray, fade: int) -> tuple[np.ndarray, np.ndarray]:
    """Fades from one wave to the next so that the power stays, however alike the two are.

    Returns:
        `before` without its last `fade` samples, and `after` with the crossfade at its beginning.
    """
    tail, head = before[-fade:], after[:fade]
    scale = np.sqrt(np.sum(tail**2) * np.sum(head**2)) + 1e-12
    alike = float(np.clip(np.sum(tail * head) / scale, 0.0, 1.0))
    rise = (np.arange(fade) + 0.5) / fade
    power = rise**2 + (1.0 - rise) ** 2 + 2.0 * alike * rise * (1.0 - rise)
    after[:fade] = ((1.0 - rise) * tail + rise * head) / np.sqrt(power)
    return before[:-fade], after


def _let_go(note: np.ndarray, seconds: float, instrument: Instrument, player: Player
            ) -> np.ndarray:
    """Cuts a note to its length and fades its end."""
    if instrument.is_drum:
        return note
    length = round(seconds * SAMPLE_RATE)
    fade = player.ring_seconds if instrument.decays else player.release_seconds
    is_longer = len(note) > length
    note = note[:length].copy()
    if is_longer:
        # The fade may take all of a note but its attack.
        note_bank.fade_out(note, round(fade * SAMPLE_RATE))
    return note
