"""Whether parts of one's own predict by what is kept of them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core import Adapter, Modality
from ..errors import ConfigurationError
from ..parts import Part
from ..places import where
from ..training.fit import Fitting
from ..training.model import Network
from .experiment import Experiment

__all__ = ["check_kept"]

Predicts = Callable[[Network, Adapter], NDArray[np.float32]]


def check_kept(
    chosen: Experiment,
    adapter: Part,
    task: Fitting,
    modalities: Mapping[str, Modality],
    domains: int,
    predicts: Predicts,
) -> None:
    """Refuse a trained fold that would predict otherwise when it is read again.

    Networks and adapters that come with the library are tested for it.

    Parameters
    ----------
    chosen : Experiment
    adapter : Part
        Which of its adapters was trained.
    task : Fitting
        With the weights that are kept.
    modalities : mapping of str to Modality
    domains : int
        For which the adapter was prepared.
    predicts : callable
        Returns probabilities of some samples.

    Raises
    ------
    ConfigurationError
        If the network or the adapter, made again with its weights and buffers, gives
        other probabilities, or does not take them.
    """
    model, trained = task.model, task.adapter
    shaped = adapter.outside and trained.shapes_prediction
    if not (shaped or chosen.backbone.outside):
        return
    expected = predicts(model, trained)
    if not np.array_equal(predicts(model, trained), expected):
        return  # it draws as it predicts, and will do so then
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):
        backbone = chosen.build_backbone(modalities)
        network = Network(backbone, modalities, model.classes).to(device)
        again: Adapter = chosen.build_adapter(adapter)
        again.prepare(model.dims, model.classes, domains)
    _load(network, model, backbone, "the constructor")
    if not np.array_equal(predicts(network.eval(), trained), expected):
        raise _not_kept(backbone, "the constructor")
    if shaped:
        _load(again.to(device), trained, again, "prepare")
        if not np.array_equal(predicts(model, again.eval()), expected):
            raise _not_kept(trained, "prepare")


def _load(again: nn.Module, trained: nn.Module, part: object, made_in: str) -> None:
    """Give what was made again the weights of what was trained."""
    try:
        again.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise ConfigurationError(
            f"{type(part).__name__} has weights or buffers that are not those that "
            f"{made_in} makes, so that the model of this fold cannot be read again: "
            f"{str(error).splitlines()[-1].strip()} Make all of them there, and of one "
            f"size: {where(part)}."
        ) from error


def _not_kept(part: object, made_in: str) -> ConfigurationError:
    return ConfigurationError(
        f"{type(part).__name__} predicts by something that its weights and buffers do "
        f"not hold, so that the model of this fold, read again, would predict "
        f"otherwise. Keep layers in attributes or nn.ModuleList, and numbers in "
        f"buffers that {made_in} registers: {where(part)}."
    )
