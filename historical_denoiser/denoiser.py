"""Loads what restores recordings: a network with its settings, or the classical method.

Start reading at `Denoiser.load` and `choose_method`.
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import logging
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from historical_denoiser.classical import spectral
from historical_denoiser.core.backend import describe_device, has_tensorflow, load_backend
from historical_denoiser.core.checks import UserError, require
from historical_denoiser.core.files import WEIGHTS_ENDING, hash_of
from historical_denoiser.core.resources import PRETRAINED
from historical_denoiser.data.audio_index import find_audio
from historical_denoiser.diffusion.settings import (
    NOISE_MODES,
    TRAINED,
    TRAINED_RANGE,
    DiffusionConfig,
)
from historical_denoiser.network import runtimes
from historical_denoiser.network.settings import UnetConfig
from historical_denoiser.network.stored import (
    BEST_NAME,
    CONFIG_NAME,
    KEYS,
    NetworkSettings,
    find_weights,
    read_network_settings,
    read_settings,
)
from historical_denoiser.restoration.restorer import Restorer
from historical_denoiser.restoration.separation import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import RETIRED, STAGES, StageSettings, without_retired
from historical_denoiser.run import profiles
from historical_denoiser.run.extras import WHOLE
from historical_denoiser.run.report import RESULTS_VERSION, hash_of_values
from historical_denoiser.settings import Config, network_settings

logger = logging.getLogger(__name__)

HISTORY_DIGITS = 16  # of the hash of the weights, in the history of restored files
# Settings that do not change the results, or that are part of the network's settings.
NOT_IN_RESULTS = {"audio", "click_list", "output_dir", "overwrite", "premis", "residual", "resume",
                  "spectrogram", "tracks", "runtime", "context_seconds", "cluster",
                  "cluster_address", "cluster_cores", *RETIRED}


class Denoiser(Restorer):
    """A trained network as a function of recordings.

    Example:
        >>> denoiser = Denoiser.load()
        >>> restored = denoiser(waveform, sample_rate, strength=0.8)
        >>> for block in denoiser.stream(blocks, sample_rate): ...

    Waveforms are floating point, `(samples,)` or `(samples, channels)`, at any sample rate. It can
    be pickled, and loads its weights again in the other process.
    """

    @classmethod
    def load(cls, weights: str | Path | None = None, settings: NetworkSettings | None = None,
             segment_seconds: float = SEGMENT_SECONDS, runtime: str = "auto",
             **stages: Any) -> Denoiser:
        """Loads a network.

        Args:
            weights: A `.weights.h5` file, the folder of a training run, a file of `export.py`, the
                prefix of a TensorFlow checkpoint. If None, the shipped weights.
            settings: Settings of the network. If None, those stored beside the weights.
            segment_seconds: Length of the segments; memory grows with it. The default is another
                one for mask networks, see `fit_segments`.
            runtime: "onnx": ONNX Runtime computes the file that `export.py` wrote beside the
                weights; "keras": Keras computes the weights themselves, on a GPU if there is one;
                "auto": the former if that file exists, unless `KERAS_BACKEND` names a backend.
            **stages: Fields of `StageSettings` that differ from their defaults: `declick=False`.

        Raises:
            FileNotFoundError: There are no such weights.
            UserError: They belong to another network, or their settings are not known.
        """
        path = find_weights(weights or PRETRAINED)
        _require_runtime(path, runtime)
        settings = settings or stored_settings(path)
        if settings is None:
            raise UserError(f"`settings` must be given: no {CONFIG_NAME} lies beside {path}")
        return cls(_Network(path.absolute(), settings, runtime), settings,
                   StageSettings(**without_retired(stages)),
                   fit_segments(segment_seconds, settings))

    def forget_lengths(self) -> None:
        """Makes the results of the network independent of its earlier inputs.

        TensorFlow makes a graph for the first length of input alone, and another one for all other
        lengths, which rounds sums differently. After this call, only the second one is used.
        """
        step, form = 2**self.settings.unet.depth, self.settings.profile_form
        for frames in (step, 2 * step):
            spectra = np.zeros((1, frames, self.settings.stft.bins, 2), np.float32)
            self.network(spectra)
            if form is not None:
                self.network([spectra, form.nothing()[None]])


class _Network:
    """A network as a function; it is pickled as the name of its weights, and loaded again."""

    def __init__(self, path: Path, settings: NetworkSettings, runtime: str) -> None:
        self._arguments = path, settings, runtime
        exported = path if runtimes.format_of(path) else _find_twin(path, runtime)
        if exported is not None:
            self._predict = runtimes.load(exported, settings.profile_form)
            logger.info("%s", runtimes.describe(exported))
        else:
            self._predict = _load_keras(path, settings)

    def __call__(self, spectra: Any) -> np.ndarray:
        return self._predict(spectra)

    def __reduce__(self) -> tuple[type[_Network], tuple[Path, NetworkSettings, str]]:
        return type(self), self._arguments


def _require_runtime(weights: Path, runtime: str) -> None:
    """Raises UserError if `runtime` cannot read an exported network."""
    kind = runtimes.format_of(weights)
    able = ["auto", *(["onnx"] if kind == "onnx" else [])]
    require(kind is None or runtime in able, "inference.runtime",
            f"{' or '.join(able)} with {weights}", runtime)


def _find_twin(weights: Path, runtime: str) -> Path | None:
    """Returns the exported network beside the weights; None if the weights are to be used."""
    if runtime == "keras" or (runtime == "auto" and "KERAS_BACKEND" in os.environ):
        return None
    twin = runtimes.find_twin(weights)
    require(twin is not None or runtime == "auto", "inference.runtime",
            f"keras with {weights}: no .onnx of these weights lies beside them (export.py makes "
            f"it), or {runtimes.REQUIREMENTS.format('onnx')} is not installed", runtime)
    return twin


def _load_keras(path: Path, settings: NetworkSettings) -> Callable[[Any], np.ndarray]:
    """Returns a network, computed by Keras, as a function that `Restorer` can call."""
    try:
        load_backend()
        unet = import_module("unet")  # a named file of the checkout, beside the package
    except ImportError as error:
        raise UserError(f"{path} needs Keras, and the checkout of this project: no .onnx of these "
                        f"weights lies beside them (export.py makes it). ({error})") from error
    logger.info("%s", describe_device())
    model = unet.build_model_denoise(settings.unet)
    try:
        unet.load_weights(model, path)
    except UserError as error:
        known = path.parent / CONFIG_NAME
        raise UserError(f"{error}; the network's form is that of "
                        f"{known if known.is_file() else 'the configuration'}") from error
    return lambda spectra: model.predict_on_batch(spectra)[0]


def fit_segments(seconds: float, settings: NetworkSettings) -> float:
    """Returns the length of segments in seconds; another default for mask networks.

    These see levels relative to the loudest bin, so that results depend on the length. With the
    context, segments are as long as in training, and overlap by half.
    """
    is_mask = settings.unet.form == "mask" and settings.context_seconds > 0.0
    return 2.0 * settings.context_seconds if is_mask and seconds == SEGMENT_SECONDS else seconds


def stored_settings(weights: Path) -> NetworkSettings | None:
    """Returns the settings stored beside weights; None for a TensorFlow checkpoint."""
    is_own = weights.name.endswith(WEIGHTS_ENDING) or runtimes.format_of(weights)
    return read_network_settings(weights) if is_own else None


def choose_network(cfg: Config, given: Iterable[str] = ()) -> tuple[Path, NetworkSettings]:
    """Finds the weights and the settings of their network, and logs both.

    Settings that are stored beside weights override the configuration.

    Args:
        cfg: All settings.
        given: The keys that the user gave in this call.

    Returns:
        The weights that were named, else the best of a run whose folder was, else the shipped
        ones; and the settings.

    Raises:
        FileNotFoundError: There are no weights.
        UserError: A setting of this call cannot apply to these weights.
    """
    best = Path(cfg.path_experiment) / BEST_NAME
    if cfg.weights is not None:
        weights, kind = find_weights(cfg.weights), "named in the call"
    elif "path_experiment" in given and best.is_file():
        weights, kind = best, f"best of {cfg.path_experiment}"
    elif cfg.method == "cassette":
        raise FileNotFoundError("no weights for method=cassette are shipped: train them by "
                                "`python train.py --config-name conf_cassette`, and name "
                                "weights=experiments/cassette")
    elif (PRETRAINED / BEST_NAME).is_file():
        weights, kind = PRETRAINED / BEST_NAME, "shipped with the project"
    else:
        raise FileNotFoundError(f"there are no weights: {PRETRAINED / BEST_NAME} does not exist; "
                                "train a network and name weights=...")
    require(trained_method(weights) != "diffusion", "method",
            f"diffusion with {weights}, the weights of a diffusion model", cfg.method)
    stored = stored_settings(weights)
    settings = network_settings(cfg)
    if stored is not None:
        _refuse_what_cannot_apply(cfg, stored, weights, given)
        if KEYS["context_seconds"] in given:  # any value works, but a smaller one makes seams
            if settings.context_seconds < stored.context_seconds:
                logger.warning("%s=%g is less than the %g s of context that the network needs",
                               KEYS["context_seconds"], settings.context_seconds,
                               stored.context_seconds)
            stored = dataclasses.replace(stored, context_seconds=settings.context_seconds)
        settings = stored
    require(cfg.method != "cassette" or settings.unet.form == "mask", "method",
            f"network with {weights}, which conf_cassette did not train", cfg.method)
    logger.info("weights: %s (%s)", weights, kind)
    form = settings.unet
    logger.info("network: depth %d, num_tfc %d, %d stages, channels %s (%s)", form.depth,
                form.num_tfc, form.num_stages, form.channels[: form.depth + 1],
                "from the configuration" if stored is None else "stored beside the weights")
    return weights, settings


def _refuse_what_cannot_apply(cfg: Config, stored: NetworkSettings, weights: Path,
                              given: Iterable[str]) -> None:
    """Raises UserError if a setting of this call contradicts those of the network."""
    belonging = [key for key in given
                 if key.startswith(("unet.", "stft.")) or key == KEYS["reference_dbfs"]]
    if not belonging:  # the trees below take a sixth of the time of starting
        return
    trained = dataclasses.replace(
        cfg, unet=stored.unet, stft=stored.stft,
        dset=dataclasses.replace(cfg.dset, reference_dbfs=stored.reference_dbfs))
    wanted, fixed = OmegaConf.structured(cfg), OmegaConf.structured(trained)
    for key in belonging:
        if OmegaConf.select(wanted, key) != OmegaConf.select(fixed, key):
            raise UserError(f"`{key}={OmegaConf.select(wanted, key)}` cannot apply to {weights}, "
                            f"which was trained with {OmegaConf.select(fixed, key)} "
                            f"({weights.parent / CONFIG_NAME}). Leave it out, or train a network "
                            "with it")


def trained_method(weights: Path) -> str | None:
    """Returns the method for which weights were trained; None if no settings lie beside them."""
    path = weights.parent / CONFIG_NAME
    return str(read_settings(path).get("method", "network")) if path.is_file() else None


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to restore recordings, and its description in the report.

    Attributes:
        name: As in the history of restored files.
        load: Loads it, which takes seconds.
        described: Its description in the report.
        made_with: Everything that the results depend on, besides the recordings.
        weights: The file of the weights; None without a network.
        fit: Returns the method as it is used for one recording.
    """

    name: str
    load: Callable[[], Restorer]
    described: dict[str, Any]
    made_with: dict[str, Any]
    weights: Path | None = None
    fit: Callable[[Restorer, Path], Restorer] = lambda restorer, path: restorer


def choose_method(cfg: Config, given: Iterable[str] = ()) -> Method:
    """Returns the method that `cfg` names; args and errors are those of `choose_network`."""
    choice, seconds = cfg.inference.noise_profile, cfg.inference.segment_seconds
    chosen = {name: value for name, value in dataclasses.asdict(cfg.inference).items()
              if name not in NOT_IN_RESULTS}
    deciding = dict(chosen)
    chosen["carrier"] = cfg.carrier  # the settings that it stands for are in `deciding`
    if profiles.is_file(choice):  # results depend on its content, not on its name
        chosen["noise_profile_sha256"] = hash_of(Path(choice))
        deciding["noise_profile"] = chosen["noise_profile_sha256"]
    if cfg.inference.keep_clicks is not None:
        deciding["keep_clicks"] = hash_of(Path(cfg.inference.keep_clicks))
    if cfg.method == "diffusion":
        return _choose_diffusion(cfg, given, chosen, deciding)
    if cfg.method == "lsa":
        logger.info("method: log-spectral amplitude estimator, no network")
        settings = NetworkSettings(unet=UnetConfig(use_profile=True), stft=cfg.stft,
                                   context_seconds=cfg.inference.context_seconds)
        stages = dataclasses.replace(cfg.inference.stages, listen_first=False)
        described = {"method": "lsa", "settings": chosen | dataclasses.asdict(stages),
                     "network": dataclasses.asdict(settings)}
        made_with = described | {"settings": deciding, "results_version": RESULTS_VERSION}
        return Method(
            "the log-spectral amplitude estimator",
            lambda: Restorer(functools.partial(spectral.restore_spectra, settings=cfg.stft),
                             settings, stages, seconds),
            described, made_with)
    weights, settings = choose_network(cfg, given)
    chosen["segment_seconds"] = deciding["segment_seconds"] = seconds = fit_segments(
        seconds, settings)
    _require_runtime(weights, cfg.inference.runtime)
    require(choice == "none" or settings.unet.use_profile, profiles.KEY,
            f"none with {weights}, whose network takes no profile", choice)
    files = [weights] if weights.is_file() else sorted(weights.parent.glob(
        f"{glob.escape(weights.name)}.*"))  # of a TensorFlow checkpoint
    digest, network = hash_of(*files), dataclasses.asdict(settings)

    def load() -> Denoiser:
        denoiser = Denoiser.load(weights, settings, seconds, cfg.inference.runtime,
                                 **dataclasses.asdict(cfg.inference.stages))
        if cfg.inference.resume or cfg.inference.cluster != "none":
            denoiser.forget_lengths()
        return denoiser

    return Method(
        f"the network {digest[:HISTORY_DIGITS]}", load,
        {"weights": {"file": str(weights), "sha256": digest}, "settings": chosen,
         "network": network},
        {"results_version": RESULTS_VERSION, "weights_sha256": digest, "settings": deciding,
         "network_sha256": hash_of_values(network)},
        weights)


# --- The diffusion model ---------------------------------------------------------------------


def _choose_diffusion(cfg: Config, given: Iterable[str], chosen: dict[str, Any],
                      deciding: dict[str, Any]) -> Method:
    """Returns the method "diffusion"; args and errors are those of `choose_method`.

    `chosen` and `deciding` are the settings to report, and those that decide on the results.
    """
    require(cfg.weights is not None, "weights", "given with method=diffusion, as the folder of a "
            "run of conf_diffusion: no weights of a diffusion model are shipped", cfg.weights)
    weights = find_weights(cfg.weights)
    require(trained_method(weights) == "diffusion", "weights", "those of a diffusion model, whose "
            f"{CONFIG_NAME} lies beside them", str(weights))
    config = _with_trained(cfg.diffusion, weights, given)
    config.require_complete()
    require(cfg.inference.noise_profile == "none" or config.mode.startswith("estimated"),
            profiles.KEY, f"none with diffusion.mode={config.mode}", cfg.inference.noise_profile)
    require(cfg.inference.runtime != "onnx", "inference.runtime", "keras with method=diffusion",
            cfg.inference.runtime)
    require(cfg.inference.residual == WHOLE, "inference.residual",
            f"{WHOLE} with method=diffusion, which has no other stages", cfg.inference.residual)
    require(has_tensorflow(), "method", "another one without TensorFlow", "diffusion")
    unused = dict.fromkeys(STAGES, False) | {"repair": chosen["repair"],
                                             "mono_source": chosen["mono_source"]}
    digest, form = hash_of(weights), dataclasses.asdict(config) | {"seed": cfg.seed}
    noise = (hash_of(*find_audio(Path(config.noise))) if config.mode in NOISE_MODES else None)

    def load() -> Restorer:
        load_backend()
        import tensorflow as tf  # the other backends cannot guide the sampling

        from historical_denoiser.diffusion import edm, network, restorer
        from historical_denoiser.network.weights import load_keras_file

        logger.info("%s", describe_device())
        model = network.build(config)
        load_keras_file(model, weights)
        return restorer.make_restorer(tf.function(edm.precondition(model, config)), config,
                                      cfg.inference.stages, cfg.seed)

    logger.info("weights: %s (a diffusion model)", weights)
    return Method(
        f"the diffusion model {digest[:HISTORY_DIGITS]}", load,
        {"method": "diffusion", "weights": {"file": str(weights), "sha256": digest},
         "settings": chosen | unused, "diffusion": form},
        {"results_version": RESULTS_VERSION, "weights_sha256": digest,
         "settings": deciding | unused, "diffusion": form | {"noise": noise}},
        weights)


def _with_trained(config: DiffusionConfig, weights: Path, given: Iterable[str]) -> DiffusionConfig:
    """Returns settings of a call with those that the weights were trained with.

    Raises:
        UserError: The stored settings cannot be understood, or one of this call contradicts them.
    """
    path = weights.parent / CONFIG_NAME
    try:
        stored = OmegaConf.to_object(OmegaConf.merge(
            DiffusionConfig, read_settings(path).get("diffusion", {})))
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(f"{path}: `diffusion` cannot be understood: "
                        f"{str(error).splitlines()[0]}") from error
    trained = {name: getattr(stored, name) for name in TRAINED}
    for name, value in trained.items():
        require(f"diffusion.{name}" not in given or getattr(config, name) == value,
                f"diffusion.{name}", f"left out with {weights}, which was trained with {value}",
                getattr(config, name))
    levels = {name: getattr(stored, name) for name in TRAINED_RANGE
              if f"diffusion.{name}" not in given}
    return dataclasses.replace(config, **trained, **levels)
