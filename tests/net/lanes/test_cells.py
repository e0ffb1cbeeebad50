"""Cells of a lane over several connections: in order again, whatever order they come in, and within bounds."""

from random import Random

import pytest

from coterie.errors import PeerError
from coterie.net.lanes.cells import (
    AHEAD_BYTES_MAX,
    CELL_BYTES_MAX,
    CELL_BYTES_MIN,
    CELLS_A_WINDOW,
    HEADER,
    Order,
    cell_bytes,
    decode_header,
)


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_over_several_connections_goes_out_in_order(seed: int) -> None:
    random, at, cells = Random(seed), 0, []
    data = random.randbytes(50_000)
    while at < len(data):
        size = random.randint(1, 3_000)
        cells.append((at, data[at : at + size]))
        at += size
    ways: list[list[tuple[int, bytes]]] = [[] for _ in range(4)]
    for cell in cells:
        random.choice(ways).append(cell)
    order, out = Order(), b""
    while any(ways):
        out += b"".join(order.take(*random.choice([way for way in ways if way]).pop(0)))
    assert out == data, f"seed {seed}"


def test_what_came_already_is_refused() -> None:
    order = Order()
    assert order.take(0, b"abc") == [b"abc"]
    assert order.take(5, b"f") == []
    for at in (0, 2, 5):
        with pytest.raises(PeerError, match="came already"):
            order.take(at, b"x")


def test_a_cell_has_bytes_and_not_too_many() -> None:
    assert decode_header(HEADER.pack(7, CELL_BYTES_MAX)) == (7, CELL_BYTES_MAX)
    for size in (0, CELL_BYTES_MAX + 1):
        with pytest.raises(PeerError, match=f"a cell of {size} bytes"):
            decode_header(HEADER.pack(0, size))


def test_little_waits_for_what_is_missing() -> None:
    order, at = Order(), 1
    while at + CELL_BYTES_MAX <= AHEAD_BYTES_MAX + 1:
        assert order.has_room(at, CELL_BYTES_MAX)
        order.take(at, bytes(CELL_BYTES_MAX))
        at += CELL_BYTES_MAX
    assert not order.has_room(at, 1)
    assert order.has_room(0, 1), "what the others wait for"
    assert sum(map(len, order.take(0, b"x"))) == at
    assert order.has_room(at + 1, CELL_BYTES_MAX)


def test_cells_grow_with_the_window() -> None:
    between = CELLS_A_WINDOW * 10_000
    found = [cell_bytes(window) for window in (0, between, 1 << 30)]
    assert found == [CELL_BYTES_MIN, 10_000, CELL_BYTES_MAX]
