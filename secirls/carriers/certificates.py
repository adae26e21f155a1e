"""TLS certificates for the machines of one federation, from an authority of its own.

Promises: a private key is written for its owner's eyes alone, and no file is ever replaced; no certificate outlives
the authority that signed it.
Refuses to know: who checks the certificates, and what travels under them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocols.secure_sum import MisuseError, legal_name
from secirls.input_error import InputError, complain
from secirls.inputs.files.text_file import read_text
from secirls.site.grounds.key_files import write_new

VALID_DAYS = 90
AUTHORITY = "ca"
LOOPBACK = ("127.0.0.1", "localhost")

_HOST = re.compile(r"(?:[A-Za-z0-9_*-]+\.)*(?!\d+\.?$)[A-Za-z0-9_-]+\.?")
"""Labels of letters and digits, the last one not of digits alone: that would be an IP address, written wrongly."""


@dataclass(frozen=True)
class Signed:
    """What was made in a folder."""

    files: tuple[Path, ...]
    until: datetime
    """When the certificates, and at the latest their authority, end."""
    further: bool
    """Whether the authority was there already."""


@dataclass(frozen=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def certificates(folder: Path, machines: Mapping[str, Sequence[str]]) -> Signed:
    """Make a certificate of `VALID_DAYS` for the addresses of every machine, and an authority unless one is there.

    One that lies in the folder signs further machines, for no longer than it is valid itself. Every key is EC P-256;
    ``ca.key`` belongs on none of the machines.

    Raises `InputError`, before anything is written, where a machine's file is there already, a name can't be a file's
    or an address's, or what lies there is no authority that could sign now.
    """
    names = {machine: _checked(machine, addresses) for machine, addresses in machines.items()}
    now = datetime.now(UTC)
    there = _authority_in(folder, now)
    for machine in names:
        for path in _files(folder, machine):
            if path.exists():
                raise complain("is there already and is not replaced", file=str(path))
    folder.mkdir(parents=True, exist_ok=True)
    authority = there or _new_authority(now)
    written = [] if there else _written(folder, AUTHORITY, authority.key, authority.certificate)
    until = min(now + timedelta(days=VALID_DAYS), authority.certificate.not_valid_after_utc)
    for machine, named in names.items():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, machine)])
        both_ways = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        signed = (
            _builder(name, authority.certificate.subject, key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_others=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(both_ways), critical=False)
            .add_extension(x509.SubjectAlternativeName(named), critical=False)
            .add_extension(issuer, critical=False)
            .sign(authority.key, hashes.SHA256())
        )
        written += _written(folder, machine, key, signed)
    return Signed(tuple(written), until, further=there is not None)


def _new_authority(now: datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secirls federation")])
    own = (
        _builder(name, name, key, now, now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_others=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _Authority(key, own)


def _authority_in(folder: Path, now: datetime) -> _Authority | None:
    """The authority that lies in a folder, if one does. Raises `InputError` where it can't sign now."""
    private, public = _files(folder, AUTHORITY)
    if not (private.exists() or public.exists()):
        return None
    certificate, key = _read_authority(public, read_text(public)), _read_key(private, read_text(private))
    if key.public_key() != certificate.public_key():
        raise complain(f"is not the key of {public.name}", file=str(private))
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now < ends:
        told = f"is valid from {moment(begins)} to {moment(ends)}, and now it is {moment(now)} (UTC)"
        raise complain(f"{told}; --out names a new folder for a new authority", file=str(public))
    return _Authority(key, certificate)


def _read_authority(path: Path, text: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return certificate
    except (ValueError, x509.ExtensionNotFound):
        pass
    raise complain("is no certificate of an authority", file=str(path))


def _read_key(path: Path, text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # the second of one with a password
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise complain("is no private key of an authority", file=str(path))
    return key


def check_dates(shown: x509.Certificate, file: str) -> None:
    """Raise `InputError` where our certificate is of another time than now: the other side hangs up without a word."""
    begins, ends, now = shown.not_valid_before_utc, shown.not_valid_after_utc, datetime.now(UTC)
    if not begins <= now <= ends:
        raise complain(
            f"is valid from {moment(begins)} to {moment(ends)}, and now it is {moment(now)} (UTC) by the clock of this "
            "machine",
            file=file,
        )


def is_address(host: str) -> bool:
    """Whether a machine may be called so: an IP address, or a host's name in letters of ASCII."""
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return host.isascii() and "*" not in host and len(host) < 254 and _HOST.fullmatch(host) is not None


def moment(time: datetime) -> str:
    """A date and time as sentences have it."""
    return f"{time:%Y-%m-%d %H:%M}"


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a private key and its certificate lie."""
    return folder / f"{name}.key", folder / f"{name}.crt"


def _written(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> list[Path]:
    private, public = _files(folder, name)
    write_new(private, _private(key), mode=0o600)
    write_new(public, _public(certificate), mode=0o644)
    return [private, public]


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
