"""Whatever takes a path refuses what is none, in a sentence, before it works."""

import inspect
import re
from pathlib import Path, PurePath

import pytest

import domainemo as de
from domainemo.errors import ConfigurationError
from domainemo.registry import entries, find

HERE = Path(__file__)
CALLS = {
    "adapt": {
        "init_from": lambda x: de.adapt(DATA, DATA, init_from=x),
        "output": lambda x: de.adapt(DATA, DATA, output=x),
    },
    "benchmark": {
        "file": lambda x: de.benchmark(x),
        "output": lambda x: de.benchmark({}, output=x),
        "data_root": lambda x: de.benchmark(HERE, data_root=x),
    },
    "check": {
        "dataset": lambda x: de.check(x),
        "root": lambda x: de.check("deap", x),
    },
    "cluster": {"where": lambda x: de.cluster(x).__enter__()},
    "compare": {"runs": lambda x: de.compare(x, HERE.parent)},
    "export": {
        "folder": lambda x: de.export(x),
        "output": lambda x: de.export(RUN, "onnx", x),
        "data_root": lambda x: de.export(RUN, "onnx", "a.onnx", data_root=x),
    },
    "from_bids": {"root": lambda x: de.from_bids(x, {"happy": 1})},
    "interpret": {"folder": lambda x: de.interpret(x)},
    "load": {
        "dataset": lambda x: de.load(x),
        "root": lambda x: de.load("seed-iv", x),
    },
    "Model.load": {"folder": lambda x: de.Model.load(x)},
    "predict": {
        "model": lambda x: de.predict(x, DATA),
        "output": lambda x: de.predict(RUN, DATA, output=x),
    },
    "pretrain": {"output": lambda x: de.pretrain(DATA, output=x)},
    "report": {
        "folder": lambda x: de.report(x),
        "output": lambda x: de.report(RUN, x),
        "data_root": lambda x: de.report(RUN, data_root=x),
    },
    "Results.load": {"folder": lambda x: de.Results.load(x)},
    "Results.report": {"output": lambda x: RESULTS.report(x)},
    "run": {
        "init_from": lambda x: de.run(DATA, init_from=x),
        "output": lambda x: de.run(DATA, output=x),
    },
    "select": {"runs": lambda x: de.select(x)},
    "Table": {"root": lambda x: de.Table(x)},
    "train": {"output": lambda x: de.train(DATA, output=x)},
    "tune": {
        "init_from": lambda x: de.tune(DATA, output="study", init_from=x),
        "output": lambda x: de.tune(DATA, output=x),
    },
    "write_table": {"folder": lambda x: de.write_table(DATA, x)},
}
GIVEN = [(name, given) for name, calls in CALLS.items() for given in calls]


@pytest.fixture(scope="module", autouse=True)
def recordings(tmp_path_factory):
    """Give the calls above recordings, and the run of a network that was trained."""
    global DATA, RUN, RESULTS
    DATA = de.Simulated(subjects=3, sessions=1, trials=3, windows=(3, 4)).load()
    RUN = tmp_path_factory.mktemp("paths") / "run"
    RESULTS = de.run(
        DATA,
        backbone="concatenation-mlp",
        adapter="none",
        baselines=False,
        epochs=1,
        folds=["subject 1"],
        output=RUN,
    )


def public():
    """Yield every public function, and method of a public class, with its name."""
    for name in de.__all__:
        value = getattr(de, name)
        yield name, value
        for method, each in vars(value).items() if inspect.isclass(value) else ():
            if not method.startswith("_"):
                yield f"{name}.{method}", getattr(each, "__func__", each)


def takes(value):
    """Return which parameters are said to take a path that a text may be."""
    try:
        known = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return set()
    texts = {each.name: str(each.annotation) for each in known}
    return {name for name, text in texts.items() if re.search(r"str \| .*Path", text)}


def test_the_calls_are_of_all_that_take_a_path():
    there = {name: takes(value) for name, value in public() if callable(value)}
    there = {name: given for name, given in there.items() if given}
    assert there == {name: {*calls} for name, calls in CALLS.items()}


@pytest.mark.parametrize("wrong", [5, True, b"run", ["run"], "", "  ", "a\0b"], ids=str)
@pytest.mark.parametrize(("name", "given"), GIVEN)
def test_what_is_no_path_is_refused(name, given, wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if given == "dataset" and isinstance(wrong, str):
        return  # a name that nothing has
    if name in ("load", "check") and wrong == "":
        return  # as an environment variable that holds nothing
    with pytest.raises(ConfigurationError, match="expected") as refused:
        CALLS[name][given](wrong)
    assert not isinstance(refused.value.__cause__, TypeError)
    told = str(refused.value)
    words = {"dataset": "data set", "runs": name}.get(given, given)
    assert words in told and repr(wrong) in told, told
    assert isinstance(wrong, str) or type(wrong).__name__ in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("pretrain", "output"),
        ("tune", "output"),
        ("report", "folder"),
        ("write_table", "folder"),
        ("Model.load", "folder"),
        ("predict", "model"),
        ("benchmark", "file"),
    ],
)
def test_nothing_is_no_path_where_one_is_needed(name, given):
    with pytest.raises(
        ConfigurationError, match=f"{given} is None of type NoneType; expected the path"
    ):
        CALLS[name][given](None)


def test_every_reader_refuses_a_root_that_is_no_path():
    names = [each.name for each in entries("dataset")]
    readers = [find("dataset", name) for name in names]
    found = [cls for cls in readers if "root" in inspect.signature(cls).parameters]
    assert len(found) > 10
    for cls in found:
        with pytest.raises(ConfigurationError, match="root is 5 of type int; expected"):
            cls(5)


class Named:
    """What only says of itself that it is a path."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


def test_a_path_may_be_of_any_class(tmp_path):
    table = tmp_path / "table"
    assert de.write_table(DATA, Named(str(table))) == table
    for path in (str(table), table, PurePath(table), Named(str(table))):
        assert len(de.Table(path).load().labels) == len(DATA.labels)
    with pytest.raises(ConfigurationError, match=r"root is .*Named.*; expected"):
        de.Table(Named(bytes(table)))
