"""Tests of what a run that was killed goes on from."""

import numpy as np
import pytest

from historical_denoiser.run.journal import Journal, remove_journals


def run(result, key, inputs, predict=lambda audio: 0.5 * audio):
    """Returns what came out, and how many segments came from the journal."""
    with Journal(result, key, "network") as journal:
        around = journal.around(predict)
        return [around(audio) for audio in inputs], journal.replayed


@pytest.fixture
def inputs(rng):
    return [rng.standard_normal((2, samples)).astype(np.float32) for samples in (500, 500, 60)]


def test_what_was_returned_is_returned_again(tmp_path, inputs):
    def never(audio):
        raise AssertionError

    first, replayed = run(tmp_path / "a.wav", "key", inputs[:2])
    assert replayed == 0
    again, replayed = run(tmp_path / "a.wav", "key", inputs)
    assert replayed == 2 and len(list(tmp_path.iterdir())) == 1
    again, replayed = run(tmp_path / "a.wav", "key", inputs, never)
    assert replayed == 3
    for one, other in zip(first, again, strict=False):
        np.testing.assert_array_equal(one, other)
    assert run(tmp_path / "a.wav", "another", inputs)[1] == 0
    assert run(tmp_path / "b.wav", "key", inputs)[1] == 0
    remove_journals(tmp_path / "a.wav")
    assert all(path.name.startswith(".b.wav.") for path in tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["cut", "flipped", "flipped size", "header"])
def test_a_record_that_is_not_whole_ends_a_journal(tmp_path, inputs, harm):
    whole, _ = run(tmp_path / "a.wav", "key", inputs)
    with Journal(tmp_path / "a.wav", "key", "network") as journal:
        path = journal.path
    content = bytearray(path.read_bytes())
    second = 48 + 4000
    if harm == "cut":
        content = content[: second + 300]
    elif harm == "header":
        content = content[: second + 20]
    else:
        content[second + (300 if harm == "flipped" else 30)] ^= 255
    path.write_bytes(content)
    again, replayed = run(tmp_path / "a.wav", "key", inputs)
    assert replayed == 1
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run(tmp_path / "a.wav", "key", inputs)[1] == 3


def test_another_input_ends_a_journal(tmp_path, inputs):
    run(tmp_path / "a.wav", "key", inputs)
    changed = [inputs[0], -inputs[1], inputs[2]]
    again, replayed = run(tmp_path / "a.wav", "key", changed)
    assert replayed == 1
    np.testing.assert_array_equal(again[1], -0.5 * inputs[1])
