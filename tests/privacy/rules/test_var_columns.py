"""What genes are called at a site leaves it where its policy lists the column and all sites have it alike, or not."""

import json
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from protocols.secure_sum import MisuseError, PeerError
from protocols.sessions.session import Roster
from secirls.aggregator.annotating import annotate
from secirls.agreement.agreement import genes_digest
from secirls.agreement.faults import PartyFaultError
from secirls.agreement.told_columns import read_columns, read_texts, text_digest
from secirls.input_error import InputError
from secirls.inputs.annotation import Annotation
from secirls.inputs.files.var_columns import LONGEST_TEXT, Unfit, texts
from secirls.site import telling
from secirls.site.grounds.policy import RefusalError
from secirls.site.telling import Telling

VICTIM, LONER = "site1", "site3"
SECRET = "what only one site says"


def naming(column="symbol", change=None):
    """Give a file a var column: a symbol a gene, the same everywhere but for a ``change``."""

    def edit(adata):
        named = [f"S{i}" for i in range(adata.n_vars)]
        adata.var[column] = named if change is None else change(named)

    return edit


def joined(grounds, lead, *names, **how):
    return lead.room(grounds, annotation=names or ("symbol",), **how).survey().join()


def alike_at_all(grounds, *columns):
    for name in grounds.names:
        for column in columns or ("symbol",):
            grounds.edit(name, naming(column))
    return grounds


def asked(room):
    """What the room's aggregator comes to, and every message that the sites sent for it."""
    sent = []

    def ask(verb, arguments):
        answers = {name: getattr(room.sites[name], verb)(*given) for name, given in arguments.items()}
        sent.extend(answers.values())
        return answers

    federation = SimpleNamespace(ask=ask)
    return annotate(federation, room.agreement, room.config.annotation, len(room.genes)), b"".join(sent)


def test_text_that_all_sites_have_alike_is_told_by_one_of_them(grounds, lead):
    room = joined(alike_at_all(grounds), lead)
    told, sent = asked(room)
    assert told.columns == {"symbol": tuple(f"S{i}" for i in range(60))}
    assert told.left_out == {}
    assert sent.count(b'"S17"') == 1


def test_text_that_one_site_has_otherwise_leaves_nobody(grounds, lead):
    alike_at_all(grounds, "symbol", "chr").edit(LONER, naming("symbol", lambda named: [SECRET, *named[1:]]))
    told, sent = asked(joined(grounds, lead, "symbol", "chr"))
    assert set(told.columns) == {"chr"}
    assert told.left_out == {
        "symbol": "Var column 'symbol' is left out: it differs between sites (site1, site2, site4; site3)."
    }
    assert SECRET.encode() not in sent
    assert sent.count(b'"S17"') == 1  # of chr


def test_the_twin_that_sends_texts_to_be_compared_tells_what_one_site_has(grounds, lead, monkeypatch):
    alike_at_all(grounds).edit(LONER, naming("symbol", lambda named: [SECRET, *named[1:]]))
    monkeypatch.setattr(telling, "alike", lambda said, names: names)
    room = joined(grounds, lead)
    said = {name: site.describe() for name, site in room.sites.items()}
    assert SECRET.encode() in room.sites[LONER].annotate(said)


# An aggregator that deviates: it says that others said what the victim said.


def lied_to(room, victim=LONER):
    """The victim's own word under everybody's name."""
    return dict.fromkeys(room.sites, room.sites[victim].describe())


def test_a_site_believes_only_what_the_others_signed(grounds, lead):
    alike_at_all(grounds).edit(LONER, naming("symbol", lambda named: [SECRET, *named[1:]]))
    room = joined(grounds, lead)
    with pytest.raises(PeerError, match="site1: var columns is not signed by the roster's key"):
        room.sites[LONER].annotate(lied_to(room))
    without = {name: message for name, message in lied_to(room).items() if name == LONER}
    with pytest.raises(MisuseError, match="only where all the agreed sites have them alike"):
        room.sites[LONER].annotate(without)


def test_the_twin_that_reads_what_nobody_signed_gives_its_text_away(grounds, lead, monkeypatch):
    alike_at_all(grounds).edit(LONER, naming("symbol", lambda named: [SECRET, *named[1:]]))
    room = joined(grounds, lead)

    def unsigned(roster, site, agreed, names, message):
        return {name: text for name, text in json.loads(message[:-64]).items() if name in names}

    monkeypatch.setattr(telling, "read_columns", unsigned)
    assert SECRET.encode() in room.sites[LONER].annotate(lied_to(room))


def test_what_was_signed_in_another_session_is_not_believed(grounds, lead):
    alike_at_all(grounds)
    first, second = joined(grounds, lead), joined(grounds, lead, run="fit-2")
    said = {name: site.describe() for name, site in second.sites.items()}
    assert second.sites[VICTIM].annotate(said)
    said["site2"] = first.sites["site2"].describe()
    with pytest.raises(PeerError, match="site2"):
        second.sites[VICTIM].annotate(said)


def joined_again(grounds, lead):
    """A site that joins one session twice, and holds other text the second time; and what all said in the first."""
    room = joined(alike_at_all(grounds), lead)
    said = {name: site.describe() for name, site in room.sites.items()}
    grounds.edit(LONER, naming("symbol", lambda named: [SECRET, *named[1:]]))
    room.sites[LONER].survey()
    room.sites[LONER].join(room.agreement)
    return room, said


def test_what_a_site_signed_of_other_text_does_not_speak_for_what_it_has_now(grounds, lead):
    room, said = joined_again(grounds, lead)
    with pytest.raises(MisuseError, match=f"site {LONER} said something else of its var columns"):
        room.sites[LONER].annotate(said)


def test_the_twin_that_takes_its_own_word_of_before_gives_its_text_away(grounds, lead, monkeypatch):
    room, said = joined_again(grounds, lead)
    monkeypatch.setattr(Telling, "digests", lambda told: said[told.site])
    assert SECRET.encode() in room.sites[LONER].annotate(said)


def test_a_site_that_sends_other_text_than_it_signed_is_named(grounds, lead):
    room = joined(alike_at_all(grounds), lead)
    honest = room.sites[VICTIM].annotate
    room.sites[VICTIM].annotate = lambda said: honest(said).replace(b"S17", b"TP53")
    with pytest.raises(PeerError, match=r"site1.*sends other text of its var columns than it signed"):
        asked(room)


@pytest.mark.parametrize("sent", [b"", b"[]", b"{}", b"[" * 100_000, b'{"symbol": ["a"]}', b'{"symbol": 1}', b"\xff"])
def test_nonsense_in_the_place_of_text_is_named_too(sent):
    said = {"symbol": text_digest("symbol", ["a", "b"])}
    with pytest.raises(PeerError, match="site1"):
        read_texts("site1", said, ["symbol"], 2, sent)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"symbol": 1}', b'{"symbol": "x"}', b'{"chr": "is missing"}'])
def test_nonsense_in_the_place_of_digests_is_named_too(grounds, lead, body):
    from protocols.sessions.session import sign_message

    room = joined(alike_at_all(grounds), lead)
    agreement, identity = room.agreement, room.sites[VICTIM]._ground.identity
    message = sign_message(identity, b"var columns", VICTIM, agreement.digest, body)
    with pytest.raises(PeerError, match="site1: says nothing of its var columns that can be read"):
        read_columns(Roster(agreement.roster), VICTIM, agreement.digest, ["symbol"], message)


# An aggregator that names the genes, where a configuration has it take those that all sites have: it names few.

CHROMOSOMES = tuple(map(str, range(1, 23)))


def chromosomes(name):
    """One site's differ: nobody else is to know which they are."""
    return lambda named: [CHROMOSOMES[(i * 7 + (name == LONER) * i * i) % 22] for i in range(len(named))]


def about_genes(grounds, lead, genes):
    """What the loner says of its chromosomes in a session about its first genes, and the truth."""
    for name in grounds.names:
        grounds.edit(name, naming("chr", chromosomes(name)))
    room = lead.room(grounds, annotation=("chr",), genes="intersection").survey()
    named = room.genes[:genes]
    room.agreement = lead.replace(room.agreement, genes=named, genes_digest=genes_digest(named))
    message = room.join().sites[LONER].describe()
    said = read_columns(Roster(room.agreement.roster), LONER, room.agreement.digest, ["chr"], message)
    return said["chr"], tuple(chromosomes(LONER)(room.facts[LONER].genes)[:genes])


def test_nothing_is_said_of_few_genes_that_somebody_chose(grounds, lead):
    assert about_genes(grounds, lead, 2)[0] == Unfit.FEW_GENES


def test_of_most_of_its_genes_a_site_says_a_digest(grounds, lead):
    said, truth = about_genes(grounds, lead, 40)
    assert said == text_digest("chr", truth)


def test_the_twin_that_says_digests_of_any_genes_is_guessed(grounds, lead, monkeypatch):
    monkeypatch.setattr(Telling, "FEWEST_GENES", 0)
    said, truth = about_genes(grounds, lead, 2)
    assert [pair for pair in product(CHROMOSOMES, repeat=2) if text_digest("chr", pair) == said] == [truth]


# Which columns.


@pytest.mark.parametrize("column", ["n_cells_by_counts", "highly_variable", "mean", "dispersion_text"])
def test_a_column_that_the_policy_does_not_list_is_refused_before_the_file_is_opened(grounds, lead, column):
    grounds.data["site1"].unlink()
    with pytest.raises(RefusalError, match=f"annotation is symbol, .*var column '{column}'"):
        lead.room(grounds, annotation=(column,)).survey()


def test_a_policy_lists_columns_of_its_own(grounds, lead):
    alike_at_all(grounds, "cytoBand").rule('annotation = ["Cytoband"]')
    assert set(asked(joined(grounds, lead, "cytoBand"))[0].columns) == {"cytoBand"}
    with pytest.raises(RefusalError, match=r"annotation is Cytoband \(var column 'symbol'\)"):
        lead.room(grounds, annotation=("symbol",)).survey()


def test_no_other_column_is_told_than_the_configuration_names(grounds, lead):
    alike_at_all(grounds)
    room, other = joined(grounds, lead), lead.room(grounds, annotation=()).survey()
    other.agreement = room.agreement
    with pytest.raises(MisuseError, match="another configuration"):
        other.join()


def test_nothing_is_told_before_the_genes_are_agreed_and_once_the_session_begins(grounds, lead):
    room = lead.room(alike_at_all(grounds), annotation=("symbol",)).survey()
    with pytest.raises(MisuseError, match="tells of var columns once it has joined"):
        room.sites[VICTIM].describe()
    said = {name: site.describe() for name, site in room.join().sites.items()}
    assert room.sites[VICTIM].annotate(said)
    room.meet()
    for ask in (lambda site: site.describe(), lambda site: site.annotate(said)):
        with pytest.raises(MisuseError, match="until that begins"):
            ask(room.sites[VICTIM])


def test_who_accuses_another_falsely_is_named_with_it(grounds, lead):
    room = joined(alike_at_all(grounds), lead)
    answers = {"describe": {name: site.describe() for name, site in room.sites.items()}}
    answers["annotate"] = {VICTIM: PeerError("site2", "signs nothing")}
    federation = SimpleNamespace(ask=lambda verb, arguments: answers[verb])
    with pytest.raises(PeerError, match=r"site2: signs nothing \(so site1 says\)"):
        annotate(federation, room.agreement, ["symbol"], 60)
    answers["annotate"] = {}
    with pytest.raises(InputError, match="site 'site1': did not answer"):
        annotate(federation, room.agreement, ["symbol"], 60)
    answers["annotate"] = {VICTIM: {"symbol": ("S0",) * 60}}
    with pytest.raises(PartyFaultError, match="site1 failed in 'annotate' with an unexpected dict"):
        annotate(federation, room.agreement, ["symbol"], 60)


COMPUTED = {
    "numbers": lambda named: np.linspace(0, 1, len(named)),
    "whole numbers": lambda named: np.arange(len(named)),
    "yes and no": lambda named: np.arange(len(named)) % 2 == 0,
    "yes and no as text": lambda named: [str(i % 2 == 0) for i in range(len(named))],
    "yes and no as categories": lambda named: pd.Categorical([str(i % 2 == 0) for i in range(len(named))]),
    "categories of numbers": lambda named: pd.Categorical([i % 3 for i in range(len(named))]),
    "means as text": lambda named: [f"{i / 7:.3f}" for i in range(len(named))],
}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind in ("whole numbers", "yes and no as text") else [])
        for kind in COMPUTED
    ],
)
def test_what_may_be_computed_from_counts_is_no_text_whatever_it_is_called(grounds, lead, kind):
    alike_at_all(grounds, "symbol", "chr")
    for name in grounds.names:
        grounds.edit(name, naming("symbol", COMPUTED[kind]))
    told, sent = asked(joined(grounds, lead, "symbol", "chr"))
    why = "it holds something else than text at site1, site2, site3 and 1 more"
    assert told.left_out == {"symbol": f"Var column 'symbol' is left out: {why}."}
    assert set(told.columns) == {"chr"}
    assert sent.count(b"symbol") == len(grounds.names), "its name and why, once a site"


def test_a_column_that_one_site_lacks_or_fills_with_letters_is_left_out_with_the_sites(grounds, lead):
    alike_at_all(grounds, "symbol", "chr", "description")
    grounds.edit(LONER, lambda adata: adata.var.pop("chr"))
    grounds.edit(VICTIM, naming("description", lambda named: ["x" * (LONGEST_TEXT + 1), *named[1:]]))
    told, _ = asked(joined(grounds, lead, "symbol", "chr", "description"))
    assert told.left_out == {
        "chr": "Var column 'chr' is left out: it is missing at site3.",
        "description": "Var column 'description' is left out: it has a text of more than 256 characters at site1.",
    }


# Reading.


def text_of(frame, name):
    return texts(Annotation.of(frame, [name]), name)


def test_blanks_accents_and_what_is_missing_are_read_alike():
    index = [f"g{i}" for i in range(4)]
    plain = pd.DataFrame({"symbol": ["A B", "\u00e9", None, "7"]}, index=index)
    other = pd.DataFrame({"symbol": pd.Categorical([" A \t B", "e\u0301", np.nan, "7 "])}, index=index)
    assert text_of(plain, "symbol") == text_of(other, "symbol") == ("A B", "\u00e9", "", "7")
    assert text_of(plain.astype("string"), "symbol") == text_of(plain, "symbol")
    assert text_of(plain, "chr") is Unfit.MISSING
    assert text_of(plain.assign(symbol=None), "symbol") is Unfit.NO_TEXT
    assert text_of(pd.concat([plain, plain], axis=1), "symbol") is Unfit.NO_TEXT
    assert text_of(plain.assign(symbol=["a", "b", 1, "c"]), "symbol") is Unfit.NO_TEXT
    assert text_of(plain.assign(symbol=["1", "X", "GL000008.2", ""]), "symbol") == ("1", "X", "GL000008.2", "")
