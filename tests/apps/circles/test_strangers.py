"""A stranger on a real connection: whatever is asked, of a circle that is here or not, the answer is the same."""

import asyncio
from pathlib import Path

import pytest

from coterie.apps.circles.messages import PROTOCOL, Have, Ops, Prove, Recall, Recalled, Want
from coterie.errors import CloseCode, PeerError
from coterie.net import MemoryNetwork
from coterie.net.endpoint import Endpoint
from coterie.node import Node
from coterie.wire.frames import Message, Protocol
from coterie.wire.handshake import common_version
from tests.access.circles import key
from tests.apps.circles.nodes import circles, people, until
from tests.apps.files.nodes import memory_node
from tests.support import run

QUIET_S = 0.3


class Stranger:
    """An endpoint that speaks `circles` by hand; what it hears is in `heard`."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.heard: list[Message] = []
        self.endpoint = Endpoint(network.bind(key("eve").peer_id))
        self.endpoint.register(PROTOCOL, self._listen, strangers=True)

    async def _listen(self, stream: object) -> None:
        while (message := await stream.receive()) is not None:  # type: ignore[attr-defined]
            self.heard.append(message)

    async def ask(self, node: Node, *messages: Message) -> list[Message]:
        self.heard.clear()
        connection = await self.endpoint.connect(node.peer_id, node.addresses)
        async with await connection.open_stream(PROTOCOL) as stream:
            for message in messages:
                await stream.send(message)
            await asyncio.sleep(QUIET_S)
        return list(self.heard)


def test_a_stranger_learns_of_no_circle(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            circles(anna).create("home")
            circles(anna).recovery.make()
            (state,) = circles(anna).states()
            paper = circles(anna).devices.own()[-1].device
            eve = Stranger(network)
            async with eve.endpoint:
                for circle in (state.id, bytes(32)):
                    heard = await eve.ask(
                        anna,
                        Have(circle, []),
                        Have(circle, [bytes(32)]),
                        Want(circle, [], []),
                        Ops(circle, []),
                        Prove(circle, bytes(32), bytes(64)),
                    )
                    assert heard == []
                for asked in (bytes(32), bytes(key("eve").peer_id)):
                    assert await eve.ask(anna, Recall(asked, bytes(64))) == [Recalled(0, b"")]
            assert paper

    run(main())


def test_what_is_deposited_goes_only_to_who_has_the_words(tmp_path: Path) -> None:
    async def main() -> None:
        from tests.apps.circles.nodes import let_in

        async with people(tmp_path, "anna", "ben") as (anna, ben):
            circles(anna).create("home")
            await let_in(anna, ben, "home")
            circles(anna).recovery.make()
            await until(lambda: bool(circles(ben).recovery._deposits))
            (paper,) = circles(ben).recovery._deposits.papers()
            heard: list[Message] = []

            async def note(peer: object, message: Message) -> bool:
                heard.append(message)
                return True

            circles(ben)._peers.say = note  # type: ignore[method-assign,assignment]
            forged = key("eve").sign(b"whatever")
            await circles(ben).recovery.take(anna.peer_id, Recall(paper, forged))
            assert heard == [Recalled(0, b"")]

    run(main())


def test_an_older_or_newer_version_of_the_protocol_is_not_spoken(tmp_path: Path) -> None:
    """Nobody talks a node down: a version that it does not know ends in a refusal, whatever else is offered."""

    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            eve = Endpoint(network.bind(key("eve").peer_id))
            async with eve:
                connection = await eve.connect(anna.peer_id, anna.addresses)
                for versions in ((0,), (2, 3)):
                    other = Protocol(name=PROTOCOL.name, versions=versions, kinds={1: Have})
                    with pytest.raises(PeerError) as refused:
                        await connection.open_stream(other)
                    assert refused.value.close_code == CloseCode.VERSION
        assert common_version(PROTOCOL.versions, (0, *PROTOCOL.versions)) == max(PROTOCOL.versions)

    run(main())
