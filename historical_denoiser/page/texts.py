"""All texts of the page, which are in one file, so that a translation is one file.

`TEXT.group.name` is a text, in Python as well as in our HTML and JavaScript; see `fill_in`.
"""

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace

TEXTS = Path(__file__).with_name("strings_en.json")
TEXT = json.loads(TEXTS.read_text(encoding="utf-8"),
                  object_hook=lambda names: SimpleNamespace(**names))
NAME = re.compile(r"\bTEXT\.(\w+)\.(\w+)")


def fill_in(source: str, is_script: bool) -> str:
    """Returns HTML with the texts in place of their names, or a script with them as literals."""

    def text(name: re.Match) -> str:
        found = getattr(getattr(TEXT, name[1]), name[2])
        return json.dumps(found) if is_script else html.escape(found)

    return NAME.sub(text, source)
