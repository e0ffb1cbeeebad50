"""What others share has a name in web addresses here, while the drive is on."""

from pathlib import Path

from tests.apps.expose.programs import call
from tests.apps.files.nodes import friends
from tests.support import run


def test_a_name_of_what_is_shared_leads_to_its_page_in_the_drive(tmp_path: Path) -> None:
    async def play() -> None:
        folder = tmp_path / "Holiday Photos"
        folder.mkdir()
        (folder / "a.txt").write_text("a")
        async with friends(tmp_path) as (anna, ben):
            await anna.files.share(folder, to=["contacts"])

            async def get(name: str) -> str:
                host = ben.expose.web_address(anna.peer_id, name).removeprefix("http://").rstrip("/")
                async with call("127.0.0.1:" + host.rpartition(":")[2]) as (reader, writer):
                    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    return (await reader.read(1_000)).decode()

            assert "404" in await get("holiday-photos")
            drive = (await ben.drive.switch(is_on=True)).url
            who = ben.people.name_of(anna.peer_id)
            assert f"Location: {drive}{who}/Holiday%20Photos/\r\n" in await get("holiday-photos")
            assert "404" in await get("other")

    run(play())
