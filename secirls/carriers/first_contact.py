"""First contact with a Ray cluster that is there: whether it answers, and in clear or under TLS as this process speaks.

Ray itself tries on for minutes, and says nothing, where certificates do not match or one side has none.
Promises: whoever can't be spoken to is named within seconds, with the file or setting that it lies at; one who is only
slow is no mistake. Refuses to know: Ray, tokens, fits.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from cryptography import x509

from secirls.carriers.certificates import check_dates
from secirls.input_error import InputError, complain

REACH_SECONDS = 5.0
"""How long a cluster has to accept a connection, and to say its first word."""

AUTHORITY, CERTIFICATE, KEY = "RAY_TLS_CA_CERT", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY"

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""With which a connection of HTTP/2 begins, and so one of gRPC: RFC 9113, 3.4; whoever hears it answers likewise."""


def check_contact(address: str) -> None:
    """Raise `InputError` unless something listens at HOST:PORT, and speaks as this process does."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    under_tls = _context() if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true") else None
    try:
        connection = socket.create_connection((host, int(port)), timeout=REACH_SECONDS)
    except (OSError, OverflowError):
        raise InputError(f"no Ray cluster answers at {address!r}") from None
    with connection:
        if under_tls is None:
            _greet_in_clear(connection, address)
        else:
            _greet_under_tls(connection, under_tls, host, address)


def _greet_in_clear(connection: socket.socket, address: str) -> None:
    """Raise `InputError` where the other side hangs up at the first word, as one does that waits for TLS."""
    try:
        connection.sendall(_GREETING)
        heard = connection.recv(1)
    except TimeoutError:
        return
    except OSError:
        heard = b""
    if not heard:
        raise InputError(
            f"the Ray cluster at {address!r} hangs up on who speaks without TLS, and RAY_USE_TLS is not set here; "
            "'secirls cluster template' prints the environment that it needs"
        )


def _greet_under_tls(connection: socket.socket, context: ssl.SSLContext, host: str, address: str) -> None:
    """Raise `InputError` where either side does not take the other's certificate, or the other speaks no TLS."""
    try:
        spoken = context.wrap_socket(connection, server_hostname=host)
    except TimeoutError:
        return
    except ssl.SSLCertVerificationError as error:
        raise complain(
            f"does not vouch for the Ray cluster at {address!r} ({error.verify_message})", file=os.environ[AUTHORITY]
        ) from None
    except OSError as error:
        told = _reason(error)
        raise InputError(
            f"the Ray cluster at {address!r} speaks no TLS, and RAY_USE_TLS is set here ({told})"
        ) from None
    with spoken:
        try:
            spoken.sendall(_GREETING)
            heard = spoken.recv(1)  # only now is it seen what the other side thinks of our certificate
        except TimeoutError:
            return
        except OSError as error:
            raise _not_taken(address, _reason(error)) from None
    if not heard:
        raise _not_taken(address, "it hangs up on who shows it")


def _reason(error: OSError) -> str:
    told = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (told or type(error).__name__).lower().replace("_", " ")


def _not_taken(address: str, why: str) -> InputError:
    return complain(f"is not taken by the Ray cluster at {address!r} ({why})", file=os.environ[CERTIFICATE])


def _context() -> ssl.SSLContext:
    """TLS with the files that Ray takes from the environment. Raises `InputError` naming the one that can't be used."""
    files = {name: os.environ.get(name, "") for name in (AUTHORITY, CERTIFICATE, KEY)}
    for name, file in files.items():
        if not file:
            raise InputError(f"{name} is not set, and RAY_USE_TLS is: it names a file, see 'secirls cluster template'")
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise complain(f"can't be read ({error.strerror}), and {name} names it", file=file) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(files[AUTHORITY])
    except (ssl.SSLError, OSError):
        raise complain(f"is no certificate, and {AUTHORITY} names it", file=files[AUTHORITY]) from None
    try:
        context.load_cert_chain(files[CERTIFICATE], files[KEY])
    except (ssl.SSLError, OSError):
        raise complain(f"is no certificate of the key in {files[KEY]!r}", file=files[CERTIFICATE]) from None
    try:
        shown = x509.load_pem_x509_certificate(Path(files[CERTIFICATE]).read_bytes())
    except ValueError:  # OpenSSL read more than this
        return context
    check_dates(shown, files[CERTIFICATE])
    return context
