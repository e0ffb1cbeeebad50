"""The TLS of lanes: version 1.3 only, each side with a certificate that lives for one lane and is known to the other.

The certificates go over the connection that is authenticated already, so there is nobody to sign them: each side trusts
exactly the one it was told of. Blocking; call it in a thread.
"""

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from coterie.errors import PeerError, TransportError

HANDSHAKE_S = 5.0  # guess: as the handshake of a stream
_LIFE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)  # no clock of ours need be right
_NAME = "lane"  # says nothing of who we are


class LaneIdentity:
    """One lane's key and certificate. `certificate` is DER."""

    def __init__(self) -> None:
        from cryptography import x509  # 30 ms: only where bulk is moved
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_LIFE[0])
            .not_valid_after(_LIFE[1])
            .sign(key, None)
        )
        self.certificate = certificate.public_bytes(Encoding.DER)
        self._pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._pem += certificate.public_bytes(Encoding.PEM)

    def wrap(self, sock: socket.socket, peer_certificate: bytes, *, is_server: bool) -> ssl.SSLSocket:
        """The TLS connection over `sock`, which it owns from now on, both certificates checked.

        Raises:
            TransportError: the other side is not who was promised, or does not speak TLS 1.3 with us in time.
            PeerError: what the peer called its certificate is none.
        """
        try:
            context = self._context(peer_certificate, is_server=is_server)
            sock.settimeout(HANDSHAKE_S)
            secured = context.wrap_socket(sock, server_side=is_server, suppress_ragged_eofs=False)
        except (OSError, ValueError) as error:
            sock.close()
            if isinstance(error, ssl.SSLError) or not isinstance(error, ssl.CertificateError):
                raise TransportError(f"a lane could not be secured: {error}") from None
            raise
        except PeerError:
            sock.close()
            raise
        if secured.getpeercert(binary_form=True) != peer_certificate:
            secured.close()
            raise TransportError("somebody else than the peer answered on a lane")
        return secured

    def _context(self, peer_certificate: bytes, *, is_server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if is_server:
            # The writer never reads: a ticket would stay in its buffer, and closing over it resets the connection.
            context.num_tickets = 0
        with _file_of(self._pem) as path:
            context.load_cert_chain(path)
        try:
            context.load_verify_locations(cadata=peer_certificate)
        except (ssl.SSLError, ValueError):
            raise PeerError("what the peer calls its lane certificate is none") from None
        return context


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
