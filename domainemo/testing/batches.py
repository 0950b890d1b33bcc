"""Batches for losses and scores: drawn ones, and what training meets sooner or later.

A batch is a mapping of tensors by path, such as ``target/logits/eeg``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..core import FUSION, Outputs, Source

__all__ = [
    "BRANCHES",
    "CLASSES",
    "DOMAINS",
    "SAMPLES",
    "WIDTHS",
    "Tensors",
    "draw",
    "hostile",
    "map_logits",
    "outputs_of",
    "source_of",
    "trials_of",
    "without_samples",
]

Tensors = dict[str, Tensor]

BRANCHES = (("eeg", "eye", FUSION), ("eeg", FUSION))
WIDTHS = {"eeg": 6, "eye": 5, FUSION: 8}
CLASSES = 3
DOMAINS = 2
SAMPLES = 12


def draw(
    branches: Sequence[str],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    widths: Mapping[str, int] = WIDTHS,
) -> Tensors:
    """Return a batch as tensors by path, such as ``target/logits/eeg``."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "source/labels": torch.arange(samples) % CLASSES,
        "source/domains": torch.arange(samples) // 2 % DOMAINS,
    }
    for branch in branches:
        for role in ("source", "target"):
            shape = {"embeddings": widths[branch], "logits": CLASSES}
            for quantity, width in shape.items():
                values = torch.randn(samples, width, generator=generator)
                tensors[f"{role}/{quantity}/{branch}"] = values + (role == "target")
            if branch != FUSION:
                present = torch.ones(samples, dtype=torch.bool)
                tensors[f"{role}/present/{branch}"] = present
    return tensors


def outputs_of(tensors: Tensors, role: str, *, detach: bool = False) -> Outputs:
    """Return what a model made of the source or the target."""
    found: dict[str, Tensors] = {"embeddings": {}, "logits": {}, "present": {}}
    for path, values in tensors.items():
        its_role, quantity, *branch = path.split("/")
        if its_role == role and branch:
            found[quantity][branch[0]] = values.detach() if detach else values
    return Outputs(**found)


def trials_of(outputs: Outputs) -> Tensor:
    """Return which samples share a trial: three in a row each; shape (batch,)."""
    return torch.arange(len(outputs.logits[FUSION])) // 3 * 3


def source_of(tensors: Tensors) -> Source:
    """Return the source, with its labels and domains."""
    labels, domains = tensors["source/labels"], tensors["source/domains"]
    return Source(outputs_of(tensors, "source"), labels, domains)


Change = Callable[[Tensors], Tensors]


def hostile(branches: Sequence[str]) -> Mapping[str, Change]:
    """Return what training meets sooner or later, by how it is called."""
    found: dict[str, Change] = {
        "with a class absent from the source": _labelled(lambda y: y % (CLASSES - 1)),
        "with a source of one class": _labelled(lambda y: y * 0),
        "with a target predicted as one class": map_logits("target", _one_class),
        "with logits 120 apart": map_logits("", _far_apart),
        "with equal logits": map_logits("", torch.zeros_like),
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


def map_logits(role: str, change: Callable[[Tensor], Tensor]) -> Change:
    """Return the change of the logits of a role, or of both where it is empty."""
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
    return torch.eye(CLASSES)[0].expand_as(logits) * 20


def _far_apart(logits: Tensor) -> Tensor:
    return (torch.eye(CLASSES)[logits.argmax(-1)] - 0.5) * 120


def _target_like_source(batch: Tensors) -> Tensors:
    return {
        path: batch[path.replace("target/", "source/")] for path, _ in batch.items()
    }


def without_samples(batch: Tensors, role: str, rows: slice) -> Tensors:
    """Lose all sensors of some samples, as the library does."""
    logits = f"{role}/logits/"
    there = torch.ones(len(batch[logits + FUSION]), dtype=torch.bool)
    changed = {**batch, f"{role}/present/{FUSION}": there}
    for path in batch:
        if path.startswith(logits):
            changed = _without(path.removeprefix(logits), role, rows)(changed)
    return changed


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
