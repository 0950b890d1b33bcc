"""What the pages show, runs: every command is one, and does what it can without people.

Each command is parsed by the command line itself. What needs no gated recordings and
no trained network is run, on a few simulated people, or on files in the publishers'
layouts. Pages whose commands or Python another file of tests runs whole are named in
`RUN_BY`, with that file; single commands that are not run, in `NOT_RUN`, with the
reason. Blocks of Python run as they stand, or what they name of domainemo is looked up
(`NAMES_ONLY`, with the reason).
"""

import ast
import importlib
import inspect
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
import typer
from fixtures.every import FIXTURES, WAIVED
from fixtures.seed_iv import write_seed_iv

import domainemo as de
from domainemo.cli import health, main
from domainemo.cli.commands import app
from domainemo.registry import entries

TESTS = Path(__file__).parent
PAGES = [TESTS.parent / "README.md", *sorted((TESTS.parent / "docs").glob("*.md"))]

RUN_BY = {
    "command-line": "test_command_line_page",
    "export": "test_export",
    "new-adapter": "test_pages",
    "new-backbone": "test_pages",
    "new-control": "test_pages",
    "new-dataset": "test_dataset_checks",
    "new-normalisation": "test_pages",
    "new-person": "test_newcomers_cli",
    "new-protocol": "test_pages",
    "new-sampling": "test_pages",
    "new-screen": "test_pages",
    "new-validator": "test_pages",
    "other-protocols": "test_other_protocols_page",
    "plug-ins": "test_pages",
    "predicting-adapter": "test_pages",
    "published-numbers": "test_published_numbers",
}
"""Commands and Python of these pages are run elsewhere."""

PYTHON_RUN_BY = {
    **RUN_BY,
    "README": "test_cli",
    "braindecode": "test_braindecode",
    "channels-and-classes": "test_from_python",
    "coming-from": "test_every_page",  # below
    "from-python": "test_from_python",
    "more-machines": "test_machines",
    "own-network": "test_wrapper",
    "own-recordings": "test_table",
    "scikit-learn": "test_sklearn_face",
}

NAMES_ONLY = {
    "benchmark": "some hundred trainings; test_benchmark has small ones",
    "index": "the first command, whose figures test_readme has",
    "interpretation": "is about the experiment and the recordings of a run at hand",
    "pretraining": "trains physiosync for minutes; test_pretraining has a small one",
    "tuning": "twenty candidates; test_study has small searches",
    "validators": "compares runs at hand; test_select has some",
}

NOT_RUN = {
    r"^benchmark ": "trains for minutes; test_benchmark reads every file there is",
    r"^(interpret|report) ": "draws for long: test_interpretation, test_run_report",
    r"^(train|export) ": "has no dry run: test_newcomers_cli, test_export",
    r"^adapt .*--init-from ": "goes on from a pre-training: test_pretraining",
    r"^predict ": "needs a trained network: test_prediction, test_missing_modality",
    r"^data convert ": "needs files that MNE reads: test_raw, test_data_cli",
    r"^(adapt|tune|pretrain) .*--plugin ": "a network that is not installed everywhere",
    r"--executor ": "other machines: test_machines",
    r"--storage ": "a server: test_postgres",
    r"--config \S*(pretraining|physiosync-d)": "test_physiosync_page",
    r"^compare |^select ": "compares finished runs: test_compare, test_select",
    r"TABLES/": "the tables of benchmarks/open_recordings.py",
    r"[A-Z]{4,}\b|\.\.\.$": "a word that stands for yours",
}
"""Single commands, by what they begin with or hold: parsed, and not run."""

TINY = {
    "data.subjects": "4",
    "data.sessions": "2",
    "data.trials": "9",
    "data.windows": "[3, 4]",
}
WRITE = {
    "seed-iv": lambda root: write_seed_iv(root, subjects=(1, 2, 10), sessions=(1, 2)),
}
"""Three people, of whom two can choose, and two sessions."""

COMMANDS = typer.main.get_group(app)
FOREIGN = "<!-- from its documentation -->\n"


def read(page):
    return page.read_text(encoding="utf-8")


def shown(page):
    """Yield the commands of a page: indented, or in a block of a shell's."""
    fence, text = "", re.sub(r" *\\\n\s*", " ", read(page))
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fence = "" if fence else line.strip("` ") or "text"
        elif fence in ("", "console", "bash"):
            start = r"(?:\$ )?" if fence else r" {4,}"
            found = re.match(rf"{start}(?:pip .* && )?domainemo +(.+)$", line)
            if found:
                yield shlex.split(found[1], comments=True)


def mentioned(page):
    """Yield the commands in a page's sentences and tables, which may be cut short."""
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.DOTALL | re.MULTILINE)
    for found in re.findall(r"`domainemo ([a-z][^`]*)`", " ".join(text.split())):
        yield shlex.split(found)


def parse(words, *, whole):
    """Have the command line read a command; a mention may lack what is required."""
    command, name = COMMANDS, "domainemo"
    left = [each for each in words if each != "PARTS"]  # any options, in a table
    while hasattr(command, "commands") and left and not left[0].startswith("-"):
        name = left.pop(0)
        assert name in command.commands, f"there is no command {' '.join(words)}"
        command = command.commands[name]
    try:
        command.make_context(name, left)
    except typer.Exit:  # --help, --version
        pass
    except Exception as error:
        assert not whole and type(error).__name__ == "MissingParameter", (words, error)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_can_be_read(page, capsys):
    for words in shown(page):
        if words != ["--install-completion"]:
            parse(words, whole=True)
    for words in mentioned(page):
        parse(words, whole=False)


def test_commands_are_found_in_every_form(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "    pip install . && domainemo list\n\n"
        "domainemo 0.1.0 is no command, but `domainemo\nshow NAME` is.\n\n"
        "- In a list:\n\n      domainemo adapt --epochs 1  # a note\n\n"
        "    domainemo tune --jobs 2 \\\n        --candidates 3\n\n"
        "```console\n$ domainemo doctor\ndomainemo 0.1.0\n```\n\n"
        "```python\n    domainemo = 1\n```\n\n    domainemo list adapters\n"
    )
    assert list(shown(page)) == [
        ["list"],
        ["adapt", "--epochs", "1"],
        ["tune", "--jobs", "2", "--candidates", "3"],
        ["doctor"],
        ["0.1.0"],
        ["list", "adapters"],
    ]
    assert list(mentioned(page)) == [["show", "NAME"]]
    with pytest.raises(AssertionError, match="no command"):
        parse(["adopt"], whole=False)
    with pytest.raises(AssertionError, match="--epoch"):
        parse(["adapt", "--epoch-s", "1"], whole=False)
    with pytest.raises(AssertionError, match="MissingParameter"):
        parse(["show"], whole=True)
    parse(["show"], whole=False)


# -------------------------------------------------------------------- commands that run


def why_not(words):
    """Return why a command is not run, or nothing."""
    line = " ".join(words)
    return next((why for form, why in NOT_RUN.items() if re.search(form, line)), "")


def runs(page):
    return [words for words in shown(page) if not why_not(words)]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return a function that says where a data set, or a table folder, lies."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("recordings") / "root"
            if name in FIXTURES:
                made[name].mkdir()
                WRITE.get(name, FIXTURES[name].write)(made[name])
            else:  # other people in each
                sizes = {"subjects": 4, "sessions": 1, "trials": 6, "windows": (3, 4)}
                data = de.Simulated(**sizes, seed=len(made)).load()
                de.write_table(data, made[name])
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOMAINEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield get


def chosen(words, option):
    return words[words.index(option) + 1] if option in words else ""


def small(words, get):
    """Return a command with few people, and without training."""
    words = ["cpu" if each.startswith("cuda") else each for each in words]
    if (root := chosen(words, "--data-root")) and words[0] != "doctor":
        words[words.index(root)] = str(get("table"))
    dataset = chosen(words, "--dataset") or (words[2] if words[0] == "data" else "")
    known = {entry.name for entry in entries("dataset")}
    if dataset in FIXTURES:
        options = FIXTURES[dataset].options
        words = [each for each in words if each not in ("--figure", "seed-iv.svg")]
        words += [f"--data-root={get(dataset)}"]
        words += [f"--set=data.{name}={value}" for name, value in options.items()]
        if words[0] in ("adapt", "tune"):
            own = ",".join(filter(None, [WAIVED, chosen(words, "--waive")]))
            words += [own] + ["--development=2"] * (words[0] == "tune")
    elif dataset and dataset not in known:
        words[words.index(dataset)] = str(get(dataset))
    elif words[0] in ("adapt", "tune", "pretrain") and dataset in ("", "simulated"):
        said = " ".join(words)
        words += [f"--set={n}={v}" for n, v in TINY.items() if n not in said]
    if target := chosen(words, "--target"):
        words[words.index(target)] = str(get(target))
    return words + ["--dry-run"] * (words[0] in ("adapt", "tune", "pretrain"))


@pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
@pytest.mark.parametrize(
    "page",
    [each for each in PAGES if each.stem not in RUN_BY and runs(each)],
    ids=lambda page: page.stem,
)
def test_the_commands_run(page, recordings, tmp_path, monkeypatch, capfd):
    """What looks for leaks may end with 3, which is what a page may show."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    monkeypatch.setattr(health, "_libraries", lambda: ())  # test_doctor has them
    for words in runs(page):
        monkeypatch.setattr(sys, "argv", ["domainemo", *small(words, recordings)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        assert ended.value.code in (0, None, 3 * (words[:2] == ["data", "check"])), (
            words,
            " ".join(said.err.split()),
        )


def test_what_is_not_run_is_there():
    lines = [" ".join(words) for page in PAGES for words in shown(page)]
    for form in NOT_RUN:
        assert any(re.search(form, line) for line in lines), form


@pytest.mark.parametrize(("page", "file"), sorted({**PYTHON_RUN_BY}.items()))
def test_the_file_that_is_said_to_run_a_page_speaks_of_it(page, file):
    kind = page.removeprefix("new-")
    text = (TESTS / f"{file}.py").read_text(encoding="utf-8")
    assert f"{page}.md" in text or f'"{page}"' in text or f'"{kind}":' in text


# ------------------------------------------------------------------------------- Python


def blocks(page):
    """Return a page's Python, and whether each block is another library's."""
    found = re.finditer(r"^```python\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE)
    text = read(page)
    return [(each[1], text[: each.start()].endswith(FOREIGN)) for each in found]


def own(page):
    return [code for code, foreign in blocks(page) if not foreign]


PYTHON = [each for each in PAGES if each.stem not in PYTHON_RUN_BY and blocks(each)]


@pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
@pytest.mark.parametrize(
    "page",
    [each for each in PYTHON if each.stem not in NAMES_ONLY],
    ids=lambda page: page.stem,
)
def test_the_python_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = {}
    with sklearn.config_context(enable_metadata_routing=False):
        for number, code in enumerate(own(page), 1):
            exec(compile(code, f"{page.name}, block {number}", "exec"), space)
        assert not sklearn.get_config()["enable_metadata_routing"]


@pytest.mark.parametrize(
    "page",
    [each for each in PAGES if each.stem in NAMES_ONLY],
    ids=lambda page: page.stem,
)
def test_what_python_names_is_there(page):
    """Imports, attributes of `de`, and the keywords of what is called."""
    assert own(page), "the page has no Python: take it off the list"
    space = {"de": de}
    for code in own(page):
        look_up(ast.parse(code), space)


def look_up(tree, space):
    """Assert that what a block takes of domainemo is there, and takes its keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("domainemo"):
            module = importlib.import_module(node.module)
            for each in node.names:
                space[each.asname or each.name] = getattr(module, each.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "de":
            assert hasattr(de, node.attr), f"domainemo has no {node.attr}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name, _, attribute = ast.unparse(node.func).partition(".")
            if name in space and attribute.isidentifier() | (not attribute):
                made = space[name]
                made = getattr(made, attribute) if attribute else made
                keywords = [each.arg for each in node.keywords]
                inspect.signature(made).bind_partial(
                    *node.args, **dict.fromkeys(keywords)
                )


@pytest.mark.parametrize(
    "code",
    [
        "de.runs(data)",
        "de.run(data, epoch=3)",
        "de.select(1, validators=2)",
        "from domainemo.core import Nothing",
    ],
)
def test_a_name_or_a_keyword_that_is_not_there_is_noticed(code):
    look_up(ast.parse("de.run(data, epochs=3, backbone='dgcnn')"), {"de": de})
    with pytest.raises((AssertionError, AttributeError, TypeError)):
        look_up(ast.parse(code), {"de": de})


def test_code_of_others_is_code_and_says_its_version():
    page = TESTS.parent / "docs" / "coming-from.md"
    foreign = [code for code, each in blocks(page) if each]
    assert len(foreign) == 2 and len(own(page)) == 2
    for code in foreign:
        compile(code, page.name, "exec")
    said = re.findall(r"As of (\d+\.\d+\.\d+), .*:|As of (\d+\.\d+\.\d+):", read(page))
    assert len(said) >= len(foreign)


def test_the_same_task_gives_the_same_people(tmp_path, monkeypatch, capsys):
    """skada's loop tests whom `run` tests, each once; both are above chance."""
    monkeypatch.chdir(tmp_path)
    page = TESTS.parent / "docs" / "coming-from.md"
    space = {}
    with sklearn.config_context(enable_metadata_routing=False):
        for code in own(page):
            exec(code, space)
    lines = capsys.readouterr().out.splitlines()
    found = dict(map(str.split, lines[-4:]))
    assert {"1", "2", "3", "4"} == {*found}
    ours = space["results"].per_subject()
    theirs = np.array([*map(float, found.values())])
    assert theirs.mean() > 1 / 3 < ours["linear coral"].mean()


# ----------------------------------------------------------------- what a page shows


def command(monkeypatch, capfd, words):
    """Run a command and return the lines that it says."""
    monkeypatch.setattr(sys, "argv", ["domainemo", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    return [line.rstrip() for line in capfd.readouterr().out.splitlines()]


@pytest.mark.campaign
def test_the_example_of_a_comparison_is_what_is_said(tmp_path, monkeypatch, capfd):
    """To the last figure."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (page,) = [each for each in PAGES if each.stem == "comparing"]
    adapt, compare = list(shown(page))[-2:]
    command(monkeypatch, capfd, adapt)
    said = command(monkeypatch, capfd, compare)
    block = read(page).split("which prints:\n\n")[1].split("\n\nThese eight")[0]
    expected = [line.removeprefix("    ").rstrip() for line in block.splitlines()]
    assert [line for line in said if line] == [line for line in expected if line]


@pytest.mark.campaign
def test_the_example_of_a_benchmark_is_what_is_found(tmp_path, monkeypatch, capfd):
    """But for seconds and the version; and its diagram."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    example = TESTS.parent / "benchmarks" / "example.toml"
    command(monkeypatch, capfd, ["benchmark", str(example), "--output=example"])
    docs = TESTS.parent / "docs"
    kept = pd.read_csv(docs / "tables" / "example.csv").drop(columns=["seconds"])
    found = pd.read_csv(tmp_path / "example" / "table.csv")  # which may hold more
    kept["version"] = de.__version__
    pd.testing.assert_frame_equal(found[list(kept)], kept, rtol=1e-6)
    drawn = tmp_path / "example" / "report" / "ranks-1-1.svg"
    assert lines_of(drawn) == lines_of(docs / "benchmark-example.svg")


def lines_of(path):
    """Return where a figure's lines run, to a point."""
    paths = re.findall(r'<path d="(M [^"]*)"', path.read_text("utf-8"))
    return [[round(float(n)) for n in re.findall(r"-?[\d.]+", each)] for each in paths]
