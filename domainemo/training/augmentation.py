"""The target batch as an adapter augments it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core import Adapter, Batch
from ..places import called, contract_error

__all__ = ["augmented"]


def augmented(adapter: Adapter, batch: Batch) -> Batch:
    """Return a batch as an adapter augments it; zero where a mask is False.

    Parameters
    ----------
    adapter : Adapter
    batch : pair of dict
        Signals and masks, as a backbone takes them.

    Raises
    ------
    ConfigurationError
        If what it returns is no such batch.
    """
    signals, masks = batch
    found: object = adapter.augment(signals, masks)
    expected = "signals and masks, two dicts of Tensors shaped as those handed over"
    if not isinstance(found, tuple) or len(found) != 2:
        raise contract_error(adapter, "augment", called(found), expected)
    for part, given in zip(found, batch, strict=True):
        if not isinstance(part, Mapping) or part.keys() != given.keys():
            raise contract_error(adapter, "augment", called(part), expected)
        for name, values in part.items():
            like = isinstance(values, Tensor) and values.shape == given[name].shape
            if not like or values.dtype != given[name].dtype:
                shown = f"{called(values)} for {name!r}"
                raise contract_error(adapter, "augment", shown, expected)
    seen, kept = found
    # What a backbone finds where there is no signal is zero: the contract says so.
    return {
        name: torch.where(kept[name][..., None, None], values, 0.0)
        for name, values in seen.items()
    }, dict(kept)
