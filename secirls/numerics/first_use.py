"""What a fit runs is compiled once on a machine and then kept: that first time by two processes, half by each.

Promises: a result is the same bit by bit, whoever compiled; where no second process can be had, this one compiles all.
Refuses to know: what is fitted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock

import numpy as np

from protocols import fixed_point
from secirls.numerics.algebra.distinct_products import Products
from secirls.numerics.algebra.eigen import eigenvectors
from secirls.numerics.dispersion import sums
from secirls.numerics.dispersion.interpolant import interpolate
from secirls.numerics.dispersion.nodes import Nodes
from secirls.numerics.dispersion.path import walk_gene_wise
from secirls.numerics.outliers import cooks
from secirls.numerics.regression import information, kernels
from secirls.numerics.trend.prior import MOST_SIMULATED, prior_variance
from secirls.numerics.trend.trend import fit_trend

OTHER_HALF = "from secirls.numerics.first_use import compile_other_half; compile_other_half()"
PATIENCE = 300.0
"""Seconds that the second process is waited for; what it has not compiled by then is compiled here."""

_in_turn = RLock()


def are_kept() -> bool:
    """Whether what takes longest to compile was compiled before, and need only be loaded."""
    return kernels.are_kept() and sums.are_kept()


def warm_up(*, fused: bool, whole: bool, outliers: bool) -> None:
    """Compile what a fit runs in its rounds, or load it: up to a minute the first time on a machine, then instant.

    `fused`: kernels are compiled ones; `whole`: dispersions are estimated; `outliers` are looked for.
    """
    with _in_turn:
        if fused:
            warm_up_kernels()
        else:
            _warm_up_what_all_fits_run()
        if fused and whole:
            sums.warm_up()
            if outliers:
                cooks.warm_up()


def warm_up_kernels() -> None:
    """Compile what IRLS runs, or load it; where that is not kept yet, all else is compiled meanwhile."""
    with _in_turn, _other_half_beside():
        kernels.warm_up()
        _warm_up_what_all_fits_run()


def _warm_up_what_all_fits_run() -> None:
    fixed_point.warm_up()
    information.warm_up()


def compile_other_half() -> None:
    """Compile, to be kept, all that a whole DESeq2 runs beside what IRLS does."""
    sums.warm_up()
    sums.warm_up_nodes()
    cooks.warm_up()
    eight = np.full(1, 8, dtype=np.intp)
    nodes, information_there = Nodes(np.full(1, 100.0), np.full(1, 5.0), eight, eight), np.ones((8, 1))
    profiles = interpolate(-np.arange(8.0), information_there, np.zeros(1), nodes, Products.full(1))
    profiles.evaluate(np.ones((1, 1)))
    walk_gene_wise(profiles, np.ones(1), 10.0)
    means, estimates = np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.8, 0.5, 0.3, 0.2])
    fit_trend(means, estimates, "parametric")
    fit_trend(means, estimates, "local")
    prior_variance(estimates, MOST_SIMULATED)
    eigenvectors(np.eye(2)[None])


@contextmanager
def _other_half_beside() -> Iterator[None]:
    if are_kept() or not sys.executable or (os.cpu_count() or 1) < 2:
        yield
        return
    # Without the folder it is called in on its path, and not to be interrupted by a key that is meant for this one.
    command, silent = [sys.executable, "-P", "-c", OTHER_HALF], subprocess.DEVNULL
    try:
        second = subprocess.Popen(  # noqa: S603 - this interpreter, with words that stand above
            command, stdin=silent, stdout=silent, stderr=silent, start_new_session=True
        )
    except OSError:
        yield
        return
    try:
        yield
        with suppress(subprocess.TimeoutExpired):
            second.wait(PATIENCE)
    finally:
        second.kill()
        second.wait()
