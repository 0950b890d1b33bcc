"""The checks of an adapter."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..adapters.composite import without_target
from ..core import FUSION, Adapter, EmotionData, Protocol, Target
from ..errors import ConfigurationError
from ..runs.checks import canonical
from ..training.seeds import seed_torch
from ..training.settings import Training
from ..training.whole_trials import of_whole_trials
from .batches import (
    BRANCHES,
    CLASSES,
    DOMAINS,
    SAMPLES,
    WIDTHS,
    Tensors,
    draw,
    hostile,
    outputs_of,
    source_of,
    trials_of,
    without_samples,
)
from .firewall import SMALL_NETWORK, FirstFold, with_random_target_labels
from .requirements import (
    Check,
    Suite,
    drawn_options,
    require,
    require_equal,
    require_options,
)

__all__ = ["ADAPTER"]

_RESERVED = ("classification", "total", "epoch", "score")


def _adapter_options(check: Check) -> None:
    """Require constructor parameters that are keyword-only, with defaults."""
    require_options(check.part, required=0)


def _adapter_losses(check: Check) -> None:
    """Require a dict of named finite scalars, whatever branches there are."""
    widths = _widths(check)
    for branches in BRANCHES:
        losses = _losses(_prepared(check, widths), draw(branches, widths=widths))
        where = f"with the branches {', '.join(branches)}"
        require(isinstance(losses, dict), f"a {type(losses).__name__} {where}")
        for name, loss in losses.items():
            require(
                isinstance(name, str) and name != "",
                f"the name {name!r} for a loss {where}",
            )
            require(
                name not in _RESERVED,
                f"a loss called {name!r}, which the training history uses itself",
            )
            require(
                isinstance(loss, Tensor),
                f"the loss {name!r} as a {type(loss).__name__}, not a Tensor, {where}",
            )
            require(
                loss.ndim == 0 and loss.is_floating_point(),
                f"the loss {name!r} of shape {tuple(loss.shape)} and type "
                f"{loss.dtype} {where}",
            )
            require(
                bool(loss.detach().isfinite()),
                f"the loss {name!r} is {loss.detach().item()} {where}",
            )


def _adapter_gradients(check: Check) -> None:
    """Require losses that can be differentiated, with finite gradients."""
    widths = _widths(check)
    for branches in BRANCHES:
        _require_finite(
            _prepared(check, widths),
            draw(branches, widths=widths),
            f"with {', '.join(branches)}",
        )


def _adapter_leaves_inputs(check: Check) -> None:
    """Require every tensor that is handed over to be left as it was."""
    widths = _widths(check)
    for branches in BRANCHES:
        _, handed = _leaves(draw(branches, widths=widths))
        before = {path: values.detach().clone() for path, values in handed.items()}
        versions = {path: values._version for path, values in handed.items()}
        _losses(_prepared(check, widths), handed)
        for path, values in handed.items():
            require(
                values._version == versions[path]
                and torch.equal(values.detach(), before[path]),
                f"{path} changed in place",
            )


def _adapter_hostile(check: Check) -> None:
    """Require finite losses and gradients in every batch training may meet."""
    widths = _widths(check)
    for branches in BRANCHES:
        for where, change in hostile(branches).items():
            _require_finite(
                _prepared(check, widths), change(draw(branches, widths=widths)), where
            )


def _adapter_lost(check: Check) -> None:
    """Require that a target sample of which nothing is recorded counts for nothing."""
    widths, rows = _widths(check), slice(3, 6)  # a whole trial
    for branches in BRANCHES:
        batch = without_samples(draw(branches, widths=widths), "target", rows)
        other = dict(batch)
        for path in batch:
            if path.startswith("target/logits/"):
                other[path] = batch[path].clone()
                other[path][rows] = batch[path][rows].flip(-1) * 9
        found = []
        for tensors in (batch, other):
            seed_torch(0)
            found.append(_losses(_prepared(check, widths), tensors))
        for name, loss in found[0].items():
            require(
                torch.allclose(loss, found[1][name], rtol=1e-4, atol=1e-6),
                f"the loss {name!r} is {loss.detach().item():.5g}, and "
                f"{found[1][name].detach().item():.5g} where the network's outputs for "
                f"samples of which no sensor recorded anything are others; expected "
                f"them to have no weight (outputs.weight(branch))",
            )


def _adapter_begins(check: Check) -> None:
    """Require that nothing of the target counts before the adapter begins."""
    widths = _widths(check)
    adapter = _prepared(check, widths)
    begins = adapter.begins
    require(0 <= begins <= 1, f"the adapter begins at {begins}, not from 0 to 1")
    if not (adapter.needs_target and begins):
        return
    own = without_target(adapter)
    for branches, progress in product(BRANCHES, (0.0, np.nextafter(begins, 0))):
        leaves, handed = _leaves(draw(branches, widths=widths))
        nothing = torch.zeros(())
        total = sum(_losses(adapter, handed, progress=progress).values(), nothing)
        if own is not None:  # these are called from the start
            total = total - sum(
                _losses(own, handed, progress=progress).values(), nothing
            )
        found = float(total.detach())
        where = f"at {progress:.2f} of training, before {begins:.2f}"
        require(abs(found) < 1e-6, f"losses of {found} {where}")
        if not total.requires_grad:
            continue
        gradients = torch.autograd.grad(total, [*leaves.values()], allow_unused=True)
        for path, gradient in zip(leaves, gradients, strict=True):
            none = gradient is None or bool((gradient.abs() < 1e-6).all())
            require(none, f"a gradient of {path} that is not zero {where}")


def _adapter_deterministic(check: Check) -> None:
    """Require the same losses from the same inputs and seed, bit for bit."""
    widths = _widths(check)
    for branches in BRANCHES:
        found = []
        adapter = _prepared(check, widths)
        for twin in (adapter, copy.deepcopy(adapter)):
            seed_torch(1)
            found.append(_losses(twin, draw(branches, widths=widths)))
        require_equal(*found, tolerance=0.0, where="the second time")


def _adapter_vectorises(check: Check) -> None:
    """Require the same losses under torch.func.vmap as in a loop, or a reason."""
    if not check.build().vectorises:
        told = "vectorise" in (check.part.__doc__ or "")
        require(told, "vectorises = False, and not a word of it in the docstring")
        return
    widths = _widths(check)
    for branches in BRANCHES:
        batches = [draw(branches, widths=widths, seed=seed) for seed in range(3)]
        batches[1] = hostile(branches)["with a class absent from the source"](
            batches[1]
        )
        stacked = {path: torch.stack([b[path] for b in batches]) for path in batches[0]}
        adapter = _prepared(check, widths).eval()
        if not _losses(adapter, batches[0]):
            continue
        found = torch.func.vmap(partial(_losses, adapter))(stacked)
        for number, batch in enumerate(batches):
            one = {name: losses[number] for name, losses in found.items()}
            require_equal(
                _losses(adapter, batch), one, tolerance=1e-4, where="under vmap"
            )


def _adapter_sees_no_labels(check: Check) -> None:
    """Require nothing of a target but what the network, or a screen, makes of it."""
    names = tuple(each.name for each in fields(Target))
    made = ("outputs", "progress", "teacher", "pseudo", "judge", "augmented", "mixed")
    # Which samples share a trial is provenance.
    known = (*made, "trials", "whole_trials")
    require(names == known, f"a Target with the fields {', '.join(names)}")
    asked: list[str] = []

    class Watched(Target):
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                asked.append(name)
            raise AttributeError(name)

    widths = _widths(check)
    for branches in BRANCHES:
        try:
            _losses(
                _prepared(check, widths), draw(branches, widths=widths), target=Watched
            )
        finally:
            require(not asked, f"target.{', target.'.join(asked)} asked for")


def _adapter_state(check: Check) -> None:
    """Require the same losses from a state_dict loaded into another object."""
    widths = _widths(check)
    for branches in BRANCHES:
        first, second = (
            _prepared(check, widths, seed=0),
            _prepared(check, widths, seed=1),
        )
        for adapter in (first, second):
            _losses(adapter, draw(branches, widths=widths, seed=2))
        second.load_state_dict(first.state_dict())
        batch = draw(branches, widths=widths)
        found = []
        for adapter in (first, second):
            seed_torch(1)
            found.append(_losses(adapter.eval(), batch))
        require_equal(*found, tolerance=0.0, where="from the loaded state")


def _adapter_keeps_prediction(check: Check) -> None:
    """Require the same prediction of a new object that has loaded the state."""
    widths = _widths(check)
    for branches in BRANCHES:
        first, second = (_prepared(check, widths, seed=seed) for seed in (0, 1))
        if not first.shapes_prediction:
            return
        _losses(first, draw(branches, widths=widths, seed=2))
        second.load_state_dict(first.state_dict())
        outputs = outputs_of(draw(branches, widths=widths), "target")
        with torch.no_grad():
            found = [
                {"the prediction": a.eval().predict(outputs)} for a in (first, second)
            ]
        require_equal(*found, tolerance=0.0, where="of a new one with its state")


def _adapter_predicts(check: Check) -> None:
    """Require finite logits of each sample by itself, and nothing changed by it."""
    widths = _widths(check)
    for branches in BRANCHES:
        adapter = _prepared(check, widths)
        batch = draw(branches, widths=widths)
        _losses(adapter, batch)
        adapter.eval()
        before = copy.deepcopy(adapter.state_dict())
        outputs = outputs_of(batch, "target")
        with torch.no_grad():
            together = adapter.predict(outputs)
            alone = [
                adapter.predict(outputs_of(_rows(batch, slice(k, k + 1)), "target"))
                for k in range(SAMPLES)
            ]
        expected, found = (SAMPLES, CLASSES), tuple(together.shape)
        require(found == expected, f"logits of shape {found}, not {expected}")
        require(bool(together.isfinite().all()), "logits that are not finite")
        one_by_one = {"the prediction": torch.cat(alone)}
        whole = {"the prediction": together}
        require_equal(whole, one_by_one, tolerance=1e-4, where="one by one")
        shaped = not torch.equal(together, outputs.logits[FUSION])
        require(
            adapter.shapes_prediction or not shaped,
            "a prediction that is not the fusion's, and shapes_prediction False",
        )
        after = adapter.state_dict()
        require_equal(before, after, tolerance=0.0, where="after a prediction")


def _rows(tensors: Tensors, rows: slice) -> Tensors:
    return {path: values[rows] for path, values in tensors.items()}


def _adapter_space(check: Check) -> None:
    """Require a search space of options that the constructor accepts."""
    widths = _widths(check)
    for options in drawn_options(check):
        drawn = _prepared(replace(check, options=options), widths)
        _losses(drawn, draw(BRANCHES[0], widths=widths))


def _adapter_trains(check: Check) -> None:
    """Require a small training to stay finite, and some loss to fall in it."""
    with tempfile.TemporaryDirectory() as folder:
        _fit_one_fold(check, _recordings(), Path(folder) / "run", epochs=10)
        table = pd.read_csv(_only(Path(folder), "history.csv"))
    losses = table.drop(columns=["epoch", "score"])
    require(bool(np.isfinite(losses.to_numpy()).all()), "a loss that is not finite")
    first, lowest = losses.iloc[0], losses.min()
    # A weight that ramps up may make the sum rise, a strong term the classification.
    falls = [name for name in ("classification", "total") if lowest[name] < first[name]]
    require(bool(falls), f"a sum of {first['total']:.3f} that only rises in 10 epochs")


def _adapter_firewall(check: Check) -> None:
    """Require the same bits trained when the target's labels are noise."""
    data = _recordings()
    noisy = with_random_target_labels(data, _protocol())
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number, each in enumerate((data, noisy)):
            path = Path(folder) / str(number)
            _fit_one_fold(check, each, path, epochs=2)
            found.append(_trained(path))
    for name, content in found[0].items():
        require(
            content == found[1][name],
            f"another {name} when the target's labels are noise",
        )


ADAPTER: Suite = {
    "options": _adapter_options,
    "losses": _adapter_losses,
    "gradients": _adapter_gradients,
    "leaves_inputs_alone": _adapter_leaves_inputs,
    "hostile_batches": _adapter_hostile,
    "lost_samples": _adapter_lost,
    "begins": _adapter_begins,
    "deterministic": _adapter_deterministic,
    "vectorises": _adapter_vectorises,
    "sees_no_labels": _adapter_sees_no_labels,
    "state": _adapter_state,
    "predicts": _adapter_predicts,
    "keeps_prediction": _adapter_keeps_prediction,
    "space": _adapter_space,
    "trains": _adapter_trains,
    "firewall": _adapter_firewall,
}


# ------------------------------------------------------------------ losses of a batch


def _widths(check: Check) -> Mapping[str, int]:
    """Return unequal widths of the branches, or equal ones if the adapter asks so."""
    try:
        _losses(_prepared(check, WIDTHS), draw(BRANCHES[0]))
    except ConfigurationError:
        return dict.fromkeys(WIDTHS, 6)
    except Exception:  # the check itself will tell
        pass
    return WIDTHS


def _prepared(check: Check, widths: Mapping[str, int], seed: int = 0) -> Adapter:
    """Return a new adapter that is prepared as for a training, by `seed`."""
    with torch.random.fork_rng(devices=()):
        seed_torch(seed)
        adapter: Adapter = check.part(**check.options)
        adapter.prepare(widths, CLASSES, DOMAINS)
        return adapter


def _losses(
    adapter: Adapter,
    tensors: Tensors,
    *,
    progress: float = 0.5,
    target: type[Target] = Target,
) -> dict[str, Tensor]:
    """Call an adapter as training does."""
    teacher = None
    if adapter.needs_teacher:
        teacher = outputs_of(tensors, "target", detach=True)
    judge = None
    if adapter.judged_from is not None and progress >= adapter.judged_from:
        judge = outputs_of(tensors, "target", detach=True)
    outputs = outputs_of(tensors, "target")
    augmented = outputs_of(tensors, "target") if adapter.augments else None
    trials = trials_of(outputs) if adapter.needs_trials else None
    whole = None
    if adapter.needs_whole_trials and judge is not None:
        whole = of_whole_trials(judge, trials_of(judge))
    seen = target(
        outputs,
        progress,
        teacher,
        judge=judge,
        augmented=augmented,
        trials=trials,
        whole_trials=whole,
    )
    losses: dict[str, Tensor] = adapter(source_of(tensors), seen)
    return losses


def _leaves(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Return leaves to differentiate by, and the tensors that an adapter is handed."""
    leaves = {
        path: values.clone().requires_grad_()
        for path, values in tensors.items()
        if values.is_floating_point()
    }
    # A network's outputs are no leaves: torch lets them be overwritten.
    handed = {path: values.clone() for path, values in tensors.items()}
    return leaves, handed | {path: values * 1 for path, values in leaves.items()}


def _require_finite(adapter: Adapter, tensors: Tensors, where: str) -> None:
    """Refuse a loss, or a gradient of the sum of losses, that is not finite."""
    for progress in (0.0, 1.0):
        leaves, handed = _leaves(tensors)
        losses = _losses(adapter, handed, progress=progress)
        for name, loss in losses.items():
            require(
                bool(loss.detach().isfinite().all()),
                f"the loss {name!r} is {loss.detach().tolist()} {where}",
            )
        total = sum(losses.values(), torch.zeros(()))
        if not total.requires_grad:
            continue
        parameters = {n: p for n, p in adapter.named_parameters() if p.requires_grad}
        wanted = leaves | parameters
        gradients = torch.autograd.grad(total, list(wanted.values()), allow_unused=True)
        for path, gradient in zip(wanted, gradients, strict=True):
            require(
                gradient is None or bool(gradient.isfinite().all()),
                f"a gradient of {path} that is not finite {where}",
            )


# --------------------------------------------------------------------- small trainings


@cache
def _recordings() -> EmotionData:
    from ..data.simulator import Simulated

    simulated = Simulated(subjects=3, sessions=1, trials=9, windows=(3, 5), effect=4.0)
    data = simulated.load()
    return data.take(canonical(data.inputs))


def _protocol() -> Protocol:
    from ..protocols.cross_subject import CrossSubject

    return FirstFold(CrossSubject())


def _fit_one_fold(
    check: Check, data: EmotionData, output: Path, *, epochs: int
) -> None:
    """Train a tiny network with the adapter; selection looks at the target too."""
    from ..runs.run import run

    adapter, options = check.build(), {}
    # Of a name that is inherited, the parent would be run.
    if "registered_name" in vars(check.part):
        adapter = check.part
        options = {f"adapter.{name}": value for name, value in check.options.items()}
    run(
        data,
        protocol=_protocol(),
        backbone=SMALL_NETWORK,
        adapter=adapter,
        validator="information-maximisation",
        sampling="windows",
        options=options,
        training=Training(epochs=epochs, batch_size=16, learning_rate=5e-3),
        baselines=False,
        device="cpu",
        output=output,
    )


def _only(folder: Path, name: str) -> Path:
    (found,) = folder.rglob(name)
    return found


def _trained(folder: Path) -> dict[str, Any]:
    """Return all that training and selection leave, in comparable form."""
    with np.load(_only(folder, "predictions.npz")) as file:
        predictions = {name: array.tobytes() for name, array in file.items()}
    record = json.loads(_only(folder, "record.json").read_text(encoding="utf-8"))
    return {
        "weight": _only(folder, "model.safetensors").read_bytes(),
        "selected epoch": record["epoch"],
        "history": _only(folder, "history.csv").read_bytes(),
        "probability": predictions,
    }
