"""What a sum by each protocol gives away, to whom, and when it fails: sentences to stand beside a result.

Promises: a claim is made for one protocol, one number of parties and one threshold, and one that these
can't keep is refused with the reason. Refuses to know: policy; who may ask, and how often, is the site's.
"""

from __future__ import annotations

from dataclasses import replace

from protocols.choice import NAMES
from protocols.encryption.paillier_messages import MOST_SHARES
from protocols.masking.neighbours import (
    degree_for,
    degree_without_recovery,
    most_colluders,
    most_colluders_without_recovery,
    share_threshold,
)
from protocols.secure_sum import MINIMUM_PARTIES, MisuseError
from protocols.sessions.demands import active_colluders
from protocols.sessions.settings import Settings

ALWAYS = (
    "The sums themselves are released, round after round: whatever follows from them is not hidden.",
    "A sum minus the numbers of those who pool theirs is the sum of the others: of one site, if only one is left.",
    "Sites that lie about their data are not detected.",
    "Sizes, times and who takes part are visible to whoever carries the messages.",
    "This is research software: not audited, and not safe against measuring its timing or memory.",
)
"""True of every protocol here."""

VERIFIED = (
    "Every site checks each total that it is told, and which sites are in it.",
    "An aggregator that no site helps gets a false total past a site with a chance of 2^-63 at most.",
    "One site that gives away what the sites check totals with lets the aggregator tell all others what it likes.",
)
"""True of every protocol here where sites verify totals (`protocols.verified`)."""

_SUM_ALONE = "The aggregator learns the sum over the sites that answered, which sites those are, and nothing else"
_PROVED = (
    "Every site proves that it knows what is in its ciphertexts, and the aggregator and all other sites check that: a "
    "site that breaks the protocol can't add another's to its own, be it alone or together with the aggregator."
)

_PASSIVE = (
    "An aggregator that follows the protocol learns the sum over the sites that answered, which sites those are, and "
    "nothing else, as long as fewer than"
)
_DEALER = (
    "The key-dealer makes the key, hands every site a share and forgets it: that it does is trusted, for together "
    "with the aggregator it would learn every site's numbers."
)

_EVERYBODY = (
    "The same holds against an aggregator that breaks the protocol where every site helps only with sums that "
    "everybody is in, as in a fit that ends when a site falls silent."
)

_PRESENT = (
    "Before a site helps to open a sum it is shown over which sites, and may refuse: a site that demands it helps only "
    "where everybody is in it."
)
_FALSE_SHARES = (
    "A site that deals or passes on a false share is not named, for it can't be told which of two lied: the sum opens "
    "without that share where there are enough others, and else it does not open."
)

_ALL_OTHERS = "It would take all {others} other sites, together with the aggregator, to learn one site's numbers."
_SILENT = "If one site is silent, the sum does not open."
_LEAN = "The aggregator, also one that breaks the protocol, learns the sum over all {parties} sites and nothing else"
_ONE_WORD = (
    "A site sends its numbers hidden, once, and is asked for nothing more: what it demands of a sum it demands before."
)
_STOLEN = (
    "Who steals a site's keys of masks opens no earlier sum with them; in later ones, until all agree on new keys "
    "(every {rounds:,} sums), that site is as one that colludes."
)

_STRENGTH = {3072: "about 128 bits of security", 2048: "about 112 bits of security"}


def claim(protocol: str, parties: int, settings: Settings, *, verified: bool = False) -> tuple[str, ...]:
    """What holds for that many parties under these settings, and where totals are ``verified``, in plain sentences.

    Raises `MisuseError` where nothing can be claimed: too few parties, an impossible threshold, or
    consistency asked for with a threshold too low to give it meaning.
    """
    if protocol not in NAMES:
        raise MisuseError(f"there is no protocol {protocol!r}: choose one of {', '.join(NAMES)}")
    always = (*VERIFIED, *ALWAYS) if verified else ALWAYS
    if protocol == "plain":
        return (
            "The aggregator sees every site's numbers: this is the baseline for cost, and hides nothing.",
            "A sum opens over whichever sites answer.",
            *always,
        )
    threshold = settings.threshold_for(parties)
    if protocol == "additive":
        sentences = _additive(parties)
    elif protocol == "pairwise-lean":
        sentences = _pairwise_lean(parties, settings)
    elif protocol == "pairwise":
        sentences = _pairwise(parties, threshold, settings)
    elif protocol == "paillier":
        sentences = _paillier(parties, threshold, settings)
    else:
        sentences = _paillier_threshold(parties, threshold, settings)
    two = ("With two sites, each learns the other's numbers by subtracting its own.",) if parties == 2 else ()
    return (*sentences, *two, *always)


def plan(
    protocol: str, parties: int, settings: Settings, colluders: int = 0, dropouts: int = 0
) -> tuple[Settings, tuple[str, ...]]:
    """Settings under which so many may collude with the aggregator and so many fall silent, and their claim.

    Where the settings name no threshold, the smallest that does is taken: of those under which sites that demand so
    many colluders take part, where there are such. With ``consistency`` the aggregator may break the protocol. Raises
    `MisuseError` with the reason where it can't be.
    """
    if colluders < 0 or dropouts < 0:
        raise MisuseError("a number of colluding or silent sites can't be below zero")
    claim(protocol, parties, replace(settings, threshold=parties))
    if protocol == "plain":
        if colluders:
            raise MisuseError("plain hides nothing: the aggregator needs nobody to collude with")
        return settings, claim(protocol, parties, settings)
    if parties - colluders - dropouts < 2:
        raise MisuseError(
            f"with {colluders} of {parties} sites colluding and {dropouts} silent, fewer than two are left to hide "
            "each other: the sum minus what the colluders know would be one site's numbers"
        )
    if protocol in ("additive", "pairwise-lean"):
        if dropouts:
            told = "an additive" if protocol == "additive" else "a lean pairwise"
            raise MisuseError(f"{told} sum opens only if every site answers: take pairwise if some may be silent")
        if protocol == "pairwise-lean" and colluders > most_colluders_without_recovery(settings, parties):
            raise MisuseError(
                f"{colluders} colluding sites can be all {degree_without_recovery(settings, parties)} neighbours that "
                "one site shares masks with: take more neighbours"
            )
        return settings, claim(protocol, parties, settings)
    if protocol == "paillier-threshold" and settings.consistency and colluders and dropouts:
        raise MisuseError(
            "against an aggregator that breaks the protocol, Paillier in shares is shown to bear colluding sites only "
            "where everybody must answer: take pairwise, or paillier with a key-holder"
        )
    if settings.threshold is not None:
        settings.threshold_for(parties)
        candidates = [settings.threshold]
    else:
        candidates = list(range(2 if settings.allow_two else MINIMUM_PARTIES, parties + 1))
    reasons = [
        _obstacle(protocol, parties, replace(settings, threshold=each), colluders, dropouts) for each in candidates
    ]
    serving = [replace(settings, threshold=each) for each, why in zip(candidates, reasons, strict=True) if not why]
    if serving:
        once = (each for each in serving if _opens_once(protocol, parties, each, colluders))
        settings = next(once, serving[0])
        return settings, claim(protocol, parties, settings)
    if len(reasons) == 1:
        raise MisuseError(reasons[0])
    steps = [f"{each}: {why}" for each, why in zip(candidates, reasons, strict=True)]
    turn = next((i for i in range(1, len(reasons)) if _kind(reasons[i]) != _kind(reasons[0])), len(reasons) - 1)
    raise MisuseError(f"no threshold serves {parties} sites. {steps[turn - 1]}. {steps[turn]}")


def most_silent(parties: int, settings: Settings) -> int:
    """How many sites may be silent, no matter which, for a pairwise sum to open still."""
    threshold, degree = settings.threshold_for(parties), degree_for(settings, parties)
    if degree == parties - 1:
        return parties - threshold
    return max(min(parties - threshold, degree - share_threshold(threshold, parties, degree)), 0)


def _obstacle(protocol: str, parties: int, settings: Settings, colluders: int, dropouts: int) -> str:
    """Why these settings do not bear so many colluding and so many silent; empty if they do."""
    threshold = settings.threshold_for(parties)
    pairwise = protocol == "pairwise"
    alone = share_threshold(threshold, parties, degree_for(settings, parties)) if pairwise else threshold
    if colluders >= alone:
        return f"{colluders} colluding sites reach the {alone} whose shares or signatures open a sum: too low"
    once = protocol in ("pairwise", "paillier-threshold")
    if once and settings.consistency and colluders > active_colluders(parties, threshold):
        return (
            f"against an aggregator that breaks the protocol 2 * threshold > sites + colluders is needed, and "
            f"{2 * threshold} > {parties} + {colluders} does not hold: too low"
        )
    silent = most_silent(parties, settings) if pairwise else parties - threshold
    if dropouts > silent:
        return f"with {dropouts} sites silent a sum need not open, only with up to {silent}: too high"
    return ""


def _opens_once(protocol: str, parties: int, settings: Settings, colluders: int) -> bool:
    """Whether a site takes part that demands so many colluders: see `Demands.colluders`."""
    if protocol == "pairwise":
        return colluders <= most_colluders(settings, parties)
    if protocol == "paillier-threshold":
        return colluders <= active_colluders(parties, settings.threshold_for(parties))
    return True


def _kind(reason: str) -> str:
    return reason.rpartition(": ")[2]


def _additive(parties: int) -> tuple[str, ...]:
    return (
        f"The aggregator learns the sum over all {parties} sites and nothing else.",
        _ALL_OTHERS.format(others=parties - 1),
        _SILENT,
    )


def _pairwise_lean(parties: int, settings: Settings) -> tuple[str, ...]:
    degree, alone = degree_without_recovery(settings, parties), _LEAN.format(parties=parties)
    stolen = _STOLEN.format(rounds=settings.rounds_per_batch)
    if degree == parties - 1:
        return (f"{alone}.", _ALL_OTHERS.format(others=parties - 1), _SILENT, _ONE_WORD, stolen)
    few = (
        f"Each site shares masks with {degree} others, drawn from the session and the roster; all of these together "
        "could take its masks off."
    )
    bound = f"{alone}, as long as fewer than {degree} of the sites collude with it."
    return (bound, few, _SILENT, _ONE_WORD, stolen)


def _pairwise(parties: int, threshold: int, settings: Settings) -> tuple[str, ...]:
    degree = degree_for(settings, parties)
    alone = share_threshold(threshold, parties, degree)
    colluders = most_colluders(settings, parties)
    if settings.consistency and colluders < 0:
        raise MisuseError(
            f"threshold {threshold} of {parties} sites protects nobody from an active aggregator: consistency needs "
            f"2 * threshold > sites, that is at least {parties // 2 + 1}"
        )
    passive = f"{_PASSIVE} {alone} of {parties} sites collude with it."
    if settings.consistency:
        active = (
            "The same holds against an aggregator that breaks the protocol in any way, if at most "
            f"{colluders} of the sites collude with it; a site that expects more takes no part."
        )
    else:
        fewer = f"a sum over fewer sites than the threshold, and with more than {colluders} colluding ones "
        active = (
            "Sites do not compare notes on who answered: an aggregator that breaks the protocol may open "
            f"{fewer if colluders >= 0 else ''}the numbers of one site alone."
        )
    opens = f"If fewer than {threshold} of {parties} sites answer, the sum does not open."
    if degree == parties - 1:
        return (passive, active, opens, _PRESENT, _FALSE_SHARES)
    few = (
        f"Each site shares masks with {degree} others, drawn from the session and the roster: {alone} of these and "
        "itself open its secrets. No site helps to open a sum over sites that fewer than that many colluding ones "
        "could split into parts."
    )
    where = (
        f"With up to {most_silent(parties, settings)} sites silent the sum opens, no matter which; with more it "
        "depends on whose neighbours they are."
    )
    return (passive, active, opens, few, where, _PRESENT, _FALSE_SHARES)


def _paillier(parties: int, threshold: int, settings: Settings) -> tuple[str, ...]:
    return (
        f"{_SUM_ALONE}, also if it breaks the protocol, and fewer than {threshold} of {parties} sites with it.",
        "The key-holder alone learns nothing: what it decrypts is blinded by uniform numbers.",
        "The key-holder together with the aggregator, or with any one site learns every site's numbers: keep it apart.",
        f"The key-holder decrypts only what {threshold} of {parties} sites signed; if fewer answer, no sum opens.",
        _PRESENT,
        _PROVED,
        _key(settings),
    )


def _paillier_threshold(parties: int, threshold: int, settings: Settings) -> tuple[str, ...]:
    if parties > MOST_SHARES:
        raise MisuseError(f"a Paillier key is shared among at most {MOST_SHARES} sites, and here are {parties}")
    most = active_colluders(parties, threshold)
    once = (
        f"Where sites help with sums over fewer, no sum is opened over two sets of sites if at most {most} of them "
        "collude with such an aggregator; a site that expects more takes no part. But that parts of a decryption which "
        "open nothing tell it nothing is not shown: a site that expects any takes no part there."
        if most >= 0
        else "Where sites help with sums over fewer, such an aggregator may open a sum over two sets of sites: what "
        "tells them apart is then not hidden."
    )
    return (
        f"{_PASSIVE} {threshold} of {parties} sites collude with it.",
        _EVERYBODY,
        once,
        f"If fewer than {threshold} of {parties} sites answer, no sum opens.",
        _PRESENT,
        _DEALER,
        _PROVED,
        _key(settings),
    )


def _key(settings: Settings) -> str:
    strength = _STRENGTH.get(settings.key_bits, "for tests only" if settings.key_bits < 2048 else "more than needed")
    short = " and, further, that exponents of twice the security level are as good as long ones"
    assumption = {
        "djn": "decisional composite residuosity with half-length exponents (Damgard, Jurik and Nielsen 2010)",
        "short": "decisional composite residuosity with half-length exponents" + short,
        "subgroup": "decisional composite residuosity within a group of secret order (Ma, Han and Lei 2021)",
        "textbook": "decisional composite residuosity",
    }[settings.obfuscation]
    return f"The key has {settings.key_bits} bits ({strength}); hiding rests on {assumption}."
