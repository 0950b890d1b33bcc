"""`domainemo show` and the shell's completion of names."""

import inspect
import subprocess
import sys

import pytest

from domainemo import registry
from domainemo.cli import main
from domainemo.cli.docstrings import laid_out, meaning, sections
from domainemo.cli.named import studies
from domainemo.registry import KINDS, entries, find, parameters

PARTS = [(kind, entry.name) for kind in KINDS for entry in entries(kind)]


@pytest.fixture
def said(monkeypatch, capsys):
    """What a command line prints, and how it ends."""
    monkeypatch.setenv("COLUMNS", "80")
    # Else the program would be called as whoever runs the tests.
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None, raising=False)

    def run(*words, code=0):
        monkeypatch.setattr(sys, "argv", ["domainemo", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == code
        told = capsys.readouterr()
        return told.out if code == 0 else " ".join(told.err.split())

    yield run
    for key, cls in [*registry._classes.items()]:
        if cls.__module__.startswith(registry._PLUGIN):
            del registry._classes[key]
            sys.modules.pop(cls.__module__, None)


OWN = '''
from typing import Annotated, Literal

from domainemo import Adapter, register
from domainemo.values import Bounds


class Weighted(Adapter):
    """What others inherit.

    Parameters
    ----------
    weight : float
        How much it
        counts, in all.
    """


@register
class OwnDistance(Weighted):
    r"""A distance of my own.

    .. math:: L = \\|m_s - m_t\\|^2

    of means (Somebody, 2020); see :class:`~domainemo.core.Adapter`. It is said in so
    many words that the line is too long for eighty columns.

    Parameters
    ----------
    weight
        See `Weighted`. Mine is larger.
    way : {"near", "far"}
        Where to ``look``.

    Notes
    -----
    - one
    - two
    """

    needs_target = False

    def __init__(
        self,
        *,
        weight: Annotated[float, Bounds(above=0)] = 2.0,
        way: Literal["near", "far"] = "near",
    ):
        super().__init__()

    def forward(self, source, target):
        return {}

    @classmethod
    def space(cls, trial):
        low = 1.0 if trial.suggest_categorical("way", ["near", "far"]) == "near" else 9
        return {"weight": trial.suggest_float("weight", low, 10, log=True)}
'''

SHOWN = r"""own-distance: an adapter

A distance of my own.

    L = \|m_s - m_t\|^2

of means (Somebody, 2020); see Adapter. It is said in so many words that the
line is too long for eighty columns.

Notes

- one
- two

It works on the source alone.

Options, each set by --set adapter.NAME=VALUE

  weight = 2.0 (number above 0)
      How much it counts, in all. Mine is larger.
      A study searches 1 to 10, logarithmic.

  way = near (near or far)
      Where to look.
      A study searches near, far.

Use it
    domainemo adapt --adapter own-distance --plugin own.py

Defined in """


def test_a_plugin_is_shown_whole(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    shown = said("show", "own-distance", "--plugin", "own.py")
    assert shown.startswith(SHOWN)
    assert "own.py, line" in shown.removeprefix(SHOWN)


def test_a_name_of_several_kinds_shows_all_and_kind_chooses(said):
    both = said("show", "bnm")
    assert "bnm: an adapter" in both and "bnm: a validator" in both
    assert both.index("an adapter") < both.index("a validator")
    one = said("show", "bnm", "--kind", "validators")
    assert one.startswith("bnm: a validator") and "an adapter" not in one
    # Joined ones are told each, and a study by its file.
    joined = said("show", "dann+coral", code=2)
    assert "no part called 'coral'" in joined
    told = said("show", "uf-ama-seed-iv")
    assert studies()["uf-ama-seed-iv"].read_text(encoding="utf-8").strip() in told


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("SEEDIV",), "Did you mean 'seed-iv'?"),
        (("uf_amma",), "Did you mean 'uf-ama'?"),
        (("bnm", "--kind", "protocol"), "There is no protocol called 'bnm'."),
        (("bnm", "--kind", "adaptor"), "Did you mean 'adapter' or"),
        (("dann+",), "joins parts in no way that can be read"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(words, expected, said):
    assert expected in said("show", *words, code=2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_every_part_is_explained(kind, said):
    """What a docstring leaves to another's is fetched from there."""
    for name in [name for its_kind, name in PARTS if its_kind == kind]:
        cls = find(kind, name)
        for option in parameters(cls):
            told = meaning(cls, option)
            # A function whose name explains the option is no docstring of options.
            assert told and not told.startswith("See `Alignment"), (name, option)
    shown = said("show", name, "--kind", kind)
    for option in parameters(cls):
        assert f"\n  {option} = " in shown
    assert inspect.cleandoc(cls.__doc__).split("\n", 1)[0] in shown
    assert max(map(len, shown.split("Defined in")[0].splitlines())) <= 80


def test_sections_and_paragraphs():
    told = sections(SectionsAsNumpydocHasThem.__doc__)
    assert list(told) == ["", "Parameters", "References"]
    assert told["References"] == "Somebody (2020)."
    assert list(laid_out(told[""], 40)) == [
        "",
        "One line.",
        "",
        "A paragraph of two lines, and a",
        "directive:",
        "",
        "    x = 1",
        "",
        ">>> f(1)",
        "2",
    ]


class SectionsAsNumpydocHasThem:
    """One line.

    A paragraph of
    two lines, and a directive:

    .. math::

        x = 1

    >>> f(1)
    2

    Parameters
    ----------
    x : int

    References
    ----------
    Somebody (2020).
    """


def test_showing_a_part_imports_its_own_file_and_no_other_library():
    script = (
        "import sys\n"
        "from domainemo.cli import app\n"
        "app(['show', 'cross-subject'], standalone_mode=False)\n"
        "heavy = {'sklearn', 'ot', 'matplotlib', 'optuna', 'mne', 'pytorch_adapt'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


# ------------------------------------------------------------------------ completion


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("adapt --protocol cross-se", ["cross-session"]),
        ("adapt --adapter distillation+margi", ["distillation+marginal"]),
        ("adapt --adapter pytorch-adapt:MCD", ["pytorch-adapt:MCD"]),
        ("adapt --controls majority-class,linear", ["majority-class,linear-coral"]),
        ("adapt --target seed-i", ["seed-iv"]),
        ("data check seed-i", ["seed-iv"]),
        ("predict run --dataset eeg", ["eegmat"]),
        ("tune --config r2gfanet-t", ["r2gfanet-trials"]),
        ("benchmark uf-ama-abl", ["uf-ama-ablation"]),
        ("select run --validator rank", ["rank-average"]),
        ("list protoc", ["protocol"]),
        ("show seed-v", ["seed-v", "seed-vii"]),
        ("adapt --backbone nothing-like-it", []),
    ],
)
def test_a_shell_completes_names(line, expected, said, monkeypatch):
    words = f"domainemo {line}"
    monkeypatch.setenv("_DOMAINEMO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert said().split() == expected


def test_a_shell_is_told_what_each_name_is(said, monkeypatch):
    monkeypatch.setenv("_DOMAINEMO_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "domainemo adapt --protocol cross-subj")
    (entry,) = (e for e in entries("protocol") if e.name == "cross-subject")
    assert said().split("\t") == ["cross-subject", f"{entry.summary}\n"]
