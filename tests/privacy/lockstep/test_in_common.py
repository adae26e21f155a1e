"""Sites that share a process have in common what follows from public things alone; each still believes nothing.

Beside each claim a twin without what holds it.
"""

import time

import numpy as np
import pytest

from protocols.secure_sum import PeerError
from protocols.verified import Checks
from secirls.aggregator.aggregator import Outcome, lead
from secirls.aggregator.transcript import canonical, digests
from secirls.agreement.ledger import Meter
from secirls.agreement.order import Task
from secirls.algorithms.query import Total
from secirls.carriers.local import LocalFederation
from secirls.site import site as sites
from secirls.site.follower import Run
from secirls.site.in_common import InCommon
from secirls.site.site import Site

LATE = 7


@pytest.fixture
def four(lay):
    return lay(samples=40, genes=14, seed=4)


class Noting(InCommon):
    """Notes what is asked of it, what that follows from, and what it is, as text."""

    def __init__(self):
        super().__init__()
        self.noted = []

    def once(self, what, of, call, meter):
        result = super().once(what, of, call, meter)
        self.noted.append((what, canonical({"of": digests(of)}), canonical({"is": digests(result)})))
        return result


def fit(grounds, config, common, change=lambda verb, place, arguments: arguments):
    """What a fit ends with; ``common(site)`` is what a site shares, ``change`` what is asked in the place of a call."""

    class Between(LocalFederation):
        def ask(self, verb, arguments):
            calls[verb] = calls.get(verb, -1) + 1
            return super().ask(verb, change(verb, calls[verb], dict(arguments)))

    calls = {}

    parties = {
        name: Site(grounds.place(name), config, own_process=False, common=common(name)) for name in grounds.names
    }
    try:
        *_, end = lead(Task(config, "fit-1"), Between(parties))
    except PeerError as error:
        end = error
    return end


def numbers(end):
    assert isinstance(end, Outcome), end
    return end.fitted.state.beta.tobytes(), end.rounds[-1].round


@pytest.mark.parametrize(
    "options",
    [pytest.param({"preset": "irls"}, marks=pytest.mark.slow), {"preset": "deseq2"}, {"trust_aggregator": True}],
)
def test_results_are_those_of_sites_apart(four, lead, options, monkeypatch):
    """The algorithm is run once, and nobody changes the questions and totals that all hold."""
    if "trust_aggregator" in options:
        four.trust()
    config = lead.config(four, **{"preset": "irls", **options})
    apart = fit(four, config, lambda name: None)
    begun, honest = [], sites.agreed_fit
    monkeypatch.setattr(sites, "agreed_fit", lambda *given: begun.append(1) or honest(*given))
    common = Noting()
    assert numbers(fit(four, config, lambda name: common)) == numbers(apart)
    assert len(begun) == config.lock_step
    held = {}
    for what, of, result in common.noted:
        assert held.setdefault((what, of), result) == result


def differing(noted):
    """The kinds of results of which two sites noted other things."""
    first, *others = noted
    return {what for other in others for what, *_ in set(first) ^ set(other)}


def test_nothing_that_is_kept_depends_on_a_site(four, lead, monkeypatch):
    """Each site has something in common with itself alone, and all four come to the same things."""
    config = lead.config(four, preset="irls")
    apart = {name: Noting() for name in four.names}
    assert isinstance(fit(four, config, apart.get), Outcome)
    assert {what for what, *_ in apart["site1"].noted} == {"agreement", "run", "question", "sum", "vector", "total"}
    assert differing([common.noted for common in apart.values()]) == set()

    honest = Site._compute

    def leaking(site, asked, samples, parties):
        return site._common.once("sums", (asked.kind,), lambda: honest(site, asked, samples, parties), site._meter)

    monkeypatch.setattr(Site, "_compute", leaking)
    apart = {name: Noting() for name in four.names}
    fit(four, config, apart.get)
    assert differing([common.noted for common in apart.values()]) == {"sums"}


def lie_to_site3(verb, place, arguments):
    """One site of the four is told another total in a late round; the others, before and after it, the sum."""
    if verb == "hear" and place == LATE:
        told, *rest = arguments["site3"]
        changed = bytearray(told)
        changed[38] ^= 1
        arguments["site3"] = (bytes(changed), *rest)
    return arguments


def test_a_site_refuses_a_total_that_others_in_its_process_did_not_hear(four, lead, monkeypatch):
    config, common = lead.config(four, preset="irls"), InCommon()
    end = fit(four, config, lambda name: common, lie_to_site3)
    assert isinstance(end, PeerError)
    assert str(end) == "aggregator: tells a total that is not the sum of what was sent (so site3 says)"

    monkeypatch.setattr(Checks, "verify", lambda *given: None)
    common = InCommon()
    end = fit(four, config, lambda name: common, lie_to_site3)
    assert "site3" in str(end)
    assert "leads site3 another way than sites that share its process" in str(end)


def test_a_site_is_charged_what_somebody_else_worked_out():
    """The ledger says what a site costs alone; a twin that books the look-up does not."""

    def work():
        until = time.process_time() + 0.05
        while time.process_time() < until:
            pass
        return "done"

    common = InCommon()
    first, second, third = Meter(1), Meter(1), Meter(1)
    for meter, of in ((first, 1), (second, 1), (third, 1)):
        common.once("work", (of,), work, meter)  # between verbs nothing is booked
        assert meter.measure("follow", lambda: common.once("work", (of,), work, meter)) == "done"  # noqa: B023
    for meter in (first, second, third):
        (cost,) = meter.take()
        assert 0.05 <= cost.cpu_seconds < 0.1
        assert cost.seconds >= 0.05
    meter = Meter(1)
    meter.measure("follow", lambda: common.once("work", (1,), work, Meter(1)))
    assert meter.take()[0].cpu_seconds < 0.05
    meter.measure("verify", lambda: None)
    assert meter.take()[0].cpu_seconds < 0.05


def test_an_error_of_the_algorithm_is_heard_by_all_who_share_it():
    def algorithm():
        yield np.zeros(0)
        raise ValueError("no such thing")

    run = Run(algorithm())
    next(run._algorithm)
    for site in ("site1", "site2"):
        with pytest.raises(ValueError, match="no such thing"):
            run.go_on(site, b"", b"after", Total({}, (), ()))
    with pytest.raises(PeerError, match="leads site3 another way"):
        run.go_on("site3", b"", b"elsewhere", Total({}, (), ()))
