"""What one party asks of a session, whoever set it up: its own terms, not agreed with anybody.

Promises: a party whose demands a session does not meet refuses it before anything that depends on its data has
left, and a sum that they do not allow before it has released or signed anything that helps to open it.
Refuses to know: why a party demands this, and which protocol its session runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from protocols.secure_sum import AGGREGATOR, Context, MisuseError, PartyId, PeerError

Opening: TypeAlias = Callable[[Context, tuple[PartyId, ...]], None]
"""Asked about a sum and the parties in it, before this party helps to open it; raises whatever it likes to refuse."""


def _any_set(context: Context, present: tuple[PartyId, ...]) -> None:
    """Allow every sum that the protocol itself allows."""


@dataclass(frozen=True)
class Demands:
    """One party's own terms. They are in no digest: parties of one session may have different ones.

    Settings say what a session is, and whoever starts it chooses them; demands say which sessions and sums
    this party takes part in.
    """

    colluders: int | None = None
    """How many other sites may be in league with an aggregator that breaks the protocol: see `check_once`.
    ``None`` demands nothing; 0 holds off the aggregator alone."""
    key_bits: int = 0
    """The shortest Paillier modulus this party encrypts under, makes or deals, whatever the settings allow."""
    whole: bool = False
    """Help to open a sum over the whole cohort of its context, and over no other set."""
    opening: Opening = field(default=_any_set, repr=False)
    """Asked once all else is in order; where it raises, nothing was released and the sum is not used up."""

    def __post_init__(self) -> None:
        if self.colluders is not None and self.colluders < 0:
            raise MisuseError("a number of colluding sites can't be below zero")

    def check_hidden(self, parties: int) -> None:
        """Raise `MisuseError` unless two of so many are left to hide each other, the colluders' vectors taken off."""
        if self.colluders is not None and parties - self.colluders < 2:
            raise MisuseError(
                f"with {self.colluders} of {parties} sites colluding, fewer than two are left to hide each other"
            )

    def check_needed(self, needed: int, what: str, cure: str = "take a higher threshold") -> None:
        """Raise `MisuseError`, and say what helps, unless it takes more than the colluders to open something."""
        if self.colluders is not None and self.colluders >= needed:
            raise MisuseError(f"{self.colluders} colluding sites reach the {needed} {what}: {cure}")

    def check_once(self, needed: int, holders: int) -> None:
        """Raise `MisuseError` unless no secret or sum can be opened by two groups of ``needed`` among ``holders``.

        Both would hold the colluders, and no honest party stands in two: so ``2 * needed > holders + colluders``.
        """
        if self.colluders is not None and self.colluders > active_colluders(holders, needed):
            raise MisuseError(
                f"{needed} of {holders} can open the same sum twice, each time for another set, if {self.colluders} "
                f"sites collude with the aggregator: 2 * {needed} > {holders} + {self.colluders} does not hold. "
                "Take a higher threshold"
            )

    def check_told_apart(self, most: int) -> None:
        """Raise `MisuseError` for more colluders than ``most``, where each party may be told another set of one sum."""
        if self.colluders is not None and self.colluders > most:
            raise MisuseError(
                "an aggregator that tells each party another set of those present, with "
                f"{self.colluders} sites colluding, may open one party's vector alone: let sites compare sets "
                "(consistency), or take a higher threshold"
            )

    def check_one_set(self) -> None:
        """Raise `MisuseError` where colluders are reckoned with, and parts of a sum may be given over two sets.

        For partial decryptions: that those which are too few to open a sum tell nothing of it is not shown.
        """
        if self.colluders and not self.whole:
            raise MisuseError(
                f"with {self.colluders} colluding sites Paillier in shares is shown to hide only where everybody is in "
                "every sum: take pairwise, or demand the whole cohort (a fit: on_dropout = 'abort')"
            )

    def check_key(self, bits: int) -> None:
        """Raise `MisuseError` for a Paillier key shorter than demanded."""
        if bits < self.key_bits:
            raise MisuseError(f"a Paillier key of {bits} bits is shorter than the {self.key_bits} demanded here")

    def check_opening(self, context: Context, present: tuple[PartyId, ...]) -> None:
        """Raise unless this party helps to open the sum over just these: `PeerError`, or what ``opening`` raises."""
        if self.whole and present != context.cohort:
            missing = ", ".join(party for party in context.cohort if party not in present)
            raise PeerError(AGGREGATOR, f"wants to open a sum without {missing}, where only the whole cohort's may be")
        self.opening(context, present)


NO_DEMANDS: Final = Demands()
"""Whatever the settings say is fine."""


def active_colluders(holders: int, needed: int) -> int:
    """How many may collude with an active aggregator for nothing to be opened twice: 2 t > n + c; below 0, none."""
    return 2 * needed - holders - 1
