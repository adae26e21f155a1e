"""Claims say what holds and refuse what can't; the page that plays a sum plays it."""

import pytest

from protocols import claims, run
from protocols.choice import NAMES
from protocols.secure_sum import MisuseError
from protocols.settings import Settings


@pytest.mark.parametrize("protocol", NAMES)
def test_every_claim_is_sentences_and_says_what_holds_for_all(protocol):
    sentences = claims.claim(protocol, 5, Settings(threshold=4))
    assert set(claims.ALWAYS) <= set(sentences)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in sentences)


@pytest.mark.parametrize(
    ("protocol", "settings", "said"),
    [
        ("plain", Settings(), "hides nothing"),
        ("additive", Settings(), "all 5 other sites"),
        ("pairwise", Settings(threshold=4), "fewer than 4 of 6 sites collude"),
        ("pairwise", Settings(threshold=5, consistency=True), "at most 3 of the sites"),
        ("pairwise", Settings(threshold=4, consistency=True), "at most 1 of the sites"),
        ("pairwise", Settings(), "fewer than 5 of 6 sites answer"),
        ("paillier", Settings(threshold=4), "what 4 of 6 sites signed"),
        ("paillier", Settings(key_bits=2048), "112 bits"),
        ("paillier", Settings(obfuscation="short"), "twice the security level"),
    ],
)
def test_a_claim_names_its_numbers(protocol, settings, said):
    assert said in " ".join(claims.claim(protocol, 6, settings))


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


def test_two_sites_are_told_what_they_learn():
    assert "by subtracting" in " ".join(claims.claim("additive", 2, Settings(allow_two=True)))


def test_the_bound_on_colluders_is_that_of_the_paper():
    for parties in range(3, 12):
        for threshold in range(3, parties + 1):
            allowed = claims.active_colluders(parties, threshold)
            assert 2 * threshold > parties + allowed
            assert not 2 * threshold > parties + allowed + 1


@pytest.mark.parametrize("arguments", [["plain"], ["additive"], ["pairwise", "--silent", "site-2", "--consistency"]])
def test_the_page_plays_a_sum_and_prints_its_messages(arguments, capsys):
    run.main([*arguments, "--values", "10"])
    printed = capsys.readouterr().out
    assert "hello    site-1" in printed
    assert "the opened sum equals the ring sum over site-1," in printed
    assert "DIFFERS" not in printed


def test_an_unknown_protocol_is_refused_by_name():
    for ask in (lambda: claims.claim("rot13", 5, Settings()), lambda: run.sit_down("rot13", ["a", "b", "c"])):
        with pytest.raises(MisuseError, match="rot13"):
            ask()
