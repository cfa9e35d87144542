"""Settings that travel with weights: a file beside them says what the network needs.

The file holds what differs from the defaults, and the version of these defaults. A file without
a version, as earlier releases wrote it, holds everything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.files import WEIGHTS_ENDING, replacing
from historical_denoiser.network.runtimes import ENDINGS
from historical_denoiser.network.settings import UnetConfig

BEST_NAME = "best.weights.h5"  # the weights of a run, and of `pretrained/`, that are used
CONFIG_NAME = "config.yaml"  # the settings beside them
VERSION_KEY = "settings_version"
VERSION = 3  # raised when a default changes; older files are then read with the older default
# The defaults that files of a lower version were written with.
FORMER_DEFAULTS = {2: {"dset": {"snr_highpass_hz": 0.0}},
                   3: {"inference": {"context_seconds": 3.0}}}


@dataclass(frozen=True)
class NetworkSettings:
    """What a network needs to work as it was trained.

    Attributes:
        unet: The network's form.
        stft: The transform and the high-pass before it.
        reference_dbfs: RMS level that the network knows recordings at; None is any.
        context_seconds: Audio on both sides of a segment that the network sees but does not
            return. It covers the receptive field, and where the noise floor is found.
    """

    unet: UnetConfig = field(default_factory=UnetConfig)
    stft: StftConfig = field(default_factory=StftConfig)
    reference_dbfs: float | None = None
    context_seconds: float = 2.25

    @property
    def profile_form(self) -> ProfileForm | None:
        """What profiles of noise are made with; None: the network takes none."""
        return ProfileForm(self.stft, self.unet.compression) if self.unet.use_profile else None


# Where each of them stands in a configuration.
KEYS = {"unet": "unet", "stft": "stft", "reference_dbfs": "dset.reference_dbfs",
        "context_seconds": "inference.context_seconds"}


def find_weights(name: str | Path, shipped: Iterable[str] = ()) -> Path:
    """Returns the weights that are named by their file, their prefix, or the folder of a run.

    A network that was exported is named by its file too. `shipped` are the names that an error
    tells of.

    Raises:
        FileNotFoundError: They are not there.
    """
    path = Path(name)
    if path.is_dir():
        path /= BEST_NAME
    is_file = path.name.endswith((WEIGHTS_ENDING, *ENDINGS.values()))
    if not (path if is_file else Path(f"{path}.index")).is_file():
        raise FileNotFoundError(f"`weights` must be a {WEIGHTS_ENDING} file, the folder of a run, "
                                f"a file of export.py ({' or '.join(ENDINGS.values())}), the "
                                "prefix of a TensorFlow checkpoint or a name of shipped ones; "
                                f"{_why_none(name)}; shipped: {', '.join(shipped) or 'none'}")
    return path


def _why_none(name: str | Path) -> str:
    """Says why a name is that of no weights."""
    if not str(name):
        return "the name is empty"
    if Path(name).is_dir():
        return f"{name}: the folder holds no {BEST_NAME}"
    return f"{name}: {'another kind of file' if Path(name).exists() else 'no such file'}"


def write_settings(settings: Any, path: Path) -> None:
    """Writes what a dataclass of settings holds other than its defaults, as YAML, in one step."""
    chosen, defaults = (OmegaConf.to_container(OmegaConf.structured(each))
                        for each in (settings, type(settings)))
    differing = {VERSION_KEY: VERSION} | _difference(chosen, defaults)
    with replacing(path) as temporary:
        temporary.write_text(OmegaConf.to_yaml(OmegaConf.create(differing)), encoding="utf-8")


def _difference(chosen: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    different = {}
    for name, value in chosen.items():
        if isinstance(value, dict):
            if inner := _difference(value, defaults[name]):
                different[name] = inner
        elif value != defaults[name]:
            different[name] = value
    return different


def read_settings(path: Path) -> DictConfig:
    """Reads a file of `write_settings`, or of an earlier release with the defaults it relied on.

    Raises:
        UserError: The file is of a later version or is no YAML of settings.
    """
    try:
        stored = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:  # OSError also where it is a number
        raise UserError(f"{path} must be YAML: {' '.join(str(error).split())}") from error
    if not isinstance(stored, DictConfig):
        raise UserError(f"{path} must hold settings as `key: value`. Received: {stored!r}")
    version = stored.pop(VERSION_KEY, 0)
    if not isinstance(version, int) or version > VERSION:
        raise UserError(f"{path}: `{VERSION_KEY}` must be at most {VERSION}; the file comes from a "
                        f"later release. Received: {version!r}")
    for since, former in FORMER_DEFAULTS.items():
        if version < since:
            for section, defaults in former.items():
                own = stored.get(section, OmegaConf.create())
                if isinstance(own, DictConfig):  # anything else is told of where it is read
                    stored[section] = OmegaConf.merge(defaults, own)
    return stored


def read_network_settings(weights: Path) -> NetworkSettings | None:
    """Returns the settings stored beside `weights`, or None where there are none.

    Raises:
        UserError: The settings cannot be understood; the message names the file.
    """
    path = weights.parent / CONFIG_NAME
    if not path.is_file():
        return None
    stored, defaults = read_settings(path), NetworkSettings()
    found = {}
    # The other settings do not matter here, and may be those of another release.
    for name, key in KEYS.items():
        default = getattr(defaults, name)
        try:
            value = OmegaConf.select(stored, key, default=default)
            if dataclasses.is_dataclass(default) and value is not default:
                value = OmegaConf.to_object(OmegaConf.merge(default, value))
        except (OmegaConfBaseException, ValueError, TypeError) as error:
            raise UserError(f"{path}: `{key}` cannot be understood: "
                            f"{str(error).splitlines()[0]}") from error
        found[name] = value
    level = found["reference_dbfs"]
    require(level is None or (_is_number(level) and -100.0 <= level <= 0.0),
            f"{path}: {KEYS['reference_dbfs']}", "null or in [-100, 0]", level)
    require(_is_number(found["context_seconds"]) and 0.0 <= found["context_seconds"] < math.inf,
            f"{path}: {KEYS['context_seconds']}", "at least 0 and finite", found["context_seconds"])
    return NetworkSettings(**found)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
