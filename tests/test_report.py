"""Tests of the report of a run."""

import hashlib
import json
import logging
import multiprocessing

import numpy as np
import pytest

from historical_denoiser.core.checks import UserError
from historical_denoiser.core.files import hash_of
from historical_denoiser.run import report
from historical_denoiser.run.report import (
    REPORT_NAME,
    Levels,
    RunReport,
    collected_warnings,
    read_results,
)


def test_hash_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"y")
    assert hash_of(tmp_path / "a", tmp_path / "b") == hashlib.sha256(
        b"x" * 3_000_000 + b"y").hexdigest()


def test_levels(rng):
    levels, audio = Levels(), rng.standard_normal((1000, 2))
    for part in np.split(audio, [300]):
        levels.add(input=part, output=0.1 * part, residual=0.9 * part)
    told = levels.describe()
    assert told["removed_db"] == 20.0
    assert told["level_dbfs"]["input"] == pytest.approx(10 * np.log10(np.mean(audio**2)), abs=0.01)
    levels = Levels()
    levels.add(input=np.zeros(5), output=np.zeros(5), residual=np.zeros(5))
    assert levels.describe()["removed_db"] is None
    assert Levels().describe()["level_dbfs"]["input"] is None


def test_only_our_own_warnings_are_collected():
    with collected_warnings() as messages:
        logging.getLogger("historical_denoiser.run.jobs").warning("%s is short", "a.wav")
        logging.getLogger("historical_denoiser.run.jobs").info("no")
        logging.getLogger("other").warning("no")
    logging.getLogger("historical_denoiser.run.jobs").warning("too late")
    assert messages == ["a.wav is short"]


def test_later_runs_add_to_a_report(tmp_path):
    for name in ("a_denoised.wav", "b_denoised.wav"):
        (tmp_path / name).write_bytes(b"1234")
    name = "odd \udcff.wav"
    RunReport(tmp_path, {}, {"strength": 1}).add("a.wav", [tmp_path / "a_denoised.wav"], {})
    second = RunReport(tmp_path, {"weights": "w"}, {})
    second.add(name, [tmp_path / "b_denoised.wav"], {"seconds": 2})
    second.add_failure("c.wav", "empty")
    told = json.loads((tmp_path / REPORT_NAME).read_text())
    assert told["results"]["a_denoised.wav"]["made_with"] == {"strength": 1}
    assert told["results"]["b_denoised.wav"]["input"] == name
    assert told["results"]["b_denoised.wav"]["files"] == {"b_denoised.wav": 4}
    assert told["last_run"]["failed"] == {"c.wav": "empty"}
    assert told["last_run"]["weights"] == "w"
    second.announce("a.wav", [tmp_path / "a_denoised.wav", tmp_path / "a_residual.wav"],
                    overwrite=True)
    told = json.loads((tmp_path / REPORT_NAME).read_text())
    assert list(told["results"]) == ["b_denoised.wav"]
    assert list(told["unfinished"]) == ["a_denoised.wav"]
    assert list(read_results(tmp_path)) == ["b_denoised.wav", "a_denoised.wav"]


def test_a_report_of_a_later_release_is_left_alone(tmp_path):
    content = json.dumps({"version": report.VERSION + 1, "entries": []})
    (tmp_path / REPORT_NAME).write_text(content)
    with pytest.raises(UserError, match=f"{REPORT_NAME} must be a report of version "
                                        f"{report.VERSION} or lower. .* of a later release"):
        RunReport(tmp_path, {}, {}).add("a.wav", [tmp_path / "a.wav"], {})
    assert (tmp_path / REPORT_NAME).read_text() == content


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b"[]", b"{}",
                                     b'{"results": {"a": 1}}',
                                     b'{"results": {}, "unfinished": 1}'])
def test_what_is_no_report_is_named(tmp_path, content):
    assert read_results(tmp_path) == {}
    if content is None:
        (tmp_path / REPORT_NAME).mkdir()
    else:
        (tmp_path / REPORT_NAME).write_bytes(content)
    with pytest.raises(UserError, match=f"{REPORT_NAME} must be a report"):
        read_results(tmp_path)


def _add_thirty(folder, first):
    told = RunReport(folder, {}, {})
    for number in range(30):
        told.add("a.wav", [folder / f"{first}{number}.wav"], {})


def test_two_runs_at_once_lose_no_entry(tmp_path):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=_add_thirty, args=(tmp_path, name)) for name in "ab"]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert set(read_results(tmp_path)) == {f"{name}{number}.wav" for name in "ab"
                                           for number in range(30)}


def test_what_another_run_has_written_meanwhile_is_replaced_only_on_request(tmp_path):
    recordings, result = [tmp_path / "a.wav", tmp_path / "a.mp3"], tmp_path / "a_denoised.wav"
    for recording in recordings:
        recording.write_text(recording.name)
    first, second = RunReport(tmp_path, {}, {}), RunReport(tmp_path, {}, {})
    result.write_text("sound")
    first.add(recordings[0], [result], {"input_sha256": hash_of(recordings[0])})
    second.announce(recordings[0], [result])  # the same recording: the same result
    first.add(recordings[0], [result], {"input_sha256": hash_of(recordings[0])})
    with pytest.raises(UserError, match=r"a_denoised\.wav: another run has written it meanwhile, "
                                        r"of .*a\.wav"):
        second.announce(recordings[1], [result])
    second.announce(recordings[1], [result], overwrite=True)
    first.add(recordings[0], [result], {"input_sha256": hash_of(recordings[0])})
    result.unlink()  # what is not there any more is in nobody's way
    second.announce(recordings[1], [result])
