"""Programs of requests made up by chance, by three senders at once: no byte is lost, doubled, or anybody else's."""

import asyncio
import base64
import hashlib
from pathlib import Path
from random import Random, SystemRandom

from coterie.web.uploads import UploadFolder
from tests.support import run
from tests.web.uploads.serve import described, served

STEPS = 250
OWNERS = ("anna", "phone-1", "phone-2")
NAMES = (
    "a.txt",
    "..",
    "../a",
    "/etc/passwd",
    "a/../../b",
    "b\\..\\c",
    "con",
    "x" * 300,
    "a\nb",
    "\u202eexe.txt",
    "",
)


class Upload:
    """What an upload has to be, by what was answered."""

    def __init__(self, owner: str, path: str, content: bytes) -> None:
        self.owner, self.path, self.content, self.offset = owner, path, content, 0
        self.is_there = True


async def step(here, random: Random, known: list[Upload]) -> None:  # type: ignore[no-untyped-def]
    """One request, and what has to be true after it."""
    if len(known) < 6 or random.random() < 0.05:
        await create(here, random, known)
        return
    one = random.choice(known)
    match random.choice(
        ("more", "more", "more", "other", "ahead", "wrong sum", "too much", "race", "ask", "remove")
    ):
        case "more":
            await add(here, one, random.randint(0, 40), 204)
        case "other":  # somebody else at it, by any method
            owner = random.choice([name for name in OWNERS if name != one.owner])
            method = random.choice(("HEAD", "PATCH", "DELETE"))
            headers = {
                "X-Owner": owner,
                "Upload-Offset": str(one.offset),
                "Content-Type": "application/offset+octet-stream",
            }
            answer = await here.ask(method, one.path, headers, b"theirs" if method == "PATCH" else None)
            assert answer.status == 404
        case "ahead":
            answer = await here.add(
                one.path, one.offset + random.choice((-1, 1, 10**14)), b"x", **{"X-Owner": one.owner}
            )
            assert answer.status in (400, 404, 409, 413)
        case "wrong sum":
            said = base64.b64encode(hashlib.sha1(b"not this", usedforsecurity=False).digest()).decode()
            part = one.content[one.offset : one.offset + 5] or b""
            answer = await here.add(
                one.path, one.offset, part, **{"X-Owner": one.owner, "Upload-Checksum": f"sha1 {said}"}
            )
            assert answer.status in (404, 460)
        case "too much":
            rest = len(one.content) - one.offset
            answer = await here.add(one.path, one.offset, b"y" * (rest + 1), **{"X-Owner": one.owner})
            assert answer.status in (404, 413)
        case "race":  # the same part by three lines at once: it is there once
            part = one.content[one.offset : one.offset + 20]
            asked = [here.add(one.path, one.offset, part, **{"X-Owner": one.owner}) for _ in range(3)]
            statuses = [answer.status for answer in await asyncio.gather(*asked)]
            assert set(statuses) <= {204, 400, 404, 409}, statuses
            if one.is_there:
                one.offset += len(part)
        case "ask":
            answer = await here.ask("HEAD", one.path, {"X-Owner": one.owner})
            assert answer.status == (200 if one.is_there else 404)
            if one.is_there:
                assert int(answer.headers["Upload-Offset"]) == one.offset
        case "remove" if random.random() < 0.2:
            answer = await here.ask("DELETE", one.path, {"X-Owner": one.owner})
            assert answer.status == (204 if one.is_there else 404)
            one.is_there = False


async def create(here, random: Random, known: list[Upload]) -> None:  # type: ignore[no-untyped-def]
    owner, content = random.choice(OWNERS), random.randbytes(random.randint(1, 200))
    headers = {
        "Upload-Length": str(len(content)),
        "Upload-Metadata": described(random.choice(NAMES)),
        "X-Owner": owner,
    }
    answer = await here.ask("POST", "/up/files", headers)
    assert answer.status in (201, 400)
    if answer.status == 201:
        known.append(Upload(owner, answer.headers["Location"], content))


async def add(here, one: Upload, size: int, status: int) -> None:  # type: ignore[no-untyped-def]
    part = one.content[one.offset : one.offset + size]
    answer = await here.add(one.path, one.offset, part, **{"X-Owner": one.owner})
    assert answer.status == (status if one.is_there else 404)
    if one.is_there:
        one.offset += len(part)


def test_any_program_of_requests(tmp_path: Path) -> None:
    random = Random(seed := SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    folder, outside = tmp_path / "up", tmp_path / "outside"
    outside.mkdir()
    known: list[Upload] = []

    async def work() -> None:
        async with served(folder) as here:
            for _ in range(STEPS):
                await step(here, random, known)
            check(here.folder)

    def check(uploads: UploadFolder) -> None:
        assert {one.id for one in uploads.all()} == {
            one.path.rpartition("/")[2] for one in known if one.is_there
        }
        for one in known:
            if one.is_there:
                upload = uploads.find(one.owner, one.path.rpartition("/")[2])
                assert uploads.part(upload).read_bytes() == one.content[: one.offset]
                assert not {"..", ".", ""} & {*upload.path}

    run(work(), 60.0)
    check(UploadFolder(folder))  # another run of the program finds the same
    assert [*outside.iterdir()] == []
    assert {path.name for path in tmp_path.iterdir()} == {"up", "outside"}
