"""IPP messages as bytes (RFC 8010, section 3): attribute groups, values of every tag, collections, sets.

message = version (2 bytes) | operation or status (2) | request id (4) | groups | 0x03 | document
attribute = value tag (1) | name length (2) | name | value length (2) | value
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from coterie.decoding import decoder
from coterie.errors import CloseCode, PeerError

HEAD_BYTES_MAX = (
    1 << 20
)  # of a message without its document; guess: printers describe themselves in 30 to 200 kB
VALUES_MAX = 50_000  # of a message; guess: `media-col-database` of large printers has some thousands
DEPTH_MAX = 8  # of collections in collections; guess: the standards have three
NAME_BYTES_MAX = 255  # RFC 8011, 5.1.4: keywords

OPERATION, JOB, END, PRINTER, UNSUPPORTED = 0x01, 0x02, 0x03, 0x04, 0x05  # RFC 8010, 3.5.1
_DELIMITERS = 0x10  # tags below are delimiters
UNSUPPORTED_VALUE, UNKNOWN, NO_VALUE = 0x10, 0x12, 0x13
INTEGER, BOOLEAN, ENUM = 0x21, 0x22, 0x23
OCTETS, DATE_TIME, RESOLUTION, RANGE, COLLECTION = 0x30, 0x31, 0x32, 0x33, 0x34
TEXT_WITH_LANGUAGE, NAME_WITH_LANGUAGE, _END_COLLECTION = 0x35, 0x36, 0x37
TEXT, NAME, KEYWORD, URI, URI_SCHEME = 0x41, 0x42, 0x44, 0x45, 0x46
CHARSET, LANGUAGE, MIME, _MEMBER = 0x47, 0x48, 0x49, 0x4A
_OUT_OF_BAND = range(0x10, 0x20)
_STRINGS = range(0x40, 0x60)

_HEAD = struct.Struct(">BBHI")
_LENGTH = struct.Struct(">H")
_INT = struct.Struct(">i")
_RESOLUTION = struct.Struct(">iib")
_RANGE = struct.Struct(">ii")


class Value(msgspec.Struct, frozen=True, gc=False):
    """One value: None, int, bool, str, bytes, (x, y, units), (low, high), (language, text) or `Attribute`s."""

    tag: int
    data: Any


class Attribute(msgspec.Struct, frozen=True):
    """A name with its set of values."""

    name: str
    values: tuple[Value, ...]

    @property
    def first(self) -> Any:
        """The data of the first value; the text of one with a language."""
        value = self.values[0]
        return value.data[1] if value.tag in (TEXT_WITH_LANGUAGE, NAME_WITH_LANGUAGE) else value.data


class Group(msgspec.Struct, frozen=True):
    """Attributes behind one delimiter tag."""

    tag: int
    attributes: tuple[Attribute, ...]

    def get(self, name: str) -> Attribute | None:
        """The attribute of this name."""
        return next((a for a in self.attributes if a.name == name), None)


class Ipp(msgspec.Struct, frozen=True):
    """A request (`code` is its operation) or an answer (`code` is its status)."""

    code: int
    request_id: int
    groups: tuple[Group, ...]
    version: tuple[int, int] = (1, 1)

    def group(self, tag: int) -> Group:
        """The first group with this tag; an empty one where there is none."""
        return next((g for g in self.groups if g.tag == tag), Group(tag, ()))

    def first(self, name: str, tag: int = OPERATION, otherwise: Any = None) -> Any:
        """The data of the first value of an attribute of one group."""
        found = self.group(tag).get(name)
        return found.first if found is not None else otherwise

    def all(self, name: str, tag: int = OPERATION) -> tuple[Any, ...]:
        """The data of all values of an attribute of one group."""
        found = self.group(tag).get(name)
        return tuple(value.data for value in found.values) if found is not None else ()


def attribute(name: str, tag: int, *data: Any) -> Attribute:
    """`attribute("copies", INTEGER, 2)`."""
    return Attribute(name, tuple(Value(tag, one) for one in data))


# ---- writing


def encode(message: Ipp) -> bytes:
    """The bytes of `message`, to the tag that ends its attributes; a document goes behind."""
    parts = [_HEAD.pack(*message.version, message.code, message.request_id)]
    parts += [encode_group(group) for group in message.groups]
    return b"".join((*parts, bytes([END])))


def encode_group(group: Group) -> bytes:
    """One group with its tag."""
    return bytes([group.tag]) + b"".join(_attribute_bytes(a.name, a.values) for a in group.attributes)


def _attribute_bytes(name: str, values: Sequence[Value]) -> bytes:
    parts, called = [], name.encode()
    for value in values:
        parts.append(_tagged(value.tag, called, _value_bytes(value)))
        if value.tag == COLLECTION:
            parts += [_member_bytes(member) for member in value.data]
            parts.append(_tagged(_END_COLLECTION, b"", b""))
        called = b""
    return b"".join(parts)


def _member_bytes(member: Attribute) -> bytes:
    return _tagged(_MEMBER, b"", member.name.encode()) + _attribute_bytes("", member.values)


def _tagged(tag: int, name: bytes, value: bytes) -> bytes:
    return b"".join((bytes([tag]), _LENGTH.pack(len(name)), name, _LENGTH.pack(len(value)), value))


def _value_bytes(value: Value) -> bytes:
    tag, data = value.tag, value.data
    match tag:
        case _ if tag in _OUT_OF_BAND or tag == COLLECTION:
            return b""
        case _ if tag in (INTEGER, ENUM):
            return _INT.pack(data)
        case _ if tag == BOOLEAN:
            return bytes([data])
        case _ if tag == RESOLUTION:
            return _RESOLUTION.pack(*data)
        case _ if tag == RANGE:
            return _RANGE.pack(*data)
        case _ if tag in (TEXT_WITH_LANGUAGE, NAME_WITH_LANGUAGE):
            return b"".join(_LENGTH.pack(len(raw)) + raw for raw in (part.encode() for part in data))
        case _ if tag in _STRINGS:
            return bytes(data.encode(errors="surrogateescape"))
    return bytes(data)


# ---- reading


@decoder(PeerError, "an IPP message")
def decode(raw: bytes) -> Ipp:
    """A message without its document: `raw` ends with the tag that ends the attributes.

    Raises:
        PeerError: it is none, or over a bound.
    """
    if len(raw) > HEAD_BYTES_MAX:
        raise PeerError(f"attributes of {len(raw)} bytes, over {HEAD_BYTES_MAX}", CloseCode.LIMIT)
    major, minor, code, request_id = _HEAD.unpack_from(raw)
    return Ipp(code, request_id, tuple(_groups(raw, _HEAD.size)), (major, minor))


@decoder(PeerError, "a list of IPP attributes")
def decode_groups(raw: bytes) -> tuple[Group, ...]:
    """Groups as `encode_group` wrote them, with the tag that ends them. Raises as `decode`."""
    if len(raw) > HEAD_BYTES_MAX:
        raise PeerError(f"attributes of {len(raw)} bytes, over {HEAD_BYTES_MAX}", CloseCode.LIMIT)
    return tuple(_groups(raw, 0))


class Head:
    """Finds the end of the attributes in bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = _HEAD.size

    @decoder(PeerError, "an IPP message")
    def feed(self, data: bytes) -> tuple[Ipp, bytes] | None:
        """The message, once its attributes are whole, and the bytes of its document that came with them.

        Raises:
            PeerError: it is none, or over a bound.
        """
        buffer = self._buffer
        buffer += data
        while self._at < len(buffer):
            tag = buffer[self._at]
            if tag == END:
                end = self._at + 1
                return decode(bytes(buffer[:end])), bytes(buffer[end:])
            following = self._at + 1
            if tag >= _DELIMITERS:
                for _ in range(2):
                    if following + _LENGTH.size > len(buffer):
                        return self._incomplete()
                    following += _LENGTH.size + _LENGTH.unpack_from(buffer, following)[0]
                if following > len(buffer):
                    return self._incomplete()
            self._at = following
        return self._incomplete()

    def _incomplete(self) -> tuple[Ipp, bytes] | None:
        if len(self._buffer) > HEAD_BYTES_MAX:
            raise PeerError(f"attributes over {HEAD_BYTES_MAX} bytes", CloseCode.LIMIT)
        return None


_Item = tuple[int, bytes, bytes]


def _groups(raw: bytes, at: int) -> Iterator[Group]:
    tag, attributes = 0, list[Attribute]()
    items = _Items(raw, at)
    while True:
        found = items.delimiter()
        if found is not None:
            if tag:
                yield Group(tag, tuple(attributes))
            if found == END:
                return
            tag, attributes = found, []
            continue
        if not tag:
            raise PeerError("an attribute outside of every section")
        value_tag, name, value = items.next()
        if not 0 < len(name) <= NAME_BYTES_MAX:
            raise PeerError("an attribute without a name, or with one that is too long")
        attributes.append(Attribute(name.decode(), _values(items, value_tag, value)))


def _values(items: "_Items", tag: int, value: bytes, depth: int = 0) -> tuple[Value, ...]:
    """A first value and those without a name behind it."""
    values = []
    while True:
        values.append(Value(tag, _members(items, depth + 1) if tag == COLLECTION else _data(tag, value)))
        if not items.is_further(depth):
            return tuple(values)
        tag, _, value = items.next()


def _members(items: "_Items", depth: int) -> tuple[Attribute, ...]:
    if depth > DEPTH_MAX:
        raise PeerError(f"collections in collections, over {DEPTH_MAX} deep", CloseCode.LIMIT)
    members = list[Attribute]()
    while True:
        tag, name, value = items.next()
        if name:
            raise PeerError("a member of a collection has its name in the wrong place")
        if tag == _END_COLLECTION:
            return tuple(members)
        if tag != _MEMBER or not 0 < len(value) <= NAME_BYTES_MAX:
            raise PeerError("a member of a collection without a name")
        called = value.decode()
        tag, _, value = items.next()
        if tag in (_END_COLLECTION, _MEMBER):
            raise PeerError(f"the member {called} of a collection has no value")
        members.append(Attribute(called, _values(items, tag, value, depth)))


class _Items:
    """Tagged values of a message, one after another."""

    def __init__(self, raw: bytes, at: int) -> None:
        self._raw = raw
        self._at = at
        self._left = VALUES_MAX

    def delimiter(self) -> int | None:
        """The delimiter that comes next, which is taken then."""
        tag = self._raw[self._at]
        if tag >= _DELIMITERS:
            return None
        if not tag:
            raise PeerError("the delimiter 0")
        self._at += 1
        return tag

    def is_further(self, depth: int) -> bool:
        """Whether one more value of the same attribute comes next."""
        tag = self._raw[self._at]
        if tag < _DELIMITERS or (depth and tag in (_MEMBER, _END_COLLECTION)):
            return False
        return self._raw[self._at + 1 : self._at + 3] == b"\0\0"

    def next(self) -> _Item:
        """Tag, name and value. Raises `PeerError` where none is whole, or there are more than VALUES_MAX."""
        if not self._left:
            raise PeerError(f"more than {VALUES_MAX} values", CloseCode.LIMIT)
        self._left -= 1
        tag = self._raw[self._at]
        if tag < _DELIMITERS:
            raise PeerError("a value is missing")
        name_end = self._at + 3 + _LENGTH.unpack_from(self._raw, self._at + 1)[0]
        end = name_end + 2 + _LENGTH.unpack_from(self._raw, name_end)[0]
        if end > len(self._raw):
            raise PeerError("a value that is cut off")
        item = tag, self._raw[self._at + 3 : name_end], self._raw[name_end + 2 : end]
        self._at = end
        return item


def _data(tag: int, raw: bytes) -> Any:
    match tag:
        case _ if tag in _OUT_OF_BAND:
            return None
        case _ if tag in (INTEGER, ENUM):
            return _exactly(_INT, raw)[0]
        case _ if tag == BOOLEAN:
            if raw not in (b"\0", b"\1"):
                raise PeerError("a boolean that is neither true nor false")
            return raw == b"\1"
        case _ if tag == RESOLUTION:
            return _exactly(_RESOLUTION, raw)
        case _ if tag == RANGE:
            return _exactly(_RANGE, raw)
        case _ if tag in (TEXT_WITH_LANGUAGE, NAME_WITH_LANGUAGE):
            language_end = _LENGTH.size + _LENGTH.unpack_from(raw)[0]
            text_at = language_end + _LENGTH.size
            if text_at + _LENGTH.unpack_from(raw, language_end)[0] != len(raw):
                raise PeerError("a text with a language of another length than it says")
            return raw[_LENGTH.size : language_end].decode(), raw[text_at:].decode()
        case _ if tag in (_MEMBER, _END_COLLECTION):
            raise PeerError("a part of a collection outside of every collection")
        case _ if tag in _STRINGS:
            return raw.decode(errors="surrogateescape")
    return raw


def _exactly(form: struct.Struct, raw: bytes) -> tuple[Any, ...]:
    if len(raw) != form.size:
        raise PeerError(f"a value of {len(raw)} bytes instead of {form.size}")
    return form.unpack(raw)


def chosen(attributes: Iterable[Attribute], names: Iterable[str]) -> tuple[Attribute, ...]:
    """Those with one of these names."""
    wanted = set(names)
    return tuple(a for a in attributes if a.name in wanted)
