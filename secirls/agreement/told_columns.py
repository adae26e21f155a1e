"""Var columns that a fit's user names: what sites say of theirs, signed, so that only what all have alike is told.

Promises: a site says a digest of its text, over the agreed genes in order, or why there is none; the text itself
leaves one site, where every site of the roster signed the same digest. Refuses to know: which columns a site may tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from protocols.primitives.keys import Identity
from protocols.secure_sum import PartyId, PeerError, begun, framed_texts
from protocols.sessions.session import Roster, open_message, sign_message
from secirls.inputs.files.var_columns import Unfit

Texts = tuple[str, ...]
Said = Mapping[str, str]
"""By column, a digest in hexadecimal, or the words of `Unfit`."""

SHOWN_SITES = 3
_KIND, _DIGEST = b"var columns", re.compile("[0-9a-f]{64}")


def text_digest(name: str, texts: Sequence[str]) -> str:
    """SHA-256 of a column's texts in the order of the genes, hexadecimal."""
    digest = begun(b"secirls var column v1", name.encode())
    digest.update(framed_texts(texts, errors="surrogatepass"))
    return digest.hexdigest()


def sign_columns(identity: Identity, site: PartyId, agreed: bytes, columns: Mapping[str, Texts | Unfit]) -> bytes:
    """What a site says of its columns in the session that ``agreed`` is the digest of."""
    said = {name: held if isinstance(held, Unfit) else text_digest(name, held) for name, held in columns.items()}
    return sign_message(identity, _KIND, site, agreed, json.dumps(said).encode())


def read_columns(roster: Roster, site: PartyId, agreed: bytes, names: Sequence[str], message: bytes) -> Said:
    """What a site said of these columns. Raises `PeerError` naming it for what it did not sign, and for nonsense."""
    body = bytes(open_message(roster, _KIND, site, agreed, message))
    said = {name: text for name, text in _read(body).items() if isinstance(text, str)}
    digests = [text for text in said.values() if text not in list(Unfit)]
    if tuple(said) != tuple(names) or not all(map(_DIGEST.fullmatch, digests)):
        raise PeerError(site, "says nothing of its var columns that can be read")
    return said


def alike(said: Mapping[PartyId, Said], names: Sequence[str]) -> tuple[str, ...]:
    """The columns of which every site said the same digest."""
    first = next(iter(said.values()))
    return tuple(
        name
        for name in names
        if first[name] not in list(Unfit) and all(told[name] == first[name] for told in said.values())
    )


def left_out(said: Mapping[PartyId, Said], names: Sequence[str]) -> dict[str, str]:
    """Why each of the other columns is left out, in a sentence that names it and the sites."""
    told, kept = {}, alike(said, names)
    for name in names:
        if name in kept:
            continue
        by_what: dict[str, list[PartyId]] = {}
        for site in sorted(said):
            by_what.setdefault(said[site][name], []).append(site)
        unfit = {what: sites for what, sites in by_what.items() if what in list(Unfit)}
        why = "; ".join(f"it {what} at {_named(sites)}" for what, sites in unfit.items())
        groups = "; ".join(_named(sites) for sites in by_what.values())
        told[name] = f"Var column {name!r} is left out: {why or f'it differs between sites ({groups})'}."
    return told


def pack_texts(columns: Mapping[str, Texts]) -> bytes:
    """Texts as they leave a site."""
    return json.dumps(columns).encode()


def read_texts(site: PartyId, said: Said, names: Sequence[str], genes: int, message: bytes) -> dict[str, Texts]:
    """The texts of these columns, which a site said the digests of. Raises `PeerError` for others."""
    columns = {
        name: tuple(texts)
        for name, texts in _read(message).items()
        if isinstance(texts, list) and all(isinstance(text, str) for text in texts)
    }
    digests = {name: text_digest(name, texts) for name, texts in columns.items() if len(texts) == genes}
    if digests != {name: said[name] for name in names}:
        raise PeerError(site, "sends other text of its var columns than it signed")
    return {name: columns[name] for name in names}


def _read(message: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        read = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _named(sites: Sequence[PartyId]) -> str:
    more = len(sites) - SHOWN_SITES
    return ", ".join(sites[:SHOWN_SITES]) + (f" and {more} more" if more > 0 else "")
