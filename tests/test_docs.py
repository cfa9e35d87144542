"""What the guides say to type works, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from small_corpus import ROOT

from historical_denoiser.denoiser import Denoiser

PAGES = sorted(path for folder in (ROOT, ROOT / "docs", ROOT / "docs/lab", ROOT / "pretrained")
               for path in folder.glob("*.md"))


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, named as GitHub does."""
    titles = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_tables_are_as_measured():
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "tables.py", "--check"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "most"), [("README.md", 900), ("docs/RESULTS.md", 2000)])
def test_pages_are_short(name, most):
    """In words; the bars of tables are none."""
    words = (ROOT / name).read_text(encoding="utf-8").split()
    assert sum(re.search(r"\w", word) is not None for word in words) <= most


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), link


def test_the_library_is_used_as_its_guide_says(knowing_run, tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for name in ("side A.wav", "reel.wav"):
        sf.write(name, 0.1 * rng.standard_normal(30_000), 44100)
    guide = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    assert code.count("Denoiser.load()") == 1 and code.count("    ...") == 2
    code = code.replace("Denoiser.load()", "load()").replace("    ...", "    blocks.append(block)")
    said = {"load": lambda: Denoiser.load(knowing_run), "blocks": []}
    exec(code, said)
    assert said["restored"].shape == (30_000,) and len(said["blocks"]) == 2
    np.testing.assert_allclose(said["blocks"][1], said["denoiser"](
        said["waveform"] * 0 + sf.read("reel.wav", dtype="float32")[0], 44100), atol=1e-5)
