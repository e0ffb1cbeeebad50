"""The exit: connects to the internet for each stream that the policy and the share allow, and counts bytes, no hosts.

What a stream asks for is in no log, no record and no error that is kept.
"""

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from coterie.access.policy import Decision
from coterie.access.resource import Verb
from coterie.access.terms import Terms
from coterie.apps.context import Context
from coterie.apps.internet.accounts import Accounts, UseRecord, used_up
from coterie.apps.internet.dialling import Dialling, NotReached
from coterie.apps.internet.flows import OutsideFlow
from coterie.apps.internet.messages import DATA, PROTOCOL, Offer, Open, Opened, Refused, Trying
from coterie.apps.internet.records import ShareRecord
from coterie.errors import AccessDenied, CloseCode, CoterieError, LimitExceeded, PeerError
from coterie.identity import PeerId
from coterie.net import Stream
from coterie.rate import Rate, RateTable
from coterie.services.carry.answers import Answers, read_opening
from coterie.services.carry.bulk_splice import splice_bulk
from coterie.services.carry.datagrams import carry_datagrams
from coterie.services.carry.framed import Framed
from coterie.services.carry.messages import FLOW_MAX, Watch, pack_datagram
from coterie.services.carry.packets import Packets
from coterie.services.carry.splice import splice
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.apps.internet.exit_pings import OutsidePings

KIND = "internet"  # of resources
OPENING_S = 10.0  # for the first message; guess: as sessions of files have it
CONNECTIONS_MAX = 5_000  # of all peers; each takes a file descriptor and, at worst, 1.5 MB
FLOWS_MAX = 1_000  # of datagrams; each has two sockets
RATES_MAX = 10_000  # users of shares whose rate is counted
RATE_BURST_S = 1.0
NOT_HERE = "no internet access here is for this computer"


def resource_of(record: ShareRecord) -> str:
    """What the policy calls a share."""
    return f"{KIND}/{record.id}"


def seconds_left(terms: Terms) -> float | None:
    """Until terms that hold now hold no longer; None: for ever."""
    now = time.time()
    until = terms.until(now, time.localtime(now).tm_gmtoff or 0)
    return until - now if until < math.inf else None


def today() -> str:
    """The day in this computer's time: "2026-11-28"."""
    return time.strftime("%Y-%m-%d")


class Sharing:
    """Serves what `shares` gives and the policy allows, for as long as they do."""

    def __init__(
        self,
        context: Context,
        shares: Callable[[], list[ShareRecord]],
        accounts: Accounts,
        dialling: Dialling,
        new_user: Callable[[str], UseRecord],
        offered: Callable[[PeerId], None],
    ) -> None:
        """`offered`: a peer says that this computer may use its access."""
        self._offered = offered
        self._context = context
        self._new_user = new_user
        self._shares = shares
        self._accounts = accounts
        self._dialling = dialling
        self._answers = Answers(context.jobs.start)
        self._packets = Packets(PROTOCOL, context.jobs.start)
        self._rates: RateTable[tuple[str, PeerId, int], Rate] = RateTable(
            RATES_MAX, lambda key: Rate(key[2], key[2] * RATE_BURST_S)
        )
        self.open: Counter[str] = Counter()  # connections and flows by user
        self.used = asyncio.Event()  # something was counted
        self._flows = 0

    async def handle(self, stream: Stream) -> None:
        """One stream of a peer."""
        async with asyncio.timeout(OPENING_S):
            message, rest = await read_opening(stream)
        match message:
            case Open():
                await self._open(stream, message, rest)
            case Offer():
                self._offered(stream.peer)
            case Watch() if not rest:
                await self._answers.beat(stream, Opened())
            case _:
                raise PeerError("a stream of an exit begins with what is wanted")

    async def _open(self, stream: Stream, asked: Open, rest: bytes) -> None:
        access, peer = self._context.access, stream.peer
        try:
            share = self._share_for(peer)
            async with access.hold(peer, Verb.USE, resource_of(share)) as decision:
                stream.welcome()
                if asked.kind == "ask":
                    await stream.send(Opened())
                    return
                await stream.send(Trying())
                meter = self._meter(share, decision)
                with self._counted(peer, share):
                    async with self._hours(share), self._answers.serve(stream) as heard:
                        await self._serve(stream, asked, rest, share, meter=meter, heard=heard)
        except _Refusal as refusal:
            await stream.send(Refused(refusal.why, str(refusal)))

    async def _serve(
        self,
        stream: Stream,
        asked: Open,
        rest: bytes,
        share: ShareRecord,
        *,
        meter: "_Meter",
        heard: Callable[[], None],
    ) -> None:
        if asked.kind in ("udp", "ping"):
            await self._carry_flow(stream, asked, rest, share, meter=meter, heard=heard)
            return
        if asked.kind == "dns":
            await self._answer_name(stream, asked, share, meter)
            return
        try:
            program = await self._dialling.connect(share.rules, asked.host, asked.port)
        except AccessDenied as error:
            raise _Refusal("host", str(error)) from None
        except LimitExceeded as error:
            raise _Refusal("busy", str(error)) from None
        except NotReached as error:
            raise _Refusal(error.why, str(error)) from None
        with contextlib.closing(program):
            await stream.send(Opened())
            stream.unread(rest)
            way = Framed(stream, DATA)
            if meter.is_paced:
                await splice(way, program, charge=meter.up, charge_outward=meter.down, heard=heard)
            else:
                count = meter.count_up, meter.count_down
                await splice_bulk(way, program, count_inward=count[0], count_outward=count[1], heard=heard)

    async def _carry_flow(
        self,
        stream: Stream,
        asked: Open,
        rest: bytes,
        share: ShareRecord,
        *,
        meter: "_Meter",
        heard: Callable[[], None],
    ) -> None:
        if self._flows >= FLOWS_MAX:
            raise _Refusal("busy", tr("the exit carries {flows_max} flows already", flows_max=FLOWS_MAX))
        try:
            outside = self._outside(asked.kind, share)
        except AccessDenied as error:
            raise _Refusal("host", str(error)) from None
        self._flows += 1
        try:
            number = asked.flow if 0 < asked.flow <= FLOW_MAX else 0
            with self._packets.flow(stream.link, number, is_asker=False) as packets:
                await stream.send(Opened(number if packets is not None else 0))
                async with outside:
                    await carry_datagrams(
                        stream,
                        outside,
                        rest,
                        packets=packets,
                        charge=meter.up,
                        charge_outward=meter.down,
                        heard=heard,
                    )
        finally:
            self._flows -= 1

    def _outside(self, kind: str, share: ShareRecord) -> "OutsideFlow | OutsidePings":
        """Raises `AccessDenied`: this computer does not do it."""
        if kind == "udp":
            return OutsideFlow(self._dialling, share.rules)
        from coterie.apps.internet.exit_pings import OutsidePings

        return OutsidePings(self._dialling, share.rules)

    async def _answer_name(self, stream: Stream, asked: Open, share: ShareRecord, meter: "_Meter") -> None:
        from coterie.apps.internet.exit_names import resolve_at_exit

        await meter.up(len(asked.question))
        answered = await resolve_at_exit(asked.question, partial(self._dialling.is_open, share.rules))
        await meter.down(len(answered))
        await stream.send(Opened())
        await stream.write(pack_datagram(answered))

    def is_for(self, peer: PeerId) -> bool:
        """Whether something that is shared is for `peer`."""
        explain = self._context.access.explain
        return any(explain(peer, Verb.USE, resource_of(share)).allowed for share in self._shares())

    def _share_for(self, peer: PeerId) -> ShareRecord:
        """The first share that `peer` may use now. Raises `_Refusal`."""
        access, reason = self._context.access, ""
        for share in self._shares():
            if not access.explain(peer, Verb.USE, resource_of(share)).allowed:
                continue
            wrong = share.terms.why_not(time.time(), time.localtime().tm_gmtoff or 0)
            if wrong is None and self._accounts.left(str(peer), share, today()) == 0:
                wrong = str(used_up(share))
            if wrong is None:
                return share
            reason = wrong
        if not reason:
            access.decide(peer, Verb.USE, KIND)  # for the log
        raise _Refusal("access", reason or NOT_HERE)

    def _meter(self, share: ShareRecord, decision: Decision) -> "_Meter":
        per_s = share.terms.rate_bytes_s
        rate = self._rates.of((share.id, decision.peer, per_s)) if per_s else None
        return _Meter(self._context, self._accounts, share, decision, rate)

    @contextlib.contextmanager
    def _counted(self, peer: PeerId, share: ShareRecord) -> Iterator[None]:
        if self.open.total() >= CONNECTIONS_MAX:
            raise _Refusal(
                "busy",
                tr("{connections_max} connections are open there already", connections_max=CONNECTIONS_MAX),
            )
        user = str(peer)
        self._accounts.begin(user, share, today(), lambda: self._new_user(user))
        self.open[user] += 1
        try:
            yield
        finally:
            self.used.set()
            self.open[user] -= 1
            if not self.open[user]:
                del self.open[user]

    @contextlib.asynccontextmanager
    async def _hours(self, share: ShareRecord) -> AsyncIterator[None]:
        """While the block runs and the terms hold."""
        limit = asyncio.timeout(seconds_left(share.terms))
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise PeerError("the hours of this exit are over", CloseCode.REVOKED) from None


class _Meter:
    """Counts what one connection uses, on the share and on the grant that it rests on."""

    def __init__(
        self,
        context: Context,
        accounts: Accounts,
        share: ShareRecord,
        decision: Decision,
        rate: Rate | None,
    ) -> None:
        self._context = context
        self._accounts = accounts
        self._share = share
        self._decision = decision
        self._user = str(decision.peer)
        self._rate = rate

    @property
    def is_paced(self) -> bool:
        """Whether more than the share's own quota counts: then bytes wait for `up` and `down`."""
        return bool(self._rate is not None or self._decision.meters)

    def count_up(self, size: int) -> None:
        """Before bytes go to the internet, from any thread. Raises `LimitExceeded`."""
        self._accounts.count(self._user, self._share, today(), up=size)

    def count_down(self, size: int) -> None:
        """Before bytes go to the user, from any thread. Raises `LimitExceeded`."""
        self._accounts.count(self._user, self._share, today(), down=size)

    async def up(self, size: int) -> None:
        """As `count_up`; waits while a rate is exceeded. Raises `LimitExceeded`, `QuotaUsedUp`."""
        self.count_up(size)
        await self._wait(size)

    async def down(self, size: int) -> None:
        """As `count_down`; waits while a rate is exceeded. Errors as `up`."""
        self.count_down(size)
        await self._wait(size)

    async def _wait(self, size: int) -> None:
        if self._decision.meters:
            await self._context.access.charge(self._decision, size)
        if self._rate is not None:
            wait_s = self._rate.spend(asyncio.get_running_loop().time(), size)
            if wait_s > 0:
                await asyncio.sleep(wait_s)


class _Refusal(CoterieError):
    """What the asker is told instead of `Opened`."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(text)
        self.why = why
