"""A node with the app of `letters.py`, as a process: sends numbers, and keeps those of the other.

python -m tests.services.mail.worker HOME PEER ADDRESS COUNT
"""

import asyncio
import sqlite3
import sys
from pathlib import Path

from coterie.identity import PeerId
from coterie.node import Node
from tests.services.mail.letters import letters


def last_sent(db: sqlite3.Connection) -> int:
    """What mail itself has on disk: the truth, wherever the process was killed."""
    return int(
        db.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'mail_letters'"
        ).fetchone()[0]
    )


async def work(home: Path, peer: PeerId, address: str, count: int) -> None:
    async with Node.open(home, apps=["contacts", letters()]) as node:
        node.contacts.learn(peer, "other", (address,))
        print("up", flush=True)
        app = node.letters
        for number in range(await app.context.mail.records(last_sent) + 1, count + 1):
            await app.send(peer, str(number))
        print("sent", flush=True)
        while True:
            done = len(await app.got()) >= count
            print("whole" if done else "waits", flush=True)
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), PeerId.parse(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
