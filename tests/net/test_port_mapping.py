"""Port mapping: the codecs, what the core decides, and liars on the local network."""

import asyncio
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coterie.errors import PeerError, TransportError
from coterie.machine import CancelTimer, Emit, SetTimer, TimerFired
from coterie.net.port_mapping import core, description, nat_pmp, pcp, routes, ssdp, upnp
from coterie.net.port_mapping.core import (
    CHECK_S,
    LIFETIME_S,
    PORTS_MAX,
    RENEW_MIN_S,
    RETRY_MAX_S,
    RETRY_MIN_S,
    Ask,
    Granted,
    Link,
    Links,
    Mapped,
    MappingCore,
    Port,
    Refused,
    Release,
    Unmapped,
    Want,
)
from coterie.net.port_mapping.router import STRAYS_MAX, ask_nat_pmp, ask_pcp
from coterie.net.port_mapping.upnp import find_description
from tests.support import run

ROUTER, OURS, OUTSIDE = "192.168.1.1", "192.168.1.7", "8.8.4.4"
UDP, TCP = Port("udp", 4, 4433), Port("tcp", 4, 4434)
HOME = Link(4, ROUTER, OURS)
HOME6 = Link(6, "fe80::1%eth0", "2a0f:10::7")
NONCE = bytes(range(12))


# ---- codecs


def test_pcp_writes_and_reads_what_the_standard_says() -> None:
    request = pcp.encode_map(NONCE, OURS, "udp", 4433, outside_port=4433, lifetime_s=1200)
    assert request.hex() == (
        "02010000000004b0" + "00000000000000000000ffffc0a80107" + NONCE.hex() + "11000000" + "1151" + "1151"
        "00000000000000000000ffff00000000"
    )
    answer = bytes.fromhex(
        "028100000000025800000001" + "00" * 12 + NONCE.hex() + "06000000" + "1151" + "1152"
        "00000000000000000000ffff08080404"
    )
    assert pcp.decode_map(answer) == pcp.PcpAnswer(NONCE, "tcp", 4433, OUTSIDE, 4434, 600)
    six = pcp.encode_map(NONCE, "2a0f:10::7", "tcp", 1, outside_port=0, lifetime_s=0)
    assert six[8:24].hex() == "2a0f0010000000000000000000000007"


def test_nat_pmp_writes_and_reads_what_the_standard_says() -> None:
    request = nat_pmp.encode_map("tcp", 4433, outside_port=4434, lifetime_s=1200)
    assert request.hex() == "00020000" + "1151" + "1152" + "000004b0"
    assert nat_pmp.decode_address(bytes.fromhex("008000000000000108080404")) == OUTSIDE
    read = nat_pmp.decode_map(bytes.fromhex("0082000000000001" + "1151" + "1152" + "00000e10"), "tcp")
    assert read == nat_pmp.NatPmpMapping("tcp", 4433, 4434, 3600)


@pytest.mark.parametrize(
    ("decode", "datagram", "said"),
    [
        (pcp.decode_map, "0081000000000000", "does not speak PCP"),
        (pcp.decode_map, "02810002" + "00" * 56, "does not allow it"),
        (pcp.decode_map, "028100ff" + "00" * 56, "PCP result 255"),
        (pcp.decode_map, "02810000" + "00" * 20, "truncated"),
        (pcp.decode_map, "02010000" + "00" * 56, "no answer"),
        (pcp.decode_map, "02810000" + "00" * 56, "not asked for"),
        (nat_pmp.decode_address, "0080000300000001", "not connected"),
        (nat_pmp.decode_address, "0081000000000001" + "00" * 8, "another question"),
        (nat_pmp.decode_address, "0080000000000001", "truncated"),
        (nat_pmp.decode_address, "0280000000000001", "does not speak NAT-PMP"),
    ],
)
def test_a_refusal_or_nonsense_is_named(decode: Callable[[bytes], Any], datagram: str, said: str) -> None:
    with pytest.raises(PeerError, match=said):
        decode(bytes.fromhex(datagram))


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x02\x81\0\0", b"\0\x80\0\0", b"\0\x81\0\0"]))
def test_any_datagram_is_read_or_refused(rest: bytes, begin: bytes) -> None:
    decoders = (pcp.decode_map, nat_pmp.decode_address, lambda d: nat_pmp.decode_map(d, "udp"))
    for decode in decoders:
        with suppress(PeerError):
            decode(begin + rest)
    assert ssdp.description_url(begin + rest, ROUTER, ROUTER) == ""


def ssdp_answer(url: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLocation: {url}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("url", "sender", "is_good"),
    [
        (f"http://{ROUTER}:5000/root.xml", ROUTER, True),
        (f"http://{ROUTER}:5000/root.xml", "192.168.1.66", False),  # somebody answers for the router
        ("http://192.168.1.66:5000/root.xml", ROUTER, False),
        ("http://127.0.0.1:631/admin", ROUTER, False),  # our own printer server
        (f"http://{ROUTER}@127.0.0.1:631/", ROUTER, False),
        (f"https://{ROUTER}:5000/root.xml", ROUTER, False),
        (f"http://{ROUTER}:65536/root.xml", ROUTER, False),
        (f"http://{ROUTER}:5000/{'x' * ssdp.URL_CHARS_MAX}", ROUTER, False),
    ],
)
def test_only_the_router_itself_says_where_it_is(url: str, sender: str, is_good: bool) -> None:
    assert ssdp.description_url(ssdp_answer(url), sender, ROUTER) == (url if is_good else "")


def test_the_default_router_is_read_from_each_systems_table() -> None:
    proc4 = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
        "eth0\t00000000\tFE01A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
        "tun0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
    )
    assert routes.router_of_proc4(proc4) == "192.168.1.254"
    assert routes.router_of_proc4("") == routes.router_of_proc4("Iface\nx\ty\n") == ""
    zeros = "0" * 32
    proc6 = (
        f"{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n"
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo\n"
    )
    assert routes.router_of_proc6(proc6) == "fe80::1%eth0"
    mac = (
        "default            192.168.1.1        UGScg                 en0\ndefault   fe80::1%en0  UGcg  en0\n"
    )
    assert routes.routers_of_netstat(mac) == ("192.168.1.1", "fe80::1%en0")
    windows = (
        "Network Destination\n          0.0.0.0          0.0.0.0      192.168.1.1     192.168.1.23     25\n"
    )
    assert routes.routers_of_netstat(windows) == ("192.168.1.1", "")


# ---- the core


class Play:
    """A core with its router; time is ours."""

    def __init__(self, *links: Link, ports: tuple[Port, ...] = (UDP,), secret: bytes = b"ours") -> None:
        self.core = MappingCore(secret)
        self.now = 0.0
        self.asks: list[Ask] = []
        self.events: list[Any] = []
        self.released: list[Release] = []
        self.timers: dict[Any, float] = {}
        self.feed(Want(ports))
        self.feed(Links(links or (HOME,)))

    def feed(self, event: Any) -> None:
        for output in self.core.handle(event, self.now):
            match output:
                case Ask():
                    self.asks.append(output)
                case Release():
                    self.released.append(output)
                case Emit(event):
                    self.events.append(event)
                case SetTimer(key, at):
                    self.timers[key] = at
                case CancelTimer(key):
                    self.timers.pop(key, None)

    def until(self, now: float) -> None:
        """Let timers fire that are due."""
        while self.timers and min(self.timers.values()) <= now:
            key = min(self.timers, key=lambda k: self.timers[k])
            self.now = max(self.now, self.timers.pop(key))
            self.feed(TimerFired(key))
        self.now = now

    def grant(self, ip: str = OUTSIDE, port: int = 4433, lifetime_s: int = LIFETIME_S) -> None:
        self.feed(Granted(self.asks[-1].number, ip, port, lifetime_s))

    def refuse(self) -> str:
        method = self.asks[-1].method
        self.feed(Refused(self.asks[-1].number, "no answer"))
        return method


def test_the_ways_are_tried_in_turn_and_what_works_is_asked_first_from_then_on() -> None:
    play = Play()
    assert [play.refuse(), play.refuse(), play.asks[-1].method] == ["pcp", "nat-pmp", "upnp"]
    play.grant()
    assert play.events == [Mapped(UDP, f"{OUTSIDE}:4433", "upnp")]
    assert play.core.is_settled
    play.until(CHECK_S)
    assert [ask.method for ask in play.asks[3:]] == ["upnp"]
    play.feed(Want((UDP, TCP)))
    assert play.asks[-1].method == "upnp"


def test_a_mapping_is_asked_for_again_each_minute_and_dropped_when_it_ends_unrenewed() -> None:
    play = Play()
    play.grant(lifetime_s=100)
    for _ in range(3):
        play.until(play.now + 50)
        assert play.asks[-1].lifetime_s == LIFETIME_S
        play.grant(lifetime_s=100)
    assert len(play.events) == 1
    play.until(play.now + 50)
    for _ in core.METHODS[4]:
        play.refuse()
    play.until(play.now + 49)
    assert len(play.events) == 1
    play.until(play.now + 2)
    assert play.events[1:] == [Unmapped(UDP, f"{OUTSIDE}:4433")]


def test_a_new_outside_address_replaces_the_old_one() -> None:
    play = Play()
    play.grant()
    play.until(CHECK_S)
    play.grant("8.8.8.8", 5000)
    assert play.events[1:] == [Unmapped(UDP, f"{OUTSIDE}:4433"), Mapped(UDP, "8.8.8.8:5000", "pcp")]
    assert play.core.mapped[UDP].address == "8.8.8.8:5000"
    play.until(2 * CHECK_S)
    assert play.asks[-1].outside_port == 5000


def test_another_router_or_own_address_means_asking_anew_and_late_answers_count_no_more() -> None:
    play = Play()
    play.grant()
    play.until(CHECK_S)
    late = play.asks[-1]
    play.feed(Links((Link(4, "10.0.0.1", "10.0.0.9"),)))
    assert play.events[1:] == [Unmapped(UDP, f"{OUTSIDE}:4433")]
    assert play.asks[-1].link.router == "10.0.0.1"
    play.feed(Granted(late.number, OUTSIDE, 4433, 60))
    assert not play.core.mapped
    play.feed(Links(()))
    assert play.core.is_settled
    play.until(play.now + RETRY_MAX_S)
    assert len(play.asks) == 3


def test_what_all_ways_refuse_is_asked_again_ever_more_seldom() -> None:
    play = Play()
    pauses = []
    for _ in range(8):
        for _ in core.METHODS[4]:
            play.refuse()
        assert play.core.is_settled
        assert play.core.refusals() == dict.fromkeys(core.METHODS[4], "no answer")
        pauses.append(play.timers[("ask", UDP)] - play.now)
        play.until(play.timers[("ask", UDP)])
    assert pauses[:3] == [RETRY_MIN_S, 2 * RETRY_MIN_S, 4 * RETRY_MIN_S]
    assert max(pauses) == RETRY_MAX_S


@pytest.mark.parametrize(
    ("ip", "port", "lifetime_s", "link"),
    [
        ("192.168.1.9", 4433, 600, HOME),
        ("100.64.3.4", 4433, 600, HOME),
        ("127.0.0.1", 4433, 600, HOME),
        ("0.0.0.0", 4433, 600, HOME),
        ("224.0.1.1", 4433, 600, HOME),
        ("2a0f:10::7", 4433, 600, HOME),
        ("no address", 4433, 600, HOME),
        (OUTSIDE, 0, 600, HOME),
        (OUTSIDE, 65536, 600, HOME),
        (OUTSIDE, 4433, 0, HOME),
        (OUTSIDE, 4433, -5, HOME),
        ("2a0f:10::66", 4433, 600, HOME6),  # another computer's
        (OUTSIDE, 4433, 600, HOME6),
    ],
)
def test_a_grant_that_cannot_be_true_is_not_believed(ip: str, port: int, lifetime_s: int, link: Link) -> None:
    play = Play(link, ports=(Port("udp", link.family, 4433),))
    play.grant(ip, port, lifetime_s)
    assert play.events == []
    assert len(play.released) == 1  # what the router made all the same is of no use
    assert not play.core.mapped


def test_a_lifetime_is_cut_to_what_was_asked_and_a_short_one_does_not_make_us_ask_all_the_time() -> None:
    play = Play()
    play.grant(lifetime_s=2**32 - 1)
    assert play.timers[("end", UDP)] == LIFETIME_S
    play.until(CHECK_S)
    play.grant(lifetime_s=1)
    assert play.timers[("ask", UDP)] == CHECK_S + RENEW_MIN_S


def test_nonces_are_those_of_this_node_port_and_router_alone() -> None:
    def nonce(secret: bytes, port: Port, link: Link) -> bytes:
        return Play(link, ports=(port,), secret=secret).asks[0].nonce

    first = nonce(b"ours", UDP, HOME)
    assert len(first) == pcp.NONCE_BYTES
    assert nonce(b"ours", UDP, HOME) == first  # a restarted node may renew and delete its own
    others = [
        nonce(b"theirs", UDP, HOME),
        nonce(b"ours", TCP, HOME),
        nonce(b"ours", UDP, Link(4, "10.0.0.1", OURS)),
    ]
    assert len({first, *others}) == 4


def test_at_the_end_everything_is_taken_back() -> None:
    play = Play(ports=(UDP, TCP))
    play.feed(Granted(play.asks[0].number, OUTSIDE, 7000, 600))
    play.feed(Want(()))
    assert {(r.port, r.outside_port) for r in play.released} == {(UDP, 7000), (TCP, TCP.number)}
    assert play.events[-1] == Unmapped(UDP, f"{OUTSIDE}:7000")
    play.until(2 * LIFETIME_S)
    assert len(play.asks) == 2


def test_no_more_ports_than_a_bound() -> None:
    play = Play(ports=tuple(Port("udp", 4, 4000 + n) for n in range(PORTS_MAX + 1)))
    assert len(play.asks) == PORTS_MAX


# ---- on the wire, with liars beside the router

_numbers = itertools.count(1)


def place() -> str:
    """An address of loopback that no other test uses."""
    return f"127.{1 + os.getpid() % 250}.9.{next(_numbers)}"


@contextmanager
def listening(ip: str, port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind((ip, port))
        yield sock


def ask_of(router: str, method: core.Method = "pcp") -> Ask:
    return Ask(1, UDP, Link(4, router, "127.0.0.1"), method, NONCE, 4433)


def pcp_answer(nonce: bytes = NONCE, port: int = 4433) -> bytes:
    head = bytes.fromhex("0281000000000258" + "00" * 16)
    return (
        head + nonce + b"\x11\0\0\0" + port.to_bytes(2, "big") * 2 + bytes(10) + b"\xff\xff\x08\x08\x04\x04"
    )


def test_an_answer_from_elsewhere_with_another_nonce_or_for_another_port_counts_for_nothing() -> None:
    async def work() -> tuple[str, int, int]:
        loop, router, liar = asyncio.get_running_loop(), place(), place()
        with listening(router, pcp.PORT) as true, listening(liar, pcp.PORT) as false:
            asking = loop.create_task(ask_pcp(ask_of(router)))
            _, asker = await loop.sock_recvfrom(true, 2000)
            await loop.sock_sendto(
                false, pcp_answer().replace(b"\x08\x08\x04\x04", b"\x09\x09\x09\x09"), asker
            )
            for wrong in (pcp_answer(bytes(12)), pcp_answer(port=99)):
                await loop.sock_sendto(true, wrong, asker)
            await loop.sock_sendto(true, pcp_answer(), asker)
            return await asking

    assert run(work()) == (OUTSIDE, 4433, 600)


def test_a_flood_of_answers_that_are_not_ours_ends_the_waiting() -> None:
    async def work() -> None:
        loop, router = asyncio.get_running_loop(), place()
        with listening(router, pcp.PORT) as true:
            asking = loop.create_task(ask_pcp(ask_of(router)))
            for _ in range(2):
                _, asker = await loop.sock_recvfrom(true, 2000)
                for _ in range(STRAYS_MAX + 1):
                    await loop.sock_sendto(true, pcp_answer(bytes(12)), asker)
            await asking

    with pytest.raises(TransportError, match="no answer"):
        run(work())


def test_nat_pmp_asks_for_the_address_and_then_for_the_port() -> None:
    async def work() -> tuple[str, int, int]:
        loop, router = asyncio.get_running_loop(), place()
        with listening(router, nat_pmp.PORT) as true:
            asking = loop.create_task(ask_nat_pmp(ask_of(router, "nat-pmp")))
            request, asker = await loop.sock_recvfrom(true, 2000)
            assert request == nat_pmp.encode_address_request()
            await loop.sock_sendto(true, bytes.fromhex("008000000000000108080404"), asker)
            request, asker = await loop.sock_recvfrom(true, 2000)
            assert request[1] == 1
            await loop.sock_sendto(
                true, bytes.fromhex("0081000000000001" + "1151" + "1152" + "00000e10"), asker
            )
            return await asking

    assert run(work()) == (OUTSIDE, 4434, 3600)


def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(TransportError, match="not there"):
        run(ask_pcp(ask_of(place())))


def test_upnp_is_asked_of_the_router_only_whoever_answers() -> None:
    async def work() -> str:
        loop, router, liar = asyncio.get_running_loop(), place(), place()
        with listening(router, ssdp.PORT) as true, listening(liar, ssdp.PORT) as false:
            finding = loop.create_task(find_description(Link(4, router, "127.0.0.1")))
            request, asker = await loop.sock_recvfrom(true, 2000)
            assert request.startswith(b"M-SEARCH")
            await loop.sock_sendto(false, ssdp_answer(f"http://{liar}:80/x"), asker)
            await loop.sock_sendto(true, ssdp_answer("http://127.0.0.1:631/"), asker)
            await loop.sock_sendto(true, ssdp_answer(f"http://{router}:5000/root.xml"), asker)
            return (await finding).removeprefix(f"http://{router}")

    assert run(work()) == ":5000/root.xml"


DESCRIPTION = (
    b'<?xml version="1.0"?><root xmlns="urn:schemas-upnp-org:device-1-0" xmlns:p="http://schemas.example/p">'
    b"<URLBase>http://127.0.0.1:1/</URLBase><device><modelURL>http://example.com/</modelURL>"
    b"<controlURL>%b</controlURL></device></root>"
)


@pytest.mark.parametrize("control", [b"/ctl", b"ctl", b"http://192.168.1.1:5000/ctl"])
def test_a_description_of_the_router_itself_is_read(control: bytes) -> None:
    safe = description.checked(DESCRIPTION % control, "http://192.168.1.1:5000/root.xml")
    assert b"<URLBase>http://192.168.1.1:5000/</URLBase>" in safe
    assert b"127.0.0.1" not in safe
    assert b"<controlURL>%b</controlURL>" % control in safe


@pytest.mark.parametrize(
    "control",
    [
        b"http://127.0.0.1:631/",
        b"HTTP://127.0.0.1/",
        b"http://192.168.1.10/",
        b"https://192.168.1.1.example/",
        b"<![CDATA[http://127.0.0.1/]]>",
        b"</controlURL><modelURL><controlURL>http://127.0.0.1/</controlURL></modelURL><controlURL>",
        b'</controlURL><URLBase a="b">127.0.0.1</URLBase><controlURL>',
    ],
)
def test_a_description_that_sends_the_node_elsewhere_is_refused(control: bytes) -> None:
    with pytest.raises(PeerError):
        description.checked(DESCRIPTION % control, "http://192.168.1.1:5000/root.xml")


def test_a_false_router_has_nothing_asked_of_this_computer() -> None:
    """The library posts wherever a description says, and follows redirections: it reads a checked one only."""
    asked: list[str] = []

    class Private(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    class Router(Private):
        def do_GET(self) -> None:
            there = f"http://127.0.0.1:{private.server_port}/"
            told = DESCRIPTION % (there + "ctl").encode()
            self.send_response(302 if self.path == "/moved" else 200)
            self.send_header("Location", there)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

    private, router = HTTPServer(("127.0.0.1", 0), Private), HTTPServer(("127.0.0.2", 0), Router)
    threads = [threading.Thread(target=server.serve_forever) for server in (private, router)]
    for thread in threads:
        thread.start()
    try:
        for path in ("root.xml", "moved"):
            with pytest.raises((PeerError, TransportError)):
                upnp._router(f"http://127.0.0.2:{router.server_port}/{path}")
    finally:
        for server, thread in zip((private, router), threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()
    assert not asked
