"""What an HTTP proxy makes of requests (RFC 9112, 3.2; RFC 9110, 7.6)."""

import pytest

from coterie.apps.internet.proxy_head import pac_file, target_of, to_origin
from coterie.errors import UsageError
from coterie.services.carry.http_head import Head, read_head


def head(first: str, *lines: str) -> Head:
    """A head with these lines."""
    return read_head("\r\n".join([f"{first} HTTP/1.1", *lines, "", ""]).encode("latin-1"), is_proxy=True)


def told(first: str, *lines: str) -> list[str]:
    """The lines that the server gets."""
    return to_origin(head(first, *lines)).decode("latin-1").split("\r\n")[:-2]


@pytest.mark.parametrize(
    ("first", "target"),
    [
        ("GET http://a.example/", ("a.example", 80)),
        ("GET HTTP://a.example:8080", ("a.example", 8080)),
        ("GET http://[2001:db8::1]:81/x", ("2001:db8::1", 81)),
        ("CONNECT a.example:443", ("a.example", 443)),
        ("CONNECT [::1]:443", ("::1", 443)),
    ],
)
def test_where_a_request_leads(first: str, target: tuple[str, int]) -> None:
    assert target_of(head(first)) == target


@pytest.mark.parametrize(
    "first",
    [
        "GET /",
        "GET https://a.example/",
        "GET ftp://a.example/",
        "GET http:///x",
        "GET http://user@a.example/",
        "GET http://a.example:0/",
        "GET http://a.example:99999/",
        "GET http://a.example:80:80/",
        "CONNECT a.example",
        "CONNECT http://a.example/",
        "CONNECT a.example:x",
    ],
)
def test_what_names_no_host_is_refused(first: str) -> None:
    with pytest.raises(UsageError):
        target_of(head(first))


def test_the_server_is_told_of_its_own_host_and_of_nothing_between() -> None:
    assert told(
        "GET http://a.example:8080/x?y=http://z/",
        "Host: evil.example",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "Connection: X-Mine, keep-alive",
        "X-Mine: secret",
        "TE: trailers",
        "Accept: */*",
    ) == ["GET /x?y=http://z/ HTTP/1.1", "Host: a.example:8080", "Accept: */*", "Connection: keep-alive"]


@pytest.mark.parametrize(
    ("first", "line"),
    [
        ("GET http://a.example", "GET / HTTP/1.1"),
        ("GET http://a.example?q", "GET /?q HTTP/1.1"),
        ("OPTIONS http://a.example", "OPTIONS * HTTP/1.1"),
    ],
)
def test_the_path_is_of_the_servers_own_form(first: str, line: str) -> None:
    assert told(first)[0] == line


def test_nothing_takes_the_length_of_a_body_away() -> None:
    lines = told("POST http://a.example/", "Connection: content-length, host, close", "Content-Length: 3")
    assert lines == ["POST / HTTP/1.1", "Host: a.example", "Content-Length: 3", "Connection: close"]


def test_an_upgrade_goes_on() -> None:
    lines = told("GET http://a.example/ws", "Connection: Upgrade", "Upgrade: websocket")
    assert lines[2:] == ["Connection: Upgrade", "Upgrade: websocket"]


def test_the_pac_file_has_no_way_around_the_proxy_and_looks_nothing_up() -> None:
    text = pac_file("127.0.0.1:4000")
    assert 'return "PROXY 127.0.0.1:4000; SOCKS5 127.0.0.1:4000";' in text
    assert text.count("DIRECT") == 1
    assert "dnsResolve" not in text
    assert "isInNet" not in text
