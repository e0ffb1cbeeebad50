"""docs/drive.md: what it says to type works, and each way to mount stands there as the program prints it."""

import json
import re
import shlex
from pathlib import Path

import msgspec

from coterie.apps.drive.mounting import ways
from coterie.quantity import read_size
from tests.apps.drive.figures import meet
from tests.apps.files.nodes import RunningNode, coterie
from tests.apps.files.test_places import photos

PAGE = (Path(__file__).parents[3] / "docs" / "drive.md").read_text()
PORT = 40123


def blocks(language: str = "") -> list[str]:
    """What stands between fences, of one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [text for of, text in found if of == language]


def test_what_it_says_to_type_works(tmp_path: Path) -> None:
    """All of it by the one who shares, in the order of the page."""
    anna, ben = RunningNode(tmp_path / "anna"), RunningNode(tmp_path / "ben")
    try:
        meet(anna, ben)
        (tmp_path / "Documents/plans/2026").mkdir(parents=True)
        (tmp_path / "Documents/plans/2026/a").write_bytes(b"a")
        (tmp_path / "films").mkdir()
        anna.call("share", str(photos(tmp_path)))
        anna.call("share", str(tmp_path / "films"))
        typed = [line for block in blocks() for line in block.splitlines() if line.startswith("coterie ")]
        typed += re.findall(r"`(coterie grant [^`]+)`", PAGE)
        typed += ["coterie drive off --lan", "coterie drive off"]
        assert len(typed) >= 6
        said = {}
        for line in typed:
            words = shlex.split(line.replace("~", str(tmp_path)))[1:]
            done = coterie(anna.home, "--json", *words)
            assert done.returncode == 0, (line, done.stderr)
            said[line] = json.loads(done.stdout.splitlines()[-1])
        assert said["coterie drive on"]["url"].startswith("http://drive.localhost:")
        assert said["coterie drive on --lan films"]["lan"][0]["password"]
        assert said["coterie drive off"]["state"] == "off"
        may = ben.call("ls", "anna/plans")
        assert may
    finally:
        anna.stop()
        ben.stop()


def test_each_way_to_mount_and_the_setting_stand_there() -> None:
    plain = PAGE.replace("PASSWORD", "secret").replace("PORT", str(PORT))
    for system in ("linux", "darwin", "win32"):
        for way in ways(system, PORT, "secret")[:2]:
            url = next(word for word in way.split() if "127.0.0.1" in word)
            assert url in plain, way
            if "DIR" in way or "net use" in way or "gio" in way:
                assert f"`{way}`" in plain, way
    (setting,) = blocks("toml")
    found = msgspec.toml.decode(setting)
    assert read_size(found["app"]["files"]["reading_cache"]) == 2_000_000_000
