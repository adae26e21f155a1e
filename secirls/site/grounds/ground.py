"""What a site stands on: its data, key, roster and rules, from its own disk or, in a simulation, from the driver.

Promises: on its own ground all of it comes from one file of the site's, ``site.toml``; whoever starts the site may
name the file, never what is in it. A site started without one is simulated, and says so to everybody.
Refuses to know: sessions and questions.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from protocols.primitives.keys import Identity
from protocols.secure_sum import PartyId, sha256
from secirls.agreement.order import Place
from secirls.config import Config
from secirls.frozen import Frozen
from secirls.input_error import InputError, complain
from secirls.inputs.files.text_file import read_toml
from secirls.site.grounds.key_files import KnownRoster, read_identity
from secirls.site.grounds.policy import Policy, read_policy
from secirls.site.grounds.stages import STAGES
from secirls.site.grounds.study import Study

if TYPE_CHECKING:
    from secirls.inputs.files.site_file import AnnData

_terminal = logging.getLogger(__name__)
"""Python shows warnings on standard error, of the site's own process, unless it is told otherwise there."""

MEMORY = "memory"
"""Where a site on its own ground keeps what it answered, beside its file, if its policy names no other folder."""

NOISE = b"secirls noise v1"


class OwnFile(Frozen):
    """What a ground of any party says."""

    name: str
    """What the party is called in the roster."""


class SiteFile(OwnFile):
    """The fields of a ``site.toml``; paths are from where it lies."""

    data: str
    """Its AnnData file."""
    key: str | None = None
    """Its private key file (``secirls keys new``)."""
    roster: str | None = None
    """The file of the roster that it agreed to (``secirls keys roster``), or the roster's digest."""
    study: Study | None = None
    """What of the file a fit may read, and by which formula; any that the policy allows if not given."""
    policy: str | dict[str, Any] = Field(default_factory=dict)
    """Its own rules where they differ from the default policy: the fields of `Policy`, or a file of them."""


@dataclass(frozen=True)
class Ground:
    """A site's ground, opened. Never leaves the site's process."""

    source: str | AnnData = field(repr=False)
    file: str
    """The data file, as messages name it: on its own ground by the ground, whose content stays at the site."""
    policy: Policy
    identity: Identity = field(repr=False)
    roster: KnownRoster | None
    """The keys of all who sign, as this site knows them; ``None`` where it knows none."""
    memory: Path | None
    """Folder for what was asked and answered; nowhere for data in memory."""
    simulated: bool
    study: Study | None = None
    """What the site's staff agreed to, where they wrote it down."""
    key: str | None = field(repr=False, default=None)
    """The private key file, where there is one."""

    @cached_property
    def noise(self) -> bytes:
        """What noise is drawn from: with a key from a file the same in every session; nobody else can find it."""
        return sha256(NOISE, self.identity.sign(NOISE))

    def aloud(self, error: InputError) -> InputError:
        """A mistake in the data file as others may hear it; on its own ground its detail is for the terminal here."""
        if self.simulated:
            return InputError(error.in_full)
        _terminal.warning("%s, in %s", error.in_full, self.source)
        return InputError(str(error))


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
    roster = None if config.roster is None else KnownRoster(config.roster)
    file = place.source if isinstance(place.source, str) else "AnnData in memory"
    return Ground(place.source, file, policy, identity, roster, memory, simulated=True, key=place.key)


File = TypeVar("File", bound=OwnFile)


def read_own(kind: type[File], name: PartyId, path: Path) -> File:
    """What a party's own file says. Raises `InputError` for another's, and for what is none."""
    told = _read(kind, name, path)
    if told.name != name:
        raise complain(f"is the ground of {told.name!r}", site=name, file=str(path))
    return told


def data_of(path: Path) -> Path:
    """The data file of the site whose ``site.toml`` this is, for its own staff. Raises `InputError`."""
    return path.parent / _read(SiteFile, "", path).data


def named_in(path: Path) -> PartyId:
    """Whose ground this file is, a site's or a helper's, for its own staff. Raises `InputError`."""
    name = read_toml(path).get("name")
    if not isinstance(name, str):
        raise complain("names no party: it is no ground, see 'secirls ground'", file=str(path))
    return name


def kept_by(path: Path) -> tuple[PartyId, Policy, Path]:
    """Name, rules and folder of memory of the site whose ``site.toml`` this is, for its own staff: `InputError`."""
    told = _read(SiteFile, "", path)
    policy = _rules(told, path)
    return told.name, policy, path.parent / (policy.memory or MEMORY)


def _rules(told: SiteFile, path: Path) -> Policy:
    """The rules that a ``site.toml`` names or holds. Raises `InputError`."""
    if isinstance(told.policy, str):
        return read_policy(told.name, str(path.parent / told.policy))
    return Policy.read(f"site {told.name!r}, file {str(path)!r}, [policy]", **told.policy)


def _read(kind: type[File], name: PartyId, path: Path) -> File:
    where = f"site {name!r}, file {str(path)!r}" if name else f"file {str(path)!r}"
    return kind.read(where, **read_toml(path, site=name))


def _own(place: Place, path: Path) -> Ground:
    told, here = read_own(SiteFile, place.name, path), path.parent
    policy = _rules(told, path)
    return Ground(
        source=str(here / told.data),
        file=f"{path}: data",
        policy=policy,
        identity=(
            Identity.fresh(secrets.token_bytes) if told.key is None else read_identity(place.name, here / told.key)
        ),
        roster=None if told.roster is None else _roster(told.roster, place.name, path),
        memory=here / (policy.memory or MEMORY),
        simulated=False,
        study=told.study,
        key=None if told.key is None else str(here / told.key),
    )


def _roster(named: str, name: PartyId, path: Path) -> KnownRoster:
    """The roster that a ground names; a mistake in it is the ground's too."""
    try:
        return KnownRoster.read(named, path.parent)
    except InputError as error:
        raise complain(str(error), site=name, file=str(path), field="roster") from None


_TEMPLATE = """\
# The ground of site {name}: what it stands on in every session. Paths are from where this file lies.
name = {name_text}
data = {data}
key = {key}
roster = {roster}

# The study that it agreed to: without this table any that the rules allow.
# [study]
# design = "~ condition"
# layer = "X"
# levels = {{ condition = ["control", "treated"] }}

# Rules of its own. Those that are not set are the default policy's:
[policy]
{rules}
"""


def template(name: PartyId, data: str, key: str, roster: str) -> str:
    """A ``site.toml`` with every rule of the default policy in it, commented out."""
    quoted = {"name_text": name, "data": data, "key": key, "roster": roster}
    return _TEMPLATE.format(
        name=name, rules=shown_rules(Policy()), **{field: json.dumps(text) for field, text in quoted.items()}
    )


def shown_rules(default: Frozen) -> str:
    """The rules of a policy, one commented line of TOML each, which may be taken as it stands."""
    return "\n".join(f"# {rule} = {_shown(rule, getattr(default, rule))}" for rule in type(default).model_fields)


_AS_UNSET: dict[str, Any] = {
    "max_fits": 1,
    "queries": ("census", *(kind for kinds in STAGES.values() for kind in kinds)),
    "refused_stages": (),
    "memory": MEMORY,
}
"""TOML has no word for a rule that is not set: what is the same."""
_EXAMPLES: dict[str, tuple[str, ...]] = {"variables": ("condition", "batch"), "layers": ("X",)}
"""Where nothing is the same as any."""


def _shown(rule: str, value: object) -> str:
    """A rule's value as TOML; where it is not set, one that is the same, or an example."""
    if value is not None:
        return _toml(value)
    if rule in _AS_UNSET:
        return _toml(_AS_UNSET[rule])
    return f"{_toml(_EXAMPLES[rule])}  # for example; any if not set"


def _toml(value: object) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)
