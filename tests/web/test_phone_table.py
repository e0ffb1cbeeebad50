"""What each right opens to a phone, as a table: every route of the page and every command, tried with each right alone.

What is allowed stands in `coterie.web.rights`; here a page of a real node answers. The table is written to
docs/phone-table.md with `python -m tests.web.test_phone_table`, and the test compares.
"""

import asyncio
import sys
import tempfile
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

from coterie.apps.phone.core import RIGHTS
from coterie.cli.catalog import Branch, Catalog
from coterie.control.browsers import Browser, Browsers
from coterie.control.page_gate import BROWSER
from coterie.control.server import Surroundings, _commands
from coterie.errors import AccessDenied
from coterie.home import Home
from coterie.net import MemoryNetwork
from coterie.node import Node
from coterie.testing.checks import raised
from coterie.web.page import Page
from coterie.web.rights import COMMANDS, EVERYTHING, check_call, is_inside, may_call, right_of
from tests.apps.files.nodes import memory_node
from tests.support import run

TABLE = Path(__file__).parent.parent.parent / "docs" / "phone-table.md"
SAMPLES = {"path": "app.css", "view": "home", "part": "x", "rest": "x", "id": "1", "upload": "abc"}


def commands() -> list[Any]:
    """Every command there is."""
    catalog = Catalog()

    def below(branch: Branch) -> list[Any]:
        found = [branch.command] if branch.command is not None else []
        return found + [one for child in branch.children.values() for one in below(child)]

    return [one for word in catalog.words() if (branch := catalog.find(word)) for one in below(branch)]


def test_every_command_of_ours_has_its_right() -> None:
    ours = {f"{command.app}/{'-'.join(command.path)}" for command in commands()}
    assert set(COMMANDS) == ours
    assert set(COMMANDS.values()) <= {*RIGHTS, "nobody"}


async def ask(page: Page, path: str, rights: tuple[str, ...]) -> int:
    """The status that a phone with these rights gets."""
    statuses = []
    phone = Browser(id="phone-x", name="x", rights=rights, created=0, seen=0, digest="")
    raw, _, query = path.partition("?")
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": raw, "raw_path": raw.encode(), "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:1")], "scheme": "https", "server": ("127.0.0.1", 1), "root_path": "",
        "client": ("127.0.0.1", 2), "http_version": "1.1", BROWSER: phone,
    }  # fmt: skip

    asked = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        if (first := next(asked, None)) is None:
            await asyncio.Event().wait()  # whoever asks stays there
        return first or {}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await page.app(scope, receive, send)
    return int(statuses[0])


def made(node: Node) -> Page:
    home = Home.locate(node.home)
    return Page(Surroundings(node, _commands(node), Browsers(home.browsers_file), asyncio.Event()))


def paths(page: Page) -> list[str]:
    """An address of each route that is not the form of a command."""
    found = []
    for route in page.routes:
        path = str(getattr(route, "path", ""))
        if path.startswith(("/do/", "/values/", "/live")):
            continue
        for name, value in SAMPLES.items():
            path = path.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        assert "{" not in path, path
        found.append(path)
    return [*dict.fromkeys(found)]


async def measured(folder: Path) -> dict[str, str]:
    """For each route and command which rights alone open it: "+" and "-", in the order of RIGHTS."""
    async with memory_node(MemoryNetwork(), folder / "node") as node:
        page = made(node)
        rows: dict[str, str] = {}
        forms = [f"/do/{one.app}/{'-'.join(one.path)}" for one in commands()]
        for path in [*paths(page), "/shown?place=x/y", *sorted(forms)]:
            asked = path + (f"?path={Path.home()}/Downloads/none" if path in ("/shown", "/thumbs") else "")
            answers = [await ask(page, asked, (right,)) != 403 for right in RIGHTS]
            rows[path] = "".join("+" if answer else "-" for answer in answers)
            assert await ask(page, path, ("no such right",)) == 403 or rows[path] == "+" * len(RIGHTS), path
        return rows


def rendered(rows: dict[str, str]) -> str:
    head = "| | " + " | ".join(RIGHTS) + " |\n|" + "---|" * (len(RIGHTS) + 1)
    body = [
        f"| `{path}` | " + " | ".join("yes" if cell == "+" else "" for cell in cells) + " |"
        for path, cells in rows.items()
    ]
    said = "\n".join(f"- `{right}`: {what}" for right, what in RIGHTS.items())
    return f"""# What a phone may do: the table

Written by `python -m tests.web.test_phone_table` from what the page of a real node answers to a phone that has one
right alone; `tests/web/test_phone_table.py` compares. Where no right says yes, the route is closed to every phone. A
phone has `look`, `get`, `upload`, `send`, `answer` and `play` unless its owner chose others (`coterie phone add --may`,
`coterie phone may`).

{said}

A command that names files of this computer takes only those in the phone's own folder, where files of others arrive,
and in shared folders. What a phone asks beyond its rights is answered with 403, whatever the method.

{head}
{chr(10).join(body)}
"""


def test_every_route_is_as_documented(tmp_path: Path) -> None:
    rows = run(measured(tmp_path), 60.0)
    assert rows["/folders"] == "-" * len(RIGHTS)
    assert TABLE.read_text(encoding="utf-8") == rendered(rows), "run `python -m tests.web.test_phone_table`"


def command(words: str) -> Any:
    return next(one for one in commands() if " ".join(one.path) == words)


def test_files_outside_of_its_folders_are_not_for_a_phone(tmp_path: Path) -> None:
    own, secret = tmp_path / "own", tmp_path / "secret"
    for folder in (own, secret):
        folder.mkdir()
        (folder / "a.txt").write_text("a")
    (own / "way-out").symlink_to(secret)
    roots = [own]
    rights = ("send", "get", "share", "answer", "play")
    send, get, share = command("send"), command("get"), command("share")
    ok = check_call(rights, send, {"paths": [str(own / "a.txt"), "anna"]}, roots)
    assert ok["here"] == str(own)
    assert check_call(rights, send, {"paths": ["a.txt", "anna"]}, roots)["paths"] == ["a.txt", "anna"]
    for path in (str(secret / "a.txt"), "../secret/a.txt", "way-out/a.txt", "/etc/passwd"):
        with raised(AccessDenied, "may name files in"):
            check_call(rights, send, {"paths": [path, "anna"]}, roots)
    with raised(AccessDenied):
        check_call(rights, send, {"paths": ["a.txt", "anna"], "here": str(secret)}, roots)
    with raised(AccessDenied):
        check_call(rights, get, {"source": "x", "target": str(secret)}, roots)
    assert check_call(rights, get, {"source": "x"}, roots)["here"] == str(own)
    for words in ("get", "play"):  # the file of a torrent is a ticket, too
        for path in (str(secret / "a.txt"), "../secret/a.txt", "way-out/a.txt"):
            with raised(AccessDenied, "may name files in"):
                check_call(rights, command(words), {"ticket": path}, roots)
        for fine in ("anna/films", "coterie1qqqq", "magnet:?xt=urn:btih:x", "a.txt", "//anna/x"):
            assert check_call(rights, command(words), {"ticket": fine}, roots)["ticket"] == fine
    with raised(AccessDenied):
        check_call(rights, share, {"path": str(secret)}, roots)
    with raised(AccessDenied):
        check_call(rights, command("inbox accept"), {"offer": "x", "to": "/"}, roots)
    assert check_call((EVERYTHING,), share, {"path": "/"}, roots) == {"path": "/"}
    assert is_inside(str(own), roots)
    assert not is_inside(f"{own}er", roots)


def test_no_spelling_of_an_address_gets_past_the_guard(tmp_path: Path) -> None:
    """Whatever is done to an address: who has no right gets no page, and a form of the owner stays the owner's."""
    random = Random(seed := SystemRandom().randrange(2**32))
    changes = (
        lambda path: path + "/", lambda path: "/" + path, lambda path: path.upper(), lambda path: path + "\n",
        lambda path: path.replace("/", "//"), lambda path: path.replace("/", "/./"), lambda path: "/static/.." + path,
        lambda path: path + "/../", lambda path: path.replace("-", "%2d"), lambda path: path + "%00",
        lambda path: path.replace("/", "\\"), lambda path: "/do/node/../.." + path, lambda path: path + ";x",
        lambda path: "/calls/1" + path, lambda path: path + "/-/x", lambda path: path + "/=/x",
    )  # fmt: skip
    public = ("/static/", "/sw.js", "/theme", "/do", "/calls/")

    async def work() -> None:
        async with memory_node(MemoryNetwork(), tmp_path / "node") as node:
            page = made(node)
            known = [*paths(page), *(f"/do/{one.app}/{'-'.join(one.path)}" for one in commands())]
            for _ in range(1_500):
                path = random.choice(known)
                for _ in range(random.randint(1, 2)):
                    path = random.choice(changes)(path)
                status = await ask(page, path, ("no such right",))
                is_public = path.rstrip("/") == "/do" or path.startswith(
                    tuple(p for p in public if p != "/do")
                )
                assert status in (403, 404) or is_public, (seed, path, status)

    run(work(), 60.0)


def test_the_command_of_a_third_partys_app_is_closed_unless_it_says_otherwise() -> None:
    from msgspec.structs import replace

    theirs = replace(command("share"), app="guestbook")
    assert right_of(theirs) == "nobody"
    assert not may_call(tuple(RIGHTS), theirs)
    assert may_call(("look",), theirs, {"look": ("share",)})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        TABLE.write_text(rendered(run(measured(Path(place)), 60.0)), encoding="utf-8")
    sys.exit(0)
