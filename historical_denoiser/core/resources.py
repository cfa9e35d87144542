"""Folders of the files that come with the program: settings and weights."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def locate(name: str) -> Path:
    """Returns a folder, which is inside an installed package, but beside it in a checkout."""
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


CONF, PRETRAINED = locate("conf"), locate("pretrained")
