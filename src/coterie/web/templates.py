"""The templates of the page and of panels, and what they may call."""

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from coterie.apps.panel import Live, Row
from coterie.errors import StorageError
from coterie.moments import is_iso, said
from coterie.plain_text import lines
from coterie.private_file import write_private
from coterie.quantity import duration, say_bytes
from coterie.texts import accept_language, tr, tr_count, translated
from coterie.web.results import shape
from coterie.web.wording import Wording, address_of, title_of, without_command

HERE = Path(__file__).parent
STATIC = HERE / "static"
COMPILE_LATER_S = 1.0  # until templates are compiled that the first page does not need
COMPILE_PAUSE_S = 0.03  # after each of them; one takes 5 to 15 ms


class Templates:
    """Renders templates; those of an app are "APP/FILE.html", those of the page have no folder before them."""

    def __init__(
        self, folders: Mapping[str, Path], wording: Wording | None = None, compiled: Path | None = None
    ) -> None:
        """`folders`: where the templates of each app stand. `wording`: how texts of commands are said. `compiled`: a
        folder of the owner's that keeps what was compiled, from start to start.
        """
        self.version = _version()
        loaders: dict[str, jinja2.BaseLoader] = {
            app: jinja2.FileSystemLoader(folder) for app, folder in folders.items()
        }
        self._environment = jinja2.Environment(
            loader=jinja2.ChoiceLoader(
                [jinja2.FileSystemLoader(HERE / "templates"), jinja2.PrefixLoader(loaders)]
            ),
            autoescape=True,
            enable_async=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.do"],
            bytecode_cache=Compiled(compiled) if compiled is not None else None,
        )
        self._environment.globals |= {
            "tr": tr,
            "tr_count": tr_count,
            "translated": translated,
            "icon": self._icon,
            "time": _time,
            "size": _size,
            "rate": _rate,
            "duration": _duration,
            "static": self.static,
            "shape": shape,
            "title_of": title_of,
            "address_of": address_of,
            "qr": qr_svg,
        }
        self._environment.filters |= {
            "plain": lines,
            "said": wording or Wording(()),
            "without_command": without_command,
        }

    def offer(self, **functions: Any) -> None:
        """Let every template, those of rows too, call these."""
        self._environment.globals |= functions

    async def compile_ahead(self, first: Sequence[str], then: Sequence[str]) -> None:
        """Compile templates: `first` while the browser is on its way, `then` once it has its first page, with pauses in
        which pages are answered. What does not compile says so where it is wanted.
        """
        for name in first:
            self._compile(name)
            await asyncio.sleep(0)
        await asyncio.sleep(COMPILE_LATER_S)
        for name in then:
            self._compile(name)
            await asyncio.sleep(COMPILE_PAUSE_S)

    def _compile(self, name: str) -> None:
        with contextlib.suppress(jinja2.TemplateError):
            self._environment.get_template(name)

    async def render(self, name: str, /, **given: Any) -> str:
        """The template `name` with what is given."""
        return await self._environment.get_template(name).render_async(language=language(), **given)

    async def row(self, app: str, live: Live, row: Row) -> str:
        """One row with its element."""
        inside = Markup(await self.render(live.template, row=row.value, key=row.key))  # noqa: S704 - escaped there
        return str(
            Markup('<{tag} class="{css}" data-key="{key}">{inside}</{tag}>').format(
                tag=live.tag, css=live.css, key=row.key, inside=inside
            )
        )

    async def rows(
        self, name: str, app: str, live: Live, rows: Sequence[Row], args: Mapping[str, str], total: int
    ) -> Markup:
        """The first rows of a list, in an element that the page keeps true."""
        inside = Markup("").join([Markup(await self.row(app, live, row)) for row in rows])  # noqa: S704
        around = {"li": "ul", "tr": "tbody"}.get(live.tag, "div")
        window = Markup(' data-window="{}"').format(live.window_px) if live.window_px else Markup("")
        window += Markup(" data-said") if live.is_said else ""
        return Markup(
            '<{around} class="rows" data-live="{name}" data-args="{args}" data-total="{total}"{window}>'
            "{inside}</{around}>"
        ).format(
            around=around,
            name=name,
            args=msgspec.json.encode(args).decode(),
            total=total,
            window=window,
            inside=inside,
        )

    def static(self, name: str) -> str:
        """The address of a file of /static/: another one after a change."""
        return f"/static/{name}?v={self.version}"

    def _icon(self, name: str, css: str = "") -> Markup:
        """A symbol. It says nothing: words stand beside it, or in `aria-label`."""
        return Markup(
            '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"/></svg>'
        ).format(css, self.static("vendor/icons.svg"), name)


class Compiled(jinja2.BytecodeCache):
    """Templates as Python has compiled them, a file each, for whoever owns the node only: compiling those of the first
    page takes 100 ms. What cannot be kept or read is compiled again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """As jinja2 wants it."""
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
            bucket.load_bytecode(BytesIO((self._folder / bucket.key).read_bytes()))

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """As jinja2 wants it."""
        with contextlib.suppress(OSError, StorageError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self._folder / bucket.key, bucket.bytecode_to_string())


def qr_svg(text: str, said: str) -> Markup:
    """`text` as a QR code, a picture called `said`."""
    from segno import make

    drawn = make(text, error="l", micro=False).svg_inline(
        border=4, omitsize=True, svgclass=None, lineclass=None
    )
    inside = drawn.partition("<svg ")[2]
    return Markup('<svg role="img" aria-label="{}" ').format(said) + Markup(inside)  # noqa: S704 - paths only


def language() -> str:
    """The first language of the reader that there are texts in: "de", "en"."""
    return accept_language().partition(",")[0].partition("-")[0]


def _version() -> str:
    """Of all files of /static/: another one where any of them changed."""
    digest = hashlib.sha256()
    for file in sorted(STATIC.rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _time(text: str | None, *, is_exact: bool = False) -> Markup:
    """A time in ISO 8601: in words, which the page keeps true; the exact time when it is pointed at."""
    if not text or not is_iso(text):
        return Markup("{}").format(text or "")
    css = "exact" if is_exact else "ago"
    return Markup('<time datetime="{}" data-time="{}">{}</time>').format(text, css, said(text))


def _size(count: float | None) -> str:
    return "" if count is None else say_bytes(count)


def _rate(count: float | None) -> str:
    return "" if not count else f"{say_bytes(count)}/s"


def _duration(seconds: float | None) -> str:
    """As `duration`; no zeros behind a figure that was rounded to minutes or hours."""
    return "" if seconds is None else duration(seconds).removesuffix(" 00 s").removesuffix(" 00 min")
