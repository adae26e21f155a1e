"""A site agrees to nothing that it has not checked against its own ground: genes, design, roster, roles, rules."""

from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

from protocols.encryption import paillier_threshold
from protocols.encryption.paillier_messages import Terms
from protocols.primitives.paillier.big_numbers import from_buffer
from protocols.secure_sum import MisuseError, PeerError
from secirls.agreement.agreement import Agreement, genes_digest
from secirls.agreement.order import Order, Place
from secirls.algorithms.dispersion.dispersions import AdoptDispersionsQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery, NormalisedQuery
from secirls.algorithms.regression.irls import IrlsQuery
from secirls.input_error import InputError
from secirls.inputs.designs.design import Design, Variable
from secirls.inputs.formulas import formula as formula_room
from secirls.inputs.formulas.formula import parse
from secirls.inputs.formulas.model_matrix import ModelMatrix
from secirls.site import site as site_room
from secirls.site.grounds.helper_ground import HelperGround
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.site import Site

VICTIM = "site2"

# Genes: others in another order isolate one site.


def told_genes(lead, genes):
    return lambda told: lead.replace(told, genes=tuple(genes), genes_digest=genes_digest(genes))


def rare_and_common(grounds):
    """Genes that the victim lacks in some samples, and as many that everybody has in every sample."""
    zeros = (grounds.all_counts() == 0).sum(axis=0)
    rare = np.flatnonzero((grounds.counts(VICTIM) == 0).any(axis=0) & (zeros > 0))
    common = np.flatnonzero(zeros == 0)[: rare.size]
    assert 0 < rare.size == common.size
    return rare, common


def rearranged(grounds, lead, change=lambda made, told: made):
    """A room in which the victim is told rare genes, and everybody else common ones in their place.

    ``change`` is done to the others' agreements, and knows the victim's.
    """
    rare, common = rare_and_common(grounds)
    room = lead.room(grounds, genes="intersection").survey()
    names = np.array(room.genes)
    room.genes = tuple(names[rare])
    room.agreement = told_genes(lead, names[rare])(room.agreement)
    other = change(told_genes(lead, names[common])(room.agreement), room.agreement)
    return room.join(**{name: lambda told: other for name in room.names if name != VICTIM}), (
        grounds.counts(VICTIM)[:, rare] == 0
    ).sum(axis=0)


def test_sites_that_were_told_other_genes_are_in_other_sessions(shallow, lead):
    room, _ = rearranged(shallow, lead)
    with pytest.raises(PeerError, match="hello is not signed"):
        room.meet()


def test_without_the_genes_in_the_digest_zeros_of_one_site_are_opened(shallow, lead, monkeypatch):
    honest = Agreement.digest.func
    blind = property(lambda told: honest(lead.replace(told, genes_digest=b"")))
    monkeypatch.setattr(Agreement, "digest", blind)
    room, own = rearranged(shallow, lead)
    room.meet().census()
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"], own)


def with_its_digest(made, told):
    """An agreement with a digest that is worked out already: the victim's."""
    vars(made)["digest"] = told.digest
    return made


def test_a_site_finds_itself_what_follows_from_an_agreement(shallow, lead):
    room, _ = rearranged(shallow, lead, with_its_digest)
    with pytest.raises(PeerError, match="hello is not signed"):
        room.meet()


def test_the_twin_that_believes_its_digest_has_zeros_of_one_site_opened(shallow, lead, monkeypatch):
    monkeypatch.setattr(site_room, "replace", lambda told: told)
    room, own = rearranged(shallow, lead, with_its_digest)
    room.meet().census()
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"], own)


def test_genes_that_are_repeated_unknown_or_of_another_digest_are_refused(grounds, lead):
    room = lead.room(grounds, genes="intersection").survey()
    names = room.genes
    lies = {
        "is named twice": told_genes(lead, (names[0],) * len(names)),
        "not in its file": told_genes(lead, (*names[:-1], "no such gene")),
        "not those of its configuration": lambda told: lead.replace(told, genes=names[::-1]),
    }
    for problem, lie in lies.items():
        with pytest.raises(MisuseError, match=problem):
            room.sites[VICTIM].join(lie(room.agreement))


BUDGET = "max_values_per_gene = 40"


def repeated(grounds, lead):
    """A room in which every gene is the same one, by the same name, for all sites alike."""
    room = lead.room(grounds.rule(BUDGET), genes="intersection").survey()
    gene = int(grounds.all_counts().min(axis=0).argmax())
    names = (room.genes[gene],) * len(room.genes)
    room.agreement = told_genes(lead, names)(room.agreement)
    return room.join(), gene


def to_irls(room):
    """An honest beginning: everything that comes before the first coefficients."""
    samples = room.census()["samples"][0]
    means = room.total(LogCountsQuery(room.every))
    room.total(NormalisedQuery(room.every, means["log_counts"] / samples, means["zeros"] == 0, 2))
    room.total(AdoptDispersionsQuery(room.every, np.full(len(room.genes), 0.1)))
    return room


def likelihoods(room, gene, coefficients):
    """A gene's likelihood at a few coefficients, in as many rounds."""
    asked = (IrlsQuery(room.asked(gene), np.array([[cut, 0.0]]), 0.5) for cut in coefficients)
    return [room.total(question)["nll"][0] for question in asked]


def test_a_gene_is_asked_about_within_its_budget_and_under_one_name(lay, lead):
    room, gene = to_irls(lead.room(lay("one").rule(BUDGET)).open()), 0
    with pytest.raises(RefusalError, match="max_values_per_gene is 40"):
        likelihoods(room, gene, np.linspace(0, 8, 60))
    with pytest.raises(MisuseError, match="a gene is named twice"):
        repeated(lay("two"), lead)


def test_the_twin_that_takes_one_gene_under_sixty_names_gives_sixty_times_its_budget(lay, lead, monkeypatch):
    honest = site_room.prepare

    def unchecked(table, told, design, config, site):
        own = honest(table, told_genes(lead, table.genes)(told), design, config, site)
        position = {gene: i for i, gene in enumerate(table.genes)}
        return lead.replace(own, counts=own.counts.T[[position[gene] for gene in told.genes]].T)

    monkeypatch.setattr(site_room, "prepare", unchecked)
    grounds = lay()
    room, gene = repeated(grounds, lead)
    to_irls(room.meet())
    grid = np.linspace(0, 8, len(room.genes))
    told = room.total(IrlsQuery(room.every, np.column_stack([grid, np.zeros_like(grid)]), 0.5))["nll"]
    assert np.unique(told).size == len(room.genes) > 40
    for name, site in room.sites.items():
        assert np.array_equal(site._samples.counts.T, [grounds.counts(name)[:, gene]] * len(room.genes))


# The design: a site builds it from its own configuration.

CODE = "{__import__('pathlib').Path('%s').touch()}"


def evil_agreement(lead, told, code):
    """Every text of an agreement that a site could take for a formula."""
    said = {name: {**facts, code: Variable(numeric=True)} for name, facts in told.said.items()}
    said[VICTIM] = told.said[VICTIM]
    return lead.replace(told, said=said, run=f"~ condition + {code}")


def test_nothing_of_a_message_reaches_the_formula_parser(grounds, lead, tmp_path, monkeypatch):
    parsed = []
    parse.cache_clear()
    read = formula_room.read_terms
    monkeypatch.setattr(formula_room, "read_terms", lambda text: (parsed.append(text), read(text))[1])
    room = lead.room(grounds).survey()
    code = CODE % (tmp_path / "ran")
    with pytest.raises(InputError, match="is said to have other variables"):
        room.sites[VICTIM].join(evil_agreement(lead, room.agreement, code))
    assert set(parsed) == {"~ condition"}
    assert not (tmp_path / "ran").exists()


def test_a_configuration_with_code_in_it_is_refused_before_it_runs(grounds, lead, tmp_path):
    config = lead.config(grounds, design="~ condition + " + CODE % (tmp_path / "ran"))
    with pytest.raises(InputError, match="is an expression"):
        Site(grounds.place(VICTIM), config, own_process=False).survey()
    assert not (tmp_path / "ran").exists()


def believing(told, config):
    return Design(told.run, Design.agree(config.design, config.levels, told.said).levels)


def test_where_the_formula_is_taken_from_the_message_it_is_still_no_code(grounds, lead, tmp_path, monkeypatch):
    monkeypatch.setattr(Agreement, "design", believing)
    room = lead.room(grounds).survey()
    with pytest.raises(InputError, match="is an expression"):
        room.sites[VICTIM].join(evil_agreement(lead, room.agreement, CODE % (tmp_path / "ran")))
    assert not (tmp_path / "ran").exists()


def test_where_formulaic_evaluates_it_too_its_code_runs(grounds, lead, tmp_path, monkeypatch):
    """The twin: the message's formula, and a parser that gives formulaic what it does not know."""
    import formulaic

    def evaluated(told, factors, rows):
        frame = pd.DataFrame({name: factor.codes for name, factor in factors.items()})
        made = formulaic.Formula(told.text).get_model_matrix(frame)
        return ModelMatrix(np.asarray(made, dtype=float), tuple(made.columns), ((),) * made.shape[1])

    monkeypatch.setattr(Agreement, "design", believing)
    monkeypatch.setattr(formula_room, "_read", lambda text, expr: formula_room.Factor(expr, "condition"))
    monkeypatch.setattr(formula_room.Formula, "materialise", evaluated)
    room = lead.room(grounds).survey()
    room.sites[VICTIM].join(evil_agreement(lead, room.agreement, CODE % (tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"config_digest": "0" * 64}, "another configuration"),
        ({"version": "0.0.9"}, "runs version"),
        ({"sites": ("site1", "site2", "site3", "site4", "site4")}, "not sorted"),
        ({"sites": ("site1", "site3", "site4")}, "not among the sites"),
    ],
)
def test_an_agreement_about_something_else_is_refused(grounds, lead, change, problem):
    room = lead.room(grounds).survey()
    with pytest.raises(MisuseError, match=problem):
        room.sites[VICTIM].join(lead.replace(room.agreement, **change))


def test_a_roster_of_other_names_or_with_another_key_of_its_own_is_refused(grounds, lead):
    room = lead.room(grounds).survey()
    keys = room.agreement.roster
    for roster, problem in (
        ({**keys, "site9": keys["site1"]}, "other names than the sites"),
        ({name: key for name, key in keys.items() if name != VICTIM}, "other names than the sites"),
        ({**keys, VICTIM: keys["site1"]}, "its own key was told differently"),
    ):
        with pytest.raises(MisuseError, match=problem):
            room.sites[VICTIM].join(lead.replace(room.agreement, roster=roster))


def test_own_levels_that_were_told_differently_are_refused(grounds, lead):
    room = lead.room(grounds).survey()
    said = {**room.agreement.said, VICTIM: {"condition": Variable(numeric=False, levels=("control",))}}
    with pytest.raises(MisuseError, match="its own levels"):
        room.sites[VICTIM].join(lead.replace(room.agreement, said=said))


def test_levels_of_others_than_the_agreed_sites_or_of_fewer_are_refused(grounds, lead):
    room = lead.room(grounds).survey()
    said = room.agreement.said
    for others in ({**said, "site9": said["site1"]}, {name: said[name] for name in said if name != "site1"}):
        with pytest.raises(MisuseError, match="not every site said what levels it has"):
            room.sites[VICTIM].join(lead.replace(room.agreement, said=others))


def said_otherwise(lead, told, **changes):
    """The same agreement, where one site is said to have said something else of its condition."""
    site = {"condition": lead.replace(told.said["site1"]["condition"], **changes)}
    return lead.replace(told, said={**told.said, "site1": site})


def test_who_agreed_to_anything_else_is_in_another_session(grounds, lead):
    told = lead.room(grounds).survey().agreement
    others = [
        *(lead.replace(told, **{name: "0.0.9"}) for name in ("config_digest", "run", "version")),
        *(lead.replace(told, **{name: bytes(32)}) for name in ("genes_digest", "arithmetic")),
        lead.replace(told, sites=told.sites[:3]),
        lead.replace(told, said={name: told.said[name] for name in told.sites[:3]}),
        *(lead.replace(told, roster={**told.roster, "site1": told.roster[name]}) for name in told.sites[1:]),
        *(said_otherwise(lead, told, levels=levels) for levels in (("control",), ("treated", "control"))),
        *(said_otherwise(lead, told, **{kind: True}) for kind in ("numeric", "numbered")),
    ]
    assert len({told.digest, *(other.digest for other in others)}) == len(others) + 1
    names = {field.name for field in fields(told)} - {"genes"}
    assert all(any(getattr(other, name) != getattr(told, name) for other in others) for name in names)
    shuffled = lead.replace(told, said=dict(reversed(told.said.items())), roster=dict(reversed(told.roster.items())))
    assert shuffled.digest == told.digest


# The roster: invented sites.


def invented(grounds, lay, lead):
    """One real site among three that the aggregator invented: keys, data and a roster of its making."""
    fake = lay("fake", seed=9)
    for trusting in (fake, grounds):
        trusting.trust()
    places = {name: fake.place(name) for name in fake.names}
    places["site1"] = grounds.place("site1")
    config = lead.config(fake, trust_aggregator=True, roster={**fake.told(), "site1": grounds.told()["site1"]})
    return lead.Room(places, config), fake


def test_a_site_meets_nobody_who_is_not_in_its_own_roster(grounds, lay, lead):
    room, _ = invented(grounds, lay, lead)
    room.survey()
    with pytest.raises(MisuseError, match="another key for site2 than the roster's"):
        room.sites["site1"].join(room.agreement)


def test_without_an_own_roster_one_site_among_invented_ones_is_alone(grounds, lay, lead, monkeypatch):
    monkeypatch.setattr(site_room, "check_agreement", lambda *_: None)
    room, fake = invented(grounds, lay, lead)
    room.open().census()
    zeros = room.total(LogCountsQuery(room.every))["log_counts"]
    known = sum(np.log(np.maximum(fake.counts(name), 1)).sum(axis=0) for name in fake.names[1:])
    np.testing.assert_allclose(zeros - known, np.log(np.maximum(grounds.counts("site1"), 1)).sum(axis=0), atol=1e-9)


# The rules: whoever starts the site names none.


def permissive(grounds):
    path = grounds.folder / "permissive.toml"
    path.write_text('protocols = ["plain"]\nrequire_roster = false\n')
    return str(path)


def test_a_site_has_its_own_policy_whatever_it_is_started_with(grounds, lead):
    place = lead.replace(grounds.place("site1"), policy=permissive(grounds))
    for started in (place, grounds.place("site1")):
        with pytest.raises(RefusalError, match="protocols is pairwise, paillier-threshold"):
            Site(started, lead.config(grounds, protocol="plain"), own_process=False).survey()
    places = {name: grounds.place(name).source for name in grounds.names}
    with pytest.raises(InputError, match="its policy is named in its own file"):
        Order.of(lead.config(grounds), places, policies={"site1": permissive(grounds)})


def test_where_no_policy_means_none_a_site_answers_in_the_clear(grounds, lead, monkeypatch):
    monkeypatch.setattr(Policy, "read", classmethod(lambda cls, where, **rules: Policy.simulation(**rules)))
    assert Site(grounds.place("site1"), lead.config(grounds, protocol="plain"), own_process=False).survey().genes


def test_a_site_that_was_started_with_its_data_alone_says_that_it_is_simulated(grounds, lead):
    facts = Site(Place("site1", str(grounds.data["site1"])), lead.config(grounds, roster=None), own_process=False)
    assert facts.survey().simulated
    assert not Site(grounds.place("site1"), lead.config(grounds), own_process=False).survey().simulated


# Helpers: whoever decrypts or deals stands in the roster.

SMALL = {"key_bits": 512, "insecure_test_keys": True}
ALLOWED = 'protocols = ["paillier", "paillier-threshold"]\nmin_key_bits = 0'
HELPERS = pytest.mark.parametrize(
    ("protocol", "helper"), [("paillier", "key-holder"), ("paillier-threshold", "key-dealer")]
)


@HELPERS
def test_a_helper_that_is_not_in_the_roster_is_refused(grounds, lead, protocol, helper):
    room = lead.room(grounds.rule(ALLOWED), protocol=protocol, **SMALL).survey()
    with pytest.raises(MisuseError, match=f"another key for {helper} than the roster's"):
        room.sites["site1"].join(room.agreement)


@HELPERS
def test_a_helper_that_is_in_the_roster_works(lay, lead, protocol, helper):
    grounds = lay(beside=(helper,)).rule(ALLOWED)
    room = lead.room(grounds, protocol=protocol, **SMALL).open()
    room.census()
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"], (grounds.all_counts() == 0).sum(axis=0))


@HELPERS
def test_an_aggregator_that_plays_the_helper_reads_every_site(grounds, lead, monkeypatch, protocol, helper):
    """The broken twin: sites take any helper's key, so the helper is the aggregator's own, and what it made is kept."""
    kept, honest = [], paillier_threshold.deal
    monkeypatch.setattr(paillier_threshold, "deal", lambda key, *how: (kept.append(key), honest(key, *how))[1])
    monkeypatch.setattr(site_room, "check_agreement", lambda *_: None)
    monkeypatch.setattr(HelperGround, "check", lambda *_: None)  # its own
    room = lead.room(grounds.rule(ALLOWED), protocol=protocol, **SMALL).open()
    room.census()
    layout, context, sent = room.payloads(LogCountsQuery(room.every))
    private = kept[0] if kept else room.helpers[helper]._party._private
    packing = Terms(room.roster, room.config.settings(), helper).packing(context, context.session)
    size = private.public.ciphertext_bytes * packing.plaintexts
    plain = private.decrypt(from_buffer(sent[VICTIM][:size], private.public.ciphertext_bytes))
    own = layout.decode(packing.unpack(plain, 1), 1)
    assert np.array_equal(own["zeros"], (grounds.counts(VICTIM) == 0).sum(axis=0))


def test_a_site_that_reckons_with_a_colluder_shares_no_key_where_sums_may_shrink(lay, lead):
    for rule in ("abort", "continue"):
        grounds = lay(rule, beside=("key-dealer",)).rule(ALLOWED).rule(f'on_dropout = "{rule}"')
        room = lead.room(grounds, protocol="paillier-threshold", on_dropout=rule, **SMALL).survey()
        if rule == "abort":
            room.sites[VICTIM].join(room.agreement)
        else:
            with pytest.raises(MisuseError, match="only where everybody is in every sum"):
                room.sites[VICTIM].join(room.agreement)
