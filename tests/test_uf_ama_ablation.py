"""Every switch of UF-AMA's ablation takes away what its name says; its page is true."""

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from domainemo.adapters.branches import schedule_factor
from domainemo.adapters.uf_ama import UFAMA
from domainemo.cli.configuration import configure
from domainemo.cli.grid import read_grid
from domainemo.core import FUSION, Modality, Outputs, Source, Target
from domainemo.registry import find
from domainemo.training.screened import find_screen

CLASSES, BATCH = 3, 8
BRANCHES = ("eeg", "eye", FUSION)
CELLS = {cell.key[2:]: cell for cell in read_grid("uf-ama-ablation", {}).cells()}
ENTRIES = {adapter: cell for (_, adapter), cell in CELLS.items() if adapter != "none"}


def outputs(seed, sharpness=1.0):
    """Embeddings and logits of every branch, each with a gradient."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(size):
        values = torch.randn(BATCH, size, generator=generator)
        return {branch: values.roll(n, 1) for n, branch in enumerate(BRANCHES)}

    embeddings = {b: v.clone().requires_grad_() for b, v in drawn(5).items()}
    logits = {
        b: (sharpness * v).clone().requires_grad_() for b, v in drawn(CLASSES).items()
    }
    return Outputs(embeddings, logits)


def batch(judge=None):
    """A source and a target batch at the end of training, and what judges."""
    source = Source(outputs(0), torch.arange(BATCH) % CLASSES, torch.zeros(BATCH))
    seen = outputs(1)
    return source, Target(seen, 1.0, teacher=seen, judge=judge or outputs(2))


def adapter_of(entry):
    return ENTRIES[entry].experiment.adapter.build()


def terms_of(entry):
    """Return the names of the losses that an entry of the file computes."""
    return set(adapter_of(entry)(*batch()))


WHOLE = {
    *(f"{term}.{b}" for term in ("marginal", "conditional") for b in BRANCHES),
    "consistency.fusion",
    "distillation.eeg",
    "distillation.eye",
    *(f"pairwise.{b}" for b in BRANCHES),
}


@pytest.mark.parametrize(
    ("entry", "gone"),
    [
        ("uf-ama", r"nothing"),
        ("local-alignment", r"(marginal|conditional)\.fusion"),
        ("global-alignment", r"(marginal|conditional)\.(eeg|eye)"),
        ("marginal-alone", r"conditional\..*"),
        ("conditional-alone", r"marginal\..*"),
        ("no-consistency", r"consistency\..*"),
        ("no-distillation", r"distillation\..*"),
    ],
)
def test_a_term_is_gone_and_no_other(entry, gone):
    found = terms_of(entry)
    assert found == {name for name in WHOLE if not re.fullmatch(gone, name)}
    assert (found < WHOLE) == (entry != "uf-ama")


@pytest.mark.parametrize(("branches", "left"), [("modalities", 2), ("fusion", 1)])
def test_what_is_not_aligned_gets_no_gradient(branches, left):
    source, target = batch()
    weights = dict.fromkeys(("consistency", "distillation", "pairwise"), 0.0)
    losses = UFAMA(branches=branches, **weights)(source, target)
    torch.stack(list(losses.values())).sum().backward()
    moved = {b for b, v in target.outputs.embeddings.items() if v.grad is not None}
    assert moved == set(BRANCHES[:2] if left == 2 else BRANCHES[2:])


def test_without_a_term_that_learns_labels_nobody_judges():
    bare = UFAMA(consistency=0.0, distillation=0.0)
    assert find_screen(bare) is None and bare.judged_from is None


def test_without_screening_every_sample_is_believed():
    """By every branch, with the label of the judge's fusion: in closed form."""
    source, target = batch()
    adapter = adapter_of("no-screening")
    assert adapter.judged_from == adapter_of("uf-ama").judged_from == 0.6
    labels = target.judge.logits[FUSION].argmax(-1)
    pseudo = find_screen(adapter)(target)
    assert torch.equal(pseudo.labels, labels)
    assert all(pseudo.weights[branch].eq(1).all() for branch in BRANCHES)
    found, factor = adapter(source, target), schedule_factor("delayed", 1.0)
    for name, weight in (
        ("consistency.fusion", 0.1),
        ("distillation.eeg", 0.05),
        ("distillation.eye", 0.05),
    ):
        logits = target.outputs.logits[name.split(".")[1]]
        expected = factor * weight * functional.cross_entropy(logits, labels)
        torch.testing.assert_close(found[name], expected)
    # The screen itself believes fewer, and of each branch others.
    usual = find_screen(adapter_of("uf-ama"))(target).weights
    assert any(not weights.all() for weights in usual.values())


def test_without_screening_nothing_is_believed_before_there_is_a_judge():
    screen = find("screen", "unscreened")(judged_from=0.3)
    pseudo = screen(Target(outputs(1), 0.2))
    assert screen.judged_from == 0.3
    assert not any(weights.any() for weights in pseudo.weights.values())


def taught(entry, sharpness):
    """Return how much is distilled into each branch where one of two is sure."""
    judge = outputs(2, sharpness)
    # All agree; the eye is surer of the first half of the batch, the EEG of the other.
    label = functional.one_hot(torch.zeros(BATCH, dtype=torch.long), CLASSES).float()
    half = (torch.arange(BATCH) < BATCH // 2).float()[:, None]
    logits = {
        "eeg": sharpness * label * (1 - half / 2),
        "eye": sharpness * label * (1 / 2 + half / 2),
        FUSION: label,
    }
    _, target = batch(Outputs(judge.embeddings, logits))
    losses = adapter_of(entry)(*batch()[:1], target)
    return {each: losses[f"distillation.{each}"].item() for each in ("eeg", "eye")}


def test_below_the_teaching_floor_nobody_teaches():
    # exp(2) / (exp(2) + 2) is 0.79, exp(6) / (exp(6) + 2) is 0.995.
    assert all(value > 0 for value in taught("uf-ama", 2.0).values())
    assert not any(taught("teaching-floor", 2.0).values())
    assert taught("teaching-floor", 6.0) == taught("uf-ama", 6.0)


def test_fewer_than_the_minimum_are_not_taught():
    assert taught("minimum", 2.0) == taught("uf-ama", 2.0)  # four each
    few = find("adapter", "uf-ama")(minimum=5)
    assert few.terms["distillation"].minimum == 5
    judge = Outputs({}, {b: 3 * torch.eye(CLASSES)[[0, 1, 2] * 3][:BATCH] for b in BRANCHES})
    # The eye knows nothing of two samples, the EEG nothing of the other six.
    judge.logits["eye"][:2] = 0
    judge.logits["eeg"][2:] = 0
    source, target = batch(judge)
    whole = adapter_of("uf-ama")(source, target)
    fewer = adapter_of("minimum")(source, target)
    assert whole["distillation.eye"] > 0 and fewer["distillation.eye"] == 0
    assert fewer["distillation.eeg"] == whole["distillation.eeg"]


PAIR = {
    "eeg": Modality(("Fz", "Cz", "Oz"), ("alpha", "beta"), "eeg"),
    "eye": Modality(("pupil", "blink"), ("value",), "eye"),
}


@pytest.mark.parametrize(
    ("entry", "attends"), [("uf-ama", True), ("no-cross-attention", False)]
)
def test_without_cross_attention_no_modality_hears_of_the_other(entry, attends):
    chosen = CELLS[entry, "uf-ama"].experiment.backbone
    torch.manual_seed(0)
    network = chosen.build(PAIR).eval()
    assert any("attend" in name for name, _ in network.named_parameters()) == attends
    signals = {
        name: torch.randn(
            4, 1, len(each.channels), len(each.features), requires_grad=True
        )
        for name, each in PAIR.items()
    }
    masks = {name: torch.ones(4, 1, dtype=torch.bool) for name in PAIR}
    fused = network(signals, masks)[FUSION]
    of_eeg = fused[:, : fused.shape[1] // 2].square().sum()
    (heard,) = torch.autograd.grad(of_eeg, [signals["eye"]], allow_unused=True)
    assert (heard is not None and bool(heard.any())) == attends
    # By default it attends, with as many weights as it always had.
    assert find("backbone", "uf-ama")(PAIR).cross_attention


# ------------------------------------------------------------------ the released amount


def test_the_released_study_trains_and_aligns_as_long_as_released():
    """400 epochs of 26 steps, MMD at work in 41 of them."""
    for name, layers in (("uf-ama-released", 1), ("uf-ama-released-seed-iv", 3)):
        made = configure({}, [], name)
        training = made.experiment.training
        assert (training.epochs, training.epoch, training.batch_size) == (
            400,
            "target",
            32,
        )
        assert made.describe()["options"]["backbone.layers"] == layers
        assert made.describe()["options"]["protocol.session"] == "each"
    assert made.dataset.name == "seed-iv"
    weights = [
        schedule_factor("released", (epoch + step / 26) / training.epochs)
        for epoch in range(training.epochs)
        for step in range(26)
    ]
    assert len(weights) == 10_400
    assert sum(weight == 1 for weight in weights) == 11 * 26
    assert sum(weight > 1e-9 for weight in weights) == 41 * 26 == 1066
    term = find("adapter", "uf-ama-released")().terms["marginal"]
    assert (term.schedule, term.distance) == ("released", "mmd-linear")


def test_the_released_setup_for_the_other_data_set_is_told():
    with pytest.warns(match="--config uf-ama-released-seed-iv"):
        configure({"dataset": "seed-iv", "data_root": "."}, [], "uf-ama-released")


# ----------------------------------------------------------------------------- the page

def test_the_page_names_every_entry_and_every_option_of_the_preset():
    page = Path(__file__).parents[1] / "docs" / "uf-ama.md"
    text = page.read_text(encoding="utf-8")
    for name in {part for key in CELLS for part in key} - {"none"}:
        assert f"`{name}`" in text, name
    for name in UFAMA.__init__.__wrapped__.__kwdefaults__:
        assert re.search(rf"`(adapter\.)?{name}\b", text), name
