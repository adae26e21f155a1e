"""Every experiment runs, is interrupted and goes on, and its kept answers are those of its kept rows."""

import itertools
import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from experiments.__main__ import NAMES, experiment, main
from experiments.groundwork import record
from experiments.groundwork.record import Experiment, Measurement, SkippedError
from experiments.sums.peer_sums import OURS, PACKAGES, THEIRS, ours
from secirls.input_error import InputError

KEPT = record.RESULTS
INDEX = record.HERE / "README.md"
PNG = b"\x89PNG\r\n"


def absent(name):
    """The sentences that have to be in run.json for want of packages of others; none for every other experiment."""
    if name not in ("peers", "cost", "speed"):
        return []
    wanted = []
    for step in experiment(name).plan(experiment(name).configured(quick=True)):
        parts = step.key.split("/")
        package = PACKAGES.get(parts[1]) if name == "peers" else None
        if package is not None and find_spec(package) is None:
            wanted.append(f"{step.key}: {package} is not installed: pip install -e '.[peers]'")
        if name != "peers" and "FedPyDESeq2" in parts:
            wanted.append(
                f"{step.key}: SECIRLS_FEDPYDESEQ2_PYTHON names no interpreter with fedpydeseq2, "
                "which can't be installed beside secirls"
            )
    return wanted


@pytest.fixture(autouse=True)
def _no_other_interpreter(monkeypatch):
    """FedPyDESeq2 takes longer than a test may, wherever its interpreter is named."""
    monkeypatch.delenv("SECIRLS_FEDPYDESEQ2_PYTHON", raising=False)


EVERYDAY = ("fidelity",)
"""Experiments that run in a few seconds; `quick_leakage` and ``test_dispersion_experiment.py`` look at two more."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERYDAY else [pytest.mark.slow]) for name in NAMES]
)
@pytest.mark.filterwarnings("ignore::Warning:pydeseq2")
def test_an_experiment_runs_quickly_and_redraws_from_its_rows_alone(name, tmp_path, capsys):
    assert main([name, "--quick", "--out", str(tmp_path)]) == 0
    folder = tmp_path / f"{name}-quick"
    rows = (folder / "rows.csv").read_bytes()
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert told["configuration"] == json.loads(json.dumps(experiment(name).configured(quick=True)))
    assert told["skipped"] == absent(name)
    figures = {file.name: file.read_bytes() for file in folder.glob("*.png")}
    assert f"{name}.png" in figures
    assert all(data.startswith(PNG) for data in figures.values())
    for file in folder.glob("*.png"):
        file.unlink()
    assert main([name, "--quick", "--plot", "--out", str(tmp_path)]) == 0
    assert {file.name: file.read_bytes() for file in folder.glob("*.png")} == figures
    assert (folder / "rows.csv").read_bytes() == rows
    sentence = capsys.readouterr().out.splitlines()[-2]
    assert sentence.endswith(".")
    assert "nan" not in sentence


@pytest.mark.parametrize("name", NAMES)
def test_the_index_says_what_the_kept_rows_say(name):
    rows = record.read(KEPT / name / "rows.csv")
    index = re.sub(r"\s+", " ", INDEX.read_text(encoding="utf-8"))
    assert experiment(name).answer(rows) in index
    assert experiment(name).question in index
    told = json.loads((KEPT / name / "run.json").read_text(encoding="utf-8"))
    assert told["configuration"] == json.loads(json.dumps(experiment(name).configuration))
    keys = [step.key for step in experiment(name).plan(experiment(name).configuration)]
    skipped = [sentence.split(": ")[0] for sentence in told["skipped"]]
    assert sorted([*record.done(KEPT / name / "rows.csv"), *skipped]) == sorted(keys)
    for figure in (KEPT / name).glob("*.png"):
        assert f"results/{name}/{figure.name}" in index


@pytest.fixture(scope="module")
def quick_leakage(tmp_path_factory):
    root = tmp_path_factory.mktemp("leakage")
    return record.read(record.run(experiment("leakage"), quick=True, root=root) / "rows.csv")


def test_the_attack_reads_every_count_in_the_clear_and_none_under_masks(quick_leakage):
    rows = quick_leakage[(quick_leakage["attack"] == "summand") & (quick_leakage["x"] == 1)].set_index("rule")
    assert rows.loc["none", "exact"] == 1.0
    assert rows.loc["none", "guesses"] > 100
    assert rows.loc["pairwise", "exact"] < 0.05


def test_payload_bytes_look_uniform_under_every_layer_and_not_without_one(quick_leakage):
    rows = quick_leakage[quick_leakage["attack"] == "layers"]
    hidden = rows["rule"] != "none"
    assert (rows.loc[hidden, "departure"].abs() < 6).all()
    assert (rows.loc[~hidden, "departure"] > 1000).all()


def test_a_fit_stops_rather_than_open_a_sum_without_a_site(quick_leakage):
    rows = quick_leakage[(quick_leakage["attack"] == "difference") & (quick_leakage["rule"] == "abort")]
    assert len(rows)
    assert rows["outcome"].str.contains("fell silent, so the fit stops").all()


def shares(rows, attack, rule, ends=""):
    mine = rows[(rows["attack"] == attack) & (rows["rule"] == rule) & rows["outcome"].str.endswith(ends)]
    assert len(mine)
    return mine.set_index("view")["exact"]


def test_a_design_by_site_gives_every_count_summed_and_at_home_none_to_a_site(quick_leakage):
    """The twin of columns at home is columns summed: the same fit gives everything."""
    from experiments.leakage.by_site import CHANCE, OWN, UNTOLD

    assert (shares(quick_leakage, "attribution", "none") > 0.99).all()
    untold, chance = (shares(quick_leakage, "attribution", OWN, how) for how in (UNTOLD, CHANCE))
    assert (untold <= chance + 0.1).all()
    assert (untold < 0.9).all()


def test_the_pooled_counts_of_six_samples_follow_from_a_profile_and_all_means(quick_leakage):
    from experiments.leakage.by_site import OWN, TOLD

    recovered = shares(quick_leakage, "multiset", OWN)
    assert (recovered[["below 2", "2 to 10"]] >= 0.9).all()
    assert recovered["50 and more"] < 0.9  # the same solver, where the sums say too little
    assert shares(quick_leakage, "attribution", OWN, TOLD)["2 to 10"] > 0.9


def test_without_the_profile_the_solver_recovers_hardly_anything():
    """So it solves the sums and does not look at the truth: the twin has the totals of a gene and no likelihood."""
    from experiments.groundwork.data_sets import open_set
    from experiments.leakage.by_site import DESIGN, Generous, Solver, thinned
    from experiments.leakage.eavesdrop import listen

    witness = Generous()
    session = listen(
        thinned(open_set("simulated-60x6x3", 4), 4),
        "plain",
        design=DESIGN,
        preset="deseq2",
        cooks=False,
        witness=witness,
    )
    given = witness.given
    whole = Solver.of(session, given)
    blind = Solver(whole.query, given, whole.sums, whole.alphas, np.zeros_like(whole.starts))
    genes = np.flatnonzero((given.counts.mean(axis=1) > 2) & (given.counts.mean(axis=1) < 20))
    assert genes.size > 5

    def recovered(solver):
        found = (solver.solve(gene, given.mu[gene]).sum(axis=0) for gene in genes)
        truth = (np.bincount(given.counts[gene]) for gene in genes)
        return np.mean([np.array_equal(np.trim_zeros(np.rint(f), "b"), t) for f, t in zip(found, truth, strict=True)])

    assert recovered(whole) > 0.8
    assert recovered(blind) < 0.3


def test_the_worst_case_that_a_report_tells_is_that_of_the_kept_rows():
    from experiments.leakage.by_site import BINS, MEANS
    from secirls.outputs.report.disclosure import RECOVERED

    rows = record.read(KEPT / "leakage" / "rows.csv")
    exact = rows[(rows["attack"] == "multiset") & rows["outcome"].str.endswith(next(iter(MEANS)))]
    most = [*sorted(RECOVERED), 10**9]
    for least, above in pairwise(most):
        here = exact[(exact["x"] >= least) & (exact["x"] < above)].groupby("view")["exact"].max()
        assert len(here)
        assert RECOVERED[least] == tuple(round(100 * here.get(view, 0.0)) for view in BINS)


def test_only_the_exact_ways_of_adding_are_exact():
    from experiments.sums.fidelity import exact_sum, in_floats, in_ring, quantised

    parts = [np.array([1.0, 1e10, 0.1]), np.array([2.0**-52, 1.0, 0.2]), np.array([2.0**-53, -1e10, 0.3])]
    truth = exact_sum(parts)
    assert np.array_equal(in_ring(parts, 64, 2)[0], truth)
    assert not np.array_equal(in_floats(parts)[0], truth)
    assert not np.array_equal(quantised(parts, 32)[0], truth)
    assert in_ring(parts, 32, 1)[1].any()  # beyond the compact ring's bound: refused, not clipped


def fractions(parties):
    return [np.random.default_rng(party).uniform(-1, 1, 40) for party in range(parties)]


@pytest.mark.parametrize("protocol", OURS)
def test_a_sum_beside_the_peers_is_exact_and_its_cost_is_booked(protocol):
    from experiments.sums.fidelity import exact_sum

    parts = fractions(4)
    done = ours(protocol, parts, key_bits=2048)
    assert np.array_equal(done.total, exact_sum(parts))
    assert done.protect > 0
    assert done.bytes_up >= 16 * 40  # a site sends at least its vector


@pytest.mark.parametrize("way", THEIRS)
def test_a_peer_sums_what_it_is_given(way):
    pytest.importorskip(PACKAGES[way])
    parts = fractions(4)
    done = THEIRS[way](parts)
    # the coarsest has 2^22 levels between -1 and 1, rounds at random, and four parties add up
    assert np.abs(done.total - np.sum(parts, axis=0)).max() < 4 * 2.0**-21
    assert not np.allclose(done.total, np.sum(parts[1:], axis=0), atol=1e-3)
    assert done.protect > 0
    assert done.bytes_up >= 8 * 40


def test_the_site_that_leaves_a_fit_is_in_no_later_sum_and_stops_it_under_abort():
    from experiments.groundwork.data_sets import open_set
    from experiments.sums.dropout import fit_with_leaver

    data = open_set("simulated-60x16x4", 6)
    whole = fit_with_leaver(data, None, "abort")
    assert {len(told.parties) for told in whole.irls_rounds} == {4}
    after = fit_with_leaver(data, 2, "continue")
    assert [len(told.parties) for told in after.irls_rounds[:4]] == [4, 4, 3, 3]
    stopped = fit_with_leaver(data, 2, "abort")
    assert stopped.state is None
    assert len(stopped.irls_rounds) == 2
    assert stopped.stopped.endswith("fell silent, so the fit stops here")


def toy(measured, *, interrupt_at=None):
    """An experiment of four measurements that notes which were made."""

    def measure(number):
        if number == interrupt_at:
            raise KeyboardInterrupt
        if number == 3:
            raise SkippedError("there is no three here")
        measured.append(number)
        return [{"number": number, "square": number**2 + part} for part in (0, 1)]

    def plan(configuration):
        return [Measurement(f"step {n}", lambda n=n: measure(n)) for n in range(configuration["steps"])]

    return Experiment("toy", "Is it?", {"seed": 0, "steps": 5}, {}, plan, lambda _: {}, lambda rows: f"{len(rows)}.")


def test_an_interrupted_run_keeps_whole_measurements_and_goes_on_after_them(tmp_path):
    measured = []
    with pytest.raises(KeyboardInterrupt):
        record.run(toy(measured, interrupt_at=2), quick=False, root=tmp_path)
    rows = tmp_path / "toy" / "rows.csv"
    assert list(pd.read_csv(rows)["square"]) == [0, 1, 1, 2]
    record.run(toy(measured), quick=False, root=tmp_path)
    assert measured == [0, 1, 2, 4]
    assert list(pd.read_csv(rows)["number"]) == [0, 0, 1, 1, 2, 2, 4, 4]
    told = json.loads((tmp_path / "toy" / "run.json").read_text(encoding="utf-8"))
    assert told["skipped"] == ["step 3: there is no three here"]


def test_a_run_may_be_asked_for_a_part_says_what_it_left_and_goes_on_later(tmp_path):
    measured = []
    folder = record.run(toy(measured), quick=False, root=tmp_path, only=["step 1", "step 3"])
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert measured == [1]
    asked, left = ["step 3: there is no three here"], [f"step {number}: not asked for" for number in (0, 2, 4)]
    assert told["skipped"] == left + asked
    record.run(toy(measured), quick=False, root=tmp_path)
    assert measured == [1, 0, 2, 4]
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["skipped"] == asked


def test_a_run_says_how_many_minutes_all_its_parts_took_an_interrupted_one_too(tmp_path, monkeypatch):
    clock = itertools.count(step=30.0)
    monkeypatch.setattr(record.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(record, "steps", lambda _, named: (call() for _, call in named))
    with pytest.raises(KeyboardInterrupt):
        record.run(toy([], interrupt_at=2), quick=False, root=tmp_path)
    folder = record.run(toy([]), quick=False, root=tmp_path)
    assert (
        json.loads((folder / "run.json").read_text(encoding="utf-8"))["minutes"] == 1.0 + 1.5
    )  # two steps, then three


def test_a_measurement_that_fails_half_way_leaves_no_row(tmp_path):
    def halfway():
        yield {"number": 1}
        raise RuntimeError("half way")

    broken = Experiment(
        "broken", "?", {"seed": 0}, {}, lambda _: [Measurement("a", halfway)], lambda _: {}, lambda _: ""
    )
    with pytest.raises(RuntimeError, match="half way"):
        record.run(broken, quick=False, root=tmp_path)
    assert not (tmp_path / "broken" / "rows.csv").exists()


def test_rows_of_another_configuration_are_not_continued_but_replaced_when_asked(tmp_path):
    measured = []
    record.run(toy(measured), quick=False, root=tmp_path)
    one = toy(measured)
    other = Experiment("toy", "Is it?", {"seed": 1, "steps": 1}, {}, one.plan, one.figures, one.answer)
    with pytest.raises(InputError, match="another configuration"):
        record.run(other, quick=False, root=tmp_path)
    record.run(other, quick=False, fresh=True, root=tmp_path)
    assert list(pd.read_csv(tmp_path / "toy" / "rows.csv")["number"]) == [0, 0]


def test_the_commit_is_clean_until_code_changes(tmp_path):
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")

    def run(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run([git, "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    here = tmp_path / "experiments"
    for folder in ("experiments/results", "protocols", "secirls"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("1", encoding="utf-8")
    run("init")
    run("add", ".")
    run("commit", "-m", "Begin")
    clean = record.commit(here)
    assert re.fullmatch("[0-9a-f]{40,64}", clean)
    (here / "results" / "a.py").write_text("2", encoding="utf-8")
    (here / "README.md").write_text("an answer", encoding="utf-8")
    assert record.commit(here) == clean
    (tmp_path / "protocols" / "a.py").write_text("2", encoding="utf-8")
    assert record.commit(here) == f"{clean} and changes"


def test_a_run_with_nothing_left_to_measure_does_not_claim_its_rows(tmp_path, monkeypatch):
    whole = toy([])
    two = Experiment("toy", "Is it?", {"seed": 0, "steps": 2}, {}, whole.plan, whole.figures, whole.answer)
    monkeypatch.setattr(record, "commit", lambda: "first")
    plan = toy([], interrupt_at=1).plan
    interrupted = Experiment("toy", "Is it?", two.configuration, {}, plan, two.figures, two.answer)
    with pytest.raises(KeyboardInterrupt):
        record.run(interrupted, quick=False, root=tmp_path)
    for later, told in (("second", "first, then second"), ("third", "first, then second")):
        monkeypatch.setattr(record, "commit", lambda later=later: later)
        folder = record.run(two, quick=False, root=tmp_path)
        assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["commit"] == told


def test_quick_runs_stay_away_from_kept_results():
    assert record.folder_of("overhead", quick=True) != record.folder_of("overhead", quick=False)
    assert "/experiments/results/*-quick/" in (KEPT.parents[1] / ".gitignore").read_text(encoding="utf-8")


def test_redrawing_without_rows_ends_in_a_sentence(tmp_path, capsys):
    assert main(["overhead", "--plot", "--out", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert "run the experiment first" in shown
    assert "Traceback" not in shown
