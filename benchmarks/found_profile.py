"""What hearing a recording first gains, `inference.noise_profile=auto`, and a mark; and what harms.

Run: python benchmarks/found_profile.py [mixtures] [key=value ...]

Transfers of 20 s are made from the mixtures of `evaluate.py dset=heldout`: as they are ("no
pause": what `auto` finds there is a rest of the player, or a mistake), and with 2.5 s of noise
alone in front ("run-in"). Prints the SNR gain in dB above 20 Hz of the network alone, and what is
changed by hearing the recording first (the default), by a stretch that `auto` finds (where
it finds none, the recording is heard first), and by the marked run-in; and the worst changes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dataset_loader import Mixer  # noqa: E402
from historical_denoiser.audio import dsp  # noqa: E402
from historical_denoiser.audio.dsp import SAMPLE_RATE  # noqa: E402
from historical_denoiser.denoiser import Denoiser  # noqa: E402
from historical_denoiser.run import profiles  # noqa: E402
from historical_denoiser.settings import load_config  # noqa: E402
from historical_denoiser.training.metrics import snr_db  # noqa: E402

MIXTURES = 30
SECONDS, RUN_IN_SECONDS, FADE_SECONDS = 20.0, 2.5, 0.02
FORMS = {"no pause": 0.0, "run-in": RUN_IN_SECONDS}


def begin_after(audio: np.ndarray, seconds: float) -> np.ndarray:
    """Returns audio that is silent at first, and then fades in."""
    gain = np.clip((np.arange(len(audio)) / SAMPLE_RATE - seconds) / FADE_SECONDS, 0.0, 1.0)
    return (audio * gain).astype(np.float32) if seconds else audio


def main() -> None:
    """Prints a line for each transfer, then a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MIXTURES
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = load_config(compose("conf", overrides=["dset=heldout", *sys.argv[2:]]))
    alone, denoiser = Denoiser.load(listen_first=False), Denoiser.load()
    cfg.dset.reference_dbfs = denoiser.settings.reference_dbfs
    mixer = Mixer(cfg.dset, "test", SECONDS, carrier=cfg.noise)
    gains: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
    for index in range(count):
        mixture = mixer.evaluation_item(index)
        for form, run_in in FORMS.items():
            clean = begin_after(mixture.clean, run_in)
            noisy = clean + mixture.noisy - mixture.clean

            def gain_db(network: Denoiser, profile: np.ndarray | None = None,
                        noisy: np.ndarray = noisy, clean: np.ndarray = clean) -> float:
                heard = network(noisy, SAMPLE_RATE, noise_profile=profile)
                before, after, wanted = (dsp.highpass(each, 20.0, SAMPLE_RATE)
                                         for each in (noisy, heard, clean))
                return float(snr_db(wanted, after) - snr_db(wanted, before))

            found = profiles.read_profile("auto", lambda noisy=noisy: [noisy[:, None]],
                                          SAMPLE_RATE, len(noisy))
            blind, first = gain_db(alone), gain_db(denoiser)
            auto = first if found is None else gain_db(alone, found)
            told = gain_db(alone, noisy[:round(run_in * SAMPLE_RATE)]) if run_in else np.nan
            gains[form, mixture.category, f"{mixture.snr_db:g} dB"].append(
                (blind, first, auto, told, float(found is not None)))
            sys.stdout.write(f"{form}, {mixture.category} at {mixture.snr_db:g} dB, "
                             f"{mixture.noise}: {blind:+.2f}, heard first {first:+.2f}, auto "
                             f"{auto:+.2f} ({0 if found is None else len(found) / SAMPLE_RATE:.1f} "
                             f"s found), told {told:+.2f}\n")
            sys.stdout.flush()
    sys.stdout.write("\n| | alone | heard first: mean change | worst | auto: found | mean change | "
                     "worst | told: mean change | worst |\n" + 9 * "|---" + "|\n")
    for (form, category, level), rows in sorted(gains.items()):
        blind, *others, found = np.array(rows).T
        first, auto, told = (other - blind for other in others)
        sys.stdout.write(f"| {form}, {category} at {level} | {blind.mean():+.2f} "
                         f"| {first.mean():+.2f} | {first.min():+.2f} "
                         f"| {found.sum():.0f} of {len(rows)} "
                         f"| {auto.mean():+.2f} | {auto.min():+.2f} "
                         f"| {told.mean():+.2f} | {told.min():+.2f} |\n")


if __name__ == "__main__":
    main()
