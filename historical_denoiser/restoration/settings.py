"""The stages around the network: each switch once, with its default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from historical_denoiser.audio.mono_source import CHOICES
from historical_denoiser.core.checks import require


@dataclass
class StageSettings:
    """Which stages a recording goes through; `chain.restore_segment` has their order."""

    # Before anything else. Whether two channels hold one signal with a noise of their own each,
    # and become one: true, false, or auto: where that is clear.
    mono_source: Any = "false"
    # Before the network hears the recording.
    dehum: bool = True  # take the lines of the mains' hum out
    declick: bool = True  # cut clicks out
    # What tells the network the noise, where no noise profile is given.
    listen_first: bool = True  # hear 30 s before the rest: what is removed there is the profile
    find_noise: bool = True  # or 2 s of noise that lies alone, where more is found than in pauses
    follow_noise: bool = True  # in long recordings, each section whose noise is another by itself
    # After it.
    wiener: bool = True  # the mean of the network and a Wiener filter that it tells the noise
    keep_held: bool = True  # give notes that are held back where they were taken for hum

    def __post_init__(self) -> None:
        self.mono_source = str(self.mono_source).lower()  # true in YAML is no text
        require(self.mono_source in CHOICES, "inference.mono_source",
                f"one of {', '.join(CHOICES)}", self.mono_source)

    @classmethod
    def only(cls, **stages: Any) -> StageSettings:
        """Returns settings in which every stage that is not named is off."""
        off = {each.name: "false" if each.name == "mono_source" else False for each in fields(cls)}
        return cls(**off | stages)


STAGES = tuple(each.name for each in fields(StageSettings))
