"""Two fits whose difference is one site, one gene or one sample: the second is refused, whatever it is called.

A site remembers fits by its data, on its own disk. The twin forgets, and the difference is one site's own.
"""

import numpy as np
import pytest

from secirls.agreement.agreement import genes_digest
from secirls.algorithms.groundwork.census import CensusQuery
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding import memory
from secirls.site.guarding.memory import Memory, Subject
from secirls.site.guarding.sample_sketches import same_samples, sketches

EVERYBODY = ("site1", "site2", "site3", "site4")
WITHOUT_ONE = EVERYBODY[:3]


def zeros(room):
    room.open().census()
    return room.total(LogCountsQuery(room.every))["zeros"]


def of_genes(lead, count):
    genes = tuple(f"gene{number:05d}" for number in range(count))
    return lambda told: lead.replace(told, genes=genes, genes_digest=genes_digest(genes))


def one_gene_fewer(lead):
    return of_genes(lead, 59)


def of_half_the_genes(lead):
    return of_genes(lead, 30)


@pytest.mark.parametrize("run", ["fit-1", "fit-2"])
def test_a_fit_over_fewer_sites_is_refused_under_any_name(grounds, lead, run):
    zeros(lead.room(grounds))
    second = lead.room(grounds, WITHOUT_ONE, run).survey()
    for name in WITHOUT_ONE:
        with pytest.raises(RefusalError, match="across_fits is refuse"):
            second.sites[name].join(second.agreement)


def test_whose_policy_allows_it_joins_a_fit_over_fewer_sites(grounds, lead):
    grounds.rule('across_fits = "allow"')
    zeros(lead.room(grounds))
    lead.room(grounds, WITHOUT_ONE, "fit-2").survey().join()


@pytest.fixture
def forgetful(monkeypatch):
    """Sites that remember neither fits nor their columns, nor what they answered for whom."""
    monkeypatch.setattr(Memory, "_is_near", lambda *_: False)
    monkeypatch.setattr(Memory, "of_other_data", lambda *_: [])
    monkeypatch.setattr(Memory, "admit", lambda *_: None)
    monkeypatch.setattr(Memory, "opening", lambda *_: None)


@pytest.mark.parametrize("run", ["fit-1", "fit-2"])
def test_without_memory_the_difference_of_two_fits_is_one_sites_own(grounds, lead, run, forgetful):
    difference = zeros(lead.room(grounds)) - zeros(lead.room(grounds, WITHOUT_ONE, run))
    assert np.array_equal(difference, (grounds.counts("site4") == 0).sum(axis=0))


def test_a_fit_of_one_gene_fewer_is_refused(grounds, lead):
    zeros(lead.room(grounds, genes="intersection"))
    second = lead.room(grounds, genes="intersection", run="fit-2").survey()
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        second.join(**dict.fromkeys(EVERYBODY, one_gene_fewer(lead)))


def test_a_fit_of_fewer_genes_is_still_about_the_same_samples(grounds, lead):
    """Whoever leads chooses the genes: half of them, or one fewer, hide no fit over other sites."""
    zeros(lead.room(grounds, genes="intersection"))
    second = lead.room(grounds, WITHOUT_ONE, genes="intersection", run="fit-2").survey()
    with pytest.raises(RefusalError, match="over other sites"):
        second.join(**dict.fromkeys(WITHOUT_ONE, of_half_the_genes(lead)))


def test_where_samples_are_known_by_agreed_genes_alone_such_a_fit_is_answered(grounds, lead, monkeypatch):
    known = Subject.of
    monkeypatch.setattr(memory, "same_samples", lambda *_: {})
    monkeypatch.setattr(
        Subject, "of", lambda counts, genes, agreed, **_: known(counts[:, : len(agreed)], agreed, agreed)
    )
    first = zeros(lead.room(grounds, genes="intersection"))
    second = lead.room(grounds, WITHOUT_ONE, genes="intersection", run="fit-2").survey()
    second.agreement, second.genes = of_half_the_genes(lead)(second.agreement), second.genes[:30]
    second.join().meet().census()
    difference = first[:30] - second.total(LogCountsQuery(second.every))["zeros"]
    assert np.array_equal(difference, (grounds.counts("site4") == 0).sum(axis=0)[:30])


def drop_last(adata):
    adata._inplace_subset_obs(np.arange(adata.n_obs - 1))


def test_a_fit_of_one_sample_fewer_is_refused(grounds, lead):
    zeros(lead.room(grounds))
    grounds.edit("site4", drop_last)
    second = lead.room(grounds, run="fit-2").survey()
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        second.sites["site4"].join(second.agreement)


def test_without_memory_the_difference_of_two_fits_is_one_samples_own(grounds, lead, forgetful):
    before, last = zeros(lead.room(grounds)), grounds.counts("site4")[-1]
    grounds.edit("site4", drop_last)
    assert np.array_equal(before - zeros(lead.room(grounds, run="fit-2")), last == 0)


def last_dropped_and_sorted_otherwise(adata):
    adata._inplace_subset_obs(np.arange(adata.n_obs - 1))
    adata._inplace_subset_var(np.arange(adata.n_vars)[::-1])


def of_two_orders(grounds, lead):
    """Zeros in a fit less those in another of one sample fewer, whose site sorted its genes in between; and its own."""
    before, last = zeros(lead.room(grounds, genes="intersection")), grounds.counts("site4")[-1]
    grounds.edit("site4", last_dropped_and_sorted_otherwise)
    return before - zeros(lead.room(grounds, genes="intersection", run="fit-2")), last == 0


def test_genes_in_another_order_are_no_other_data(grounds, lead):
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        of_two_orders(grounds, lead)


def test_the_twin_that_reads_counts_in_the_order_of_the_file_tells_one_samples(grounds, lead, monkeypatch):
    monkeypatch.setattr(memory, "_by_name", lambda counts, genes: counts)
    monkeypatch.setattr(memory, "same_samples", lambda *_: {})
    found, true = of_two_orders(grounds, lead)
    assert np.array_equal(found, true)


def test_the_same_samples_are_one_subject_in_any_order_of_genes_and_samples():
    generator = np.random.default_rng(3)
    counts = generator.poisson(5.0, size=(7, 30)).astype(np.int32)
    genes = [f"gene{number}" for number in generator.permutation(30)]
    one = Subject.of(counts, genes, genes)
    for _ in range(3):
        order, rows = generator.permutation(30), generator.permutation(7)
        other = Subject.of(counts[np.ix_(rows, order)], [genes[i] for i in order], genes)
        assert (other.data, [other.samples[i] for i in np.argsort(rows)]) == (one.data, list(one.samples))
        assert Subject.of(counts, [genes[i] for i in order], genes).data != one.data


def test_the_same_fit_may_be_made_again(grounds, lead):
    first = zeros(lead.room(grounds))
    assert np.array_equal(first, zeros(lead.room(grounds)))


def test_in_one_session_no_cohort_is_smaller_than_agreed(grounds, lead):
    room = lead.room(grounds).open()
    room.census()
    with pytest.raises(Exception, match="other sites than were agreed"):
        room.total(LogCountsQuery(room.asked(*range(59))), WITHOUT_ONE)


# Where a fit may go on without a site, its name covers no other data and no other genes.

GOES_ON = 'on_dropout = "continue"'


def anything_under_its_name(entry, sites, run):
    """The broken twin: whatever is about no more sites goes on, if it is called the same."""
    return entry["run"] == run and set(sites) <= set(entry["sites"])


@pytest.fixture
def by_name(monkeypatch):
    """Sites to which a fit goes on by its name alone."""
    enter = Memory.enter_fit

    def entering(self, run, sites, subject, policy, **how):
        def near(entry, *_):
            return not anything_under_its_name(entry, sites, run)

        self._is_near = near
        enter(self, run, sites, subject, policy, **how)

    monkeypatch.setattr(Memory, "enter_fit", entering)
    monkeypatch.setattr(Memory, "of_other_data", lambda *_: [])


def of_one_sample_fewer(grounds, lead):
    """Zeros in a fit less those in what is called its continuation, before which a site left a sample out; its own."""
    grounds.rule(GOES_ON)
    before, last = zeros(lead.room(grounds, on_dropout="continue")), grounds.counts("site4")[-1]
    grounds.edit("site4", drop_last)
    return before - zeros(lead.room(grounds, on_dropout="continue")), last == 0


def test_a_fit_that_may_go_on_goes_on_with_the_same_samples_alone(grounds, lead):
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        of_one_sample_fewer(grounds, lead)


def test_the_twin_that_looks_at_its_name_alone_tells_one_samples(grounds, lead, by_name):
    found, true = of_one_sample_fewer(grounds, lead)
    assert np.array_equal(found, true)


def without_one_site_and_gene(grounds, lead):
    """Zeros in a fit less those in what is called its continuation, over a gene and a site fewer; that site's own."""
    grounds.rule(GOES_ON)
    options = {"genes": "intersection", "on_dropout": "continue"}
    first = zeros(lead.room(grounds, **options))[:59]
    second = lead.room(grounds, WITHOUT_ONE, **options).survey()
    second.agreement, second.genes = one_gene_fewer(lead)(second.agreement), second.genes[:59]
    second.join().meet().census()
    own = (grounds.counts("site4") == 0).sum(axis=0)[:59]
    return first - second.total(LogCountsQuery(second.every))["zeros"], own


def test_a_fit_that_may_go_on_goes_on_with_the_same_genes_alone(grounds, lead):
    with pytest.raises(RefusalError, match="over other sites"):
        without_one_site_and_gene(grounds, lead)


def test_the_twin_that_looks_at_its_name_alone_tells_one_sites(grounds, lead, by_name):
    found, true = without_one_site_and_gene(grounds, lead)
    assert np.array_equal(found, true)


def test_before_it_answered_anything_a_session_begins_anew_over_fewer_sites_and_other_genes(grounds, lead):
    grounds.rule(GOES_ON)
    options = {"genes": "intersection", "on_dropout": "continue"}
    lead.room(grounds, **options).survey().join(**dict.fromkeys(EVERYBODY, one_gene_fewer(lead)))
    lead.room(grounds, WITHOUT_ONE, **options).open().census()


# A memory that was cut off: by a kill in the middle of writing it, or where the power went.


def after_a_kill(grounds, lead):
    """Lead a fit whose sites were killed at first, in writing which genes it is about; then one of a gene fewer."""
    for site in lead.room(grounds, genes="intersection").survey().join().sites.values():
        site._guarded()._memory.answers()
    for folder in (grounds.folder / name / "memory" for name in EVERYBODY):
        (folder / memory.FITS).unlink()
        for file in folder.glob("genes-*"):
            file.write_text(file.read_text()[:100])
    lead.room(grounds, genes="intersection").open().census()
    second = lead.room(grounds, genes="intersection", run="fit-2").survey()
    second.join(**dict.fromkeys(EVERYBODY, one_gene_fewer(lead)))


def test_a_site_that_was_killed_in_noting_its_genes_notes_them_anew(grounds, lead):
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        after_a_kill(grounds, lead)


def test_genes_that_were_lost_afterwards_are_nearly_any(grounds, lead):
    lead.room(grounds, genes="intersection").open().census()
    for file in grounds.folder.glob("*/memory/genes-*"):
        file.write_text("")
    second = lead.room(grounds, genes="intersection", run="fit-2").survey()
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        second.join(**dict.fromkeys(EVERYBODY, one_gene_fewer(lead)))


def test_the_twin_that_takes_what_is_left_for_all_of_it_takes_part_in_both(grounds, lead, monkeypatch):
    monkeypatch.setattr(memory, "_genes_in", lambda file: file.read_text().split("\n") if file.exists() else None)
    after_a_kill(grounds, lead)


# A file of fewer genes.


def last_dropped_of_fewer_genes(adata):
    adata._inplace_subset_obs(np.arange(adata.n_obs - 1))
    fewer_genes(adata)


def fewer_genes(adata):
    adata._inplace_subset_var(np.arange(adata.n_vars - 10))


def of_filtered(grounds, lead, change=last_dropped_of_fewer_genes):
    """Zeros in a fit less those in another, before which all sites left genes out and one a sample; and its own."""
    before, last = zeros(lead.room(grounds)), grounds.counts("site4")[-1]
    for name in EVERYBODY:
        grounds.edit(name, change if name == "site4" else fewer_genes)
    return before[:50] - zeros(lead.room(grounds, run="fit-2")), (last == 0)[:50]


def test_samples_are_the_same_in_a_file_of_fewer_genes(grounds, lead):
    with pytest.raises(RefusalError, match="nearly the same samples or genes"):
        of_filtered(grounds, lead)


def test_the_twin_that_knows_samples_by_all_their_counts_alone_tells_one_samples(grounds, lead, monkeypatch):
    monkeypatch.setattr(memory, "same_samples", lambda *_: {})
    found, true = of_filtered(grounds, lead)
    assert np.array_equal(found, true)


def test_a_fit_of_fewer_genes_and_the_same_samples_is_made(grounds, lead):
    found, _ = of_filtered(grounds, lead, fewer_genes)
    assert not found.any()


def test_samples_are_known_by_most_of_their_counts():
    generator = np.random.default_rng(2)
    counts = generator.negative_binomial(2, 2 / (2 + generator.lognormal(3.0, 2.0, 3000)), size=(30, 3000))
    genes, kept = [f"gene{number}" for number in range(3000)], (counts >= 10).sum(axis=0) > 10
    assert 0.3 < kept.mean() < 0.7
    some = np.flatnonzero(kept)[::-1]

    def sketched(rows, columns):
        told = sketches(counts[np.ix_(rows, columns)].astype(np.int32), [genes[i] for i in columns])
        return {f"{len(columns)} {row}": text for row, text in zip(rows, told, strict=True)}

    whole, fewer = sketched(range(30), range(3000)), sketched([*range(9, 30), *range(5)], some)
    assert same_samples(whole, fewer) == {f"3000 {row}": f"{some.size} {row}" for row in (*range(5), *range(9, 30))}
    assert same_samples(sketched(range(15), range(3000)), sketched(range(15, 30), some)) == {}


# A fit goes on over fewer sites with the same questions; those of another design would be new ones.


def without_one_site_in_another_design(grounds, lead):
    """Zeros in a fit less those in one of its name with a column more, over a site fewer; that site's own."""
    grounds.rule(GOES_ON)
    for name in EVERYBODY:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("half", ["a", "a", "b", "b", "b"] * 2))
    first = zeros(lead.room(grounds, on_dropout="continue"))
    second = zeros(lead.room(grounds, WITHOUT_ONE, design="~ condition + half", on_dropout="continue"))
    return first - second, (grounds.counts("site4") == 0).sum(axis=0)


def test_a_fit_that_may_go_on_goes_on_with_the_same_design_alone(grounds, lead):
    with pytest.raises(RefusalError, match="over other sites"):
        without_one_site_in_another_design(grounds, lead)


def test_the_twin_that_looks_at_no_design_tells_one_sites(grounds, lead, monkeypatch):
    subject = Subject.of
    monkeypatch.setattr(Subject, "of", lambda *those, **how: subject(*those, **{**how, "config": ""}))
    found, true = without_one_site_in_another_design(grounds, lead)
    assert np.array_equal(found, true)


def both_before_answers(grounds, lead):
    """The same of two sessions that both began before anything was answered: the second was let begin anew."""
    grounds.rule(GOES_ON)
    for name in EVERYBODY:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("half", ["a", "a", "b", "b", "b"] * 2))
    first = lead.room(grounds, on_dropout="continue").survey().join()
    second = lead.room(grounds, WITHOUT_ONE, design="~ condition + half", on_dropout="continue").survey().join()
    found = []
    for room in (first, second):
        room.meet().census()
        found.append(room.total(LogCountsQuery(room.every))["zeros"])
    return found[0] - found[1], (grounds.counts("site4") == 0).sum(axis=0)


def test_of_two_that_began_before_any_answer_one_is_answered(grounds, lead):
    with pytest.raises(RefusalError, match="over other sites"):
        both_before_answers(grounds, lead)


def asked_again(grounds, lead):
    """Lead a fit, and ask for the first sum of another, over fewer sites, once each of these has refused it."""
    for name in EVERYBODY:
        grounds.edit(name, lambda adata: adata.obs.__setitem__("half", ["a", "a", "b", "b", "b"] * 2))
    first = lead.room(grounds).open()
    second = lead.room(grounds, WITHOUT_ONE, design="~ condition + half", run="fit-2").open()
    first.census()
    design = second.agreement.design(second.config)
    question = CensusQuery(second.every, len(design.columns), len(design.groups)).to_bytes()
    for site in second.sites.values():
        with pytest.raises(RefusalError, match="over other sites"):
            site.contribute(question, 0, 0, WITHOUT_ONE)
    second.census()


def test_who_refused_to_begin_refuses_when_asked_again(grounds, lead):
    with pytest.raises(RefusalError, match="over other sites"):
        asked_again(grounds, lead)


def test_the_twin_that_looks_once_answers_when_asked_again(grounds, lead, monkeypatch):
    def once(self):
        enter, self._enter = self._enter, lambda: None
        enter()

    monkeypatch.setattr(Memory, "answers", once)
    asked_again(grounds, lead)


def test_the_twin_that_looks_as_they_begin_alone_tells_one_sites(grounds, lead, monkeypatch):
    monkeypatch.setattr(Memory, "answers", lambda *_: None)
    found, true = both_before_answers(grounds, lead)
    assert np.array_equal(found, true)


# A session that ends before anything is answered, as one that was begun without a site.


def after_a_false_start(grounds, lead):
    lead.room(grounds, WITHOUT_ONE).survey().join().meet()
    lead.room(grounds, run="fit-2").open().census()


def test_a_session_that_asked_nothing_is_no_fit(grounds, lead):
    after_a_false_start(grounds, lead)
    with pytest.raises(RefusalError, match="over other sites"):
        lead.room(grounds, WITHOUT_ONE, run="fit-3").survey().join()


def test_the_twin_that_notes_who_joins_lets_nobody_begin_again(grounds, lead, monkeypatch):
    look = Memory.enter_fit

    def noted(self, *fit, **how):
        look(self, *fit, **how)
        self.answers()

    monkeypatch.setattr(Memory, "enter_fit", noted)
    with pytest.raises(RefusalError, match="over other sites"):
        after_a_false_start(grounds, lead)
