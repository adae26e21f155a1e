"""Site files, and settings that must stand in the environment before Ray is imported."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITES = ("berlin", "lyon", "oslo", "turin")


@pytest.fixture(scope="session")
def folder():
    """A folder with a short name: Ray's socket paths end at 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def files(folder):
    """Four files of six simulated samples over 30 genes."""
    from secirls.datasets import write_simulated

    paths = write_simulated(folder, sites=4, samples=24, genes=30, seed=3)
    return {name: str(path) for name, path in zip(SITES, paths.values(), strict=True)}


@pytest.fixture(scope="session")
def undisturbed(files):
    """The tables of the same fit in one process."""
    from secirls.config import Config
    from secirls.fitting import fit_config

    return fit_config(Config(design="~ condition", kernel="numpy"), files, engine="local")


def environment(folder, **more):
    """Nothing of the surroundings decides how Ray runs here."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    given |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(folder)}
    return given | more


@pytest.fixture(scope="session")
def ray_environment():
    """`environment`, for tests."""
    return environment
