"""How the code is laid out: packages, one-way imports, laziness, conventions."""

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

import pytest
import torch

from domainemo import Simulated
from domainemo.adapters.composite import Composite
from domainemo.parts import describe_object
from domainemo.registry import KINDS, entries, find
from domainemo.values import option_types

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "domainemo"
LINKED = ("adapters", "protocols", "studies")

# What each room may import from; a room may always import from itself.
FOUNDATION = {"errors", "places", "core", "registry", "files", "values", "words"}
MODELS = {"data", "samplings", "backbones", "adapters", "screens"}
MAY_IMPORT = {
    "errors": set(),
    "core": {"errors"},
    "values": {"errors"},
    "words": set(),
    "places": {"errors"},
    "outside": {"places"},
    "registry": {"errors", "places", "core", "values"},
    "files": {"errors"},
    "processes": {"errors", "places"},
    "machines": FOUNDATION | {"processes", "data"},
    "data": FOUNDATION | {"processes", "outside"},
    "backbones": FOUNDATION | {"data", "samplings"},
    "normalisations": FOUNDATION | {"data"},
    "controls": FOUNDATION,
    "samplings": FOUNDATION,
    "screens": FOUNDATION | {"statistics"},
    "statistics": {"errors"},
    "adapters": FOUNDATION | {"screens"},
    "protocols": FOUNDATION,
    "parts": FOUNDATION | {"adapters", "outside"},
    "validators": FOUNDATION | {"statistics"},
    "training": FOUNDATION | MODELS | {"statistics", "validators"},
    "choices": FOUNDATION | {"training"},
    "runs": FOUNDATION
    | MODELS
    | {"choices", "parts", "training", "validators", "protocols", "processes"}
    | {"statistics", "machines"},
}
MAY_IMPORT["review"] = MAY_IMPORT["runs"] | {"runs"}
# These stand at the end; nothing else may import them, or runs and their review.
LAST = {"studies", "benchmarks", "reports", "testing", "cli", "sklearn", "__main__"}


def python_files():
    """Yield every file of the package under its name in the package."""
    folders = [PACKAGE, *(PACKAGE / name for name in LINKED)]
    for folder in folders:
        yield from sorted(folder.rglob("*.py"))


def module_name(path):
    parts = ("domainemo", *path.relative_to(PACKAGE).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported(path):
    """Yield the dotted names in this package that a file imports, at any depth."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            target = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield (*target, alias.name)


def rooms_imported(path):
    """Return the rooms of this package that a file imports from."""
    names = {name for name in imported(path) if name[0] == "domainemo"}
    rooms = {name[1] for name in names if len(name) > 1}
    known = MAY_IMPORT.keys() | LAST
    return rooms & known


FILES = {".".join(module_name(path)): path for path in python_files()}


def test_every_file_was_found():
    assert len(FILES) > 30
    for name in ("domainemo.core", "domainemo.adapters.marginal", "domainemo.cli"):
        assert name in FILES


def test_every_room_has_its_place():
    rooms = {name.split(".")[1] for name in FILES if "." in name}
    assert rooms <= MAY_IMPORT.keys() | LAST, "give the new room a place in MAY_IMPORT"


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    if name == "domainemo":
        return  # the front door, checked below for what it imports at once
    room = name.split(".")[1]
    if room in LAST:
        allowed = MAY_IMPORT.keys() | LAST
        if room not in ("cli", "__main__"):
            allowed -= {"cli"}
    else:
        allowed = MAY_IMPORT[room]
    assert rooms_imported(FILES[name]) <= allowed | {room}


def test_the_scan_sees_imports_of_every_form(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "bad.py"
    for line in (
        "from ..training.fit import fit",
        "from .. import training",
        "import domainemo.training",
        "from domainemo.training import fit",
        "from domainemo import training",
        "def f():\n    from ..training import fit",
    ):
        path.write_text(line)
        assert rooms_imported(path) == {"training"}, line
    path.write_text(
        "from .training import x\nimport training\nfrom .. import __version__"
    )
    assert rooms_imported(path) - {"data"} == set()


def files_imported(path):
    """Return the files of this package that a file imports from, for types as well."""
    for name in imported(path):
        for length in (len(name), len(name) - 1):
            if (found := ".".join(name[:length])) in FILES:
                yield found
                break


def test_no_circle_among_files():
    """The front door apart, which everybody may ask for the version."""
    left = {name: {*files_imported(path)} - {name} for name, path in FILES.items()}
    del left["domainemo"]
    while ready := {name for name, needs in left.items() if not needs & left.keys()}:
        left = {name: needs for name, needs in left.items() if name not in ready}
    assert not left


def test_the_contract_knows_nothing_of_this_package_but_its_errors():
    assert rooms_imported(FILES["domainemo.core"]) == {"errors"}


def test_third_parties_are_imported_by_their_full_name_only():
    """`adapters` alone is another project's package."""
    for path in FILES.values():
        tops = {name[0] for name in imported(path)}
        assert not tops & set(LINKED), path


# ------------------------------------------------------------- one place for a thing

RENAMING = {"os.replace", "os.rename", "os.renames", "os.fsync", "shutil.move"}
RENAMING |= {"tempfile.NamedTemporaryFile", "tempfile.mkstemp", "tempfile.mktemp"}
RENAMING |= {".replace", ".rename"}
LOCKING = {"fcntl", "msvcrt", "filelock"}
OPTIMISING = ("torch.optim", "torch.nn.utils.clip_grad")


def used(path):
    """Yield the full dotted names that a file uses, and ``.NAME`` of paths' methods."""
    tree, known = ast.parse(path.read_text(encoding="utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    yield from known.values()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            top, _, rest = ast.unparse(node).partition(".")
            yield f"{known.get(top, top)}.{rest}"
        match node:
            # A text's method takes two, a table's takes names or a dictionary.
            case ast.Call(func=ast.Attribute(attr=name), args=[argument]):
                if not isinstance(argument, ast.Dict):
                    yield f".{name}"


def writes_or_locks(name):
    return name in RENAMING or name.partition(".")[0] in LOCKING


def optimises(name):
    return name.startswith(OPTIMISING)


@pytest.mark.parametrize(
    ("does", "place"),
    [
        (writes_or_locks, "domainemo.files."),
        (optimises, ("domainemo.training.loop", "domainemo.training.optimiser")),
    ],
)
def test_there_is_one_place_for_it(does, place):
    """Files renamed to their place, flushed and locked; gradients that become steps."""
    places = {name for name, path in FILES.items() if any(map(does, used(path)))}
    assert places and all(name.startswith(place) for name in places), places


@pytest.mark.parametrize(
    ("does", "forms", "others"),
    [
        (
            writes_or_locks,
            (
                "import os\nos.replace(a, b)",
                "from os import rename",
                "path.with_name(name).replace(other)",
                "path.rename(other)",
                "import tempfile as t\nt.mkstemp()",
                "def f():\n    from filelock import FileLock",
                "import fcntl",
            ),
            (
                "text.replace('a', 'b')",
                "table.rename(columns=names)",
                "table.replace({'a': 'b'})",
                "import tempfile\ntempfile.TemporaryDirectory()",
                "import os\nos.getpid()",
            ),
        ),
        (
            optimises,
            (
                "import torch\ntorch.optim.AdamW(weights)",
                "from torch import optim",
                "from torch.optim.lr_scheduler import StepLR",
                "import torch.optim as o",
                "from torch import nn\nnn.utils.clip_grad_norm_(weights, 1)",
            ),
            ("import torch\ntorch.nn.Linear(1, 1)", "import optuna"),
        ),
    ],
)
def test_the_scan_sees_it_in_every_form(tmp_path, does, forms, others):
    path = tmp_path / "file.py"
    for lines in forms + others:
        path.write_text(lines)
        assert any(map(does, used(path))) == (lines in forms), lines


# ------------------------------------------------------------------------- packaging


def test_pyproject_lists_the_packages_there_are():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    setuptools = project["tool"]["setuptools"]
    found = {
        ".".join(module_name(path))
        for path in python_files()
        if path.name == "__init__.py"
    }
    assert set(setuptools["packages"]) == found
    for name in FILES:
        if name not in found:
            assert name.rpartition(".")[0] in found, f"{name} is in no listed package"


def test_pyproject_lists_the_files_that_are_no_code():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    listed = {
        path.relative_to(PACKAGE)
        for package, patterns in project["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in REPOSITORY.joinpath(*package.split(".")).glob(pattern)
    }
    there = {
        path.relative_to(PACKAGE)
        for folder in (PACKAGE, *(PACKAGE / name for name in LINKED))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert listed == there


def test_pyproject_and_links_name_the_same_folders():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    folders = project["tool"]["setuptools"]["package-dir"]
    for name, folder in folders.items():
        linked = REPOSITORY.joinpath(*name.split("."))
        assert linked.resolve() == (REPOSITORY / folder).resolve()
    assert set(folders) == {"domainemo", *(f"domainemo.{name}" for name in LINKED)}


@pytest.mark.parametrize("name", LINKED)
def test_the_bare_folder_cannot_be_imported(name):
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"ImportError: import `domainemo.{name}`" in done.stderr


def test_importing_domainemo_loads_nothing_heavy():
    code = """
import sys
import domainemo
assert "run" in dir(domainemo)
print(sorted({"torch", "pandas", "numpy", "sklearn", "mne"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_everything_public_is_there():
    import domainemo

    for name in domainemo.__all__:
        assert getattr(domainemo, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        domainemo.nothing  # noqa: B018


# ----------------------------------------------------------------------- conventions

PARTS = [(kind, entry.name) for kind in KINDS for entry in entries(kind)]
FIRST = {"dataset": "root", "backbone": "modalities"}


def options(cls):
    """Return the constructor's parameters; none where it is torch's own."""
    if cls.__init__ is torch.nn.Module.__init__:
        return []
    return list(inspect.signature(cls).parameters.values())


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_part_is_documented_and_has_keyword_options_with_defaults(kind, name):
    cls = find(kind, name)
    assert cls.__doc__
    assert cls.__doc__.strip().splitlines()[0].endswith(".")
    for parameter in options(cls):
        if parameter.name == FIRST.get(kind):
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            continue
        assert parameter.kind is parameter.KEYWORD_ONLY, parameter.name
        assert parameter.default is not parameter.empty, parameter.name
        assert parameter.name in cls.__doc__, f"{parameter.name} is not documented"


def unbounded(annotation):
    if get_origin(annotation) in (Union, UnionType):
        return any(map(unbounded, get_args(annotation)))
    return annotation in (int, float)


@pytest.mark.parametrize(
    ("kind", "name"), [pair for pair in PARTS if pair[0] not in ("dataset", "protocol")]
)
def test_a_number_says_within_which_bounds_it_is_taken(kind, name):
    """A loss weight below 0 would train, and maximise what should be small."""
    types = option_types(find(kind, name))
    assert not [option for option, each in types.items() if unbounded(each)]


@pytest.mark.parametrize(
    ("kind", "name"), [pair for pair in PARTS if pair[0] != "dataset"]
)
def test_an_object_shows_the_options_it_was_made_with(kind, name):
    """Under their own names; a composite's may be its terms' instead."""
    cls = find(kind, name)
    first = ()
    if kind == "backbone":
        first = (Simulated(subjects=1, trials=3).load().inputs.modalities,)
    made = cls(*first)
    for option in options(cls):
        if option.name == FIRST.get(kind):
            continue
        if not issubclass(cls, Composite):
            assert hasattr(made, option.name), option.name
        elif isinstance(option.default, float):
            other = cls(**{option.name: option.default / 2 + 0.1})
            assert describe_object(other) != describe_object(made), option.name


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "adapters").rglob("*.py")), ids=str
)
def test_no_loss_waits_for_the_device(path):
    """`.item()` would stall a GPU, and forbid to train many models as one program."""
    assert ".item(" not in path.read_text(encoding="utf-8")


def test_benchmarks_hand_functions_of_their_own_to_workers_that_have_them():
    """Those of `process_pool` import the script that started them if they are told."""
    for path in sorted((REPOSITORY / "benchmarks").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        hands = "executor.submit" in text or "executor.map" in text
        pools = re.findall(r"process_pool\(.*", text) if hands else []
        assert all("script=True" in each for each in pools), path.name
