"""The section [app.folders] of config.toml."""

import msgspec

from coterie.apps.folders.brake import FILES_MIN, SHARE, WITHIN_S


class Settings(msgspec.Struct):
    """Of all live folders of this computer: what asks before it happens.

    `brake_share`: more than this part of the files of a folder, and `brake_files`: at least so many, that go or get
    other contents within `brake_minutes`. A share of 1 never asks.

    `reading_cache`: how much is kept of what was read of folders without being put on the disk.
    """

    brake_share: float = SHARE
    brake_files: int = FILES_MIN
    brake_minutes: float = WITHIN_S / 60
    reading_cache: str = "1GB"
