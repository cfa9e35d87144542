"""Scores: which are used, how they are read, and a small corpus that is really rendered."""

import json
import shutil
import subprocess
import zipfile
from dataclasses import replace

import pytest
from packing import TUNE, assert_same_files, build_deb, render_in_two_runs
from soundfont import write_sound_font

from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import scores
from historical_denoiser.corpus.manifest import MANIFEST_NAME, Row, read_records
from historical_denoiser.corpus.score_notes import read_notes
from historical_denoiser.corpus.scores import Collection

TABLE = [Collection("songs", r"^(\w+)\.", "draft*", "public domain", "")]


def test_ties_are_joined_and_repeats_played(corpus):
    notes, tempo = read_notes(corpus / "songs" / "one.abc")
    assert tempo == 90.0
    assert [(note.start, note.quarters, note.pitch) for note in notes] == [
        (start + offset, quarters, pitch) for offset in (0.0, 16.0)
        for start, quarters, pitch in ((0.0, 1.0, 60), (1.0, 1.0, 62), (2.0, 1.0, 64),
                                       (3.0, 3.0, 65), (6.0, 2.0, 67), (8.0, 1.0, 69),
                                       (9.0, 1.0, 71), (10.0, 2.0, 69), (12.0, 4.0, 67))]


def test_parts_are_numbered_from_high_to_low(tmp_path):
    path = tmp_path / "duet.abc"
    path.write_text("X:1\nM:4/4\nL:1/4\nK:C\nV:1\nC,2 D,2|\nV:2\nc2 [eg]2|\n", encoding="utf-8")
    notes, tempo = read_notes(path)
    assert tempo is None
    assert [(note.start, note.pitch, note.part) for note in notes] == [
        (0.0, 48, 1), (0.0, 72, 0), (2.0, 50, 1), (2.0, 76, 0), (2.0, 79, 0)]


def test_a_restricted_score_is_left_out(corpus):
    folder = corpus / "songs"
    for number, words in enumerate(("All Rights Reserved", "Rights to all formats reserved.",
                                    "see the licensing agreement", "for non-commercial use")):
        (folder / f"restricted{number}.abc").write_text(f"% {words}\n{TUNE}", encoding="utf-8")
    with zipfile.ZipFile(folder / "packed.mxl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", "<rights>2003 UT ORPHEUS EDIZIONI</rights>")
    (folder / "free.abc").write_text(f"% Copyright 1999, GNU General Public License\n{TUNE}",
                                     encoding="utf-8")
    names = {render.name for render in scores.list_renders(corpus, TABLE, 0) if render.score}
    assert {name.split("-")[0] for name in names} == {"songs/one", "songs/two", "songs/free"}


def test_one_format_of_each_score_is_read(corpus):
    with zipfile.ZipFile(corpus / "songs" / "one.mxl", "w") as archive:
        archive.writestr("score.xml", "<score-partwise/>")
    found = {render.score.name for render in scores.list_renders(corpus, TABLE, 0) if render.score}
    assert found == {"one.mxl", "two.abc"}


def test_the_order_follows_the_seed_and_works_stay_together(corpus):
    for number in range(40):
        (corpus / "songs" / f"song{number}.abc").write_text(TUNE, encoding="utf-8")
    first, second, other = (scores.list_renders(corpus, TABLE, seed) for seed in (0, 0, 1))
    assert first == second and first != other and set(first) == set(other)
    splits = {}
    for render in first:
        assert splits.setdefault(render.group, render.split) == render.split
        assert render.font == (scores.TEST_FONT if render.split == "test" else scores.TRAINING_FONT)
    assert set(splits.values()) == {"train", "validation", "test"}


def test_a_missing_collection_is_named(tmp_path):
    with pytest.raises(UserError, match="songs"):
        scores.list_renders(tmp_path, TABLE, 0)


def test_a_broken_score_is_left_out_and_tried_once(tmp_path, monkeypatch):
    broken = tmp_path / "broken.mxl"
    broken.write_bytes(b"nothing")
    with pytest.raises(UserError, match="broken.mxl: .*Error"):
        scores.load_notes(broken, tmp_path)
    monkeypatch.setattr(subprocess, "run", None)  # would fail
    with pytest.raises(UserError, match="broken.mxl: .*Error"):
        scores.load_notes(broken, tmp_path)


def test_a_score_that_hangs_is_given_up(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "READ_SECONDS", 0.01)
    with pytest.raises(UserError, match="one.abc: not read within"):
        scores.load_notes(corpus / "songs" / "one.abc", tmp_path)


@pytest.fixture
def small(songs, tmp_path, monkeypatch):
    """Two songs, two pieces of each drawn kind, and a sound font of one sine."""
    if shutil.which("fluidsynth") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("fluidsynth or dpkg-deb is missing")
    debs = tmp_path / "debs"
    write_sound_font(tmp_path / "sine.sf2")
    for package, _ in (scores.TRAINING_FONT, scores.TEST_FONT):
        build_deb(debs, package, {"usr/share/sounds/sine.sf2":
                                  (tmp_path / "sine.sf2").read_bytes()})
    monkeypatch.setattr(scores, "DRAWN", {name: replace(drawn, pieces=2)
                                          for name, drawn in scores.DRAWN.items()})
    monkeypatch.setattr(scores, "MAX_RENDERS", 2)

    def build(output, hours, jobs=1, ensemble=None):
        shutil.copytree(debs, output / "downloads", dirs_exist_ok=True)
        scores.build_scores(output, hours, 0, jobs, False, ensemble)
        return read_records(output / MANIFEST_NAME, Row)

    return build


@pytest.mark.slow
def test_a_corpus_is_rendered_and_a_stopped_run_goes_on(small, tmp_path):
    rows = render_in_two_runs(small, tmp_path / "one")
    assert len(rows) == 10 and not (tmp_path / "one" / scores.FONTS_NAME).exists()
    assert {(row.category, row.group.split("/")[1]) for row in rows} == {
        ("music", "songs"), ("music", "band"), ("music", "held"), ("effects", "percussion")}
    assert {row.licence for row in rows} == {
        "score: public domain; sound font: MIT", "score: drawn by this program; sound font: MIT"}
    assert {row.group for row in rows if "songs" in row.group} == {
        "scores/songs/one", "scores/songs/two"}
    for row in rows:
        assert float(row.seconds) > 2.0 and float(row.clipped) == 0.0
    assert small(tmp_path / "two", 1.0, jobs=2) == rows
    assert_same_files(rows, tmp_path / "one", tmp_path / "two")


def test_a_chosen_ensemble_plays_only_scores_and_is_a_corpus_of_its_own(small, tmp_path):
    rows = small(tmp_path / "out", 1.0, ensemble="piano")
    assert {row.group for row in rows} == {"scores/songs/one", "scores/songs/two"}
    assert len(small(tmp_path / "out", 1.0)) == 10  # the renders of the piano are not kept


def test_what_failed_is_tried_again_by_the_next_run(small, tmp_path, monkeypatch):
    monkeypatch.setattr(scores, "READ_SECONDS", 0.01)
    assert len(small(tmp_path / "out", 1.0)) == 6  # what is drawn
    problems = [json.loads(line) for line in
                (tmp_path / "out" / "parts" / "scores.jsonl").read_text().splitlines()]
    assert sum("not read within" in row.get("problem", "") for row in problems) == 4
    monkeypatch.setattr(scores, "READ_SECONDS", 60.0)
    assert len(small(tmp_path / "out", 1.0)) == 10
