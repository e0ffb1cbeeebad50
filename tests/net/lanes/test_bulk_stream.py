"""What every bulk stream promises: one suite over memory, QUIC streams and lanes."""

from coterie.testing.bulk_suite import BulkStreamSuite
from tests.net.bulk_lab import BulkLab


class TestMemory(BulkStreamSuite):
    def lab(self) -> BulkLab:
        return BulkLab("memory")


class TestQuic(BulkStreamSuite):
    def lab(self) -> BulkLab:
        return BulkLab("quic")


class TestLane(BulkStreamSuite):
    def lab(self) -> BulkLab:
        return BulkLab("lane")
