"""What a sum by each protocol gives away, to whom, and when it fails: sentences to stand beside a result.

Promises: a claim is made for one protocol, one number of parties and one threshold, and one that these
can't keep is refused with the reason. Refuses to know: policy; who may ask, and how often, is the site's.
"""

from __future__ import annotations

from protocols.choice import NAMES
from protocols.secure_sum import MisuseError
from protocols.settings import Settings

ALWAYS = (
    "The sums themselves are released, round after round: whatever follows from them is not hidden.",
    "A sum minus the numbers of those who pool theirs is the sum of the others: of one site, if only one is left.",
    "Sites that lie about their data are not detected.",
    "Sizes, times and who takes part are visible to whoever carries the messages.",
    "This is research software: not audited, and not safe against measuring its timing or memory.",
)
"""True of every protocol here."""

_STRENGTH = {3072: "about 128 bits of security", 2048: "about 112 bits of security"}


def claim(protocol: str, parties: int, settings: Settings) -> tuple[str, ...]:
    """What holds for that many parties under these settings, in plain sentences.

    Raises `MisuseError` where nothing can be claimed: too few parties, an impossible threshold, or
    consistency asked for with a threshold too low to give it meaning.
    """
    if protocol not in NAMES:
        raise MisuseError(f"there is no protocol {protocol!r}: choose one of {', '.join(NAMES)}")
    if protocol == "plain":
        return (
            "The aggregator sees every site's numbers: this is the baseline for cost, and hides nothing.",
            "A sum opens over whichever sites answer.",
            *ALWAYS,
        )
    threshold = settings.threshold_for(parties)
    if protocol == "additive":
        sentences = _additive(parties)
    elif protocol == "pairwise":
        sentences = _pairwise(parties, threshold, settings.consistency)
    else:
        sentences = _paillier(parties, threshold, settings)
    two = ("With two sites, each learns the other's numbers by subtracting its own.",) if parties == 2 else ()
    return (*sentences, *two, *ALWAYS)


def active_colluders(parties: int, threshold: int) -> int:
    """How many sites may collude with an active aggregator under pairwise masks: 2 t > n + c; below 0, none."""
    return 2 * threshold - parties - 1


def _additive(parties: int) -> tuple[str, ...]:
    return (
        f"The aggregator learns the sum over all {parties} sites and nothing else.",
        f"It would take all {parties - 1} other sites, together with the aggregator, to learn one site's numbers.",
        "If one site is silent, the sum does not open.",
    )


def _pairwise(parties: int, threshold: int, consistency: bool) -> tuple[str, ...]:
    colluders = active_colluders(parties, threshold)
    if consistency and colluders < 0:
        raise MisuseError(
            f"threshold {threshold} of {parties} sites protects nobody from an active aggregator: consistency needs "
            f"2 * threshold > sites, that is at least {parties // 2 + 1}"
        )
    passive = (
        "An aggregator that follows the protocol learns the sum over the sites that answered, which sites those "
        f"are, and nothing else, as long as fewer than {threshold} of {parties} sites collude with it."
    )
    if consistency:
        active = (
            "The same holds against an aggregator that breaks the protocol in any way, if at most "
            f"{colluders} of the sites collude with it."
        )
    else:
        active = (
            "Sites do not compare notes on who answered: an aggregator that breaks the protocol may open a sum over "
            "fewer sites than the threshold."
        )
    return (passive, active, f"If fewer than {threshold} of {parties} sites answer, the sum does not open.")


def _paillier(parties: int, threshold: int, settings: Settings) -> tuple[str, ...]:
    strength = _STRENGTH.get(settings.key_bits, "for tests only" if settings.key_bits < 2048 else "more than needed")
    short = " and, further, that exponents of twice the security level are as good as long ones"
    assumption = {
        "djn": "decisional composite residuosity with half-length exponents (Damgard, Jurik and Nielsen 2010)",
        "short": "decisional composite residuosity with half-length exponents" + short,
        "textbook": "decisional composite residuosity",
    }[settings.obfuscation]
    return (
        "The aggregator alone learns the sum over the sites that answered, which sites those are, and nothing else.",
        "The key-holder alone learns nothing: what it decrypts is blinded by uniform numbers.",
        "The key-holder together with the aggregator, or with any one site learns every site's numbers: keep it apart.",
        f"The key-holder decrypts only what {threshold} of {parties} sites signed; if fewer answer, no sum opens.",
        f"The key has {settings.key_bits} bits ({strength}); hiding rests on {assumption}.",
    )
