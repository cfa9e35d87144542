"""Tests of what the conversions of packages, data sets and folders share."""

import os
import signal
import sys

import pytest

from historical_denoiser.corpus.conversion import Member, name_file, start_workers


@pytest.mark.parametrize("name", ["../../../e.wav", "/e.wav", "a/../../e.wav", "./e.wav"])
def test_an_archives_names_stay_inside_the_corpus(name, tmp_path):
    target = (tmp_path / name_file(Member("", name, "music", ""), "set", set())).resolve()
    assert target.is_relative_to(tmp_path / "music/set") and target.name == "e.wav.flac"


def test_two_clips_never_share_a_file(tmp_path):
    taken: set[str] = set()
    files = [name_file(Member("", name, "music", ""), "set", taken)
             for name in ("a b.wav", "a_b.wav", "A_b.wav")]
    assert files == ["music/set/a_b.wav.flac", "music/set/a_b.wav_.flac",
                     "music/set/A_b.wav__.flac"]


def kill_this_process(_: int) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_process_is_reported_in_a_line():
    with pytest.raises(OSError, match="converts audio was killed.*smaller `--jobs`"), \
            start_workers(2) as map_clips:
        list(map_clips(kill_this_process, range(4)))
