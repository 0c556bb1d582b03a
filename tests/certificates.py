"""An authority of the tests' own, and the certificates that it issues: PEM files in a folder."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """PEM files of a certificate, of its private key, and of both."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """Issues certificates; `cert` is the PEM file of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key.public_key(), days=30)
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        self.cert = folder / f"{name}.crt"
        self.cert.write_bytes(
            builder.add_extension(constraints, critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + min(days * DAY, timedelta()) - DAY)
            .not_valid_after(now + days * DAY)
        )

    def issue(self, name: str, *hosts: str, days: int = 30, password: str = "") -> Pair:
        """A certificate for hosts, names or addresses; `days` below 0: it has expired; `password`: of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key(), days)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), False)
        cert = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        encryption: KeySerializationEncryption = (
            BestAvailableEncryption(password.encode()) if password else NoEncryption()
        )
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        pair = Pair(*(self._folder / f"{name}.{ending}" for ending in ("crt", "key", "pem")))
        pair.cert.write_bytes(cert)
        pair.key.write_bytes(secret)
        pair.both.write_bytes(secret + cert)
        return pair


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
