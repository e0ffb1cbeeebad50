"""What apps show: panels of third parties are found, a broken one is left out, and rights open what a panel says."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from coterie.apps.invoke import load_commands
from coterie.apps.panel import Card, Live, Panel, Row, View
from coterie.control.browsers import Browser
from coterie.web.panels import Panels
from coterie.web.templates import Templates
from tests.support import run

GUESTBOOK = Panel(
    views=(View(name="guests", title="Guestbook", icon="pencil", template="guestbook/all.html", place=60),),
    lives=(Live(name="lines", template="guestbook/line.html", rows=lambda reader: [Row("1", "<b>hello")]),),
    cards=(Card(title="Guests", icon="pencil", live="guestbook.lines"),),
    rights={"look": ("inbox",)},
)


def browser(*rights: str) -> Browser:
    return Browser(id="1", name="b", rights=rights, created=0, seen=0, digest="")


@pytest.fixture
def guestbook(tmp_path: Path) -> Iterator[ModuleType]:
    module = ModuleType("guestbook_panel")
    module.PANEL = GUESTBOOK  # type: ignore[attr-defined]
    module.__file__ = str(tmp_path / "panel.py")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "line.html").write_text("{{ row }}")
    sys.modules["guestbook_panel"] = module
    yield module
    del sys.modules["guestbook_panel"]


def found(**panels: str) -> Panels:
    return Panels(
        SimpleNamespace(apps={name: SimpleNamespace(panel=panel) for name, panel in panels.items()}), []
    )


def test_a_panel_of_a_third_party_is_shown(guestbook: ModuleType) -> None:
    panels = found(guestbook="guestbook_panel:PANEL")
    assert [view.title for view in panels.navigation(browser("look"))] == ["Guestbook"]
    assert [card.title for _, card in panels.cards(browser("everything"), "home")] == ["Guests"]
    assert panels.navigation(browser()) == []
    assert panels.cards(browser(), "home") == []
    templates = Templates(panels.folders)
    (live,) = GUESTBOOK.lives
    row = run(templates.row("guestbook", live, Row("1", "<b>hello")))
    assert row == '<li class="row" data-key="1">&lt;b&gt;hello</li>'


def test_a_broken_panel_is_left_out_and_the_others_stay(
    guestbook: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    panels = found(gone="no_such_module:PANEL", wrong="sys:path", plain="", guestbook="guestbook_panel:PANEL")
    assert [view.name for view in panels.navigation(browser("everything"))] == ["guests"]
    assert [record.getMessage() for record in caplog.records] == [
        "the panel of the app 'gone' cannot be loaded",
        "the panel of the app 'wrong' cannot be loaded",
    ]


def test_rights_open_the_commands_that_a_panel_names() -> None:
    panels = Panels(SimpleNamespace(apps={}), [("send", GUESTBOOK)])
    commands = {" ".join(c.path): c for c in load_commands("send", "coterie.apps.send.commands")}
    assert panels.may_call(browser("look"), commands["inbox"])
    assert not panels.may_call(browser("look"), commands["inbox accept"])
    assert not panels.may_call(browser("answer"), commands["inbox"])
    assert panels.may_call(browser("everything"), commands["inbox accept"])
