"""A helper agrees to a session by its own ground: the aggregator hands it no roster of invented sites.

The site below holds no roster of its own, so that the helper's ground alone stands between it and three sites that the
aggregator invented. The twins are the helper that knows no roster, and the one that does not look at it.
"""

import sys

import numpy as np
import pytest

import secirls
from protocols.encryption import paillier, paillier_messages, paillier_threshold
from protocols.primitives.keys import Identity
from protocols.secure_sum import MisuseError, PeerError
from protocols.sessions import settings
from protocols.sessions.session import Roster
from secirls.agreement.agreement import Agreement
from secirls.algorithms.groundwork.normalisation import LogCountsQuery
from secirls.cli.commands import main
from secirls.input_error import InputError
from secirls.site.grounds.helper_ground import HelperGround, HelperPolicy, helper_template
from secirls.site.grounds.key_files import make_roster, new_key
from secirls.site.grounds.policy import Policy, RefusalError
from secirls.site.helper import Helper

SMALL = {"key_bits": 512, "insecure_test_keys": True}
ALLOWED = 'protocols = ["paillier", "paillier-threshold"]\nmin_key_bits = 0'
HELPERS = pytest.mark.parametrize(
    ("protocol", "helper"), [("paillier", "key-holder"), ("paillier-threshold", "key-dealer")]
)


def ground_of(grounds, helper, rules="min_key_bits = 0", roster=None):
    """Write a helper's ground in a folder of its own; its path."""
    own = grounds.folder / helper
    own.mkdir(exist_ok=True)
    told = roster or str(grounds.folder / grounds.names[0] / "roster.json")
    file = own / f"{helper}.toml"
    file.write_text(helper_template(helper, str(grounds.keys / f"{helper}.key"), told) + rules + "\n")
    return str(file)


def room_of(lead, grounds, protocol, key, **changes):
    room = lead.room(grounds, protocol=protocol, **SMALL, **changes)
    return lead.Room(room.places, room.config, helper_keys=dict.fromkeys(grounds.helpers, key))


@pytest.fixture
def laid(lay):
    return lambda helper: lay(beside=(helper,)).rule(ALLOWED)


@HELPERS
def test_a_helper_on_its_own_ground_works(laid, lead, protocol, helper):
    grounds = laid(helper)
    room = room_of(lead, grounds, protocol, ground_of(grounds, helper)).open()
    room.census()
    assert np.array_equal(room.total(LogCountsQuery(room.every))["zeros"], (grounds.all_counts() == 0).sum(axis=0))


def among_invented(grounds, lay, lead, protocol, helper, key):
    """One real site that holds no roster, three invented ones, and the real helper, told the invented roster."""
    fake = lay("fake", seed=9).rule(ALLOWED)
    for trusting in (fake, grounds):
        trusting.trust()
    path = grounds.folder / "site1" / "site.toml"
    path.write_text(
        path.read_text().replace("roster = ", "# roster = ").replace(ALLOWED, f"{ALLOWED}\nrequire_roster = false")
    )
    for name in fake.names:
        with (fake.folder / name / "site.toml").open("a") as file:
            file.write("require_roster = false\n")
        own = fake.folder / name / "site.toml"
        own.write_text(own.read_text().replace("roster = ", "# roster = ", 1))
    places = {name: fake.place(name) for name in fake.names} | {"site1": grounds.place("site1")}
    told = {**fake.told(), "site1": grounds.told()["site1"], helper: grounds.told()[helper]}
    config = lead.config(fake, roster=told, protocol=protocol, trust_aggregator=True, **SMALL)
    return lead.Room(places, config, helper_keys={helper: key}), fake


def reads_site1(room, grounds, fake):
    """Whether the opened sum, without what the aggregator invented, is the real site's own."""
    room.join().meet().census()
    zeros = room.total(LogCountsQuery(room.every))["zeros"]
    known = sum((fake.counts(name) == 0).sum(axis=0) for name in fake.names[1:])
    return np.array_equal(zeros - known, (grounds.counts("site1") == 0).sum(axis=0))


@HELPERS
@pytest.mark.parametrize("known", ["file", "digest"])
def test_a_helper_joins_no_session_of_invented_sites(laid, lay, lead, protocol, helper, known):
    grounds = laid(helper)
    publics = [grounds.keys / f"{name}.pub" for name in (*grounds.names, helper)]
    digest = make_roster(publics).digest.hex()
    key = ground_of(grounds, helper, roster=digest if known == "digest" else None)
    room, _ = among_invented(grounds, lay, lead, protocol, helper, key)
    room.survey()
    why = "another roster than it knows by its digest" if known == "digest" else "another key for site2 than the roster"
    with pytest.raises(MisuseError, match=f"was announced to {helper} with {why}"):
        room.helpers[helper].join(room.agreement)
    honest = room_of(lead, grounds, protocol, key).survey()
    assert honest.helpers[helper].join(honest.agreement) is False


@HELPERS
@pytest.mark.parametrize("twin", [pytest.param("simulated", marks=pytest.mark.slow), "blind"])
def test_a_helper_that_believes_its_driver_opens_one_sites_own_sum(
    laid, lay, lead, protocol, helper, twin, monkeypatch
):
    grounds = laid(helper)
    key = str(grounds.keys / f"{helper}.key") if twin == "simulated" else ground_of(grounds, helper)
    if twin == "blind":
        monkeypatch.setattr(HelperGround, "check", lambda *_: None)
    room, fake = among_invented(grounds, lay, lead, protocol, helper, key)
    assert reads_site1(room.survey(), grounds, fake)


@HELPERS
@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("", r"512 bits is shorter than the 3072 demanded"),
        ("min_key_bits = 0\nmin_sites = 5", "policy refuses: min_sites is 5"),
        ("min_key_bits = 0\nmax_colluders = 3", "3 of 4 sites colluding, fewer than two are left"),
    ],
)
def test_a_helper_keeps_its_own_rules(laid, lead, protocol, helper, rules, refused):
    grounds = laid(helper)
    room = room_of(lead, grounds, protocol, ground_of(grounds, helper, rules)).survey()
    with pytest.raises((MisuseError, RefusalError), match=refused):
        room.helpers[helper].join(room.agreement)
    believing = room_of(lead, grounds, protocol, str(grounds.keys / f"{helper}.key")).survey()
    assert believing.helpers[helper].join(believing.agreement) is True


def opens_without_one(lead, grounds, key):
    """Whom a sum is opened over, after everybody answered and one site's answer is left out."""
    room = room_of(lead, grounds, "paillier", key, on_dropout="continue").open()
    room.census()
    _, context, sent = room.payloads(LogCountsQuery(room.every))
    del sent["site4"]
    return room.add_up(sent, context).parties


@pytest.mark.usefixtures("at_any_question")
@pytest.mark.parametrize(
    ("rules", "refused"),
    [("", "without site4"), ('min_sites = 4\non_dropout = "continue"', "key-holder's policy refuses: min_sites is 4")],
)
def test_a_key_holder_opens_no_sum_over_fewer_sites_than_its_rules_say(laid, lead, rules, refused):
    grounds = laid("key-holder").rule('on_dropout = "continue"')
    with pytest.raises((PeerError, RefusalError), match=refused):
        opens_without_one(lead, grounds, ground_of(grounds, "key-holder", f"min_key_bits = 0\n{rules}"))


@pytest.mark.usefixtures("at_any_question")
@pytest.mark.parametrize("twin", ["simulated", "rules"])
def test_a_key_holder_without_such_a_rule_opens_it(laid, lead, twin):
    grounds = laid("key-holder").rule('on_dropout = "continue"')
    own = ground_of(grounds, "key-holder", 'min_key_bits = 0\non_dropout = "continue"')
    key = own if twin == "rules" else str(grounds.keys / "key-holder.key")
    assert opens_without_one(lead, grounds, key) == ("site1", "site2", "site3")


def opens_what_one_was_not_asked(lead, grounds, key):
    """Whom a sum is opened over that one site was not asked to answer: all of its context, and not all agreed ones."""
    room = room_of(lead, grounds, "paillier", key, on_dropout="continue").open()
    room.census()
    _, context, sent = room.payloads(LogCountsQuery(room.every), room.names[:3])
    assert context.cohort == room.names[:3]
    return room.add_up(sent, context).parties


@pytest.mark.usefixtures("at_any_question")
def test_a_key_holder_opens_no_sum_that_one_of_the_agreed_sites_was_not_asked_for(laid, lead):
    grounds = laid("key-holder").rule('on_dropout = "continue"')
    with pytest.raises(PeerError, match="asks the key-holder to open a sum over other sites than were agreed"):
        opens_what_one_was_not_asked(lead, grounds, ground_of(grounds, "key-holder"))


@pytest.mark.usefixtures("at_any_question")
def test_the_twin_that_knows_a_sums_own_cohort_alone_opens_it(laid, lead, monkeypatch):
    grounds = laid("key-holder").rule('on_dropout = "continue"')
    honest = HelperGround.demands
    blind = {"opening": lambda context, present: None}
    monkeypatch.setattr(HelperGround, "demands", lambda *given: lead.replace(honest(*given), **blind))
    assert opens_what_one_was_not_asked(lead, grounds, ground_of(grounds, "key-holder")) == ("site1", "site2", "site3")


def test_a_helpers_rules_are_a_sites_with_the_same_defaults_and_ends():
    for name, rule in HelperPolicy.model_fields.items():
        sites = Policy.model_fields[name]
        assert (rule.annotation, rule.default, rule.metadata) == (sites.annotation, sites.default, sites.metadata)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"config_digest": "0" * 64}, "another configuration"),
        ({"version": "0.0.9"}, "runs version"),
        ({"sites": ("site2", "site1", "site3", "site4")}, "not sorted"),
        ({"sites": ("site1", "site2", "site3")}, "other names"),
    ],
)
def test_a_helper_refuses_an_agreement_about_something_else(laid, lead, change, problem):
    grounds = laid("key-holder")
    room = room_of(lead, grounds, "paillier", ground_of(grounds, "key-holder")).survey()
    with pytest.raises(MisuseError, match=problem):
        room.helpers["key-holder"].join(lead.replace(room.agreement, **change))


def test_a_helper_refuses_an_agreement_with_another_key_of_its_own(laid, lead):
    grounds = laid("key-holder")
    room = room_of(lead, grounds, "paillier", ground_of(grounds, "key-holder")).survey()
    keys = room.agreement.roster
    with pytest.raises(MisuseError, match="its own key was told differently"):
        room.helpers["key-holder"].join(lead.replace(room.agreement, roster={**keys, "key-holder": keys["site1"]}))


def fit(grounds, key, engine, **options):
    told = {"design": "~ condition", "kernel": "numpy", "preset": "irls", "protocol": "paillier", **SMALL, **options}
    sites = {name: grounds.place(name).source for name in grounds.names}
    return secirls.fit(sites, engine=engine, keys={"key-holder": key}, **told)


def told_of_helpers(result):
    return [sentence for sentence in result.report["disclosure"] if sentence.startswith("The key-holder was started")]


@pytest.mark.slow
def test_in_processes_of_their_own_a_fit_says_whether_the_helper_stood_on_its_ground(laid):
    grounds = laid("key-holder")
    result = fit(grounds, ground_of(grounds, "key-holder"), "ray")
    assert result.report["simulated"] == []
    assert not told_of_helpers(result)
    believing = fit(grounds, str(grounds.keys / "key-holder.key"), "local")
    assert believing.report["simulated"] == ["key-holder"]
    assert len(told_of_helpers(believing)) == 1
    assert any("roster agreed beforehand" in told for told in believing.report["disclosure"])


@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_helper_reads_its_own_roster_and_not_the_drivers(laid, tmp_path, engine):
    """The driver's roster names everybody truly; the helper's own names another site."""
    grounds = laid("key-holder")
    impostor = new_key("site2", tmp_path / "elsewhere")[1]
    publics = [grounds.keys / f"{name}.pub" for name in ("site1", "site3", "site4", "key-holder")]
    (grounds.folder / "other.json").write_text(make_roster([*publics, impostor]).to_json())
    key = ground_of(grounds, "key-holder", roster=str(grounds.folder / "other.json"))
    with pytest.raises(MisuseError, match="announced to key-holder with another key for site2"):
        fit(grounds, key, engine, roster=grounds.told())


def test_the_command_writes_a_helpers_ground(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, public = new_key("key-holder", tmp_path)
    publics = [public, *(new_key(name, tmp_path)[1] for name in "abc")]
    (tmp_path / "roster.json").write_text(make_roster(publics).to_json())
    monkeypatch.setattr(sys, "argv", ["secirls", "ground", "key-holder"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (None, 0)
    assert "--key key-holder=key-holder.toml" in capsys.readouterr().out
    helper = Helper("key-holder", secirls.Config(design="~ condition", protocol="paillier"), "key-holder.toml")
    assert helper.key() == make_roster([public]).keys["key-holder"]
    for rule in HelperPolicy.model_fields:
        assert f"\n# {rule} = " in (tmp_path / "key-holder.toml").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["key-dealer", "--data", "x.h5ad"], "has no data"),
        (["lyon"], "--data is missing"),
    ],
)
def test_the_command_knows_who_has_data(tmp_path, monkeypatch, capsys, words, problem):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["secirls", "ground", *words])
    with pytest.raises(SystemExit):
        main()
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('name = "key-holder"\nkey = "k"', "roster"),
        ('name = "key-dealer"\nkey = "k"\nroster = "r"', "is the ground of 'key-dealer'"),
        ('name = "key-holder"\nkey = "k"\nroster = "r"\n[policy]\nmin_site = 3', "min_site"),
        ("name = ", "is not TOML"),
        ('name = "key-holder"\nkey = "none.key"\nroster = "r"', "none.key"),
    ],
)
def test_a_ground_that_is_wrong_ends_in_a_sentence(tmp_path, text, problem):
    (tmp_path / "holder.toml").write_text(text)
    helper = Helper(
        "key-holder", secirls.Config(design="~ condition", protocol="paillier"), str(tmp_path / "holder.toml")
    )
    with pytest.raises(InputError, match=problem) as refused:
        helper.key()
    assert "\n" not in str(refused.value)


# A key whose search has no end.

ENDLESS = 1 << 16


class SearchedError(Exception):
    """A helper began to search for primes."""


def joins(grounds, lead, monkeypatch, protocol, helper, key):
    """A helper that is told of a session with a key of that length; it raises where it would search for one."""

    def began(bits, *_, **__):
        raise SearchedError(bits)

    monkeypatch.setattr(paillier, "make_key", began)
    monkeypatch.setattr(paillier_threshold, "search_safe_key", began)
    config = lead.config(grounds, protocol=protocol, key_bits=ENDLESS)
    told = Agreement(config.digest, grounds.names, bytes_of(grounds.told()), {}, b"", None, arithmetic=b"")
    Helper(helper, config, key).join(told)


def bytes_of(roster):
    return {name: bytes.fromhex(key) for name, key in roster.items()}


@HELPERS
def test_no_helper_searches_for_a_key_of_any_length(laid, lead, monkeypatch, protocol, helper):
    grounds = laid(helper)
    with pytest.raises(
        MisuseError, match=r"^a Paillier key of 65536 bits: choose a multiple of 64 from 2048 to 15360$"
    ):
        joins(grounds, lead, monkeypatch, protocol, helper, ground_of(grounds, helper, ""))


@HELPERS
def test_the_twin_without_a_longest_key_searches_on(laid, lead, monkeypatch, protocol, helper):
    grounds = laid(helper)
    monkeypatch.setattr(settings, "MOST_KEY_BITS", ENDLESS)
    with pytest.raises(SearchedError, match=str(ENDLESS)):
        joins(grounds, lead, monkeypatch, protocol, helper, ground_of(grounds, helper, ""))


def test_the_longest_key_is_still_taken():
    longest = settings.Settings(key_bits=settings.MOST_KEY_BITS)
    roster = Roster({name: Identity(bytes([i]) * 32).public for i, name in enumerate(("a", "b", "c", "key-holder"))})
    assert paillier_messages.Terms(roster, longest).key_bits == 15_360
