"""The fake app's service: what the commands of the tests act on."""

import os


class FakeService:
    """Remembers what was done to it; never to be imported by the command line."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.paused: list[int] = []
        self.pid = os.getpid()
