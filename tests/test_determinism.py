"""The same seed gives the same bits, also of a run that was killed and resumed."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from fitted import fit

import domainemo
from domainemo.adapters.composite import Composite
from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.core import Adapter, Outputs, Pseudo, Screen, Target
from domainemo.data.normalisation import normalise
from domainemo.data.simulator import Simulated
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import find
from domainemo.runs.checks import canonical
from domainemo.screens.confidence import Screening
from domainemo.training import fit as fitting
from domainemo.training import loop
from domainemo.training.batches import LabelledSamples, majority_label, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.fit import predict
from domainemo.training.judge import Judge
from domainemo.training.model import Network
from domainemo.training.screened import find_screen, screen_target
from domainemo.training.seeds import derive_seed, reproducible, seed_torch
from domainemo.training.settings import Training

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}


@pytest.fixture(scope="module")
def data():
    data = Simulated(subjects=3, sessions=2, trials=3, windows=(3, 5)).load()
    return data.take(canonical(data.inputs))


def run(data, output, **choices):
    chosen = {"adapter": "uf-ama", "training": Training(epochs=3, batch_size=8)}
    return domainemo.run(
        data, options=TINY, device="cpu", output=output, **(chosen | choices)
    )


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nothing disturbed, not to be changed, and its results."""
    folder = tmp_path_factory.mktemp("determinism") / "whole"
    return folder, run(data, folder, seeds=(3,))


def untimed(facts):
    """A record without what anything took."""
    if not isinstance(facts, dict):
        return facts
    return {key: untimed(each) for key, each in facts.items() if key != "seconds"}


def bits(folder):
    found = {}
    for record in sorted(folder.rglob("record.json")):
        job = record.parent
        with np.load(job / "predictions.npz") as file:
            arrays = {name: array.tobytes() for name, array in file.items()}
        facts = json.loads(record.read_text(encoding="utf-8"))
        facts = untimed(facts)
        facts.pop("origin")  # of the whole run's choices
        files = {
            file.name: file.read_bytes()
            for file in job.iterdir()
            if file.name not in ("record.json", "predictions.npz", "files.json")
        }
        found[job.relative_to(folder).as_posix()] = files | {"": (arrays, facts)}
    assert found
    return found


def assert_same_tables(first, second):
    pd.testing.assert_frame_equal(
        first.table.drop(columns="seconds"), second.table.drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(first.predictions, second.predictions)


# ------------------------------------------------------------------------------- runs


def test_same_seed_same_bits_whatever_the_process_did_before(data, whole, tmp_path):
    torch.manual_seed(99)
    torch.rand(17)
    second = run(data, tmp_path / "second", seeds=(3,))
    assert bits(whole[0]) == bits(tmp_path / "second")
    assert_same_tables(whole[1], second)


def test_two_seeds_differ_and_neither_depends_on_the_other(data, tmp_path):
    short = {"training": Training(epochs=1, batch_size=8), "baselines": False}
    run(data, tmp_path / "both", seeds=(0, 1), **short)
    run(data, tmp_path / "one", seeds=(1,), **short)
    both, one = bits(tmp_path / "both"), bits(tmp_path / "one")
    for name, content in one.items():
        assert both[name] == content
        other = both[name.replace("seed-1", "seed-0")]
        assert other["model.safetensors"] != content["model.safetensors"]


def test_whoever_computes_in_double_precision_gets_the_same_bits(data, whole, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        second = run(data, tmp_path, seeds=(3,))
        read = domainemo.predict(tmp_path, data, fold="subject 1", adapter="uf-ama")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert bits(whole[0]) == bits(tmp_path)
    assert_same_tables(whole[1], second)
    assert len(read)


def test_torch_is_left_as_it_was_found():
    threads = torch.get_num_threads()
    with reproducible(2):
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(5)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with reproducible(1):
        torch.rand(5)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_are_torchs_own():
    torch.manual_seed(5)
    expected = torch.initial_seed(), torch.rand(3).tolist()
    torch.manual_seed(6)
    seed_torch(5)
    assert (torch.initial_seed(), torch.rand(3).tolist()) == expected


def test_derived_seeds_are_stable_and_distinct():
    assert derive_seed(0, "subject 1") == derive_seed(0, "subject 1")
    parts = [(seed, fold) for seed in range(20) for fold in ("a", "b", "epoch")]
    seeds = {derive_seed(*each) for each in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)


# ------------------------------------------------------------------ killed and resumed


def cut_off(monitor):
    """The adapter's own jobs in the first fold and the second."""
    return [state for state in monitor.jobs if "uf-ama" in state.name][:2]


@pytest.mark.parametrize("when", ["between folds", "within a fold"])
def test_interrupted_and_resumed(data, whole, tmp_path, monkeypatch, when):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)

    def interrupt(monitor):
        first, second = cut_off(monitor)
        if first.finished and second.epoch == (2 if when == "within a fold" else 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(data, tmp_path / "killed", seeds=(3,), on_progress=interrupt)
    assert list((tmp_path / "killed").rglob("record.json"))
    left = list((tmp_path / "killed").rglob("checkpoint.pt"))
    assert len(left) == (when == "within a fold")
    assert not (tmp_path / "killed" / "results.csv").exists()

    trained, train_epoch = [], loop.Loop.train_epoch

    def watch(state):
        trained.append(state.epoch)
        return train_epoch(state)

    monkeypatch.setattr(loop.Loop, "train_epoch", watch)
    resumed = run(data, tmp_path / "killed", seeds=(3,))
    # The first epoch of the fold that was cut off is not trained again.
    assert trained[:3] == ([1, 2, 0] if when == "within a fold" else [0, 1, 2])
    assert bits(tmp_path / "killed") == bits(whole[0])
    assert_same_tables(resumed, whole[1])
    assert not list((tmp_path / "killed").rglob("checkpoint.pt"))
    assert not list((tmp_path / "killed").rglob("*.partial"))


def test_a_finished_run_is_read_not_trained_again(data, whole, tmp_path, monkeypatch):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    monkeypatch.setattr(loop.Loop, "train_epoch", None)
    assert_same_tables(run(data, folder, seeds=(3,)), whole[1])


# ---------------------------------------------------------------------- the fit loop


@pytest.fixture(scope="module")
def fold(data):
    """The first fold as samples: source, held-out source, target."""
    fold = next(iter(CrossSubject().split(data.inputs.windows)))
    inputs, _ = normalise(
        data.inputs, "session", source=fold.source, target=fold.target
    )
    sampling, device = R2GFANet(inputs.modalities).sampling, torch.device("cpu")

    def labelled(rows):
        samples, members = sample(inputs, rows, sampling, device)
        labels = torch.from_numpy(majority_label(members, data.labels))
        return LabelledSamples(samples, labels, torch.zeros_like(labels))

    subjects = data.inputs.windows["subject"].to_numpy()[fold.source]
    mine = subjects == subjects[0]
    target, _ = sample(inputs, fold.target, sampling, device)
    return labelled(fold.source[mine]), labelled(fold.source[~mine]), target


SCREENED = {"labels"} | {
    f"{what}/{branch}"
    for what in ("weights", "opinions")
    for branch in ("eeg", "eye", "fusion")
}


class Killed(Exception):
    pass


def train(
    data,
    fold,
    *,
    validator="last",
    checkpoint=None,
    kill_after=None,
    seed=5,
    adapter=None,
):
    source, held_out, target = fold
    epochs, train_epoch = [], loop.Loop.train_epoch

    def watch(state):
        epochs.append(state.epoch + 1)
        return train_epoch(state)

    def report(row):
        if row["epoch"] == kill_after:
            raise Killed

    with reproducible(1), mock.patch.object(loop.Loop, "train_epoch", watch):
        torch.manual_seed(0)
        modalities = data.inputs.modalities
        model = Network(R2GFANet(modalities, width=8, heads=2), modalities, 3)
        chosen = adapter or find("adapter", "uf-ama")()
        chosen.prepare(model.dims, 3, 1)
        fitted = fit(
            model,
            chosen,
            source,
            target,
            validator=find("validator", validator)(),
            held_out=held_out,
            training=Training(epochs=4, batch_size=4),
            seed=seed,
            traced=target,
            checkpoint=checkpoint and Checkpoint(checkpoint),
            report=report,
        )
        return model, fitted, epochs, predict(model, chosen, target)


@pytest.mark.parametrize("validator", ["last", "source", "rank-average", "guarded"])
@pytest.mark.parametrize("kill_after", [2, 4])
def test_fit_resumes_to_the_same_bits(
    data, fold, tmp_path, monkeypatch, validator, kill_after
):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    expected, whole, _, predicted = train(data, fold, validator=validator)
    path = tmp_path / "fold" / "checkpoint.pt"
    with pytest.raises(Killed):
        train(data, fold, validator=validator, checkpoint=path, kill_after=kill_after)
    model, fitted, epochs, found = train(
        data, fold, validator=validator, checkpoint=path
    )
    assert epochs == list(range(kill_after, 5))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert fitted.history == whole.history and fitted.epoch == whole.epoch
    assert fitted.evidence == whole.evidence
    assert np.array_equal(np.array(fitted.trace), np.array(whole.trace))
    assert len(fitted.screened) == len(whole.screened) == 4
    for found_there, there in zip(fitted.screened, whole.screened, strict=True):
        assert found_there.keys() == there.keys() == SCREENED
        for name, values in there.items():
            assert np.array_equal(found_there[name], values), name
    assert np.array_equal(found, predicted)


def knowing(typicality):
    """An adapter whose screen learns of the source, by a judge that moves."""
    screen = Screening(
        rule="absolute",
        threshold=0.3,
        judge="mean-teacher",
        judge_momentum=0.8,
        judged_from=0.3,
        own_opinion=0.0,
        temperature="held-out",
        typicality=typicality,
        neighbours=0.5,
        labels="soft",
    )
    return find("adapter", "uf-ama")(screen=screen, consistency=5.0)


@pytest.mark.parametrize("typicality", [0.0, 0.3])
def test_what_a_screen_knows_of_the_source_resumes_to_the_same_bits(
    data, fold, tmp_path, monkeypatch, typicality
):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    first, second, third = (knowing(typicality) for _ in range(3))
    expected, whole, *_ = train(data, fold, adapter=first)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train(data, fold, adapter=second, checkpoint=path, kill_after=3)
    model, fitted, *_ = train(data, fold, adapter=third, checkpoint=path)
    learned = [dict(each.screen.named_buffers()) for each in (first, third)]
    assert learned[0] and all(
        torch.equal(v, learned[1][n]) for n, v in learned[0].items()
    )
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for found, there in zip(fitted.screened, whole.screened, strict=True):
        assert all(np.array_equal(found[name], there[name]) for name in SCREENED)


def test_a_screen_learns_what_the_judge_makes_of_the_source(data, fold):
    """The statistics are of the copy that was set aside, not of what it became."""
    seen = []

    class Watching(Screening):
        def learn(self, training, held_out):
            seen.append((training, held_out))
            super().learn(training, held_out)

    screen = Watching(typicality=0.3, temperature="held-out", judged_from=0.5)
    adapter = find("adapter", "uf-ama")(screen=screen)
    train(data, fold, adapter=adapter)
    ((training, held_out),) = seen
    source, others, _ = fold
    assert torch.equal(training.labels, source.labels)
    assert torch.equal(held_out.labels, others.labels)
    known = screen.known["fusion"]
    embeddings = training.outputs.embeddings["fusion"]
    expected = [embeddings[source.labels == k].mean(0) for k in range(3)]
    torch.testing.assert_close(known.means, torch.stack(expected))
    assert 0 < int((~known(embeddings)).sum()) < 0.3 * len(embeddings)
    assert not any("known" in name for name in adapter.state_dict())


def drawing():
    """An adapter that draws random numbers, with a teacher that follows the network."""
    augmenting = find("adapter", "consistency-under-augmentation")
    teaching = find("adapter", "mean-teacher")(
        schedule="constant", judged_from=0.2, judge_momentum=0.8, weight=50.0
    )
    terms = {"augmented": augmenting(schedule="constant", threshold=0.35)}
    return Composite(terms={**terms, "teacher": teaching})


@pytest.mark.parametrize("kill_after", [1, 3])
def test_a_teacher_that_follows_the_network_resumes_to_the_same_bits(
    data, fold, tmp_path, monkeypatch, kill_after
):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    expected, whole, _, predicted = train(data, fold, adapter=drawing())
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train(data, fold, adapter=drawing(), checkpoint=path, kill_after=kill_after)
    model, fitted, epochs, found = train(data, fold, adapter=drawing(), checkpoint=path)
    assert epochs == list(range(kill_after, 5))
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert fitted.history == whole.history and np.array_equal(found, predicted)
    taught = [row["teacher.fusion"] > 0 for row in whole.history]
    assert taught == [False, True, True, True]
    assert all(row["augmented.fusion"] > 0 for row in whole.history)


def test_the_teacher_is_the_moving_average_of_every_step(data, fold):
    steps, taken = [], Judge.step

    def watch(judge, model, progress):
        taken(judge, model, progress)
        now = {name: value.clone() for name, value in model.state_dict().items()}
        steps.append((progress, now, copy.deepcopy(judge.state())))

    with mock.patch.object(Judge, "step", watch):
        train(data, fold, adapter=drawing())
    mean = None
    for progress, now, judge in steps:
        assert (judge is None) == (progress < 0.2)
        if judge is not None and mean is None:
            mean = now
        elif mean is not None:
            mean = {name: 0.8 * mean[name] + 0.2 * now[name] for name in now}
    for name, value in judge.items():
        torch.testing.assert_close(value, mean[name], atol=1e-6, rtol=1e-5)
        assert not torch.equal(value, now[name]) or "heads" not in name


class Blindfolds(Adapter):
    """Loses the eyes of the target, and watches what the network makes of it."""

    def forward(self, source, target):
        kept, lost = target.outputs.present["eye"], target.augmented.present["eye"]
        assert kept.any() and not lost.any()
        eeg = [each.embeddings["eeg"] for each in (target.outputs, target.augmented)]
        assert eeg[1].requires_grad and not torch.equal(*eeg)  # dropout of its own
        return {"eye": 0.0 * eeg[1].sum()}

    def augment(self, signals, masks):
        return dict(signals), {**masks, "eye": torch.zeros_like(masks["eye"])}


def test_the_network_sees_the_target_as_it_is_augmented(data, fold):
    _, fitted, *_ = train(data, fold, adapter=Blindfolds())
    assert len(fitted.history) == 4


def test_checkpoints_do_not_change_training(data, fold, tmp_path, monkeypatch):
    plain, *_ = train(data, fold)
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    kept, *_ = train(data, fold, checkpoint=tmp_path / "checkpoint.pt")
    # Of a training that is complete, only the best weights are read.
    again, _, epochs, _ = train(data, fold, checkpoint=tmp_path / "checkpoint.pt")
    assert epochs == []
    for name, value in plain.state_dict().items():
        assert torch.equal(kept.state_dict()[name], value)
        assert torch.equal(again.state_dict()[name], value)


class Restless(Screening):
    """A screen that draws random numbers and remembers what it has seen."""

    sizes = []  # noqa: RUF012

    def __init__(self):
        super().__init__(judge="current", own_opinion=0.0)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, target):
        self.sizes.append(len(target.outputs.logits["fusion"]))
        self.seen += 1
        pseudo = super().forward(target)
        chance = torch.rand(()) / (1 + self.seen)
        weights = {name: chance * values for name, values in pseudo.weights.items()}
        return Pseudo(pseudo.labels, weights)


def test_recording_what_the_screen_believes_does_not_change_training(
    data, fold, monkeypatch
):
    def restless():
        return find("adapter", "consistency")(screen=Restless(), schedule="constant")

    recorded, fitted, *_ = train(data, fold, adapter=restless())
    # Of all samples, though to the validator the target makes no difference.
    assert len(fitted.screened) == 4
    sizes = [len(v) for epoch in fitted.screened for v in epoch.values()]
    assert {*sizes} == {len(fold[2])}
    monkeypatch.setattr(fitting, "find_screen", lambda adapter: None)
    plain, fitted, *_ = train(data, fold, adapter=restless())
    assert fitted.screened == []
    for name, value in plain.state_dict().items():
        assert torch.equal(recorded.state_dict()[name], value), name


def test_the_whole_target_is_screened_in_full_batches():
    screen, logits = Restless(), torch.randn(10, 3)
    target = Target(Outputs({"fusion": logits}, {"fusion": logits}), progress=0.5)
    Restless.sizes.clear()
    before = torch.get_rng_state()
    found = screen_target(screen, target, 4, screen)
    assert Restless.sizes == [4, 4, 4] and screen.seen == 0
    assert torch.equal(torch.get_rng_state(), before)
    assert found.keys() == {"labels", "weights/fusion", "opinions/fusion"}
    assert all(values.shape == (10,) for values in found.values())
    believed = found["weights/fusion"] > 0
    assert believed.any() and not believed.all()
    assert (found["labels"] == logits.argmax(1).numpy())[believed].all()


def test_each_sample_is_screened_by_the_judges_confidence(
    data, fold, tmp_path, monkeypatch
):
    """By the absolute rule no batch matters, so that it can be done one by one."""
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    options = {"rule": "absolute", "threshold": 0.4, "judged_from": 0.75}
    adapter = find("adapter", "uf-ama")(**options)
    model, fitted, *_ = train(data, fold, adapter=adapter)
    assert not any(epoch["weights/fusion"].any() for epoch in fitted.screened[:3])
    # The judge is the network as the checkpoint of the third epoch of four has it.
    path, again = tmp_path / "checkpoint.pt", find("adapter", "uf-ama")(**options)
    with pytest.raises(Killed):
        train(data, fold, adapter=again, checkpoint=path, kill_after=4)
    parts = Checkpoint(path).load(torch.device("cpu"))["parts"]
    model.load_state_dict(
        {k.removeprefix("0."): v for k, v in parts.items() if k.startswith("0.")}
    )
    target = fold[2]
    signals, masks = target.batch(torch.arange(len(target)))
    with torch.no_grad():
        logits = model(signals, masks).logits
    for place in range(len(target)):
        sure, labels = {}, {}
        for branch in ("eeg", "eye"):
            confidence, label = logits[branch][place].softmax(-1).max(-1)
            sure[branch] = bool(masks[branch][place].any() and confidence > 0.4)
            labels[branch] = int(label)
        both = all(sure.values())
        agree = not both or labels["eeg"] == labels["eye"]
        found = {name: values[place] for name, values in fitted.screened[-1].items()}
        inclined = {
            branch: bool(logits[branch][place].softmax(-1)[found["labels"]] >= 1 / 3)
            for branch in logits
        }
        assert found["weights/fusion"] == (both and agree and inclined["fusion"])
        for branch, other in (("eeg", "eye"), ("eye", "eeg")):
            fusion = int(logits["fusion"][place].argmax()) == found["labels"]
            taught = sure[other] and not sure[branch] and inclined[branch] and fusion
            assert found[f"weights/{branch}"] == taught
        for branch in ("eeg", "eye"):
            if sure[branch] and agree:
                assert found["labels"] == labels[branch]


class Believer(Screen):
    """A screen that believes each branch of the judge as far as it is sure."""

    judged_from = 0.5

    def forward(self, target):
        judge = target.judge or target.outputs
        sure = {name: each.softmax(-1).amax(-1) for name, each in judge.logits.items()}
        weights = {
            name: each * (target.judge is not None) for name, each in sure.items()
        }
        return Pseudo(judge.logits["fusion"].argmax(-1), weights)


def test_what_is_taught_does_not_move_the_judge(data, fold):
    """However hard its labels are taught, it goes on giving the same ones."""

    def taught(weight):
        names = ("consistency", "distillation")
        options = {"weight": weight, "schedule": "constant"}
        terms = {name: find("adapter", name)(**options) for name in names}
        adapter = Composite(terms=terms, screen=Believer())
        model, fitted, *_ = train(data, fold, adapter=adapter)
        return model.state_dict(), fitted

    (mild_weights, mild), (hard_weights, hard) = taught(0.001), taught(100.0)
    assert any(not torch.equal(hard_weights[k], v) for k, v in mild_weights.items())
    for there, found in zip(mild.screened, hard.screened, strict=True):
        assert all(np.array_equal(there[name], found[name]) for name in SCREENED)
    believed = [bool(epoch["weights/eeg"].any()) for epoch in hard.screened]
    assert believed == [False, False, True, True]


def test_the_outermost_screen_rules():
    released = find("adapter", "uf-ama-released")()
    assert find_screen(released) is released.screen
    preset = find("adapter", "uf-ama")()
    assert find_screen(preset) is preset.screen
    alone = find("adapter", "consistency")()
    assert find_screen(alone) is alone.screen
    assert find_screen(find("adapter", "marginal")()) is None
    # Groups with screens of their own: no record would be right for all.
    assert find_screen(Composite(terms={"first": preset, "second": released})) is None


def test_a_half_written_checkpoint_is_not_read(data, fold, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(Killed):
        train(data, fold, checkpoint=path, kill_after=3)
    before = path.read_bytes()

    def break_off(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise Killed

    monkeypatch.setattr(Path, "write_bytes", break_off)
    with pytest.raises(Killed):
        train(data, fold, checkpoint=path)
    assert path.read_bytes() == before


def test_other_seeds_train_other_weights(data, fold):
    first, *_ = train(data, fold, seed=5)
    second, *_ = train(data, fold, seed=6)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
