"""The table of all genes on the page: its data in Python, and its script run by node against a page of our making."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from secirls.outputs.page.genes import COLUMNS, STRONGEST, gene_table, shown
from secirls.outputs.page.markup import asset, data

NASTY = "<script>alert('gene')</script>"
FAKE_PAGE = Path(__file__).with_name("fake_page.js")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Run some lines after the page's script; gives what they give to ``tell``."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not on this machine, so the script of the page is not run")
    script = tmp_path_factory.mktemp("script") / "table.js"
    script.write_text(asset("table.js"), encoding="utf-8")

    def run(lines, given=None):
        begin = (
            f"const table = require({json.dumps(str(script))}), {{fakePage}} = require({json.dumps(str(FAKE_PAGE))});\n"
            "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n"
            "const tell = value => console.log(JSON.stringify(value));\n"
        )
        done = subprocess.run(
            [program, "-e", begin + lines],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def told(text):
    """The data within a table's markup."""
    return json.loads(text.split('id="genes-data">')[1].split("</script>")[0])


def test_all_genes_are_in_the_data_in_the_order_of_their_p_values(table):
    rows = told(gene_table(table.sample(frac=1.0, random_state=1)))["rows"]
    assert [row[0] for row in rows[:390]] == table.sort_values("pvalue")["gene"].tolist()[:390]
    assert {row[0] for row in rows} == set(table["gene"])
    by_gene = table.set_index("gene")
    for row in rows[:390]:
        assert row[4] == pytest.approx(by_gene["pvalue"][row[0]], rel=1e-5)
    assert all(row[4] is None for row in rows[390:])


def test_only_the_strongest_are_there_without_the_script(table):
    text = gene_table(table)
    assert text.split("<tbody>")[1].count("<tr>") == STRONGEST
    assert "noscript" in text


def test_statuses_and_reasons_are_told_once(table):
    table.loc[:9, "reason"] = "It was caught."
    found = told(gene_table(table))
    assert sorted(found["words"]) == [["converged", ""], ["converged", "It was caught."]]
    assert sum(found["words"][row[-1]][1] != "" for row in found["rows"]) == 10


ABOUT = {"symbol": "S", "chr": "", "description": "a protein that binds another and is known for it "}


TITLES = ["base mean", "log2 fold change", "standard error", "p", "adjusted p"]


def annotated(table):
    """The table with three columns about the genes, one of them of long texts, and nothing said of the second gene."""
    for name, begin in reversed(ABOUT.items()):
        table.insert(1, name, [f"{begin}{i}" if i != 1 else "" for i in range(len(table))])
    return table


def test_all_columns_of_annotation_stand_beside_the_genes(table):
    text = gene_table(annotated(table))
    rows = {row[0]: row for row in told(text)["rows"]}
    heads = re.findall(r"<th scope=\"col\"([^>]*)>([^<]*)</th>", text)
    titles = [title for _, title in heads]
    assert titles == ["gene", "symbol", "chr", *TITLES, "description", "status", "reason"], "long texts after numbers"
    described = titles.index("description")
    assert rows["gene0007"][1:3] == ["S7", "7"]
    assert rows["gene0007"][described] == ABOUT["description"] + "7"
    assert (*rows["gene0001"][1:3], rows["gene0001"][described]) == ("", "", "")
    assert [title for given, title in heads if "data-long" in given] == ["description", "reason"]
    first = text.split("<tbody>")[1].split("</tr>")[0]
    assert first.count('<td class="words">') == 3, "symbol, chromosome, status"
    assert first.count('<td class="words long">') == 2


def test_the_script_searches_and_sorts_annotation(table, node):
    text = gene_table(annotated(table))
    kinds = re.findall(r'data-kind="(\w+)"', text)
    lines = """
    const rows = table.written(given.data), texts = table.searchable(rows, given.kinds);
    const named = places => places.slice(0, 3).map(place => rows[place][0]);
    const sorted = (column, falling) => named(table.ordered(rows.map((_, i) => i), rows, column, falling));
    tell([named(table.found(texts, "S17")), named(table.found(texts, "binds 399")), sorted(2, false), sorted(1, true)])
    """
    found, binding, first, last = node(lines, {"data": told(text), "kinds": kinds})
    assert len(found) == 3
    assert set(found) <= {f"gene{number:04d}" for number in (17, *range(170, 180))}
    assert binding == ["gene0399"]
    assert first == ["gene0000", "gene0002", "gene0003"], "2 before 10, and what is missing last"
    assert last == ["gene0399", "gene0398", "gene0397"]


def test_long_texts_are_drawn_over_several_lines_and_short_ones_are_not(node):
    lines = """
    const page = fakePage(given.kinds, 1, given.data), table_ = page.named["genes-table"];
    table_.querySelectorAll("thead th")[3].dataset.long = "";
    table.start(page);
    tell(table_.querySelectorAll("tbody tr")[0].children.map(cell => cell.className || ""))
    """
    rows = [["g", 0.5, 0]]
    made = node(
        lines, {"kinds": ["text", "p", "text", "text"], "data": {"rows": rows, "words": [["converged", "why"]]}}
    )
    assert made == ["", "", "words", "words long"]


@pytest.mark.parametrize("value", ["</script>", "<!--", "]]>", "&lt;", NASTY, "\u2028", "\U0001f9ec"])
def test_data_never_ends_its_element_and_comes_back_the_same(value):
    text = data("x", [value])
    inside = text.removeprefix('<script type="application/json" id="x">').removesuffix("</script>")
    assert not set("<>&") & set(inside)
    assert json.loads(inside) == [value]


def test_data_with_a_number_that_json_has_not_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        data("x", math.nan)


def test_script_and_page_write_numbers_alike(node):
    rng = np.random.default_rng(2)
    values = [*rng.lognormal(0, 6, 200).tolist(), *(-rng.lognormal(0, 2, 50)).tolist(), 0.0, 1e-300, 1.0]  # no halves
    kinds = sorted({column.kind for column in COLUMNS})
    cells = [[kind, value] for kind in kinds for value in [*values, None]]
    assert len(kinds) == 4
    made = node("tell(given.map(([kind, value]) => table.shown(kind, value)))", cells)
    assert made == [shown(kind, value) for kind, value in cells]


def test_the_script_finds_rows_that_hold_every_word(node):
    rows = [["TP53", 1.0, "converged", ""], ["MT-TP1", 2.0, "caught", "It was Caught."], ["x", 3.0, "converged", ""]]
    asked = ["", "tp", " TP  caught ", "converged", "1.0", "nothing"]
    lines = "const texts = table.searchable(given.rows, given.kinds); tell(given.asked.map(a => table.found(texts, a)))"
    made = node(lines, {"rows": rows, "kinds": ["text", "p", "text", "text"], "asked": asked})
    assert made == [[0, 1, 2], [0, 1], [1], [0, 2], [], []]


def test_the_script_sorts_stably_with_missing_values_last(node):
    rows = [["a", 2.0], ["b", None], ["c", -1.0], ["d", 2.0], ["", 0.0]]
    made = node(
        "tell([[1, false], [1, true], [0, true]].map(([c, f]) => table.ordered([0, 1, 2, 3, 4], given, c, f)))", rows
    )
    assert made == [[2, 4, 0, 3, 1], [0, 3, 4, 2, 1], [3, 2, 1, 0, 4]]


DRIVE = """
const page = fakePage(given.kinds, 1, given.data), at = page.named, seen = [];
const state = () => {
  const rows = at["genes-table"].querySelectorAll("tbody")[0].children;
  seen.push([rows.length, rows.length ? rows[0].children[0].textContent : "", at.told.textContent, at.more.hidden]);
};
table.start(page); state();
at.more.fire("click"); state();
const field = at.search.querySelector("input"), ask = text => { field.value = text; field.fire("input"); state(); };
ask("script"); ask("nothing there"); ask("");
const heads = at["genes-table"].querySelectorAll("thead th");
heads[1].children[0].fire("click"); state();
heads[0].children[0].fire("click"); state();
tell({seen, sorted: heads.map(head => head.attributes["aria-sort"] || ""), hidden: at.search.hidden});
"""


def test_the_table_is_drawn_a_hundred_rows_at_a_time_and_names_stay_text(node):
    rows = [[f"gene{i:03d}", i / 1000, 0] for i in range(250)]
    rows[7][0] = NASTY
    made = node(DRIVE, {"kinds": ["text", "p", "text", "text"], "data": {"rows": rows, "words": [["converged", ""]]}})
    assert made["seen"] == [
        [100, "gene000", "250 of 250 genes, 100 shown", False],
        [200, "gene000", "250 of 250 genes, 200 shown", False],
        [1, NASTY, "1 of 250 genes, 1 shown", True],
        [0, "", "0 of 250 genes, 0 shown", True],
        [100, "gene000", "250 of 250 genes, 100 shown", False],
        [100, "gene249", "250 of 250 genes, 100 shown", False],
        [100, NASTY, "250 of 250 genes, 100 shown", False],
    ]
    assert made["sorted"] == ["ascending", "", "", ""]
    assert made["hidden"] is False


def test_a_script_that_made_markup_of_names_would_be_caught(node):
    with pytest.raises(AssertionError, match="markup is made from text"):
        node("const page = fakePage(['text'], 0, {}); page.createElement('td').innerHTML = '<b>'; tell(0)")


def test_a_table_of_thirty_thousand_genes_answers_quickly(node):
    rows = [[f"ENSG{i:011d}", (i * 7919) % 30_000 / 30_000, 0] for i in range(30_000)]
    timed = DRIVE.replace("tell({", "given.last = performance.now(); tell({ms: given.last - given.first,").replace(
        "table.start", "given.first = performance.now(); table.start"
    )
    made = node(timed, {"kinds": ["text", "p", "text", "text"], "data": {"rows": rows, "words": [["converged", ""]]}})
    assert made["seen"][0][0] == 100
    assert made["ms"] < 5_000  # seven searches and sorts; a script that drew all rows would not end in a minute


def test_no_number_of_a_table_is_not_a_number(table):
    table.loc[:3, "log2FoldChange"] = [np.inf, -np.inf, np.nan, -0.0]
    for row in told(gene_table(table))["rows"]:
        assert all(not isinstance(value, float) or math.isfinite(value) for value in row)
    assert told(gene_table(pd.DataFrame(table).iloc[:0]))["rows"] == []


def test_a_number_of_the_page_is_shown_as_the_number_itself(table):
    """3656.2503 in six digits is 3656.25, which is shown as 3,656.2; the terminal and the files have 3,656.3."""
    table.loc[:2, "baseMean"] = [3656.2503, 2649.85000003, 12.0]
    table.loc[:2, "pvalue"] = [1e-300, 1e-299, 1e-298]
    rows = told(gene_table(table))["rows"][:3]
    assert shown("mean", float(f"{3656.2503:.6g}")) == "3,656.2"
    assert [shown("mean", row[1]) for row in rows] == ["3,656.3", "2,649.9", "12.0"]
    by_gene = table.set_index("gene")
    kinds = {column.name: column.kind for column in COLUMNS if column.name in table}
    for row in told(gene_table(table))["rows"]:
        for value, (name, kind) in zip(row[1:], kinds.items(), strict=False):
            assert value is None or shown(kind, value) == shown(kind, by_gene.loc[row[0], name])
