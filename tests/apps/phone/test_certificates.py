"""The authority of a node: what its certificates are good for, asked of openssl, curl and Chromium."""

import contextlib
import datetime
import http.server
import os
import shutil
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from coterie.apps.phone import certificates
from coterie.apps.phone.certificates import (
    LEAF_DAYS,
    RENEW_DAYS,
    Authority,
    is_private,
    read_certificate,
    read_key,
    subjects,
)
from coterie.errors import StorageError
from coterie.testing.checks import raised

NOW = datetime.datetime(2026, 5, 1, tzinfo=datetime.UTC)


class Clock:
    now = NOW

    def __call__(self) -> datetime.datetime:
        return self.now


def test_keys_are_of_their_owner_only_and_stay(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    first = Authority(folder, "anna's laptop")
    first.leaf(["192.168.1.2"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {
        "authority.key", "authority.pem", "leaf.key", "leaf.pem",
    }  # fmt: skip
    again = Authority(folder, "renamed")
    assert (again.pem, again.name) == (first.pem, first.name)
    assert "anna's laptop" in first.name
    assert len(first.fingerprint.split(":")) == 32


def test_the_leaf_is_for_exactly_the_addresses_of_now(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "a")

    def made(*addresses: str) -> x509.Certificate:
        return read_certificate(
            authority.leaf(addresses, ["Anna.local", "example.org"]).certificate.read_bytes()
        )

    first = made("192.168.1.2", "8.8.8.8", "fd00::1")
    assert subjects(first) == {"192.168.1.2", "fd00::1", "anna.local"}
    assert made("fd00::1", "192.168.1.2") == first
    assert subjects(made("10.0.0.9")) == {"10.0.0.9", "anna.local"}
    many = made(*(f"10.0.0.{n}" for n in range(certificates.ADDRESSES_MAX + 5)))
    assert len(subjects(many)) == certificates.ADDRESSES_MAX


def test_the_leaf_is_renewed_before_it_ends_and_never_too_long_for_browsers(tmp_path: Path) -> None:
    clock = Clock()
    authority = Authority(tmp_path, "a", clock)

    def made() -> x509.Certificate:
        return read_certificate(authority.leaf(["10.0.0.1"]).certificate.read_bytes())

    first = made()
    assert first.not_valid_after_utc - first.not_valid_before_utc <= datetime.timedelta(days=398)
    clock.now = NOW + datetime.timedelta(days=LEAF_DAYS - RENEW_DAYS - 1)
    assert made() == first
    clock.now = NOW + datetime.timedelta(days=LEAF_DAYS - RENEW_DAYS)
    assert made() != first


@pytest.mark.parametrize("name", ["leaf.pem", "leaf.key"])
def test_a_damaged_leaf_is_made_anew_and_a_damaged_authority_is_said(tmp_path: Path, name: str) -> None:
    authority = Authority(tmp_path, "a")
    authority.leaf(["10.0.0.1"])
    (tmp_path / name).write_text("?")
    files = authority.leaf(["10.0.0.1"])
    assert (
        read_key(files.key.read_bytes()).public_key()
        == read_certificate(files.certificate.read_bytes()).public_key()
    )
    (tmp_path / "authority.key").write_text("?")
    with raised(StorageError, "cannot be read"):
        Authority(tmp_path, "a")


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("192.168.0.1", True),
        ("172.31.255.1", True),
        ("172.32.0.1", False),
        ("8.8.8.8", False),
        ("fe80::1", True),
    ],
)
def test_which_addresses_are_private(address: str, private: bool) -> None:
    assert is_private(address) is private


def signed_for(authority: Authority, folder: Path, subject: str) -> certificates.Files:
    """A certificate that a thief of the key could make: for any name at all."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = read_certificate(authority.pem)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a thief")]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([certificates._general(subject)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(certificates._for_servers(), critical=False)
        .sign(read_key((folder / "authority.key").read_bytes()), hashes.SHA256())
    )
    files = certificates.Files(folder / "thief.pem", folder / "thief.key")
    files.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """An HTTPS server on loopback; its port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<p>the page of the node</p>")

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that refuses the certificate."""

    server = Server(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def context_of(files: certificates.Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


def needed(program: str, package: str) -> str:
    """Skip, but not where everything has to be there."""
    found = shutil.which(program)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"this test needs the Debian package {package}")
    if found is None:
        pytest.skip(f"needs the Debian package {package}")
    return found


@pytest.mark.parametrize("subject", ["www.example.org", "8.8.8.8", "notlocal"])
def test_openssl_and_curl_take_private_addresses_and_no_public_name(tmp_path: Path, subject: str) -> None:
    openssl, curl = needed("openssl", "openssl"), needed("curl", "curl")
    authority = Authority(tmp_path, "anna")
    root = tmp_path / "authority.pem"

    def verified(files: certificates.Files) -> subprocess.CompletedProcess[str]:
        words = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(root)]
        return subprocess.run([*words, str(files.certificate)], capture_output=True, text=True, check=False)

    assert verified(authority.leaf(["127.0.0.1"], ["anna.local"])).returncode == 0
    bad = signed_for(authority, tmp_path, subject)
    assert "permitted subtree violation" in verified(bad).stderr

    def asked(url: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = [curl, "-sS", "--noproxy", "*", "--cacert", str(root), *more, url]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    with serving(authority.context(["127.0.0.1"], ["anna.local"])) as port:
        assert "page of the node" in asked(f"https://127.0.0.1:{port}/").stdout
        connected = ("--resolve", f"anna.local:{port}:127.0.0.1")
        assert "page of the node" in asked(f"https://anna.local:{port}/", *connected).stdout
        assert asked(f"https://localhost:{port}/").returncode == 60  # not one of its names
    with serving(context_of(bad)) as port:
        said = asked(f"https://{subject}:{port}/", "--connect-to", f"::127.0.0.1:{port}")
        assert said.returncode == 60
        assert not said.stdout


def test_a_connection_gets_the_certificate_that_is_made_last(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "anna")
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    with serving(authority.context(["10.0.0.1"])) as port:

        def answers() -> bool:
            with (
                contextlib.suppress(ssl.SSLError),
                socket.create_connection(("127.0.0.1", port)) as raw,
                trusting.wrap_socket(raw, server_hostname="127.0.0.1"),
            ):
                return True
            return False

        assert not answers()
        authority.context(["127.0.0.1"])
        assert answers()


def test_chromium_opens_the_page_and_refuses_a_public_name(tmp_path: Path) -> None:
    """With the authority really installed, as the one of a user."""
    chromium, certutil = needed("chromium", "chromium"), needed("certutil", "libnss3-tools")
    home = tmp_path / "home"
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    authority = Authority(tmp_path / "node", "anna")
    store = f"sql:{database}"
    subprocess.run([certutil, "-d", store, "-N", "--empty-password"], check=True)
    root = tmp_path / "node" / "authority.pem"
    subprocess.run([certutil, "-d", store, "-A", "-t", "C,,", "-n", "coterie", "-i", str(root)], check=True)

    def seen(url: str, *more: str) -> str:
        words = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={home / 'profile'}",
        ]
        words += ["--disable-background-networking", "--no-first-run", "--enable-logging=stderr", *more]
        words += ["--dump-dom", url]
        environment = {**os.environ, "HOME": str(home)}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=False)
        return done.stdout + done.stderr

    with serving(authority.context(["127.0.0.1"])) as port:
        assert "the page of the node" in seen(f"https://127.0.0.1:{port}/")
    with serving(context_of(signed_for(authority, tmp_path / "node", "www.example.org"))) as port:
        rules = f"--host-resolver-rules=MAP www.example.org 127.0.0.1:{port}"
        said = seen("https://www.example.org/", rules)
        assert "net_error -207" in said, said  # ERR_CERT_INVALID of net_error_list.h
        assert "the page of the node" not in said
