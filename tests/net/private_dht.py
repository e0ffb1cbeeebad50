"""A private mainline DHT on 127.0.0.1 and up: real sessions of the library, which know of nobody else."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from coterie.identity import SecretKey
from coterie.net.find.mainline_session import Event, MainlineSession, SessionOptions

PORT = 6881


class PrivateDht:
    """`nodes[i]` listens on 127.0.0.(i + 1); all know all."""

    def __init__(self, count: int) -> None:
        self.addresses = [(f"127.0.0.{number}", PORT) for number in range(1, count + 1)]
        self.nodes = [foreign(SecretKey(secrets.token_bytes(32)), a, self.addresses) for a in self.addresses]

    def kill(self, count: int) -> None:
        """The first `count` nodes fall silent."""
        for node in self.nodes[:count]:
            node.close()
        self.nodes = self.nodes[count:]

    @property
    def config(self) -> str:
        """For `dht_bootstrap`: three of them."""
        return ", ".join(f"{host}:{port}" for host, port in self.addresses[-3:])


def foreign(
    key: SecretKey,
    listen: tuple[str, int],
    known: list[tuple[str, int]],
    tell: Callable[[Event], None] = lambda event: None,
) -> MainlineSession:
    """A session of somebody else, who may put whatever `key` signs."""
    options = SessionOptions(bind_ip=listen[0], port=listen[1], bootstrap=known, test_network=True)
    return MainlineSession(key, options, tell)


@contextmanager
def private_dht(count: int) -> Iterator[PrivateDht]:
    """`count` nodes while the block runs."""
    dht = PrivateDht(count)
    try:
        yield dht
    finally:
        dht.kill(len(dht.nodes))
