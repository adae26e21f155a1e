"""What a user installs: names, data, licence."""

import hashlib
import tomllib
from importlib.metadata import metadata, packages_distributions, version
from pathlib import Path

import secirls
from secirls.inputs.datasets import AIRWAY_SHA256, airway_counts, airway_obs

ROOT = Path(__file__).parents[1]


def test_the_installed_names_belong_to_this_distribution_alone():
    owners = packages_distributions()
    for name in ("secirls", "protocols"):
        assert set(owners.get(name, ["secirls"])) == {"secirls"}


def test_wheel_holds_the_two_packages_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["secirls", "protocols"]


def test_versions_agree():
    assert secirls.__version__ == version("secirls")


def test_licence_follows_from_phe():
    assert metadata("secirls")["License-Expression"] == "GPL-3.0-or-later"
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_airway_is_what_was_published():
    counts, obs = airway_counts(), airway_obs()
    assert counts.shape == (8, 33469)
    assert list(counts.index) == list(obs.index)
    # Library sizes of the Bioconductor package, in its sample order.
    assert counts.sum(axis=1).tolist() == [
        20637971, 18809481, 25348649, 15163415, 24448408, 30818215, 19126151, 21164133,
    ]  # fmt: skip
    assert (counts.sum(axis=0) > 0).all()
    assert counts.columns.is_unique


def test_a_damaged_airway_is_noticed(monkeypatch):
    import pytest

    monkeypatch.setattr("secirls.inputs.datasets.AIRWAY_SHA256", hashlib.sha256(b"other").hexdigest())
    assert hashlib.sha256(b"other").hexdigest() != AIRWAY_SHA256
    with pytest.raises(RuntimeError, match="damaged"):
        airway_counts()
