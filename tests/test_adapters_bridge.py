"""Methods of pytorch-adapt: its own steps, written formulas, every shipped check."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import domainemo as de
from domainemo.adapters.marginal import correlation_distance
from domainemo.adapters.pytorch_adapt import adapter as bridge
from domainemo.adapters.pytorch_adapt import methods
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.pytorch_adapt.methods import METHODS
from domainemo.cli import main
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.parts import part
from domainemo.registry import entries, find, parameters
from domainemo.testing import checks
from domainemo.testing.batches import draw, outputs_of, source_of

torch.set_num_threads(1)
DOUBLE = torch.float64
NAMES = [each.name for each in entries("adapter", varieties=True) if ":" in each.name]
ASKED_FOR = [
    "DANN",
    "CDAN",
    "MCD",
    "ATDOC",
    "GVB",
    "RTN",
    "SymNets",
    "VADA",
    "AFN",
    "BSP",
]
# What differs from another method by a detail.
ALIKE = ["DANNE", "DANNLogits", "DANNSoftmaxLogits", "CDANE", "CDANNE", "GANE"]
ALIKE += ["GVBE", "GVBGAN"]


# ------------------------------------------------------------------------------ names


def test_every_method_has_a_name_and_none_is_listed_but_one():
    assert [f"pytorch-adapt:{name}" for name in METHODS] == NAMES
    assert {f"pytorch-adapt:{name}" for name in ASKED_FOR} <= {*NAMES}
    assert [e.name for e in entries("adapter") if ":" in e.name] == NAMES[:1]
    assert f"first of {len(NAMES)} methods" in bridge.DANN.__doc__
    assert not {*bridge.DANN.left_out} & {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_class(name):
    cls = find("adapter", name)
    assert cls.registered_name == name
    assert cls is find("adapter", name) is pickle.loads(pickle.dumps(cls))
    assert list(parameters(cls)) == ["weight", "branches", "schedule", "hidden"]
    assert part("adapter", cls, {"weight": 0.5}) == part(
        "adapter", name, {"weight": 0.5}
    )
    entry = next(e for e in entries("adapter", varieties=True) if e.name == name)
    assert cls.__doc__.startswith(entry.summary) and entry.summary.endswith(".")


def test_an_option_is_checked():
    with pytest.raises(ConfigurationError, match="at least 0"):
        find("adapter", "pytorch-adapt:MCD")(weight=-1.0)
    with pytest.raises(ConfigurationError, match="no option 'wieght'"):
        part("adapter", "pytorch-adapt:MCD", {"wieght": 1.0})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch-adapt:DAN", "Did you mean 'pytorch-adapt:DANN'"),
        ("pytorch-adapt:symnets", "Did you mean 'pytorch-adapt:SymNets'"),
        ("pytorch-adapt", "Did you mean 'pytorch-adapt:"),
        ("pytorch-adapt:nothing", "pytorch-adapt:MCD, pytorch-adapt:MMDLoss"),
        *((name, why) for name, why in bridge.DANN.left_out.items()),
    ],
)
def test_a_name_that_there_is_not_is_explained(name, words):
    with pytest.raises(ConfigurationError) as raised:
        find("adapter", name)
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


def test_it_is_imported_where_it_is_used_and_nowhere_else(monkeypatch):
    """Neither by lists and names, nor by making objects; preparing one needs it."""
    code = """
import sys
sys.argv = ["domainemo", "list", "adapters"]
from domainemo.cli import main
try:
    main()
except SystemExit:
    pass
assert "torch" not in sys.modules
from domainemo.parts import part
from domainemo.registry import entries, find
for entry in entries("adapter", varieties=True):
    find("adapter", entry.name)()
part("adapter", "pytorch-adapt:CORALLoss+pytorch-adapt:MCD").build()
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"pytorch_adapt", "torchmetrics", "pytorch_metric_learning"}
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert all(name in words for name in NAMES)
    assert "Maximum classifier discrepancy (Saito et al., 2018)." in words
    asked = []
    monkeypatch.setattr(methods, "load", lambda part: asked.append(part) or load(part))
    made = find("adapter", "pytorch-adapt:AFN")()
    assert not asked
    made.prepare({FUSION: 4}, 3, 2)
    assert asked


# ------------------------------------------------------------------------ every check


def shipped(every):
    """Yield the checks; those that take long of a few methods, unless of every one."""
    for name in NAMES[1:]:  # the first stands for all where all parts are checked
        for each in checks(find("adapter", name)):
            method = name.partition(":")[2]
            slow = each.name in ("trains", "firewall") and method != "MCD"
            if every or not (
                slow or (each.name == "hostile_batches" and method in ALIKE)
            ):
                yield pytest.param(each, id=f"{name}-{each.name}")


@pytest.mark.parametrize("check", [*shipped(every=False)])
def test_shipped(check):
    check()


@pytest.mark.campaign
@pytest.mark.parametrize("check", [*shipped(every=True)])
def test_every_shipped(check):
    check()


@pytest.mark.parametrize("branches", ["all", "modalities", ("eeg", FUSION)])
@pytest.mark.parametrize("name", ["CDAN", "MCD", "CORALLoss"])
def test_on_other_branches(name, branches):
    """A discriminator and classifiers for each, of its width."""
    made = prepared(name, branches=branches, schedule="constant", weight=2.0)
    batch = draw(("eeg", "eye", FUSION))
    losses = made(source_of(batch), Target(outputs_of(batch, "target"), 0.5))
    expected = {"all": ("eeg", "eye", FUSION), "modalities": ("eeg", "eye")}
    assert tuple(losses) == expected.get(branches, branches)
    assert all(float(loss.detach()) != 0 for loss in losses.values())
    assert made.shapes_prediction == (name == "MCD" and branches != "modalities")


def prepared(name, dims=None, classes=3, **options):
    made = find("adapter", f"pytorch-adapt:{name}")(**options)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        made.prepare(dims or {"eeg": 6, "eye": 5, FUSION: 8}, classes, 2)
    return made


def test_samples_that_a_sensor_lost_do_not_count():
    made = prepared("CORALLoss", branches="eeg", schedule="constant")
    batch = draw(("eeg", FUSION))
    batch["source/present/eeg"][4:] = False
    batch["target/present/eeg"][:3] = False
    found = made(source_of(batch), Target(outputs_of(batch, "target"), 0.5))
    kept = batch["source/embeddings/eeg"][:4], batch["target/embeddings/eeg"][3:]
    expected = load("layers").CORALLoss()(*kept)
    torch.testing.assert_close(found["eeg"], expected)


@pytest.mark.parametrize("name", ["CDAN", "SlicedWasserstein"])
def test_where_as_many_are_needed_the_last_are_left_out(name):
    made = prepared(name, branches="eeg")
    batch = draw(("eeg", FUSION))
    batch["target/present/eeg"][[1, 5]] = False
    torch.manual_seed(0)
    target = Target(outputs_of(batch, "target"), 0.5)
    found = made(source_of(batch), target)["eeg"]
    batch["source/present/eeg"][-2:] = False
    torch.manual_seed(0)
    assert found == made(source_of(batch), target)["eeg"]


@pytest.mark.parametrize("name", ["MCCLoss", "MMDLoss"])
def test_what_the_library_leaves_undefined_is_zero_without_gradient(name):
    """Its own values are NaN: a class without mass, features that are all equal."""
    batch = draw((FUSION,))
    batch["target/logits/fusion"] = torch.tensor([[120.0, 0, 0]] * 12)
    for side in ("source", "target"):
        batch[f"{side}/embeddings/fusion"] = torch.ones(12, 8)
    leaves = [batch["target/logits/fusion"], batch["target/embeddings/fusion"]]
    for leaf in leaves:
        leaf.requires_grad_()
    layers = load("layers")
    theirs = {"MCCLoss": lambda: layers.MCCLoss()(leaves[0])}
    theirs["MMDLoss"] = lambda: layers.MMDLoss(mmd_type="quadratic")(
        leaves[1], leaves[1]
    )
    assert not theirs[name]().isfinite()
    made = prepared(name)
    loss = made(source_of(batch), Target(outputs_of(batch, "target"), 1.0))[FUSION]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    assert loss == 0
    assert all(g is None or not g.any() for g in gradients)


# ----------------------------------------------------- the library's own training steps


class Task:
    """A network, and a batch of each domain, in float64; what every method is given."""

    def __init__(self, n=9, m=7, classes=3, dim=5):
        generator = torch.Generator().manual_seed(3)

        def drawn(*shape):
            return torch.randn(*shape, generator=generator, dtype=DOUBLE)

        self.dim, self.classes = dim, classes
        self.source, self.target = drawn(n, 6), drawn(m, 6) + 0.5
        self.labels = torch.arange(n) % classes
        torch.manual_seed(1)
        self.G = nn.Sequential(nn.Linear(6, dim), nn.Tanh()).double()
        self.C = nn.Linear(dim, classes).double()

    def outputs(self, signals):
        embeddings = self.G(signals)
        return Outputs({FUSION: embeddings}, {FUSION: self.C(embeddings)})

    def losses(self, made):
        """Return the adapter's loss, and the classification's."""
        outputs = self.outputs(self.source)
        source = Source(outputs, self.labels, torch.zeros_like(self.labels))
        target = Target(self.outputs(self.target), 1.0)
        loss = made(source, target)[FUSION]
        return loss, functional.cross_entropy(outputs.logits[FUSION], self.labels)


def stock(name, models, rate):
    """Return the library's hook with its optimisers, of sums rather than of means."""
    hooks, weighters = load("hooks"), load("weighters")

    def steps(*which):
        return [torch.optim.SGD(models[k].parameters(), rate) for k in which]

    def sums(*prefixes):
        return {f"{each}weighter": weighters.SumWeighter() for each in prefixes}

    hook = getattr(hooks, f"{name}Hook")
    if name == "MCD":
        weighing = sums("x_", "y_", "z_")
        return hook(g_opts=steps("G"), c_opts=steps("C"), repeat=1, **weighing)
    if name == "SymNets":
        return hook(g_opts=steps("G"), c_opts=steps("C"), **sums("c_", "g_"))
    if name == "RTN":
        scales = load("layers.utils").get_kernel_scales(-3, 3, 7)
        loss = load("layers").MMDLoss(scales, mmd_type="quadratic")
        return hook(steps("G", "C", "residual_model"), aligner_loss_fn=loss, **sums(""))
    if name in ("DANN", "DANNE", "CDANNE", "DANNLogits", "DANNSoftmaxLogits"):
        return hook(opts=steps("G", "C", "D"), **sums(""))
    if name in ("GVB", "GVBE"):
        return hook(opts=steps("G", "C", "D"), **sums(""))
    return hook(d_opts=steps("D"), g_opts=steps("G", "C"), **sums("d_", "g_"))


STEPPING = [
    *("DANN", "DANNE", "DANNLogits", "DANNSoftmaxLogits", "CDAN", "CDANE", "CDANNE"),
    *("GAN", "GANE", "DomainConfusion", "GVB", "GVBE", "GVBGAN", "MCD", "SymNets"),
    "RTN",
]


@pytest.mark.parametrize("name", STEPPING)
def test_gradients_are_the_librarys_steps(name):
    """Its optimisers move every weight as the gradient of our one sum of losses says.

    By a very small step, after which the next turn meets almost the same weights.
    """
    task, rate = Task(n=8, m=8 if METHODS[name].equal else 7), 1e-7
    made = prepared(name, {FUSION: task.dim}, task.classes, schedule="constant")
    made.double()
    own = {key: copy.deepcopy(each) for key, each in made.own[FUSION].items()}
    loss, classification = task.losses(made)
    classifies = made.shapes_prediction
    (loss if classifies else loss + classification).backward()

    models = {"G": copy.deepcopy(task.G), "C": copy.deepcopy(task.C), **own}
    before = {key: copy.deepcopy(each.state_dict()) for key, each in models.items()}
    stock(name, models, rate)(
        {
            **models,
            "src_imgs": task.source,
            "target_imgs": task.target,
            "src_labels": task.labels,
            "src_domain": torch.zeros(len(task.source), dtype=torch.long),
            "target_domain": torch.ones(len(task.target), dtype=torch.long),
        }
    )
    ours = {"G": task.G, "C": task.C, **made.own[FUSION]}
    compared = 0
    for key, module in models.items():
        for each, after in module.named_parameters():
            step = (before[key][each] - after.detach()) / rate
            gradient = dict(ours[key].named_parameters())[each].grad
            torch.testing.assert_close(step, gradient, rtol=1e-4, atol=1e-6)
            compared += int(step.any())
    assert compared > 4


# --------------------------------------------------------------------------- formulas


def loss_of(name, task, **options):
    made = prepared(name, {FUSION: task.dim}, task.classes, schedule="constant")
    return task.losses(made.double())[0]


def test_coral_is_ours_and_theirs():
    task = Task()
    features = task.G(task.source), task.G(task.target)
    ones = [torch.ones(len(each), dtype=DOUBLE) for each in features]
    expected = correlation_distance(*features, *ones)
    torch.testing.assert_close(loss_of("CORALLoss", task), expected)


def test_mmd_is_the_unbiased_statistic_of_a_mean_of_seven_kernels():
    task = Task()
    x, y = (task.G(each).detach() for each in (task.source, task.target))
    squares = [[float((a - b).square().sum()) for b in x] for a in x]
    # The lower median of all pairs of the source, each with itself among them.
    flat = sorted(each for row in squares for each in row)
    bandwidth = flat[(len(flat) - 1) // 2]

    def kernel(a, b):
        distance = float((a - b).square().sum())
        scales = [2.0**power for power in range(-3, 4)]
        return sum(math.exp(-distance * s / bandwidth) for s in scales) / 7

    def mean(one, other, same):
        pairs = [
            kernel(a, b)
            for i, a in enumerate(one)
            for k, b in enumerate(other)
            if not (same and i == k)
        ]
        return sum(pairs) / len(pairs)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    found = float(loss_of("MMDLoss", task).detach())
    assert found == pytest.approx(expected, rel=1e-6)


def test_smoothness_is_that_of_the_classifier_around_the_embedding():
    """KL of moved predictions, in the direction that changes them most (VAT)."""
    task = Task(n=8, m=8)
    made = prepared("VADA", {FUSION: task.dim}, task.classes, schedule="constant")
    made.double()
    modules = made.own[FUSION]
    x, y = (task.G(each).detach() for each in (task.source, task.target))

    def divergence(moved, there):
        told = modules["C"](there).softmax(1)
        log_ratio = told.log() - modules["C"](moved).log_softmax(1)
        return (told * log_ratio).sum() / len(there)

    torch.manual_seed(5)
    found = task.losses(made)[0]
    torch.manual_seed(5)
    smooth = 0.0
    for there in (x, y):
        length = float(there.norm(dim=1).mean())
        noise = torch.randn(*there.shape)
        away = (0.01 * length * noise / noise.norm(dim=1, keepdim=True)).double()
        away.requires_grad_()
        (away,) = torch.autograd.grad(divergence(there + away, there), [away])
        away = 0.15 * length * away / away.norm(dim=1, keepdim=True)
        smooth += float(divergence(there + away, there).detach())
    logits = modules["C"](y)
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    classes = functional.cross_entropy(modules["C"](x), task.labels)
    told = modules["D"](x).sigmoid(), modules["D"](y).sigmoid()
    discriminator = -(1 - told[0]).log().mean() - told[1].log().mean()
    network = -told[0].log().mean() - (1 - told[1]).log().mean()
    expected = float((entropy + classes + discriminator + network).detach()) + smooth
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    weights = [*modules["C"].parameters(), *task.G.parameters()]
    assert all(weight.grad.any() for weight in weights)


def test_neighbours_teach_what_the_last_batches_were_believed_to_be():
    """ATDOC by the book: five nearest by cosine, their sharpened mean, its maximum."""
    made = prepared("ATDOC", {FUSION: 4}, 3, schedule="constant")
    module = made.own[FUSION]["labeler"]
    size = len(module.memory.feat_memory)
    generator = torch.Generator().manual_seed(0)
    drawn = module.memory.feat_memory.clone()
    memory = [(each, torch.full((3,), 1 / 3)) for each in drawn]
    for step in range(6):
        x, z = (torch.randn(8, k, generator=generator) for k in (4, 3))
        found = made(
            Source(Outputs({FUSION: x}, {FUSION: z}), torch.zeros(8).long(), None),
            Target(Outputs({FUSION: x}, {FUSION: z}), 1.0),
        )[FUSION]
        places = [(8 * step + i) % size for i in range(8)]
        total, unit = 0.0, [each / each.norm() for each in x]
        for i in range(8):
            near = [float(unit[i] @ each) for each, _ in memory]
            near[places[i]] = -2.0
            nearest = sorted(range(size), key=lambda k: -near[k])[:5]
            believed = torch.stack([memory[k][1] for k in nearest]).mean(0)
            label = int(believed.argmax())
            total -= float(believed[label] * z[i].log_softmax(0)[label])
        assert float(found.detach()) == pytest.approx(total / 8, rel=1e-4)
        squares = z.softmax(1).square()
        shares = squares / squares.sum(0)
        for i, place in enumerate(places):
            memory[place] = unit[i], shares[i]
    assert int(module.position) == 48


def test_predictions_are_those_of_the_methods_own_classifier():
    embeddings = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    outputs = Outputs({FUSION: embeddings}, {FUSION: torch.zeros(4, 3)})
    for name, of in (("MCD", sum), ("SymNets", lambda both: both[1])):
        made = prepared(name)
        pair = made.own[FUSION]["C"].models
        expected = of([classifier(embeddings) for classifier in pair])
        torch.testing.assert_close(made.predict(outputs), expected)
    bridged = prepared("GVB")
    model = bridged.own[FUSION]["C"]
    expected = model.model(embeddings) - model.bridge(embeddings)
    torch.testing.assert_close(bridged.predict(outputs), expected)
    assert prepared("CDAN").predict(outputs) is outputs.logits[FUSION]


def test_a_planted_shift_is_reduced():
    """Two domains apart by their place, which a discriminator tells apart no more."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    y = torch.randn(64, 4, generator=generator) + 2
    moved = torch.zeros(4, requires_grad=True)
    made = prepared("DANN", {FUSION: 4}, 2, schedule="constant")
    optimiser = torch.optim.AdamW([moved, *made.parameters()], 0.02)
    logits, labels = {FUSION: torch.zeros(64, 2)}, torch.zeros(64, dtype=torch.long)
    for _ in range(100):
        optimiser.zero_grad()
        source = Source(Outputs({FUSION: x}, logits), labels, labels)
        target = Target(Outputs({FUSION: y + moved}, logits), 1.0)
        made(source, target)[FUSION].backward()
        optimiser.step()
    gap = (y + moved - x).detach().mean(0).norm()
    assert gap < 0.3 * (y - x).mean(0).norm()


# ------------------------------------------------------------------------------- runs

MODEL = "pytorch-adapt:MCD+pytorch-adapt:CORALLoss"


def test_a_run_is_stored_and_read_again(tmp_path, monkeypatch, capsys):
    """Joined by +, with an option by its name; a second command finds it finished."""
    monkeypatch.chdir(tmp_path)
    options = ["adapter.pytorch-adapt:MCD.weight=0.5", "training.epochs=2"]
    options += ["data.subjects=2", "data.trials=6", "data.sessions=1"]
    command = ["domainemo", "adapt", "--adapter", MODEL, "--dataset", "simulated"]
    command += ["--backbone", "concatenation-mlp", "--device", "cpu", "--jobs", "1"]
    command += ["--no-baselines", "--fold", "subject 1"]
    command += [word for option in options for word in ("--set", option)]
    written = set()
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr()
        (run,) = (tmp_path / "runs").iterdir()
        (record,) = run.rglob("record.json")
        written.add(record.stat().st_mtime_ns)
    assert len(written) == 1
    # Windows allows none of these in a name.
    for path in tmp_path.rglob("*"):
        assert not {*'<>:"|?*'} & {*path.relative_to(tmp_path).as_posix()}, path
    configuration = tomllib.loads((run / "config.toml").read_text())
    assert configuration["adapter"] == MODEL
    assert configuration["options"]["adapter.pytorch-adapt:MCD.weight"] == 0.5
    assert json.loads(record.read_text())["adapter"] == MODEL
    assert_reads_what_it_predicted(run, record.parent)


def assert_reads_what_it_predicted(run, folder):
    """By its own two classifiers, built again for the stored weights."""
    data = de.Simulated(subjects=2, trials=6, sessions=1).load()
    rows = np.flatnonzero(data.inputs.windows["subject"] == 1)
    model = de.Model.load(run, fold="subject 1")
    assert model.adapter.terms["pytorch-adapt:MCD"].shapes_prediction
    found = model.predict(data.inputs.take(rows)).filter(like="p_").to_numpy()
    with np.load(folder / "predictions.npz") as stored:
        np.testing.assert_allclose(found, stored["probabilities"], atol=1e-5)
