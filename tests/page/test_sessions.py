"""Each recording has a folder of its own, which is deleted when nobody needs it any more."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_samples import write_audio

from historical_denoiser.core.checks import UserError
from historical_denoiser.page import sessions
from historical_denoiser.page.sessions import Sessions, make_root, open_upload, require_length
from historical_denoiser.page.settings import AppConfig


def upload(folder: Path, name: str = "a.wav") -> Path:
    """Puts a file where Gradio would: below a folder that is named by its content."""
    path = folder / "0123abcd" / name
    write_audio(path, seconds=0.2)
    return path


def take(users: Sessions, key: str, *paths: Path) -> list[sessions.Upload]:
    """Gives a user these recordings, all of them open."""
    session = users.take(key, paths)
    session.current = session.uploads[0]
    return session.uploads


def test_files_of_a_user_go_when_another_recording_comes_or_the_page_is_closed(tmp_path):
    users = Sessions(tmp_path, 60.0)
    (first,) = take(users, "me", upload(tmp_path))
    assert first.file.is_file()
    first.require_present()
    (second,) = take(users, "me", upload(tmp_path, "b.wav"))
    assert first.folder != second.folder and not first.folder.exists()
    with pytest.raises(UserError, match="stopped"):
        first.require_present()
    with pytest.raises(UserError, match="stopped"), second.in_use():
        users.end("me")
        soundfile.read(second.file)
    users.end("me")
    users.end("me")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_page_that_was_closed_keeps_its_files_for_a_while_and_a_reload_gets_them_back(tmp_path):
    users = Sessions(tmp_path, 60.0)
    (mine,), _ = take(users, "me", upload(tmp_path)), take(users, "you", upload(tmp_path, "b.wav"))
    users.leave("me")
    users.leave("nobody")
    users.delete_old()
    session = users.of("me")
    assert mine.file.is_file() and len(session.token) == 32
    for token in (None, "", "None", session.token[:-1], session.folder.name, "é"):
        assert users.give_back(token, "new") is None
    assert users.give_back(session.token, "new") is session is users.of("new")
    with pytest.raises(UserError, match="no longer on the server"):
        users.of("me")
    users.leave("me")  # the news of the former page may come late
    users.delete_old(grace_seconds=0.0)
    mine.require_present()
    users.leave("new")
    session.left_at -= 100.0
    users.stay("new")  # without the connection that tells of its end
    users.delete_old(grace_seconds=50.0)
    mine.require_present()
    session.left_at -= 100.0
    users.delete_old(grace_seconds=50.0)
    assert mine.left and not mine.path.exists() and users.give_back(session.token, "new") is None
    users.of("you")


def test_several_recordings_have_distinct_names_and_stay_while_others_come_and_go(tmp_path):
    users = Sessions(tmp_path, 60.0)
    paths = [upload(tmp_path / place, name) for place, name in (
        ("x", "a.wav"), ("y", "a.wav"), ("z", "A.flac"))]
    first, second = take(users, "me", *paths[:2])
    assert [each.file.name for each in (first, second)] == ["a.wav", "a (2).wav"]
    kept, third = take(users, "me", *paths[1:])
    assert kept is second and not first.folder.exists() and not paths[0].exists()
    assert third.file.name == "A.flac" and second.file.is_file()
    session, done = users.of("me"), []
    session.request([(second, done.append), (third, done.append)])
    assert [session.state(each) for each in (second, third)] == ["being denoised", "waiting"]
    with session.next_run() as (running, _):
        assert running is second
        session.stop()
        with pytest.raises(UserError, match="stopped"):
            second.require_present()
    second.require_present()
    with session.next_run() as (running, _):
        assert running is None and session.state(second) == "waiting"


def test_users_who_send_the_same_do_not_lose_it_to_each_other(tmp_path):
    users, same = Sessions(tmp_path, 60.0), upload(tmp_path)
    take(users, "me", same)
    (other,) = take(users, "you", same)
    users.end("me")
    assert same.is_file() and other.file.is_file()
    users.end("you")
    assert not same.exists()


def test_what_is_gone_or_never_came_is_told(tmp_path):
    users = Sessions(tmp_path, 60.0)
    with pytest.raises(UserError, match="choose the recording again"):
        users.take("me", [tmp_path / "none.wav"])
    with pytest.raises(UserError, match="from an open page"):
        users.take(None, [upload(tmp_path)])
    with pytest.raises(UserError, match="choose it again"):
        users.of("me")


def test_what_is_old_is_deleted_and_the_rest_stays(tmp_path):
    users = Sessions(tmp_path, 60.0)
    (kept,) = take(users, "me", upload(tmp_path))
    left, coming = upload(tmp_path, "left.wav"), upload(tmp_path, "coming.wav")
    os.utime(left, (0, 0))
    os.utime(kept.path, (0, 0))
    users.delete_old()
    assert kept.path.exists() and coming.exists() and not left.exists()
    users.of("me").used -= 61.0
    users.delete_old()
    assert not kept.folder.exists() and not kept.path.exists()


def test_files_are_counted_while_a_folder_is_deleted(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.wav").write_bytes(bytes(60))
    files = Sessions(tmp_path, 60.0, 100)._files()
    found = [next(files)]  # both folders are known now
    shutil.rmtree(tmp_path / "a")
    assert {path.name for path in [*found, *files]} == {"a", "b", "b.wav"}


def test_lists_of_other_files_and_long_recordings_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, seconds=1.0)
    assert open_upload(path, None, AppConfig(longest_minutes=0.02)).header_seconds == 1.0
    with pytest.raises(UserError, match="longer than 0.01 minutes"):
        open_upload(path, None, AppConfig(longest_minutes=0.01))
    others = [open_upload(path, None, AppConfig())]
    with pytest.raises(UserError, match="recordings together are longer than 0.02 minutes"):
        open_upload(path, None, AppConfig(longest_minutes=0.02), others)
    with pytest.raises(UserError, match="together are larger than 1 MB"):
        open_upload(path, None, AppConfig(largest_mb=1), 12 * others)
    playlist = tmp_path / "b.mp4"
    playlist.write_text("ffconcat version 1.0\nfile 'a.wav'\n")
    with pytest.raises(UserError, match="b.mp4: a list of other files"):
        open_upload(playlist, None, AppConfig())


def test_small_files_that_become_large_are_refused(tmp_path):
    path, settings = tmp_path / "a.flac", AppConfig(most_million_samples=1)
    soundfile.write(path, np.zeros((44100, 8)), 192000)
    recording = open_upload(path, None, settings)
    require_length(recording, 0.65, settings)
    with pytest.raises(UserError, match=r"more than 1 million samples \(8 channels at 192000 Hz\)"):
        require_length(recording, 0.66, settings)  # the header may say less than there is
    soundfile.write(path, np.zeros((130000, 8)), 192000)
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match="app.most_million_samples"):
        open_upload(path, None, settings)


def test_folders_of_pages_that_crashed_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions.tempfile, "tempdir", str(tmp_path))
    running, crashed = (tmp_path / f"{sessions.PREFIX}{number}_x"
                        for number in (os.getppid(), 2**22 + 1))
    running.mkdir()
    crashed.mkdir()
    root = make_root()
    assert root.is_dir() and running.is_dir() and not crashed.exists()
    assert root.stat().st_mode & 0o077 == 0
