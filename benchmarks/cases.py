"""Methods on noise of which the honest test holds little: rumble, hiss of tape, impulses.

Run: python benchmarks/cases.py [METHOD ...] [--pieces=6] [--solo=WORD] [--bound]
     [--set key=value ...]

Methods are named as for `evaluate.py`; `network` where none is. Prints a Markdown table with the
means, above 20 Hz, of so many pieces of 5 s of the test's clean sound (`dset=heldout`) under

- rumble: Gaussian noise of 20 to 200 Hz under a solo instrument, which is every clip that has WORD
  in the name of its group: fiddle tunes of one voice, in the sound font that is held out;
- hiss: the recordings of tape that nothing was trained on, at 20 dB under the quietest of several
  stretches of each piece of music. They stand for cassettes, of which none may be passed on;
- impulses: clicks of 0.1 to 1 ms and of widely different levels, 20 in a second, with hiss 30 dB
  below them, under music and under speech.

Methods that are told the noise get 1.5 s of another stretch of it. ViSQOL is measured where it is
installed (requirements-metrics.txt). `--bound` sets beside them an ideal
mask in the network's windows: the Wiener gain of each bin, made from the clean sound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as where the commands are

import numpy as np  # noqa: E402 - the path above makes what follows visible
import scipy.fft  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402

from benchmarks.bounds import apply_ideal_masks  # noqa: E402
from dataset_loader import TEST_PROFILE_SECONDS, Mixer  # noqa: E402
from evaluate import NETWORK, is_weights, own_methods  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.bench import methods  # noqa: E402
from historical_denoiser.core.checks import UserError, require  # noqa: E402
from historical_denoiser.core.command_line import run_main  # noqa: E402
from historical_denoiser.data.audio_index import Clip, NoiseRecording, find_clips, find_noise  # noqa: E402
from historical_denoiser.data.mixture import Mixture  # noqa: E402
from historical_denoiser.data.recordings import read_noise, read_segment, take_stretch  # noqa: E402
from historical_denoiser.data.settings import DsetConfig  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training import metrics, perceptual  # noqa: E402

SECONDS = 5.0
PROFILE_SAMPLES = round(TEST_PROFILE_SECONDS * SAMPLE_RATE)
SAMPLES = round(SECONDS * SAMPLE_RATE)
SNRS_DB, HISS_SNR_DB = (3.0, 10.0, 20.0), 20.0
STRETCHES = 8  # of a piece, of which the quietest is taken
QUIETEST_DBFS = -60.0  # what is quieter is a pause
SOLO = "ryansMammoth"
RUMBLE_HZ = (20.0, 200.0)
CLICKS_PER_SECOND = 20.0
CLICK_SECONDS = (1e-4, 1e-3)  # decay of a click by 1/e
CLICK_SPREAD_DB = 8.0  # standard deviation of their levels
HISS_DB = -30.0  # under the clicks
BOUND = "ideal Wiener mask"
MEASURES = ("snr_gain_db", "lsd_db", "lsd_gain_db", "noise_left_db", "residual_correlation")

MakeNoise = Callable[[int, np.random.Generator], np.ndarray]


def make_rumble(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes Gaussian noise of 20 to 200 Hz, `(samples,)`."""
    hz = scipy.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    spectrum = scipy.fft.rfft(rng.standard_normal(samples))
    return scipy.fft.irfft(spectrum * ((hz >= RUMBLE_HZ[0]) & (hz <= RUMBLE_HZ[1])), samples)


def make_impulses(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Makes clicks at random with a little hiss, `(samples,)`."""
    noise = np.zeros(samples)
    count = max(1, rng.poisson(CLICKS_PER_SECOND * samples / SAMPLE_RATE))
    for start in rng.integers(samples, size=count):
        decay = rng.uniform(*CLICK_SECONDS) * SAMPLE_RATE
        length = min(round(8.0 * decay), samples - start)
        level = 10.0 ** (CLICK_SPREAD_DB * rng.standard_normal() / 20.0)
        noise[start : start + length] += (
            level * np.exp(-np.arange(length) / decay) * rng.standard_normal(length))
    return noise + 10.0 ** (HISS_DB / 20.0) * np.std(noise) * rng.standard_normal(samples)


def make_tape(recording: NoiseRecording) -> MakeNoise:
    """Returns what draws stretches of a recording."""

    def make(samples: int, rng: np.random.Generator) -> np.ndarray:
        path = recording.files[rng.integers(len(recording.files))]
        return take_stretch(read_noise(path, rng), samples, False, rng)

    return make


def read_quiet(clip: Clip) -> np.ndarray:
    """Returns the quietest of several stretches of a clip that is no pause, `(samples,)`.

    Raises:
        UserError: All of them are silent.
    """
    starts = np.linspace(0.0, clip.seconds - SECONDS, STRETCHES)
    heard = [read_segment(clip.path, float(start), SECONDS)[:SAMPLES] for start in starts]
    loud = [one for one in heard if dsp.power(one) > 10.0 ** (QUIETEST_DBFS / 10.0)]
    if not loud:
        raise UserError(f"{clip.path}: must hold sound; it is silent")
    return min(loud, key=dsp.power)


def read_middle(clip: Clip) -> np.ndarray:
    """Returns the middle of a clip, `(samples,)`."""
    return read_segment(clip.path, (clip.seconds - SECONDS) / 2.0, SECONDS)[:SAMPLES]


def mix(clean: np.ndarray, make: MakeNoise, snr_db: float, category: str, name: str,
        highpass_hz: float, rng: np.random.Generator) -> Mixture:
    """Returns clean sound and noise at an SNR above `highpass_hz`, with a profile of the noise."""
    drawn = dsp.highpass(make(len(clean) + PROFILE_SAMPLES, rng).astype(np.float32), highpass_hz,
                         SAMPLE_RATE)
    noise, profile = np.split(drawn, [len(clean)])
    clean = dsp.highpass(clean, highpass_hz, SAMPLE_RATE)
    noisy = dsp.mix_at_snr(clean, noise, snr_db)
    gain = np.float32(np.std(noisy - clean) / np.std(noise))
    return Mixture(noisy, clean, category, name, snr_db, gain * profile)


def choose_clips(clips: list[Clip], pieces: int, word: str = "") -> list[Clip]:
    """Returns so many clips of the test's music that are long enough, each of another group.

    Raises:
        UserError: There are none.
    """
    groups = {}
    for clip in sorted(clips, key=lambda one: one.name):
        if (clip.category == "music" and clip.split == "test" and clip.seconds >= SECONDS
                and word in clip.group):
            groups.setdefault(clip.group, clip)
    if not groups:
        raise UserError(f"no music of the test is of {SECONDS:g} s or more"
                        + f' and has "{word}" in the name of its group: --solo' * bool(word))
    found = list(groups.values())
    places = np.linspace(0, len(found) - 1, min(pieces, len(found))).round().astype(int)
    return [found[place] for place in places]  # spread over the list: neighbours are akin


def make_mixtures(dset: DsetConfig, pieces: int, solo: str) -> Iterator[Mixture]:
    """Makes the mixtures of all three kinds; the same for the same files."""
    clips, highpass_hz = find_clips(dset), dset.snr_highpass_hz
    music = [read_quiet(clip) for clip in choose_clips(clips, pieces)]
    cases = [("rumble", make_rumble, SNRS_DB,
              [("music", read_middle(clip)) for clip in choose_clips(clips, pieces, solo)])]
    cases += [(f"hiss, {tape.name}", make_tape(tape), (HISS_SNR_DB,),
               [("music", clean) for clean in music])
              for tape in find_noise(dset) if tape.category == "tape" and tape.split != "train"]
    cases.append(("impulses", make_impulses, SNRS_DB,
                  Mixer(dset, "test", SECONDS).probe_sounds(2 * pieces, SECONDS)))
    for name, make, snrs_db, sounds in cases:
        for number, (category, clean) in enumerate(sounds):
            for snr_db in snrs_db:
                # One stretch of noise for all SNRs of a piece.
                yield mix(clean, make, snr_db, category, name, highpass_hz,
                          np.random.default_rng(number))


def judge_bound(mixture: Mixture, stft: dsp.StftConfig, highpass_hz: float,
                judge_more: metrics.JudgeMore) -> metrics.Row:
    """Returns the row of the Wiener gains that are made from a mixture's clean sound."""
    def mask(spectra: np.ndarray) -> np.ndarray:
        wiener, _ = apply_ideal_masks(*spectra.view(np.complex64)[..., 0])
        return wiener.astype(np.complex64)[None, ..., None].view(np.float32)

    predict = dsp.in_spectral_domain(mask, stft.win_size, stft.hop_size)
    noisy, clean = (dsp.highpass(audio, highpass_hz, SAMPLE_RATE)
                    for audio in (mixture.noisy, mixture.clean))
    masked = predict(np.stack([noisy, clean]))[0]
    return {"method": BOUND, "category": mixture.category, "noise": mixture.noise,
            "input_snr_db": mixture.snr_db, **metrics.judge(clean, noisy, masked),
            **judge_more(mixture.category, clean, masked)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="as those of evaluate.py")
    parser.add_argument("--pieces", type=int, default=6, help="of each kind")
    parser.add_argument("--solo", default=SOLO, metavar="WORD")
    parser.add_argument("--bound", action="store_true", help="an ideal mask beside them")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE",
                        help="settings, as those of evaluate.py")
    arguments = parser.parse_args()
    require(arguments.pieces >= 1, "--pieces", "at least 1", arguments.pieces)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", ["dset=heldout", *arguments.set]))
    chosen, _ = methods.choose(arguments.methods or [NETWORK], own_methods(cfg, set()), is_weights)
    try:
        judge_more, listeners = perceptual.load_judge(), ("visqol",)
    except UserError:  # its packages are not installed
        judge_more, listeners = metrics.judge_no_more, ()
    highpass_hz = cfg.dset.snr_highpass_hz
    rows: list[metrics.Row] = []
    for mixture in make_mixtures(cfg.dset, arguments.pieces, arguments.solo):
        rows += [{"method": method.name, **metrics.judge_mixture(
            method.each, mixture, highpass_hz, judge_more)} for method in chosen]
        if arguments.bound:
            rows.append(judge_bound(mixture, cfg.stft, highpass_hz, judge_more))
    sys.stdout.write(metrics.format_table(
        rows, ("noise", "category", "input_snr_db", "method"), (*MEASURES, *listeners)) + "\n")


if __name__ == "__main__":
    run_main(main)
