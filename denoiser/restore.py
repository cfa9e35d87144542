"""The one way from a waveform to a restored waveform.

A recording is brought to the level and the sample rate that the network was trained at, cut into
overlapping segments, denoised, joined and brought back. What the network took away is returned
beside the recording, so that any share of it can be subtracted.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from denoiser.audio import dsp, sections, silence
from denoiser.audio.dsp import SAMPLE_RATE, Predict
from denoiser.audio.fitting import EXCERPTS_SECONDS, Fitted, excerpts, fit
from denoiser.audio.levelling import Estimates, restore_at_one_level
from denoiser.audio.mono_source import find_mono
from denoiser.audio.noise_profile import SHORTEST_SECONDS, without_strokes
from denoiser.audio.pauses import is_leader, noise_alone
from denoiser.audio.removal import Pair, Strength, as_strength, remove
from denoiser.audio.survey import Section, Survey, as_channels, survey
from denoiser.checks import UserError, require
from denoiser.classical import buzz, clicks, drones, held_notes, hum, strokes
from denoiser.network.stored import NetworkSettings

logger = logging.getLogger(__name__)

SILENT_POWER = 10.0 ** (-70.0 / 10.0)  # of the start of a stream, below which it is no measure
LARGEST_GAIN = 1e12  # the opposite of the largest sample that is read
LOUDEST = 1e4  # that a network hears, where its own level is near 0.1
MIN_ALONE_SECONDS = 2.0  # of noise that is found, and taken without being asked for
SEGMENT_SECONDS = 9.5  # restored in one step; memory grows with it


@dataclass(frozen=True)
class Restorer:
    """A network and its settings, as a function of recordings.

    Waveforms are floating point, `(samples,)` or `(samples, channels)`, at any sample rate. Each
    channel is denoised on its own, but for stereo transfers of mono carriers.

    Attributes:
        predict_spectra: The network: takes and returns `(batch, frames, bins, 2)`; with a noise
            profile it takes the list of these and the profile, `(batch, 1, bins, 2)`.
        settings: What the network needs to work as it was trained.
        segment_seconds: Length of what is restored in one step.
        declick: Whether clicks are cut out before the network hears the recording.
        mono_source: Whether the two channels of a stereo recording hold one signal, and become
            one before the network hears it: "true", "false", or "auto": where that is clear.
        listen_first: Whether a network that takes noise profiles hears up to 30 s of a recording
            before the rest, where none is given: the noise it hears there is the profile.
        dehum: Whether the lines of the mains' hum are taken out before the network hears the
            recording.
        keep_held: Whether notes that are held are given back where the network takes them for hum.
        follow_noise: Whether a recording whose noise changes is heard, and restored, in sections.
        level_noise: Whether noise that becomes louder and softer is restored at one level.
        keep_strokes: Whether what the network takes of strokes is given back, where it is told the
            noise.
        find_noise: Whether noise alone is looked for as well, by `noise.finder`; where 2 s of it
            are found, more than the network hears in pauses, and it is no leader, they are the
            profile.
    """

    predict_spectra: Callable[[Any], np.ndarray]
    settings: NetworkSettings
    segment_seconds: float = SEGMENT_SECONDS
    declick: bool = False
    mono_source: str = "false"
    listen_first: bool = False
    dehum: bool = False
    keep_held: bool = False
    follow_noise: bool = False
    level_noise: bool = False
    keep_strokes: bool = False
    find_noise: bool = False

    def __call__(self, waveform: np.ndarray, sample_rate: int,
                 strength: float | str | Strength = 1.0,
                 noise_profile: np.ndarray | None = None) -> np.ndarray:
        """Restores a whole recording.

        Args:
            waveform: `(samples,)` or `(samples, channels)`, floating point.
            sample_rate: In Hz.
            strength: Share of the noise found that is removed, in [0, 1]; "auto" for what fits the
                recording; or a `Strength`.
            noise_profile: A stretch of the recording, or of another one of the same carrier, that
                holds noise alone: `(samples,)` or `(samples, channels)`, at the same sample rate
                and level, at least 0.1 s. Each channel is denoised with its own, or all with one.

        Returns:
            The restored recording: same shape and type.

        Raises:
            ValueError: An argument has another form.
            UserError: The network returned NaN, takes no profile, or `noise_profile` is too short
                or silent.
        """
        waveform = np.asarray(waveform)
        if len(waveform) == 0:
            return waveform.copy()
        block_samples = max(1, round(self.segment_seconds * sample_rate))
        blocks = [waveform[start : start + block_samples]
                  for start in range(0, len(waveform), block_samples)]
        surveyed = self.examine(survey(blocks, sample_rate), lambda: blocks, sample_rate,
                                noise_profile)
        if noise_profile is None:
            surveyed, noise_profile = self.listen(lambda: blocks, sample_rate, surveyed)
        strength = self.fit_strength(as_strength(strength), lambda: blocks, sample_rate, surveyed,
                                     noise_profile).strength
        return np.concatenate(list(self.stream(blocks, sample_rate, strength, surveyed,
                                               noise_profile)))

    def examine(self, surveyed: Survey, read: Callable[[], Iterable[np.ndarray]],
                sample_rate: int, noise_profile: np.ndarray | None = None) -> Survey:
        """Adds to a survey its hum, its floors, and how two channels become one, as is asked for.

        Args:
            surveyed: From `survey` of all blocks.
            read: Reads the recording from its start, in blocks.
            sample_rate: In Hz.
            noise_profile: As of `__call__`: tones that are heard in it are noise.

        Raises:
            UserError: As of `__call__`, for the profile.
        """
        may_be_mono = self.mono_source != "false" and surveyed.source == (0, 1)
        if not surveyed.is_audible or not (self.dehum or self.keep_held or may_be_mono):
            return surveyed
        heard = list(itertools.chain(*excerpts(read, surveyed, sample_rate)))
        if self.dehum or self.keep_held:
            surveyed = self._examine_tones(surveyed, heard, sample_rate, noise_profile)
        if may_be_mono:
            mono, why = find_mono(np.concatenate(heard), sample_rate, self.mono_source)
            logger.info("%s: %s", "mono source" if mono else "no mono source", why)
            surveyed = replace(surveyed, mono=mono)
        return surveyed

    def _examine_tones(self, surveyed: Survey, heard: list[np.ndarray], sample_rate: int,
                       noise_profile: np.ndarray | None) -> Survey:
        """Adds the hum and the floors of a recording, of which some stretches are heard."""
        noises = (None if noise_profile is None else
                  self._check_profile(noise_profile, sample_rate, len(surveyed.source)))
        hum_hz, floors = None, []
        for channel in surveyed.distinct:
            sounds = [as_channels(one)[:, channel] for one in heard]
            at_rate = [dsp.resample(sound, sample_rate, SAMPLE_RATE) for sound in sounds]
            drones_hz = drones.find_drones(at_rate)
            if self.dehum and hum_hz is None:
                hum_hz = hum.find_hum(sounds, sample_rate, drones_hz)
            if self.keep_held:
                floor = held_notes.measure_floor(at_rate, drones_hz)
                if noises is not None and floor is not None:
                    own = channel if noises.shape[1] > 1 else 0
                    noise = dsp.resample(noises[:, own], sample_rate, SAMPLE_RATE)
                    told = held_notes.measure_floor([noise])
                    floor = floor if told is None else np.maximum(floor, told)
                floors.append(floor)
        return replace(surveyed, hum_hz=hum_hz, floors=tuple(floors))

    @property
    def hears_first(self) -> bool:
        """Whether `listen` hears recordings."""
        return self.listen_first and self.settings.profile_form is not None

    def seconds_heard_first(self, samples: int, sample_rate: int) -> float:
        """Returns how much `listen` hears of a recording whose noise does not change."""
        if not self.hears_first:
            return 0.0
        seconds = samples / sample_rate
        if seconds <= EXCERPTS_SECONDS or not self._follows(sample_rate):
            return min(seconds, EXCERPTS_SECONDS)
        pieces = len(sections.piece_starts(samples, sample_rate))
        return EXCERPTS_SECONDS + pieces * sections.PIECE_SECONDS

    def _follows(self, sample_rate: int) -> bool:
        """Whether changes of the noise are looked for."""
        return self.follow_noise and sample_rate >= sections.LOWEST_RATE

    def listen(self, read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
               surveyed: Survey, report: Callable[[float], object] = lambda seconds: None,
               ) -> tuple[Survey, np.ndarray | None]:
        """Hears the noise of a recording before it is restored.

        That is noise alone that is found where `find_noise` is on; or what is heard in its pauses,
        or, where there are none, what the network removes, less single strokes. Heard are up to
        30 s: the ends, and what lies between. Where `follow_noise` is on, so is a piece of 4 s in
        each half minute; where the noise of these differs, each section of the recording is
        examined and heard by itself.

        Args:
            read: Reads the recording from its start, in blocks.
            sample_rate: In Hz.
            surveyed: From `survey` of all blocks, and `examine`.
            report: Called with the seconds that were heard since the last call.

        Returns:
            The survey, with its sections where the noise changes; and the noise, `(samples,
            channels)`, which serves as a profile. None where sections have their own,
            `listen_first` is off, the network takes no profiles, or there is nothing to be heard.
        """
        if not self.hears_first or not surveyed.is_audible:
            return surveyed, None
        is_short = surveyed.audible_samples <= EXCERPTS_SECONDS * sample_rate
        changes: list[int] = []  # counted without silence
        if self._follows(sample_rate) and not is_short:
            changes = sections.far_apart(
                self._find_changes(read, sample_rate, surveyed, report), surveyed.audible_samples,
                sample_rate)
        if not changes:
            first = Estimates() if is_short else None
            pairs = self._hear(excerpts(read, surveyed, sample_rate, with_ends=True),
                               sample_rate, surveyed, report, first)
            if self._follows(sample_rate) and is_short:
                changes = sections.changes_within(*pairs[0], sample_rate)
            changes = sections.far_apart(changes, surveyed.audible_samples, sample_rate)
            if not changes:
                surveyed = replace(surveyed, first_estimates=first)
                return self._with_noise_alone(read, sample_rate, surveyed, pairs)
        changes = [silence.place(change, surveyed.silences) for change in changes]
        logger.info("its noise changes at %s s; each section is heard by itself",
                    ", ".join(f"{change / sample_rate:.1f}" for change in changes))
        found = []
        for start, stop in itertools.pairwise([0, *changes, surveyed.samples]):

            def read_part(start: int = start, stop: int = stop) -> Iterator[np.ndarray]:
                return sections.blocks_between(read(), start, stop)

            part = replace(surveyed.between(start, stop), hum_hz=None, floors=())
            if self.dehum or self.keep_held:
                sounds = list(itertools.chain(*excerpts(read_part, part, sample_rate)))
                part = self._examine_tones(part, sounds, sample_rate, None)
            pairs = self._hear(excerpts(read_part, part, sample_rate, with_ends=True),
                               sample_rate, part)
            pauses = noise_alone(pairs, sample_rate, self.settings.stft.highpass_hz)
            noise = self._noise_of(pairs, sample_rate, part, pauses)
            if noise is not None:  # profiles are small, and there may be many sections
                part = replace(part, profiles=self._profiles(noise, sample_rate, part))
            found.append(Section(start, stop, part))
        return replace(surveyed, sections=tuple(found)), None

    def _hear(self, stretches: list[list[np.ndarray]], sample_rate: int, surveyed: Survey,
              report: Callable[[float], object] = lambda seconds: None,
              estimates: Estimates | None = None) -> list[Pair]:
        """Returns stretches of a recording, and what is removed from each where nothing is told.

        Args:
            stretches: Each in parts that do not follow on each other.
            sample_rate: In Hz.
            surveyed: Of the recording.
            report: As of `listen`.
            estimates: Keeps what the network hears, and makes, of each segment.
        """
        pairs: list[Pair] = []
        for parts in stretches:
            found = [self._hear_part(as_channels(part), sample_rate, surveyed, report, estimates)
                     for part in parts]
            if found:
                pairs.append((as_channels(np.concatenate(parts)), np.concatenate(found)))
        return pairs

    def _hear_part(self, heard: np.ndarray, sample_rate: int, surveyed: Survey,
                   report: Callable[[float], object], estimates: Estimates | None) -> np.ndarray:
        """Returns what is removed from a part, `(samples, channels)`, where nothing is told."""
        noise, done, second = np.empty_like(heard), 0, max(1, round(sample_rate))
        blocks = [heard[start : start + second]  # so that `report` is told early
                  for start in range(0, len(heard), second)]
        known = replace(surveyed, silences=(), sections=(), first_estimates=estimates)
        once = replace(self, level_noise=False)
        # Not what a subclass makes of it.
        for block, found in Restorer.separate(once, blocks, sample_rate, known):
            noise[done : done + len(block)] = found
            done += len(block)
            report(len(block) / sample_rate)
        return noise

    def _with_noise_alone(self, read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
                          surveyed: Survey, pairs: list[Pair]) -> tuple[Survey, np.ndarray | None]:
        """Returns the noise that is found alone, and where; or what was heard, if that is longer.

        What is found may have a film's sync pop in it, which is limited as a stroke is.
        """
        pauses = noise_alone(pairs, sample_rate, self.settings.stft.highpass_hz)
        span = self._find_alone(read, sample_rate)
        if span is not None and (pauses is None or len(pauses) < span[1] - span[0]):
            noise = np.concatenate(list(sections.blocks_between(
                map(as_channels, read()), *span)))
            if not is_leader(noise, pairs, sample_rate, self.settings.stft.highpass_hz):
                return replace(surveyed, noise_alone=span), without_strokes(noise)
        return surveyed, self._noise_of(pairs, sample_rate, surveyed, pauses)

    def _find_alone(self, read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
                    ) -> silence.Span | None:
        """Returns where a recording holds noise alone for 2 s and more, in samples."""
        from denoiser.noise import finder  # its filters load slowly, and a mistyped call needs none

        if not self.find_noise or sample_rate < finder.LOWEST_RATE:
            return None
        found, _ = finder.search(map(as_channels, read()), sample_rate, MIN_ALONE_SECONDS)
        chosen = finder.choose_profile(found)
        if chosen is None:
            return None
        start, stop = (round(seconds * sample_rate)
                       for seconds in (chosen.start_seconds, chosen.end_seconds))
        return start, min(stop, start + round(EXCERPTS_SECONDS * sample_rate))

    def _noise_of(self, pairs: list[Pair], sample_rate: int, surveyed: Survey,
                  pauses: np.ndarray | None) -> np.ndarray | None:
        """Returns the noise of stretches that were heard, `(samples, channels)`: their pauses'."""
        noise = pauses
        if noise is None:  # at its ends, a tape or a film may have less noise than between
            found = (_without_silence(*pair, sample_rate) for pair in pairs[1:-1] or pairs)
            noise = np.concatenate([without_strokes(one) if len(one) else one for one in found])
        if surveyed.hum_hz is None:  # which would be taken out of the profile as well
            noise = _with_buzz(noise, [heard for heard, _ in pairs], sample_rate)
        if len(noise) < SHORTEST_SECONDS * sample_rate or not np.ptp(noise, axis=0).any():
            return None
        return noise

    def _find_changes(self, read: Callable[[], Iterable[np.ndarray]], sample_rate: int,
                      surveyed: Survey, report: Callable[[float], object]) -> list[int]:
        """Returns the samples at which the noise of a long recording changes, without silence."""
        def sound() -> Iterator[np.ndarray]:
            return silence.leave_out(read(), surveyed.silences)

        length = round(sections.PIECE_SECONDS * sample_rate)
        starts = sections.piece_starts(surveyed.audible_samples, sample_rate)
        pieces = []
        for piece in sections.cut(sound(), ((start, start + length) for start in starts)):
            pair, = self._hear([[piece]], sample_rate, surveyed, report)
            pieces.append(sections.band_powers(*pair, sample_rate))
        changes = sections.find_changes(pieces, 1)
        found = []
        for change, (before, after) in zip(
                changes, sections.around_changes(pieces, changes), strict=True):
            start, stop = starts[change - 1], starts[change] + length
            between = next(sections.cut(sound(), [(start, stop)]))
            pair, = self._hear([[between]], sample_rate, surveyed)
            place = sections.place_change(before, sections.band_powers(*pair, sample_rate), after)
            if place is not None:
                found.append(start + round(place * sections.FRAME_SECONDS * sample_rate))
        return found

    def fit_strength(self, strength: Strength, read: Callable[[], Iterable[np.ndarray]],
                     sample_rate: int, surveyed: Survey, noise_profile: np.ndarray | None = None,
                     report: Callable[[float], object] = lambda seconds: None) -> Fitted:
        """Finds the strength that fits a recording, where that is asked for.

        The network hears up to 30 s for it, spread over the recording.

        Args:
            strength: Any other than "auto" stays as it is.
            read: Reads the recording from its start, in blocks.
            sample_rate: In Hz.
            surveyed: From `survey` of all blocks.
            noise_profile: As of `__call__`.
            report: As of `listen`.
        """
        if not strength.is_auto:
            return Fitted(strength, "")

        def pairs() -> Iterator[Pair]:
            if surveyed.sections:
                longest = round(EXCERPTS_SECONDS * sample_rate / len(surveyed.sections))
                for section in surveyed.sections:
                    stop = min(section.stop, section.start + longest)
                    yield _as_one(self.separate(
                        sections.blocks_between(read(), section.start, stop), sample_rate,
                        section.surveyed.between(0, stop - section.start)))
                    report((stop - section.start) / sample_rate)
                return
            known = replace(surveyed, silences=())
            for part in itertools.chain(*excerpts(read, surveyed, sample_rate)):
                yield from self.separate([part], sample_rate, known, noise_profile)
                report(len(part) / sample_rate)

        return fit(strength, pairs(), sample_rate)

    def stream(self, blocks: Iterable[np.ndarray], sample_rate: int,
               strength: float | str | Strength = 1.0, surveyed: Survey | None = None,
               noise_profile: np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Restores a recording that comes, and goes, in blocks; memory does not grow with it.

        Args:
            blocks: Waveforms of any length that follow on each other.
            sample_rate: In Hz.
            strength: As of `__call__`; "auto" goes by the first segment.
            surveyed: From `survey` of all blocks, `examine`, and `listen`, whose noise is then the
                profile: then the result is that of `__call__`. When absent, the first segment
                alone is measured; where that is all but silent, the level is left as it is.
            noise_profile: As of `__call__`.

        Yields:
            Each block, restored.

        Raises:
            ValueError: An argument has another form.
            UserError: The recording holds NaN or infinite samples, or as of `__call__`.
        """
        strength = as_strength(strength)
        pairs = self.separate(blocks, sample_rate, surveyed, noise_profile)
        if strength.is_auto:
            first: list[Pair] = []
            while sum(len(pair[0]) for pair in first) < self.segment_seconds * sample_rate and (
                    pair := next(pairs, None)) is not None:
                first.append(pair)
            if first:
                strength = fit(strength, [_as_one(first)], sample_rate).strength
            pairs = itertools.chain(first, pairs)
        for block, removed in remove(pairs, sample_rate, strength):
            yield (block - removed).astype(block.dtype, copy=False)

    def separate(self, blocks: Iterable[np.ndarray], sample_rate: int,
                 surveyed: Survey | None = None, noise_profile: np.ndarray | None = None,
                 remember: Callable[[Predict], Predict] = lambda predict: predict,
                 ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields each block, and the noise that the network finds in it, in the same form.

        Args and errors are those of `stream`. `remember` wraps the function that denoises a
        segment, as `journal.Journal.around` does. Channels that are constant hold no noise, and
        identical channels get identical results.
        """
        if isinstance(blocks, np.ndarray):
            raise ValueError("`blocks` must be several waveforms. Received: one array of shape "
                             f"{blocks.shape}; call the restorer on it, or put it into a list")
        blocks = iter(blocks)
        if surveyed is None:
            blocks, surveyed = self._survey_start(blocks, sample_rate)
        distinct = surveyed.distinct
        if not distinct:
            yield from ((block, np.zeros_like(block)) for block in blocks)
            return
        if noise_profile is not None:
            surveyed = replace(surveyed, profiles=self._profiles(noise_profile, sample_rate,
                                                                 surveyed))
            del noise_profile  # 30 s of it are 46 MB
        separate_parts = (self._separate_sounds if surveyed.silences else
                          self._separate_sections if surveyed.sections else None)
        if separate_parts:
            yield from separate_parts(blocks, sample_rate, surveyed, remember)
            return
        audible = [channel for channel, source in enumerate(surveyed.source) if source >= 0]
        order = [distinct.index(surveyed.source[channel]) for channel in audible]
        heard: deque[np.ndarray] = deque()  # blocks that the network has not returned yet

        def hear() -> Iterator[np.ndarray]:
            for block in blocks:
                channels = as_channels(block)
                if channels.shape[1] != len(surveyed.source):
                    raise ValueError(f"`blocks` must all have {len(surveyed.source)} channels. "
                                     f"Received: {block.shape}")
                if not np.isfinite(channels).all():
                    raise UserError("the recording holds NaN or infinite samples")
                if len(block):
                    heard.append(block)
                    yield channels[:, distinct].T

        heard_blocks = surveyed.mono.combine(hear()) if surveyed.mono else hear()
        pieces = self._estimates(heard_blocks, sample_rate, surveyed, surveyed.profiles, remember)
        if surveyed.mono:
            pieces = surveyed.mono.spread(pieces)
        estimate = np.zeros((len(distinct), 0), np.float32)
        for piece in pieces:
            if not np.isfinite(piece).all():
                raise UserError("the network returned NaN; are the weights whole?")
            estimate = np.concatenate([estimate, piece], axis=-1)
            while heard and len(heard[0]) <= estimate.shape[-1]:
                block = heard.popleft()
                found, estimate = np.split(estimate, [len(block)], axis=-1)
                noise = np.zeros_like(as_channels(block))
                noise[:, audible] = as_channels(block)[:, audible] - found[order].T
                yield block, noise.reshape(block.shape)

    def _separate_sounds(self, blocks: Iterable[np.ndarray], sample_rate: int, surveyed: Survey,
                         remember: Callable[[Predict], Predict]) -> Iterator[Pair]:
        """Does what `separate` does, each sound between two silences by itself."""
        fade = round(2.0 * sections.FADE_SECONDS * sample_rate)

        def noises(tape: sections.Tape) -> Iterator[np.ndarray]:
            for (start, stop), is_silent in silence.spans(surveyed.silences, surveyed.samples):
                sound = tape.play(start, stop, stop)
                if is_silent:
                    yield from (np.zeros_like(block) for block in sound)
                    continue
                # Not what a subclass makes of it.
                yield from (noise for _, noise in Restorer.separate(
                    self, sound, sample_rate, surveyed.between(start, stop, fade),
                    remember=remember))

        return _with_noise(blocks, noises)

    def _separate_sections(self, blocks: Iterable[np.ndarray], sample_rate: int,
                           surveyed: Survey, remember: Callable[[Predict], Predict],
                           ) -> Iterator[Pair]:
        """Does what `separate` does, section by section."""
        half = round(0.5 * sections.FADE_SECONDS * sample_rate)

        def parts(tape: sections.Tape) -> Iterator[Iterator[np.ndarray]]:
            for section in surveyed.sections:
                # Without more of its neighbours than is faded: they do not hum as it does.
                sound = tape.play(max(0, section.start - half), section.stop + half,
                                  section.stop - half)
                known = replace(section.surveyed, silences=())  # there is none
                pairs = Restorer.separate(self, sound, sample_rate, known, remember=remember)
                yield (noise for _, noise in pairs)

        return _with_noise(blocks, lambda tape: sections.join(parts(tape), 2 * half))

    def each(self, waveforms: np.ndarray, noise_profile: np.ndarray | None = None) -> np.ndarray:
        """Restores mono waveforms `(batch, samples)` at 44.1 kHz, each by itself.

        What it returns is not checked: where a network in training returns NaN, so does this. A
        noise profile `(samples,)` is that of all of them.

        Raises:
            UserError: As of `__call__`; for NaN, where the network hears a waveform first.
        """
        restored = []
        for waveform in waveforms:
            known = self.examine(survey([waveform], SAMPLE_RATE),
                                 lambda waveform=waveform: [waveform], SAMPLE_RATE, noise_profile)
            if not known.is_audible:
                restored.append(waveform)
                continue
            noise, profiles = noise_profile, ()
            if noise is None:
                known, noise = self.listen(lambda waveform=waveform: [waveform], SAMPLE_RATE,
                                           known)
            if known.sections:
                restored.append(np.concatenate([block - removed for block, removed in
                                                self.separate([waveform], SAMPLE_RATE, known)]))
                continue
            if noise is not None:
                profiles = self._measure_profiles(noise.reshape(1, -1), SAMPLE_RATE, known)
            parts = [(waveform[start:stop], is_silent) for (start, stop), is_silent
                     in silence.spans(known.silences, known.samples)]
            restored.append(np.concatenate([part if is_silent else np.concatenate(
                list(self._estimates([part[None]], SAMPLE_RATE, known, profiles)), axis=-1)[0]
                for part, is_silent in parts]))
        return np.stack(restored)

    def _check_profile(self, noise: np.ndarray, sample_rate: int, channels: int) -> np.ndarray:
        """Returns a noise profile as `(samples, 1 or channels)`, or raises UserError."""
        noise = as_channels(np.asarray(noise))
        if self.settings.profile_form is None:
            raise UserError("`noise_profile` must be absent: the network takes none, it was "
                            "trained without `unet.use_profile`")
        seconds = len(noise) / sample_rate
        # The ends of a stretch are rounded to samples, which may take one away.
        require(len(noise) >= SHORTEST_SECONDS * sample_rate - 1.0, "noise_profile",
                f"at least {SHORTEST_SECONDS:g} s long", f"{seconds:.3f} s")
        require(noise.shape[1] in (1, channels), "noise_profile",
                f"of one channel or of {channels}, as the recording",
                f"{noise.shape[1]} channels")
        require(np.isfinite(noise).all(), "noise_profile", "finite", "NaN or infinite samples")
        require(np.ptp(noise, axis=0).any(), "noise_profile", "a stretch of noise", "silence")
        return noise

    def _profiles(self, noise: np.ndarray, sample_rate: int, surveyed: Survey,
                  ) -> tuple[np.ndarray, ...]:
        """Returns the profiles of a noise that is `noise_profile` of `__call__`; it is checked."""
        noise = self._check_profile(noise, sample_rate, len(surveyed.source))
        if surveyed.mono and noise.shape[1] > 1:
            noise = np.concatenate(list(surveyed.mono.combine([noise.T])), axis=-1).T
        own = surveyed.distinct if noise.shape[1] > 1 else [0] * len(surveyed.distinct)
        return self._measure_profiles(noise[:, own].T, sample_rate, surveyed)

    def _measure_profiles(self, noises: np.ndarray, sample_rate: int, surveyed: Survey,
                          ) -> tuple[np.ndarray, ...]:
        """Returns the profile of each of the noises `(channels, samples)` as the network takes it.

        They are heard as the recording is: at its level, and without its hum and clicks where
        these are taken out.
        """
        form, stft, profiles = self.settings.profile_form, self.settings.stft, []
        gain = self._gain(surveyed.power)
        for noise in noises:
            audio = (gain * (noise - np.mean(noise))).astype(np.float32)
            audio = self._without_hum_and_clicks(dsp.resample(audio, sample_rate, SAMPLE_RATE),
                                                 surveyed.hum_hz)
            profiles.append(form.measure(dsp.highpass(audio, stft.highpass_hz, SAMPLE_RATE))
                            if np.ptp(noise) > 0.0 else form.nothing())
        return tuple(profiles)

    def _without_hum_and_clicks(self, audio: np.ndarray, hum_hz: float | None) -> np.ndarray:
        """Returns `(samples,)` at the network's rate as the network hears it."""
        if hum_hz is not None:
            audio = hum.remove_hum(audio, hum_hz)
        return clicks.remove_clicks(audio) if self.declick else audio

    def _gain(self, power: float) -> float:
        """Returns the gain at which a recording of this power has the network's level."""
        if self.settings.reference_dbfs is None or power <= 0.0:
            return 1.0
        return min(float(np.sqrt(10.0 ** (self.settings.reference_dbfs / 10.0) / power)),
                   LARGEST_GAIN)

    def _survey_start(self, blocks: Iterator[np.ndarray], sample_rate: int,
                      ) -> tuple[Iterator[np.ndarray], Survey]:
        """Measures the level of the first segment; returns all blocks and what is known."""
        first, samples = [], 0
        for block in blocks:
            first.append(block)
            samples += len(block)
            if samples >= self.segment_seconds * sample_rate:
                break
        known = survey(first, sample_rate)
        # A channel that is silent so far, or like another one, need not stay so. Nor does a leader
        # with no more than dither in it say how loud the programme will be.
        every = replace(known, source=tuple(range(len(known.source))), silences=(),
                        power=known.power if known.power > SILENT_POWER else 0.0)
        return itertools.chain(first, blocks), self.examine(every, lambda: first, sample_rate)

    def _estimates(self, blocks: Iterable[np.ndarray], sample_rate: int, surveyed: Survey,
                   profiles: tuple[np.ndarray, ...] = (),
                   remember: Callable[[Predict], Predict] = lambda predict: predict,
                   ) -> Iterator[np.ndarray]:
        """Yields the denoised recording in pieces `(channels, samples)`, float32.

        Together they are at least as long as the blocks `(channels, samples)`. What lies above
        half the network's sample rate is not in them.
        """
        settings, gain = self.settings, self._gain(surveyed.power)
        floors = [None if floor is None else gain**2 * floor for floor in surveyed.floors]
        if surveyed.mono:  # which stands between them
            floors = floors[:1]
        predict = functools.partial(self._predict, profiles=profiles, hum_hz=surveyed.hum_hz,
                                    floors=floors, estimates=surveyed.first_estimates)
        # A single sample can be larger than anything that the network was trained on.
        pieces = (np.clip(gain * block, -LOUDEST, LOUDEST).astype(np.float32) for block in blocks)
        pieces = dsp.resample_blocks(pieces, sample_rate, SAMPLE_RATE)
        pieces = dsp.stream_in_segments(
            remember(predict), pieces, round(self.segment_seconds * SAMPLE_RATE),
            round(settings.context_seconds * SAMPLE_RATE),
            # Clicks are looked for in blocks that lie at the same places in every segment.
            math.lcm(settings.stft.hop_size * 2**settings.unet.depth, clicks.HOP))
        for piece in dsp.resample_blocks(pieces, SAMPLE_RATE, sample_rate):
            yield piece / np.float32(gain)

    def _predict(self, waveforms: np.ndarray, profiles: tuple[np.ndarray, ...],
                 hum_hz: float | None, floors: list[np.ndarray | None],
                 estimates: Estimates | None = None) -> np.ndarray:
        """Denoises `(channels, samples)` at the network's rate and level."""
        stft, restored, pairs = self.settings.stft, [], []
        first = estimates.find(waveforms) if estimates is not None else None
        # One channel at a time: memory does not grow with their number.
        for number, channel in enumerate(waveforms):
            network, power = self.predict_spectra, None
            if profiles:
                network = functools.partial(self._predict_knowing, profile=profiles[number])
                power = self._power_of(profiles[number])
            predict = dsp.in_spectral_domain(network, stft.win_size, stft.hop_size,
                                             stft.highpass_hz, SAMPLE_RATE)
            heard, estimate = (first[number] if first is not None else
                               (self._without_hum_and_clicks(channel, hum_hz), None))

            def restore(audio: np.ndarray, predict: Predict = predict) -> np.ndarray:
                return predict(audio[None])[0]

            found = (restore_at_one_level(restore, heard, stft, power, estimate)
                     if self.level_noise else restore(heard))
            pairs.append((heard, found))
            if self.keep_strokes and power is not None:
                found = strokes.give_back(heard, found, power, stft)
            if floors and floors[number] is not None:
                found = held_notes.give_back(heard, found, floors[number])
            restored.append(found)
        if estimates is not None and first is None and not (profiles or self.level_noise):
            estimates.keep(waveforms, pairs)  # it is being heard first: nothing is known yet
        return np.stack(restored)

    def _power_of(self, profile: np.ndarray) -> np.ndarray | None:
        """Returns the mean power of a noise in each bin; None where the profile tells none."""
        form = self.settings.profile_form
        return form.mean_power(profile)[0] if form is not None and profile.any() else None

    def _predict_knowing(self, spectra: np.ndarray, profile: np.ndarray) -> np.ndarray:
        return self.predict_spectra([spectra, profile[None]])


def _with_noise(blocks: Iterable[np.ndarray],
                find: Callable[[sections.Tape], Iterable[np.ndarray]]) -> Iterator[Pair]:
    """Yields each block with its noise, which `find` yields in pieces of other lengths."""
    heard: deque[np.ndarray] = deque()  # blocks whose noise is not known yet

    def hear() -> Iterator[np.ndarray]:
        for block in blocks:
            if len(block):
                heard.append(block)
                yield block

    waiting, sound = None, hear()
    for noise in find(sections.Tape(sound)):
        waiting = noise if waiting is None else np.concatenate([waiting, noise])
        while heard and len(heard[0]) <= len(waiting):
            found, waiting = np.split(waiting, [len(heard[0])])
            yield heard.popleft(), found
    # To its very end, where a reader says what was damaged.
    yield from ((heard.popleft(), np.zeros_like(block)) for block in sound)


def _as_one(pairs: Iterable[Pair]) -> Pair:
    """Returns blocks that follow on each other, and the noise found in them, as one."""
    heard, noise = zip(*pairs, strict=True)
    return np.concatenate(heard), np.concatenate(noise)


def _with_buzz(noise: np.ndarray, sounds: list[np.ndarray], sample_rate: int) -> np.ndarray:
    """Returns noise `(samples, channels)` with what it lacks of the buzz of stretches like it."""
    channels = []
    for channel, audio in enumerate(noise.T):
        found = buzz.find_buzz([dsp.resample(sound[:, channel], sample_rate, SAMPLE_RATE)
                                for sound in sounds])
        channels.append(buzz.add_buzz(audio, found, sample_rate) if found else audio)
    return np.stack(channels, axis=-1)


def _without_silence(heard: np.ndarray, noise: np.ndarray, sample_rate: int) -> np.ndarray:
    """Returns noise `(samples, channels)` less the frames in which what was heard is constant.

    Digital silence, as between the reels of a film, says nothing about the noise.
    """
    frame = max(1, round(SHORTEST_SECONDS * sample_rate))
    starts = range(0, len(heard), frame)
    return np.concatenate([noise[:0], *(noise[start:start + frame] for start in starts
                                        if np.ptp(heard[start:start + frame], axis=0).any())])
