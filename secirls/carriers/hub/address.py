"""Where a hub is: HOST:PORT, as whoever leads says it and as a party does.

Promises: what no machine can be called is refused here, before anybody is. Refuses to know: who listens, and who calls.
"""

from __future__ import annotations

import re

from secirls.carriers.certificates import is_address
from secirls.input_error import InputError

_PORT = re.compile(r"[1-9][0-9]{0,4}")


def place_of(address: str) -> tuple[str, int]:
    """Host and port of an address. Raises `InputError`."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not is_address(host) or not _PORT.fullmatch(port) or int(port) >= 1 << 16:
        raise InputError(f"address {address!r:.80}: write HOST:PORT of the hub, as in 10.0.0.1:8443")
    return host, int(port)
