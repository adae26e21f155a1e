"""One party's nonsense puts out that party, from the first message on: the fit goes on among the others, or says who.

Real sites on grounds of their own, led by the honest aggregator; one of them, and only one, does not keep to the rules.
"""

from itertools import count

import numpy as np
import pytest

from protocols.masking import mask_keys
from protocols.masking.pairwise_collector import PairwiseCollector
from protocols.primitives import shamir
from protocols.secure_sum import PeerError, SecureSumError
from protocols.sessions import channels
from secirls.aggregator.aggregator import Outcome
from secirls.aggregator.audit import audit
from secirls.aggregator.losses import LeftOutError
from secirls.aggregator.rounds import SecureRounds
from secirls.aggregator.transcript import read, witnessed
from secirls.agreement.order import Task
from secirls.carriers.local import LocalFederation
from secirls.outputs.report.disclosure import statements
from secirls.site.site import Answer, Site

SITES = ("site1", "site2", "site3", "site4", "site5")
LIAR = "site3"
OTHERS = tuple(site for site in SITES if site != LIAR)
USELESS = {  # points of small order, as RFC 7748 writes them
    "zero": bytes(32),
    "one": (1).to_bytes(32, "little"),
    "order 8": bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
}


class Liar(Site):
    """A site that sends what a test likes: ``spoil`` changes it once it joined, ``verbs`` change its answers."""

    def __init__(self, place, config, spoil, verbs):
        super().__init__(place, config, own_process=False)
        self.spoil, self.verbs = spoil, verbs

    def join(self, agreement):
        told = super().join(agreement)
        self.spoil(self)
        return told


def answering(verb):
    def answer(self, *given):
        honest = getattr(Site, verb)
        change = self.verbs.get(verb)
        return honest(self, *given) if change is None else change(lambda: honest(self, *given))

    return answer


for each in ("hello", "meet", "greet", "deal", "take", "assist"):
    setattr(Liar, each, answering(each))


@pytest.fixture
def five(lay):
    return lay("five", SITES, samples=50, genes=12, seed=4)


def settings(lead, grounds, rule, **changes):
    grounds.rule(f'on_dropout = "{rule}"')
    return lead.config(grounds, preset="irls", on_dropout=rule, rounds_per_batch=8, **changes)


def fit(grounds, config, names=SITES, liar=LIAR, spoil=None, transcript=None, **verbs):
    """What a fit ends with: an `Outcome` or an exception; and the sites that were not fenced."""
    parties = {name: Site(grounds.place(name), config, own_process=False) for name in names}
    if spoil is not None or verbs:
        parties[liar] = Liar(grounds.place(liar), config, spoil or (lambda site: None), verbs)
    federation = LocalFederation(parties)
    try:
        task = Task(config, "fit-1", transcript=None if transcript is None else str(transcript))
        *_, end = witnessed(task, federation)
    except Exception as error:  # noqa: BLE001 - whatever ended the fit is looked at
        end = error
    return end, federation.sites


def useless_mask_key(public):
    def spoil(site):
        own = site._party._mask_keys
        honest = own.publish
        own.publish = lambda batch: honest(batch) and public

    return spoil


def useless_channel_key(public):
    def spoil(site):
        site._party._channels.public = public

    return spoil


def goes_on_among_the_others(end, left, config, how):
    """Whether the fit is the others' and says what befell the liar."""
    assert isinstance(end, Outcome), end
    told = " ".join(statements(config, end, "local"))
    assert f"Before the first round {LIAR} {how}" in told
    assert f"Every sum is over all {len(OTHERS)} of them." in told
    return end.sites == left == OTHERS and all(told.parties == OTHERS for told in end.rounds)


@pytest.mark.parametrize(
    "public",
    [pytest.param(key, id=kind, marks=[] if kind == "zero" else pytest.mark.slow) for kind, key in USELESS.items()],
)
def test_where_it_may_go_on_a_useless_first_key_fences_its_sender(five, lay, lead, tmp_path, public):
    config = settings(lead, five, "continue")
    end, left = fit(five, config, spoil=useless_mask_key(public), transcript=tmp_path / "record")
    assert audit(tmp_path / "record").findings == []
    assert goes_on_among_the_others(end, left, config, "sent nonsense: its mask key of batch 0 is not a usable")
    again = lay("again", SITES, samples=50, genes=12, seed=4)
    alone, _ = fit(again, settings(lead, again, "continue"), names=OTHERS)
    for part in ("base_means", "dispersions", "information"):
        assert np.array_equal(getattr(end.fitted, part), getattr(alone.fitted, part), equal_nan=True)


@pytest.mark.parametrize("spoil", [useless_mask_key, useless_channel_key])
def test_where_it_may_not_one_sentence_names_the_sender(five, lead, spoil):
    end, _ = fit(five, settings(lead, five, "abort"), spoil=spoil(bytes(32)))
    assert isinstance(end, PeerError)
    assert str(end).startswith(f"{LIAR}: its ")
    assert "is not a usable X25519 key" in str(end)


def test_where_too_few_are_left_one_sentence_names_the_sender(five, lead):
    config = settings(lead, five, "continue")
    end, _ = fit(five, config, names=SITES[:3], spoil=useless_mask_key(bytes(32)))
    assert isinstance(end, LeftOutError)
    assert str(end).startswith(f"before the first round {LIAR} sent nonsense: its mask key of batch 0 is not")
    assert "too few sites are left" in str(end)


def test_the_twin_that_looks_at_no_key_fences_the_honest(five, lead, monkeypatch):
    """The broken twin: everybody but the liar breaks when all meet."""
    for room in (mask_keys, channels):
        monkeypatch.setattr(room, "can_agree", lambda public: True)
    end, _ = fit(five, settings(lead, five, "continue"), spoil=useless_mask_key(bytes(32)))
    assert isinstance(end, LeftOutError)
    assert [name for name in SITES if f"{name} broke in 'meet'" in str(end)] == list(OTHERS)
    assert LIAR not in str(end)


def test_the_twin_that_does_not_begin_anew_is_stopped_by_one_site(five, lead, monkeypatch):
    honest = SecureRounds.__init__

    def once(self, *given):
        honest(self, *given)
        self._may_begin_anew = False

    monkeypatch.setattr(SecureRounds, "__init__", once)
    end, _ = fit(five, settings(lead, five, "continue"), spoil=useless_mask_key(bytes(32)))
    assert isinstance(end, PeerError)


# Everything else that is sent before a session stands.


def cut(call):
    answer = call()
    return Answer(answer.message[:-1], answer.costs)


def flipped(call):
    answer = call()
    return Answer(answer.message[:-1] + bytes([answer.message[-1] ^ 1]), answer.costs)


def breaks(call):
    raise KeyError("Jane Doe")


def accuses(party):
    def accuse(call):
        raise PeerError(party, "sent what nobody else has seen")

    return accuse


@pytest.mark.parametrize(
    "way",
    [flipped, *(pytest.param(way, marks=pytest.mark.slow) for way in (cut, breaks))],
    ids=lambda way: way.__name__,
)
@pytest.mark.parametrize("verb", ["hello", *(pytest.param(verb, marks=pytest.mark.slow) for verb in ("meet", "greet"))])
def test_any_nonsense_before_the_session_stands_fences_its_sender(five, lead, verb, way):
    config = settings(lead, five, "continue")
    end, left = fit(five, config, **{verb: way})
    assert goes_on_among_the_others(end, left, config, "broke in" if way is breaks else "sent nonsense")


@pytest.mark.parametrize(
    "way",
    [flipped, *(pytest.param(way, marks=pytest.mark.slow) for way in (cut, breaks))],
    ids=lambda way: way.__name__,
)
def test_a_seed_that_is_dealt_as_nonsense_fences_the_dealer(five, lead, way):
    end, left = fit(five, settings(lead, five, "continue"), liar="site1", deal=way)
    assert isinstance(end, Outcome), end
    assert end.sites == left == SITES[1:]


# Accusations: what one party alone says of others.


@pytest.mark.parametrize("whom", ["site2", "aggregator"])
def test_an_accusation_that_the_aggregator_does_not_share_fences_who_makes_it(five, lead, whom):
    config = settings(lead, five, "continue")
    end, left = fit(five, config, meet=accuses(whom))
    assert goes_on_among_the_others(end, left, config, f"refused 'meet', for {whom}: sent what nobody else has seen")


@pytest.mark.parametrize(("verb", "whom"), [("meet", "site2"), ("assist", "aggregator")])
def test_under_abort_an_accusation_says_whose_it_is(five, lead, verb, whom):
    end, _ = fit(five, settings(lead, five, "abort"), **{verb: accuses(whom)})
    assert str(end) == f"{whom}: sent what nobody else has seen (so {LIAR} says)"


def from_the_ninth(way):
    calls = []

    def late(call):
        calls.append(0)
        return way(call) if len(calls) > 2 * 8 else call()  # two trips a sum, with consistency

    return late


def test_a_site_that_accuses_the_aggregator_in_a_sum_fences_itself_alone(five, lead):
    config = settings(lead, five, "continue")
    end, left = fit(five, config, assist=from_the_ninth(accuses("aggregator")))
    assert isinstance(end, Outcome), end
    assert left == OTHERS
    assert [(told.round, told.lost[0][0]) for told in end.rounds if told.lost] == [(8, LIAR)]
    assert f"{LIAR} refused 'assist', for aggregator: sent what" in " ".join(statements(config, end, "local"))


def test_the_twin_that_believes_any_accusation_is_stopped_by_one_site(five, lead, monkeypatch):
    def believing(self, accusations, verb):
        for accusation in accusations.values():
            raise accusation

    monkeypatch.setattr(SecureRounds, "_put_out", believing)
    end, _ = fit(five, settings(lead, five, "continue"), assist=from_the_ninth(accuses("aggregator")))
    assert isinstance(end, SecureSumError)


def test_the_twin_that_believes_them_of_sites_puts_out_the_honest(five, lead, monkeypatch):
    def believing(self, accusations, verb):
        self._lose(*((accusation.sender, "was accused") for accusation in accusations.values()))

    monkeypatch.setattr(SecureRounds, "_put_out", believing)
    _, left = fit(five, settings(lead, five, "continue"), meet=accuses("site2"))
    assert "site2" not in left


# False shares: the sum opens without them, and the report and the transcript say so, naming nobody.

ONE_SHARE = (
    "In round {}, one share did not fit: the sum was opened without. Nobody can be named: whoever passed a share on "
    "may have changed it, and whoever dealt it may have dealt it so."
)


def deals_falsely(site, from_round=0):
    """False shares of its seeds, which it deals at the end of each `protect`."""
    party, rounds = site._party, count()
    honest = party.protect

    def protect(vector, context):
        split = party._split
        if next(rounds) >= from_round:
            party._split = lambda *given: [{**shares, "site2": bytes(33)} for shares in split(*given)]
        try:
            return honest(vector, context)
        finally:
            party._split = split

    party.protect = protect


def told_of_shares(sentences):
    return [sentence for sentence in sentences if "share did not fit" in sentence]


def test_false_shares_put_out_nobody_and_report_and_transcript_tell_of_them(five, lead, tmp_path):
    config = settings(lead, five, "abort")
    end, left = fit(five, config, spoil=deals_falsely, transcript=tmp_path / "record")
    assert isinstance(end, Outcome), end
    assert left == end.sites == SITES
    told = told_of_shares(statements(config, end, "local"))
    assert told == [ONE_SHARE.format(told.round) for told in end.rounds]
    opened = [content["map"] for what, content in read(tmp_path / "record") if what == "opened"]
    assert [sum_["unfit"] for sum_ in opened] == [1] * len(end.rounds)
    done = audit(tmp_path / "record")
    assert done.findings == []
    assert done.rounds == len(end.rounds)


def test_where_all_shares_fit_neither_says_a_word(five, lead, tmp_path):
    config = settings(lead, five, "abort")
    end, _ = fit(five, config, transcript=tmp_path / "record")
    assert told_of_shares(statements(config, end, "local")) == []
    assert {content["map"]["unfit"] for what, content in read(tmp_path / "record") if what == "opened"} == {0}


def test_the_twin_that_keeps_it_to_itself_tells_nobody(five, lead, monkeypatch):
    honest = shamir.corrected
    monkeypatch.setattr(shamir, "corrected", lambda *given: (honest(*given)[0], 0))
    config = settings(lead, five, "abort")
    end, _ = fit(five, config, spoil=deals_falsely)
    assert isinstance(end, Outcome)
    assert told_of_shares(statements(config, end, "local")) == []


def test_the_twin_that_blames_a_holder_puts_the_honest_one_out(five, lead, monkeypatch):
    honest = PairwiseCollector._recover

    def blaming(self, owner, shares, accepts):
        secret, unfit = honest(self, owner, shares, accepts)
        holder = next(
            (party for party, index in self._room.graph.index.items() if shares.get(index) == bytes(33)), None
        )
        if unfit and holder is not None:
            raise PeerError(holder, "its share does not fit")
        return secret, unfit

    monkeypatch.setattr(PairwiseCollector, "_recover", blaming)
    end, left = fit(five, settings(lead, five, "continue"), spoil=lambda site: deals_falsely(site, from_round=8))
    assert isinstance(end, Outcome), end
    assert left == ("site1", "site3", "site4", "site5")
