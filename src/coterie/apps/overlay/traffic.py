"""Counts what a core sends and receives. Pure."""

from typing import Any

from coterie.machine import Machine, Received, Send


class Counting:
    """A core and its figures, for metrics."""

    def __init__(self, core: Machine) -> None:
        self._core = core
        self.sent = 0
        self.received = 0

    def handle(self, event: Any, now: float) -> list[Any]:
        """See `coterie.machine`."""
        self.received += type(event) is Received
        outputs = self._core.handle(event, now)
        self.sent += sum(type(output) is Send for output in outputs)
        return outputs
