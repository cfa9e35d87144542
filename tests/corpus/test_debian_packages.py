"""Tests of the starter corpus: the recipe, groups and splits, and whole runs on tiny packages."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile as sf
from packing import TINY_RECIPE, make_rule, read_manifest, write_records

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError
from historical_denoiser.corpus import conversion, debian_packages
from historical_denoiser.corpus.debian_packages import Rule


def test_the_shipped_recipe_is_valid_and_holds_out_speech():
    recipe = debian_packages.read_recipe(debian_packages.RECIPE)
    rules = [rule for rules in recipe.values() for rule in rules]
    speech = [rule for rule in rules if rule.category == "speech"]
    assert {rule.category for rule in rules} == {"speech", "effects", "music"}
    assert len({rule.package for rule in speech if rule.validation}) >= 2
    assert len({rule.package for rule in speech if rule.test}) >= 2
    assert all(rule.licence and rule.version and int(rule.megabytes) for rule in rules)


@pytest.mark.parametrize(("package", "name", "group"), [
    ("tuxpaint-stamps-default", "animals/cat_desc_fr.ogg", "fr"),
    ("tuxpaint-stamps-default", "animals/cat_desc.ogg", "en"),
    ("tuxpaint-stamps-default", "symbols/math/7_zh_tw.ogg", "zh_tw"),
    ("tuxpaint-stamps-default", "symbols/math/7_filled.ogg", "en"),
    ("tuxpaint-stamps-default", "animals/cat2.ogg", "animals/cat"),
    ("klettres-data", "uk/alpha/a.ogg", "uk"),
    ("fillets-ng-data-nl", "city/nl/vit-m-nebo.ogg", "m"),
    ("fillets-ng-data-nl", "city/nl/vit-hs-klid1.ogg", "others"),
    ("minetest-data", "mods/steps/step_water.3.ogg", "mods/steps/step_water"),
    ("warzone2100-music", "albums/new/track3_enhanced.opus", "track3"),
    ("drascula-music", "track1.ogg", "track"),
    ("drascula-music", "track30.ogg", "track"),
    ("drascula-music", "track13.ogg", "track13"),
    ("ardentryst", "theme1_raw.ogg", "theme"),
    ("ardentryst", "World_Map2.ogg", "World_Map"),
    ("hedgewars-data", "main_theme.ogg", "main_theme"),
])
def test_groups_of_the_shipped_recipe(package, name, group):
    rules = debian_packages.read_recipe(debian_packages.RECIPE)[package]
    rule = next(rule for rule in rules if rule.accepts(name))
    assert rule.group_of(name) == f"{package}/{group}"


def test_a_wrong_recipe_is_refused(tmp_path):
    recipe = write_records(tmp_path / "recipe.csv", [make_rule(category="noise")])
    with pytest.raises(UserError, match="category"):
        debian_packages.read_recipe(recipe)


def test_the_held_out_recipe_tests_alone_and_shares_no_package():
    folder = debian_packages.RECIPE.parent
    held_out = debian_packages.read_recipe(folder / "heldout.csv")
    assert not set(held_out) & set(debian_packages.read_recipe(debian_packages.RECIPE))
    rules = [rule for rules in held_out.values() for rule in rules]
    assert {rule.category for rule in rules} == {"music", "speech"}
    assert {rule.split_of(f"{rule.package}/any") for rule in rules} == {"test"}


def test_the_sounds_of_the_docs_are_one_group_for_each_name_and_train_nothing():
    recipe = debian_packages.read_recipe(debian_packages.RECIPE.with_name("sounds.csv"))
    rules = [rule for rules in recipe.values() for rule in rules]
    names = {rule.group_of("any/file 1.ogg").rpartition("/")[2] for rule in rules}
    assert len(names) == len(rules) and {"fire", "speech"} < names
    assert {rule.split_of(rule.group_of("a.ogg")) for rule in rules} == {"test"}


def test_named_groups_are_held_out_and_other_speech_trains():
    rule = make_rule(validation="de", test="fr|n?")
    splits = [rule.split_of(f"tiny-speech/{name}") for name in ("de", "fr", "nl", "en")]
    assert splits == ["validation", "test", "test", "train"]


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "broken.pk3").write_bytes(b"\x10\0")
    with pytest.raises(UserError, match="broken.pk3"):
        debian_packages.find_members([make_rule(where="broken.pk3")], tmp_path)


@pytest.fixture
def apt(tmp_path, monkeypatch) -> Path:
    """A script that takes the place of apt-get."""
    script = tmp_path / "apt-get"
    script.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return script


def test_an_unknown_package_gives_the_complaint_of_apt(apt, tmp_path):
    apt.write_text("#!/bin/sh\necho 'W: beside the point' >&2\n"
                   "echo 'E: Unable to locate package tiny' >&2\nexit 100\n")
    with pytest.raises(UserError, match="tiny: not downloaded.*E: Unable to locate"):
        debian_packages.get_package("tiny", tmp_path / "downloads")
    assert not list((tmp_path / "downloads").iterdir())


def test_a_download_is_kept_for_the_next_run(apt, tmp_path):
    apt.write_text("#!/bin/sh\necho content > \"$2_1.0_all.deb\"\n")
    first = debian_packages.get_package("tiny", tmp_path / "downloads")
    apt.unlink()
    assert first.read_text() == "content\n"
    assert debian_packages.get_package("tiny", tmp_path / "downloads") == first


# Whole runs.


def build(folder: Path, recipe: list[Rule] = TINY_RECIPE, only: tuple[str, ...] = ()) -> list[str]:
    """Builds `folder/out` from the packages in its `downloads`; returns what went wrong."""
    rules = debian_packages.read_recipe(write_records(folder / "recipe.csv", recipe))
    return debian_packages.build_corpus(rules, list(only or rules), folder / "out", 1, True)


@pytest.fixture(scope="session")
def finished(built_debs, tmp_path_factory) -> Path:
    """A corpus of both packages."""
    folder = tmp_path_factory.mktemp("corpus")
    shutil.copytree(built_debs, folder / "out" / "downloads")
    assert build(folder) == []
    return folder / "out"


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of it, with the packages."""
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_a_run_converts_measures_and_splits(finished):
    rows = read_manifest(finished)
    assert list(rows) == sorted(rows) == [
        "effects/tiny-effects/hits/hit1.wav.flac", "effects/tiny-effects/hits/hit2.wav.flac",
        "music/tiny-effects/two.ogg.flac", "speech/tiny-speech/de/b.ogg.flac",
        "speech/tiny-speech/en/a.ogg.flac", "speech/tiny-speech/fr/half.ogg.flac",
        "speech/tiny-speech/fr/loud.wav.flac", "speech/tiny-speech/fr/stereo.ogg.flac"]
    for name, row in rows.items():
        info = sf.info(finished / name)
        assert (info.samplerate, info.channels, info.format) == (SAMPLE_RATE, 1, "FLAC")
        assert info.duration == pytest.approx(float(row["seconds"]), abs=1e-3)
    assert {row["group"]: row["split"] for row in rows.values()
            if row["category"] == "speech"} == {
        "tiny-speech/de": "validation", "tiny-speech/en": "train", "tiny-speech/fr": "test"}
    assert {rows[f"effects/tiny-effects/hits/hit{index}.wav.flac"]["group"]
            for index in (1, 2)} == {"tiny-effects/hits/hit"}
    assert rows["speech/tiny-speech/fr/half.ogg.flac"]["original_rate"] == "22050"
    loud = rows["speech/tiny-speech/fr/loud.wav.flac"]
    assert float(loud["clipped"]) > 0.1 and loud["clean"] == "0"
    assert rows["effects/tiny-effects/hits/hit1.wav.flac"]["clean"] == "0"  # too short
    assert rows["music/tiny-effects/two.ogg.flac"]["clean"] == "1"
    assert rows["speech/tiny-speech/en/a.ogg.flac"]["source"] \
        == "tiny-speech: usr/share/tiny/en/a.ogg"
    assert (finished / "licences" / "tiny-speech.txt").read_text() == "CC0-1.0"
    assert not (finished / "speech/tiny-speech/en/again.ogg.flac").exists()
    assert not list(finished.glob(".*"))  # nothing half done


def test_a_finished_corpus_is_reported_and_not_built_again(out, tmp_path, monkeypatch, caplog):
    before = (out / "manifest.csv").read_bytes()
    (out / "manifest.csv").unlink()
    monkeypatch.setattr(conversion, "convert_clip", None)  # nothing is left to convert
    with caplog.at_level("INFO"):
        assert build(tmp_path) == []
    assert (out / "manifest.csv").read_bytes() == before
    for message in ("1 below 22050 Hz", "1 broken", "1 duplicates", "1 silent", "fr/broken.ogg",
                    "clean minutes"):
        assert message in caplog.text


@pytest.mark.parametrize("damage", ["clip", "journal", "recipe"])
def test_what_is_damaged_or_outdated_is_built_again(out, tmp_path, damage):
    clip, recipe = out / "speech/tiny-speech/en/a.ogg.flac", TINY_RECIPE
    if damage == "clip":
        clip.unlink()
    elif damage == "journal":
        (out / "parts" / "tiny-speech.jsonl").write_text("{")
        clip.write_bytes(b"")
    else:
        recipe = [make_rule(include="*.ogg", exclude="en/a.*")]
    assert build(tmp_path, recipe, only=("tiny-speech",)) == []
    assert (clip.exists() and clip.stat().st_size > 0) is (damage != "recipe")
    assert ("speech/tiny-speech/en/again.ogg.flac" in read_manifest(out)) is (damage == "recipe")


def test_a_group_in_two_splits_is_refused(debs, tmp_path):
    (message,) = build(tmp_path, [
        make_rule(include="en/a.ogg", group="^", otherwise="all"),
        make_rule(include="*", group="^", otherwise="all", validation="all")])
    assert message.startswith("`tiny-speech/all` must be in one split")


def test_only_builds_what_is_named_and_keeps_what_is_there(out, tmp_path):
    (out / "parts" / "tiny-speech.jsonl").unlink()
    assert build(tmp_path, only=("tiny-effects",)) == []
    assert {row["category"] for row in read_manifest(out).values()} == {"effects", "music"}
    assert build(tmp_path, only=("tiny-speech",)) == []
    assert len(read_manifest(out)) == 8


def test_another_version_of_a_package_is_reported(debs, tmp_path):
    (message,) = build(tmp_path, [make_rule(where="usr/share/elsewhere")])
    assert "another version" in message
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_a_broken_package_does_not_stop_the_others(debs, tmp_path):
    (debs / "tiny-speech_1.0_all.deb").write_bytes(b"!<arch>\n")
    (message,) = build(tmp_path)
    assert "tiny-speech_1.0_all.deb: cannot be unpacked" in message
    assert {row["category"] for row in read_manifest(tmp_path / "out").values()} \
        >= {"effects", "music"}
