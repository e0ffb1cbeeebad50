"""The node's own certificate authority: HTTPS for phones on the local network, without anybody else's word.

A phone that installs this authority trusts it for private addresses and for names under .local, and for nothing else:
the bounds stand in the authority's certificate (RFC 5280, 4.2.1.10, critical) and every browser holds to them. So who
steals the key cannot pass for a bank. Keys are P-256, in files of their owner only.
"""

import contextlib
import datetime
import ipaddress
import os
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from coterie.decoding import decoder
from coterie.errors import StorageError
from coterie.private_file import write_private
from coterie.texts import tr

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",  # RFC 1918
    "169.254.0.0/16", "127.0.0.0/8",  # RFC 3927, RFC 1122
    "fc00::/7", "fe80::/10", "::1/128",  # RFC 4193, RFC 4291
)  # fmt: skip
DOMAIN = "local"  # RFC 6762: names that no registry gives out; the constraint holds for all below it
AUTHORITY_DAYS = 3_650  # a phone installs it once
LEAF_DAYS = 90  # browsers and phones take up to 398; a node renews it by itself
RENEW_DAYS = 30  # before its end
EARLIER_HOURS = 24  # clocks of phones that are slow
ADDRESSES_MAX = 32  # in one certificate; guess: more interfaces than any computer has at home
SERIAL_CHARS = 8  # of the authority's key, in its name: two nodes of one name are told apart


class Files(msgspec.Struct, frozen=True):
    """Where a certificate and its key are."""

    certificate: Path
    key: Path


class Authority:
    """The authority in one folder, made at the first use. Methods block for some milliseconds."""

    def __init__(
        self,
        folder: Path,
        name: str,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
    ) -> None:
        """`name`: of this computer, for lists of installed authorities.

        Raises:
            StorageError: the folder cannot be used, or what is in it is no key or certificate.
        """
        self._now = now
        self._files = Files(folder / "authority.pem", folder / "authority.key")
        self._leaf = Files(folder / "leaf.pem", folder / "leaf.key")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._files.certificate.exists():
                self._make(name)
            self._key = read_key(self._files.key.read_bytes())
            self.pem = self._files.certificate.read_bytes()
            self._certificate = read_certificate(self.pem)
        except OSError as error:
            raise StorageError(
                tr(
                    "the certificates in {folder} cannot be read: {strerror}",
                    folder=folder,
                    strerror=error.strerror,
                )
            ) from error
        self._context: ssl.SSLContext | None = None

    @property
    def der(self) -> bytes:
        """Its certificate as phones install it."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._certificate.public_bytes(Encoding.DER)

    @property
    def name(self) -> str:
        """As the phone lists it."""
        from cryptography.x509.oid import NameOID

        return str(self._certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its certificate as phones show it: "AB:CD:..."."""
        from cryptography.hazmat.primitives import hashes

        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def context(self, addresses: Sequence[str], names: Sequence[str] = ()) -> ssl.SSLContext:
        """For a server at these private `addresses` and `names` under .local. The same object each time.

        Connections from now on get the certificate made last. Raises `StorageError`.
        """
        self.leaf(addresses, names)
        if self._context is None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context.set_alpn_protocols(["http/1.1"])
        try:
            self._context.load_cert_chain(self._leaf.certificate, self._leaf.key)
        except (OSError, ssl.SSLError) as error:
            raise StorageError(
                tr("the certificate of this computer cannot be used: {error}", error=error)
            ) from error
        return self._context

    def leaf(self, addresses: Sequence[str], names: Sequence[str] = ()) -> Files:
        """A certificate for exactly these addresses and names: the one that is there, while it fits and lasts.

        Addresses that are not private are left out: nobody may believe this authority about them.
        Raises `StorageError`.
        """
        wanted = {
            str(address) for address in map(ipaddress.ip_address, addresses) if is_private(str(address))
        }
        wanted |= {name.lower() for name in names if name.lower().endswith(f".{DOMAIN}")}
        if not self._fits(wanted):
            self._make_leaf(sorted(wanted)[:ADDRESSES_MAX])
        return self._leaf

    def _fits(self, wanted: set[str]) -> bool:
        try:
            leaf = read_certificate(self._leaf.certificate.read_bytes())
            key = read_key(self._leaf.key.read_bytes())
        except (OSError, StorageError):
            return False
        with contextlib.suppress(Exception):  # whatever the library says of one that it cannot compare
            leaf.verify_directly_issued_by(self._certificate)
            lasts = leaf.not_valid_after_utc - self._now() > datetime.timedelta(days=RENEW_DAYS)
            is_ours = key.public_key() == leaf.public_key()
            return lasts and is_ours and subjects(leaf) == set(sorted(wanted)[:ADDRESSES_MAX])
        return False

    def _make(self, name: str) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        tag = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:SERIAL_CHARS]
        subject = _name(f"coterie {name[:40]} ({tag})")
        subtrees: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_network(net)) for net in PRIVATE]
        bounds = x509.NameConstraints([*subtrees, x509.DNSName(DOMAIN)], None)
        builder = (
            _builder(subject, subject, key, self._now(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(bounds, critical=True)
            .add_extension(_for_servers(), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        write_private(self._files.key, _pem_of(key))
        write_private(self._files.certificate, _signed(builder, key))

    def _make_leaf(self, subjects: Sequence[str]) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        tag = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest.hex()[:SERIAL_CHARS]
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        builder = (
            _builder(_name(f"coterie computer {tag}"), self._certificate.subject, key, self._now(), LEAF_DAYS)
            .add_extension(x509.SubjectAlternativeName([_general(one) for one in subjects]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(_for_servers(), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False
            )
        )
        write_private(self._leaf.key, _pem_of(key))
        write_private(self._leaf.certificate, _signed(builder, self._key))


def is_private(address: str) -> bool:
    """Whether the authority may vouch for this IP address."""
    found = ipaddress.ip_address(address)
    return any(found in ipaddress.ip_network(net) for net in PRIVATE)


def subjects(certificate: "x509.Certificate") -> set[str]:
    """The addresses and names that it is for, as text."""
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(one.value) for one in names}


@decoder(StorageError, "the key of the certificates")
def read_key(pem: bytes) -> "EllipticCurvePrivateKey":
    """Raises `StorageError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("another kind of key")
    return key


@decoder(StorageError, "the certificate of the authority")
def read_certificate(pem: bytes) -> "x509.Certificate":
    """Raises `StorageError`."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return x509.load_pem_x509_certificate(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


def _builder(
    subject: "x509.Name",
    issuer: "x509.Name",
    key: "EllipticCurvePrivateKey",
    now: datetime.datetime,
    days: int,
) -> "x509.CertificateBuilder":
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(os.urandom(16)) >> 1 | 1)
        .not_valid_before(now - datetime.timedelta(hours=EARLIER_HOURS))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _signed(builder: "x509.CertificateBuilder", key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _pem_of(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _name(text: str) -> "x509.Name":
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(subject: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(subject))
    except ValueError:
        return x509.DNSName(subject)


def _for_servers() -> Any:
    """An authority that is for servers only vouches for no mail and no program either."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def _usage(*, signs: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
