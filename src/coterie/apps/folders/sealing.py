"""Seals what keepers get of one live folder, and opens what they give. Pure: keys and a way to sign come in.

A name is the tag of a path; an entry is the register of that path with the path in it, sealed and signed; a content is
known by the tag of its id, and is kept as sealed chunks.
"""

from collections.abc import Callable, Iterator

import msgspec

from coterie.apps.folders import kept
from coterie.apps.folders.folder_keys import FolderKeys, kept_id
from coterie.apps.folders.names import path_fault
from coterie.apps.folders.register import Kind, unpack
from coterie.content.sealed import Purpose, Seal, pieces
from coterie.decoding import decoder
from coterie.errors import PeerError

_Record = tuple[str, bytes]
_DECODER = msgspec.msgpack.Decoder(_Record)


class Sealing:
    """Of one folder, with all keys that are known. Safe from several threads."""

    def __init__(self, keys: FolderKeys, by: bytes, sign: Callable[[bytes], bytes]) -> None:
        """`by`: the PeerId whose key `sign` uses."""
        self.kept = kept_id(keys.folder)
        self.epoch = keys.epoch
        self._seals = {epoch: Seal(key) for epoch, key in keys.keys}
        self._newest = self._seals[keys.epoch]
        self._by = by
        self._sign = sign

    # ---- names and registers

    def name(self, path: str) -> str:
        """What keepers call a path."""
        return self._newest.tag(Purpose.NAME, path.encode()).hex()

    def entry(self, path: str, register: bytes) -> tuple[str, bytes]:
        """(name, packed entries) of a packed register.

        Raises:
            PeerError: it is too large for a keeper, or none.
        """
        read = unpack(register)
        files = {value.content for _, value in read.siblings if value.kind is Kind.FILE}
        contents = tuple(sorted(map(self.tag, files)))
        record = self._newest.seal(Purpose.RECORD, msgspec.msgpack.encode((path, register)))
        if len(record) > kept.RECORD_BYTES_MAX:
            raise PeerError("what a path is has become too large for a keeper")
        name = self.name(path)
        signed = kept.to_sign(self.kept, name, self.epoch, read.context, contents, record)
        entry = kept.Entry(self.epoch, read.context, contents, record, self._by, self._sign(signed))
        return name, kept.pack_entries((entry,))

    def opened(self, name: str, raw: bytes, may_write: Callable[[bytes], bool]) -> list[tuple[str, bytes]]:
        """(path, packed register) of each entry that somebody who `may_write` signed, and that a known key opens.

        Raises:
            PeerError: an entry that nobody can have sealed so: who gave it made it up.
        """
        if not kept.is_name(name):
            raise PeerError("a sealed path without a name")
        found: list[tuple[str, bytes]] = []
        for entry in kept.read_entries(raw):
            if not kept.is_signed(self.kept, name, entry):
                raise PeerError("a sealed path that nobody has signed")
            seal = self._seals.get(entry.epoch)
            if seal is None or not may_write(entry.by):
                continue
            path, register = read_record(seal.open(Purpose.RECORD, entry.record))
            if path_fault(path) or seal.tag(Purpose.NAME, path.encode()).hex() != name:
                raise PeerError("a sealed path under the name of another")
            found.append((path, register))
        return found

    # ---- contents

    def tag(self, content: bytes) -> bytes:
        """What keepers call a content."""
        return self._newest.tag(Purpose.CONTENT, content)

    def tags(self, content: bytes) -> list[bytes]:
        """What keepers may call it: by each key that is known, the newest first."""
        return [
            self._seals[epoch].tag(Purpose.CONTENT, content) for epoch in sorted(self._seals, reverse=True)
        ]

    def chunk(self, data: bytes | memoryview) -> Iterator[bytes]:
        """A chunk, sealed: in two pieces if it is one of the largest."""
        start = 0
        for size in pieces(len(data)):
            yield self._newest.seal(Purpose.CHUNK, bytes(data[start : start + size]))
            start += size

    def open_chunk(self, text: bytes) -> bytes:
        """The bytes of a sealed piece. Raises `PeerError`: no key that is known opens it."""
        for epoch in sorted(self._seals, reverse=True)[:-1]:
            try:
                return self._seals[epoch].open(Purpose.CHUNK, text)
            except PeerError:
                continue  # sealed before: with an older key
        return self._seals[min(self._seals)].open(Purpose.CHUNK, text)


@decoder(PeerError, "a sealed path")
def read_record(raw: bytes) -> tuple[str, bytes]:
    """Path and packed register, as they were sealed. Raises `PeerError`."""
    path, register = _DECODER.decode(raw)
    return path, register
