"""The settings of a network, stored in a file beside its weights.

The file holds the settings that differ from the defaults, and the version of the defaults. A file
without a version comes from an earlier release and holds all settings. Start reading at
`read_network_settings`.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from historical_denoiser.audio.dsp import StftConfig
from historical_denoiser.audio.noise_profile import ProfileForm
from historical_denoiser.core.checks import UserError, is_number, require
from historical_denoiser.core.files import WEIGHTS_ENDING, replacing
from historical_denoiser.network.runtimes import ENDINGS
from historical_denoiser.network.settings import UnetConfig

BEST_NAME = "best.weights.h5"  # the weights of a run, or of `pretrained/`, to use
CONFIG_NAME = "config.yaml"  # the settings beside the weights
VERSION_KEY = "settings_version"
VERSION = 4  # raised when a default changes; older files are read with the former default
# Former defaults, which apply to files with a lower version than the key.
FORMER_DEFAULTS = {2: {"dset": {"snr_highpass_hz": 0.0}},
                   3: {"inference": {"context_seconds": 3.0}},
                   4: {"inference": {"context_seconds": 2.25}}}


@dataclass(frozen=True)
class NetworkSettings:
    """The settings with which a network runs as in training.

    Attributes:
        unet: Form of the network.
        stft: Transform, and the high-pass before it.
        reference_dbfs: RMS level of recordings in training; None if they had any level.
        context_seconds: Context on both sides of a segment, which the network takes but does not
            return. It covers what the convolutions depend on; the search for the noise floor, which
            sees 2 s, is shorter at the ends of a segment, as at those of a training item.
    """

    unet: UnetConfig = field(default_factory=UnetConfig)
    stft: StftConfig = field(default_factory=StftConfig)
    reference_dbfs: float | None = None
    context_seconds: float = 1.25

    @property
    def profile_form(self) -> ProfileForm | None:
        """How noise profiles are measured; None if the network takes none."""
        return ProfileForm(self.stft, self.unet.compression) if self.unet.use_profile else None


# The key of each setting in a configuration.
KEYS = {"unet": "unet", "stft": "stft", "reference_dbfs": "dset.reference_dbfs",
        "context_seconds": "inference.context_seconds"}


def find_weights(name: str | Path) -> Path:
    """Returns the path of the weights that `name` stands for.

    Args:
        name: A weights file, the prefix of a TensorFlow checkpoint, the folder of a run, or an
            exported network.

    Raises:
        FileNotFoundError: There are no such weights.
    """
    path = Path(name)
    if path.is_dir():
        path /= BEST_NAME
    is_file = path.name.endswith((WEIGHTS_ENDING, *ENDINGS.values()))
    if not (path if is_file else Path(f"{path}.index")).is_file():
        reason = (f"the folder holds no {BEST_NAME}" if Path(name).is_dir() else
                  "another kind of file" if Path(name).exists() else "no such file")
        raise FileNotFoundError(f"`weights` must be a {WEIGHTS_ENDING} file, the folder of a run, "
                                f"a file of export.py ({' or '.join(ENDINGS.values())}), the "
                                "prefix of a TensorFlow checkpoint; "
                                f"{f'{name}: {reason}' if str(name) else 'the name is empty'}")
    return path


def write_settings(settings: Any, path: Path) -> None:
    """Writes the settings of a dataclass that differ from its defaults as YAML, atomically."""
    plain: list[Any] = [OmegaConf.to_container(OmegaConf.structured(each))
                        for each in (settings, type(settings))]
    differing = {VERSION_KEY: VERSION} | _difference(*plain)
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
    """Reads a file of `write_settings`, with the defaults of the release that wrote it.

    Raises:
        UserError: The file has a later version, or does not hold settings in YAML.
    """
    try:
        stored = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:  # OSError if the file holds a number
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
                if isinstance(own, DictConfig):  # `read_network_settings` reports other types
                    stored[section] = OmegaConf.merge(defaults, own)
    return stored


def read_network_settings(weights: Path) -> NetworkSettings | None:
    """Returns the settings stored beside `weights`, or None if there are none.

    Raises:
        UserError: The settings are invalid; the message names the file.
    """
    path = weights.parent / CONFIG_NAME
    if not path.is_file():
        return None
    stored, defaults = read_settings(path), NetworkSettings()
    found = {}
    # Other settings have no influence here and may belong to another release.
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
    require(level is None or (is_number(level) and -100.0 <= level <= 0.0),
            f"{path}: {KEYS['reference_dbfs']}", "null or in [-100, 0]", level)
    require(is_number(found["context_seconds"]) and 0.0 <= found["context_seconds"] < math.inf,
            f"{path}: {KEYS['context_seconds']}", "at least 0 and finite", found["context_seconds"])
    return NetworkSettings(**found)
