"""Beginner's mistakes in a plug-in end in a sentence that leads to their line.

Each mistake is one file, given by ``--plugin`` to ``domainemo adapt`` on a few
simulated windows. The line that is to be named carries the mark ``# here``.

Takes about 50 s on one core.
"""

from __future__ import annotations

import pickle
import sys
from contextlib import nullcontext

import pytest

import domainemo as de
from domainemo import registry
from domainemo.cli import main
from domainemo.places import PLUGIN
from domainemo.registry import load_plugin
from domainemo.runs import job

TINY = [
    "--set=data.subjects=3",
    "--set=data.sessions=1",
    "--set=data.trials=3",
    "--set=data.windows=[2, 3]",
    "--set=backbone.hidden=[8]",
    "--backbone=concatenation-mlp",
    "--fold=subject 1",
    "--epochs=1",
    "--jobs=1",
    "--output=run",
]
HEAD = """
import numpy as np
import torch
from torch import nn
import domainemo as de
from domainemo import Fold, Pseudo, register

"""
CHOSEN = {
    "adapter": ["--adapter=mine"],
    "control": ["--adapter=none", "--controls=mine"],
    "screen": ["--adapter=distillation", "--set=adapter.screen=mine"],
}

# kind, exit code, what must be said, the class
ADAPTER, BACKBONE = "@register\nclass Mine(de.Adapter):\n", "@register\nclass Mine("
BACKBONE += "de.Backbone):\n"
MISTAKES = {
    "syntax": ("adapter", 2, "SyntaxError", "def f(:  # here\n    pass"),
    "class body": (
        "adapter",
        2,
        "NameError: name 'missing' is not defined",
        f"{ADAPTER}    weight = missing  # here\n",
    ),
    "missing module": (
        "adapter",
        2,
        "No module named 'nowhere'",
        "import nowhere  # here\n",
    ),
    "leaves": ("adapter", 2, "SystemExit: 3", "raise SystemExit(3)  # here\n"),
    "name taken": (
        "adapter",
        2,
        "Two adapters are called 'marginal'",
        "@register(name='marginal')  # here\nclass Mine(de.Adapter):\n"
        "    def forward(self, source, target):\n        return {}\n",
    ),
    "no default": (
        "adapter",
        2,
        "The option 'weight' of the adapter Mine has no default",
        f"{ADAPTER}    def __init__(self, *, weight):  # here\n"
        "        super().__init__()\n"
        "    def forward(self, source, target):\n        return {}\n",
    ),
    "positional": (
        "sampling",
        2,
        "The option 'length' of the sampling Mine is no keyword",
        "@register\nclass Mine(de.Sampling):\n    level = 'window'\n"
        "    def __init__(self, length=1):  # here\n        pass\n"
        "    def rows(self, windows):\n        return None\n",
    ),
    "no method": (
        "adapter",
        2,
        "The adapter Mine has no method forward",
        "@register  # here\nclass Mine(de.Adapter):\n"
        "    def foward(self, source, target):\n        return {}\n",
    ),
    "no super, adapter": (
        "adapter",
        2,
        "did not call super().__init__()",
        f"{ADAPTER}    def __init__(self, *, weight=1.0):  # here\n"
        "        self.weight = weight\n"
        "    def forward(self, source, target):\n        return {}\n",
    ),
    "no super, backbone": (
        "backbone",
        2,
        "AttributeError: cannot assign module before",
        f"{BACKBONE}    def __init__(self, modalities):\n"
        "        self.layer = nn.Linear(2, 2)  # here\n"
        "    def forward(self, signals, masks):\n        return {}\n",
    ),
    "made too late": (
        "adapter",
        1,
        "Mine has made late.bias in a step of training, too late",
        "@register  # here\nclass Mine(de.Adapter):\n"
        "    def forward(self, source, target):\n"
        "        rows = source.outputs.embeddings['fusion']\n"
        "        if not hasattr(self, 'late'):\n"
        "            self.late = nn.Linear(rows.shape[-1], 1)\n"
        "        return {'a': self.late(rows).mean()}\n",
    ),
    "lets a buffer grow": (
        "adapter",
        1,
        "Mine has weights or buffers that are not those that prepare makes",
        "@register  # here\nclass Mine(de.Adapter):\n"
        "    def prepare(self, dims, classes, domains):\n"
        "        self.register_buffer('seen', torch.zeros(0, classes))\n"
        "    def forward(self, source, target):\n"
        "        rows = source.outputs.logits['fusion'].detach()\n"
        "        self.seen = torch.cat([self.seen, rows])\n        return {}\n"
        "    def predict(self, outputs):\n"
        "        return outputs.logits['fusion'] + self.seen.mean(0)\n",
    ),
    "forgets how it predicts": (
        "adapter",
        1,
        "Mine predicts by something that its weights and buffers do not hold",
        "@register  # here\nclass Mine(de.Adapter):\n    centre = 0.0\n"
        "    def forward(self, source, target):\n"
        "        self.centre = source.outputs.logits['fusion'].mean(0).detach()\n"
        "        return {}\n"
        "    def predict(self, outputs):\n"
        "        return outputs.logits['fusion'] + self.centre\n",
    ),
    "adapter raises": (
        "adapter",
        1,
        "The adapter Mine failed: KeyError: 'eeeg'",
        f"{ADAPTER}    def forward(self, source, target):\n"
        "        return helper(source)\n\n"
        "def helper(source):\n"
        "    return {'a': source.outputs.embeddings['eeeg'].mean()}  # here\n",
    ),
    "prepare raises": (
        "adapter",
        1,
        "KeyError: 'fussion'",
        f"{ADAPTER}    def prepare(self, dims, classes, domains):\n"
        "        self.head = nn.Linear(dims['fussion'], classes)  # here\n"
        "    def forward(self, source, target):\n        return {}\n",
    ),
    **{
        f"adapter returns {words}": (
            "adapter",
            1,
            sentence,
            f"{ADAPTER}    def forward(self, source, target):  # here\n"
            "        logits = source.outputs.logits['fusion']\n"
            f"        return {returned}\n",
        )
        for words, sentence, returned in (
            ("a tensor", "The adapter Mine returned a Tensor of", "logits.mean()"),
            ("nothing", "The adapter Mine returned nothing (None)", "None"),
            ("a vector", "type torch.float32 as 'a'; expected", "{'a': logits[:, 0]}"),
            ("a number", "returned a float as 'a'; expected", "{'a': 0.5}"),
            ("NaN", "a is not finite from step 1", "{'a': logits.mean() * np.nan}"),
            ("a name taken", "'total', a name that", "{'total': logits.mean()}"),
        )
    },
    "predict": (
        "adapter",
        1,
        "The adapter Mine.predict returned a Tensor of shape",
        f"{ADAPTER}    def forward(self, source, target):\n        return {{}}\n"
        "    def predict(self, outputs):  # here\n"
        "        return outputs.logits['fusion'].argmax(-1)\n",
    ),
    "backbone without sampling": (
        "backbone",
        2,
        "The backbone Mine has no sampling",
        f"{BACKBONE}    def __init__(self, modalities):  # here\n"
        "        super().__init__()\n"
        "    def forward(self, signals, masks):\n        return {}\n",
    ),
    **{
        f"backbone {words}": (
            "backbone",
            2,
            sentence,
            f"{BACKBONE}    def __init__(self, modalities):\n"
            "        super().__init__()\n        self.sampling = de.Windows()\n"
            "    def forward(self, signals, masks):  # here\n"
            "        means = {k: v.mean((1, 2)) for k, v in signals.items()}\n"
            f"        return {returned}\n",
        )
        for words, sentence, returned in (
            ("without fusion", "expected one called 'fusion'", "means"),
            ("tensor", "The backbone Mine returned a Tensor", "means['eeg']"),
            (
                "of wrong shape",
                "for 'fusion', of a batch of 2; expected",
                "{**means, 'fusion': means['eeg'].mean(0)}",
            ),
        )
    },
    **{
        f"validator {words}": (
            "validator",
            1,
            sentence,
            "@register\nclass Mine(de.Validator):\n"
            f"    def __call__(self, training, held_out, target):{first}\n"
            f"        return {returned}\n",
        )
        for words, sentence, first, returned in (
            ("None", "The validator Mine returned nothing", "  # here", "None"),
            ("text", "returned a str; expected a number", "  # here", "'0.7'"),
            (
                "tensor",
                "returned a Tensor of shape",
                "  # here",
                "target.outputs.logits['fusion']",
            ),
            (
                "training",
                "'NoneType' object has no attribute 'outputs'",
                "",
                "training.outputs.logits['fusion'].mean()  # here",
            ),
        )
    },
    **{
        f"normalisation {words}": (
            "normalisation",
            1,
            sentence,
            "@register\nclass Mine(de.Normalisation):\n"
            "    by, words = 'subject', 'by me'\n"
            f"    def fit(self, seen):{' # here' * ('fit' in words)}\n"
            f"        return {fit}\n"
            f"    def apply(self, values, learned):{' # here' * ('apply' in words)}\n"
            f"        return {applied}\n",
        )
        for words, sentence, fit, applied in (
            ("fit array", "The normalisation Mine.fit returned an array", "seen", "0"),
            ("fit text", "what is no array of numbers", "{'a': 'much'}", "values"),
            ("apply mean", "Mine.apply returned a float", "{}", "float(values.mean())"),
        )
    },
    "normalisation without by": (
        "normalisation",
        2,
        "The normalisation Mine has no 'by'",
        "@register  # here\nclass Mine(de.Normalisation):\n    words = 'by me'\n"
        "    def fit(self, seen):\n        return {}\n"
        "    def apply(self, values, learned):\n        return values\n",
    ),
    **{
        f"protocol {words}": (
            "protocol",
            2,
            sentence,
            "@register\nclass Mine(de.Protocol):\n    domain = 'subject'\n"
            "    def split(self, windows):  # here\n"
            "        rows = np.arange(len(windows))\n"
            f"        {returned}\n",
        )
        for words, sentence, returned in (
            (
                "overlaps",
                "source and target share windows",
                "yield Fold('subject 1', rows, rows, rows)",
            ),
            ("yields pairs", "Mine.split returned a tuple", "yield rows, rows"),
            ("returns nothing", "Mine.split returned nothing", "rows"),
            (
                "yields lists",
                "its source rows are list",
                "yield Fold('subject 1', [0, 1], rows[2:], rows[2:])",
            ),
        )
    },
    **{
        f"protocol's {words}": (
            "protocol",
            2,
            f"Mine has {words}",
            f"@register  # here\nclass Mine(de.Protocol):\n    domain = 'subject'\n"
            f"    {words}\n"
            "    def split(self, windows):\n        return []\n",
        )
        for words in ("disjoint = 'stimulus'", "disjoint = ('clip',)", "unfit = 'omit'")
    },
    "protocol raises": (
        "protocol",
        2,
        "The protocol Mine failed: KeyError: 'label'",
        "@register\nclass Mine(de.Protocol):\n    domain = 'subject'\n"
        "    def split(self, windows):\n"
        "        yield windows['label']  # here\n",
    ),
    **{
        f"sampling {words}": (
            "sampling",
            1,
            sentence,
            "@register\nclass Mine(de.Sampling):\n    level = 'window'\n"
            "    def rows(self, windows):  # here\n"
            f"        return {returned}\n",
        )
        for words, sentence, returned in (
            ("flat", "no whole numbers of shape", "np.arange(len(windows))"),
            ("list", "Mine.rows returned a list", "[[0], [1]]"),
            ("beyond", "numbers beyond the", "np.arange(len(windows) + 1)[:, None]"),
            ("two trials", "a sample of two trials", "np.arange(len(windows))[None]"),
        )
    },
    **{
        f"screen {words}": (
            "screen",
            1,
            sentence,
            "@register\nclass Mine(de.Screen):\n"
            "    def forward(self, target):  # here\n"
            "        logits = target.outputs.logits\n"
            "        one = {k: torch.ones(len(v)) for k, v in logits.items()}\n"
            "        short = {k: v[:1] for k, v in one.items()}\n"
            f"        return {returned}\n",
        )
        for words, sentence, returned in (
            ("tensor", "The screen Mine returned a Tensor", "logits['fusion']"),
            (
                "floats",
                "type torch.float32 as labels",
                "Pseudo(logits['fusion'].max(-1).values, one)",
            ),
            (
                "shape",
                "as weights of",
                "Pseudo(logits['fusion'].argmax(-1), short)",
            ),
        )
    },
    **{
        f"control {words}": (
            "control",
            1,
            sentence,
            "@register\nclass Mine(de.Control):\n    words = 'mine'\n"
            "    def predict(self, windows, source, labels, target, test, values"
            "):  # here\n"
            f"        return {returned}\n",
        )
        for words, sentence, returned in (
            (
                "text",
                "The control Mine.predict returned",
                "np.array(['sad'] * len(test))",
            ),
            ("too few", "returned an array of shape (1,)", "labels[:1]"),
            ("scores", "which are no probabilities", "[[-1.0, 2.0]] * len(test)"),
            ("sums", "[0.5, 0.9] for window 0", "[[0.5, 0.9]] * len(test)"),
            ("ragged", "returned a list that is no array", "[[0.1], [0.2, 0.8]] * 2"),
            ("beyond", "returned classes from 9 to 9", "np.full(len(test), 9)"),
        )
    },
    "load raises": (
        "dataset",
        3,
        "The data set Mine failed: FileNotFoundError",
        "@register\nclass Mine(de.Dataset):\n    def load(self):\n"
        "        return np.load('nowhere.npy')  # here\n",
    ),
    "load returns arrays": (
        "dataset",
        3,
        "The data set Mine loaded an array of shape (3,)",
        "@register\nclass Mine(de.Dataset):\n    def load(self):  # here\n"
        "        return np.zeros(3)\n",
    ),
}


@pytest.fixture
def adapt(monkeypatch, capsys, tmp_path):
    """``domainemo adapt`` in this process, which forgets the plug-in afterwards."""
    monkeypatch.setenv("DOMAINEMO_DATA", "")
    monkeypatch.chdir(tmp_path)

    def forget():
        for key, cls in list(registry._classes.items()):
            if cls.__module__.startswith(PLUGIN):
                del registry._classes[key]
        for name in [name for name in sys.modules if name.startswith(PLUGIN)]:
            del sys.modules[name]

    def run(kind, *more):
        """Return the exit code, and what was said in one line."""
        forget()
        chosen = CHOSEN.get(kind, ["--adapter=none", f"--{kind}=mine"])
        tiny = [each for each in TINY if kind != "backbone" or "backbone" not in each]
        tiny = [each for each in tiny if kind != "dataset" or "data." not in each]
        baselines = [] if kind == "control" else ["--no-baselines"]
        command = ["domainemo", "adapt", *tiny, *chosen, *baselines]
        monkeypatch.setattr(sys, "argv", [*command, "--plugin=mistake.py", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, " ".join(capsys.readouterr().err.split())

    yield run
    forget()


def write(folder, code):
    """Write the plug-in; return the number of the line that is marked."""
    lines = (HEAD + code).split("\n")
    (folder / "mistake.py").write_text("\n".join(lines))
    return next((n for n, line in enumerate(lines, 1) if "# here" in line), None)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line(mistake, adapt, tmp_path):
    kind, code, words, source = MISTAKES[mistake]
    line = write(tmp_path, source)
    ended, said = adapt(kind)
    assert words in said
    assert f"{tmp_path / 'mistake.py'}, line {line}" in said
    assert "Traceback" not in said and "did not foresee" not in said
    assert ended == code, said


def test_every_kind_has_mistakes():
    assert {kind for kind, *_ in MISTAKES.values()} == set(registry.KINDS)


RAISES = f"{ADAPTER}    def forward(self, source, target):\n        {{}}  # here\n"
BUG = RAISES.format("return {'a': source.outputs.embeddings['eeeg'].mean()}")
MENDED = RAISES.format("return {'a': source.outputs.embeddings['eeg'].mean()}")


def folds(folder):
    """Return the names of the finished jobs."""
    found = folder.glob("run/folds/*/*/*")
    return {path.name for path in found if path.suffix != ".partial"}


def test_a_mended_plugin_goes_on_where_nothing_is_finished(adapt, tmp_path):
    write(tmp_path, BUG)
    assert adapt("adapter")[0] == 1
    # As if the bug had come late: no training goes on that other code has begun.
    (stale,) = tmp_path.glob("run/folds/*/*/*.partial")
    (stale / "checkpoint.pt").write_bytes(b"of other code")
    write(tmp_path, MENDED)
    ended, said = adapt("adapter")
    assert ended == 0, said
    assert folds(tmp_path) == {"mine"} and not stale.exists()
    # What is finished is now the mended code's, and goes on with it alone.
    assert adapt("adapter")[0] == 0
    write(tmp_path, MENDED.replace("'a'", "'b'"))
    ended, said = adapt("adapter")
    assert ended == 2
    assert "changed since this run began: plugins" in said
    assert "(folds/subject_1/seed-0/mine" in said and "--output" in said
    assert "'a'" not in said and folds(tmp_path) == {"mine"}


def test_a_mended_plugin_goes_on_beside_what_it_had_no_part_in(adapt, tmp_path):
    """Source only was trained beside the bug, as the same command does by default."""
    write(tmp_path, BUG)
    more = ["--baselines"]
    assert adapt("adapter", *more)[0] == 1
    assert folds(tmp_path) == {"none", "logistic_regression"}
    weights = next(tmp_path.glob("run/folds/*/*/none/model.safetensors"))
    before = weights.stat().st_mtime_ns
    write(tmp_path, MENDED)
    ended, said = adapt("adapter", *more)
    assert ended == 0, said
    assert folds(tmp_path) == {"none", "logistic_regression", "mine"}
    assert weights.stat().st_mtime_ns == before and "damaged" not in said
    # And once more: what was kept belongs to the run as it is now.
    assert adapt("adapter", *more)[0] == 0
    assert weights.stat().st_mtime_ns == before


def test_a_mended_plugin_is_refused_beside_what_it_had_a_part_in(adapt, tmp_path):
    """And what is there is left as it is."""
    write(tmp_path, MENDED)
    assert adapt("adapter")[0] == 0
    before = (tmp_path / "run/environment.json").read_bytes()
    write(tmp_path, MENDED.replace("'a'", "'b'"))
    ended, said = adapt("adapter")
    assert ended == 2 and "(folds/subject_1/seed-0/mine" in said
    assert (tmp_path / "run/environment.json").read_bytes() == before


@pytest.mark.parametrize(("copied", "jobs"), [(True, 2), (False, 1)])
def test_the_line_and_the_traceback_cross_processes(
    copied, jobs, adapt, tmp_path, two_processes, monkeypatch
):
    opened = "domainemo.processes.process_pool"
    monkeypatch.setattr(opened, lambda workers: nullcontext(two_processes))
    if not copied:
        monkeypatch.setattr(job, "can_fork", lambda threads: False)
    line = write(tmp_path, BUG)
    two = ["--fold=subject 2", f"--jobs={jobs}"]
    ended, said = adapt("adapter", *two)
    assert ended == 1 and f"mistake.py, line {line}, in Mine.forward" in said
    assert "Traceback" not in said
    monkeypatch.setenv("DOMAINEMO_TRACEBACK", "1")
    ended, said = adapt("adapter", *two)
    assert ended == 1 and "Traceback (most recent call last)" in said
    assert f'mistake.py", line {line}, in forward' in said
    assert said.rindex("Error: 2 of 2 jobs failed") > said.rindex("Traceback")


def test_in_python_it_is_an_error_of_the_library_with_its_cause(adapt, tmp_path):
    write(tmp_path, MISTAKES["load raises"][3])
    load_plugin(tmp_path / "mistake.py")
    with pytest.raises(
        de.DataError, match=r"mistake\.py, line 11, in Mine\.load"
    ) as found:
        de.load("mine")
    assert isinstance(found.value.__cause__, FileNotFoundError)
    assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)


def test_a_part_of_the_package_that_raises_is_no_mistake_of_the_user(
    adapt, tmp_path, monkeypatch
):
    """But the line is told as well, in a job and outside of one."""
    from domainemo.adapters.marginal import Marginal
    from domainemo.protocols.cross_subject import CrossSubject

    def fail(self, *arguments):
        return {}["nowhere"]

    write(tmp_path, MENDED)
    for cls, method in ((Marginal, "forward"), (CrossSubject, "split")):
        with monkeypatch.context() as patch:
            fail.__globals__["__name__"], name = "domainemo.test", __name__
            patch.setattr(cls, method, fail)
            try:
                ended, said = adapt("adapter", "--adapter=marginal")
            finally:
                fail.__globals__["__name__"] = name
        assert ended == 1
        assert "KeyError: 'nowhere', in" in said and ".fail: `return {}" in said
        assert "did not foresee" in said and "DOMAINEMO_TRACEBACK" in said


def test_an_error_of_the_caller_stays_what_it_is(tmp_path):
    """What a callback raises is no part's."""

    def stop(monitor):
        raise LookupError("enough")

    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(1, 2)).load()
    with pytest.raises(LookupError, match="enough"):
        de.run(data, on_progress=stop, training=de.Training(epochs=1))
