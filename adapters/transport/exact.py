"""Exact transport by POT's solver, which is combinatorial and runs on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["exact_plan", "partial_plan"]


def exact_plan(
    costs: Tensor, source_mass: Tensor, target_mass: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the plan of least cost, and how the cost grows with the source's masses.

    Parameters
    ----------
    costs : Tensor of shape (n, m)
    source_mass : Tensor of shape (n,)
    target_mass : Tensor of shape (m,)
        Masses sum to one, or are all zero.

    Returns
    -------
    plan : Tensor of shape (n, m)
        Without gradient; zero where there is no mass, NaN for costs that are not
        finite.
    potential : Tensor of shape (n,)
        The source's dual variables, defined up to a constant.
    """
    import ot

    plan = _unsolved(costs, source_mass, target_mass)
    if plan is not None:
        return plan, torch.zeros_like(source_mass)
    masses = _shares(source_mass), _shares(target_mass)
    found, log = ot.emd(*masses, _array(costs), log=True)
    return _like(costs, found), _like(costs, log["u"])


def partial_plan(
    costs: Tensor, source_mass: Tensor, target_mass: Tensor, *, mass: float
) -> Tensor:
    """Return the plan of least cost that carries a share of the mass.

    Parameters
    ----------
    costs : Tensor of shape (n, m)
    source_mass : Tensor of shape (n,)
    target_mass : Tensor of shape (m,)
        Masses sum to one, or are all zero.
    mass : float
        What is carried, below 1; where to leave the rest is part of the plan.

    Returns
    -------
    Tensor of shape (n, m)
        Without gradient; zero where there is no mass, NaN for costs that are not
        finite.
    """
    import ot

    plan = _unsolved(costs, source_mass, target_mass)
    if plan is not None:
        return plan
    masses = _shares(source_mass), _shares(target_mass)
    found = ot.partial.partial_wasserstein(*masses, _array(costs), m=mass)
    return _like(costs, found)


def _unsolved(costs: Tensor, source_mass: Tensor, target_mass: Tensor) -> Tensor | None:
    """Return the plan where there is nothing to solve, else None."""
    if not costs.isfinite().all():
        # Of a network that diverged, so that its loss is NaN and the trainer says so.
        return torch.full_like(costs, torch.nan)
    if not (source_mass.any() and target_mass.any()):
        return torch.zeros_like(costs)
    return None


def _shares(mass: Tensor) -> NDArray[np.float64]:
    """Return masses that sum to one in the solver's precision too."""
    mass = mass.double()
    return _array(mass / mass.sum())


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def _like(costs: Tensor, values: Any) -> Tensor:
    return torch.as_tensor(values).to(costs)
