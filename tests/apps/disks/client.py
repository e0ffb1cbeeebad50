"""A small client of NBD for tests: one export of a Unix socket, simple replies, one command at a time or several."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

from coterie.apps.disks import nbd
from coterie.apps.disks.nbd import Command, Option, Reply


class Refusal(Exception):
    """The server said no: `code` is an errno, or a kind of answer to an option."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Client:
    """An export that is in use."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._cookie = 0
        self.size = 0
        self.features = 0

    async def go(self, name: str) -> None:
        """Choose an export. Raises `Refusal`."""
        assert await self._reader.readexactly(18) == nbd.greeting()
        self._writer.write(struct.pack(">I", 3))
        data = struct.pack(">I", len(name.encode())) + name.encode() + b"\0\0"
        self._writer.write(nbd.OPTION.pack(nbd.OPTION_MAGIC, Option.GO, len(data)) + data)
        while True:
            _, _, kind, size = struct.unpack(">QIII", await self._reader.readexactly(20))
            told = await self._reader.readexactly(size)
            if kind == Reply.ACK:
                return
            if kind != Reply.INFO:
                raise Refusal(kind, told.decode())
            if told[:2] == b"\0\0":
                self.size, self.features = struct.unpack(">QH", told[2:12])

    async def ask(
        self, command: Command, offset: int = 0, size: int = 0, data: bytes = b"", flags: int = 0
    ) -> bytes:
        """One command and its answer. Raises `Refusal`."""
        self.send(command, offset, size or len(data), data, flags)
        return await self.answer(size if command == Command.READ else 0)

    def send(self, command: Command, offset: int, size: int, data: bytes = b"", flags: int = 0) -> None:
        """A command without waiting."""
        self._cookie += 1
        head = nbd.REQUEST.pack(nbd.REQUEST_MAGIC, flags, command, self._cookie, offset, size)
        self._writer.write(head + data)

    async def answer(self, size: int = 0) -> bytes:
        """The next answer, with `size` bytes of data behind it."""
        magic, error, _ = struct.unpack(">IIQ", await self._reader.readexactly(16))
        assert magic == nbd.SIMPLE_MAGIC
        if error:
            raise Refusal(error)
        return await self._reader.readexactly(size) if size else b""

    async def read(self, offset: int, size: int) -> bytes:
        return await self.ask(Command.READ, offset, size)

    async def write(self, offset: int, data: bytes) -> None:
        await self.ask(Command.WRITE, offset, data=data)

    async def flush(self) -> None:
        await self.ask(Command.FLUSH)


@contextlib.asynccontextmanager
async def client(path: str, name: str) -> AsyncIterator[Client]:
    """A client of an export while the block runs. Raises `Refusal`."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        made = Client(reader, writer)
        await made.go(name)
        yield made
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
