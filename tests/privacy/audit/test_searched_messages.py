"""What a site's file holds is found in a message in every form that the audit says it looks for, and in no noise."""

import gzip
import json
import secrets
import zlib

import anndata
import numpy as np
import pytest

from secirls.aggregator import traces
from secirls.aggregator.audit import audit

FORMS = {
    **{kind: lambda counts, kind=kind: counts.astype(kind).tobytes() for kind in traces.KINDS},
    "u4 of another sign": lambda counts: counts.astype("<u4").tobytes(),
    "a list as text": lambda counts: str(counts.tolist()).encode(),
    "lines of text": lambda counts: "\n".join(map(str, counts)).encode(),
    "floats as text": lambda counts: str(counts.astype(float).tolist()).encode(),
    "savetxt": lambda counts: " ".join(f"{count:.18e}" for count in counts).encode(),
    "JSON by name": lambda counts: json.dumps({f"gene{i:05d}": int(c) for i, c in enumerate(counts)}).encode(),
    "zlib": lambda counts: zlib.compress(counts.astype("<i4").tobytes()),
    "gzip": lambda counts: gzip.compress(counts.astype(">f8").tobytes()),
    "text in zlib": lambda counts: zlib.compress(str(counts.tolist()).encode()),
}


@pytest.fixture(scope="module")
def counts(files):
    return np.asarray(anndata.read_h5ad(files["site1"]).X).astype(np.int64)


@pytest.fixture
def shown(tmp_path, files, forger):
    def shown(data):
        path = tmp_path / "message"
        path.write_bytes(data)
        return traces.traces_in([path], files, forger.config())[0]

    return shown


def around(data, before=1003):
    """Within noise, at a place that is aligned to nothing; text is a word of its own."""
    rng = np.random.default_rng(len(data))
    return rng.bytes(before) + b"\n" + data + b"\n" + rng.bytes(777)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("what", ["sample", "gene"])
def test_counts_are_found_in_every_form(shown, counts, form, what):
    taken = counts[2] if what == "sample" else counts[:, 5]
    assert shown(around(FORMS[form](taken))) == [f"the counts of a {what} of site site1 stands in a message"]


@pytest.mark.parametrize("form", ["<u2", ">i4", "<f8", "a list as text"])
def test_the_last_genes_of_a_sample_are_found_as_the_first_are(shown, counts, form):
    for part in (counts[3, :30], counts[3, -30:]):
        assert shown(around(FORMS[form](part)))


def test_nothing_is_found_in_noise_or_in_other_counts(shown, counts):
    assert shown(secrets.token_bytes(1 << 22)) == []
    assert shown(around(np.arange(5000).astype("<i4").tobytes() + str(list(range(3000))).encode())) == []
    assert shown(around((counts + 1).astype("<i4").tobytes())) == []


def test_each_form_is_found_because_it_is_looked_for(shown, counts, monkeypatch):
    """The broken twins: a search that knows a form less does not see it."""
    with monkeypatch.context() as patched:
        patched.setattr(traces, "KINDS", ("<i4", "<i8", "<f4", "<f8"))
        assert shown(around(FORMS["<u2"](counts[2]))) == []
        assert shown(around(FORMS[">i8"](counts[:, 5]))) == []
        assert shown(around(FORMS["<i4"](counts[2])))
    with monkeypatch.context() as patched:
        patched.setattr(traces, "_text_numbers", lambda data: iter(()))
        assert shown(around(FORMS["a list as text"](counts[2]))) == []
    with monkeypatch.context() as patched:
        patched.setattr(traces, "PACKED", ())
        assert shown(around(FORMS["zlib"](counts[2]))) == []
    with monkeypatch.context() as patched:
        honest = traces.Search._counts
        rows_only = lambda self, site, what, *given: 0 if "gene" in what else honest(self, site, what, *given)  # noqa: E731
        patched.setattr(traces.Search, "_counts", rows_only)
        assert shown(around(FORMS["<i4"](counts[:, 5]))) == []


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda counts: np.log1p(counts).tobytes(), marks=pytest.mark.slow),
        pytest.param(lambda counts: (2 * counts).astype("<i4").tobytes(), marks=pytest.mark.slow),
        lambda counts: np.cumsum(counts).astype("<i8").tobytes(),
        pytest.param(lambda counts: counts[np.argsort(counts)].astype("<i4").tobytes(), marks=pytest.mark.slow),
        lambda counts: counts.astype("<i4").tobytes().hex().encode(),
        pytest.param(lambda counts: (counts.astype("<u4") ^ 0x5A5A5A5A).tobytes(), marks=pytest.mark.slow),
    ],
    ids=["logarithm", "twice", "running sums", "sorted", "hexadecimal", "xor"],
)
def test_what_a_search_can_t_see_it_says(kept, files, shown, counts, form):
    assert shown(form(counts[2])) == []
    limits = audit(kept, files).limits
    assert sum("counts that were changed" in text and "are not seen" in text for text in limits) == len(files)


def test_a_message_of_an_honest_looking_answer_is_searched_with_all_others(copy, files, forger, counts):
    entries = forger.lines(copy)
    place = forger.verbs(entries, "received", "join")[0]  # where no dispersions were brought, it says nothing
    names = [forger.put(copy, b"head" + counts[:, gene].astype("<i4").tobytes()) for gene in (5, 6)]
    told = [{"bytes": name} for name in names]
    entries[place]["content"]["map"]["from"]["map"]["site1"] = [*told, {"says": str(counts[1].tolist())}]
    forger.chain(copy, entries)
    assert audit(copy, files).findings == [
        f"entry {place + 2} says 'sent' where 'fenced' should follow",
        "the counts of a gene of site site1 stands in a message",
        "the counts of a sample of site site1 stands in a message",
    ]


def table(counts, names):
    """As `read_site` gives it, of which a search takes these."""
    from types import SimpleNamespace

    return SimpleNamespace(
        counts=np.asfortranarray(counts, np.int32),
        genes=tuple(range(counts.shape[1])),
        obs=SimpleNamespace(index=names),
    )


def test_names_are_found_where_they_can_be_told_from_chance():
    rng = np.random.default_rng(1)
    names = ["GSM1275862", "patient-7", "P17", "12", "40213"]
    search = traces.Search()
    search.look_for("a", table(rng.integers(0, 900, (5, 50)), names))
    search.ready()
    assert "2 of 5 sample names" in search.unseen[0]
    search.within(around(b"GSM1275862"))
    assert search.found == {("a", "a sample name")}
    search.found.clear()
    search.within(secrets.token_bytes(1 << 20))
    search.words(b'{"file":"/data/P170.h5ad"} 12 40213')
    assert search.found == set()
    search.words(b'{"file":"P17"}')
    assert search.found == {("a", "a sample name")}


def test_genes_and_samples_that_can_t_be_told_from_chance_are_counted():
    counts = np.zeros((6, 40), int)
    counts[:, :10] = np.random.default_rng(2).integers(100, 900, (6, 10))
    counts[5] = 0
    search = traces.Search()
    search.look_for("a", table(counts, [f"sample{i}" for i in range(6)]))
    assert "1 samples and 30 of 40 genes" in search.unseen[0]


@pytest.mark.parametrize("samples", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_a_large_file_is_searched_for_at_once(samples):
    """Three hundred samples of 20,000 genes: seconds, with one gene and one stretch of a sample among noise."""
    rng = np.random.default_rng(3)
    counts = rng.negative_binomial(1.5, 0.01, (samples, 20_000))
    search = traces.Search()
    search.look_for("a", table(counts, [f"sample{i}" for i in range(samples)]))
    search.ready()
    search.within(rng.bytes(1 << 22))
    assert search.found == set()
    gene, stretch = counts[:, 17_321].astype("<i4"), counts[41, 7_000:7_130].astype(">i4")
    search.within(rng.bytes(1001) + gene.tobytes() + rng.bytes(1003) + stretch.tobytes())
    assert search.found == {("a", "the counts of a gene"), ("a", "the counts of a sample")}
