"""Every registered part passes every shipped check, and every check can fail."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from domainemo.adapters.composite import Composite
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import PairwiseSimilarity
from domainemo.adapters.uf_ama import UFAMA
from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.core import FUSION, Adapter, Backbone, Fold, Protocol, Validator
from domainemo.errors import ConfigurationError
from domainemo.protocols.cross_session import CrossSession
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries, find, load_plugin, register
from domainemo.samplings.windows import Windows
from domainemo.screens.confidence import Screening
from domainemo.testing import Check, check, checks

torch.set_num_threads(1)
PAGE = Path(__file__).parents[1] / "docs" / "new-adapter.md"
KINDS = (
    "sampling",
    "normalisation",
    "protocol",
    "backbone",
    "adapter",
    "screen",
    "validator",
    "control",
)


def shipped(kind):
    for entry in entries(kind):
        for each in checks(find(kind, entry.name)):
            yield pytest.param(each, id=f"{entry.name}-{each.name}")


@pytest.mark.parametrize("check", [each for kind in KINDS for each in shipped(kind)])
def test_registered(check):
    check()


def nested():
    screen = Screening(rule="calibrated")
    inner = Composite(terms={"taught": Distillation(), "agreed": Consistency()})
    return {"terms": {"inner": inner, "pairs": PairwiseSimilarity()}, "screen": screen}


VARIANTS = {
    "coral": (Marginal, {"distance": "coral"}, ()),
    "mmd-linear": (Marginal, {"distance": "mmd-linear"}, ()),
    "transport": (Marginal, {"distance": "transport"}, ()),
    "calibrated": (UFAMA, {"rule": "calibrated"}, ()),
    "absolute": (UFAMA, {"rule": "absolute", "threshold": 0.4}, ()),
    "nested": (Composite, nested(), ("options", "space")),
    "subject-inductive": (CrossSubject, {"held_out": 0.5}, ()),
    "subject-in-time": (CrossSubject, {"held_out": 0.3, "unit": "time"}, ()),
    "subject-each-session": (CrossSubject, {"session": "each"}, ()),
    "session-inductive": (CrossSession, {"held_out": 0.5}, ()),
    "session-earlier": (CrossSession, {"source": "earlier"}, ()),
    "weights-per-region": (R2GFANet, {"shared_attention": False, "width": 32}, ()),
}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=f"{name}-{each.name}")
        for name, (part, options, skip) in VARIANTS.items()
        for each in checks(part, options=options, skip=skip)
    ],
)
def test_variant(check):
    check()


# ------------------------------------------------------------- parts of third parties


def page_blocks():
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_fifteen_lines_in_one_file(tmp_path):
    path = tmp_path / "mean_alignment.py"
    path.write_text(page_blocks()[0], encoding="utf-8")
    assert len([line for line in page_blocks()[0].splitlines() if line.strip()]) <= 15
    load_plugin(path)
    skip = ("trains", "firewall")  # the page, run below, has them checked
    check(find("adapter", "mean-alignment"), skip=skip)
    both = {"branches": ("fusion", "eeg")}
    check(find("adapter", "mean-alignment"), options=both, skip=skip)
    assert "mean-alignment" in {entry.name for entry in entries("adapter")}


def test_options_are_drawn_as_the_page_says(monkeypatch):
    module = types.ModuleType("page_of_the_new_adapter")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    written, _, drawn = page_blocks()
    exec(compile(f"{written}\n{drawn}", str(PAGE), "exec"), vars(module))
    trial = optuna.trial.FixedTrial({"weight": 0.3})
    assert module.MeanAlignment.space(trial) == {"weight": 0.3}
    check(module.MeanAlignment, skip=("trains", "firewall"))


def test_a_check_has_a_name_for_pytest_and_needs_no_registration():
    class Unknown(Adapter):
        def forward(self, source, target):
            return {}

    found = checks(Unknown)
    assert all(isinstance(each, Check) and each.__name__ == each.name for each in found)
    assert {"firewall", "vectorises"} <= {each.name for each in found}
    check(Unknown, skip=("firewall",))


def test_what_cannot_be_checked_is_explained():
    with pytest.raises(ConfigurationError, match="subclass of Dataset"):
        checks(Fold)
    with pytest.raises(ConfigurationError, match="cannot be checked"):
        checks(Marginal())
    with pytest.raises(ConfigurationError, match=r"no check called 'speed'.*firewall"):
        checks(Marginal, skip=("speed",))


def test_pytest_is_not_needed():
    package = Path(sys.modules["domainemo.testing"].__file__).parent
    files = sorted(package.glob("*.py"))
    assert len(files) > 5
    for path in files:
        source = path.read_text(encoding="utf-8").replace(">>> ", "# ")
        assert not re.search(r"^\s*(import|from) pytest", source, re.M), path


# ------------------------------------------------------- broken parts fail their check


def square_gap(source, target):
    ours, theirs = (d.outputs.embeddings[FUSION] for d in (source, target))
    return (ours.mean(-2) - theirs.mean(-2)).square().sum(-1)


class Positional(Adapter):
    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = weight

    def forward(self, source, target):
        return {"gap": self.weight * square_gap(source, target)}


class WithoutDefault(Adapter):
    def __init__(self, *, weight):
        super().__init__()

    def forward(self, source, target):
        return {}


class UsesItem(Adapter):
    def forward(self, source, target):
        gap = square_gap(source, target)
        return {"gap": gap * 2 if gap.item() > 1 else gap}


class UsesNumpy(Adapter):
    def forward(self, source, target):
        ours = source.outputs.embeddings[FUSION]
        return {"gap": square_gap(source, target) * float(ours.detach().numpy().mean())}


class GivesNoReason(Adapter):
    """The squared gap."""

    vectorises = False

    def forward(self, source, target):
        return {"gap": square_gap(source, target)}


class NaNOnAbsentClass(Adapter):
    def forward(self, source, target):
        ours = source.outputs.embeddings[FUSION]
        believed = target.outputs.logits[FUSION].softmax(-1)
        theirs = target.outputs.embeddings[FUSION]
        losses = []
        for number in range(believed.shape[-1]):
            member = (source.labels == number).to(ours)
            mine = (ours * member[..., None]).sum(-2) / member.sum(-1)
            other = (theirs * believed[..., number, None]).sum(-2)
            losses.append((mine - other).square().sum(-1))
        return {"conditional": sum(losses)}


class NaNGradient(Adapter):
    def forward(self, source, target):
        return {"gap": square_gap(source, target).sqrt()}


class Overwrites(Adapter):
    def forward(self, source, target):
        embeddings = target.outputs.embeddings[FUSION]
        embeddings -= embeddings.mean(-2, keepdim=True)
        return {"size": embeddings.square().mean((-2, -1))}


class NotScalar(Adapter):
    def forward(self, source, target):
        return {"gap": source.outputs.embeddings[FUSION].mean(-2)}


class NotTensor(Adapter):
    def forward(self, source, target):
        return {"gap": 0.0}


class NoName(Adapter):
    def forward(self, source, target):
        return {"": square_gap(source, target)}


class Reserved(Adapter):
    def forward(self, source, target):
        return {"classification": square_gap(source, target)}


class NeedsEyes(Adapter):
    def forward(self, source, target):
        return {"eye": source.outputs.logits["eye"].square().mean()}


class Remembers(Adapter):
    def __init__(self):
        super().__init__()
        self.count = [0]

    def __deepcopy__(self, memo):
        return self

    def forward(self, source, target):
        self.count[0] += 1
        return {"gap": square_gap(source, target) * self.count[0]}


class ForgetsItsState(Adapter):
    def __init__(self):
        super().__init__()
        self.centre = torch.randn(8)

    def forward(self, source, target):
        theirs = target.outputs.embeddings[FUSION]
        return {"gap": (theirs.mean(-2) - self.centre).square().sum(-1)}


class WrongSpace(Adapter):
    def forward(self, source, target):
        return {}

    @classmethod
    def space(cls, trial):
        return {"weight": trial.suggest_float("weight", 0, 1)}


class Explodes(Adapter):
    def forward(self, source, target):
        return {
            "gap": square_gap(source, target)
            * (1 if target.progress < 0.6 else torch.inf)
        }


class CountsTheLost(Adapter):
    def forward(self, source, target):
        return {"sure": target.outputs.logits[FUSION].softmax(-1).square().mean()}


class BeginsWithoutSaying(Marginal):
    begins = 0.5


class AsksForLabels(Adapter):
    def forward(self, source, target):
        getattr(target, "labels", None)
        return {"gap": square_gap(source, target)}


def labels_of_the_caller():
    """Look for the labels in the frames of whoever called; return a number of them."""
    frame = sys._getframe()
    while frame is not None:
        planned = frame.f_locals.get("planned")
        if planned is not None:
            return int(planned.labels @ np.arange(len(planned.labels)))
        frame = frame.f_back
    return 0


class PeeksAtTheCaller(Adapter):
    def forward(self, source, target):
        return {"gap": (1 + labels_of_the_caller()) * square_gap(source, target)}


class PredictsByTheBatch(Marginal):
    def predict(self, outputs):
        logits = outputs.logits[FUSION]
        return logits - logits.mean(0)


class PredictsWindows(Marginal):
    def predict(self, outputs):
        return outputs.logits[FUSION].mean(-1)


class LearnsFromPredicting(Marginal):
    def prepare(self, dims, classes, domains):
        self.register_buffer("seen", torch.zeros(classes))

    def predict(self, outputs):
        self.seen += outputs.logits[FUSION].mean(0)
        return outputs.logits[FUSION]


class ForgetsHowItPredicts(Marginal):
    centre = 0.0

    def forward(self, source, target):
        self.centre = source.outputs.logits[FUSION].mean(0).detach()
        return super().forward(source, target)

    def predict(self, outputs):
        return outputs.logits[FUSION] - self.centre


class HidesThatItPredicts(Marginal):
    shapes_prediction = False

    def predict(self, outputs):
        return -outputs.logits[FUSION]


BROKEN_ADAPTERS = {
    PredictsByTheBatch: ("predicts", "'the prediction' off by .* one by one"),
    PredictsWindows: ("predicts", r"logits of shape \(12,\), not \(12, 3\)"),
    LearnsFromPredicting: ("predicts", "'seen' off by .* after a prediction"),
    ForgetsHowItPredicts: ("keeps_prediction", "off by .* of a new one with its state"),
    HidesThatItPredicts: ("predicts", "not the fusion's, and shapes_prediction False"),
    Positional: ("options", "'weight'.*not keyword-only"),
    WithoutDefault: ("options", "'weight' without a default"),
    UsesItem: ("vectorises", "RuntimeError: .*vmap"),
    UsesNumpy: ("vectorises", "found RuntimeError"),
    GivesNoReason: ("vectorises", "not a word of it in the docstring"),
    NaNOnAbsentClass: ("hostile_batches", "nan with a class absent from the source"),
    NaNGradient: ("hostile_batches", "gradient of .* with identical embeddings"),
    CountsTheLost: ("lost_samples", "'sure' is .*, and .*expected them to have no"),
    Overwrites: ("leaves_inputs_alone", "target/embeddings/fusion changed in place"),
    NotScalar: ("losses", r"shape \(8,\)"),
    NotTensor: ("losses", "'gap' as a float"),
    NoName: ("losses", "the name ''"),
    Reserved: ("losses", "'classification', which the training history"),
    NeedsEyes: ("losses", "KeyError: 'eye'"),
    Remembers: ("deterministic", "'gap' off by"),
    ForgetsItsState: ("state", "'gap' off by .* from the loaded state"),
    WrongSpace: ("space", "unknown options weight"),
    Explodes: ("trains", "RunError: .*diverged in epoch 7: .*gap"),
    BeginsWithoutSaying: ("begins", "losses of .* at .* of training, before 0.50"),
    AsksForLabels: ("sees_no_labels", r"target\.labels asked for"),
    PeeksAtTheCaller: ("firewall", "another .* when the target's labels are noise"),
}


def assert_caught(part, name, sentence):
    found = {each.name: each for each in checks(part)}
    with pytest.raises(AssertionError, match=sentence) as caught:
        found[name]()
    message = str(caught.value)
    assert message.startswith(f"{part.__name__} fails the check '{name}': found ")
    assert "; expected " in message and message.endswith(".")


@pytest.mark.parametrize("part", BROKEN_ADAPTERS, ids=lambda part: part.__name__)
def test_broken_adapter(part):
    assert_caught(part, *BROKEN_ADAPTERS[part])


def test_check_names_every_failure():
    class Two(NotScalar):
        def __init__(self, weight):
            super().__init__()

    with pytest.raises(AssertionError) as caught:
        check(Two, skip=("trains", "firewall"))
    assert "check 'options'" in str(caught.value)
    assert "check 'losses'" in str(caught.value)


def test_an_inherited_name_does_not_stand_in_for_the_class():
    class Peeking(Marginal):
        def forward(self, source, target):
            losses = super().forward(source, target)
            seen = labels_of_the_caller()
            return {name: (1 + seen) * loss for name, loss in losses.items()}

    assert Peeking.registered_name == "marginal"
    firewall = {each.name: each for each in checks(Peeking)}["firewall"]
    with pytest.raises(AssertionError, match="noise"):
        firewall()


class Linear(Backbone):
    """The plainest backbone: a masked mean over time, a linear map per modality."""

    by_position = True

    def __init__(self, modalities, *, width=8):
        super().__init__()
        self.sampling = Windows()
        self.maps = nn.ModuleDict(
            {
                name: nn.Linear(len(m.channels) * len(m.features), width)
                for name, m in modalities.items()
            }
        )

    def forward(self, signals, masks):
        embeddings = {n: self.embed(n, signals[n], masks[n]) for n in self.maps}
        return {**embeddings, FUSION: torch.cat(list(embeddings.values()), -1)}

    def embed(self, name, signal, mask):
        steps = self.maps[name](signal.flatten(-2)) * mask[..., None]
        return steps.sum(-2) / mask.sum(-1, keepdim=True).clamp(min=1)


class NoSampling(Linear):
    def __init__(self, modalities):
        super().__init__(modalities)
        self.sampling = None


class NoFusion(Linear):
    def forward(self, signals, masks):
        return {name: self.embed(name, signals[name], masks[name]) for name in masks}


class CountsPadding(Linear):
    def embed(self, name, signal, mask):
        return self.maps[name](signal.flatten(-2)).mean(-2)


class LooksAround(Linear):
    def embed(self, name, signal, mask):
        own = super().embed(name, signal, mask)
        return own - own.mean(0)


class WrongBackboneSpace(Linear):
    @classmethod
    def space(cls, trial):
        return {"wdith": trial.suggest_int("wdith", 4, 8)}


class ClaimsNames(Linear):
    by_position = False


class DividesByZero(Linear):
    def embed(self, name, signal, mask):
        steps = self.maps[name](signal.flatten(-2)) * mask[..., None]
        return steps.sum(-2) / mask.sum(-1, keepdim=True)


class DeadWeight(Linear):
    def __init__(self, modalities):
        super().__init__(modalities)
        self.unused = nn.Linear(2, 2)


class AlwaysDrops(Linear):
    def embed(self, name, signal, mask):
        own = super().embed(name, signal, mask)
        return nn.functional.dropout(own, 0.5, training=True)


class StateBesideTheState(Linear):
    def __init__(self, modalities):
        super().__init__(modalities)
        self.scale = torch.rand(())

    def embed(self, name, signal, mask):
        return super().embed(name, signal, mask) * self.scale


BROKEN_BACKBONES = {
    NoSampling: ("options", "'sampling' is None"),
    NoFusion: ("embeddings", "the branches eeg, eye for eeg, eye"),
    CountsPadding: ("padding", "off by .* with more padding"),
    LooksAround: ("batch_composition", "off by .* alone in the batch"),
    WrongBackboneSpace: ("space", "unknown options wdith"),
    ClaimsNames: ("permutation", "off by .* with the channels in another order"),
    DividesByZero: ("missing_modality", "not finite without eeg"),
    DeadWeight: ("gradients", "no gradient that reaches unused"),
    AlwaysDrops: ("deterministic", "off by"),
    StateBesideTheState: ("state", "off by .* from the loaded weights"),
}


def test_the_plainest_backbone_passes():
    check(Linear)


@pytest.mark.parametrize("part", BROKEN_BACKBONES, ids=lambda part: part.__name__)
def test_broken_backbone(part):
    assert_caught(part, *BROKEN_BACKBONES[part])


def test_a_backbone_that_takes_no_sensors_at_all_is_named():
    class Picky(Linear):
        def __init__(self, modalities):
            raise ConfigurationError("Only whole brains.")

    with pytest.raises(
        AssertionError, match="every set of sensors refused: Only whole"
    ):
        checks(Picky)[1]()


class SharesTrials(CrossSubject):
    def split(self, windows):
        for fold in super().split(windows):
            source = np.append(fold.source, fold.test[::3])
            yield Fold(fold.name, source, fold.target, fold.test)


class Invents(Protocol):
    domain = "subject"

    def split(self, windows):
        rows = np.arange(len(windows))
        yield Fold("all", rows, rows, rows)


class OneName(CrossSubject):
    def split(self, windows):
        for fold in super().split(windows):
            yield Fold("fold", fold.source, fold.target, fold.test)


class HalfSeen(CrossSubject):
    def split(self, windows):
        for fold in super().split(windows):
            yield Fold(fold.name, fold.source, fold.target[:5], fold.test)


class WantsLabels(CrossSubject):
    def split(self, windows):
        assert windows["label"].any()
        yield from super().split(windows)


class Adds(CrossSubject):
    def split(self, windows):
        windows["seen"] = True
        yield from super().split(windows)


class FirstRows(Protocol):
    domain = "subject"

    def split(self, windows):
        first = windows["subject"].iloc[0]
        mine = (windows["subject"] == first).to_numpy()
        target = mine.nonzero()[0]
        yield Fold("first", (~mine).nonzero()[0], target, target)


class ByClip(CrossSubject):
    domain = "clip"


BROKEN_PROTOCOLS = {
    ByClip: ("options", "the domain 'clip'"),
    OneName: ("folds", "the names fold, fold, fold"),
    HalfSeen: ("access", "5 of 40 test windows in the target of 'subject 1'"),
    WantsLabels: ("provenance_only", "KeyError: 'label'"),
    Adds: ("provenance_only", "the windows table changed"),
    FirstRows: ("row_order", "other windows in 'first' of shuffled rows"),
    SharesTrials: ("disjoint", "8 trials of the target in the source of 'subject 1'"),
    Invents: ("refusal", "1 fold and no error"),
}


@pytest.mark.parametrize("part", BROKEN_PROTOCOLS, ids=lambda part: part.__name__)
def test_broken_protocol(part):
    assert_caught(part, *BROKEN_PROTOCOLS[part])


class WantsTruth(Validator):
    def __call__(self, training, held_out, target):
        return float((target.outputs.logits[FUSION].argmax(-1) == target.labels).sum())


class Random(Validator):
    def __call__(self, training, held_out, target):
        return float(torch.rand(()))


class NotFloat(Validator):
    def __call__(self, training, held_out, target):
        return target.outputs.logits[FUSION].max()


class MayBeNaN(Validator):
    def __call__(self, training, held_out, target):
        return float(target.outputs.logits[FUSION].std())


class AsksUndeclared(Validator):
    def __call__(self, training, held_out, target):
        return float(training.labels.float().mean())


BROKEN_VALIDATORS = {
    AsksUndeclared: ("scores", "AttributeError: 'NoneType' .* 'labels'"),
    WantsTruth: ("scores", "AttributeError: .*'labels'"),
    NotFloat: ("scores", "a score of type Tensor"),
    MayBeNaN: ("degenerate", "nan with logits that are NaN"),
    Random: ("deterministic", "the scores 0"),
}


@pytest.mark.parametrize("part", BROKEN_VALIDATORS, ids=lambda part: part.__name__)
def test_broken_validator(part):
    assert_caught(part, *BROKEN_VALIDATORS[part])


def test_register_is_of_use_here():
    @register(name="gap")
    class Gap(Adapter):
        """The squared gap."""

        def forward(self, source, target):
            return {"gap": square_gap(source, target)}

    check(Gap, skip=("trains", "firewall"))
