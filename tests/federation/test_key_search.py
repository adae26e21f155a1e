"""A key that is found by trying is searched for in steps, and the fit tells how far that is."""

import re

import pytest

import secirls
from secirls.agreement.faults import PartyFaultError
from secirls.inputs.datasets import write_simulated
from secirls.site import helper
from secirls.site.helper import Helper

TOLD = re.compile(r"the key-dealer makes a key of 512 bits: ([\d,]+) candidates tried, ([\d,]+) are usual")


@pytest.fixture
def patient(monkeypatch):
    """A helper that says after every single candidate how far it is."""
    monkeypatch.setattr(helper, "SEARCHED_SECONDS", 0.0)
    monkeypatch.setattr(helper, "TRIES_AT_ONCE", 1)


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    return write_simulated(tmp_path_factory.mktemp("search") / "sites", sites=3, samples=18, genes=20, seed=3)


def notes_of(sites, protocol):
    notes = []
    secirls.fit(
        sites,
        design="~ condition",
        protocol=protocol,
        engine="local",
        on_note=notes.append,
        key_bits=512,
        insecure_test_keys=True,
    )
    return notes


@pytest.mark.usefixtures("patient")
def test_every_step_of_the_search_is_told(sites):
    told = [match.groups() for note in notes_of(sites, "paillier-threshold") if (match := TOLD.fullmatch(note))]
    tried = [int(text.replace(",", "")) for text, _ in told]
    # Two primes are at least two tries, and putting the key together is one step more.
    assert len(tried) >= 3
    assert tried == list(range(1, len(tried) + 1))
    assert len({usual for _, usual in told}) == 1


@pytest.mark.usefixtures("patient")
def test_a_key_that_needs_no_search_is_made_without_a_word(sites):
    assert not [note for note in notes_of(sites, "paillier") if "candidates" in note]


def test_a_helper_that_tells_nonsense_is_named(sites, monkeypatch):
    monkeypatch.setattr(Helper, "prepare", lambda _: "soon")
    with pytest.raises(PartyFaultError, match="key-dealer"):
        notes_of(sites, "paillier-threshold")
