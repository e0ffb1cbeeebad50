"""The page in a real browser: it opens, stays true, and everything on it can be used by everybody."""

import re

import pytest
from playwright.sync_api import expect

from tests.web.conftest import Computer, Visits, axe

PAGES = ("/", "/do", "/do/files/share", "/do/contacts/invite", "/do/node/status")


def test_home_shows_who_is_here(visit: Visits, anna: Computer, berta: Computer) -> None:
    page = visit(anna).page
    person = page.locator("[data-live='node.people'] .row")
    expect(person).to_have_count(1)
    expect(person).to_contain_text(berta.name)
    expect(person).to_contain_text("here now")


def test_the_forms_do_what_commands_do(visit: Visits, anna: Computer) -> None:
    here = visit(anna)
    page = here.goto("/do/node/id")
    page.get_by_role("button", name="Go").click()
    expect(page.locator("#result")).to_contain_text(anna.json("id")["id"])
    page = here.goto("/do/node/may")
    page.get_by_label("Computer").fill("nobody")
    page.get_by_label("Verb").fill("read")
    page.get_by_label("Resource").fill("files/x")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("alert").first).to_contain_text("'nobody' is nobody known here")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit: Visits, anna: Computer, theme: str) -> None:
    here = visit(anna, color_scheme=theme)
    wrong = {}
    for path in PAGES:
        page = here.goto(path)
        if found := axe(page):
            wrong[path] = found
    assert not wrong


def test_german_readers_get_german(visit: Visits, anna: Computer) -> None:
    page = visit(anna, locale="de-DE").page
    expect(page.locator("html")).to_have_attribute("lang", re.compile("de"))
