"""Writes and reads lists of places in a recording: CSV, label tracks of Audacity, cue sheets.

A label track is a text file with one label a line: start and end in seconds, and a text, separated
by tabs (Audacity Manual, "Importing and Exporting Labels").
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from historical_denoiser.audio.removal import Pair
from historical_denoiser.core.checks import UserError, reason_of
from historical_denoiser.core.command_line import printable
from historical_denoiser.restoration.click_list import Click

COLUMNS = ("start_s", "length_s", "channels", "strength_db")
IN_TEXT = re.compile(r"channels? (\d+(?:\+\d+)*)")  # in the text of a label
FADE_SECONDS = 0.001  # before and after a click that is kept

Label = tuple[float, float, str]  # start and end in seconds, text


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Writes a label track."""
    path.write_text("".join(f"{start:.6f}\t{stop:.6f}\t{text}\n" for start, stop, text in labels),
                    encoding="utf-8")


def label_of(click: Click, sample_rate: int) -> Label:
    """Returns the label of a click."""
    names = "+".join(map(str, click.channels))
    return (click.start / sample_rate, click.stop / sample_rate,
            f"click, channel{'s' * (len(click.channels) > 1)} {names}, {click.strength_db:.1f} dB")


def write_clicks(path: Path, clicks: Iterable[Click], sample_rate: int) -> None:
    """Writes clicks as CSV.

    Args:
        path: The file, with start and length in seconds, channels as 1+2, and strength in dB.
        clicks: The clicks.
        sample_rate: Sample rate in Hz of the recording.
    """
    _write_table(path, COLUMNS, (
        (f"{click.start / sample_rate:.6f}", f"{(click.stop - click.start) / sample_rate:.6f}",
         "+".join(map(str, click.channels)), f"{click.strength_db:.1f}") for click in clicks))


def write_cue_sheet(path: Path, file: str, starts: Iterable[float]) -> None:
    """Writes a cue sheet, which counts in 1/75 s.

    Args:
        path: The cue sheet.
        file: Name of the audio file that holds the tracks.
        starts: Starts of the tracks in seconds.
    """
    quoted = printable(file).replace('"', "'")
    lines = [f'FILE "{quoted}" WAVE']
    for number, start in enumerate(starts, 1):
        frames = math.floor(75.0 * start)
        lines += [f"  TRACK {number:02d} AUDIO", f'    TITLE "Track {number}"',
                  f"    INDEX 01 {frames // 4500:02d}:{frames // 75 % 60:02d}:{frames % 75:02d}"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")


def write_tracks(path: Path, tracks: Iterable[tuple[str, float, float]]) -> None:
    """Writes the names of the files of tracks, with their start and length in seconds, as CSV."""
    _write_table(path, ("file", *COLUMNS[:2]), (
        (name, f"{start:.6f}", f"{length:.6f}") for name, start, length in tracks))


def _write_table(path: Path, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    # Names of files need not be valid UTF-8.
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def read_clicks(path: Path) -> list[tuple[float, float, tuple[int, ...]]]:
    """Reads a CSV list of clicks or a label track that a user has edited.

    Returns:
        Start and end in seconds, and the channels, from 1; none for all of them.

    Raises:
        UserError: It cannot be read, or a line has another form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"`inference.keep_clicks` must be a list of clicks; {path} cannot be read "
                        f"as text ({reason_of(error)})") from error
    is_table = text.startswith(COLUMNS[0]) or path.suffix.lower() == ".csv"
    found = []
    for number, row in enumerate(csv.reader(io.StringIO(text), delimiter=",\t"[not is_table]), 1):
        # Audacity adds a line that begins with a backslash where frequencies are selected.
        if not any(row) or row[0] == COLUMNS[0] or row[0].startswith("\\"):
            continue
        try:
            start, second = float(row[0]), float(row[1])
            stop = start + second if is_table else second
            names = (row[2:] or [""])[0]
            if not is_table:
                match = IN_TEXT.search(names)
                names = match[1] if match else ""
            if not 0.0 <= start <= stop < math.inf:
                raise ValueError(names)
            found.append((start, stop, tuple(int(name) for name in names.split("+") if name)))
        except (ValueError, IndexError) as error:
            form = ",".join(COLUMNS) if is_table else "start, end and text, separated by tabs"
            raise UserError(f"{path}: line {number} must be {form}, the times in seconds. "
                            f"Received: {','.join(row)!r}") from error
    return found


class Kept:
    """The clicks that stay as they are in the recording."""

    def __init__(self, path: Path | None, sample_rate: int, channels: int) -> None:
        """Reads the list at `path`, if any, for a recording with this rate and these channels.

        Raises:
            UserError: The list cannot be read, or names a channel that the recording lacks.
        """
        rows = [] if path is None else read_clicks(path)
        named = {channel for *_, channels_of_row in rows for channel in channels_of_row}
        if missing := named - set(range(1, channels + 1)):
            raise UserError(f"{path}: the channels must be 1 to {channels}, as the recording has. "
                            f"Received: {min(missing)}")
        self._fade = max(1, round(FADE_SECONDS * sample_rate))
        self._starts = np.array([round(start * sample_rate) for start, _, _ in rows], np.int64)
        self._stops = np.array([round(stop * sample_rate) for _, stop, _ in rows], np.int64)
        self._channels = [[channel - 1 for channel in row[2]] for row in rows]  # empty: all
        self.number = len(rows)

    def holds(self, click: Click) -> bool:
        """Returns whether a click lies in one that is kept."""
        inside = (self._starts <= click.start) & (self._stops >= click.stop)
        return any(not kept or set(kept).issuperset(channel - 1 for channel in click.channels)
                   for kept in (self._channels[number] for number in np.flatnonzero(inside)))

    def spare(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields blocks `(samples, channels)` with what is to be subtracted, but not from clicks.

        Nothing is subtracted between the first and the last sample of a click; before and after it
        are fades.
        """
        done, fade = 0, self._fade
        for block, noise in pairs:
            size = len(block)
            for number in np.flatnonzero((self._starts - fade < done + size)
                                         & (self._stops + fade > done)):
                start, stop = self._starts[number] - done, self._stops[number] - done
                inside = np.arange(max(start - fade, 0), min(stop + fade, size))
                outside = np.maximum(start - inside, inside - (stop - 1))
                share = np.clip(outside / fade, 0.0, 1.0)
                noise = noise.copy()
                channels = self._channels[number] or slice(None)
                noise[inside[0]:inside[-1] + 1, channels] *= share[:, None]
            done += size
            yield block, noise
