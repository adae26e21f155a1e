"""The whole fit over sites against PyDESeq2's ``irls_solver`` on the pooled samples, on every real data set at hand.

Driven is `secirls.algorithms.whole_fit.fit` itself (census to catch), over the natural sites
of each data set with float sums; PyDESeq2 gets the size factors and dispersions that come out of it. Every gene
that PyDESeq2 calls converged is either within 1e-6 of it or printed by name with a reason, and the reason is decided by
mathematics, never by whom one trusts: `likelihood.nll` at both answers, which has ten digits, and the score.

Among the genes that IRLS loses in both programs the clamped likelihood has several valleys. Nowhere may PyDESeq2's
fallback end in a deeper one than our catch. Where it ends in a shallower one, or stops short of a minimum, it is no
oracle: in tcga_brca that is up to one gene in a hundred, so there the 99 % are of the others.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pydeseq2.utils
import pytest

from secirls.algorithms.query import Total
from secirls.algorithms.regression.irls import IrlsConfig, step
from secirls.algorithms.whole_fit import fit
from secirls.config import Config
from secirls.inputs.datasets import AIRWAY_LEVELS, airway_counts, airway_obs
from secirls.inputs.designs.design import Design, Variable
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood
from secirls.numerics.status import Status

NEAR = 1e-6
DIGITS = 1e-10
"""Likelihoods that differ by less, relative to max(|f|, 1), are equal: that is their precision."""
DESIGNS = {"condition": "~ condition", "site": "~ site + condition"}
NAMES = ["airway", "pasilla", "bottomly", "geuvadis_tsi", "tcga_brca", "hapmap_lcl"]
EVERYDAY = {*((name, "condition") for name in NAMES if name != "tcga_brca"), ("airway", "site")}

STOPPED = "both at IRLS's fixed point to its tolerance; PyDESeq2 stopped elsewhere: its deviance cancels (small alpha)"
EDGE = "both at IRLS's fixed point to its tolerance, one iterate apart; equal negative log-likelihoods"
LOWER = "ours has the lower negative log-likelihood"
EQUAL = "equal negative log-likelihoods to ten digits"
HIGHER = "PyDESeq2's fallback ended lower, in another valley of the clamped likelihood"
UNEXPLAINED = "unexplained"


@dataclass
class Pooled:
    samples: Samples
    genes: list[str]
    state: object


def load(name, shared_data):
    """Counts, obs, levels and gene names."""
    if name == "airway":
        counts, obs = airway_counts(), airway_obs()
        obs = obs.loc[counts.index]
        levels = {**AIRWAY_LEVELS, "site": tuple(sorted(set(obs["site"])))}
        return counts.to_numpy(dtype=np.int32), obs, levels, list(counts.columns)
    import anndata

    data = anndata.read_h5ad(shared_data / name / f"{name}.h5ad")
    levels = {factor: tuple(data.obs[factor].cat.categories) for factor in ("condition", "site")}
    return np.asarray(data.X), data.obs[["site", "condition"]].astype(str), levels, list(data.var_names)


def fitted(name, formula, shared_data, every=1) -> Pooled:
    """Our whole fit over the natural sites, and the samples of all sites in one piece."""
    counts, obs, levels, genes = load(name, shared_data)
    counts, genes = counts[:, ::every], genes[::every]
    levels = {factor: values for factor, values in levels.items() if factor in formula}
    said = {"all": {factor: Variable(numeric=False, levels=values) for factor, values in levels.items()}}
    design = Design.agree(formula, levels, said)
    config = Config(design=formula, levels=levels, min_contributors=1, protocol="plain", preset="irls")
    sites = []
    for site in sorted(set(obs["site"])):
        mine = np.flatnonzero(obs["site"] == site)
        rows = obs.iloc[mine]
        sites.append(Samples(design.matrix(rows), counts[mine], group_sizes=design.group_sizes(rows)))
    names = tuple(f"site{i}" for i in range(len(sites)))
    algorithm, total = fit(config, design, len(genes)), None
    while True:
        try:
            query = algorithm.send(total)
        except StopIteration as end:
            result = end.value
            break
        sites = [query.apply(site) for site in sites]
        parts = [query.summands(site.take(query.genes), len(sites)) for site in sites]
        total = Total({key: sum(part[key] for part in parts) for key in parts[0]}, names, names)
    samples = Samples(
        np.concatenate([site.design for site in sites]),
        np.concatenate([site.counts for site in sites]),
        np.concatenate([site.size_factors for site in sites]),
        result.dispersions,
    )
    return Pooled(samples, genes, result.state)


def theirs(samples, gene):
    """PyDESeq2's answer, whether it calls it converged, and whether IRLS found it."""
    fallback = []
    minimize = pydeseq2.utils.minimize

    def note(*args, **options):
        fallback.append(1)
        return minimize(*args, **options)

    pydeseq2.utils.minimize = note
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            beta, _, _, converged = pydeseq2.utils.irls_solver(
                samples.counts[:, gene].astype(float), samples.size_factors, samples.design, samples.dispersions[gene]
            )
    finally:
        pydeseq2.utils.minimize = minimize
    return beta, bool(converged), not fallback


def objective(samples, gene, beta, min_mu=0.5):
    """Negative log-likelihood of one gene, means clamped, with the ridge that both programs add."""
    log_mu = np.maximum(samples.design @ beta + np.log(samples.size_factors), np.log(min_mu))
    y = samples.counts[:, gene].astype(float)
    return float(likelihood.nll(y, log_mu, samples.dispersions[gene]).sum() + 0.5e-6 * beta @ beta)


def newton_length(samples, gene, beta, min_mu=0.5):
    """Length in standard errors of the IRLS step from a beta: zero at a fixed point of IRLS."""
    X, s, alpha = samples.design, samples.size_factors, samples.dispersions[gene]
    y = samples.counts[:, gene].astype(float)
    mu = np.maximum(s * np.exp(X @ beta), min_mu)
    w = mu / (1 + alpha * mu)
    H = (X.T * w) @ X + 1e-6 * np.eye(beta.size)
    move = np.linalg.solve(H, X.T @ (w * (np.log(mu / s) + (y - mu) / mu))) - beta
    return float(np.sqrt(move @ H @ move))


def reason_for(samples, gene, mine, other, by_irls):
    """Why two answers differ by more than 1e-6: decided by likelihood and score at both."""
    ours_f, theirs_f = objective(samples, gene, mine), objective(samples, gene, other)
    lower = (theirs_f - ours_f) / max(abs(theirs_f), 1.0)
    if by_irls:
        # Stopping on a deviance to 1e-8 leaves a step of about 1e-4 standard errors. Likelihoods say less here: where
        # a mean is clamped the fixed point of IRLS, which both look for, is not the maximum.
        both = max(newton_length(samples, gene, mine), newton_length(samples, gene, other))
        small = samples.dispersions[gene] < 1e-6
        if both > 2e-3 or not (small or abs(lower) <= 1e-8):
            return UNEXPLAINED
        return STOPPED if small else EDGE
    if abs(lower) <= DIGITS:
        return EQUAL
    return LOWER if lower > 0 else HIGHER


def compare(pooled, genes):
    """Share of genes within 1e-6 among those PyDESeq2 calls converged, and name, reason, gap of all others."""
    samples, state = pooled.samples, pooled.state
    near, rest, irls_near = 0, [], []
    for gene in genes:
        other, converged, by_irls = theirs(samples, gene)
        if not converged:
            continue
        mine = state.beta[gene]
        gap = float(np.max(np.abs(mine - other)) / max(np.max(np.abs(other)), 1e-3))
        if by_irls:
            irls_near.append(gap <= NEAR)
        if gap <= NEAR:
            near += 1
            continue
        reason = reason_for(samples, gene, mine, other, by_irls)
        excess = objective(samples, gene, mine) - objective(samples, gene, other)
        rest.append((pooled.genes[gene], Status(state.status[gene]).label, reason, gap, excess))
    return near / (near + len(rest)), float(np.mean(irls_near)), rest


def told(rest):
    lines = [
        f"  {gene} ({status}): gap {gap:.1e}, excess {excess:.1e}: {why}" for gene, status, why, gap, excess in rest
    ]
    return "\n".join(lines)


def judge(pooled, genes, name):
    share, irls_share, rest = compare(pooled, genes)
    print(f"\n{name}: {share:.4%} of the genes PyDESeq2 calls converged within 1e-6, {irls_share:.4%} of those by IRLS")
    print(told(rest))
    statuses = pooled.state.counts()
    assert statuses["active"] == statuses["diverged"] == statuses["failed"] == 0, statuses
    assert irls_share >= 0.99
    assert not [line for line in rest if line[2] == UNEXPLAINED], told(rest)
    assert not [line for line in rest if line[2] == HIGHER], told(rest)
    beaten = sum(line[2] == LOWER for line in rest)
    near = round(share / (1 - share) * len(rest)) if rest else 1
    print(f"{beaten} where {LOWER}; {near / (near + len(rest) - beaten):.4%} of the others within 1e-6")
    if name == "tcga_brca":
        assert near / (near + len(rest) - beaten) >= 0.99
    else:
        assert share >= 0.99


def askable(pooled):
    return np.flatnonzero(pooled.state.status != Status.ALL_ZERO)


@pytest.mark.parametrize(
    ("name", "design"),
    [
        pytest.param(name, design, marks=[] if (name, design) in EVERYDAY else [pytest.mark.slow])
        for name in NAMES
        for design in DESIGNS
    ],
)
def test_some_genes_of_every_dataset_agree_with_pydeseq2(name, design, shared_data):
    pooled = fitted(name, DESIGNS[design], shared_data, every=20)
    judge(pooled, askable(pooled), name)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("name", NAMES)
def test_all_genes_of_every_dataset_agree_with_pydeseq2(name, design, shared_data):
    pooled = fitted(name, DESIGNS[design], shared_data)
    judge(pooled, askable(pooled), name)


def test_a_step_that_is_a_little_too_short_would_be_caught(shared_data, monkeypatch):
    import secirls.algorithms.regression.irls

    def timid(state, total, config: IrlsConfig, last=None):
        after = step(state, total, config, last)
        on = after.active
        beta = after.beta.copy()
        beta[on] = 0.98 * beta[on] + 0.02 * state.beta[on]
        return secirls.algorithms.regression.irls.replace(after, beta=beta)

    monkeypatch.setattr(secirls.algorithms.regression.irls, "step", timid)
    pooled = fitted("airway", "~ condition", shared_data, every=200)
    share, _, rest = compare(pooled, askable(pooled))
    assert share < 0.9
    assert sum(line[2] == UNEXPLAINED for line in rest) > 10
