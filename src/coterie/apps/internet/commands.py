"""The commands of `internet`: the command line and the HTTP API are rendered from these."""

from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Peer, Person, Values, command
from coterie.apps.internet.records import WholeRecord
from coterie.apps.internet.results import InternetLine, InternetSaid, ShareLine
from coterie.errors import UsageError
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.apps.internet.service import InternetService

PURPOSE = "Services"

ShareName = Annotated[str, Values("internet shares", "name")]


@command(
    path="internet share",
    stays=True,
    kind="internet",
    interrupt_text="Stopped. The internet access stays shared whenever this node runs.",
    title="Share internet access",
)
async def share(
    internet: "InternetService",
    *,
    to: list[Person] = [],  # noqa: B006  (never changed)
    limit: list[str] = [],  # noqa: B006
    hours: str = "",
    allow: list[str] = [],  # noqa: B006
    only: list[str] = [],  # noqa: B006
    as_: str = "exit",
) -> ShareLine:
    """Let others use the internet access of this computer; its own network stays closed to them.

    to: For whom: a circle, CIRCLE:guest, a person, contacts; may be given several times.
    limit: For each computer: so fast (2MB/s), so much in all (10GB), a day (1GB/day) or a month (50GB/month).
    hours: Only at these times of the day: 08:00-20:00.
    allow: Also this host of your own network: a name or an address, with :PORT if only one is meant.
    only: Nothing but this host (*.example.org) and those of --allow; may be given several times.
    as_: Its name, for several with limits of their own.
    """
    return internet.share(as_, to, limits=limit, hours=hours, allow=allow, only=only)


@command("name", path="internet unshare", needs="store", title="Share internet access no more")
async def unshare(internet: "InternetService", name: ShareName = "exit") -> InternetSaid:
    """Let others use the internet access of this computer no more: their connections end at once.

    name: Its name, from `coterie internet`.
    """
    return internet.unshare(name)


@command(
    path="internet shares",
    needs="store",
    empty_text="Internet access is not shared: coterie internet share --to WHOM",
)
async def shares(internet: "InternetService") -> list[ShareLine]:
    """List the internet access that this computer gives."""
    return internet.shares()


@command(
    "peers",
    path="internet use",
    stays=True,
    interrupt_text="Stopped. The proxy opens again whenever this node runs.",
    title="Use somebody's internet access",
)
async def use(
    internet: "InternetService",
    peers: list[Peer],
    *,
    port: int = 0,
    whole: bool = False,
    direct: list[str] = [],  # noqa: B006
    only: list[str] = [],  # noqa: B006
    at: list[str] = [],  # noqa: B006
    no_local: bool = False,
) -> InternetLine:
    """Use the internet access of other computers: opens a proxy for programs of this one.

    peers: Whose: several computers in the order in which they are preferred; when one is gone, the next takes over.
    port: The number of the port of the proxy; without it one that is free, the same each time.
    whole: Send everything there that any program of this computer sends, or nothing (as root, on Linux).
    direct: With --whole: not this host, network or user:NAME; may be given several times.
    only: With --whole: nothing but this host, network or user:NAME; may be given several times.
    at: With --whole: only on this network: an interface like wlan0, or the hardware address of its router.
    no_local: With --whole: also what goes to private addresses.
    """
    asked = WholeRecord(direct=direct, only=only, at=at, local=not no_local) if whole else None
    if asked is None and (direct or only or at or no_local):
        raise UsageError(tr("--direct, --only, --at and --no-local go with --whole"))
    return await internet.use(peers, port=port, whole=asked)


@command(path="internet stop", needs="store", title="Use nobody's internet access")
async def stop(internet: "InternetService") -> InternetSaid:
    """Use nobody's internet access any more: the proxy closes, and a whole-system exit is undone, whoever left it."""
    return await internet.stop()


@command(path="internet", needs="store", title="Internet access")
async def internet_(internet: "InternetService") -> InternetLine:
    """Show who uses the internet access of this computer and how much by day, and which exits this computer uses."""
    return internet.line()
