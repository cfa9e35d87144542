"""Clean audio as it is drawn: speech strung into sentences, its band and its room."""

from collections import Counter

import numpy as np
import pytest
import soundfile
from small_corpus import spectrum_db

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.settings import DsetConfig
from historical_denoiser.data.sources import WORD_GAP_SECONDS, CleanSource

WORDS = 30
FRAME = 441  # samples in which pauses are looked for, 10 ms


@pytest.fixture
def manifest(tmp_path, rng):
    """Words of one speaker, 0.4 s of noise between pauses of half a second, each at its level."""
    lines = ["file,category,seconds,group,split,clean,bandwidth_hz"]
    for number in range(WORDS):
        word = np.zeros(round(1.4 * SAMPLE_RATE))
        word[SAMPLE_RATE // 2 : round(0.9 * SAMPLE_RATE)] = rng.standard_normal(
            round(0.9 * SAMPLE_RATE) - SAMPLE_RATE // 2) * rng.choice((0.03, 0.06, 0.1))
        soundfile.write(tmp_path / f"{number}.wav", word, SAMPLE_RATE)
        lines.append(f"{number}.wav,speech,1.4,speaker,train,1,{{bandwidth}}")

    def write(bandwidth: str = "") -> str:
        path = tmp_path / "manifest.csv"
        path.write_text("\n".join(lines).format(bandwidth=bandwidth) + "\n", encoding="utf-8")
        return str(path)

    return write


def draw(path: str, rng: np.random.Generator, seconds: float = 30.0, **settings: float):
    dset = DsetConfig(path_manifests=[path], **settings)
    return CleanSource(dset, "train", round(seconds * SAMPLE_RATE), Counter()).draw("speech", rng)


def levels_of(audio: np.ndarray) -> np.ndarray:
    """Returns the level of each frame."""
    return np.std(audio[: len(audio) // FRAME * FRAME].reshape(-1, FRAME), axis=1)


def pauses_of(audio: np.ndarray) -> np.ndarray:
    """Returns the lengths of the pauses between words, in seconds."""
    is_audible = levels_of(audio) > 0.005
    edges = np.flatnonzero(np.diff(is_audible.astype(int)))
    edges = edges[0 if not is_audible[edges[0] + 1] else 1 :]
    return (edges[1::2] - edges[: len(edges) - len(edges) % 2 : 2]) * FRAME / SAMPLE_RATE


def test_words_are_strung_into_sentences(manifest, rng):
    pauses = np.concatenate([pauses_of(draw(manifest(), rng)) for _ in range(4)])
    short = pauses < WORD_GAP_SECONDS[1] + 0.14  # and what `_trim_pauses` leaves
    assert 0.55 < np.mean(short) < 0.9  # two to six words a sentence
    assert np.all(pauses[~short] > 0.29) and np.all(pauses < 1.1)  # those of the clips are gone


def test_words_are_as_loud_as_each_other(manifest, rng):
    audio = draw(manifest(), rng)
    levels = levels_of(audio)
    levels = levels[levels > 0.005]
    assert np.percentile(levels, 90) < 1.3 * np.percentile(levels, 30)


def test_segments_begin_anywhere_in_a_word(manifest, rng):
    begins = [np.flatnonzero(np.abs(draw(manifest(), rng, 1.0)) > 0.005)[0] for _ in range(30)]
    assert len({begin // FRAME for begin in begins}) > 3


def test_speech_ends_where_its_bandwidth_does(manifest, rng):
    full, low = (draw(manifest(bandwidth), np.random.default_rng(1))
                 for bandwidth in ("20000", "7000"))
    change = spectrum_db(low, 1000, 6000, 8500, 14000) - spectrum_db(full, 1000, 6000, 8500, 14000)
    assert np.all(np.abs(change[:2]) < 0.5) and np.all(change[2:] < -35.0)
    for unknown in ("", "0"):
        np.testing.assert_array_equal(draw(manifest(unknown), np.random.default_rng(1)), full)


def test_a_room_fills_the_pauses(manifest):
    dry, wet = (draw(manifest(), np.random.default_rng(1), share_room=share)
                for share in (0.0, 1.0))
    quiet = levels_of(dry) < 1e-4
    assert quiet.sum() > 100
    assert np.median(levels_of(wet)[quiet]) > 1e-4
    assert np.std(wet) == pytest.approx(np.std(dry), rel=0.3)


def test_the_same_seed_draws_the_same(manifest):
    first, second = (draw(manifest(), np.random.default_rng(5), 3.0, share_room=0.5)
                     for _ in range(2))
    np.testing.assert_array_equal(first, second)
