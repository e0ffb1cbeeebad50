"""The text of `config.toml`: read as any usual editor saves it, and one line of it changed, the rest kept."""

import codecs
import tomllib
from collections.abc import Iterator
from typing import Any

import msgspec

from coterie.decoding import decoder, reason
from coterie.errors import UsageError
from coterie.texts import tr

Value = str | int | bool
CONFIG_BYTES_MAX = 64 * 1024
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@decoder(UsageError, "the settings")
def text_of(content: bytes, origin: str) -> str:
    """The text of a file: UTF-8 or UTF-16, with a byte order mark or without, lines ended by any system's sign.

    Raises:
        UsageError: it is too large, or no such text; names `origin` and the line.
    """
    if len(content) > CONFIG_BYTES_MAX:
        raise UsageError(
            tr(
                "{origin} is larger than {config_bytes_max} bytes",
                origin=origin,
                config_bytes_max=CONFIG_BYTES_MAX,
            )
        )
    encoding = "utf-8-sig"
    if content.startswith(_UTF16):
        encoding = "utf-16"
    elif b"\0" in content[:2]:  # settings begin with ASCII: a key, a comment or a blank
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            tr(
                "{origin}, line {line}: this is no UTF-8 text (byte 0x{content:02x}); save the file as UTF-8",
                origin=origin,
                line=line,
                content=content[error.start],
            )
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


@decoder(UsageError, "the settings")
def values_of(text: str, origin: str) -> dict[str, Any]:
    """What TOML `text` says. Raises `UsageError` that names `origin` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(tr("{origin} is not TOML: {error}", origin=origin, error=error)) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets in thousands
        lines = text.split("\n")
        longest = max(range(len(lines)), key=lambda at: len(lines[at]))
        raise UsageError(
            tr(
                "{origin}, line {longest} or near it: {reason}",
                origin=origin,
                longest=longest + 1,
                reason=reason(error),
            )
        ) from None


def line_of(key: str, text: str) -> int:
    """The line (from 1) that sets `key`; 0 when none does."""
    import re

    found = re.search(
        rf"^[ \t]*(?:\[[ \t]*)?[\"']?{re.escape(key)}[\"']?[ \t]*(?=[=.\]])", text, re.MULTILINE
    )
    return text.count("\n", 0, found.start()) + 1 if found else 0


def with_value(text: str, key: str, value: Value, origin: str) -> str:
    """`text` with `key` set to `value` and everything else kept; what is returned reads back so.

    Raises:
        UsageError: the file sets `key` in a form that cannot be changed line by line, or would be too large.
    """
    wanted = values_of(text, origin) | {key: value}
    for candidate in _candidates(text, key, f"{key} = {_toml(value)}"):
        try:
            if values_of(candidate, origin) != wanted:
                continue
        except UsageError:
            continue
        if len(candidate.encode()) > CONFIG_BYTES_MAX:
            raise UsageError(
                tr(
                    "with this {key}, {origin} would be larger than {config_bytes_max} bytes",
                    key=key,
                    origin=origin,
                    config_bytes_max=CONFIG_BYTES_MAX,
                )
            )
        return candidate
    raise UsageError(
        tr("{origin} cannot be changed as it stands: set {key} there with an editor", origin=origin, key=key)
    )


def _candidates(text: str, key: str, line: str) -> Iterator[str]:
    """Texts that may be it: the line in the place of the old one, which may go over several; else last, or first."""
    lines = text.split("\n")
    number = line_of(key, text)
    if number:
        for end in range(number, len(lines) + 1):
            yield "\n".join([*lines[: number - 1], line, *lines[end:]])
    else:
        yield text + ("" if not text or text.endswith("\n") else "\n") + line + "\n"
    yield line + "\n" + text


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
