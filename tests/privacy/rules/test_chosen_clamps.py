"""A floor under the means that whoever leads chooses, fit by fit: it singles out samples by their means.

In lock-step nobody chooses a question, but a configuration does, and `min_mu` is in it. Every sample whose mean lies
below the floor adds its count as it is; so between two floors with one sample's mean between them the sum of counts
changes by that count. A policy permits the preset's. In the twin five honest fits over the same data, within
all budgets and with every site's memory, give a count to the unit.
"""

import numpy as np
import pytest

import secirls
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks
from secirls.site.site import Site


def ordered(grounds, **options):
    told = {"design": "~ condition", "engine": "local", "kernel": "numpy", "preset": "irls", "roster": grounds.told()}
    return secirls.fit({name: grounds.place(name).source for name in grounds.names}, **told | options)


@pytest.mark.parametrize(
    "number",
    [{"min_mu": 0.1}, {"min_mu": 100.0}, {"max_beta": 0.5}, {"ridge": 10.0}, {"beta_tol": 1.0}, {"max_iter": 1}],
)
def test_a_site_takes_part_with_the_numbers_of_the_preset(grounds, number):
    grounds.rule('tuning = "allow"', "site1", "site2")
    ((name, value),), rounds = number.items(), []
    with pytest.raises(RefusalError) as refused:
        ordered(grounds, **number, on_round=rounds.append)
    assert str(refused.value) == f"site 'site3': its policy refuses: tuning is refuse ({name} = {value})"
    assert not rounds


@pytest.mark.parametrize("preset", ["deseq2", "irls", "pydeseq2", "fedpydeseq2"])
def test_no_preset_is_tuned(preset):
    PolicyChecks("lyon", Policy()).check_config(Config(design="~ condition", preset=preset))


def test_sites_may_permit_other_numbers(grounds):
    assert ordered(grounds.rule('tuning = "allow"'), min_mu=0.6).report["configuration"]["min_mu"] == 0.6


class Fits:
    """An aggregator that keeps to everything, and makes fit after fit."""

    def __init__(self, grounds, lead):
        self.grounds, self.lead, self.made = grounds, lead, 0

    def __call__(self, floor):
        """The first sums of IRLS: of weights and of working responses, over all samples, ``(genes,)``."""
        config = self.lead.config(self.grounds, preset="irls", min_mu=floor)
        self.sites = {name: Site(self.grounds.place(name), config, own_process=False) for name in self.grounds.names}
        self.made += 1
        *events, self.outcome = lead_fit(Task(config, f"fit-{self.made}"), LocalFederation(self.sites))
        opened = next(event.arrays for event in events if isinstance(event, Record) and event.told.kind == "irls")
        return opened["xtwx"][:, 0], opened["xtwz"][:, 0]


def of_those_below(floors, sums, alpha):
    """Of samples below floors with no mean between: the sum of their ``y + log s / alpha``, and others' weight.

    With f a floor and w = f / (1 + alpha f), each adds w to the weights and ``w (log f - log s) + (y - f) w / f`` to
    the responses. How many there are, weights tell; what the others add does not depend on the floor.
    """
    f, (weights, responses) = np.array(floors), np.array(sums).T
    share, rest = 1.0 / (1.0 + alpha * f), np.ones_like(f)
    samples = np.rint(np.linalg.solve(np.column_stack([f * share, rest]), weights)[0])
    left = responses - samples * f * share * (np.log(f) - 1.0)
    return np.linalg.solve(np.column_stack([share, rest]), left)[0], (weights - samples * f * share).mean()


def means(fits, gene):
    """The truth: fitted means where IRLS begins, and counts, of all samples."""
    start = fits.outcome.fitted.state.start[gene]
    held = [site._samples for site in fits.sites.values()]
    mu = np.concatenate([one.size_factors * np.exp(one.design @ start) for one in held])
    return mu, np.concatenate([one.counts[:, gene] for one in held])


def largest_count(fits):
    """Found and true: the count of whichever sample has the largest mean of a gene, from four fits, one to aim by."""
    fits(0.5)
    gene = int(np.argmax(fits.outcome.fitted.base_means))
    alpha, start = fits.outcome.fitted.dispersions[gene], fits.outcome.fitted.state.start[gene]
    mu, counts = means(fits, gene)
    second, first = np.sort(mu)[-2:]
    above, between = first * np.array([2.0, 4.0]), second + (first - second) * np.array([0.1, 0.9])
    of_all, of_others = (
        of_those_below(floors, [[each[gene] for each in fits(floor)] for floor in floors], alpha)
        for floors in (above, between)
    )
    mean = of_others[1] / (1.0 - alpha * of_others[1])
    by_cell = [of_all[0] - of_others[0] - (np.log(mean) - eta) / alpha for eta in (start[0], start.sum())]
    return min(by_cell, key=lambda count: abs(count - round(count))), counts[np.argmax(mu)]


def test_the_twin_that_permits_any_floor_tells_a_count_to_the_unit(lay, lead, monkeypatch):
    grounds = lay(samples=24, genes=12).rule("max_params_per_sample = 0.5")
    monkeypatch.setattr(PolicyChecks, "check_config", lambda *_: None)
    found, true = largest_count(Fits(grounds, lead))
    assert found == pytest.approx(true, abs=0.01)
    assert true > 100
