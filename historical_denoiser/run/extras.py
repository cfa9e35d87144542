"""The settings of what is delivered beside the restored recording: lists, and samples kept."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass
class ExtraSettings:
    """What is delivered beside the restored recording; `delivery.Delivery` makes it."""

    click_list: bool = False  # list the clicks that were removed: NAME_clicks.csv and .txt
    # Such a list, in which only those clicks are left that are to stay as in the recording.
    keep_clicks: str | None = None

    @property
    def extras(self) -> ExtraSettings:
        """These settings alone."""
        return ExtraSettings(**{field.name: getattr(self, field.name)
                                for field in fields(ExtraSettings)})

    @property
    def lists(self) -> list[str]:
        """Names of the lists to write, without the name of the recording before them."""
        return ["_clicks.csv", "_clicks.txt"] if self.click_list else []
