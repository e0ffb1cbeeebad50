"""What the commands of `drive` return: plain values that faces render."""

import msgspec

from coterie.texts import tr


class DriveLine(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the drive is on, and where; `mount` are commands that make it a folder or a place of this system."""

    state: str
    url: str = ""
    connections: int = 0
    mounts: list[str] = []
    mount: list[str] = []

    def text(self) -> str:
        """For people."""
        if self.state == "off":
            return tr("The drive is off: coterie drive on")
        lines = [tr("The drive is on: {url}", url=self.url)]
        lines += [tr("It is mounted at {folder}", folder=folder) for folder in self.mounts]
        if self.mount:
            lines += ["", tr("In your file manager:"), *(f"  {one}" for one in self.mount)]
        return "\n".join(lines)
