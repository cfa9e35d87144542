"""What a user of the page can choose: carriers, suggestions of the first look, and settings.

Start reading at `settings_of`.
"""

import html
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from historical_denoiser.core.resources import CONF
from historical_denoiser.formats import audio_io, containers
from historical_denoiser.formats.audio_io import Recording
from historical_denoiser.page.sounds import Sound
from historical_denoiser.page.texts import TEXT
from historical_denoiser.restoration.click_list import Click
from historical_denoiser.run.findings import NONE, Finding
from historical_denoiser.run.inputs import OWN_RESULT
from historical_denoiser.run.look import command, suggest
from historical_denoiser.run.settings import InferenceConfig

CARRIERS = CONF / "carrier"
NO_CARRIER = "auto"
PREFIX = "inference."
NUMBER = re.compile(r"[0-9]*\.?[0-9]+")
PREVIEW_SECONDS = 10.0
LOUDEST, QUIETEST, POSITION = "loudest", "quietest", "position"  # excerpts of a preview
# Settings that the page has for itself.
OWN = ("audio", "output_dir", "context_seconds")


def recordings_of(paths: Collection[Path]) -> list[Path]:
    """Returns those files of a folder that are recordings, and no results of others there."""
    endings, stems = audio_io.AUDIO_ENDINGS | containers.ENDINGS, {path.stem for path in paths}

    def is_result(stem: str) -> bool:
        result = OWN_RESULT.fullmatch(stem)
        return bool(result) and result["origin"] in stems

    return [path for path in sorted(paths, key=lambda path: path.name.casefold())
            if path.suffix.lower() in endings and not path.name.startswith(".")
            and not is_result(path.stem)]


def carriers() -> list[tuple[str, str]]:
    """Returns a description of each carrier, and its name."""
    stems = sorted((path.stem for path in CARRIERS.glob("*.yaml")),
                   key=lambda stem: (stem != NO_CARRIER, stem))
    return [(f"{words_of(stem).name} ({stem})", stem) for stem in stems]


def words_of(carrier: str) -> SimpleNamespace:
    """Returns the `name` of a carrier, and what is `known` of it; users may add carriers."""
    return getattr(TEXT.carriers, carrier, SimpleNamespace(name=carrier, known=""))


def chosen_by(carrier: str, given: Iterable[str]) -> DictConfig:
    """Returns the settings below `inference` that a carrier chooses, and the call does not."""
    ours = OmegaConf.load(CARRIERS / f"{carrier}.yaml").get("inference", {})
    return OmegaConf.create({name: value for name, value in ours.items()
                             if f"{PREFIX}{name}" not in given})


def without_carrier(settings: InferenceConfig, carrier: str, given: Iterable[str],
                    ) -> InferenceConfig:
    """Returns the settings of a call without those that its carrier chose."""
    return replace(settings, **{name: getattr(InferenceConfig(), name)
                                for name in chosen_by(carrier, given)})


def settings_of(base: InferenceConfig, given: Iterable[str], carrier: str,
                chosen: Iterable[str] = (), **others: Any) -> InferenceConfig:
    """Returns the settings of a run, as a command with `carrier=` and these arguments has them.

    Args:
        base: The settings of the call that started the page.
        given: The keys in that call, which go before the choices of a carrier.
        carrier: Name of the carrier.
        chosen: Settings as `inference.key=value`, which go before both.
        others: More settings, by their names below `inference`.

    Raises:
        UserError: A value is out of range.
    """
    own = OmegaConf.from_dotlist([each.removeprefix(PREFIX) for each in chosen])
    return replace(OmegaConf.to_object(OmegaConf.merge(
        OmegaConf.structured(base), chosen_by(carrier, given), own)), **others)


def read_address(query: Mapping[str, str], usual: Mapping[str, Any],
                 offered: Mapping[str, Collection[str]]) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings in the query of the page's address, and what is wrong with others.

    Args:
        query: The query, which may hold keys of others, such as Gradio's.
        usual: The values of the page by key: names, shares from 0 to 1, and lists of shares.
        offered: The allowed values of each key with names.
    """
    found, wrong = {}, []
    for key in usual.keys() & query.keys():
        shares = [float(each) if NUMBER.fullmatch(each) else -1.0 for each in query[key].split(",")]
        if key in offered:
            is_good, value = query[key] in offered[key], query[key]
        else:
            is_list = isinstance(usual[key], list)
            is_good = len(shares) == (len(usual[key]) if is_list else 1) and all(
                0.0 <= share <= 1.0 for share in shares)
            value = shares if is_list else shares[0]
        if is_good:
            found[key] = value
        else:
            wrong.append(f"{key}={query[key][:40]}")
    return found, sorted(wrong)


def command_of(recording: Path, settings: InferenceConfig, *others: str) -> str:
    """Returns the command with the settings of a run, without defaults.

    `others` are the settings that are not below `inference`, each a `key=value`.
    """
    carrier = next((each[8:] for each in others if each.startswith("carrier=")), NO_CARRIER)
    usual = settings_of(InferenceConfig(), (), carrier)
    kept = settings.keep_clicks and Path(settings.keep_clicks).name
    values = vars(settings) | {"keep_clicks": kept}
    words = [f"{PREFIX}{name}={_as_word(value)}" for name, value in values.items()
             if value != getattr(usual, name) and name not in OWN]
    return command([Path(recording.name)], [*others, *words])


def _as_word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value).replace('"', "").replace(" ", "")


def suggestions(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """Returns the suggested settings, each as a label and a `key=value`."""
    return [(f"{getattr(TEXT.suggestions, setting.partition('=')[0].removeprefix(PREFIX))} "
             f"({setting})", setting) for setting in suggest(found)]


def excerpt_start(which: str, sound: Sound, position: float) -> float:
    """Returns where an excerpt of `PREVIEW_SECONDS` of a recording begins, in seconds.

    The quietest one holds no digital silence or, if there is none without it, the least of it.

    Args:
        which: `LOUDEST`, `QUIETEST` or `POSITION`.
        sound: The recording.
        position: Where the player stands, in seconds.
    """
    seconds = sound.samples / sound.rate
    if which == POSITION:
        return min(position, max(0.0, seconds - PREVIEW_SECONDS))
    peaks = np.fromfile(f"{sound.path}.peaks", "<u2").astype(float)
    size = min(len(peaks), round(PREVIEW_SECONDS * len(peaks) / seconds))
    sums = np.cumsum(np.pad([np.square(peaks), peaks == 0.0], [(0, 0), (1, 0)]), axis=1)
    power, silent = sums[:, size:] - sums[:, :-size]
    best = np.argmax(power) if which == LOUDEST else np.lexsort((power, silent))[0]
    return float(best) * seconds / len(peaks)


def rows_of(clicks: Iterable[Click], spared: Collection[Click], rate: int) -> list[list]:
    """Returns the rows of a table of clicks, which begin with whether the click is repaired."""
    return [[click not in spared, round(click.start / rate, 4),
             round(1000.0 * (click.stop - click.start) / rate, 2),
             "+".join(map(str, click.channels)), round(click.strength_db, 1)] for click in clicks]


def name_of(row: Sequence) -> tuple[float, str]:
    """Returns what identifies a click in its row of `rows_of`: its time and its channels."""
    return row[1], row[3]


def spared_by(listed: Iterable[Sequence], clicks: Sequence[Click], rate: int) -> list[Click]:
    """Returns the clicks that are not ticked in a table of `rows_of`, in whatever order."""
    unticked = {name_of(row) for row in listed if not row[0]}
    return [click for click, row in zip(clicks, rows_of(clicks, (), rate), strict=True)
            if name_of(row) in unticked]


def marks_of(clicks: Sequence[Click], spared: Collection[Click], recording: Recording,
             ) -> list[list]:
    """Returns the clicks for the player.

    Each has its row of `rows_of`, the first and the last place in seconds, the channels of the
    player from 0, and the share of the click in them, as more than two channels are averaged.
    """
    rate, several = recording.rate, recording.channels > 2
    return [[*row, click.start / rate, click.stop / rate,
             [0] if several else [channel - 1 for channel in click.channels],
             len(click.channels) / recording.channels if several else 1.0]
            for click, row in zip(clicks, rows_of(clicks, spared, rate), strict=True)]


def as_table(found: Iterable[Finding]) -> str:
    """Returns the findings about a recording as a table in HTML; what is absent shares a row."""
    found = list(found)
    absent = ", ".join(each.name for each in found if each.text == NONE)
    rows = [(each.name, each.text) for each in found if each.text != NONE]
    rows += [(TEXT.recordings.absent, absent)] if absent else []
    return "<table>{}</table>".format("".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for name, text in rows))
