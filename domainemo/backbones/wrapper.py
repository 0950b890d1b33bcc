"""Any network as a backbone, unedited: its embeddings are read at named layers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ..core import FUSION, Backbone, Modality, Sampling
from ..errors import ConfigurationError
from ..samplings.sequences import Sequences
from ..samplings.windows import Windows
from .layers import masked_mean, observed

__all__ = [
    "Arrangement",
    "Wrapped",
    "as_sequences",
    "as_signals",
    "as_windows",
    "size_of",
]

Tensors: TypeAlias = Mapping[str, Tensor]

Arrangement: TypeAlias = Callable[
    [Tensors, Tensors], Tensor | tuple[Any, ...] | Mapping[str, Any]
]
"""Turns signals and masks into what a network's ``forward`` takes.

Signals are of shape (batch, time, channels, features) and zero where nothing was
recorded, masks of shape (batch, time). A tuple becomes positional arguments, a mapping
keyword arguments, a tensor the only argument.
"""

_INPUT = "input of "
_PROBED = 3
_NAMED = 30


# -------------------------------------------------------------------- arrangements


def as_windows(signals: Tensors, masks: Tensors) -> tuple[Tensor, ...]:
    """Give a network one tensor of shape (batch, channels, features) per modality.

    Parameters
    ----------
    signals : mapping of str to Tensor of shape (batch, 1, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, 1)

    Raises
    ------
    ConfigurationError
        If there is more than one window.
    """
    length = next(iter(masks.values())).shape[-1]
    if length != 1:
        raise ConfigurationError(
            f"as_windows shows a network single windows, but length={length}; leave "
            f"length at 1, or choose as_sequences or as_signals."
        )
    return tuple(signal.squeeze(1) for signal in signals.values())


def as_sequences(signals: Tensors, masks: Tensors) -> tuple[Tensor, ...]:
    """Give a network one tensor of shape (batch, time, values) per modality.

    The values of a window are its channels one after the other, each with all its
    features.

    Parameters
    ----------
    signals : mapping of str to Tensor of shape (batch, time, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, time)
    """
    return tuple(signal.flatten(2) for signal in signals.values())


def as_signals(signals: Tensors, masks: Tensors) -> tuple[Tensor, ...]:
    """Give a network one tensor of shape (batch, channels, samples) per modality.

    For recordings whose features are the samples of a window: windows that follow one
    another are joined to one signal.

    Parameters
    ----------
    signals : mapping of str to Tensor of shape (batch, time, channels, features)
    masks : mapping of str to bool Tensor of shape (batch, time)
    """
    return tuple(signal.transpose(1, 2).flatten(2) for signal in signals.values())


def size_of(modalities: Mapping[str, Modality], name: str) -> tuple[int, int]:
    """Return how many channels and features a modality has.

    Raises
    ------
    ConfigurationError
        If there is no modality of this name.
    """
    if name not in modalities:
        raise ConfigurationError(
            f"The network reads a modality called {name!r}, but the recordings have "
            f"{', '.join(modalities) or 'none'}."
        )
    return len(modalities[name].channels), len(modalities[name].features)


# ------------------------------------------------------------------------- wrapper


class Wrapped(Backbone):
    """A network that was written for itself, as a backbone of this library.

    The network is neither edited nor copied: forward hooks, which exist during a call
    only, keep what passes named layers, and each becomes the embedding of a branch.
    To register a network, derive a class whose constructor builds it:

    >>> @register
    ... class TwoStreams(Wrapped):
    ...     def __init__(self, modalities, *, width: int = 32):
    ...         network = MyNetwork(*size_of(modalities, "eeg"), width)
    ...         layers = {"eeg": "encoder.norm", "fusion": "input of classifier"}
    ...         super().__init__(modalities, network, branches=layers)
    ...         self.width = width

    A sample is cut into runs of `length` windows. The network sees every run by itself,
    as one entry of its batch, and a branch's embedding is the mean over the runs in
    which its modality was recorded. Thus padding changes nothing, and a network of
    fixed length takes samples of any. A modality that is missing in a window is shown
    to the network as zeros, and its embedding is zero where the whole sample has none.

    While the network is built it sees one batch of noise, to find mistakes before
    training starts. Parameters that no branch depends on, such as those of the
    network's own classifier, are frozen then: nothing could train them.

    Where a network holds batch normalisation, it is trained on the runs with any signal
    alone, so that padding stays out of the statistics; the number of runs then differs
    from batch to batch, and training cannot run under ``torch.func.vmap``, which batch
    normalisation refuses anyhow. Fewer than two runs leave the statistics alone.

    Parameters
    ----------
    modalities : mapping of str to Modality
    network : Module
        Its parameters keep their names, after the prefix ``network.``.
    branches : mapping of str to str
        For each modality and for ``"fusion"`` the name of a layer, as
        ``network.named_modules()`` has it, whose output is the embedding; ``"input of
        NAME"`` for what enters a layer; ``""`` for the network's own output. Where
        there is a single modality, its layer may be the fusion's.
    arrange : callable
        What the network's ``forward`` takes, made of signals and masks: `as_windows`,
        `as_sequences`, `as_signals`, or a function of your own (`Arrangement`).
        Modalities come in the order of `branches`.
    length : int
        Windows that the network sees at once.
    sampling : Sampling, optional
        By default single windows, or sequences of `length` where that is above 1.

    Raises
    ------
    ConfigurationError
        If the branches are not the modalities and ``"fusion"``; if a layer does not
        exist, or is called never or several times in one call, or returns anything but
        a tensor whose first axis is the batch; if a modality's layer sees another
        modality; if the network fails, or normalises by the statistics of the batch
        even when it predicts.
    """

    by_position = True

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        network: nn.Module,
        *,
        branches: Mapping[str, str],
        arrange: Arrangement = as_windows,
        length: int = 1,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        if length < 1:
            raise ConfigurationError(
                f"{type(self).__name__}: length={length}; a network sees at least 1 "
                f"window at once."
            )
        self.network, self.arrange, self.length = network, arrange, length
        self.branches = dict(branches)
        self.sampling = sampling or (
            Windows() if length == 1 else Sequences(length=length)
        )
        self._check_branches(modalities)
        self._probe(modalities)

    def forward(self, signals: Tensors, masks: Tensors) -> Mapping[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, time, channels, features)
        masks : mapping of str to bool Tensor of shape (batch, time)

        Returns
        -------
        mapping of str to Tensor of shape (batch, dim)
            A layer's output with all axes after the first made one.

        Raises
        ------
        ConfigurationError
            If a layer does not give one tensor for every run of the batch.
        """
        runs, recorded = self._cut(signals, masks)
        there = {name: mask.any(-1) for name, mask in recorded.items()}
        there[FUSION] = torch.stack(list(there.values())).any(0)
        # Also where these alone are in training mode, as test-time adaptation has it.
        if any(True for _ in _norms(self.network)):
            values = self._read_recorded(runs, recorded, there[FUSION])
        else:
            values = self._read(runs, recorded)
        batch = next(iter(masks.values())).shape[0]
        return {
            branch: masked_mean(
                values[branch].reshape(batch, -1, values[branch].shape[-1]),
                there[branch].reshape(batch, -1),
            )
            for branch in self.branches
        }

    def _cut(self, signals: Tensors, masks: Tensors) -> tuple[Tensors, Tensors]:
        """Return each modality's runs of windows, and which windows were recorded.

        Of shape (runs, length, channels, features) and (runs, length); padded at the
        end of a sample where its last run is not full.
        """
        ours = {name: masks[name] for name in self.branches if name != FUSION}
        runs, recorded = {}, {}
        for signal, (name, mask) in zip(
            observed(signals, ours), ours.items(), strict=True
        ):
            short = -mask.shape[-1] % self.length
            signal = nn.functional.pad(signal, (0, 0, 0, 0, 0, short))
            mask = nn.functional.pad(mask, (0, short))
            runs[name] = signal.reshape(-1, self.length, *signal.shape[-2:])
            recorded[name] = mask.reshape(-1, self.length)
        return runs, recorded

    def _read_recorded(
        self, runs: Tensors, recorded: Tensors, there: Tensor
    ) -> dict[str, Tensor]:
        """Return what `_read` does, of the runs with any signal; zeros elsewhere."""
        rows = there.nonzero().squeeze(-1)
        if len(rows) < 2:
            with _running_statistics(self.network):
                return self._read(runs, recorded)
        values = self._read(
            {name: signal[rows] for name, signal in runs.items()},
            {name: mask[rows] for name, mask in recorded.items()},
        )
        return {
            branch: value.new_zeros(len(there), value.shape[-1]).index_copy(
                0, rows, value
            )
            for branch, value in values.items()
        }

    def _read(self, runs: Tensors, recorded: Tensors) -> dict[str, Tensor]:
        """Call the network; return what passed each branch's layer, (runs, dim)."""
        kept: dict[str, list[Any]] = {branch: [] for branch in self.branches}
        # Hooks last for this call only: copies of the network, and calls that fail,
        # leave none behind.
        with ExitStack() as hooks:
            for branch, layer in self.branches.items():
                handle = _watch(self.network, layer, kept[branch])
                hooks.callback(handle.remove)
            arranged = self.arrange(runs, recorded)
            if isinstance(arranged, Mapping):
                self.network(**arranged)
            elif isinstance(arranged, tuple):
                self.network(*arranged)
            else:
                self.network(arranged)
        count = next(iter(recorded.values())).shape[0]
        return {
            branch: self._embedding(branch, passed, count)
            for branch, passed in kept.items()
        }

    def _embedding(self, branch: str, passed: list[Any], count: int) -> Tensor:
        """Return the one tensor that passed a layer, with two axes."""
        where = (
            f"{type(self).__name__}: the layer {self.branches[branch]!r} of "
            f"{type(self.network).__name__}, read as {branch!r},"
        )
        if not passed:
            raise ConfigurationError(
                f"{where} was not called. A container is not called itself, nor is a "
                f"layer whose weights are used in another way; read one that is, such "
                f"as {_names(self.network, self.branches[branch])}."
            )
        if len(passed) > 1:
            raise ConfigurationError(
                f"{where} was called {len(passed)} times for one batch; read a layer "
                f"that is called once."
            )
        (value,) = passed
        if not isinstance(value, Tensor) or not value.is_floating_point():
            found = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ConfigurationError(
                f"{where} gave {found}; expected one tensor of floating-point "
                f"numbers. Read a layer inside it, or 'input of' the layer after it."
            )
        if value.ndim == 0 or value.shape[0] != count:
            raise ConfigurationError(
                f"{where} gave the shape {tuple(value.shape)} for a batch of {count}; "
                f"expected the batch as the first axis. Read a layer before or after "
                f"the axes are moved."
            )
        return value.reshape(count, -1)

    # ------------------------------------------------------------ checks, when built

    def _check_branches(self, modalities: Mapping[str, Modality]) -> None:
        mine = type(self).__name__
        if set(self.branches) != {*modalities, FUSION} or not modalities:
            raise ConfigurationError(
                f"{mine} reads the branches {', '.join(self.branches) or 'none'}; the "
                f"recordings have {', '.join(modalities) or 'no modality'}. Expected "
                f"one layer for each modality and one for 'fusion'; --modalities "
                f"chooses among the recorded ones."
            )
        for branch, layer in self.branches.items():
            shared = [b for b, other in self.branches.items() if other == layer]
            if len(shared) > 1 and len(modalities) > 1:
                raise ConfigurationError(
                    f"{mine} reads {' and '.join(map(repr, shared))} at one layer, "
                    f"{layer!r}; expected a layer of its own for each, before and "
                    f"after the modalities meet."
                )
            try:
                self.network.get_submodule(layer.removeprefix(_INPUT))
            except AttributeError:
                raise ConfigurationError(
                    f"{mine} reads {branch!r} at {layer!r}, but "
                    f"{type(self.network).__name__} has no such layer; the nearest "
                    f"are {_names(self.network, layer)}."
                ) from None

    def _probe(self, modalities: Mapping[str, Modality]) -> None:
        """Call the network once on noise; freeze what no branch depends on."""
        generator = torch.Generator().manual_seed(0)
        runs = {
            name: torch.randn(
                _PROBED, self.length, *size_of(modalities, name), generator=generator
            ).requires_grad_()
            for name in self.branches
            if name != FUSION
        }
        recorded = {n: torch.ones(_PROBED, self.length).bool() for n in runs}
        training = self.network.training
        self.network.eval()
        try:
            with torch.enable_grad(), torch.random.fork_rng(devices=()):
                values = self._read(runs, recorded)
        except ConfigurationError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{n} {tuple(s.shape)}" for n, s in runs.items())
            raise ConfigurationError(
                f"{type(self).__name__}: {type(self.network).__name__} failed on "
                f"signals of shape (batch, time, channels, features) = {shapes}, "
                f"arranged by {getattr(self.arrange, '__name__', self.arrange)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        self.network.train(training)
        self._check_what_a_layer_sees(runs, values)
        self._check_statistics()
        self._freeze_unused(values)

    def _check_what_a_layer_sees(self, runs: Tensors, values: Tensors) -> None:
        for branch, value in values.items():
            if branch == FUSION or not value.requires_grad:
                continue
            others = [name for name in runs if name != branch]
            for other in others:
                if _depends(value, [runs[other]])[0]:
                    raise ConfigurationError(
                        f"{type(self).__name__}: the layer {self.branches[branch]!r}, "
                        f"read as {branch!r}, also sees {other!r}; expected a layer "
                        f"that sees {branch!r} alone, before the modalities meet."
                    )

    def _check_statistics(self) -> None:
        for name, layer in self.network.named_modules():
            if isinstance(layer, _BatchNorm) and layer.running_mean is None:
                raise ConfigurationError(
                    f"{type(self).__name__}: the layer {name!r} has "
                    f"track_running_stats=False, so that a prediction would depend on "
                    f"what else is in the batch; set it to True."
                )

    def _freeze_unused(self, values: Tensors) -> None:
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        total = torch.stack([value.sum() for value in values.values()]).sum()
        for parameter, used in zip(
            parameters, _depends(total, parameters), strict=True
        ):
            parameter.requires_grad_(used)


def _watch(network: nn.Module, layer: str, kept: list[Any]) -> RemovableHandle:
    """Append to `kept` whatever passes a layer, until the handle is removed."""

    # A copy: activations that work in place may overwrite the layer's own output.
    def keep(value: Any) -> None:
        kept.append(value.clone() if isinstance(value, Tensor) else value)

    def entering(
        module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> None:
        keep(next(iter((*arguments, *named.values())), None))

    def leaving(module: nn.Module, arguments: Any, output: Any) -> None:
        keep(output)

    watched = network.get_submodule(layer.removeprefix(_INPUT))
    if layer.startswith(_INPUT):
        return watched.register_forward_pre_hook(entering, with_kwargs=True)
    return watched.register_forward_hook(leaving)


def _depends(value: Tensor, leaves: list[Any]) -> list[bool]:
    """Return for every leaf whether `value` was computed from it."""
    if not value.requires_grad or not leaves:
        return [False for _ in leaves]
    gradients = torch.autograd.grad(
        value.sum(), leaves, allow_unused=True, retain_graph=True
    )
    return [gradient is not None for gradient in gradients]


def _names(network: nn.Module, layer: str) -> str:
    """Return the names of a network's layers, those like `layer` first."""
    known = [name for name, _ in network.named_modules() if name]
    wanted = layer.removeprefix(_INPUT)
    near = difflib.get_close_matches(wanted, known, n=5, cutoff=0.4)
    inside = [name for name in known if wanted and name.startswith(f"{wanted}.")]
    ordered = list(dict.fromkeys([*inside[:5], *near, *known]))
    more = f" and {len(ordered) - _NAMED} more" if len(ordered) > _NAMED else ""
    return ", ".join(map(repr, ordered[:_NAMED])) + more


def _norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers that would take statistics from the batch now."""
    for layer in network.modules():
        if isinstance(layer, _BatchNorm) and layer.training:
            yield layer


@contextmanager
def _running_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation use what it knows, and learn nothing, in a block."""
    norms = list(_norms(network))
    for layer in norms:
        layer.eval()
    try:
        yield
    finally:
        for layer in norms:
            layer.train()
