"""A folder of the drive in a browser: a list of links, and nothing that could run."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from coterie.apps.drive.dav import Folder, Provider
from coterie.quantity import say_bytes


def page_of(
    provider: Provider, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes] | None:
    """The page of the folder that is asked for; None: it is none."""
    folder = provider.get_resource_inst(environ["PATH_INFO"], environ)
    if not isinstance(folder, Folder):
        return None
    top = quote(f"{provider.mount_path}{provider.share_path}/{folder.place}".rstrip("/"))
    title = escape(folder.place or "coterie")
    rows = [Markup('<li><a href="{}/">..</a></li>').format(top.rpartition("/")[0])] if folder.place else []
    for seen in folder.listing().values():
        end = "/" if seen.kind == "folder" else ""
        size = "" if end else say_bytes(seen.size)
        row = Markup('<li><a href="{}/{}{}">{}{}</a> {}</li>')
        rows.append(row.format(top, quote(seen.name), end, seen.name, end, size))
    page = Markup('<!doctype html><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><ul>{1}</ul>\n')
    body = str(page.format(title, Markup("").join(rows))).encode("utf-8", "replace")
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
