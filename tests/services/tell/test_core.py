"""Which notices are kept, which are one, which interrupt."""

from random import Random

from coterie.services.tell.core import (
    AGAIN_S,
    INTERRUPTIONS,
    KEY_CHARS_MAX,
    NOTICES_MAX,
    NOTICES_PER_APP_MAX,
    TEXT_CHARS_MAX,
    WRITE_AGAIN_S,
    Board,
)


def texts(board: Board) -> list[str]:
    return [notice.said for notice in board]


def test_the_same_key_of_one_app_is_one_notice_and_the_newest_text_stands() -> None:
    board = Board()
    first = board.tell("files", "the disk is full", "disk", 10.0).notice
    board.tell("circles", "the disk is full", "disk", 11.0)
    again = board.tell("files", "the disk is very full", "disk", 20.0).notice
    assert (again.id, again.times, again.first_at, again.at) == (first.id, 2, 10.0, 20.0)
    assert texts(board) == ["the disk is full", "the disk is very full"]


def test_without_a_key_the_text_is_the_key() -> None:
    board = Board()
    for _ in range(3):
        board.tell("files", "a", "", 1.0)
    board.tell("files", "b", "", 1.0)
    assert [(n.said, n.times) for n in board] == [("a", 3), ("b", 1)]


def test_an_app_that_tells_too_much_pushes_out_its_own() -> None:
    board = Board()
    board.tell("quiet", "stays", "", 0.0)
    for number in range(NOTICES_PER_APP_MAX + 1):
        board.tell("loud", f"{number}", "", float(number))
    assert len(board) == NOTICES_PER_APP_MAX + 1
    assert texts(board)[:2] == ["stays", "1"]


def test_the_whole_board_is_bounded() -> None:
    board = Board()
    for number in range(NOTICES_MAX + 1):
        board.tell(f"app{number // 50}", f"{number}", "", float(number))
    assert len(board) == NOTICES_MAX
    assert texts(board)[0] == "1"


def test_text_and_key_are_cut() -> None:
    board = Board()
    notice = board.tell("a", "x" * (TEXT_CHARS_MAX + 1), "k" * (KEY_CHARS_MAX + 1), 0.0).notice
    assert (len(notice.said), len(notice.key)) == (TEXT_CHARS_MAX, KEY_CHARS_MAX)
    assert board.remove("a", "k" * (KEY_CHARS_MAX + 1)) == 1


def test_the_same_interrupts_once_an_hour_and_another_text_at_once() -> None:
    board = Board()
    assert board.tell("a", "full", "disk", 0.0).is_news
    assert not board.tell("a", "full", "disk", AGAIN_S - 1).is_news
    assert board.tell("a", "full", "disk", AGAIN_S).is_news
    assert board.tell("a", "failed", "disk", AGAIN_S + 1).is_news


def test_many_different_ones_at_once_interrupt_a_few_times() -> None:
    board = Board()
    told = [board.tell("a", f"{number}", "", 0.0).is_news for number in range(100)]
    assert sum(told) == INTERRUPTIONS[1]
    assert board.tell("b", "another app", "", 0.0).is_news


def test_what_comes_again_and_again_is_written_once_a_minute() -> None:
    board = Board()
    written = [
        board.tell("a", "full", "disk", t / 10).is_to_write for t in range(int(WRITE_AGAIN_S) * 10 + 1)
    ]
    assert sum(written) == 2


def test_removal_by_app_and_key() -> None:
    board = Board()
    for app in ("a", "b"):
        for key in ("1", "2"):
            board.tell(app, key, key, 0.0)
    assert board.remove("a", "1") == 1
    assert board.remove("b") == 2
    assert texts(board) == ["2"]
    assert board.remove() == 1
    assert board.remove() == 0


def test_bounds_and_order_hold_in_any_history() -> None:
    for seed in range(50):
        random = Random(seed)
        board, now = Board(), 0.0
        for _ in range(300):
            now += random.random() * 100
            if random.random() < 0.02:
                board.remove(f"app{random.randrange(3)}")
            else:
                board.tell(
                    f"app{random.randrange(3)}", f"{random.randrange(400)}", f"{random.randrange(200)}", now
                )
        kept = list(board)
        assert [n.at for n in kept] == sorted(n.at for n in kept), f"seed {seed}"
        assert len({(n.app, n.key) for n in kept}) == len(kept), f"seed {seed}"
        again = Board(kept)
        assert list(again) == kept, f"seed {seed}"
        assert again.tell("new", "x", "", now).notice.id > max(n.id for n in kept), f"seed {seed}"
