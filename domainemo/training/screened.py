"""What a screen believes of the whole target, for the record; no training sees it."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..adapters.composite import Composite
from ..adapters.screening import believed
from ..core import Outputs, Screen, Target

__all__ = ["find_screen", "screen_target"]


def find_screen(adapter: nn.Module) -> Screen | None:
    """Return the screen that rules in an adapter, or None where there is none.

    A composite's does before the ones that its terms would use without it. Where groups
    of adapters have screens of their own, none of these speaks for all.
    """
    ruling = {
        id(each.screen): each.screen
        for each in adapter.modules()
        if isinstance(each, Composite) and each.screen is not None
    }
    if ruling:
        return next(iter(ruling.values())) if len(ruling) == 1 else None
    found = (each for each in adapter.modules() if isinstance(each, Screen))
    return next(found, None)


def screen_target(
    screen: Screen, target: Target, batch_size: int
) -> dict[str, NDArray[np.generic]]:
    """Screen all samples in batches, as training does, without changing anything.

    Screens may rank a sample within its batch: the last batch is filled up with the
    first samples, as training never sees an incomplete one.

    Parameters
    ----------
    screen : Screen
        Left as it is, with the state it has.
    target : Target
        All samples in the order in which they are divided into batches.
    batch_size : int

    Returns
    -------
    dict of str to ndarray of shape (samples,)
        ``labels``, and ``weights/BRANCH`` for every branch; in the target's order.
    """
    ruling = copy.deepcopy(screen).eval()
    device = next(iter(target.outputs.logits.values())).device
    samples = len(next(iter(target.outputs.logits.values())))
    places = torch.arange(-(-samples // batch_size) * batch_size, device=device)
    found: dict[str, list[Tensor]] = {}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        for chunk in torch.split(places % samples, batch_size):
            outputs = _take(target.outputs, chunk)
            judged = None if target.judge is None else _take(target.judge, chunk)
            # Without dropout, the network is its own teacher.
            batch = replace(target, outputs=outputs, teacher=outputs, judge=judged)
            pseudo = believed(ruling, batch)
            weights = {f"weights/{k}": w.float() for k, w in pseudo.weights.items()}
            for name, values in {"labels": pseudo.labels, **weights}.items():
                found.setdefault(name, []).append(values)
    return {
        name: torch.cat(parts)[:samples].cpu().numpy() for name, parts in found.items()
    }


def _take(outputs: Outputs, index: Tensor) -> Outputs:
    def taken(name: str) -> dict[str, Tensor]:
        return {k: values[index] for k, values in getattr(outputs, name).items()}

    return Outputs(taken("embeddings"), taken("logits"), taken("present"))
