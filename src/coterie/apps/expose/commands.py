"""The commands of `expose`: the command line and the HTTP API are rendered from these."""

from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Person, Place, Values, command
from coterie.apps.expose.results import ConnectedLine, ExposedLine, ExposeSaid, NamesLine

if TYPE_CHECKING:
    from coterie.apps.expose.service import ExposeService

PURPOSE = "Services"

ExposedName = Annotated[str, Values("exposed", "name")]
Connected = Annotated[str, Values("connected", "service")]


@command(
    "target",
    stays=True,
    kind="service",
    interrupt_text="Stopped. The service stays exposed whenever this node runs.",
    title="Let others use a service",
)
async def expose(
    expose: "ExposeService",
    target: str,
    *,
    as_: str,
    to: list[Person],
    host_header: str = "",
) -> ExposedLine:
    """Let others use a TCP or UDP service of this computer, or one that it reaches.

    target: Where it is: a port of this computer, HOST:PORT, udp:PORT, udp:HOST:PORT, or unix:/PATH.
    as_: What others call it: small letters, digits and hyphens.
    to: For whom: a circle, CIRCLE:guest, a person, contacts or anyone; may be given several times.
    host_header: For web servers that refuse foreign names: the host that they are told, like localhost:8080.
    """
    return expose.expose(target, as_, to, host_header=host_header)


@command("name", needs="store", title="End a service for others")
async def unexpose(expose: "ExposeService", name: ExposedName) -> ExposeSaid:
    """End a service for others: their connections end at once, the program itself is untouched.

    name: Its name or id.
    """
    return expose.unexpose(name)


@command(
    needs="store",
    empty_text="Nothing is exposed: coterie expose PORT --as NAME --to WHOM",
    title="Services that others may use",
)
async def exposed(expose: "ExposeService") -> list[ExposedLine]:
    """List the services of this computer that others may use."""
    return expose.exposed()


@command(
    "service",
    stays=True,
    interrupt_text="Stopped. The port opens again whenever this node runs.",
    title="Connect to a service",
)
async def connect(
    expose: "ExposeService", service: Place, *, port: int = 0, lan: bool = False
) -> ConnectedLine:
    """Open a port on this computer that leads to a service of somebody else.

    service: COMPUTER/NAME, like anna/wiki.
    port: The number of the port here; without it one that is free, the same each time.
    lan: Let everybody on the local network use it, and every user of this computer.
    """
    return await expose.connect(service, port=port, lan=lan)


@command("service", needs="store", title="Disconnect from a service")
async def disconnect(expose: "ExposeService", service: Connected) -> ExposeSaid:
    """Close the port that leads to a service of somebody else.

    service: COMPUTER/NAME, as `coterie connected` shows it.
    """
    return await expose.disconnect(service)


@command(
    needs="store",
    empty_text="No port here leads to others: coterie connect COMPUTER/NAME",
    title="Services of others on this computer",
)
async def connected(expose: "ExposeService") -> list[ConnectedLine]:
    """List the ports of this computer that lead to services of others."""
    return expose.connected()


@command(needs="running", title="Names of computers for every program")
async def names(expose: "ExposeService") -> NamesLine:
    """Say whether names like wiki.anna.coterie are answered for the programs of this computer, and where."""
    return expose.names()


@command(path="names on", needs="running", title="Answer names of computers")
async def names_on(expose: "ExposeService", *, port: int = 0) -> NamesLine:
    """Answer names like wiki.anna.coterie for the programs of this computer, and say how its resolver finds them.

    port: The number of the port (UDP and TCP); without it one that is free, the same each time.
    """
    return await expose.switch_names(is_on=True, port=port)


@command(path="names off", needs="running", title="No names of computers")
async def names_off(expose: "ExposeService") -> NamesLine:
    """Answer names in .coterie no longer."""
    return await expose.switch_names(is_on=False)
