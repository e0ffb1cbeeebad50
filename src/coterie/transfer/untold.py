"""What one asker has not heard yet of what is here, and of what others were given. For any thread."""

import threading

from coterie.content.swarm import pieces as p
from coterie.transfer.messages import PROTOCOL, Given, Has, HasAll

NEWS_MAX = (
    10_000  # nodes of which one asker has not heard yet what is here; guess: then it is too slow for us
)


class Untold:
    """News are put together until somebody takes them, to send them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._has: dict[bytes, int] = {}
        self._given: dict[bytes, int] = {}
        self._has_all = self._told_all = False

    def __bool__(self) -> bool:
        """Whether anything waits to be told."""
        return bool(self._has or self._given or (self._has_all and not self._told_all))

    def add(self, message: Has | HasAll) -> None:
        """This is here."""
        with self._lock:
            if isinstance(message, HasAll):
                self._has_all = True
            elif not self._told_all:
                _gather(self._has, message.manifest, p.from_bytes(message.pieces))

    def add_given(self, manifest: bytes, pieces: int) -> None:
        """These pieces others were given."""
        with self._lock:
            _gather(self._given, manifest, pieces)

    def take(self) -> bytes:
        """All of it as whole frames, to be sent now; b"" when there are none."""
        with self._lock:
            has, self._has = self._has, {}
            given, self._given = self._given, {}
            tells_all = self._has_all and not self._told_all
            self._told_all |= tells_all
        frames = [PROTOCOL.encode(Given(manifest, p.to_bytes(pieces))) for manifest, pieces in given.items()]
        if tells_all:
            frames.append(PROTOCOL.encode(HasAll()))
        else:
            frames += [PROTOCOL.encode(Has(manifest, p.to_bytes(pieces))) for manifest, pieces in has.items()]
        return b"".join(frames)


def _gather(news: dict[bytes, int], manifest: bytes, pieces: int) -> None:
    if len(news) < NEWS_MAX or manifest in news:
        news[manifest] = news.get(manifest, 0) | pieces
