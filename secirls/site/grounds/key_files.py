"""Signing keys as files: each site makes its own, and the public halves together are the roster.

Promises: a private key is written for its owner's eyes alone and never printed; a roster is named by
its digest, which people compare over another channel before the first session.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from protocols.primitives.keys import KEY_BYTES, Identity
from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, MisuseError, PartyId, party_id
from protocols.sessions.session import Roster
from secirls.input_error import InputError, complain
from secirls.inputs.files.text_file import read_text

PRIVATE, PUBLIC = ".key", ".pub"

_DIGEST = re.compile("[0-9a-fA-F]{64}")


def new_key(name: PartyId, folder: Path) -> tuple[Path, Path]:
    """Make a signing key for a party: a private and a public file. Never replaces one.

    Raises `InputError` where the name can't be a party's or a file is there already.
    """
    if name not in (KEY_HOLDER, KEY_DEALER):
        try:
            party_id(name)
        except MisuseError as error:
            raise InputError(str(error)) from None
    seed = secrets.token_bytes(KEY_BYTES)
    private, public = folder / f"{name}{PRIVATE}", folder / f"{name}{PUBLIC}"
    folder.mkdir(parents=True, exist_ok=True)
    _write_new(private, {"name": name, "ed25519_private": seed.hex()}, mode=0o600)
    _write_new(public, {"name": name, "ed25519_public": Identity(seed).public.hex()}, mode=0o644)
    return private, public


def read_identity(name: PartyId, path: str | os.PathLike[str]) -> Identity:
    """A party's signing key from its private file. Raises `InputError` without quoting the file."""
    told = _read(Path(path), "ed25519_private", name)
    if told["name"] != name:
        raise complain(f"holds the key of {told['name']!r}", site=name, file=str(path))
    return Identity(told["key"])


def keyed_digest(name: PartyId, path: str | os.PathLike[str], message: bytes) -> bytes:
    """HMAC-SHA-256 of a message under a party's private key, which no one else can compute. Raises `InputError`."""
    told = _read(Path(path), "ed25519_private", name)
    return hmac.digest(told["key"], b"secirls keyed digest v1" + name.encode() + b"\0" + message, "sha256")


def make_roster(public_files: Sequence[Path]) -> Roster:
    """The roster of the parties whose public files these are. Raises `InputError` for two of one name."""
    keys: dict[PartyId, bytes] = {}
    for path in public_files:
        told = _read(path, "ed25519_public")
        if told["name"] in keys:
            raise complain(f"holds a second key for {told['name']!r}", file=str(path))
        keys[told["name"]] = told["key"]
    try:
        return Roster(keys)
    except MisuseError as error:
        raise InputError(str(error)) from None


def is_digest(named: str) -> bool:
    """Whether what is named for a roster is the digest of one, and no file."""
    return _DIGEST.fullmatch(named) is not None


@dataclass(frozen=True)
class KnownRoster:
    """A roster as one party knows it from elsewhere than the session: the keys, or what names all of them."""

    keys: Mapping[PartyId, str] | None
    """Names and hexadecimal keys; ``None`` where the digest alone is known."""
    digest: str = ""
    """As ``secirls keys roster`` shows it, where the keys are not known."""

    @classmethod
    def read(cls, named: str, here: Path) -> Self:
        """What a ground names: a roster's file, from the folder ``here``, or its digest. Raises `InputError`."""
        if is_digest(named):
            return cls(None, named.lower())
        return cls(read_roster(here / named))

    def check(self, me: PartyId, announced: Mapping[PartyId, bytes]) -> None:
        """Raise `MisuseError` unless the keys that were announced to this party are those of its roster.

        By the keys a session of some of those in the roster is one, by the digest only that of all of them.
        """
        if self.keys is None:
            if Roster(announced).digest.hex() != self.digest:
                raise MisuseError(f"the session was announced to {me} with another roster than it knows by its digest")
            return
        for party, key in sorted(announced.items()):
            if self.keys.get(party) != key.hex():
                raise MisuseError(f"the session was announced to {me} with another key for {party} than the roster's")


def read_roster(path: Path) -> dict[PartyId, str]:
    """A roster file's names and hexadecimal keys. Raises `InputError`."""
    try:
        roster = Roster.from_json(read_text(path))
    except MisuseError as error:
        raise complain(f"is not a roster: {error}", file=str(path)) from None
    return {name: roster.keys[name].hex() for name in roster}


def write_new(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet, with these permissions from the start."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise complain("is there already and is not replaced", file=str(path)) from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def _write_new(path: Path, content: dict[str, str], *, mode: int) -> None:
    write_new(path, json.dumps(content, indent=2) + "\n", mode=mode)


def _read(path: Path, field: str, site: PartyId = "") -> dict[str, Any]:
    text = read_text(path, site=site)
    try:
        told = json.loads(text)
        key = bytes.fromhex(told[field])
        name = str(told["name"])
    except (ValueError, KeyError, TypeError):
        raise complain(f"is not a key file with {field!r}", site=site, file=str(path)) from None
    if len(key) != KEY_BYTES:
        raise complain(f"has a key of {len(key)} bytes, not {KEY_BYTES}", site=site, file=str(path))
    return {"name": name, "key": key}
