"""What outside code keeps anywhere does not reach the next fold."""

import builtins
import gc
import hashlib
import os
import signal
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import domainemo as de
from domainemo import processes
from domainemo.adapters.marginal import Marginal
from domainemo.errors import RunError
from domainemo.parts import part
from domainemo.registry import load_plugin
from domainemo.runs import job

MODULE_STATE = []


class Keeps(de.Adapter):
    """Keeps the source's labels of every fold wherever Python lets it."""

    needs_target = True
    seen: ClassVar[list] = []

    def __init__(self, *, place="class", end="", hook=None):
        super().__init__()
        self.place, self.end, self.hook = place, end, hook

    def forward(self, source, target, default=[]):  # noqa: B006
        if not hasattr(builtins, "_kept"):
            builtins._kept = []
        kept = {
            "class": type(self).seen,
            "module": MODULE_STATE,
            "default": default,
            "builtins": builtins._kept,
            "another's class": vars_of(Marginal),
        }[self.place]
        kept.append(source.labels.float())
        if self.end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.end:
            raise ValueError(self.end)
        drawn = source.outputs.logits["fusion"].square().mean()
        return {"kept": drawn * torch.cat(kept).mean()}


def vars_of(cls):
    """Return a list on a class of the package itself."""
    if not hasattr(cls, "_kept"):
        cls._kept = []
    return cls._kept


PLACES = ["class", "module", "default", "builtins", "another's class"]


@pytest.fixture(scope="module")
def data():
    return de.Simulated(subjects=3, sessions=1, trials=3).load()


def bits(data, folder, adapter, **choices):
    """Run all folds; return a hash of each fold's weights and predictions."""
    choices = {"training": de.Training(epochs=1), "baselines": False} | choices
    de.run(
        data,
        backbone="concatenation-mlp",
        sampling="windows",
        adapter=adapter,
        output=folder,
        **choices,
    )
    return {
        path.parent.parent.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("model.safetensors"))
    }


def with_shuffled_labels(data, subject):
    """Return the same recordings with one subject's labels in another order."""
    labels = data.labels.copy()
    rows = np.flatnonzero((data.inputs.windows["subject"] == subject).to_numpy())
    labels[rows] = (labels[rows] + 1) % len(data.classes)  # one label a trial
    assert (labels != data.labels).any()
    return de.EmotionData(data.inputs, labels, data.classes)


@pytest.mark.parametrize("place", PLACES)
def test_the_labels_of_a_target_do_not_come_from_another_fold(place, data, tmp_path):
    """The last fold's target is a source of the first, which is trained before."""
    last = data.inputs.windows["subject"].max()
    one = bits(data, tmp_path / "one", Keeps(place=place))
    other = bits(with_shuffled_labels(data, last), tmp_path / "two", Keeps(place=place))
    name = next(fold for fold in one if fold.endswith(str(last)))
    assert one[name] == other[name]
    assert sum(one[fold] != other[fold] for fold in one) == len(one) - 1
    assert not Keeps.seen and not MODULE_STATE and not hasattr(builtins, "_kept")


PLUGIN = """
import torch
from domainemo import Adapter, register

SEEN = []

@register
class KeepsInItsModule(Adapter):
    "Keeps labels."

    def forward(self, source, target):
        SEEN.append(source.labels.float())
        return {"kept": source.outputs.logits["fusion"].mean() * torch.cat(SEEN).mean()}
"""


def test_where_processes_cannot_be_copied_they_are_started(data, tmp_path, monkeypatch):
    """And train the same bits, with a plug-in that they have to load."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    load_plugin(tmp_path / "mine.py")
    copied = bits(data, tmp_path / "all", "keeps-in-its-module")
    monkeypatch.setattr(job, "can_fork", lambda threads: False)
    folds = {"folds": ["subject 3"]}
    started = bits(data, tmp_path / "alone", "keeps-in-its-module", **folds)
    assert len(started) == 1 and started.items() <= copied.items()


def test_progress_comes_out_of_the_process(data, tmp_path):
    seen = []
    bits(data, tmp_path, Keeps(), on_progress=lambda monitor: seen.append(monitor))
    assert [each.epoch for each in seen[-1].jobs] == [1, 1, 1]


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("killed", "its process was ended by SIGKILL"),
        ("no luck", "ValueError: no luck"),
    ],
)
def test_how_a_process_of_its_own_ended_is_told(end, words, data, tmp_path):
    with pytest.raises(RunError, match=words):
        bits(data, tmp_path, Keeps(end=end))


def test_what_is_told_may_end_the_process():
    """As where a study's pruner ends a candidate, or the user presses Ctrl-C."""

    def train(tell):
        for epoch in range(3):
            tell({"epoch": epoch})

    def stop(row):
        rows.append(row["epoch"])
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    rows = []
    with pytest.raises(KeyboardInterrupt):
        processes.run_alone(train, stop, forked=True)
    assert rows == [0, 1]


def test_a_stop_that_comes_as_it_starts_leaves_no_process(monkeypatch):
    start, started = ForkProcess.start, []

    def stopped(process):
        start(process)
        started.append(process)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ForkProcess, "start", stopped)
    with pytest.raises(KeyboardInterrupt):
        processes.run_alone(lambda tell: tell({"epoch": 1}), print, forked=True)
    assert started[0].exitcode == -signal.SIGKILL


def test_what_comes_from_outside_is_known():
    class Inner(nn.Module):
        pass

    built_in = [("adapter", "uf-ama"), ("adapter", "marginal+conditional")]
    built_in += [("backbone", "r2gfanet"), ("protocol", "cross-subject")]
    assert not any(part(*each).outside for each in built_in)
    assert not part("adapter", Marginal(weight=0.2)).outside
    assert part("adapter", Keeps()).outside
    marginal = Marginal()
    marginal.inner = nn.Sequential(nn.Linear(1, 1), Inner())
    assert part("adapter", marginal).outside
    marginal = Marginal()
    marginal.kernel = lambda x: x
    assert part("adapter", marginal).outside


class Waiting:
    """As a session of another library, whose end waits for a thread of its own."""

    ended = 0

    def __init__(self):
        self.itself = self  # so that nothing but the collector frees it

    def __del__(self):
        Waiting.ended += 1


def test_a_copy_never_collects_what_was_garbage_before_it():
    """What that does as it goes may wait for a thread that the copy lacks."""
    gc.collect()
    gc.disable()
    try:
        Waiting()
        before = Waiting.ended
        told = []

        def train(tell):
            gc.enable()
            gc.collect()
            tell({"ended": Waiting.ended - before})

        processes.run_alone(train, told.append, forked=True)
        assert told == [{"ended": 0}]
    finally:
        gc.enable()
    gc.collect()  # here it is collected as ever
    assert Waiting.ended == before + 1
    assert gc.get_freeze_count() == 0
