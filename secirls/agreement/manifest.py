"""Who takes part and where: what `federation.toml` says beside the `Config`.

Promises: a table that no session can be made of ends in one sentence. Refuses to know: what is in the files it names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from protocols.choice import helpers
from protocols.secure_sum import MINIMUM_PARTIES, MisuseError, party_id
from secirls.config import Config
from secirls.frozen import Frozen

Engine = Literal["ray", "local", "hub"]

OWN_GROUND = "site.toml"
"""What stands for the file of a site that calls a hub: its own, which it alone knows."""


class Manifest(Frozen):
    """Who takes part and where: what `federation.toml` says beside the `Config`."""

    sites: dict[str, str]
    """Site names to h5ad paths, opened by the sites themselves."""
    fit: Config
    engine: Engine = "ray"
    keys: dict[str, str] = Field(default_factory=dict)
    """Names to private key files, opened by the sites themselves; needed where there is a roster. A helper's may be its
    own ground."""
    policies: dict[str, str] = Field(default_factory=dict)
    """Site names to policy files, opened by the sites themselves; see `secirls.site.grounds.policy`."""
    nodes: dict[str, str] = Field(default_factory=dict)
    """On a cluster, site names to the resource that the site's node declares; ``site:NAME`` if not given."""
    hosts: int | None = Field(default=None, ge=1)
    """Let the sites share so many processes, to simulate many sites on few cores; one process each if not given."""
    address: str | None = None
    """An existing Ray cluster; that of ``RAY_ADDRESS``, or a local one, started and stopped, if not given. Of a hub:
    where it listens, HOST:PORT."""
    certificate: str | None = None
    """Of a hub: its certificate's file, with the key and the authority's beside it; see `secirls cluster certs`."""
    out: str | None = None

    @field_validator("sites")
    @classmethod
    def _enough_sites(cls, value: dict[str, str]) -> dict[str, str]:
        check_sites(list(value))
        return value

    @model_validator(mode="after")
    def _keys_of_the_roster(self) -> Self:
        grounds = [name for name, source in self.sites.items() if source.endswith(".toml")]
        if self.engine == "hub":
            grounds += helpers(self.fit.protocol)
        check_keys(self.fit, list(self.sites), self.keys, grounds)
        return self

    @model_validator(mode="after")
    def _known_sites(self) -> Self:
        for table, named in (("policies", self.policies), ("nodes", self.nodes)):
            for name in named:
                if name not in self.sites:
                    raise ValueError(f"[{table}] names {name!r}, which is not a site")
        return self

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        check_hub(self.engine, self.address, self.certificate, self.sites.values())
        if self.engine == "hub":
            for name in ("keys", "policies", "nodes", "hosts"):
                if getattr(self, name):
                    raise ValueError(f"{name}: parties that call a hub see to that themselves")
            return self
        if self.address is not None and self.engine != "ray":
            raise ValueError("an address is of a Ray cluster, but the engine is 'local'")
        if self.address is not None and self.hosts is not None:
            raise ValueError("hosts share the processes of one machine, but the address is of a cluster")
        return self

    def absolute(self) -> Manifest:
        """The same with paths that hold wherever the process stands; those of parties that call a hub are theirs."""
        if self.engine == "hub":
            return self.model_copy(update={"certificate": str(Path(self.certificate or "").absolute())})
        tables = {
            table: {name: str(Path(file).absolute()) for name, file in getattr(self, table).items()}
            for table in ("sites", "keys", "policies")
        }
        return self.model_copy(update=tables)

    @classmethod
    def from_table(cls, where: str, table: dict[str, Any]) -> Manifest:
        """Check a table like federation.toml's. Raises `InputError` starting with ``where``."""
        return cls.read(where, **table)


def check_hub(engine: str, address: str | None, certificate: str | None, sources: Collection[object]) -> None:
    """Raise `ValueError` unless a hub has what it needs and knows nothing of its sites' files, and no other engine."""
    if engine != "hub":
        if certificate is not None:
            raise ValueError("a certificate is of the engine 'hub'")
        return
    if address is None:
        raise ValueError("the engine 'hub' needs an address, HOST:PORT, at which it listens")
    if certificate is None:
        raise ValueError("the engine 'hub' needs a certificate, the file that 'secirls cluster certs' made for it")
    if any(source != OWN_GROUND for source in sources):
        raise ValueError('sites that call a hub name their own files: write sites = ["berlin", "lyon", ...]')


def check_keys(config: Config, sites: Sequence[str], keys: Mapping[str, str], grounds: Sequence[str] = ()) -> None:
    """Raise `ValueError` unless roster, those who sign and private key files fit each other.

    Sites on their ``grounds`` have their keys there. Whatever signs stands in the roster, helpers too.
    """
    signing = [*sites, *helpers(config.protocol)]
    for name in keys:
        if name in grounds:
            raise ValueError(f"site {name!r} stands on its own ground, so its key is named in its own file")
    if config.roster is None:
        if keys and not grounds:
            raise ValueError("there are key files but no roster: give both or neither")
        return
    for name in signing:
        role = f"site {name!r}" if name in sites else f"the {name}"
        if name not in config.roster:
            raise ValueError(f"the roster has no key for {role}")
        if name not in keys and name not in grounds:
            raise ValueError(f"{role} has a key in the roster, so its private key file is needed")


def check_sites(names: list[str]) -> None:
    """Raise `ValueError` unless the names can be the sites of a session."""
    for name in names:
        try:
            party_id(name)
        except MisuseError as error:
            raise ValueError(str(error)) from None
    if len(names) < MINIMUM_PARTIES:
        sites = "1 site" if len(names) == 1 else f"{len(names)} sites"
        raise ValueError(
            f"{sites} can't hide in a sum: at least {MINIMUM_PARTIES} are needed (sites: {', '.join(names) or 'none'})"
        )
