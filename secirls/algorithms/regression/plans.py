"""How the regressions of a fit run under a configuration: IRLS, and who takes the genes that it does not settle.

Promises: the same for every stage of a fit. Refuses to know: the stages.
"""

from __future__ import annotations

from dataclasses import replace

from secirls.algorithms.regression.betas import WayOut
from secirls.algorithms.regression.irls import IrlsConfig
from secirls.algorithms.regression.quasi_newton import CatchConfig
from secirls.algorithms.regression.unclamped import NewtonConfig
from secirls.algorithms.summands import EXACT
from secirls.config import Config
from secirls.numerics.algebra.distinct_products import Products


def irls_plan(config: Config, products: Products | None = None, *, own: bool = False) -> IrlsConfig:
    """IRLS; ``own``: some site has columns of its own."""
    return replace(
        IrlsConfig.deseq2() if config.choices.whole else IrlsConfig(),
        min_mu=config.min_mu,
        beta_tol=config.beta_tol,
        max_beta=config.max_beta,
        ridge=config.ridge,
        max_iter=config.max_iter,
        fraction_bits=config.fraction_bits or EXACT,
        products=products,
        own=own,
    )


def newton_plan(config: Config, products: Products | None = None, *, own: bool = False) -> NewtonConfig:
    """Newton's method without a floor under the means."""
    bits = config.fraction_bits or EXACT
    return NewtonConfig(ridge=config.ridge, min_mu=config.min_mu, fraction_bits=bits, products=products, own=own)


def catch_plan(config: Config, products: Products | None = None) -> CatchConfig:
    """The catch: clamped as IRLS is, or without a clamp."""
    catch = CatchConfig.fedpydeseq2() if config.choices.lost == "unclamped" else CatchConfig(min_mu=config.min_mu)
    bits = config.fraction_bits or EXACT
    return replace(catch, max_beta=config.max_beta, ridge=config.ridge, fraction_bits=bits, products=products)


def way_out(config: Config, products: Products | None = None, *, own: bool = False) -> WayOut:
    """Of the genes that IRLS does not settle."""
    if config.choices.lost == "newton":
        return newton_plan(config, products, own=own)
    return catch_plan(config, products)
