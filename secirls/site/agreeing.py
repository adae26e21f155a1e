"""What a site or helper agrees to: all that is agreed, held against what it knows itself.

Promises: one sentence about the first thing that differs. Refuses to know: rules; see `Policy`.
"""

from __future__ import annotations

from protocols.choice import helpers
from protocols.secure_sum import MisuseError, PartyId
from secirls.agreement.agreement import Agreement, release
from secirls.algorithms.arithmetic import arithmetic_of
from secirls.config import Config
from secirls.inputs.files.site_file import SiteTable
from secirls.site.grounds.ground import Ground


def check_agreement(site: PartyId, config: Config, agreement: Agreement, ground: Ground, table: SiteTable) -> None:
    """Raise `MisuseError` unless a site started for this configuration, with these data, agrees."""
    problem = known_otherwise(site, config, agreement, ground.identity.public)
    if not problem and agreement.arithmetic != arithmetic_of(config):
        problem = "its machine computes otherwise than was agreed"
    elif not problem and set(agreement.said) != set(agreement.sites):
        problem = "not every site said what levels it has"
    elif not problem and dict(agreement.said[site]) != dict(table.variables):
        problem = "its own levels were told differently"
    if problem:
        raise MisuseError(f"site {site} does not agree: {problem}")
    if ground.roster is not None:
        ground.roster.check(site, agreement.roster)


def known_otherwise(party: PartyId, config: Config, agreement: Agreement, public: bytes) -> str:
    """What was agreed otherwise than a party knows by its configuration and ``public`` key; nothing if it agrees."""
    mine, roles = release(), helpers(config.protocol)
    if agreement.config_digest != config.digest:
        return "it was started for another configuration"
    if agreement.version != mine:
        return f"it runs version {mine}, the session {agreement.version}"
    if list(agreement.sites) != sorted(set(agreement.sites)):
        return "the sites are not sorted"
    if party not in (*agreement.sites, *roles):
        return "it is not among the sites"
    if set(agreement.roster) != {*agreement.sites, *roles}:
        return "the roster has other names than the sites and the roles of the protocol"
    return "" if agreement.roster[party] == public else "its own key was told differently"
