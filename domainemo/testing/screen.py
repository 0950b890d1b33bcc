"""The checks of a screen."""

from __future__ import annotations

from dataclasses import fields

import torch

from ..core import Pseudo, Screen, Target
from .batches import (
    BRANCHES,
    CLASSES,
    Tensors,
    draw,
    hostile,
    outputs_of,
    source_of,
    trials_of,
)
from .requirements import Check, require, require_options

__all__ = ["SCREEN"]


def _target(screen: Screen, tensors: Tensors, progress: float) -> Target:
    """Return a batch as training hands it over."""
    teacher = (
        outputs_of(tensors, "target", detach=True) if screen.needs_teacher else None
    )
    judge = None
    if screen.judged_from is not None and progress >= screen.judged_from:
        judge = outputs_of(tensors, "target", detach=True)
    outputs = outputs_of(tensors, "target")
    trials = trials_of(outputs) if screen.needs_trials else None
    return Target(outputs, progress, teacher, judge=judge, trials=trials)


def _believed(screen: Screen, tensors: Tensors, progress: float = 1.0) -> Pseudo:
    target = _target(screen, tensors, progress)
    _teach(screen, tensors, target)
    found: Pseudo = screen(target)
    return found


def _teach(screen: Screen, tensors: Tensors, target: Target) -> None:
    """Show the screen what training does before it hands over a batch."""
    widths = {k: v.shape[-1] for k, v in target.outputs.embeddings.items()}
    screen.prepare(widths, CLASSES)
    if target.judge is not None:
        seen = source_of({k: v.detach() for k, v in tensors.items()})
        training = seen if screen.needs_training else None
        screen.learn(training, seen if screen.held_out else None)


def _screen_options(check: Check) -> None:
    """Require keyword-only options with defaults."""
    require_options(check.part, required=0)
    check.build()


def _screen_beliefs(check: Check) -> None:
    """Require a class for each sample, and a weight from 0 to 1 for every branch."""
    for branches in BRANCHES:
        cases = {"in an ordinary batch": lambda batch: batch, **hostile(branches)}
        for where, change in cases.items():
            tensors = change(draw(branches))
            for progress in (0.0, 1.0):
                _require_beliefs(
                    _believed(check.build(), tensors, progress), tensors, where
                )


def _require_beliefs(found: Pseudo, tensors: Tensors, where: str) -> None:
    outputs = outputs_of(tensors, "target")
    samples = len(next(iter(outputs.logits.values())))
    labels = found.labels
    require(
        tuple(labels.shape) == (samples,) and not labels.is_floating_point(),
        f"labels of shape {tuple(labels.shape)} and type {labels.dtype} {where}",
    )
    inside = bool(((labels >= 0) & (labels < CLASSES)).all())
    require(inside, f"labels {labels.tolist()} {where}")
    missing = sorted(set(outputs.logits) - set(found.weights))
    require(not missing, f"no weights for {', '.join(missing)} {where}")
    for branch, weights in found.weights.items():
        shape = tuple(weights.shape)
        require(shape == (samples,), f"weights of shape {shape} for {branch!r} {where}")
        fit = bool(((weights >= 0) & (weights <= 1)).all())
        require(fit, f"weights {weights.tolist()} for {branch!r} {where}")
    shares = found.shares
    if shares is not None:
        shape = tuple(shares.shape)
        whole = (samples, CLASSES)
        require(shape == whole, f"soft labels of shape {shape} {where}")
        sums = bool((shares >= 0).all() and ((shares.sum(-1) - 1).abs() < 1e-4).all())
        require(sums, f"soft labels {shares.tolist()} {where}")


def _screen_gradients(check: Check) -> None:
    """Require beliefs that no gradient flows through."""
    tensors = {
        path: values.clone().requires_grad_() if values.is_floating_point() else values
        for path, values in draw(BRANCHES[0]).items()
    }
    found = _believed(check.build(), tensors)
    for name, weights in found.weights.items():
        require(
            not weights.requires_grad, f"a gradient through the weights of {name!r}"
        )
    soft = found.shares is not None and found.shares.requires_grad
    require(not soft, "a gradient through the soft labels")


def _screen_deterministic(check: Check) -> None:
    """Require the same beliefs of the same batch, which is left as it was."""
    tensors = draw(BRANCHES[0])
    before = {path: values.clone() for path, values in tensors.items()}
    screen = check.build()
    first = _believed(screen, tensors)
    _believed(screen, draw(BRANCHES[0], seed=1))
    for other, where in (
        (screen, "the second time"),
        (check.build(), "of a new object"),
    ):
        found = _believed(other, tensors)
        same = torch.equal(found.labels, first.labels)
        for name, weights in first.weights.items():
            same = same and torch.equal(found.weights[name], weights)
        require(same, f"other beliefs {where}")
    for path, values in tensors.items():
        require(torch.equal(values, before[path]), f"{path} changed in place")


def _screen_sees_no_labels(check: Check) -> None:
    """Require nothing to be asked of the target but what it has."""
    known = {field.name for field in fields(Target)}

    class Watched(Target):
        def __getattribute__(self, name: str) -> object:
            asked = name.startswith("__") or name in known
            require(asked, f"a look for target.{name}")
            return super().__getattribute__(name)

    screen, tensors = check.build(), draw(BRANCHES[0])
    target = _target(screen, tensors, 1.0)
    _teach(screen, tensors, target)
    screen(Watched(**{name: getattr(target, name) for name in known}))


SCREEN = {
    "options": _screen_options,
    "beliefs": _screen_beliefs,
    "gradients": _screen_gradients,
    "deterministic": _screen_deterministic,
    "sees_no_labels": _screen_sees_no_labels,
}
