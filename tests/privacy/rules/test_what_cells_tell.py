"""What is not held off: cells of two honest fits that are the same samples but for one tell that one's other label.

Each site holds the columns of a fit against those of others. The census has the size of every cell besides, which is a
product of columns: who is at risk is every old woman, but for one patient, so that the sizes of two cells, less one
another, say whether that patient smokes. To hold cell against cell would refuse a tenth of honest sequences of fits at
sites of 10 to 20 samples. Where the other design has the product too, as `sex * old`, its column is seen.
"""

import numpy as np
import pytest

from secirls.aggregator.aggregator import lead as lead_fit
from secirls.agreement.order import Task
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.site.grounds.policy import RefusalError

NAMES = ("site1", "site2", "site3")
OWNER = "site3"
SAMPLE = 21
LEVELS = {"sex": ("m", "w"), "old": ("no", "yes"), "smoker": ("no", "yes"), "risk": ("no", "yes")}


@pytest.fixture(params=["no", "yes"])
def grounds(request, lay):
    """Three sites of 48; one old woman at the last is not at risk, and smokes or does not."""
    grounds = lay(names=NAMES, samples=144, genes=40)
    for name in NAMES:

        def edit(adata, name=name):
            number = np.arange(adata.n_obs)
            woman, old, smokes = number % 2 == 1, number // 2 % 2 == 0, number // 4 % 3 == 0
            risk = woman & old
            if name == OWNER:
                assert risk[SAMPLE]
                risk[SAMPLE], smokes[SAMPLE] = False, request.param == "yes"
            adata.obs["sex"] = np.where(woman, "w", "m")
            for column, chosen in ("old", old), ("smoker", smokes), ("risk", risk):
                adata.obs[column] = np.where(chosen, "yes", "no")

        grounds.edit(name, edit)
    grounds.smoker = request.param
    return grounds


def cells(grounds, lead, design):
    """How many samples are in each cell, by its levels: from the census of a fit that its aggregator then leaves."""
    named = {name: levels for name, levels in LEVELS.items() if name in design}
    config = lead.config(grounds, preset="irls", design=design, levels=named)
    sites = lead.sites(grounds, config, NAMES)
    for event in lead_fit(Task(config, config.digest), LocalFederation(sites)):
        if isinstance(event, Record):
            return event.arrays["group_samples"].reshape([len(levels) for levels in named.values()])
    raise AssertionError("no round was played")


def test_two_honest_censuses_tell_whether_one_patient_smokes(grounds, lead):
    before, after = (cells(grounds, lead, design) for design in ("~ sex + old + smoker", "~ risk + smoker"))
    apart = before[1, 1] - after[1]
    assert apart.sum() == 1
    assert LEVELS["smoker"][apart.argmax()] == grounds.smoker


def test_a_design_with_the_product_is_refused_beside_its_other(grounds, lead):
    cells(grounds, lead, "~ sex * old + smoker")
    with pytest.raises(RefusalError, match="min_difference is 5"):
        cells(grounds, lead, "~ risk + smoker")
