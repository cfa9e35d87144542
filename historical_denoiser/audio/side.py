"""Finds the tracks of a disc's side or a tape: what lies between long pauses. See `TrackFinder`."""

import numpy as np
import scipy

from historical_denoiser.audio.blocks import Frames
from historical_denoiser.audio.pauses import FRAME_SECONDS, frame_powers, is_pause
from historical_denoiser.audio.silence import Span, find_runs

MIN_PAUSE_SECONDS = 1.5  # between two tracks
MAX_NOISE_SECONDS = 0.6  # sound in a pause, such as a knock, that does not divide it
MIN_TRACK_SECONDS = 20.0  # a shorter one is a part of the track on the other side of a pause
LEAD_SECONDS, TAIL_SECONDS = 0.3, 1.0  # of a pause that belong to the track after and before it


class TrackFinder:
    """Passes over a recording and its noise estimate, and finds the tracks."""

    def __init__(self, sample_rate: int, highpass_hz: float) -> None:
        """Begins; frequencies below `highpass_hz`, all of which are removed, are ignored."""
        self._rate, self._samples = sample_rate, 0
        self._frame = max(2, round(FRAME_SECONDS * sample_rate))
        self._frames = Frames(self._frame)
        self._highpass = scipy.signal.butter(2, max(highpass_hz, 1.0), "highpass", output="sos",
                                             fs=sample_rate)
        self._state: np.ndarray | None = None
        self._pauses = [np.zeros(0, bool)]

    def add(self, recording: np.ndarray, noise: np.ndarray) -> None:
        """Adds the next samples and their noise estimate, both `(samples, channels)`."""
        both = np.stack([noise, recording - noise], axis=1)
        if self._state is None:
            self._state = np.zeros((len(self._highpass), 2, *both.shape[1:]))
        both, self._state = scipy.signal.sosfilt(self._highpass, both, axis=0, zi=self._state)
        self._samples += len(both)
        frames = self._frames.add(both)
        if len(frames):
            noise_powers, left = (frame_powers(frames[:, :, kind].reshape(-1, both.shape[2]),
                                               self._frame, self._rate, 0.0) for kind in (0, 1))
            is_silent = (noise_powers + left).sum(axis=1) == 0.0
            self._pauses.append(is_silent | is_pause(noise_powers, left))

    def find(self) -> list[Span]:
        """Returns the tracks in rising order, with a little of the pauses around each."""
        pauses, count = np.concatenate(self._pauses), self._samples // self._frame
        knock = round(MAX_NOISE_SECONDS / FRAME_SECONDS)
        # Beyond both ends is silence.
        pauses = scipy.ndimage.binary_closing(np.pad(pauses, 2 * knock, constant_values=True),
                                              np.ones(knock))[2 * knock:-2 * knock]
        least = MIN_PAUSE_SECONDS / FRAME_SECONDS
        gaps = [(int(start), int(stop)) for start, stop in find_runs(pauses)
                if stop - start >= least or (start == 0 or stop == count)]
        sounds = [(stop, start) for (_, stop), (start, _) in zip(
            [(0, 0), *gaps], [*gaps, (count, count)], strict=True) if start > stop]
        merged = _join_short(sounds, MIN_TRACK_SECONDS / FRAME_SECONDS)
        lead, tail = (round(seconds * self._rate) for seconds in (LEAD_SECONDS, TAIL_SECONDS))
        tracks: list[Span] = []
        for number, (start, stop) in enumerate(merged):
            following = merged[number + 1][0] if number + 1 < len(merged) else None
            first, last = start * self._frame, stop * self._frame
            end = self._samples if following is None else (last + following * self._frame) // 2
            begin = max(first - lead, tracks[-1][1] if tracks else 0)
            tracks.append((begin, min(last + tail, end)))
        return tracks


def _join_short(sounds: list[Span], least: float) -> list[Span]:
    """Joins spans that are shorter than `least` to the neighbour after the shorter pause."""
    sounds = list(sounds)
    while len(sounds) > 1:
        number = min(range(len(sounds)), key=lambda one: sounds[one][1] - sounds[one][0])
        if sounds[number][1] - sounds[number][0] >= least:
            break
        before = sounds[number][0] - sounds[number - 1][1] if number else np.inf
        after = sounds[number + 1][0] - sounds[number][1] if number + 1 < len(sounds) else np.inf
        first = number - 1 if before <= after else number
        sounds[first:first + 2] = [(sounds[first][0], sounds[first + 1][1])]
    return sounds
