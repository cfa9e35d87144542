"""A user's pairs of noisy and clean files as mixtures, and recordings without clean versions."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from historical_denoiser.audio import dsp
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.audio.noise_profile import MIN_SECONDS
from historical_denoiser.bench import measures
from historical_denoiser.core.checks import UserError
from historical_denoiser.data.mixture import Mixture
from historical_denoiser.formats import containers
from historical_denoiser.formats.audio_io import AUDIO_ENDINGS
from historical_denoiser.run import inputs

NOISY, CLEAN, NOISE = "noisy", "clean", "noise"
SNR_STEP_DB = 5.0  # tables group pairs by their SNR, rounded to a multiple of this
CATEGORIES = ("speech", "music", "effects")
UNKNOWN = "all"  # the category of files outside folders with these names
FORMS = ("FOLDER/noisy/NAME with FOLDER/clean/NAME, FOLDER/NAME_noisy.wav with "
         "FOLDER/NAME_clean.wav, or FOLDER/NAME/noisy.wav with FOLDER/NAME/clean.wav")
ENDS_NOISY = re.compile(r"(^|_)noisy$")


@dataclass(frozen=True)
class Pair:
    """The files of one item.

    Attributes:
        name: Name in tables.
        noisy: The recording.
        clean: Its clean version, if there is one.
        noise: Its noise alone, if there is a file of it.
        category: Name of the nearest subfolder called speech, music or effects (in any case) that
            contains the recording; else "all".
    """

    name: str
    noisy: Path
    clean: Path | None = None
    noise: Path | None = None
    category: str = UNKNOWN


def find_pairs(folder: str) -> list[Pair]:
    """Returns the pairs of a folder, which are named as in `FORMS` with any audio ending.

    `noise/NAME` or `NAME_noise.wav` may hold the noise alone, at the recording's level.

    Raises:
        UserError: There are no pairs, or a noisy file has no clean one.
    """
    if not Path(folder).is_dir():
        raise UserError(f"`bench.pairs` must be a folder that exists. Received: {folder}")
    sounds = _sounds_in(folder)
    by_name = _by_name(sounds)
    pairs = []
    for path in sounds:
        clean = _partner(path, by_name, CLEAN)
        if clean is not None:
            pairs.append(Pair(_name_of(path, Path(folder)), path, clean,
                              _partner(path, by_name, NOISE), _category_of(path, Path(folder))))
        elif _role(path) == NOISY:
            raise UserError(f"`bench.pairs`: {path} must have a clean file beside it ({FORMS}); "
                            "there is none")
    if not pairs:
        raise UserError(f"`bench.pairs` must be a folder with pairs: {FORMS}. "
                        f"Received: {folder}, which holds none")
    return pairs


def find_recordings(place: str) -> list[Pair]:
    """Returns the recordings of a folder, or a single one; `find_pairs` says where noise may be.

    In folders, hidden files and results of `inference.py` are left out.

    Raises:
        UserError: There is no recording.
    """
    path = Path(place)
    if path.is_dir():
        folder, sounds = path, _sounds_in(place)
        chosen = [one for one in sounds if _role(one) != NOISE]
    else:
        folder, chosen = path.parent, [path] * path.exists()
        # Its noise may be in the same folder, or in the folder `noise` beside that.
        sounds = sorted(one for one in (*folder.glob("*"), *(folder.parent / NOISE).glob("*"))
                        if one.suffix.lower() in AUDIO_ENDINGS | containers.ENDINGS)
    if not chosen:
        fault = "holds none" if path.exists() else "does not exist"
        raise UserError(f"`bench.recordings` must be a recording or a folder of them. "
                        f"Received: {place}, which {fault}")
    by_name = _by_name(sounds)
    return [Pair(_name_of(one, folder), one, None, _partner(one, by_name, NOISE),
                 _category_of(one, folder)) for one in chosen]


def _sounds_in(folder: str) -> list[Path]:
    # The result for a folder without recordings is the folder itself.
    return [path for path in inputs.find_recordings(folder) if path.is_file()]


def _by_name(sounds: list[Path]) -> dict[Path, Path]:
    """Returns the files by their paths without endings; the first one for each path."""
    return {one.with_suffix(""): one for one in reversed(sounds)}


def note_categories(pairs: list[Pair]) -> str | None:
    """Returns a sentence about pairs without a known category, or None if there are none."""
    unknown = sum(pair.category == UNKNOWN for pair in pairs)
    if not unknown:
        return None
    return (f"{unknown} of {len(pairs)} are in no subfolder called {', '.join(CATEGORIES[:-1])} or "
            f'{CATEGORIES[-1]}: their category is "{UNKNOWN}", and PESQ, STOI and DNSMOS, which '
            "are for speech, leave them out.")


def _role(path: Path) -> str | None:
    """Returns "noisy", "clean" or "noise" from a file's folder or the end of its name, or None."""
    if path.parent.name in (NOISY, CLEAN, NOISE):
        return path.parent.name
    ending = path.stem.rpartition("_")[2]
    return ending if ending in (NOISY, CLEAN, NOISE) else None


def _partner(path: Path, sounds: dict[Path, Path], role: str) -> Path | None:
    """Returns the file of the same item with another role, with any ending."""
    own = _role(path)
    if own not in (NOISY, None) or (own is None and role == CLEAN):
        return None
    if path.parent.name == NOISY:
        wanted = path.parent.parent / role / path.stem
    else:
        stem = ENDS_NOISY.sub(rf"\1{role}", path.stem)
        wanted = path.with_name(stem if own == NOISY else f"{stem}_{role}")
    return sounds.get(wanted)


def _category_of(path: Path, folder: Path) -> str:
    parts = (part.lower() for part in reversed(path.relative_to(folder).parent.parts))
    return next((part for part in parts if part in CATEGORIES), UNKNOWN)


def _name_of(path: Path, folder: Path) -> str:
    parts = [part for part in path.relative_to(folder).parent.parts if part != NOISY]
    parts.append(ENDS_NOISY.sub("", path.stem))
    return "/".join(part for part in parts if part) or path.stem


def read_mono(path: Path, seconds: float | None = None) -> np.ndarray:
    """Returns the mean of a file's channels at 44.1 kHz, `(samples,)`, float32.

    With `seconds` it reads only the beginning.
    """
    recording = containers.open_audio(path)
    wanted = None if seconds is None else int(seconds * recording.rate)
    blocks, present = [], 0
    for block in containers.read_blocks(recording):
        blocks.append(block.mean(axis=1))
        present += len(block)
        if wanted is not None and present >= wanted:
            break
    if not blocks:
        raise UserError(f"{path}: must hold sound; it is empty")
    audio = np.concatenate(blocks)[:wanted]
    if not np.isfinite(audio).all():
        raise UserError(f"{path}: must hold finite samples; there are NaN or infinite ones")
    return dsp.resample(audio.astype(np.float32), recording.rate, SAMPLE_RATE)


def read_profile(pair: Pair) -> np.ndarray | None:
    """Returns a pair's noise alone, or None if there is no file of it."""
    if pair.noise is None:
        return None
    noise = read_mono(pair.noise)
    if len(noise) < MIN_SECONDS * SAMPLE_RATE or np.ptp(noise) == 0.0:
        raise UserError(f"{pair.noise}: must hold at least {MIN_SECONDS:g} s of noise; it "
                        "is shorter or silent")
    return noise


def read_mixture(pair: Pair, highpass_hz: float = 0.0) -> tuple[Mixture, float]:
    """Returns a pair as a mixture, and its SNR in dB above `highpass_hz`.

    The mixture's own `snr_db` is rounded to a multiple of `SNR_STEP_DB`, and its `noise` is the
    name of the pair's folder, so that tables can group pairs.

    Raises:
        UserError: The files differ in length, or one is silent.
    """
    noisy, clean = read_mono(pair.noisy), read_mono(pair.clean)
    if len(noisy) != len(clean):
        raise UserError(f"{pair.noisy}: must be as long as {pair.clean}: "
                        f"{len(noisy) / SAMPLE_RATE:.3f} s and {len(clean) / SAMPLE_RATE:.3f} s")
    sides = (clean, noisy - clean)
    filtered = [dsp.highpass(side, highpass_hz, SAMPLE_RATE) for side in sides]
    if any(dsp.power(side) == 0.0 for side in (*sides, *filtered)):
        raise UserError(f"{pair.noisy}: must differ from {pair.clean}, which must not be silent")
    signal, noise = map(dsp.power, filtered)
    snr_db = dsp.decibels(signal / noise)
    group = pair.name.rpartition("/")[0] or "pairs"
    rounded = SNR_STEP_DB * round(snr_db / SNR_STEP_DB)
    return Mixture(noisy, clean, pair.category, group, rounded, read_profile(pair)), snr_db


def read_recording(pair: Pair, seconds: float) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the first `seconds` of a recording, and its noise alone.

    The noise comes from its own file, or else from the recording; None if none is found there.

    Raises:
        UserError: The recording cannot be read, is silent or too short.
    """
    audio = read_mono(pair.noisy, seconds)
    measures.check_alone(audio, str(pair.noisy))
    profile = read_profile(pair)
    if profile is None:
        from historical_denoiser.noise import finder  # its filters load slowly

        found, _, _ = finder.find_profile(lambda: [audio[:, None]], SAMPLE_RATE)
        profile = None if found is None else found[:, 0]
    return audio, profile
