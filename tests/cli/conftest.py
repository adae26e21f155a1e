"""Small sites to give the command."""

import numpy as np
import pandas as pd
import pytest

from tests.files import write

NASTY = "<script>alert('gene')</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fit of three small sites in its folder, with a gene that is called like a script and one called NA."""
    import anndata

    import secirls

    rng = np.random.default_rng(3)
    genes = [NASTY, "NA", *(f"g{i}" for i in range(28))]
    base = rng.uniform(3, 6, 30)
    sites = {}
    for site in ("berlin", "lyon", "turin"):
        dose = np.array(["a", "b", "c"] * 3)
        mu = np.exp(base + np.outer(dose == "b", np.where(np.arange(30) % 3 == 0, 1.2, 0.0)))
        counts = rng.negative_binomial(10, 10 / (10 + mu)).astype(np.int32)
        counts[:, 29] = 0
        obs = pd.DataFrame({"dose": dose}, index=[f"{site}{i}" for i in range(9)])
        sites[site] = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    result = secirls.fit(sites, design="~ dose", engine="local", preset="irls", protocol="plain", kernel="numpy")
    folder = tmp_path_factory.mktemp("made") / "fit"
    result.write(folder)
    return result, folder, sites


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without pictures, for tests that look at what is beside them."""
    from secirls.outputs.pictures.album import Album

    monkeypatch.setattr(Album, "drawn", lambda album: {})


@pytest.fixture
def refused(run, tmp_path):
    """Run a fit that must be refused; gives the one line it ends in."""

    def call(sites, *words, design="~ condition"):
        given = [word for name, path in sites.items() for word in ("--site", f"{name}={path}")]
        out = tmp_path / "out"
        code, shown, error = run("fit", *given, "--design", design, "--engine", "local", "--out", out, *words)
        lines = [line for line in error.splitlines() if line.startswith("secirls: ")]
        assert code == 2, error
        assert len(lines) == 1
        assert "Traceback" not in error + shown
        assert not out.exists()
        return lines[0]

    return call


@pytest.fixture
def trio(make_site):
    """Three good sites, to spoil one of."""
    return {name: make_site(name) for name in "abc"}


class Trial:
    """Three sites of six samples over twelve genes with known groups, and the files they are written to."""

    def __init__(self, folder, run):
        rng = np.random.default_rng(5)
        self.genes = [f"g{i}" for i in range(12)]
        self.folder, self._run = folder, run
        self.usual = {"--protocol": "plain"}
        effect = np.where(np.arange(12) % 3 == 0, 1.0, 0.0)
        treated = np.arange(6) % 2
        self.counts, self.obs = {}, {}
        for name in ("berlin", "lyon", "turin"):
            mean = np.exp(rng.uniform(3, 6, 12)[None] + np.outer(treated, effect) + 0.2 * rng.normal(size=(6, 1)))
            self.counts[name] = rng.negative_binomial(10, 10 / (10 + mean))
            obs = {"condition": np.array(["control", "treated"])[treated], "batch": np.arange(6) // 2 + 1}
            self.obs[name] = pd.DataFrame(obs, index=[f"{name}{i}" for i in range(6)])
        self.var = {name: pd.DataFrame(index=self.genes) for name in self.counts}

    def adata(self, name):
        import anndata

        return anndata.AnnData(self.counts[name].copy(), obs=self.obs[name].copy(), var=self.var[name].copy())

    def write(self, where="data"):
        """Every site as a file: name to path."""
        folder = self.folder / where
        folder.mkdir(exist_ok=True)
        paths = {name: folder / f"{name}.h5ad" for name in self.counts}
        for name, path in paths.items():
            write(self.adata(name), path)
        return paths

    def words(self, files, *words, out="out", design="~ condition"):
        """The words of a fit in this process; with plain sums unless they say otherwise, for few look at protocols."""
        for option, usual in self.usual.items():
            words = words if option in words else (option, usual, *words)
        given = [word for name, path in files.items() for word in ("--site", f"{name}={path}")]
        return ["fit", *given, "--design", design, "--engine", "local", "--out", self.folder / out, *words]

    def fit(self, files, *words, out="out", **how):
        """A fit that must succeed; gives its table by gene."""
        code, _, error = self._run(*self.words(files, *words, out=out, **how))
        assert code == 0, error
        return self.table(out)

    def table(self, out="out"):
        """The results in a folder, by gene."""
        return pd.read_csv(self.folder / out / "results.csv", index_col="gene")

    def refused(self, files, *words, **how):
        """A fit that must end in a sentence, with nothing written; gives the sentence."""
        code, shown, error = self._run(*self.words(files, *words, out="refused", **how))
        assert code == 2, error
        assert "Traceback" not in error + shown
        assert not (self.folder / "refused").exists()
        return sentence(error)


def sentence(error):
    """The one line that a command ends in."""
    lines = [line for line in error.splitlines() if line.startswith("secirls: ")]
    assert len(lines) == 1, error
    return lines[0]


@pytest.fixture
def trial(tmp_path, run):
    """Three small sites, to give what people give."""
    return Trial(tmp_path, run)
