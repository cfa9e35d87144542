"""A sound font of one looped sine, for melodies and percussion alike (SoundFont 2.01)."""

import struct
from pathlib import Path

import numpy as np

PERIODS = 200
PERIOD_SAMPLES = 100  # 441 Hz at 44.1 kHz
GUARD_SAMPLES = 46  # zeros that must follow a sample
A4 = 69
SAMPLE_MODES, SAMPLE_ID, INSTRUMENT = 54, 53, 41  # generators
DRUM_BANK = 128


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _list(name: bytes, *chunks: bytes) -> bytes:
    return _chunk(b"LIST", name + b"".join(chunks))


def write_sound_font(path: Path, level: float = 0.5) -> None:
    """Writes the font; `level` is the sine's, 1 is full scale."""
    times = np.arange(PERIODS * PERIOD_SAMPLES)
    sine = np.round(32767 * level * np.sin(2.0 * np.pi * times / PERIOD_SAMPLES)).astype("<i2")
    samples = sine.tobytes() + bytes(2 * GUARD_SAMPLES)
    presets = [(b"sine", 0, 0, 0), (b"stroke", 0, DRUM_BANK, 1), (b"EOP", 0, 0, 2)]
    sample = struct.pack("<20sIIIIIBbHH", b"sine", 0, len(sine), PERIOD_SAMPLES,
                         len(sine) - PERIOD_SAMPLES, 44100, A4, 0, 0, 1)
    end = struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    content = b"sfbk" + _list(
        b"INFO", _chunk(b"ifil", struct.pack("<HH", 2, 1)), _chunk(b"isng", b"EMU8000\0"),
        _chunk(b"INAM", b"sine\0\0")) + _list(b"sdta", _chunk(b"smpl", samples)) + _list(
        b"pdta",
        _chunk(b"phdr", b"".join(struct.pack("<20sHHHIII", name, program, bank, bag, 0, 0, 0)
                                 for name, program, bank, bag in presets)),
        _chunk(b"pbag", struct.pack("<6H", 0, 0, 1, 0, 2, 0)), _chunk(b"pmod", bytes(10)),
        _chunk(b"pgen", struct.pack("<6H", INSTRUMENT, 0, INSTRUMENT, 0, 0, 0)),
        _chunk(b"inst", struct.pack("<20sH20sH", b"sine", 0, b"EOI", 1)),
        _chunk(b"ibag", struct.pack("<4H", 0, 0, 2, 0)), _chunk(b"imod", bytes(10)),
        _chunk(b"igen", struct.pack("<6H", SAMPLE_MODES, 1, SAMPLE_ID, 0, 0, 0)),
        _chunk(b"shdr", sample + end))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_chunk(b"RIFF", content))
