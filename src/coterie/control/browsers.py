"""Who may use the page: browsers that were opened with a key of one use, each with rights of its own.

A key lives in memory for `KEY_LASTS_S` and opens the page once; the browser then has a cookie. On disk is the hash of
the cookie only. The file is the truth: every request asks whether it has changed, so a browser that another process
removed is out at once.
"""

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from coterie.access.names import NAME_CHARS_MAX
from coterie.decoding import decoder
from coterie.errors import LimitExceeded, NotFound, StorageError
from coterie.private_file import write_private
from coterie.texts import tr

EVERYTHING = "everything"  # the right of the owner's own browsers
KEY_LASTS_S = 60.0  # guess: a browser that starts cold on a slow disk
KEYS_MAX = 16  # at once, the oldest leaves
SECRET_BYTES = 32
BROWSERS_MAX = 64  # guess: every browser of every device of a person
DISUSE_S = 30 * 86_400.0  # who was not here for so long has to be opened anew
SEEN_EVERY_S = 3_600.0  # the disk learns so often that a browser was here
FILE_BYTES_MAX = 256 * 1024
_NAMES = (
    (re.compile(r"Edg/"), "Edge"),
    (re.compile(r"OPR/"), "Opera"),
    (re.compile(r"Firefox/"), "Firefox"),
    (re.compile(r"Chrom(e|ium)/"), "Chromium"),
    (re.compile(r"Safari/"), "Safari"),
)
_SYSTEMS = (
    (re.compile(r"iPhone|iPad"), "iPhone"),
    (re.compile(r"Android"), "Android"),
    (re.compile(r"Windows"), "Windows"),
    (re.compile(r"Mac OS X"), "macOS"),
    (re.compile(r"Linux|X11"), "Linux"),
)


class Browser(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that may use the page.

    Fields:
        id: short, for people.
        name: what lists call it.
        rights: what it may do; `EVERYTHING` for the owner's own.
        created, seen: seconds since 1970.
        digest: SHA-256 of its cookie, in hexadecimal.
    """

    id: str
    name: str
    rights: tuple[str, ...]
    created: float
    seen: float
    digest: str

    def may(self, right: str) -> bool:
        """Whether it has this right."""
        return EVERYTHING in self.rights or right in self.rights


class _Key(msgspec.Struct, frozen=True):
    until: float
    name: str
    rights: tuple[str, ...]


class Browsers:
    """The browsers of one node's owner. `path`: a file of the owner only."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since 1970."""
        self._path = path
        self._clock = clock
        self._keys: dict[str, _Key] = {}
        self._known: dict[str, Browser] = {}  # by digest
        self._read_at: tuple[int, int] | None = None

    # ---- letting one in

    def new_key(self, name: str = "", rights: Iterable[str] = (EVERYTHING,)) -> str:
        """A key of one use: who shows it within `KEY_LASTS_S` becomes a browser called `name` with these `rights`."""
        key = secrets.token_urlsafe(SECRET_BYTES)
        while len(self._keys) >= KEYS_MAX:
            del self._keys[next(iter(self._keys))]
        self._keys[_digest(key)] = _Key(self._clock() + KEY_LASTS_S, name, tuple(rights))
        return key

    def redeem(self, key: str, agent: str, known: Browser | None = None) -> tuple[Browser, str] | None:
        """The browser that shows `key`, and the secret for its cookie; None: the key is unknown, used or too old.

        `agent`: what it says of itself (`User-Agent`). `known`: the browser that shows it, where it is in already; with
        all rights of the key it stays as it is, and the secret is "".

        Raises:
            LimitExceeded: BROWSERS_MAX are known already.
            StorageError: the file cannot be written.
        """
        found = self._keys.pop(_digest(key), None)
        now = self._clock()
        if found is None or now > found.until:
            return None
        if known is not None and all(known.may(right) for right in found.rights):
            return known, ""
        listed = self.all()
        if len(listed) >= BROWSERS_MAX:
            raise LimitExceeded(
                tr(
                    "{browsers_max} browsers may use the page already: `coterie browsers remove` takes one off",
                    browsers_max=BROWSERS_MAX,
                )
            )
        secret = secrets.token_urlsafe(SECRET_BYTES)
        taken = {browser.id for browser in listed}
        browser = Browser(
            id=next(made for made in iter(lambda: secrets.token_hex(3), "") if made not in taken),
            name=(found.name or say_agent(agent))[:NAME_CHARS_MAX],
            rights=found.rights,
            created=now,
            seen=now,
            digest=_digest(secret),
        )
        self._known[browser.digest] = browser
        self._write()
        return browser, secret

    # ---- who is in

    def find(self, secret: str) -> Browser | None:
        """The browser whose cookie this is; it is seen now."""
        self._read()
        digest = _digest(secret)
        browser = self._known.get(digest)
        now = self._clock()
        if browser is None or not hmac.compare_digest(browser.digest, digest):
            return None
        if now - browser.seen > DISUSE_S:
            return None
        if now - browser.seen > SEEN_EVERY_S:
            browser = self._known[digest] = msgspec.structs.replace(browser, seen=now)
            self._write()
        return browser

    def still(self, browser: Browser) -> Browser | None:
        """The same browser as it is now: its rights may be others, or it was removed."""
        self._read()
        return self._known.get(browser.digest)

    def all(self) -> list[Browser]:
        """Every browser that may use the page, the one seen last at the end."""
        self._read()
        now = self._clock()
        return sorted((b for b in self._known.values() if now - b.seen <= DISUSE_S), key=lambda b: b.seen)

    def remove(self, called: str) -> Browser:
        """Take away the page from the browser with this id or name.

        Raises:
            NotFound: there is none, or several have the name.
            StorageError: the file cannot be written.
        """
        known = self.all()
        meant = [b for b in known if b.id == called] or [b for b in known if b.name == called]
        if len(meant) != 1:
            raise NotFound(
                tr(
                    "there is no browser '{called}', or several are called so: `coterie browsers` shows their ids",
                    called=called,
                )
            )
        del self._known[meant[0].digest]
        self._write()
        return meant[0]

    def _read(self) -> None:
        try:
            now = os.stat(self._path)
        except OSError:
            self._known, self._read_at = {}, None
            return
        stamp = now.st_mtime_ns, now.st_ino
        if stamp == self._read_at:
            return
        try:
            with open(self._path, "rb") as file:
                known = read_browsers(file.read(FILE_BYTES_MAX))
        except (OSError, StorageError):
            known = []  # nobody is let in by a file that says nothing
        self._known, self._read_at = {b.digest: b for b in known}, stamp

    def _write(self) -> None:
        now = self._clock()
        kept = [b for b in self._known.values() if now - b.seen <= DISUSE_S]
        write_private(self._path, msgspec.json.encode(kept), noun=tr("the list of browsers"))
        self._read_at = None


@decoder(StorageError, "the list of browsers")
def read_browsers(raw: bytes) -> list[Browser]:
    """What the file says."""
    return msgspec.json.decode(raw, type=list[Browser])


def say_agent(agent: str) -> str:
    """What a `User-Agent` says, for people: "Firefox on Linux"."""
    name = next((name for found, name in _NAMES if found.search(agent)), tr("a browser"))
    system = next((name for found, name in _SYSTEMS if found.search(agent)), "")
    return tr("{name} on {system}", name=name, system=system) if system else name


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
