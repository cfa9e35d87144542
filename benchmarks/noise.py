"""How many seconds of noise one core generates in a second.

    python benchmarks/noise.py

"stream" is one long noise; "segments" draws a new noise for every two seconds, as training does.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # before this folder: same name

import numpy as np  # noqa: E402

from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.noise import generator  # noqa: E402
from historical_denoiser.noise.carriers import KINDS  # noqa: E402

logger = logging.getLogger(__name__)

STREAM_SECONDS = 120
SEGMENTS, SEGMENT_SECONDS = 60, 2


def main() -> None:
    """Prints the ratios of each kind."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for kind in (*KINDS, "mixed"):
        rng = np.random.default_rng(0)
        start = time.process_time()
        generator.generate(kind, STREAM_SECONDS * SAMPLE_RATE, rng)
        middle = time.process_time()
        for _ in range(SEGMENTS):
            generator.generate(kind, SEGMENT_SECONDS * SAMPLE_RATE, rng)
        end = time.process_time()
        logger.info("%-10s stream %4.0f x real time, segments %4.0f x", kind,
                    STREAM_SECONDS / (middle - start), SEGMENTS * SEGMENT_SECONDS / (end - middle))


if __name__ == "__main__":
    main()
