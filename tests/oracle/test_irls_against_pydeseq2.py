"""Ours over four sites against PyDESeq2's own ``irls_solver`` on the pooled samples, gene by gene, on real counts.

What equal stopping means. PyDESeq2 calls a gene converged at iterate k when the deviance at beta_k is within
1e-8 of that at beta_(k-1); it never evaluates beta_0, and compares the deviance at beta_1 with the constant 1000. Ours
evaluates beta_0. So (a) from k = 2 on both stop by the same rule, and at the same k if both deviances are right to
more digits than the tolerance has; PyDESeq2's are not at small alpha, where the textbook formula cancels; (b) ours may
stop at k = 1, where PyDESeq2 can't but by the accident of a deviance of 1000. Where k differs otherwise, the deviances
at PyDESeq2's own iterates are taken again by `likelihood.nll`, which has ten digits, and must say what ours said; or
the next step is nothing (all means clamped), and ours stops one round before the deviance can show it.
The solver's linear solves are recorded, so each gene is compared with PyDESeq2's iterate of the same number, and
every gene that stopped at another number, or that either calls lost, is listed with its reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydeseq2.utils
import pytest

from secirls.algorithms.query import Total
from secirls.algorithms.regression.irls import IrlsConfig, irls, least_squares_start
from secirls.inputs.datasets import airway_counts, airway_obs
from secirls.inputs.simulate import rows
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression import likelihood
from secirls.numerics.status import Status

TOLERANCE = 1e-9
EVERY = 10
"""PyDESeq2 takes a millisecond per gene: every tenth gene here, all of them with ``-m slow``."""


CANCELS = "equal iterates; PyDESeq2's deviance has too few digits, ours stopped where exact deviances do"

STILL = "equal iterates; the next step is nothing, which ours sees a round before the deviance shows it"
ON_TOLERANCE = "equal iterates; a deviance within 1e-4 of the tolerance"


@dataclass
class Theirs:
    iterates: list[np.ndarray]
    beta: np.ndarray
    converged: bool
    by_irls: bool

    @property
    def stopped(self) -> int:
        return len(self.iterates) - 1


def size_factors(counts: np.ndarray) -> np.ndarray:
    full = (counts > 0).all(axis=0)
    logs = np.log(counts[:, full])
    return np.exp(np.median(logs - logs.mean(axis=0), axis=1))


def prepare(counts: np.ndarray, condition: np.ndarray) -> Samples:
    counts = counts[:, counts.sum(axis=0) > 0]
    s = size_factors(counts)
    X = np.column_stack([np.ones(len(s)), condition.astype(float)])
    normed = counts / s[:, None]
    mean, variance = normed.mean(axis=0), normed.var(axis=0, ddof=1)
    alpha = np.clip((variance - mean * np.mean(1 / s)) / mean**2, 1e-8, 10.0)
    return Samples(X, counts.astype(np.int32), s, alpha)


def airway() -> Samples:
    counts, obs = airway_counts(), airway_obs()
    return prepare(counts.to_numpy(dtype=np.int64), (obs.loc[counts.index, "condition"] == "trt").to_numpy())


def pasilla() -> Samples:
    found = [p / "shared/data/pasilla/pasilla.h5ad" for p in Path(__file__).parents]
    path = next((p for p in found if p.exists()), None)
    if path is None:
        pytest.skip("shared/data/pasilla lies beside a checkout, and not beside this one")
    import anndata

    data = anndata.read_h5ad(path)
    levels = data.obs["condition"].astype(str)
    counts = data.X.toarray() if hasattr(data.X, "toarray") else data.X
    return prepare(np.asarray(counts, dtype=np.int64), (levels == min(levels)).to_numpy())


def ours(samples: Samples):
    """Our fit over four sites with unequal numbers of samples, and every evaluated beta by number."""
    cuts = np.array_split(np.arange(samples.n_samples), 4)
    sites = [rows(samples, cut) for cut in cuts]
    names = tuple(f"site{i}" for i in range(4))
    config = IrlsConfig()

    def fit():
        state = yield from least_squares_start(np.zeros(samples.n_genes, dtype=np.int8), samples.n_params, config)
        return (yield from irls(state, config))

    algorithm, total = fit(), None
    while True:
        try:
            query = algorithm.send(total)
        except StopIteration as end:
            return end.value
        sites[:] = [query.apply(site) for site in sites]
        parts = [query.summands(site.take(query.genes), 4) for site in sites]
        total = Total({name: sum(part[name] for part in parts) for name in parts[0]}, names, names)


def exact_ratios(samples: Samples, gene: int, iterates: list[np.ndarray]) -> np.ndarray:
    """Relative change of the deviance from each iterate to the next, to more digits than either program needs."""
    log_s, y, alpha = np.log(samples.size_factors), samples.counts[:, gene].astype(float), samples.dispersions[gene]
    log_mu = np.maximum(np.array(iterates) @ samples.design.T + log_s, np.log(0.5))
    deviance = 2 * likelihood.nll(y, log_mu, alpha).sum(axis=1)
    return np.abs(np.diff(deviance)) / (np.abs(deviance[1:]) + 0.1)


def theirs(
    samples: Samples, gene: int, monkeypatch: pytest.MonkeyPatch, tolerance: float = 1e-8, most: int = 250
) -> Theirs:
    """PyDESeq2's answer and all its iterates, recorded at its linear solves."""
    iterates: list[np.ndarray] = []
    fallback: list[int] = []
    honest, minimize = pydeseq2.utils.solve, pydeseq2.utils.minimize

    def record(*args, **options):
        iterates.append(honest(*args, **options))
        return iterates[-1]

    def note(*args, **options):
        fallback.append(1)
        return minimize(*args, **options)

    with monkeypatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(pydeseq2.utils, "solve", record)
        patch.setattr(pydeseq2.utils, "minimize", note)
        beta, _, _, converged = pydeseq2.utils.irls_solver(
            samples.counts[:, gene].astype(float),
            samples.size_factors,
            samples.design,
            samples.dispersions[gene],
            beta_tol=tolerance,
            maxiter=most,
        )
    return Theirs(iterates, beta, bool(converged), not fallback)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-3))


def account(samples: Samples, genes: np.ndarray, monkeypatch) -> tuple[Counter, list[str], list[float]]:
    """Every gene into one class; a line for each that is not plainly equal."""
    state = ours(samples)
    classes: Counter[str] = Counter()
    lines: list[str] = []
    distances: list[float] = []
    for gene in genes:
        status, k = Status(state.status[gene]), int(state.iterations[gene])
        them = theirs(samples, gene, monkeypatch)
        if status is Status.CONVERGED and them.by_irls:
            same = them if k <= them.stopped else theirs(samples, gene, monkeypatch, tolerance=-1.0, most=k + 1)
            gap = distance(state.beta[gene], same.iterates[k])
            distances.append(gap)
            if gap > TOLERANCE:
                kind = "differs"
            elif k == them.stopped:
                kind = "equal, stopped together"
            elif k == 1:
                kind = "equal iterates; ours compared beta_1 with beta_0, PyDESeq2 with the constant 1000"
            elif them.stopped == 1:
                kind = "equal iterates; PyDESeq2's deviance at beta_1 was 1000 by accident"
            else:
                ratios = exact_ratios(samples, gene, same.iterates[: k + 1])
                right = ratios[-1] <= 1e-8 and (ratios[:-1] > 1e-8).all()
                near = np.min(np.abs(ratios / 1e-8 - 1)) < 1e-4
                still = k < them.stopped and distance(them.iterates[k + 1], them.iterates[k]) < 1e-9
                kind = STILL if still else CANCELS if right else ON_TOLERANCE if near else "differs"
        elif status is Status.CONVERGED:
            kind = "ours converged, PyDESeq2 gave up IRLS"
        elif not them.by_irls:
            kind = f"lost by both ({status.label})"
        else:
            kind = f"{status.label} here, converged in PyDESeq2"
        classes[kind] += 1
        if kind != "equal, stopped together" and not kind.startswith("equal iterates; ours compared"):
            lines.append(
                f"gene {gene}: {kind}; ours {k} updates, theirs {them.stopped}; {state.reasons().get(gene, '')}"
            )
    return classes, lines, distances


def judge(samples: Samples, genes: np.ndarray, monkeypatch) -> None:
    classes, lines, distances = account(samples, genes, monkeypatch)
    print("\n" + "\n".join([f"{count:6d} {kind}" for kind, count in classes.most_common()] + lines))
    print(f"largest relative difference of beta at equal iterates: {max(distances):.1e}")
    assert sum(classes.values()) == len(genes)
    together = classes["equal, stopped together"]
    assert classes["differs"] == 0, lines
    assert not any("here, converged in PyDESeq2" in kind for kind in classes), lines
    assert not any(kind.startswith("ours converged") for kind in classes), lines
    assert together >= 0.5 * len(genes), classes
    assert classes[ON_TOLERANCE] <= len(genes) // 500, classes


@pytest.mark.parametrize("load", [pytest.param(airway, marks=pytest.mark.slow), pasilla], ids=["airway", "pasilla"])
def test_genes_agree_with_pydeseq2_at_equal_stopping(load, monkeypatch):
    samples = load()
    judge(samples, np.arange(0, samples.n_genes, EVERY), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("load", [airway, pasilla], ids=["airway", "pasilla"])
def test_all_genes_agree_with_pydeseq2_at_equal_stopping(load, monkeypatch):
    samples = load()
    judge(samples, np.arange(samples.n_genes), monkeypatch)


def test_a_wrong_weight_would_be_caught(monkeypatch):
    from secirls.numerics.regression import kernels

    samples = pasilla()
    honest = kernels.summands

    def wrong(part, beta, min_mu, **options):
        sums = honest(part, beta, min_mu, **options)
        return sums._replace(right=sums.right * (1 + 1e-7))

    monkeypatch.setattr(kernels, "summands", wrong)
    classes, _, _ = account(samples, np.arange(0, samples.n_genes, 400), monkeypatch)
    assert classes["differs"] > 0.9 * sum(classes.values())
