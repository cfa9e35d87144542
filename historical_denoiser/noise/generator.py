"""Generates the noise of old carriers at 44.1 kHz, endless and reproducible from a seed.

`carriers.py` draws the parts of a noise; this module adds them up block by block. Start reading at
`generate`.
"""

import numpy as np

from historical_denoiser.audio.dsp import to_gain
from historical_denoiser.core.checks import require
from historical_denoiser.noise import parts
from historical_denoiser.noise.alone import draw_part
from historical_denoiser.noise.carriers import CARRIERS, KINDS, Carrier, CarrierConfig
from historical_denoiser.noise.parts import CHUNK, draw

TARGET_DBFS = -30.0  # RMS of the first chunk; later events make the level vary


def draw_carrier(kind: str, rng: np.random.Generator, carrier: CarrierConfig | None = None,
                 ) -> Carrier:
    """Draws the parts of a new noise.

    Args:
        kind: "gramophone", "film", "tape", "hum", or "mixed", which draws one of these.
        rng: Source of all randomness.
        carrier: Ranges to draw from; None for the defaults.

    Raises:
        UserError: `kind` is unknown.
    """
    require(kind in (*KINDS, "mixed"), "kind", f"one of {(*KINDS, 'mixed')}", kind)
    carrier = carrier or CarrierConfig()
    own = np.random.default_rng(rng.integers(2**63))
    # `own` makes the same noise whatever the shares of lone and dominant parts are.
    lone = own.spawn(1)[0]
    if kind == "mixed":
        shares = np.array([carrier.share(name) for name in KINDS])
        kind = KINDS[own.choice(len(KINDS), p=shares / shares.sum())]
    form = lone.uniform()
    if form < carrier.alone_share:
        name, part = draw_part(lone, carrier)
        return Carrier({name: (0.0, part)}, rms=1.0)
    drawn = CARRIERS[kind](own, getattr(carrier, kind))
    if form < carrier.alone_share + carrier.dominant_share:
        name, part = draw_part(lone, carrier)
        drawn.dominant = name, draw(lone, carrier.dominant_db), part
    return drawn


class CarrierNoise:
    """One endless noise, rendered block by block.

    Args:
        carrier: The parts as drawn.
    """

    def __init__(self, carrier: Carrier) -> None:
        self.carrier, self.dominant = carrier, None
        first = self._render_chunk()
        # Without hiss the first chunk may be silent; levels are then relative to an RMS of 1.
        rms = carrier.rms or np.sqrt(np.mean(first**2, dtype=np.float64)) or 1.0
        if carrier.dominant:
            _, level_db, part = carrier.dominant
            self.dominant = parts.amplify(part, 20.0 * np.log10(rms) + level_db)
            first += next(self.dominant)
            rms = np.hypot(rms, rms * to_gain(level_db))
        self.gain = np.float32(to_gain(TARGET_DBFS) / rms)
        # The noise begins at its first click, so that no block of it is digital silence.
        self.ready = first[np.argmax(first != 0.0):] * self.gain

    def _render_chunk(self) -> np.ndarray:
        total = np.zeros(CHUNK, np.float32)
        for level_db, part in self.carrier.parts.values():
            total += np.float32(to_gain(level_db)) * next(part)
        if self.dominant:
            total += next(self.dominant)
        return total

    def read(self, samples: int) -> np.ndarray:
        """Returns the next `samples` of the noise, float32 `(samples,)`."""
        missing = -(-(samples - len(self.ready)) // CHUNK)
        new = [self._render_chunk() * self.gain for _ in range(missing)]
        joined = np.concatenate([self.ready, *new])
        self.ready = joined[samples:]
        return joined[:samples]

    def follow(self, signal: np.ndarray) -> np.ndarray:
        """Returns the noise that follows a signal, such as the modulation noise of tape.

        The level of this noise is relative to the stationary hiss, for a signal at its own RMS; the
        scale of the signal has no influence.

        Args:
            signal: Clean signal `(samples,)`.

        Returns:
            float32 array `(samples,)`.
        """
        power = np.mean(np.square(signal, dtype=np.float64))
        if self.carrier.following is None or power == 0.0:
            return np.zeros(len(signal), np.float32)
        level_db, follow = self.carrier.following
        return (float(self.gain * to_gain(level_db)) * follow(signal, power)).astype(np.float32)


def generate(kind: str, samples: int, rng: np.random.Generator,
             carrier: CarrierConfig | None = None) -> np.ndarray:
    """Draws a new noise and returns its first `samples`, with an RMS of about -30 dBFS.

    Args:
        kind: As in `draw_carrier`.
        samples: Length, at least 1.
        rng: Source of all randomness.
        carrier: Ranges to draw from; None for the defaults.

    Returns:
        float32 array `(samples,)`.

    Raises:
        UserError: `kind` is unknown, or `samples` is below 1.
    """
    require(samples >= 1, "samples", "at least 1", samples)
    return CarrierNoise(draw_carrier(kind, rng, carrier)).read(samples)
