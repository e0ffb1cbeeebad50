"""The commands of `grants`: the command line and the HTTP API are rendered from these."""

from typing import TYPE_CHECKING, Annotated

from coterie.apps.command import Duration, Peer, Resource, Secret, Values, Verbs, command
from coterie.apps.grants.results import GrantGiven, GrantLine, GrantSaid, Wanted

if TYPE_CHECKING:
    from coterie.apps.grants.service import GrantsService

PURPOSE = "Permissions"

GrantId = Annotated[str, Values("grants", "id")]
_WEEK = Duration(7 * 86_400)


@command("peer", "verbs", "resource", needs="store", title="Let somebody do something")
async def grant(
    grants: "GrantsService",
    peer: Peer,
    verbs: Verbs,
    resource: Resource,
    *,
    lasting: Duration = _WEEK,
    limit: list[str] = [],  # noqa: B006  (never changed)
    pass_on: int = 0,
) -> GrantGiven:
    """Let a computer, or whoever has the text of it, do something here for a time.

    peer: A name, an id, or bearer for whoever has the text.
    verbs: What it may do; several with commas, like list,read.
    resource: To what: a kind and a name, like files/photos/2024.
    lasting: For how long: 90s, 15m, 8h, 7d, 2w.
    limit: Only at these times of the day (08:00-20:00), so fast (2MB/s) or so much in all (10GB); may be repeated.
    pass_on: How often it may be passed on, narrower or the same: 0 to 3.
    """
    wanted = Wanted(lasting, limit, pass_on)
    await grants.settled()
    return grants.give(peer, verbs, resource, wanted)


@command(
    path="grants",
    needs="store",
    empty_text="No grants: coterie grant COMPUTER VERBS RESOURCE",
    title="Grants",
)
async def grants_(grants: "GrantsService") -> list[GrantLine]:
    """List the grants that this node gave, and those that it holds."""
    return grants.lines()


@command("text", path="grant accept", title="Take a grant")
async def grant_accept(grants: "GrantsService", text: Secret) -> GrantSaid:
    """Take a grant that somebody handed over, and tell its issuer.

    text: The grant, as the other side showed it.
    """
    return await grants.accept(text)


@command("grant", "peer", path="grant pass", needs="store", title="Pass on a grant")
async def grant_pass(
    grants: "GrantsService",
    grant: GrantId,
    peer: Peer,
    *,
    verbs: Verbs | None = None,
    resource: Resource | None = None,
    lasting: Duration | None = None,
    limit: list[str] = [],  # noqa: B006  (never changed)
    pass_on: int = 0,
) -> GrantGiven:
    """Pass on a grant that this node holds: the same or less, never more.

    grant: Its id, from `coterie grants`.
    peer: A name, an id, or bearer for whoever has the text.
    verbs: Fewer verbs.
    resource: A part of the resource, as `coterie grants` shows it.
    lasting: For how long, if shorter.
    limit: Only at these times of the day (08:00-20:00), so fast (2MB/s) or so much in all (10GB); may be repeated.
    pass_on: How often it may be passed on further.
    """
    wanted = Wanted(lasting, limit, pass_on)
    await grants.settled()
    return grants.pass_on(grant, peer, wanted, verbs=verbs or "", resource=resource or "")


@command("grant", needs="store", title="Take back a grant")
async def revoke(grants: "GrantsService", grant: GrantId) -> GrantSaid:
    """Take back a grant that this node gave or passed on; what is being used by it stops.

    grant: Its id, from `coterie grants`.
    """
    return grants.revoke(grant)
