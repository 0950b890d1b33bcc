"""What is run: every choice that a number depends on, in one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .. import __version__
from ..core import Backbone, Modality, Sampling
from ..data.normalisation import describe
from ..data.sampling import SAMPLINGS
from ..errors import ConfigurationError
from ..parts import Part, describe_object, part, unknown_option
from ..registry import parameters
from ..training.settings import Training

__all__ = ["ORACLE", "SOURCE_ONLY", "Experiment", "experiment"]

ORACLE = "oracle"
"""Not a validator: the epoch is chosen by the test labels, after training."""

SOURCE_ONLY = "source only"
"""The name under which the unadapted network stands in every table."""


@dataclass(frozen=True)
class Experiment:
    """Every choice of a run but the recordings.

    Attributes
    ----------
    protocol, backbone, adapter : Part
    validator : Part or None
        None stands for the oracle.
    normalisation : str
    sampling : str or None
        None leaves the backbone its own.
    sampling_options : mapping
    modalities : tuple of str or None
        None uses all.
    exclude : tuple of str
        Subjects left out altogether.
    training : Training
    seeds : tuple of int
    baselines : bool
        Whether source only and the controls run beside the adapter.
    device : str
    """

    protocol: Part
    backbone: Part
    adapter: Part
    validator: Part | None
    normalisation: str
    sampling: str | None
    sampling_options: Mapping[str, Any]
    modalities: tuple[str, ...] | None
    exclude: tuple[str, ...]
    training: Training
    seeds: tuple[int, ...]
    baselines: bool
    device: str

    @property
    def selection(self) -> str:
        """The rule that chose the epoch, in words."""
        if self.validator is None:
            return "oracle (target labels)"
        return self.validator.name

    @property
    def trained(self) -> list[Part | None]:
        """What is trained: the adapter, source only, and None for the linear model."""
        if not self.baselines:
            return [self.adapter]
        if self.adapter.name == "none":
            return [self.adapter, None]
        return [self.adapter, part("adapter", "none"), None]

    def build_backbone(self, modalities: Mapping[str, Modality]) -> Backbone:
        """Return a new backbone with the sampling that was asked for."""
        backbone: Backbone = self.backbone.build(modalities)
        sampling = self.build_sampling()
        if sampling is not None:
            backbone.sampling = sampling
        return backbone

    def build_sampling(self) -> Sampling | None:
        """Return the sampling that was asked for, if any."""
        if self.sampling is None:
            return None
        return SAMPLINGS[self.sampling](**self.sampling_options)

    def describe(self) -> dict[str, Any]:
        """Return every choice, defaults spelled out, as a configuration file has it."""
        options: dict[str, Any] = {}
        for name in ("protocol", "backbone", "adapter", "validator"):
            chosen: Part | None = getattr(self, name)
            described = chosen.describe() if chosen else {}
            options |= {f"{name}.{key}": value for key, value in described.items()}
        for key, value in self.sampling_options.items():
            options[f"sampling.{key}"] = value
        for key, value in asdict(self.training).items():
            options[f"training.{key}"] = value
        choices = {
            "domainemo": __version__,
            "protocol": self.protocol.name,
            "backbone": self.backbone.name,
            "adapter": self.adapter.name,
            "validator": self.validator.name if self.validator else ORACLE,
            "normalisation": self.normalisation,
            "sampling": self.sampling,
            "modalities": list(self.modalities) if self.modalities else None,
            "exclude": list(self.exclude) or None,
            "seeds": list(self.seeds),
            "baselines": self.baselines,
            "device": self.device,
            "options": {k: v for k, v in sorted(options.items()) if v is not None},
        }
        return {key: value for key, value in choices.items() if value is not None}


def experiment(
    *,
    protocol: Any = "cross-subject",
    backbone: Any = "r2gfanet",
    adapter: Any = "uf-ama",
    validator: Any = "last",
    normalisation: str = "session",
    sampling: str | None = None,
    modalities: Sequence[str] | str | None = None,
    exclude: Sequence[str | int] = (),
    seeds: Sequence[int] = (0,),
    training: Training | None = None,
    baselines: bool = True,
    device: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Experiment:
    """Make an experiment of names, classes or objects.

    The parameters are those of :func:`~domainemo.evaluation.run.run`.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    grouped = _grouped(options or {})
    if isinstance(modalities, str):
        modalities = modalities.split(",")
    describe(normalisation)
    if "sampling" in grouped["backbone"]:
        raise ConfigurationError(
            "backbone.sampling cannot be set; name the sampling with --sampling and "
            "its options with --set sampling.NAME=VALUE."
        )
    if sampling is not None and sampling not in SAMPLINGS:
        raise ConfigurationError(
            f"There is no sampling called {sampling!r}; expected one of "
            f"{', '.join(SAMPLINGS)}."
        )
    if not len(seeds) or len(set(seeds)) < len(seeds):
        raise ConfigurationError(
            f"The seeds are {list(seeds)}; expected at least one, all different."
        )
    made = Experiment(
        protocol=part("protocol", protocol, grouped["protocol"]),
        backbone=part("backbone", backbone, grouped["backbone"]),
        adapter=part("adapter", adapter, grouped["adapter"]),
        validator=None
        if validator == ORACLE
        else part("validator", validator, grouped["validator"]),
        normalisation=normalisation,
        sampling=sampling,
        sampling_options=_sampling_options(sampling, grouped["sampling"]),
        modalities=tuple(modalities) if modalities else None,
        exclude=tuple(map(str, exclude)),
        training=_training(training or Training(), grouped["training"]),
        seeds=tuple(int(seed) for seed in seeds),
        baselines=baselines,
        device=resolve_device(device),
    )
    # Parts whose options clash are refused here, before any recording is read.
    made.protocol.build()
    made.adapter.build()
    made.build_sampling()
    return made


def resolve_device(name: str) -> str:
    """Return the device to train on; raise where it is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise ConfigurationError(
            f"The device {name!r} is not supported; expected 'auto', 'cpu' or 'cuda'."
        )
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"The device {name!r} cannot be used: "
            f"{str(error).splitlines()[0].rstrip('.')}. Use 'auto', 'cpu' or, with a "
            f"GPU, 'cuda'."
        ) from error
    return name


_GROUPS = ("protocol", "backbone", "adapter", "validator", "sampling", "training")


def _grouped(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    grouped: dict[str, dict[str, Any]] = {group: {} for group in _GROUPS}
    for key, value in options.items():
        group, dot, name = key.partition(".")
        if not dot or group not in grouped:
            raise ConfigurationError(
                unknown_option("The configuration", key, [f"{g}.NAME" for g in _GROUPS])
            )
        grouped[group][name] = value
    return grouped


def _training(base: Training, options: Mapping[str, Any]) -> Training:
    for name, value in options.items():
        if name not in Training.names():
            known = list(Training.names())
            raise ConfigurationError(unknown_option("training", name, known))
        expected = type(getattr(base, name))
        if not isinstance(value, expected) and not (
            expected is float and type(value) is int
        ):
            raise ConfigurationError(
                f"training.{name} is {value!r}; expected {expected.__name__} such as "
                f"the default {getattr(base, name)!r}."
            )
    return replace(base, **options)


def _sampling_options(
    sampling: str | None, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    if sampling is None:
        if options:
            raise ConfigurationError(
                f"sampling.{next(iter(options))} was given without a sampling; name "
                f"one of {', '.join(SAMPLINGS)} with --sampling."
            )
        return {}
    known = {
        name: parameter.default
        for name, parameter in parameters(SAMPLINGS[sampling]).items()
    }
    for name, value in options.items():
        if name not in known:
            where = f"sampling {sampling!r}"
            raise ConfigurationError(unknown_option(where, name, list(known)))
        if type(value) is not int:
            raise ConfigurationError(
                f"sampling {sampling!r}: {name} is {value!r}; expected a whole number."
            )
    chosen = {**known, **options}
    return {k: describe_object(v) for k, v in chosen.items() if v is not None}
