"""Names that are no UTF-8, and dates that no manifest can hold: the rest is shared, with and without a running node."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from coterie.node import Node
from tests.apps.files.nodes import coterie, pair, prepare_home, running_node, start, tree_of
from tests.support import run

DATES_S = (
    0,
    -1_000_000_000,
    -(2**40),
    9_223_372_036,
    10_000_000_000,
    2**40,
)  # 1970, 1938, long ago, 2262, 2286, absurd


def odd(folder: Path) -> Path:
    top = folder / "odd"
    top.mkdir()
    for number, date in enumerate(DATES_S):
        (top / str(number)).write_text(str(number))
        (top / f"folder{number}").mkdir()
        for path in (top / str(number), top / f"folder{number}"):
            os.utime(path, (date, date))
    Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).write_text("left out")
    Path(os.fsdecode(os.fsencode(top) + b"/gar\xe7on")).mkdir()
    os.utime(top, (2**40, 2**40))
    return top


def is_as_expected(shared: Any) -> None:
    assert shared["files"] == len(DATES_S)
    named = {(os.path.basename(problem["path"]), problem["reason"]) for problem in shared["skipped"]}
    assert named == {(name, "its name is not valid UTF-8") for name in (r"caf\xe9", r"gar\xe7on")}


@pytest.mark.parametrize("runs", [True, False])
def test_what_cannot_be_shared_is_named_and_the_rest_is_shared(tmp_path: Path, runs: bool) -> None:
    top, home = odd(tmp_path), prepare_home(tmp_path / "home")
    if runs:
        with running_node(home):
            done = coterie(home, "--json", "share", str(top))
            assert coterie(home, "share", str(top)).stderr.count("unexpected") == 0
        assert done.returncode == 3  # something is missing
        is_as_expected(json.loads(done.stdout.splitlines()[-1]))
        return
    alone = start(home, "--json", "share", str(top))
    try:
        assert alone.stdout is not None
        is_as_expected(json.loads(next(line for line in alone.stdout if '"ticket"' in line)))
    finally:
        alone.send_signal(signal.SIGINT)
        alone.communicate(timeout=60)


def test_files_of_every_date_arrive(tmp_path: Path) -> None:
    async def main() -> None:
        top, one = odd(tmp_path), tmp_path / "one"
        one.write_text("one")
        os.utime(one, (2**40, 2**40))
        async with pair(tmp_path) as (anna, ben):
            await got(anna, ben, top)
            await got(anna, ben, one)
            (line, single) = await anna.files.shares()
            assert (line.state, single.state) == ("ready", "ready")
            again = await anna.files.share(one)
            assert again.id == single.id

    async def got(anna: Node, ben: Node, path: Path) -> None:
        ticket = (await anna.files.share(path)).ticket
        received = await ben.files.get(ticket, tmp_path / f"{path.name}-of-anna")
        assert not received.is_incomplete()

    run(main())
    came = tree_of(tmp_path / "odd-of-anna")
    assert {name: came[name][2] for name in ("0", "1", "4")} == {"0": 0, "1": -(10**18), "4": 2**63 - 1}
