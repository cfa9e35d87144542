"""Where the files are that come with the program: settings, weights, an example."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def locate(name: str) -> Path:
    """Returns a folder that an installed package holds, and a checkout beside the package."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


CONF, PRETRAINED, EXAMPLES = locate("conf"), locate("pretrained"), locate("examples")
