"""Both transports behind one fixture: what is promised of a transport is tested on each."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from coterie.identity import SecretKey
from coterie.net import MemoryNetwork, Transport
from coterie.testing.transport_lab import NOTES, Note, TransportLab
from tests.support import run_virtual

__all__ = ["NOTES", "Lab", "Note"]

T = TypeVar("T")


class Lab(TransportLab):
    """Makes transports and endpoints of one kind: "memory" or "quic"."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.path_kind = "memory" if kind == "memory" else "direct"
        self.network = MemoryNetwork()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        if self.kind == "memory":
            return run_virtual(self.tidy(work))
        return super().run(work, timeout_s)

    async def bind(self, key: SecretKey) -> Transport:
        if self.kind == "memory":
            return self.network.bind(key.peer_id)
        from coterie.net.quic.transport import QuicTransport

        return await QuicTransport.bind(key, bind_ip="127.0.0.1")


@pytest.fixture(params=["memory", "quic"])
def lab(request: pytest.FixtureRequest) -> Lab:
    return Lab(request.param)


@pytest.fixture
def memory() -> Lab:
    return Lab("memory")


@pytest.fixture
def quic() -> Lab:
    return Lab("quic")
