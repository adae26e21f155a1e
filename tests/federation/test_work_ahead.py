"""Work ahead is booked apart, never runs beside a verb, and changes nothing but when things are done."""

import threading
import time

import numpy as np
import pytest

from protocols import run
from protocols.choice import make_party
from protocols.secure_sum import Foresighted
from protocols.sessions.settings import Settings
from secirls.config import Config
from secirls.fitting import fit_config
from secirls.input_error import InputError
from secirls.inputs.datasets import AIRWAY_LEVELS
from secirls.site.ahead import PIECES_AT_ONCE, VERB, WorkAhead

SITES = ("a", "b", "c")
SETTINGS = Settings(key_bits=512, insecure_test_keys=True)


class Slow:
    """A party that takes its time, and notices when two threads are in it at once."""

    def __init__(self, pieces):
        self.left, self.calls, self.inside, self.clashes = pieces, [], 0, 0

    def precompute(self, values, limbs=2, most=None):
        self.inside += 1
        self.clashes += self.inside > 1
        time.sleep(0.002)
        made = min(self.left, most)
        self.left -= made
        self.calls.append((values, limbs, made, threading.current_thread() is threading.main_thread()))
        self.inside -= 1
        return made


def test_all_of_it_is_made_in_the_background_and_booked_once():
    party = Slow(100)
    ahead = WorkAhead(party, background=True)
    ahead.start(7, 2)
    ahead._thread.join()
    (cost,) = ahead.stop()
    assert cost.verb == VERB
    assert cost.seconds > 0
    assert (cost.bytes_up, cost.bytes_down) == (0, 0)
    assert [made for _, _, made, _ in party.calls] == [32, 32, 32, 4, 0]
    assert not any(in_main for *_, in_main in party.calls)
    assert ahead.stop() == ()


def test_a_verb_waits_for_one_piece_and_no_more():
    party = Slow(10**9)
    ahead = WorkAhead(party, background=True)
    for _ in range(20):
        ahead.start(7, 2)
        ahead.stop()
        assert not ahead._thread
        party.precompute(7, 2, PIECES_AT_ONCE)
    assert party.clashes == 0
    before = len(party.calls)
    time.sleep(0.02)
    assert len(party.calls) == before


def test_the_clash_counter_sees_a_thread_that_is_not_stopped():
    party = Slow(10**9)
    ahead = WorkAhead(party, background=True)
    ahead.start(7, 2)
    for _ in range(50):
        party.precompute(7, 2, PIECES_AT_ONCE)
    ahead.stop()
    assert party.clashes > 0


def test_among_others_in_one_process_it_is_done_at_once():
    party = Slow(40)
    ahead = WorkAhead(party, background=False)
    ahead.start(7, 2)
    assert party.left == 0
    assert all(in_main for *_, in_main in party.calls)
    assert [cost.verb for cost in ahead.stop()] == [VERB]


@pytest.mark.parametrize("protocol", ["plain", "additive", "pairwise-lean", "pairwise"])
def test_protocols_without_foresight_are_left_alone(protocol):
    party = run.sit_down(protocol, SITES, SETTINGS).parties["a"]
    assert not isinstance(party, Foresighted)
    ahead = WorkAhead(party, background=True)
    ahead.start(7, 2)
    assert ahead.stop() == ()


@pytest.mark.parametrize("protocol", ["paillier", "paillier-threshold"])
def test_a_paillier_site_needs_no_obfuscator_after_it_worked_ahead(protocol, monkeypatch):
    table = run.sit_down(protocol, SITES, SETTINGS)
    run.meet(table)
    party = table.parties["a"]
    ahead = WorkAhead(party, background=True)
    ahead.start(200, 2)
    ahead._thread.join()
    assert ahead.stop()
    monkeypatch.setattr(party._obfuscators, "_make", None)
    vector = np.zeros((200, 2), dtype=np.uint64)
    assert party.protect(vector, run.context_of(table, vector))


def fitted(sites, **options):
    told = []
    config = Config.read(
        "configuration", design="~ condition", levels=AIRWAY_LEVELS,
        **{"protocol": "paillier", "key_bits": 512, "insecure_test_keys": True, **options},
    )  # fmt: skip
    return fit_config(config, sites, engine="local", on_note=told.append), told


@pytest.fixture(scope="module")
def few_genes(tmp_path_factory, airway_sites):
    import anndata

    folder = tmp_path_factory.mktemp("ahead")
    paths = {name: folder / path.name for name, path in airway_sites.items()}
    for name, path in airway_sites.items():
        anndata.read_h5ad(path)[:, ::64].copy().write_h5ad(paths[name])
    return paths


@pytest.fixture(scope="module")
def fewer_genes(few_genes):
    import anndata

    return {name: anndata.read_h5ad(path)[:, ::8].copy() for name, path in few_genes.items()}


@pytest.mark.slow
def test_a_fit_books_work_ahead_apart_and_gives_the_same_numbers(few_genes):
    with_, told = fitted(few_genes)
    without, _ = fitted(few_genes, precompute=False)
    assert with_.table.equals(without.table)
    assert VERB not in set(without.ledger.verb)
    booked = with_.ledger[with_.ledger.verb == VERB]
    assert set(booked.party) == set(few_genes)
    assert (booked.cpu_seconds > 0).all()
    # The cost of a round falls with its active genes, because only they are encrypted.
    protect = with_.ledger[with_.ledger.verb == "protect"].groupby("round").agg({"bytes_up": "sum", "values": "max"})
    assert protect.bytes_up.max() > 50 * protect.bytes_up.iloc[-1]
    slots = 3
    expected = [4 * (-(-values // slots) * 128 + 160 + 64) for values in protect["values"]]
    assert protect.bytes_up.tolist() == expected
    assert any("encrypting" in note for note in told)
    assert any("opening" in note and "key-holder" in note for note in told)


def test_short_keys_need_the_loud_flag(few_genes):
    from protocols.secure_sum import MisuseError

    with pytest.raises((MisuseError, InputError), match="512 bits"):
        fitted(few_genes, insecure_test_keys=False)


@pytest.mark.slow
def test_a_report_says_when_keys_protect_nothing(fewer_genes):
    result, _ = fitted(fewer_genes, protocol="paillier-threshold")
    assert "for tests only" in " ".join(result.report["disclosure"])
    assert "key-dealer" in set(result.ledger.party)
    assert set(result.ledger[result.ledger.party == "key-dealer"]["verb"]) == {"hello", "meet"}


def test_threads_reach_the_parties():
    party = make_party("paillier", "a", *_identity(), SETTINGS, n_jobs=3)
    assert party.n_jobs == 3
    assert Config(design="~ x", n_jobs=3).threads == 3
    assert Config(design="~ x").threads >= 1
    with pytest.raises(InputError, match="n_jobs"):
        Config.read("configuration", design="~ x", n_jobs=0)


def _identity():
    from protocols.primitives.keys import Identity
    from protocols.sessions.session import Roster

    made = {name: Identity(bytes([at]) * 32) for at, name in enumerate((*SITES, "key-holder"), 1)}
    return made["a"], Roster({name: identity.public for name, identity in made.items()})
