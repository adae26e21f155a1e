"""Before any sum a site that brings dispersions says a digest of them: of a gene or few it is guessed.

Any var column of numbers may be called dispersions. Tools of quality control keep the sum of each gene's counts in one,
and the number of samples with any; and whoever leads names the genes, where they are those that all sites have. So the
column is named by the site's own staff, in a study or among those of its policy.
"""

import numpy as np
import pytest

from protocols.secure_sum import sha256
from secirls.agreement.agreement import genes_digest
from secirls.site.grounds.policy import RefusalError
from secirls.site.guarding.policy_checks import PolicyChecks

VICTIM, GENE = "site3", 7
TOTALS, COUNTED = "total_counts", "n_cells_by_counts"
LARGEST = 200_000
STUDY = '[study]\ndesign = "~ condition"\n'


@pytest.fixture
def examined(lay):
    """Grounds as a quality control left them."""

    def look(adata):
        counts = np.asarray(adata.X)
        adata.var[TOTALS] = counts.sum(axis=0).astype(np.float64)
        adata.var[COUNTED] = (counts > 0).sum(axis=0)

    grounds = lay(genes=200)
    for name in grounds.names:
        grounds.edit(name, look)
    return grounds


def said_of(grounds, lead, genes, column):
    """What the victim joins with, in a session about a few genes that its aggregator chose."""
    room = lead.room(grounds, dispersions=column, genes="intersection", trust_aggregator=False).survey()
    named = tuple(room.genes[gene] for gene in genes)
    told = lead.replace(room.agreement, genes=named, genes_digest=genes_digest(named))
    return room.sites[VICTIM].join(told)


def digest_of(numbers):
    return sha256(b"secirls dispersions v1", np.array(numbers, dtype=np.float64).tobytes())


def guessed(said, known, largest):
    """The number of one gene, beside ``known`` ones of others, whose digest was said."""
    return next(number for number in range(1, largest) if digest_of([*known, number]) == said)


@pytest.mark.parametrize("column", [TOTALS, COUNTED])
def test_numbers_of_a_column_that_nobody_named_are_no_dispersions(examined, lead, column):
    with pytest.raises(RefusalError, match=rf"annotation is symbol, .*var column '{column}' is no text, and must be"):
        said_of(examined, lead, [GENE], column)


def test_the_twin_that_takes_any_column_tells_one_sites_total_of_a_gene(examined, lead, monkeypatch):
    monkeypatch.setattr(PolicyChecks, "check_dispersions", lambda *_: None)
    found = guessed(said_of(examined, lead, [GENE], TOTALS), [], LARGEST)
    assert found == examined.counts(VICTIM)[:, GENE].sum()


def test_nor_does_it_take_few_genes_where_all_others_are_known(examined, lead, monkeypatch):
    """So to say nothing of few genes would be no help: of those that all samples count a number of samples is known."""
    counts = examined.counts(VICTIM)
    in_all, rare = np.flatnonzero((counts > 0).all(axis=0)), np.flatnonzero((counts > 0).sum(axis=0) < len(counts))[0]
    monkeypatch.setattr(PolicyChecks, "check_dispersions", lambda *_: None)
    said = said_of(examined, lead, [*in_all, rare], COUNTED)
    assert len(in_all) > 100
    assert guessed(said, [len(counts)] * len(in_all), len(counts)) == (counts[:, rare] > 0).sum()


def test_a_site_is_refused_before_its_file_is_opened(examined, lead):
    examined.data[VICTIM].unlink()
    with pytest.raises(RefusalError, match="annotation is"):
        lead.room(examined, dispersions=TOTALS).sites[VICTIM].survey()


@pytest.mark.parametrize("rule", ['annotation = ["Symbol", "ALPHA"]', f'{STUDY}dispersions = "alpha"'])
def test_a_column_that_the_staff_named_is_taken(examined, lead, rule):
    for name in examined.names:
        examined.edit(name, lambda adata: adata.var.__setitem__("alpha", np.linspace(0.1, 0.5, adata.n_vars)))
    examined.rule(rule)
    room = lead.room(examined, dispersions="alpha", trust_aggregator=False)
    said = {site.join(room.agreement) for site in room.survey().sites.values()}
    assert said == {digest_of(np.linspace(0.1, 0.5, 200))}


def test_another_study_does_not(examined, lead):
    examined.rule(STUDY)
    with pytest.raises(RefusalError, match=f"dispersions is none there, and {TOTALS} here"):
        lead.room(examined, dispersions=TOTALS, trust_aggregator=False).survey()
