"""The TLS of lanes: version 1.3 only, each side with a certificate that lives for one lane and is known to the other.

The certificates go over the connection that is authenticated already, so there is nobody to sign them: each side trusts
exactly the one it was told of. Blocking; call it in a thread.

Where a round trip is long, the handshake goes over the connection of the pair while TCP is still dialling (`Shaking`).
"""

import base64
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from coterie.errors import PeerError, TransportError
from coterie.identity import SecretKey
from coterie.texts import tr

HANDSHAKE_S = 5.0  # guess: as the handshake of a stream
_SERIAL_BYTES = 16

# RFC 5280 and RFC 8410 in DER; every field has one length, so all but three of them is constant. A library that writes
# certificates takes 60 ms to load, in the moment when a transfer begins.
_ED25519 = bytes.fromhex("300506032b6570")
_NAME = bytes.fromhex("300f310d300b06035504030c04") + b"lane"  # says nothing of who we are
_LIFE = (
    b"\x30\x20\x17\x0d000101000000Z\x18\x0f21000101000000Z"  # 2000 to 2100: no clock of ours need be right
)
_TOLD = (
    bytes.fromhex("30818f a003020102 021101")  # version 3; a serial number above zero
    + b"%b" + _ED25519 + _NAME + _LIFE + _NAME + bytes.fromhex("302a") + _ED25519 + bytes.fromhex("032100") + b"%b"
)  # fmt: skip
_SIGNATURE = bytes.fromhex("034100")
_KEY = bytes.fromhex("302e020100") + _ED25519 + bytes.fromhex("04220420")  # PKCS 8


class LaneIdentity:
    """One lane's key and certificate. `certificate` is DER."""

    def __init__(self) -> None:
        key = SecretKey(os.urandom(32))
        told = _TOLD % (os.urandom(_SERIAL_BYTES), bytes(key.peer_id))
        self.certificate = _sequence(told + _ED25519 + _SIGNATURE + key.sign(told))
        self._pem = _as_pem("PRIVATE KEY", _KEY + key.seed) + _as_pem("CERTIFICATE", self.certificate)

    def wrap(self, sock: socket.socket, peer_certificate: bytes, *, is_server: bool) -> ssl.SSLSocket:
        """The TLS connection over `sock`, which it owns from now on, both certificates checked.

        Raises:
            TransportError: the other side is not who was promised, or does not speak TLS 1.3 with us in time.
            PeerError: what the peer called its certificate is none.
        """
        try:
            context = self.context(is_server=is_server)
            _trust(context, peer_certificate)
            sock.settimeout(HANDSHAKE_S)
            secured = context.wrap_socket(sock, server_side=is_server, suppress_ragged_eofs=False)
        except (OSError, ValueError) as error:
            sock.close()
            if isinstance(error, ssl.SSLError) or not isinstance(error, ssl.CertificateError):
                raise TransportError(tr("a lane could not be secured: {error}", error=error)) from None
            raise
        except PeerError:
            sock.close()
            raise
        if secured.getpeercert(binary_form=True) != peer_certificate:
            secured.close()
            raise TransportError(tr("somebody else than the peer answered on a lane"))
        return secured

    def context(self, *, is_server: bool) -> ssl.SSLContext:
        """What trusts nobody yet."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if is_server:
            # The writer never reads: a ticket would stay in its buffer, and closing over it resets the connection.
            context.num_tickets = 0
        with _file_of(self._pem) as path:
            context.load_cert_chain(path)
        return context


class Shaking:
    """A handshake whose bytes travel apart from the TCP connection that it is for. Each step takes milliseconds.

    TLS runs over a pair of local sockets; in the end the TCP connection takes the place of its end of the pair.
    """

    def __init__(self, identity: LaneIdentity, peer_certificate: bytes = b"", *, is_server: bool) -> None:
        """`peer_certificate`: as for `trust`, where it is known already."""
        self.is_done = False
        self._peer_certificate = b""
        self._context = identity.context(is_server=is_server)
        ours, self._there = socket.socketpair()
        for sock in (ours, self._there):
            sock.setblocking(False)
        self._secured = self._context.wrap_socket(
            ours, server_side=is_server, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        if peer_certificate:
            self.trust(peer_certificate)

    def trust(self, certificate: bytes) -> None:
        """The other side is who has this one. Raises `PeerError` when it is none."""
        _trust(self._context, certificate)
        self._peer_certificate = certificate

    def step(self, heard: bytes = b"") -> bytes:
        """What to send the other side, after what was heard of it; `is_done` says whether that is the end.

        Raises:
            TransportError: the other side is not who was promised, or does not speak TLS 1.3.
        """
        said = b""
        try:
            self._there.sendall(heard)
            try:
                self._secured.do_handshake()
                self.is_done = True
            except ssl.SSLWantReadError:
                pass
            with suppress(BlockingIOError):
                while part := self._there.recv(1 << 16):
                    said += part
        except (OSError, ValueError) as error:
            raise TransportError(tr("a lane could not be secured: {error}", error=error)) from None
        if self.is_done and self._secured.getpeercert(binary_form=True) != self._peer_certificate:
            raise TransportError(tr("somebody else than the peer answered on a lane"))
        return said

    def secure(self, sock: socket.socket) -> ssl.SSLSocket:
        """The TLS connection over `sock`, which it owns from now on. Call it once, when the handshake is done."""
        try:
            os.dup2(sock.fileno(), self._secured.fileno(), inheritable=False)
        finally:
            sock.close()
        self._there.close()
        return self._secured

    def lend(self) -> tuple[ssl.SSLSocket, socket.socket]:
        """The TLS connection, and the socket through which its bytes go on. As `secure`."""
        self._there.setblocking(True)
        return self._secured, self._there

    def close(self) -> None:
        """It comes to nothing."""
        self._there.close()
        self._secured.close()


CAN_SHAKE = sys.platform != "win32"  # sockets are no files there, and none takes the place of another


def _trust(context: ssl.SSLContext, certificate: bytes) -> None:
    try:
        context.load_verify_locations(cadata=certificate)
    except (ssl.SSLError, ValueError):
        raise PeerError("what the peer calls its lane certificate is none") from None


def _sequence(body: bytes) -> bytes:
    return b"\x30\x81" + bytes([len(body)]) + body


def _as_pem(kind: str, der: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(der).decode()}-----END {kind}-----\n".encode()


@contextmanager
def _file_of(secret: bytes) -> Iterator[str]:
    """A path to read `secret` from, for this block only: Python's TLS takes keys from files alone."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("coterie-lane", os.MFD_CLOEXEC)
        path, is_real = f"/proc/self/fd/{fd}", False
    else:
        fd, path = tempfile.mkstemp(prefix="coterie-lane-")  # readable by its owner only
        is_real = True
    try:
        os.write(fd, secret)
        if is_real:
            os.close(fd)
        yield path
    finally:
        if is_real:
            os.unlink(path)
        else:
            os.close(fd)
