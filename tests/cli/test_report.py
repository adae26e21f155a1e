"""``secirls report``: one page that stands alone, from the folder's files; and the figures a Result gives."""

import json
import re
import shutil
from html.parser import HTMLParser

import anndata
import pytest
from typer.testing import CliRunner

import secirls
from secirls.cli.commands import app
from secirls.input_error import InputError
from secirls.inputs.datasets import AIRWAY_LEVELS
from secirls.outputs.report_page import html_page, read_fit, write_page

NASTY = "<script>alert('gene')</script>"


@pytest.fixture(scope="module")
def small_fit(tmp_path_factory, airway_sites):
    """Airway with every 32nd gene, one of which is called NA and one like a script."""
    sites = {}
    for name, path in airway_sites.items():
        few = anndata.read_h5ad(path)[:, ::32].copy()
        few.var_names = [NASTY, "NA", *few.var_names[2:]]
        sites[name] = few
    result = secirls.fit(sites, design="~ condition", levels=AIRWAY_LEVELS, engine="local")
    folder = tmp_path_factory.mktemp("report") / "fit"
    result.write(folder)
    return result, folder


@pytest.fixture
def folder(small_fit, tmp_path):
    return shutil.copytree(small_fit[1], tmp_path / "fit")


class Sources(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]


def parsed(page):
    reader = Sources()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def test_the_page_stands_alone_and_says_what_was_disclosed(folder, small_fit):
    shown = CliRunner().invoke(app, ["report", str(folder)])
    assert shown.exit_code == 0
    page = folder / "report.html"
    text, reader = page.read_text(encoding="utf-8"), parsed(page)
    assert reader.tags.count("img") == 4
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert "script" not in reader.tags
    assert not re.search(r"https?://|@import|url\(", text)
    for sentence in small_fit[0].report["disclosure"]:
        assert sentence.split(". ")[0].split("'")[0] in text
    assert f"{len(small_fit[0].table):,} genes" in text


def test_the_page_check_sees_a_page_that_fetches_something(tmp_path):
    page = tmp_path / "twin.html"
    page.write_text("<img src='plot.png'><script></script>", encoding="utf-8")
    assert parsed(page).sources == ["plot.png"]
    assert "script" in parsed(page).tags


def test_genes_with_strange_names_are_shown_as_text(folder):
    table = read_fit(folder)[0]
    assert {"NA", NASTY} <= set(table["gene"])
    table.loc[table["gene"].isin(["NA", NASTY]), "pvalue"] = 1e-299
    text = html_page(table, *read_fit(folder)[1:])
    assert NASTY not in text
    assert "&lt;script&gt;" in text
    assert "<td>NA</td>" in text


@pytest.mark.parametrize("name", ["results.csv", "coefficients.csv", "rounds.csv", "report.json"])
def test_a_folder_that_lacks_a_file_is_refused_by_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        write_page(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("report.json", "{", "is not JSON"),
        ("report.json", json.dumps({"run": "x"}), "is missing"),
        ("results.csv", "gene,pvalue\na,1\n", "'baseMean' is missing"),
        ("rounds.csv", "", "can't be read as CSV"),
    ],
)
def test_a_damaged_file_ends_in_one_sentence(folder, name, text, says):
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as error:
        write_page(folder)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is missing"):
        write_page(tmp_path / "nowhere")


def test_a_result_gives_figures_of_its_own_numbers(small_fit):
    result = small_fit[0]
    (axes,) = result.plot_volcano().axes
    dots = sum(len(cloud.get_offsets()) for cloud in axes.collections)
    assert dots == result.table["pvalue"].notna().sum()
    (axes,) = result.plot_convergence().axes
    assert sorted(bar.get_height() for bar in axes.patches) == sorted(
        told["active_genes"] for told in result.report["rounds"]
    )
    above, below = result.plot_overhead().axes
    costs = result.ledger[result.ledger["verb"] != "wait"]
    assert sum(bar.get_height() for bar in above.patches) == pytest.approx(1e3 * costs["cpu_seconds"].sum())
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(
        (costs["bytes_up"] + costs["bytes_down"])[costs["role"] == "site"].sum() / 1e6
    )
