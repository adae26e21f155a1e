"""A bad hello in a room where few sites verify it: the aggregator, who sees every hello, looks at them first."""

import pytest

from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.secure_sum import MisuseError
from secirls.aggregator import aggregator
from secirls.aggregator.aggregator import Outcome
from secirls.agreement.order import Task
from secirls.carriers.local import LocalFederation
from secirls.site.site import Answer, Site

SITES = tuple(f"site{number:02}" for number in range(10))
LIAR = "site03"


class LateLiar(Site):
    """Its hello for the second batch of rounds is spoiled on its last byte: of its signature."""

    def hello(self, batch):
        answer = super().hello(batch)
        if batch == 0:
            return answer
        return Answer(answer.message[:-1] + bytes([answer.message[-1] ^ 1]), answer.costs)


@pytest.fixture
def ten(lay):
    return lay("ten", SITES, samples=100, genes=6, seed=4)


def fit(grounds, lead_fits):
    grounds.rule('on_dropout = "continue"')
    options = {"preset": "irls", "on_dropout": "continue", "rounds_per_batch": 8, "neighbours": 6}
    config = lead_fits.config(grounds, **options)
    kinds = {name: LateLiar if name == LIAR else Site for name in SITES}
    parties = {name: kind(grounds.place(name), config, own_process=False) for name, kind in kinds.items()}
    *_, end = aggregator.lead(Task(config, "fit-1"), LocalFederation(parties))
    return end


def test_who_sends_a_bad_hello_is_left_out_and_the_others_go_on(ten, lead):
    end = fit(ten, lead)
    assert isinstance(end, Outcome)
    lost = [(told.round, *told.lost[0]) for told in end.rounds if told.lost]
    assert [(number, site) for number, site, _ in lost] == [(8, LIAR)]
    assert "hello is not signed" in lost[0][2]
    assert set(end.rounds[-1].parties) == set(SITES) - {LIAR}


def test_the_twin_that_carries_hellos_unseen_is_stopped_by_one_site(ten, lead, monkeypatch):
    """The broken twin: some sites take the hello, the liar's neighbours don't, and the first can't meet again."""
    monkeypatch.setattr(PairwiseCollector, "check", lambda self, hellos, batch=0: None)
    with pytest.raises(MisuseError, match="has met the others for batch 1 already"):
        fit(ten, lead)
