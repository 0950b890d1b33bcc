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
        Without gradient; zero where there is no mass.
    potential : Tensor of shape (n,)
        The source's dual variables, defined up to a constant.
    """
    import ot

    if not (source_mass.any() and target_mass.any()):
        return torch.zeros_like(costs), torch.zeros_like(source_mass)
    plan, log = ot.emd(
        _shares(source_mass), _shares(target_mass), _array(costs), log=True
    )
    return _like(costs, plan), _like(costs, log["u"])


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
        Without gradient; zero where there is no mass.
    """
    import ot

    if not (source_mass.any() and target_mass.any()):
        return torch.zeros_like(costs)
    plan = ot.partial.partial_wasserstein(
        _shares(source_mass), _shares(target_mass), _array(costs), m=mass
    )
    return _like(costs, plan)


def _shares(mass: Tensor) -> NDArray[np.float64]:
    """Return masses that sum to one in the solver's precision too."""
    shares = _array(mass)
    return shares / shares.sum()


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()


def _like(costs: Tensor, values: Any) -> Tensor:
    return torch.as_tensor(values).to(costs)
