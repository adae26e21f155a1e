"""Asking the parties of a session: every answer is booked, and who stays silent or sends nonsense is dealt with.

Promises: ``wait`` is the aggregator's wall time from asking to the last answer.
A site that dies, is late, breaks or sends nonsense is *silent*: it is fenced, and then the fit stops
(``on_dropout="abort"``) or goes on for good without it (``"continue"``); before a session stands it begins anew
without it. Nonsense is what the collector sees, or an accusation that it does not share: whoever accuses another party,
or the aggregator, puts out nobody but itself. Who *refuses* for a rule of its own, in words, stops the fit always.
Refuses to know: what is asked, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeGuard, TypeVar

from protocols.secure_sum import PartyId, PeerError
from secirls.aggregator.losses import LeftOutError, Loss, befell, heard, nonsense, said_by
from secirls.agreement.agreement import (
    Agreement,
    Facts,
    are_facts,
    check_dispersions,
    is_digest_of_dispersions,
    is_identity,
)
from secirls.agreement.faults import NONSENSE, BlockedPartyError, PartyFaultError, SilentSitesError
from secirls.agreement.ledger import Ledger, Meter, are_costs
from secirls.config import Config
from secirls.input_error import complain
from secirls.inputs.designs.design import variables
from secirls.site.desk import SPOKEN
from secirls.site.site import Answer

T = TypeVar("T")

AGGREGATOR_ROLE, SITE_ROLE = "aggregator", "site"

TOLD_SECONDS = 20.0
"""How often it is said who is waited for, where the fit tells nothing of itself."""

PREPARE_SECONDS = 3600.0
"""How long a site has, at least, to open its file and to prepare it."""

_PREPARING = frozenset({"look", "survey", "key", "join"})


class Federation(Protocol):
    """The seam between the rounds and what carries them: ask some parties to run one verb each.

    The answer lacks whoever fell silent, and holds, in place of a result, the exception a party raised:
    one of `SPOKEN`, or a `PartyFaultError` for any other.
    """

    @property
    def sites(self) -> tuple[PartyId, ...]:
        """Names of the sites, sorted."""
        ...

    def ask(self, verb: str, arguments: Mapping[PartyId, tuple[Any, ...]]) -> dict[PartyId, Any]:
        """Run ``verb`` at every named party with its arguments."""
        ...

    def fence(self, party: PartyId) -> None:
        """Have nothing more to do with a party: whatever it still sends is never read."""
        ...


def seconds_for(verb: str, deadline: float) -> float:
    """How long a party has for one verb, where a fit's deadline is so many seconds."""
    return max(deadline, PREPARE_SECONDS) if verb in _PREPARING else deadline


class Asking:
    """Whoever leads, as far as it asks and listens."""

    def __init__(
        self,
        federation: Federation,
        ledger: Ledger,
        cohort: tuple[PartyId, ...],
        helper_names: tuple[PartyId, ...],
        lost: tuple[Loss, ...],
        threads: int,
    ) -> None:
        self._federation = federation
        self._ledger = ledger
        self._cohort = cohort
        self._helpers = helper_names
        self._lost = lost
        self._meter = Meter(threads)
        self._round = 0
        self._met = -1
        self._refused: dict[PartyId, PeerError] = {}
        self._may_shrink = False

    def _put_out(self, accusations: Mapping[PartyId, PeerError], verb: str) -> None:
        """Go on without those who accuse others of what the collector does not see, where that may be."""
        for accuser, accusation in accusations.items():
            if accuser not in self._cohort or not self._may_shrink:
                raise said_by(accuser, accusation)
            self._refused[accuser] = accusation
        if accusations:
            self._lose(*((accuser, f"refused {verb!r}, for {error}") for accuser, error in accusations.items()))

    def _without_nonsense(
        self, verb: str, call: Callable[[dict[PartyId, bytes]], T], messages: dict[PartyId, bytes]
    ) -> T:
        """Run a verb of the collector's; without the message of a site that sent nonsense, where that may be."""
        kept = dict(messages)
        while True:
            try:
                return self._own(verb, lambda: call(dict(kept)))
            except PeerError as error:
                if error.sender not in kept or error.sender not in self._cohort or not self._may_shrink:
                    raise
                del kept[error.sender]
                self._lose((error.sender, nonsense(error)))

    def _answers(
        self,
        verb: str,
        arguments: Mapping[PartyId, tuple[Any, ...]],
        accusations: dict[PartyId, PeerError] | None = None,
    ) -> dict[PartyId, bytes]:
        """Ask, book what it cost, and deal with those who stay silent: see `_settle`.

        Where ``accusations`` are heard, they are put there by who raised them, and end nothing.
        """
        answers: dict[PartyId, Any] = self._own("wait", lambda: self._federation.ask(verb, arguments))
        messages: dict[PartyId, bytes] = {}
        silent: dict[PartyId, PartyFaultError | None] = {}
        for name in sorted(arguments):
            answer = answers.get(name)
            if well_formed(answer):
                role = name if name in self._helpers else SITE_ROLE
                self._ledger.add(name, role, answer.costs)
                messages[name] = answer.message
            elif isinstance(answer, PeerError) and accusations is not None:
                accusations[name] = answer
            elif isinstance(answer, (*SPOKEN, PartyFaultError)):
                word = heard(name, verb, answer)
                if not isinstance(word, PartyFaultError):
                    raise word
                silent[name] = word
            else:
                silent[name] = None if answer is None else PartyFaultError(name, verb, NONSENSE)
        if silent:
            self._settle(verb, silent)
        return messages

    def _settle(self, verb: str, silent: dict[PartyId, PartyFaultError | None]) -> None:
        """Stop where somebody is silent, for a smaller sum may give them away; or go on without them for good."""
        for name in silent:
            self._federation.fence(name)
        if not self._may_shrink or not set(silent) <= set(self._cohort):
            blocked = {name for name, fault in silent.items() if isinstance(fault, BlockedPartyError)}
            faults = [fault for name, fault in silent.items() if fault is not None and name not in blocked]
            raise faults[0] if faults else SilentSitesError(self._round, tuple(n for n in silent if n not in blocked))
        self._lose(*((name, befell(verb, fault)) for name, fault in silent.items()))

    def _lose(self, *lost: Loss) -> None:
        """Go on without these for good. Raises `LeftOutError` before a session stands: it has to begin anew."""
        for party, _ in lost:
            self._federation.fence(party)
        self._cohort = tuple(name for name in self._cohort if name not in dict(lost))
        self._lost += lost
        if self._met < 0:
            raise LeftOutError(lost)

    def _own(self, verb: str, call: Callable[[], T]) -> T:
        result = self._meter.measure(verb, call)
        self._ledger.add("aggregator", AGGREGATOR_ROLE, self._meter.take())
        return result


def well_formed(answer: object) -> TypeGuard[Answer]:
    """Whether a site sent what a verb gives: bytes, and what they can have cost."""
    return isinstance(answer, Answer) and isinstance(answer.message, bytes) and are_costs(answer.costs)


def surveyed(
    federation: Federation, sites: tuple[PartyId, ...], config: Config, *, may_begin_anew: bool
) -> dict[PartyId, Facts]:
    """What the sites say about themselves. Raises what a party raised, and `InputError` naming who did not answer.

    For what a site can't say of itself it is fenced: raises `LeftOutError` where the fit may begin anew without it,
    else `PartyFaultError`.
    """
    answers: dict[PartyId, Any] = federation.ask("survey", dict.fromkeys(sites, ()))
    check_present("survey", sites, answers)
    names = variables(config.design)
    faults = [PartyFaultError(n, "survey", NONSENSE) for n in sites if not are_facts(answers[n], n, names)]
    for fault in faults:
        federation.fence(fault.given[0])
    if faults and not may_begin_anew:
        raise faults[0]
    if faults:
        raise LeftOutError(tuple((fault.given[0], befell("survey", fault)) for fault in faults))
    return answers


def keyed(federation: Federation, helpers: tuple[PartyId, ...]) -> dict[PartyId, bytes]:
    """The keys that helpers sign with. Raises as `surveyed` does; without a helper no fit begins anew."""
    return _answers(federation, "key", dict.fromkeys(helpers, ()), is_identity)


def joined(federation: Federation, sites: tuple[PartyId, ...], config: Config, agreement: Agreement) -> None:
    """Have the sites join the session, with the same dispersions where they bring any.

    Raises as `keyed` does, and `InputError` where a site brings others.
    """
    brought, asked = config.dispersions is not None, dict.fromkeys(sites, (agreement,))
    check_dispersions(_answers(federation, "join", asked, lambda told: is_digest_of_dispersions(told, brought=brought)))


def helped(federation: Federation, helpers: tuple[PartyId, ...], agreement: Agreement) -> dict[PartyId, bool]:
    """Have the helpers join; gives who is simulated. Raises as `keyed` does."""
    return _answers(federation, "join", dict.fromkeys(helpers, (agreement,)), lambda told: isinstance(told, bool))


def _answers(
    federation: Federation, verb: str, asked: Mapping[PartyId, tuple[Any, ...]], is_answer: Callable[[object], bool]
) -> dict[PartyId, Any]:
    """What everybody answers before the session; whose answer is none of the verb's is fenced, and named."""
    answers: dict[PartyId, Any] = federation.ask(verb, asked)
    check_present(verb, tuple(asked), answers)
    for name in asked:
        if not is_answer(answers[name]):
            federation.fence(name)
            raise PartyFaultError(name, verb, NONSENSE)
    return answers


def check_present(verb: str, names: tuple[PartyId, ...], answers: Mapping[PartyId, Any]) -> None:
    """Raise what a party raised before the session began, as its word, or `InputError` naming who did not answer."""
    for name in names:
        if isinstance(answers.get(name), Exception):
            raise heard(name, verb, answers[name])
    silent = [name for name in names if name not in answers]
    if silent:
        raise complain("did not answer, so the session can't begin", site=", ".join(silent))
