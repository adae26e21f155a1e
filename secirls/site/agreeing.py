"""What a site agrees to: all that is agreed, held against what it knows itself.

Promises: one sentence about the first thing that differs. Refuses to know: rules; see `Policy`.
"""

from __future__ import annotations

from importlib.metadata import version

from protocols.choice import helpers
from protocols.secure_sum import MisuseError, PartyId
from secirls.agreement.agreement import Agreement
from secirls.algorithms.arithmetic import arithmetic_of
from secirls.config import Config
from secirls.inputs.files.site_file import SiteTable
from secirls.site.grounds.ground import Ground


def check_agreement(site: PartyId, config: Config, agreement: Agreement, ground: Ground, table: SiteTable) -> None:
    """Raise `MisuseError` unless a site started for this configuration, with these data, agrees."""
    mine, problem = version("secirls"), ""
    if agreement.config_digest != config.digest:
        problem = "it was started for another configuration"
    elif agreement.version != mine:
        problem = f"it runs version {mine}, the session {agreement.version}"
    elif agreement.arithmetic != arithmetic_of(config):
        problem = "its machine computes otherwise than was agreed"
    elif list(agreement.sites) != sorted(set(agreement.sites)) or site not in agreement.sites:
        problem = "the sites are not sorted, or it is not among them"
    elif set(agreement.said) != set(agreement.sites):
        problem = "not every site said what levels it has"
    elif dict(agreement.said[site]) != dict(table.variables):
        problem = "its own levels were told differently"
    elif set(agreement.roster) != {*agreement.sites, *helpers(config.protocol)}:
        problem = "the roster has other names than the sites and the roles of the protocol"
    elif agreement.roster[site] != ground.identity.public:
        problem = "its own key was told differently"
    if problem:
        raise MisuseError(f"site {site} does not agree: {problem}")
    if ground.roster is not None:
        ground.roster.check(site, agreement.roster)
