"""`secirls claim` says what holds or why nothing can; the options of a fit reach the protocol's settings."""

import pytest

from secirls.config import Config


def test_a_claim_is_printed_with_the_threshold_it_takes(run):
    words = ["claim", "--sites", "10", "--colluders", "2", "--dropouts", "3", "--consistency"]
    code, shown, _ = run(*words)
    assert code == 0
    assert shown.startswith("--threshold 7 --consistency\n")
    assert "if at most 3 of the sites collude with it" in " ".join(shown.split())


def test_a_lean_claim_is_about_the_keys_that_a_fit_agrees_on(run):
    code, shown, _ = run("claim", "--sites", "100", "--protocol", "pairwise-lean")
    assert code == 0
    assert f"(every {Config(design='~ a', protocol='pairwise-lean').rounds_per_batch:,} sums)" in " ".join(
        shown.split()
    )
    assert "fewer than 20 of the sites collude" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--sites", "10", "--colluders", "2", "--dropouts", "4", "--consistency"], "no threshold serves 10 sites"),
        (["--sites", "10", "--threshold", "11"], "threshold 11 is impossible"),
        (["--sites", "2"], "at least 3"),
        (["--sites", "5", "--protocol", "rot13"], "no protocol 'rot13'"),
        (["--sites", "5", "--protocol", "additive", "--dropouts", "1"], "only if every site answers"),
        (["--sites", "5", "--protocol", "pairwise-lean", "--dropouts", "1"], "only if every site answers"),
    ],
)
def test_an_impossible_claim_is_one_sentence_and_code_2(run, words, reason):
    code, shown, error = run("claim", *words)
    assert code == 2
    assert shown == ""
    assert reason in " ".join(error.split())


def test_options_of_a_fit_reach_the_protocols_settings():
    config = Config.read(
        "options", design="~ condition", consistency=True, neighbours=6, prg="chacha20", rounds_per_batch=8
    )
    settings = config.settings()
    assert (settings.consistency, settings.neighbours, settings.prg, settings.rounds_per_batch) == (
        True,
        6,
        "chacha20",
        8,
    )
