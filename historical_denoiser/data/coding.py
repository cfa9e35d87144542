"""Encodes audio with a lossy codec and decodes it: many archives offer compressed recordings."""

import functools
import io

import av
import numpy as np
import scipy
import soundfile

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.data.ageing import cut_above

# Encoder, container and sample rate of FFmpeg; Vorbis is encoded by libsndfile.
ENCODERS = {"mp3": ("libmp3lame", "mp3", 44100), "aac": ("aac", "ipod", 44100),
            "opus": ("libopus", "ogg", 48000)}
CODECS = (*ENCODERS, "vorbis")
VORBIS_KBPS = (32.0, 160.0)  # approximate bit rates of mono audio at the qualities 0 and 0.8
BIT_RATES_KBPS = (24, 32, 48, 64, 96, 128)
MAX_DELAY = 4096  # samples, of encoder and decoder together
TEST_SECONDS = 1.0  # length of the noise with which delay and band of a codec are measured
EDGE_DB = -20.0  # a codec's band ends at this level, relative to 500 to 2000 Hz


def draw_coding(rng: np.random.Generator) -> tuple[str, int]:
    """Draws a codec and a bit rate in kbit/s, for one channel."""
    return str(rng.choice(CODECS)), int(rng.choice(BIT_RATES_KBPS))


def code(audio: np.ndarray, codec: str, kbps: int) -> np.ndarray:
    """Encodes and decodes audio at 44.1 kHz, without a delay.

    Args:
        audio: Waveform `(samples,)`. One with peaks above 0.9 is attenuated while it is coded.
        codec: One of `CODECS`.
        kbps: Bit rate in kbit/s.

    Returns:
        float32 array `(samples,)`.
    """
    scale = np.float32(0.9 / max(float(np.max(np.abs(audio), initial=0.0)), 0.9))
    decoded = _round_trip((scale * audio).astype(np.float32), codec, kbps)
    return dsp.fit_length(decoded[_measure(codec, kbps)[0] :], len(audio)) / scale


def limit_to_codec(audio: np.ndarray, codec: str, kbps: int) -> np.ndarray:
    """Removes frequencies above the band of a codec, which cannot be restored from coded audio.

    Args:
        audio, codec, kbps: As in `code`.
    """
    return cut_above(audio, _measure(codec, kbps)[1])


@functools.cache
def _measure(codec: str, kbps: int) -> tuple[int, float]:
    """Returns a codec's delay in samples and the upper edge of its band in Hz."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(
        round(TEST_SECONDS * SAMPLE_RATE)).astype(np.float32)
    decoded = dsp.fit_length(_round_trip(noise, codec, kbps), len(noise) + MAX_DELAY)
    product = scipy.signal.correlate(decoded, noise, "valid")
    delay = int(np.argmax(np.abs(product)))
    hz, power = scipy.signal.welch(decoded[delay : delay + len(noise)], SAMPLE_RATE, nperseg=1024)
    level_db = 10.0 * np.log10(power / np.median(power[(hz > 500.0) & (hz < 2000.0)]) + 1e-20)
    return delay, float(hz[np.flatnonzero(level_db > EDGE_DB)[-1]])


def _round_trip(audio: np.ndarray, codec: str, kbps: int) -> np.ndarray:
    file = io.BytesIO()
    if codec == "vorbis":
        quality = 0.8 * np.clip((kbps - VORBIS_KBPS[0]) / np.ptp(VORBIS_KBPS), 0.0, 1.0)
        soundfile.write(file, audio, SAMPLE_RATE, format="OGG", subtype="VORBIS",
                        compression_level=1.0 - quality)
        file.seek(0)
        return soundfile.read(file, dtype="float32")[0]
    encoder, container, rate = ENCODERS[codec]
    sent = dsp.resample(audio[:, None], SAMPLE_RATE, rate)[:, 0]
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(encoder, rate=rate, layout="mono")
        stream.bit_rate = 1000 * kbps
        frame = av.AudioFrame.from_ndarray(sent[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or 1024)
        for one in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(one))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        pieces = [frame.to_ndarray() for frame in source.decode(audio=0)]
    decoded = np.concatenate([piece[0] if piece.ndim == 2 else piece for piece in pieces])
    if decoded.dtype.kind == "i":
        decoded = decoded / np.iinfo(decoded.dtype).max
    return dsp.resample(decoded.astype(np.float32)[:, None], rate, SAMPLE_RATE)[:, 0]
