"""Starting from pre-training: which weights begin a fold, and whether they may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import files
from ..core import Fold, Inputs, Rows
from ..errors import ConfigurationError
from ..values import given_path
from ..words import count, first_few
from .folder import (
    CONFIG,
    ENVIRONMENT,
    check_job,
    differences,
    fingerprint,
    fingerprints,
    flat,
    job_folder,
    read_json,
    read_stored_config,
)

__all__ = [
    "PRETRAINED",
    "WEIGHTS",
    "Initialisation",
    "check_initialisation",
    "load_weights",
    "read_initialisation",
    "rows_digest",
    "start_from",
    "weights_of",
]

PRETRAINED = "pretrained"
"""The name of a pre-training job's folder, in the place of a method's."""

WEIGHTS = "backbone.safetensors"

_MUST_AGREE = (
    *("protocol", "backbone", "normalisation"),
    *("channels", "exclude_channels", "exclude", "classes"),
)


@dataclass(frozen=True)
class Initialisation:
    """A finished pre-training that networks start from.

    Attributes
    ----------
    folder : str
        Its folder, as an absolute path.
    words : str
        How it was made, for results.
    content : str
        A hash of all its weights, so that a run cannot go on with others.
    """

    folder: str
    words: str
    content: str

    def weights(self, fold: str, seed: int) -> Path:
        """Return the file of the backbone pre-trained for a fold."""
        return job_folder(Path(self.folder), fold, seed, PRETRAINED) / WEIGHTS


def read_initialisation(folder: str | Path) -> Initialisation:
    """Read what a pre-training's folder says of itself.

    Raises
    ------
    ConfigurationError
        If it is none, or not finished.
    """
    place = given_path("init_from", folder).resolve()
    path = place / CONFIG
    begun = files.is_expected(path)
    config = read_stored_config(place) if begun else {}
    if "pairs" not in config:
        raise ConfigurationError(
            f"{folder}: expected the folder of a finished `domainemo pretrain` to "
            f"start from, but it holds no configuration of one."
        )
    epochs = flat(config)["training.epochs"]
    seen = ", ".join(read_json(place / ENVIRONMENT)["modalities"])
    words = (
        f"initialised from pre-training ({config['pairs']} pairs of {seen}, "
        f"{count(epochs, 'epoch')}) on the fold's source"
    )
    digest = sha256()
    for job in sorted(place.glob(f"folds/*/*/{PRETRAINED}")):
        path = job / WEIGHTS
        digest.update(path.relative_to(place).as_posix().encode())
        digest.update(bytes.fromhex(files.check(path)))
    return Initialisation(str(place), words, digest.hexdigest())


def check_initialisation(
    start: Initialisation,
    description: Mapping[str, Any],
    inputs: Inputs,
    folds: Sequence[Fold],
    weights: Mapping[str, Tensor],
) -> None:
    """Refuse a pre-training that was not made for these very folds.

    It may have seen more modalities than the run has.

    Parameters
    ----------
    start : Initialisation
    description : mapping
        The full configuration of the run.
    inputs : Inputs
        In canonical order, with the chosen modalities only.
    folds : sequence of Fold
    weights : mapping of str to Tensor
        Of the network as it is built for these modalities.

    Raises
    ------
    ConfigurationError
        Naming what differs, or which fold and seed is missing.
    DataError
        If a fold of it was put where another belongs.
    """
    folder = Path(start.folder)
    there, here = (
        {key: value for key, value in flat(config).items() if _matters(key)}
        for config in (read_stored_config(folder), description)
    )
    found = differences(there, here, "here")
    found += _recordings_that_differ(read_json(folder / ENVIRONMENT), inputs)
    if not found:
        found = list(_folds_that_differ(start, folds, description["seeds"]))
    if not found and folds:
        first = start.weights(folds[0].name, description["seeds"][0])
        found = _weights_that_differ(first, inputs.modalities, weights)
    if found:
        raise ConfigurationError(
            f"{start.folder}: this pre-training does not fit the run; different: "
            f"{first_few(found, 4)}. Make both choices alike, or pre-train "
            f"again into another folder."
        )


def load_weights(put: Callable[[dict[str, Tensor]], object], path: Path) -> None:
    """Put trained weights into a network.

    Parameters
    ----------
    put : callable
        A network's ``load_state_dict``, or what else takes weights by name.
    path : Path

    Raises
    ------
    DataError
        If the file is damaged, or holds the weights of another network.
    """
    from safetensors.torch import load

    def parse(content: bytes) -> None:
        put(load(content))

    files.read(path, parse)


def start_from(network: nn.Module, path: Path, modalities: Iterable[str]) -> None:
    """Put pre-trained weights into a network.

    Where the pre-training saw more modalities, their weights are left out, and a weight
    of another shape, in a layer that joins modalities, stays as it was drawn.

    Parameters
    ----------
    network : Module
        Built for `modalities`.
    path : Path
        The weights' file; beside it is the record of its pre-training.
    modalities : iterable of str
        Of the network.

    Raises
    ------
    DataError
        If the file is damaged, or holds the weights of another network.
    """

    def put(state: dict[str, Tensor]) -> None:
        if _has_more(path, modalities):
            own = network.state_dict()
            state = {
                name: state[name] if state[name].shape == value.shape else value
                for name, value in own.items()
            }
        network.load_state_dict(state)

    load_weights(put, path)


def weights_of(state: Mapping[str, Tensor]) -> bytes:
    """Return weights by name as a safetensors file holds them."""
    from safetensors.torch import save

    # Copies: layers may share weights, which such a file does not know.
    return save({name: each.cpu().contiguous().clone() for name, each in state.items()})


def rows_digest(rows: Rows) -> str:
    """Return a hash of row numbers."""
    return sha256(rows.astype("<i8").tobytes()).hexdigest()


def _matters(key: str) -> bool:
    # What a protocol skips for want of classes is pre-trained all the same.
    return key.partition(".")[0] in _MUST_AGREE and key != "protocol.unfit"


def _recordings_that_differ(
    environment: Mapping[str, Any], inputs: Inputs
) -> Iterable[str]:
    there, here = list(environment.get("modalities", ())), list(inputs.modalities)
    signals = environment.get("signals_of")
    if signals and {*here} < {*there}:
        known = {name: signals[name] for name in here}
        if known != fingerprints(inputs):
            yield "the recordings' signals or windows"
    elif there != here:
        yield f"modalities: there {', '.join(there)}, here {', '.join(here)}"
    elif environment.get("recordings") != fingerprint(inputs):
        yield "the recordings' signals or windows"


def _has_more(path: Path, modalities: Iterable[str]) -> bool:
    """Return whether a pre-training saw modalities beside these."""
    seen = read_json(path.with_name("record.json")).get("modalities", ())
    return {*modalities} < {*seen}


def _weights_that_differ(
    path: Path, modalities: Iterable[str], weights: Mapping[str, Tensor]
) -> list[str]:
    """Return what a network lacks of a pre-training that saw more modalities."""
    if not _has_more(path, modalities):
        return []
    there: dict[str, Tensor] = {}
    load_weights(there.update, path)
    missing = [name for name in weights if name not in there]
    if not missing:
        return []
    return [
        f"the network of {', '.join(modalities)} alone has other layers than the one "
        f"that was pre-trained, such as {missing[0]}"
    ]


def _folds_that_differ(
    start: Initialisation, folds: Sequence[Fold], seeds: Iterable[int]
) -> Iterable[str]:
    for fold in folds:
        for seed in seeds:
            weights = start.weights(fold.name, seed)
            if not weights.exists():
                yield f"nothing was pre-trained for {fold.name}, seed {seed}"
                continue
            record = read_json(weights.with_name("record.json"))
            check_job(Path(start.folder), weights.parent, record)
            if record.get("source") != rows_digest(fold.source):
                yield f"the source windows of {fold.name}"
