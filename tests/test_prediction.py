"""Adapters that shape the prediction, and whose modules train and are kept with it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from fitted import fit
from safetensors.torch import load_file
from torch import nn

import domainemo as de
from domainemo.adapters.composite import Composite
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.none import SourceOnly
from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.core import FUSION, Adapter, Outputs, Validator
from domainemo.data.normalisation import normalise
from domainemo.errors import ConfigurationError, DataError
from domainemo.registry import find
from domainemo.review.interpretation import interpret
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment
from domainemo.runs.model import load_trained
from domainemo.testing import FirstFold, check
from domainemo.training.batches import LabelledSamples, majority_label, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.fit import predict
from domainemo.training.model import Network, state_of
from domainemo.training.seeds import reproducible
from domainemo.training.settings import Training

torch.set_num_threads(1)
TINY = {"backbone.width": 8, "backbone.heads": 2}
PROTOCOL = FirstFold(find("protocol", "cross-subject")())


class Heads(Adapter):
    """A classifier per source subject, and a module that predicts nothing."""

    needs_target = False

    def prepare(self, dims, classes, domains):
        self.heads = nn.ModuleList(
            nn.Linear(dims[FUSION], classes) for _ in range(domains)
        )

    def forward(self, source, target):
        embedding = source.outputs.embeddings[FUSION]
        logits = torch.stack([head(embedding) for head in self.heads], -2)
        own = logits.take_along_dim(source.domains[..., None, None], -2).squeeze(-2)
        right = own.log_softmax(-1).take_along_dim(source.labels[..., None], -1)
        return {"heads": -right.squeeze(-1).mean(-1)}

    def predict(self, outputs):
        logits = [head(outputs.embeddings[FUSION]) for head in self.heads]
        return torch.stack(logits, -2).mean(-2)


class Prototypes(Adapter):
    """The mean embedding of every class, remembered in a buffer; the nearest wins."""

    needs_target = False

    def prepare(self, dims, classes, domains):
        self.register_buffer("means", torch.zeros(classes, dims[FUSION]))

    def forward(self, source, target):
        embedding = source.outputs.embeddings[FUSION]
        members = nn.functional.one_hot(source.labels, len(self.means)).to(embedding)
        counts = members.sum(-2)[..., None]
        found = members.mT @ embedding / counts.clamp(min=1)
        moved = torch.where(counts > 0, 0.9 * self.means + 0.1 * found, self.means)
        self.means = moved.detach()
        return {"spread": (embedding.square().sum(-1)).mean(-1)}

    def predict(self, outputs):
        embedding = outputs.embeddings[FUSION][..., None, :]
        return -(embedding - self.means).square().sum(-1)


class Constant(Adapter):
    """Says the second class of everything."""

    needs_target = False

    def forward(self, source, target):
        return {}

    def predict(self, outputs):
        logits = torch.zeros_like(outputs.logits[FUSION])
        logits[..., 1] = 9.0
        return logits


class First(Validator):
    """The first epoch."""

    def __call__(self, training, held_out, target):
        return -target.progress


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 5)).load()
    return made.take(canonical(made.inputs))


def run(data, output, adapter, **choices):
    options = {**TINY, **choices.pop("options", {})}
    choices = {"baselines": False, "training": Training(epochs=3, batch_size=8)} | (
        choices
    )
    return de.run(
        data,
        protocol=PROTOCOL,
        adapter=adapter,
        options=options,
        output=output,
        device="cpu",
        **choices,
    )


def folder_of(output):
    (record,) = output.rglob("record.json")
    return record.parent


def stored(adapter, **choices):
    return experiment(
        protocol=PROTOCOL, adapter=adapter, options=TINY, device="cpu", **choices
    )


# ----------------------------------------------------------------------- end to end


@pytest.mark.parametrize("cls", [Heads, Prototypes, Constant])
def test_the_shipped_checks(cls):
    check(cls, skip=("vectorises",) if cls is Prototypes else ())


def test_a_fold_predicts_by_what_was_trained_and_saved(data, tmp_path):
    found = run(data, tmp_path / "run", Heads()).predictions
    folder = folder_of(tmp_path / "run")
    weights = load_file(folder / "model.safetensors")
    (fold,) = PROTOCOL.split(data.inputs.windows)
    inputs, _ = normalise(
        data.inputs, "session", source=fold.source, target=fold.target
    )
    trained = load_trained(folder, stored(Heads()))
    samples, members = sample(
        inputs, fold.test, trained.network.backbone.sampling, torch.device("cpu")
    )
    with torch.no_grad(), reproducible(1):
        outputs = trained.network(*samples.batch(torch.arange(len(samples))))
    embedding = outputs.embeddings[FUSION]
    names = [f"adapter.heads.{k}" for k in range(2)]  # two subjects train
    assert {n for n in weights if n.startswith("adapter.")} == {
        f"{name}.{part}" for name in names for part in ("weight", "bias")
    }
    logits = [
        embedding @ weights[f"{n}.weight"].T + weights[f"{n}.bias"] for n in names
    ]
    expected = (sum(logits) / 2).softmax(-1).numpy()
    columns = [c for c in found if c.startswith("p_")]
    np.testing.assert_allclose(found[columns], expected, atol=1e-5)
    fusion = outputs.logits[FUSION].softmax(-1).numpy()
    assert np.abs(fusion - expected).max() > 0.01
    # A recording is predicted alike, and so are the classes that are interpreted.
    part = data.inputs.take(fold.test)
    table = trained.predict(part)
    np.testing.assert_allclose(table[columns], found[columns], atol=1e-5)
    made = interpret([folder], stored(Heads()), data.inputs)
    counts = made.regions.groupby("predicted")["samples"].first().to_dict()
    real = ~np.isnan(inputs.signals["eeg"]).all((1, 2))
    there = (real[members] & (members >= 0)).any(1)
    named = np.array(data.classes)[expected.argmax(1)[there]]
    assert counts == dict(zip(*np.unique(named, return_counts=True), strict=True))


def test_modules_train_and_buffers_are_kept(data, tmp_path):
    for cls, name in ((Heads, "heads.0.weight"), (Prototypes, "means")):
        run(data, tmp_path / cls.__name__, cls())
        folder = folder_of(tmp_path / cls.__name__)
        weights = load_file(folder / "model.safetensors")
        trained = load_trained(folder, stored(cls()))
        assert torch.equal(
            trained.adapter.state_dict()[name], weights[f"adapter.{name}"]
        )
        start = cls()
        torch.manual_seed(0)
        start.prepare(trained.network.dims, 3, 2)
        assert not torch.allclose(start.state_dict()[name], weights[f"adapter.{name}"])


def test_every_score_is_of_the_prediction(data, tmp_path):
    """Of a constant, the balanced accuracy is one over the number of classes."""
    result = run(data, tmp_path / "held", Constant(), validator="source")
    history = pd.read_csv(folder_of(tmp_path / "held") / "history.csv")
    assert history["held_out"].tolist() == history["score"].tolist()
    np.testing.assert_allclose(history["score"], 1 / 3)
    assert (result.predictions["predicted"] == 1).all()
    run(data, tmp_path / "im", Constant(), validator="information-maximisation")
    history = pd.read_csv(folder_of(tmp_path / "im") / "history.csv")
    np.testing.assert_allclose(history["score"], 0, atol=1e-6)
    run(data, tmp_path / "oracle", Constant(), validator="oracle")
    with np.load(folder_of(tmp_path / "oracle") / "predictions.npz") as file:
        assert file["trace"].shape[0] == 3
        assert (file["trace"].argmax(-1) == 1).all()


def test_the_screen_sees_the_fusion_as_in_training(data, tmp_path):
    """What it believes of the target is not what another term predicts."""
    taught = {"taught": find("adapter", "uf-ama")(judged_from=0.3)}
    options = {"training": Training(epochs=3, batch_size=8)}
    believed = []
    for name, more in (("plain", {}), ("shaped", {"constant": Constant()})):
        run(data, tmp_path / name, Composite(terms=taught | more), **options)
        with np.load(folder_of(tmp_path / name) / "screening.npz") as file:
            believed.append({key: file[key].copy() for key in file})
    for key, values in believed[0].items():
        np.testing.assert_array_equal(values, believed[1][key], err_msg=key)


# ------------------------------------------------------------------------- training


def trained(data, adapter, *, validator="last", checkpoint=None, kill=None):
    windows = data.inputs.windows
    source = np.flatnonzero(windows["subject"] != windows["subject"].iloc[0])
    target = np.flatnonzero(windows["subject"] == windows["subject"].iloc[0])
    inputs, _ = normalise(data.inputs, "session", source=source, target=target)

    def report(row):
        if row["epoch"] == kill:
            raise KeyboardInterrupt

    with reproducible(1):
        torch.manual_seed(0)
        model = Network(
            R2GFANet(inputs.modalities, width=8, heads=2), inputs.modalities, 3
        )
        adapter.prepare(model.dims, 3, 2)
        device, sampling = torch.device("cpu"), model.backbone.sampling
        samples, members = sample(inputs, source, sampling, device)
        codes = pd.factorize(windows["subject"].iloc[members[:, 0]])[0]
        labels = torch.from_numpy(majority_label(members, data.labels))
        labelled = LabelledSamples(samples, labels, torch.from_numpy(codes))
        seen, _ = sample(inputs, target, sampling, device)
        fit(
            model,
            adapter,
            labelled,
            seen,
            validator=validator if isinstance(validator, Validator) else LAST(),
            held_out=None,
            training=Training(epochs=4, batch_size=8, decay="constant"),
            seed=0,
            checkpoint=checkpoint and Checkpoint(checkpoint),
            report=report,
        )
        return state_of(model, adapter), predict(model, adapter, seen)


LAST = find("validator", "last")


@pytest.mark.parametrize("cls", [Heads, Prototypes])
def test_a_killed_training_resumes_with_the_same_bits(data, tmp_path, monkeypatch, cls):
    from domainemo.training import loop

    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    whole, expected = trained(data, cls())
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(data, cls(), checkpoint=path, kill=3)
    assert path.exists()
    resumed, found = trained(data, cls(), checkpoint=path)
    assert list(whole) == list(resumed)
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    np.testing.assert_array_equal(found, expected)


def test_the_epoch_that_is_kept_is_the_adapters_too(data):
    """Chosen the first of four epochs, both are what they were after one."""
    adapter = Heads()
    kept, _ = trained(data, adapter, validator=First())
    after = []

    class Watches(Validator):
        def __call__(self, training, held_out, target):
            after.append({k: v.clone() for k, v in watched.state_dict().items()})
            return target.progress

    watched = Heads()
    last, _ = trained(data, watched, validator=Watches())
    for name, value in after[0].items():
        assert torch.equal(kept[f"adapter.{name}"], value)
    assert not torch.equal(last["adapter.heads.0.weight"], after[0]["heads.0.weight"])


# ------------------------------------------------------------------ joined and refused


def outputs():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    return Outputs({FUSION: torch.ones(4, 2)}, {FUSION: logits})


def test_one_term_of_a_composite_predicts():
    inner = Composite(terms={"constant": Constant(), "marginal": Marginal()})
    outer = Composite(terms={"inner": inner, "none": SourceOnly()})
    assert inner.shapes_prediction and outer.shapes_prediction
    assert (outer.predict(outputs()).argmax(-1) == 1).all()
    plain = Composite(terms={"marginal": Marginal(), "none": SourceOnly()})
    assert not plain.shapes_prediction
    assert torch.equal(plain.predict(outputs()), outputs().logits[FUSION])
    with pytest.raises(ConfigurationError, match="'inner' and 'heads' all predict"):
        Composite(terms={"inner": inner, "marginal": Marginal(), "heads": Heads()})


def test_every_term_of_a_composite_is_prepared():
    heads = Heads()
    outer = Composite(terms={"inner": Composite(terms={"heads": heads})})
    outer.prepare({FUSION: 5}, 3, 2)
    assert [head.weight.shape for head in heads.heads] == [(3, 5)] * 2
    assert "terms.inner.terms.heads.heads.1.bias" in outer.state_dict()


def test_a_prediction_of_another_shape_is_refused(data, tmp_path):
    class Flat(Constant):
        def predict(self, outputs):
            return outputs.logits[FUSION].sum(-1)

    with pytest.raises(
        de.DomainemoError, match=r"Flat.predict returned .*\(\d+,\) .*ex"
    ):
        run(data, tmp_path / "run", Flat())


def test_folds_without_modules_are_as_before_and_still_read(
    data, tmp_path, monkeypatch
):
    run(data, tmp_path / "run", "marginal")
    folder = folder_of(tmp_path / "run")
    described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    kept = {"classes", "modalities", "scales", "raw_scales", "learned", "step"}
    assert set(described) == kept
    names = {name.split(".")[0] for name in load_file(folder / "model.safetensors")}
    assert names == {"backbone", "heads"}
    assert not load_trained(folder, stored("marginal")).adapter.shapes_prediction
    # An adapter that has come to predict was trained for no folder of before.
    monkeypatch.setattr(Marginal, "predict", Constant.predict)
    with pytest.raises(
        DataError, match=r"a network alone, of an earlier version.*again"
    ):
        load_trained(folder, stored("marginal"))
