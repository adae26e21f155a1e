"""What a site or helper agrees to: all that is agreed, held against what it knows itself.

Promises: one sentence about the first thing that differs. Refuses to know: rules; see `Policy`.
"""

from __future__ import annotations

from protocols.choice import helpers
from protocols.secure_sum import MisuseError, PartyId
from secirls.agreement.agreement import Agreement, release
from secirls.algorithms.arithmetic import arithmetic_of
from secirls.config import Config
from secirls.input_error import complain
from secirls.inputs.files.site_columns import OWN_NAME, is_stood_in
from secirls.inputs.files.site_file import SiteTable
from secirls.inputs.formulas.labels import label
from secirls.site.grounds.ground import Ground

SHOWN_LEVELS = 3


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
    if is_stood_in(table.obs):
        _check_own_names(site, agreement, ground)


def _check_own_names(site: PartyId, agreement: Agreement, ground: Ground) -> None:
    """Where a site's name stands in for a column, all others have their names in theirs too: else it is another factor.

    Raises `InputError` naming one that has not, by what it said.
    """
    for other, said in agreement.said.items():
        levels = said[OWN_NAME].levels
        if levels != (label(other),):
            has = ", ".join(map(repr, levels[:SHOWN_LEVELS])) or "numbers"
            raise complain(
                f"is missing, and that of site {other!r} holds {has}, not the site's name: a design takes the sites' "
                "names where no file has the column, or where it holds nothing else",
                site=site,
                file=ground.file,
                field=f"obs column {OWN_NAME!r}",
            )
        if other != site and label(other) == label(site):
            raise complain(f"is one level with the name of site {other!r}: give it another", site=site, field="name")


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
