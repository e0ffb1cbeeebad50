"""The NAT matrix: every kind of home with every kind, one reachable peer present that relays for them."""

import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tests.lab import nat
from tests.lab.lab import Lab, pairs
from tests.lab.namespace import LabError
from tests.lab.remote import ROOT, RemotePeer

PAGE = ROOT / "docs" / "nat-matrix.md"
RELAY_PORT = 8080
CONNECT_S = 5.0  # the promise: every pair connects within this
SETTLE_S = 5.0  # how long a pair has for finding a direct path before its path counts as final
AT_ONCE = 3  # pairs measured side by side: most of their time is waiting
PROBE_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one pair. Times in seconds from the command to connect; None: it did not happen."""

    one: str
    other: str
    first_byte_s: float | None = None
    first_path: str = ""
    direct_s: float | None = None
    last_path: str = ""
    error: str = ""

    @property
    def is_as_expected(self) -> bool:
        """Connected in time, and directly in the end unless physics forbids it."""
        if self.first_byte_s is None or self.first_byte_s > CONNECT_S:
            return False
        return self.last_path == ("direct" if may_be_direct(self.one, self.other) else "relay")


def may_be_direct(one: str, other: str) -> bool:
    """Whether two homes of these kinds can exchange UDP at all.

    A symmetric home sends from a port that the other side cannot know. Only an other side that lets in whatever
    comes meets it: not another symmetric one, and not one that filters by port.
    """
    kinds = {one, other}
    return nat.UDP_BLOCKED not in kinds and kinds not in (
        {nat.SYMMETRIC},
        {nat.SYMMETRIC, nat.PORT_RESTRICTED},
    )


class Meeting:
    """A public peer that relays, and pairs of homes that know nothing but it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.relay, self.relay_url = self._serving()
        self.spare_urls: list[str] = []

    def another(self) -> RemotePeer:
        """A second public peer that relays."""
        peer, url = self._serving()
        self.spare_urls.append(url)
        return peer

    def _serving(self) -> tuple[RemotePeer, str]:
        host = self.lab.public("relay")
        url = f"http://{host.ip}:{RELAY_PORT}"
        return RemotePeer(host, serves=RELAY_PORT, relays=[url]), url

    def join(self, kind: str, name: str) -> RemotePeer:
        """A peer in a home of `kind`, connected to the relay's peer, which tells it how it is seen."""
        peer = RemotePeer(self.lab.home(kind, name), relays=[self.relay_url, *self.spare_urls])
        assert peer.addresses  # it has started
        known = [*self.relay.addresses, self.relay_url]
        peer.wait("connected", 10, id=peer.tell("connect", peer=self.relay.peer_id, addresses=known))
        if kind not in {nat.OPEN, nat.UDP_BLOCKED}:
            peer.wait("observed", 10)
        return peer

    def measure(self, one: str, other: str) -> Row:
        """Connect a home of kind `one` to one of kind `other`, which knows nothing of it."""
        first, second = self.join(one, f"{one} a"), self.join(other, f"{other} b")
        try:
            number = first.tell("fetch", peer=second.peer_id, addresses=[self.relay_url], bytes=PROBE_BYTES)
            begun = time.monotonic()
            try:
                byte = first.wait("first_byte", 2 * CONNECT_S, id=number)
            except LabError as error:
                return Row(one, other, error=str(error))
            direct_s: float | None = None
            try:
                direct = first.wait("path", SETTLE_S, where=lambda e: _is_direct(e, second))
                direct_s = max(0.0, direct["s"] - (byte["s"] - byte["took_s"]))
                time.sleep(max(0.0, begun + 1.0 - time.monotonic()))
            except LabError:
                pass  # it stayed on the relay
            last = [e for e in first.drain() if e["event"] == "path" and e["peer"] == second.peer_id][-1]
            return Row(one, other, byte["took_s"], byte["kind"], direct_s, last["kind"])
        finally:
            first.stop()
            second.stop()


def _is_direct(event: dict[str, object], peer: RemotePeer) -> bool:
    return event["peer"] == peer.peer_id and event["kind"] == "direct"


@contextmanager
def meeting() -> Iterator[Meeting]:
    """A laboratory with a relay in it."""
    with Lab() as lab:
        yield Meeting(lab)


def measure_all() -> list[Row]:
    """Every pair once."""
    with meeting() as place, ThreadPoolExecutor(AT_ONCE) as pool:
        place.relay.addresses  # noqa: B018  (wait until it is ready)
        return list(pool.map(lambda pair: place.measure(*pair), pairs()))


def table(rows: list[Row]) -> str:
    """The rows for people, as Markdown."""
    lines = [
        "| one side | other side | connected | first byte | over | direct after | path in the end | as expected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        facts = [
            row.one,
            row.other,
            "no" if row.first_byte_s is None else "yes",
            _ms(row.first_byte_s),
            row.first_path or "-",
            _ms(row.direct_s),
            row.last_path or row.error or "-",
            "yes" if row.is_as_expected else "NO",
        ]
        lines.append(f"| {' | '.join(facts)} |")
    return "\n".join(lines)


def write_page(rows: list[Row], without: str) -> Path:
    """Keep the table in docs/, and that of pairs `without` a third peer."""
    good = sum(row.is_as_expected for row in rows)
    PAGE.write_text(
        f"""# Who reaches whom: the NAT matrix

`make nat-matrix` measures this anew and writes this page. Real processes and real NATs (nftables) in network
namespaces: `tests/lab/`. The links have no delay of their own: the times are those of the program, and a real
network adds its round trips.

## With a third peer

Two homes that know nothing but a reachable peer, which relays for them.

{table(rows)}

{good} of {len(rows)} pairs as expected: connected within {CONNECT_S:g} s, and directly unless physics forbids it.
Measured {date.today().isoformat()}, {os.cpu_count()} cores, Python {platform.python_version()}.

## Without a third peer

{without}

## The kinds

Terms of RFC 4787.

{_kinds()}

A symmetric router gives every destination another port. Whoever filters by port (`symmetric`, `port-restricted`)
cannot know which to let in, so these pairs stay with the relay, as does everybody whose network drops UDP.
""",
        encoding="utf-8",
    )
    return PAGE


def _kinds() -> str:
    return "\n".join(line for line in (nat.__doc__ or "").splitlines() if line.startswith("|"))


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"
