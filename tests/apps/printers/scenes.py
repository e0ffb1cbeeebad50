"""Scenes with programs of others, each on a computer of its own (`computer.sh`): prints what it saw as JSON.

tests/apps/printers/computer.sh python -m tests.apps.printers.scenes suites FOLDER
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from coterie.node import Node
from coterie.testing import run
from tests.apps.files.nodes import friends
from tests.apps.printers.fake_printer import a_pdf
from tests.apps.printers.test_service import print_on, until

FORMATS = "application/pdf,image/jpeg,image/pwg-raster,image/urf"
SUITES = "/usr/share/cups/ipptool"


async def said(*words: str, seconds: float = 50.0, **environment: str) -> str:
    """All that a program says."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment,
    )
    try:
        async with asyncio.timeout(seconds):
            return (await process.communicate())[0].decode(errors="replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


@contextlib.asynccontextmanager
async def ippeveprinter(port: int, keep: Path) -> AsyncIterator[str]:
    """CUPS's own sample of a printer; documents stay in `keep`. Its address."""
    keep.mkdir()
    script = keep.parent / "printed"
    script.write_text("#!/bin/sh\nexit 0\n")  # else it takes some seconds for each page
    script.chmod(0o755)
    words = [
        "-p",
        str(port),
        "-k",
        "-d",
        str(keep),
        "-r",
        "off",
        "-c",
        str(script),
        "-f",
        FORMATS,
        f"Laser{port}",
    ]
    process = await asyncio.create_subprocess_exec("ippeveprinter", *words, stderr=subprocess.DEVNULL)
    try:
        uri = f"ipp://localhost:{port}/ipp/print"
        async with asyncio.timeout(10):
            while "successful-ok" not in await said("ipptool", "-tv", uri, "get-printer-attributes.test"):
                await asyncio.sleep(0.1)
        yield uri
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def office(folder: Path, uri: str, **more: Any) -> AsyncIterator[tuple[Node, Node, str]]:
    """anna shares the printer at `uri`; ben's address of it."""
    async with friends(folder) as (anna, ben):
        await anna.service("printers").share(uri, ["contacts"], as_="laser", **more)
        yield anna, ben, (await ben.service("printers").lines())[0].address


async def suites(folder: Path) -> dict[str, Any]:
    """ipp-everywhere.test, with ipp-2.0.test and ipp-1.1.test in it: against the printer itself, and through us."""
    document = folder / "document.pdf"
    document.write_bytes(a_pdf(2))
    async with ippeveprinter(8631, folder / "one") as direct, ippeveprinter(8632, folder / "two") as other:  # noqa: SIM117
        async with office(folder, other) as (_, _, far):
            words = ("ipptool", "-t", "-V", "2.0", "-f", str(document))
            suite = f"{SUITES}/ipp-everywhere.test"
            both = await asyncio.gather(said(*words, direct, suite), said(*words, far, suite))
    for name, text in zip(("direct", "far"), both, strict=True):
        (folder / f"{name}.txt").write_text(text)
    return {
        name: {
            kind: sorted(re.findall(rf"^\s*(.*?)\s*\[{kind}\]", text, re.M))
            for kind in ("PASS", "FAIL", "SKIP")
        }
        for name, text in zip(("direct", "far"), both, strict=True)
    }


async def lan(folder: Path) -> dict[str, Any]:
    """A printer that is open to the local network is found by the programs that look for printers."""
    async with (
        ippeveprinter(8631, folder / "one") as direct,
        office(folder, direct, lan=True) as (anna, _, _),
    ):
        port = anna.service("printers")._ports["laser"].number
        async with asyncio.timeout(20):
            while str(port) not in (found := await said("ippfind", "-T", "3", "_ipp._tcp", seconds=10)):
                pass
        browsed = await said("avahi-browse", "-trp", "_ipp._tcp", seconds=10)
        browsed += await said("avahi-browse", "-tp", "_universal._sub._ipp._tcp", seconds=10)
        async with asyncio.timeout(30):
            while "driverless:" not in (driverless := await said("driverless", "list", seconds=15)):
                pass
        uri = next(word for word in found.split() if f":{port}/" in word)
        asked = await said(
            "ipptool", "-tv", f"ipp://localhost:{port}/ipp/print", "get-printer-attributes.test"
        )
    return {
        "ippfind": found,
        "avahi": browsed,
        "driverless": driverless,
        "uri": uri,
        "port": port,
        "asked": "status-code = successful-ok" in asked,
    }


def picture(folder: Path) -> Path:
    """A JPEG, made by Ghostscript from a page."""
    page = folder / "page.pdf"
    page.write_bytes(a_pdf(1))
    words = [
        "gs",
        "-q",
        "-dBATCH",
        "-dNOPAUSE",
        "-sDEVICE=jpeg",
        "-r50",
        f"-sOutputFile={folder / 'page.jpg'}",
        str(page),
    ]
    subprocess.run(words, check=True)
    return folder / "page.jpg"


def text_pdf(folder: Path) -> Path:
    """Two pages with something on them."""
    source = folder / "text.ps"
    pages = "".join(
        f"/Courier findfont 40 scalefont setfont 100 {y} moveto (page {y}) show showpage\n"
        for y in (300, 500)
    )
    source.write_text("%!PS\n<< /PageSize [595 842] >> setpagedevice\n" + pages)
    words = [
        "gs",
        "-q",
        "-dBATCH",
        "-dNOPAUSE",
        "-sDEVICE=pdfwrite",
        f"-sOutputFile={folder / 'text.pdf'}",
        str(source),
    ]
    subprocess.run(words, check=True)
    return folder / "text.pdf"


def rendered(document: Path) -> list[str]:
    """What its pages look like, roughly: black and white, 20 dots an inch."""
    out = document.parent / f"{document.stem}-%d.pbm"
    words = [
        "gs",
        "-q",
        "-dBATCH",
        "-dNOPAUSE",
        "-sDEVICE=pbmraw",
        "-r20",
        "-g165x233",
        f"-sOutputFile={out}",
        str(document),
    ]
    subprocess.run(words, check=True)
    pages = sorted(document.parent.glob(f"{document.stem}-*.pbm"))
    return [hashlib.sha256(page.read_bytes().split(b"\n", 3)[-1]).hexdigest() for page in pages]


async def cups(folder: Path) -> dict[str, Any]:
    """`lp` through a real print system, to ippeveprinter and to a queue of cups-pdf that somebody else shares."""
    pdf, jpeg = text_pdf(folder), picture(folder)
    keep = folder / "one"
    async with ippeveprinter(8631, keep) as direct, office(folder, direct) as (anna, ben, _):
        added = await ben.service("printers").add("laser", queue="far")
        orders = [await said("lp", "-d", "far", str(pdf)), await said("lp", "-d", "far", str(jpeg))]
        with contextlib.suppress(TimeoutError):
            await until(lambda: [j.state for j in ben.service("printers").jobs()].count("printed") == 2, 40)
        jobs = [(j.state, j.note, j.who) for j in ben.service("printers").jobs()]
        kept = list(keep.iterdir())
        near = folder / "two"
        async with ippeveprinter(8632, near) as other:  # the same without us
            orders.append(
                await said("/usr/sbin/lpadmin", "-p", "near", "-E", "-v", other, "-m", "everywhere")
            )
            orders.append(await said("lp", "-d", "near", str(pdf)))
            async with asyncio.timeout(20):
                while not (plain := [p for p in near.glob("*.pdf") if b"%%EOF" in p.read_bytes()[-20:]]):
                    await asyncio.sleep(0.2)
        queue = ["-p", "paper", "-E", "-v", "cups-pdf:/", "-P", "/usr/share/ppd/cups-pdf/CUPS-PDF_opt.ppd"]
        made = await said("/usr/sbin/lpadmin", *queue)
        await anna.service("printers").share("paper", ["contacts"])
        done = await print_on(ben, pdf, "paper")
        async with asyncio.timeout(20):
            while not (out := [p for p in Path("/var/spool/cups-pdf").rglob("*.pdf")]):
                await asyncio.sleep(0.2)
        await asyncio.sleep(1)
        local = folder / "cups-pdf.pdf"
        local.write_bytes(out[0].read_bytes())
    through = [p for p in kept if p.suffix == ".pdf"]
    return {
        "added": added.text(),
        "made": made,
        "orders": orders,
        "jobs": jobs,
        "kept": [p.name for p in kept],
        "jpeg": any(p.read_bytes() == jpeg.read_bytes() for p in kept),
        "pages": rendered(pdf),
        "pages through cups": rendered(through[0]) if through else [],
        "pages without us": rendered(plain[0]),
        "cups-pdf": (done.state, done.note),
        "pages of cups-pdf": rendered(local),
    }


SCENES: dict[str, Callable[[Path], Awaitable[dict[str, Any]]]] = {"suites": suites, "lan": lan, "cups": cups}


def main(words: Sequence[str]) -> None:
    folder = Path(words[1])
    folder.mkdir(parents=True, exist_ok=True)

    async def play() -> None:
        print(json.dumps(await SCENES[words[0]](folder)))

    run(play(), 100)


if __name__ == "__main__":
    main(sys.argv[1:])
