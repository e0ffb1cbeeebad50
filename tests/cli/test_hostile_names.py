"""A contact whose names are commands of a terminal, before everything that any command prints."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coterie import json_text
from coterie.apps.command import Command
from coterie.apps.invoke import invoke, load_commands
from coterie.cli.options import Options
from coterie.cli.show import Show
from coterie.cli.terminal import say_error
from coterie.control.answers import error_body
from coterie.errors import CoterieError
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.plain_text import one_line
from tests.apps.expose.programs import echo_server
from tests.apps.files.nodes import befriend, memory_node
from tests.support import run

HOSTILE = "x\x1b[2J\x1b]0;t\x07\nFORGED\r\x9b31m\u202e\u2066\u2028FORGED\u2029~anna"
ENDS_OR_WAITS = {"up", "stop", "join", "invite", "forget"}
NODE = "node"
WAIT_S = 0.5  # for a command that waits for somebody: what it said until then counts


def commands(node: Node) -> Iterator[tuple[Command, Any]]:
    """Every command of a running node, with its service."""
    for command in load_commands(NODE, "coterie.control.commands"):
        yield command, node
    for name, app in node.apps.items():
        for command in load_commands(name, app.commands):
            yield command, node.service(name)


async def shown(command: Command, service: Any, node: Node, capsys: Any, parameters: Any) -> str:
    """All that a call prints in 80 columns."""
    show = Show(Options())
    try:
        async with asyncio.timeout(WAIT_S):
            async for item in invoke(command, service, parameters, in_names=node.people.in_names):
                show.line(json_text.decode(json_text.encode(item.line()), dict))
    except CoterieError as error:
        body = error_body(error)["error"]
        say_error(body["message"])
        show.error(body["code"], body["message"])
    except TimeoutError:
        pass
    show.close()
    said = capsys.readouterr()
    return str(said.out + said.err)


def fault(said: str) -> str:
    if any(one_line(line) != line for line in said.split("\n")):
        return "a character that a terminal obeys"
    if any(line.startswith("FORGED") for line in said.split("\n")):
        return "a line of another's making"
    return ""


def test_no_name_of_a_contact_is_a_command_or_a_line_in_anything_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eve's client says whatever it likes: of itself, its shares, files, services and offers."""
    monkeypatch.setattr("coterie.apps.expose.service.checked_name", lambda text: text)

    async def main() -> None:
        network = MemoryNetwork()
        async with (
            memory_node(network, tmp_path / "ben") as ben,
            memory_node(network, tmp_path / "eve") as eve,
            echo_server() as port,
        ):
            for app in eve.apps:
                if (context := getattr(eve.service(app), "_context", None)) is not None:
                    context.me.name = HOSTILE
            await befriend(eve, ben)
            (folder := tmp_path / HOSTILE).mkdir()
            (folder / HOSTILE).write_text("x")
            await eve.files.share(folder, to=["contacts"])
            eve.expose.expose(str(port), HOSTILE, ["contacts"])
            record = await eve.service("send").read([folder, folder / HOSTILE], note=HOSTILE)
            eve.service("send").offer_to(record, str(ben.peer_id))
            async with asyncio.timeout(20):
                while not ben.service("send").inbox():
                    await asyncio.sleep(0)
            await ben.files.share(folder, to=[str(eve.peer_id)])
            capsys.readouterr()
            values = (ben.people.name_of(eve.peer_id), HOSTILE, f"{eve.peer_id}/{HOSTILE}")
            seen: dict[str, None] = {}
            for command, service in commands(ben):
                if command.path[0] in ENDS_OR_WAITS or not {"remove", "forget", "leave"}.isdisjoint(
                    command.path
                ):
                    continue
                wanted = [p.name for p in command.parameters if p.required]
                for value in values if wanted else ("",):
                    said = await shown(command, service, ben, capsys, dict.fromkeys(wanted, value))
                    assert not fault(said), (command.path, said)
                    if "FORGED" in said:
                        seen[command.path[0]] = None
            assert seen.keys() >= {"ls", "contacts", "inbox", "peers", "people", "status", "shares"}, seen

    run(main(), 60)
