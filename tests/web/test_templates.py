"""What templates make of texts."""

import asyncio

import pytest

from coterie.web.templates import Templates


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("try `coterie up` now", "<p>try <code>coterie up</code> now</p>"),
        ("`a <b>` & c", "<p><code>a &lt;b&gt;</code> &amp; c</p>"),
        ("a ` alone", "<p>a ` alone</p>"),
        ("`one` and ` alone", "<p><code>one</code> and ` alone</p>"),
    ],
)
def test_what_stands_between_backticks_is_code(said: str, shown: str) -> None:
    assert shown in asyncio.run(Templates({}).render("toast.html", said=said, error=False))
