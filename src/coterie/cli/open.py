"""`coterie open`: the page of this computer in the browser.

The address has a key of one use in it. A browser gets it in a file of the owner only, as the arguments of a program can
be read by other users of the computer.
"""

import html
import os
import sys
import webbrowser
from typing import Any

import click

from coterie.cli.lifecycle import answering, start_in_background
from coterie.cli.options import global_options, remember
from coterie.cli.show import Show
from coterie.cli.terminal import say
from coterie.home import Home
from coterie.private_file import write_private
from coterie.texts import tr, translated

FILE = "open.html"  # in the folder of the running node


@click.pass_context
def _call_open(context: click.Context, /, only_print: bool, **given: Any) -> None:
    options = remember(context, given)
    home = Home.locate(options.home)
    client = answering(home)
    if client is None:
        start_in_background(home)
        client = answering(home)
        if not options.quiet:
            say(tr("coterie runs in the background now; `coterie down` stops it"))
    if client is None:
        return
    opened = client.open_page()
    if only_print or not _opens(home, opened["url"]):
        text = tr("{url}\n  opens the page once, within {lasts_s:.0f} s", **opened)
        Show(options).line({"result": opened, "text": text})
        return
    Show(options).line({"result": {"page": opened["page"]}, "text": tr("The page opens: {page}", **opened)})


def _opens(home: Home, url: str) -> bool:
    """Whether a browser with windows was found; it is given a file that sends it on."""
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER")
    if sys.platform not in ("win32", "darwin") and not has_screen:
        return False
    file = home.run / FILE
    text = (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={html.escape(url)}">'
    )
    write_private(file, text.encode())
    try:
        return webbrowser.open(file.as_uri())
    except webbrowser.Error:
        return False


OPEN = click.Command(
    name="open",
    help=translated("Open the page of this computer in the browser; starts the node where it does not run."),
    params=[
        click.Option(["only_print", "--print"], is_flag=True, help=translated("Print the address instead.")),
        *global_options(),
    ],
    callback=_call_open,
)
