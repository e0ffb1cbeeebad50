"""Printers of one node used by another: over the memory network, with an IPP printer of ours on a real port."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.apps.printers import taking
from coterie.apps.printers.results import Printed
from coterie.errors import NotFound, UsageError
from coterie.net import MemoryNetwork
from coterie.node import Node
from tests.apps.files.nodes import befriend, friends, memory_node
from tests.apps.printers.fake_printer import FakePrinter, a_pdf, fake_printer
from tests.support import run

ORDER: dict[str, Any] = {"copies": 1, "sides": "", "media": "", "color": "", "pages": "", "waits": True}


async def print_on(node: Node, file: Path, printer: str = "laser", **order: Any) -> Printed:
    """Print, and wait for the end."""
    last = None
    async for step in node.service("printers").print(file, printer, **(ORDER | order)):
        last = step
    assert isinstance(last, Printed)
    return last


async def until(is_so: Callable[[], Any], seconds: float = 20.0) -> None:
    """Wait for what comes by itself."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.02)


def a_file(folder: Path, data: bytes, name: str = "report.pdf") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def shared(node: Node, printer: FakePrinter, **more: Any) -> None:
    await node.service("printers").share(printer.uri, ["contacts"], as_="laser", **more)


def test_a_document_is_printed_on_the_printer_of_somebody_else(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            file = a_file(tmp_path, data := a_pdf(3))
            done = await print_on(ben, file, copies=2, sides="two-sided-long-edge", pages="1-2")
            assert (done.state, done.pages, done.pages_done) == ("printed", 3, 6)
            assert printer.printed == [(digest(data), "report.pdf")]
            assert printer.templates == [{"copies": 2, "sides": "two-sided-long-edge"}], (
                "it knows no page-ranges"
            )
            assert [(j.who.partition(" ")[2], j.state) for j in anna.service("printers").jobs()] == [
                (f"({done.who})", "printed")
            ]
            await until(lambda: not list((tmp_path / "home-ben" / "apps" / "printers").glob("*/in-*")))

    run(play())


def test_a_new_printer_is_a_notice_and_stands_in_the_list(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            await until(lambda: any("is a printer for you" in n.said for n in ben.notices.all()))
            line = (await ben.service("printers").lines())[0]
            assert line.printer.endswith("/laser")
            assert (line.model, line.state) == ("Fake Laser 1", "ready")
            assert line.address.startswith("ipp://localhost:")
            await anna.service("printers").unshare("laser")
            assert await ben.service("printers").lines() == []

    run(play())


def test_who_is_not_named_sees_no_printer_and_prints_nothing(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            file = a_file(tmp_path, a_pdf())
            assert (await print_on(ben, file)).state == "printed"
            anna.service("circles").create("home")
            await anna.service("printers").share("laser", ["home"])
            done = await print_on(ben, file)  # it has not heard yet
            assert (done.state, done.pages_done) == ("failed", 0)
            assert "not for this computer" in done.note
            assert await ben.service("printers").lines() == []
            with pytest.raises(NotFound):
                await print_on(ben, file)
            assert len(printer.printed) == 1

    run(play())


def test_pages_of_a_month_are_counted_and_kept_to(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer, pages="10/month")
            five = a_file(tmp_path, a_pdf(5))
            assert (await print_on(ben, five)).state == "printed"
            assert (await ben.service("printers").lines())[0].pages_used == 5
            refused = await print_on(ben, five, copies=2)
            assert refused.state == "failed"
            assert refused.note == "10 pages are more than the 5 that are left of 10 for this month"
            assert (await print_on(ben, five)).state == "printed"
            assert (await print_on(ben, a_file(tmp_path, a_pdf(1)))).state == "failed"
            assert len(printer.printed) == 2
            printer.sides = 50  # what the printer says counts before what the document says
            assert (await print_on(anna, five)).pages_done == 50, "the owner has no quota"

    run(play())


def test_a_job_waits_for_the_owners_word(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer, is_asking=True)
            service = anna.service("printers")
            file = a_file(tmp_path, a_pdf())
            for say, state in ((service.approve, "printed"), (service.refuse, "cancelled")):
                waiting = asyncio.ensure_future(print_on(ben, file))
                await until(lambda: any(job.is_asking for job in service.jobs()))
                assert any("coterie printer approve" in n.said for n in anna.notices.all())
                say(next(job.id for job in service.jobs() if job.is_asking))
                assert (await waiting).state == state
                assert not any("coterie printer approve" in n.said for n in anna.notices.all())
            assert len(printer.printed) == 1

    run(play())


def test_what_cannot_be_shared_says_why(tmp_path: Path) -> None:
    async def play() -> None:
        (tmp_path / "anna").mkdir()
        (tmp_path / "anna" / "config.toml").write_text('[app.printers]\ncups = "ipp://127.0.0.1:9/"\n')
        async with memory_node(MemoryNetwork(), tmp_path / "anna") as anna, fake_printer() as printer:
            share = anna.service("printers").share
            with pytest.raises(NotFound, match=r"no print system answers here .*Connection refused"):
                await share("laser", ["contacts"])
            for to in ([], ["anyone"]):
                with pytest.raises(UsageError, match="for whom"):
                    await share(printer.uri, to)
            with pytest.raises(UsageError, match="quota"):
                await share(printer.uri, ["contacts"], pages="50/day")
            with pytest.raises(UsageError, match="small letters"):
                await share(printer.uri, ["contacts"], as_="My Laser")
            with pytest.raises(UsageError, match="no address"):
                await share("http://printer/", ["contacts"])

    run(play())


def test_what_the_printer_does_not_take_is_refused_here(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            printer.formats = ("application/pdf",)
            await shared(anna, printer)
            for data, said in (
                (b"\xff\xd8\xff\xe0 a picture", "does not take image/jpeg"),
                (b"", "empty"),
                (b"text", "does not take application/octet-stream"),
            ):
                with pytest.raises(UsageError, match=said):
                    await print_on(ben, a_file(tmp_path, data))
            with pytest.raises(UsageError, match="write 1 to"):
                await print_on(ben, a_file(tmp_path, a_pdf()), copies=0)
            with pytest.raises(UsageError, match="names no pages"):
                await print_on(ben, a_file(tmp_path, a_pdf()), pages="3-1")
            assert printer.printed == []

    run(play())


def test_one_cancels_ones_own_jobs_and_the_owner_all(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer(seconds=60) as printer:
            await shared(anna, printer)
            file = a_file(tmp_path, a_pdf())
            both = [asyncio.ensure_future(print_on(ben, file)) for _ in range(2)]
            await until(
                lambda: sorted(j.state for j in anna.service("printers").jobs()) == ["printing", "waiting"]
            )
            own = [job.id for job in ben.service("printers").jobs()]
            await ben.service("printers").cancel(own[1])
            [ended], [other] = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            assert ended.result().state == "cancelled"
            await until(lambda: "printing" in [j.state for j in anna.service("printers").jobs()])
            left = next(j.id for j in anna.service("printers").jobs() if j.state == "printing")
            await anna.service("printers").cancel(left)
            done = await other
            assert (done.state, done.note) == ("cancelled", "cancelled by the owner of the printer")
            assert printer.printed == []
            with pytest.raises(NotFound):
                await ben.service("printers").cancel(left)
            with pytest.raises(UsageError, match="over already"):
                await anna.service("printers").cancel(left)

    run(play())


def test_a_printer_that_is_killed_in_the_middle_prints_once_or_it_is_said(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            big = a_file(tmp_path, data := a_pdf(2) + bytes(500_000), "big.pdf")
            printer.dies_at = 100_000  # in the middle of the document: it cannot be printed
            waiting = asyncio.ensure_future(print_on(ben, big))
            await until(lambda: printer.dies_at < 0)
            await printer.start()
            assert (await waiting).state == "printed"
            assert printer.printed == [(digest(data), "big.pdf")]
            printer.seconds = 60
            waiting = asyncio.ensure_future(print_on(ben, big))
            await until(lambda: any(job.document for job in printer.jobs.values()))
            await until(lambda: any(j.state == "printing" for j in ben.service("printers").jobs()))
            await printer.kill()  # it has all of it: nobody knows how much is on paper
            await printer.start()
            done = await waiting
            assert done.state == "failed"
            assert "look what it printed" in done.note
            assert len(printer.printed) == 1

    run(play())


def test_a_job_that_is_not_printed_in_time_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "LOOK_S", 0.1)

    async def play() -> None:
        (tmp_path / "home-ben").mkdir()
        (tmp_path / "home-ben" / "config.toml").write_text("[app.printers]\nlasts_days = 0.00002\n")
        async with friends(tmp_path) as (anna, ben), fake_printer() as printer:
            await shared(anna, printer)
            await printer.kill()
            done = await print_on(ben, a_file(tmp_path, a_pdf()))
            assert (done.state, done.note) == ("failed", "it was not printed in time")
            await printer.start()
            await until(lambda: anna.service("printers").status()["jobs here"] == 0)
            assert printer.printed == []
            assert not list((tmp_path / "home-anna" / "apps" / "printers" / "spool").iterdir())

    run(play())


def test_a_printer_without_job_creation_prints_too(tmp_path: Path) -> None:
    async def play() -> None:
        async with friends(tmp_path) as (anna, ben), fake_printer(steps=False) as printer:
            await shared(anna, printer)
            assert (await print_on(ben, a_file(tmp_path, a_pdf()))).state == "printed"
            assert len(printer.printed) == 1

    run(play())


def test_a_job_waits_for_a_computer_that_is_away_and_is_printed_once(tmp_path: Path) -> None:
    async def play() -> None:
        network, file = MemoryNetwork(), a_file(tmp_path, data := a_pdf(2))
        async with fake_printer() as printer:
            async with memory_node(network, tmp_path / "ben") as ben:
                async with memory_node(network, tmp_path / "anna") as anna:
                    await befriend(anna, ben)
                    await shared(anna, printer)
                    assert (await print_on(ben, file)).state == "printed"
                    name = (await ben.service("printers").lines())[0].printer
                await until(lambda: not ben.people.is_here(anna.peer_id))
                waiting = await print_on(ben, file, name, waits=False)
                assert waiting.state == "waiting"
            async with (  # both were restarted meanwhile
                memory_node(network, tmp_path / "ben") as ben,
                memory_node(network, tmp_path / "anna") as anna,
            ):
                await anna.connect(ben.peer_id)  # the two meet
                await until(lambda: ben.service("printers").jobs()[-1].state == "printed")
            assert printer.printed == [(digest(data), "report.pdf")] * 2

    run(play(), 60)
