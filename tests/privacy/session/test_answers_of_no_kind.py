"""An answer of no kind there is costs its sender alone: facts that no site can have, and costs that no verb has.

Every site is honest but for one, whose answers to one verb are changed on their way. The twins look at less of them.
"""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from protocols.choice import helpers
from secirls import fitting
from secirls.aggregator import asking
from secirls.aggregator.aggregator import Outcome
from secirls.aggregator.aggregator import lead as lead_fit
from secirls.aggregator.audit import audit
from secirls.aggregator.losses import LeftOutError
from secirls.aggregator.transcript import witnessed
from secirls.agreement import agreement, ledger
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.ledger import Cost
from secirls.agreement.manifest import Manifest
from secirls.agreement.order import Place, Task
from secirls.agreement.past import Begun
from secirls.agreement.record import Record
from secirls.carriers.local import LocalFederation
from secirls.config import Config
from secirls.input_error import InputError
from secirls.inputs.datasets import write_simulated
from secirls.inputs.designs.design import Variable
from secirls.outputs.report.disclosure import statements
from secirls.site.helper import Helper
from secirls.site.site import Site

SITES = ("site1", "site2", "site3", "site4", "site5")
LIAR = "site3"
OTHERS = tuple(site for site in SITES if site != LIAR)


class Lied(LocalFederation):
    """A federation whose liar's answers to one verb are ``change`` of the honest ones."""

    def __init__(self, parties, verb, change, liar=LIAR):
        super().__init__(parties)
        self.verb, self.change, self.liar = verb, change, liar

    def ask(self, verb, arguments):
        answers = super().ask(verb, arguments)
        if verb == self.verb and self.liar in answers:
            answers[self.liar] = self.change(answers[self.liar])
        return answers


# Facts.


def of(**changes):
    return lambda facts: replace(facts, **changes)


def levels(*told):
    return of(variables={"condition": Variable(numeric=False, levels=told)})


FACTS = {
    "nothing": lambda facts: None,
    "text": lambda facts: "facts",
    "another's name": of(site="site1"),
    "a file that is a number": of(file=3),
    "a key that is short": of(identity=b"key"),
    "a key that is text": of(identity="key"),
    "a key that is of no use": of(identity=bytes(32)),
    "a number of genes": of(genes=12),
    "no genes": of(genes=()),
    "genes that are bytes": lambda facts: replace(facts, genes=tuple(gene.encode() for gene in facts.genes)),
    "genes that have no digest": lambda facts: replace(facts, genes=("\ud800", *facts.genes[1:])),
    "a gene twice": lambda facts: replace(facts, genes=(facts.genes[1], *facts.genes[1:])),
    "no table of variables": of(variables=None),
    "no variable": of(variables={}),
    "a variable too many": lambda facts: replace(facts, variables={**facts.variables, "age": Variable(numeric=True)}),
    "a variable of no kind": of(variables={"condition": ("control", "treated")}),
    "levels that are numbers": levels(1, 2),
    "a level twice": levels("control", "treated", "control"),
    "numbers with levels": of(variables={"condition": Variable(numeric=True, levels=("control",))}),
    "simulated in words": of(simulated="no"),
    "data that are text": of(data="data"),
    "data without a digest": of(data=b""),
    "arithmetic in words": of(arithmetic="exact"),
}


def ruled(folder, lead, rule):
    """Five sites on grounds of their own with one rule for who falls silent, and a configuration of it."""
    grounds = lead.settle(folder / "grounds", SITES, samples=50, genes=12, seed=4)
    grounds.rule(f'on_dropout = "{rule}"')
    return grounds, lead.config(grounds, preset="irls", on_dropout=rule)


@pytest.fixture(scope="module")
def stopping(tmp_path_factory, lead):
    return ruled(tmp_path_factory.mktemp("stopping"), lead, "abort")


@pytest.fixture(scope="module")
def going_on(tmp_path_factory, lead):
    return ruled(tmp_path_factory.mktemp("going_on"), lead, "continue")


def lied(grounds, config, verb, change, names=SITES):
    return Lied({name: Site(grounds.place(name), config, own_process=False) for name in names}, verb, change)


def begun(grounds, config, change):
    """Among whom a fit begins, where the liar says this of itself."""
    events = lead_fit(Task(config, "fit-1"), lied(grounds, config, "survey", change))
    return next(event for event in events if isinstance(event, Begun)).sites


def test_honest_facts_are_taken(stopping):
    assert begun(*stopping, lambda facts: facts) == SITES


@pytest.mark.parametrize("change", FACTS.values(), ids=FACTS)
def test_facts_that_no_site_can_have_name_who_says_them(stopping, change):
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'survey' with an unexpected answer$"):
        begun(*stopping, change)


@pytest.mark.parametrize("change", FACTS.values(), ids=FACTS)
def test_where_it_may_go_on_the_fit_begins_without_who_says_them(going_on, change):
    assert begun(*going_on, change) == OTHERS


def test_where_too_few_are_left_one_sentence_names_the_liar(going_on):
    grounds, config = going_on
    federation = lied(grounds, config, "survey", FACTS["nothing"], SITES[:3])
    with pytest.raises(LeftOutError, match=f"^before the first round {LIAR} broke in 'survey'; too few sites are left"):
        list(lead_fit(Task(config, "fit-1"), federation))


KEYS = {"nothing": None, "text": "key", "a short one": b"key", "one of no use": bytes(32)}


@pytest.mark.parametrize("told", KEYS)
def test_a_helper_whose_key_is_none_is_named(told):
    config = Config(design="~ condition", protocol="paillier")
    (holder,) = helpers(config.protocol)
    parties = {holder: Helper(holder, config)}
    assert len(asking.keyed(LocalFederation(parties), (holder,))[holder]) == 32
    with pytest.raises(PartyFaultError, match=f"^{holder} failed in 'key' with an unexpected answer$"):
        asking.keyed(Lied(parties, "key", lambda _: KEYS[told], holder), (holder,))


JOINED = {"nothing": None, "text": "", "a digest of nothing": bytes(32), "numbers": np.zeros(4)}


@pytest.mark.parametrize("told", JOINED)
def test_a_site_that_joins_with_no_digest_is_named(stopping, told):
    grounds, config = stopping
    federation = lied(grounds, config, "join", lambda _: JOINED[told])
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'join' with an unexpected answer$"):
        list(lead_fit(Task(config, "fit-1"), federation))


def brings_dispersions(tmp_path, change):
    """The events of a fit whose first site says something else of the dispersions that all bring."""
    files = write_simulated(tmp_path, sites=3, samples=24, genes=12, seed=4)
    config = Config.read("test", design="~ condition", preset="irls", dispersions="dispersion")
    parties = {name: Site(Place(name, str(path)), config, own_process=False) for name, path in files.items()}
    return lead_fit(Task(config, "fit-1"), Lied(parties, "join", change, "site1"))


@pytest.mark.parametrize("told", [b"", b"digest", None, ""])
def test_no_digest_of_brought_dispersions_names_who_says_it(tmp_path, told):
    with pytest.raises(PartyFaultError, match=r"^site1 failed in 'join' with an unexpected answer$"):
        list(brings_dispersions(tmp_path, lambda _: told))


def test_the_twin_that_takes_any_digest_blames_an_honest_site(tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "is_digest_of_dispersions", lambda *_, **__: True)
    with pytest.raises(InputError, match="site 'site2': dispersions differ from those of site 'site1'"):
        list(brings_dispersions(tmp_path, lambda _: None))


@pytest.mark.parametrize("told", [None, "no", b""])
def test_a_helper_that_does_not_say_whether_it_is_simulated_is_named(told):
    config = Config(design="~ condition", protocol="paillier")
    (holder,) = helpers(config.protocol)

    class Answering(LocalFederation):
        def ask(self, verb, arguments):
            return dict.fromkeys(arguments, told)

    with pytest.raises(PartyFaultError, match=f"^{holder} failed in 'join' with an unexpected answer$"):
        asking.helped(Answering({holder: Helper(holder, config)}), (holder,), None)


def test_the_twin_that_takes_any_facts_blames_an_honest_site(going_on, monkeypatch):
    monkeypatch.setattr(asking, "are_facts", lambda *_: True)
    monkeypatch.setattr(agreement, "are_variables", lambda *_: True)
    with pytest.raises(PartyFaultError, match=r"^site1 failed in 'join'"):
        begun(*going_on, levels(1, 2))
    with pytest.raises(TypeError):
        begun(*going_on, of(genes=12))


def test_a_site_that_is_told_such_facts_of_another_says_whose_they_are(grounds, lead):
    told = lead.room(grounds).survey().agreement
    for said in (None, {}, {"condition": Variable(numeric=False, levels=(1, 2))}):
        site = Site(grounds.place("site1"), lead.config(grounds, trust_aggregator=True), own_process=False)
        site.survey()
        with pytest.raises(InputError, match=f"^site '{LIAR}': is said to have other variables than"):
            site.join(replace(told, said={**told.said, LIAR: said}))


# Costs.


def costing(*given, **named):
    """An honest answer, and one more cost."""
    return lambda answer: replace(answer, costs=(*answer.costs, Cost(*given, **named)))


COSTS = {
    "endless": costing("protect", 10**400, 0.0),
    "centuries": costing("protect", 1e10, 0.0),
    "no number": costing("protect", float("nan"), 0.0),
    "whole": costing("protect", 1, 0.0),
    "text": costing("protect", "boom", 0.0),
    "back in time": costing("protect", 0.0, -1.0),
    "true": costing("protect", 0.0, 0.0, bytes_up=True),
    "half a byte": costing("protect", 0.0, 0.0, bytes_up=0.5),
    "more bytes than there are": costing("protect", 0.0, 0.0, bytes_down=1 << 63),
    "fewer than none": costing("protect", 0.0, 0.0, bytes_down=-1),
    "orders to a terminal": costing("\x1b]0;owned\x07", 0.0, 0.0),
    "a list": costing(["protect"], 0.0, 0.0),
    "nothing": lambda answer: replace(answer, costs=(None,)),
    "a table of them": lambda answer: replace(answer, costs=[*answer.costs]),
    "more than there are verbs": lambda answer: replace(answer, costs=(Cost("protect", 0.0, 0.0),) * 65),
}


@pytest.mark.parametrize("change", COSTS.values(), ids=COSTS)
def test_costs_that_no_verb_has_are_no_answer(stopping, change):
    grounds, config = stopping
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'contribute' with an unexpected answer$"):
        list(lead_fit(Task(config, "fit-1"), lied(grounds, config, "contribute", change)))


MANY = (Cost("protect", 0.0, 0.0),) * 50_000
"""In a message two bytes each: all of them are the same one."""


def booked(grounds, config):
    """How many lines the first round has where the liar's costs are so many."""
    federation = lied(grounds, config, "contribute", lambda answer: replace(answer, costs=MANY))
    return next(len(event.rows) for event in lead_fit(Task(config, "fit-1"), federation) if isinstance(event, Record))


def test_no_message_fills_the_table(stopping):
    assert len(pickle.dumps(MANY)) < 2.1 * len(MANY)
    with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'contribute' with an unexpected answer$"):
        booked(*stopping)


def test_the_twin_that_counts_no_costs_writes_a_line_for_each(stopping, monkeypatch):
    monkeypatch.setattr(ledger, "MOST_COSTS", len(MANY))
    assert booked(*stopping) > len(MANY)


@pytest.mark.parametrize(
    ("verb", "change"),
    [
        pytest.param("survey", FACTS["no variable"], id="facts"),
        pytest.param("survey", FACTS["a number of genes"], id="genes"),
        pytest.param("hello", COSTS["endless"], id="costs"),
    ],
)
def test_the_fit_of_the_others_is_told_and_audited_without_the_liar(tmp_path, lead, verb, change):
    grounds, config = ruled(tmp_path, lead, "continue")
    record = tmp_path / "record"
    *_, end = witnessed(Task(config, "fit-1", transcript=str(record)), lied(grounds, config, verb, change))
    assert isinstance(end, Outcome)
    assert end.sites == OTHERS
    assert f"Before the first round {LIAR} broke in '{verb}'" in " ".join(statements(config, end, "local"))
    assert audit(record).findings == []


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Three sites of eight simulated samples over 20 genes, one of them the liar."""
    paths = write_simulated(tmp_path_factory.mktemp("files"), sites=3, samples=24, genes=20, seed=3)
    fit = {"design": "~ condition", "preset": "irls", "kernel": "numpy", "min_contributors": 1, "consistency": False}
    return Manifest.read("test", sites={name: str(path) for name, path in paths.items()}, engine="local", fit=fit)


def lying_late(monkeypatch):
    """The liar's third and later answers cost more than any number that a table holds."""
    ask, asked = LocalFederation.ask, []

    def asking_(self, verb, arguments):
        answers = ask(self, verb, arguments)
        asked.append(verb)
        if verb == "contribute" and asked.count(verb) > 2:
            answers[LIAR] = COSTS["endless"](answers[LIAR])
        return answers

    monkeypatch.setattr(LocalFederation, "ask", asking_)


def test_finished_rounds_outlive_such_costs(manifest, tmp_path, monkeypatch):
    with monkeypatch.context() as lying:
        lying_late(lying)
        with pytest.raises(PartyFaultError, match=f"^{LIAR} failed in 'contribute'"):
            fitting.fit_manifest(manifest, tmp_path)
    assert fitting.resume(tmp_path).table["pvalue"].notna().any()


def test_the_twin_that_books_any_costs_loses_the_results(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "are_costs", lambda costs: True)
    with monkeypatch.context() as lying:
        lying_late(lying)
        with pytest.raises(OverflowError):
            fitting.fit_manifest(manifest, tmp_path)
