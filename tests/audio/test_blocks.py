"""Tests of blocks: spans are cut out of recordings in blocks."""

import itertools
import weakref

import numpy as np
import pytest

from historical_denoiser.audio.blocks import Frames, Tape, in_blocks, tee


@pytest.mark.parametrize("lengths", [[100], [7] * 14 + [2], [1] * 100, [30, 0, 70]])
def test_frames_are_cut_and_pieces_put_back_into_blocks_of_any_length(lengths, rng):
    audio = rng.standard_normal((100, 2))
    blocks, frames = np.split(audio, np.cumsum(lengths)[:-1]), Frames(16)
    found = np.concatenate([frames.add(block) for block in blocks])
    np.testing.assert_array_equal(found, audio[:96].reshape(6, 16, 2))
    np.testing.assert_array_equal(frames.rest, audio[96:])
    found = list(in_blocks(blocks, lambda read: np.array_split(np.concatenate([*read])[:90], 9)))
    assert [len(block) for block, _ in found] == [
        length for length, end in zip(lengths, np.cumsum(lengths), strict=True)
        if length and end <= 90]
    for block, piece in found:
        np.testing.assert_array_equal(piece, block)


@pytest.mark.parametrize("lengths", [[100], [7] * 14 + [2], [1] * 100, [30, 0, 70]])
def test_spans_are_cut_out_of_blocks_of_any_length_and_may_overlap(lengths, rng):
    audio = rng.standard_normal((100, 2))
    blocks = np.split(audio, np.cumsum(lengths)[:-1])
    tape = Tape(blocks)
    for start, stop, keep in ((0, 40, 30), (30, 45, 35), (37, 80, 80), (85, 130, 100)):
        played = np.concatenate(list(tape.play(start, stop, keep)))
        np.testing.assert_array_equal(played, audio[start:stop])


def test_a_tape_takes_no_more_than_it_plays(rng):
    taken = itertools.count()
    blocks = (rng.standard_normal(10) for _ in taken)
    list(Tape(blocks).play(0, 35, 30))
    assert next(taken) == 4


def test_readers_of_the_same_blocks_keep_only_what_one_of_them_has_yet_to_read():
    made: list[weakref.ref] = []

    def blocks():
        for number in range(6):
            block = np.full(3, number)
            made.append(weakref.ref(block))
            yield block

    first, second = tee(blocks(), 2)
    assert [next(first)[0] for _ in range(4)] == [0, 1, 2, 3] and len(made) == 4
    assert [next(second)[0] for _ in range(3)] == [0, 1, 2]
    assert [block() is None for block in made] == [True, True, True, False]
    assert [block[0] for block in second] == [3, 4, 5] and [block[0] for block in first] == [4, 5]
