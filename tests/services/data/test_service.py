"""The data of apps through a whole node: damage stops nothing, settings, quotas, a line in the status."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from coterie.apps.app import App
from coterie.errors import UsageError
from coterie.node import Node
from coterie.services.data.service import LISTS_MAX, Data
from coterie.settings import Config
from tests.support import run


class Entry(msgspec.Struct):
    id: str
    created: float
    name: str = ""


class Settings(msgspec.Struct):
    colour: str = "red"
    pages: int = 10


def data(folder: Path, **settings: Any) -> Data:
    return Data(folder, "guestbook", settings, lambda text, key: None)


class Guestbook:
    def __init__(self, context: Any) -> None:
        self.context = context
        self.settings = context.data.settings(Settings)
        self.entries = context.data.records("entries", Entry, "entry", many=True)
        self.few = context.data.records("few", Entry, "page")
        self.database = context.data.database(["CREATE TABLE seen (peer TEXT)"])

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        self.few.save(Entry("last", 9.0))


GUESTBOOK = App(name="guestbook", summary="", create=Guestbook, commands="")


def test_an_app_keeps_its_data_and_damage_is_a_notice(tmp_path: Path) -> None:
    folder = tmp_path / "apps" / "guestbook"

    async def scene() -> None:
        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            node.guestbook.entries.save(Entry("a", 1.0, "anna"))
            node.guestbook.database.execute("INSERT INTO seen VALUES ('anna')")
            said = node.status()
            assert said.services["data guestbook"]["records"] == 1
            assert "data guestbook 1 record, " in " ".join(said.text().split())
            assert " kept, 1.0 GB at most" in said.text()
        (folder / "few" / "bad.json").write_bytes(b"{")
        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            assert [r.name for r in node.guestbook.entries] == ["anna"]
            assert [r.id for r in node.guestbook.few] == ["last"]
            [notice] = node.notices.all()
            assert notice.app == "guestbook"
            assert notice.said.startswith("the page bad was damaged")
        (folder / "data.db").write_bytes(b"no database at all" * 100)
        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            assert len(node.guestbook.entries) == 0
            assert len(node.notices.all()) == 2

    run(scene())


@pytest.mark.parametrize("app", ["files", "contacts", "grants"])
def test_our_own_apps_start_with_a_damaged_record(tmp_path: Path, app: str) -> None:
    """Before, such a record ended the app at its start."""
    lists = {"files": "shares", "contacts": "contacts", "grants": "given"}

    async def scene() -> None:
        async with Node.open(tmp_path, offline=True):
            pass
        (tmp_path / "apps" / app / lists[app] / "bad.json").write_bytes(b'{"id":"bad"')
        async with Node.open(tmp_path, offline=True) as node:
            assert node.status().app_troubles == []
            [notice] = node.notices.all()
            assert (notice.app, "bad was damaged" in notice.said) == (app, True)

    run(scene())


def test_settings_of_an_app_stand_in_its_section(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[app.guestbook]\ncolour = "blue"\nquota = "1MB"\n')

    async def scene() -> None:
        async with Node.open(tmp_path, offline=True, apps=[GUESTBOOK]) as node:
            assert node.guestbook.settings == Settings("blue", 10)
            assert node.status().services["data guestbook"]["bytes at most"] == 1_000_000
            Config.load(tmp_path / "config.toml").changed("name", "anna").save(tmp_path / "config.toml")
        assert Config.load(tmp_path / "config.toml").app["guestbook"]["colour"] == "blue"

    run(scene())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"color": "blue"}, r"\[app.guestbook\]: unknown key 'color'; known: colour, pages, quota"),
        ({"pages": "many"}, r"\[app.guestbook\]: pages: Expected `int`, got `str`"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, section: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        data(tmp_path, **section).settings(Settings)


@pytest.mark.parametrize("quota", ["much", -1, [], True, 1.5e400])
def test_a_wrong_quota_is_named(tmp_path: Path, quota: Any) -> None:
    with pytest.raises(UsageError, match=r"\[app.guestbook\]: quota must be a size like"):
        data(tmp_path, quota=quota).records("a", Entry, "entry")


def test_the_file_says_what_an_app_is_set_to_and_the_command_does_not_change_it() -> None:
    with pytest.raises(UsageError, match=r"in its section \[app.NAME\]"):
        Config(name="anna").changed("app.guestbook.colour", "red")
    with pytest.raises(UsageError, match="app"):
        Config.parse("app = 1")


def test_lists_are_bounded_and_named(tmp_path: Path) -> None:
    own = data(tmp_path)
    for number in range(LISTS_MAX):
        own.records(f"list_{number}", Entry, "entry")
    for name, said in (
        ("more", f"one more than {LISTS_MAX}"),
        ("list_0", "open already"),
        ("../up", "no name"),
    ):
        with pytest.raises(UsageError, match=said):
            own.records(name, Entry, "entry")


def test_an_app_that_keeps_nothing_costs_nothing(tmp_path: Path) -> None:
    own = data(tmp_path)
    assert own.status() == {}
    own.close()
    assert list(tmp_path.iterdir()) == []
