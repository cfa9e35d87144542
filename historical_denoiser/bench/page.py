"""One HTML file that needs nothing else: tables, plots, spectrograms and players."""

import base64
import io
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np
import soundfile
from matplotlib.figure import Figure

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.bench.intervals import Comparison, Table
from historical_denoiser.formats import spectrogram

TEMPLATE = Path(__file__).with_name("page.html")
MP3_BYTES_PER_SECOND = 12250  # 96 kbit/s, in a format that every browser plays
MP3_COMPRESSION = 0.8  # libsndfile's setting for that rate
AUDIO_BYTES = 5_000_000  # largest sum of all clips, before Base64 adds a third
MIN_CLIP_SECONDS, CLIP_SECONDS = 0.5, 4.0
CLIP_PEAK = 0.9
PANEL_INCHES = (2.4, 1.8)
PANELS_IN_ROW = 5
MAX_ENLARGEMENT = 1.6  # of the panels of a short row
DOTS_PER_INCH = 90
PLOT_INCHES = (9.5, 4.5)
PLOT_DOTS_PER_INCH = 110
BAR_INCHES = 0.1


@dataclass(frozen=True)
class Picture:
    """An image within the page.

    Attributes:
        caption: What it shows.
        source: A data URL.
    """

    caption: str
    source: str


@dataclass(frozen=True)
class Item:
    """One sound: title, facts, a picture of its versions, and their players by name."""

    title: str
    facts: str
    picture: Picture
    players: dict[str, str]
    anchor: str = ""


@dataclass(frozen=True)
class Section:
    """Items under one heading, with links to the best, median and worst one of each method."""

    title: str
    items: list[Item]
    links: dict[str, dict[str, str]] = field(default_factory=dict)


def shorten(players: int) -> float:
    """Returns the length of clips in seconds with which the page keeps its largest size."""
    fitting = AUDIO_BYTES / (MP3_BYTES_PER_SECOND * max(1, players))
    return min(max(MIN_CLIP_SECONDS, fitting), CLIP_SECONDS)


def _data_url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encode(audio: np.ndarray) -> str:
    """Returns `(samples,)` at 44.1 kHz as MP3 in a data URL."""
    stream = io.BytesIO()
    soundfile.write(stream, audio, SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III",
                    bitrate_mode="CONSTANT", compression_level=MP3_COMPRESSION)
    return _data_url("audio/mpeg", stream.getvalue())


def _as_picture(figure: Figure, caption: str, dots_per_inch: int) -> Picture:
    stream = io.BytesIO()
    figure.savefig(stream, format="webp", dpi=dots_per_inch)
    return Picture(caption, _data_url("image/webp", stream.getvalue()))


def make_item(title: str, facts: str, sounds: dict[str, np.ndarray], seconds: float,
              anchor: str = "", players: tuple[str, ...] | None = None) -> Item:
    """Makes an item of sounds of equal length, whose clips are all scaled by the same gain.

    Args:
        title: Heading.
        facts: Text below it.
        sounds: Sounds by name; each has a spectrogram.
        seconds: Length of the clips, which are cut from the middle.
        anchor: Target of links.
        players: Names of the sounds that have players; None for all.
    """
    samples = len(next(iter(sounds.values())))
    length = min(samples, round(seconds * SAMPLE_RATE))
    start = (samples - length) // 2
    clips = {name: audio[start:start + length] for name, audio in sounds.items()}
    peak = max(float(np.abs(clip).max()) for clip in clips.values())
    gain = CLIP_PEAK / peak if peak > 0.0 else 1.0
    encoded = {name: encode(gain * clips[name]) for name in (players or clips)}
    return Item(title, facts, draw_spectrograms(sounds, title), encoded, anchor)


def draw_spectrograms(sounds: dict[str, np.ndarray], caption: str) -> Picture:
    """Draws spectrograms beside each other on one scale."""
    levels = {name: spectrogram.of_array(audio, SAMPLE_RATE) for name, audio in sounds.items()}
    seconds = len(next(iter(sounds.values()))) / SAMPLE_RATE
    enlargement = max(1.0, min(PANELS_IN_ROW / len(levels), MAX_ENLARGEMENT))
    width, height = (enlargement * inches for inches in PANEL_INCHES)
    figure = spectrogram.draw_beside(levels, seconds, SAMPLE_RATE, (width, height), PANELS_IN_ROW)
    return _as_picture(figure, caption, DOTS_PER_INCH)


def draw_gains(comparison: Comparison) -> list[Picture]:
    """Draws the SNR gain against the input SNR by category, and by noise."""
    pictures = []
    for category in comparison.categories:
        figure = Figure(figsize=PLOT_INCHES, layout="constrained")
        axis = figure.subplots()
        snrs_db = [snr for name, snr in comparison.cells if name == category]
        for number, method in enumerate(comparison.methods):
            means = [comparison.mean(method, "snr_gain_db", category=category, input_snr_db=snr)
                     for snr in snrs_db]
            middles = np.array([one.value for one in means])
            reach = np.abs(np.array([[one.low, one.high] for one in means]).T - middles)
            # Side by side, so that intervals do not hide each other.
            shift = 0.15 * (number - len(comparison.methods) / 2.0)
            axis.errorbar(np.array(snrs_db) + shift, middles, np.nan_to_num(reach), marker="o",
                          capsize=3, label=f"{method} ({np.mean(middles):+.1f})",
                          color=f"C{number % 10}", linestyle="-" if number < 10 else "--",
                          linewidth=3.0 if number == 0 else 1.5)
        axis.axhline(0.0, color="grey", linewidth=0.8)
        axis.set(xlabel="input SNR (dB)", ylabel="SNR gain (dB)", title=category, xticks=snrs_db)
        handles, labels = axis.get_legend_handles_labels()
        best_first = np.argsort([-np.mean(line[0].get_ydata()) for line in handles], kind="stable")
        axis.legend([handles[place] for place in best_first],
                    [labels[place] for place in best_first], fontsize=8,
                    loc="center left", bbox_to_anchor=(1.0, 0.5), title="mean of all SNRs",
                    title_fontsize=8)
        pictures.append(_as_picture(figure, f"SNR gain, {category}", PLOT_DOTS_PER_INCH))
    noises = sorted({str(row["noise"]) for row in comparison.rows})
    bars = len(comparison.methods) * len(noises)
    figure = Figure(figsize=(PLOT_INCHES[0], 1.0 + BAR_INCHES * bars), layout="constrained")
    axis = figure.subplots()
    height = 0.8 / len(comparison.methods)
    for number, method in enumerate(comparison.methods):
        gains = [comparison.mean(method, "snr_gain_db", noise=noise).value for noise in noises]
        axis.barh(np.arange(len(noises)) + height * number, gains, height, label=method,
                  color=f"C{number % 10}", hatch="" if number < 10 else "//")
    axis.set(yticks=np.arange(len(noises)) + 0.4 - height / 2.0, yticklabels=noises,
             xlabel="SNR gain (dB)")
    axis.invert_yaxis()
    axis.axvline(0.0, color="grey", linewidth=0.8)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return [*pictures, _as_picture(figure, "SNR gain by noise", PLOT_DOTS_PER_INCH)]


def render(title: str, notes: list[str], tables: list[Table], figures: list[Picture],
           sections: list[Section]) -> str:
    """Returns the page as HTML; all texts are escaped.

    Args:
        title: Heading of the page.
        notes: Paragraphs below it.
        tables, figures, sections: What follows, in this order.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(title=title, notes=notes, tables=tables, figures=figures,
                           sections=sections)
