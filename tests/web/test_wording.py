"""Texts of commands as the page says them: no form speaks the command line."""

import re

import pytest
from markupsafe import Markup

from coterie.access.resource import PROTOCOL, ResourceKind, Verb
from coterie.apps.command import PURPOSES, Command
from coterie.cli.catalog import Branch, Catalog
from coterie.texts import speaking, translated
from coterie.web.forms import fields_of
from coterie.web.wording import FIRST, Wording, by_purpose, in_words, title_of, without_command


def all_commands() -> list[Command]:
    catalog = Catalog()

    def below(branch: Branch | None) -> list[Command]:
        if branch is None:
            return []
        own = [branch.command] if branch.command is not None else []
        return own + [command for child in branch.children.values() for command in below(child)]

    return [command for word in catalog.words() for command in below(catalog.find(word))]


COMMANDS = all_commands()
FIRST_WORDS = "|".join(sorted({command.path[0] for command in COMMANDS}))
COMMAND_LINE = re.compile(rf"--|Ctrl|Strg|`|\bcoterie ({FIRST_WORDS})\b")
WORDING = Wording(COMMANDS)


def called(words: str) -> Command:
    return next(command for command in COMMANDS if " ".join(command.path) == words)


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_text_of_a_form_speaks_the_command_line(language: str) -> None:
    wrong = []
    with speaking(language):
        for command in COMMANDS:
            own = (
                command.title,
                command.summary,
                command.details,
                command.empty_text,
                command.interrupt_text,
            )
            said = [translated(text) for text in own] + [field.help for field in fields_of(command)]
            for text in said:
                shown = WORDING(text, command).striptags()
                if COMMAND_LINE.search(shown):
                    wrong.append((command.path, shown))
    assert not wrong


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("kept (`coterie trash`).", 'kept (<a href="/do/files/trash">Trash</a>).'),
        ("No transfers: coterie get TICKET", 'No transfers: <a href="/do/files/get">Get something</a>'),
        (
            "`coterie circle new NAME` makes one",
            '<a href="/do/circles/circle-new">Make a circle</a> makes one',
        ),
        ("until `jobs resume`; then", 'until <a href="/do/node/jobs-resume">Go on with a job</a>; then'),
        ("set `bind`", "set <code>bind</code>"),
        ("coterie then fetches", "coterie then fetches"),
        ("a `lone backtick", "a `lone backtick"),
        ("<b> & `<i>`", "&lt;b&gt; &amp; <code>&lt;i&gt;</code>"),
        ("coterie get <script>", '<a href="/do/files/get">Get something</a> &lt;script&gt;'),
    ],
)
def test_a_command_is_a_link_to_its_form(text: str, shown: str) -> None:
    assert WORDING(text) == Markup(shown)


def test_an_option_is_the_label_of_its_control() -> None:
    share = called("share")
    assert WORDING("with --update none", share) == "with “Update” none"
    assert WORDING("with `--no-update`", share) == "with not “Update”"
    assert WORDING("with `--unheard-of`", share) == "with <code>--unheard-of</code>"
    assert WORDING("with --update none") == "with --update none"


def test_titles_are_short_and_say_one_thing_each() -> None:
    declared = [command for command in COMMANDS if command.title]
    assert len(declared) > 90
    assert max(len(command.title) for command in declared) <= 40
    shown = [title_of(command) for its in by_purpose(COMMANDS).values() for command in its]
    assert len(shown) == len({*shown})


def test_what_people_do_first_comes_first_and_nothing_is_lost() -> None:
    purposes = by_purpose(COMMANDS)
    assert tuple(purposes)[: len(PURPOSES)] == PURPOSES
    assert [command.path[0] for command in purposes["Share and get"]][:5] == [*FIRST[:5]]
    assert [command.path[0] for command in purposes["People"]][:2] == ["invite", "join"]
    shown = {title_of(command) for its in purposes.values() for command in its}
    assert shown == {title_of(command) for command in COMMANDS}


def test_a_command_without_a_title_is_called_by_the_beginning_of_its_summary() -> None:
    import msgspec

    share = msgspec.structs.replace(called("share"), title="")
    assert title_of(share) == "Share a file or folder"


def test_resources_are_called_as_people_do() -> None:
    say = in_words(
        [
            PROTOCOL,
            ResourceKind("files", Verb.READ, "shares", called="the share"),
            ResourceKind("x", Verb.USE, ""),
        ]
    )
    assert say("contacts may read files/My photos, use protocol/chat") == (
        "contacts may read the share My photos, use the protocol chat"
    )
    assert say("x/y and a/files/b") == "x/y and a/files/b"
    assert in_words([])("files/a") == "files/a"


def test_the_command_line_at_the_end_of_a_text_is_left_out_where_a_button_does_it() -> None:
    summary = called("send").summary
    assert "`coterie send" in summary
    assert without_command(summary) == "Send files and folders to a person, who takes or declines them."
    assert without_command("3 files went; again: coterie folder keep Plans") == "3 files went"
    assert without_command("Ask `coterie ls`: it lists.") == "Ask `coterie ls`: it lists."
