"""The transform of counts against R's ``varianceStabilizingTransformation``, given R's trend and size factors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from secirls.numerics.trend.stabilised import stabilised
from secirls.numerics.trend.trend import Trend

FROZEN = Path(__file__).parent / "variance_stabilised"


def off(name, coefficients=lambda a, e: (a, e)):
    """The largest relative difference from R over the frozen genes."""
    said = pd.read_csv(FROZEN / f"{name}.csv", float_precision="round_trip").sort_values("baseMean")
    inverse, trend = 1.0 / said["baseMean"].to_numpy(), said["trend"].to_numpy()
    extra = (trend[0] - trend[-1]) / (inverse[0] - inverse[-1])
    told = Trend("parametric", *coefficients(trend[-1] - extra * inverse[-1], extra))
    ours = stabilised((said["count"] / said["sizeFactor"]).to_numpy(), told, np.zeros(0), np.nan)
    return np.abs(ours / said["vst"].to_numpy() - 1.0).max()


@pytest.mark.parametrize("name", ["pasilla", "bottomly"])
def test_the_parametric_transform_is_rs(name):
    assert off(name) < 1e-15
    assert off(name, lambda a, e: (e, a)) > 0.1
    assert off(name, lambda a, e: (a * (1 + 1e-9), e)) > 1e-12
