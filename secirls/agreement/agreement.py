"""What sites say in public before a session, and what they agree on: genes, design, roster, settings.

Promises: everything here is public by construction; disagreement is one sentence naming the sites.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from importlib.metadata import version
from typing import TypeGuard

from protocols.primitives.keys import KEY_BYTES, can_sign
from protocols.secure_sum import PartyId, begun, framed_texts, sha256
from protocols.sessions.session import Roster
from secirls.algorithms.arithmetic import arithmetic_of
from secirls.config import Config
from secirls.input_error import InputError, complain
from secirls.inputs.designs.design import Design, Variable, variables
from secirls.inputs.formulas.levels import LARGEST_LEVELS

DIGEST_BYTES = 32

_WRITTEN: dict[str, Callable[[str], str]] = {
    "the version after the point": lambda gene: (
        gene.rpartition(".")[0] if gene[-1:].isdigit() and "." in gene else gene
    ),
    "upper and lower case": str.casefold,
}
"""What of a gene's name some write otherwise, and the name without it."""


@cache
def release() -> str:
    """Of secirls, as it is installed: looking it up takes a millisecond."""
    return version("secirls")


@dataclass(frozen=True)
class Facts:
    """What one site says about itself. Gene names and level sets are public; counts and samples are not."""

    site: PartyId
    file: str
    identity: bytes
    """Public Ed25519 key, 32 bytes."""
    genes: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, Variable]
    simulated: bool = True
    """Whether it was started without a ground of its own, and follows the rules of a simulation."""
    data: bytes = b""
    """What names the data as they are now, so that a fit does not go on with others: see `Site.survey`."""
    arithmetic: bytes = b""
    """How its machine computes, where it is to follow the algorithm: see `secirls.algorithms.arithmetic`."""


@dataclass(frozen=True)
class Agreement:
    """What every site works with from now on; each checks it against its own ground, and builds the design itself.

    What follows from it alone is worked out once in a process, whoever asks: simulated sites may share one.
    """

    config_digest: str
    sites: tuple[PartyId, ...]
    roster: Mapping[PartyId, bytes]
    said: Mapping[PartyId, Mapping[str, Variable]]
    """What every site said of every variable of the formula."""
    genes_digest: bytes
    genes: tuple[str, ...] | None = field(repr=False)
    """The agreed genes in order, where sites must rearrange theirs; ``None`` where all have the same."""
    run: str = ""
    """What names the fit, also when it goes on in a later session."""
    arithmetic: bytes = b""
    """How everybody's machine computes, where sites follow the algorithm themselves."""
    version: str = field(default_factory=release)

    def __reduce__(self) -> tuple[type[Agreement], tuple[object, ...]]:
        """Its fields travel, and nothing that a process worked out from them."""
        return type(self), tuple(getattr(self, item.name) for item in fields(self))

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it: part of the session id, so that who agreed to something else is in another session."""
        said = {
            site: {
                name: [variable.numeric, variable.levels, variable.numbered] for name, variable in sorted(told.items())
            }
            for site, told in sorted(self.said.items())
        }
        roster = {name: key.hex() for name, key in sorted(self.roster.items())}
        text = json.dumps([self.config_digest, self.sites, roster, said, self.run, self.arithmetic.hex(), self.version])
        return sha256(b"secirls agreement v1", text.encode(), self.genes_digest)

    def design(self, config: Config) -> Design:
        """The design of a configuration's formula, over what the sites said. Raises `InputError`.

        So it does, naming whose it is, for what no site can say.
        """
        if config.digest not in self._designs:
            for site, told in self.said.items():
                if not are_variables(told, variables(config.design)):
                    raise complain(
                        "is said to have other variables than a site can have of this design", site=str(site)
                    )
            own = config.own_columns == "own"
            self._designs[config.digest] = Design.agree(config.design, config.levels, self.said, own=own)
        return self._designs[config.digest]

    @cached_property
    def _designs(self) -> dict[str, Design]:
        return {}

    @cached_property
    def keys(self) -> Roster:
        """What everybody's signatures are checked with. Raises `MisuseError` for keys that can't be."""
        return Roster(self.roster)


def are_facts(told: object, site: PartyId, names: Sequence[str]) -> TypeGuard[Facts]:
    """Whether a site of that name can say this about itself, where a formula has variables of these names."""
    return (
        isinstance(told, Facts)
        and told.site == site
        and isinstance(told.file, str)
        and is_identity(told.identity)
        and _are_genes(told.genes)
        and are_variables(told.variables, names)
        and isinstance(told.simulated, bool)
        and isinstance(told.data, bytes)
        and len(told.data) == DIGEST_BYTES
        and isinstance(told.arithmetic, bytes)
    )


def is_identity(key: object) -> TypeGuard[bytes]:
    """Whether a party can sign with this."""
    return isinstance(key, bytes) and len(key) == KEY_BYTES and can_sign(key)


def are_variables(told: object, names: Sequence[str]) -> TypeGuard[Mapping[str, Variable]]:
    """Whether a site can say this of variables of these names: of each of them, and of no other."""
    return isinstance(told, Mapping) and set(told) == set(names) and all(map(_is_variable, told.values()))


def _is_variable(told: object) -> bool:
    """Whether kinds fit, and no level stands twice; too many are left to who complains of them."""
    return (
        isinstance(told, Variable)
        and isinstance(told.numeric, bool)
        and isinstance(told.numbered, bool)
        and isinstance(told.levels, tuple)
        and set(map(type, told.levels)) <= {str}
        and (len(told.levels) > LARGEST_LEVELS or len(set(told.levels)) == len(told.levels))
        and not (told.levels if told.numeric else told.numbered)
    )


def _are_genes(told: object) -> bool:
    """Whether these are names, each there once, of which a digest can be made."""
    if not isinstance(told, tuple) or set(map(type, told)) != {str} or len(set(told)) != len(told):
        return False
    try:
        "".join(told).encode()
    except UnicodeEncodeError:
        return False
    return True


def genes_digest(genes: Sequence[str]) -> bytes:
    """SHA-256 of gene names in order."""
    digest = begun(b"secirls genes v1")
    digest.update(framed_texts(genes))
    return digest.digest()


def agree(
    facts: Sequence[Facts], config: Config, helpers: Mapping[PartyId, bytes], run: str = ""
) -> tuple[Agreement, tuple[str, ...]]:
    """The agreement that these facts allow, and the genes in order.

    Raises `InputError` where genes differ, or a site computes otherwise than this machine and is to follow.

    ``helpers`` are the signing keys of roles that are not sites.
    """
    said = sorted(facts, key=lambda fact: fact.site)
    arithmetic = arithmetic_of(config)
    others = [fact.site for fact in said if fact.arithmetic != arithmetic]
    if others:
        raise complain(
            "computes otherwise than the aggregator's machine on the problem that both were given, so it would come to "
            "other questions: compare the releases of secirls, NumPy and numba",
            site=", ".join(others),
        )
    genes, rearranged = _agree_on_genes(said, config)
    agreement = Agreement(
        config.digest,
        tuple(fact.site for fact in said),
        {**{fact.site: fact.identity for fact in said}, **helpers},
        {fact.site: fact.variables for fact in said},
        genes_digest(genes),
        genes if rearranged else None,
        run,
        arithmetic,
    )
    return agreement, genes


def _agree_on_genes(said: Sequence[Facts], config: Config) -> tuple[tuple[str, ...], bool]:
    first = said[0]
    if all(fact.genes == first.genes for fact in said):
        return first.genes, False
    if config.genes == "intersection":
        shared = set(first.genes).intersection(*(fact.genes for fact in said[1:]))
        if not shared:
            begin = ", ".join(f"{fact.site} has {fact.genes[0]!r}" for fact in said[:3] if fact.genes)
            raise InputError(f"no gene is in the files of all sites ({begin} first)")
        return tuple(gene for gene in first.genes if gene in shared), True
    other = next(fact for fact in said if fact.genes != first.genes)
    mine, theirs = set(first.genes), set(other.genes)
    lacks = [gene for gene in first.genes if gene not in theirs]
    extra = [gene for gene in other.genes if gene not in mine]
    what = [f"lacks {_first(lacks)}"] if lacks else []
    what += [f"has {_first(extra)} beside"] if extra else []
    difference = " and ".join(what) or "has the same genes in another order"
    raise complain(
        f"{difference}, compared with site {first.site!r}{_way_out(mine, theirs)}",
        site=other.site,
        file=other.file,
        field="var_names",
    )


def _first(genes: Sequence[str]) -> str:
    """A few of these genes, and how many more there are."""
    more = f" and {len(genes) - 3:,} more" if len(genes) > 3 else ""
    return ", ".join(map(repr, genes[:3])) + more


def _way_out(mine: set[str], theirs: set[str]) -> str:
    """What to do about genes that differ, in brackets: most may be the same, written otherwise."""
    for what, written in _WRITTEN.items():
        alike = set(map(written, mine - theirs)) & set(map(written, theirs - mine))
        if 2 * len(alike) > len(mine - theirs):
            return f" ({len(alike):,} are the same but for {what}: name them alike)"
    return " (genes = 'intersection' uses those that all have)" if mine & theirs else ""


def is_digest_of_dispersions(told: object, *, brought: bool) -> TypeGuard[bytes]:
    """Whether a site can say this of the dispersions that it joins with: nothing where none are ``brought``."""
    return isinstance(told, bytes) and len(told) == (DIGEST_BYTES if brought else 0)


def check_dispersions(digests: Mapping[PartyId, bytes]) -> None:
    """Raise `InputError` unless every site joined with the same dispersions."""
    first = min(digests)
    for site in sorted(digests):
        if digests[site] != digests[first]:
            raise complain(
                f"dispersions differ from those of site {first!r}: they must be the same everywhere", site=site
            )
