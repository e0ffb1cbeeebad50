"""The house rules, proved from the source: pure cores, small modules, plain names, examples that run."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from coterie.access.resource import PROTOCOL
from coterie.cli.catalog import declared_kinds

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "coterie"

LINES_PER_MODULE_MAX = 600
LINES_PER_FUNCTION_MAX = 70

# May touch asyncio, sockets, files, clock and entropy. Everything else is a core and may not.
SHELLS = (
    "access/audit.py",
    "access/enforcer.py",
    "texts.py",
    "identity/keystore.py",
    "net/quic/*.py",
    "net/budget.py",
    "net/lanes/bulk_stream.py",
    "net/lanes/bridge.py",
    "net/lanes/bundle.py",
    "net/lanes/tcp_seen.py",
    "net/lanes/lane.py",
    "net/lanes/listener.py",
    "net/lanes/tls.py",
    "net/lanes/lanes.py",
    "net/lanes/dialling.py",
    "net/lanes/invitation.py",
    "net/memory.py",
    "net/greeting.py",
    "net/stream.py",
    "net/connection.py",
    "net/endpoint.py",
    "net/pool.py",
    "net/relay/check.py",
    "net/relay/home.py",
    "net/relay/server.py",
    "net/relay/probe.py",
    "net/router.py",
    "net/find/address_book_file.py",
    "net/find/contacts.py",
    "net/find/exchange.py",
    "net/find/mainline*.py",
    "net/find/mdns.py",
    "net/lanes/write_path.py",
    "net/find/multicast_probe.py",
    "net/port_mapping/mapper.py",
    "net/port_mapping/router.py",
    "net/port_mapping/description.py",
    "net/port_mapping/upnp.py",
    "net/find/reaching.py",
    "content/bittorrent/*.py",
    "content/changes.py",
    "content/direct.py",
    "content/disk_rules.py",
    "content/hashing.py",
    "content/importer*.py",
    "content/large_file.py",
    "content/merge.py",
    "content/pins.py",
    "content/no_links.py",
    "content/file_steps.py",
    "content/reader.py",
    "content/received.py",
    "content/reuse.py",
    "content/scan.py",
    "content/schema.py",
    "content/seen.py",
    "content/store.py",
    "content/tree_reader.py",
    "content/versions.py",
    "content/whole.py",
    "content/writer.py",
    "driver.py",
    "services/blobs/*.py",
    "services/local/*.py",
    "apps/files/gifts.py",
    "apps/folders/agenda.py",
    "apps/folders/answering.py",
    "apps/folders/api.py",
    "apps/folders/applying.py",
    "apps/folders/asking.py",
    "apps/folders/book.py",
    "apps/folders/bringing.py",
    "apps/folders/content.py",
    "apps/folders/deeds.py",
    "apps/folders/engine.py",
    "apps/folders/fetching.py",
    "apps/folders/file_content.py",
    "apps/folders/keepers.py",
    "apps/folders/keeping.py",
    "apps/folders/kept_folders.py",
    "apps/folders/kept_store.py",
    "apps/folders/key_ring.py",
    "apps/folders/sealed_contents.py",
    "apps/folders/leaving_out.py",
    "apps/folders/away.py",
    "apps/folders/choosing.py",
    "apps/folders/confirming.py",
    "apps/folders/freeing.py",
    "apps/folders/links.py",
    "apps/folders/live_places.py",
    "apps/folders/live_tree.py",
    "apps/folders/overwriting.py",
    "apps/folders/lying.py",
    "apps/folders/members.py",
    "apps/folders/pacing.py",
    "apps/folders/whole_moves.py",
    "apps/folders/disk.py",
    "apps/folders/facts.py",
    "apps/folders/in_use.py",
    "apps/folders/inotify.py",
    "apps/folders/pacing.py",
    "apps/folders/reading.py",
    "apps/folders/renewing.py",
    "apps/folders/root.py",
    "apps/folders/rounds.py",
    "apps/folders/serving.py",
    "apps/folders/rows.py",
    "apps/folders/scanning.py",
    "apps/folders/swap.py",
    "apps/folders/telling.py",
    "apps/folders/timers.py",
    "apps/folders/turns.py",
    "apps/folders/watch.py",
    "apps/progress_events.py",
    "apps/send/always.py",
    "apps/send/direct.py",
    "apps/send/fetching.py",
    "apps/send/strangers.py",
    "apps/drive/connections.py",
    "apps/drive/listener.py",
    "apps/drive/tree.py",
    "apps/drive/dav.py",
    "apps/drive/fuse.py",
    "apps/drive/lan.py",
    "apps/drive/live_folders.py",
    "apps/drive/login.py",
    "apps/drive/mounts.py",
    "apps/drive/ordering.py",
    "apps/drive/receiving.py",
    "apps/drive/share_disk.py",
    "apps/drive/unfinished.py",
    "apps/drive/whole_tree.py",
    "apps/disks/asking.py",
    "apps/disks/attached.py",
    "apps/disks/blocks.py",
    "apps/disks/devices.py",
    "apps/disks/giving.py",
    "apps/disks/image.py",
    "apps/disks/nbd_server.py",
    "apps/disks/readers.py",
    "apps/disks/serving.py",
    "apps/disks/trees.py",
    "apps/printers/announcing.py",
    "apps/printers/documents.py",
    "apps/printers/endpoint.py",
    "apps/printers/http.py",
    "apps/printers/known.py",
    "apps/printers/letters.py",
    "apps/printers/panel.py",
    "apps/printers/printing.py",
    "apps/printers/queues.py",
    "apps/printers/quotas.py",
    "apps/printers/real.py",
    "apps/printers/sending.py",
    "apps/printers/sharing.py",
    "apps/printers/taking.py",
    "apps/printers/works.py",
    "apps/disks/usb.py",
    "apps/expose/connecting.py",
    "apps/expose/serving.py",
    "apps/internet/accounts.py",
    "apps/internet/dialling.py",
    "apps/internet/exit_door.py",
    "apps/internet/exit_journal.py",
    "apps/internet/exit_machine.py",
    "apps/internet/exit_names.py",
    "apps/internet/exit_networks.py",
    "apps/internet/exit_pings.py",
    "apps/internet/exit_tun.py",
    "apps/internet/exit_whole.py",
    "apps/internet/exits.py",
    "apps/internet/flows.py",
    "apps/internet/offering.py",
    "apps/internet/proxy.py",
    "apps/internet/sharing.py",
    "apps/internet/whereabouts.py",
    "apps/circles/panel.py",
    "apps/contacts/panel.py",
    "apps/expose/web.py",
    "apps/files/files_view.py",
    "apps/files/transfers_view.py",
    "apps/files/trash_view.py",
    "apps/grants/panel.py",
    "home.py",
    "settings.py",
    "incarnation.py",
    "local_http.py",
    "look_up.py",
    "private_file.py",
    "network.py",
    "node.py",
    "reach_note.py",
    "app_host.py",
    "app_context.py",
    "watchdog.py",
    "reach.py",
    "knocking.py",
    "resolving.py",
    "relays.py",
    "services/carry/answers.py",
    "services/carry/beats.py",
    "services/carry/bulk_splice.py",
    "services/carry/calls.py",
    "services/carry/datagrams.py",
    "services/carry/framed.py",
    "services/carry/http_requests.py",
    "services/carry/packets.py",
    "services/carry/splice.py",
    "services/mail/box.py",
    "services/mail/protocol_letters.py",
    "services/mail/room.py",
    "services/mail/store.py",
    "tasks.py",
    "control/*.py",
    "cli/*.py",
    "sim/*.py",
    "testing/*.py",
    "web/calls.py",
    "web/camera.py",
    "web/folders.py",
    "web/going.py",
    "web/health.py",
    "web/home.py",
    "web/live.py",
    "web/page.py",
    "web/panels.py",
    "web/reader.py",
    "web/search.py",
    "web/templates.py",
    "web/uses.py",
    "memory.py",
    "moments.py",
    "apps/invoke.py",
    "services/blobs/exchange.py",
    "services/blobs/fetching.py",
    "services/data/database.py",
    "services/data/records.py",
    "services/data/service.py",
    "services/directory/service.py",
    "services/jobs/service.py",
    "services/jobs/surroundings.py",
    "services/tell/desktop.py",
    "services/tell/service.py",
    "transfer/arrival.py",
    "transfer/arriving.py",
    "transfer/giving_session.py",
    "transfer/discretion.py",
    "transfer/untold.py",
    "web/arrivals.py",
    "web/guard.py",
    "web/phone_view.py",
    "web/phones.py",
    "web/rights.py",
    "web/previews/cage.py",
    "web/previews/decode_child.py",
    "web/previews/decoding.py",
    "web/previews/server.py",
    "web/previews/sources.py",
    "web/previews/thumbs.py",
    "web/shown.py",
    "apps/phone/certificates.py",
    "apps/phone/listeners.py",
    "apps/phone/start_page.py",
    "web/uploads/folder.py",
    "web/uploads/landing.py",
    "web/uploads/server.py",
    "apps/*/commands.py",
    "apps/*/panel.py",
    "apps/contacts/waiting.py",
    "apps/circles/book.py",
    "apps/circles/devices.py",
    "apps/circles/deposits.py",
    "apps/circles/disk.py",
    "apps/circles/peers.py",
    "apps/circles/entering.py",
    "apps/circles/restore.py",
    "transfer/fetch.py",
    "transfer/limits.py",
    "transfer/source_session.py",
    "transfer/meeting.py",
    "apps/*/source.py",
    "transfer/sources.py",
    "transfer/partial_content.py",
    "transfer/stoppable.py",
    "transfer/got.py",
    "apps/*/greeter.py",
    "apps/*/lookups.py",
    "apps/*/searches.py",
    "apps/*/state.py",
    "apps/*/topic.py",
    "apps/*/joining.py",
    "apps/play/here.py",
    "apps/play/media.py",
    "apps/play/choice.py",
    "apps/bittorrent/download.py",
    "apps/bittorrent/downloads.py",
    "apps/bittorrent/engine.py",
    "apps/bittorrent/file_watch.py",
    "apps/bittorrent/old_place.py",
    "apps/bittorrent/playable.py",
    "apps/bittorrent/seeds.py",
    "apps/files/registry.py",
    "transfer/downloads.py",
    "transfer/playable.py",
    "transfer/open_file.py",
    "transfer/read_cache.py",
    "transfer/supply.py",
    "apps/files/own_places.py",
    "apps/files/reading.py",
    "transfer/table.py",
    "transfer/running.py",
    "transfer/receive.py",
    "transfer/landing.py",
    "apps/*/refresh.py",
    "transfer/serve.py",
    "apps/*/shares.py",
    "apps/*/sweeping.py",
    "transfer/target.py",
    "apps/*/service.py",
    "apps/*/trash.py",
    "transfer/unfinished.py",
    "transfer/transfer.py",
    "apps/*/places_protocol.py",
    "transfer/wanted.py",
)

# fmt: off
IMPURE_MODULES = frozenset([
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "http", "io", "mmap", "multiprocessing", "os",
    "pathlib", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver",
    "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib", "uuid", "iroh",
    "uvicorn", "starlette", "click", "rich", "platformdirs", "zeroconf", "libtorrent",
])
# fmt: on
PURE_PARTS = {
    "random": {"Random"},
    "pathlib": {"PurePosixPath", "PurePath"},
    "urllib.parse": {"parse_qs", "parse_qsl", "quote", "unquote", "urlsplit"},
}  # an injected generator; path arithmetic; text
IMPURE_CALLS = {"open", "input", "print", "exec", "eval"}
IMPURE_ATTRIBUTES = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
# Type annotations and declarations only: the narrow context that apps get, and how commands are declared.
DECLARATIONS = {
    "apps/app.py": {"pathlib"},
    "apps/parameter.py": {"pathlib"},
    "apps/files/api.py": {"pathlib"},
}

FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "manager", "common", "base", "misc"}
PACKAGE_INDEX = re.compile(r"pypi\.|index-url|/simple/|registry\.npm|deb\.debian", re.IGNORECASE)
TEXT_ENDINGS = {".py", ".md", ".toml", ".txt", ".cfg", ".yml", ".yaml", ""}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def is_shell(path: Path) -> bool:
    return any(fnmatch(room(path), pattern) for pattern in SHELLS)


def cores() -> list[Path]:
    return [path for path in modules() if not is_shell(path)]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# ---- background work has one owner

STARTS_TASKS = {
    "tasks.py": "the owner itself",
    "driver.py": "one sender for each peer, whose end is the driver's own",
    "net/lanes/bulk_stream.py": "two pumps of one stream, which fail the stream",
    "net/connection.py": "the reader of one connection's datagrams",
    "net/pool.py": "waits for the end of a connection, and cancels that again",
    "transfer/giving_session.py": "a task group",
    "apps/play/media.py": "the media server, awaited at its end",
    "sim/clock.py": "the loop of virtual time",
    "sim/residents.py": "awaited by the simulation",
    "testing/bulk_suite.py": "one scene of one test",
    "testing/transport_suite.py": "one scene of one test",
}


def test_nobody_else_starts_tasks() -> None:
    """What runs in the background belongs to a `Tasks`: it begins anew after a failure, and `doctor` shows it."""
    found = {room(path) for path in modules() if "create_task(" in path.read_text(encoding="utf-8")}
    assert found == set(STARTS_TASKS)


# ---- what a core may not do


def impurities(tree: ast.AST, declared: frozenset[str] | set[str] = frozenset()) -> Iterator[str]:
    """Every reason why `tree` is not a core, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", None) or getattr(getattr(node, "iter", None), "lineno", 0)
        yield from (f"line {line}: {reason}" for reason in _impure(node, declared))


def _impure(node: ast.AST, declared: frozenset[str] | set[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            for name in names:
                top = name.name.partition(".")[0]
                if top in IMPURE_MODULES - declared:
                    yield f"imports {name.name}"
        case ast.ImportFrom(module=str(module), names=names, level=0):
            top = module.partition(".")[0]
            wrong = [n.name for n in names if n.name not in PURE_PARTS.get(module, set())]
            if top in IMPURE_MODULES - declared and wrong:
                yield f"imports {', '.join(wrong)} from {module}"
        case ast.Call(func=ast.Name(id=name)) if name in IMPURE_CALLS:
            yield f"calls {name}()"
        case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=attribute)) if (
            owner == "time" or (owner, attribute) in IMPURE_ATTRIBUTES
        ):
            yield f"calls {owner}.{attribute}()"
        case ast.AsyncFunctionDef(name=name) if not _is_declaration(node):
            yield f"{name} is a coroutine"
        case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            yield "awaits"
        case ast.For(iter=source) | ast.comprehension(iter=source) if _is_unordered(source):
            yield "iterates over a set"


def _is_declaration(node: ast.AsyncFunctionDef) -> bool:
    """A method of a Protocol: a docstring and `...`, nothing that runs."""
    return all(isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in node.body)


def _is_unordered(node: ast.expr) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub(), left=left, right=right):
            return _is_unordered(left) or _is_unordered(right)
        case ast.Call(
            func=ast.Name(id="list" | "tuple" | "enumerate" | "iter" | "reversed"), args=[inner, *_]
        ):
            return _is_unordered(inner)
    return False


def test_no_core_touches_the_world() -> None:
    wrong = [
        f"{room(path)} {reason}"
        for path in cores()
        for reason in impurities(tree_of(path), DECLARATIONS.get(room(path), frozenset()))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio",
        "import os.path",
        "from time import monotonic",
        "import random",
        "from random import Random, random",
        "from pathlib import Path",
        "def f():\n    import socket",
        "open('x')",
        "import datetime\ndatetime.datetime\ndatetime.now()",
        "time.time()",
        "async def f():\n    return 1",
        "for x in {1, 2}: pass",
        "[x for x in set(y)]",
        "for x in list(frozenset(y)): pass",
        "for x in set(a) - b: pass",
    ],
)
def test_the_rule_sees_what_it_forbids(source: str) -> None:
    assert list(impurities(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from random import Random",
        "from pathlib import PurePosixPath",
        "for x in sorted(set(y)): pass",
        "class P:\n    async def f(self) -> int:\n        '''says'''\n        ...",
        "x in {1, 2}",
        "self.time.advance()",
    ],
)
def test_the_rule_lets_cores_be(source: str) -> None:
    assert not list(impurities(ast.parse(source)))


@pytest.mark.parametrize("pattern", SHELLS)
def test_every_listed_shell_exists_and_is_one(pattern: str) -> None:
    matching = [path for path in modules() if fnmatch(room(path), pattern)]
    assert matching, f"{pattern} matches nothing: take it off the list"
    assert any(list(impurities(tree_of(path))) for path in matching), (
        f"{pattern} is a core: take it off the list"
    )


# ---- one exit to the terminal

EXIT_TO_TERMINAL = "cli/terminal.py"


def terminal_writes(tree: ast.AST) -> Iterator[str]:
    """Every place that prints on its own."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "echo" | "secho")):
                yield f"line {node.lineno}: prints"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho")):
                yield f"line {node.lineno}: prints"
            case ast.Call(
                func=ast.Attribute(
                    value=ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"),
                    attr="write" | "writelines",
                ),
                args=[argument],
            ) if "__version__" not in ast.dump(argument):
                yield f"line {node.lineno}: writes to the terminal"
            case ast.Call(func=ast.Attribute(attr="Formatter")):
                yield f"line {node.lineno}: forms the log"


def test_all_text_reaches_the_terminal_and_the_log_by_one_exit() -> None:
    wrong = [
        f"{room(path)} {reason}"
        for path in modules()
        if room(path) != EXIT_TO_TERMINAL
        for reason in terminal_writes(tree_of(path))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "source", ["print(x)", "click.echo(x)", "sys.stderr.write(x)", "f(logging.Formatter('%(message)s'))"]
)
def test_the_rule_sees_other_exits(source: str) -> None:
    assert list(terminal_writes(ast.parse(source)))


# ---- size and names


def test_modules_and_functions_stay_small() -> None:
    wrong = []
    for path in modules():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > LINES_PER_MODULE_MAX:
            wrong.append(f"{room(path)}: {lines} lines")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LINES_PER_FUNCTION_MAX:
                    wrong.append(f"{room(path)}: {node.name} has {length} lines")
    assert not wrong, "\n" + "\n".join(wrong)


def module_name(path: Path) -> str:
    parts = ("coterie", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, known: set[str]) -> set[str]:
    """The modules of `known` that a module names in any import: in functions and for types only, too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.update(name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                whole = {f"{module}.{name.name}" for name in names}
                found.update((whole & known) or {module})
    return found & known


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the one before it, the first the last; empty where there is no such circle."""
    try:
        TopologicalSorter({name: sorted(graph[name] - {name}) for name in sorted(graph)}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for types only, and not later in a function either."""
    trees = {module_name(path): tree_of(path) for path in modules()}
    circle = circle_in({name: imported(tree, set(trees)) for name, tree in trees.items()})
    assert not circle, " is imported by ".join(circle)


@pytest.mark.parametrize(
    "source",
    [
        "import coterie.b",
        "from coterie.b import B",
        "from coterie import b",
        "if TYPE_CHECKING:\n    from coterie.b import B",
        "def later():\n    from coterie.b import B",
    ],
)
def test_the_rule_sees_circles(source: str) -> None:
    known = {"coterie", "coterie.a", "coterie.b", "coterie.c"}
    sources = {"coterie": "", "coterie.a": source, "coterie.b": "from coterie import c", "coterie.c": ""}
    trees = {name: ast.parse(text) for name, text in sources.items()}
    assert circle_in({name: imported(tree, known) for name, tree in trees.items()}) == []
    trees["coterie.c"] = ast.parse("import coterie.a")
    assert set(circle_in({name: imported(tree, known) for name, tree in trees.items()})) == {
        "coterie.a",
        "coterie.b",
        "coterie.c",
    }


def test_names_say_what_things_are() -> None:
    wrong = []
    for path in modules():
        names = [part.removesuffix(".py") for part in path.relative_to(SOURCE).parts]
        names += [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]
        for name in names:
            words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+", name)}
            if words & FORBIDDEN_NAMES:
                wrong.append(f"{room(path)}: {name}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_nothing_is_left_for_later_and_no_error_is_swallowed() -> None:
    wrong = []
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    for path in modules():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if later.search(line):
                wrong.append(f"{room(path)}:{number}: {line.strip()}")
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{room(path)}:{node.lineno}: a bare except")
    assert not wrong, "\n" + "\n".join(wrong)


def project_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:  # an unpacked source archive
        return [
            p for top in ("src", "tests", "docs", "tools") for p in (ROOT / top).rglob("*") if p.is_file()
        ]
    return [
        ROOT / name for name in os.fsdecode(listed.stdout).split("\0") if name and (ROOT / name).is_file()
    ]


def test_no_file_names_a_package_index() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in project_files()
        if path.suffix in TEXT_ENDINGS
        and path != Path(__file__)
        and PACKAGE_INDEX.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not wrong


def test_every_package_says_what_it_is() -> None:
    undocumented = [room(path) for path in modules() if ast.get_docstring(tree_of(path)) is None]
    assert not undocumented


# ---- documentation

EXAMPLE = re.compile(r"<!-- test -->\s*\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """(where, source) of every block of Python that follows a `<!-- test -->` line."""
    pages = [p for p in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if p.exists()]
    found = []
    for page in pages:
        for number, source in enumerate(EXAMPLE.findall(page.read_text(encoding="utf-8")), 1):
            found.append((f"{page.relative_to(ROOT)}#{number}", source))
    return found


@pytest.mark.parametrize("source", [pytest.param(source, id=where) for where, source in examples()])
def test_documented_examples_run(source: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(source, encoding="utf-8")
    folder = tmp_path / "here"
    folder.mkdir()
    settings = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-W", "error::RuntimeWarning", str(script)]
    result = subprocess.run(
        command, cwd=folder, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in sorted((ROOT / "docs").rglob("*.md"))])
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize(
    "module", ["node", "reach", "relays", "network", "control/doctor_node", "control/doctor_peer"]
)
def test_who_is_known_is_asked_of_the_directory_of_people_and_of_no_app(module: str) -> None:
    source = (SOURCE / f"{module}.py").read_text(encoding="utf-8")
    named = re.findall(r"\bcircles\.\w+|\"circles\"|\b(?:node|self)\.contacts\.\w+", source)
    assert not named, f"{module} asks {named}: ask node.people"


KNOW_NO_APP = (
    "node.py", "app_host.py", "app_context.py", "watchdog.py", "access/resource.py", "access/enforcer.py",
    "services/directory/core.py", "services/directory/service.py", "control/permissions.py",
    "cli/catalog.py", "cli/complete.py", "cli/program.py",
)  # fmt: skip


@pytest.mark.parametrize("module", KNOW_NO_APP)
def test_what_serves_all_apps_names_none_and_no_kind_of_resources(module: str) -> None:
    names = {folder.name for folder in (SOURCE / "apps").iterdir() if (folder / "app.py").exists()}
    kinds = {kind.name for kind in declared_kinds()} - {PROTOCOL.name}
    assert {"files", "service"} <= kinds
    tree = ast.parse((SOURCE / module).read_text(encoding="utf-8"))
    said = [
        f"line {node.lineno}: {node.value}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in names | kinds
    ]
    imported = [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("coterie.apps.")
        if (node.module or "").split(".")[2] in names
    ]
    assert len(names) >= 5
    assert not said + imported


def test_no_service_names_an_app() -> None:
    names = set(apps_of_ours())
    said = [
        f"{room(path)}:{node.lineno}: {node.value}"
        for path in modules()
        if room(path).startswith("services/")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert not said


def apps_of_ours() -> dict[str, ast.Module]:
    """Each app's name, and the module that declares it."""
    folders = [folder for folder in (SOURCE / "apps").iterdir() if (folder / "app.py").exists()]
    return {folder.name: tree_of(folder / "app.py") for folder in sorted(folders)}


def required_by(declaration: ast.Module) -> set[str]:
    """What an app names in `requires`."""
    given = [
        k.value
        for n in ast.walk(declaration)
        if isinstance(n, ast.Call)
        for k in n.keywords
        if k.arg == "requires"
    ]
    return {str(name) for value in given for name in ast.literal_eval(value)}


def test_nothing_breaks_where_an_app_is_deleted() -> None:
    """Whoever imports of an app is another that requires it, and imports its `api` only."""
    apps = apps_of_ours()
    wrong = []
    for path in modules():
        here = path.relative_to(SOURCE).parts
        mine = here[1] if here[0] == "apps" and len(here) > 2 else ""
        for node in ast.walk(tree_of(path)):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            named += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in named:
                top, *parts = [*module.split("."), "", "", ""][:4]
                if (top, parts[0]) != ("coterie", "apps") or parts[1] not in apps or parts[1] == mine:
                    continue
                if parts[2] != "api" or mine not in apps or parts[1] not in required_by(apps[mine]):
                    wrong.append(f"{room(path)}: {module}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_nothing_is_left_over_at_the_root() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    at_the_root = {path.partition("/")[0] for path in listed.splitlines()}
    assert at_the_root <= {
        ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md",
        "bench", "constraints.txt", "docs", "pyproject.toml", "src", "tests", "tools",
    }  # fmt: skip
