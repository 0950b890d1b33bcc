"""A step's losses and gradients, compiled: many operations become a few kernels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils import _pytree as trees

from ..backbones.products import by_onednn, onednn_faster, worthwhile
from ..errors import ConfigurationError, DomainemoWarning
from .draws import AskedDraws, Draw, GivenDraws
from .functional import (
    OF_EVERY_MODULE,
    PLAIN,
    REFUSED,
    StepOf,
    Values,
    first_line,
    tied,
)

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["Compiled", "Taken", "check_compiler"]

_LARGE_SHARE = 1 / 3
"""Share of operations in large products from which on oneDNN was faster for all."""

_MOST_KINDS = 8
"""Programs of one training. Batches of many lengths would compile for ever."""


class _NotCompilable(Exception):
    """Why a step cannot be compiled; it can still be taken without."""


class Taken(NamedTuple):
    """What a step leaves.

    Attributes
    ----------
    losses : dict of str to Tensor
        Every loss term.
    gradients : dict of str to Tensor
        Of their sum, by what they are of; without what has no share in it.
    buffers : dict of str to Tensor
        As the step leaves them.
    """

    losses: Values
    gradients: Values
    buffers: Values


class _Program(NamedTuple):
    """What was compiled, what it draws, and how its results are put together."""

    run: Callable[..., Sequence[Tensor]]
    draws: list[Draw]
    shape: trees.TreeSpec
    large: bool
    held: list[dict[str, Any]]


class Compiled:
    """Computes the losses of steps and their gradients by programs made for them.

    Each is made when a step of its kind is first taken: of other shapes, with or
    without a target or a judge, or after an option of a module has changed. Random
    numbers are drawn beforehand, in the order in which they would be without: a step
    differs by rounding from one that is not compiled, and by nothing else.

    Parameters
    ----------
    stacked : bool
        Whether steps have a leading axis, of the members of a population.

    Attributes
    ----------
    given_up : bool
        Whether a step could not be compiled.
    """

    def __init__(self, *, stacked: bool) -> None:
        self.stacked, self.given_up = stacked, False
        self._programs: dict[Any, _Program] = {}

    def __call__(self, step: StepOf) -> Taken | None:
        """Take a step's losses and gradients.

        Returns
        -------
        Taken or None
            None from when on a step could not be compiled, which is said once: a part
            looks at values, or draws in a way of its own.

        Raises
        ------
        ConfigurationError
            If there is no compiler.
        """
        if self.given_up:
            return None
        flat, shape = trees.tree_flatten((step.trained, step.given))
        flat = [each.detach() for each in flat]
        sizes = tuple((each.shape, each.dtype) for each in flat)
        kind = shape, sizes, _options(step.objective)
        if kind not in self._programs:
            try:
                self._programs[kind] = self._made(step)
            except _NotCompilable as reason:
                self.given_up = True
                _warn(reason)
                return None
        program = self._programs[kind]
        drawn = [self._drawn(draw, step.generators) for draw in program.draws]
        with torch.no_grad(), by_onednn() if program.large else nullcontext():
            found = program.run(*flat, *drawn)
        taken: Taken = trees.tree_unflatten(list(found), program.shape)
        return taken

    def _drawn(self, draw: Draw, generators: Sequence[torch.Generator]) -> Tensor:
        if self.stacked:
            return torch.stack([draw(each) for each in generators])
        return draw(*generators)

    def _made(self, step: StepOf) -> _Program:
        """Trace a step, and have it compiled."""
        # Here, as it imports torch's compiler, as large as all of torch beside it.
        from torch.fx.experimental.proxy_tensor import make_fx

        if tied(step.objective):
            raise _NotCompilable("two layers of the network share their weights")
        if len(self._programs) == _MOST_KINDS:
            raise _NotCompilable(f"its steps are of more than {_MOST_KINDS} kinds")
        options, shapes = _options(step.objective), list[trees.TreeSpec]()
        onednn_faster()  # it multiplies when it is first asked, which is no part of it
        before = _as_it_is(_attributes(step.objective))
        try:
            draws = self._asked(step)
            own = _copies(step.generators)
            drawn = [self._drawn(each, own) for each in draws]
            flat, shape = trees.tree_flatten((step.trained, step.given))

            def taken(*tensors: Tensor) -> list[Tensor]:
                values, theirs = tensors[: len(flat)], tensors[len(flat) :]
                trained, given = trees.tree_unflatten(list(values), shape)
                found, spec = trees.tree_flatten(
                    self._taken(step, trained, given, theirs)
                )
                shapes.append(spec)
                return found

            # Copies, as a step may change buffers.
            products = _Products()
            tracing = make_fx(
                taken, products.counted(), "fake", _allow_non_fake_inputs=True
            )
            traced = tracing(*_copied(flat), *drawn)
        except REFUSED as error:
            raise _NotCompilable(_reason(error)) from error
        if _options(step.objective) != options:
            for module, known in zip(step.objective.modules(), before, strict=True):
                vars(module).update(known)
            raise _NotCompilable("a module changes an attribute of its own in a step")
        _check_draws(traced)
        run = _compile(traced, [*_copied(flat), *drawn])
        large, held = products.mostly_large, _attributes(step.objective)
        return _Program(run, draws, shapes[-1], large, held)

    def _asked(self, step: StepOf) -> list[Draw]:
        """Take a step and forget it, to see what is drawn."""
        own, asked = _copies(step.generators), list[list[Draw]]()

        def one(marker: Tensor, trained: Values, given: Any) -> Values:
            with AskedDraws(own, marker) as draws:
                found, _ = step.losses(trained, given)
            asked.append(draws.asked)
            return found

        flat, shape = trees.tree_flatten((step.trained, step.given))
        trained, given = trees.tree_unflatten(_copied(flat), shape)
        marker = torch.zeros(len(own) if self.stacked else (), device=step.device)
        with torch.random.fork_rng(devices=[]):
            self._together(one)(marker, _wanting(trained), given)
        return asked[-1]

    def _taken(
        self, step: StepOf, trained: Values, given: Any, drawn: Sequence[Tensor]
    ) -> Taken:
        def one(
            trained: Values, given: Any, drawn: Sequence[Tensor]
        ) -> tuple[Values, Values]:
            with GivenDraws(drawn):
                return step.losses(trained, given)

        trained = _wanting(trained)
        found, buffers = self._together(one)(trained, given, drawn)
        total = torch.stack([*found.values()]).sum()
        gradients = torch.autograd.grad(total, [*trained.values()], allow_unused=True)
        with_share = {
            # As its weight is laid out: the optimiser takes both as they lie there.
            name: torch.empty_like(trained[name]).copy_(gradient).detach()
            for name, gradient in zip(trained, gradients, strict=True)
            if gradient is not None
        }
        return Taken(found, with_share, buffers)

    def _together(self, one: Callable[..., Any]) -> Callable[..., Any]:
        return vmap(one, randomness="error") if self.stacked else one


def _warn(reason: _NotCompilable) -> None:
    """Say that steps are taken without, and why."""
    warnings.warn(
        f"The steps cannot be compiled ({reason}), and are taken without "
        f"training.compile: slower, with the same numbers but for rounding.",
        DomainemoWarning,
        stacklevel=4,
    )


def check_compiler() -> None:
    """Refuse to compile where there is nothing to compile by.

    Raises
    ------
    ConfigurationError
    """
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except (InvalidCxxCompiler, RuntimeError) as error:
        raise ConfigurationError(
            "training.compile is true, and there is no C++ compiler here; expected one "
            "that torch can call. Install g++ or clang (on Windows Visual Studio's), "
            "or leave the option out: nothing but speed depends on it."
        ) from error


def _compile(traced: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Have torch make kernels of what was traced, unless it has made them before.

    Trainings of other folds, seeds and candidates take the same steps.
    """
    traced.graph.eliminate_dead_code()
    traced.recompile()
    constants = {
        node.target: getattr(traced, node.target)
        for node in traced.graph.nodes
        if node.op == "get_attr"
    }
    held = [(name, str(each.dtype), each.tolist()) for name, each in constants.items()]
    sizes = [(each.shape, each.dtype, each.stride(), each.device) for each in inputs]
    key = repr((traced.code, held, sizes, torch.get_num_threads()))
    if key in _MADE:
        return _MADE[key]
    check_compiler()
    program: Callable[..., Any] = torch.compile(traced, fullgraph=True, dynamic=False)
    try:
        with torch.no_grad():
            program(*inputs)
    except Exception as error:
        raise _NotCompilable(
            f"{_reason(error)}; if it was stopped while it compiled, delete what torch "
            f"keeps: TORCHINDUCTOR_CACHE_DIR, or torchinductor_ and your name among "
            f"temporary files"
        ) from error
    _MADE[key] = program
    return program


_MADE: dict[str, Callable[..., Any]] = {}
"""What this process has compiled."""


class _Products:
    """Counts the operations of products while a program is traced."""

    def __init__(self) -> None:
        self.all = self.large = 0

    def counted(self) -> dict[Any, Callable[..., Any]]:
        """Return what to call in place of torch's products, which leaves them to it."""
        names = ("mm", "bmm", "addmm", "baddbmm")
        return {getattr(torch.ops.aten, n).default: self._count for n in names}

    def _count(self, *tensors: Tensor, **scaled: Any) -> Any:
        *_, left, right = tensors
        sizes = *left.shape, right.shape[-1]
        self.all += math.prod(sizes)
        self.large += math.prod(sizes) * worthwhile(sizes)
        return NotImplemented

    @property
    def mostly_large(self) -> bool:
        """Whether a program is faster where another library computes its products."""
        return self.large >= _LARGE_SHARE * max(self.all, 1)


def _check_draws(traced: GraphModule) -> None:
    """Refuse random numbers that the program would draw itself: they are others."""
    for node in traced.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags:
            raise _NotCompilable(f"it draws random numbers by {node.target}")


_CONTAINERS = (list, tuple, set, frozenset)
_UNASKED = OF_EVERY_MODULE - {"training"}


def _options(objective: nn.Module) -> tuple[Any, ...]:
    """Return all attributes of modules, and which tensors they hold, to be compared."""
    return tuple(_told(each) for own in _attributes(objective) for each in own.values())


def _attributes(objective: nn.Module) -> list[dict[str, Any]]:
    """Return what modules have beside weights, buffers and other modules."""
    return [
        {
            n: each
            for n, each in vars(module).items()
            if n == "training" or n not in OF_EVERY_MODULE
        }
        for module in objective.modules()
    ]


def _told(value: Any) -> Any:
    """Return what tells a value from others; of an object, which one it is."""
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, _CONTAINERS):
        return type(value), tuple(_told(each) for each in value)
    if isinstance(value, dict):
        return tuple((_told(name), _told(each)) for name, each in value.items())
    return id(value)


def _as_it_is(value: Any) -> Any:
    """Return a value that stays as it is when something is put into it."""
    if type(value) in _CONTAINERS:
        return type(value)(_as_it_is(each) for each in value)
    if type(value) is dict:
        return {name: _as_it_is(each) for name, each in value.items()}
    return value


def _wanting(values: Mapping[str, Tensor]) -> Values:
    """Return values whose gradients can be taken."""
    return {name: value.detach().requires_grad_() for name, value in values.items()}


def _copied(values: Sequence[Tensor]) -> list[Tensor]:
    return [value.detach().clone() for value in values]


def _copies(generators: Sequence[torch.Generator]) -> list[torch.Generator]:
    """Return generators of the same numbers, so that those given go on as they were."""
    return [generator.clone_state() for generator in generators]


def _reason(error: Exception) -> str:
    """Return what stopped a trace, or torch's compiler."""
    if "data-dependent" in str(error):
        return "a part looks at a value to decide what to do"
    return first_line(error)
