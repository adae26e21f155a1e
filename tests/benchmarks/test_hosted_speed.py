"""What a later round of many simulated sites takes in their one process, with and without what they have in common.

``pytest tests/benchmarks/test_hosted_speed.py -m slow -s`` prints the least CPU seconds of a round of IRLS in
lock-step, 100 genes, 200 sites, without Ray and what carries messages there: of all sites, and of the aggregator.
"""

import time
from collections import Counter

import pytest

from secirls.aggregator.aggregator import Outcome, lead
from secirls.agreement.order import Place, Task
from secirls.agreement.record import Record
from secirls.carriers import hosts
from secirls.config import Config
from secirls.inputs.datasets import write_simulated
from secirls.site.in_common import Apart

pytestmark = pytest.mark.slow

SITES, GENES = 200, 100


class OneHost:
    """All sites in one host, in this process; notes the CPU seconds that they took since the last look."""

    def __init__(self, files, config):
        self.host = hosts.HostActor([Place(name, path) for name, path in files.items()], config)
        self.sites = tuple(files)
        self.seconds = 0.0

    def ask(self, verb, arguments):
        began = time.process_time()
        answers = [answer for together in self.host.ask(verb, arguments) for answer in together]
        self.seconds += time.process_time() - began
        return dict(zip(arguments, answers, strict=True))

    def fence(self, party):
        raise AssertionError(f"{party} was fenced")

    def taken(self):
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def later_round(files, config):
    """Least CPU seconds of the sites, and of the aggregator, in one round of IRLS; and the coefficients."""
    federation, least = OneHost(files, config), []
    began, kinds = time.process_time(), Counter()
    for event in lead(Task(config, "fit-1"), federation):
        if isinstance(event, Record):
            sites, whole = federation.taken(), time.process_time() - began
            kinds[event.told.kind] += 1
            if event.told.kind == "irls" and kinds["irls"] > 1:
                least.append((sites, whole - sites))
            began = time.process_time()
        if isinstance(event, Outcome):
            beta = event.fitted.state.beta.tobytes()
    assert len(least) > 3
    return tuple(map(min, zip(*least, strict=True))), beta


@pytest.mark.parametrize("protocol", ["pairwise-lean", "pairwise"])
def test_a_later_round_of_many_hosted_sites(tmp_path, monkeypatch, protocol):
    paths = write_simulated(tmp_path, sites=SITES, samples=4 * SITES, genes=GENES, seed=3)
    files = {name: str(path) for name, path in sorted(paths.items())}
    config = Config(design="~ condition", preset="irls", protocol=protocol, consistency=False)
    common, beta = later_round(files, config)
    monkeypatch.setattr(hosts, "InCommon", Apart)
    apart, alone = later_round(files, config)
    for how, (sites, aggregator) in {"in common": common, "apart": apart}.items():
        print(f"\n  {protocol}, {SITES} sites, {how}: sites {sites:.2f} s, aggregator {aggregator:.2f} s", end="")
    assert beta == alone
    assert common[0] < apart[0]
