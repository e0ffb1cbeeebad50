"""PeerRecord: where a peer may be reached, signed by the peer itself, so anybody may carry it to anybody.

    record  = version u8 | peer 32 | signature 64 | body
    body v1 = msgpack array: sequence, issued, expires, addresses, name, serves[, incarnation[, listens_s]]
    signed  = "coterie peer record" | 0 | version | peer | body          (Ed25519)

`sequence` grows with every record of a peer; a receiver keeps the newest. Times are unix seconds. Fields may be
appended to the body: what is signed is the body as it came, and it is passed on as it came.
"""

import ipaddress
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import msgspec

from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.identity.keys import SIGNATURE_BYTES, verify
from coterie.identity.peer_id import KEY_BYTES
from coterie.texts import tr

VERSION = 1
CONTEXT = b"coterie peer record\x00"  # no other signature of ours begins so: domain separation
RECORD_BYTES_MAX = 900  # BEP 44 carries 996 bytes (measured, FACTS), an mDNS packet about 1,400; room to grow
ADDRESSES_MAX = 16  # guess: both families on several interfaces, an observed one, two or three relays
ADDRESS_CHARS_MAX = 128  # guess: a relay's URL with a long host name
NAME_CHARS_MAX = 64  # as a computer's name in the settings
LIFETIME_MAX_S = 7 * 86_400  # guess: an address older than a week is a rumour
CLOCK_SKEW_S = 600  # guess: a household's clocks; kept by hand they are minutes off
LISTENS_MAX_S = 600  # guess: who waits longer than ten minutes has gone away
INCARNATION_BYTES = 8  # random: two starts of one identity never have the same
SEQUENCE_MAX = 2**63 - 1  # what BEP 44 and SQLite hold
VERIFIED_MAX = (
    1_024  # sound records remembered: 2 MB; the same ones come again with every answer of an overlay
)

_HEAD_BYTES = 1 + KEY_BYTES + SIGNATURE_BYTES
_RELAY = re.compile(r"https?://[a-z0-9.:\[\]-]+\Z")


class RefusedFor(StrEnum):
    """Why a record was not accepted."""

    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    VERSION = "of a newer version"
    FORGED = "forged"
    EXPIRED = "expired"
    FUTURE = "from the future"


class RecordRefused(PeerError):
    """Somebody handed us a record that is none. `why` says what is wrong with it."""

    code = "record_refused"

    def __init__(self, why: RefusedFor, detail: str = "") -> None:
        super().__init__(f"a peer record is {why}" + (f": {detail}" if detail else ""))
        self.why = why
        if why is RefusedFor.OVERSIZED:
            self.close_code = CloseCode.LIMIT


class _Body(msgspec.Struct, frozen=True, array_like=True):
    sequence: int
    issued: int
    expires: int
    addresses: list[str]
    name: str = ""
    serves: str = ""
    incarnation: bytes = b""
    listens_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRecord:
    """Where `peer` may be reached, by its own word.

    Fields:
        sequence: larger than in every earlier record of this peer.
        issued, expires: unix seconds.
        addresses: "ip:port", "[ip]:port", and the URLs of relays where it listens; best first.
        name: what its people call it; may be empty.
        serves: URL of the relay that this peer itself runs for others; empty when it runs none.
        incarnation: the number of the start that signed it (8 bytes); empty in records of version 0.1.
        listens_s: it looks for knocks (`wire.knock`) at its door, every so many seconds at least; 0: it does not.
    """

    peer: PeerId
    sequence: int
    issued: int
    expires: int
    addresses: tuple[str, ...] = ()
    name: str = ""
    serves: str = ""
    incarnation: bytes = b""
    listens_s: int = 0

    @property
    def direct(self) -> tuple[str, ...]:
        """The addresses that are no relays."""
        return tuple(a for a in self.addresses if not is_relay(a))

    @property
    def relays(self) -> tuple[str, ...]:
        """The URLs of relays where the peer listens."""
        return tuple(a for a in self.addresses if is_relay(a))

    def sign(self, key: SecretKey) -> bytes:
        """The record as it travels.

        Raises:
            UsageError: it breaks a bound, or `key` is another peer's.
        """
        if key.peer_id != self.peer:
            raise UsageError(tr("a peer record is signed by its own peer only"))
        if wrong := _what_is_wrong(self):
            raise UsageError(tr("not a peer record: {wrong}", wrong=wrong))
        fields = [self.sequence, self.issued, self.expires, list(self.addresses), self.name, self.serves]
        if self.incarnation or self.listens_s:
            fields.append(self.incarnation)
        body = _ENCODER.encode([*fields, self.listens_s] if self.listens_s else fields)
        if _HEAD_BYTES + len(body) > RECORD_BYTES_MAX:
            raise UsageError(
                tr(
                    "a peer record of {head_bytes} bytes is over {record_bytes_max}",
                    head_bytes=_HEAD_BYTES + len(body),
                    record_bytes_max=RECORD_BYTES_MAX,
                )
            )
        version = bytes([VERSION])
        signature = key.sign(CONTEXT + version + bytes(self.peer) + body)
        return version + bytes(self.peer) + signature + body

    def sign_fitting(self, key: SecretKey) -> bytes:
        """As `sign`, leaving out the last direct addresses (the least good) until it fits."""
        fitting = self
        while True:
            size = (
                sum(len(a) + 2 for a in (*fitting.addresses, fitting.serves))
                + 4 * len(self.name)
                + 45
                + len(self.incarnation)
            )
            too_many = len(fitting.addresses) > ADDRESSES_MAX
            if not too_many and _HEAD_BYTES + size <= RECORD_BYTES_MAX:
                return fitting.sign(key)
            if not fitting.addresses:
                raise UsageError(tr("a peer record does not fit even without addresses"))
            leaving = (fitting.direct or fitting.addresses)[-1]
            kept = tuple(a for a in fitting.addresses if a != leaving)
            fitting = _with_addresses(fitting, kept)

    @classmethod
    def open(cls, raw: bytes, now: float) -> "PeerRecord":
        """Read and verify what `sign` made; `now` is unix seconds.

        Raises:
            RecordRefused: says what is wrong. Nothing of a refused record is to be used.
        """
        record = cls.read(raw)
        if record.expires <= now:
            raise RecordRefused(RefusedFor.EXPIRED)
        if record.issued > now + CLOCK_SKEW_S:
            raise RecordRefused(RefusedFor.FUTURE, "one of the two computers' clocks is wrong")
        return record

    @classmethod
    def read(cls, raw: bytes) -> "PeerRecord":
        """As `open`, whatever the time is: for one's own records, and to tell how old one is."""
        return _verified(raw)


def is_relay(address: str) -> bool:
    """Whether `address` is a relay's URL and no "ip:port"."""
    return "://" in address


def is_address(text: str) -> bool:
    """Whether `text` is a canonical "ip:port" that one can dial from elsewhere, or a relay's URL."""
    if not 0 < len(text) <= ADDRESS_CHARS_MAX or not text.isascii():
        return False
    if is_relay(text):
        return _RELAY.match(text) is not None
    try:
        ip, port = split_address(text)
    except UsageError:
        return False
    return not ip.is_unspecified and not ip.is_multicast and join_address(ip, port) == text


@decoder(UsageError, "this address")
def split_address(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    """IP and port of "ip:port" or "[ip]:port".

    Raises:
        UsageError: it is neither.
    """
    host, _, digits = text.rpartition(":")
    try:
        ip = ipaddress.ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        raise UsageError(tr("'{text}' is not an IP address with a port", text=text)) from None
    if (ip.version == 6) != host.startswith("[") or not (digits.isascii() and digits.isdigit()):
        raise UsageError(tr("'{text}' is not an IP address with a port", text=text))
    if len(digits) > 5 or not 0 < int(digits) < 65536 or (ip.version == 6 and ip.scope_id):
        raise UsageError(tr("'{text}' is not an IP address with a port", text=text))
    return ip, int(digits)


def join_address(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> str:
    """The canonical text of an address."""
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


@decoder(lambda said: RecordRefused(RefusedFor.MALFORMED, said), "it")
@lru_cache(maxsize=VERIFIED_MAX)
def _verified(raw: bytes) -> PeerRecord:
    """The record in `raw`, its signature and bounds checked; a refused one is checked anew each time."""
    if len(raw) > RECORD_BYTES_MAX:
        raise RecordRefused(RefusedFor.OVERSIZED, f"{len(raw)} bytes, at most {RECORD_BYTES_MAX}")
    if len(raw) <= _HEAD_BYTES:
        raise RecordRefused(RefusedFor.MALFORMED, "truncated")
    if raw[0] != VERSION:
        raise RecordRefused(RefusedFor.VERSION if raw[0] > VERSION else RefusedFor.MALFORMED)
    peer, signature, body = PeerId(raw[1:33]), raw[33:_HEAD_BYTES], raw[_HEAD_BYTES:]
    if not verify(peer, CONTEXT + raw[:33] + body, signature):
        raise RecordRefused(RefusedFor.FORGED)
    read = _DECODER.decode(body)
    record = PeerRecord(
        peer=peer,
        sequence=read.sequence,
        issued=read.issued,
        expires=read.expires,
        addresses=tuple(read.addresses),
        name=read.name,
        serves=read.serves,
        incarnation=read.incarnation,
        listens_s=read.listens_s,
    )
    if wrong := _what_is_wrong(record):
        raise RecordRefused(RefusedFor.MALFORMED, wrong)
    return record


def _what_is_wrong(record: PeerRecord) -> str:
    """The first bound that `record` breaks, in words; empty when it is sound."""
    if not 0 < record.sequence <= SEQUENCE_MAX:
        return "its sequence number is out of range"
    if not 0 <= record.issued < record.expires or record.expires - record.issued > LIFETIME_MAX_S:
        return f"it is valid for no time or for more than {LIFETIME_MAX_S} s"
    if len(record.addresses) > ADDRESSES_MAX or len({*record.addresses}) < len(record.addresses):
        return f"more than {ADDRESSES_MAX} addresses, or one of them twice"
    if not all(map(is_address, record.addresses)):
        return "an address that cannot be dialled"
    if record.serves and not (is_relay(record.serves) and is_address(record.serves)):
        return "its own relay is no URL"
    if len(record.incarnation) not in (0, INCARNATION_BYTES):
        return f"the number of its start has not {INCARNATION_BYTES} bytes"
    if not 0 <= record.listens_s <= LISTENS_MAX_S:
        return f"it looks for knocks less often than every {LISTENS_MAX_S} s"
    if len(record.name) > NAME_CHARS_MAX or not record.name.isprintable():
        return f"a name of more than {NAME_CHARS_MAX} characters, or with unprintable ones"
    return ""


def _with_addresses(record: PeerRecord, addresses: tuple[str, ...]) -> PeerRecord:
    return replace(record, addresses=addresses)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Body)
