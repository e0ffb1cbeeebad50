"""For authors of apps and of transports (docs/apps.md): nodes in virtual time, a fake context, suites to subclass.

It needs no test runner. The suites are classes whose methods are tests; pytest finds them in subclasses called
`Test...`.
"""

from coterie.testing.bulk_lab import BulkLab
from coterie.testing.bulk_suite import BulkStreamSuite
from coterie.testing.checks import raised, run
from coterie.testing.context import FakeContext, fake_context
from coterie.testing.nodes import Cast, play
from coterie.testing.transport_lab import TransportLab
from coterie.testing.transport_suite import TransportSuite

__all__ = [
    "BulkLab",
    "BulkStreamSuite",
    "Cast",
    "FakeContext",
    "TransportLab",
    "TransportSuite",
    "fake_context",
    "play",
    "raised",
    "run",
]
