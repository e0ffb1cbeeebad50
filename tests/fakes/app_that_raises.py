"""An app whose import fails."""

APP = 1 / 0
