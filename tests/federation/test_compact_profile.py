"""Fits in the compact profile: half the bytes, the same bits under every protocol, and coefficients close to exact."""

from __future__ import annotations

import anndata
import numpy as np
import pytest

import secirls
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated

GENES = 60
BITS = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Four files of ten simulated samples."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=4, samples=40, genes=GENES, seed=5)
    return {name: str(path) for name, path in paths.items()}


def fit(files, protocol="plain", **options):
    if protocol.startswith("paillier"):
        options |= {"key_bits": 512, "insecure_test_keys": True}
    return secirls.fit(
        files, design="~ condition", engine="local", kernel="numpy", protocol=protocol, preset="irls", **options
    )


@pytest.fixture(scope="module")
def exact(files):
    return fit(files)


@pytest.fixture(scope="module")
def compact(files):
    return fit(files, fraction_bits=BITS)


def off(one, other):
    """Largest difference of two fits' fold changes, in standard errors."""
    return float((np.abs(one.table["log2FoldChange"] - other.table["log2FoldChange"]) / other.table["lfcSE"]).max())


def test_coefficients_are_close_and_every_gene_has_its_status(exact, compact):
    assert 0 < off(compact, exact) < 1e-4
    assert (compact.table["status"] == exact.table["status"]).all()


def test_too_few_bits_would_be_noticed(files, exact):
    assert off(fit(files, fraction_bits=8), exact) > 1e-4


@pytest.mark.parametrize("protocol", ["additive", "pairwise", pytest.param("paillier", marks=pytest.mark.slow)])
def test_every_protocol_gives_the_same_bits(files, compact, protocol):
    other = fit(files, protocol, fraction_bits=BITS)
    np.testing.assert_array_equal(other.coefficients.to_numpy(), compact.coefficients.to_numpy())
    assert other.table.equals(compact.table)


def irls_bytes(result):
    rounds = {told["round"] for told in result.report["rounds"] if told["query"] == "irls"}
    rows = result.ledger[(result.ledger["verb"] == "protect") & result.ledger["round"].isin(rounds)]
    return (rows["bytes_up"] / rows["values"]).max(), (rows["bytes_up"] / rows["values"]).min()


def test_a_value_takes_half_the_bytes(exact, compact):
    # a payload is its values and a signed head of a fixed length
    most, least = irls_bytes(exact)
    assert least >= 16
    assert irls_bytes(compact)[1] < 0.6 * least
    assert irls_bytes(compact)[0] < most


def test_the_report_says_so(exact, compact):
    said = " ".join(compact.report["disclosure"])
    assert "multiples of 2^-24" in said
    assert "multiples of 2^-" not in " ".join(exact.report["disclosure"])


def test_a_gene_too_large_for_it_fails_alone_and_says_why(files, tmp_path, exact):
    """One gene's counts times ten million: X'Wz beyond what Z_2^64 holds with 32 fraction bits."""
    large = {}
    for name, path in files.items():
        data = anndata.read_h5ad(path)
        data.X[:, 0] = np.minimum(data.X[:, 0].astype(np.int64) * 10_000_000 + 5, 2_000_000_000)
        data.obs["factor"] = 1.0
        data.var["alpha"] = np.r_[1e-8, np.full(GENES - 1, 0.1)]
        large[name] = str(tmp_path / f"{name}.h5ad")
        data.write_h5ad(large[name])
    given = {"size_factors": "factor", "dispersions": "alpha"}
    result = fit(large, fraction_bits=32, **given).table
    assert result["status"].iloc[0] == "failed"
    assert "too large to be added" in result["reason"].iloc[0]
    assert (result["status"].iloc[1:] == fit(large, **given).table["status"].iloc[1:]).all()


@pytest.mark.parametrize("bits", [7, 33, 64])
def test_impossible_bits_are_refused_in_a_sentence(files, bits):
    with pytest.raises(InputError, match="fraction_bits"):
        fit(files, fraction_bits=bits)
