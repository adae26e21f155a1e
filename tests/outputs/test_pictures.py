"""Pictures hold the points of their tables: counted, within limits or marked at the edge, named without collisions."""

import itertools

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest

from secirls.input_error import InputError
from secirls.outputs.free_folder import PICTURES
from secirls.outputs.pictures.album import Album
from secirls.outputs.pictures.canvas import KINDS, legend_below, marker, packed, panels, png, save
from secirls.outputs.pictures.changes import drawn_names, mean_and_change, volcano
from secirls.outputs.pictures.dispersions import RINGED, dispersions
from secirls.outputs.pictures.edges import CUT, Window, cloud, usual_size
from secirls.outputs.pictures.names import NAMED, name_points
from secirls.outputs.pictures.pvalues import COOKS, cooks_counts, pvalue_histogram
from secirls.outputs.pictures.rounds import convergence, cost_by_round, overhead
from secirls.outputs.pictures.scores import site_scores
from secirls.outputs.tables.shrunken import SHRUNKEN

UP, DOWN, SMALL = "adjusted p < 0.05, up", "adjusted p < 0.05, down", "adjusted p < 0.05, smaller change"


@pytest.fixture
def album(table, report, ledger, of_dispersions):
    return Album(table, report, ledger, of_dispersions, ledger.assign(protocol="plain"))


def clouds(axes):
    """Points by label."""
    return {cloud.get_label(): cloud.get_offsets() for cloud in axes.collections}


def points(axes):
    """How many points are drawn, as dots and as triangles; rings around them are not points."""
    drawn = {label: len(offsets) for label, offsets in clouds(axes).items() if label != NAMED}
    triangles = sum(count for label, count in drawn.items() if label.startswith(CUT))
    return sum(drawn.values()) - triangles, triangles


def told(figure):
    """The words of the legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def names(axes):
    return [text for text in axes.texts if text.get_text()]


def collisions(axes):
    """Pairs of names that stand on one another, and names that leave the axes."""
    axes.figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in names(axes)]
    pairs = [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]
    room = axes.bbox
    return pairs + [
        a for a, box in boxes if box.x0 < room.x0 or box.x1 > room.x1 or box.y0 < room.y0 or box.y1 > room.y1
    ]


def outside(figure):
    """How far what is drawn runs over the picture's border, in inches; nothing where it does not."""
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    over = {"left": -drawn.x0, "right": drawn.x1 - width, "bottom": -drawn.y0, "top": drawn.y1 - height}
    return {side: size for side, size in over.items() if size > 0.01}


def test_the_volcano_counts_up_down_and_small_changes(table):
    figure = volcano(table)
    (axes,) = figure.axes
    drawn = clouds(axes)
    triangles = {label: len(offsets) for label, offsets in drawn.items() if label.startswith(CUT)}
    assert triangles == {f"{CUT} right: {UP}": 2, f"{CUT} left: {DOWN}": 1}
    assert (len(drawn[UP]), len(drawn[DOWN]), len(drawn[SMALL])) == (58, 39, 30)
    assert sum(points(axes)) == 390
    assert {f"{UP} (60)", f"{DOWN} (40)", f"{SMALL} (30)", "other (260)", "beyond the axis (3)"} <= set(told(figure))
    assert (drawn[UP][:, 0] > 1).all()
    assert (drawn[DOWN][:, 0] < -1).all()
    assert sorted(line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":") == [-1.0, 1.0]


def test_the_line_of_the_volcano_parts_found_genes_from_others(table):
    (axes,) = volcano(table).axes
    (line,) = [line for line in axes.lines if line.get_linestyle() == "--"]
    height = -np.log10(table["pvalue"])
    found = table["padj"] < 0.05
    assert height[found].min() == line.get_ydata()[0] > height[~found].max()


def test_the_ma_picture_draws_every_gene_with_a_mean_once(table):
    table.loc[5, "baseMean"] = 0.0  # has no place on a logarithmic axis
    table.loc[6, "log2FoldChange"] = np.nan
    figure = mean_and_change(table)
    (axes,) = figure.axes
    assert sum(points(axes)) == 398
    assert points(axes)[1] == 3
    assert "beyond the axis (3)" in told(figure)


def test_points_that_an_axis_simply_cuts_would_be_missed(table):
    figure, ((axes,),) = panels(1, 1, width=4, height=4)
    x = table["log2FoldChange"].to_numpy()
    axes.scatter(x, table["baseMean"])
    axes.set_xlim(-3, 3)
    seen = [left for left, _ in clouds(axes).popitem()[1] if -3 <= left <= 3]
    assert len(seen) < len(x)
    cut = cloud(figure.axes[0], x, x, Window(left=-3, right=3), colour="red", label="all")
    assert cut == len(x) - len(seen)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ([], 1.0),
        ([0.0, np.nan], 1.0),
        ([1.0, -2.0], 2.1),
        ([*np.full(999, 1.0), 50.0], 1.3),
        ([*np.zeros(999), 50.0], 52.5),
    ],
)
def test_a_few_far_values_do_not_set_the_limit(values, size):
    assert usual_size(np.array(values)) == pytest.approx(size)


def test_a_limit_that_was_asked_for_is_kept_and_a_wrong_one_refused(table):
    (axes,) = volcano(table, limit=2.0).axes
    assert axes.get_xlim() == pytest.approx((-2.08, 2.08))
    assert points(axes)[1] == (table["log2FoldChange"].abs() > 2).sum()
    for limit in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="above zero"):
            mean_and_change(table, limit=limit)


def test_names_collide_neither_with_each_other_nor_with_the_border(table):
    table.loc[:40, "pvalue"] = 10.0 ** -np.linspace(50, 50.5, 41)  # all in one place
    table.loc[:40, "log2FoldChange"] = np.linspace(1.5, 1.6, 41)
    for figure in (volcano(table, named=40), mean_and_change(table, named=40)):
        (axes,) = figure.axes
        assert 3 <= len(names(axes)) <= 40
        assert collisions(axes) == []
        assert len(clouds(axes)[NAMED]) == len(names(axes))


def test_names_that_are_simply_written_beside_points_collide():
    _, ((axes,),) = panels(1, 1, width=4, height=4)
    x = np.linspace(1.0, 1.1, 9)
    axes.set(xlim=(0, 1.1), ylim=(0, 2))
    for left in x:
        axes.annotate(f"gene{left:.3f}", (left, 1.0), xytext=(5, 0), textcoords="offset points")
    assert len(collisions(axes)) > 9
    for text in list(axes.texts):
        text.remove()
    assert name_points(axes, x, np.ones(9), [f"gene{left:.3f}" for left in x])
    assert collisions(axes) == []


def test_genes_are_named_by_labels_where_those_have_a_name(table):
    labels = {"gene0002": "CRISPLD2", "gene0003": " ", "gene0004": None, "gene0005": "$x_{"}
    called = drawn_names(table.head(7), labels)
    assert called == ["gene0000", "gene0001", "CRISPLD2", "gene0003", "gene0004", "$x_{", "gene0006"]
    assert drawn_names(table.head(2).set_index("gene"), pd.Series({"gene0001": "B"})) == ["gene0000", "B"]
    table.loc[2, ["pvalue", "padj"]] = 1e-90
    assert "CRISPLD2" in [text.get_text() for text in volcano(table, labels=labels).axes[0].texts]


def test_an_album_shows_itself_in_a_line(album):
    assert repr(album) == f"<Pictures of {album.contrast}: {', '.join(album.drawn())}>"
    assert "\n" not in repr(album.ma)


def test_an_album_names_genes_by_a_column_of_symbols(album):
    assert album.labels is None
    album.table.insert(1, "symbol", [f"SYM{i}" for i in range(400)])
    written = [text.get_text() for text in names(album.volcano().axes[0])]
    assert written
    assert all(name.startswith("SYM") for name in written)


def test_thresholds_are_those_that_were_asked_for(album):
    assert (album.alpha, album.fold) == (0.05, 1.0)
    album.report["independent_filtering"] = None
    album.report["configuration"] |= {"alpha": 0.2, "lfc_threshold": 0.5}
    assert (album.alpha, album.fold) == (0.2, 0.5)
    album.report.update(alpha=0.01, lfc_threshold=0.0)  # of a comparison made afterwards
    assert (album.alpha, album.fold) == (0.01, 1.0)
    assert "adjusted p = 0.01" in told(album.volcano())


def test_a_test_of_several_coefficients_has_no_up_and_down(album):
    album.report["configuration"]["test"] = "lrt"
    for figure in (album.volcano(), album.ma()):
        (axes,) = figure.axes
        assert not {UP, DOWN, SMALL} & set(clouds(axes))
        assert not [line for line in axes.lines if line.get_linestyle() == ":"]
        assert "adjusted p < 0.05 (130)" in told(figure)


def test_changes_that_were_tested_to_be_small_are_neither_up_nor_down(album):
    assert {UP, DOWN} <= set(clouds(album.ma().axes[0]))
    for where in (album.report["configuration"], album.report):  # of a fit before reports had it, and of any after
        where.update(alternative="lessAbs", lfc_threshold=1.5)
        for figure in (album.volcano(), album.ma()):
            assert not {UP, DOWN, SMALL} & set(clouds(figure.axes[0]))
            assert "adjusted p < 0.05, within ±1.5 (130)" in told(figure)
    album.report["alternative"] = "greaterAbs"  # of a comparison made afterwards
    assert {UP, DOWN} <= set(clouds(album.ma().axes[0]))


def test_p_values_of_a_likelihood_ratio_have_its_designs_for_a_title(album):
    assert album.pvalues().axes[0].get_title() == album.contrast
    album.report["test"] = {"test": "lrt", "reduced": "~ 1"}
    assert album.pvalues().axes[0].get_title() == "~ condition against ~ 1"


def test_shrunken_fold_changes_stand_beside_the_others_on_one_scale(album):
    assert len(album.ma().axes) == 1
    album.table[SHRUNKEN] = album.table["log2FoldChange"] / 10
    left, right = album.ma().axes
    assert left.get_ylim() == right.get_ylim()
    assert (points(left)[1], points(right)[1]) == (3, 0)
    assert "shrunken" in right.get_ylabel()


def test_p_values_of_zero_are_at_the_upper_edge(table):
    table.loc[:4, ["pvalue", "padj"]] = 0.0
    (axes,) = volcano(table, limit=40.0).axes
    assert {label: len(of) for label, of in clouds(axes).items() if label.startswith(CUT)} == {f"{CUT} top: {UP}": 5}


def test_outliers_of_dispersion_are_ringed_and_low_ones_marked(of_dispersions):
    figure = dispersions(of_dispersions)
    (axes,) = figure.axes
    drawn = clouds(axes)
    ringed = of_dispersions[of_dispersions["dispOutlier"]]
    assert np.array_equal(drawn[RINGED], ringed[["baseMean", "dispersion"]].to_numpy())
    assert len(drawn["gene by gene"]) == 294
    assert len(drawn[f"{CUT} bottom: gene by gene"]) == 5
    assert {"below the axis (5)", "kept as outliers (12)", "gene by gene (299)"} <= set(told(figure))
    (trend,) = [line for line in axes.lines if line.get_label() == "trend"]
    assert (np.diff(trend.get_xdata()) > 0).all()
    none = dispersions(of_dispersions.assign(dispOutlier=False)).axes[0]
    assert len(clouds(none)[RINGED]) == 0


def test_every_p_value_is_in_one_bar(table):
    figure = pvalue_histogram(table)
    (axes,) = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == 390
    assert {"in adjusted p-values (380)", "left out by the filter on base means (10)"} <= set(told(figure))


def test_counts_of_outliers_are_the_reports(report):
    (axes,) = cooks_counts(report["outliers"]).axes
    assert [bar.get_width() for bar in axes.patches] == [7, 1, 4, 2]
    assert [text.get_text() for text in axes.texts] == ["7", "1", "4", "2"]
    assert set(COOKS) < set(report["outliers"])
    for none in (None, {"looked_for": False}):
        assert [text.get_text() for text in cooks_counts(none).axes[0].texts] == ["outliers were not looked for"]


def test_bars_of_rounds_and_costs_add_up_to_what_was_booked(album, ledger, report):
    assert [bar.get_height() for bar in album.convergence().axes[0].patches] == [500, 400, 30, 0]
    costs = ledger[ledger["verb"] != "wait"]
    cpu, sent = costs["cpu_seconds"].sum(), (costs["bytes_up"] + costs["bytes_down"])[costs["role"] == "site"].sum()
    left, right = overhead(ledger).axes
    assert sum(bar.get_width() for bar in left.patches) == pytest.approx(cpu)
    assert sum(bar.get_width() for bar in right.patches) == pytest.approx(sent / 1e6)
    left, right = album.overhead().axes  # beside the clear, here the same costs again
    assert sum(bar.get_width() for bar in left.patches) == pytest.approx(2 * cpu)
    above, below = cost_by_round(ledger).axes
    assert sum(bar.get_height() for bar in above.patches) == pytest.approx(1e3 * cpu)
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(sent / 1e6)
    assert cpu < ledger["cpu_seconds"].sum() - 200  # waiting would show


def test_no_picture_runs_over_its_border(album):
    album.table[SHRUNKEN] = album.table["log2FoldChange"]
    pictures = {name: draw() for name, draw in album.drawn().items()}
    assert set(pictures) == {
        "ma", "volcano", "pvalues", "dispersions", "outliers", "convergence", "overhead", "cost_by_round",
    }  # fmt: skip
    assert [name for name, figure in pictures.items() if outside(figure)] == []


def test_a_legend_too_wide_would_be_noticed():
    figure, _ = panels(1, 1, width=4, height=3)
    legend_below(figure, [marker("red", "a few words, too many of them")] * 4, columns=4)
    assert outside(figure)


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("state", ["as it is", "missing", pytest.param("zero", marks=pytest.mark.slow)])
def test_tables_of_nothing_and_of_one_gene_are_drawn(album, rows, state):
    few, by_mean = album.table.head(rows).copy(), album.of_dispersions.head(rows).copy()
    numbers = ["baseMean", "log2FoldChange", "pvalue", "padj"]
    if state == "missing":
        few[numbers] = by_mean["dispGeneEst"] = np.nan
    if state == "zero":
        few[numbers] = 0.0
        by_mean[["baseMean", "dispGeneEst"]] = 0.0
    nothing = rows == 0 or state == "missing"
    for figure in (volcano(few), mean_and_change(few), pvalue_histogram(few), dispersions(by_mean)):
        assert png(figure)[:4] == b"\x89PNG"
        if nothing:
            assert figure.axes[0].texts[0].get_text().startswith("no gene has")
    assert png(convergence([]))[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "pdf" else []) for kind in KINDS]
)
def test_the_same_picture_gives_the_same_bytes(album, kind):
    for draw in (album.volcano, album.overhead):
        assert packed(draw(), kind) == packed(draw(), kind)


def test_matplotlibs_own_svg_is_another_each_time(album, tmp_path):
    for name in ("a.svg", "b.svg"):
        matplotlib.figure.Figure.savefig(album.overhead(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_twenty_thousand_points_stay_small_in_vector_formats():
    rng = np.random.default_rng(3)
    n = 20_000
    pvalue = rng.uniform(0, 1, n)
    many = pd.DataFrame({"gene": np.arange(n).astype(str), "baseMean": rng.uniform(1, 1e4, n), "pvalue": pvalue})
    figure = volcano(many.assign(log2FoldChange=rng.normal(size=n), padj=pvalue), named=0)
    small = len(packed(figure, "svg"))
    for points in figure.axes[0].collections:
        points.set_rasterized(False)
    assert small < 600_000 < 3 * small < len(packed(figure, "svg"))


def test_an_album_is_saved_in_the_kinds_asked_for_and_no_other(album, tmp_path):
    written = album.save(tmp_path / "new", ["png", "png"])
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == sorted(file.name for file in written)
    assert tuple(file.stem for file in written) == PICTURES
    with pytest.raises(InputError, match="no kind 'gif'"):
        album.save(tmp_path / "other", ["png", "gif"])
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match="not 'gif'"):
        save(album.pvalues(), tmp_path / "a.gif")


def test_pictures_that_a_fit_does_not_have_are_left_out(album, report, ledger, table):
    bare = Album(table, {**report, "outliers": None}, ledger)
    assert {"dispersions", "outliers"} == set(album.drawn()) - set(bare.drawn())
    with pytest.raises(InputError, match="no dispersions"):
        bare.dispersions()


def test_dollar_signs_are_no_formulas_wherever_they_stand(album, ledger, report):
    wild = "$x_{ $"
    rounds = [told | {"stage": wild} for told in report["rounds"]]
    costs = ledger.assign(protocol=wild, verb=ledger["verb"].replace("open", wild))
    for figure in (
        convergence(rounds, wild),
        overhead(costs, costs, wild),
        cost_by_round(costs),
        volcano(album.table, wild),
    ):
        assert png(figure)[:4] == b"\x89PNG"


def test_a_notebook_shows_a_picture_by_itself(album):
    assert album.volcano()._repr_png_()[:4] == b"\x89PNG"


def test_a_stage_that_asks_about_no_gene_is_said_to_and_no_other():
    asked = {"census": 7, "cells": 0, "profile": 3}
    rounds = [
        {"round": number, "stage": stage, "active_genes": genes} for number, (stage, genes) in enumerate(asked.items())
    ]
    told = [
        entry.get_text() for entry in convergence([told | {"query": "q"} for told in rounds]).legends[0].get_texts()
    ]
    assert told == ["census", "cells (of no gene)", "profile"]


def test_scores_have_a_colour_a_level_and_a_scale_for_many_numbers():
    scores = pd.DataFrame({"PC1": np.arange(12.0), "PC2": np.arange(12.0)[::-1]})
    scores["ward"], scores["patient"] = ["w1", "w2"] * 6, [f"p{i}" for i in range(12)]
    scores["age"] = [np.nan, np.inf, *range(40, 50)]
    scores["whole"] = pd.array([None, *range(11)], dtype="Int64")
    titles = ["PC1", "PC2"]
    assert told(site_scores(scores, titles, "ward")) == ["w1 (6)", "w2 (6)"]
    for column, known in (("age", 10), ("whole", 11)):
        axes, bar = site_scores(scores, titles, column).axes
        assert bar.get_ylabel() == column
        grey, coloured = axes.collections
        assert (len(grey.get_offsets()), len(coloured.get_offsets())) == (12 - known, known)
        assert np.array_equal(coloured.get_array(), scores[column].to_numpy(float, na_value=np.nan)[12 - known :])
    assert len(site_scores(scores, titles, "patient").axes) == 1
    assert not told(site_scores(scores, titles, "patient"))
