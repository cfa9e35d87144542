"""Measures what is left of recorded noise that comes alone, and what a sound gains under it.

    python benchmarks/alone.py FOLDER_OR_FILE ... [--weights small experiments/run]
    python benchmarks/alone.py grooves/ --sound trumpet.wav --stages none
    python benchmarks/alone.py --made                     # noises that are made: noise/foreign.py

Of each noise it prints by how many dB each of five bands from 100 Hz to 10 kHz is lowered, their
mean, and the lowering as a whole. With `--sound`, a clean recording, it also prints the SNR
improvement at 10 dB blind, and with two seconds of the same noise for a profile. Loops of less than
4 s are repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
import scipy.signal  # noqa: E402

from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.formats import audio_io  # noqa: E402
from historical_denoiser.noise import foreign  # noqa: E402
from historical_denoiser.training import metrics  # noqa: E402

EDGES_HZ = np.geomspace(100.0, 10000.0, 6)  # of five bands
ENDINGS = (".flac", ".wav", ".ogg", ".mp3")
NOISE_DBFS, SNR_DB = -30.0, 10.0
MIN_SECONDS, MAX_SECONDS, PROFILE_SECONDS = 4.0, 12.0, 2.0
FADE_SECONDS = 0.05
STAGES = {"none": {name: False for name in ("declick", "dehum", "wiener", "listen_first",
                                            "keep_held", "follow_noise")},
          "clicks": {name: False for name in ("dehum", "wiener", "listen_first", "keep_held",
                                              "follow_noise")},
          "all": {}}


def read(path: Path) -> np.ndarray:
    """Returns the first channel of a recording at 44.1 kHz, `(samples,)`, at most 12 s."""
    recording = audio_io.open_recording(path)
    audio = np.concatenate(list(audio_io.read_blocks(recording)))[:, 0].astype(np.float32)
    return dsp.resample(audio, recording.rate, SAMPLE_RATE)[: round(MAX_SECONDS * SAMPLE_RATE)]


def find(places: list[Path]) -> Iterator[Path]:
    """Yields the recordings that are named, and those in folders that are named."""
    for place in places:
        yield from (path for path in (sorted(place.rglob("*")) if place.is_dir() else [place])
                    if path.suffix.lower() in ENDINGS)


def band_levels_db(audio: np.ndarray) -> np.ndarray:
    """Returns the power of a waveform in each of the five bands, in dB."""
    hz, density = scipy.signal.welch(audio, SAMPLE_RATE, nperseg=4096)
    return np.array([dsp.decibels(max(density[(hz >= low) & (hz < high)].sum(), 1e-30))
                     for low, high in zip(EDGES_HZ, EDGES_HZ[1:], strict=False)])


def lowered_db(noise: np.ndarray, restore: Callable[..., np.ndarray]) -> list[float]:
    """Returns how noise alone changes: in each band, their mean, and as a whole, in dB."""
    left = restore(noise, SAMPLE_RATE)
    bands = band_levels_db(left) - band_levels_db(noise)
    whole = dsp.decibels(dsp.power(left) / dsp.power(noise))
    return [*bands, float(np.mean(bands)), whole]


def gains_db(noise: np.ndarray, sound: np.ndarray, restore: Callable[..., np.ndarray],
             ) -> list[float]:
    """Returns the SNR improvement under the noise at 10 dB: blind, and with a profile."""
    profile = noise[: round(PROFILE_SECONDS * SAMPLE_RATE)]
    samples = min(len(sound), len(noise))
    clean, under = sound[:samples], noise[-samples:]
    noisy = dsp.mix_at_snr(clean, under, SNR_DB)
    gain = np.std(noisy - clean) / np.std(under)
    return [metrics.snr_db(clean, restored) - SNR_DB for restored in (
        restore(noisy, SAMPLE_RATE), restore(noisy, SAMPLE_RATE, noise_profile=gain * profile))]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", type=Path, metavar="FOLDER_OR_FILE")
    parser.add_argument("--weights", nargs="+", default=[None], help="of networks to compare")
    parser.add_argument("--stages", choices=STAGES, default="all", help="around the network")
    parser.add_argument("--sound", type=Path, help="clean recording to mix with each noise")
    parser.add_argument("--made", action="store_true", help="open noises of noise/foreign.py, too")
    arguments = parser.parse_args()
    noises = {path.stem: read(path) for path in find(arguments.places)}
    if arguments.made:
        noises |= {name: make(round(5.0 * SAMPLE_RATE), np.random.default_rng(0))
                   for name, make in foreign.OPEN.items()}
    if not noises:
        parser.error(f"there is no recording in {[str(place) for place in arguments.places]}")
    sound = read(arguments.sound) if arguments.sound else None
    middles = " ".join(f"{np.sqrt(low * high):7.0f}" for low, high in
                       zip(EDGES_HZ, EDGES_HZ[1:], strict=False))
    for weights in arguments.weights:
        restore = Denoiser.load(weights, **STAGES[arguments.stages])
        sys.stdout.write(f"\n{weights or 'default'}, stages: {arguments.stages}\n"
                         f"{'noise':<36} {middles}    mean   whole"
                         + ("   blind profile" if sound is not None else "") + "\n")
        rows = []
        for name, noise in noises.items():
            noise = dsp.highpass(noise, 20.0, SAMPLE_RATE)
            noise *= 10.0 ** (NOISE_DBFS / 20.0) / np.std(noise)
            shortest = round(MIN_SECONDS * SAMPLE_RATE)
            if len(noise) < shortest:
                noise = dsp.repeat_with_crossfade(noise, shortest,
                                                  round(FADE_SECONDS * SAMPLE_RATE))
            noise = noise.astype(np.float32)
            rows.append(lowered_db(noise, restore)
                        + ([] if sound is None else gains_db(noise, sound, restore)))
            sys.stdout.write(f"{name[:36]:<36} " + " ".join(f"{x:7.1f}" for x in rows[-1]) + "\n")
            sys.stdout.flush()
        sys.stdout.write(f"{'mean':<36} "
                         + " ".join(f"{x:7.1f}" for x in np.mean(rows, axis=0)) + "\n")


if __name__ == "__main__":
    main()
