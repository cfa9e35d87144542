"""The stages are applied in their order, and every switch reaches them."""

import dataclasses

import numpy as np
import pytest
from restorers import make_restorer

from historical_denoiser.classical import held_notes
from historical_denoiser.denoiser import Denoiser
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration import chain
from historical_denoiser.restoration.settings import STAGES, StageSettings
from historical_denoiser.run.settings import InferenceConfig

OTHER = {"repair": ["gaps"], "mono_source": "auto", "dehum": False, "declick": "strong",
         "listen_first": False, "keep_held": False}  # values that are not the defaults


def test_a_segment_passes_the_stages_in_their_order(rng, monkeypatch):
    passed = []

    def note(place, name, stage):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *given: passed.append(stage) or real(*given))

    for place, name, stage in ((chain.hum_lines, "remove_hum", "hum"),
                               (chain.clicks, "remove_clicks", "clicks"),
                               (held_notes, "restore_notes", "held_notes")):
        note(place, name, stage)
    audio = 0.1 * rng.standard_normal(5 * 44100).astype(np.float32)
    noise = chain.KnownNoise(50.0, held_notes.measure_floor([audio]))
    left = chain.restore_segment(audio, lambda spectra: passed.append("network") or 0.5 * spectra,
                                 NetworkSettings(), StageSettings(), noise)
    assert passed == list(chain.ORDER) and len(left) == len(passed)


@pytest.mark.parametrize("stage", STAGES)
def test_each_switch_arrives(stage, tiny_run):
    changed = {stage: OTHER[stage]}
    wanted = dataclasses.replace(StageSettings(), **changed)
    assert wanted != StageSettings()
    assert InferenceConfig(**changed).stages == wanted
    assert Denoiser.load(tiny_run, **changed).stages == wanted
    assert make_restorer(None, NetworkSettings(), **changed).stages == StageSettings.only(**changed)
