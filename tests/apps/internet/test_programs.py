"""The programs that people have, through an exit: what they ask for is behind another computer alone."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie.apps.internet.messages import pack_addressed, read_addressed
from tests.apps.expose.test_processes import needed
from tests.apps.internet.world import ECHO_PORT, EXIT, EXIT_OUTSIDE, LARGE_BYTES, NAME, WEB, World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: needs root")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three computers in a row."""
    made = World(tmp_path_factory.mktemp("internet"))
    try:
        made.start()
        yield made
    finally:
        made.close()


def curl(world: World, *words: str) -> tuple[int, str]:
    """Its exit status, and what it printed."""
    done = world.run("curl", "-sS", "--max-time", "20", *words)
    return done.returncode, done.stdout + done.stderr


def test_without_the_exit_there_is_no_way(world: World) -> None:
    assert curl(world, "--connect-timeout", "2", f"http://{WEB}/")[0] != 0


@pytest.mark.parametrize("kind", ["socks5h", "socks4a", "http"])
def test_curl(world: World, kind: str) -> None:
    status, said = curl(world, "--proxy", f"{kind}://{world.proxy}", f"http://{NAME}/x")
    assert (status, f"{NAME} /x" in said) == (0, True), said
    tunnel = ["--proxytunnel"] if kind == "http" else []
    large = ["-o", "/dev/null", "-w", "%{size_download}"]
    status, said = curl(world, *tunnel, *large, "--proxy", f"{kind}://{world.proxy}", f"http://{NAME}/large")
    assert (status, said) == (0, str(LARGE_BYTES))


def test_one_connection_to_the_http_proxy_carries_requests_to_several_hosts(world: World) -> None:
    urls = [f"http://{NAME}/one", f"http://{WEB}/two", f"http://{NAME}/three"]
    status, said = curl(world, "-v", "--proxy", f"http://{world.proxy}", *urls)
    assert status == 0
    assert [f"{host} /{path}" in said for host, path in ((NAME, "one"), (WEB, "two"), (NAME, "three"))] == [
        True
    ] * 3
    assert said.count("Connected to 127.0.0.1") == said.count("Trying 127.0.0.1") == 1


def test_proxychains(world: World, tmp_path: Path) -> None:
    program = shutil.which("proxychains4") or needed("proxychains4")
    host, _, port = world.proxy.partition(":")
    settings = tmp_path / "proxychains.conf"
    settings.write_text(f"strict_chain\nproxy_dns\n[ProxyList]\nsocks5 {host} {port}\n")
    done = world.run(program, "-q", "-f", str(settings), "curl", "-sS", f"http://{NAME}/chains")
    assert f"{NAME} /chains" in done.stdout, done.stderr


def test_netcat(world: World) -> None:
    program = shutil.which("nc.openbsd") or needed("netcat-openbsd")
    asked = f"GET /nc HTTP/1.0\r\nHost: {NAME}\r\n\r\n"
    done = world.run(program, "-X", "5", "-x", world.proxy, "-w", "5", NAME, "80", input=asked)
    assert f"{NAME} /nc" in done.stdout, done.stderr


def test_a_browser_with_the_pac_file(world: World, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or needed("chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    pac = f"--proxy-pac-url=http://{world.proxy}/proxy.pac"
    done = world.run(browser, *flags, pac, f"http://{NAME}/browser")
    assert f"{NAME} /browser" in done.stdout, done.stderr


def test_apt(world: World, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(world.apt_repository())
    for folder in ("lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    options = {
        "Acquire::http::Proxy": f"http://{world.proxy}",
        "APT::Sandbox::User": "root",  # the port is for programs of its user and of root
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    done = world.run("apt-get", *words, "update")
    assert done.returncode == 0, done.stderr
    done = world.run("apt-get", *words, "download", "coterie-test", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("coterie-test_1_all.deb"))


def test_datagrams_by_socks(world: World) -> None:
    """DNS, asked by name and by address, and an echo; what was not asked for does not come."""
    host, _, port = world.proxy.partition(":")
    question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\3web\7example\0\0\1\0\1"

    def exchange() -> tuple[bytes, list[bytes]]:
        with socket.create_connection((host, int(port)), 10) as control:
            control.sendall(b"\5\1\0")
            assert control.recv(2) == b"\5\0"
            control.sendall(b"\5\3\0\1" + bytes(6))
            answer = control.recv(10)
            assert answer[:2] == b"\5\0"
            place = socket.inet_ntoa(answer[4:8]), int.from_bytes(answer[8:], "big")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
                program.settimeout(10)
                program.connect(place)
                program.send(bytes(3) + pack_addressed(WEB, 53, question))
                names = program.recv(65_536)
                echoed = []
                for size in (1, 1_000, 9_000):
                    program.send(bytes(3) + pack_addressed(NAME, ECHO_PORT, bytes(size)))
                    echoed.append(program.recv(65_536))
                program.send(bytes(3) + pack_addressed("127.0.0.1", ECHO_PORT, b"x"))
                program.send(bytes(3) + pack_addressed(EXIT_OUTSIDE, ECHO_PORT, b"x"))
                program.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    program.recv(65_536)
                return names, echoed

    names, echoed = world.user.call(exchange)
    source, number, answer = read_addressed(names[3:])
    assert (source, number) == (WEB, 53)
    assert answer[:2] == question[:2]
    assert socket.inet_aton(WEB) in answer
    assert [len(read_addressed(one[3:])[2]) for one in echoed] == [1, 1_000, 9_000]


@pytest.mark.parametrize(
    "url",
    [
        f"http://{EXIT}/",
        f"http://{EXIT_OUTSIDE}/",
        "http://11.99.0.2/",  # in the exit's network
        "http://10.77.0.2/",  # the user, seen from the exit
        "http://127.0.0.1/",
        "http://inner.example/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        f"http://{NAME}/inward",  # leads to 127.0.0.1
    ],
)
def test_closed_addresses_stay_closed(world: World, url: str) -> None:
    status, said = curl(world, "-L", "--socks5-hostname", world.proxy, url)
    assert status == 97, said  # refused by the proxy
    code = curl(
        world, "-L", "-o", "/dev/null", "-w", "%{http_code}", "--proxy", f"http://{world.proxy}", url
    )[1]
    assert code in ("403", "400"), code


def test_the_owner_sees_who_used_how_much_and_nothing_else(world: World) -> None:
    curl(world, "-o", "/dev/null", "--proxy", f"socks5h://{world.proxy}", f"http://{NAME}/large")
    (user,) = world.anna.result("internet")["users"]
    assert user["name"] == "ben"
    assert user["days"][0]["down_bytes"] >= LARGE_BYTES
    world.anna("down")
    world.anna.process = None
    kept = [path for path in world.anna.folder.rglob("*") if path.is_file()]
    for text in (NAME.encode(), WEB.encode(), socket.inet_aton(WEB)):
        assert not [path for path in kept if text in path.read_bytes()]
