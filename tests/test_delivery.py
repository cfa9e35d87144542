"""What is delivered beside the restored recording is what was done, and can be undone."""

import hashlib
import io
import math
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy
import soundfile as sf
from programs import ROOT
from restorers import make_restorer

from historical_denoiser import __version__
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.loudness import LoudnessMeter
from historical_denoiser.audio.survey import survey
from historical_denoiser.core.checks import UserError
from historical_denoiser.formats import archiving, chunks
from historical_denoiser.formats.audio_io import BLOCK_SECONDS
from historical_denoiser.formats.metadata import mark_chunks
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration.click_list import find_clicks
from historical_denoiser.run.inputs import find_recordings
from historical_denoiser.run.jobs import Job, plan
from historical_denoiser.run.labels import read_clicks
from historical_denoiser.run.recording import denoise_recording
from historical_denoiser.run.settings import InferenceConfig

SHORT = NetworkSettings(context_seconds=0.5)


def restore(path: Path, **settings: object) -> tuple[Job, dict]:
    """Removes half of everything, and the clicks."""
    chosen = InferenceConfig(audio=str(path), **settings)
    (job,), failures = plan([path], chosen)
    assert not failures
    restorer = make_restorer(lambda spectra: 0.5 * spectra, SHORT, 2.0, declick="normal")
    return job, denoise_recording(job, restorer, chosen.strength)


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    with path.open("rb") as file:
        return [(chunk[0], chunks.content_of(file, chunk)) for chunk in chunks.find_chunks(file)]


def test_a_wave_tells_its_archive_and_the_md5_of_its_samples(rng, tmp_path):
    path = tmp_path / "side.wav"
    sf.write(path, 0.01 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE, "PCM_24")
    chunks.append_chunks(path, [(b"LIST", b"INFO" + chunks.chain([
        (b"IARL", b"old\0"), (b"INAM", b"A waltz\0")])), (b"MD5 ", bytes(16))])
    job, _ = restore(path, md5=True, archive="US, Library of Congress", premis=True)
    found = chunks_of(job.denoised)
    lists = [content for name, content in found if name == b"LIST"]
    assert len(lists) == 1 and b"IARL" + (24).to_bytes(4, "little") in lists[0]
    assert b"US, Library of Congress\0" in lists[0] and b"INAM" in lists[0]
    assert b"ICMT" in lists[0] and b"old" not in lists[0]
    (stored,) = (content for name, content in found if name == b"MD5 ")
    # As BWF MetaEdit and MediaInfo: a number of 128 bits, its lowest byte first.
    assert stored[::-1] == hashlib.md5(dict(found)[b"data"]).digest()
    told = job.lists["_denoised_premis.xml"].read_text(encoding="utf-8")
    assert hashlib.sha256(job.denoised.read_bytes()).hexdigest() in told
    assert sf.info(job.denoised).frames == SAMPLE_RATE


@pytest.mark.skipif(shutil.which("mediainfo") is None, reason="mediainfo is missing")
def test_mediainfo_reads_the_same_md5(rng, tmp_path):
    path = tmp_path / "side.wav"
    sf.write(path, 0.01 * rng.standard_normal(999), SAMPLE_RATE, "PCM_U8")  # odd: with padding
    archiving.add_for_archive(path, "AT, Phonogrammarchiv", True)
    told = subprocess.run(["mediainfo", "-f", path], capture_output=True, text=True, check=True)
    assert hashlib.md5(dict(chunks_of(path))[b"data"]).hexdigest().upper() in told.stdout
    assert "AT, Phonogrammarchiv" in told.stdout


def test_a_wave_without_samples_has_the_md5_of_nothing(tmp_path):
    path = tmp_path / "empty.wav"
    sf.write(path, np.zeros((0, 1)), SAMPLE_RATE, "PCM_16")
    chunks.append_chunks(path, [(b"LIST", b"INFO" + chunks.chain([(b"INAM", b"A waltz\0")]))])
    archiving.add_for_archive(path, None, True)
    assert path.read_bytes().endswith(
        b"MD5 \x10\0\0\0" + hashlib.md5(usedforsecurity=False).digest()[::-1])


def test_a_flac_file_gets_no_md5_and_a_warning(rng, tmp_path, caplog):
    sf.write(tmp_path / "side.flac", 0.1 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE)
    job, _ = restore(tmp_path / "side.flac", md5=True)
    assert "_denoised.flac: inference.md5: only WAV files hold an archival" in caplog.text
    assert sf.info(job.denoised).frames == SAMPLE_RATE


def test_the_restoration_is_described_as_premis_says(rng, tmp_path):
    path = tmp_path / "side \udc80&\x07.wav"  # not UTF-8, and what XML cannot hold
    sf.write(os.fsencode(path), 0.01 * rng.standard_normal(SAMPLE_RATE), SAMPLE_RATE, "PCM_16")
    job, _ = restore(path, premis=True, loudness=-30.0, denoising_strength=0.5)
    written = job.lists["_denoised_premis.xml"]
    assert written.name == "side \udc80&\x07_denoised_premis_s5.xml"
    root, prefix = ElementTree.parse(written).getroot(), "{http://www.loc.gov/premis/v3}"
    names = [[each.tag.removeprefix(prefix) for each in part] for part in (root, root[2])]
    assert names[0] == ["object", "object", "event", "agent"] and root.get("version") == "3.0"
    assert names[1] == [  # the order of the schema
        "eventIdentifier", "eventType", "eventDateTime", "eventDetailInformation",
        "eventOutcomeInformation", "linkingAgentIdentifier", *["linkingObjectIdentifier"] * 2]
    texts = [{each.tag.removeprefix(prefix): each.text for each in part.iter()} for part in root]
    for file, told in zip((path, job.denoised), texts, strict=False):
        assert told["messageDigest"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert told["size"] == str(file.stat().st_size) and told["formatName"] == "WAV"
        assert told["formatNote"] == "PCM_16, 44100 Hz, channels: 1"
    assert texts[1]["relatedObjectIdentifierValue"] == "side \\udc80&\\x07.wav"
    assert texts[2]["eventDetail"] == "denoised; level set for -30 LUFS"
    assert [[each.text for each in part] for part in root[2][-3:]] == [
        ["local", f"historical-denoiser {__version__}", "executing program"],
        ["local", texts[0]["objectIdentifierValue"], "source"],
        ["local", texts[1]["objectIdentifierValue"], "outcome"]]
    with pytest.raises(UserError, match="inference.premis"):
        InferenceConfig(premis=True, track="all")


def make_clicked(rng: np.random.Generator, rate: int = SAMPLE_RATE) -> tuple[np.ndarray, list[int]]:
    """Returns 5 s of stereo noise with one strong click after the other, left and right."""
    audio = 0.02 * rng.standard_normal((5 * rate, 2))
    places = list(range(rate // 5, len(audio) - rate // 5, rate // 7))
    for number, place in enumerate(places):
        audio[place:place + 4, number % 2] += 0.5
    return audio, places


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 48000])
def test_all_clicks_are_listed_once_in_any_segments_and_blocks(rng, rate):
    audio, places = make_clicked(rng, rate)
    audio[3 * rate:4 * rate] = 0.0  # divides it in two
    places = [place for place in places if not 3 * rate - 4 <= place < 4 * rate]
    lists = []
    for seconds, size in ((20.0, len(audio)), (0.7, len(audio)), (1.1, 12_345)):
        blocks = [audio[start:start + size] for start in range(0, len(audio), size)]
        restorer = make_restorer(lambda spectra: spectra, SHORT, seconds, declick="normal")
        found = find_clicks(restorer, blocks, rate, survey(blocks, rate))
        strong = [click for click in found if click.strength_db > 20.0]
        lists.append([(click.start, click.stop, click.channels) for click in strong])
    assert lists[0] == lists[1] == lists[2]
    assert len(lists[0]) == len(places)
    for place, (start, stop, channels) in zip(places, lists[0], strict=True):
        assert start <= place < stop + 2 and channels in ((1,), (2,))
    assert survey(blocks, rate).silences  # or it would not be tested


def read_cue(path: Path) -> dict[int, str]:
    """Returns the names of the cue points of a WAV file by their samples."""
    with path.open("rb") as file:
        found = {(name, file.seek(start) and file.read(4)): file.seek(start) and file.read(size)
                 for name, start, size in chunks.find_chunks(file)}
    points = next(content for (name, _), content in found.items() if name == b"cue ")
    places = {number: place for number, *_, place in struct.iter_unpack("<II4sIII", points[4:])}
    assert int.from_bytes(points[:4], "little") == len(places)
    rest, names = found[b"LIST", b"adtl"][4:], {}
    while rest:
        size = int.from_bytes(rest[4:8], "little")
        names[int.from_bytes(rest[8:12], "little")] = rest[12:8 + size].rstrip(b"\0").decode()
        rest = rest[8 + size + size % 2:]
    return {places[number]: name for number, name in names.items()}


def test_listed_clicks_are_labels_and_cue_points_and_can_be_undone(rng, tmp_path):
    audio, places = make_clicked(rng)
    path = tmp_path / "disc.wav"
    sf.write(path, audio, SAMPLE_RATE, "PCM_24")
    chunks.append_chunks(path, mark_chunks([(1, "Walzer")], SAMPLE_RATE))
    recording = sf.read(path)[0]
    job, facts = restore(path, click_list=True)
    (table, labels), all_removed = job.lists.values(), sf.read(job.denoised)[0]
    assert [path.name for path in (table, labels)] == ["disc_clicks.csv", "disc_clicks.txt"]
    rows = read_clicks(table)
    assert len(rows) == facts["clicks_removed"] >= len(places)
    np.testing.assert_allclose([row[:2] for row in read_clicks(labels)], [row[:2] for row in rows],
                               atol=2e-6)
    assert [row[2] for row in read_clicks(labels)] == [row[2] for row in rows]
    cue = read_cue(job.denoised)
    assert cue.pop(SAMPLE_RATE) == "Walzer"
    assert list(cue) == [round(row[0] * SAMPLE_RATE) for row in rows]
    # The user leaves three clicks in the list: two of the CSV, one of the label track.
    kept = tmp_path / "keep.csv"
    lines = table.read_text().splitlines()
    kept.write_text("\n".join([lines[0], lines[3], lines[6]]) + "\n")
    job, facts = restore(path, click_list=True, keep_clicks=str(kept),
                         output_dir=str(tmp_path / "b"))
    assert facts["clicks_kept"] == 2
    assert job.lists["_clicks.csv"].read_text().splitlines() == [
        line for line in lines if line not in (lines[3], lines[6])]
    partly = sf.read(job.denoised)[0]
    untouched = np.ones(recording.shape, bool)
    for start, stop, (channel,) in (rows[2], rows[5]):
        low, high = round(start * SAMPLE_RATE), round(stop * SAMPLE_RATE)
        np.testing.assert_array_equal(partly[low:high, channel - 1],
                                      recording[low:high, channel - 1])
        assert np.abs(all_removed[low:high] - recording[low:high]).max() > 0.3
        untouched[low - 44:high + 44, channel - 1] = False
    np.testing.assert_array_equal(partly[untouched], all_removed[untouched])
    # A label without a channel is of all.
    kept.with_suffix(".txt").write_text("2.0\t2.5\tcastanets\n\\\t0\t100\n")
    job, _ = restore(path, keep_clicks=str(tmp_path / "keep.txt"), output_dir=str(tmp_path / "c"))
    span = slice(2 * SAMPLE_RATE, round(2.5 * SAMPLE_RATE))
    np.testing.assert_array_equal(sf.read(job.denoised)[0][span], recording[span])


@pytest.mark.parametrize(("rate", "settings"), [
    (48000, {}), (SAMPLE_RATE, {"mono_source": True}),
    (SAMPLE_RATE, {"strength_per_band": [[0, 0.8], [5000, 1]], "noise_floor_db": 20,
                   "band_hz": [50, 8000], "loudness": -30.0, "repair": ["gaps"]})])
def test_each_stage_has_its_part_of_the_residual(rng, tmp_path, rate, settings):
    audio, places = make_clicked(rng, rate)
    audio = np.concatenate([audio, np.zeros((rate, 2)), audio])  # silence divides it in two
    hum = 0.1 * np.sin(2 * np.pi * np.outer(np.arange(len(audio)) / rate, [50, 100, 150])).sum(1)
    hum[5 * rate:6 * rate] = 0.0
    path = tmp_path / "side.wav"
    sf.write(path, audio + hum[:, None], rate, "PCM_24")
    chosen = InferenceConfig(residual="stages", denoising_strength=0.5, **settings)
    (job,), _ = plan([path], chosen)
    restorer = make_restorer(lambda spectra: 0.5 * spectra, SHORT, 2.0, declick="normal",
                             dehum=True, mono_source=chosen.mono_source, repair=chosen.repair)
    denoise_recording(job, restorer, chosen.strength, resume="key")
    parts = {stage: sf.read(part)[0] for stage, part in job.by_stage.items()}
    assert job.by_stage["hum"].name == "side_residual_hum_s5.wav"
    assert list(parts) == ["repair", "hum", "clicks", "network", "held_notes"][not chosen.repair:]
    np.testing.assert_array_equal(sum(parts.values()), sf.read(job.residual)[0])
    share = 0.4 if settings.get("strength_per_band") else 0.5
    inside = slice(rate, 4 * rate)
    np.testing.assert_allclose(parts["hum"][inside], share * hum[inside, None].repeat(2, 1),
                               atol=1e-2)
    silent = parts["hum"][round(5.3 * rate):round(5.7 * rate)]
    assert not parts["held_notes"].any() and np.abs(silent).max() < 1e-5
    if not settings:
        assert np.abs(parts["clicks"][places[3]:places[3] + 4, 1]).max() > 0.2
        assert 0.005 < parts["network"][inside].std() < 0.007  # a quarter of the noise
    assert find_recordings(str(tmp_path)) == [path]  # nor is a part a recording


def test_what_is_not_removed_takes_no_room(rng, tmp_path):
    path, block_bytes = tmp_path / "side.wav", 8 * 2 * round(BLOCK_SECONDS * SAMPLE_RATE)
    sf.write(path, 0.1 * rng.standard_normal((5 * SAMPLE_RATE, 2)), SAMPLE_RATE)
    (job,), _ = plan([path], InferenceConfig(residual="stages"))
    tracemalloc.start()
    try:
        denoise_recording(job, make_restorer(None, SHORT, 2.0), 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 28 * block_bytes  # 23, and 33 with room for each stage
    assert len(job.by_stage) == 4
    assert not any(sf.read(part)[0].any() for part in job.by_stage.values())


@pytest.mark.parametrize(("target", "expected"), [(-30.0, -30.0), (-5.0, None)])
def test_the_level_is_set_by_loudness_or_true_peak(rng, tmp_path, target, expected):
    audio = 0.02 * rng.standard_normal((4 * SAMPLE_RATE, 2))
    audio[50_000:50_400] *= 8.0
    sf.write(tmp_path / "a.wav", audio, SAMPLE_RATE, "PCM_24")
    plain, _ = restore(tmp_path / "a.wav", output_dir=str(tmp_path / "plain"))
    job, facts = restore(tmp_path / "a.wav", loudness=target)
    result, residual = (sf.read(path)[0] for path in (job.denoised, job.residual))
    gain = 10.0 ** (facts["loudness"]["gain_db"] / 20.0)
    np.testing.assert_allclose(result, gain * sf.read(plain.denoised)[0], rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(residual, sf.read(plain.residual)[0], atol=1e-6)
    meter = LoudnessMeter(SAMPLE_RATE, 2)
    meter.add(result)
    assert meter.lufs == pytest.approx(facts["loudness"]["lufs"], abs=0.02)
    if expected is None:  # the peak is the limit
        assert meter.true_peak_db == pytest.approx(-1.0, abs=0.2) and meter.lufs < target
    else:
        assert meter.lufs == pytest.approx(expected, abs=0.02) and meter.true_peak_db < -1.0


def test_silence_keeps_its_level(tmp_path, caplog):
    sf.write(tmp_path / "a.wav", np.zeros((SAMPLE_RATE, 1)), SAMPLE_RATE, "PCM_16")
    job, facts = restore(tmp_path / "a.wav", loudness=-18.0)
    assert not sf.read(job.denoised)[0].any() and "loudness" not in facts
    assert "too soft to measure its loudness" in caplog.text


def restore_side(path: Path, **settings: object) -> tuple[Job, dict]:
    """Removes what lies below 1 kHz: there is hum, and above it are two tunes of 25 s."""
    rate, rng = 8000, np.random.default_rng(1)
    audio = np.zeros(56 * rate)
    for start in (1, 30):
        audio[start * rate:(start + 25) * rate] = 0.1 * rng.standard_normal(25 * rate)
    noise = 0.05 * rng.standard_normal(len(audio))
    low = scipy.signal.butter(8, 700, fs=rate, output="sos")
    audio -= scipy.signal.sosfiltfilt(low, audio)
    sf.write(path, audio + scipy.signal.sosfiltfilt(low, noise), rate, "PCM_16")
    chosen = InferenceConfig(audio=str(path), **settings)
    (job,), _ = plan([path], chosen)
    edge = round(1000 * 2048 / SAMPLE_RATE)
    restorer = make_restorer(
        lambda spectra: spectra * (np.arange(spectra.shape[2]) > edge)[:, None], SHORT)
    return job, denoise_recording(job, restorer)


def test_tracks_are_labels_cue_points_or_files(tmp_path):
    path = tmp_path / "side.wav"
    job, facts = restore_side(path, tracks="labels")
    tracks = [(float(start), float(stop), name) for start, stop, name in (
        line.split("\t") for line in job.lists["_tracks.txt"].read_text().splitlines())]
    expected = [(0.7, 27.0), (29.7, 56.0)]
    np.testing.assert_allclose([track[:2] for track in tracks], expected, atol=0.15)
    assert [track[2] for track in tracks] == ["Track 1", "Track 2"]
    np.testing.assert_allclose(facts["track_spans"], [track[:2] for track in tracks], atol=1e-3)
    job, _ = restore_side(path, tracks="cues", output_dir=str(tmp_path / "cues"))
    sheet = job.lists["_tracks.cue"].read_text()
    assert sheet.startswith('FILE "side_denoised.wav" WAVE\n  TRACK 01 AUDIO\n')
    frame = math.floor(75 * tracks[1][0])
    assert f"INDEX 01 00:{frame // 75}:{frame % 75:02d}" in sheet
    assert read_cue(job.denoised) == {round(8000 * start): name for start, _, name in tracks}
    job, facts = restore_side(path, tracks="files", md5=True,
                              output_dir=str(tmp_path / "files"))
    whole = sf.read(job.denoised, dtype="int16")[0]
    assert facts["track_files"] == ["side_denoised_track01.wav", "side_denoised_track02.wav"]
    for name, (start, stop, _) in zip(facts["track_files"], tracks, strict=True):
        part, rate = sf.read(job.denoised.with_name(name), dtype="int16")
        np.testing.assert_array_equal(part, whole[round(start * rate):round(stop * rate)])
        found = dict(chunks_of(job.denoised.with_name(name)))
        assert found[b"MD5 "][::-1] == hashlib.md5(found[b"data"]).digest()
    copy = shutil.copy(path, job.denoised.parent)
    assert find_recordings(str(job.denoised.parent)) == [Path(copy)]  # a track is no recording
    job.lists["_tracks.csv"].unlink()
    _, failures = plan([path], InferenceConfig(
        audio=str(path), tracks="files", output_dir=str(tmp_path / "files")))
    assert "side_denoised_track01.wav exists already" in failures[path]


def pipe(folder: Path, *arguments: str, **pipes: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / "inference.py", *arguments, "method=lsa"],
                          cwd=folder, stderr=subprocess.PIPE, **pipes)


def test_what_comes_through_a_pipe_is_restored_as_the_file_is(rng, tmp_path):
    path = tmp_path / "a.flac"
    sf.write(path, make_clicked(rng)[0][:SAMPLE_RATE], SAMPLE_RATE, "PCM_24")
    done = pipe(tmp_path, "-", input=path.read_bytes(), stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    through = sf.read(io.BytesIO(done.stdout), dtype="int32")[0]
    assert done.stdout[:4] == b"RIFF" and [each.name for each in tmp_path.iterdir()] == ["a.flac"]
    done = pipe(tmp_path, "a.flac", stdout=subprocess.PIPE)
    assert done.returncode == 0 and not done.stdout
    np.testing.assert_array_equal(through, sf.read(tmp_path / "a_denoised.flac", dtype="int32")[0])


@pytest.mark.parametrize(("arguments", "content", "message"), [
    (["-"], b"", b"standard input is empty"), (["-"], b"no sound", b"standard input: "),
    (["a.wav", "inference.output_dir=-"], b"", b"standard output was closed")])
def test_a_pipe_that_ends_too_early_is_reported_in_one_line(rng, tmp_path, arguments, content,
                                                            message):
    sf.write(tmp_path / "a.wav", make_clicked(rng)[0][:SAMPLE_RATE], SAMPLE_RATE)
    reader, writer = os.pipe()
    os.close(reader)
    done = pipe(tmp_path, *arguments, input=content, stdout=writer)
    os.close(writer)
    errors = [line for line in done.stderr.splitlines() if not line.startswith(b"INFO")]
    assert done.returncode == 1 and len(errors) == 1
    assert errors[0].startswith(b"error: " + message), errors
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(("content", "message"), [
    ("start_s,length_s,channels\n1.0,x,1\n", "line 2 must be start_s,length_s"),
    ("1.0\t0.5\tbackwards\n", "must be start"), ("1.0;0.5;1\n", "line 1 must be"),
    ("start_s,length_s,channels\n1.0,0.1,3\n", "channels must be 1 to 2")])
def test_a_wrong_list_is_refused(rng, tmp_path, content, message):
    sf.write(tmp_path / "a.wav", make_clicked(rng)[0], SAMPLE_RATE)
    (tmp_path / "keep").write_text(content)
    with pytest.raises(UserError, match=message):
        restore(tmp_path / "a.wav", keep_clicks=str(tmp_path / "keep"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "keep"]
