"""Claims say what holds and refuse what can't; the page that plays a sum plays it."""

import pytest

from protocols import claims, run
from protocols.choice import NAMES, helpers
from protocols.encryption.paillier_messages import MOST_SHARES
from protocols.secure_sum import KEY_DEALER, KEY_HOLDER, MisuseError
from protocols.sessions.settings import Settings


@pytest.mark.parametrize("protocol", NAMES)
def test_every_claim_is_sentences_and_says_what_holds_for_all(protocol):
    sentences = claims.claim(protocol, 5, Settings(threshold=4))
    assert set(claims.ALWAYS) <= set(sentences)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize("protocol", NAMES)
def test_a_claim_says_that_totals_are_verified_where_they_are_and_what_that_rests_on(protocol):
    without = claims.claim(protocol, 5, Settings())
    told = claims.claim(protocol, 5, Settings(), verified=True)
    assert set(told) - set(without) == set(claims.VERIFIED)
    assert set(without) < set(told)
    assert any("2^-63" in sentence for sentence in claims.VERIFIED)
    assert any(sentence.startswith("One site that gives away") for sentence in claims.VERIFIED)


@pytest.mark.parametrize(
    ("protocol", "settings", "said"),
    [
        ("plain", Settings(), "hides nothing"),
        ("additive", Settings(), "all 5 other sites"),
        (
            "pairwise-lean",
            Settings(),
            "also one that breaks the protocol, learns the sum over all 6 sites and nothing else.",
        ),
        ("pairwise-lean", Settings(), "all 5 other sites"),
        ("pairwise-lean", Settings(), "If one site is silent, the sum does not open"),
        ("pairwise-lean", Settings(), "what it demands of a sum it demands before"),
        ("pairwise-lean", Settings(rounds_per_batch=4096), "opens no earlier sum with them; in later ones, until"),
        ("pairwise-lean", Settings(rounds_per_batch=4096), "(every 4,096 sums)"),
        ("pairwise-lean", Settings(neighbours=4), "as long as fewer than 4 of the sites collude"),
        ("pairwise-lean", Settings(neighbours=4), "shares masks with 4 others"),
        ("pairwise", Settings(threshold=4), "fewer than 4 of 6 sites collude"),
        ("pairwise", Settings(threshold=5, consistency=True), "at most 3 of the sites"),
        ("pairwise", Settings(threshold=4, consistency=True), "at most 1 of the sites"),
        ("pairwise", Settings(), "fewer than 5 of 6 sites answer"),
        ("pairwise", Settings(threshold=4), "and with more than 1 colluding ones the numbers of one site alone"),
        ("pairwise", Settings(threshold=3), "may open the numbers of one site alone"),
        ("pairwise", Settings(threshold=4, consistency=True), "a site that expects more takes no part"),
        ("pairwise", Settings(), "is not named, for it can't be told which of two lied"),
        ("pairwise", Settings(), "it is shown over which sites"),
        ("paillier", Settings(), "it is shown over which sites"),
        ("paillier-threshold", Settings(), "it is shown over which sites"),
        ("paillier-threshold", Settings(threshold=4), "over two sets of sites if at most 1 of them collude"),
        ("paillier-threshold", Settings(threshold=3), "may open a sum over two sets"),
        ("paillier", Settings(threshold=4), "what 4 of 6 sites signed"),
        ("paillier", Settings(key_bits=2048), "112 bits"),
        ("paillier", Settings(obfuscation="short"), "twice the security level"),
        ("paillier", Settings(threshold=4), "breaks the protocol, and fewer than 4 of 6 sites with it"),
        ("paillier", Settings(), "proves that it knows what is in its ciphertexts"),
        ("paillier-threshold", Settings(threshold=4), "fewer than 4 of 6 sites collude"),
        ("paillier-threshold", Settings(), "The key-dealer makes the key"),
        ("paillier-threshold", Settings(), "proves that it knows what is in its ciphertexts"),
        ("paillier-threshold", Settings(), "about 128 bits"),
    ],
)
def test_a_claim_names_its_numbers(protocol, settings, said):
    assert said in " ".join(claims.claim(protocol, 6, settings))


def test_a_claim_speaks_of_no_role_that_the_protocol_has_not():
    for protocol in NAMES:
        said = " ".join(claims.claim(protocol, 6, Settings()))
        for role in (KEY_HOLDER, KEY_DEALER):
            assert (role in said) == (role in helpers(protocol))


def test_a_key_is_shared_among_a_hundred_and_no_more():
    assert claims.claim("paillier-threshold", MOST_SHARES, Settings())
    with pytest.raises(MisuseError, match="at most 100 sites"):
        claims.claim("paillier-threshold", MOST_SHARES + 1, Settings())


@pytest.mark.parametrize(
    ("parties", "settings", "reason"),
    [
        (2, Settings(), "at least 3"),
        (5, Settings(threshold=2), "between 3 and 5"),
        (5, Settings(threshold=6), "between 3 and 5"),
        (6, Settings(threshold=3, consistency=True), "at least 4"),
        (1, Settings(allow_two=True), "at least 2"),
    ],
)
def test_what_cannot_be_claimed_is_refused_with_the_reason(parties, settings, reason):
    with pytest.raises(MisuseError, match=reason):
        claims.claim("pairwise", parties, settings)


@pytest.mark.parametrize(
    ("parties", "settings", "colluders", "dropouts", "threshold"),
    [
        (10, Settings(), 2, 3, 7),
        (10, Settings(), 2, 5, 3),
        (10, Settings(), 6, 2, 7),
        (10, Settings(consistency=True), 2, 3, 7),
        (10, Settings(threshold=7), 2, 3, 7),
        (4, Settings(consistency=True), 1, 1, 3),
        (3, Settings(), 0, 0, 3),
    ],
)
def test_a_plan_takes_the_smallest_threshold_that_bears_what_is_asked_and_that_sites_take_part_under(
    parties, settings, colluders, dropouts, threshold
):
    planned, sentences = claims.plan("pairwise", parties, settings, colluders, dropouts)
    assert planned.threshold == threshold
    assert sentences == claims.claim("pairwise", parties, planned)


@pytest.mark.parametrize(
    ("protocol", "parties", "settings", "colluders", "dropouts", "reason"),
    [
        ("pairwise", 10, Settings(threshold=3), 3, 0, "3 colluding sites reach the 3"),
        ("pairwise", 10, Settings(threshold=7), 0, 4, "only with up to 3"),
        ("pairwise", 10, Settings(threshold=6, consistency=True), 2, 0, "12 > 10 \\+ 2 does not hold"),
        ("pairwise", 10, Settings(consistency=True), 2, 4, "no threshold serves 10 sites. 6: .*12 > .*7: .*up to 3"),
        ("pairwise", 10, Settings(), 7, 2, "fewer than two are left"),
        ("pairwise", 10, Settings(threshold=2), 0, 0, "between 3 and 10"),
        ("pairwise", 2, Settings(), 0, 0, "at least 3"),
        ("pairwise", 10, Settings(), -1, 0, "below zero"),
        ("pairwise", 100, Settings(threshold=67), 0, 9, "only with up to 8"),
        ("pairwise", 100, Settings(threshold=67), 20, 0, "20 colluding sites reach the 20"),
        ("additive", 5, Settings(), 3, 0, None),
        ("additive", 5, Settings(), 4, 0, "fewer than two"),
        ("additive", 5, Settings(), 0, 1, "every site answers"),
        ("pairwise-lean", 5, Settings(consistency=True), 3, 0, None),
        ("pairwise-lean", 5, Settings(), 4, 0, "fewer than two"),
        ("pairwise-lean", 5, Settings(), 0, 1, "a lean pairwise sum opens only if every site answers"),
        ("pairwise-lean", 100, Settings(), 19, 0, None),
        ("pairwise-lean", 100, Settings(), 20, 0, "20 colluding sites can be all 20 neighbours"),
        ("plain", 5, Settings(), 1, 0, "hides nothing"),
        ("plain", 5, Settings(), 0, 2, None),
        ("paillier", 6, Settings(threshold=4), 4, 0, "4 colluding sites"),
        ("paillier", 6, Settings(threshold=4), 0, 3, "only with up to 2"),
        ("paillier", 6, Settings(threshold=4, consistency=True), 4, 0, "4 colluding sites"),
        ("paillier", 6, Settings(threshold=4, consistency=True), 3, 1, None),
        ("paillier-threshold", 6, Settings(threshold=4, consistency=True), 1, 0, None),
        ("paillier-threshold", 6, Settings(threshold=4, consistency=True), 2, 0, "8 > 6 \\+ 2 does not hold"),
        ("paillier-threshold", 6, Settings(threshold=4, consistency=True), 1, 1, "only where everybody must answer"),
        ("paillier-threshold", 6, Settings(threshold=4), 3, 2, "fewer than two"),
    ],
)
def test_an_impossible_plan_is_refused_with_the_reason(protocol, parties, settings, colluders, dropouts, reason):
    if reason is None:
        assert claims.plan(protocol, parties, settings, colluders, dropouts)[1]
        return
    with pytest.raises(MisuseError, match=reason):
        claims.plan(protocol, parties, settings, colluders, dropouts)


def test_a_plan_agrees_with_what_sums_do():
    """Every number of colluders and silent sites among six, against the two bounds of the paper, tried one by one."""
    for consistency in (False, True):
        for colluders in range(6):
            for dropouts in range(6):
                bears = (
                    any(
                        colluders < t <= 6 - dropouts and (not consistency or 2 * t > 6 + colluders)
                        for t in range(3, 7)
                    )
                    and 6 - colluders - dropouts >= 2
                )
                try:
                    claims.plan("pairwise", 6, Settings(consistency=consistency), colluders, dropouts)
                except MisuseError:
                    assert not bears, (consistency, colluders, dropouts)
                else:
                    assert bears, (consistency, colluders, dropouts)


def test_a_large_room_claims_what_its_graph_bears():
    told = " ".join(claims.claim("pairwise", 100, Settings(consistency=True)))
    for said in (
        "fewer than 20 of 100",
        "at most 19 of the sites",
        "with 28 others",
        "fewer than 67 of 100",
        "up to 8",
    ):
        assert said in told
    assert claims.active_colluders(100, 67) == 33


def test_two_sites_are_told_what_they_learn():
    assert "by subtracting" in " ".join(claims.claim("additive", 2, Settings(allow_two=True)))


def test_the_bound_on_colluders_is_that_of_the_paper():
    for parties in range(3, 12):
        for threshold in range(3, parties + 1):
            allowed = claims.active_colluders(parties, threshold)
            assert 2 * threshold > parties + allowed
            assert not 2 * threshold > parties + allowed + 1


@pytest.mark.parametrize(
    "arguments",
    [["plain"], ["additive"], ["pairwise-lean"], ["pairwise"], ["pairwise", "--silent", "site-2", "--consistency"]],
)
def test_the_page_plays_a_sum_and_prints_its_messages(arguments, capsys):
    run.main([*arguments, "--values", "10"])
    printed = capsys.readouterr().out
    assert "hello: each party publishes a nonce" in printed
    assert "site-1 -> aggregator" in printed
    assert "Opened: the sum equals the ring sum over site-1," in printed
    assert "DIFFERS" not in printed
    assert ("sealed to the others, what lets them go on" in printed) == (arguments[0] == "pairwise")
    assert ("signs which hellos it was shown" in printed) == (arguments[0] == "pairwise-lean")
    assert ("asks everyone to agree to that" in printed) == ("--consistency" in arguments)
    assert "The aggregator: " in printed
    for sentence in claims.claim(arguments[0], 4, Settings(consistency="--consistency" in arguments)):
        assert sentence in printed
    if "--consistency" in arguments:
        assert "request, a second trip" in printed
        assert "silent: site-2" in printed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["additive", "--silent", "site-2"], "silent: site-2"),
        (["pairwise-lean", "--silent", "site-2"], "silent: site-2"),
        (["--parties", "2"], "at least 3"),
        (["--silent", "site-9"], "the parties are site-1"),
        (["--parties", "9", "--neighbours", "5"], "even number"),
    ],
)
def test_the_page_says_why_a_sum_does_not_open(arguments, reason, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main([*arguments, "--values", "3"])
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_unknown_protocol_is_refused_by_name():
    for ask in (lambda: claims.claim("rot13", 5, Settings()), lambda: run.sit_down("rot13", ["a", "b", "c"])):
        with pytest.raises(MisuseError, match="rot13"):
            ask()
