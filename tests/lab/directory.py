"""A private mainline DHT on one public computer of the laboratory: python -m tests.lab.directory IP...

It ends with its input. Every node has an address of its own, which `Directory` gives to the computer; they know only
each other.
"""

import secrets
import subprocess
import sys

from coterie.identity import SecretKey
from tests.lab.lab import Host, Lab
from tests.net.private_dht import PORT, foreign

NODES = 10  # guess: enough of them agree on the address that they see a newcomer at


class Directory:
    """Runs until the laboratory ends."""

    def __init__(self, lab: Lab) -> None:
        self.host: Host = lab.public("directory")
        ips = [self.host.ip, *(lab.internet.free_ip() for _ in range(NODES - 1))]
        for ip in ips[1:]:
            self.host.run("ip", "address", "add", f"{ip}/24", "dev", "eth0")
        process = self.host.popen(
            sys.executable, "-m", "tests.lab.directory", *ips, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline(), "the directory did not start"
        self.bootstrap = ", ".join(f"{ip}:{PORT}" for ip in ips)


def serve(ips: list[str]) -> None:
    """Be a DHT at `ips` until the input ends."""
    addresses = [(ip, PORT) for ip in ips]
    nodes = [foreign(SecretKey(secrets.token_bytes(32)), one, addresses) for one in addresses]
    print("ready", flush=True)
    sys.stdin.read()
    for node in nodes:
        node.close()


if __name__ == "__main__":
    serve(sys.argv[1:])
