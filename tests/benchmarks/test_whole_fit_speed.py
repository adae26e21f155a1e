"""What hiding costs a whole fit: the same data in the clear and under each protocol, turn about in one process.

``pytest tests/benchmarks/test_whole_fit_speed.py -m slow -s`` prints the least CPU seconds of a few runs, and the ratio
to the clear. 20,000 genes, 300 samples at 6 sites; aggregators are trusted with the questions, as in other packages,
but for the last lines. Read the ratios.
"""

from functools import partial

import pytest

from experiments.speed.fits import CHOICES, DESIGNS, a_fit, written
from experiments.speed.turns import in_turn, least

pytestmark = pytest.mark.slow

GENES, SAMPLES, SITES, RUNS = 20_000, 300, 6, 5
WAYS = {
    "plain": {"protocol": "plain"},
    "additive": {"protocol": "additive"},
    "pairwise-lean": {"protocol": "pairwise-lean"},
    "pairwise": {"protocol": "pairwise"},
    "pairwise-lean, in lock-step": {"protocol": "pairwise-lean", "trust_aggregator": False},
    "pairwise, in lock-step": {"protocol": "pairwise", "trust_aggregator": False},
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    return written(tmp_path_factory.mktemp("whole-fit"), GENES, SAMPLES, SITES)


@pytest.mark.parametrize("preset", CHOICES)
@pytest.mark.parametrize("params", DESIGNS)
def test_a_whole_fit(sites, params, preset):
    rounds = set()

    def fit(options):
        rounds.add(a_fit(sites, DESIGNS[params], **CHOICES[preset], **options).ledger["round"].nunique())

    spent = least(in_turn({way: partial(fit, options) for way, options in WAYS.items()}, RUNS))
    print(f"\np = {params}, {preset}, {max(rounds)} rounds")
    for way, seconds in spent.items():
        print(f"  {way:<28}{seconds:6.2f} s{seconds / spent['plain']:6.2f}x")
    assert len(rounds) == 1
    assert max(rounds) > 10
