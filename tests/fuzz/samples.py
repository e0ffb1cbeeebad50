"""Valid samples for every decoder: one without fails `test_fuzz.py`. Messages are made from their types."""

import atexit
import gzip
import importlib
import io
import pkgutil
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

import coterie
from coterie import json_text
from coterie.access.circle_log import CircleLog
from coterie.access.grant import CONTEXT as GRANT_CONTEXT
from coterie.access.grant import issue, open_grant
from coterie.access.grant_text import GrantText
from coterie.access.policy import of_peer
from coterie.access.resource import Verb
from coterie.access.revocation import open_revocation, revoke
from coterie.access.terms import Terms
from coterie.apps.circles.admission import Purpose, read_purpose
from coterie.apps.circles.book import Identity
from coterie.apps.circles.disk import MAGIC
from coterie.apps.circles.recovery import Card, Keepsake, Membership, read_card, seal, unseal
from coterie.apps.contacts.code import Code
from coterie.apps.disks import messages as disks
from coterie.apps.disks import nbd, tree, usbip
from coterie.apps.disks.trees import Tree
from coterie.apps.expose import messages as expose
from coterie.apps.folders import folder_keys, kept
from coterie.apps.folders import membership as folders
from coterie.apps.folders import register as folder_register
from coterie.apps.folders.brake import Hold, KeptBrake
from coterie.apps.folders.holding import KeptHolding
from coterie.apps.folders.membership import FolderRecord
from coterie.apps.folders.records import pack_agreed
from coterie.apps.folders.root import Marker
from coterie.apps.folders.signed_body import packed
from coterie.apps.folders.steps import Agreed
from coterie.apps.internet import exit_packets
from coterie.apps.internet import messages as internet
from coterie.apps.internet.proxy_head import target_of, to_origin
from coterie.apps.invoke import load_commands, read_parameters
from coterie.apps.phone.certificates import Authority
from coterie.apps.printers import documents, ipp, real
from coterie.apps.send import messages as send
from coterie.content import seen
from coterie.content.bittorrent import magnet
from coterie.content.bittorrent.plain import plain_metainfo
from coterie.content.bittorrent.torrent_file import PieceHashes, TorrentEntry, torrent_file
from coterie.content.versions import Version
from coterie.decoding import DECODERS
from coterie.identity import PeerId, SecretKey
from coterie.net.find.address_book import AddressBook
from coterie.net.port_mapping import nat_pmp
from coterie.overlay.kademlia.keys import open_item, plain_item, signed_item
from coterie.services.carry import messages as carry
from coterie.services.carry.http_head import read_head
from coterie.services.data.form import Form
from coterie.services.data.service import Data
from coterie.settings import Config
from coterie.transfer.got import Got
from coterie.wire import dns, relay
from coterie.wire.frames import Protocol
from coterie.wire.invitation import Invitation
from coterie.wire.knock import CONTEXT as KNOCK_CONTEXT
from coterie.wire.knock import Knock, KnockKeys, KnockKind, read_item, read_letter
from coterie.wire.record import CONTEXT as RECORD_CONTEXT
from coterie.wire.record import PeerRecord
from coterie.wire.ticket import Ticket, TicketKind, pack_addresses
from tests.access.circles import found
from tests.apps.printers.fake_printer import a_pdf
from tests.apps.printers.test_documents import pwg, urf
from tests.apps.printers.test_ipp import PRINT_JOB as IPP_REQUEST
from tests.services.mail.golden import CONTENT

KEY, OTHER = SecretKey(b"1" * 32), SecretKey(b"2" * 32)
PEER = KEY.peer_id
NOW = 1_000
ADDRESSES = ("192.0.2.1:4433", "[2001:db8::1]:4433")
pack = msgspec.msgpack.encode


@dataclass
class Sample:
    """What a decoder takes: `run` gives it `values` and their mutations, all bytes or all text."""

    run: Callable[[Any], object]
    values: list[Any] = field(default_factory=list)


def everything() -> None:
    """Import every module, so that every decoder and every protocol is known."""
    for module in pkgutil.walk_packages(coterie.__path__, "coterie."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _named(name: str) -> Callable[..., Any]:
    """The decoder `name` as it stands in its module: bound, where it is a class method."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    assert callable(found)
    return found  # type: ignore[no-any-return]


PROXY_HEAD = b"GET http://a.example:80/x?y HTTP/1.1\r\nHost: b\r\nConnection: x\r\n\r\n"


def _of(name: str, *values: Any) -> Sample:
    return Sample(_named(f"coterie.{name}"), list(values))


def _checked(body: bytes) -> bytes:
    return body + blake3(body).digest()


def _in_a_file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    def run(content: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            return read(path)

    return run


class _Settings(msgspec.Struct):
    colour: str = "red"


class _Record(msgspec.Struct):
    id: str
    created: float
    parts: list[int] = []


@cache
def samples() -> dict[str, list[Sample]]:
    """By the name that a decoder has in `DECODERS`."""
    return {
        **_wire(),
        **_router(),
        **_trust(),
        **_mail(),
        **_knocks(),
        **_content(),
        **_texts(),
        **_files(),
        **_services(),
        **_disks(),
        **_page(),
        **_messages(),
    }


@cache
def _authority() -> Path:
    """The folder of an authority."""
    folder = Path(tempfile.mkdtemp(prefix="coterie-fuzz-"))
    Authority(folder, "anna")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _page() -> dict[str, list[Sample]]:
    """What browsers and phones send, and what is kept of it."""
    upload = b'{"id": "a", "owner": "b", "batch": "c", "path": ["d"], "size": 1, "created": 1.5, "media": ""}'
    order = (
        b'{"owner": "b", "batch": "c", "target": "/t", "then": "", "uploads": [%b], "places": [["d"]]}'
        % upload
    )
    rules = "web.uploads.rules"
    return {
        f"coterie.{rules}:read_metadata": [
            _of(f"{rules}:read_metadata", "filename YS50eHQ=,batch YmF0Y2g=,x")
        ],
        f"coterie.{rules}:read_checksum": [
            _of(f"{rules}:read_checksum", "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=")
        ],
        "coterie.web.previews.decode_child:read_order": [
            _of("web.previews.decode_child:read_order", b"p" + bytes(18))
        ],
        "coterie.web.previews.kinds:read_text": [_of("web.previews.kinds:read_text", "grün".encode())],
        "coterie.web.arrivals:read_finish": [
            _of("web.arrivals:read_finish", b'{"batch": "abcdefgh", "to": "send:anna"}')
        ],
        "coterie.apps.phone.certificates:read_key": [
            Sample(
                _named("coterie.apps.phone.certificates:read_key"),
                [_authority().joinpath("authority.key").read_bytes()],
            )
        ],
        "coterie.apps.phone.certificates:read_certificate": [
            Sample(
                _named("coterie.apps.phone.certificates:read_certificate"),
                [_authority().joinpath("authority.pem").read_bytes()],
            )
        ],
        "coterie.web.uploads.folder:read_upload": [_of("web.uploads.folder:read_upload", upload)],
        "coterie.web.uploads.landing:read_order": [_of("web.uploads.landing:read_order", order)],
    }


def _disks() -> dict[str, list[Sample]]:
    """Disks of others: what peers send, and what programs that speak NBD do."""
    page = bytes(64)
    listed = tree.listed([page])
    size = 2 * tree.BLOCK_BYTES
    root = tree.root_of(size, listed)
    go = (9).to_bytes(4, "big") + b"anna/disk" + (1).to_bytes(2, "big") + (3).to_bytes(2, "big")
    context = (15).to_bytes(4, "big") + b"base:allocation"
    meta = (9).to_bytes(4, "big") + b"anna/disk" + (1).to_bytes(4, "big") + context
    kept = msgspec.msgpack.encode(Tree((size, 1, 2), [page], listed, root))
    return {
        "coterie.apps.disks.messages:read_data": [
            _of("apps.disks.messages:read_data", disks.pack_data(7, b"bytes")[5:])
        ],
        "coterie.apps.disks.messages:read_write": [
            _of("apps.disks.messages:read_write", disks.pack_write(7, 512, disks.FUA, b"bytes")[5:])
        ],
        "coterie.apps.disks.nbd:read_client_flags": [
            _of("apps.disks.nbd:read_client_flags", bytes(3) + b"\3")
        ],
        "coterie.apps.disks.nbd:read_option": [
            _of("apps.disks.nbd:read_option", nbd.OPTION.pack(nbd.OPTION_MAGIC, nbd.Option.GO, len(go)))
        ],
        "coterie.apps.disks.nbd:read_name": [_of("apps.disks.nbd:read_name", b"anna/disk")],
        "coterie.apps.disks.nbd:read_go": [_of("apps.disks.nbd:read_go", go)],
        "coterie.apps.disks.nbd:read_meta": [_of("apps.disks.nbd:read_meta", meta)],
        "coterie.apps.disks.nbd:read_request": [
            _of(
                "apps.disks.nbd:read_request",
                nbd.REQUEST.pack(nbd.REQUEST_MAGIC, 1, nbd.Command.WRITE, 7, 4_096, 512),
            )
        ],
        "coterie.apps.disks.usbip:read_list": [
            _of(
                "apps.disks.usbip:read_list",
                usbip._HEAD.pack(0x0111, 5, 0, 1)
                + usbip._DEVICE.pack(b"/sys", b"1-1", 1, 2, 3, 0x1D6B, 0x0104, 1, 0, 0, 0, 1, 1, 1)
                + bytes((3, 0, 0, 0)),
            )
        ],
        "coterie.apps.disks.tree:read_list": [Sample(lambda raw: tree.read_list(raw, size, root), [listed])],
        "coterie.apps.disks.tree:read_page": [
            Sample(lambda raw: tree.read_page(raw, size, 0, listed), [page])
        ],
        "coterie.apps.disks.trees:_read_tree": [_of("apps.disks.trees:_read_tree", kept)],
    }


def _services() -> dict[str, list[Sample]]:
    """Services of others, and the ports for them."""
    record = FolderRecord(bytes(16), "Projects", bytes(PEER), 1, 5, ((of_peer(OTHER.peer_id), 1),))
    folder = packed(record, KEY.sign(folders.to_sign(record)))
    opening = expose.PROTOCOL.encode(expose.Use("wiki")) + b"GET / HTTP/1.1"
    targets = ["8080", "[::1]:22", "printer.lan:631", "unix:/run/socket"]
    head = (
        b"POST /a HTTP/1.1\r\nHost: wiki.anna.localhost:80\r\nContent-Length: 4\r\nOrigin: http://x\r\n\r\n"
    )
    offer = send.Offer(bytes(16), [send.Item("a.txt", 1, 1, 10)], 1_800_000_000, "look", "anna")
    stands = send.Stands(bytes(16), 2, "granted", 1_800_000_000, [send.Key(bytes(32), bytes(16))])
    saved = b'{"expose/anna/wiki": {"port": 4000, "is_off": true}}'
    as_kept = folder_keys.kept_record(record)
    keys = folder_keys.FolderKeys(
        record.id, 1, ((7, bytes(32)),), packed(as_kept, KEY.sign(folders.to_sign(as_kept)))
    )
    entry = kept.Entry(7, ((b"r" * 16, 1),), (b"t" * 32,), b"sealed", bytes(PEER), b"s" * 64)
    signed_keys = packed(keys, KEY.sign(folder_keys.to_sign(keys)))
    return {
        "coterie.apps.folders.membership:open_record": [_of("apps.folders.membership:open_record", folder)],
        "coterie.apps.folders.folder_keys:open_keys": [
            _of("apps.folders.folder_keys:open_keys", signed_keys)
        ],
        "coterie.apps.folders.kept:read_entries": [
            _of("apps.folders.kept:read_entries", kept.pack_entries((entry,)))
        ],
        "coterie.apps.folders.sealing:read_record": [
            _of("apps.folders.sealing:read_record", msgspec.msgpack.encode(("a/b.txt", b"register")))
        ],
        "coterie.apps.folders.records:unpack_agreed": [
            _of("apps.folders.records:unpack_agreed", pack_agreed(specimen_of(Agreed)))
        ],
        "coterie.apps.printers.ipp:decode": [_of("apps.printers.ipp:decode", IPP_REQUEST)],
        "coterie.apps.printers.ipp:decode_groups": [_of("apps.printers.ipp:decode_groups", IPP_REQUEST[8:])],
        "coterie.apps.printers.ipp:Head.feed": [
            Sample(lambda raw: ipp.Head().feed(raw), [IPP_REQUEST + b"%PDF"])
        ],
        "coterie.apps.printers.http:read_http_head": [
            _of(
                "apps.printers.http:read_http_head",
                b"POST /ipp HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n",
            )
        ],
        "coterie.apps.printers.http:read_chunk_size": [
            _of("apps.printers.http:read_chunk_size", b"1aF;name=value\r\n")
        ],
        "coterie.apps.printers.documents:pdf_pages": [_of("apps.printers.documents:pdf_pages", a_pdf(2))],
        "coterie.apps.printers.documents:pwg_pages": [
            Sample(lambda raw: documents.pwg_pages(io.BytesIO(raw)), [pwg(2)])
        ],
        "coterie.apps.printers.documents:urf_pages": [
            Sample(lambda raw: documents.urf_pages(io.BytesIO(raw)), [urf(2)])
        ],
        "coterie.apps.printers.quotas:read_quota": [_of("apps.printers.quotas:read_quota", "50/month", "7")],
        "coterie.apps.printers.orders:read_pages": [_of("apps.printers.orders:read_pages", "1-3,7")],
        "coterie.apps.printers.real:read_uri": [
            _of("apps.printers.real:read_uri", "ipp://host:631/ipp/print")
        ],
        "coterie.apps.printers.real:read_job": [
            Sample(lambda raw: real.read_job(ipp.decode(raw).group(ipp.JOB)), [IPP_REQUEST])
        ],
        "coterie.services.carry.messages:Opening.feed": [
            Sample(lambda raw: carry.Opening(expose.PROTOCOL).feed(raw), [opening])
        ],
        "coterie.services.carry.messages:Datagrams.feed": [
            Sample(lambda raw: carry.Datagrams().feed(raw), [carry.pack_datagram(b"one") * 2])
        ],
        "coterie.services.carry.messages:read_packet": [
            _of("services.carry.messages:read_packet", carry.pack_packet(7, b"one", is_asker=True))
        ],
        "coterie.wire.dns:read_question": [
            _of("wire.dns:read_question", dns.question(7, "a.anna.coterie", 1))
        ],
        "coterie.wire.dns:read_addresses": [
            _of(
                "wire.dns:read_addresses",
                dns.answer(
                    dns.read_question(dns.question(7, "a.anna.coterie", 1)),
                    [dns.Record(dns.A, b"\x7f\0\0\1", 5), dns.Record(dns.AAAA, bytes(16), 5)],
                ),
            )
        ],
        "coterie.services.carry.http_head:read_head": [_of("services.carry.http_head:read_head", head)],
        "coterie.services.carry.http_head:read_chunk_length": [
            _of("services.carry.http_head:read_chunk_length", b"1aF;name=value")
        ],
        "coterie.apps.expose.targets:read_target": [_of("apps.expose.targets:read_target", *targets)],
        "coterie.apps.printers.sharing:read_page": [
            _of("apps.printers.sharing:read_page", "http://192.168.1.9/a")
        ],
        "coterie.apps.internet.messages:read_addressed": [
            _of(
                "apps.internet.messages:read_addressed",
                *(internet.pack_addressed(host, 53, b"x") for host in ("1.2.3.4", "::1", "a.example")),
            )
        ],
        "coterie.apps.internet.exit_packets:read_packet": [
            _of(
                "apps.internet.exit_packets:read_packet",
                *(
                    exit_packets.answer(exit_packets.Packet(bytes(size), bytes(size), 1, 2, b""), b"data")
                    for size in (4, 16)
                ),
            )
        ],
        "coterie.apps.internet.exit_journal:_read": [
            _of("apps.internet.exit_journal:_read", b'{"group": "/sys/fs/cgroup/coterie-exit"}')
        ],
        "coterie.apps.internet.socks:read_greeting": [_of("apps.internet.socks:read_greeting", b"\5\1\0")],
        "coterie.apps.internet.socks:read_request": [
            _of("apps.internet.socks:read_request", b"\5\1\0\3\x09a.example\0P", b"\5\3\0\1" + bytes(6))
        ],
        "coterie.apps.internet.socks:read_request4": [
            _of("apps.internet.socks:read_request4", b"\4\1\0P\0\0\0\1me\0a.example\0")
        ],
        "coterie.apps.internet.proxy_head:target_of": [
            Sample(lambda raw: target_of(read_head(raw, is_proxy=True)), [PROXY_HEAD])
        ],
        "coterie.apps.internet.proxy_head:to_origin": [
            Sample(lambda raw: to_origin(read_head(raw, is_proxy=True)), [PROXY_HEAD])
        ],
        "coterie.apps.internet.hosts:read_host": [
            _of("apps.internet.hosts:read_host", "a.example", "[::1]", "10.0.0.1")
        ],
        "coterie.apps.internet.hosts:read_pattern": [
            _of("apps.internet.hosts:read_pattern", "*.a.example:443", "10.0.0.0/8", "[::1]:80")
        ],
        "coterie.apps.send.messages:unpack": [
            _of(
                "apps.send.messages:unpack",
                *map(send.pack, (offer, stands, send.Said(bytes(16), 1, "failed"))),
            )
        ],
        "coterie.apps.drive.digest:read_login": [
            _of(
                "apps.drive.digest:read_login",
                'Digest username="coterie", realm="/films", nonce="0a1b", uri="/films/a,b", qop=auth, nc=00000001, '
                'cnonce="c0ffee", response="8ca523f5e9506fed4657c9700eebdbec"',
            )
        ],
        "coterie.apps.drive.headers:read_destination": [
            _of("apps.drive.headers:read_destination", "http://drive.localhost:4000/anna/photos/a%20b.jpg")
        ],
        "coterie.apps.drive.headers:read_listing": [
            _of(
                "apps.drive.headers:read_listing",
                b'<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:">'
                b"<D:response><D:href>/a%20b</D:href>"
                b"<D:propstat><D:prop><D:resourcetype/><D:getcontentlength>5</D:getcontentlength><D:getlastmodified>"
                b"Sat, 28 Nov 2026 17:02:14 GMT</D:getlastmodified></D:prop></D:propstat></D:response></D:multistatus>",
            )
        ],
        "coterie.apps.drive.headers:masked_destination": [
            _of(
                "apps.drive.headers:masked_destination", "http://drive.localhost:4000/anna/photos/a%3Fb;c%20d"
            )
        ],
        "coterie.apps.drive.headers:read_room": [
            _of(
                "apps.drive.headers:read_room",
                b'<D:multistatus xmlns:D="DAV:"><D:quota-available-bytes>5</D:quota-available-bytes></D:multistatus>',
            )
        ],
        "coterie.apps.drive.headers:read_target": [_of("apps.drive.headers:read_target", "/films/a%20b?x")],
        "coterie.apps.drive.headers:read_password": [
            _of("apps.drive.headers:read_password", "bmFtZTpwYXNzd29yZA==")
        ],
        "coterie.services.local.http_port:_password": [
            _of("services.local.http_port:_password", "bmFtZTpwYXNzd29yZA==")
        ],
        "coterie.services.local.processes:_read_report": [
            _of("services.local.processes:_read_report", b'{"reason": "end", "code": 0}')
        ],
        "coterie.services.local.ports:_read_saved": [_of("services.local.ports:_read_saved", saved)],
    }


def _router() -> dict[str, list[Sample]]:
    """Answers of a home router."""
    address = b"\0\x80\0\0\0\0\0\x09\xcb\0\x71\x07"
    mapped = b"\0\x81\0\0\0\0\0\x09\x11\x51\x11\x51\0\0\x0e\x10"
    pcp_mapped = (
        b"\2\x81\0\0\0\0\x0e\x10\0\0\0\x09" + bytes(12)
        + b"n" * 12 + b"\x11\0\0\0\x11\x51\x11\x51" + bytes(10) + b"\xff\xff\xcb\0\x71\x07"
    )  # fmt: skip
    return {
        "coterie.net.port_mapping.nat_pmp:decode_address": [
            _of("net.port_mapping.nat_pmp:decode_address", address)
        ],
        "coterie.net.port_mapping.description:_place": [
            _of("net.port_mapping.description:_place", "http://192.0.2.1:5000/root.xml")
        ],
        "coterie.net.port_mapping.description:checked": [
            Sample(
                lambda raw: _named("coterie.net.port_mapping.description:checked")(
                    raw, "http://192.0.2.1:80/x"
                ),
                [b'<root xmlns:a="http://example.com"><controlURL>http://192.0.2.1:80/c</controlURL></root>'],
            )
        ],
        "coterie.net.port_mapping.ssdp:description_url": [
            Sample(
                lambda raw: _named("coterie.net.port_mapping.ssdp:description_url")(
                    raw, "192.0.2.1", "192.0.2.1"
                ),
                [b"HTTP/1.1 200 OK\r\nLocation: http://192.0.2.1:80/x\r\n\r\n"],
            )
        ],
        "coterie.net.port_mapping.pcp:decode_map": [_of("net.port_mapping.pcp:decode_map", pcp_mapped)],
        "coterie.net.port_mapping.nat_pmp:decode_map": [
            Sample(lambda raw: nat_pmp.decode_map(raw, "udp"), [mapped])
        ],
        "coterie.net.port_mapping.nat_pmp:_body": [
            Sample(lambda raw: _named("coterie.net.port_mapping.nat_pmp:_body")(raw, 129), [mapped])
        ],
    }


def _wire() -> dict[str, list[Sample]]:
    ticket = str(Ticket(TicketKind.TREE, PEER, b"c" * 32, b"s" * 16, ADDRESSES))
    invitation = str(Invitation(7, PEER, b"s" * 16, ADDRESSES))
    record = PeerRecord(
        peer=PEER,
        sequence=1,
        issued=NOW,
        expires=NOW + 9,
        addresses=(*ADDRESSES, "http://relay.example:80"),
        name="x",
    ).sign(KEY)

    def signed_record(body: bytes) -> object:
        head = record[:33]
        return PeerRecord.read(head + KEY.sign(RECORD_CONTEXT + head + body) + body)

    from_relay = (
        relay.Challenge(b"c" * 16), relay.Confirmed(), relay.Denied("no"), relay.PeerGone(PEER), relay.Ping(b"8" * 8),
        relay.Restarting(1, 2), relay.Status(0), relay.Inbound(PEER, 0, b"x", 1), relay.Inbound(PEER, 0, b"x"),
    )  # fmt: skip
    to_relay = (
        relay.Authentication(PEER, b"s" * 64), relay.Outbound(PEER, 0, b"x", 1), relay.Outbound(PEER, 0, b"x"),
        relay.Pong(b"8" * 8),
    )  # fmt: skip
    body = b"\2" + PEER + b"c" * 32 + b"s" * 16 + b"\2" + pack_addresses(ADDRESSES)
    datagram = bytes(PEER) + b"\0\0\1x"
    return {
        "coterie.json_text:decode": [
            Sample(lambda raw: json_text.decode(raw, object), [b'{"path": "a"}', b'{"path": "a\\udcff"}'])
        ],
        "coterie.identity.peer_id:PeerId.parse": [Sample(PeerId.parse, [str(PEER), PEER.words])],
        "coterie.wire.ticket:Ticket.parse": [Sample(Ticket.parse, [ticket])],
        "coterie.wire.ticket:read_text": [_of("wire.ticket:read_text", ticket, invitation)],
        "coterie.wire.ticket:_is_whole": [_of("wire.ticket:_is_whole", ticket.removeprefix("coterie"))],
        "coterie.wire.ticket:_read_digits": [
            Sample(
                lambda text: _named("coterie.wire.ticket:_read_digits")(text, 1_024),
                [ticket.removeprefix("coterie")],
            )
        ],
        "coterie.wire.ticket:_decode": [_of("wire.ticket:_decode", ticket.removeprefix("coterie"))],
        "coterie.wire.ticket:_parse_body": [_of("wire.ticket:_parse_body", body)],
        "coterie.wire.ticket:unpack_addresses": [
            Sample(
                lambda raw: _named("coterie.wire.ticket:unpack_addresses")(raw, 2),
                [pack_addresses(ADDRESSES)],
            )
        ],
        "coterie.wire.invitation:Invitation.parse": [Sample(Invitation.parse, [invitation])],
        "coterie.wire.record:_verified": [
            Sample(PeerRecord.read, [record]),
            Sample(signed_record, [record[97:]]),
        ],
        "coterie.wire.record:split_address": [_of("wire.record:split_address", *ADDRESSES)],
        "coterie.net.lanes.cells:decode_header": [
            _of("net.lanes.cells:decode_header", bytes(8) + b"\0\0\x10\0")
        ],
        "coterie.wire.lanes:decode_signal": [_of("wire.lanes:decode_signal", pack([1, b"x" * 16]))],
        "coterie.wire.relay:decode_at_client": [
            _of("wire.relay:decode_at_client", *(relay.encode(f) for f in from_relay))
        ],
        "coterie.wire.relay:decode_at_relay": [
            _of("wire.relay:decode_at_relay", *(relay.encode(f) for f in to_relay))
        ],
        "coterie.wire.relay:_decode_text": [_of("wire.relay:_decode_text", b"\2no")],
        "coterie.wire.relay:_decode_datagram": [
            Sample(
                lambda raw: _named("coterie.wire.relay:_decode_datagram")(memoryview(raw), True), [datagram]
            )
        ],
    }


def _mail() -> dict[str, list[Sample]]:
    """What is sealed, opened already: mutations of the seal itself are all refused alike."""
    read = _named("coterie.services.mail.sealing:read_letter")
    return {
        "coterie.content.sealed:read_padded": [
            Sample(
                _named("coterie.content.sealed:read_padded"),
                [b"\0\0\0\x0cred and gold" + bytes(48), bytes(64)],
            )
        ],
        "coterie.services.mail.sealing:read_letter": [
            Sample(
                lambda raw: read(raw, bytes(SecretKey(b"\2" * 32).peer_id), b"i" * 16, 2_000_000_000),
                [CONTENT],
            )
        ],
    }


def _knocks() -> dict[str, list[Sample]]:
    knock = Knock(
        sender=PEER, kind=KnockKind.CALL, at=NOW, addresses=("192.0.2.1:4433", "[2001:db8::1]:4433")
    )
    keys = KnockKeys(OTHER)
    sealed = KnockKeys(KEY).seal(knock, OTHER.peer_id, bytes(range(32)))

    def signed(body: bytes) -> object:
        text = bytes(KEY.peer_id) + KEY.sign(KNOCK_CONTEXT + bytes(OTHER.peer_id) + body) + body
        return read_letter(text, OTHER.peer_id)

    body = bytes([1, 1]) + NOW.to_bytes(8) + bytes(48) + bytes([1, 4]) + bytes(60)
    return {
        "coterie.wire.knock:read_item": [Sample(read_item, [sealed, sealed * 3])],
        "coterie.wire.knock:read_letter": [Sample(signed, [body]), Sample(keys.open, [sealed])],
    }


def _trust() -> dict[str, list[Sample]]:

    grant = issue(
        KEY,
        OTHER.peer_id,
        "files/k3fw7a/photos",
        Verb.READ,
        passes=1,
        terms=Terms(expires=2_000_000_000),
        nonce=b"8bytes!!",
    )
    link = grant.raw[33 + 66 :]

    def signed_link(body: bytes) -> object:
        body = body[:60_000]
        signature = KEY.sign(GRANT_CONTEXT + b"\1" + bytes(PEER) + bytes(64) + body)
        return open_grant(grant.raw[:33] + len(body).to_bytes(2, "big") + signature + body)

    op = found().log.first.raw
    item = signed_item(KEY, b"v", sequence=1, expires=NOW + 1, salt=b"s")
    purpose = Purpose(1, b"c" * 32, 1, "home", bytes(PEER)).pack()
    card = Card(bytes(PEER), "x", list(ADDRESSES), b"r")
    keepsake = Keepsake(bytes(PEER), b"c" * 32, [op], [specimen_of(Membership)], [card])
    sealing = b"k" * 32

    def sealed(body: bytes) -> object:
        from nacl.secret import SecretBox

        return unseal(bytes(SecretBox(sealing).encrypt(body, bytes(24))), sealing)

    return {
        "coterie.access.grant:open_grant": [Sample(open_grant, [grant.raw]), Sample(signed_link, [link])],
        "coterie.access.grant:_decoded": [_of("access.grant:_decoded", link)],
        "coterie.access.grant_text:GrantText.parse": [
            Sample(GrantText.parse, [str(GrantText(grant, ADDRESSES, OTHER)), str(GrantText(grant))])
        ],
        "coterie.access.revocation:open_revocation": [
            Sample(open_revocation, [revoke(KEY, grant.links[0].id, 2_000_000_000).raw])
        ],
        "coterie.access.circle_ops:read_op": [
            _of("access.circle_ops:read_op", op),
            Sample(lambda raw: _named("coterie.access.circle_ops:read_op")(raw, is_verified=True), [op]),
        ],
        "coterie.access.circle_ops:sign_op": [],  # of our own operations
        "coterie.overlay.kademlia.keys:open_item": [
            Sample(lambda raw: open_item(raw, NOW), [item.raw, plain_item(b"v").raw])
        ],
        "coterie.apps.circles.admission:read_purpose": [Sample(read_purpose, [purpose])],
        "coterie.apps.circles.recovery:read_card": [Sample(read_card, [pack(card)])],
        "coterie.apps.circles.recovery:unseal": [
            Sample(lambda raw: unseal(raw, sealing), [seal(keepsake, sealing, bytes(24))]),
            Sample(sealed, [pack(keepsake)]),
        ],
    }


def _content() -> dict[str, list[Sample]]:
    torrent = torrent_file(
        "x", [TorrentEntry(("x",), 1)], [[PieceHashes(b"1" * 20, b"2" * 32)]], 16_384, is_folder=False,
        trackers=["http://tracker.example/announce"],
    )  # fmt: skip
    link = magnet.magnet_link(
        torrent.v1, torrent.v2, "x", trackers=["http://t.example/a?b=é"], peers=["192.0.2.1:1"],
        hint=magnet.Hint(content_id=b"c" * 32),
    )  # fmt: skip
    lt = importlib.import_module("libtorrent")
    named = _named("coterie.content.bittorrent.read:linked")
    parameters = _named("coterie.content.bittorrent.read:torrent_parameters")
    chunks = b"h" * 32 + (1).to_bytes(4, "big")
    nodes = [pack([1, chunks]), pack([2, 1, (b"i" * 32 + (1).to_bytes(8, "big")) * 2])]
    return {
        "coterie.content.manifest:decode": [_of("content.manifest:decode", *nodes)],
        "coterie.content.manifest:decode_own": [_of("content.manifest:decode_own", *nodes)],
        "coterie.content.manifest:unpack_chunks": [_of("content.manifest:unpack_chunks", chunks)],
        "coterie.content.seen:split": [_of("content.seen:split", (b"name\0" + seen.NO_STAMP) * 2)],
        "coterie.content.seen:numbers": [_of("content.seen:numbers", seen.NO_STAMP)],
        "coterie.content.bittorrent.magnet:hint_of": [Sample(magnet.hint_of, [link])],
        "coterie.content.bittorrent.plain:plain_metainfo": [
            Sample(lambda raw: plain_metainfo(raw, 1_000), [gzip.compress(torrent.metainfo, mtime=0)])
        ],
        "coterie.content.bittorrent.read:read_torrent": [
            _of("content.bittorrent.read:read_torrent", torrent.metainfo)
        ],
        "coterie.content.bittorrent.read:torrent_parameters": [
            Sample(lambda raw: parameters(lt, raw), [torrent.metainfo])
        ],
        "coterie.content.bittorrent.read:named_in": [_of("content.bittorrent.read:named_in", link)],
        "coterie.content.bittorrent.read:linked": [Sample(lambda text: named(lt, text), [link])],
        "coterie.content.limit:parse_hours": [
            _of("content.limit:parse_hours", "08:00-18:00=500000,22:00-06:00=0")
        ],
    }


def _texts() -> dict[str, list[Sample]]:
    commands = {" ".join(c.path): c for c in load_commands("files", "coterie.apps.files.commands")}
    body = _named("coterie.control.answers:_parameters")

    def parameters(raw: bytes) -> object:
        return read_parameters(commands["limits"], body(raw, "application/json"))

    return {
        "coterie.apps.contacts.code:Code.parse": [Sample(Code.parse, [str(Code.make(7, bytes))])],
        "coterie.apps.contacts.greeter:split_address": [
            _of("apps.contacts.greeter:split_address", *ADDRESSES)
        ],
        "coterie.access.limits:read_amount": [_of("access.limits:read_amount", "500", "1.5GB")],
        "coterie.access.limits:read_hours": [_of("access.limits:read_hours", "08:00-20:00")],
        "coterie.net.quic.addresses:relay_url": [
            _of("net.quic.addresses:relay_url", "http://[::1]:80", "https://a.example")
        ],
        "coterie.net.relay.probe:_place": [
            _of("net.relay.probe:_place", "http://[::1]:80", "https://a.example")
        ],
        "coterie.control.answers:_parameters": [
            Sample(lambda raw: body(raw, "application/json"), [b'{"a": [1, 2.5, "x", null]}'])
        ],
        "coterie.apps.invoke:read_parameters": [
            Sample(parameters, [b'{"up": 1000, "up_hours": "08:00-18:00=1"}'])
        ],
        "coterie.control.client:_json": [_of("control.client:_json", b'{"a": [1, 2.5, "x", null]}')],
        "coterie.control.client:_noted": [
            _of("control.client:_noted", b'{"url": "http://127.0.0.1:1", "token": "t", "pid": 1}')
        ],
        "coterie.control.client:_address_in": [_of("control.client:_address_in", "http://127.0.0.1:1")],
    }


def _files() -> dict[str, list[Sample]]:
    settings = '# mine\nname = "x"\nport = 7\ndht_bootstrap = "a:1"\nlanes = true\n'
    record = b'{"id": "a", "created": 1.5, "parts": [1]}'
    identity = Identity(person=bytes(PEER), cards_seen=[b"x"], unblocked={b"p": [b"i"]})
    changed = Config().changed
    got = Got("id", "/t", bytes(PEER), "ticket", "place", "name", b"r" * 32, 1.0, ["*.ogg"])
    version = Version("id", b"/t/a", 1.0, 7, "file", "replaced", "anna")
    value = folder_register.Value(folder_register.Kind.FILE, b"c" * 32, 1, 2, by=bytes(PEER), at_ms=3)
    register = folder_register.written(folder_register.NOTHING, (), (b"r" * 16, 1), value)
    return {
        "coterie.apps.folders.register:unpack": [
            _of("apps.folders.register:unpack", folder_register.pack(register))
        ],
        "coterie.transfer.got:_read": [_of("transfer.got:_read", pack(got))],
        "coterie.content.versions:_read_folders": [
            _of("content.versions:_read_folders", msgspec.json.encode([b"/a/b"]))
        ],
        "coterie.content.versions:_read_line": [
            _of("content.versions:_read_line", msgspec.json.encode(version))
        ],
        "coterie.apps.folders.root:_read_marker": [
            _of("apps.folders.root:_read_marker", msgspec.json.encode(Marker(b"f" * 16, b"r" * 16, 7)))
        ],
        "coterie.apps.folders.asking:_read_kept": [
            _of(
                "apps.folders.asking:_read_kept",
                msgspec.msgpack.encode(
                    (1.0, KeptHolding(Hold(1, 2, 3, 4.0), KeptBrake([(1.0, 1, 0)])), KeptHolding())
                ),
            )
        ],
        "coterie.apps.folders.swap:_read_line": [
            _of("apps.folders.swap:_read_line", b'{"id":"0123456789abcdef","path":"YS9i"}')
        ],
        "coterie.control.browsers:read_browsers": [
            _of(
                "control.browsers:read_browsers",
                b'[{"id":"a1","name":"x","rights":["everything"],"created":1.0,"seen":2.0,"digest":"00"}]',
            )
        ],
        "coterie.web.forms:read_pairs": [_of("web.forms:read_pairs", b"path=%2Fa&to=anna&yes=on")],
        "coterie.web.live:read_message": [
            _of("web.live:read_message", '{"do":"watch","id":1,"live":"node.people","args":{"a":"b"}}'),
            _of("web.live:read_message", '{"do":"window","id":1,"start":50,"count":50}'),
            _of("web.live:read_message", '{"do":"pause","is_paused":true}'),
        ],
        "coterie.services.tell.service:read_notice": [
            _of(
                "services.tell.service:read_notice",
                b'{"id":1,"app":"a","said":"full","key":"disk","first_at":5.0,"at":6.0,"times":2}',
            )
        ],
        "coterie.settings:Config.parse": [Sample(Config.parse, [settings])],
        "coterie.settings:Config.changed": [
            Sample(lambda text, key=key: changed(key, text), [str(getattr(Config(), key)).lower() or "a:1"])  # type: ignore[misc]
            for key in Config.__struct_fields__
            if key != "app"
        ],
        "coterie.settings_file:values_of": [
            Sample(lambda text: _named("coterie.settings_file:values_of")(text, "f"), [settings])
        ],
        "coterie.settings_file:text_of": [
            Sample(
                lambda raw: _named("coterie.settings_file:text_of")(raw, "f"),
                [settings.encode(), settings.encode("utf-16")],
            )
        ],
        "coterie.services.data.form:Form._number": [Sample(Form(_Record, [dict]).read, [record])],
        "coterie.services.data.form:Form._whole": [Sample(Form(_Record).read, [record])],
        "coterie.services.data.form:Form._plain": [Sample(Form(_Record, [dict]).read, [record])],
        "coterie.services.data.form:Form._converted": [Sample(Form(_Record, [dict]).read, [record])],
        "coterie.services.data.service:Data.settings": [
            Sample(lambda colour: Data(Path(), "a", {"colour": colour}, print).settings(_Settings), ["red"])
        ],
        "coterie.transfer.limits:_read": [
            _of("transfer.limits:_read", b'{"up": 1, "down": 2, "up_hours": "", "down_hours": ""}')
        ],
        "coterie.apps.circles.book:_load_identity": [
            Sample(
                _in_a_file(_named("coterie.apps.circles.book:_load_identity"), "identity"), [pack(identity)]
            )
        ],
        "coterie.apps.circles.deposits:read_deposit": [
            Sample(
                lambda raw: _named("coterie.apps.circles.deposits:read_deposit")("00" * 32, raw),
                [pack([b"p", 1, b"sealed"])],
            ),
            Sample(
                lambda name: _named("coterie.apps.circles.deposits:read_deposit")(
                    name, pack([b"p", 1, b"s"])
                ),
                ["00" * 32],
            ),
        ],
        "coterie.apps.circles.disk:_records": [
            Sample(
                lambda raw: list(_named("coterie.apps.circles.disk:_records")(raw)),
                [_named("coterie.apps.circles.disk:_record")(b"operation")],
            )
        ],
        "coterie.access.circle_log:_read_summary": [
            _of("access.circle_log:_read_summary", found().log.summary()),
            Sample(lambda raw: CircleLog.restored(raw, []), [found().log.summary()]),
        ],
        "coterie.apps.circles.disk:_read_summary": [
            Sample(
                lambda raw: _named("coterie.apps.circles.disk:_read_summary")(memoryview(_checked(raw))),
                [MAGIC + struct.pack(">Q32sQQ", 9, bytes(32), 1, 9) + b"rest"],
            )
        ],
        "coterie.overlay.kademlia.state:read_state": [
            Sample(
                lambda raw: _named("coterie.overlay.kademlia.state:read_state")(raw, 9),
                [pack([1, [[bytes(PEER), b"record"]]])],
            )
        ],
        "coterie.net.find.address_book:AddressBook.load": [Sample(_load_book, [_a_book().dump()])],
    }


def _a_book() -> AddressBook:
    book = AddressBook(OTHER.peer_id)
    record = PeerRecord(peer=PEER, sequence=1, issued=NOW, expires=NOW + 9, addresses=ADDRESSES)
    assert book.learn(record.sign(KEY), NOW, "test") is not None
    return book


def _load_book(raw: bytes) -> None:
    AddressBook(OTHER.peer_id).load(raw, NOW)


def _messages() -> dict[str, list[Sample]]:
    """A sample of each message of each protocol, from its type."""
    everything()
    protocols = {
        value.name: value
        for name, module in sorted(importlib.import_module("sys").modules.items())
        if name.startswith("coterie.")
        for value in vars(module).values()
        if isinstance(value, Protocol)
    }
    return {
        "coterie.wire.frames:Protocol.decode": [
            Sample(lambda raw, p=protocol, k=kind: p.decode(k, raw), [pack(specimen(message))])  # type: ignore[misc]
            for protocol in protocols.values()
            for kind, message in protocol.kinds.items()
        ]
    }


def specimen_of(kind: Any) -> Any:
    """The same as a value of `kind`."""
    return msgspec.convert(specimen(kind), kind)


def specimen(kind: Any) -> Any:
    """A plain value that decodes as `kind`."""
    return _plain(msgspec.inspect.type_info(kind))


def _plain(info: Any) -> Any:
    inspect = msgspec.inspect
    match info:
        case inspect.StructType():
            values = [_plain(one.type) for one in info.fields]
            return [*([info.tag] if info.tag is not None else []), *values]
        case inspect.UnionType():
            return _plain(info.types[0])
        case inspect.ListType() | inspect.VarTupleType():
            return [_plain(info.item_type)]
        case inspect.TupleType():
            return [_plain(one) for one in info.item_types]
        case inspect.DictType():
            return {_plain(info.key_type): _plain(info.value_type)}
    return _single(info)


def _single(info: Any) -> Any:
    inspect = msgspec.inspect
    match info:
        case inspect.BytesType():
            return bytes(max(info.min_length or 0, min(32, info.max_length or 32)))
        case inspect.EnumType():
            return next(iter(info.cls)).value
        case inspect.LiteralType():
            return info.values[0]
        case inspect.IntType():
            return max(1, info.ge or 0)
        case inspect.StrType() if info.pattern is not None:
            return next(one for one in ("x", "0" * 32, "0" * 64) if re.search(info.pattern, one))
    simple = {inspect.FloatType: 1.5, inspect.StrType: "x", inspect.BoolType: True}
    return next(value for kind, value in simple.items() if isinstance(info, kind))


def missing() -> set[str]:
    """Decoders without samples."""
    everything()
    return {*DECODERS} - {*samples()}
