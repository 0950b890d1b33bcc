"""The checks of a validator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..core import Target, Validator
from ..validators.comparing import comparison
from .batches import BRANCHES, Tensors, draw, hostile, map_logits, outputs_of, source_of
from .requirements import Check, Suite, require, require_options

__all__ = ["VALIDATOR"]


def _target(validator: Validator, tensors: Tensors, progress: float = 0.5) -> Target:
    outputs = outputs_of(tensors, "target")
    # Any outputs of as many samples stand for those of mixed ones.
    mixed = None if validator.mixes is None else outputs
    return Target(outputs, progress, mixed=mixed)


def _score(validator: Validator, tensors: Tensors, progress: float = 0.5) -> float:
    source = source_of(tensors)
    training = source if validator.needs_training else None
    held_out = source if validator.held_out else None
    return validator(training, held_out, _target(validator, tensors, progress))


def _validator_options(check: Check) -> None:
    """Require constructor parameters that are keyword-only, with defaults."""
    require_options(check.part, required=0)


def _validator_scores(check: Check) -> None:
    """Require a finite float, without any target label."""
    for branches in BRANCHES:
        for progress in (0.05, 1.0):
            score = _score(check.build(), draw(branches), progress)
            require(isinstance(score, float), f"a score of type {type(score).__name__}")
            require(math.isfinite(score), f"the score {score}")


def _validator_degenerate(check: Check) -> None:
    """Require a finite score or minus infinity, whatever the model."""
    cases = dict(hostile(BRANCHES[0]))
    for name, value in (("NaN", math.nan), ("infinite", math.inf), ("huge", 3e38)):

        def fill(logits: Tensor, value: float = value) -> Tensor:
            return torch.full_like(logits, value)

        cases[f"with logits that are {name}"] = map_logits("", fill)
    cases["with a single sample"] = lambda batch: {p: v[:1] for p, v in batch.items()}
    for where, change in cases.items():
        score = _score(check.build(), change(draw(BRANCHES[0])))
        require(math.isfinite(score) or score == -math.inf, f"{score} {where}")


def _validator_deterministic(check: Check) -> None:
    """Require the same score of the same outputs, which are left as they were."""
    tensors = draw(BRANCHES[0])
    before = {path: values.clone() for path, values in tensors.items()}
    validator = check.build()
    scores = [_score(validator, tensors), _score(validator, tensors)]
    scores.append(_score(check.build(), tensors))
    require(len(set(scores)) == 1, f"the scores {', '.join(map(str, scores))}")
    for path, values in tensors.items():
        require(torch.equal(values, before[path]), f"{path} changed in place")


def _validator_compares(check: Check) -> None:
    """Require a score of each of several models, whatever their order."""
    validator = check.build()
    found = []
    for seed in range(4):
        tensors = draw(BRANCHES[0], seed=seed)
        source = source_of(tensors)
        evidence = validator.evidence(
            source if validator.needs_training else None,
            source if validator.held_out else None,
            _target(validator, tensors),
        )
        found.append([float(each) for each in evidence])
    scores = comparison(validator, found)
    require(all(map(math.isfinite, scores)), f"the scores {scores} of sound models")
    turned = comparison(validator, found[::-1])[::-1]
    close = all(math.isclose(a, b) for a, b in zip(scores, turned, strict=True))
    require(close, f"the scores {scores}, and {turned} in another order")


VALIDATOR: Suite = {
    "options": _validator_options,
    "scores": _validator_scores,
    "degenerate": _validator_degenerate,
    "deterministic": _validator_deterministic,
    "compares": _validator_compares,
}
