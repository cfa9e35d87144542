"""Prints what is wrong with recordings and which settings suit them: `denoise --look FILE...`.

Nothing is written and no network is loaded. Start reading at `look_at`.
"""

import json
import shlex
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.command_line import printable
from historical_denoiser.formats import containers
from historical_denoiser.run.findings import Finding, examine
from historical_denoiser.run.jobs import why_failed
from historical_denoiser.run.settings import ALL_TRACKS

# The columns of the table of several recordings: title, width, and the finding and value in it.
COLUMNS = (("seconds", 9, "file", "seconds"), ("RMS", 7, "level", "rms_dbfs"),
           ("SNR dB", 7, "noise", "snr_db"), ("clicks/s", 9, "clicks", "per_second"),
           ("hum Hz", 7, "hum", "hz"), ("from Hz", 8, "bandwidth", "from_hz"),
           ("to Hz", 7, "bandwidth", "to_hz"), ("clipped", 8, "clipping", "number"),
           ("gaps", 5, "dropouts", "number"))
PROFILE = "inference.noise_profile"


def suggest(found: Iterable[Finding]) -> list[str]:
    """Returns the settings of all findings; what `inference.repair` names is put together.

    The limits of a carrier replace those of the measured bandwidth.
    """
    values: dict[str, str] = {}
    for setting in (setting for finding in found for setting in finding.settings):
        key, value = setting.split("=", 1)
        if key == "inference.repair" and key in values:
            value = f"{values[key][:-1]},{value[1:]}"
        values[key] = value
    if "carrier" in values:
        values.pop("inference.band_hz", None)
    return [f"{key}={value}" for key, value in values.items()]


def command(paths: Iterable[Path], settings: Iterable[str]) -> str:
    """Returns a line for a shell."""
    return printable(shlex.join(["denoise", *map(str, paths), *settings]))


def page(path: Path, found: list[Finding]) -> str:
    """Returns the findings about one recording, a line each, and the suggested command."""
    lines = [printable(f"{path}: {found[0].text}")]
    for finding in found[1:]:
        lines.append(printable(f"  {finding.name:<10} {finding.text}"))
        lines += [f"  {'':<10} -> {setting}" for setting in finding.settings]
    return "\n".join([*lines, f"Suggested: {command([path], suggest(found))}", ""])


def row(path: Path, found: list[Finding]) -> str:
    """Returns the findings about one of several recordings in one line."""
    values = {finding.name: finding.values for finding in found}
    cells = []
    for _, width, name, key in COLUMNS:
        value = values.get(name, {}).get(key)
        cells.append(f"{'-' if value is None else f'{value:.6g}':>{width}}")
    damage = f" ({values['file']['damage']})" if values["file"]["damage"] else ""
    settings = " ".join(suggest(found)) or "none"
    return printable(f"{''.join(cells)}  {path}: {settings}{damage}") + "\n"


def look_at(paths: list[Path], track: Any, as_json: bool) -> dict[Path, str]:
    """Prints the findings: of one recording a page, of several a table.

    Args:
        paths: From `inputs.find_recordings`.
        track: The setting `inference.track`; of all tracks, the default one is looked at.
        as_json: Whether a list of objects is printed instead.

    Returns:
        The reason for each recording that cannot be read, which is also printed to stderr.
    """
    failures: dict[Path, str] = {}
    entries: list[dict[str, Any]] = []
    alike: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    if len(paths) > 1 and not as_json:
        titles = "".join(f"{title:>{width}}" for title, width, _, _ in COLUMNS)
        sys.stdout.write(f"{titles}  file: suggested settings\n")
    for path in paths:
        try:
            found = examine(containers.open_audio(path, None if track == ALL_TRACKS else track))
        except (UserError, OSError) as error:
            failures[path] = why_failed(path, error)
            if len(paths) > 1:  # of one alone it is the last line
                sys.stderr.write(f"error: {printable(failures[path])}\n")
            continue
        settings = suggest(found)
        if as_json:
            entries.append({"file": str(path), "suggested": settings, "findings": {
                finding.name: {"text": finding.text, **finding.values,
                               "settings": list(finding.settings)} for finding in found}})
            continue
        sys.stdout.write((row if len(paths) > 1 else page)(path, found))
        sys.stdout.flush()
        # The section of noise is another one in each recording.
        alike[tuple(f"{PROFILE}=auto" if setting.startswith(PROFILE) else setting
                    for setting in settings)].append(path)
    if as_json:
        json.dump(entries, sys.stdout, indent=1)
        sys.stdout.write("\n")
    elif len(paths) > 1:
        for same, group in alike.items():
            sys.stdout.write(f"Suggested: {command(group, same)}\n")
    return failures
