"""How many seconds of noise one core generates in a second.

    python benchmarks/noise.py

"stream" is one long noise; "segments" draws a new noise for every two seconds, as training does.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder: same name

import numpy as np  # noqa: E402

from denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from denoiser.noise import generator  # noqa: E402
from denoiser.noise.carriers import KINDS  # noqa: E402

logger = logging.getLogger(__name__)

STREAM_SECONDS = 120
SEGMENTS, SEGMENT_SECONDS = 60, 2


def measure_ratio(work: Callable[[], None], seconds: float) -> float:
    """Returns `seconds` of audio over the processor time that `work` takes to make them."""
    start = time.process_time()
    work()
    return seconds / (time.process_time() - start)


def main() -> None:
    """Prints the ratio of each kind."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for kind in (*KINDS, "mixed"):
        rng = np.random.default_rng(0)

        def run_stream(kind: str = kind, rng: np.random.Generator = rng) -> None:
            blocks = generator.stream(kind, SAMPLE_RATE, rng)
            for _ in range(STREAM_SECONDS):
                next(blocks)

        def run_segments(kind: str = kind, rng: np.random.Generator = rng) -> None:
            for _ in range(SEGMENTS):
                generator.generate(kind, SEGMENT_SECONDS * SAMPLE_RATE, rng)

        logger.info("%-10s stream %4.0f x real time, segments %4.0f x", kind,
                    measure_ratio(run_stream, STREAM_SECONDS),
                    measure_ratio(run_segments, SEGMENTS * SEGMENT_SECONDS))


if __name__ == "__main__":
    main()
