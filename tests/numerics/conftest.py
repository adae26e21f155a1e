"""The fit without protocols: algorithms driven over several sites' samples with plain float sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secirls.algorithms.query import Algorithm, Total, query_from_bytes
from secirls.algorithms.regression.irls import IrlsConfig, State, irls, least_squares_start
from secirls.numerics.held.samples import Samples
from secirls.numerics.regression.kernels import using
from secirls.numerics.status import Status


class Drive:
    """Runs an algorithm over sites in this process and counts what was asked."""

    def __init__(self, *sites: Samples) -> None:
        self.sites = list(sites)
        self.queries: list[Any] = []
        self.silent: dict[int, set[int]] = {}
        """Round number to the sites that stay silent in it."""

    def __call__(self, algorithm: Algorithm[Any]) -> Any:
        total = None
        while True:
            try:
                query = algorithm.send(total)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value
            total = self.answer(query)

    def answer(self, query: Any) -> Total:
        query = query_from_bytes(query.to_bytes())
        query.check(self.sites[0].n_genes, self.sites[0].n_params)
        present = [i for i in range(len(self.sites)) if i not in self.silent.get(len(self.queries), set())]
        self.queries.append(query)
        arrays: dict[str, np.ndarray] = {}
        for i in present:
            self.sites[i] = query.apply(self.sites[i])
            answer = query.signed(self.summands(i, query), len(self.sites))
            shapes = query.shapes()
            assert list(answer) == list(shapes)
            layout = query.layout(len(self.sites))
            layout.encode(answer)  # refuses anything that a real site could not send
            for name, array in answer.items():
                assert array.shape == shapes[name], name
                arrays[name] = arrays.get(name, 0.0) + array
        names = tuple(f"site{i}" for i in range(len(self.sites)))
        return Total(arrays, tuple(names[i] for i in present), names)

    def summands(self, site: int, query: Any) -> dict[str, np.ndarray]:
        """What one site answers; tests spoil it."""
        return query.summands(self.sites[site].take(query.genes), len(self.sites))


def _fit(
    *sites: Samples, config: IrlsConfig | None = None, status: np.ndarray | None = None, catch: Any = None
) -> State:
    config = config or IrlsConfig()
    if status is None:
        status = np.full(sites[0].n_genes, Status.ACTIVE, dtype=np.int8)
    drive = Drive(*sites)
    state = drive(least_squares_start(status, sites[0].n_params, config))
    state = drive(irls(state, config))
    if catch is not None:
        from secirls.algorithms.regression.catch import catch as caught

        state = drive(caught(state, catch))
    return state


def _split(samples: Samples, parts: Sequence[np.ndarray]) -> list[Samples]:
    assert samples.size_factors is not None
    return [
        replace(
            samples,
            design=samples.design[rows],
            counts=samples.counts[rows],
            size_factors=samples.size_factors[rows],
            nll_constants=None,
        )
        for rows in parts
    ]


@pytest.fixture
def fit() -> Callable[..., State]:
    """``fit(*sites, config=..., status=..., catch=...)``: the state after IRLS, and the catch if configured."""
    return _fit


@pytest.fixture(scope="session")
def drive() -> type[Drive]:
    """``drive(*sites)(algorithm)``: the algorithm's result."""
    return Drive


@pytest.fixture
def split() -> Callable[..., list[Samples]]:
    """``split(samples, parts)``: one `Samples` per array of row numbers."""
    return _split


@pytest.fixture(params=["fused", "numpy"])
def kernel(request: pytest.FixtureRequest) -> Any:
    """Runs the test with each kernel."""
    with using(request.param):
        yield request.param
