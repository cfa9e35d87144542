"""All texts of the page are in one file."""

import ast
import re
from collections.abc import Iterator

import pytest

from historical_denoiser.page import texts

ROOM = texts.TEXTS.parent
FILES = {path.name: path.read_text(encoding="utf-8") for path in (
    ROOM.parent.parent / "app.py", *(path for path in ROOM.iterdir() if path.is_file()
                                     and path not in (texts.TEXTS, ROOM / "texts.py")))}
WORDS = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,}")
# Functions whose texts are read by the one who starts the page, or in the history of a file.
OTHERS = {"_check_call", "serve", "_restore", "__post_init__"}
LABELS = {"label", "info", "title", "placeholder", "headers"}
LABELLED = {"Button", "UploadButton", "DownloadButton", "Markdown", "Tab", "Accordion"}


def test_each_name_has_a_text_and_each_text_is_used():
    sources = "".join(FILES.values())
    used = set(re.findall(r"\bTEXT\.(\w+)\.(\w+)", sources))
    groups = set(re.findall(r"\bTEXT\.(\w+)(?![\w.])", sources))  # one of their names is chosen
    named = {(group, name) for group, names in vars(texts.TEXT).items() for name in vars(names)}
    assert used <= named
    assert {(group, name) for group, name in named - used if group not in groups} == set()
    assert groups <= {group for group, _ in named}


def texts_in(tree: ast.AST) -> Iterator[str]:
    """Yields the strings of a module that users would read: sentences, and labels of any length."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name in OTHERS:
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("error", "warning", "info"):
                continue  # a log
            labels = [each.value for each in node.keywords if each.arg in LABELS]
            labels += node.args[:1] if node.func.attr in LABELLED else []
            yield from (each.value for each in labels if isinstance(each, ast.Constant))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORDS.search(
                node.value) and not re.search("=>|<", node.value):
            yield node.value
        yield from texts_in(node)


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".py")))
def test_a_module_has_no_texts_of_its_own(name):
    assert list(texts_in(ast.parse(FILES[name]))) == []


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith((".html", ".js"))))
def test_html_and_scripts_have_no_texts_of_their_own(name):
    if name.endswith(".html"):
        source = re.sub(r'<[^>]*?(?:aria-label|title|alt)="([^"]*)"[^>]*>', r" \1 ", FILES[name])
        left = re.sub(r"TEXT\.\w+\.\w+|&\w+;|<[^>]*>|1x", " ", source)
        assert re.findall(r"[^\W\d_]{2,}", left) == []
    else:
        code = re.sub(r"(?m)//.*$", "", FILES[name])
        literals = re.findall(r'"([^"\n]*)"|`([^`]*)`', code)
        assert [text for pair in literals for text in pair
                if WORDS.search(text) and not re.match(r"[.#\[]|.*px ", text)] == []
        labels = r"""(?:textContent|title|ariaLabel|"aria-label"|Error)\W{1,3}["'`]\w{3}"""
        assert not re.search(labels, code)  # but for units


def test_texts_reach_html_and_scripts_and_take_their_values(monkeypatch):
    monkeypatch.setattr(texts.TEXT.player, "play", 'Spiel "ab" <&>')
    assert texts.fill_in('<b title="TEXT.player.play">', False) == (
        '<b title="Spiel &quot;ab&quot; &lt;&amp;&gt;">')
    assert texts.fill_in("say(TEXT.player.play.length)", True) == (
        'say("Spiel \\"ab\\" <&>".length)')
