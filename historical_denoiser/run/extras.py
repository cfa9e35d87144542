"""The settings of what is delivered beside the restored recording: lists, and samples kept."""

from __future__ import annotations

from dataclasses import dataclass, fields

from historical_denoiser.core.checks import require

LABELS, CUES, FILES = "labels", "cues", "files"
WHOLE, BY_STAGE = "whole", "stages"
PREMIS = "_denoised_premis.xml"
TRACK_LISTS = {LABELS: "_tracks.txt", CUES: "_tracks.cue", FILES: "_tracks.csv"}


@dataclass
class ExtraSettings:
    """What is delivered beside the restored recording; `delivery.Delivery` makes it."""

    click_list: bool = False  # list the clicks that were removed: NAME_clicks.csv and .txt
    # Such a list, in which only those clicks are left that are to stay as in the recording.
    keep_clicks: str | None = None
    loudness: float | None = None  # loudness of the result in LUFS; the true peak is limited
    residual: str = WHOLE  # one file; or stages: also a file for what each stage removed
    md5: bool = False  # store the MD5 of the samples in a WAV file, in the chunk `MD5 `
    archive: str | None = None  # archival location of the original: IARL of a WAV file
    premis: bool = False  # describe the restoration for an archive: NAME_denoised_premis.xml

    # The tracks of a disc's side or a tape as a label track, a cue sheet, or files of their own.
    tracks: str = "none"

    def __post_init__(self) -> None:
        require(self.tracks in ("none", *TRACK_LISTS), "inference.tracks",
                f"one of none, {', '.join(TRACK_LISTS)}", self.tracks)
        require(self.residual in (WHOLE, BY_STAGE), "inference.residual", f"{WHOLE} or {BY_STAGE}",
                self.residual)
        require(self.archive is None or bool(self.archive.strip()), "inference.archive",
                "an archive, as `US, Library of Congress`", self.archive)
        require(self.loudness is None or -70.0 < self.loudness < 0.0, "inference.loudness",
                "a number of LUFS above -70 and below 0, as -18", self.loudness)

    @property
    def extras(self) -> ExtraSettings:
        """These settings alone."""
        return ExtraSettings(**{field.name: getattr(self, field.name)
                                for field in fields(ExtraSettings)})

    @property
    def lists(self) -> list[str]:
        """Names of the lists to write, without the name of the recording before them."""
        return (["_clicks.csv", "_clicks.txt"] if self.click_list else []) + (
            [] if self.tracks == "none" else [TRACK_LISTS[self.tracks]]) + [PREMIS] * self.premis
