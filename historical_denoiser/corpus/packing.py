"""Packs a corpus into a few megabytes, for training on a machine that little can be copied to.

A network learns more from excerpts of many clips than from a few whole clips, so one excerpt is
taken from each clip, then a second one, and so on until the space is filled. They are stored as Ogg
Opus; coding errors are the same in the target and in the input.
"""

import csv
import io
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.files import replacing
from historical_denoiser.corpus.manifest import MANIFEST_NAME
from historical_denoiser.data.recordings import read_segment
from historical_denoiser.data.settings import CATEGORIES

logger = logging.getLogger(__name__)

EXCERPT_SECONDS = 20.0
MIN_SECONDS = 2.0  # shortest excerpt at the end of a clip
OPUS_RATE = 48000
OPUS_LEVEL = 0.8  # libsndfile's compression level: about 57 kbit/s, noise 27 dB below piano music
VALIDATION_SHARE = 0.04  # share of the space for validation clips


def pack_corpus(manifests: Sequence[Path], output: Path, megabytes: float,
                shares: Mapping[str, float], seed: int) -> None:
    """Writes excerpts of the clean training and validation clips, and a manifest of them.

    Args:
        manifests: Manifests of the corpora.
        output: A new or empty folder.
        megabytes: Size of all excerpts together.
        shares: Shares of this size by category, normalised over the categories in `manifests`.
        seed: Seed of the choice of excerpts.

    Raises:
        UserError: `output` is not empty, there is nothing to pack, or a value is out of range.
        OSError: A clip or manifest cannot be read, or `output` cannot be written.
    """
    require(megabytes > 0.0, "--megabytes", "above 0", megabytes)
    require(set(shares) <= set(CATEGORIES) and all(share >= 0.0 for share in shares.values()),
            "--shares", f"at least 0, of {CATEGORIES}", dict(shares))
    if output.exists() and any(output.iterdir()):
        raise UserError(f"`--output` must be a new or empty folder: {output} holds files")
    rows = [row | {"path": manifest.parent / row["file"]}
            for manifest in manifests for row in _read_clean(manifest)]
    present = {name: shares.get(name, 0.0) for name in CATEGORIES
               if any(row["category"] == name for row in rows)}
    if not sum(present.values()):
        raise UserError(f"`--shares` must give space to one of {list(present)}, the categories "
                        f"with clean clips. Received: {dict(shares)}")
    rng, packed = np.random.default_rng(seed), []
    for category, split in itertools.product(present, ("train", "validation")):
        part = VALIDATION_SHARE if split == "validation" else 1.0 - VALIDATION_SHARE
        space = 1e6 * megabytes * part * present[category] / sum(present.values())
        chosen = [row for row in rows if (row["category"], row["split"]) == (category, split)]
        taken = list(_take_excerpts(chosen, output, space, rng))
        seconds = sum(float(row["seconds"]) for row in taken)
        logger.info("%s, %s: %d excerpts, %.1f min", category, split, len(taken), seconds / 60.0)
        packed += taken
    if not packed:
        raise UserError("`--megabytes` must leave space for at least one excerpt. "
                        f"Received: {megabytes}")
    with replacing(output / MANIFEST_NAME) as temporary, \
            temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [name for name in packed[0] if name != "path"],
                                extrasaction="ignore", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(packed)


def _read_clean(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("clean") == "1"]
    if not rows:
        raise UserError(f"`--manifests`: {manifest} must list clean clips: it has none")
    return rows


def _take_excerpts(rows: list[dict[str, str]], output: Path, space: float,
                   rng: np.random.Generator) -> Iterator[dict[str, str]]:
    """Writes excerpts until their files fill `space` bytes, and yields their manifest rows."""
    starts = {}  # starts of each clip's excerpts in seconds, in random order
    for index, row in enumerate(rows):
        count = max(1, math.ceil((float(row["seconds"]) - MIN_SECONDS) / EXCERPT_SECONDS))
        starts[index] = list(rng.permutation(count) * EXCERPT_SECONDS)
    used = 0
    while any(starts.values()):
        for index in rng.permutation([index for index, left in starts.items() if left]):
            row, start = rows[index], starts[index].pop()
            content, seconds = _encode(row["path"], start)
            if used + len(content) > space:
                return
            used += len(content)
            file = f"{row['category']}/{index:05d}_{start:.0f}_{row['split']}.ogg"
            (output / row["category"]).mkdir(parents=True, exist_ok=True)
            (output / file).write_bytes(content)
            yield row | {"file": file, "seconds": f"{seconds:.3f}"}


def _encode(path: Path, start: float) -> tuple[bytes, float]:
    """Returns an excerpt of a clip as Ogg Opus, and its length in seconds."""
    try:
        audio = read_segment(path, start, EXCERPT_SECONDS)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    content = io.BytesIO()
    soundfile.write(content, soxr.resample(audio, SAMPLE_RATE, OPUS_RATE), OPUS_RATE, format="OGG",
                    subtype="OPUS", compression_level=OPUS_LEVEL)
    return content.getvalue(), len(audio) / SAMPLE_RATE
