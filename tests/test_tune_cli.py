"""The commands `tune` and `report`: what they print, refuse, keep and resume."""

import json
import re
import sys
import tomllib

import pandas as pd
import pytest
from browser import DESKTOP, PHONE, open_page

from domainemo import ConfigurationError
from domainemo.cli import main
from domainemo.cli.configuration import configure, configure_study
from domainemo.cli.named import studies
from domainemo.cli.studies import _chosen
from domainemo.errors import DomainemoWarning
from domainemo.registry import entries
from domainemo.studies import trying
from domainemo.studies.findings import Choice
from domainemo.studies.space import search_space

TINY = [
    "--set=data.subjects=5",
    "--set=data.sessions=1",
    "--set=data.trials=3",
    "--set=data.windows=[3, 5]",
    "--backbone=concatenation-mlp",
    "--set=backbone.width=4",
    "--set=backbone.hidden=[4]",
    "--set=backbone.fusion_width=4",
    "--adapter=marginal",
    "--epochs=1",
    "--development=3",
    "--jobs=1",
]
SEARCH = ["--candidates=3", "--sampler=random", "--final-seeds=1"]


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Run a command in an empty folder; return its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOMAINEMO_DATA", "")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capfd.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


def test_a_study_from_the_command_line_to_its_report(call, tmp_path):
    code, said = call("tune", *TINY, *SEARCH, "--dry-run")
    assert code == 0 and not list(tmp_path.iterdir())
    assert "adapter.weight 0.01 to 10, logarithmic 1.0" in said
    assert "3 subjects choose and are not tested" in said
    assert "and source only, at most 12 trainings" in said
    assert "a job takes up to about" in said and "of recordings" in said

    code, said = call("tune", *TINY, *SEARCH, "--output=study")
    assert code == 0
    assert "Candidates: 3 complete" in said
    assert re.search(r"tuned 0\.\d+", said) and re.search(r"defaults 0\.\d+", said)
    assert "domainemo adapt --config" in said and "domainemo report study" in said
    folder = tmp_path / "study"
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["study"]["candidates"] == 3
    assert config["space"]["adapter.weight"] == {"low": 0.01, "high": 10.0, "log": True}

    # The folder is a configuration: it runs the same study, which is done already.
    before = (folder / "final" / "results.csv").read_bytes()
    code, said = call("tune", "--config=study", "--jobs=1", "--output=study")
    assert code == 0 and "Candidates: 3 complete" in said
    assert (folder / "final" / "results.csv").read_bytes() == before

    # What was chosen runs again from its file alone, and gives the same numbers.
    code, said = call("adapt", "--config=study/chosen.toml", "--output=run", "--jobs=1")
    assert code == 0
    assert same_predictions(tmp_path / "run", folder / "final" / "tuned")

    code, said = call("report", "study")
    assert code == 0
    page = folder / "report.html"
    assert str(page.name) in said
    for width, dark in ((PHONE, True), (DESKTOP, False)):
        assert open_page(page, width, dark).faults == []


def same_predictions(first, second):
    return (first / "predictions.csv").read_bytes() == (
        second / "predictions.csv"
    ).read_bytes()


def test_ctrl_c_keeps_candidates_and_the_same_command_resumes(call, monkeypatch):
    train = trying.train_candidates
    count = [0]

    def interrupt(*arguments):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(trying, "train_candidates", interrupt)
    command = ["tune", *TINY, *SEARCH, "--no-final", "--output=study"]
    code, said = call(*command)
    assert code == 4 and "the same command resumes" in said
    code, said = call(*command)
    assert code == 0 and "Candidates: 3 complete, 1 failed and tried again" in said
    assert count[0] == 5


def test_a_study_goes_on_where_its_folder_was_moved(call, tmp_path):
    """Its candidates are under the name that it was begun with."""
    command = ["tune", *TINY, "--sampler=random", "--no-final"]
    code, said = call(*command, "--candidates=1", "--output=first")
    assert code == 0 and "Candidates: 1 complete" in said
    (tmp_path / "first").rename(tmp_path / "second")
    code, said = call(*command, "--candidates=2", "--output=second")
    assert code == 0 and "Candidates: 2 complete" in said
    config = tomllib.loads((tmp_path / "second" / "config.toml").read_text())
    assert config["study"]["name"] == "first"
    code, said = call(*command, "--candidates=2", "--output=second", "--name=other")
    assert code == 2 and "study.name: there 'first', now 'other'" in said


def test_time_limit_and_another_candidate_later(call, tmp_path):
    command = ["tune", *TINY, "--sampler=random", "--no-final", "--output=study"]
    code, said = call(*command, "--candidates=4", "--minutes=1e-6")
    # Nothing was begun but source only, which is no comparison.
    assert code == 1 and "No candidate was tried before time was up" in said
    assert "do not adapt" not in said
    code, said = call("report", "study")
    assert code == 0 and "do not adapt" not in said
    page = (tmp_path / "study" / "report.html").read_text(encoding="utf-8")
    assert "Nothing has been chosen: 0 candidates are complete." in page
    code, said = call(*command, "--candidates=2")
    assert code == 0 and "Candidates: 2 complete" in said


@pytest.mark.parametrize(
    ("arguments", "code", "phrases"),
    [
        (["--sampler=grid"], 2, ["study.sampler is 'grid'", "'tpe', 'cma-es'"]),
        (["--pruner=halving"], 2, ["study.pruner", "'median', 'hyperband'"]),
        (["--search=head"], 2, ["study.search names 'head'"]),
        (["--space=weight"], 2, ["NAME=LOW:HIGH"]),
        (["--space=weight=1:x"], 2, ["NAME=LOW:HIGH"]),
        (["--space=weight=2:1"], 2, ["adapter.weight is", "low"]),
        (["--space=wieght=1:2"], 2, ["adapter.weight"]),
        (["--space=adapter.weight=off", "--set=adapter.distance=mmd"], 2, ["nothing"]),
        (["--validator=last"], 2, ["found 'last'", "--validator rank-average"]),
        (["--validator=oracle"], 2, ["found 'oracle'"]),
        (["--development=5"], 2, ["at least one more to be tested"]),
        (["--development=1,9,3"], 2, ["names 9", "1, 2, 3, 4, 5"]),
        (["--objectives=seconds"], 2, ["validator, then some of"]),
        (["--jobs=some"], 2, ["--jobs is 'some'"]),
        (["--storage=mysql+nothing://x/y"], 2, ["cannot be opened"]),
        (["--config=physiosync-pretraining"], 2, ["domainemo pretrain"]),
        (["--final-seeds=a"], 2, ["'a'"]),
    ],
)
def test_what_cannot_be_done_is_explained(call, tmp_path, arguments, code, phrases):
    found, said = call("tune", *TINY, *arguments)
    assert found == code, said
    for phrase in phrases:
        assert phrase in said, said
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in left if path.name == "record.json"]


def test_reports_of_nothing_are_explained(call, tmp_path):
    assert call("report", "nowhere")[0] == 2
    (tmp_path / "empty").mkdir()
    code, said = call("report", "empty")
    assert code == 2 and "config.toml" in said


def test_adapt_runs_a_studys_configuration(call, tmp_path):
    """Its tables `study` and `space` belong to `tune`; the rest is a run's."""
    text = 'adapter = "marginal"\n[study]\ncandidates = 2\n[space.adapter]\nweight = '
    (tmp_path / "both.toml").write_text(text + "{low = 0.1, high = 0.2}\n")
    code, said = call("adapt", *TINY[:10], "--config=both.toml", "--dry-run")
    assert code == 0, said
    code, said = call("tune", *TINY, "--config=both.toml", "--dry-run")
    assert code == 0 and "0.1 to 0.2" in said and "2 candidates" in said


NAMED = {
    name: tomllib.loads(path.read_text(encoding="utf-8"))
    for name, path in studies().items()
}
SEARCHING = sorted(name for name, each in NAMED.items() if "space" in each)
SYSTEMS = ("uf-ama", "r2gfanet", "mmstg-net", "physiosync")
# How many people choose, as every study had it while each data set had its own.
CHOOSE = {"seed": 5, "seed-multimodal": 4, "seed-iv": 5, "seed-v": 5, "seed-vii": 6}
CHOOSE |= {"deap": 10, "dreamer": 7, "eegmat": 8, "esports": 3, "ssvep-exo": 4}


def test_every_data_set_says_who_chooses():
    read = {entry.name for entry in entries("dataset")} - {
        "simulated",
        "table",
        "mne",
        "bids",
    }
    assert read == CHOOSE.keys()


@pytest.mark.parametrize("dataset", CHOOSE)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_former_name_is_refused_with_the_command_that_is_the_same(dataset, system):
    with pytest.raises(ConfigurationError, match=r"is now `--config") as refusal:
        configure_study({}, [], f"{dataset}-{system}", {}, {})
    words = str(refusal.value).split("`")[1].split()
    typed = dict(zip(words[::2], words[1::2], strict=True))
    chosen = {"dataset": typed.get("--dataset")}
    found = configure_study(chosen, [], typed["--config"], {}, {})
    settings, described = found.settings, found.base.describe()
    assert (described["dataset"], described["backbone"]) == (dataset, system)
    assert settings.development == CHOOSE[dataset]
    assert (settings.candidates, settings.search) == (40, ("adapter",))
    players = dataset == "esports"
    assert described.get("exclude") == (["0", "5"] if players else None)
    assert described.get("modalities") == (["eeg", "eye"] if players else None)
    if system == "mmstg-net":
        assert described["adapter"] == "cross-modal-contrast+marginal+conditional"
        assert (
            len(found.ranges) == 4
            and found.ranges["adapter.marginal.distance"] is False
        )
    else:
        assert described["adapter"] == "uf-ama" and len(found.ranges) == 5
    if system == "uf-ama":
        layers = described["options"]["backbone.layers"]
        assert layers == (3 if dataset == "seed-iv" else 1)


def test_a_former_name_on_other_recordings_says_what_it_set():
    chosen = {"dataset": "somewhere/table"}
    with pytest.raises(ConfigurationError) as refusal:
        configure_study(chosen, [], "esports-r2gfanet", {}, {})
    said = str(refusal.value)
    assert "`--config r2gfanet --dataset somewhere/table`" in said
    assert "--modalities eeg,eye --exclude 0,5 --development 3" in said


def test_a_system_on_a_data_set_with_a_published_setup_says_so():
    """Or its numbers would differ from the setup's without a word."""
    with pytest.warns(DomainemoWarning, match="--config uf-ama-seed-iv"):
        plain = configure({"dataset": "seed-iv"}, [], "uf-ama")
    published = configure({}, [], "uf-ama-seed-iv")
    layers = [
        each.describe()["options"]["backbone.layers"] for each in (plain, published)
    ]
    assert layers == [1, 3]
    # Any warning would be an error here.
    configure({"dataset": "seed-iv"}, [], "r2gfanet")
    configure({"dataset": "seed-iv", "backbone": "r2gfanet"}, [], "uf-ama")
    configure({"dataset": "seed-v"}, [], "uf-ama")


def test_what_a_data_set_adds_gives_way_to_what_is_said():
    found = configure_study(
        {"dataset": "esports", "exclude": ["1"]}, [], "r2gfanet", {"development": 2}, {}
    )
    assert found.base.describe()["exclude"] == ["1"]
    assert found.settings.development == 2
    # A published setup without a search is as it stands, whatever the data set.
    assert "exclude" not in configure({"dataset": "esports"}, [], "deep-cca").describe()


def test_a_folder_of_a_data_sets_name_is_a_table_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "eegmat").mkdir()
    (tmp_path / "eegmat" / "dataset.toml").touch()
    found = configure_study({"dataset": "eegmat"}, [], "r2gfanet", {}, {})
    assert found.settings.development == 0


def test_a_folder_of_a_studys_name_hides_it_if_it_is_a_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "uf-ama").mkdir()
    assert configure({}, [], "uf-ama").describe()["backbone"] == "uf-ama"
    (tmp_path / "uf-ama" / "config.toml").write_text('backbone = "dgcnn"')
    assert configure({}, [], "uf-ama").describe()["backbone"] == "dgcnn"


@pytest.mark.parametrize("name", SEARCHING)
def test_a_named_study_searches_around_what_it_begins_with(name):
    found = configure_study({}, [], name, {}, {})
    base = found.base
    space = search_space(
        base.experiment, found.settings.search, found.ranges, base.given
    )
    assert set(space.defaults()) == set(space.distributions())
    assert set(found.ranges) <= set(base.experiment.describe()["options"])
    assert json.dumps(space.as_written())


def test_several_objectives_one_choice_a_fold_and_their_report(call, tmp_path):
    code, said = call(
        "tune",
        *[each for each in TINY if "--development" not in each and "=5" not in each],
        "--set=data.subjects=3",
        "--select=per-fold",
        "--objectives=validator,seconds",
        "--candidates=2",
        "--final-seeds=1",
        "--output=study",
    )
    assert code == 0 and said.count(" was chosen (") + said.count("No candidate") == 3
    chosen = sorted(path.name for path in (tmp_path / "study").glob("chosen*.toml"))
    assert chosen == [f"chosen-subject_{number}.toml" for number in (1, 2, 3)]
    table = pd.read_parquet(tmp_path / "study" / "final" / "results.parquet")
    for method in ("tuned", "defaults"):
        people = table.loc[table["method"] == method, "subject"].astype(str)
        assert set(people) == {"1", "2", "3"}
    assert call("report", "study")[0] == 0
    assert open_page(tmp_path / "study" / "report.html", PHONE, False).faults == []


@pytest.mark.parametrize(
    ("candidate", "standing", "told"),
    [
        (-1, {0: 0.5, -1: 0.75}, "Source only was chosen (0.750): do not adapt."),
        (0, {0: 0.75, -1: 0.5}, "Candidate 0 was chosen (0.750): "),
        (-1, {-1: 1.0}, "No candidate predicts every class and held-out source"),
        (-1, {}, "Source only was chosen (0.250): do not adapt."),
    ],
)
def test_the_number_is_the_one_that_was_chosen_by(candidate, standing, told):
    """Of a validator that compares, its score alone may be below another's."""
    choice = Choice(None, candidate, 0.25, {"adapter.weight": 1.0}, "", standing)
    assert _chosen(choice).startswith(told)
