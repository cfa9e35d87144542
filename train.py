"""Trains a network.

Usage: python train.py [--config-name conf_prototype] [key=value ...]

Most used settings:

  path_experiment=FOLDER       of the run: its weights, settings and history
  weights=FILE                 to start from; or the folder of a run
  dset=folders                 recordings in folders of your own:
  dset.path_music=[FOLDER,...]   and path_speech, path_effects, path_noise
  epochs=60                    each of steps_per_epoch=200
  max_minutes=60               stop then; the same call goes on
  batch_size=4                 smaller where memory runs out
  lr=1e-3                      greatest learning rate
  loader_workers=4             processes that mix
  precision=mixed_bfloat16     less memory, on newer GPUs
  seed=1                       of everything random
"""

if __name__ == "__main__":
    from historical_denoiser.core.interrupts import end_at_once

    end_at_once()

import logging
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from dataset_loader import Mixer
from historical_denoiser.audio.dsp import SAMPLE_RATE
from historical_denoiser.core.backend import describe_device, load_backend
from historical_denoiser.core.checks import require
from historical_denoiser.core.command_line import exit_on_user_error, run_main
from historical_denoiser.settings import load_config, network_settings
from historical_denoiser.training import metrics

logger = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="conf")
@exit_on_user_error
def main(raw: DictConfig) -> float:
    """Trains the network that the configuration describes, or resumes a run that was stopped.

    Returns:
        The score of the best weights (`metrics.score` of `best_metric`), which a search maximises;
        minus infinity for a trial of a search that diverged.
    """
    cfg = load_config(raw)
    folder = Path(cfg.path_experiment)
    require(folder.is_dir() or not folder.exists(), "path_experiment", "a folder", str(folder))
    # The data are found first, so that a mistyped path is reported before TensorFlow loads.
    training = Mixer(cfg.dset, "train", cfg.seg_len_s_train, cfg.seed, cfg.noise,
                     cfg.stft.highpass_hz, network_settings(cfg).profile_form)
    validation = Mixer(cfg.dset, "validation", cfg.seg_len_s_val, carrier=cfg.noise)
    for mixer in (training, validation):
        logger.info("%s", mixer.describe())
    load_backend()
    import trainer

    logger.info("%s", describe_device())
    kind = trainer.Trainer
    if cfg.method == "diffusion":
        kind = trainer.PriorTrainer
        training, validation = (trainer.prior.GaussianMixtures(mixer, cfg.diffusion)
                                for mixer in (training, validation))
        logger.info("%s", training.describe_levels())
    logger.info("%d steps of %d segments, each of %d samples", cfg.epochs * cfg.steps_per_epoch,
                cfg.batch_size, round(cfg.seg_len_s_train * SAMPLE_RATE))
    # The runs of a search are compared, so none may resume a run with other settings.
    in_search = HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN
    run = kind(cfg, training, validation, may_change=not in_search)
    try:
        run.fit()
    except trainer.Diverged as error:
        if not in_search:
            raise
        logger.error("this trial counts as the worst: %s", error)
        return float("-inf")
    logger.info("done: the weights are in %s", Path(cfg.path_experiment))
    return metrics.score(cfg.best_metric, run.best_value)


if __name__ == "__main__":
    run_main(main, __doc__)
