"""People by name, and whether they are here: in lists, in the status, in errors of commands."""

import re
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.invoke import Result, invoke, load_commands
from coterie.errors import CoterieError
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.circles.nodes import until
from tests.apps.files.nodes import memory_node, pair
from tests.support import run


async def say(node: Node, app: str, words: tuple[str, ...], **parameters: Any) -> Any:
    """What a face shows of one command."""
    service = node if app == "node" else node.service(app)
    module = "coterie.control.commands" if app == "node" else node.apps[app].commands
    (command,) = [one for one in load_commands(app, module) if one.path == words]
    async for item in invoke(command, service, parameters, in_names=node.people.in_names):
        if isinstance(item, Result):
            return item
    return None


def test_contacts_say_whether_they_are_here(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            async with memory_node(network, tmp_path / "ben") as ben:
                async with anna.contacts.invite() as invitation:
                    await ben.contacts.join(invitation.invited.ticket)
                anna.contacts.rename(str(ben.peer_id), "ben")
                assert [
                    (c["name"], c["here"]) for c in (await say(anna, "contacts", ("contacts",))).value
                ] == [("ben", True)]
                assert [(c["name"], c["here"]) for c in (await say(anna, "node", ("ls",))).value] == [
                    ("ben", True)
                ]
                told = (await say(anna, "node", ("status",))).value
                assert told["here"] == ["ben"]
                assert [line["name"] for line in told["connections"]] == ["ben"]
            await until(lambda: not anna.people.is_here(ben.peer_id))
            assert (await say(anna, "contacts", ("contacts",))).value[0]["here"] is False
            assert re.search(
                r"^here +nobody known$", (await say(anna, "node", ("status",))).text, re.MULTILINE
            )
        async with Node.open(tmp_path / "anna", offline=True) as anna:
            assert (await say(anna, "contacts", ("contacts",))).value[0]["here"] is None

    run(main())


def test_an_error_calls_a_contact_by_its_name(tmp_path: Path) -> None:
    async def main() -> None:
        network = MemoryNetwork()
        async with memory_node(network, tmp_path / "anna") as anna:
            async with memory_node(network, tmp_path / "ben") as ben:
                async with anna.contacts.invite() as invitation:
                    await ben.contacts.join(invitation.invited.ticket)
                anna.contacts.rename(str(ben.peer_id), "ben")
                short = ben.peer_id.short
            with pytest.raises(CoterieError) as caught:
                await say(anna, "node", ("ls",), place="ben")
            assert "ben" in str(caught.value)
            assert short not in str(caught.value)

    run(main())


def test_a_transfer_names_the_contact_that_gives(tmp_path: Path) -> None:
    async def main() -> None:
        async with pair(tmp_path) as (anna, ben):
            async with anna.contacts.invite(name="anna") as invitation:
                await ben.contacts.join(invitation.invited.ticket)
            (tmp_path / "letter").write_bytes(b"hello")
            shared = await anna.files.share(tmp_path / "letter")
            await ben.files.get(shared.ticket, tmp_path / "got")
            (line,) = (await say(ben, "files", ("transfers",))).value
            assert line["peer"] == "anna"

    run(main())
