"""What hiding costs a whole fit: the same data in the clear and under each protocol, turn about in one process.

``pytest tests/benchmarks/test_whole_fit_speed.py -m slow -s`` prints the least CPU seconds of a few runs, and the ratio
to the clear. 20,000 genes, 300 samples at 6 sites; aggregators are trusted with the questions, as in other packages,
but for the last lines. Read the ratios.
"""

import time

import numpy as np
import pandas as pd
import pytest

from secirls.config import Config
from secirls.fitting import fit_config
from secirls.inputs.files.site_file import write_site
from secirls.inputs.simulate import rows, simulate

pytestmark = pytest.mark.slow

GENES, SAMPLES, SITES, RUNS = 20_000, 300, 6, 5
DESIGNS = {2: "~ condition", 5: "~ batch + condition"}
GIVEN = {"preset": "irls", "dispersions": "dispersion", "size_factors": "true_size_factor"}
WAYS = {
    "plain": {"protocol": "plain"},
    "additive": {"protocol": "additive"},
    "pairwise-lean": {"protocol": "pairwise-lean"},
    "pairwise": {"protocol": "pairwise"},
    "pairwise-lean, in lock-step": {"protocol": "pairwise-lean", "trust_aggregator": False},
    "pairwise, in lock-step": {"protocol": "pairwise", "trust_aggregator": False},
}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("whole-fit"), simulate(GENES, SAMPLES, seed=1)
    genes, paths = [f"gene{number:05d}" for number in range(GENES)], {}
    for number, chosen in enumerate(np.array_split(np.arange(SAMPLES), SITES)):
        part, name = rows(made.samples, chosen), f"site{number + 1}"
        obs = pd.DataFrame(
            {
                "condition": np.where(part.design[:, 1] > 0, "treated", "control"),
                "batch": np.array(list("abcd"))[np.arange(part.n_samples) // 2 % 4],
                "true_size_factor": part.size_factors,
            },
            index=pd.Index([f"{name}_{sample}" for sample in range(part.n_samples)]),
        )
        paths[name] = folder / f"{name}.h5ad"
        write_site(paths[name], part.counts, obs, genes, dispersion=np.asarray(part.dispersions))
    return {name: str(path) for name, path in paths.items()}


@pytest.mark.parametrize("chosen", [GIVEN, {}], ids=["irls, dispersions given", "deseq2"])
@pytest.mark.parametrize("params", DESIGNS)
def test_a_whole_fit(sites, params, chosen):
    least = dict.fromkeys(WAYS, np.inf)
    rounds = set()
    for _ in range(RUNS):
        for way, options in WAYS.items():
            config = Config(design=DESIGNS[params], **{"trust_aggregator": True, **chosen, **options})
            began = time.process_time()
            result = fit_config(config, sites, engine="local")
            least[way] = min(least[way], time.process_time() - began)
            rounds.add(result.ledger["round"].nunique())
    print(f"\np = {params}, {chosen.get('preset', 'deseq2')}, {max(rounds)} rounds")
    for way, seconds in least.items():
        print(f"  {way:<28}{seconds:6.2f} s{seconds / least['plain']:6.2f}x")
    assert len(rounds) == 1
    assert max(rounds) > 10
