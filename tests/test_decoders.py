"""Nothing of others is decoded outside the one wrapper."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ADVICE = (
    "put these into functions marked @decoder (coterie/decoding.py), with samples in tests/fuzz/samples.py"
)
SOURCE = Path(__file__).parent.parent / "src" / "coterie"

_UNPACK = {"unpack", "unpack_from", "iter_unpack"}
_TEXT = {
    "b16decode",
    "b32decode",
    "b64decode",
    "urlsafe_b64decode",
    "a85decode",
    "fromhex",
    "unhexlify",
    "urlsplit",
    "urlparse",
}
_LOADS = {("json", "loads"), ("json", "load"), ("tomllib", "loads"), ("tomllib", "load"), ("pickle", "loads")}
_MSGSPEC = {"decode", "convert"}


def decodings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of each call that decodes, outside functions marked `@decoder`."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            map(_is_mark, node.decorator_list)
        ):
            continue
        if isinstance(node, ast.Call) and (what := _decoding(node)):
            yield node.lineno, what
        pending += ast.iter_child_nodes(node)


def _is_mark(decorator: ast.expr) -> bool:
    return (
        isinstance(decorator, ast.Call)
        and isinstance(decorator.func, ast.Name)
        and decorator.func.id == "decoder"
    )


def _decoding(call: ast.Call) -> str:  # noqa: PLR0911  (a table)
    match call.func:
        case ast.Name(id=name) if name in _TEXT:
            return name
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in _LOADS:
            return f"{owner}.{name}"
        case ast.Attribute(attr=name) if name in _TEXT and not _is_constant(call):
            return name
        case ast.Attribute(attr=name) if name in _UNPACK:
            return name
        case ast.Attribute(value=owner, attr="decode") if _is_ours(owner):
            return ""
        case ast.Attribute(value=owner, attr=name) if name in _MSGSPEC and "msgspec" in ast.dump(owner):
            return f"msgspec {name}"
        case ast.Attribute(value=owner, attr="decode") if _cannot_fail(call):
            return ""
        case ast.Attribute(value=owner, attr="decode") if "decoder" in ast.dump(owner).lower():
            return "decode of a decoder"
        case ast.Attribute(attr="decode") if not call.args or isinstance(call.args[0], ast.Constant):
            return "decode of bytes"
    return ""


def _is_constant(call: ast.Call) -> bool:
    return all(isinstance(argument, ast.Constant) for argument in call.args)


def _is_ours(owner: ast.expr) -> bool:
    """What was encoded in the same expression."""
    return any(word in ast.dump(owner) for word in ("encode", "hexlify"))


def _cannot_fail(call: ast.Call) -> bool:
    """Told what to do with what is no text."""
    if any(keyword.arg == "errors" for keyword in call.keywords) or len(call.args) > 1:
        return True
    return bool(call.args) and getattr(call.args[0], "value", None) == "latin-1"


# What is taken apart without the wrapper, and why that is safe: (module, what).
SAFE = {
    ("content/manifest.py", "iter_unpack"): "of nodes that `decode` has checked, or within it",
    ("content/received.py", "iter_unpack"): "of lists that `decode` has checked",
    ("content/store.py", "iter_unpack"): "of lists that this program wrote into its own database",
    ("apps/bittorrent/seeds.py", "fromhex"): "of records that this program wrote",
    ("apps/bittorrent/download.py", "fromhex"): "of records that this program wrote",
    ("apps/bittorrent/downloads.py", "fromhex"): "of records that this program wrote",
    ("cli/demo.py", "json.loads"): "of our own command's output",
    ("services/blobs/folder.py", "fromhex"): "of names of files that `_is_id` has checked",
    ("services/local/keeper.py", "json.loads"): "of the node that started it; it imports nothing of ours",
    (
        "net/lanes/frames.py",
        "unpack_from",
    ): "the length is known; every frame passes here, and a wrapper costs",
    ("wire/frames.py", "unpack_from"): "the length is known; every frame passes here, and a wrapper costs",
    ("net/port_mapping/routes.py", "fromhex"): "what the kernel says; what it cannot is passed over",
    ("net/lanes/tcp_seen.py", "unpack"): "what the kernel says, filled up to the size",
    ("sim/isolation.py", "unpack"): "what the kernel says",
    ("apps/printers/ipp.py", "unpack_from"): "within `decode`, `decode_groups` and `Head.feed`",
    ("apps/printers/ipp.py", "unpack"): "within `decode` and `decode_groups`",
    ("apps/printers/ipp.py", "decode of bytes"): "within `decode` and `decode_groups`",
}


def outside() -> list[str]:
    """What breaks the rule: decodings outside the wrapper, and exceptions that are none any more."""
    found = [
        (path.relative_to(SOURCE).as_posix(), line, what)
        for path in sorted(SOURCE.rglob("*.py"))
        for line, what in decodings(ast.parse(path.read_text(encoding="utf-8")))
    ]
    unused = {*SAFE} - {(room, what) for room, _, what in found}
    wrong = [f"{room}:{line}: {what}" for room, line, what in found if (room, what) not in SAFE]
    return wrong + [
        f"{room}: {what} is excepted in {Path(__file__).name}, for nothing" for room, what in unused
    ]


def test_everything_is_decoded_by_the_one_wrapper() -> None:
    assert not outside(), ADVICE


@pytest.mark.parametrize(
    "source",
    [
        "msgspec.msgpack.decode(raw, type=T)",
        "msgspec.json.decode(raw)",
        "msgspec.convert(raw, T)",
        "_DECODER.decode(raw)",
        "json.loads(raw)",
        "tomllib.loads(raw)",
        "_FORM.unpack(raw)",
        "struct.unpack_from('>I', raw)",
        "raw.decode()",
        "raw.decode('ascii')",
        "base64.b32decode(raw)",
        "b32decode(raw)",
        "bytes.fromhex(text)",
        "urlsplit(text)",
        "def f():\n    return raw.decode()",
        "@other\ndef f():\n    return raw.decode()",
    ],
)
def test_the_rule_sees_decoders_without_it(source: str) -> None:
    assert list(decodings(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "@decoder(PeerError, 'it')\ndef f(raw):\n    return raw.decode()",
        "b32encode(raw).decode('ascii')",
        "raw.decode(errors='replace')",
        "raw.decode('utf-8', 'ignore')",
        "raw.decode('latin-1')",
        "bytes.fromhex('00ff')",
        "PROTOCOL.decode(kind, body)",
    ],
)
def test_the_rule_lets_the_others_be(source: str) -> None:
    assert not list(decodings(ast.parse(source)))


if __name__ == "__main__":
    print("\n".join(outside()) or "decoders: everything of others is read by the one wrapper")
    sys.exit(ADVICE if outside() else 0)
