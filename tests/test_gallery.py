"""The gallery's examples: what they may use, what they say, and that they run."""

import ast
import re
import runpy
import tempfile
from pathlib import Path

import pytest
from matplotlib import pyplot

import domainemo as de

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
NAMES = [path.stem for path in EXAMPLES]
DOCS = Path(__file__).parents[1] / "docs"
DOORS = {"domainemo.sklearn", "domainemo.testing"}
CHEAPEST = "plot_02_own_recordings"


def source(name):
    return (EXAMPLES[NAMES.index(name)]).read_text(encoding="utf-8")


def test_there_are_ten_and_their_order_is_their_number():
    assert len(NAMES) >= 10
    assert [name[:8] for name in NAMES] == [
        f"plot_{number:02}_" for number in range(1, len(NAMES) + 1)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_title_a_figure_and_a_warning(name):
    text = source(name)
    title, line, blank, *rest = ast.get_docstring(ast.parse(text)).splitlines()
    assert line == "=" * len(title) and not blank and rest
    assert 1 <= text.count("plt.show()") <= 2
    assert "**What not to conclude.**" in text or "**What to conclude.**" in text
    headings = re.findall(r"^# (.+)\n# (-+)$", text, re.MULTILINE)
    assert headings and all(len(above) == len(under) for above, under in headings)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_no_place_and_pages_that_there_are(name):
    text = source(name)
    assert not re.search(
        r"""(["'\s]/(home|tmp|work|root|opt)/|[A-Z]:\\|https?:)""", text
    )
    for page in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)>?`", text.replace("\n# ", " ")):
        if page.startswith("/"):
            assert (DOCS / f"{page[1:]}.md").is_file(), page
        else:
            assert page in NAMES, page


@pytest.mark.parametrize("name", NAMES)
def test_a_page_uses_nothing_but_what_is_public(name):
    for node in ast.walk(ast.parse(source(name))):
        match node:
            case ast.Import(names=names):
                ours = [each for each in names if each.name.startswith("domainemo")]
                assert all(
                    (each.name, each.asname) == ("domainemo", "de") for each in ours
                )
            case ast.ImportFrom(module=module) if module.startswith("domainemo"):
                assert module in DOORS
            case ast.Attribute(value=ast.Name(id="de"), attr=attribute):
                assert attribute in de.__all__
            case ast.Attribute(attr=attribute):
                assert not attribute.startswith("_") or attribute == "__init__"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return what runs an example: its names, and how many figures it drew."""
    pyplot.switch_backend("agg")
    monkeypatch.setattr(pyplot, "show", lambda: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def ran(name):
        pyplot.close("all")
        try:
            path = EXAMPLES[NAMES.index(name)]
            return runpy.run_path(str(path), run_name="__main__"), pyplot.get_fignums()
        finally:
            pyplot.close("all")

    return ran


def whether_it_holds(name, found):
    """Check what a page says of its own numbers."""
    match name[8:]:
        case "own_adapter":
            means = {weight: row.mean() for weight, row in found["rows"].items()}
            assert means[1.0] < min(means[0.0], means[0.1])
        case "own_network":
            means = found["table"].mean()
            assert means.idxmax() == "logistic regression"
        case "tuning_without_labels":
            assert found["chosen"] == found["standing"].idxmax()
            candidates = found["found"].candidates.set_index("candidate")
            strong = candidates.index[candidates["adapter.weight"] > 0.5]
            truth = found["after"]["true_accuracy"]
            assert found["chosen"] not in strong
            others = truth.drop(strong)
            assert others.min() > truth[strong].max()
            assert others.max() - others.min() < 0.05
        case "missing_sensor":
            assert found["means"].to_numpy().min() > 0.45  # chance is a third
        case "pretraining":
            start, random, synchronous = found["scores"].mean()
            assert synchronous > max(start, random)
        case "interpretation":
            regions = found["regions"]
            assert {*regions.idxmax()} == {"occipital"}
            assert regions["attention"]["occipital"] < 0.5
        case "other_data_set":
            told = " ".join(str(each.message) for each in found["told"])
            assert "were interpolated" in told and "eye of simulated" in told
        case "hollow_number":
            new_person, new_clips = found["scores"].mean()
            assert new_person > 0.7 and new_clips < 0.45


@pytest.mark.parametrize(
    "name",
    [
        name if name == CHEAPEST else pytest.param(name, marks=pytest.mark.campaign)
        for name in NAMES
    ],
)
def test_an_example_runs_and_leaves_nothing_behind(name, run, tmp_path, capsys):
    found, figures = run(name)
    said = capsys.readouterr().out
    assert len(figures) == source(name).count("plt.show()")
    assert said and str(tmp_path) not in said
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == []
    whether_it_holds(name, found)
