"""Write a trained fold as a file that others run: ONNX, or an exported program."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__, files
from ..core import Inputs
from ..errors import ConfigurationError, DataError, RunError
from ..runs.experiment import Experiment
from ..runs.folder import folder_name, read_stored_config
from ..runs.model import Model, find_trained, load_trained
from ..runs.record import Record, load_record
from .model_card import model_card
from .reading import Recordings
from .standalone import Groups, Standalone, groups_of, raw_samples, windows_of

__all__ = ["ENDINGS", "export_fold"]

ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}
"""The kinds of file, and how their names end."""

Run = Callable[[Mapping[str, Tensor], Tensor], NDArray[np.float32]]
"""Takes signals and groups as :class:`Standalone` does; returns probabilities."""

_CLOSE = 1e-5  # what rounding leaves of a difference in probability
_CLOSE_TO_GPU = 0.01  # the run's own, where it was trained on another device
_BATCH = 256


@dataclass(frozen=True)
class _Fold:
    """A trained fold, and what its file must give.

    Attributes
    ----------
    model : Model
    record : Record
    inputs : Inputs or None
        The run's recordings.
    groups : Groups
    """

    model: Model
    record: Record
    inputs: Inputs | None
    groups: Groups


def export_fold(
    run: Path,
    experiment: Experiment,
    to: str,
    output: Path | None = None,
    *,
    recordings: Recordings | None = None,
    fold: str | None = None,
    adapter: str | None = None,
    seed: int | None = None,
) -> tuple[Path, str]:
    """Write one file of a trained fold, and a model card beside it.

    The file is run once more before it is kept: on the fold's own test windows, or on
    noise where there are no recordings.

    Parameters
    ----------
    run : Path
        A run's folder.
    experiment : Experiment
        Of that run.
    to : {"onnx", "torch"}
    output : Path, optional
        The file; by default one named by the fold in the run's folder.
    recordings : Recordings, optional
        The run's, whose target the file shall know how to normalise.
    fold, adapter, seed
        Which of several models; the run's own adapter by default.

    Returns
    -------
    path : Path
    told : str
        A sentence on how near the file is to the run.

    Raises
    ------
    ConfigurationError
        If no trained fold fits, or several do, a library is missing, a file is there
        already, or the network cannot be written as such a file.
    RunError
        If the file does not predict what the run predicted.
    """
    _check_kind(to, output)
    chosen = adapter or experiment.adapter.name
    place = find_trained(run, fold=fold, adapter=chosen, seed=seed)
    found = _read(place, experiment, recordings)
    output, card = _places(output or _default(run, found, ENDINGS[to]))
    sampling = found.model.network.backbone.sampling
    length = windows_of(sampling, found.record.members)
    module = Standalone(found.model, found.groups, length)
    about = _about(run, found, module)
    with _quiet():
        content, again = _KINDS[to](module, about)
        told = _checked(found, module, again)
    text = model_card(run, output, about, found.record.facts, told)
    files.write(output, content)
    files.write(card, text)
    return output, told


def _check_kind(to: str, output: Path | None) -> None:
    if to not in ENDINGS:
        raise ConfigurationError(
            f"--to is {to!r}; expected one of {', '.join(ENDINGS)}."
        )
    if output is not None and output.suffix != ENDINGS[to]:
        raise ConfigurationError(
            f"{output}: found the ending {output.suffix!r}; expected {ENDINGS[to]!r}, "
            f"as --to is {to!r}."
        )


def _places(output: Path) -> tuple[Path, Path]:
    """Return where the file and its card belong; refuse to overwrite either."""
    card = output.with_name(f"{output.name}.md")
    for path in (output, card):
        if path.exists():
            raise ConfigurationError(
                f"{path}: this file exists and was not overwritten; name another one."
            )
    return output, card


def _default(run: Path, found: _Fold, ending: str) -> Path:
    """Return a file in the run's folder, named by the fold."""
    facts = found.record.facts
    name = folder_name(f"{facts['fold']} {facts['adapter']} seed {facts['seed']}")
    return run / f"{name}{ending}"


def _read(place: Path, experiment: Experiment, recordings: Recordings | None) -> _Fold:
    model, record = load_trained(place, experiment), load_record(place)
    if recordings is None:
        return _Fold(model, record, None, groups_of(model, None, None))
    fold = recordings.folds.get(record.facts["fold"])
    if fold is None:
        raise DataError(
            f"{place}: its fold, {record.facts['fold']!r}, is none of "
            f"{recordings.data.inputs.name}. Give the recordings of the run."
        )
    inputs = recordings.data.inputs
    return _Fold(model, record, inputs, groups_of(model, inputs, fold))


def _about(run: Path, found: _Fold, module: Standalone) -> dict[str, Any]:
    """Return what a file says of itself."""
    model, facts = found.model, found.record.facts
    chosen = model.experiment
    config = read_stored_config(run)
    return {
        "classes": list(model.classes),
        "modalities": {
            name: {k: v for k, v in asdict(each).items() if k != "span"}
            for name, each in model.modalities.items()
        },
        "windows": module.windows,
        "step": model.step,
        "sample": facts["level"],
        "groups": list(module.groups),
        "normalisation": chosen.build_normalisation().words,
        "backbone": chosen.backbone.name,
        "adapter": facts["adapter"],
        "recordings": str(config.get("dataset", config.get("recordings"))),
        "protocol": chosen.protocol.name,
        "fold": facts["fold"],
        "seed": facts["seed"],
        "selection": chosen.selection,
        "epoch": facts["epoch"],
        "domainemo": __version__,
        "torch": torch.__version__,
    }


# --------------------------------------------------------------------------- kinds


def _traced(module: Standalone) -> torch.export.ExportedProgram:
    """Return the module as a graph that takes batches of any size."""
    signals, group = module.made_up(3)
    batch = torch.export.Dim("batch")
    arguments: tuple[Any, ...] = (signals,)
    shapes: tuple[Any, ...] = ({name: {0: batch} for name in signals},)
    if module.chooses:
        arguments, shapes = (*arguments, group), (*shapes, {0: batch})
    with torch.no_grad(), _explained(module):
        return torch.export.export(
            module, arguments, dynamic_shapes=shapes, strict=False
        )


@contextmanager
def _explained(module: Standalone) -> Iterator[None]:
    """Say whose fault it is where a network is no graph, or ONNX is too old."""
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"torch {torch.__version__} writes no file with what is installed of ONNX: "
            f"{error}. Expected newer packages: pip install --upgrade onnx onnxscript."
        ) from error
    except Exception as error:
        reason = (str(error).strip() or "no reason given").splitlines()[0]
        backbone = type(module.network.backbone).__name__
        adapter = type(module.adapter).__name__
        raise ConfigurationError(
            f"{backbone}, with what {adapter} makes of it, cannot be written as a "
            f"file: {type(error).__name__}: {reason} Expected layers whose shapes do "
            f"not depend on values. Apply this run with `domainemo predict`."
        ) from error


def _as_torch(module: Standalone, about: Mapping[str, Any]) -> tuple[bytes, Run]:
    """Return an exported program, and what it makes of samples."""
    program, file = _traced(module), BytesIO()
    torch.export.save(program, file, extra_files={"about.json": json.dumps(about)})
    file.seek(0)
    again = torch.export.load(file).module()

    def run(signals: Mapping[str, Tensor], group: Tensor) -> NDArray[np.float32]:
        told = (group,) if module.chooses else ()
        with torch.no_grad():
            found: NDArray[np.float32] = again(dict(signals), *told).numpy()
        return found

    return file.getvalue(), run


def _as_onnx(module: Standalone, about: Mapping[str, Any]) -> tuple[bytes, Run]:
    """Return an ONNX model, and what onnxruntime makes of samples."""
    onnx, onnxruntime = _onnx()
    inputs = [*module.modalities, *(["group"] if module.chooses else [])]
    program = _traced(module)
    with _explained(module):
        written = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=["probabilities"],
        )
    assert written is not None
    made = written.model_proto
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del made.graph.value_info[:]  # which know the batch by another name
    made.producer_name, made.producer_version = "domainemo", __version__
    said = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in about.items()
    }
    onnx.helper.set_model_props(made, said)
    onnx.checker.check_model(made)
    content = made.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(signals: Mapping[str, Tensor], group: Tensor) -> NDArray[np.float32]:
        given = {name: each.numpy() for name, each in signals.items()}
        if module.chooses:
            given["group"] = group.numpy()
        (found,) = session.run(["probabilities"], given)
        return np.asarray(found)

    return content, run


_KINDS: Mapping[str, Callable[..., tuple[bytes, Run]]] = {
    "onnx": _as_onnx,
    "torch": _as_torch,
}


def _onnx() -> tuple[Any, Any]:
    """Import what ONNX needs."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  which torch writes with
    except ImportError as error:
        raise ConfigurationError(
            f"--to onnx needs ONNX, and {error.name} cannot be imported: "
            f"pip install 'domainemo[export]'. --to torch needs nothing more."
        ) from error
    return onnx, onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch and onnxscript tell of their own workings."""
    logger = logging.getLogger("onnxscript")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


# --------------------------------------------------------------------------- checks


def _checked(found: _Fold, module: Standalone, run: Run) -> str:
    """Return how near a file is to the run; refuse one that is not."""
    record = found.record
    close, what = _CLOSE, "the run's own probabilities"
    if found.inputs is None or not len(record.members):
        what = "what the network says of noise, as no test windows were read"
        signals, group = module.made_up(9)
        with torch.no_grad():
            expected = module(signals, group if module.chooses else None).numpy()
        differences = [np.abs(run(signals, group) - expected).max()]
        number = len(expected)
    else:
        differences = [*_on_test_windows(found, run)]
        number = len(record.members)
        if record.facts.get("device", "cpu") != "cpu":
            close = _CLOSE_TO_GPU
    largest = float(max(differences))
    if not largest <= close:
        raise RunError(
            f"The file gives probabilities that differ by {largest:.2g} from {what}; "
            f"expected {close:g} at most, and nothing was written. Apply this run with "
            f"`domainemo predict`."
        )
    return (
        f"Its probabilities differ by {largest:.1g} at most from {what} "
        f"({number} samples)."
    )


def _on_test_windows(found: _Fold, run: Run) -> Iterator[np.float32]:
    """Yield the largest difference from the run, some samples at a time."""
    assert found.inputs is not None
    record, codes = found.record, found.groups.codes
    for start in range(0, len(record.members), _BATCH):
        here = slice(start, start + _BATCH)
        members = record.members[here]
        group = torch.from_numpy(codes[members[:, 0]])
        made = run(raw_samples(found.inputs, members), group)
        yield np.abs(made - record.probabilities[here]).max()
