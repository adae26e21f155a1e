"""What sites say in public before a session, and what they agree on: genes, design, roster, settings.

Promises: everything here is public by construction; disagreement is one sentence naming the sites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protocols.secure_sum import PartyId, sha256
from secirls.config import Config
from secirls.input_error import InputError, complain
from secirls.inputs.design import Design, Variable


@dataclass(frozen=True)
class Facts:
    """What one site says about itself. Gene names and level sets are public; counts and samples are not."""

    site: PartyId
    file: str
    identity: bytes
    """Public Ed25519 key, 32 bytes."""
    genes: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, Variable]
    data: bytes = b""
    """What names the data as they are now, so that a fit does not go on with others: see `Site.survey`."""


@dataclass(frozen=True)
class Agreement:
    """What every site works with from now on."""

    config_digest: str
    sites: tuple[PartyId, ...]
    roster: Mapping[PartyId, bytes]
    design: Design
    genes_digest: bytes
    genes: tuple[str, ...] | None = field(repr=False)
    """The agreed genes in order, where sites must rearrange theirs; ``None`` where all have the same."""
    run: str = ""
    """What names the fit, also when it goes on in a later session."""


def genes_digest(genes: Sequence[str]) -> bytes:
    """SHA-256 of gene names in order."""
    return sha256(b"secirls genes v1", *(gene.encode() for gene in genes))


def agree(
    facts: Sequence[Facts], config: Config, helpers: Mapping[PartyId, bytes], run: str = ""
) -> tuple[Agreement, tuple[str, ...]]:
    """The agreement that these facts allow, and the genes in order. Raises `InputError` where they don't.

    ``helpers`` are the signing keys of roles that are not sites.
    """
    said = sorted(facts, key=lambda fact: fact.site)
    genes, rearranged = _agree_on_genes(said, config)
    agreement = Agreement(
        config.digest,
        tuple(fact.site for fact in said),
        {**{fact.site: fact.identity for fact in said}, **helpers},
        Design.agree(config.design, config.levels, {fact.site: fact.variables for fact in said}),
        genes_digest(genes),
        genes if rearranged else None,
        run,
    )
    return agreement, genes


def _agree_on_genes(said: Sequence[Facts], config: Config) -> tuple[tuple[str, ...], bool]:
    first = said[0]
    if all(fact.genes == first.genes for fact in said):
        return first.genes, False
    if config.genes == "intersection":
        shared = set(first.genes).intersection(*(fact.genes for fact in said[1:]))
        if not shared:
            raise InputError("no gene is in the files of all sites")
        return tuple(gene for gene in first.genes if gene in shared), True
    other = next(fact for fact in said if fact.genes != first.genes)
    mine, theirs = set(first.genes), set(other.genes)
    lacks = [gene for gene in first.genes if gene not in theirs][:3]
    extra = [gene for gene in other.genes if gene not in mine][:3]
    what = [f"lacks {', '.join(map(repr, lacks))}"] if lacks else []
    what += [f"has {', '.join(map(repr, extra))} beside"] if extra else []
    difference = " and ".join(what) or "has the same genes in another order"
    raise complain(
        f"{difference}, compared with site {first.site!r} (genes = 'intersection' uses those that all have)",
        site=other.site,
        file=other.file,
        field="var_names",
    )


def check_dispersions(digests: Mapping[PartyId, bytes]) -> None:
    """Raise `InputError` unless every site joined with the same dispersions."""
    first = min(digests)
    for site in sorted(digests):
        if digests[site] != digests[first]:
            raise complain(
                f"dispersions differ from those of site {first!r}: they must be the same everywhere", site=site
            )
