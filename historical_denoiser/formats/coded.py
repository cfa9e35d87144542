"""Finds coded sound that is stored as if it were samples: DTS, and the bursts of S/PDIF.

Players of discs and receivers decode it; as samples it is noise, which must not be denoised.
"""

from pathlib import Path

import numpy as np

from historical_denoiser.core.checks import UserError

# Pairs of adjacent 16-bit words that begin a frame: of DTS (ETSI TS 102 114, 5.3: 16 or 14 bits a
# word, both orders of bytes), and of a burst (IEC 61937-1, 6.1.2).
MARKS = {"DTS": (0x7FFE8001, 0xFE7F0180, 0x1FFFE800, 0xFF1F00E8), "S/PDIF": (0xF8724E1F,)}
MIN_FRAMES = 3  # noise may hold one of these pairs by chance


def require_sound(path: Path, block: np.ndarray) -> None:
    """Raises UserError if samples are coded sound.

    Args:
        path: The file, for the message.
        block: The first seconds of it, `(samples, channels)`, full scale at 1.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        words = block.reshape(-1) * 2.0**15
        if not (np.abs(words) <= 2.0**15).all() or not np.array_equal(words, np.rint(words)):
            return  # of more than 16 bits, or beyond full scale
    words = words.astype(np.int64) & 0xFFFF
    pairs = (words[:-1] << 16) | words[1:]
    for name, marks in MARKS.items():
        if np.count_nonzero(np.isin(pairs, marks)) >= MIN_FRAMES:
            raise UserError(f"{path}: its samples are coded sound ({name}), not sound itself; "
                            "decode it first, with `ffmpeg -i` for example")
