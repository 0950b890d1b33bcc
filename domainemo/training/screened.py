"""What a screen believes of the whole target, for the record; no training sees it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..adapters.composite import Composite
from ..adapters.distillation import Distillation
from ..adapters.screening import believed
from ..core import Outputs, Pseudo, Screen, Target
from ..places import contract_error

__all__ = ["find_screen", "learning_screens", "screen_target"]


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


def learning_screens(adapter: nn.Module, *, held_out: bool = False) -> list[Screen]:
    """Return the screens in an adapter that learn of the source, each once.

    Parameters
    ----------
    adapter : Module
    held_out : bool
        Only those that need some of it kept from training.
    """
    screens = (each for each in adapter.modules() if isinstance(each, Screen))
    return [
        each
        for each in screens
        if each.held_out or (each.needs_training and not held_out)
    ]


def screen_target(
    screen: Screen, target: Target, batch_size: int, adapter: nn.Module
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
    adapter : Module
        Whose `Distillation`, where it has some, opens the last gate of teaching.

    Returns
    -------
    dict of str to ndarray of shape (samples,)
        ``labels``; for every branch ``weights/BRANCH``, after all gates; and
        ``opinions/BRANCH``, the class that the judge's branch gives by itself, or the
        network's where no judge is there, -1 where the sensor lost the sample. In the
        target's order.

    Raises
    ------
    ConfigurationError
        If a label is no class, or a weight not from 0 to 1.
    """
    ruling = copy.deepcopy(screen).eval()
    terms = [each for each in adapter.modules() if isinstance(each, Distillation)]
    device = next(iter(target.outputs.logits.values())).device
    samples = len(next(iter(target.outputs.logits.values())))
    places = torch.arange(-(-samples // batch_size) * batch_size, device=device)
    found: dict[str, list[Tensor]] = {}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        for chunk in torch.split(places % samples, batch_size):
            outputs = target.outputs.take(chunk)
            judged = None if target.judge is None else target.judge.take(chunk)
            trials = target.trials
            if trials is not None:
                trials = trials[chunk] if screen.needs_trials else None
            # Without dropout, the network is its own teacher.
            batch = replace(
                target, outputs=outputs, teacher=outputs, judge=judged, trials=trials
            )
            pseudo = believed(ruling, batch)
            _check_values(screen, pseudo, batch.outputs)
            for name, values in _recorded(pseudo, batch, terms).items():
                found.setdefault(name, []).append(values)
    return {
        name: torch.cat(parts)[:samples].cpu().numpy() for name, parts in found.items()
    }


def _check_values(screen: Screen, pseudo: Pseudo, outputs: Outputs) -> None:
    """Refuse labels of no class and weights that are no share of a sample.

    Here, and not in every step, as it must wait for the values.
    """
    classes = next(iter(outputs.logits.values())).shape[-1]
    labels = pseudo.labels
    astray = labels[(labels < 0) | (labels >= classes)]
    if len(astray):
        expected = f"one of the {classes} classes, 0 to {classes - 1}, for each sample"
        raise contract_error(screen, "forward", f"the label {int(astray[0])}", expected)
    for name in outputs.logits:
        weights = pseudo.weights[name]
        astray = weights[~((weights >= 0) & (weights <= 1))]
        if len(astray):
            shown = f"the weight {float(astray[0]):.3g} of {name!r}"
            raise contract_error(screen, "forward", shown, "weights from 0 to 1")


def _recorded(
    pseudo: Pseudo, batch: Target, terms: Sequence[Distillation]
) -> dict[str, Tensor]:
    """Return labels, weights after the gates of `terms`, and opinions, by name."""
    weights, judge = dict(pseudo.weights), batch.judge or batch.outputs
    taught = [term.taught(pseudo, batch) for term in terms]
    for branch in batch.outputs.modalities if taught else ():
        weights[branch] = torch.stack([each[branch] for each in taught]).amax(0)
    opinions = {
        name: torch.where(judge.weight(name) > 0, logits.argmax(-1), -1)
        for name, logits in judge.logits.items()
    }
    return {
        "labels": pseudo.labels,
        **{f"weights/{name}": each.float() for name, each in weights.items()},
        **{f"opinions/{name}": each for name, each in opinions.items()},
    }
