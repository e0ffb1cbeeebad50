"""Write the homes of two neighbours with the code of version 0.1: run inside a checkout of the tag v0.1.

    git worktree add ../v0.1 v0.1 && cd ../v0.1 && make .venv/.dev-ready
    PYTHONPATH=. .venv/bin/python tools/isolate.py .venv/bin/python PATH/TO/make_homes.py homes-v0.1.tar.xz

anna owns the circle "home" with ben; shares `photos` by ticket, `music` with the circle, `letters` with ben; gave ben
a grant for `diary`; has a recovery phrase. ben was killed (-9) in the middle of the film, and has photos whole.
Homes name what they share by absolute paths, so both stand at a fixed place: FOLDER.
"""

import json
import os
import shutil
import sys
import tarfile
import time
from pathlib import Path

from tests.apps.circles.test_processes import let_in, until
from tests.apps.files.nodes import RunningNode, coterie
from tests.apps.grants.test_processes import meet, running_get

FOLDER = Path("/tmp/coterie-homes-of-v0.1")
FILM_LINES = 700_000  # 15 MB that compress well, and yet no chunk twice
WHEN_S = 1_700_000_000


def write_tree(root: Path, files: dict[str, str]) -> None:
    """Files with a fixed date: what is shared is known by size and date."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (WHEN_S, WHEN_S))


def film() -> str:
    """The film's bytes, the same every time."""
    return "".join(f"line {number:>14}\n" for number in range(FILM_LINES))


def write_shared() -> None:
    """What anna shares; the tests write the film anew instead of keeping it."""
    write_tree(
        FOLDER,
        {
            "photos/2024/a.jpg": "a" * 1_000,
            "photos/2024/summer/b.jpg": "b" * 300_000,
            "photos/readme": "hello",
            "music/song.ogg": "la " * 50_000,
            "letters/to-ben.txt": "Dear Ben",
            "diary/monday.txt": "Rain.",
            "film.mkv": film(),
        },
    )


def record() -> dict[str, object]:
    """Fill both homes; give what a test needs to know of them."""
    anna, ben = RunningNode(FOLDER / "anna"), RunningNode(FOLDER / "ben")
    meet(anna, ben)
    anna.call("circle", "new", "home")
    let_in(anna, ben, ["circle", "invite", "home", "--role", "owner"], ["circle", "join", "--name", "ben"])
    tickets = {
        "photos": anna.call("share", str(FOLDER / "photos"))["ticket"],
        "film": anna.call("share", str(FOLDER / "film.mkv"))["ticket"],
        "diary": anna.call("share", str(FOLDER / "diary"))["ticket"],
    }
    anna.call("share", str(FOLDER / "music"), "--to", "home")
    anna.call("share", str(FOLDER / "letters"), "--to", "ben")
    anna.call("grant", "ben", "list,read", "files/diary", "--lasting", "1830d")
    words = anna.call("recovery", "new")["words"]
    until(lambda: any((FOLDER / "ben").rglob("deposits/*")))
    ben.call("get", tickets["photos"], str(FOLDER / "photos-of-anna"))
    anna.call("limits", "--up", "3000000")
    getting = running_get(ben, tickets["film"], FOLDER / "film-of-anna.mkv")
    while json.loads(getting.stdout.readline()).get("done", 0) < 4_000_000:
        pass
    ben.kill()
    getting.communicate()
    ids = {name: coterie(FOLDER / name, "id").stdout.split()[0] for name in ("anna", "ben")}
    anna.call("limits", "--up", "0")
    time.sleep(1)
    anna.stop()
    return {"tickets": tickets, "words": words, "ids": ids, "made": int(time.time())}


def without_runtime(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Of `run/` only the port, which the tickets name."""
    return None if "/run/" in info.name and not info.name.endswith("/port") else info


def main() -> None:
    """Make the homes and pack them."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_shared()
    facts = record()
    (FOLDER / "facts.json").write_text(json.dumps(facts, indent=1))
    with tarfile.open(sys.argv[1], "w:xz") as packed:
        for path in sorted(FOLDER.iterdir()):
            if path.name != "film.mkv":
                packed.add(path, path.name, filter=without_runtime)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
