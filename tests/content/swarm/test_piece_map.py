"""The numbers that a picture of a download is drawn from."""

import random

from coterie.content.swarm.piece_map import CELLS_MAX, piece_map, unknown_pieces


def bits_of(here: list[bool]) -> int:
    return sum(1 << index for index, is_here in enumerate(here) if is_here)


def test_each_piece_is_a_cell_while_there_are_few() -> None:
    assert piece_map([(0b101, 3), (0, 2)], unknown=1) == [100, 0, 100, 0, 0, 0]


def test_nothing_known_is_nothing() -> None:
    assert piece_map([]) == []
    assert unknown_pieces([], 0, 10) == 0


def test_one_piece_more_than_there_are_cells_shares_a_cell() -> None:
    cells = piece_map([((1 << CELLS_MAX) - 1, CELLS_MAX + 1)])
    assert cells == [100] * (CELLS_MAX - 1) + [0]  # the first cell stands for two pieces


def test_what_is_left_of_the_size_is_unknown() -> None:
    parts = [(0b11, 2), (0b01, 2)]
    assert unknown_pieces(parts, done=300, size=1000) == 6
    assert unknown_pieces(parts, done=300, size=300) == 0


def test_random_downloads_agree_with_counting_piece_by_piece() -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(200):
        counts = [chance.randrange(1, 90) for _ in range(chance.randrange(1, 12))]
        nodes = [[chance.random() < 0.6 for _ in range(count)] for count in counts]
        unknown = chance.randrange(0, 50)
        flat = [piece for node in nodes for piece in node] + [False] * unknown
        cells = piece_map([(bits_of(node), len(node)) for node in nodes], unknown=unknown)
        assert len(cells) == min(len(flat), CELLS_MAX), f"seed {seed}"
        for cell, percent in enumerate(cells):
            first, last = -(-cell * len(flat) // len(cells)), -(-(cell + 1) * len(flat) // len(cells))
            here = sum(flat[first:last])
            exact = 100 * here // (last - first)
            whole = here in (0, last - first)
            assert percent == (exact if whole else min(max(exact, 1), 99)), f"seed {seed}"
