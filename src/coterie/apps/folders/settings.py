"""The section [app.folders] of config.toml."""

import msgspec


class Settings(msgspec.Struct):
    """Of all live folders of this computer."""
