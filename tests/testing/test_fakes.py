"""A fake context keeps what was said; stories replay by their seed; suites find what is wrong."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from coterie.access.resource import ResourceKind, Verb
from coterie.apps.app import App
from coterie.apps.context import Context
from coterie.errors import NotFound, PeerError, TransportError, UsageError
from coterie.identity import PeerId, SecretKey
from coterie.net import MemoryNetwork, Stream, Transport
from coterie.services.directory.core import Offered
from coterie.services.mail.box import Mail
from coterie.sim.links import Link
from coterie.testing import Cast, TransportLab, TransportSuite, fake_context, play, raised, run
from coterie.wire import Protocol
from coterie.wire.frames import Message


class Word(Message, frozen=True):
    text: str


WORDS = Protocol(name="words", versions=(1,), kinds={1: Word})


class Echo:
    """Says back, in capitals."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.seen: list[PeerId] = []

    async def start(self) -> None:
        self.context.net.register(WORDS, self.serve, strangers=True)
        self.context.net.offer("echo", lambda peer: [Offered(resource="echo/one", name="one")])
        self.context.net.watch(self.seen.append, self.seen.remove)
        self.context.mail.receive(self.take)
        self.port = self.context.local.tcp("echo", self.serve)

    async def close(self) -> None: ...

    def take(self, mail: Mail, database: sqlite3.Connection) -> None:
        database.execute("CREATE TABLE IF NOT EXISTS got (body BLOB)")
        database.execute("INSERT INTO got VALUES (?)", (mail.body,))
        if mail.body == b"bad":
            raise ValueError("bad")

    async def serve(self, stream: Stream) -> None:
        while isinstance(word := await stream.receive(), Word):
            await stream.send(Word(word.text.upper()))


APP = App("echo", "", Echo, "", kinds=(ResourceKind("echo", Verb.LIST, "an echo"),))


def test_all_ten_members_without_a_network(tmp_path: Path) -> None:
    async def story() -> None:
        async with fake_context(APP, tmp_path, settings='name = "x"') as context:
            members = {"me", "people", "net", "mail", "access", "data", "blobs", "jobs", "local", "tell"}
            assert members <= {name for name in dir(context) if not name.startswith("_")}
            echo = Echo(context)
            await echo.start()
            ben = context.know("ben")
            assert context.people.find("ben") == ben
            assert await context.net.hear(ben, WORDS, Word("a"), Word("b")) == [Word("A"), Word("B")]
            with raised(PeerError, "does not serve other"):
                await context.net.hear(ben, Protocol("other", (1,), {1: Word}), Word("a"))
            context.net.meet(ben)
            assert echo.seen == [ben]
            context.net.part(ben)
            assert echo.seen == []
            with raised(TransportError, "answers"):
                await context.net.ask(ben, WORDS, Word("hello"))
            context.net.answers["words"] = lambda peer, message: Word("yes")
            assert await context.net.ask(ben, WORDS, Word("hello")) == Word("yes")
            assert context.net.asked == [(ben, Word("hello"))] * 2
            assert context.offered(ben, "echo") == []
            context.permit(ben, Verb.LIST, "echo/one")
            assert [one.name for one in context.offered(ben, "echo")] == ["one"]
            assert list(context.local.ports) == ["echo"]
            await context.blobs.put(b"content", "one")
            assert await context.blobs.get("one") == b"content"
            root = await context.blobs.at(ben, b"from ben")
            await context.blobs.fetch(root, [ben], "got")
            assert await context.blobs.get("got") == b"from ben"
            with raised(NotFound, "gives"):
                await context.blobs.fetch(bytes(32), [ben], "more")
            context.blobs.give("got", "echo/one")
            assert context.blobs.given == {"got": "echo/one"}
            with raised(UsageError, "not declared"):
                context.blobs.give("got", "files/one")
            context.tell.say("something happened")
            assert context.notices() == ["something happened"]

    run(story())


def test_a_letter_that_is_not_taken_leaves_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with fake_context(APP, tmp_path) as context:
            await Echo(context).start()
            ben = context.know("ben")
            await context.mail.send(ben, b"hello", stream="s")
            assert context.mail.sent == [(ben, "s", b"hello")]
            context.mail.deliver(ben, b"good")
            with raised(ValueError, "bad"):
                context.mail.deliver(ben, b"bad")
            assert await context.mail.records(lambda db: db.execute("SELECT body FROM got").fetchall()) == [
                (b"good",)
            ]

    run(story())


def test_wrong_settings_and_kinds_are_refused_as_by_a_node(tmp_path: Path) -> None:
    async def story() -> None:
        async with fake_context(APP, tmp_path) as context:
            with raised(UsageError, "a kind that it has not declared"):
                context.net.offer("files", lambda peer: [])
        with raised(UsageError):
            async with fake_context(APP, tmp_path, settings="no TOML"):
                pass

    run(story())


def test_one_seed_one_story(tmp_path: Path) -> None:
    times = []

    async def story(cast: Cast) -> None:
        anna, ben = await cast.node("anna"), await cast.node("ben")
        await cast.befriend(anna, ben)
        for number in range(5):
            assert await ben.echo.context.net.ask(anna.peer_id, WORDS, Word(str(number))) == Word(str(number))
        times.append((asyncio.get_running_loop().time(), str(anna.peer_id)))

    for number, seed in enumerate([1, 1, 2]):
        play(story, tmp_path / str(number), apps=[APP], link=Link(latency=0.05, loss=0.2), seed=seed)
    assert times[0] == times[1]
    assert times[0] != times[2]


def test_a_story_that_fails_says_its_seed(tmp_path: Path) -> None:
    async def story(cast: Cast) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        play(story, tmp_path, seed=77)
    assert "seed 77" in "".join(caught.value.__notes__)


def test_an_error_that_does_not_come_or_is_another_one_fails() -> None:
    with pytest.raises(AssertionError, match="ValueError was not raised"), raised(ValueError):
        pass
    with pytest.raises(AssertionError, match="does not match 'yes'"), raised(ValueError, "yes"):
        raise ValueError("no")


class Lying(TransportLab):
    """A transport that says of itself what is not so."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()

    async def bind(self, key: SecretKey) -> Transport:
        return self.network.bind(key.peer_id)


def test_a_suite_fails_for_a_transport_that_breaks_a_promise() -> None:
    class Suite(TransportSuite):
        def lab(self) -> TransportLab:
            return Lying()  # memory, and it was to be "direct"

    Suite().test_close_without_a_reason()
    with pytest.raises(AssertionError):
        Suite().test_both_sides_know_who_the_other_is_and_how_it_is_reached()
