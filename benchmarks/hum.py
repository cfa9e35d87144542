"""What taking hum out line by line gains, how much hum it finds, and what it does without any.

Run: python benchmarks/hum.py [--items=60] [--strokes=240] [--network=8] [--picture=FILE]
     [key=value ...]

Prints Markdown tables of

- the mixtures of `evaluate.py dset=heldout`: SNR gain of this stage alone, by noise recording;
- music of that test, 20 s each, under drawn hum (eight lines that fall) and buzz (sixty of one
  level): in how many it is found, and the gain there;
- clean files of the data (of training too, which this stage never saw): in how many stretches
  hum is found, and how much of them is removed. Some of them do hum;
- with `--strokes`, in place of all this: in how many rows of strokes at an exact pace, 5 s each,
  hum or buzz is found;
- with `--network`, in place of all this: so many pieces of music, 5 s each, under drawn hum and
  buzz, denoised by the shipped network alone and after this stage.

`--picture` draws one mixture's lowest octaves instead, by the network alone and after this stage.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.classical.buzz import find_buzz  # noqa: E402
from historical_denoiser.classical.hum import find_hum, remove_hum  # noqa: E402
from historical_denoiser.data.audio_index import find_clips  # noqa: E402
from historical_denoiser.data.recordings import read_segment  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training import look_alikes  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

MUSIC, MUSIC_SECONDS = 24, 20.0
SNRS_DB, NETWORK_SNRS_DB = (10, 20, 30, 40), (3, 10, 20)
HUM_HZ = 50.01
LINES = {"hum": 8, "buzz": 60}
STRETCH_SECONDS = (5.0, 15.0)
CLIPS, STRETCHES = 400, 3  # of each manifest, and at most so many of each clip
MANIFESTS = ("data/heldout/manifest.csv", "data/scores/manifest.csv", "data/starter/manifest.csv")
LOWEST_HZ = 20.0
STROKES_SECONDS, STROKES_EVERY_S, STROKES_HISS = 5.0, (0.04, 0.3), 1e-4
SHOWN_ITEM, SHOWN_HZ, SHOWN_WINDOW, SHOWN_FLOOR = 47, 400.0, 8192, 1e-6


def heard(audio: np.ndarray) -> np.ndarray:
    """Returns audio as it is judged."""
    return dsp.highpass(audio.astype(np.float32), LOWEST_HZ, SAMPLE_RATE)


def make_hum(kind: str, clean: np.ndarray, level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Makes hum or buzz `level_db` below a sound, whose lines' levels spread by 6 dB."""
    time_s = np.arange(len(clean)) / SAMPLE_RATE
    hum = np.zeros(len(clean))
    for order in range(1, LINES[kind] + 1):
        level = 10.0 ** (rng.normal(0.0, 6.0) / 20.0) / (order if kind == "hum" else 1)
        hum += level * np.cos(2.0 * np.pi * (HUM_HZ * order * time_s + rng.uniform()))
    return hum * np.sqrt(dsp.power(clean) / dsp.power(hum) / 10.0 ** (level_db / 10.0))


def music_of(mixer: Mixer, count: int) -> list[np.ndarray]:
    """Returns pieces of the test's music."""
    return [heard(mixer.clean.draw("music", np.random.default_rng([number])))
            for number in range(count)]


def measure_mixtures(mixer: Mixer, count: int) -> None:
    """Prints the gain on the test's mixtures."""
    gains: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    found: dict[str, int] = defaultdict(int)
    for index in tqdm(range(count), disable=None):
        mixture = mixer.evaluation_item(index)
        base_hz = find_hum([mixture.noisy])
        restored = mixture.noisy if base_hz is None else remove_hum(mixture.noisy, base_hz)
        clean = heard(mixture.clean)
        gains[mixture.noise][mixture.snr_db].append(
            float(snr_db(clean, heard(restored)) - snr_db(clean, heard(mixture.noisy))))
        found[mixture.noise] += base_hz is not None
    snrs = sorted({snr for by_snr in gains.values() for snr in by_snr})
    sys.stdout.write(f"\n| noise | found | {' | '.join(f'gain at {snr:g} dB' for snr in snrs)} | "
                     "least |\n" + (len(snrs) + 3) * "|---" + "|\n")
    for noise, by_snr in gains.items():
        every = sum(by_snr.values(), [])
        means = " | ".join(f"{np.mean(by_snr[snr]):+.1f}" for snr in snrs)
        sys.stdout.write(f"| {noise} | {found[noise]} of {len(every)} | {means} | "
                         f"{min(every):+.1f} |\n")


def measure_drawn(mixer: Mixer) -> None:
    """Prints what becomes of drawn hum under the test's music."""
    sys.stdout.write("\n| under music | found | gain, mean | least |\n|---|---|---|---|\n")
    rng, sounds = np.random.default_rng(0), music_of(mixer, MUSIC)
    for kind in LINES:
        for level_db in SNRS_DB:
            gains = []
            for clean in sounds:
                noisy = clean + make_hum(kind, clean, level_db, rng)
                base_hz = find_hum([noisy])
                if base_hz is not None:
                    gains.append(float(snr_db(clean, remove_hum(noisy, base_hz))
                                       - snr_db(clean, noisy)))
            worth = f"{np.mean(gains):+.1f} | {min(gains):+.1f}" if gains else "- | -"
            sys.stdout.write(f"| {kind} at {level_db} dB | {len(gains)} of {MUSIC} | {worth} |\n")


def measure_strokes(count: int) -> None:
    """Prints in how many drawn rows of strokes there is said to be hum or buzz."""
    sys.stdout.write("\n| strokes | rows | hum is found in | buzz in |\n|---|---|---|---|\n")
    rng, samples = np.random.default_rng(0), round(STROKES_SECONDS * SAMPLE_RATE)
    for name in look_alikes.STRUCK:
        rows = []
        for _ in range(count // len(look_alikes.STRUCK)):
            strokes = look_alikes.make_regular_strokes(name, samples,
                                                       rng.uniform(*STROKES_EVERY_S), rng)
            heard = [strokes + STROKES_HISS * rng.standard_normal(samples)]
            rows.append((find_hum(heard) is not None, find_buzz(heard) is not None))
        hums, buzzes = np.sum(rows, axis=0)
        sys.stdout.write(f"| {name} | {len(rows)} | {hums} | {buzzes} |\n")


def measure_network(mixer: Mixer, count: int) -> None:
    """Prints what the network gains on drawn hum, alone and after this stage."""
    alone, after = Denoiser.load(dehum=False), Denoiser.load()
    sys.stdout.write("\n| under music | network alone | after this stage | least change |\n"
                     "|---|---|---|---|\n")
    rng, sounds = np.random.default_rng(0), music_of(mixer, count)
    for kind in LINES:
        for level_db in NETWORK_SNRS_DB:
            gains = []
            for clean in sounds:
                noisy = clean + make_hum(kind, clean, level_db, rng).astype(np.float32)
                gains.append([float(snr_db(clean, heard(denoiser(noisy, SAMPLE_RATE)))
                                    - snr_db(clean, noisy)) for denoiser in (alone, after)])
            means, changes = np.mean(gains, axis=0), np.diff(gains, axis=1)
            sys.stdout.write(f"| {kind} at {level_db} dB | {means[0]:+.1f} | {means[1]:+.1f} | "
                             f"{changes.min():+.1f} |\n")
            sys.stdout.flush()


def draw(mixer: Mixer, path: str) -> None:
    """Draws spectra below `SHOWN_HZ` of a mixture and of what becomes of it."""
    from matplotlib.figure import Figure  # takes a second to load

    mixture = mixer.evaluation_item(SHOWN_ITEM)
    sounds = {f"{mixture.category} with {mixture.noise}, {mixture.snr_db:g} dB": mixture.noisy,
              "the network alone": Denoiser.load(dehum=False)(mixture.noisy, SAMPLE_RATE),
              "without its hum first": Denoiser.load()(mixture.noisy, SAMPLE_RATE),
              "clean": mixture.clean}
    figure = Figure(figsize=(12.0, 3.2), layout="constrained")
    for axes, (title, sound) in zip(figure.subplots(1, 4, sharey=True), sounds.items(),
                                    strict=True):
        power = dsp.power_of_bins(dsp.stft(heard(sound), SHOWN_WINDOW, SHOWN_WINDOW // 8))
        shown = power[:, : round(SHOWN_HZ * SHOWN_WINDOW / SAMPLE_RATE)].T
        axes.imshow(10.0 * np.log10(shown + SHOWN_FLOOR), origin="lower", aspect="auto",
                    extent=(0.0, len(sound) / SAMPLE_RATE, 0.0, SHOWN_HZ), vmin=-20.0, vmax=45.0)
        axes.set(title=title, xlabel="s")
        axes.title.set_fontsize(10)
    figure.axes[0].set_ylabel("Hz")
    figure.savefig(path, dpi=80)


def describe(sound: np.ndarray) -> str | None:
    """Says what hum is found in a sound, and how much of it that is."""
    base_hz = find_hum([sound])
    if base_hz is None:
        return None
    removed = dsp.power(sound - remove_hum(sound, base_hz)) / dsp.power(sound)
    return f"{base_hz:.2f} Hz, {dsp.decibels(removed):.0f} dB of it"


def measure_clean(manifest: str, seconds: float, describe: Callable[[np.ndarray], str | None],
                  ) -> tuple[int, list[str]]:
    """Returns how many clean stretches there are, and a line for each that is described."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        dset = load_config(compose("conf", [f"dset.path_manifests=[{manifest}]"])).dset
    clips = [clip for clip in find_clips(dset) if clip.seconds >= seconds]
    chosen = np.random.default_rng(0).permutation(len(clips))[:CLIPS]
    count, lines = 0, []
    for place in tqdm(sorted(chosen), disable=None):
        clip = clips[place]
        starts = np.linspace(0.0, clip.seconds - seconds,
                             min(STRETCHES, int(clip.seconds / seconds)))
        for start in starts:
            count += 1
            said = describe(heard(read_segment(clip.path, float(start), seconds)))
            if said is not None:
                lines.append(f"{clip.name.split('#')[0]} at {start:.0f} s: {said}")
    return count, lines


def print_clean(what: str, describe: Callable[[np.ndarray], str | None]) -> None:
    """Prints in how many clean stretches of each corpus `what` is found."""
    for seconds in STRETCH_SECONDS:
        for manifest in MANIFESTS:
            stretches, lines = measure_clean(manifest, seconds, describe)
            sys.stdout.write(f"\n{manifest}, clean stretches of {seconds:g} s: {what} is found in "
                             f"{len(lines)} of {stretches}\n" + "".join(
                                 f"- {line}\n" for line in lines))
            sys.stdout.flush()


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=60, help="mixtures of the test")
    parser.add_argument("--strokes", type=int, help="rows of strokes at an exact pace")
    parser.add_argument("--network", type=int, help="pieces of music for the network")
    parser.add_argument("--picture", help="file for a picture")
    parser.add_argument("overrides", nargs="*", help="settings, as those of evaluate.py")
    arguments = parser.parse_args()
    if arguments.strokes is not None:
        measure_strokes(arguments.strokes)
        return
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *arguments.overrides]))
    mixer = Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise)
    if arguments.picture:
        cfg.dset.reference_dbfs = Denoiser.load().settings.reference_dbfs
        draw(Mixer(cfg.dset, "test", cfg.seg_len_s_val, carrier=cfg.noise), arguments.picture)
        return
    if arguments.network is not None:
        measure_network(mixer, arguments.network)
        return
    measure_mixtures(mixer, arguments.items)
    measure_drawn(Mixer(cfg.dset, "test", MUSIC_SECONDS, carrier=cfg.noise))
    print_clean("hum", describe)


if __name__ == "__main__":
    main()
