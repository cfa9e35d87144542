"""Tests of the starter corpus: containers, measures, splits, and whole runs on tiny packages."""

from __future__ import annotations

import csv
import gzip
import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from dataclasses import fields, make_dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile as sf

import prepare_data
from denoiser.audio.dsp import SAMPLE_RATE
from denoiser.corpus import archives, clips, debian_packages
from denoiser.corpus.debian_packages import Rule
from denoiser.corpus.manifest import CorpusError, Row, is_clean, make_job, read_records

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is missing")


def make_noise(seconds: float, rms: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rms * rng.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def make_tone(seconds: float, frequency_hz: float = 440.0, rms: float = 0.1,
              rate: int = SAMPLE_RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (rms * np.sqrt(2.0) * np.sin(2.0 * np.pi * frequency_hz * time)).astype(np.float32)


def make_words(seconds: float, frequency_hz: float = 440.0) -> np.ndarray:
    """A tone that is interrupted by pauses of digital silence."""
    tone = make_tone(seconds, frequency_hz)
    return tone * (np.arange(len(tone)) // (SAMPLE_RATE // 5) % 2 == 0)


def encode(samples: np.ndarray, rate: int = SAMPLE_RATE, form: str = "OGG") -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, rate, format=form,
             subtype={"OGG": "VORBIS", "FLAC": "PCM_16", "WAV": "PCM_16"}[form])
    return buffer.getvalue()


def make_rule(**changes: str) -> Rule:
    values = dict.fromkeys((field.name for field in fields(Rule)), "")
    values |= {"package": "tiny-speech", "category": "speech", "licence": "CC0-1.0",
               "where": "usr/share/tiny", "include": "*", "group": "^([^/]+)/"}
    return Rule(**(values | changes))


def make_row(**changes: object) -> Row:
    values = {"file": "a.flac", "category": "speech", "seconds": 2.0, "source": "", "licence": "",
              "group": "g", "split": "train", "floor_db": 50.0, "noise_db": 50.0,
              "bandwidth_hz": 9000, "clipped": 0.0, "clean": 1, "original_rate": 44100}
    return Row(**(values | changes))


# Containers.


def pack_c4group(entries: list[tuple[str, bytes | list]]) -> bytes:
    table, contents = b"", b""
    for name, content in entries:
        is_group = isinstance(content, list)
        body = pack_c4group(content) if is_group else content
        numbers = struct.pack("<5i", 0, is_group, len(body), 0, len(contents))
        table += (name.encode().ljust(260, b"\0") + numbers).ljust(316, b"\0")
        contents += body
    header = bytearray(204)
    struct.pack_into("<i", header, 36, len(entries))
    scrambled = np.frombuffer(bytes(header), np.uint8).reshape(-1, 3)[:, ::-1] ^ 237
    return scrambled.tobytes() + table + contents


def test_c4group_yields_nested_files():
    packed = gzip.compress(pack_c4group([("a.ogg", b"one"), ("Sub.ocg", [("b.wav", b"two")])]))
    read = dict(archives.read_c4group(b"\x1e\x8c" + packed[2:]))
    assert read == {"a.ogg": b"one", "Sub.ocg/b.wav": b"two"}


def test_c4group_with_an_impossible_count_is_refused():
    packed = gzip.compress(pack_c4group([("a.ogg", b"one")])[:-200])
    with pytest.raises(ValueError, match="cannot hold"):
        list(archives.read_c4group(packed))


def test_ogg_streams_are_carved_out_unchanged():
    streams = [encode(make_tone(0.5)), encode(make_tone(1.0, 880.0))]
    data = b"OggS junk " + streams[0] + b"\0\1\2" * 99 + streams[1] + b"tail"
    assert [content for _, content in archives.read_ogg_streams(data)] == streams


def test_zip_yields_files():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("sound/a.ogg", b"one")
        archive.mkdir("sound/empty")
    assert dict(archives.read_pk3(buffer.getvalue())) == {"sound/a.ogg": b"one"}


def pack_sound_cat(sounds: list[tuple[str, bytes]]) -> bytes:
    table, body = b"", b""
    for name, content in sounds:
        offset = 8 * len(sounds) + len(body)
        table += struct.pack("<II", offset | 0x80000000, len(content))
        body += bytes([len(name) + 1]) + name.encode() + b"\0" + content + b"\x04end\0"
    return table + body


def test_sound_cat_yields_named_wavs():
    sounds = [('"Good Year". By Somebody', b"RIFF1"), ("plop", b"RIFF22")]
    read = list(archives.read_sound_cat(pack_sound_cat(sounds)))
    assert read == [("good_year-00.wav", b"RIFF1"), ("plop-01.wav", b"RIFF22")]


@pytest.mark.parametrize("name", ["broken.pk3", "broken.ocg", "broken.cat"])
def test_a_broken_container_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x10\0")
    with pytest.raises(CorpusError, match=name):
        debian_packages.find_clips([make_rule(where=name)], tmp_path, tmp_path / "scratch")


def test_a_member_cannot_leave_the_container(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pk3", "w") as archive:
        archive.writestr("../../evil.ogg", b"x")
    with pytest.raises(CorpusError, match="out of the container"):
        debian_packages.find_clips([make_rule(where="a.pk3")], tmp_path,
                                   tmp_path / "in" / "scratch")


# Measures.


@pytest.mark.parametrize("floor_db", [42.0, 50.0, 60.0])
def test_floor_is_the_noise_in_the_pauses(floor_db):
    samples = make_words(4.0) + make_noise(4.0, 0.1 * 10.0 ** (-floor_db / 20.0))
    assert clips.measure_floor_db(samples) == pytest.approx(floor_db, abs=1.5)


def test_floor_of_digital_silence_is_the_maximum():
    assert clips.measure_floor_db(make_words(4.0)) == clips.MAX_FLOOR_DB


def test_level_counts_active_frames_only():
    samples = np.concatenate([make_tone(1.0, rms=0.1), np.zeros(9 * SAMPLE_RATE, np.float32)])
    assert clips.measure_level_dbfs(samples) == pytest.approx(-20.0, abs=0.1)


@pytest.mark.parametrize("noise_db", [30.0, 50.0])
@pytest.mark.parametrize("sustained", [False, True])
def test_noise_is_found_under_a_sound_without_pauses(noise_db, sustained):
    sweep = scipy.signal.chirp(np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE, 300.0, 4.0, 9000.0)
    samples = 0.1 * np.sqrt(2.0) * sweep.astype(np.float32)
    samples += make_noise(4.0, 0.1 * 10.0 ** (-noise_db / 20.0))
    measured = clips.measure_noise_db(samples, sustained, SAMPLE_RATE / 2.0)
    assert noise_db - 1.0 <= measured <= noise_db + 4.0  # percentiles lie a little low


def test_noise_of_sustained_tones_is_low_but_speech_would_not_pass_with_them():
    chord = sum(make_tone(3.0, frequency) for frequency in (220.0, 277.0, 330.0))
    assert clips.measure_noise_db(chord, True, SAMPLE_RATE / 2.0) > 60.0
    assert clips.measure_noise_db(chord, False, SAMPLE_RATE / 2.0) < 10.0


def test_noise_is_not_sought_above_the_sound():
    taps = scipy.signal.butter(12, 7000.0, fs=SAMPLE_RATE, output="sos")
    samples = make_tone(3.0) + make_noise(3.0, 0.001)
    samples = scipy.signal.sosfilt(taps, samples).astype(np.float32)
    assert clips.measure_noise_db(samples, True, 6000.0) == pytest.approx(40.0, abs=4.0)


def test_silence_never_counts_as_clean():
    silence = np.zeros(SAMPLE_RATE, np.float32)
    assert clips.measure_noise_db(silence, False, 0.0) == 0.0
    assert clips.measure_noise_db(silence, True, 0.0) == 0.0


@pytest.mark.parametrize("edge_hz", [3000.0, 11000.0])
def test_bandwidth_is_where_the_spectrum_ends(edge_hz):
    taps = scipy.signal.ellip(16, 0.1, 90.0, edge_hz, fs=SAMPLE_RATE, output="sos")
    samples = scipy.signal.sosfilt(taps, make_noise(3.0, 0.1)).astype(np.float32)
    assert clips.measure_bandwidth_hz(samples) == pytest.approx(edge_hz, rel=0.05)


def test_clipped_is_the_share_of_full_scale():
    samples = np.zeros((100, 2), np.float32)
    samples[:5, 0], samples[5:10, 0] = 1.0, -1.2
    assert clips.measure_clipped(samples) == pytest.approx(0.05)


@pytest.mark.parametrize(("changes", "clean"), [
    ({}, True),
    ({"floor_db": 30.0}, True),  # no pauses, but the noise is low
    ({"floor_db": 30.0, "noise_db": 44.0}, False),
    ({"floor_db": 120.0, "noise_db": 40.0}, True),
    ({"floor_db": 120.0, "noise_db": 30.0}, False),  # gated, and noisy behind the gate
    ({"category": "music", "floor_db": 8.0}, True),
    ({"category": "effects", "floor_db": 120.0, "noise_db": 40.0}, False),
    ({"category": "effects", "floor_db": 6.0}, False),  # an engine
    ({"category": "effects", "floor_db": 6.0, "seconds": 1.0}, True),  # a beep
    ({"clipped": 2e-4}, False),
    ({"seconds": 0.2}, False),
    ({"original_rate": 22050}, True),
    ({"original_rate": 16000}, False),
])
def test_the_rule_for_clean(changes, clean):
    assert is_clean(make_row(**changes)) is clean


# Recipe, groups, splits.


def test_the_shipped_recipe_is_valid_and_holds_out_speech():
    rules = debian_packages.read_recipe(debian_packages.RECIPE)
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
    ("openttd-opensfx", "good_year-00.wav", "good_year"),
    ("warzone2100-music", "albums/new/track3_enhanced.opus", "track3"),
    ("drascula-music", "track1.ogg", "track"),
    ("drascula-music", "track30.ogg", "track"),
    ("drascula-music", "track13.ogg", "track13"),
    ("ardentryst", "theme1_raw.ogg", "theme"),
    ("ardentryst", "World_Map2.ogg", "World_Map"),
    ("hedgewars-data", "main_theme.ogg", "main_theme"),
])
def test_groups_of_the_shipped_recipe(package, name, group):
    rules = debian_packages.read_recipe(debian_packages.RECIPE)
    rule = next(rule for rule in rules if rule.package == package and rule.accepts(name))
    assert rule.group_of(name) == f"{package}/{group}"


@pytest.mark.parametrize(("column", "value"), [("category", "noise"), ("package", None)])
def test_a_wrong_recipe_is_refused(tmp_path, column, value):
    write_recipe(tmp_path / "recipe.csv", [make_rule(category="noise")])
    if value is None:
        text = (tmp_path / "recipe.csv").read_text().replace("package", "pakage", 1)
        (tmp_path / "recipe.csv").write_text(text)
    with pytest.raises(ValueError, match=column if value else "columns"):
        debian_packages.read_recipe(tmp_path / "recipe.csv")


def test_named_groups_are_held_out_and_other_speech_trains():
    rule = make_rule(validation="de", test="fr|n?")
    splits = [rule.split_of(f"tiny-speech/{name}") for name in ("de", "fr", "nl", "en")]
    assert splits == ["validation", "test", "test", "train"]


def test_about_a_tenth_of_the_other_groups_is_held_out():
    rule = make_rule(category="music")
    splits = [rule.split_of(f"tiny-speech/tune{index}") for index in range(1000)]
    assert 70 <= splits.count("test") <= 130
    assert 70 <= splits.count("validation") <= 130


def test_a_group_in_two_splits_is_refused():
    rules = [make_rule(), make_rule(validation="en")]
    stored = {"digest": "1", "file": "a", "seconds": 1.0, "source": "", "group": "tiny-speech/en",
              "floor_db": 50.0, "noise_db": 50.0, "bandwidth_hz": 1, "clipped": 0.0,
              "original_rate": 44100, "rule": 0}
    parts = {"tiny-speech": {"rows": [stored, stored | {"digest": "2", "rule": 1}]}}
    with pytest.raises(ValueError, match="one split"):
        debian_packages.join_parts(parts, rules)


# Whole runs.


def write_recipe(path: Path, rules: list[Rule]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Rule))
        writer.writerows([getattr(rule, field.name) for field in fields(Rule)] for rule in rules)
    return path


def build_deb(folder: Path, package: str, files: dict[str, bytes]) -> None:
    tree = folder / f"tree-{package}"
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        f"Package: {package}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.org>\n"
        "Description: test\n")
    folder.joinpath("debs").mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(tree),
                    str(folder / "debs" / f"{package}_1.0_all.deb")],
                   check=True, capture_output=True)


@pytest.fixture
def corpus(tmp_path):
    """Two packages, their recipe, and the options that build them."""
    words = encode(make_words(2.0))
    tiny = {"en/a.ogg": words, "en/again.ogg": words, "de/b.ogg": encode(make_words(2.0, 500.0)),
            "fr/stereo.ogg": encode(np.stack([make_words(1.0, 600.0), make_words(1.0)], axis=1)),
            "fr/slow.ogg": encode(make_tone(1.0, rate=16000), 16000),
            "fr/half.ogg": encode(make_tone(1.0, 700.0, rate=22050), 22050),
            "fr/silent.ogg": encode(np.zeros(9000, np.float32)), "fr/broken.ogg": b"OggS no",
            "fr/loud.wav": encode(np.clip(make_tone(1.0, rms=1.0), -1, 1), form="WAV"),
            "fr/readme.txt": b"hello"}
    build_deb(tmp_path, "tiny-speech",
              {f"usr/share/tiny/{name}": content for name, content in tiny.items()}
              | {"usr/share/doc/tiny-speech/copyright": b"CC0-1.0"})
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("hits/hit1.wav", encode(make_tone(0.1), form="WAV"))
        archive.writestr("hits/hit2.wav", encode(make_tone(0.5, 900.0), form="WAV"))
        archive.writestr("hits/copy of a.ogg", words)
    build_deb(tmp_path, "tiny-effects", {
        "usr/share/sounds.pk3": zipped.getvalue(), "usr/share/rcc/one.rcc": b"qres" + words,
        "usr/share/rcc/two.rcc": encode(make_tone(1.0, 300.0)) + b"tail"})
    rules = [make_rule(include="*.ogg|*.wav", validation="de", test="fr"),
             make_rule(package="tiny-effects", category="effects", where="usr/share/sounds.pk3",
                       group=r"^(.*?)\d*\.\w+$"),
             make_rule(package="tiny-effects", category="music", where="usr/share/rcc/*.rcc",
                       group=r"^(.*)\.ogg$")]
    recipe = write_recipe(tmp_path / "recipe.csv", rules)
    return tmp_path, ["--recipe", str(recipe), "--output", str(tmp_path / "out"), "--jobs", "1",
                      "--source", str(tmp_path / "debs")]


def read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out" / "manifest.csv").open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@needs_dpkg
def test_a_run_converts_measures_and_splits(corpus, caplog):
    folder, options = corpus
    with caplog.at_level("INFO"):
        prepare_data.main(options)
    rows = read_manifest(folder)
    assert list(rows) == sorted(rows) == [
        "effects/tiny-effects/hits/hit1.wav.flac", "effects/tiny-effects/hits/hit2.wav.flac",
        "music/tiny-effects/two/00.ogg.flac", "speech/tiny-speech/de/b.ogg.flac",
        "speech/tiny-speech/en/a.ogg.flac", "speech/tiny-speech/fr/half.ogg.flac",
        "speech/tiny-speech/fr/loud.wav.flac", "speech/tiny-speech/fr/stereo.ogg.flac"]
    for name, row in rows.items():
        info = sf.info(folder / "out" / name)
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
    assert rows["music/tiny-effects/two/00.ogg.flac"]["clean"] == "1"
    assert rows["speech/tiny-speech/en/a.ogg.flac"]["source"] \
        == "tiny-speech: usr/share/tiny/en/a.ogg"
    assert (folder / "out" / "licences" / "tiny-speech.txt").read_text() == "CC0-1.0"
    assert not (folder / "out" / "speech/tiny-speech/en/again.ogg.flac").exists()
    assert not list((folder / "out").glob(".*"))  # nothing half done
    for message in ("1 below 22050 Hz", "1 broken", "1 duplicates", "1 silent", "fr/broken.ogg",
                    "clean minutes"):
        assert message in caplog.text


@needs_dpkg
def test_workers_and_one_process_agree(corpus):
    folder, options = corpus
    prepare_data.main(options)
    alone = (folder / "out" / "manifest.csv").read_bytes()
    shutil.rmtree(folder / "out")
    command = [sys.executable, prepare_data.__file__, *options, "--jobs", "2"]
    subprocess.run(command, check=True, capture_output=True)
    assert (folder / "out" / "manifest.csv").read_bytes() == alone


@needs_dpkg
def test_an_interrupted_run_goes_on(corpus, monkeypatch):
    folder, options = corpus
    convert, stopping = debian_packages.convert_clip, "music"

    def stop_at_music(job):
        if job[3].startswith(stopping):
            raise KeyboardInterrupt
        return convert(job)

    with monkeypatch.context() as patch:
        patch.setattr(debian_packages, "convert_clip", stop_at_music)
        with pytest.raises(KeyboardInterrupt):
            prepare_data.main(options)
    assert not (folder / "out" / "manifest.csv").exists()
    (folder / "debs" / "tiny-speech_1.0_all.deb").unlink()  # no longer needed
    prepare_data.main(options)
    resumed = (folder / "out" / "manifest.csv").read_bytes()
    assert len(read_manifest(folder)) == 8
    monkeypatch.setattr(debian_packages, "convert_clip", None)  # nothing is left to convert
    prepare_data.main(options)
    assert (folder / "out" / "manifest.csv").read_bytes() == resumed


@needs_dpkg
@pytest.mark.parametrize("damage", ["clip", "part", "recipe"])
def test_what_is_damaged_or_outdated_is_built_again(corpus, damage):
    folder, options = corpus
    prepare_data.main([*options, "--only", "tiny-speech"])
    clip = folder / "out" / "speech/tiny-speech/en/a.ogg.flac"
    if damage == "clip":
        clip.unlink()
    elif damage == "part":
        (folder / "out" / "parts" / "tiny-speech.json").write_text("{")
    else:
        write_recipe(folder / "recipe.csv", [make_rule(include="*.ogg", exclude="en/a.*")])
    prepare_data.main([*options, "--only", "tiny-speech"])
    assert clip.exists() is (damage != "recipe")
    assert ("speech/tiny-speech/en/again.ogg.flac" in read_manifest(folder)) \
        is (damage == "recipe")


@needs_dpkg
def test_only_builds_what_is_named_and_keeps_what_is_there(corpus):
    folder, options = corpus
    prepare_data.main([*options, "--only", "tiny-effects"])
    assert {row["category"] for row in read_manifest(folder).values()} == {"effects", "music"}
    prepare_data.main([*options, "--only", "tiny-speech"])
    assert len(read_manifest(folder)) == 8


@needs_dpkg
def test_another_version_of_a_package_is_reported(corpus):
    folder, options = corpus
    write_recipe(folder / "recipe.csv", [make_rule(where="usr/share/elsewhere")])
    with pytest.raises(CorpusError, match="another version"):
        prepare_data.main(options)


@needs_dpkg
def test_a_broken_package_does_not_stop_the_others(corpus):
    folder, options = corpus
    (folder / "debs" / "tiny-speech_1.0_all.deb").write_bytes(b"!<arch>\n")
    with pytest.raises(CorpusError, match="1 of 2 packages failed"):
        prepare_data.main(options)
    assert {row["category"] for row in read_manifest(folder).values()} >= {"effects", "music"}


def test_missing_tools_give_one_line_and_a_failure(tmp_path):
    done = subprocess.run([sys.executable, prepare_data.__file__, "--only", "klettres-data",
                           "--output", str(tmp_path)],
                          env=os.environ | {"PATH": str(tmp_path)}, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: 1 of 1 packages failed; `apt-get` is")
    assert "Traceback" not in done.stderr


def test_an_unknown_package_gives_the_complaint_of_apt(tmp_path, monkeypatch):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho 'W: beside the point' >&2\n"
                   "echo 'E: Unable to locate package tiny' >&2\nexit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(CorpusError, match="tiny: not downloaded.*E: Unable to locate"):
        debian_packages.get_package("tiny", tmp_path / "downloads", None)
    assert not list((tmp_path / "downloads").iterdir())


def test_a_download_is_kept_for_the_next_run(tmp_path, monkeypatch):
    apt = tmp_path / "apt-get"
    apt.write_text("#!/bin/sh\necho content > \"$2_1.0_all.deb\"\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    first = debian_packages.get_package("tiny", tmp_path / "downloads", None)
    apt.unlink()
    assert first.read_text() == "content\n"
    assert debian_packages.get_package("tiny", tmp_path / "downloads", tmp_path) == first


@pytest.mark.parametrize(("options", "message"), [
    (["--only", "tiny"], "`--only` must name packages"),
    (["--jobs", "0"], "`--jobs` must be at least 1"),
    (["--source", "nowhere"], "`--source` must be a folder"),
])
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        prepare_data.main(["--output", str(tmp_path), *options])


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        prepare_data.main(["--output", str(tmp_path / "file" / "out")])


def test_a_full_disk_stops_the_run(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(encode(make_tone(0.5), form="WAV"))

    def fail(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        clips.convert_clip((str(tmp_path / "a.wav"), False, str(tmp_path), "b.flac"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_decoder_that_overshoots_is_turned_down(tmp_path):
    sf.write(tmp_path / "a.wav", make_tone(0.5, rms=1.0), SAMPLE_RATE, subtype="FLOAT")
    result = clips.convert_clip((str(tmp_path / "a.wav"), False, str(tmp_path), "b.flac"))
    stored, _ = sf.read(tmp_path / "b.flac")
    assert result["clipped"] > 0.0
    assert np.abs(stored).max() == pytest.approx(clips.MAX_PEAK, abs=1e-3)


@pytest.mark.parametrize("name", ["../../../e.wav", "/e.wav", "a/../../e.wav", "./e.wav"])
def test_an_archives_names_stay_inside_the_corpus(name, tmp_path):
    *_, output, file = make_job(Path("x"), "music", "set", name, tmp_path, set())
    target = (Path(output) / file).resolve()
    assert target.is_relative_to(tmp_path / "music/set") and target.name == "e.wav.flac"


@pytest.mark.parametrize("cells", ["a,b", "a,b,c,d"])
def test_a_table_with_a_malformed_line_is_named(cells, tmp_path):
    Record = make_dataclass("Record", ["one", "two", "three"])
    table = tmp_path / "table.csv"
    table.write_text(f"one,two,three\n1,2,3\n{cells}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="table.csv.*3 cells.*'a', 'b'"):
        read_records(table, Record)
