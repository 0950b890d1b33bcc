"""JCPOT (Redko et al. 2019): transport from every subject, class shares estimated."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from ..registry import register
from ..values import Bounds
from .shared import MOST, Adapting, Features, by_blocks, drawn, telling
from .transport import REMEDY, barycentric, cost_scale, costs

__all__ = ["JCPOT", "complete_domains", "joint_proportions"]

_STEPS = 1000
_CLOSE = 1e-4  # change of the class shares from step to step


@register(name="jcpot")
class JCPOT(Adapting):
    """JCPOT: transport from each source subject, the target's class shares estimated.

    Over all source subjects k together, plans `G_k` to the target and class shares `h`
    minimise the sum of ``sum(G_k C_k) / median(C) - regularisation * entropy(G_k)``,
    where the windows of a class have ``h`` of its mass in every `G_k` (Redko, Courty,
    Flamary & Tuia 2019; ``ot.da.JCPOTTransport``, here with costs relative to their
    median, in logarithms so that none underflows, and until `h` stays the same). A
    source window moves to the mean of the target windows that its mass goes to; the
    linear model follows.

    Subjects who lack a class count as one together; where this one lacks a class, too,
    the next whole subject joins it. Of a single subject, sessions are meant.

    The plans are found between at most 1000 drawn windows of the source, as many of
    every subject and class as is its share, and 1000 of the target. All source windows
    move by the map that the plans' potentials define, and train the model.

    Class shares may differ, which other transport does not allow. The linear model then
    weighs classes alike, as it does after all others.

    Parameters
    ----------
    regularisation : float
        As a share of the median cost; the default is that of `optimal-transport`.
    """

    words = (
        f"JCPOT, transport from each source subject with estimated class shares, "
        f"between at most {MOST} drawn windows of source and target each, then the "
        f"linear model"
    )

    def __init__(
        self, *, regularisation: Annotated[float, Bounds(above=0)] = 0.2
    ) -> None:
        self.regularisation = regularisation

    def adapt(
        self,
        source: Features,
        target: Features,
        tested: Features,
        labels: NDArray[np.int64],
        domains: NDArray[np.int64],
    ) -> tuple[Features, Features]:
        """Return the source moved, each subject by its own plan."""
        domains = complete_domains(domains, labels)
        rows = drawn(domains * (labels.max() + 1) + labels)
        seen = target[drawn(np.zeros(len(target), dtype=np.int64))]
        known = [rows[domains[rows] == each] for each in np.unique(domains)]
        cost = [costs(source[some], seen) for some in known]
        scale = self.regularisation * cost_scale(np.concatenate(cost))
        with telling("JCPOT", REMEDY):
            _, potentials = joint_proportions(
                [each / scale for each in cost], [labels[some] for some in known]
            )
        for each, potential in zip(np.unique(domains), potentials, strict=True):
            theirs = domains == each
            own = source[theirs]
            move = partial(barycentric, target=seen, potential=potential, scale=scale)
            by_blocks(own, move, out=own)
            source[theirs] = own
        return source, tested


def joint_proportions(
    costs: Sequence[Features], labels: Sequence[NDArray[np.int64]]
) -> tuple[Features, list[Features]]:
    """Return the target's class shares, and the potentials of its windows by domain.

    Iterative Bregman projections: on columns that have the target's masses, then on
    rows that have the classes', whose logarithms are the mean over domains.

    Parameters
    ----------
    costs : sequence of ndarray of float, shape (windows of a domain, target)
        Over the regularisation.
    labels : sequence of ndarray of int, shape (windows of a domain,)
        Every class occurs in every domain.

    Returns
    -------
    shares : ndarray of float, shape (classes,)
        Of the classes that occur, in order.
    potentials : list of ndarray of float, shape (target,)

    Warns
    -----
    UserWarning
        If it did not converge.
    """
    from scipy.special import logsumexp

    classes = np.unique(labels[0])
    members = [classes[:, None] == each for each in labels]
    counts = [each.sum(1) for each in members]
    mass = -np.log(costs[0].shape[1])
    rows = [np.zeros(len(cost)) for cost in costs]
    shares = np.ones(len(classes))
    for _ in range(_STEPS):
        potentials, totals, by_class = [], [], []
        for cost, row, inside in zip(costs, rows, members, strict=True):
            potential = mass - logsumexp(row[:, None] - cost, axis=0)
            total = row + logsumexp(potential - cost, axis=1)
            potentials.append(potential)
            totals.append(total)
            by_class.append([logsumexp(total[each]) for each in inside])
        before, logarithm = shares, np.mean(by_class, 0)
        shares = np.exp(logarithm)
        rows = [
            row + (logarithm - np.log(count)) @ inside - total
            for row, count, inside, total in zip(
                rows, counts, members, totals, strict=True
            )
        ]
        if np.linalg.norm(shares - before) < _CLOSE:
            break
    else:
        warnings.warn("JCPOT did not converge.", stacklevel=2)
    return shares / shares.sum(), potentials


def complete_domains(
    domains: NDArray[np.int64], labels: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return domains in each of which every class occurs.

    Parameters
    ----------
    domains, labels : ndarray of int, shape (windows,)
    """
    names, codes = np.unique(domains, return_inverse=True)
    classes, kinds = np.unique(labels, return_inverse=True)
    there = np.zeros((len(names), len(classes)), dtype=bool)
    there[codes, kinds] = True
    joined = np.asarray(~there.all(1))
    while joined.any() and not there[joined].any(0).all():
        joined[np.flatnonzero(~joined)[0]] = True
    first = np.flatnonzero(joined)[:1]
    return np.where(joined[codes], first.sum(), codes).astype(np.int64)
