"""The table of lines keeps what other cases showed, and says the median."""

from tests.lab import line_page
from tests.lab.lines import CASES, OURS, Outcome

PAGE = f"before\n{line_page.BEGIN}\n{line_page.END}\nafter\n"


def runs(name: str, *ratios: float, client: str = OURS) -> list[Outcome]:
    return [Outcome(name, ratio * CASES[name].own_s, client) for ratio in ratios]


def test_the_middle_of_three_is_written_beside_the_runs() -> None:
    page = line_page.merge(PAGE, runs("ocean", 1.5, 1.25, 1.3))
    assert "| ocean | 100 Mbit/s, 150 ms, 100 MB | 1.25 | 1.30 | 1.50, 1.25, 1.30 |" in page
    assert page.startswith("before\n")
    assert page.endswith("after\n")


def test_a_case_takes_the_place_of_its_earlier_runs_and_leaves_the_others() -> None:
    page = line_page.merge(PAGE, runs("ocean", 1.5))
    page = line_page.merge(page, runs("ocean", 2.0, client="libtorrent"))
    page = line_page.merge(page, runs("city", 1.1))
    page = line_page.merge(page, runs("ocean", 1.2))
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| case")]
    assert [row.split(" | ")[-2:] for row in rows] == [
        ["1.20", "1.20 |"],
        ["2.00", "2.00 |"],
        ["1.10", "1.10 |"],
    ]


def test_every_case_says_what_line_it_is() -> None:
    assert all(case.about for case in CASES.values())
