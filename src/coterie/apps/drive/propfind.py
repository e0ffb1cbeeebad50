"""What folders and files are, as WebDAV tells it (RFC 4918, 9.1): written as text, for folders of thousands.

wsgidav builds a tree of elements for each file, which takes most of two seconds for 10,000. What it alone knows, locks
and the properties that programs have set, is asked of it where there is any.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from wsgidav import util, xml_tools
from wsgidav.dav_error import (
    HTTP_BAD_REQUEST,
    HTTP_NOT_FOUND,
    DAVError,
    as_DAVError,
    get_http_status_string,
)

from coterie.apps.drive.dav import File, Folder, Provider

_DAV = "{DAV:}"
_HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">'
_TAIL = "</D:multistatus>"
_SAFE = "/!*'(),$-_|."  # as wsgidav's own addresses
_LOCKS = (
    "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
    "<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
)

Resource = Folder | File
Value = str | None
"""Text or elements, ready to be written; None: there is no such property."""


def _time(resource: Resource) -> Value:
    seconds = resource.get_last_modified()
    return util.get_rfc1123_time(seconds) if seconds is not None else None


def _number(value: int | None) -> Value:
    return None if value is None else str(value)


_LIVE: dict[str, Callable[[Resource], Value]] = {
    "resourcetype": lambda r: "<D:collection/>" if isinstance(r, Folder) else "",
    "getcontentlength": lambda r: str(r.seen.size) if isinstance(r, File) else None,
    "getcontenttype": lambda r: r.get_content_type() if isinstance(r, File) else None,
    "getlastmodified": _time,
    "displayname": lambda r: escape(r.name),
    "getetag": lambda r: f'"{r.get_etag()}"' if isinstance(r, File) else None,
    "supportedlock": lambda r: _LOCKS,
}
_QUOTA: dict[str, Callable[[Resource], Value]] = {
    "quota-used-bytes": lambda r: _number(r.seen.size or None),
    "quota-available-bytes": lambda r: _number(r.get_available_bytes()) if isinstance(r, Folder) else None,
}  # RFC 4331: only where they are asked for
_ALL = (*_LIVE, "lockdiscovery")


def propfind(
    provider: Provider, environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """The answer to one PROPFIND of depth 0 or 1."""
    resource = provider.get_resource_inst(environ["PATH_INFO"], environ)
    if resource is None:
        raise DAVError(HTTP_NOT_FOUND, environ["PATH_INFO"])
    mode, names = _asked(environ)
    members = (
        resource.get_member_list() if environ["HTTP_DEPTH"] == "1" and isinstance(resource, Folder) else []
    )
    has_locks = any(
        provider.lock_manager.storage.get_lock_list(
            "/", include_root=True, include_children=True, token_only=True
        )
    )
    manager = provider.prop_manager
    noted = manager.noted_in(resource.get_ref_url()) if members else {}
    own = manager.get_properties(resource.get_ref_url())
    written = [_HEAD, _response(resource, mode, names, own, has_locks=has_locks)]
    for one in members:
        dead = noted.get(quote(one.name), [])
        written.append(_response(one, mode, names, dead, has_locks=has_locks))
    written.append(_TAIL)
    body = "".join(written).encode("utf-8", "replace")
    headers = [
        ("Content-Type", "application/xml; charset=utf-8"),
        ("Date", util.get_rfc1123_time()),
        ("Content-Length", str(len(body))),
    ]
    start_response("207 Multi-Status", headers)
    return [body]


def _asked(environ: dict[str, Any]) -> tuple[str, list[str]]:
    """What the body of a PROPFIND asks for: "allprop", "name" or "named" with the names. Raises `DAVError`."""
    asked = util.parse_xml_body(environ, allow_empty=True)
    if asked is None:
        return "allprop", []
    if asked.tag != f"{_DAV}propfind":
        raise DAVError(HTTP_BAD_REQUEST)
    modes = {f"{_DAV}allprop": "allprop", f"{_DAV}propname": "name", f"{_DAV}prop": "named"}
    found = [(modes[child.tag], child) for child in asked if child.tag in modes]
    if len({mode for mode, _ in found}) != 1:
        raise DAVError(HTTP_BAD_REQUEST)
    return found[0][0], [one.tag for mode, child in found if mode == "named" for one in child]


def _response(resource: Resource, mode: str, names: list[str], dead: list[str], *, has_locks: bool) -> str:
    wanted = names if mode == "named" else [*(_DAV + name for name in _ALL), *dead]
    there: list[str] = []
    failed: dict[str, list[str]] = {}
    for name in wanted:
        try:
            there += _property(
                resource, name, has_locks=has_locks, is_dead=name in dead, values=mode != "name"
            )
        except DAVError as error:
            if mode == "named":
                failed.setdefault(get_http_status_string(error), []).append(_tag(name, None))
    path = resource.path if isinstance(resource, File) or resource.path.endswith("/") else f"{resource.path}/"
    path = f"{resource.provider.mount_path}{resource.provider.share_path}{path}"
    parts = [f"<D:response><D:href>{escape(quote(path, safe=_SAFE))}</D:href>"]
    for status, written in (("200 OK", there), *failed.items()):
        if written:
            parts.append(
                f"<D:propstat><D:prop>{''.join(written)}</D:prop><D:status>HTTP/1.1 {status}</D:status></D:propstat>"
            )
    return "".join([*parts, "</D:response>"])


def _property(
    resource: Resource, name: str, *, has_locks: bool, is_dead: bool, values: bool
) -> Iterator[str]:
    """One property as it is written. Raises `DAVError`: there is none."""
    short = name.removeprefix(_DAV) if name.startswith(_DAV) else ""
    make = _LIVE.get(short) or _QUOTA.get(short)
    if make is not None:
        value = make(resource)
        if value is None:
            raise DAVError(HTTP_NOT_FOUND)
        yield f"<D:{short}>{value}</D:{short}>" if value and values else f"<D:{short}/>"
    elif short == "lockdiscovery" and not has_locks:
        yield "<D:lockdiscovery/>"
    elif short == "lockdiscovery" or is_dead:
        try:
            element = resource.get_property_value(name)
        except Exception as error:  # noqa: BLE001  (wsgidav's own: one property fails, not the listing)
            raise as_DAVError(error) from None
        if values and xml_tools.is_etree_element(element):
            yield ElementTree.tostring(element, encoding="unicode")
        else:
            yield _tag(name, None)
    else:
        raise DAVError(HTTP_NOT_FOUND)


def _tag(name: str, value: Value) -> str:
    """An element of any namespace."""
    element = ElementTree.Element(name)
    element.text = value
    return ElementTree.tostring(element, encoding="unicode")
