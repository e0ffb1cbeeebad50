"""Pieces: everybody cuts alike, sets travel and come back, rarity counts."""

from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coterie.content.swarm import pieces as p

SIZES = st.lists(st.integers(1, 524_288), max_size=300)


@given(SIZES)
def test_pieces_cover_all_chunks_once_and_keep_their_bounds(sizes: list[int]) -> None:
    starts = p.cut(sizes)
    assert starts[0] == 0
    assert starts[-1] == len(sizes)
    assert starts == sorted(set(starts))
    for first, last in pairwise(starts):
        assert last - first <= p.PIECE_CHUNKS_MAX
        assert sum(sizes[first : last - 1]) < p.PIECE_BYTES_MIN  # the last one made it large enough
    for first, last in pairwise(starts[:-1]):
        assert sum(sizes[first:last]) >= p.PIECE_BYTES_MIN or last - first == p.PIECE_CHUNKS_MAX


def test_the_cut_of_a_worked_example() -> None:
    """The one of docs/protocol/files.md: every implementation has to cut like this."""
    assert p.cut([40_000, 30_000, 200_000, 10, 20, 65_536, 5]) == [0, 2, 3, 6, 7]
    assert p.cut([]) == [0]
    assert p.cut([1] * 1025) == [0, 1024, 1025]
    assert p.to_bytes(0b1_0000_0101) == b"\x05\x01"


@given(st.integers(0, 1 << 9000))
def test_a_set_travels(pieces: int) -> None:
    assert p.from_bytes(p.to_bytes(pieces)) == pieces
    assert list(p.members(pieces)) == [n for n in range(pieces.bit_length()) if pieces >> n & 1]


@given(SIZES.filter(bool), st.data())
def test_what_chunks_span(sizes: list[int], data: st.DataObject) -> None:
    starts = p.cut(sizes)
    first = data.draw(st.integers(0, len(sizes) - 1))
    last = data.draw(st.integers(first + 1, len(sizes)))
    wanted = {n for n in range(len(starts) - 1) if starts[n] < last and starts[n + 1] > first}
    assert set(p.members(p.spanned(starts, first, last))) == wanted


@given(st.integers(1, 1 << 500), st.integers())
def test_a_choice_is_a_member(pieces: int, seed: int) -> None:
    assert pieces >> p.choose(pieces, Random(seed)) & 1
    assert pieces >> p.lowest(pieces) & 1
    assert not pieces & ((1 << p.lowest(pieces)) - 1)


def test_choices_differ() -> None:
    random = Random(1)
    assert {p.choose(0b1011, random) for _ in range(200)} == {0, 1, 3}


@given(st.lists(st.integers(0, (1 << 40) - 1), max_size=p.LEVELS_MAX - 1), st.integers(0, (1 << 40) - 1))
def test_rarity_counts_holders(holders: list[int], among: int) -> None:
    rarity = p.Rarity((1 << 40) - 1)
    for held in holders:
        rarity.more(held)
    for leaving in holders[::2]:
        rarity.fewer(leaving)
    left = [h for n, h in enumerate(holders) if n % 2]
    counts = {n: sum(h >> n & 1 for h in left) for n in p.members(among)}
    least = min(counts.values(), default=0)
    assert set(p.members(rarity.rarest(among))) == {n for n, c in counts.items() if c == least}


def test_rarity_has_a_bound() -> None:
    rarity = p.Rarity(1)
    for _ in range(3 * p.LEVELS_MAX):
        rarity.more(1)
    assert len(rarity.levels) == p.LEVELS_MAX
    assert rarity.rarest(1) == 1
