"""The phone service of a node: which phones there are, the ports for them, and letting one in."""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

from coterie.access.names import checked, fit
from coterie.apps.context import Context
from coterie.apps.phone import core as c
from coterie.apps.phone.certificates import Authority
from coterie.apps.phone.listeners import PhoneListener, own_addresses
from coterie.apps.phone.records import PhoneRecord
from coterie.apps.phone.results import PhoneAdded, PhoneKey, PhoneLine, PhoneSaid
from coterie.apps.phone.start_page import OPEN, START, Asgi, Front
from coterie.errors import NotFound, TransportError, UsageError
from coterie.moments import iso
from coterie.services.data.records import Records
from coterie.services.local import Port
from coterie.services.local.listeners import LOOPBACK
from coterie.services.local.web_pages import is_own_host
from coterie.tasks import Tasks
from coterie.texts import tr

PORTS = ("https", "http", "files")  # what they are called in `coterie services`, behind "phone/"
KEY_BYTES, COOKIE_BYTES = 16, 32
SEEN_EVERY_S = 3_600.0  # the disk learns so often that a phone was here
LOOK_S = 30.0  # between two looks at the addresses of this computer; guess: a laptop that changes its network

log = logging.getLogger(__name__)


class Expected:
    """A phone that may come: what it opens, and its coming."""

    def __init__(self, key: PhoneKey, lasts_s: float) -> None:
        self.key = key
        self.coming: asyncio.Future[PhoneRecord] = asyncio.get_running_loop().create_future()
        self._lasts_s = lasts_s

    async def came(self) -> PhoneAdded:
        """Wait for it. Raises `TransportError`: it did not come in time."""
        try:
            async with asyncio.timeout(self._lasts_s):
                record = await asyncio.shield(self.coming)
        except TimeoutError:
            raise TransportError(
                tr("no phone came in time: is it in the same network? `coterie phone add` once more")
            ) from None
        line = _line(record)
        return PhoneAdded(**{name: getattr(line, name) for name in line.__struct_fields__})


class PhoneService:
    """Made by the node. All methods belong to its event loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._phones: Records[PhoneRecord] = context.data.records("phones", PhoneRecord, "phone")
        self._keys = c.Keys()
        self._expected: dict[str, Expected] = {}  # by the digest of the key
        self._lines = c.Lines()
        self._authority: Authority | None = None
        self._ports: dict[str, Port] = {}
        self._listeners: dict[str, PhoneListener] = {}
        self._on_removed: list[Callable[[str], None]] = []
        guesses = c.Guesses()
        self._fronts = {name: Front(self, name, guesses) for name in PORTS}

    async def start(self) -> None:
        """Take the ports into the table: closed, until the owner lets the first phone in."""
        if self._context.net.reach is None:
            return
        notes = {
            "https": tr("the page for phones"),
            "http": tr("how phones begin"),
            "files": tr("files of others, shown to phones"),
        }
        for name in PORTS:
            make = partial(self._listener, name)
            self._ports[name] = self._context.local.port(name, make, note=notes[name], is_on=False)
        self._context.jobs.keep(self._follow_addresses, "the addresses in the certificate")

    def _listener(self, scheme: str, name: str, tasks: Tasks) -> PhoneListener:
        tls = None if scheme == "http" else self._tls
        made = self._listeners[scheme] = PhoneListener(name, self._fronts[scheme], tasks, tls)
        return made

    async def close(self) -> None:
        """Everything is on disk already."""

    def status(self) -> dict[str, int]:
        """Counts for `coterie status`."""
        return {"phones": len(self._phones)} if len(self._phones) else {}

    # ---- for the face that shows the page

    def attach(self, scheme: str, page: Asgi, may_upgrade: Callable[[Any], bool]) -> None:
        """Show `page`, which asks itself who comes, at the port of this scheme ("https", "http").

        `may_upgrade` judges requests for WebSockets. The page for https gets what comes to the port of files, too.
        """
        for name in (scheme, "files") if scheme == "https" else (scheme,):
            self._fronts[name].page = page
        self._fronts[scheme].upgrade = may_upgrade

    def is_host(self, scheme: str) -> Callable[[str], bool]:
        """Whether a Host header is an address of the port of this scheme: never a name (DNS rebinding)."""
        return lambda host: is_own_host(host, self.number(scheme), is_lan=True)

    def on_removed(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the id of each phone that is let in no more."""
        self._on_removed.append(listener)

    def redeem(self, key: str, agent: str, scheme: str) -> tuple[PhoneRecord, str] | None:
        """The phone that shows `key`, and what its cookie is to be; None: the key is unknown, used or too old.

        Raises:
            LimitExceeded: too many phones are known.
            StorageError: it cannot be written down.
        """
        digest = _digest(key)
        c.check_room(len(self._phones))
        found = self._keys.take(digest, scheme, time.monotonic())
        if found is None:
            return None
        secret, now = secrets.token_urlsafe(COOKIE_BYTES), self._context.access.now
        record = PhoneRecord(
            id=self._phones.new_id(),
            created=now,
            name=self._free_name(found.name or fit(agent) or tr("phone")),
            may=found.may,
            digest=_digest(secret),
            over=scheme,
            seen=now,
            agent=agent[:200],
        )
        self._phones.save(record)
        expected = self._expected.pop(digest, None)
        if expected is not None and not expected.coming.done():
            expected.coming.set_result(record)
        self._context.tell.say(
            tr("a phone may use this computer now: {name}", name=record.name), key=f"phone {record.id}"
        )
        return record, secret

    def find(self, secret: str, scheme: str) -> PhoneRecord | None:
        """The phone whose cookie this is; it is seen now."""
        digest = _digest(secret)
        record = next((one for one in self._phones if secrets.compare_digest(one.digest, digest)), None)
        if record is None or record.over != scheme:
            return None
        now = self._context.access.now
        if now - record.seen > SEEN_EVERY_S:
            record.seen = now
            self._phones.save(record)
        return record

    def still(self, phone: str) -> PhoneRecord | None:
        """The phone of this id as it is now; None: it was removed."""
        return next((one for one in self._phones if one.id == phone), None)

    def seen(self, phone: str, line: Sequence[object] | None) -> None:
        """A request of this phone came over the connection whose other end is `line` (address, port)."""
        if line is not None and len(line) >= 2:
            self._lines.add((str(line[0]), int(str(line[1]))), phone)

    # ---- for the owner

    @contextlib.asynccontextmanager
    async def expecting(
        self, name: str, may: Sequence[str], *, plain: bool, lasts_s: float
    ) -> AsyncIterator[Expected]:
        """Let one phone in while the block runs, and open the ports.

        Raises:
            UsageError: no such right or name; this computer is in no network; a port is not to be had.
            LimitExceeded: too many phones are known.
        """
        rights = c.read_rights(may)
        wanted = checked(name) if name else ""
        c.check_room(len(self._phones))
        await self.switch(is_on=True)
        hosts = [one for one in self.addresses() if one != LOOPBACK] or self.addresses()
        key = secrets.token_urlsafe(KEY_BYTES)
        digest = _digest(key)
        scheme = "http" if plain else "https"
        tail = f"{OPEN}{key}" if plain else f"{START}#{key}"
        first, *others = [f"http://{host}:{self.number('http')}{tail}" for host in hosts]
        authority = self._made_authority()
        shown = PhoneKey(
            url=first,
            others=others,
            may=[*rights],
            until=iso(self._context.access.now + lasts_s),
            authority="" if plain else authority.name,
            fingerprint="" if plain else authority.fingerprint,
        )
        expected = self._expected[digest] = Expected(shown, lasts_s)
        self._keys.add(digest, c.Key(time.monotonic() + lasts_s, wanted, rights, scheme))
        try:
            yield expected
        finally:
            self._keys.forget(digest)
            self._expected.pop(digest, None)

    def lines(self) -> list[PhoneLine]:
        """Every phone, the one that came last at the end."""
        return [_line(record) for record in self._phones]

    def change(self, called: str, may: Sequence[str]) -> PhoneLine:
        """Let a phone do exactly this from now on. Raises `NotFound`, `UsageError`."""
        record = self._called(called)
        if not may:
            raise UsageError(
                tr("say what it may do, like: coterie phone may {called} look,get", called=called)
            )
        record.may = c.read_rights(may)
        self._phones.save(record)
        self._end(record.id)  # what is under way was begun under other rights
        return _line(record)

    def set_camera(self, called: str, folder: str) -> PhoneSaid:
        """Let a phone put its pictures into a live folder, by name; "": into none. Raises `NotFound`."""
        record = self._called(called)
        record.camera = folder
        self._phones.save(record)
        if not folder:
            return PhoneSaid(
                record.name, tr("{name} puts its pictures into no live folder", name=record.name)
            )
        return PhoneSaid(
            record.name, tr("{name} may put its pictures into {folder}", name=record.name, folder=folder)
        )

    def camera_of(self, phone: str) -> str:
        """The live folder for the pictures of the phone with this id; "": none."""
        record = self.still(phone)
        return record.camera if record is not None else ""

    def remove(self, called: str) -> PhoneSaid:
        """Let a phone in no more: its connections end now. Raises `NotFound`."""
        record = self._called(called)
        self._phones.remove(record.id)
        self._end(record.id)
        for listener in self._on_removed:
            listener(record.id)
        return PhoneSaid(record.name, tr("{name} is out: it may use this computer no more", name=record.name))

    async def switch(self, *, is_on: bool) -> PhoneSaid:
        """Open or close the ports. Raises `UsageError` where one is not to be had, or nobody could reach it."""
        if is_on and not self.addresses():
            raise UsageError(
                tr("this computer is in no local network: connect it to the one of the phone first")
            )
        for name in PORTS:
            if bool(self._ports[name].address) is not is_on:
                await self._context.local.switch(name, is_on=is_on)
        if not is_on:
            return PhoneSaid("off", tr("The ports for phones are closed."))
        return PhoneSaid("on", tr("Phones reach the page at {url}", url=self._url()))

    # ---- what the start page asks

    @property
    def name(self) -> str:
        return self._context.me.name

    def certificate(self) -> bytes:
        return self._made_authority().der

    def number(self, scheme: str) -> int:
        port = self._ports.get(scheme)
        return port.number if port is not None else 0

    def addresses(self) -> list[str]:
        """Private IPv4 addresses of this computer, loopback last."""
        return own_addresses()

    def _url(self) -> str:
        return f"https://{self.addresses()[0]}:{self.number('https')}/"

    def _made_authority(self) -> Authority:
        if self._authority is None:
            self._authority = Authority(self._context.data.folder / "certificates", self._context.me.name)
        return self._authority

    def _tls(self) -> ssl.SSLContext:
        return self._made_authority().context(self.addresses())

    async def _follow_addresses(self) -> None:
        """A certificate for where this computer is now, and one that has not ended."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._ports["https"].address or self._ports["files"].address:
                self._tls()

    def _end(self, phone: str) -> None:
        lines = self._lines.of(phone)
        for listener in self._listeners.values():
            listener.end(lines)

    def _called(self, called: str) -> PhoneRecord:
        known = list(self._phones)
        meant = [one for one in known if one.id == called] or [one for one in known if one.name == called]
        if len(meant) != 1:
            raise NotFound(tr("there is no phone '{called}': `coterie phones` lists them", called=called))
        return meant[0]

    def _free_name(self, wanted: str) -> str:
        taken = {one.name for one in self._phones}
        return next(
            name
            for number in range(1, c.PHONES_MAX + 2)
            if (name := wanted if number == 1 else f"{wanted} {number}") not in taken
        )


def _line(record: PhoneRecord) -> PhoneLine:
    return PhoneLine(
        id=record.id,
        name=record.name,
        may=[*record.may],
        over=record.over,
        since=iso(record.created),
        last=iso(record.seen),
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
