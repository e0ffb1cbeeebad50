"""What an application is: ours and third parties' alike. What it gets of its node: `coterie.apps.context`.

Command lines read declarations of apps: so what only annotations need is not imported here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coterie.access.resource import ResourceKind

__all__ = ["SIGNED_BYTES_MIN", "App", "Service"]

SIGNED_BYTES_MIN = (
    8  # of what each kind of signed message begins with: too long to be the beginning of everything
)


class Service(Protocol):
    """A running app."""

    async def start(self) -> None:
        """Called once, after every app of the node exists."""
        ...

    async def close(self) -> None:
        """Leave everything so that the next start goes on from here."""
        ...


@dataclass(frozen=True)
class App:
    """What the entry point names.

    Fields:
        name: as the entry point's.
        create: makes its service; called once, with the `Context` and then the services of what it `requires`, in that
            order. As "module:name" it is imported only where the app is to run: command lines read the rest.
        commands: a module path, imported only where commands are rendered.
        requires: apps that it uses (what their `api` names); they start before it, and it is left out where one does
            not run.
        signs: how what it signs begins, for each purpose, SIGNED_BYTES_MIN bytes at least: no other app and nothing
            of the node itself may begin so.
        kinds: the kinds of resources it has, with their verbs; no other app may declare the same.
        early: it says who is who and who may what, or fetches what others do not: a command that is mostly over at once
            waits for it, and for no other app that it does not use.
        panel: "module:NAME" of its `Panel`, what it shows on the page; empty: only the forms of its commands.
    """

    name: str
    summary: str
    create: Callable[..., Service] | str
    commands: str
    requires: tuple[str, ...] = ()
    signs: tuple[bytes, ...] = ()
    kinds: tuple[ResourceKind, ...] = ()
    panel: str = ""
    early: bool = False

    @property
    def module(self) -> str:
        """Where its service comes from."""
        if isinstance(self.create, str):
            return self.create.partition(":")[0]
        return str(getattr(self.create, "__module__", ""))
