"""From Python as from the shell: one call each, and results that show themselves."""

import re
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

import domainemo as de
from domainemo.choices import TrainChoices, complete
from domainemo.cli import main
from domainemo.cli.configuration import configure
from domainemo.errors import ConfigurationError

CHOICES = {
    "backbone": "concatenation-mlp",
    "adapter": "marginal",
    "controls": "majority-class",
    "folds": ["subject 1", "subject 2"],
    "device": "cpu",
    "epochs": 1,
}


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=3, sessions=1, trials=3, windows=(3, 4)).load()


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("python") / "run"
    return de.run(data, **CHOICES, output=place)


# ----------------------------------------------------------------- choices and jobs


def test_epochs_and_batch_size_are_options_of_the_training(results):
    options = {"backbone.width": 8}
    made = complete(TrainChoices, {"epochs": 3, "batch_size": 7, "options": options})
    expected = {"training.epochs": 3, "training.batch_size": 7, "backbone.width": 8}
    assert made["options"] == expected and options == {"backbone.width": 8}
    assert not {"epochs", "batch_size"} & made.keys()
    assert results.description["options"]["training.epochs"] == 1
    assert "last of 1 epoch" in results.how()


def test_an_option_is_given_once(data):
    with pytest.raises(ConfigurationError, match="epochs is 1, and the option train"):
        de.run(data, **CHOICES, options={"training.epochs": 2})

    training = de.Training(batch_size=8)
    with pytest.raises(ConfigurationError, match="batch_size is 4, and training has"):
        de.run(data, **CHOICES, training=training, batch_size=4)
    given = {"training": training, "batch_size": 8, "epochs": 3}  # 20 by its default
    options = complete(TrainChoices, given)["options"]
    assert options == {"training.batch_size": 8, "training.epochs": 3}


def test_options_have_names(data):
    with pytest.raises(
        ConfigurationError, match=r"options is .*; expected names and values"
    ):
        de.run(data, options=["training.epochs"], epochs=1)


@pytest.mark.parametrize("jobs", [0, -1, 1.0, True, "2", None])
def test_jobs_are_a_number_of_processes(data, jobs):
    with pytest.raises(ConfigurationError, match=r"jobs is .*number of processes, or"):
        de.run(data, **CHOICES, jobs=jobs)


def test_an_executor_has_the_processes_that_it_has(data):
    with (
        ProcessPoolExecutor(1) as pool,
        pytest.raises(ConfigurationError, match="Leave either out"),
    ):
        de.run(data, **CHOICES, jobs=2, executor=pool)


# --------------------------------------------------------------------- whole commands


def test_predict_is_the_model_of_the_fold(data, results, tmp_path):
    which = {"fold": "subject 2", "adapter": "none"}
    found = de.predict(results.folder, data, **which, output=tmp_path / "found.csv")
    model = de.Model.load(results.folder, **which)
    pd.testing.assert_frame_equal(found, model.predict(data))
    pd.testing.assert_frame_equal(found, de.predict(model, data))
    assert len(pd.read_csv(tmp_path / "found.csv")) == len(data)
    with pytest.raises(ConfigurationError, match="was not overwritten"):
        de.predict(model, data, output=tmp_path / "found.csv")
    with pytest.raises(ConfigurationError, match="a model was given"):
        de.predict(model, data, seed=0)


@pytest.mark.parametrize("name", ["found.parquet", "found.xlsx", "found", "a.csv.gz"])
def test_predictions_are_written_as_what_their_name_says(
    name, data, results, tmp_path, capsys, monkeypatch
):
    path = tmp_path / name
    with pytest.raises(ConfigurationError, match=r"found the ending '.*'; expected .c"):
        de.predict(results.folder, data, output=path)
    command = ["domainemo", "predict", str(results.folder), f"--output={path}"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "expected .csv" in " ".join(capsys.readouterr().err.split())
    assert not path.exists()


def test_check_takes_what_load_takes(data, tmp_path):
    found = de.check("simulated", subjects=2, trials=3, windows=[2, 3])
    assert found.usable and found.subjects == 2
    de.write_table(data, tmp_path / "table")
    assert de.check("table", tmp_path / "table").trials == 9
    assert de.check(de.Table(tmp_path / "table")).windows == len(data)
    with pytest.raises(ConfigurationError, match="no option 'subject'"):
        de.check("simulated", subject=2)


@pytest.mark.parametrize("page", ["from-python", "channels-and-classes"])
def test_the_page_runs_as_it_stands(page, tmp_path, monkeypatch, capsys):
    """In one process: that several give the same is tested elsewhere."""
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / f"{page}.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(code.replace("jobs=2", "jobs=1"), page, "exec"), {})
    said = {"from-python": "\\toprule", "channels-and-classes": "FZ, CZ, PZ alone"}
    assert said[page] in capsys.readouterr().out
    assert page != "from-python" or (tmp_path / "first-run" / "report.html").is_file()


def test_the_file_on_the_page_is_a_configuration(tmp_path):
    page = Path(__file__).parents[1] / "docs" / "channels-and-classes.md"
    (toml,) = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / "chosen.toml").write_text(toml)
    chosen = configure({}, [], str(tmp_path / "chosen.toml")).experiment
    assert chosen.merge == ("happy+surprised=positive", "sad+fear=negative")


# ----------------------------------------------------------------------------- results


def test_results_are_read_as_they_were(results):
    again = de.Results.load(str(results.folder))
    assert again.folder == results.folder and repr(again) == repr(results)
    assert again.how() == results.how()
    pd.testing.assert_frame_equal(again.summary(), results.summary())


def test_the_figure_has_a_row_for_every_method(results):
    (axes,) = results.plot().axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == results.methods


def test_the_latex_table_holds_the_summary(results):
    text = results.to_latex()
    assert text.startswith("\\begin{tabular}") and "\\toprule" in text
    for method, row in results.summary().iterrows():
        assert re.search(rf"{method} & {row['mean']:.3f} & ", text)


def test_the_report_of_a_run_is_written_where_it_is_kept(data, results, tmp_path):
    page = results.report(tmp_path / "page.html", recordings=False)
    assert page == tmp_path / "page.html" and "marginal on" in page.read_text()
    nowhere = replace(results, folder=None)
    with pytest.raises(ConfigurationError, match="Run it with output=FOLDER"):
        nowhere.report()
    other = data.take([*range(len(data))][::-1][:-4])
    with pytest.raises(de.DataError, match="recordings of this run"):
        de.report(results.folder, tmp_path / "other.html", recordings=other)


# --------------------------------------------------------------------------- notebooks


def cells(html):
    return [unescape(each) for each in re.findall(r"<t[dh]>(.*?)</t[dh]>", html)]


def test_a_notebook_shows_recordings_as_tables(data):
    """Every class with its windows and trials; names are text, and no markup."""
    named = replace(data, inputs=replace(data.inputs, name="<b>mine</b> & yours"))
    html = named._repr_html_()
    assert "<b>" not in html and "&lt;b&gt;mine&lt;/b&gt; &amp; yours" in html
    found = cells(html)
    for number, name in enumerate(data.classes):
        place = found.index(name)
        count = int((data.labels == number).sum())
        assert found[place : place + 3] == [name, str(count), "3"]
    assert found[found.index("eeg") + 1] == "62"
    assert cells(named.inputs._repr_html_()) == found[: found.index("trials") - 2]


def test_a_notebook_shows_results_as_their_summary(results):
    found = cells(results._repr_html_())
    for method, row in results.summary().iterrows():
        place = found.index(method)
        assert found[place + 1] == f"{row['mean']:.3f}"


# --------------------------------------------------------- what is no value of its kind

TUNED = {
    "backbone": "concatenation-mlp",
    "adapter": "marginal",
    "device": "cpu",
    "validator": "class-ami",
}
GRID = {
    "datasets": ["simulated"],
    "protocols": ["cross-subject"],
    "backbones": ["concatenation-mlp"],
    "adapters": ["none"],
}


@pytest.mark.parametrize(
    ("call", "given", "told"),
    [
        ("tune", {"study": 5}, "study is 5 of type int; expected StudySettings"),
        ("tune", {"name": None}, "name is None of type NoneType; expected str"),
        ("tune", {"space": ["a"]}, r"space is \['a'\] of type list; expected Mapping"),
        ("tune", {"storage": 5, "development": 2}, "The storage is '5'. Expected"),
        ("tune", {"executor": 5}, "executor is 5 of type int; expected Executor"),
        ("benchmark", {"executor": 5}, "executor is 5 of type int; expected Executor"),
        ("benchmark", {"on_cell": 5}, "on_cell is 5 of type int; expected a function"),
        ("benchmark", {"datasets": "deap"}, "no data set 'deap'"),
        ("report", {"tell": 5}, "tell is 5 of type int; expected a function"),
        ("export", {"tell": 5}, "tell is 5 of type int; expected a function"),
        ("report", {"recordings": 5}, "the recordings: found an int; expected"),
    ],
)
def test_what_is_no_value_of_its_kind_is_refused_at_once(
    data, results, tmp_path, call, given, told
):
    calls = {
        "tune": lambda: de.tune(data, **TUNED, **given, output=tmp_path / "made"),
        "benchmark": lambda: de.benchmark(GRID, output=tmp_path / "made", **given),
        "report": lambda: de.report(results.folder, tmp_path / "a.html", **given),
        "export": lambda: de.export(results.folder, fold="subject 1", **given),
    }
    with pytest.raises(ConfigurationError, match=told):
        calls[call]()
    assert not [*tmp_path.rglob("record.json"), *tmp_path.rglob("*.html")]
