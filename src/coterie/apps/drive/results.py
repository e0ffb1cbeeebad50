"""What the commands of `drive` return: plain values that faces render."""

import msgspec

from coterie.texts import tr


class LanLine(msgspec.Struct, frozen=True, kw_only=True):
    """A share that other devices of the local network read with a password; `urls` where."""

    share: str
    user: str
    password: str
    urls: list[str]

    def text(self) -> str:
        """For people."""
        said = tr("user {user}, password {password}", user=self.user, password=self.password)
        if not self.password:
            said = tr(
                "user {user}; the password: coterie drive on --lan {share}", user=self.user, share=self.share
            )
        return "\n".join(
            [
                tr("{share}, to be read by other devices of the local network:", share=self.share),
                *(f"  {url}" for url in self.urls),
                "  " + said,
                "  " + tr("What they read is not encrypted: only in a network that you trust."),
            ]
        )


class DriveLine(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the drive is on, and where; `mount` are commands that make it a folder or a place of this system."""

    state: str
    url: str = ""
    connections: int = 0
    mounts: list[str] = []
    mount: list[str] = []
    lan: list[LanLine] = []

    def text(self) -> str:
        """For people."""
        lines = [tr("The drive is on: {url}", url=self.url)]
        if self.state == "off":
            lines = [tr("The drive is off: coterie drive on")]
        lines += [tr("It is mounted at {folder}", folder=folder) for folder in self.mounts]
        if self.mount:
            lines += ["", tr("In your file manager:"), *(f"  {one}" for one in self.mount)]
        for one in self.lan:
            lines += ["", *one.text().splitlines()]
        return "\n".join(lines)
