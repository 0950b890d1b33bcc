"""Several trainings as one program: weights stacked, every step taken by all at once.

A member is trained as it would be alone: with its own random numbers, its own learning
rate and loss weights, and at its own pace, one epoch after the other. Those that are
done, or diverge, leave, and the rest goes on. What a member ends with does not depend
on who the others are, but for rounding.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import vmap

from ..backbones.products import by_onednn
from ..core import Adapter, Batch
from ..errors import DomainemoError
from ..places import foreseen
from .compiled import Compiled
from .draws import MemberDraws
from .freed import freed_memory_kept
from .functional import OF_EVERY_MODULE, PLAIN, REFUSED, StepOf, first_line, tied
from .loop import Loop, differentiated
from .model import Network
from .objective import Objective, Shown
from .seeds import seed_torch

if TYPE_CHECKING:
    from .fit import Fitting

__all__ = ["Member", "NotStackable", "Population", "train_together"]


_LARGE = 10_000_000
"""Values that a first step keeps from which most stacked products are large."""


class NotStackable(Exception):
    """Why trainings cannot be stacked; each can still be trained alone.

    Parameters
    ----------
    reason : str
    of_adapter : bool
        Whether it lies in the adapter; else whatever else trains on the network and
        these folds cannot either.
    """

    def __init__(self, reason: str, *, of_adapter: bool = False) -> None:
        super().__init__(reason)
        self.of_adapter = of_adapter


class Member:
    """One training of a population.

    Parameters
    ----------
    loop : Loop
        Of a :class:`~domainemo.training.fit.Fitting`, not begun.

    Attributes
    ----------
    failure : DomainemoError or None
        Why it was given up.
    """

    task: Fitting

    def __init__(self, loop: Loop) -> None:
        self.loop, self.task = loop, loop.task  # type: ignore[assignment]
        self.failure: DomainemoError | None = None
        self.generator = torch.Generator(self.task.source.labels.device)
        self.taken: list[dict[str, Tensor]] = []

    @property
    def left(self) -> bool:
        """Whether it takes no further step."""
        return self.failure is not None or self.loop.finished

    def begin_epoch(self) -> None:
        """Draw the order of the next epoch's samples."""
        self.loop.parts.train()
        seed_torch(self.loop.seed)
        self.generator.manual_seed(self.loop.seed)
        self.batches = self.task.batches()
        self.number, self.taken = 0, []

    @property
    def passed(self) -> float:
        """How many epochs are over, of which one may be begun."""
        return self.loop.epoch + self.number / len(self.batches)

    @property
    def progress(self) -> float:
        """The progress of its training, from 0 to 1."""
        return self.passed / self.task.training.epochs

    def show(self) -> Shown:
        """Return what its next step is shown."""
        here, there = self.batches[self.number]
        return self.task.show(here, there, self.progress)

    def finish_step(self, losses: dict[str, Tensor]) -> None:
        """Count a step; after an epoch's last, look at what it has left."""
        self.taken.append(losses)
        self.number += 1
        if self.number < len(self.batches):
            return
        try:
            self.loop.finish_epoch(self.taken)
        except Exception as error:  # whatever it is, the others go on
            self.failure = foreseen(error)
        if not self.left:
            self.begin_epoch()


def train_together(members: Sequence[Member]) -> None:
    """Train all members; those that fail have a ``failure`` then.

    Parameters
    ----------
    members : sequence of Member
        Of one architecture, and with batches of one shape. Their adapters' options are
        the same, or numbers such as loss weights, of which each has its own.

    Raises
    ------
    NotStackable
        If a part cannot be stacked. What was saved in checkpoints is kept.
    """
    for member in members:
        try:
            member.loop.load()
        except Exception as error:
            member.failure = foreseen(error)
    going = [member for member in members if not member.left]
    for member in going:
        member.begin_epoch()
    if not going:
        return
    with warnings.catch_warnings(), freed_memory_kept():
        # Of a few kernels, vmap makes a loop: slower, and right.
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        stack = Population(going)
        stack.probe()
        while stack.members:
            stack.step()
            stack.keep([not member.left for member in stack.members])


class Population:
    """The weights and buffers of all members that are left, stacked.

    Every member's own modules hold views of it, so that whatever reads or changes one
    of them outside of a step, as its optimiser does, does so here.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        objectives = [member.task.objective for member in members]
        self.trained = [
            n for n, p in objectives[0].named_parameters() if p.requires_grad
        ]
        if tied(objectives[0]):
            raise NotStackable("two layers of the network share their weights")
        every = [
            dict(each.named_parameters()) | dict(each.named_buffers())
            for each in objectives
        ]
        shapes = [{name: each[name].shape for name in each} for each in every]
        if any(each != shapes[0] for each in shapes):  # such as a head per domain
            names = {name for each in shapes for name in each}
            differ = [n for n in names if len({each.get(n) for each in shapes}) > 1]
            own = all(name.startswith("adapter.") for name in differ)
            raise NotStackable("their networks differ", of_adapter=own)
        self.every = every
        self.numbers, self.large = _numbers_apart(objectives), False
        wanted = self.members[0].task.training.compile
        self.compiled = Compiled(stacked=True) if wanted else None
        self.begun = len(members)
        self.values = {
            name: torch.stack([each[name].detach() for each in every])
            for name in every[0]
        }
        self._share()

    def _share(self) -> None:
        """Have every member hold views of what is stacked."""
        for place, each in enumerate(self.every):
            for name, tensor in each.items():
                tensor.data = self.values[name].detach()[place]
        for name in self.trained:
            self.values[name].requires_grad_()

    def keep(self, kept: Sequence[bool]) -> None:
        """Let the other members go, with values of their own."""
        if all(kept):
            return
        for left, each in zip(kept, self.every, strict=True):
            for tensor in each.values() if not left else ():
                tensor.data = tensor.data.clone()
        places = [place for place, left in enumerate(kept) if left]
        self.members = [self.members[place] for place in places]
        self.every = [self.every[place] for place in places]
        self.values = {n: v.detach()[places] for n, v in self.values.items()}
        self.numbers = {n: each[places] for n, each in self.numbers.items()}
        if places:
            self._share()

    def probe(self) -> None:
        """Take a step and forget it, to see whether all parts can be stacked.

        And whether its products are large, which another library makes faster.
        """
        values = {name: value.detach().clone() for name, value in self.values.items()}
        states = [member.task.generator.get_state() for member in self.members]
        own = [member.generator.get_state() for member in self.members]
        kept: list[int] = []

        def count(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel())
            return tensor

        counting = saved_tensors_hooks(count, lambda tensor: tensor)
        with torch.random.fork_rng(devices=[]), self._stackable(), counting:
            for group in self._alike():
                _uncompiled(self._next(group))
        self.large = sum(kept) >= _LARGE
        with torch.no_grad():
            for name, value in self.values.items():
                value.copy_(values[name])
        for member, state, mine in zip(self.members, states, own, strict=True):
            member.task.generator.set_state(state)
            member.generator.set_state(mine)

    @contextmanager
    def _stackable(self) -> Iterator[None]:
        """Take what stops a block for a part that cannot be stacked.

        Whatever else it is will stop the training alone as well.
        """
        try:
            yield
        except REFUSED as error:
            own = " and ".join(dict.fromkeys(name for _, name in self.numbers))
            where = f"with a {own} of their own: " if own else ""
            reason = where + first_line(error)
            raise NotStackable(reason, of_adapter=_in_adapter(error)) from error

    def step(self) -> None:
        """Take the next step of every member."""
        for member in self.members:
            member.task.move_judge(member.progress)
        parts = [(group, self._losses(group)) for group in self._alike()]
        self._descend()
        for group, losses in parts:
            total = torch.stack([*losses.values()]).sum(0)
            terms = {**losses, "total": total}
            each_of = {name: value.unbind() for name, value in terms.items()}
            for index, place in enumerate(group):
                each = {name: values[index] for name, values in each_of.items()}
                self.members[place].finish_step(each)

    def _alike(self) -> list[list[int]]:
        """Return the places of those that are shown a target or not, judged or not."""
        groups: dict[tuple[bool, bool], list[int]] = {}
        for place, member in enumerate(self.members):
            shown = member.task.needs_target(member.progress)
            judged = shown and member.task.judge.model is not None
            groups.setdefault((shown, judged), []).append(place)
        return list(groups.values())

    def _losses(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the loss terms of some members' next step, of shape (members,).

        Their gradients are left in what is stacked.
        """
        step, count = self._next(places), len(places)
        # For a few steps of fewer members, a program would not be worth making.
        if self.compiled is not None and count == self.begun > 1:
            taken = self.compiled(step)
            if taken is not None:
                for name, gradient in taken.gradients.items():
                    self.values[name].grad = gradient
                self._put(taken.buffers, places)
                return taken.losses
        with by_onednn() if self.large else nullcontext():
            with self._stackable():
                found, changed = _uncompiled(step)
            losses = {name: loss[:count] for name, loss in found.items()}
            differentiated(losses)
        self._put(changed, places)
        return {name: loss.detach() for name, loss in losses.items()}

    def _next(self, places: Sequence[int]) -> StepOf:
        """Return the next step of some members; of a single one, twice."""
        everybody = len(places) == len(self.members) > 1
        shown = [self.members[place].show() for place in places]
        generators = [self.members[place].generator for place in places]
        if len(places) == 1:
            # Alone, its last bits would be others: kernels for one matrix differ.
            places, shown = [*places] * 2, shown * 2
            generators.append(generators[0].clone_state())
        members = [self.members[place] for place in places]
        values = {
            name: value if everybody else value[list(places)]
            for name, value in self.values.items()
        }
        trained = {name: values.pop(name) for name in self.trained}
        numbers = {name: each[list(places)] for name, each in self.numbers.items()}
        class_weights = torch.stack([member.task.class_weights for member in members])
        # Of unequal length, or resumed, they are at different points of training.
        progress = torch.tensor(
            [each.progress for each in members], device=class_weights.device
        )
        judge, judging = _judges(members) if shown[0].target[0] else (None, {})
        given = values, numbers, _stacked(shown), class_weights, progress, judging
        return StepOf(members[0].task.objective, judge, trained, given, generators)

    def _put(self, changed: Mapping[str, Tensor], places: Sequence[int]) -> None:
        """Keep what the step made of the buffers."""
        with torch.no_grad():
            for name, new in changed.items():
                old = self.values[name]
                if not len(places) == len(old) > 1:
                    old[list(places)] = new[: len(places)]
                elif new.data_ptr() != old.data_ptr():
                    old.copy_(new)

    def _descend(self) -> None:
        """Take a step of every member's optimiser, along its own gradient."""
        gradients = {name: self.values[name].grad for name in self.trained}
        found = {name: each for name, each in gradients.items() if each is not None}
        _clip(list(found.values()), [each.task.training.clip for each in self.members])
        for place, (member, own) in enumerate(
            zip(self.members, self.every, strict=True)
        ):
            for name, gradient in found.items():
                own[name].grad = gradient[place]
            member.loop.descend(member.passed)
            for name in found:
                own[name].grad = None
        for name in found:
            self.values[name].grad = None


def _uncompiled(step: StepOf) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and buffers of a step of all its members."""

    def one(
        marker: Tensor, trained: dict[str, Tensor], given: tuple[Any, ...]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with MemberDraws(step.generators, marker):
            return step.losses(trained, given)

    marker = torch.zeros(len(step.generators), device=step.device)
    return vmap(one, randomness="error")(marker, step.trained, step.given)


def _in_adapter(error: BaseException) -> bool:
    """Return whether an adapter's code, and not the network's, was at work."""
    found, trace = False, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, Adapter | Network):
            found = isinstance(owner, Adapter)
        trace = trace.tb_next
    return found


def _numbers_apart(objectives: Sequence[Objective]) -> dict[tuple[str, str], Tensor]:
    """Return the numbers, such as loss weights, that members have each of their own.

    By the path of their module and their name, one for every member.

    Raises
    ------
    NotStackable
        If their options differ in anything else, or by 0, which may switch a part off.
    """
    found: dict[tuple[str, str], Tensor] = {}
    every = [dict(each.named_modules()) for each in objectives]
    device = next(objectives[0].parameters()).device
    for path, first in every[0].items():
        if path.split(".")[0] == "model":
            continue
        if any(type(each.get(path)) is not type(first) for each in every):
            raise NotStackable("their adapters differ", of_adapter=True)
        for name in vars(first).keys() - OF_EVERY_MODULE:
            values = [getattr(each[path], name) for each in every]
            plain = all(isinstance(each, PLAIN) for each in values)
            if not plain or len(set(values)) == 1:
                continue
            if any(type(each) is not float or each == 0 for each in values):
                raise NotStackable(
                    f"they differ in {name}, and not by numbers above or below 0",
                    of_adapter=True,
                )
            found[path, name] = torch.tensor(values, device=device)
    return found


def _stacked(shown: Sequence[Shown]) -> Shown:
    """Return what several steps are shown with a leading axis."""

    def batches(each: Sequence[Batch]) -> Batch:
        signals, masks = (
            {name: torch.stack([batch[part][name] for batch in each]) for name in first}
            for part, first in enumerate(each[0])
        )
        return signals, masks

    try:
        source, target, student = (
            batches([getattr(each, name) for each in shown])
            for name in ("source", "target", "student")
        )
        labels, domains, trials = (
            torch.stack([getattr(each, name) for each in shown])
            for name in ("labels", "domains", "trials")
        )
        whole = {
            name: torch.stack([each.whole_trials[name] for each in shown])
            for name in shown[0].whole_trials
        }
    except RuntimeError as error:
        raise NotStackable("their batches are of several shapes") from error
    return Shown(source, labels, domains, target, student, trials, whole)


def _judges(members: Sequence[Member]) -> tuple[nn.Module | None, dict[str, Tensor]]:
    """Return a judge of the members' kind, and all judges' values stacked."""
    judges = [member.task.judge.model for member in members]
    if judges[0] is None:
        return None, {}
    states = [judge.state_dict() for judge in judges if judge is not None]
    return judges[0], {n: torch.stack([s[n] for s in states]) for n in states[0]}


def _clip(gradients: Sequence[Tensor], most: Sequence[float]) -> None:
    """Scale a member's gradient to its norm in `most`, if it is larger; none to 0."""
    if not any(most):
        return
    norms = [
        torch.linalg.vector_norm(each, dim=tuple(range(1, each.dim())))
        if each.dim() > 1
        else each.abs()
        for each in gradients
    ]
    norm = torch.stack(norms, 1).norm(dim=1)
    limits = norm.new_tensor([each or math.inf for each in most])
    factors = (limits / (norm + 1e-6)).clamp(max=1)
    for each in gradients:
        each.mul_(factors.view(-1, *(1,) * (each.dim() - 1)))
