"""Analyses a recording before it is restored.

`analyse` adds to a survey how two channels are combined into one, the hum, the levels that
distinguish drones from it, and the noise profile: a given one, or that of excerpts, from pauses or
the network's noise estimate. `fit_strength` finds a suitable strength. Start reading at `analyse`.
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.fitting import EXCERPTS, EXCERPTS_SECONDS, Fitted, excerpts, fit
from historical_denoiser.audio.mono_source import find_mono
from historical_denoiser.audio.noise_profile import (
    MIN_SECONDS,
    Origin,
    ProfileForm,
    without_strokes,
)
from historical_denoiser.audio.pauses import FLOOR, FRAME_SECONDS, frame_powers, noise_alone
from historical_denoiser.audio.removal import Pair, Strength
from historical_denoiser.audio.survey import Survey, as_channels
from historical_denoiser.classical import buzz, drones, held_notes, hum
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.noise import finder
from historical_denoiser.restoration.chain import remove_clicks, remove_hum
from historical_denoiser.restoration.separation import Separator

logger = logging.getLogger(__name__)

Read = Callable[[], Iterable[np.ndarray]]  # reads a recording from its start, in blocks
Report = Callable[[float], object]  # called with the seconds processed since its last call

# Half of a recording is analysed, within these limits: the upper one is `EXCERPTS_SECONDS`.
ANALYSED_SHARE, MIN_ANALYSED_SECONDS = 0.5, 15.0
TRIAL_SECONDS = 5.0  # of an excerpt, with and without the profile that was found
QUIETEST_SHARE = 0.1  # of its frames, which are compared
# Of the 66 mixtures of the open test two exceed it, and lose 0.001 dB in the mean of all.
MAX_MORE_DB = 1.8
SILENT = 1e-9  # power of a frame of digital silence, relative to the loudest


def analyse(restorer: Separator, surveyed: Survey, read: Read, sample_rate: int,
            noise_profile: np.ndarray | None = None,
            report: Report = lambda seconds: None) -> Survey:
    """Returns a survey with everything that the stages of `restorer` need to know.

    Args:
        restorer: The network and its stages.
        surveyed: Result of `survey` for all blocks.
        read: Reads the recording.
        sample_rate: Sample rate in Hz.
        noise_profile: Noise alone, from this recording or another one of the same carrier, at its
            rate and level: `(samples,)` or `(samples, channels)`, at least 0.1 s.
        report: Called with the seconds processed in the analysis pass.

    Raises:
        UserError: The network takes no profile, or the profile is too short, silent or not finite.
    """
    if not surveyed.is_audible:
        return surveyed
    noise = (None if noise_profile is None else
             _checked_profile(restorer, noise_profile, sample_rate, len(surveyed.source)))
    known = _with_mono_source(restorer, surveyed, read, sample_rate)
    known = _with_tones(restorer, known, read, sample_rate, noise)
    if noise is not None:
        return _with_profile(restorer, known, noise, sample_rate)
    if not has_analysis_pass(restorer):
        return known
    return _with_found_noise(restorer, known, read, sample_rate, report)


def has_analysis_pass(restorer: Separator) -> bool:
    """Returns whether recordings without a given profile get an analysis pass."""
    return restorer.stages.listen_first and restorer.settings.profile_form is not None


def excerpts_seconds(seconds: float) -> float:
    """Returns how many seconds of so long a recording are analysed, if it has as many."""
    return min(max(MIN_ANALYSED_SECONDS, ANALYSED_SHARE * seconds), EXCERPTS_SECONDS)


def analysis_seconds(restorer: Separator, samples: int, sample_rate: int) -> float:
    """Returns the duration of the analysis pass in seconds, for a recording without a profile.

    It includes the trial of the profile.

    Args:
        restorer: The network and its stages.
        samples: Length of the recording.
        sample_rate: Sample rate in Hz.
    """
    if not has_analysis_pass(restorer):
        return 0.0
    seconds = samples / sample_rate
    return min(seconds, excerpts_seconds(seconds)) + min(seconds, TRIAL_SECONDS)


def fit_strength(restorer: Separator, strength: Strength, read: Read, sample_rate: int,
                 known: Survey, report: Report = lambda seconds: None) -> Fitted:
    """Finds a suitable strength for a recording if it is "auto".

    This processes excerpts of up to 30 s in total.

    Args:
        restorer: The network and its stages.
        strength: Returned unchanged unless it is "auto".
        read: Reads the recording.
        sample_rate: Sample rate in Hz.
        known: Result of `analyse`.
        report: Called with the seconds processed.
    """
    if not strength.is_auto:
        return Fitted(strength, "")

    def pairs() -> Iterator[Pair]:
        sounding = replace(known, silences=())
        for part in itertools.chain(*excerpts(read, known, sample_rate)):
            yield from restorer.separate([part], sample_rate, sounding)
            report(len(part) / sample_rate)

    return fit(strength, pairs(), sample_rate)


def as_one(pairs: Iterable[Pair]) -> Pair:
    """Concatenates adjacent blocks, and the noise estimates of these blocks."""
    blocks, noises = zip(*pairs, strict=True)
    return np.concatenate(blocks), np.concatenate(noises)


# --- Channels and tones ----------------------------------------------------------------------


def _with_mono_source(restorer: Separator, surveyed: Survey, read: Read, sample_rate: int,
                      ) -> Survey:
    """Adds how two channels are combined into one, if that is enabled."""
    choice = restorer.stages.mono_source
    if choice == "false" or surveyed.source != (0, 1):
        return surveyed
    found = np.concatenate(list(itertools.chain(*excerpts(read, surveyed, sample_rate))))
    mono, why = find_mono(found, sample_rate, choice)
    logger.info("%s: %s", "mono source" if mono else "no mono source", why)
    return replace(surveyed, mono=mono)


def _with_tones(restorer: Separator, known: Survey, read: Read, sample_rate: int,
                noise: np.ndarray | None) -> Survey:
    """Adds the hum of a recording, and the floor that held notes must exceed if there are drones.

    The network keeps notes that begin and end, but not every drone. Tones in a noise profile count
    as noise.
    """
    stages = restorer.stages
    if not (stages.dehum or stages.keep_held):
        return known
    blocks = list(itertools.chain(*excerpts(read, known, sample_rate)))
    hum_hz, floors = None, []
    for channel in known.distinct:
        sounds = [as_channels(block)[:, channel] for block in blocks]
        at_rate = [dsp.resample(sound, sample_rate, SAMPLE_RATE) for sound in sounds]
        drones_hz = drones.find_drones(at_rate)
        if stages.dehum and hum_hz is None:
            hum_hz = hum.find_hum(sounds, sample_rate, drones_hz)
        floor = None
        if stages.keep_held and len(drones_hz):
            floor = held_notes.measure_floor(at_rate, drones_hz)
            if noise is not None and floor is not None:
                own = channel if noise.shape[1] > 1 else 0
                given = held_notes.measure_floor(
                    [dsp.resample(noise[:, own], sample_rate, SAMPLE_RATE)])
                floor = floor if given is None else np.maximum(floor, given)
        floors.append(floor)
    return replace(known, hum_hz=hum_hz, floors=tuple(floors))


# --- A given noise profile -------------------------------------------------------------------


def _checked_profile(restorer: Separator, noise: np.ndarray, sample_rate: int, channels: int,
                  ) -> np.ndarray:
    """Checks a noise profile and returns it as `(samples, 1 or channels)`.

    Raises:
        UserError: The network takes no profile, or the profile is too short, silent, not finite, or
            has another number of channels.
    """
    noise = as_channels(np.asarray(noise), "noise_profile")
    _form_of(restorer)
    seconds = len(noise) / sample_rate
    # The ends of an excerpt are rounded to samples, so one sample may be missing.
    require(len(noise) >= MIN_SECONDS * sample_rate - 1.0, "noise_profile",
            f"at least {MIN_SECONDS:g} s long", f"{seconds:.3f} s")
    require(noise.shape[1] in (1, channels), "noise_profile",
            f"of one channel or of {channels}, as the recording", f"{noise.shape[1]} channels")
    require(np.isfinite(noise).all(), "noise_profile", "finite", "NaN or infinite samples")
    require(np.ptp(noise, axis=0).any(), "noise_profile", "a section of noise", "silence")
    return noise


def _form_of(restorer: Separator) -> ProfileForm:
    if restorer.settings.profile_form is None:
        raise UserError("`noise_profile` must be absent: the network takes none, it was "
                        "trained without `unet.use_profile`")
    return restorer.settings.profile_form


def _with_profile(restorer: Separator, known: Survey, noise: np.ndarray, sample_rate: int,
                  ) -> Survey:
    """Adds the noise profile of each channel in the form that the network takes.

    The noise `(samples, 1 or channels)` is processed like the recording: at its level, and without
    hum and clicks if these stages are enabled.
    """
    if known.mono and noise.shape[1] > 1:
        noise = np.concatenate(list(known.mono.combine([noise.T])), axis=-1).T
    own = known.distinct if noise.shape[1] > 1 else [0] * len(known.distinct)
    form, stft, profiles = _form_of(restorer), restorer.settings.stft, []
    gain = restorer.gain(known.power)
    for channel in noise[:, own].T:
        audio = (gain * (channel - np.mean(channel))).astype(np.float32)
        audio = remove_hum(dsp.resample(audio, sample_rate, SAMPLE_RATE), known.hum_hz)
        audio = remove_clicks(audio, restorer.stages)
        profiles.append(form.measure(dsp.highpass(audio, stft.highpass_hz, SAMPLE_RATE))
                        if np.ptp(channel) > 0.0 else form.nothing())
    return replace(known, profiles=tuple(profiles))


# --- The analysis pass -----------------------------------------------------------------------


def _with_found_noise(restorer: Separator, known: Survey, read: Read, sample_rate: int,
                      report: Report) -> Survey:
    """Adds the noise profile from an analysis pass.

    The profile is measured in the pauses that the network hears; else in a section that certainly
    holds noise alone, though the network hears sound in it; else in the network's noise estimate,
    with its transients limited. Excerpts of `excerpts_seconds` are analysed: both ends, and some
    between them. A profile that would leave more noise in the quietest moments is not used: noise
    that comes and goes is underestimated by the mean of what the network removes.
    """
    seconds = excerpts_seconds(known.audible_samples / sample_rate) / EXCERPTS
    pairs = _estimate_noise(
        restorer, excerpts(read, known, sample_rate, with_ends=True, seconds=seconds),
        sample_rate, known, report)
    noise, origin = _noise_of(pairs, read, sample_rate, known, restorer.settings.stft.highpass_hz)
    if len(noise) < MIN_SECONDS * sample_rate or not np.ptp(noise, axis=0).any():
        return known
    profiled = _with_profile(restorer, known, noise, sample_rate)
    more_db = _measure_more_left(restorer, profiled, pairs, sample_rate)
    report(min(known.audible_samples / sample_rate, TRIAL_SECONDS))
    if more_db > MAX_MORE_DB:
        logger.info("no noise profile: it would leave %.1f dB more in the quietest moments",
                    more_db)
        return known
    return replace(profiled, profile_origin=origin)


def _estimate_noise(restorer: Separator, spans: list[list[np.ndarray]], sample_rate: int,
                    known: Survey, report: Report) -> list[Pair]:
    """Returns excerpts of a recording and their noise estimates without a profile.

    Each of `spans` is a list of waveforms that need not be adjacent.
    """
    blind, second = replace(known, silences=()), max(1, round(sample_rate))
    pairs: list[Pair] = []
    for parts in spans:
        found = []
        for part in map(as_channels, parts):
            blocks = [part[start : start + second]  # short blocks, so that `report` is called soon
                      for start in range(0, len(part), second)]
            for block, noise in restorer.separate(blocks, sample_rate, blind):
                found.append((block, noise))
                report(len(block) / sample_rate)
        if found:
            pairs.append(as_one(found))
    return pairs


def _measure_more_left(restorer: Separator, profiled: Survey, pairs: list[Pair], sample_rate: int,
                       ) -> float:
    """Returns by how many dB a profile leaves more than none in the quietest moments.

    This is the mean over frames and octaves, in the part of up to `TRIAL_SECONDS` around the
    quietest moments of the excerpts.
    """
    frame = max(2, round(FRAME_SECONDS * sample_rate))

    def powers(audio: np.ndarray) -> np.ndarray:
        return frame_powers(audio, frame, sample_rate, restorer.settings.stft.highpass_hz)

    def levels_of(audio: np.ndarray) -> np.ndarray:  # digital silence is no quiet moment
        levels = powers(audio).sum(axis=1)
        return np.where(levels > SILENT * levels.max(initial=0.0), levels, np.inf)

    length = round(TRIAL_SECONDS * sample_rate)
    quietest: list[tuple[float, int, np.ndarray, np.ndarray]] = []
    for audio, noise in pairs:
        for start in range(0, max(1, len(audio) - length // 2), length):
            part = slice(start, start + length)
            level = np.quantile(levels_of(audio[part]), QUIETEST_SHARE, method="lower")
            quietest.append((level, len(quietest), audio[part], noise[part]))
    level, _, audio, without = min(quietest)
    if level == np.inf:
        return 0.0
    sounding = replace(profiled, silences=())
    _, profiled_noise = as_one(restorer.separate([audio], sample_rate, sounding))
    levels = levels_of(audio)
    moments = np.argsort(levels)[: max(1, round(QUIETEST_SHARE * len(levels)))]
    floor = FLOOR * levels[moments, None] + np.finfo(float).tiny  # quieter octaves do not count
    left, left_without = (powers(audio - noise)[moments] + floor
                          for noise in (profiled_noise, without))
    return float(dsp.decibels(left / left_without).mean())


def _noise_of(pairs: list[Pair], read: Read, sample_rate: int, known: Survey, highpass_hz: float,
              ) -> tuple[np.ndarray, Origin]:
    """Returns the noise `(samples, channels)` of a recording and its analysed excerpts."""
    noise, why = noise_alone(pairs, sample_rate, highpass_hz), "pauses"
    if noise is None:
        section, origin, _ = finder.find_profile(
            lambda: map(as_channels, read()), sample_rate, only_certain=True)
        if section is not None and origin is not None:
            return section, origin
    # The excerpts at both ends are left out, since a tape or film may have less noise there.
    if noise is None:
        found = (_without_silence(*pair, sample_rate) for pair in pairs[1:-1] or pairs)
        noise = np.concatenate([without_strokes(one) if len(one) else one for one in found])
        why = "noise estimate"
    if known.hum_hz is None:  # otherwise the buzz would be removed from the profile as well
        noise = _with_buzz(noise, [block for block, _ in pairs], sample_rate)
    return noise, Origin(why, len(noise) / sample_rate)


def _with_buzz(noise: np.ndarray, sounds: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Returns noise `(samples, channels)` with the lines of the buzz in the excerpts added."""
    channels = []
    for channel, audio in enumerate(noise.T):
        found = buzz.find_buzz([dsp.resample(sound[:, channel], sample_rate, SAMPLE_RATE)
                                for sound in sounds])
        channels.append(buzz.add_buzz(audio, found, sample_rate) if found else audio)
    return np.stack(channels, axis=-1)


def _without_silence(audio: np.ndarray, noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns noise `(samples, channels)` without the frames in which the input is constant.

    Digital silence, such as between the reels of a film, contains no information about the noise.
    """
    frame = max(1, round(MIN_SECONDS * sample_rate))
    starts = range(0, len(audio), frame)
    return np.concatenate([noise[:0], *(noise[start:start + frame] for start in starts
                                        if np.ptp(audio[start:start + frame], axis=0).any())])
