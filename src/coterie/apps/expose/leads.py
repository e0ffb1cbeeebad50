"""Where a name leads: the services that are exposed, and what places of other apps have in HTTP."""

from collections.abc import Awaitable, Callable

import msgspec

from coterie.apps.expose.targets import Target
from coterie.identity import PeerId


class Lead(msgspec.Struct, frozen=True, kw_only=True):
    """What a name of this computer leads to, for those who may `use` its resource.

    Fields:
        resource: what the policy is asked for, like "printer/abc".
        target: where the program is.
        kind: "tcp" or "udp".
        host_header: what a web server is told as `Host`; "": what the browser said.
    """

    resource: str
    target: Target
    kind: str = "tcp"
    host_header: str = ""


FindLead = Callable[[str], Lead | None]
"""What a name of this computer leads to."""

FindPage = Callable[[PeerId, str], Awaitable[str]]
"""The address, on this computer, of the page of a peer's place of that name; "" where there is none."""
