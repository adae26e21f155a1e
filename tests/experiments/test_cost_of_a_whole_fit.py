"""What the experiments on the cost of a whole DESeq2 book, and what they say of it."""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.costs import cost, overhead, overhead_own
from experiments.costs.cost_fits import cohort, packed, unpacked
from experiments.costs.fedpydeseq2_program import Account
from experiments.costs.overhead_fits import MEETING, PLAIN, UNBOOKED
from experiments.groundwork import record

KEPT = record.RESULTS


@pytest.fixture(scope="module")
def measured():
    """Rows of the three ways whose difference is read."""
    ways = (PLAIN, overhead.TRUSTING, overhead.PAIRWISE)
    configuration = {**overhead.CONFIGURATION, **overhead.QUICK}
    made = {way: pd.DataFrame(overhead.measure("simulated-60x12x3", 1, way, 0, configuration)) for way in ways}
    return pd.concat(made.values(), ignore_index=True)


def test_every_stage_of_a_whole_fit_is_booked_and_drawn(measured):
    kept = record.read(KEPT / "overhead" / "rows.csv")
    for rows in (measured, kept):
        assert set(rows["stage"]) <= {*overhead.STAGE_COLOURS, UNBOOKED}
    assert {"census", "size factors", "profile", "coefficients", "outliers"} <= set(measured["stage"])
    rounds = measured.drop_duplicates(["protocol", "stage"]).groupby("protocol")["rounds"].sum()
    assert len(set(rounds)) == 1
    assert rounds.iloc[0] > 10


def test_checks_of_the_census_are_booked_where_they_are_made(measured):
    checks = measured[measured["verb"] == "verify"]
    assert set(checks["stage"]) == {MEETING, "census"}
    assert set(checks["role"]) == {"site"}
    rules = overhead.totals(measured).set_index("protocol")
    assert (rules["rules"] > checks.groupby("protocol", sort=False)["cpu_seconds"].sum()).all()
    assert (rules["rules"] < rules["cpu"]).all()


def test_consistency_costs_a_trip_more_than_trust(measured):
    sent = overhead.totals(measured).set_index("protocol")["sent"]
    assert sent[PLAIN] < sent[overhead.TRUSTING] < sent[overhead.PAIRWISE]


@pytest.fixture(scope="module")
def own_and_shared():
    """Rows of the part on own columns, of a set with three sites."""
    configuration = {**overhead.CONFIGURATION, **overhead.QUICK}
    made = [overhead_own.measure("simulated-60x12x3", 1, way, 0, configuration) for way in overhead_own.WAYS]
    return pd.concat([pd.DataFrame(rows) for rows in made], ignore_index=True)


def test_the_part_on_own_columns_fits_with_one_column_together_and_with_all(own_and_shared):
    # a round of IRLS opens X'WX, X'Wz and likelihood of one column, 3 values a gene; of four columns together 5, for
    # X'WX follows from the cells
    steps = own_and_shared[own_and_shared["stage"] == "coefficients"].drop_duplicates("protocol")
    a_round = (steps.set_index("protocol")["values"] / steps.set_index("protocol")["rounds"]).round()
    assert a_round[overhead_own.SHARED] > 1.5 * a_round[overhead_own.OWN]
    table = overhead_own.costs(own_and_shared).set_index("protocol")
    sent = own_and_shared.drop_duplicates(["protocol", "stage"]).groupby("protocol")["values"].sum() / 60
    assert table["values"].to_dict() == sent.to_dict()
    everything = own_and_shared.groupby("protocol")[["bytes_up", "bytes_down"]].sum().sum(axis=1) / 1e6
    assert table["sent"].to_dict() == pytest.approx(everything.to_dict())


def test_rows_on_own_columns_are_in_no_ratio_to_plain_and_in_an_answer_of_their_own(measured, own_and_shared):
    both = pd.concat([measured, own_and_shared], ignore_index=True)
    halved = own_and_shared["protocol"].eq(overhead_own.OWN)
    cheap = own_and_shared.assign(cpu_seconds=own_and_shared["cpu_seconds"].where(~halved, 0.0))
    cheaper = pd.concat([measured, cheap], ignore_index=True)
    first, second = (overhead.answer(rows).split(" With columns of one site") for rows in (both, cheaper))
    assert first[0] == second[0]
    assert " 0.00× the CPU time" in second[1]
    assert " 0.00× the CPU time" not in first[1]


def test_every_site_of_the_shape_with_five_columns_has_every_combination_of_levels():
    data = cohort("simulated-20x96x3", 5, 1)
    assert data.formula == "~ condition + sex + batch + sort"
    for site in data.sites().values():
        assert len(site.obs[list(data.levels)].drop_duplicates()) == 16
    assert (data.counts(data.whole).sum() > 0).all()


def test_significant_genes_are_kept_as_bits():
    marked = np.random.default_rng(3).random(1001) < 0.3
    assert np.array_equal(unpacked(packed(marked), 1001), marked)
    assert len(packed(marked)) < 1001 / 5


def test_the_rival_is_charged_for_what_its_aggregator_is_given_and_for_its_tasks_alone():
    class Train:
        def update_states(self, operation, **options):
            return options["answer"]

    class Aggregation:
        def update_states(self, operation):
            return sum(operation.shared_states)

    account = Account()
    account.keep(Train, Aggregation)
    told = np.arange(3.0)
    first = Train().update_states(SimpleNamespace(shared_state=None), answer=told)
    second = Train().update_states(SimpleNamespace(shared_state=first), answer=2 * told)
    total = Aggregation().update_states(SimpleNamespace(shared_states=[first, second]))
    assert np.array_equal(total, 3 * told)
    size = len(pickle.dumps(told))
    assert (account.rounds, account.bytes_up, account.bytes_down) == (1, 2 * size, size)
    assert account.cpu_seconds > 0


def rows_of(ours, rival, pooled):
    """Rows of one set: CPU seconds and bytes of ours and of the rival, CPU seconds of PyDESeq2."""
    bits = {"secirls": [1, 1, 0], "PyDESeq2": [1, 1, 0], "FedPyDESeq2": [1, 0, 1]}
    costs = {"secirls": ours, "FedPyDESeq2": rival, "PyDESeq2": (pooled, 0)}
    told = {"set": "airway", "params": 2, "genes": 3, "repeat": 0, "rounds": 5, "seconds": 1.0, "bytes_down": 0}
    return pd.DataFrame(
        {**told, "way": way, "cpu_seconds": cpu, "bytes_up": sent, "significant": packed(np.array(bits[way], bool))}
        for way, (cpu, sent) in costs.items()
    )


def test_the_answer_says_which_bars_are_missed():
    met = cost.answer(rows_of((1.0, 10), (15.5, 101), 2.0))
    assert met.count("met") == 3
    assert "missed" not in met
    missed = cost.answer(rows_of((1.0, 10), (14.5, 99), 0.9))
    assert missed.count("missed on 1 of 1") == 3
    assert "PyDESeq2 calls 2 genes, secirls 0 more and 0 fewer, FedPyDESeq2 1 more and 1 fewer" in missed
