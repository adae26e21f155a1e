"""Honest fits of one formula after another about the same data: as many columns as samples tell every sample.

Each fit sums counts with each column of its design. Powers of a column of numbers make as many columns as anybody
likes, a few of them a fit; so whoever knows the numbers, as many do who know patients' ages, solves for the counts of
every sample, up to its size factor. Sites count columns over all fits. The twin doesn't.
"""

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import budget, likeness
from secirls.site.guarding.budget import Told
from secirls.site.guarding.policy_checks import PolicyChecks

POWERS = ((1, 2), (3, 4), (5, 6), (7, 8), (9,))
"""Powers that a fit has, beside the condition: six columns of 21 samples."""


def power(k):
    return "score" if k == 1 else f"I(score ** {k})"


@pytest.fixture
def scored(lay, monkeypatch):
    """Three sites of seven samples, each with a number of its own; seven columns of any fits are every one's alone."""
    for look in ("one_is_alone", "_one_apart"):
        monkeypatch.setattr(likeness, look, lambda *_: False)
    grounds = lay(names=("site1", "site2", "site3"), samples=21, genes=12)
    for number, name in enumerate(grounds.names):
        scores = (3 * np.arange(7) + number) / 10 - 1
        grounds.edit(name, lambda adata, scores=scores: adata.obs.__setitem__("score", scores))
    return grounds


def fit(grounds, lead, formula, **changes):
    """By column what an honest fit opens of X'(y / s), ``(genes,)``; and the sites."""
    config = lead.config(grounds, design=formula, preset="irls", **changes)
    sites = lead.sites(grounds, config)
    *events, outcome = lead_fit(Task(config, config.digest), LocalFederation(sites))
    (opened,) = (event.arrays for event in events if isinstance(event, Record) and event.told.kind == "normalised")
    sums = opened["xt_normalised"] @ outcome.fitted.scaled.from_user
    return dict(zip(outcome.design.columns, sums.T, strict=True)), sites


def solved(grounds, lead):
    """The y / s of every treated sample ``(samples, genes)``: found from honest fits by whoever knows scores; true."""
    told = {}
    for few in POWERS:
        sums, sites = fit(grounds, lead, f"~ condition * ({' + '.join(map(power, few))})")
        told.update(sums)
    held = [site._samples for site in sites.values()]
    treated = np.concatenate([one.covariates.parts[:, 1] > 0 for one in held])
    scores = np.concatenate([[i / 10 - 1 for i in range(number, 21, 3)] for number in range(3)])[treated]
    sums = [told["condition[T.treated]"], *(told[f"condition[T.treated]:{power(k)}"] for k in range(1, 10))]
    true = np.concatenate([one.counts / one.size_factors[:, None] for one in held])[treated]
    return np.linalg.solve(np.vander(scores, increasing=True).T, sums), true


def test_the_twin_that_forgets_columns_tells_every_treated_samples_counts(scored, lead, monkeypatch):
    for check in ("check_columns", "check_leverage"):
        monkeypatch.setattr(PolicyChecks, check, lambda *_: None)
    monkeypatch.setattr(likeness, "few_differ", lambda *_: False)  # sees high powers, which few samples have
    found, true = solved(scored, lead)
    assert true.shape == (10, 12)
    np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-2)


def test_a_site_counts_columns_over_fits(scored, lead):
    with pytest.raises(RefusalError) as refused:
        solved(scored, lead)
    assert str(refused.value) == (
        "site 'site1': its policy refuses: max_params_per_sample is 0.33 (10 design columns in all fits of this data)"
    )


def columns(grounds, name="site1"):
    (file,) = (grounds.folder / name / "memory").glob("*-told.npz")
    return budget.read_told(file).columns


def test_the_same_columns_are_counted_once(scored, lead):
    fit(scored, lead, "~ condition * score")
    first = columns(scored)
    assert len(first) == 4
    fit(scored, lead, "~ condition + score")
    fit(scored, lead, "~ condition * score")
    assert columns(scored) == first
    fit(scored, lead, "~ condition + I(score**2) + score")
    assert len(columns(scored)) == 5


def test_columns_over_other_size_factors_are_others(scored, lead):
    """Control genes that somebody chooses, one a fit, would make weights as he likes."""
    first, second, third = (f"gene0000{number}" for number in (1, 2, 3))
    fit(scored, lead, "~ condition + score", control_genes=(first,))
    fit(scored, lead, "~ condition + score", control_genes=(second,))
    assert len(columns(scored)) == 6
    with pytest.raises(RefusalError, match=r"max_params_per_sample is 0\.33 \(9 design columns in all fits"):
        fit(scored, lead, "~ condition + score", control_genes=(third,))


def test_a_budget_of_before_there_were_columns_is_read(tmp_path):
    np.savez(tmp_path / "a.npz", values=np.zeros(3, dtype=np.int64), answered=np.zeros((0, 2, 32), dtype=np.uint8))
    told = budget._read((tmp_path / "a.npz").read_bytes(), 3)
    assert told.columns == frozenset()
    budget._write(tmp_path / "a.npz", Told(told.values, columns=frozenset({bytes(32), b"\1" * 32})))
    assert budget._read((tmp_path / "a.npz").read_bytes(), 3).columns == {bytes(32), b"\1" * 32}
