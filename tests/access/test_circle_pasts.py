"""Pasts in little memory: the same answers as whole sets, for honest and for hostile shapes of a log."""

import tracemalloc
from random import Random

import pytest

from coterie.access.circle_log import OPS_MAX, CircleLog
from coterie.access.circle_ops import OP_BYTES_MAX, Kind, read_op
from coterie.access.circle_pasts import RECENT_MAX, WIDE_BYTES_MAX, Pasts
from tests.access.circles import forge, found, who


def grown(seed: int, count: int, branches: int) -> tuple[Pasts, list[int]]:
    """A log of `count` operations on `branches` heads that now and then merge, and its pasts as whole sets."""
    chance, pasts, whole = Random(seed), Pasts(), [0]
    pasts.append((), 0, 0)
    heads = [0] * branches
    for place in range(1, count):
        line = chance.randrange(branches)
        parents = {heads[line]} | ({chance.choice(heads)} if chance.random() < 0.02 else set())
        parents = {p for p in parents if not any(whole[q] >> p & 1 for q in parents)}
        past = 0
        for parent in parents:
            past |= whole[parent] | 1 << parent
        pasts.append(sorted(parents), past, ((1 << place) - 1) & ~past)
        whole.append(past)
        heads[line] = place
    return pasts, whole


@pytest.mark.parametrize(("seed", "branches"), [(1, 1), (2, 2), (3, 5), (4, 60)])
def test_every_past_is_the_same_as_the_whole_set(seed: int, branches: int) -> None:
    pasts, whole = grown(seed, 1_500, branches)
    order = list(range(len(whole)))
    Random(seed).shuffle(order)
    assert all(pasts[place] == whole[place] for place in order), f"seed {seed}"


@pytest.mark.parametrize("seed", [5, 6])
def test_pasts_that_are_not_kept_are_worked_out(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr("coterie.access.circle_pasts.WIDE_BYTES_MAX", 20_000)
    monkeypatch.setattr("coterie.access.circle_pasts.RECENT_MAX", 4)
    pasts, whole = grown(seed, 2_000, 40)
    assert pasts._wide_bytes <= 20_000
    assert len(pasts._recent) <= 4
    order = list(range(len(whole)))
    Random(seed).shuffle(order)
    assert all(pasts[place] == whole[place] for place in order), f"seed {seed}"


def test_the_pasts_of_a_full_log_take_few_bytes() -> None:
    """Two lines that arrive in turns and never meet are the worst: each lies beside the whole of the other."""
    bound = WIDE_BYTES_MAX + RECENT_MAX * (OPS_MAX // 8 + 100) + 64 * OPS_MAX
    assert bound < 20_000_000
    for lines in (1, 2):
        tracemalloc.start()
        pasts, heads = Pasts(), [0, 0]
        whole = [0, 0]
        pasts.append((), 0, 0)
        for place in range(1, 60_000):
            line = place % lines
            whole[line] |= 1 << heads[line]
            pasts.append((heads[line],), whole[line], ((1 << place) - 1) & ~whole[line])
            heads[line] = place
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size < bound, f"{lines} lines: {size} bytes"
        assert pasts[59_999] == whole[59_999 % lines] & ~(1 << 59_999)


def test_an_operation_in_memory_is_little_more_than_its_bytes() -> None:
    circle = found()
    written = [circle.log.ops[0]]
    for i in range(2_000):
        last = written[-1].id
        written.append(
            forge(circle, "anna", Kind.RENAME, parents=(last,), subject=who("anna"), name=f"anna {i}", at=i)
        )
    raws = [one.raw for one in written]

    tracemalloc.start()
    log = CircleLog(read_op(bytes(bytearray(raws[0])), is_verified=True))
    for raw in raws[1:]:
        log.add(read_op(bytes(bytearray(raw)), is_verified=True))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(log) == 2_001
    assert size / len(log) < 1_300  # bytes, the raw operation of about 290 among them
    assert max(map(len, raws)) <= OP_BYTES_MAX
