"""What recordings meet that no mixture of the test has: silence, fades, codecs, other channels.

Run: python benchmarks/situations.py [--mixtures=10] [--split=test] [--only=NAMES] [key=value ...]

Each mixture of `dset=heldout` at 10 dB, 16 s long, is restored as it is and in each situation.
Prints, in dB above 20 Hz, the mean SNR gain in the situation and how much less that is than where
the mixture is restored as it is: the mean and the worst. Where the situation is a filter or a gain,
the latter is that of the restored mixture filtered so.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.signal
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.data.mixture import Mixture  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

SECONDS, SNR_DB = 16.0, 10.0
CODEC_DELAY = 3000  # samples by which a coder moves its input at most

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A mixture in a situation; arrays are `(samples,)` or `(samples, channels)`.

    Attributes:
        wanted: Without its noise.
        heard: With it.
        restored_before: What the mixture as it is becomes, in this situation.
        sample_rate: In Hz.
    """

    wanted: np.ndarray
    heard: np.ndarray
    restored_before: np.ndarray
    sample_rate: int = SAMPLE_RATE

    def gain_db(self, restored: np.ndarray) -> float:
        """Returns the SNR gain above 20 Hz."""
        wanted, heard, restored = (
            np.ravel(dsp.highpass(np.atleast_2d(each.T), 20.0, self.sample_rate))
            for each in (self.wanted, self.heard, restored))
        return float(snr_db(wanted, restored) - snr_db(wanted, heard))


# Of a mixture and what it becomes where it is restored as it is.
Situation = Callable[[Mixture, np.ndarray], Trial]


def times(mixture: Mixture) -> np.ndarray:
    return np.arange(len(mixture.clean)) / SAMPLE_RATE


def changed(change: Change, sample_rate: int = SAMPLE_RATE) -> Situation:
    """Returns the situation in which all that is heard is changed alike."""
    return lambda mixture, restored: Trial(
        change(mixture.clean), change(mixture.noisy), change(restored), sample_rate)


def with_gain(gain_of: Callable[[np.ndarray], np.ndarray | float]) -> Situation:
    """Returns the situation in which all has a gain that depends on the time in s."""
    return changed(lambda audio: (gain_of(np.arange(len(audio)) / SAMPLE_RATE) * audio).astype(
        np.float32))


def with_noise_gain(gain_of: Callable[[np.ndarray], np.ndarray | float]) -> Situation:
    """Returns the situation in which the noise alone has such a gain, and its power stays."""

    def situation(mixture: Mixture, restored: np.ndarray) -> Trial:
        noise = mixture.noisy - mixture.clean
        changed = gain_of(times(mixture)) * noise
        changed *= np.sqrt(dsp.power(noise) / dsp.power(changed))
        return Trial(mixture.clean, (mixture.clean + changed).astype(np.float32), restored)

    return situation


def distorted(distort: Change) -> Situation:
    """Returns the situation in which what is heard is distorted; that is no noise, and stays."""

    def situation(mixture: Mixture, restored: np.ndarray) -> Trial:
        heard = distort(mixture.noisy)
        error = heard - mixture.noisy
        return Trial(mixture.clean + error, heard, restored + error)

    return situation


def swing(depth_db: float, seconds: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a gain that goes up and down by so many dB in all."""
    return lambda times: 10.0 ** (depth_db / 40.0 * np.sin(2.0 * np.pi * times / seconds))


def silent_between(audio: np.ndarray) -> np.ndarray:
    """Returns digital silence of 2 s before, within and after."""
    gap = np.zeros(2 * SAMPLE_RATE, np.float32)
    first, second = np.array_split(audio, 2)
    return np.concatenate([gap, first, gap, second, gap])


def fade(times: np.ndarray) -> np.ndarray:
    return np.clip(np.minimum(times, times[-1] - times) / 4.0, 0.0, 1.0) ** 2


def sound_starts_late(mixture: Mixture, restored: np.ndarray) -> Trial:
    late = (times(mixture) < SECONDS / 2.0) * mixture.clean
    return Trial(mixture.clean - late, mixture.noisy - late, restored - late)


def levelled(mixture: Mixture, restored: np.ndarray) -> Trial:
    """A slow automatic gain, 3:1 above -40 dBFS, as of film and tape recorders."""
    rises, falls = (1.0 - np.exp(-1.0 / (seconds * SAMPLE_RATE)) for seconds in (0.01, 0.8))
    power, powers = 1e-8, []
    for square in np.square(mixture.noisy, dtype=np.float64).tolist():
        power += (rises if square > power else falls) * (square - power)
        powers.append(power)
    over_db = np.maximum(10.0 * np.log10(np.array(powers)) + 40.0, 0.0)
    return with_gain(lambda _: 10.0 ** (-over_db / 30.0))(mixture, restored)


def low_pass(cutoff_hz: float) -> Situation:
    sos = scipy.signal.butter(8, cutoff_hz, fs=SAMPLE_RATE, output="sos")
    return changed(lambda audio: scipy.signal.sosfiltfilt(sos, audio).astype(np.float32))


def coded(codec: str, container: str, bit_rate: int) -> Situation:
    """Returns the situation in which what is heard was coded."""
    import av

    def code(audio: np.ndarray) -> np.ndarray:
        level = 2.0 * np.abs(audio).max()
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream = output.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
            stream.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray((audio / level)[None], "fltp", "mono")
            frame.sample_rate = SAMPLE_RATE
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                output.mux(packet)
        file.seek(0)
        with av.open(file) as given:
            found = np.concatenate([frame.to_ndarray()[0] for frame in given.decode(audio=0)])
        found = np.pad(found, (CODEC_DELAY, 2 * CODEC_DELAY))
        fits = scipy.signal.correlate(found, audio, "valid")[: 2 * CODEC_DELAY]
        return (level * found[fits.argmax():][: len(audio)]).astype(np.float32)

    return distorted(code)


def at_rate(sample_rate: int) -> Situation:
    return changed(lambda audio: dsp.resample(audio, SAMPLE_RATE, sample_rate), sample_rate)


def faster(factor: float) -> Situation:
    """Returns the situation in which a carrier was played at another speed."""
    return changed(lambda audio: dsp.resample(audio, SAMPLE_RATE, round(SAMPLE_RATE / factor)))


def one_channel(mixture: Mixture, restored: np.ndarray) -> Trial:
    """Noise is in one channel alone."""
    return Trial(*(np.stack([mixture.clean, each], axis=-1)
                   for each in (mixture.clean, mixture.noisy, restored)))


def other_noise_right(mixture: Mixture, restored: np.ndarray) -> Trial:
    """The noise of the second channel is that of the first, at another time."""
    noise, left = (np.roll(each - mixture.clean, 3 * SAMPLE_RATE)
                   for each in (mixture.noisy, restored))
    return Trial(np.stack([mixture.clean, mixture.clean], axis=-1),
                 np.stack([mixture.noisy, mixture.clean - noise], axis=-1),
                 np.stack([restored, mixture.clean - left], axis=-1))


def excerpt(seconds: float) -> Situation:
    start = round(5.0 * SAMPLE_RATE)
    return changed(lambda audio: audio[start : start + round(seconds * SAMPLE_RATE)])


def eight_bits(audio: np.ndarray) -> np.ndarray:
    step = np.abs(audio).max() / 127.0
    return (np.round(audio / step) * step).astype(np.float32)


def clip(audio: np.ndarray) -> np.ndarray:
    most = np.percentile(np.abs(audio), 99.5)
    return np.clip(audio, -most, most)


SITUATIONS: dict[str, Situation] = {
    "digital silence before, within, after": changed(silent_between),
    "fades of 4 s": with_gain(fade),
    "15 dB softer from 8 s on": with_gain(lambda times: np.where(times < 8.0, 1.0, 0.178)),
    "levelled": levelled,
    "sound starts at 8 s": sound_starts_late,
    "noise starts at 8 s": with_noise_gain(lambda times: times >= 8.0),
    "noise drifts by 6 dB": with_noise_gain(swing(6.0, SECONDS)),
    "noise drifts by 12 dB": with_noise_gain(swing(12.0, SECONDS)),
    "noise turns by 3 dB": with_noise_gain(swing(3.0, 60.0 / 78.26)),
    "noise turns by 6 dB": with_noise_gain(swing(6.0, 60.0 / 78.26)),
    "noise turns by 12 dB": with_noise_gain(swing(12.0, 60.0 / 78.26)),
    "noise swells by 6 dB in 4 s": with_noise_gain(swing(6.0, 4.0)),
    "-40 dB": with_gain(lambda times: 0.01),
    "offset of 0.1": distorted(lambda audio: audio + np.float32(0.1)),
    "clipped, 0.5 %": distorted(clip),
    "8 bits": distorted(eight_bits),
    "nothing above 5 kHz": low_pass(5000.0),
    "nothing above 3 kHz": low_pass(3000.0),
    "mp3, 128 kbit/s": coded("mp3", "mp3", 128000),
    "mp3, 64 kbit/s": coded("mp3", "mp3", 64000),
    "aac, 96 kbit/s": coded("aac", "adts", 96000),
    "11.025 kHz": at_rate(11025),
    "22.05 kHz": at_rate(22050),
    "96 kHz": at_rate(96000),
    "noise in one channel": one_channel,
    "other noise in the second channel": other_noise_right,
    "2 s of it": excerpt(2.0),
    "0.5 s of it": excerpt(0.5),
    "1.5 times as fast": faster(1.5),
    "0.7 times as fast": faster(0.7)}


def mixtures(count: int, split: str, denoiser: Denoiser, overrides: list[str]) -> Iterator[Mixture]:
    """Yields mixtures at 10 dB, those of each category in turn."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *overrides]))
    cfg.dset.reference_dbfs = denoiser.settings.reference_dbfs
    mixer = Mixer(cfg.dset, split, SECONDS, carrier=cfg.noise)
    names, snrs_db = mixer.evaluation_grid(len(mixer.categories) * len(cfg.dset.evaluation_snrs_db))
    whole, first = len(names) * len(snrs_db), len(names) * snrs_db.index(SNR_DB)
    for number in range(count):
        place, category = divmod(number, len(names))
        yield mixer.evaluation_item(first + category + whole * place)


def main() -> None:
    """Prints a line for each mixture on stderr, and a table of the situations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixtures", type=int, default=10)
    parser.add_argument("--split", default="test")
    parser.add_argument("--only", default="", help="situations whose name has one of these in it")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    chosen = [name for name in SITUATIONS if any(
        part in name for part in options.only.split(","))]
    denoiser = Denoiser.load()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for mixture in mixtures(options.mixtures, options.split, denoiser, options.overrides):
        plain = denoiser(mixture.noisy, SAMPLE_RATE)
        line = []
        for name in chosen:
            trial = SITUATIONS[name](mixture, plain)
            gain = trial.gain_db(denoiser(trial.heard, trial.sample_rate))
            found[name].append((gain, trial.gain_db(trial.restored_before)))
            line.append(f"{name} {gain:+.1f} for {found[name][-1][1]:+.1f}")
        sys.stderr.write(f"{mixture.category}, {mixture.noise}: {'; '.join(line)}\n")
        sys.stderr.flush()
    sys.stdout.write("| situation | SNR gain | change, mean | worst |\n" + 4 * "|---" + "|\n")
    for name, pairs in found.items():
        gains, before = np.array(pairs).T
        sys.stdout.write(f"| {name} | {gains.mean():+.1f} | {(gains - before).mean():+.1f} "
                         f"| {(gains - before).min():+.1f} |\n")


if __name__ == "__main__":
    main()
