"""What a fit is ordered with: what is asked, of whom, and how it is carried. Made once, and never changed.

Promises: an order that can't be carried out is refused here, in one sentence, before anything is started.
Refuses to know: any site's data, and who leads.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from protocols.choice import helpers
from protocols.secure_sum import MisuseError, PartyId
from secirls.agreement.cluster_address import cluster_at, cluster_of_the_job
from secirls.agreement.manifest import Engine, check_hub, check_keys, check_sites
from secirls.agreement.past import Past
from secirls.config import OF_PROTOCOLS, Config
from secirls.input_error import InputError, complain
from secirls.inputs.designs.design import variables
from secirls.inputs.files.site_file import check_place, in_memory

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData


_BLOCK_BYTES = 1 << 16

GROUND = ".toml"
"""How the name of a site's own file ends."""


@dataclass(frozen=True)
class Place:
    """What a site is started with, on whichever machine: names of its files, or data the caller owns."""

    name: PartyId
    source: str | AnnData = field(repr=False)
    """Its AnnData, or the ``site.toml`` of its own ground: then nothing else is given for it here."""
    key: str | None = None
    """Its private key file, where the session has a roster."""
    policy: str | None = None
    """The file of its rules, where it is simulated."""
    resource: str | None = None
    """On a cluster, what only the site's own node declares."""

    @property
    def ground(self) -> str | None:
        """The site's own file, where it stands on its own ground."""
        return self.source if isinstance(self.source, str) and self.source.endswith(GROUND) else None


@dataclass(frozen=True)
class Task:
    """What whoever leads is told: nothing of a site but that it will answer."""

    config: Config
    run: str
    past: Past | None = field(default=None, repr=False)
    """Rounds that are not asked again, where the fit goes on."""
    transcript: str | None = None
    """Folder on the leader's machine for all that it receives and sends."""


@dataclass(frozen=True)
class Order:
    """A fit as its user orders it."""

    task: Task
    places: Mapping[PartyId, Place]
    engine: Engine
    address: str | None
    """An existing Ray cluster; a local one if not given. Of a hub: where it listens."""
    hosts: int | None
    """So many processes that the sites share; one each if not given."""
    helper_keys: Mapping[PartyId, str] = field(default_factory=dict)
    """Of the roles beside the sites: their own grounds, or their private key files where there is a roster."""
    certificate: str | None = None
    """Of a hub: its certificate's file."""

    @classmethod
    def of(
        cls,
        config: Config,
        sites: Mapping[str, str | os.PathLike[str] | AnnData],
        *,
        engine: Engine = "ray",
        address: str | None = None,
        keys: Mapping[str, str | os.PathLike[str]] | None = None,
        policies: Mapping[str, str | os.PathLike[str]] | None = None,
        nodes: Mapping[str, str] | None = None,
        hosts: int | None = None,
        run: str = "",
        past: Past | None = None,
        transcript: Path | None = None,
        certificate: str | os.PathLike[str] | None = None,
    ) -> Order:
        """An order from what is given beside a configuration; see `Manifest` for the fields. Raises `InputError`.

        Without an address that of ``RAY_ADDRESS`` is used: a Ray job sets it, and can't start a Ray of its own.
        """
        sites = {str(name) if isinstance(name, str) else name: source for name, source in sites.items()}  # of NumPy too
        address = address if engine == "hub" else cluster_at(address)
        certificate = None if certificate is None else os.fspath(certificate)
        if address is not None and engine == "local":
            raise InputError("an address is of a Ray cluster, but the engine is 'local'")
        if engine == "ray" and hosts is None:
            address = address or cluster_of_the_job()
        key_files, rules = _paths(keys), _paths(policies)
        grounds = [name for name, source in sites.items() if str(source).endswith(GROUND)]
        _check(config, list(sites), engine, key_files, grounds, rules)
        try:
            check_hub(engine, address, certificate, sites.values())
        except ValueError as error:
            raise InputError(str(error)) from None
        places = {
            name: Place(
                name,
                os.fspath(source) if isinstance(source, str | os.PathLike) else in_memory(name, source),
                key_files.get(name),
                rules.get(name),
                None if address is None or engine == "hub" else resource_of(name, nodes or {}),
            )
            for name, source in sites.items()
        }
        written = None if transcript is None else str(transcript.absolute())
        beside = {name: key_files[name] for name in helpers(config.protocol) if name in key_files}
        task = Task(config, run or new_run(config), past, written)
        return cls(task, places, engine, address, hosts, beside, certificate)

    def files(self) -> dict[PartyId, str]:
        """The files of those sites that were given by one."""
        return {name: place.source for name, place in self.places.items() if isinstance(place.source, str)}

    def check_files(self) -> None:
        """Raise `InputError` for a file that is missing on this machine, and for one that two sites were given.

        On a cluster each site looks for its own.
        """
        if self.address is None:
            for name, file in self.files().items():
                check_place(Path(file), {"site": name, "file": file})
            _check_apart(self.files())
        given = {name: place.source for name, place in self.places.items() if not isinstance(place.source, str)}
        owners: dict[int, PartyId] = {}
        for name, source in given.items():
            if owners.setdefault(id(source), name) != name:
                one = owners[id(source)]
                raise complain(f"is the AnnData of site {one!r} too, so its samples would count twice", site=name)


def _check_apart(files: Mapping[PartyId, str]) -> None:
    """Raise `InputError` where two sites have one file, by whatever name, or a copy of it."""
    owners: dict[tuple[int, int], PartyId] = {}
    of_size: defaultdict[int, list[PartyId]] = defaultdict(list)
    for name, file in files.items():
        told = Path(file).stat()
        one = owners.setdefault((told.st_dev, told.st_ino), name)
        if one != name:
            raise _counts_twice(one, name, file)
        of_size[told.st_size].append(name)
    for size, alike in of_size.items():
        one, *copies = _copies({name: files[name] for name in alike}, size) or [""]
        for name in copies:
            raise _counts_twice(one, name, files[name])


def _counts_twice(one: PartyId, name: PartyId, file: str) -> InputError:
    return complain(f"is the file of site {one!r} too, so its samples would count twice", site=name, file=file)


def _copies(files: Mapping[PartyId, str], size: int) -> list[PartyId]:
    """Who of these, whose files are all of one size, have the same content; nobody, if all differ.

    Block by block, each file only as far as another one is like it. One that can't be read is left to the site that
    opens it.
    """
    alike = [list(files)] if len(files) > 1 else []
    for start in range(0, max(size, 1), _BLOCK_BYTES):
        alike = [same for names in alike for same in _same_block(names, files, start)]
    return alike[0] if alike else []


def _same_block(names: Iterable[PartyId], files: Mapping[PartyId, str], start: int) -> list[list[PartyId]]:
    of_block: defaultdict[bytes, list[PartyId]] = defaultdict(list)
    for name in names:
        try:
            with Path(files[name]).open("rb") as file:
                file.seek(start)
                of_block[hashlib.sha256(file.read(_BLOCK_BYTES)).digest()].append(name)
        except OSError:
            continue
    return [same for same in of_block.values() if len(same) > 1]


def new_run(config: Config) -> str:
    """A name for a run in ledgers and reports."""
    return f"{config.protocol}-{secrets.token_hex(4)}"


def resource_of(site: PartyId, nodes: Mapping[PartyId, str]) -> str:
    """What the node of a site declares, once: ``site:NAME`` unless the manifest says otherwise."""
    return nodes.get(site, f"site:{site}")


def _paths(files: Mapping[PartyId, str | os.PathLike[str]] | None) -> dict[PartyId, str]:
    return {name: os.fspath(file) for name, file in (files or {}).items()}


def _check(
    config: Config,
    sites: list[PartyId],
    engine: str,
    keys: dict[PartyId, str],
    grounds: list[PartyId],
    rules: dict[PartyId, str],
) -> None:
    """Raise `InputError` for what can't be a session, whoever is asked."""
    try:
        check_sites(sites)
        check_keys(config, sites, keys, [*grounds, *(helpers(config.protocol) if engine == "hub" else ())])
    except ValueError as error:
        raise InputError(str(error)) from None
    for name in rules:
        if name not in sites:
            raise InputError(f"policies name {name!r}, which is not a site")
    for name in grounds:
        if name in rules:
            raise complain("stands on its own ground, so its policy is named in its own file", site=name)
    if engine not in get_args(Engine):
        raise InputError(f"there is no engine {engine!r}, choose ray, local or hub")
    variables(config.design)
    settings = config.settings()
    try:
        settings.threshold_for(len(sites))
        if config.protocol in OF_PROTOCOLS["key_bits"]:
            settings.check_key_bits()
    except MisuseError as error:
        raise InputError(str(error)) from None
