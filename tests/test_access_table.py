"""Default deny, as a table: every protocol, every resource and every route of the local API, tried by everybody.

What is expected stands in EXPECTED and ROUTES_OPEN; a protocol that is not listed fails the test. The table is written
to docs/access-table.md with `python -m tests.test_access_table`, and the test compares.
"""

import asyncio
import contextlib
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from starlette.routing import Route

from coterie.access.resource import Verb
from coterie.control.openapi import API_ROOT
from coterie.control.request_body import Asgi
from coterie.control.server import Surroundings, serve
from coterie.errors import CloseCode, PeerError, TransportError
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.web.page import Page
from coterie.wire import Protocol
from tests.apps.files.nodes import memory_node
from tests.support import run

DOCUMENT = Path(__file__).parent.parent / "docs" / "access-table.md"
PEERS = ("stranger", "contact", "guest", "member", "removed member", "revoked device")

# What each protocol is to each of PEERS: + a stream is served, - it is refused like a protocol that does not exist,
# x not even the connection is had. What a protocol gives to whom it serves is below it, in the resources.
EXPECTED: Mapping[str, tuple[str, str]] = {
    "blobs": (
        "+++++x",
        "content of apps by its id; the policy is asked to read the resource under which the app gives it",
    ),
    "broadcast": ("-+++-x", "topics among those who are known; at the level `internet` among everybody"),
    "kademlia": ("-+++-x", "the table of those who are known; at the level `internet` of everybody"),
    "circles": ("+++++x", "logs of circles go to their members only; others get silence, whatever they ask"),
    "directory": (
        "-+++-x",
        "lists what is offered to the asker, of every kind; the policy is asked for each",
    ),
    "disks": (
        "+++++x",
        "disks and images, each asked of the policy; one answer for missing and not for you",
    ),
    "drive": (
        "-+++-x",
        "changes in shares, each asked of the policy; one answer for missing and not for you",
    ),
    "files": (
        "+++++x",
        "one share by its secret: a ticket's, or a place's; the policy is asked for each session",
    ),
    "folders": (
        "-+++-x",
        "changes of live folders, each asked of the policy; records by whom they are signed",
    ),
    "folder-contents": ("-+++-x", "contents of live folders; the policy is asked to read the folder"),
    "folder-keeping": (
        "-+++-x",
        "sealed contents of a folder that is kept for others; the policy is asked for each question",
    ),
    "expose": (
        "+++++x",
        "connections to services, each asked of the policy; one answer for missing and not for you",
    ),
    "internet": (
        "-+++-x",
        "connections through this computer's internet access, each asked of the policy; its own network is closed",
    ),
    "grants": ("+++++x", "present a grant; revocations are heard from who is known"),
    "invite": ("+++++x", "join by a code that is open; without one nothing fits"),
    "lanes": ("+++++x", "further paths for streams that the same connection has open"),
    "mail": (
        "-+++-x",
        "letters between apps, while one here uses them; of senders who are known, whoever brings them",
    ),
    "peer-record": ("+++++x", "the node's signed address record; those of others for contacts only"),
    "places": ("+++++x", "lists what is shared with the asker; to a stranger that is what is for anyone"),
    "printers": (
        "-+++-x",
        "printers that are for the asker, each asked of the policy; one answer for missing and not for you",
    ),
    "relay-check": (
        "-+++-x",
        "whether a relay answers at the asker's own address, where this node sees it, at ports of relays",
    ),
    "search": ("-+++-x", "what those who are known may find; at the level `internet` everybody"),
    "send": (
        "+++++x",
        "files offered over a code, or from near while the owner says so; everything else is gone",
    ),
    "no-such-protocol": ("-----x", "what is not there"),
    "for-the-known": ("-+++-x", "what an app registers and does not open to strangers"),
}

# Resources of a node that shares one folder with each kind of subject: what each of PEERS may list and read.
SHARES: Mapping[str, tuple[str, str]] = {
    "anyone": ("+++++-", "share --to anyone"),
    "contacts": ("-+----", "share --to contacts"),
    "home:guest": ("--++--", "share --to CIRCLE:guest"),
    "home": ("---+--", "share --to CIRCLE"),
    "home:owner": ("------", "share --to CIRCLE:owner"),
    "ticket": ("------", "share (the default); who has the ticket reads it, nobody sees it in a list"),
}

# Routes of the local API that answer without the token in api.json: none.
ROUTES_OPEN: frozenset[str] = frozenset()


@contextlib.asynccontextmanager
async def house(folder: Path) -> AsyncIterator[tuple[Node, dict[str, Node]]]:
    """The node that is tried, and one of each kind of peer. All know where it is."""
    network = MemoryNetwork()
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(memory_node(network, folder / "host"))
        peers = {
            name: await stack.enter_async_context(memory_node(network, folder / name.replace(" ", "-")))
            for name in PEERS
        }
        async with host.contacts.invite() as invitation:
            await peers["contact"].contacts.join(invitation.invited.ticket)
        circles = host.service("circles")
        circles.create("home")
        for name, role in {"guest": "guest", "member": "member", "removed member": "member"}.items():
            async with circles.invite("home", role=role) as invitation:
                await peers[name].service("circles").join(invitation.invited.ticket)
            host.contacts.remove(str(peers[name].peer_id))
        async with circles.devices.invite() as invitation:
            await peers["revoked device"].service("circles").devices.join(invitation.invited.ticket)
        circles.devices.remove(str(peers["revoked device"].peer_id))
        circles.remove("home", member_name(host, peers["removed member"]))
        await until_in(host, peers["removed member"], is_in=False)
        assert host.endpoint is not None
        host.mail_room()  # as an app does that uses mail
        host.access.open_protocol("for-the-known", strangers=False)
        host.endpoint.register(Protocol("for-the-known", (1,), {}), _serve_nothing)
        yield host, peers


def member_name(host: Node, peer: Node) -> str:
    lines = host.service("circles").members("home")
    return next(line.name for line in lines if str(peer.peer_id) in line.devices)


async def until_in(host: Node, peer: Node, *, is_in: bool) -> None:
    async with asyncio.timeout(10):
        while bool(host.service("circles").roles_of(peer.peer_id)) is not is_in:
            await asyncio.sleep(0.02)


async def _serve_nothing(stream: object) -> None:
    """Serves, and says nothing."""


async def try_protocol(peer: Node, host: Node, protocol: str) -> str:
    """What `peer` gets when it opens `protocol`: "+", "-" or "x"."""
    try:
        link = await peer.connect(host.peer_id, host.addresses)
    except (PeerError, TransportError):
        return "x"
    try:
        stream = await link.open_stream(Protocol(protocol, tuple(range(1, 9)), {}))
    except PeerError as error:
        return {CloseCode.REFUSED: "-"}.get(CloseCode(error.close_code), "x")
    except TransportError:
        return "x"
    await stream.reset()
    return "+"


async def measured(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[str, int]]:
    """The real cells: protocols, shares, and the status of each route without the token, or without the cookie."""
    async with house(folder) as (host, peers):
        assert host.endpoint is not None
        protocols = sorted({*host.endpoint.protocols, "no-such-protocol"})
        cells = {
            protocol: "".join([await try_protocol(peers[name], host, protocol) for name in PEERS])
            for protocol in protocols
        }
        shares = {}
        for to in SHARES:
            path = folder / to.replace(":", "-")
            path.write_text(to)
            shared = await host.files.share(path, to=[] if to == "ticket" else [to])
            may = [
                host.access.decide(peers[n].peer_id, Verb.READ, f"files/{shared.id}").allowed for n in PEERS
            ]
            shares[to] = "".join("+" if allowed else "-" for allowed in may)
        pages: list[Page] = []

        def kept(given: Surroundings) -> Asgi:
            pages.append(Page(given))
            return pages[0].app

        async with serve(host, asyncio.Event(), kept) as api:
            listed = await asyncio.to_thread(_routes, api.url, api.token)
            await asyncio.to_thread(_statuses, api.url, [("GET", "/static/app.css")])  # now the page is made
            routes = await asyncio.to_thread(_statuses, api.url, [*listed, *_routes_of_page(pages[0])])
    return cells, shares, routes


def _routes_of_page(page: Page) -> list[tuple[str, str]]:
    """Each method and path; something stands where any text may."""
    return [
        (method, re.sub(r"\{[^}]*\}", "x", route.path))
        for route in page.routes
        if isinstance(route, Route)
        for method in sorted(route.methods or ())
    ]


def _routes(url: str, token: str) -> list[tuple[str, str]]:
    import json

    connection = HTTPConnection(urlsplit(url).hostname or "", urlsplit(url).port, timeout=10)
    connection.request("GET", f"{API_ROOT}/openapi.json", headers={"Authorization": f"Bearer {token}"})
    paths = json.loads(connection.getresponse().read())["paths"]
    connection.close()
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def _statuses(url: str, routes: list[tuple[str, str]]) -> dict[str, int]:
    """What each route answers to somebody without the token."""
    statuses = {}
    for method, path in routes:
        connection = HTTPConnection(urlsplit(url).hostname or "", urlsplit(url).port, timeout=10)
        connection.request(
            method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"}
        )
        statuses[f"{method} {path}"] = connection.getresponse().status
        connection.close()
    return statuses


def rendered() -> str:
    """The page."""
    words = {"+": "yes", "-": "no", "x": "no connection"}
    head = "| | " + " | ".join(PEERS) + " | what it is |\n|" + "---|" * (len(PEERS) + 2)
    rows = [
        f"| `{name}` | " + " | ".join(words[cell] for cell in cells) + f" | {note} |"
        for name, (cells, note) in sorted(EXPECTED.items())
    ]
    shares = [
        f"| `{name}` | " + " | ".join("yes" if cell == "+" else "no" for cell in cells) + f" | {note} |"
        for name, (cells, note) in SHARES.items()
    ]
    return f"""# Who may do what: the table

Written by `python -m tests.test_access_table` from what a real node answers; `tests/test_access_table.py` compares.
A removed member is a stranger again. A revoked device gets no connection, even where a stranger would, and
is not dialled.

## Protocols: who is served a stream

{head}
{chr(10).join(rows)}

## Shares: who lists and reads them

{head}
{chr(10).join(shares)}

## Routes of the local API

Only programs of the owner reach it: on 127.0.0.1, with the token in `run/api.json` (0600). No peer reaches any of
them. The test asks every route that `GET {API_ROOT}/openapi.json` names, without the token: each answers 401.
Without it `GET /api/v1/proof` shows that the node knows the token, by answering a challenge: a program asks that first,
so that it gives the token to no other.

## Routes of the page

Only browsers that the owner let in reach them, with their cookie, and from a page of the node itself. The test asks
every route of the page without the cookie: each answers 401, or 403 where it changes something, but for files of the
program (`/static/`) and `/open/KEY`, which takes a key of one use. What a browser with few rights may do is what panels
of apps say: `tests/web/test_story.py`.
"""


def test_every_cell_is_as_documented(tmp_path: Path) -> None:
    cells, shares, routes = run(measured(tmp_path), 100.0)
    unlisted = sorted(set(cells) - set(EXPECTED))
    assert not unlisted, f"say in EXPECTED to whom {unlisted} are open"
    assert cells == {name: EXPECTED[name][0] for name in cells}
    assert set(cells) == set(EXPECTED), "EXPECTED names protocols that no node has"
    assert shares == {name: cells for name, (cells, _) in SHARES.items()}
    assert len(routes) > 20
    open_ = {route for route, status in routes.items() if status not in (401, 403)}
    assert open_ == ROUTES_OPEN | {f"{method} /static/x" for method in ("GET", "HEAD")}
    assert len([route for route in routes if "/api/" not in route]) > 15
    assert DOCUMENT.read_text(encoding="utf-8") == rendered(), "run `python -m tests.test_access_table`"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        cells, shares, routes = run(measured(Path(place)), 100.0)
        print(cells, shares, len(routes), "routes")
        DOCUMENT.write_text(rendered(), encoding="utf-8")
    sys.exit(0)
