"""What people read of circles, by the commands that they type."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.circles.results import Phrase
from coterie.apps.invoke import Event, Result, invoke, load_commands
from coterie.node import Node
from tests.apps.circles.nodes import circles, people
from tests.support import run


def call(node: Node, words: str, **parameters: Any) -> AsyncGenerator[Event | Result, None]:
    """What a face gets of one command."""
    found = load_commands("circles", "coterie.apps.circles.commands")
    (command,) = [one for one in found if " ".join(one.path) == words]
    return invoke(command, circles(node), parameters, in_names=node.people.in_names)


async def said(node: Node, words: str, **parameters: Any) -> str | None:
    async with aclosing(call(node, words, **parameters)) as items:
        return [item.text async for item in items][-1]


@pytest.mark.parametrize(
    ("invite", "join", "says"),
    [
        ("circle invite", "circle join", "ben is in our home now ("),
        ("devices add", "devices join", "ben is in the list of your computers now ("),
    ],
)
def test_the_inviter_reads_who_came_in(tmp_path: Path, invite: str, join: str, says: str) -> None:
    async def main() -> None:
        async with people(tmp_path, "anna", "ben") as (anna, ben):
            made = await said(anna, "circle new", name="our home")
            assert made is not None
            assert "coterie circle invite 'our home'" in made
            circle = {"circle": "our home"} if invite == "circle invite" else {}
            texts = []
            async with aclosing(call(anna, invite, **circle)) as items:
                async for item in items:
                    if isinstance(item, Event) and item.kind == "Invited":
                        joining = asyncio.ensure_future(said(ben, join, invitation=item.fields["ticket"]))
                    texts.append(item.text or "")
                    if isinstance(item, Event) and item.kind == "Met":
                        break
                    if isinstance(item, Result):
                        break
            await joining
            assert texts[-1].startswith(says)

    run(main(), 60)


def test_the_words_for_paper_have_no_blanks_at_the_end_and_say_what_they_are_for() -> None:
    lines = Phrase(["cloud"] * 12).text().split("\n")
    assert lines == [line.rstrip() for line in lines]
    assert lines[-2] == "On a fresh computer: coterie recovery restore --invitation TICKET"
    assert "coterie invite" in lines[-1]
