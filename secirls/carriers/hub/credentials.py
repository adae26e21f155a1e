"""With what a party and a hub know each other: a certificate, its key and the authority that signed both sides'.

Promises: either side shows its certificate or there is no connection; TLS 1.3 and nothing older; a file that can't be
used is named in one sentence. Refuses to know: what is said over the connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from secirls.carriers.certificates import AUTHORITY, check_dates
from secirls.input_error import complain

SUFFIX = ".crt"


@dataclass(frozen=True)
class Credentials:
    """The three files that lie side by side: ``NAME.crt``, ``NAME.key`` and ``ca.crt``."""

    certificate: Path
    name: str
    """To whom it was given: a party's own name, for a party."""

    @classmethod
    def read(cls, certificate: Path) -> Credentials:
        """From the certificate's file. Raises `InputError` naming the file that can't be used."""
        if certificate.suffix != SUFFIX:
            raise complain(f"is no certificate: write one that ends in {SUFFIX}", file=str(certificate))
        for path in (certificate, certificate.with_suffix(".key"), _authority(certificate)):
            try:
                path.read_bytes()
            except OSError as error:
                raise complain(f"can't be read ({error.strerror})", file=str(path)) from None
        try:
            shown = x509.load_pem_x509_certificate(certificate.read_bytes())
            name = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        except (ValueError, IndexError):
            raise complain("is no certificate that names whom it was given to", file=str(certificate)) from None
        check_dates(shown, str(certificate))
        made = cls(certificate, str(name))
        made.context(server=False)
        made.check_signed()
        return made

    @property
    def key(self) -> Path:
        """Where its private key lies."""
        return self.certificate.with_suffix(".key")

    @property
    def authority(self) -> Path:
        """Where the authority's certificate lies."""
        return _authority(self.certificate)

    def check_signed(self) -> None:
        """Raise `InputError` where the authority did not sign the certificate: a hub hangs up without saying why."""
        shown, *between = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        authorities = x509.load_pem_x509_certificates(self.authority.read_bytes())
        while not any(_signed(shown, one) for one in authorities):
            above = next((one for one in between if _signed(shown, one)), None)
            if above is None:
                raise complain(
                    f"was not signed by the authority in {str(self.authority)!r}", file=str(self.certificate)
                )
            between.remove(above)
            shown = above

    def context(self, *, server: bool) -> ssl.SSLContext:
        """TLS 1.3 with both sides' certificates. Raises `InputError` naming the file that can't be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(self.authority)
        except (ssl.SSLError, OSError):
            raise complain("is no certificate of an authority", file=str(self.authority)) from None
        try:
            context.load_cert_chain(self.certificate, self.key, password="")  # rather than ask a terminal for it
        except (ssl.SSLError, OSError):
            raise complain(f"is no certificate of the key in {str(self.key)!r}", file=str(self.certificate)) from None
        return context


def shown_name(certificate: Mapping[str, Any] | None) -> str:
    """Whom a certificate names that the other side of a connection showed, as `ssl` tells it; nobody if not one."""
    subject = () if certificate is None else certificate.get("subject", ())
    named = [value for part in subject for field, value in part if field == "commonName"]
    return named[0] if len(named) == 1 else ""


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _authority(certificate: Path) -> Path:
    return certificate.with_name(f"{AUTHORITY}{SUFFIX}")
