"""Names, plug-ins, and listing parts without importing them."""

import subprocess
import sys

import pytest

from domainemo import Adapter, ConfigurationError
from domainemo.registry import KINDS, entries, find, load_plugin, parameters, register

PLUGIN = '''
"""A plug-in."""

from domainemo import Adapter, register


@register
class {name}(Adapter):
    """Do nothing, from a file."""

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, source, target):
        return {{}}
'''


@pytest.fixture(autouse=True)
def own_registry():
    """Forget what a test registers; what is built in stays imported."""
    for kind in KINDS:
        for entry in entries(kind):
            find(kind, entry.name)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("domainemo_plugin"):
            del sys.modules[name]


def adapter(name, **body):
    """Return a new adapter class called `name`, not registered."""
    body = {"forward": lambda self, source, target: {}, **body}
    return type(name, (Adapter,), {"__doc__": "A test.", **body})


def python(code):
    """Run code in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# --------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MeanAlignment", "mean-alignment"),
        ("Mean", "mean"),
        ("MeanAlignment2D", "mean-alignment2-d"),
        ("UFAMALike", "ufamalike"),
    ],
)
def test_names_are_kebab_case(name, expected):
    cls = register(adapter(name))
    assert cls.registered_name == expected
    assert find("adapter", expected) is cls


def test_a_name_of_ones_own():
    cls = register(name="of-our-own")(adapter("DomainAdversarial"))
    assert find("adapter", "of-our-own") is cls
    with pytest.raises(ConfigurationError, match="no adapter called"):
        find("adapter", "domain-adversarial")


@pytest.mark.parametrize("kind", KINDS)
def test_every_listed_name_is_found(kind):
    listed = list(entries(kind))
    assert listed
    assert len({entry.name for entry in listed}) == len(listed)
    for entry in listed:
        cls = find(kind, entry.name)
        assert cls.registered_name == entry.name
        assert cls.__module__ == entry.origin
        assert entry.summary == cls.__doc__.strip().splitlines()[0]


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError) as raised:
        find("adapter", "marginl")
    assert "Did you mean 'marginal'" in str(raised.value)
    assert raised.value.exit_code == 2
    with pytest.raises(ConfigurationError) as raised:
        find("adapter", "zzzzzz")
    assert "Did you mean" not in str(raised.value)
    for entry in entries("adapter"):
        assert entry.name in str(raised.value)


def test_a_name_is_of_one_kind_only():
    with pytest.raises(ConfigurationError, match="no adapter called 'cross-subject'"):
        find("adapter", "cross-subject")


def test_two_classes_of_one_name_are_refused():
    first = register(adapter("Twice", __module__="one"))
    second = adapter("Twice", __module__="two")
    with pytest.raises(ConfigurationError, match=r"one\.Twice and two\.Twice"):
        register(second)
    assert find("adapter", "twice") is first
    register(name="twice-again")(second)


def test_a_built_in_name_is_refused_once_its_module_is_imported():
    find("adapter", "marginal")
    with pytest.raises(ConfigurationError, match="Two adapters are called 'marginal'"):
        register(adapter("Marginal"))


def test_a_built_in_name_is_refused_before_its_module_is_imported():
    code = """
from domainemo import Adapter, ConfigurationError, register
class Marginal(Adapter):
    '''Another.'''
    def forward(self, source, target): return {}
try:
    register(Marginal)
except ConfigurationError:
    print("refused")
"""
    assert python(code).strip() == "refused"


def test_a_class_defined_anew_replaces_itself():
    """As when a cell of a notebook is run again."""
    register(adapter("Again"))
    second = register(adapter("Again"))
    assert find("adapter", "again") is second


def test_only_parts_can_be_registered():
    with pytest.raises(ConfigurationError, match="expected a subclass of"):
        register(type("Nothing", (), {}))


def test_parameters_are_the_keyword_only_ones():
    class Options:
        def __init__(self, first, /, second=1, *, third=2, fourth) -> None: ...

    assert list(parameters(Options)) == ["third", "fourth"]


# -------------------------------------------------------------------------- plug-ins


def test_a_plug_in_is_found_and_listed(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="FromDisk"))
    load_plugin(path)
    assert find("adapter", "from-disk")(weight=2.0).weight == 2.0
    listed = {entry.name: entry for entry in entries("adapter")}
    assert listed["from-disk"].summary == "Do nothing, from a file."
    assert list(listed)[-1] == "from-disk"  # built-in ones first


def test_a_plug_in_is_imported_once(tmp_path):
    log = tmp_path / "log"
    path = tmp_path / "mine.py"
    path.write_text(
        PLUGIN.format(name="Once")
        + f"\nwith open({str(log)!r}, 'a') as file:\n    file.write('x')\n"
    )
    load_plugin(path)
    cls = find("adapter", "once")
    load_plugin(str(path))
    load_plugin(tmp_path / "." / "mine.py")
    assert find("adapter", "once") is cls
    assert log.read_text() == "x"


def test_two_plug_ins_of_one_file_name_can_meet(tmp_path):
    for folder, name in (("a", "FromA"), ("b", "FromB")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.py"
        path.write_text(PLUGIN.format(name=name))
        load_plugin(path)
    assert find("adapter", "from-a") is not find("adapter", "from-b")


def test_two_plug_ins_with_one_part_are_refused(tmp_path):
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text(PLUGIN.format(name="Same"))
    load_plugin(tmp_path / "a.py")
    with pytest.raises(ConfigurationError, match="Two adapters are called 'same'"):
        load_plugin(tmp_path / "b.py")


def test_a_missing_plug_in_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.py: there is no such file"):
        load_plugin(tmp_path / "nowhere.py")
    with pytest.raises(ConfigurationError, match="no such file"):
        load_plugin(tmp_path)  # a folder


def test_a_file_that_is_no_python_is_refused(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("x = 1")
    with pytest.raises(ConfigurationError, match=r"expected a Python file"):
        load_plugin(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_failing_plug_in_says_why_and_can_be_repaired(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as raised:
        load_plugin(path)
    assert str(path) in str(raised.value)
    path.write_text(PLUGIN.format(name="Repaired") + "# a file of another length\n")
    load_plugin(path)
    assert find("adapter", "repaired")


# -------------------------------------------------------------------------- laziness


def test_listing_imports_no_part_and_nothing_heavy():
    code = """
import sys
from domainemo.registry import KINDS, entries
listed = [entry for kind in KINDS for entry in entries(kind)]
assert len(listed) > 8, listed
heavy = {"torch", "pandas", "sklearn", "scipy", "mne", "ot", "optuna", "pytorch_adapt"}
print(sorted(heavy & set(sys.modules)))
print(sorted(entry.origin for entry in listed if entry.origin in sys.modules))
"""
    assert python(code).split() == ["[]", "[]"]


def test_a_part_imports_no_other_part():
    code = """
import sys
from domainemo.registry import entries, find
find("protocol", "cross-subject")
others = {e.origin for k in ("adapter", "backbone", "validator") for e in entries(k)}
print(sorted(others & set(sys.modules)))
"""
    assert python(code).split() == ["[]"]
