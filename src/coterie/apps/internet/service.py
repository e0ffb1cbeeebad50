"""The internet service of a node: what access it gives to whom, and the proxy that leads to the access of others."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coterie.access.limits import read_amount, read_hours
from coterie.access.names import TICKET
from coterie.access.policy import ANYONE
from coterie.access.resource import Verb
from coterie.access.terms import Terms
from coterie.apps.context import Context
from coterie.apps.internet.accounts import Accounts, UseRecord
from coterie.apps.internet.dialling import Dialling, Names
from coterie.apps.internet.exit_journal import is_changed
from coterie.apps.internet.exits import Exits
from coterie.apps.internet.hosts import read_pattern
from coterie.apps.internet.messages import PROTOCOL
from coterie.apps.internet.offering import Offering
from coterie.apps.internet.proxy import Proxy
from coterie.apps.internet.records import ShareRecord, UsingRecord, WholeRecord
from coterie.apps.internet.results import DayLine, ExitLine, InternetLine, InternetSaid, ShareLine, UserLine
from coterie.apps.internet.sharing import KIND, Sharing, resource_of
from coterie.apps.internet.whereabouts import Whereabouts
from coterie.errors import CoterieError, LimitExceeded, NotFound, UsageError
from coterie.identity import PeerId
from coterie.quantity import say_bytes
from coterie.services.data.records import Records
from coterie.services.directory.core import Offered
from coterie.texts import tr

if TYPE_CHECKING:
    from coterie.apps.internet.exit_whole import Whole

SHARES_MAX = 64  # guess: more than anybody looks through
EXITS_MAX = 16  # in use at once
PATTERNS_MAX = 256  # hosts of one share, each of `allow` and `only`
NAME_CHARS_MAX = 63
LOOK_S, LOOKS_MAX = 0.9, 120  # the page looks every second, and shows two minutes
SAVE_S = 5.0  # so much of the accounts is lost at worst with a crash

log = logging.getLogger(__name__)


class InternetService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._shares: Records[ShareRecord] = context.data.records("shares", ShareRecord, "share")
        self._using: Records[UsingRecord] = context.data.records("using", UsingRecord, "exits")
        self._use: Records[UseRecord] = context.data.records("use", UseRecord, "use")
        self._accounts = Accounts(self._use)
        self._names = Names()
        self._dialling = Dialling(self._names, Whereabouts(context.me.addresses).place)
        self._offering = Offering(context)
        self._sharing = Sharing(
            context, self._ordered, self._accounts, self._dialling, self._new_user, self._offering.heard
        )
        self._exits = Exits(context, self._peers)
        self._whole: Whole | None = None
        self._proxy = Proxy(self._exits)
        self._rates: deque[int] = deque(maxlen=LOOKS_MAX)
        self._looked = 0.0, 0  # when, and how much had gone through

    async def start(self) -> None:
        """Serve what was shared before, open the proxy that was open before."""
        self._context.access.name_resources(KIND, self._resolve, self._say)
        self._context.net.offer(KIND, self._offered)
        for record in self._shares:
            self._permit(record)
        self._context.net.register(PROTOCOL, self._sharing.handle)
        self._offering.start(self._sharing)
        self._context.jobs.keep(self._keep_accounts, "writing down who used how much")
        if self._context.net.reach is not None and self._record() is not None:
            try:
                self._listen(0)
            except CoterieError as error:
                log.warning("the proxy stays closed: %s", error)
        if self._context.net.reach is not None:
            await self._resume_whole()

    async def _resume_whole(self) -> None:
        """As it was before the node ended; what is left of one that nobody asks for any more is undone."""
        record = self._record()
        if record is None or record.whole is None:
            if not is_changed(self._context.data.folder):
                return
            undoing = self._whole_exit().stop()
        else:
            undoing = self._whole_exit().start(record.whole)
        try:
            await undoing
        except CoterieError as error:
            self._whole_exit().trouble = str(error)
            self._context.tell.say(tr("The whole-system exit is not as asked for: {error}", error=str(error)))

    async def close(self) -> None:
        """Write down who used how much. A whole-system exit stays closed."""
        if self._whole is not None:
            await self._whole.close()
        self._names.close()
        self._save()

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {
            "shared": len(list(self._shares)),
            "exits": len(self._peers()),
            "connections of others": self._sharing.open.total(),
        }

    # ---- what others may use here

    def share(
        self,
        name: str,
        to: Sequence[str],
        *,
        limits: Sequence[str] = (),
        hours: str = "",
        allow: Sequence[str] = (),
        only: Sequence[str] = (),
    ) -> ShareLine:
        """Let those named in `to` use the internet access of this computer; the same name again changes it.

        Raises:
            UsageError: no such name, addressee, limit or host can be.
            NotFound: nobody is called so.
            LimitExceeded: SHARES_MAX are shared.
        """
        if not (name and len(name) <= NAME_CHARS_MAX and name.replace("-", "").isalnum() and name.isascii()):
            raise UsageError(
                tr("'{name}' cannot be a name here: write letters, digits and hyphens", name=name)
            )
        subjects = list(dict.fromkeys(self._context.people.subject(who) for who in to))
        if TICKET in subjects or ANYONE in subjects:
            raise UsageError(
                tr("internet access is for people you know: --to with a person, a circle or contacts")
            )
        if max(len(allow), len(only)) > PATTERNS_MAX:
            raise LimitExceeded(tr("{patterns_max} hosts at most", patterns_max=PATTERNS_MAX))
        terms, period = read_terms(limits, hours)
        known = self._find(name)
        if known is None and len(list(self._shares)) >= SHARES_MAX:
            raise LimitExceeded(
                tr("internet access is shared {shares_max} times already", shares_max=SHARES_MAX)
            )
        record = ShareRecord(
            id=known.id if known else self._shares.new_id(),
            created=known.created if known else time.time(),
            name=name,
            to=subjects,
            terms=terms,
            period=period,
            allow=[read_pattern(text) for text in allow],
            only=[read_pattern(text) for text in only],
        )
        self._shares.save(record)
        self._context.access.policy.withdraw(resource_of(record))
        self._context.access.review()  # connections under the old terms end
        self._permit(record)
        self._offering.changed()
        return self._share_line(record)

    def unshare(self, name: str) -> InternetSaid:
        """End it: connections of others end at once. Raises `NotFound`."""
        record = self._choose(name)
        self._shares.remove(record.id)
        self._context.access.policy.withdraw(resource_of(record))
        self._context.access.review()
        return InternetSaid(
            record.name, tr("Internet access is no longer shared as {name}", name=record.name)
        )

    def shares(self) -> list[ShareLine]:
        """All that is shared."""
        return [self._share_line(record) for record in self._ordered()]

    # ---- what this node uses of others

    @property
    def exits(self) -> Exits:
        """Connections and flows through the exits in use."""
        return self._exits

    async def use(
        self, computers: Sequence[str], *, port: int = 0, whole: WholeRecord | None = None
    ) -> InternetLine:
        """Use the access of these computers, in this order, through a proxy here, and with `whole` for everything.

        Raises:
            NotFound: nobody is called so.
            TransportError, PeerError, ExitRefused: none of them lets this computer use it.
            UsageError: the port is not to be had, none is named, or this computer can have no whole-system exit.
        """
        peers = list(dict.fromkeys(self._context.people.find(who) for who in computers))
        if not peers:
            raise UsageError(tr("say whose: coterie internet use COMPUTER"))
        if len(peers) > EXITS_MAX:
            raise LimitExceeded(tr("{exits_max} exits at most", exits_max=EXITS_MAX))
        await self._exits.check(peers)
        if self._proxy.port is not None and port not in (0, self._proxy.port.number):
            await self._close_port()
        if self._proxy.port is None:
            self._listen(port)
        await self._use_whole(whole)
        known = self._record()
        self._using.save(
            UsingRecord(
                id=known.id if known else self._using.new_id(),
                created=time.time(),
                peers=[str(peer) for peer in peers],
                whole=whole,
            )
        )
        self._exits.forget()
        return self.line()

    async def _use_whole(self, whole: WholeRecord | None) -> None:
        """Set it up, or undo one that is there. Raises `UsageError`."""
        if whole is not None:
            await self._whole_exit().start(whole)
        elif self._whole is not None or is_changed(self._context.data.folder):
            await self._whole_exit().stop()

    def _whole_exit(self) -> "Whole":
        if self._whole is None:
            from coterie.apps.internet.exit_whole import Whole

            self._whole = Whole(self._context, self._exits)
        return self._whole

    async def stop(self) -> InternetSaid:
        """Use nobody's access. Raises `NotFound` where none is used."""
        record = self._record()
        is_left = is_changed(self._context.data.folder)
        if record is None and not is_left:
            raise NotFound(tr("this computer uses nobody's internet access"))
        if record is not None:
            self._using.remove(record.id)
        await self._close_port()
        if self._whole is not None or is_left:
            await self._whole_exit().stop()
            return InternetSaid(
                "internet", tr("Programs connect as they did before: the whole-system exit is undone")
            )
        return InternetSaid("internet", tr("The proxy is closed; programs connect as they did before"))

    def line(self) -> InternetLine:
        """All of it."""
        proxy = self._proxy.port.address if self._proxy.port is not None else ""
        return InternetLine(
            shares=self.shares(),
            users=self._users(),
            exits=[self._exit_line(peer) for peer in self._peers()],
            proxy=proxy,
            pac=f"http://{proxy}/proxy.pac" if proxy else "",
            whole=self._say_whole(),
        )

    def look_at_use(self) -> list[int]:
        """Bytes of all users of this computer's access, a second: at the looks of the last minutes, and now."""
        now, total = time.monotonic(), self._accounts.total()
        before, had = self._looked
        if now - before >= LOOK_S:
            self._rates.append(round((total - had) / (now - before)) if before else 0)
            self._looked = now, total
        return list(self._rates)

    # ---- small things

    def _say_whole(self) -> str:
        record = self._record()
        if (record is None or record.whole is None) and not is_changed(self._context.data.folder):
            return ""
        return self._whole_exit().state

    async def _keep_accounts(self) -> None:
        while True:
            await self._sharing.used.wait()
            await asyncio.sleep(SAVE_S)
            self._sharing.used.clear()
            self._save()

    def _new_user(self, peer: str) -> UseRecord:
        return UseRecord(id=self._use.new_id(), created=time.time(), peer=peer)

    def _save(self) -> None:
        changed, forgotten = self._accounts.take()
        for record in changed:
            self._use.save(record)
        for record in forgotten:
            self._use.remove(record.id)

    def _listen(self, number: int) -> None:
        proxy, local = self._proxy, self._context.local
        note = tr("SOCKS5 and HTTP proxy: internet access of others")
        proxy.port = local.tcp("proxy", proxy.serve, number=number, note=note)
        proxy.datagrams = local.udp("datagrams", proxy.serve_flow, note=tr("datagrams of SOCKS5"))

    async def _close_port(self) -> None:
        ports = self._proxy.port, self._proxy.datagrams
        self._proxy.port = self._proxy.datagrams = None
        for port in ports:
            if port is not None:
                await port.close()

    def _record(self) -> UsingRecord | None:
        return next(iter(self._using), None)

    def _peers(self) -> list[PeerId]:
        record = self._record()
        return [PeerId.parse(peer) for peer in record.peers] if record else []

    def _ordered(self) -> list[ShareRecord]:
        return sorted(self._shares, key=lambda record: record.created)

    def _offered(self, peer: PeerId) -> list[Offered]:
        return [
            Offered(resource=resource_of(r), name=r.name, note=", ".join(say_terms(r))) for r in self._shares
        ]

    def _permit(self, record: ShareRecord) -> None:
        self._context.access.policy.permit_only(record.to, Verb.USE, resource_of(record))
        self._context.access.review()

    def _find(self, name: str) -> ShareRecord | None:
        return next((record for record in self._shares if record.name == name), None)

    def _choose(self, text: str) -> ShareRecord:
        found = next((record for record in self._shares if text in (record.name, record.id)), None)
        if found is None:
            raise NotFound(
                tr("no internet access is shared as '{text}'; `coterie internet` lists what is", text=text)
            )
        return found

    def _resolve(self, path: str) -> str:
        name, slash, rest = path.partition("/")
        return self._choose(name).id + slash + rest

    def _say(self, path: str) -> str:
        one, slash, rest = path.partition("/")
        return next((record.name for record in self._shares if record.id == one), one) + slash + rest

    def _share_line(self, record: ShareRecord) -> ShareLine:
        return ShareLine(
            id=record.id,
            name=record.name,
            to=[self._context.people.say(subject) for subject in record.to],
            limits=say_terms(record),
            allow=[str(pattern) for pattern in record.allow],
            only=[str(pattern) for pattern in record.only],
        )

    def _exit_line(self, peer: PeerId) -> ExitLine:
        return ExitLine(
            peer=str(peer), name=self._context.people.name_of(peer), state=self._exits.state_of(peer)
        )

    def _users(self) -> list[UserLine]:
        lines = []
        for user in self._accounts.users.values():
            days = [
                DayLine(
                    day=day,
                    up_bytes=sum(one.up for one in shares.values()),
                    down_bytes=sum(one.down for one in shares.values()),
                    connections=sum(one.count for one in shares.values()),
                )
                for day, shares in sorted(user.days.items(), reverse=True)
            ]
            name = self._context.people.name_of(PeerId.parse(user.peer))
            lines.append(UserLine(peer=user.peer, name=name, open=self._sharing.open[user.peer], days=days))
        return sorted(lines, key=lambda line: line.name)


def read_terms(limits: Sequence[str], hours: str) -> tuple[Terms, str]:
    """Terms, and the period of their quota, from "2MB/s", "10GB", "1GB/day" or "50GB/month". Raises `UsageError`."""
    rate, quota, period = 0, 0, ""
    for text in limits:
        amount, slash, per = text.replace(" ", "").partition("/")
        if slash and per not in ("s", "day", "month"):
            raise UsageError(tr("'{text}' is no limit: write 2MB/s, 10GB, 1GB/day or 50GB/month", text=text))
        if per == "s":
            rate = read_amount(amount)
        else:
            quota, period = read_amount(amount), per
    begin, end = read_hours(hours) if hours else (0, 0)
    return Terms(from_minute=begin, to_minute=end, rate_bytes_s=rate, quota_bytes=quota), period


def say_terms(record: ShareRecord) -> list[str]:
    """The limits of a share in words."""
    terms = record.terms
    if not record.period:
        return terms.say()
    said = Terms(
        from_minute=terms.from_minute, to_minute=terms.to_minute, rate_bytes_s=terms.rate_bytes_s
    ).say()
    return [*said, f"{say_bytes(terms.quota_bytes)}/{record.period}"]
