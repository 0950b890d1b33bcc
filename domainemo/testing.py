"""The contract as checks that anyone can run on a part of their own.

:func:`check` runs them all; :func:`checks` lists them, for a test runner:

>>> import pytest
>>> from domainemo.testing import checks
>>> @pytest.mark.parametrize("check", checks(MyAdapter))
... def test_contract(check):
...     check()

A part that fails raises AssertionError with one sentence: which part, which check, what
was found and what was expected. Nothing here needs pytest.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import tempfile
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .core import (
    FUSION,
    PROVENANCE,
    Adapter,
    Backbone,
    Control,
    EmotionData,
    Fold,
    Modality,
    Normalisation,
    Outputs,
    Protocol,
    Sampling,
    Screen,
    Source,
    Target,
    Validator,
)
from .errors import ConfigurationError, DataError
from .registry import parameters
from .runs.checks import canonical
from .training.model import Model
from .training.settings import Training
from .words import count

__all__ = ["Check", "FirstFold", "check", "checks", "with_random_target_labels"]

Tensors = dict[str, Tensor]
Sensors = Mapping[str, Modality]

_BRANCHES = (("eeg", "eye", FUSION), ("eeg", FUSION))
_WIDTHS = {"eeg": 6, "eye": 5, FUSION: 8}
_SAMPLES = 12
_CLASSES = 3
_DOMAINS = 2
_ELECTRODES = ("Fp1", "AF3", "F7", "Fz", "T7", "C3", "Cz", "P4", "O1", "Oz", "O2")
_RESERVED = ("classification", "total", "epoch", "score")


@dataclass(frozen=True)
class Check:
    """One check of one class; call it to run it.

    Attributes
    ----------
    name : str
    part : type
        The class that is checked.
    options : mapping of str to value
        Options for its constructor.
    sensors : sequence of mappings of str to Modality
        For backbones: what to build them for.
    """

    name: str
    part: type
    options: Mapping[str, Any] = field(default_factory=dict)
    sensors: Sequence[Sensors] = ()

    @property
    def __name__(self) -> str:
        """The name, where a test runner looks for it."""
        return self.name

    def build(self, *arguments: Any, seed: int = 0) -> Any:
        """Return a new object of the class, its weights drawn from `seed`."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return self.part(*arguments, **self.options)

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            Naming the class, the check, what was found and what was expected.
        """
        function = _suite(self.part)[self.name]
        summary = inspect.getdoc(function) or ""
        expected = summary.removeprefix("Require ").removesuffix(".")
        try:
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(0)
                function(self)
        except AssertionError as failure:
            found = str(failure)
        except Exception as error:
            message = textwrap.shorten(str(error), 400).removesuffix(".")
            found = f"{type(error).__name__}: {message}"
            raise AssertionError(self._sentence(found, expected)) from error
        else:
            return
        raise AssertionError(self._sentence(found, expected))

    def _sentence(self, found: str, expected: str) -> str:
        return (
            f"{self.part.__name__} fails the check {self.name!r}: found {found}; "
            f"expected {expected}."
        )


def checks(
    part: type,
    *,
    options: Mapping[str, Any] | None = None,
    skip: Collection[str] = (),
    sensors: Sequence[Sensors] | None = None,
) -> list[Check]:
    """Return the checks of an adapter, a backbone, a protocol or a validator.

    Parameters
    ----------
    part : type
        The class; it need not be registered.
    options : mapping of str to value, optional
        Options for its constructor; its defaults otherwise.
    skip : collection of str
        Names of checks that do not apply, such as ``"vectorises"`` for a loss that
        calls a solver outside torch.
    sensors : sequence of mappings of str to Modality, optional
        For backbones that need particular sensors: what to build them for. Otherwise
        several sets of EEG with and without companions, of which those that the
        constructor refuses are left out.

    Raises
    ------
    ConfigurationError
        If the class is of another kind, or a name to skip is unknown.
    """
    suite = _suite(part)
    unknown = sorted(set(skip) - set(suite))
    if unknown:
        raise ConfigurationError(
            f"There is no check called {', '.join(map(repr, unknown))} to skip; "
            f"{part.__name__} has {', '.join(suite)}."
        )
    wanted = tuple(sensors) if sensors is not None else _SENSORS
    return [
        Check(name, part, dict(options or {}), wanted)
        for name in suite
        if name not in skip
    ]


def check(
    part: type,
    *,
    options: Mapping[str, Any] | None = None,
    skip: Collection[str] = (),
    sensors: Sequence[Sensors] | None = None,
) -> None:
    """Run all checks of a class.

    Parameters
    ----------
    part, options, skip, sensors
        See :func:`checks`.

    Raises
    ------
    AssertionError
        With a sentence for every check that fails.
    """
    failures = []
    for each in checks(part, options=options, skip=skip, sensors=sensors):
        try:
            each()
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        raise AssertionError("\n".join(failures))


class FirstFold(Protocol):
    """Only the first fold of another protocol.

    One fold's target is the source of the next: the label firewall can be tried on a
    single fold only.

    Parameters
    ----------
    protocol : Protocol
        The protocol that is cut short.
    """

    domain = "subject"

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.domain = protocol.domain  # type: ignore[misc]

    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield one fold."""
        yield next(iter(self.protocol.split(windows)))


def with_random_target_labels(
    data: EmotionData, protocol: Protocol, *, seed: int = 0
) -> EmotionData:
    """Replace the labels that no training may see by noise.

    Parameters
    ----------
    data : EmotionData
    protocol : Protocol
        The labels of the target and test windows of its first fold are replaced.
    seed : int

    Returns
    -------
    EmotionData
        In canonical order, with one label a trial and, where the fold's target has two
        trials, at least two classes among the new labels.
    """
    data = data.take(canonical(data.inputs))
    fold = next(iter(protocol.split(data.inputs.windows)))
    rows = np.union1d(fold.target, fold.test)
    labels = data.labels.copy()
    generator = np.random.default_rng(seed)
    place = ["subject", "session", "trial"]
    trials = data.inputs.windows.iloc[rows].groupby(place, sort=False).ngroup()
    drawn = generator.integers(len(data.classes), size=trials.max() + 1)
    drawn[:2] = (0, 1)[: len(drawn)]
    labels[rows] = drawn[trials]
    if np.array_equal(labels, data.labels):
        labels[rows] = (labels[rows] + 1) % len(data.classes)
    return replace(data, labels=labels)


def _require(holds: bool, found: str) -> None:
    if not holds:
        raise AssertionError(found)


def _require_options(part: type, required: int) -> None:
    """Refuse constructor parameters that no configuration could set."""
    if part.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return
    signature = list(inspect.signature(part).parameters.values())
    for parameter in signature[required:]:
        _require(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"the parameter {parameter.name!r}, which is not keyword-only",
        )
        _require(
            parameter.default is not inspect.Parameter.empty,
            f"the option {parameter.name!r} without a default",
        )


# ------------------------------------------------------------------------- batches


def _draw(
    branches: Sequence[str],
    *,
    samples: int = _SAMPLES,
    seed: int = 0,
    widths: Mapping[str, int] = _WIDTHS,
) -> Tensors:
    """Return a batch as tensors by path, such as ``target/logits/eeg``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "source/labels": torch.arange(samples) % _CLASSES,
        "source/domains": torch.arange(samples) // 2 % _DOMAINS,
    }
    for branch in branches:
        for role in ("source", "target"):
            shape = {"embeddings": widths[branch], "logits": _CLASSES}
            for quantity, width in shape.items():
                values = torch.randn(samples, width, generator=generator)
                tensors[f"{role}/{quantity}/{branch}"] = values + (role == "target")
            if branch != FUSION:
                present = torch.ones(samples, dtype=torch.bool)
                tensors[f"{role}/present/{branch}"] = present
    return tensors


def _widths(check: Check) -> Mapping[str, int]:
    """Return unequal widths of the branches, or equal ones if the adapter asks so."""
    try:
        _losses(_prepared(check, _WIDTHS), _draw(_BRANCHES[0]))
    except ConfigurationError:
        return dict.fromkeys(_WIDTHS, 6)
    except Exception:  # the check itself will tell
        pass
    return _WIDTHS


def _prepared(check: Check, widths: Mapping[str, int], seed: int = 0) -> Adapter:
    """Return a new adapter that is prepared as for a training, by `seed`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        adapter: Adapter = check.part(**check.options)
        adapter.prepare(widths, _CLASSES, _DOMAINS)
        return adapter


def _outputs(tensors: Tensors, role: str, *, detach: bool = False) -> Outputs:
    found: dict[str, Tensors] = {"embeddings": {}, "logits": {}, "present": {}}
    for path, values in tensors.items():
        its_role, quantity, *branch = path.split("/")
        if its_role == role and branch:
            found[quantity][branch[0]] = values.detach() if detach else values
    return Outputs(**found)


def _source(tensors: Tensors) -> Source:
    labels, domains = tensors["source/labels"], tensors["source/domains"]
    return Source(_outputs(tensors, "source"), labels, domains)


def _losses(
    adapter: Adapter,
    tensors: Tensors,
    *,
    progress: float = 0.5,
    target: type[Target] = Target,
) -> dict[str, Tensor]:
    """Call an adapter as the fit loop does."""
    teacher = None
    if adapter.needs_teacher:
        teacher = _outputs(tensors, "target", detach=True)
    judge = None
    if adapter.judged_from is not None and progress >= adapter.judged_from:
        judge = _outputs(tensors, "target", detach=True)
    seen = target(_outputs(tensors, "target"), progress, teacher, judge=judge)
    losses: dict[str, Tensor] = adapter(_source(tensors), seen)
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
            _require(
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
            _require(
                gradient is None or bool(gradient.isfinite().all()),
                f"a gradient of {path} that is not finite {where}",
            )


Change = Callable[[Tensors], Tensors]


def _hostile(branches: Sequence[str]) -> Mapping[str, Change]:
    """Return what training meets sooner or later, by how it is called."""
    found: dict[str, Change] = {
        "with a class absent from the source": _labelled(lambda y: y % (_CLASSES - 1)),
        "with a source of one class": _labelled(lambda y: y * 0),
        "with a target predicted as one class": _map_logits("target", _one_class),
        "with logits 120 apart": _map_logits("", _far_apart),
        "with equal logits": _map_logits("", torch.zeros_like),
        "with identical embeddings": _map_embeddings(torch.ones_like),
        "with embeddings that are all zero": _map_embeddings(torch.zeros_like),
        "with a target equal to the source": _target_like_source,
        "with a batch of two": lambda batch: {p: v[:2] for p, v in batch.items()},
    }
    for branch in branches:
        if branch == FUSION:
            continue
        for role in ("source", "target"):
            found[f"with {branch!r} missing in the whole {role}"] = _without(
                branch, role, slice(None)
            )
            found[f"with {branch!r} present in one sample of the {role}"] = _without(
                branch, role, slice(1, None)
            )
        found[f"with {branch!r} missing altogether"] = _without(branch, "", slice(None))
    return found


def _labelled(change: Callable[[Tensor], Tensor]) -> Change:
    path = "source/labels"
    return lambda batch: {**batch, path: change(batch[path])}


def _map_logits(role: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda batch: {
        path: change(values) if path.startswith(role) and "/logits/" in path else values
        for path, values in batch.items()
    }


def _map_embeddings(change: Callable[[Tensor], Tensor]) -> Change:
    return lambda batch: {
        path: change(values) if "/embeddings/" in path else values
        for path, values in batch.items()
    }


def _one_class(logits: Tensor) -> Tensor:
    return torch.eye(_CLASSES)[0].expand_as(logits) * 20


def _far_apart(logits: Tensor) -> Tensor:
    return (torch.eye(_CLASSES)[logits.argmax(-1)] - 0.5) * 120


def _target_like_source(batch: Tensors) -> Tensors:
    return {
        path: batch[path.replace("target/", "source/")] for path, _ in batch.items()
    }


def _without(branch: str, role: str, rows: slice) -> Change:
    """Lose a sensor as the library does: not present, and an embedding of zeros."""

    def change(batch: Tensors) -> Tensors:
        changed = dict(batch)
        for path in batch:
            lost = path.endswith(f"/{branch}") and "/logits/" not in path
            if lost and path.startswith(role):
                changed[path] = batch[path].clone()
                changed[path][rows] = 0
        return changed

    return change


# ------------------------------------------------------------------------ adapters


def _adapter_options(check: Check) -> None:
    """Require constructor parameters that are keyword-only, with defaults."""
    _require_options(check.part, required=0)


def _adapter_losses(check: Check) -> None:
    """Require a dict of named finite scalars, whatever branches there are."""
    widths = _widths(check)
    for branches in _BRANCHES:
        losses = _losses(_prepared(check, widths), _draw(branches, widths=widths))
        where = f"with the branches {', '.join(branches)}"
        _require(isinstance(losses, dict), f"a {type(losses).__name__} {where}")
        for name, loss in losses.items():
            _require(
                isinstance(name, str) and name != "",
                f"the name {name!r} for a loss {where}",
            )
            _require(
                name not in _RESERVED,
                f"a loss called {name!r}, which the training history uses itself",
            )
            _require(
                isinstance(loss, Tensor),
                f"the loss {name!r} as a {type(loss).__name__}, not a Tensor, {where}",
            )
            _require(
                loss.ndim == 0 and loss.is_floating_point(),
                f"the loss {name!r} of shape {tuple(loss.shape)} and type "
                f"{loss.dtype} {where}",
            )
            _require(
                bool(loss.detach().isfinite()),
                f"the loss {name!r} is {loss.detach().item()} {where}",
            )


def _adapter_gradients(check: Check) -> None:
    """Require losses that can be differentiated, with finite gradients."""
    widths = _widths(check)
    for branches in _BRANCHES:
        _require_finite(
            _prepared(check, widths),
            _draw(branches, widths=widths),
            f"with {', '.join(branches)}",
        )


def _adapter_leaves_inputs(check: Check) -> None:
    """Require every tensor that is handed over to be left as it was."""
    widths = _widths(check)
    for branches in _BRANCHES:
        _, handed = _leaves(_draw(branches, widths=widths))
        before = {path: values.detach().clone() for path, values in handed.items()}
        versions = {path: values._version for path, values in handed.items()}
        _losses(_prepared(check, widths), handed)
        for path, values in handed.items():
            _require(
                values._version == versions[path]
                and torch.equal(values.detach(), before[path]),
                f"{path} changed in place",
            )


def _adapter_hostile(check: Check) -> None:
    """Require finite losses and gradients in every batch training may meet."""
    widths = _widths(check)
    for branches in _BRANCHES:
        for where, change in _hostile(branches).items():
            _require_finite(
                _prepared(check, widths), change(_draw(branches, widths=widths)), where
            )


def _adapter_deterministic(check: Check) -> None:
    """Require the same losses from the same inputs and seed, bit for bit."""
    widths = _widths(check)
    for branches in _BRANCHES:
        found = []
        adapter = _prepared(check, widths)
        for twin in (adapter, copy.deepcopy(adapter)):
            torch.manual_seed(1)
            found.append(_losses(twin, _draw(branches, widths=widths)))
        _require_equal(*found, tolerance=0.0, where="the second time")


def _adapter_vectorises(check: Check) -> None:
    """Require the same losses under torch.func.vmap over folds as in a loop."""
    widths = _widths(check)
    for branches in _BRANCHES:
        batches = [_draw(branches, widths=widths, seed=seed) for seed in range(3)]
        batches[1] = _hostile(branches)["with a class absent from the source"](
            batches[1]
        )
        stacked = {path: torch.stack([b[path] for b in batches]) for path in batches[0]}
        adapter = _prepared(check, widths).eval()
        if not _losses(adapter, batches[0]):
            continue
        found = torch.func.vmap(partial(_losses, adapter))(stacked)
        for number, batch in enumerate(batches):
            one = {name: losses[number] for name, losses in found.items()}
            _require_equal(
                _losses(adapter, batch), one, tolerance=1e-4, where="under vmap"
            )


def _adapter_sees_no_labels(check: Check) -> None:
    """Require nothing but outputs, progress, teacher, pseudo, judge of a target."""
    names = tuple(each.name for each in fields(Target))
    allowed = ("outputs", "progress", "teacher", "pseudo", "judge")
    _require(names == allowed, f"a Target with the fields {', '.join(names)}")
    asked: list[str] = []

    class Watched(Target):
        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                asked.append(name)
            raise AttributeError(name)

    widths = _widths(check)
    for branches in _BRANCHES:
        try:
            _losses(
                _prepared(check, widths), _draw(branches, widths=widths), target=Watched
            )
        finally:
            _require(not asked, f"target.{', target.'.join(asked)} asked for")


def _adapter_state(check: Check) -> None:
    """Require the same losses from a state_dict loaded into another object."""
    widths = _widths(check)
    for branches in _BRANCHES:
        first, second = (
            _prepared(check, widths, seed=0),
            _prepared(check, widths, seed=1),
        )
        for adapter in (first, second):
            _losses(adapter, _draw(branches, widths=widths, seed=2))
        second.load_state_dict(first.state_dict())
        batch = _draw(branches, widths=widths)
        found = [_losses(adapter.eval(), batch) for adapter in (first, second)]
        _require_equal(*found, tolerance=0.0, where="from the loaded state")


def _adapter_predicts(check: Check) -> None:
    """Require finite logits of each sample by itself, and nothing changed by it."""
    widths = _widths(check)
    for branches in _BRANCHES:
        adapter = _prepared(check, widths)
        batch = _draw(branches, widths=widths)
        _losses(adapter, batch)
        adapter.eval()
        before = copy.deepcopy(adapter.state_dict())
        outputs = _outputs(batch, "target")
        with torch.no_grad():
            together = adapter.predict(outputs)
            alone = [
                adapter.predict(_outputs(_rows(batch, slice(k, k + 1)), "target"))
                for k in range(_SAMPLES)
            ]
        expected, found = (_SAMPLES, _CLASSES), tuple(together.shape)
        _require(found == expected, f"logits of shape {found}, not {expected}")
        _require(bool(together.isfinite().all()), "logits that are not finite")
        one_by_one = {"the prediction": torch.cat(alone)}
        whole = {"the prediction": together}
        _require_equal(whole, one_by_one, tolerance=1e-4, where="one by one")
        shaped = not torch.equal(together, outputs.logits[FUSION])
        _require(
            adapter.shapes_prediction or not shaped,
            "a prediction that is not the fusion's, and shapes_prediction False",
        )
        after = adapter.state_dict()
        _require_equal(before, after, tolerance=0.0, where="after a prediction")


def _rows(tensors: Tensors, rows: slice) -> Tensors:
    return {path: values[rows] for path, values in tensors.items()}


def _adapter_space(check: Check) -> None:
    """Require a search space of options that the constructor accepts."""
    widths = _widths(check)
    for options in _drawn_options(check):
        drawn = _prepared(replace(check, options=options), widths)
        _losses(drawn, _draw(_BRANCHES[0], widths=widths))


def _drawn_options(check: Check) -> Iterator[dict[str, Any]]:
    """Yield options from the search space, all of them known to the constructor."""
    import optuna

    known = parameters(check.part)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(5):
            options = check.part.space(study.ask())  # type: ignore[attr-defined]
            unknown = sorted(set(options) - set(known))
            _require(not unknown, f"unknown options {', '.join(unknown)}")
            yield options
    finally:
        optuna.logging.set_verbosity(verbosity)


def _adapter_trains(check: Check) -> None:
    """Require a small training to stay finite, and some loss to fall in it."""
    with tempfile.TemporaryDirectory() as folder:
        _fit_one_fold(check, _recordings(), Path(folder) / "run", epochs=10)
        table = pd.read_csv(_only(Path(folder), "history.csv"))
    losses = table.drop(columns=["epoch", "score"])
    _require(bool(np.isfinite(losses.to_numpy()).all()), "a loss that is not finite")
    first, lowest = losses.iloc[0], losses.min()
    # A weight that ramps up may make the sum rise, a strong term the classification.
    falls = [name for name in ("classification", "total") if lowest[name] < first[name]]
    _require(bool(falls), f"a sum of {first['total']:.3f} that only rises in 10 epochs")


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
        _require(
            content == found[1][name],
            f"another {name} when the target's labels are noise",
        )


_ADAPTER: Mapping[str, Callable[[Check], None]] = {
    "options": _adapter_options,
    "losses": _adapter_losses,
    "gradients": _adapter_gradients,
    "leaves_inputs_alone": _adapter_leaves_inputs,
    "hostile_batches": _adapter_hostile,
    "deterministic": _adapter_deterministic,
    "vectorises": _adapter_vectorises,
    "sees_no_labels": _adapter_sees_no_labels,
    "state": _adapter_state,
    "predicts": _adapter_predicts,
    "space": _adapter_space,
    "trains": _adapter_trains,
    "firewall": _adapter_firewall,
}


def _require_equal(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    tolerance: float,
    where: str,
    absolute: float | None = None,
) -> None:
    """Refuse tensors that differ by more than a share of themselves, or absolutely."""
    absolute = tolerance / 10 if absolute is None else absolute
    _require(
        set(expected) == set(found),
        f"{', '.join(found) or 'nothing'} {where}, {', '.join(expected)} before",
    )
    for name, value in expected.items():
        first, second = value.detach(), found[name].detach()
        _require(
            torch.equal(first, second)
            or torch.allclose(first, second, rtol=tolerance, atol=absolute),
            f"{name!r} off by {(first - second).abs().max().item():.3g} {where}",
        )


@cache
def _recordings() -> EmotionData:
    from .data.simulator import Simulated

    simulated = Simulated(subjects=3, sessions=1, trials=9, windows=(3, 5), effect=4.0)
    data = simulated.load()
    return data.take(canonical(data.inputs))


def _protocol() -> Protocol:
    from .protocols.cross_subject import CrossSubject

    return FirstFold(CrossSubject())


def _fit_one_fold(
    check: Check, data: EmotionData, output: Path, *, epochs: int
) -> None:
    """Train a tiny network with the adapter; selection looks at the target too."""
    from .runs.run import run

    adapter, options = check.build(), {}
    # Of a name that is inherited, the parent would be run.
    if "registered_name" in vars(check.part):
        adapter = check.part
        options = {f"adapter.{name}": value for name, value in check.options.items()}
    run(
        data,
        protocol=_protocol(),
        backbone="r2gfanet",
        adapter=adapter,
        validator="information-maximisation",
        sampling="windows",
        options={"backbone.width": 16, "backbone.heads": 2, **options},
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


# ----------------------------------------------------------------------- backbones


def _sensor(kind: str, channels: Sequence[str] | int, features: int) -> Modality:
    if isinstance(channels, int):
        channels = [f"{kind} {number}" for number in range(channels)]
    return Modality(tuple(channels), tuple(f"f{i}" for i in range(features)), kind)


_SENSORS: tuple[Sensors, ...] = (
    {"eeg": _sensor("eeg", _ELECTRODES, 5), "eye": _sensor("eye", 7, 1)},
    {"eeg": _sensor("eeg", _ELECTRODES[3:9], 4), "gsr": _sensor("physiology", 2, 3)},
    {"eeg": _sensor("eeg", _ELECTRODES, 5)},
    {
        "eeg": _sensor("eeg", _ELECTRODES, 5),
        "eye": _sensor("eye", 3, 2),
        "ecg": _sensor("physiology", 2, 1),
    },
    {
        "eeg": _sensor("eeg", _ELECTRODES[2:6], 1),
        "eye": _sensor("eye", 1, 1),
        "ecg": _sensor("physiology", 2, 1),
        "gsr": _sensor("physiology", 1, 2),
        "emg": _sensor("physiology", 3, 4),
    },
)


def _backbones(check: Check) -> Iterator[tuple[Backbone, Sensors]]:
    """Yield the backbone built for every set of sensors that it accepts."""
    refusals = []
    for sensors in check.sensors:
        try:
            built = check.build(sensors)
        except (ConfigurationError, DataError) as error:
            refusals.append(str(error))
            continue
        yield built, sensors
    _require(
        len(refusals) < len(check.sensors),
        f"every set of sensors refused: {' '.join(refusals)}",
    )


Batch = tuple[Tensors, Tensors]


def _signals(sensors: Sensors, *, batch: int = 4, time: int = 5) -> Batch:
    """Return signals and masks: unlike lengths, one gap; the first sample is whole."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(time - number, 1) for number in range(batch)])
    signals, masks = {}, {}
    for number, (name, sensor) in enumerate(sensors.items()):
        shape = (batch, time, len(sensor.channels), len(sensor.features))
        mask = torch.arange(time) < lengths[:, None]
        if batch > 1 and time > 2:
            mask[1, number % (time - 1)] = False
        masks[name] = mask
        signals[name] = torch.randn(shape, generator=generator)
        signals[name] *= mask[..., None, None]
    return signals, masks


def _evaluated(backbone: Backbone, batch: Batch) -> Mapping[str, Tensor]:
    backbone.eval()
    with torch.no_grad():
        embeddings: Mapping[str, Tensor] = backbone(*batch)
    return embeddings


def _backbone_options(check: Check) -> None:
    """Require the modalities first, then options with defaults; a sampling."""
    _require_options(check.part, required=1)
    for backbone, _ in _backbones(check):
        sampling = getattr(backbone, "sampling", None)
        _require(
            isinstance(sampling, Sampling),
            f"the attribute 'sampling' is {sampling!r}, which is no Sampling",
        )


def _backbone_embeddings(check: Check) -> None:
    """Require a finite embedding, and a classifier, per modality and fusion."""
    for backbone, sensors in _backbones(check):
        for time in (1, 6):
            embeddings = _evaluated(backbone, _signals(sensors, time=time))
            _require(
                set(embeddings) == {*sensors, FUSION},
                f"the branches {', '.join(embeddings)} for {', '.join(sensors)}",
            )
            for branch, embedding in embeddings.items():
                _require(
                    embedding.ndim == 2 and len(embedding) == 4,
                    f"an embedding {branch!r} of shape {tuple(embedding.shape)}",
                )
                _require(
                    bool(embedding.isfinite().all()),
                    f"an embedding {branch!r} that is not finite",
                )
        model = Model(backbone, sensors, _CLASSES).eval()
        for branch, logits in model(*_signals(sensors)).logits.items():
            _require(
                logits.shape == (4, _CLASSES),
                f"logits of shape {tuple(logits.shape)} on the branch {branch!r}",
            )


def _padded(batch: Batch) -> Batch:
    """Return a batch with three windows of padding more."""
    signals, masks = batch
    pad = nn.functional.pad
    longer = {name: pad(s, (0, 0, 0, 0, 0, 3)) for name, s in signals.items()}
    return longer, {name: pad(m, (0, 3)) for name, m in masks.items()}


def _backbone_views(check: Check) -> None:
    """Require finite views for pre-training, each of one modality, padded or not."""
    for backbone, sensors in _backbones(check):
        batch = _signals(sensors)
        backbone.eval()
        with torch.no_grad():
            views, padded = backbone.views(*batch), backbone.views(*_padded(batch))
        for name, view in views.items():
            _require(
                name.partition("/")[0] in sensors,
                f"a view {name!r} for {', '.join(sensors)}; expected MODALITY or "
                f"MODALITY/WAY",
            )
            _require(
                view.ndim == 2 and len(view) == 4 and bool(view.isfinite().all()),
                f"a view {name!r} of shape {tuple(view.shape)}, or not finite",
            )
        _require(bool(views), "no view at all")
        _require_equal(views, padded, tolerance=1e-5, where="with more padding")


def _backbone_padding(check: Check) -> None:
    """Require the same embeddings with more padding."""
    for backbone, sensors in _backbones(check):
        signals, masks = _signals(sensors)
        longer, padded = _padded((signals, masks))
        _require_equal(
            _evaluated(backbone, (signals, masks)),
            _evaluated(backbone, (longer, padded)),
            tolerance=1e-6,
            absolute=1e-6,
            where="with more padding",
        )


def _backbone_batch(check: Check) -> None:
    """Require the same embedding of a sample whatever else is in its batch."""
    for backbone, sensors in _backbones(check):
        # In double precision, where rounding cannot pass for a leak, nor a leak for it.
        backbone.double()
        single, masks = _signals(sensors)
        signals = {name: signal.double() for name, signal in single.items()}
        together = _evaluated(backbone, (signals, masks))
        for number in range(4):
            one = slice(number, number + 1)
            alone = (
                {name: signal[one] for name, signal in signals.items()},
                {name: mask[one] for name, mask in masks.items()},
            )
            _require_equal(
                {name: value[one] for name, value in together.items()},
                _evaluated(backbone, alone),
                tolerance=1e-6,
                absolute=1e-6,
                where="alone in the batch",
            )


def _backbone_permutation(check: Check) -> None:
    """Require the same embeddings of channels in another order, with their names."""
    for backbone, sensors in _backbones(check):
        if backbone.by_position:
            continue
        turned = {
            name: replace(sensor, channels=sensor.channels[::-1])
            for name, sensor in sensors.items()
        }
        twin = check.build(turned, seed=1)
        twin.load_state_dict(backbone.state_dict())
        signals, masks = _signals(sensors)
        flipped = {name: signal.flip(-2) for name, signal in signals.items()}
        _require_equal(
            _evaluated(backbone, (signals, masks)),
            _evaluated(twin, (flipped, masks)),
            tolerance=1e-6,
            absolute=1e-6,
            where="with the channels in another order (a backbone whose weights go "
            "by place says by_position = True)",
        )


def _backbone_missing(check: Check) -> None:
    """Require finite embeddings and gradients with any modality missing, or all."""
    for backbone, sensors in _backbones(check):
        for lost in (*([name] for name in sensors), list(sensors)):
            signals, masks = _signals(sensors)
            for name in lost:
                signals[name] = torch.zeros_like(signals[name])
                masks[name] = torch.zeros_like(masks[name])
            backbone.train().zero_grad()
            embeddings = backbone(signals, masks)
            total = torch.stack([e.square().sum() for e in embeddings.values()]).sum()
            where = f"without {', '.join(lost)}"
            _require(bool(total.isfinite()), f"embeddings that are not finite {where}")
            total.backward()  # type: ignore[no-untyped-call]
            for path, parameter in backbone.named_parameters():
                gradient = parameter.grad
                _require(
                    gradient is None or bool(gradient.isfinite().all()),
                    f"a gradient of {path} that is not finite {where}",
                )


def _backbone_gradients(check: Check) -> None:
    """Require a gradient of the embeddings at every parameter."""
    for backbone, sensors in _backbones(check):
        embeddings = backbone.train()(*_signals(sensors, batch=8))
        total = torch.stack([e.square().sum() for e in embeddings.values()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        for path, parameter in backbone.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            _require(
                reached or not parameter.requires_grad,
                f"no gradient that reaches {path}",
            )


def _backbone_deterministic(check: Check) -> None:
    """Require the same embeddings of the same batch, bit for bit."""
    for backbone, sensors in _backbones(check):
        batch = _signals(sensors)
        twin = check.build(sensors)
        for other, where in ((backbone, "the second time"), (twin, "of the same seed")):
            _require_equal(
                _evaluated(backbone, batch),
                _evaluated(other, batch),
                tolerance=0.0,
                where=where,
            )


def _backbone_state(check: Check) -> None:
    """Require the same embeddings from weights that safetensors wrote and read."""
    from safetensors.torch import load, save

    for backbone, sensors in _backbones(check):
        other = check.build(sensors, seed=1)
        state = {name: v.contiguous() for name, v in backbone.state_dict().items()}
        other.load_state_dict(load(save(state)))
        batch = _signals(sensors)
        _require_equal(
            _evaluated(backbone, batch),
            _evaluated(other, batch),
            tolerance=0.0,
            where="from the loaded weights",
        )


def _backbone_space(check: Check) -> None:
    """Require a search space of options that the constructor accepts."""
    _, sensors = next(_backbones(check))
    for options in _drawn_options(check):
        drawn = replace(check, options={**check.options, **options})
        _evaluated(drawn.build(sensors), _signals(sensors))


_BACKBONE: Mapping[str, Callable[[Check], None]] = {
    "options": _backbone_options,
    "embeddings": _backbone_embeddings,
    "padding": _backbone_padding,
    "views": _backbone_views,
    "batch_composition": _backbone_batch,
    "permutation": _backbone_permutation,
    "missing_modality": _backbone_missing,
    "gradients": _backbone_gradients,
    "deterministic": _backbone_deterministic,
    "state": _backbone_state,
    "space": _backbone_space,
}


# ----------------------------------------------------------------------- protocols


def _windows(subjects: int = 3, sessions: int = 2, trials: int = 4) -> pd.DataFrame:
    """Return the provenance of five windows a trial; all subjects see each clip."""
    rows = [
        (subject, session, trial, f"clip {trial}", 4.0 * number)
        for subject in range(1, subjects + 1)
        for session in range(1, sessions + 1)
        for trial in range(1, trials + 1)
        for number in range(5)
    ]
    return pd.DataFrame(rows, columns=list(PROVENANCE))


def _trials(windows: pd.DataFrame, rows: Any) -> set[Any]:
    part = windows.iloc[rows][["subject", "session", "trial"]]
    return set(part.itertuples(index=False, name=None))


def _protocol_options(check: Check) -> None:
    """Require keyword-only options with defaults, and a domain."""
    _require_options(check.part, required=0)
    domain = getattr(check.build(), "domain", None)
    _require(domain in PROVENANCE, f"the domain {domain!r}")


def _protocol_folds(check: Check) -> None:
    """Require folds of distinct names, none empty, with rows that exist."""
    windows = _windows()
    folds = list(check.build().split(windows))
    names = [fold.name for fold in folds]
    _require(len(folds) > 0, "no fold")
    _require(len(set(names)) == len(names), f"the names {', '.join(names)}")
    for fold in folds:
        for role in ("source", "target", "test"):
            rows = np.asarray(getattr(fold, role))
            where = f"in the {role} of the fold {fold.name!r}"
            _require(rows.ndim == 1 and rows.size > 0, f"no rows {where}")
            _require(rows.dtype.kind == "i", f"rows of type {rows.dtype} {where}")
            _require(np.unique(rows).size == rows.size, f"a row twice {where}")
            inside = rows.min() >= 0 and rows.max() < len(windows)
            _require(bool(inside), f"a row beyond the table {where}")


def _protocol_disjoint(check: Check) -> None:
    """Require no trial of the target or the test part in the source."""
    windows = _windows()
    for fold in check.build().split(windows):
        for role in ("target", "test"):
            shared = _trials(windows, fold.source) & _trials(
                windows, getattr(fold, role)
            )
            _require(
                not shared,
                f"{len(shared)} trials of the {role} in the source of {fold.name!r}",
            )


def _protocol_calibration(check: Check) -> None:
    """Require no trial of calibration in another part of the fold."""
    windows = _windows()
    for fold in check.build().split(windows):
        given = _trials(windows, fold.calibration)
        for role in ("source", "target", "test"):
            shared = given & _trials(windows, fold.parts[role])
            _require(
                not shared,
                f"{count(len(shared), 'trial')} of calibration in the {role} of "
                f"{fold.name!r}",
            )


def _protocol_access(check: Check) -> None:
    """Require a test part that is the target, or disjoint from it."""
    for fold in check.build().split(_windows()):
        shared = np.intersect1d(fold.target, fold.test)
        whole = set(fold.target.tolist()) == set(fold.test.tolist())
        _require(
            shared.size == 0 or whole,
            f"{shared.size} of {len(fold.test)} test windows in the target of "
            f"{fold.name!r}",
        )
        expected = "transductive" if whole else "inductive"
        _require(fold.access == expected, f"{fold.name!r} called {fold.access}")


def _protocol_provenance(check: Check) -> None:
    """Require provenance to be all that a split needs, and left as it was."""
    windows = _windows()
    before = windows.copy(deep=True)
    list(check.build().split(windows))
    _require(windows.equals(before), "the windows table changed")


def _protocol_order(check: Check) -> None:
    """Require the same folds whatever the order of rows."""
    windows = _windows()
    shuffled = windows.sample(frac=1, random_state=0).reset_index(drop=True)
    expected = _membership(check.build(), windows)
    for table, where in ((windows, "the second time"), (shuffled, "of shuffled rows")):
        found = _membership(check.build(), table)
        _require(list(found) == list(expected), f"folds {', '.join(found)} {where}")
        for name, members in expected.items():
            _require(found[name] == members, f"other windows in {name!r} {where}")


def _membership(protocol: Protocol, windows: pd.DataFrame) -> dict[str, Any]:
    def keys(rows: Any) -> set[Any]:
        return set(windows.iloc[rows].itertuples(index=False, name=None))

    return {
        fold.name: {part: keys(rows) for part, rows in fold.parts.items()}
        for fold in protocol.split(windows)
    }


def _protocol_refusal(check: Check) -> None:
    """Require recordings of one trial to be refused with a DataError."""
    try:
        folds = list(check.build().split(_windows(1, 1, 1)))
    except DataError:
        return
    _require(False, f"{count(len(folds), 'fold')} and no error")


_PROTOCOL: Mapping[str, Callable[[Check], None]] = {
    "options": _protocol_options,
    "folds": _protocol_folds,
    "disjoint": _protocol_disjoint,
    "calibration": _protocol_calibration,
    "access": _protocol_access,
    "provenance_only": _protocol_provenance,
    "row_order": _protocol_order,
    "refusal": _protocol_refusal,
}


# ---------------------------------------------------------------------- validators


def _score(validator: Validator, tensors: Tensors, progress: float = 0.5) -> float:
    source = _source(tensors)
    training = source if validator.needs_training else None
    held_out = source if validator.held_out else None
    return validator(training, held_out, Target(_outputs(tensors, "target"), progress))


def _validator_options(check: Check) -> None:
    """Require constructor parameters that are keyword-only, with defaults."""
    _require_options(check.part, required=0)


def _validator_scores(check: Check) -> None:
    """Require a finite float, without any target label."""
    for branches in _BRANCHES:
        for progress in (0.05, 1.0):
            score = _score(check.build(), _draw(branches), progress)
            _require(
                isinstance(score, float), f"a score of type {type(score).__name__}"
            )
            _require(math.isfinite(score), f"the score {score}")


def _validator_degenerate(check: Check) -> None:
    """Require a finite score or minus infinity, whatever the model."""
    cases = dict(_hostile(_BRANCHES[0]))
    for name, value in (("NaN", math.nan), ("infinite", math.inf), ("huge", 3e38)):

        def fill(logits: Tensor, value: float = value) -> Tensor:
            return torch.full_like(logits, value)

        cases[f"with logits that are {name}"] = _map_logits("", fill)
    cases["with a single sample"] = lambda batch: {p: v[:1] for p, v in batch.items()}
    for where, change in cases.items():
        score = _score(check.build(), change(_draw(_BRANCHES[0])))
        _require(math.isfinite(score) or score == -math.inf, f"{score} {where}")


def _validator_deterministic(check: Check) -> None:
    """Require the same score of the same outputs, which are left as they were."""
    tensors = _draw(_BRANCHES[0])
    before = {path: values.clone() for path, values in tensors.items()}
    validator = check.build()
    scores = [_score(validator, tensors), _score(validator, tensors)]
    scores.append(_score(check.build(), tensors))
    _require(len(set(scores)) == 1, f"the scores {', '.join(map(str, scores))}")
    for path, values in tensors.items():
        _require(torch.equal(values, before[path]), f"{path} changed in place")


_VALIDATOR: Mapping[str, Callable[[Check], None]] = {
    "options": _validator_options,
    "scores": _validator_scores,
    "degenerate": _validator_degenerate,
    "deterministic": _validator_deterministic,
}


def _suite(part: type) -> Mapping[str, Callable[[Check], None]]:
    from .checks_control import CONTROL
    from .checks_normalisation import NORMALISATION
    from .checks_sampling import SAMPLING
    from .checks_screen import SCREEN

    suites: dict[type, Mapping[str, Callable[[Check], None]]] = {
        Sampling: SAMPLING,
        Normalisation: NORMALISATION,
        Control: CONTROL,
        Screen: SCREEN,
        Adapter: _ADAPTER,
        Backbone: _BACKBONE,
        Protocol: _PROTOCOL,
        Validator: _VALIDATOR,
    }
    for base, suite in suites.items():
        if isinstance(part, type) and issubclass(part, base):
            return suite
    raise ConfigurationError(
        f"{part!r} cannot be checked; expected a subclass of "
        f"{', '.join(base.__name__ for base in suites)}."
    )
