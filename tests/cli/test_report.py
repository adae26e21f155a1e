"""``secirls report``: one page that stands alone, from the folder's files; and the pictures a Result gives."""

import base64
import hashlib
import html
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
from secirls.outputs.page.report_page import STAY_HOME, html_page, read_album, read_fit, write_page

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


@pytest.fixture
def blank(monkeypatch):
    """Pictures are composed and not rasterised, for tests that look at the words around them."""
    monkeypatch.setattr("secirls.outputs.page.report_page.png", lambda figure: b"")


class Sources(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.anchors, self.open, self.wrong = [], [], [], [], []
        self.scripts, self.words = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.anchors += [value for name, value in attrs if name == "id"]
        self.wrong += [f"{tag} has {name}" for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> closes another element")

    def handle_data(self, data):
        (self.scripts if self.open[-1:] == ["script"] else self.words).append(data)


VOID = {"meta", "img", "input"}


def parsed(page):
    reader = Sources()
    reader.feed(page.read_text(encoding="utf-8") if hasattr(page, "read_text") else page)
    reader.close()
    return reader


def faults(reader):
    """Where a page is not well-formed, fetches something, leads nowhere or has an anchor twice."""
    wrong = [*reader.wrong, *[f"{tag} is not closed" for tag in reader.open]]
    wrong += [f"{anchor} is there twice" for anchor in set(reader.anchors) if reader.anchors.count(anchor) > 1]
    for source in reader.sources:
        if source.startswith("#"):
            wrong += [] if source[1:] in reader.anchors else [f"{source} leads nowhere"]
        elif not source.startswith("data:image/png;base64,"):
            wrong.append(f"{source} is fetched")
    return wrong


def test_the_page_stands_alone_and_says_what_was_disclosed(folder, small_fit):
    shown = CliRunner().invoke(app, ["report", str(folder)])
    assert shown.exit_code == 0
    page = folder / "report.html"
    text, reader = page.read_text(encoding="utf-8"), parsed(page)
    assert faults(reader) == []
    assert reader.tags.count("img") == 7  # no outliers are looked for in cells of four
    assert not re.search(r"https?://|@import|url\(|//[a-z]+\.", text)
    for sentence in [*small_fit[0].report["disclosure"], STAY_HOME]:
        assert html.escape(sentence) in text
    assert f"{len(small_fit[0].table):,} genes" in text
    assert re.search(r"\b20\d\d-\d\d-\d\d \d\d:\d\d UTC", text)
    assert {"changes", "genes", "cost", "disclosure", "configuration"} <= set(reader.anchors)


@pytest.mark.slow
def test_no_script_runs_but_the_pages_own(folder, undrawn):
    reader = parsed(write_page(folder))
    policy = re.search(r"script-src '([^']*)'\"", (folder / "report.html").read_text(encoding="utf-8")).group(1)
    data, script = reader.scripts
    assert policy == "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert reader.tags.count("script") == 2
    assert len(json.loads(data)["rows"]) == len(read_fit(folder)[0])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<img src='plot.png'>", "plot.png is fetched"),
        ("<p id=a></p><p id=a></p>", "a is there twice"),
        ("<a href='#b'></a>", "#b leads nowhere"),
        ("<p><b></p></b>", "</p> closes another element"),
        ("<p>", "p is not closed"),
        ("<p onclick='x'></p>", "p has onclick"),
    ],
)
def test_the_page_check_sees_a_page_that_is_wrong(text, fault):
    assert fault in faults(parsed(text))


def test_genes_with_strange_names_are_shown_as_text(folder, blank):
    album = read_album(folder)
    assert {"NA", NASTY} <= set(album.table["gene"])
    album.table.loc[album.table["gene"].isin(["NA", NASTY]), "pvalue"] = 1e-299
    text = html_page(album)
    assert NASTY not in text
    assert "&lt;script&gt;" in text
    assert '<th scope="row">NA</th>' in text
    data = json.loads(parsed(text).scripts[0])
    assert [row[0] for row in data["rows"][:2]] in (["NA", NASTY], [NASTY, "NA"])


def test_text_that_is_not_ours_is_escaped_wherever_it_stands(folder, blank):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    end = "</script></style></title>\"'><script>alert(1)</script>"
    report |= {"contrast": end, "run": end, "disclosure": [end], "engine": end, "versions": {end: end}, "date": end}
    report["configuration"] |= {end: end, "design": end}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    table = read_fit(folder)[0]
    table.loc[:3, ["status", "reason"]] = end
    table.insert(1, "symbol", end)
    table.to_csv(folder / "results.csv", index=False)
    reader = parsed(write_page(folder))
    assert faults(reader) == []
    assert reader.tags.count("script") == 2
    assert end in "".join(reader.words)


def test_annotation_is_read_as_the_text_that_it_is(folder, undrawn):
    table = read_fit(folder)[0]
    table.insert(1, "chr", ["01", "1.0", "NA", *["1"] * (len(table) - 3)])
    table.to_csv(folder / "results.csv", index=False)
    assert read_fit(folder)[0]["chr"].tolist()[:4] == ["01", "1.0", "NA", "1"]
    data = json.loads(parsed(write_page(folder)).scripts[0])
    assert {row[1] for row in data["rows"]} == {"01", "1.0", "NA", "1"}


def test_settings_other_than_the_presets_are_shown_and_all_are_folded(folder, undrawn):
    text = write_page(folder).read_text(encoding="utf-8")
    shown = text[text.index('<section id="configuration">') : text.index('<section id="versions">')]
    short, folded = shown.split("<details>")
    assert re.findall(r'<th scope="row">(\w+)</th>', short) == ["design", "levels"]
    assert set(re.findall(r'<th scope="row">(\w+)</th>', folded)) == set(secirls.Config.model_fields)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    report["configuration"] |= {"alpha": 0.2, "of_another_version": 3}
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    shown = (
        write_page(folder).read_text(encoding="utf-8").split('<section id="configuration">')[1].split("<details>")[0]
    )
    assert {"alpha", "of_another_version"} <= set(re.findall(r'<th scope="row">(\w+)</th>', shown))


def test_the_cost_stands_beside_the_clear_where_that_was_measured(folder, undrawn):
    assert "in the clear" not in write_page(folder).read_text(encoding="utf-8").split('<section id="cost">')[1]
    (folder / "plain").mkdir()
    for name in ("results.csv", "rounds.csv"):
        shutil.copy(folder / name, folder / "plain")
    cost = write_page(folder).read_text(encoding="utf-8").split('<section id="cost">')[1].split("</section>")[0]
    assert cost.count('<th scope="col">in the clear</th>') == 4
    (total,) = re.findall(r'<th scope="row">sum, without waiting</th>(.*?)</tr>', cost)
    cells = re.findall(r"<td>([^<]*)</td>", total)
    assert cells[::2] == cells[1::2]
    ledger = read_fit(folder)[1]
    mine = ledger[ledger["verb"] != "wait"]
    assert cells[2] == f"{mine['cpu_seconds'].sum():,.3f}"
    assert cells[4] == f"{mine['bytes_up'].sum() / 1e6:,.2f}"


def test_the_cost_does_not_stand_beside_another_fits(folder, undrawn):
    """A fit that is written over a demo's finds the demo's fit in the clear below it."""
    clear = shutil.copytree(folder, folder / "plain")
    table = read_fit(clear)[0]
    table.loc[table["stat"].first_valid_index(), "stat"] *= 0.5
    table.to_csv(clear / "results.csv", index=False)
    assert "in the clear" not in write_page(folder).read_text(encoding="utf-8").split('<section id="cost">')[1]


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


@pytest.mark.slow
def test_a_result_gives_pictures_of_its_own_numbers(small_fit, tmp_path):
    result = small_fit[0]
    (axes,) = result.plots.volcano(named=0).axes
    dots = sum(len(cloud.get_offsets()) for cloud in axes.collections)
    assert dots == result.table["pvalue"].notna().sum()
    (axes,) = result.plots.convergence().axes
    assert sorted(bar.get_height() for bar in axes.patches) == sorted(
        told["active_genes"] for told in result.report["rounds"]
    )
    written = result.plots.save(tmp_path, ["svg"])
    assert {file.stem for file in written} == {
        "ma", "volcano", "pvalues", "dispersions", "convergence", "overhead", "cost_by_round",
    }  # fmt: skip


@pytest.mark.slow
def test_pictures_are_written_beside_results_in_the_kinds_asked_for(trial, run, tmp_path):
    sites = [word for name, path in trial.write().items() for word in ("--site", f"{name}={path}")]
    fit = ("fit", *sites, "--design", "~ condition", "--engine", "local", "--protocol", "plain")
    code, _, error = run(*fit, "--out", tmp_path / "none", "--plots", "png,gif")
    assert code == 2
    assert "--plots 'png,gif': pictures: there is no kind 'gif'" in " ".join(error.split())
    assert not (tmp_path / "none").exists()
    code, shown, error = run(*fit, "--out", tmp_path / "drawn", "--plots", "png, SVG")
    assert code == 0, error
    written = {file.name for file in (tmp_path / "drawn").iterdir()}
    assert {"ma.png", "ma.svg", "volcano.png", "volcano.svg", "results.csv"} <= written
    assert not any(name.endswith(".pdf") or name.startswith(".") for name in written)
    assert "volcano.svg" in shown
    code, shown, error = run("report", tmp_path / "drawn", "--plots", "pdf")
    assert code == 0, error
    assert (tmp_path / "drawn" / "volcano.pdf").read_bytes()[:4] == b"%PDF"
    assert "volcano.pdf" in shown
