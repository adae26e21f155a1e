"""What a helper stands on: its key, roster and rules, from its own disk or, in a simulation, from the driver.

Promises: on its own ground all of it comes from one file of the helper's, named where its private key else is; so
whoever leads a session can hand it no roster of invented sites. A helper without one is simulated, and says so.
Refuses to know: sites' rules, sessions and questions.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from protocols.primitives.keys import Identity
from protocols.secure_sum import AGGREGATOR, MINIMUM_PARTIES, Context, PartyId, PeerError
from protocols.sessions.demands import Demands
from secirls.agreement.order import GROUND
from secirls.config import Config
from secirls.site.grounds.ground import OwnFile, read_own, shown_rules
from secirls.site.grounds.key_files import KnownRoster, read_identity
from secirls.site.grounds.policy import RefusalError, Rules


class HelperPolicy(Rules):
    """One helper's rules: those of a site's `Policy` that are about whoever holds or deals a key."""

    min_sites: int = Field(default=MINIMUM_PARTIES, ge=MINIMUM_PARTIES)
    """In the session, and in every sum that it helps to open."""
    min_key_bits: int = Field(default=3072, ge=0)
    """Of the Paillier modulus that it makes."""
    max_colluders: int = Field(default=1, ge=0)
    """So many sites may pool what they know with an aggregator that breaks the protocol, and learn only sums."""
    on_dropout: Literal["abort", "continue"] = "abort"
    """``"abort"``: it opens no sum over fewer sites than were agreed."""


class HelperFile(OwnFile):
    """The fields of a helper's ground; paths are from where it lies."""

    key: str
    """Its private key file (``secirls keys new``)."""
    roster: str
    """The file of the roster that it agreed to, or the roster's digest."""
    policy: HelperPolicy = Field(default_factory=HelperPolicy)
    """Its own rules where they differ from the defaults."""


@dataclass(frozen=True)
class HelperGround:
    """A helper's ground, opened. Never leaves its process."""

    name: PartyId
    identity: Identity = field(repr=False)
    roster: KnownRoster | None
    policy: HelperPolicy | None
    """``None`` where it is simulated: then nothing is demanded of a session but what the protocol demands."""

    @property
    def simulated(self) -> bool:
        """Whether it was started without a ground of its own."""
        return self.policy is None

    def check(self, announced: Mapping[PartyId, bytes], sites: tuple[PartyId, ...]) -> None:
        """Raise `MisuseError` for a session with another roster than its own, `RefusalError` for a broken rule."""
        if self.roster is not None:
            self.roster.check(self.name, announced)
        if self.policy is not None:
            self._check_enough(sites, self.policy.min_sites)

    def demands(self, sites: tuple[PartyId, ...]) -> Demands:
        """What it demands of a session of these sites."""
        rules = self.policy
        if rules is None:
            return Demands()

        def opening(_: Context, present: tuple[PartyId, ...]) -> None:
            self._check_enough(present, rules.min_sites)
            if rules.on_dropout == "abort" and present != sites:
                raise PeerError(AGGREGATOR, f"asks the {self.name} to open a sum over other sites than were agreed")

        return Demands(rules.max_colluders, rules.min_key_bits, whole=rules.on_dropout == "abort", opening=opening)

    def _check_enough(self, sites: tuple[PartyId, ...], least: int) -> None:
        if len(sites) < least:
            raise RefusalError(f"the {self.name}'s policy refuses: min_sites is {least}")


def open_helper_ground(name: PartyId, key: str | None, config: Config) -> HelperGround:
    """What a helper stands on; ``key`` names its ground, or its private key file alone, or nothing.

    Raises `InputError` naming helper and file.
    """
    if key is not None and key.endswith(GROUND):
        told, here = read_own(HelperFile, name, Path(key)), Path(key).parent
        identity = read_identity(name, here / told.key)
        return HelperGround(name, identity, KnownRoster.read(told.roster, here), told.policy)
    identity = Identity.fresh(secrets.token_bytes) if key is None else read_identity(name, key)
    return HelperGround(name, identity, None if config.roster is None else KnownRoster(config.roster), None)


_TEMPLATE = """\
# The ground of the {name}: what it stands on in every session. Paths are from where this file lies.
name = {name_text}
key = {key}
roster = {roster}

# Rules of its own. Those that are not set have these defaults:
[policy]
{rules}
"""


def helper_template(name: PartyId, key: str, roster: str) -> str:
    """A helper's ground with every rule in it, commented out."""
    quoted = {"name_text": name, "key": key, "roster": roster}
    return _TEMPLATE.format(
        name=name, rules=shown_rules(HelperPolicy()), **{field: json.dumps(text) for field, text in quoted.items()}
    )
