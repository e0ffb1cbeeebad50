"""What other apps may use of `expose`: names in web addresses for their own places.

http://NAME.COMPUTER.localhost:PORT leads to the service of that name; where there is none, to what an app says: on the
computer that has the place (`Names.lead`), or on the one that uses it (`Names.show`).
"""

from typing import Protocol

from coterie.apps.expose.leads import FindLead, FindPage, Lead
from coterie.apps.expose.targets import Target, as_label, read_target
from coterie.identity import PeerId

__all__ = ["FindLead", "FindPage", "Lead", "Names", "Target", "as_label", "read_target"]


class Names(Protocol):
    """The part of the service that other apps are given."""

    def lead(self, find: FindLead) -> None:
        """From now on names of this computer lead where `find` says, too, for those who may `use` the resource."""
        ...

    def show(self, find: FindPage) -> None:
        """From now on browsers here are sent to the page that `find` gives for a peer's name without a service."""
        ...

    def web_address(self, peer: PeerId, name: str) -> str:
        """The address of a peer's name in browsers here; the port opens. Raises `UsageError`."""
        ...
