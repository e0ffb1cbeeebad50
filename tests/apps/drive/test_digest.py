"""Logins by HTTP Digest: read, right or not, once each, and a bounded memory of them."""

import random

import pytest

from coterie.apps.drive.digest import (
    COUNTS_BACK,
    HEADER_CHARS_MAX,
    NONCE_S,
    NONCES_MAX,
    Nonces,
    expected,
    read_login,
)
from coterie.errors import UsageError

KEY = bytes(32)
EXAMPLE = (
    'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
    'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, '
    'response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)  # RFC 7616, 3.9.1


def test_the_example_of_the_standard_is_right() -> None:
    login = read_login(EXAMPLE)
    assert (login.username, login.count, login.uri) == ("Mufasa", 1, "/dir/index.html")
    assert expected(login, "Circle of Life", "GET") == login.response
    assert expected(login, "Circle of Life", "HEAD") != login.response
    assert expected(login, "circle of life", "GET") != login.response


def test_what_is_no_login_is_none() -> None:
    for bad in (
        "", "Basic eDp5", EXAMPLE.replace("qop=auth, ", ""), EXAMPLE.replace("qop=auth", "qop=auth-int"),
        EXAMPLE.replace("nc=00000001", "nc=1"), EXAMPLE.replace("nc=00000001", "nc=0000000x"),
        EXAMPLE.replace("algorithm=MD5", "algorithm=SHA-256"), EXAMPLE + ', nc=00000002', EXAMPLE + "\x00",
        EXAMPLE.replace('uri="/dir/index.html", ', ""), 'Digest username="a' + "a" * HEADER_CHARS_MAX + '"',
    ):  # fmt: skip
        with pytest.raises(UsageError):
            read_login(bad)
    assert read_login(EXAMPLE.replace("index", 'a,b=c\\"d')).uri == '/dir/a,b=c"d.html'


def test_a_count_is_taken_once_also_out_of_order() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    nonces = Nonces(KEY)
    nonce = nonces.make(10.0)
    counts = list(range(1, 500))
    for at in range(0, len(counts), 32):
        part = counts[at : at + 32]
        rng.shuffle(part)
        for count in part:
            assert nonces.use(nonce, count, 11.0), (seed, count)
            assert not nonces.use(nonce, count, 11.0), (seed, count)
    assert not any(nonces.use(nonce, count, 11.0) for count in (0, -1, 1, 2, 499)), seed
    assert nonces.use(nonce, 500 + COUNTS_BACK, 11.0)
    assert nonces.use(nonce, 500, 11.0)
    nonces.use(nonce, 501 + COUNTS_BACK + 1, 11.0)
    assert not nonces.use(nonce, 501, 11.0)  # one past what is remembered
    assert nonces.use(nonce, 0xFFFFFFFF, 11.0)


def test_a_nonce_is_ours_and_young() -> None:
    nonces = Nonces(KEY)
    nonce = nonces.make(10.0)
    assert not Nonces(b"x" * 32).use(nonce, 1, 10.0)
    for bad in ("", nonce[:-1], nonce[:-1] + "ä", "0" * len(nonce), nonce.replace("0", "1", 1), nonce + "0"):
        assert not nonces.use(bad, 1, 10.0)
    assert nonces.use(nonce, 1, 10.0 + NONCE_S)
    assert not nonces.use(nonce, 2, 10.1 + NONCE_S)
    assert not nonces.use(nonces.make(1_000.0), 1, 10.0)  # before it was made


def test_memory_is_bounded_and_what_was_forgotten_is_not_taken_again() -> None:
    nonces = Nonces(KEY)
    unused = nonces.make(1.0)
    made = [nonces.make(1.0) for _ in range(NONCES_MAX + 1)]
    for _ in range(10 * NONCES_MAX):
        nonces.make(1.0)
    assert len(nonces) == 0
    assert all(nonces.use(nonce, 1, 2.0) for nonce in made)
    assert len(nonces) == NONCES_MAX
    assert not nonces.use(made[0], 2, 2.0)
    assert not nonces.use(unused, 1, 2.0)
    assert nonces.use(made[1], 2, 2.0)
    assert not any(nonces.use(nonce, 1, 2.0) for nonce in made)
