"""Names of the domain name system, looked up beside everything else.

Not left to libtorrent: its session waits, when it ends, for what is being looked up, and holds the interpreter's lock
meanwhile, so a node without a name server froze for ten seconds (measured with 2.1.1).
"""

import socket
import threading
from collections.abc import Callable, Sequence

Node = tuple[str, int]


def look_up(nodes: Sequence[Node], found: Callable[[list[Node], list[str]], None]) -> None:
    """Call `found`, in a thread of its own, with the addresses of these (name, port), and with the names of no address.

    It takes as long as the system does, which may be minutes; nobody waits for it, the end of the process neither.
    """

    def run() -> None:
        addresses: dict[Node, None] = {}
        missing = []
        for name, port in nodes:
            try:
                answers = socket.getaddrinfo(name, port, type=socket.SOCK_DGRAM)
            except OSError:
                missing.append(name)
                continue
            addresses |= {(str(answer[4][0]), port): None for answer in answers}
        found(list(addresses), missing)

    threading.Thread(target=run, name="looking up names", daemon=True).start()


def joined(nodes: Sequence[Node]) -> str:
    """These (address, port) as libtorrent takes them in a setting."""
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in nodes)
