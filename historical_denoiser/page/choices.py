"""What a user of the page can choose: suggestions of the first look.

Start reading at `suggestions`.
"""

import html
from collections.abc import Iterable

from historical_denoiser.run import profiles
from historical_denoiser.run.findings import Finding
from historical_denoiser.run.look import suggest

# What the settings that may be suggested do; those without a control on the page are left out.
EFFECTS = {profiles.KEY: "Use this section as the noise alone"}


def suggestions(found: Iterable[Finding]) -> list[tuple[str, str]]:
    """Returns the suggested settings that the page has, each as a label and a `key=value`."""
    return [(f"{effect} ({setting})", setting) for setting in suggest(found)
            if (effect := EFFECTS.get(setting.partition("=")[0]))]


def as_table(found: Iterable[Finding]) -> str:
    """Returns the findings about a recording and what they suggest as a table in HTML."""
    rows = [("Property", "Found", "Suggestion"), *(
        (each.name, each.text, ", ".join(each.settings)) for each in found)]
    return "<table>{}</table>".format("".join(
        "<tr>{}</tr>".format("".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row))
        for row, tag in zip(rows, ["th", *["td"] * len(rows)], strict=False)))
