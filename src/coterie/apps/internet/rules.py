"""What one share of internet access lets its users reach. Pure.

A request is judged twice: as it was asked for, and by each address that was found for it. The second is about the very
address that is connected to; nothing is looked up again in between.
"""

import msgspec

from coterie.apps.internet.addresses import IP, Place, is_closed, is_never
from coterie.apps.internet.hosts import Pattern, is_inner
from coterie.errors import AccessDenied
from coterie.texts import tr


class Rules(msgspec.Struct, frozen=True):
    """`allow`: hosts of the exit's own network that its owner opened. `only`: nothing but these and `allow`."""

    allow: tuple[Pattern, ...] = ()
    only: tuple[Pattern, ...] = ()

    def opens(self, host: IP | str, port: int) -> bool:
        """Whether the owner opened `host` by name, so that private addresses may be behind it.

        Raises:
            AccessDenied: nobody gets there.
        """
        is_opened = any(pattern.matches(host, port) for pattern in self.allow)
        if isinstance(host, str) and is_inner(host) and not is_opened:
            raise AccessDenied(tr("only names of the internet are looked up at the exit"))
        if self.only and not is_opened and not any(pattern.matches(host, port) for pattern in self.only):
            raise AccessDenied(tr("this exit leads to some hosts only, and not to this one"))
        return is_opened


def may_connect(ip: IP, place: Place, *, is_opened: bool) -> bool:
    """Whether the exit connects to this address."""
    return not (is_never(ip, place) if is_opened else is_closed(ip, place))


def not_there() -> AccessDenied:
    """Of addresses that stay closed."""
    return AccessDenied(tr("this exit leads to the internet, not to its own computer or network"))
