"""TLS certificates for the machines of one federation, from an authority of its own.

Promises: a private key is written for its owner's eyes alone, and no file is ever replaced.
Refuses to know: who checks the certificates, and what travels under them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.secure_sum import MisuseError, legal_name
from secirls.input_error import InputError
from secirls.site.grounds.key_files import write_new

VALID_DAYS = 90
AUTHORITY = "ca"
LOOPBACK = ("127.0.0.1", "localhost")

_HOST = re.compile(r"(?:[A-Za-z0-9_*-]+\.)*(?!\d+\.?$)[A-Za-z0-9_-]+\.?")
"""Labels of letters and digits, the last one not of digits alone: that would be an IP address, written wrongly."""


def certificates(folder: Path, machines: Mapping[str, Sequence[str]]) -> list[Path]:
    """Make an authority and, for every machine, a certificate of `VALID_DAYS` for its addresses; gives the files.

    Raises `InputError` where a file is there already, or a name can't be a file's or an address's. Every key is EC
    P-256; ``ca.key`` is needed again only for further machines, and belongs on none of them.
    """
    names = {machine: _checked(machine, addresses) for machine, addresses in machines.items()}
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    until = now + timedelta(days=VALID_DAYS)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secirls federation")])
    own = (
        _builder(issuer, issuer, authority, now, until)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_others=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    written = [
        _write(folder / f"{AUTHORITY}.key", _private(authority), 0o600),
        _write(folder / f"{AUTHORITY}.crt", _public(own), 0o644),
    ]
    for machine, named in names.items():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, machine)])
        both_ways = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        signed = (
            _builder(name, issuer, key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_others=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both_ways), critical=False)
            .add_extension(x509.SubjectAlternativeName(named), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
            .sign(authority, hashes.SHA256())
        )
        written.append(_write(folder / f"{machine}.key", _private(key), 0o600))
        written.append(_write(folder / f"{machine}.crt", _public(signed), 0o644))
    return written


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _checked(machine: str, addresses: Sequence[str]) -> list[x509.GeneralName]:
    """A machine's addresses as a certificate has them, before anything is written. Raises `InputError`."""
    try:
        legal_name(machine)
    except MisuseError:
        allowed = "use 1 to 64 of A-Z a-z 0-9 _ . - starting with a letter or digit"
        raise InputError(f"machine {machine!r:.80}: {allowed}") from None
    if machine == AUTHORITY:
        raise InputError(f"machine {machine!r}: is what the files of the authority are called, choose another name")
    return _names(machine, addresses)


def _names(machine: str, addresses: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for address in dict.fromkeys((*addresses, *LOOPBACK)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(_host(machine, address))
    return names


def _host(machine: str, address: str) -> x509.DNSName:
    """What is no IP address, as a host's name. Raises `InputError`."""
    if not address.isascii():
        raise InputError(f"machine {machine!r}: of an address only letters of ASCII are taken, others as xn--")
    if not _HOST.fullmatch(address):
        what = "is neither an IP address nor a host's name; a port is no part of either"
        raise InputError(f"machine {machine!r}: {address!r:.80} {what}")
    return x509.DNSName(address)


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _public(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _write(path: Path, text: str, mode: int) -> Path:
    write_new(path, text, mode=mode)
    return path
