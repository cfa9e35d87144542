"""Imports go one way: rooms below, named files above, no circles (`docs/code.md` draws it)."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "historical_denoiser"
COMMANDS = {"train", "inference", "evaluate", "prepare_data", "noise_tools", "export", "app"}


def modules() -> dict[str, Path]:
    """Returns the project's modules, named as they are imported."""
    paths = [*ROOT.glob("*.py"), *(ROOT / PACKAGE).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
            for path in paths}


def imported(path: Path, known: set[str]) -> Iterator[str]:
    """Yields the project's modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        yield from (name for name in names if name in known)


def graph() -> dict[str, set[str]]:
    found = modules()
    return {name: set(imported(path, set(found))) for name, path in found.items()}


def graph_of_rooms() -> dict[str, set[str]]:
    """Returns what each named file, room, or file beside the rooms imports of the others."""
    rooms: dict[str, set[str]] = {}
    for name, below in graph().items():
        room = ".".join(name.split(".")[:2])
        found = {".".join(other.split(".")[:2]) for other in below}
        rooms.setdefault(room, set()).update(found - {room})
    return rooms


def test_nothing_below_imports_a_named_file():
    for name, below in graph().items():
        if name.startswith(PACKAGE):
            assert {other for other in below if not other.startswith(PACKAGE)} == set(), name


def test_there_is_no_circle_of_modules_nor_of_rooms():
    arrows = graph()
    assert len(arrows) > 30
    TopologicalSorter(arrows).prepare()  # raises CycleError
    TopologicalSorter(graph_of_rooms()).prepare()


def test_commands_are_imported_by_nothing():
    for name, below in graph().items():
        assert not below & COMMANDS, name


def test_the_picture_in_the_docs_is_that_of_the_code():
    rooms = graph_of_rooms()

    def reach(room: str) -> set[str]:
        return rooms[room].union(*map(reach, rooms[room]))

    needed = {f"{room} --> {other}" for room, below in rooms.items() for other in below
              if not any(other in reach(between) for between in below)}
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    assert {line.strip() for line in text.splitlines() if " --> " in line} == needed


def test_functions_and_classes_are_short():
    """Sixty lines and 250, docstrings included, so that each can be read as a whole."""
    limits = {ast.FunctionDef: 60, ast.ClassDef: 250}
    for path in [*modules().values(), *(ROOT / "benchmarks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if type(node) in limits:
                lines = node.end_lineno - node.lineno + 1
                assert lines <= limits[type(node)], f"{path}: {node.name} has {lines} lines"
