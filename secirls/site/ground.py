"""What a site stands on: its data, key, roster and rules, from its own disk or, in a simulation, from the driver.

Promises: on its own ground all of it comes from one file of the site's, ``site.toml``; whoever starts the site may
name the file, never what is in it. A site started without one is simulated, and says so to everybody.
Refuses to know: sessions and questions.
"""

from __future__ import annotations

import json
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from protocols.primitives.keys import Identity
from protocols.secure_sum import PartyId
from secirls.agreement.order import Place
from secirls.config import Config, Frozen
from secirls.input_error import complain
from secirls.inputs.text_file import read_text
from secirls.site.key_files import read_identity, read_roster
from secirls.site.policy import Policy, read_policy

if TYPE_CHECKING:
    from secirls.inputs.site_file import AnnData

MEMORY = "memory"
"""Where a site on its own ground keeps what it answered, beside its file, if its policy names no other folder."""


class SiteFile(Frozen):
    """The fields of a ``site.toml``; paths are from where it lies."""

    name: str
    """What the site is called in the roster."""
    data: str
    """Its AnnData file."""
    key: str | None = None
    """Its private key file (``secirls keys new``)."""
    roster: str | None = None
    """The roster that it agreed to (``secirls keys roster``)."""
    policy: str | dict[str, Any] = Field(default_factory=dict)
    """Its own rules where they differ from the default policy: the fields of `Policy`, or a file of them."""


@dataclass(frozen=True)
class Ground:
    """A site's ground, opened. Never leaves the site's process."""

    source: str | AnnData = field(repr=False)
    policy: Policy
    identity: Identity = field(repr=False)
    roster: Mapping[str, str] | None
    """Hexadecimal keys of all who sign, as this site knows them; ``None`` where it knows none."""
    memory: Path | None
    """Folder for what was asked and answered; nowhere for data in memory."""
    simulated: bool
    key: str | None = field(repr=False, default=None)
    """The private key file, where there is one."""

    @property
    def file(self) -> str:
        """The data file, as messages name it."""
        return self.source if isinstance(self.source, str) else "AnnData in memory"


def open_ground(place: Place, config: Config) -> Ground:
    """What a site stands on at this place. Raises `InputError` naming site and file."""
    if place.ground is not None:
        return _own(place, Path(place.ground))
    policy = Policy.simulation() if place.policy is None else read_policy(place.name, place.policy, simulated=True)
    if place.policy is not None and policy.memory is not None:
        memory: Path | None = Path(place.policy).parent / policy.memory
    else:
        memory = Path(f"{place.source}.answered") if isinstance(place.source, str) else None
    identity = Identity.fresh(secrets.token_bytes) if place.key is None else read_identity(place.name, place.key)
    return Ground(place.source, policy, identity, config.roster, memory, simulated=True, key=place.key)


def _own(place: Place, path: Path) -> Ground:
    where = {"site": place.name, "file": str(path)}
    try:
        table = tomllib.loads(read_text(path, site=place.name))
    except tomllib.TOMLDecodeError as error:
        raise complain(f"is not TOML: {error}", **where) from None
    told = SiteFile.read(f"site {place.name!r}, file {str(path)!r}", **table)
    if told.name != place.name:
        raise complain(f"is the ground of {told.name!r}", **where)
    here = path.parent
    if isinstance(told.policy, str):
        policy = read_policy(place.name, str(here / told.policy))
    else:
        policy = Policy.read(f"site {place.name!r}, file {str(path)!r}, [policy]", **told.policy)
    return Ground(
        source=str(here / told.data),
        policy=policy,
        identity=(
            Identity.fresh(secrets.token_bytes) if told.key is None else read_identity(place.name, here / told.key)
        ),
        roster=None if told.roster is None else read_roster(here / told.roster),
        memory=here / (policy.memory or MEMORY),
        simulated=False,
        key=None if told.key is None else str(here / told.key),
    )


_TEMPLATE = """\
# The ground of site {name}: what it stands on in every session. Paths are from where this file lies.
name = {name_text}
data = {data}
key = {key}
roster = {roster}

# Rules of its own. Those that are not set are the default policy's:
[policy]
{rules}
"""


def template(name: PartyId, data: str, key: str, roster: str) -> str:
    """A ``site.toml`` with every rule of the default policy in it, commented out."""
    default = Policy()
    rules = [f"# {rule} = {_toml(getattr(default, rule))}" for rule in Policy.model_fields]
    quoted = {"name_text": name, "data": data, "key": key, "roster": roster}
    return _TEMPLATE.format(
        name=name, rules="\n".join(rules), **{field: json.dumps(text) for field, text in quoted.items()}
    )


def _toml(value: object) -> str:
    """A rule's value as TOML; what is not set stands as a word, in a comment."""
    if value is None:
        return '"not set"'
    return json.dumps(list(value) if isinstance(value, tuple) else value)
