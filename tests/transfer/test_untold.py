"""What an asker has not heard yet is put together, told once, and bounded."""

from coterie.content.manifest import ID_BYTES
from coterie.transfer.messages import PROTOCOL, Given, Has, HasAll
from coterie.transfer.untold import NEWS_MAX, Untold
from coterie.wire.frames import FrameDecoder, Message


def node(number: int) -> bytes:
    return number.to_bytes(ID_BYTES, "big")


def taken(untold: Untold) -> list[Message]:
    return [PROTOCOL.decode(kind, bytes(body)) for kind, body in FrameDecoder().feed(untold.take())]  # type: ignore[misc]


def test_news_of_one_node_are_one_message_and_told_once() -> None:
    untold = Untold()
    assert not untold
    untold.add(Has(node(1), b"\x01"))
    untold.add_given(node(1), 1)
    untold.add(Has(node(1), b"\x00\x01"))
    untold.add(Has(node(2), b""))
    assert untold
    assert taken(untold) == [Given(node(1), b"\x01"), Has(node(1), b"\x01\x01"), Has(node(2), b"")]
    assert not untold
    assert taken(untold) == []


def test_after_all_nothing_more_is_told() -> None:
    untold = Untold()
    untold.add(Has(node(1), b"\x01"))
    untold.add(HasAll())
    assert taken(untold) == [HasAll()]
    untold.add(Has(node(2), b"\x01"))
    untold.add(HasAll())
    assert not untold
    assert taken(untold) == []


def test_of_one_node_too_many_nothing_is_kept() -> None:
    untold = Untold()
    for number in range(NEWS_MAX + 1):
        untold.add(Has(node(number), b"\x01"))
        untold.add_given(node(number), 1)
    untold.add(Has(node(0), b"\x02"))  # one that waits already may grow
    news = taken(untold)
    assert len(news) == 2 * NEWS_MAX
    assert Has(node(0), b"\x03") in news
