"""The settings of a run: the recordings, the stages around the network, and the results.

Start reading at `InferenceConfig`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from historical_denoiser.audio.removal import (
    AUTO,
    NO_LIMITS,
    Strength,
    check_band,
    check_noise_floor,
    check_per_band,
)
from historical_denoiser.audio.replay import Replay, read_curve, read_speed
from historical_denoiser.core.checks import is_number, require
from historical_denoiser.formats import film
from historical_denoiser.network.stored import NetworkSettings
from historical_denoiser.restoration import chain
from historical_denoiser.restoration.separation import SEGMENT_SECONDS
from historical_denoiser.restoration.settings import RETIRED, STAGES, StageSettings, without_retired
from historical_denoiser.run import profiles
from historical_denoiser.run.extras import BY_STAGE, ExtraSettings

RUNTIMES = ("auto", "onnx", "keras")
CLUSTERS, AZIMUTHS = ("none", "ray"), ("none", AUTO)
ALL_TRACKS = "all"
PARTS_OF_RESIDUAL = {"repair": "repair", **chain.ORDER}  # by stage, with their switches


@dataclass
class InferenceConfig(StageSettings, ExtraSettings):
    """The settings `inference`: the recordings, the stages, and the results."""

    # A file, folder, pattern or list of names (.txt, .m3u), or several of them.
    audio: Any = None
    output_dir: str | None = None  # null: beside the input
    denoising_strength: Any = 1.0  # in [0, 1], or auto to fit it to the recording
    # Pairs [from_hz, strength]: factors of the strength, each valid from a frequency upwards.
    strength_per_band: Any = None
    noise_floor_db: float | None = None  # lower noise by at most this many dB; null: no limit
    # [lower, upper] limit in Hz of the restored recording; null for no limit.
    band_hz: Any = None
    segment_seconds: float = SEGMENT_SECONDS  # new audio in each step; memory grows with it
    # Audio before and after a segment that the network takes into account.
    context_seconds: float = NetworkSettings.context_seconds
    overwrite: bool = False  # replace existing results
    resume: bool = False  # store finished segments, and continue a run that was killed
    spectrogram: bool = False  # draw input, output and residual
    # Noise alone: [start, end] in seconds of the recording, a file, auto to find it, or none.
    noise_profile: Any = "none"
    # The replay: a name of `audio.replay.CURVES`, or "500,-13.7": turnover in Hz, dB at 10 kHz.
    replay_curve: Any = None
    transfer_curve: Any = None  # that of the preamplifier of the transfer, which is undone
    speed: Any = 1.0  # a factor, or 78.26>80; or auto, to bring mains hum to 50 or 60 Hz
    azimuth: str = "none"  # auto to align the two channels of a tape
    track: Any = None  # number of a film's audio track, from 1; null: the default track; or all
    track_codec: str = "same"  # codec of that track in the result: same, flac or pcm
    # onnx, keras, or auto: ONNX if the weights were exported, but Keras for long work on a GPU.
    runtime: str = "auto"
    cluster: str = "none"  # ray to use several machines
    cluster_address: str = "local"  # this machine only; or auto, or HOST:PORT of a cluster's head
    cluster_cores: int = 4  # cores per worker; all of the largest machine if it has fewer
    # Accepted with a warning, since these stages were removed; see `RETIRED`.
    level_noise: Any = None
    keep_strokes: Any = None
    wiener: Any = None
    find_noise: Any = None
    follow_noise: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ExtraSettings.__post_init__(self)
        without_retired({name: value for name in RETIRED
                         if (value := getattr(self, name)) is not None})
        share = self.denoising_strength
        require(share == AUTO or (is_number(share) and 0.0 <= share <= 1.0),
                "inference.denoising_strength", "in [0, 1] or auto", share)
        self.denoising_strength = share if share == AUTO else float(share)
        check_per_band(self.strength_per_band or [], "inference.strength_per_band")
        check_noise_floor(self.noise_floor_db, "inference.noise_floor_db")
        check_band(self.band_hz or NO_LIMITS, "inference.band_hz")
        require(self.tracks == "none" or not self.strength.removes_nothing, "inference.tracks",
                "none at strength 0, since pauses are found by the noise estimate", self.tracks)
        require(0.01 <= self.segment_seconds < math.inf, "inference.segment_seconds",
                 "at least 0.01 and finite", self.segment_seconds)
        require(0.0 <= self.context_seconds < math.inf, "inference.context_seconds",
                 "at least 0 and finite", self.context_seconds)
        require(self.audio is None or isinstance(self.audio, str)
                 or (isinstance(self.audio, list)
                     and all(isinstance(name, str) for name in self.audio)),
                 "inference.audio", "a file name or a list of file names", self.audio)
        profiles.check_choice(self.noise_profile)
        require(self.azimuth in AZIMUTHS, "inference.azimuth", f"one of {', '.join(AZIMUTHS)}",
                self.azimuth)
        _ = self.replay  # checks the rest
        require(self.track in (None, ALL_TRACKS) or (
            isinstance(self.track, int) and not isinstance(self.track, bool) and self.track >= 1),
            "inference.track", f"a number from 1, or {ALL_TRACKS}", self.track)
        require(self.track != ALL_TRACKS or not self.resume, "inference.resume",
                f"left out with inference.track={ALL_TRACKS}", self.resume)
        require(self.track != ALL_TRACKS or not self.premis, "inference.premis",
                f"left out with inference.track={ALL_TRACKS}", self.premis)
        for name, choices in (("runtime", RUNTIMES), ("track_codec", film.CHOICES),
                              ("cluster", CLUSTERS)):
            value = getattr(self, name)
            require(value in choices, f"inference.{name}", f"one of {', '.join(choices)}", value)
        require(self.cluster_cores >= 1, "inference.cluster_cores", "at least 1",
                self.cluster_cores)
        for name in ("cluster_address", "cluster_cores"):
            value = getattr(self, name)
            require(self.cluster != "none" or value == getattr(InferenceConfig, name),
                    f"inference.{name}", "left out without inference.cluster=ray", value)

    @property
    def stages(self) -> StageSettings:
        """The stages around the network."""
        return StageSettings(**{name: getattr(self, name) for name in STAGES})

    @property
    def stages_of_residual(self) -> list[str]:
        """Names of the stages that get a file of what they removed."""
        return [name for name, switch in PARTS_OF_RESIDUAL.items() if self.residual == BY_STAGE
                and (switch is None or self.is_on(switch))]

    @property
    def replay(self) -> Replay:
        """How the replay is corrected."""
        finds_speed = self.speed == AUTO
        return Replay(read_curve(self.replay_curve, "inference.replay_curve"),
                      read_curve(self.transfer_curve, "inference.transfer_curve"),
                      read_speed(1.0 if finds_speed else self.speed, "inference.speed"),
                      self.azimuth == AUTO, finds_speed=finds_speed)

    @property
    def strength(self) -> Strength:
        """The share of the noise that is removed, by all settings together."""
        bands = tuple((float(edge), float(share)) for edge, share in self.strength_per_band or [])
        return Strength(self.denoising_strength, bands, self.noise_floor_db,
                        band_hz=tuple(self.band_hz or NO_LIMITS))
