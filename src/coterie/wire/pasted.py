"""Text as people paste it: quotes, line breaks and the whole command around it, pretty dashes and blanks.

Nothing here decides what a text is: whoever knows the form of a ticket or a code looks for it in the `words`.
"""

import unicodedata

PASTED_CHARS_MAX = 65_536  # guess: a mail with a ticket in it; more is not looked at

_DASHES = frozenset(
    "\u2212\u2043\u02d7"
)  # minus, hyphen bullet, modifier minus: Unicode calls them no dashes
_INVISIBLE = ("Cf", "Cc", "Zs", "Zl", "Zp")
_QUOTES = "\"'`\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u2039\u203a<>"
_AROUND = "\"'`\u00ab\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u2039\u203a<>()[]{}.,;:!|$\u2026*_"


def plain(text: str) -> str:
    """`text` with ordinary blanks and dashes, nothing invisible, HTML escapes undone, no quotes around it."""
    shown = []
    for char in _unescaped(text[:PASTED_CHARS_MAX]):
        kind = unicodedata.category(char)
        if kind == "Pd" or char in _DASHES:
            shown.append("-")
        elif kind.startswith("Z") or char.isspace():
            shown.append(" ")
        elif kind not in ("Cf", "Cc", "Cs", "Co", "Cn"):
            shown.append(char)
    return "".join(shown).strip(f" {_AROUND}")


def bare(text: str) -> str:
    """`text` without blanks, invisible characters and a pair of quotes around it; what is inside stays as it is."""
    text = text.strip()
    while text and unicodedata.category(text[0]) in _INVISIBLE:
        text = text[1:].lstrip()
    while text and unicodedata.category(text[-1]) in _INVISIBLE:
        text = text[:-1].rstrip()
    is_quoted = len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES
    return bare(text[1:-1]) if is_quoted else text


def words(text: str) -> list[str]:
    """What stands between blanks and hyphens in pasted `text`, without quotes and full stops around each word."""
    bare = (word.strip(_AROUND) for word in plain(text).replace("-", " ").split())
    return [word for word in bare if word]


def _unescaped(text: str) -> str:
    if "&" not in text:
        return text
    import html  # its table of names is half a megabyte

    return html.unescape(text)
