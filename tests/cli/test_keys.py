"""Keys in files: made once, never replaced or shown, and a session holds to the roster."""

import json
import re
import stat
import tomllib

import pytest

import secirls
from protocols.secure_sum import MisuseError
from protocols.sessions.session import Roster
from secirls.algorithms.query import Query
from secirls.site.grounds import ground
from secirls.site.grounds.ground import SiteFile
from secirls.site.grounds.helper_ground import HelperFile, HelperPolicy, helper_template
from secirls.site.grounds.key_files import make_roster, new_key, read_identity, read_roster
from secirls.site.grounds.policy import Policy


@pytest.fixture
def keys(tmp_path):
    """Key files of three sites and their roster."""
    files = {name: new_key(name, tmp_path / "keys") for name in "abc"}
    roster = make_roster([public for _, public in files.values()])
    (tmp_path / "roster.json").write_text(roster.to_json())
    return {name: private for name, (private, _) in files.items()}, read_roster(tmp_path / "roster.json")


def test_private_files_are_for_their_owner_and_are_not_shown(tmp_path, run):
    code, shown, error = run("keys", "new", "berlin", "--out", tmp_path)
    assert (code, error) == (0, "")
    private = tmp_path / "berlin.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert json.loads(private.read_text())["ed25519_private"] not in shown
    before = private.read_bytes()
    code, _, error = run("keys", "new", "berlin", "--out", tmp_path)
    assert code == 2
    assert "not replaced" in error
    assert private.read_bytes() == before


def test_roster_command_prints_the_digest(tmp_path, keys, run):
    files = sorted((tmp_path / "keys").glob("*.pub"))
    code, shown, _ = run("keys", "roster", *files, "--out", tmp_path / "other.json")
    assert code == 0
    assert Roster.from_json((tmp_path / "other.json").read_text()).digest.hex() in shown
    assert run("keys", "roster", *files, files[0], "--out", tmp_path / "x.json")[0] == 2


@pytest.mark.parametrize("protocol", ["plain", pytest.param("additive", marks=pytest.mark.slow), "pairwise"])
def test_a_fit_with_a_roster_gives_the_same_table(make_site, keys, protocol):
    sites, (private, roster) = {name: make_site(name) for name in "abc"}, keys
    with_roster = secirls.fit(
        sites, design="~ condition", protocol=protocol, engine="local", roster=roster, keys=private
    )
    without = secirls.fit(sites, design="~ condition", protocol=protocol, engine="local")
    assert with_roster.table.equals(without.table)
    assert with_roster.report["roster"] == roster
    assert any("roster agreed beforehand" in sentence for sentence in with_roster.report["disclosure"])


def test_a_site_with_another_key_than_the_roster_is_refused(tmp_path, make_site, keys):
    sites, (private, roster) = {name: make_site(name) for name in "abc"}, keys
    impostor, _ = new_key("b", tmp_path / "elsewhere")
    with pytest.raises(MisuseError, match="another key for b than the roster's"):
        secirls.fit(sites, design="~ condition", engine="local", roster=roster, keys={**private, "b": impostor})


@pytest.mark.parametrize(
    ("roster", "told"), [("none.json", "none.json': is missing"), ("site.toml", "site.toml': is not a roster")]
)
def test_a_roster_that_is_wrong_is_told_with_the_site_and_the_ground_that_name_it(tmp_path, make_site, roster, told):
    place = tmp_path / "site.toml"
    place.write_text(f"name = 'a'\ndata = 'a.h5ad'\nroster = '{roster}'\n")
    sites = {"a": str(place), "b": make_site("b"), "c": make_site("c")}
    with pytest.raises(secirls.InputError) as refused:
        secirls.fit(sites, design="~ condition", engine="local")
    assert str(refused.value).startswith(f"site 'a', file {str(place)!r}, roster: file '")
    assert told in str(refused.value)


def test_key_files_that_are_wrong_are_named(tmp_path, make_site, keys):
    sites, (private, roster) = {name: make_site(name) for name in "abc"}, keys
    fit = {"design": "~ condition", "engine": "local", "roster": roster}
    with pytest.raises(secirls.InputError, match=r"site 'b', file '.*a\.key': holds the key of 'a'"):
        secirls.fit(sites, keys={**private, "b": private["a"]}, **fit)
    with pytest.raises(secirls.InputError, match="private key file is needed"):
        secirls.fit(sites, keys={"a": private["a"]}, **fit)
    with pytest.raises(secirls.InputError, match="no roster"):
        secirls.fit(sites, design="~ condition", engine="local", keys=private)
    (tmp_path / "bad.key").write_text("{}")
    with pytest.raises(secirls.InputError, match=r"site 'b', file '.*bad\.key': is not a key file"):
        read_identity("b", tmp_path / "bad.key")


@pytest.fixture
def ordered(tmp_path, make_site, keys):
    """Words of a fit with a roster and key files, as options and as a manifest; and the roster."""
    sites, (private, roster) = {name: str(make_site(name)) for name in "abc"}, keys
    options = ["--design", "~ condition", "--engine", "local", "--roster", tmp_path / "roster.json"]
    for name, file in sites.items():
        options += ["--site", f"{name}={file}", "--key", f"{name}={private[name]}"]
    lines = ['engine = "local"', "[sites]", *(f'{name} = "{file}"' for name, file in sites.items())]
    # As everything in a manifest: relative to it.
    lines += ["[keys]", *(f'{name} = "keys/{name}.key"' for name in sites)]
    lines += ["[fit]", 'design = "~ condition"', 'roster = "roster.json"']
    (tmp_path / "federation.toml").write_text("\n".join(lines))
    return {"options": options, "manifest": [tmp_path / "federation.toml"]}, roster


@pytest.mark.parametrize("way", ["options", "manifest"])
def test_keys_and_roster_reach_the_fit(tmp_path, ordered, run, way):
    words, roster = ordered
    code, _, error = run("fit", *words[way], "--out", tmp_path / "out")
    assert code == 0, error
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["roster"] == roster
    assert any("roster agreed beforehand" in sentence for sentence in report["disclosure"])


def test_the_command_refuses_another_key_than_the_roster_s(tmp_path, ordered, run):
    """The broken twin of both ways; it also shows that --key wins over the manifest."""
    words, _ = ordered
    impostor, _ = new_key("b", tmp_path / "elsewhere")
    for given in words.values():
        code, _, error = run("fit", *given, "--key", f"b={impostor}", "--out", tmp_path / "out")
        assert code == 2
        assert "another key for b than the roster's" in error
        assert not (tmp_path / "out").exists()


def test_a_ground_tells_which_of_its_files_are_not_where_it_looks_for_them(run, tmp_path):
    (tmp_path / "berlin").mkdir()
    out = tmp_path / "berlin" / "site.toml"
    code, shown, _ = run("ground", "berlin", "--data", "berlin.h5ad", "--roster", "ab" * 32, "--out", out)
    assert code == 0
    told = shown.replace("\n", "")
    assert f"Not there yet, where paths are from the folder of site.toml: {out.parent / 'berlin.h5ad'}, " in told
    assert told.endswith(f"{out.parent / 'berlin.key'}")
    out.unlink()
    (tmp_path / "berlin.h5ad").touch()
    (tmp_path / "berlin" / "berlin.key").touch()
    code, shown, _ = run("ground", "berlin", "--data", "../berlin.h5ad", "--roster", "ab" * 32, "--out", out)
    assert "Not there" not in shown


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ("--data", "berlin/berlin.h5ad"),
            "--data berlin/berlin.h5ad: paths are from where {} lies, and from there it is berlin.h5ad",
        ),
        (
            ("--data", "berlin.h5ad"),
            "--roster roster.json: paths are from where {} lies, and from there it is ../roster.json",
        ),
    ],
)
def test_a_ground_is_not_written_with_paths_that_are_meant_from_here(run, tmp_path, monkeypatch, files, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "berlin").mkdir()
    for name in ("berlin/berlin.h5ad", "roster.json"):
        (tmp_path / name).touch()
    code, _, error = run("ground", "berlin", *files, "--out", "berlin/site.toml")
    assert code == 2
    assert error == f"secirls: {told.format('berlin/site.toml')}\n"
    assert not (tmp_path / "berlin" / "site.toml").exists()


@pytest.mark.parametrize("name", ["a b", "a\nrules = 1", "aggregator"])
def test_a_ground_is_of_a_site_that_can_take_part(run, tmp_path, name):
    code, _, error = run("ground", name, "--data", "a.h5ad")
    assert code == 2
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "site.toml").exists()


SITE = ground.template("berlin", "berlin.h5ad", "berlin.key", "roster.json")
HELPER = helper_template("key-holder", "key-holder.key", "roster.json")
STUDY = ("[study]", "design", "layer", "levels")


def commented(text):
    """Lines that stand in a comment for whoever wants them; what they are about; and all lines in order."""
    found = re.compile(r"# (\[\w+\]|\w+(?= = )).*")
    return [(match[1], place) for place, line in enumerate(text.splitlines()) if (match := found.fullmatch(line))]


def taken(text, *places):
    """The file with these lines as they stand in their comments."""
    lines = text.splitlines()
    for place in places:
        lines[place] = lines[place].removeprefix("# ")
    kind = SiteFile if text.startswith("# The ground of site") else HelperFile
    told = kind.read("here", **tomllib.loads("\n".join(lines)))
    return Policy.read("here", **told.policy) if kind is SiteFile else told.policy


@pytest.mark.parametrize(("text", "rules"), [(SITE, Policy), (HELPER, HelperPolicy)])
def test_every_line_that_a_ground_has_in_a_comment_may_be_taken_as_it_stands(text, rules):
    """And is what holds anyway, but for two examples that say so."""
    lines = commented(text)
    assert {name for name, _ in lines} - {*STUDY} == {*rules.model_fields}
    study = [place for name, place in lines if name in STUDY]
    changed = set()
    for name, place in lines:
        told = taken(text, *(study if name in STUDY else [place]))
        values = {rule: getattr(told, rule) for rule in rules.model_fields}
        changed |= {rule for rule, value in values.items() if value != getattr(rules(), rule)}
    same = {"max_fits": 1, "refused_stages": (), "memory": ground.MEMORY, "queries": all_kinds()}
    whole = taken(text, *(place for _, place in lines))
    assert {rule: _sorted(getattr(whole, rule)) for rule in changed & {*same}} == {
        rule: _sorted(value) for rule, value in same.items() if rule in changed
    }
    assert changed - {*same} == ({"variables", "layers"} if rules is Policy else set())
    for line in text.splitlines():
        assert ("for example; any if not set" in line) == line.startswith(("# variables", "# layers"))


def _sorted(value):
    return sorted(value) if isinstance(value, tuple) else value


def all_kinds():
    """The kinds of question that this release has."""
    import importlib
    import pkgutil

    import secirls.algorithms as room

    for module in pkgutil.walk_packages(room.__path__, "secirls.algorithms."):
        importlib.import_module(module.name)

    def below(kind):
        return {kind, *(one for child in kind.__subclasses__() for one in below(child))}

    ours = (one for one in below(Query) if one.__module__.startswith("secirls."))
    return tuple({one.kind for one in ours if getattr(one, "kind", "")})


def test_the_twin_with_a_word_for_what_is_not_set_is_refused():
    place = next(place for name, place in commented(SITE) if name == "variables")
    lines = SITE.splitlines()
    lines[place] = '# variables = "not set"'
    with pytest.raises(secirls.InputError, match="variables: input should be a list"):
        taken("\n".join(lines), place)
