"""The checks of a backbone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..errors import ConfigurationError, DataError
from ..training.model import Network
from .batches import CLASSES, Tensors
from .requirements import (
    Check,
    Sensors,
    Suite,
    drawn_options,
    require,
    require_equal,
    require_options,
)

__all__ = ["BACKBONE", "SENSORS"]

_ELECTRODES = ("Fp1", "AF3", "F7", "Fz", "T7", "C3", "Cz", "P4", "O1", "Oz", "O2")


def _sensor(kind: str, channels: Sequence[str] | int, features: int) -> Modality:
    if isinstance(channels, int):
        channels = [f"{kind} {number}" for number in range(channels)]
    return Modality(tuple(channels), tuple(f"f{i}" for i in range(features)), kind)


SENSORS: tuple[Sensors, ...] = (
    {"eeg": _sensor("eeg", _ELECTRODES, 5), "eye": _sensor("eye", 7, 1)},
    {"eeg": _sensor("eeg", _ELECTRODES[3:9], 4), "gsr": _sensor("physiology", 2, 3)},
    {"eeg": _sensor("eeg", _ELECTRODES, 5)},
    {
        "eeg": _sensor("eeg", _ELECTRODES, 5),
        "eye": _sensor("eye", 3, 2),
        "ecg": _sensor("physiology", 2, 1),
    },
    {
        "eeg": _sensor("eeg", _ELECTRODES[2:6], 1),
        "eye": _sensor("eye", 1, 1),
        "ecg": _sensor("physiology", 2, 1),
        "gsr": _sensor("physiology", 1, 2),
        "emg": _sensor("physiology", 3, 4),
    },
)


def _backbones(check: Check) -> Iterator[tuple[Backbone, Sensors]]:
    """Yield the backbone built for every set of sensors that it accepts."""
    refusals = []
    for sensors in check.sensors:
        try:
            built = check.build(sensors)
        except (ConfigurationError, DataError) as error:
            refusals.append(str(error))
            continue
        yield built, sensors
    require(
        len(refusals) < len(check.sensors),
        f"every set of sensors refused: {' '.join(refusals)}",
    )


Batch = tuple[Tensors, Tensors]


def _signals(sensors: Sensors, *, batch: int = 4, time: int = 5) -> Batch:
    """Return signals and masks: unlike lengths, one gap; the first sample is whole."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(time - number, 1) for number in range(batch)])
    signals, masks = {}, {}
    for number, (name, sensor) in enumerate(sensors.items()):
        shape = (batch, time, len(sensor.channels), len(sensor.features))
        mask = torch.arange(time) < lengths[:, None]
        if batch > 1 and time > 2:
            mask[1, number % (time - 1)] = False
        masks[name] = mask
        signals[name] = torch.randn(shape, generator=generator)
        signals[name] *= mask[..., None, None]
    return signals, masks


def _evaluated(backbone: Backbone, batch: Batch) -> Mapping[str, Tensor]:
    backbone.eval()
    with torch.no_grad():
        embeddings: Mapping[str, Tensor] = backbone(*batch)
    return embeddings


def _backbone_options(check: Check) -> None:
    """Require the modalities first, then options with defaults; a sampling."""
    require_options(check.part, required=1)
    for backbone, _ in _backbones(check):
        sampling = getattr(backbone, "sampling", None)
        require(
            isinstance(sampling, Sampling),
            f"the attribute 'sampling' is {sampling!r}, which is no Sampling",
        )


def _backbone_embeddings(check: Check) -> None:
    """Require a finite embedding, and a classifier, per modality and fusion."""
    for backbone, sensors in _backbones(check):
        for time in (1, 6):
            embeddings = _evaluated(backbone, _signals(sensors, time=time))
            require(
                set(embeddings) == {*sensors, FUSION},
                f"the branches {', '.join(embeddings)} for {', '.join(sensors)}",
            )
            for branch, embedding in embeddings.items():
                require(
                    embedding.ndim == 2 and len(embedding) == 4,
                    f"an embedding {branch!r} of shape {tuple(embedding.shape)}",
                )
                require(
                    bool(embedding.isfinite().all()),
                    f"an embedding {branch!r} that is not finite",
                )
        model = Network(backbone, sensors, CLASSES).eval()
        for branch, logits in model(*_signals(sensors)).logits.items():
            require(
                logits.shape == (4, CLASSES),
                f"logits of shape {tuple(logits.shape)} on the branch {branch!r}",
            )


def _padded(batch: Batch) -> Batch:
    """Return a batch with three windows of padding more."""
    signals, masks = batch
    pad = nn.functional.pad
    longer = {name: pad(s, (0, 0, 0, 0, 0, 3)) for name, s in signals.items()}
    return longer, {name: pad(m, (0, 3)) for name, m in masks.items()}


def _backbone_views(check: Check) -> None:
    """Require finite views for pre-training, each of one modality, padded or not."""
    for backbone, sensors in _backbones(check):
        batch = _signals(sensors)
        backbone.eval()
        with torch.no_grad():
            views, padded = backbone.views(*batch), backbone.views(*_padded(batch))
        for name, view in views.items():
            require(
                name.partition("/")[0] in sensors,
                f"a view {name!r} for {', '.join(sensors)}; expected MODALITY or "
                f"MODALITY/WAY",
            )
            require(
                view.ndim == 2 and len(view) == 4 and bool(view.isfinite().all()),
                f"a view {name!r} of shape {tuple(view.shape)}, or not finite",
            )
        require(bool(views), "no view at all")
        require_equal(views, padded, tolerance=1e-5, where="with more padding")


def _backbone_padding(check: Check) -> None:
    """Require the same embeddings with more padding."""
    for backbone, sensors in _backbones(check):
        signals, masks = _signals(sensors)
        longer, padded = _padded((signals, masks))
        require_equal(
            _evaluated(backbone, (signals, masks)),
            _evaluated(backbone, (longer, padded)),
            tolerance=1e-6,
            absolute=1e-6,
            where="with more padding",
        )


def _backbone_batch(check: Check) -> None:
    """Require the same embedding of a sample whatever else is in its batch."""
    for backbone, sensors in _backbones(check):
        # In double precision, where rounding cannot pass for a leak, nor a leak for it.
        backbone.double()
        single, masks = _signals(sensors)
        signals = {name: signal.double() for name, signal in single.items()}
        together = _evaluated(backbone, (signals, masks))
        for number in range(4):
            one = slice(number, number + 1)
            alone = (
                {name: signal[one] for name, signal in signals.items()},
                {name: mask[one] for name, mask in masks.items()},
            )
            require_equal(
                {name: value[one] for name, value in together.items()},
                _evaluated(backbone, alone),
                tolerance=1e-6,
                absolute=1e-6,
                where="alone in the batch",
            )


def _backbone_permutation(check: Check) -> None:
    """Require the same embeddings of channels in another order, with their names."""
    for backbone, sensors in _backbones(check):
        if backbone.by_position:
            continue
        turned = {
            name: replace(sensor, channels=sensor.channels[::-1])
            for name, sensor in sensors.items()
        }
        twin = check.build(turned, seed=1)
        twin.load_state_dict(backbone.state_dict())
        signals, masks = _signals(sensors)
        flipped = {name: signal.flip(-2) for name, signal in signals.items()}
        require_equal(
            _evaluated(backbone, (signals, masks)),
            _evaluated(twin, (flipped, masks)),
            tolerance=1e-6,
            absolute=1e-6,
            where="with the channels in another order (a backbone whose weights go "
            "by place says by_position = True)",
        )


def _backbone_missing(check: Check) -> None:
    """Require finite embeddings and gradients with any modality missing, or all."""
    for backbone, sensors in _backbones(check):
        for lost in (*([name] for name in sensors), list(sensors)):
            signals, masks = _signals(sensors)
            for name in lost:
                signals[name] = torch.zeros_like(signals[name])
                masks[name] = torch.zeros_like(masks[name])
            backbone.train().zero_grad()
            embeddings = backbone(signals, masks)
            total = torch.stack([e.square().sum() for e in embeddings.values()]).sum()
            where = f"without {', '.join(lost)}"
            require(bool(total.isfinite()), f"embeddings that are not finite {where}")
            total.backward()  # type: ignore[no-untyped-call]
            for path, parameter in backbone.named_parameters():
                gradient = parameter.grad
                require(
                    gradient is None or bool(gradient.isfinite().all()),
                    f"a gradient of {path} that is not finite {where}",
                )


def _backbone_gradients(check: Check) -> None:
    """Require a gradient of the embeddings at every parameter."""
    for backbone, sensors in _backbones(check):
        embeddings = backbone.train()(*_signals(sensors, batch=8))
        total = torch.stack([e.square().sum() for e in embeddings.values()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        for path, parameter in backbone.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.any())
            require(
                reached or not parameter.requires_grad,
                f"no gradient that reaches {path}",
            )


def _backbone_deterministic(check: Check) -> None:
    """Require the same embeddings of the same batch, bit for bit."""
    for backbone, sensors in _backbones(check):
        batch = _signals(sensors)
        twin = check.build(sensors)
        for other, where in ((backbone, "the second time"), (twin, "of the same seed")):
            require_equal(
                _evaluated(backbone, batch),
                _evaluated(other, batch),
                tolerance=0.0,
                where=where,
            )


def _backbone_state(check: Check) -> None:
    """Require the same embeddings from weights that safetensors wrote and read."""
    from safetensors.torch import load, save

    for backbone, sensors in _backbones(check):
        other = check.build(sensors, seed=1)
        state = {name: v.contiguous() for name, v in backbone.state_dict().items()}
        other.load_state_dict(load(save(state)))
        batch = _signals(sensors)
        require_equal(
            _evaluated(backbone, batch),
            _evaluated(other, batch),
            tolerance=0.0,
            where="from the loaded weights",
        )


def _backbone_space(check: Check) -> None:
    """Require a search space of options that the constructor accepts."""
    _, sensors = next(_backbones(check))
    for options in drawn_options(check):
        drawn = replace(check, options={**check.options, **options})
        _evaluated(drawn.build(sensors), _signals(sensors))


BACKBONE: Suite = {
    "options": _backbone_options,
    "embeddings": _backbone_embeddings,
    "padding": _backbone_padding,
    "views": _backbone_views,
    "batch_composition": _backbone_batch,
    "permutation": _backbone_permutation,
    "missing_modality": _backbone_missing,
    "gradients": _backbone_gradients,
    "deterministic": _backbone_deterministic,
    "state": _backbone_state,
    "space": _backbone_space,
}
