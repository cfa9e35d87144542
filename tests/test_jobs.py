"""Which recordings are denoised, and where results go."""

import os
import socket
from pathlib import Path

import pytest
from audio_samples import write_audio, write_recordings
from film_samples import Sound, write_film

from historical_denoiser.core.checks import UserError
from historical_denoiser.run import inputs, jobs
from historical_denoiser.run.report import REPORT_NAME, RunReport, read_results
from historical_denoiser.run.settings import InferenceConfig

try:
    import fcntl
except ImportError:
    fcntl = None


@pytest.mark.parametrize(("strength", "suffix"), [
    (1.0, ""), (0.5, "_s5"), (0.25, "_s2.5"), (0.0, "_s0"), (-0.0, "_s0"), (0.07, "_s0.7"),
    (0.1, "_s1"), (0.123456789, "_s1.23456789"), (0.99999999, "_s9.9999999"), (1, ""), (0, "_s0"),
    ("auto", "_sauto"),
])
def test_strength_suffix(strength, suffix):
    assert jobs.strength_suffix(strength) == suffix


def test_folders_stand_for_their_recordings(tmp_path):
    for name in ("b.wav", "a/x.flac", "a/y.MP3", ".hidden.wav", ".trash/z.wav", "b_denoised.wav",
                 "b_residual_s2.5.wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    folder = str(tmp_path)
    assert inputs.find_recordings(folder) == [
        tmp_path / "a/x.flac", tmp_path / "a/y.MP3", tmp_path / "b.wav"]
    # Each file once; a result that is named is meant, unless what it came from is named too.
    whole = [folder, f"{folder}/b.wav", f"{folder}/b_denoised.wav"]
    assert inputs.find_recordings(whole) == inputs.find_recordings(folder)
    assert inputs.find_recordings([f"{folder}/a", f"{folder}/b_denoised.wav"]) == [
        tmp_path / "a/x.flac", tmp_path / "a/y.MP3", tmp_path / "b_denoised.wav"]


@pytest.mark.parametrize("audio", [None, "", [], ["a.wav", ""]])
def test_no_recording_is_an_error(audio):
    with pytest.raises(ValueError, match="Usage: denoise FILE"):
        inputs.find_recordings(audio)


def test_results_are_named_after_the_input(tmp_path):
    paths = write_recordings(tmp_path, "take.one.wav", "old.mp3", "loud.AIFF")
    planned, _ = jobs.plan(paths, InferenceConfig(denoising_strength=0.5, spectrogram=True))
    assert {job.recording.path.name: [path.name for path in job.results] for job in planned} == {
        "take.one.wav": ["take.one_denoised_s5.wav", "take.one_residual_s5.wav",
                         "take.one_spectrogram_s5.png"],
        "old.mp3": ["old_denoised_s5.wav", "old_residual_s5.wav", "old_spectrogram_s5.png"],
        "loud.AIFF": ["loud_denoised_s5.AIFF", "loud_residual_s5.AIFF", "loud_spectrogram_s5.png"]}


def test_films_and_audio_are_found_and_named_alike(tmp_path):
    write_audio(tmp_path / "disc.wav")
    write_film(tmp_path / "reel.mkv", "matroska", [Sound("aac"), Sound("ac3")], 0.3)
    write_film(tmp_path / "in/tape.M4A", "mp4", [Sound("alac")], 0.3, video=None)
    write_film(tmp_path / "lost.tta", "tta", [Sound("tta")], 0.3, video=None)
    write_film(tmp_path / "silent.mp4", "mp4", [], 0.3)
    paths = inputs.find_recordings(str(tmp_path))
    planned, failures = jobs.plan(paths, InferenceConfig())
    assert {job.recording.path.name: [path.name for path in job.results] for job in planned} == {
        "disc.wav": ["disc_denoised.wav", "disc_residual.wav"],
        "reel.mkv": ["reel_denoised.mkv", "reel_residual.wav"],
        "tape.M4A": ["tape_denoised.M4A", "tape_residual.wav"],
        "lost.tta": ["lost_denoised.flac", "lost_residual.wav"]}
    assert list(failures) == [tmp_path / "silent.mp4"]
    assert "holds no audio" in failures[tmp_path / "silent.mp4"]
    planned, failures = jobs.plan(paths, InferenceConfig(track=2))
    assert [(job.recording.path.name, job.recording.codec) for job in planned] == [
        ("reel.mkv", "ac3")]
    assert all("there is no audio track 2" in reason or "no audio" in reason
               for reason in failures.values()) and len(failures) == 4


def places_of(paths: list[Path], top: Path, **settings: object) -> tuple[list[str], set[Path]]:
    """Returns where results would go below a folder, and which recordings are refused."""
    planned, failures = jobs.plan(paths, InferenceConfig(**settings))
    return ["/".join(job.denoised.relative_to(top).parts) for job in planned], set(failures)


def test_recordings_of_one_name_get_different_results(tmp_path):
    wav, mp3, b, other = write_recordings(tmp_path, "a.wav", "a.mp3", "b.wav", "other/a.wav")
    assert places_of([mp3, wav, b], tmp_path) == (
        ["a.mp3_denoised.wav", "a.wav_denoised.wav", "b_denoised.wav"], set())
    out = tmp_path / "out"
    assert places_of([wav, other, b], out, output_dir=str(out)) == (
        ["a_denoised.wav", "other/a_denoised.wav", "b_denoised.wav"], set())
    assert places_of([wav, mp3, other], out, output_dir=str(out)) == (
        ["a.wav_denoised.wav", "a.mp3_denoised.wav", "other/a_denoised.wav"], set())


def test_a_result_never_replaces_a_recording_and_the_others_are_done(tmp_path):
    paths = write_recordings(tmp_path, "a.wav", "a_denoised.wav", "b.wav")
    planned, failures = jobs.plan(paths, InferenceConfig(overwrite=True))
    assert [job.recording.path.name for job in planned] == ["a_denoised.wav", "b.wav"]
    assert "would replace a recording or list" in failures[tmp_path / "a.wav"]


def test_only_what_is_known_for_a_result_is_passed_over(tmp_path):
    """An original can have such a name; a line break in a name does not hide a result."""
    write_recordings(tmp_path, "speech_denoised.wav", "far/x_denoised.wav", "two\nlines.wav",
                     "two\nlines_denoised.wav", "s.mp3", "s.mp3_denoised.wav")
    assert {path.name for path in inputs.find_recordings(str(tmp_path))} == {
        "speech_denoised.wav", "x_denoised.wav", "two\nlines.wav", "s.mp3"}
    # Results in a folder of their own are known by the report there, whatever was run before.
    RunReport(tmp_path, {}, {}).add(Path("x.wav"), [tmp_path / "far/x_denoised.wav"], {})
    assert {path.name for path in inputs.find_recordings(str(tmp_path))} == {
        "speech_denoised.wav", "two\nlines.wav", "s.mp3"}


def test_patterns_and_lists_stand_for_recordings(tmp_path):
    write_recordings(tmp_path, "1/a.wav", "1/a_denoised.wav", "2/b.flac", "[x].wav", "x.wav")
    found = inputs.find_recordings(str(tmp_path / "?" / "*"))
    assert found == [tmp_path / "1/a.wav", tmp_path / "2/b.flac"]
    assert inputs.find_recordings(str(tmp_path / "[x].wav")) == [tmp_path / "[x].wav"]
    assert inputs.find_recordings(str(tmp_path / "*.ogg")) == [tmp_path / "*.ogg"]  # no such file
    playlist = tmp_path / "disc.m3u"
    playlist.write_text("\ufeff#EXTM3U\n2/b.flac\n\n gone.wav \r\n", encoding="utf-8")
    assert inputs.find_recordings([str(playlist)]) == [tmp_path / "2/b.flac", tmp_path / "gone.wav"]
    _, failures = jobs.plan([tmp_path / "gone.wav"], InferenceConfig(audio=str(playlist)))
    assert failures[tmp_path / "gone.wav"].endswith(
        f"gone.wav: no such file (line 4 of the list {playlist})")
    for content, message in (
            (b"# nothing", "the list names no recordings"), (b"\xff\xfe", ".* must be UTF-8"),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n2/b.flac\n", "the playlist of a stream")):
        playlist.write_bytes(content)
        with pytest.raises(ValueError, match=f"disc.m3u: {message}"):
            inputs.find_recordings([str(playlist)])


def test_the_tree_of_a_folder_is_built_again(tmp_path):
    write_recordings(tmp_path, "in/1/side A.wav", "in/2/side A.wav", "in/c.wav", "more/c.wav")

    def places(*names: str) -> list[str]:
        audio = [str(tmp_path / name) for name in names]
        settings = InferenceConfig(audio=audio, output_dir=str(tmp_path / "out"))
        planned, failures = jobs.plan(inputs.find_recordings(audio), settings)
        assert not failures
        assert all(jobs.report_folder(job.denoised, settings) == tmp_path / "out"
                   for job in planned)
        return [str(job.denoised.relative_to(tmp_path / "out")) for job in planned]

    assert places("in") == ["1/side A_denoised.wav", "2/side A_denoised.wav", "c_denoised.wav"]
    assert places("in", "more")[2:] == ["in/c_denoised.wav", "more/c_denoised.wav"]
    assert places("in/1/side A.wav") == ["side A_denoised.wav"]


def test_where_nothing_can_be_written_is_said_before_the_network_loads(tmp_path, monkeypatch):
    write_audio(tmp_path / "a.wav")
    (tmp_path / "file").write_bytes(b"")
    below_a_file = InferenceConfig(output_dir=str(tmp_path / "file/results"))
    planned, failures = jobs.plan([tmp_path / "a.wav"], below_a_file)
    assert not planned and "file is not a folder" in failures[tmp_path / "a.wav"]
    with pytest.raises(ValueError, match="must be a folder"):
        jobs.plan([tmp_path / "a.wav"], InferenceConfig(output_dir=str(tmp_path / "file")))
    new = InferenceConfig(output_dir=str(tmp_path / "new/results"))
    assert len(jobs.plan([tmp_path / "a.wav"], new)[0]) == 1
    # As for anyone but root in a folder of others.
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode))
    planned, failures = jobs.plan([tmp_path / "a.wav"], new)
    assert not planned and f"no permission for {tmp_path}" in failures[tmp_path / "a.wav"]


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and devices that have names")
def test_pipes_and_devices_are_refused_at_once(tmp_path):
    """Opening a pipe would wait for somebody to write, and reading `/dev/zero` never ends."""
    write_audio(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    os.mkfifo(tmp_path / "pipe.mkv")
    socket.socket(socket.AF_UNIX).bind(str(tmp_path / "socket.wav"))
    for name, target in (("dangling.wav", "gone"), ("itself.wav", "itself.wav"),
                         ("zero.wav", "/dev/zero")):
        (tmp_path / name).symlink_to(target)
    paths = [Path("/dev/null"), *sorted(tmp_path.glob("[!a]*"))]
    planned, failures = jobs.plan(paths, InferenceConfig())
    assert not planned
    assert [failures[path].removeprefix(f"{path}: ") for path in paths] == [
        "not a regular file", "no such file", "no such file", *["not a regular file"] * 4]
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        out = tmp_path / f"out {name}"
        out.mkdir()
        make(out / "a_residual.wav")
        settings = InferenceConfig(output_dir=str(out), overwrite=True)
        planned, failures = jobs.plan([tmp_path / "a.wav"], settings)
        assert not planned and "a_residual.wav: a result cannot be written there" in failures[
            tmp_path / "a.wav"]
        (out / "a_residual.wav").rename(out / REPORT_NAME)
        with pytest.raises(UserError, match=f"{REPORT_NAME} must be a report in JSON, and is no"):
            jobs.plan([tmp_path / "a.wav"], settings)


@pytest.mark.skipif(not os.path.exists("/dev/stdin"), reason="needs a name for standard input")
def test_results_of_standard_input_go_to_the_given_folder(tmp_path):
    """`python inference.py /dev/stdin < a.wav`: root could write beside it, among the devices."""
    write_audio(tmp_path / "a.wav")
    before = os.dup(0)
    try:
        with (tmp_path / "a.wav").open("rb") as file:
            os.dup2(file.fileno(), 0)
        for name, folder in (("/dev/stdin", "/dev"), ("/dev/fd/0", "/dev/fd"),
                             ("/proc/self/fd/0", "/proc/self/fd")):
            planned, failures = jobs.plan([Path(name)], InferenceConfig())
            assert not planned and failures[Path(name)] == (
                f"{name}: {folder}: a folder of the system's devices, no place for results; name "
                "one with inference.output_dir=FOLDER")
        (tmp_path / "link").symlink_to("/dev")
        for folder, places in (("link", []), ("", [tmp_path / "stdin_denoised.wav"])):
            planned, failures = jobs.plan([Path("/dev/stdin")], InferenceConfig(
                output_dir=str(tmp_path / folder)))
            assert [job.denoised for job in planned] == places and bool(failures) == (not places)
    finally:
        os.dup2(before, 0)
        os.close(before)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_what_a_killed_run_left_behind_is_removed_whatever_comes_next(tmp_path):
    write_audio(tmp_path / "a.wav")
    left = [tmp_path / f".{name}.0123abcd.{ending}" for name, ending in (
        ("a_denoised.wav", "wav"), ("other name_residual_s5.wav", "wav"),
        ("denoised_report.json", "json"))]
    kept = [tmp_path / name for name in (
        ".own.0123abcd.wav", ".a_denoised.wav.resume", ".a_denoised.wav",
        ".b_denoised.wav.0123abcd.wav")]
    for path in left + kept:
        path.write_bytes(b"half")
    with kept[-1].open("rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)  # as by a run that goes on
        jobs.plan([tmp_path / "a.wav"], InferenceConfig())
    assert not any(path.exists() for path in left) and all(path.exists() for path in kept)


def test_each_report_is_read_once(tmp_path, monkeypatch):
    """It grows with the results in its folder, which may be thousands."""
    reads = []
    monkeypatch.setattr(jobs, "read_results", lambda folder: reads.append(folder) or
                        read_results(folder))
    paths = write_recordings(tmp_path, "1/a.wav", "1/b.wav", "2/c.wav")
    write_recordings(tmp_path, *(f"{name}_denoised.wav" for name in ("1/a", "1/b", "2/c")))
    planned, failures = jobs.plan(paths, InferenceConfig())
    assert not planned and len(failures) == 3
    assert sorted(reads) == [tmp_path / "1", tmp_path / "2"]


def test_names_are_looked_up_once_for_all_recordings(tmp_path, monkeypatch):
    """A thousand names took 42 s of planning while each looked at all of them again."""
    paths = write_recordings(tmp_path, *(f"{number}.wav" for number in range(20)), seconds=0.01)
    asked = []
    monkeypatch.setattr(os.path, "isdir", lambda path, known=os.path.isdir:
                        asked.append(path) or known(path))
    found, failures = jobs.plan(paths, InferenceConfig(
        audio=list(map(str, paths)), output_dir=str(tmp_path / "restored")))
    assert len(found) == 20 and not failures
    assert len(asked) < 5 * len(paths)


def test_bad_files_are_named_and_the_others_are_done(tmp_path):
    write_audio(tmp_path / "a.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("This is not audio at all. " * 100)
    (tmp_path / "head.raw").write_bytes(b"12345678")
    (tmp_path / "folder.wav").mkdir()
    messages = {"gone.wav": "no such file", "empty.wav": "the file is empty",
                "text.wav": "holds text, not sound", "head.raw": "headerless",
                "folder.wav": "the folder holds no recordings",
                f"{'x' * 300}.wav": "File name too long"}
    names = [*messages, "a.wav"]
    paths = inputs.find_recordings([str(tmp_path / name) for name in names])
    planned, failures = jobs.plan(paths, InferenceConfig())
    assert [job.recording.path for job in planned] == [tmp_path / "a.wav"]
    for name, message in messages.items():
        assert failures.pop(tmp_path / name).startswith(f"{tmp_path / name}: {message}")
    assert not failures


def test_what_a_folder_leaves_out_is_logged(tmp_path, caplog):
    caplog.set_level("INFO")
    write_recordings(tmp_path / "top", "a.wav", "b_denoised.wav", ".hidden.wav")
    for name in ("c.dsf", "d.DSF", "notes", "denoised_report.json", "b_spectrogram.png", ".e.dsf"):
        (tmp_path / "top" / name).write_text("something")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top" / "gone.wav").symlink_to(tmp_path / "nothing.wav")
    found = inputs.find_recordings(str(tmp_path / "top"))
    assert [path.name for path in found] == ["a.wav", "b_denoised.wav"]
    assert "left out, as their endings are not those of recordings: 2 x .dsf, 1 x no ending" in (
        caplog.text)
    assert "link: a link to a folder, which is not followed" in caplog.text
    assert "gone.wav: a link to nothing, or no regular file; left out" in caplog.text
