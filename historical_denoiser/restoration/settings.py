"""The switches of the stages around the network, with their defaults."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields
from typing import Any

from historical_denoiser.audio.mono_source import CHOICES
from historical_denoiser.classical.clicks import LEVELS, NORMAL
from historical_denoiser.classical.repair import KINDS
from historical_denoiser.core.checks import require

logger = logging.getLogger(__name__)

OFF = "off"


@dataclass
class StageSettings:
    """The stages that are enabled; `chain.restore_segment` has their order."""

    # First of all, repair what is damaged: a list of gaps, clipping.
    repair: Any = field(default_factory=list)
    # Then, combine two channels that hold one signal with different noise: true, false, or
    # auto to do so only in clear cases.
    mono_source: Any = "false"
    # Before the network.
    dehum: bool = True  # remove the lines of mains hum
    declick: Any = NORMAL  # remove clicks: off, gentle, normal or strong
    # The noise profile, if none is given.
    listen_first: bool = True  # analyse up to 30 s first; the noise found there is the profile
    # After the network.
    keep_held: bool = True  # where there are drones, restore held notes that were taken for hum

    def __post_init__(self) -> None:
        require(isinstance(self.repair, list | tuple)
                and all(kind in KINDS for kind in self.repair), "inference.repair",
                f"a list of {' and '.join(KINDS)}, as [{','.join(KINDS)}]", self.repair)
        self.mono_source = str(self.mono_source).lower()  # YAML makes true a bool
        require(self.mono_source in CHOICES, "inference.mono_source",
                f"one of {', '.join(CHOICES)}", self.mono_source)
        level = {"true": NORMAL, "false": OFF}.get(str(self.declick).lower(), self.declick)
        require(level in (OFF, *LEVELS), "inference.declick",
                f"one of {', '.join((OFF, *LEVELS))}", self.declick)
        self.declick = level

    def is_on(self, stage: str) -> bool:
        """Returns whether a stage, named as its switch, is enabled."""
        return getattr(self, stage) not in (False, "false", OFF, [])

    @classmethod
    def only(cls, **stages: Any) -> StageSettings:
        """Returns settings in which every stage that is not named is disabled."""
        off = dict.fromkeys(STAGES, False) | {"repair": [], "mono_source": "false"}
        return cls(**off | stages)


STAGES = tuple(each.name for each in fields(StageSettings))
# Switches of earlier releases, which are accepted but have no effect.
RETIRED = ("level_noise", "keep_strokes", "wiener", "find_noise", "follow_noise")


def without_retired(stages: dict[str, Any]) -> dict[str, Any]:
    """Removes the switches of stages that no longer exist, with a warning."""
    for name in RETIRED:
        if name in stages:
            logger.warning("inference.%s has no effect: this stage was removed", name)
    return {name: value for name, value in stages.items() if name not in RETIRED}
