"""The IPP endpoint for programs: what each operation answers, and what is refused with which status."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.printers import ipp
from coterie.apps.printers.http import Server, post
from coterie.apps.printers.ipp import Attribute, Group, Ipp, attribute
from coterie.apps.printers.operations import JobState, Op, Status
from coterie.apps.printers.real import read_uri
from coterie.node import Node
from tests.apps.files.nodes import friends
from tests.apps.printers.fake_printer import a_pdf, fake_printer
from tests.apps.printers.test_service import digest, shared, until
from tests.support import run

PDF = attribute("document-format", ipp.MIME, "application/pdf")
CHARSET = attribute("attributes-charset", ipp.CHARSET, "utf-8")
LANGUAGE = attribute("attributes-natural-language", ipp.LANGUAGE, "en")


class Program:
    """A program that prints at the endpoint of a node."""

    def __init__(self, uri: str, user: str = "eva") -> None:
        self.uri, self.user = uri, user
        self.server: Server = read_uri(uri)

    async def ask(
        self,
        code: int,
        *more: Attribute,
        job: tuple[Attribute, ...] = (),
        document: bytes | None = None,
        **change: Any,
    ) -> Ipp:
        head = (CHARSET, LANGUAGE, attribute("printer-uri", ipp.URI, self.uri))
        said = attribute("requesting-user-name", ipp.NAME, self.user)
        groups = change.pop(
            "groups", (Group(ipp.OPERATION, (*head, said, *more)), *([Group(ipp.JOB, job)] if job else []))
        )
        request = Ipp(code, change.pop("request_id", 5), groups, change.pop("version", (2, 0)))
        raw = await post(
            self.server, ipp.encode(request), None if document is None else _parts(document), 1 << 20
        )
        found = ipp.Head().feed(raw)
        assert found is not None
        return found[0]

    async def print(self, document: bytes, *more: Attribute, **rest: Any) -> Ipp:
        return await self.ask(
            Op.PRINT_JOB, attribute("job-name", ipp.NAME, "letter"), *more, document=document, **rest
        )

    async def wait(self, number: int) -> Ipp:
        async with asyncio.timeout(20):
            while True:
                answer = await self.ask(Op.GET_JOB_ATTRIBUTES, attribute("job-id", ipp.INTEGER, number))
                if JobState(answer.first("job-state", ipp.JOB)).is_over:
                    return answer
                await asyncio.sleep(0.05)


async def _parts(document: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(document), 10_000):
        yield document[at : at + 10_000]


async def program(node: Node, user: str = "eva") -> Program:
    lines = await node.service("printers").lines()
    return Program(lines[0].address, user)


def test_a_program_prints_and_follows_its_job(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            eva = await program(ben)
            data = a_pdf(2) + bytes(60_000)
            for compression, packed in (
                ("none", data),
                ("gzip", gzip.compress(data)),
                ("deflate", zlib.compress(data)),
            ):
                answer = await eva.print(packed, PDF, attribute("compression", ipp.KEYWORD, compression))
                assert answer.code == Status.OK, answer.first("status-message")
                done = await eva.wait(answer.first("job-id", ipp.JOB))
                assert done.first("job-state", ipp.JOB) == JobState.COMPLETED
                assert done.first("job-impressions-completed", ipp.JOB) == 2
                assert done.first("job-originating-user-name", ipp.JOB) == "eva"
            assert printer.printed == [(digest(data), "letter")] * 3
            made = await eva.ask(Op.CREATE_JOB, job=(attribute("copies", ipp.INTEGER, 2),))
            number = attribute("job-id", ipp.INTEGER, made.first("job-id", ipp.JOB))
            sent = await eva.ask(
                Op.SEND_DOCUMENT, number, PDF, attribute("last-document", ipp.BOOLEAN, True), document=data
            )
            assert sent.code == Status.OK
            assert (await eva.wait(number.first)).first("job-impressions-completed", ipp.JOB) == 4
            again = await eva.ask(
                Op.SEND_DOCUMENT, number, PDF, attribute("last-document", ipp.BOOLEAN, True), document=data
            )
            assert again.code == Status.NOT_POSSIBLE
            assert (await eva.ask(Op.IDENTIFY_PRINTER)).code == Status.OK
            assert printer.identified == 1

    run(play(), 60)


def test_jobs_are_those_of_who_asks(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer(seconds=60) as printer:
            await shared(anna, printer)
            eva, tom = await program(ben), await program(ben, "tom")
            number = attribute("job-id", ipp.INTEGER, (await eva.print(a_pdf())).first("job-id", ipp.JOB))
            await tom.print(a_pdf())
            mine = attribute("my-jobs", ipp.BOOLEAN, True)
            assert [g.tag for g in (await eva.ask(Op.GET_JOBS)).groups].count(ipp.JOB) == 2
            assert (await eva.ask(Op.GET_JOBS, mine)).first("job-id", ipp.JOB) == number.first
            assert len((await eva.ask(Op.GET_JOBS, mine)).groups) == 2
            limited = await eva.ask(Op.GET_JOBS, attribute("limit", ipp.INTEGER, 1))
            assert len(limited.groups) == 2
            assert (await tom.ask(Op.CANCEL_JOB, number)).code == Status.NOT_AUTHORIZED
            assert (await tom.ask(Op.HOLD_JOB, number)).code == Status.NOT_AUTHORIZED
            assert (await eva.ask(Op.CANCEL_JOB, number)).code == Status.OK
            assert (await eva.wait(number.first)).first("job-state", ipp.JOB) == JobState.CANCELED
            assert (await eva.ask(Op.CANCEL_JOB, number)).code == Status.NOT_POSSIBLE
            assert (await tom.ask(Op.CANCEL_MY_JOBS)).code == Status.OK
            for node in (anna, ben):
                await until(lambda n=node: all(j.state == "cancelled" for j in n.service("printers").jobs()))
            completed = attribute("which-jobs", ipp.KEYWORD, "completed")
            assert len((await eva.ask(Op.GET_JOBS, completed)).groups) == 3
            assert printer.printed == []

    run(play())


def test_a_job_is_held_and_released(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            eva = await program(ben)
            answer = await eva.print(a_pdf(), job=(attribute("job-hold-until", ipp.KEYWORD, "indefinite"),))
            assert answer.first("job-state", ipp.JOB) == JobState.HELD
            number = attribute("job-id", ipp.INTEGER, answer.first("job-id", ipp.JOB))
            assert anna.service("printers").jobs() == []
            assert (await eva.ask(Op.RELEASE_JOB, number)).code == Status.OK
            assert (await eva.wait(number.first)).first("job-state", ipp.JOB) == JobState.COMPLETED
            assert (await eva.ask(Op.RELEASE_JOB, number)).code == Status.NOT_POSSIBLE

    run(play())


def test_what_is_refused_has_its_status(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            eva = await program(ben)
            ask, get = eva.ask, Op.GET_PRINTER_ATTRIBUTES
            named = attribute("printer-uri", ipp.URI, eva.uri)
            faithful = attribute("ipp-attribute-fidelity", ipp.BOOLEAN, True)
            copies = (attribute("copies", ipp.INTEGER, 100), attribute("job-dance", ipp.KEYWORD, "tango"))
            expected = {
                "request 0": (await ask(get, request_id=0), Status.BAD_REQUEST),
                "version 0.0": (await ask(get, version=(0, 0)), Status.VERSION_NOT_SUPPORTED),
                "nothing": (await ask(get, groups=()), Status.BAD_REQUEST),
                "order": (await ask(get, groups=(Group(1, (LANGUAGE, CHARSET, named)),)), Status.BAD_REQUEST),
                "no printer": (await ask(get, groups=(Group(1, (CHARSET, LANGUAGE)),)), Status.BAD_REQUEST),
                "unknown operation": (await ask(0x3FFF), Status.OPERATION_NOT_SUPPORTED),
                "format": (
                    await eva.print(b"x", attribute("document-format", ipp.MIME, "text/x-poem")),
                    Status.FORMAT_NOT_SUPPORTED,
                ),
                "not as said": (await eva.print(b"%!PS", PDF), Status.FORMAT_ERROR),
                "compression": (
                    await eva.print(a_pdf(), attribute("compression", ipp.KEYWORD, "lzma")),
                    Status.COMPRESSION_NOT_SUPPORTED,
                ),
                "damaged": (
                    await eva.print(a_pdf(), attribute("compression", ipp.KEYWORD, "gzip")),
                    Status.COMPRESSION_ERROR,
                ),
                "faithful": (
                    await ask(Op.VALIDATE_JOB, faithful, job=copies),
                    Status.ATTRIBUTES_NOT_SUPPORTED,
                ),
                "else": (await ask(Op.VALIDATE_JOB, job=copies), Status.OK_IGNORED),
                "no job": (await ask(Op.CANCEL_JOB, attribute("job-id", ipp.INTEGER, 999)), Status.NOT_FOUND),
            }
            assert {name: answer.code for name, (answer, _) in expected.items()} == {
                name: status for name, (_, status) in expected.items()
            }
            ignored = expected["else"][0].group(ipp.UNSUPPORTED)
            assert [one.name for one in ignored.attributes] == ["copies", "job-dance"]
            other = Program(eva.uri + "-other")
            assert (await other.ask(get)).code == Status.NOT_FOUND

    run(play())


def test_attributes_are_those_that_are_asked_for(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            eva = await program(ben)

            async def names(*wanted: str) -> set[str]:
                more = [attribute("requested-attributes", ipp.KEYWORD, *wanted)] if wanted else []
                answer = await eva.ask(Op.GET_PRINTER_ATTRIBUTES, *more)
                return {one.name for one in answer.group(ipp.PRINTER).attributes}

            assert await names("printer-state", "copies-supported") == {"printer-state", "copies-supported"}
            template = await names("job-template")
            assert "sides-supported" in template
            assert "printer-name" not in template
            description = await names("printer-description")
            assert template | description == await names("all") == await names()

    run(play())


def test_pages_of_the_web_print_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            server = (await program(ben)).server
            request = ipp.encode(Ipp(Op.PRINT_JOB, 1, (Group(ipp.OPERATION, (CHARSET, LANGUAGE)),)))

            async def said(*lines: str, body: bytes = request) -> bytes:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                head = "\r\n".join((*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""))
                writer.write(head.encode() + body)
                answer = await reader.read()
                writer.close()
                return answer

            post_, host, kind = (
                "POST / HTTP/1.1",
                f"Host: {server.authority}",
                "Content-Type: application/ipp",
            )
            assert b" 200 OK" in await said(post_, host, kind)
            for line in (f"Origin: http://{server.authority}", "Sec-Fetch-Site: same-origin"):
                assert b" 403 " in await said(post_, host, kind, line)
            assert b" 400 " in await said(post_, host, "Content-Type: text/plain")
            assert b" 200 OK" in await said(f"GET /{server.path.rpartition('/')[2]} HTTP/1.1", host, body=b"")
            assert b" 403 " in await said("GET / HTTP/1.1", "Host: evil.example", body=b"")
            assert b"100 Continue" in await said(post_, host, kind, "Expect: 100-continue")

    run(play())


def test_a_document_is_bounded_packed_and_unpacked(tmp_path: Path) -> None:
    async def play() -> None:
        (tmp_path / "home-ben").mkdir()
        (tmp_path / "home-ben" / "config.toml").write_text("[app.printers]\ndocument_bytes_max = 100_000\n")
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            eva = await program(ben)
            room = 100_000 - len(a_pdf())
            assert (await eva.print(a_pdf() + bytes(room))).code == Status.OK
            packed = attribute("compression", ipp.KEYWORD, "gzip")
            over = a_pdf() + bytes(room + 1)
            assert (await eva.print(over)).code == Status.TOO_LARGE
            assert (await eva.print(gzip.compress(over), packed)).code == Status.TOO_LARGE
            assert not list((tmp_path / "home-ben" / "apps" / "printers" / "incoming").iterdir())

    run(play())


@pytest.mark.parametrize("raw", [b"", b"\x02\x00", b"\x02\x00\x00\x02\x00\x00\x00\x01\x01" + b"\x21" * 40])
def test_what_is_no_ipp_is_said_so(raw: bytes, tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            server = (await program(ben)).server
            reader, writer = await asyncio.open_connection(server.host, server.port)
            lines = ("POST / HTTP/1.1", f"Host: {server.authority}", "Content-Type: application/ipp")
            writer.write("\r\n".join((*lines, f"Content-Length: {len(raw)}", "", "")).encode() + raw)
            assert b" 400 " in await reader.readuntil(b"\r\n")
            writer.close()

    run(play())
