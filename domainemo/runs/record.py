"""What a finished job leaves in its folder: no label is among it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import files
from ..core import Adapter, Modality, Rows
from ..data.normalisation import Learned, Scale
from ..errors import RunError, data_error
from ..training.fit import Fitted
from ..training.model import Network, state_of
from .folder import JOB_FACTS, read_arrays, read_json
from .initialisation import weights_of

__all__ = [
    "Record",
    "load_record",
    "write_file",
    "write_model",
    "write_predictions",
    "write_screening",
]

HISTORY = "history.csv"
PREDICTIONS = "predictions.npz"
SCREENING = "screening.npz"
FACTS = JOB_FACTS
MODEL = "model.json"
MODEL_WEIGHTS = "model.safetensors"
RECORDED: Mapping[str, type] = {"fold": str, "adapter": str, "seed": int}
"""What the record of a training says of it, and as what."""


@dataclass(frozen=True)
class Record:
    """What a finished job left: predictions without labels.

    Attributes
    ----------
    members : ndarray of int, shape (samples, time)
        Windows of each predicted sample, -1 where padded.
    probabilities : ndarray of float, shape (samples, classes)
    trace : ndarray of float, shape (epochs, samples, classes)
        After every epoch; no epochs unless they were asked for.
    facts : dict
        Epoch kept, seconds, number of parameters, and the like.
    """

    members: Rows
    probabilities: NDArray[np.float32]
    trace: NDArray[np.float32]
    facts: dict[str, Any]

    @property
    def predicted(self) -> list[int]:
        """The classes that are predicted at all, of what some sensor recorded."""
        known: list[int] | None = self.facts.get("predicted")
        if known is None:  # an earlier version did not say
            known = np.unique(self.probabilities.argmax(1)).tolist()
        return known


def write_predictions(
    folder: Path,
    members: Rows,
    probabilities: NDArray[np.float32],
    trace: list[NDArray[np.float32]],
    facts: Mapping[str, Any],
) -> None:
    """Write what is predicted, and what a record says of its job."""
    content = BytesIO()
    np.savez(
        content,
        members=members,
        probabilities=probabilities,
        trace=np.array(trace, np.float32).reshape(len(trace), *probabilities.shape),
    )
    write_file(folder / PREDICTIONS, content.getvalue())
    write_file(folder / FACTS, json.dumps(facts, indent=1))


def write_screening(folder: Path, members: Rows, fitted: Fitted) -> None:
    """Write what the screen believed of the target's samples after every epoch."""
    if not fitted.screened:
        return
    arrays: dict[str, Any] = {
        name: np.stack([epoch[name] for epoch in fitted.screened])
        for name in fitted.screened[0]
    }
    content = BytesIO()
    # Mostly the same few weights, which pack well.
    np.savez_compressed(content, members=members, **arrays)
    write_file(folder / SCREENING, content.getvalue())


def write_model(
    folder: Path,
    model: Network,
    adapter: Adapter,
    domains: int,
    modalities: Mapping[str, Modality],
    classes: tuple[str, ...],
    scales: Mapping[str, Scale],
    raw_scales: Mapping[str, Scale],
    learned: Mapping[str, Learned],
    beside: Mapping[str, Any],
) -> None:
    """Write the weights, and what a later prediction needs beside them."""
    described: dict[str, Any] = {
        "classes": list(classes),
        "modalities": {name: asdict(m) for name, m in modalities.items()},
        **beside,
    }
    if adapter.shapes_prediction or adapter.state_dict():
        described["domains"] = domains  # what the adapter was prepared for
    arrays: dict[str, Mapping[str, Learned]] = {
        "scales": {name: vars(scale) for name, scale in scales.items()},
        "raw_scales": {name: vars(scale) for name, scale in raw_scales.items()},
        "learned": learned,
    }
    for key, kept in arrays.items():
        described[key] = {
            name: {k: array.tolist() for k, array in each.items()}
            for name, each in kept.items()
        }
    write_file(folder / MODEL, json.dumps(described, indent=1))
    write_file(folder / MODEL_WEIGHTS, weights_of(state_of(model, adapter)))


def load_record(folder: Path) -> Record:
    """Read what a finished job left.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    RunError
        If the training diverged, and an earlier version kept what it predicted.
    """
    arrays = read_arrays(folder / PREDICTIONS, "members", "probabilities", "trace")
    facts = read_json(folder / FACTS, **RECORDED, level=str)
    _check_shapes(folder / PREDICTIONS, arrays)
    for name in ("probabilities", "trace"):
        if not np.isfinite(arrays[name]).all():
            raise RunError(
                f"{folder / PREDICTIONS}: its {name} are not all finite, so that "
                f"this training diverged and its figures mean nothing. Delete "
                f"{folder}, and give another training.learning_rate."
            )
    return Record(arrays["members"], arrays["probabilities"], arrays["trace"], facts)


def _check_shapes(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that do not speak of the same samples."""
    members, probabilities, trace = (
        arrays[name] for name in ("members", "probabilities", "trace")
    )
    fit = members.ndim == probabilities.ndim == 2
    fit = fit and members.dtype.kind == "i" and probabilities.dtype.kind == "f"
    fit = fit and len(members) == len(probabilities)
    if not fit or trace.shape[1:] != probabilities.shape:
        shapes = ", ".join(f"{k} of shape {arrays[k].shape}" for k in sorted(arrays))
        expected = "those of one set of samples"
        raise data_error(path, shapes, expected, files.REMEDY)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file of a job; it reaches the disk at the latest as the job finishes."""
    files.write(path, content, durable=False)
