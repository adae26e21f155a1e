"""What hiding costs a whole fit: the same data, once under pairwise masks and once in the clear.

``pytest tests/benchmarks/test_whole_fit_speed.py --benchmark-only -m ''`` shows wall time, and CPU time with
``--benchmark-timer=time.process_time``; read the ratio in brackets. 20,000 genes, 6 sites, 300 samples, one process.
"""

import pytest

from secirls.config import Config
from secirls.fitting import fit_config
from secirls.inputs.datasets import write_simulated

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole-fit")
    written = write_simulated(folder, sites=6, samples=300, genes=20_000, seed=1)
    return {name: str(path) for name, path in written.items()}


@pytest.mark.benchmark(group="whole fit", min_rounds=3, warmup=True, warmup_iterations=1)
@pytest.mark.parametrize("protocol", ["plain", "additive", "pairwise"])
def test_a_whole_fit(benchmark, sites, protocol):
    config = Config(design="~ condition", protocol=protocol)
    result = benchmark(fit_config, config, sites, engine="local")
    assert result.ledger["round"].nunique() > 10
