"""What the commands of `phone` return: plain values that faces render."""

import msgspec

from coterie.apps.command import Live
from coterie.qr import qr_lines
from coterie.texts import tr


class PhoneLine(msgspec.Struct, frozen=True, kw_only=True):
    """A phone that may use the page: what it may do, over what, since when and last seen (ISO 8601)."""

    id: str
    name: str
    may: list[str]
    over: str
    since: str
    last: str


class PhoneAdded(PhoneLine, frozen=True, kw_only=True):
    """A phone that was just let in."""

    def text(self) -> str:
        """For people."""
        return tr("{name} is in. It may: {may}", name=self.name, may=", ".join(self.may))


class PhoneKey(Live, frozen=True, kw_only=True):
    """What a phone opens once: `url` has the key. `fingerprint`: of the authority that it may install."""

    url: str
    others: list[str]
    may: list[str]
    until: str
    authority: str
    fingerprint: str

    def text(self) -> str:
        """For people, with a QR code in characters."""
        others = tr("\nOr: {others}", others=" ".join(self.others)) if self.others else ""
        trust = (
            tr(
                "\nIt offers a certificate to install, '{authority}', which is good for this computer only. The phone "
                "shows its SHA-256, which must be:\n{sha256}",
                authority=self.authority,
                sha256=self.fingerprint,
            )
            if self.fingerprint
            else tr(
                "\nOver plain HTTP others on the network can read along, and parts of the page do not work."
            )
        )
        return tr(
            "{qr}\nScan this with the phone, in the same network: {url}{others}\nIt may: {may}. "
            "The address works once.{trust}",
            qr="\n".join(qr_lines(self.url)),
            url=self.url,
            others=others,
            may=", ".join(self.may),
            trust=trust,
        )


class PhoneSaid(msgspec.Struct, frozen=True):
    """What was done."""

    what: str
    said: str

    def text(self) -> str:
        """For people."""
        return self.said
