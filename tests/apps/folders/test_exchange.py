"""The exchange of changes: whatever breaks, everybody has everything in the end, and nothing is sent for nothing."""

from collections import deque
from random import Random
from typing import Any

import pytest

from coterie.apps.folders import exchange as x
from coterie.apps.folders.messages import Changes, Hello, Seen
from coterie.identity import PeerId
from coterie.machine import PeerDown, PeerUp, Received, Send

FOLDER = b"f" * 16
BATCH = 3  # entries in one message here


class Copy:
    """A replica whose registers are sets of words: they merge by union."""

    def __init__(self, number: int) -> None:
        self.peer = PeerId(bytes([number]) * 32)
        self.replica = bytes([number]) * 16
        self.rows: dict[str, tuple[int, frozenset[bytes], bytes]] = {}  # path -> number, register, from whom
        self.seq = 0
        self.known: dict[bytes, tuple[PeerId, int]] = {}
        self.has: dict[bytes, int] = {}
        self.outdated = 0
        self.restart()

    def restart(self) -> None:
        self.core = x.Exchange(FOLDER, self.replica, self.seq, self.known)

    def write(self, path: str, word: bytes) -> list[Any]:
        self._put(path, self.rows.get(path, (0, frozenset(), b""))[1] | {word}, b"")
        return self.core.handle(x.News(self.seq), 0.0)

    def _put(self, path: str, register: frozenset[bytes], source: bytes) -> None:
        self.seq += 1
        self.rows[path] = self.seq, register, source

    def do(self, output: Any) -> list[Any]:
        """What the shell does with an output; further outputs."""
        match output:
            case x.Read(peer, replica, first):
                rows = sorted(
                    (seq, path, reg, src) for path, (seq, reg, src) in self.rows.items() if seq > first
                )
                part = rows[:BATCH]
                last = part[-1][0] if len(part) == BATCH else self.seq
                entries = [(path, b",".join(sorted(reg))) for _, path, reg, src in part if src != replica]
                return self.core.handle(x.Batch(peer, first, last, entries), 0.0)
            case x.Merge(peer, replica, last, entries, _):
                for path, raw in entries:
                    theirs = frozenset(raw.split(b","))
                    mine = self.rows.get(path, (0, frozenset(), b""))[1]
                    if theirs - mine:
                        self._put(path, mine | theirs, replica if mine | theirs == theirs else b"")
                self.known[replica] = peer, max(last, self.known.get(replica, (peer, 0))[1])
                outputs = self.core.handle(x.Merged(peer, replica, last), 0.0)
                return [*outputs, *self.core.handle(x.News(self.seq), 0.0)]
            case x.Has(_, replica, seq):
                self.has[replica] = seq
            case x.Outdated():
                self.outdated += 1
        return []


class Net:
    """Streams between copies: one each way, in order; what is under way is lost when they break."""

    def __init__(self, copies: list[Copy], random: Random) -> None:
        self.copies = {copy.peer: copy for copy in copies}
        self.random = random
        self.up: set[tuple[PeerId, PeerId]] = set()
        self.queues: dict[tuple[PeerId, PeerId], deque[Any]] = {}
        self.sent: list[Any] = []
        self.largest = 0

    def perform(self, copy: Copy, outputs: list[Any]) -> None:
        waiting = deque(outputs)
        while waiting:
            output = waiting.popleft()
            if isinstance(output, Send):
                if (copy.peer, output.peer) in self.up:
                    self.queues[copy.peer, output.peer].append(output.message)
                    self.sent.append(output.message)
                continue
            waiting.extend(copy.do(output))

    def connect(self, one: Copy, other: Copy) -> None:
        """The stream that `one` opens."""
        self.up.add((one.peer, other.peer))
        self.queues[one.peer, other.peer] = deque()
        self.perform(one, one.core.handle(PeerUp(other.peer), 0.0))

    def cut(self, one: Copy, other: Copy) -> None:
        self.up.discard((one.peer, other.peer))
        self.queues.pop((one.peer, other.peer), None)
        one.core.handle(PeerDown(other.peer), 0.0)

    def deliver(self) -> bool:
        """One message that is under way."""
        busy = sorted(pair for pair, queue in self.queues.items() if queue)
        if not busy:
            return False
        pair = self.random.choice(busy)
        message = self.queues[pair].popleft()
        copy = self.copies[pair[1]]
        self.perform(copy, copy.core.handle(Received(pair[0], message), 0.0))
        return True

    def settle(self) -> None:
        for _ in range(100_000):
            if not self.deliver():
                return
        raise AssertionError("they never come to an end")


def everything(copies: list[Copy]) -> list[dict[str, frozenset[bytes]]]:
    return [{path: reg for path, (_, reg, _) in sorted(copy.rows.items())} for copy in copies]


@pytest.mark.parametrize("seed", range(150))
def test_all_have_all_in_the_end(seed: int) -> None:
    random = Random(seed)
    copies = [Copy(number) for number in range(1, random.randint(2, 5) + 1)]
    net = Net(copies, random)
    written: dict[str, set[bytes]] = {}
    for number in range(random.randint(5, 80)):
        one, other = random.sample(copies, 2)
        match random.randrange(6):
            case 0:
                net.cut(one, other)
            case 1:
                net.cut(one, other)
                net.connect(one, other)
            case 2 if random.random() < 0.3:  # its node starts anew
                for peer in copies:
                    if peer is not one:
                        net.cut(one, peer)
                        net.cut(peer, one)
                one.restart()
            case 3:
                for _ in range(random.randint(1, 5)):
                    net.deliver()
            case _:
                path, word = f"p{random.randrange(12)}", b"%d" % number
                written.setdefault(path, set()).add(word)
                net.perform(one, one.write(path, word))
    for one in copies:
        for other in copies:
            if one is not other:
                net.cut(one, other)
                net.connect(one, other)
    net.settle()
    expected = {path: frozenset(words) for path, words in sorted(written.items())}
    assert everything(copies) == [expected] * len(copies), f"seed {seed}"
    assert all(copy.core.is_level() for copy in copies), f"seed {seed}"
    assert not any(copy.outdated for copy in copies)
    assert all(len(m.entries) <= BATCH for m in net.sent if isinstance(m, Changes))


def two() -> tuple[Copy, Copy, Net]:
    copies = [Copy(1), Copy(2)]
    return copies[0], copies[1], Net(copies, Random(1))


def entries_sent(net: Net) -> int:
    return sum(len(m.entries) for m in net.sent if isinstance(m, Changes))


def test_what_came_from_somebody_is_not_sent_back() -> None:
    anna, ben, net = two()
    for number in range(20):
        net.perform(anna, anna.write(f"p{number}", b"x"))
    net.connect(anna, ben)
    net.connect(ben, anna)
    net.settle()
    assert entries_sent(net) == 20
    assert anna.has[ben.replica] == 20


def test_after_a_pause_only_what_is_new_comes() -> None:
    anna, ben, net = two()
    for number in range(20):
        net.perform(anna, anna.write(f"p{number}", b"x"))
    net.connect(anna, ben)
    net.connect(ben, anna)
    net.settle()
    net.cut(anna, ben)
    net.cut(ben, anna)
    anna.restart()
    ben.restart()
    net.perform(anna, anna.write("p3", b"y"))
    net.sent.clear()
    net.connect(anna, ben)
    net.connect(ben, anna)
    net.settle()
    assert entries_sent(net) == 1
    assert ben.rows["p3"][1] == {b"x", b"y"}


def test_who_joins_later_is_heard_whatever_was_said_before() -> None:
    """The hello of the one that was there first came to nobody: the other had no such folder yet."""
    anna, ben, net = two()
    net.perform(anna, anna.write("p", b"x"))
    net.connect(anna, ben)
    net.queues[anna.peer, ben.peer].clear()
    net.connect(ben, anna)
    net.settle()
    assert ben.rows["p"][1] == {b"x"}


def test_a_copy_that_begins_anew_on_the_same_line_is_heard() -> None:
    anna, ben, net = two()
    net.connect(anna, ben)
    net.connect(ben, anna)
    net.settle()
    anna.restart()  # paused and gone on with: the other side sees no end of the line
    net.perform(anna, anna.core.handle(PeerUp(ben.peer), 0.0))
    net.settle()
    net.perform(anna, anna.write("p", b"x"))
    net.perform(ben, ben.write("q", b"y"))
    net.settle()
    assert set(ben.rows) == set(anna.rows) == {"p", "q"}


def test_no_more_than_a_few_messages_are_ahead() -> None:
    anna, ben, net = two()
    for number in range(100):
        net.perform(anna, anna.write(f"p{number}", b"x"))
    net.connect(ben, anna)
    net.connect(anna, ben)
    for _ in range(2):
        net.deliver()
    under_way = [m for m in net.queues[anna.peer, ben.peer] if isinstance(m, Changes)]
    assert len(under_way) <= x.AHEAD_MAX


def test_a_home_that_was_put_back_is_noticed() -> None:
    anna, ben, net = two()
    for number in range(5):
        net.perform(anna, anna.write(f"p{number}", b"x"))
    net.connect(anna, ben)
    net.connect(ben, anna)
    net.settle()
    old = Copy(1)
    old.seq = 2
    old.restart()
    outputs = old.core.handle(Received(ben.peer, Hello(FOLDER, ben.replica, 5, old.replica, 5)), 0.0)
    assert outputs == [x.Outdated(ben.peer)]
    old.core.handle(Received(ben.peer, Hello(FOLDER, ben.replica, 5, old.replica, 2)), 0.0)
    assert old.core.handle(Received(ben.peer, Seen(FOLDER, old.replica, 5)), 0.0) == [x.Outdated(ben.peer)]


def test_changes_of_a_replica_that_did_not_say_hello_are_dropped() -> None:
    anna, ben, _net = two()
    changes = Changes(FOLDER, ben.replica, 0, 1, [("p", b"x")])
    assert anna.core.handle(Received(ben.peer, changes), 0.0) == []


def test_of_copies_from_which_nothing_came_a_computer_has_the_last_alone() -> None:
    """Who may only read could name one after the other, without end."""
    anna, ben, _net = two()
    for number in (9, 8, 7):
        hello = Hello(FOLDER, bytes([number]) * 16, 5, b"", 0)
        anna.core.handle(Received(ben.peer, hello), 0.0)
    anna.core.handle(PeerDown(ben.peer), 0.0)
    (said, *_) = anna.core.handle(PeerUp(ben.peer), 0.0)
    assert said.message.yours == bytes([7]) * 16
