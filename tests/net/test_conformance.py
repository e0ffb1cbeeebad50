"""What every transport promises: one suite, run against memory and QUIC alike."""

from coterie.testing.transport_suite import TransportSuite
from tests.net.conftest import Lab


class TestMemory(TransportSuite):
    def lab(self) -> Lab:
        return Lab("memory")


class TestQuic(TransportSuite):
    def lab(self) -> Lab:
        return Lab("quic")
