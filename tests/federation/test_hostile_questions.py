"""A site faces an aggregator that may send anything: it refuses in words, keeps standing, and answers once."""

import dataclasses
import json
import pickle
import struct

import numpy as np
import pytest

from protocols.secure_sum import MisuseError, PeerError, SecureSumError
from secirls.agreement.agreement import agree
from secirls.agreement.order import Place
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery, ResidualsQuery
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import NormalisedQuery
from secirls.algorithms.information import CellTransformsQuery
from secirls.algorithms.outliers.cells import CellsQuery
from secirls.algorithms.outliers.cooks import CooksBoundQuery, OutliersQuery
from secirls.algorithms.outliers.outlier_replacement import ReplaceOutliersQuery
from secirls.algorithms.outliers.selection import BelowQuery, BetweenQuery
from secirls.algorithms.query import QueryError
from secirls.algorithms.regression.irls_queries import IrlsQuery, LeastSquaresQuery
from secirls.algorithms.regression.refit import ReplaceCountsQuery
from secirls.algorithms.regression.unclamped import UnclampedQuery
from secirls.config import Config
from secirls.inputs.datasets import write_simulated
from secirls.site.grounds.policy import RefusalError
from secirls.site.site import Site

GENES, PARAMS = 30, 2
ALL = np.ones(GENES, dtype=bool)
SPOKEN = (QueryError, SecureSumError)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_simulated(tmp_path_factory.mktemp("four"), sites=4, samples=24, genes=GENES, seed=3)


@pytest.fixture
def session(files):
    """Four sites that have met."""
    return met(files, Config(design="~ condition", kernel="numpy", trust_aggregator=True))


def met(files, config):
    sites = {name: Site(Place(name, str(path)), config) for name, path in files.items()}
    agreement, _ = agree([site.survey() for site in sites.values()], config, {})
    for site in sites.values():
        site.join(agreement)
    hellos = {name: site.hello(0).message for name, site in sites.items()}
    for site in sites.values():
        site.meet(hellos, 0)
    greetings = {name: site.greet().message for name, site in sites.items()}
    dealt = sites["site1"].deal(greetings).message
    for name in ("site2", "site3", "site4"):
        sites[name].take(greetings, dealt)
    return sites


@pytest.fixture
def site(session):
    return session["site1"]


COHORT = ("site1", "site2", "site3", "site4")
CENSUS = CensusQuery(ALL, PARAMS, 2).to_bytes()


def header(kind, arrays, **told):
    described = {name: {"dtype": array.dtype.name, "shape": list(array.shape)} for name, array in arrays.items()}
    head = json.dumps({"kind": kind, **described, **told}, sort_keys=True, separators=(",", ":")).encode()
    packed = [np.packbits(a).tobytes() if a.dtype == bool else a.tobytes() for a in arrays.values()]
    return struct.pack("<I", len(head)) + head + b"".join(packed)


BETA = np.zeros((GENES, PARAMS))
NONE, ONES, ROWS = np.zeros(0), np.ones(GENES), np.array([[1.0, 0.0], [1.0, 1.0]])
NO_STEPS = np.zeros(0)
DISTANCES = (ALL, BETA, BETA, np.ones((GENES, 3)), ONES, 4.0, 1e-6, 0.5, NO_STEPS, NO_STEPS)
ASKS = (np.zeros(2), np.array([0.0, 1.0]), NONE)
HOSTILE = {
    "nothing": b"",
    "pickle": pickle.dumps({"kind": "census"}),
    "pickled call": b"cos\nsystem\n(S'true'\ntR.",
    "unknown kind": header("eval", {"genes": ALL}, params=2),
    "code for a kind": header("__import__('os').system('true')", {"genes": ALL}, params=2),
    "a class of ours": header("Query", {"genes": ALL}),
    "too few genes": CensusQuery(ALL[:7], PARAMS, 2).to_bytes(),
    "too many genes": CensusQuery(np.ones(GENES + 1, bool), PARAMS, 2).to_bytes(),
    "other parameters": CensusQuery(ALL, 3, 2).to_bytes(),
    "no parameters": CensusQuery(ALL, 0, 2).to_bytes(),
    "negative parameters": CensusQuery(ALL, -1, 2).to_bytes(),
    "huge parameters": LeastSquaresQuery(ALL, 1 << 40).to_bytes(),
    "beta of another shape": IrlsQuery(ALL, BETA[:, :1], 0.5).to_bytes(),
    "beta of fewer genes": IrlsQuery(ALL, BETA[:3], 0.5).to_bytes(),
    "beta not a number": IrlsQuery(ALL, BETA * np.nan, 0.5).to_bytes(),
    "beta infinite": IrlsQuery(ALL, BETA + np.inf, 0.5).to_bytes(),
    "min_mu negative": IrlsQuery(ALL, BETA, -0.5).to_bytes(),
    "huge array announced": header("census", {"genes": ALL, "expand": NONE}, params=2, groups=2).replace(
        b"[30]", b"[1073741824]"
    ),
    "mask as numbers": header("census", {"genes": ALL.astype(float), "expand": NONE}, params=2, groups=2),
    "products without end": IrlsQuery(ALL, BETA, 0.5, expand=np.array([0.0, 1.0, 1e18])).to_bytes(),
    "cells of a number each": CellsQuery(ALL, np.arange(20.0).reshape(10, 2)).to_bytes(),
    "cells that tell more than X'WX": CellTransformsQuery(ALL, np.array([[0.0, 0.0], [1.0, 0.0]])).to_bytes(),
    "X'WX of fewer genes": IrlsQuery(ALL, BETA, 0.5, with_xtwx=ALL[:3]).to_bytes(),
    "the same cell twice": CellsQuery(ALL, ROWS[[0, 0]]).to_bytes(),
    "a cell that is none": BelowQuery(ALL, ROWS, ASKS[0], np.array([0.0, 3.0]), NONE, np.ones((2, 1))).to_bytes(),
    "half a gene": BelowQuery(ALL, ROWS, ASKS[0] + 0.5, ASKS[1], NONE, np.ones((2, 1))).to_bytes(),
    "sums in units of three": BetweenQuery(ALL, ROWS, *ASKS, ASKS[0], ASKS[1], np.full(2, 3.0)).to_bytes(),
    "a dispersion of zero": CooksBoundQuery(*DISTANCES[:4], NONE, *DISTANCES[5:]).to_bytes(),
    "dispersions too small": AdoptDispersionsQuery(ALL, np.full(GENES, 1e-320)).to_bytes(),
    "dispersions too large": AdoptDispersionsQuery(ALL, np.full(GENES, 1e300)).to_bytes(),
    "cells of other sizes": OutliersQuery(*DISTANCES, ROWS, np.ones(3)).to_bytes(),
    "cut short": CENSUS[:-1],
    "a byte more": CENSUS + b"\0",
}


TOO_EARLY = {
    "before size factors": NormalisedQuery(ALL, np.zeros(0), np.zeros(0, bool), PARAMS),
    "residuals before size factors": ResidualsQuery(ALL, np.ones(GENES), BETA),
    "start before size factors": LeastSquaresQuery(ALL, PARAMS),
    "cells before size factors": CellTransformsQuery(~ALL, ROWS),
    "a round before size factors": IrlsQuery(ALL, BETA, 0.5),
    "replaced counts that were not configured": ReplaceCountsQuery(ALL),
}


@pytest.mark.parametrize("name", TOO_EARLY)
def test_a_question_out_of_turn_is_refused_in_words(site, name):
    with pytest.raises(QueryError, match="this site has no"):
        site.contribute(TOO_EARLY[name].to_bytes(), 0, 0, COHORT)


def test_a_round_before_dispersions_is_refused_in_words(site):
    site.contribute(NormalisedQuery(ALL, np.zeros(GENES), ALL, PARAMS).to_bytes(), 0, 0, COHORT)
    with pytest.raises(QueryError, match="no dispersions yet"):
        site.contribute(IrlsQuery(ALL, BETA, 0.5).to_bytes(), 1, 0, COHORT)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_question_is_refused_in_words_and_nothing_is_used_up(site, name):
    with pytest.raises(SPOKEN) as refused:
        site.contribute(HOSTILE[name], 0, 0, COHORT)
    assert len(str(refused.value)) < 200
    with pytest.raises(SPOKEN):
        site.recall(HOSTILE[name])
    assert site.contribute(CENSUS, 0, 0, COHORT).message


def test_numbers_no_fit_would_send_do_not_break_a_site(session):
    """Finite, and far beyond sense: answered with the sign for lost genes, so that no refusal tells of the counts."""
    asked = [
        NormalisedQuery(ALL, np.full(GENES, 700.0), ALL, PARAMS),
        AdoptDispersionsQuery(ALL, np.full(GENES, 1e5)),
        IrlsQuery(ALL, np.full((GENES, PARAMS), 1e300), 0.5),
        IrlsQuery(ALL, np.full((GENES, PARAMS), -1e300), 0.0),
        UnclampedQuery(ALL, np.full((GENES, PARAMS), 1e300)),
        CooksBoundQuery(ALL, BETA + 1e300, BETA - 1e300, *DISTANCES[3:]),
        BelowQuery(ALL, ROWS, *ASKS, np.full((2, 2), 1e300)),
        BetweenQuery(ALL, ROWS, *ASKS, np.full(2, -1e300), np.full(2, 1e300), np.full(2, 2.0**-1000)),
        ReplaceOutliersQuery(*DISTANCES[:5], 1e-300, *DISTANCES[6:], ONES * 1e300, ROWS, np.full(2, 9.0)),
    ]
    for number, query in enumerate(asked):
        assert session["site1"].contribute(query.to_bytes(), number, 0, COHORT).message
    assert session["site1"].contribute(CENSUS, 9, 0, COHORT).message


def test_a_context_is_used_once(site):
    site.contribute(CENSUS, 0, 0, COHORT)
    with pytest.raises(MisuseError, match="answered before"):
        site.contribute(CENSUS, 0, 0, COHORT)
    other = CensusQuery(np.arange(GENES) > 3, PARAMS, 2).to_bytes()
    with pytest.raises(MisuseError, match="asked differently before"):
        site.contribute(other, 0, 0, COHORT)


@pytest.mark.parametrize(
    "cohort",
    [
        (),
        ("site1",),
        ("site1", "site2"),
        ("site1", "site2", "site3"),
        ("site2", "site3", "site4"),
        ("site1", "site1", "site2", "site3"),
        (*COHORT, "site5"),
        tuple(reversed(COHORT)),
    ],
    ids=str,
)
def test_another_cohort_than_was_agreed_is_refused(site, cohort):
    with pytest.raises((*SPOKEN, RefusalError)):
        site.contribute(CENSUS, 0, 0, cohort)


def test_the_same_question_over_fewer_sites_is_never_answered(files, monkeypatch):
    """Where shrinking was agreed, the question that was answered is still not answered again."""
    monkeypatch.setattr(CensusQuery, "may_shrink", True)  # as those of regressions do
    site = met(files, Config(design="~ condition", kernel="numpy", on_dropout="continue", trust_aggregator=True))[
        "site1"
    ]
    site.contribute(CENSUS, 0, 0, COHORT)
    with pytest.raises(QueryError, match="answered for another cohort before"):
        site.contribute(CENSUS, 1, 0, COHORT[:3])
    other = CensusQuery(np.arange(GENES) > 3, PARAMS, 2).to_bytes()
    assert site.contribute(other, 1, 0, COHORT[:3]).message
    with pytest.raises(MisuseError, match="other sites than were agreed"):
        site.contribute(CensusQuery(np.arange(GENES) > 4, PARAMS, 2).to_bytes(), 2, 0, COHORT)


def test_help_is_for_what_was_answered(site):
    with pytest.raises(MisuseError, match="took no part"):
        site.assist(b"", 0, 0)
    site.contribute(CENSUS, 0, 0, COHORT)
    for request in (b"", b"\0" * 5000, CENSUS):
        with pytest.raises(PeerError, match="aggregator"):
            site.assist(request, 0, 0)


def test_an_agreement_of_another_configuration_is_refused(files):
    config = Config(design="~ condition", kernel="numpy", trust_aggregator=True)
    sites = {name: Site(Place(name, str(path)), config) for name, path in files.items()}
    agreement, _ = agree([site.survey() for site in sites.values()], config, {})
    weaker = config.model_copy(update={"protocol": "plain"})
    with pytest.raises(MisuseError, match="another configuration"):
        sites["site1"].join(dataclasses.replace(agreement, config_digest=weaker.digest))


@pytest.mark.parametrize("verb", ["__init__", "_keep", "_samples", "__class__", "__reduce__", "eval"])
def test_an_actor_runs_the_verbs_of_the_protocol_and_no_others(verb, tmp_path):
    from secirls.carriers.actors import PartyActor, packed

    actor = PartyActor(packed(Site, Place("a", str(tmp_path / "a.h5ad")), Config(design="~ condition")))
    with pytest.raises(SecureSumError, match="there is no verb"):
        actor.ask(verb)
