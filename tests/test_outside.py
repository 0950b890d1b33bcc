"""A run that goes on knows its own parts again: their code and their options."""

import importlib
import linecache
import subprocess
import sys
from types import ModuleType

import pytest
import torch

import domainemo as de
from domainemo import Adapter, Simulated, register, registry
from domainemo.errors import ConfigurationError
from domainemo.outside import text_of
from domainemo.parts import describe_object
from domainemo.registry import find, load_plugin

PART = """
from domainemo import Adapter, register
from {beside} import strength

@register
class OfOwn(Adapter):
    '''Pull embeddings to zero.'''

    def forward(self, source, target):
        rows = source.outputs.embeddings["fusion"]
        return {{"a": strength() * rows.square().mean()}}
"""
CHOSEN = {"backbone": "concatenation-mlp", "epochs": 2, "baselines": False}


@pytest.fixture(autouse=True)
def forgotten():
    """Forget what a test registers."""
    yield
    for name in ("of-own", "holds-its-shift-back", "holds-more"):
        registry._classes.pop(("adapter", name), None)


@pytest.fixture
def data():
    return Simulated(subjects=2, sessions=1, trials=4, windows=(3, 4)).load()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module and import it anew, and what stands beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(strength, more=""):
        for name in ("of_own_part", "of_own_strength"):
            sys.modules.pop(name, None)
        beside = f"def strength():\n    return {strength}\n"
        (tmp_path / "of_own_strength.py").write_text(beside)
        part = PART.format(beside="of_own_strength") + more
        (tmp_path / "of_own_part.py").write_text(part)
        importlib.invalidate_caches()
        return importlib.import_module("of_own_part").OfOwn

    yield write
    for name in ("of_own_part", "of_own_strength"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("change", [{"strength": 2.0}, {"more": "# other\n"}])
def test_a_run_refuses_to_go_on_with_code_that_has_changed(
    module, data, tmp_path, change
):
    """In the part's module, or in one beside it that this imports."""
    begun = {"strength": 0.0, "more": ""}
    output = tmp_path / "run"
    first = de.run(data, adapter=module(**begun), output=output, **CHOSEN)
    again = de.run(data, adapter=module(**begun), output=output, **CHOSEN)
    assert first.predictions.equals(again.predictions)
    with pytest.raises(ConfigurationError, match="changed since this run began: plugi"):
        de.run(data, adapter=module(**begun | change), output=output, **CHOSEN)


SCRIPT = """
import math
from domainemo import Adapter
from domainemo.outside import text_of

FACTOR, other = {factor}, {other}

def times(value):
    return {twice} * value

class Part(Adapter):
    def forward(self, source, target):
        other = times(math.pi)
        return {{"a": FACTOR * other}}

print(hash(text_of(Part)))
"""


@pytest.mark.parametrize("by", ["file", "input"])
def test_of_a_script_what_a_class_names_counts(by, tmp_path):
    """A number that is only called as a variable of the class's own does not."""

    def said(**values):
        code = SCRIPT.format(**{"factor": 1.0, "other": 1, "twice": 2} | values)
        (tmp_path / "script.py").write_text(code)
        given = {"input": code} if by == "input" else {}
        command = [sys.executable, "-" if given else str(tmp_path / "script.py")]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": ":".join(sys.path)},
            **given,
        ).stdout

    begun = said()
    assert begun == said(other=2)
    assert begun != said(factor=3.0)
    assert begun != said(twice=3)


def in_a_script(monkeypatch, code, name="<cell>", readable=False):
    """Run code as that of a notebook, whose module is in no file; return its names."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    if readable:
        lines = code.splitlines(keepends=True)
        monkeypatch.setitem(linecache.cache, name, (len(code), None, lines, name))
    exec(compile(code, name, "exec"), vars(module))
    return vars(module)


CELL = """
import functools
from domainemo import Adapter
from of_own_strength import strength as other

class Base:
    pass

class Part(Adapter, Base):
    weight = 0.5

    class Inner:
        factor = 1

    @functools.cached_property
    def scale(self):
        return 0.1

    @functools.lru_cache
    def forward(self, source, target):
        return {"a": SIZES[0] * other() * self.scale * source.sum()}

Part.best = Part
SIZES = [1, {"a": 2}]
"""


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight = 0.5", "weight = 7"),
        ("return 0.1", "return 0.9"),
        (".sum()", ".mean()"),
        ("factor = 1", "factor = 2"),
        ('"a": 2}', '"a": 3}'),
    ],
)
def test_of_a_notebook_every_method_counts(monkeypatch, module, old, new, readable):
    module(strength=1.0)
    texts = [
        text_of(in_a_script(monkeypatch, code, readable=readable)["Part"])
        for code in (CELL, "# more\n" + CELL, CELL.replace(old, new))
    ]
    assert texts[0] == texts[1] != texts[2]
    assert "return 1.0" in texts[0]  # of the module beside it


def test_parts_of_this_package_have_no_text_of_their_own():
    found = de.registry.find("adapter", "marginal")
    assert text_of(found) == ""


# -------------------------------------------------------------------------- options


class HoldsItsShiftBack(Adapter):
    """Predict one class more often than the network does."""

    needs_target = False

    def __init__(self, *, shift: float = 0.0) -> None:
        super().__init__()
        self._kept = torch.tensor([shift, 0.0, 0.0])

    def forward(self, source, target):
        return {}

    def predict(self, outputs):
        return outputs.logits["fusion"] + self._kept


@pytest.fixture
def holding():
    return register(HoldsItsShiftBack)


def test_an_object_is_made_again_by_options_that_no_attribute_tells(
    holding, data, tmp_path
):
    output = tmp_path / "run"
    results = de.run(data, adapter=holding(shift=5.0), output=output, **CHOSEN)
    read = de.predict(output, data, fold="subject 1")
    trained = results.predictions
    trained = trained[(trained.fold == "subject 1") & (trained.seed == 0)]
    both = read.merge(trained, on=["subject", "trial", "start"], suffixes=("", "_then"))
    assert len(both) == len(trained)
    for name in data.classes:
        assert both[f"p_{name}"].equals(both[f"p_{name}_then"])
    with pytest.raises(ConfigurationError, match=r"adapter.shift: there 5.0, now 0.0"):
        de.run(data, adapter=holding(), output=output, **CHOSEN)


class HoldsMore(Adapter):
    """Do nothing, by a function that no configuration can hold."""

    needs_target = False

    def __init__(self, *, function=torch.sigmoid, shift: float | None = 5.0) -> None:
        super().__init__()
        self._function, self.shift = function, shift

    def forward(self, source, target):
        return {}


def test_what_no_configuration_can_hold_is_left_out(data, tmp_path):
    made = register(HoldsMore)(function=torch.tanh)
    for _ in range(2):
        assert len(de.run(data, adapter=made, output=tmp_path, **CHOSEN).predictions)
    named = {"fold": "subject 1", "adapter": HoldsMore.registered_name}
    assert len(de.predict(tmp_path, data, **named))
    assert describe_object(made) == {"class": "HoldsMore", "shift": 5.0}
    made.shift = None
    assert describe_object(made) == {"class": "HoldsMore"}


def test_what_an_object_was_made_with_is_told_unless_it_was_changed(holding):
    made = de.registry.find("adapter", "marginal")(weight=2.0)
    assert describe_object(made)["weight"] == 2.0
    made.weight = 3.0
    assert describe_object(made)["weight"] == 3.0
    assert describe_object(holding(shift=1.5))["shift"] == 1.5


def test_a_file_may_be_imported_and_be_a_plugin(module, tmp_path):
    imported = module(strength=1.0)
    load_plugin(tmp_path / "of_own_part.py")
    assert find("adapter", "of-own") is not imported
    assert find("adapter", "of-own").__qualname__ == imported.__qualname__
