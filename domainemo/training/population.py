"""Several trainings as one program: weights stacked, every step taken by all at once.

A member is trained as it would be alone: with its own random numbers, its own learning
rate and at its own pace, one epoch after the other. Those that are done, or diverge,
leave, and the rest goes on. What a member ends with does not depend on who the others
are, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..core import Batch, Outputs
from ..errors import DomainemoError
from .draws import MemberDraws
from .loop import Loop
from .objective import Objective, Shown

if TYPE_CHECKING:
    from .fit import Fitting

__all__ = ["Member", "NotStackable", "train_together"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class NotStackable(Exception):
    """Why trainings cannot be stacked; each can still be trained alone."""


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
        torch.manual_seed(self.loop.seed)
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
        return self.task.show(here, there, self.task.generator)

    def finish_step(self, losses: dict[str, Tensor]) -> None:
        """Count a step; after an epoch's last, look at what it has left."""
        self.taken.append(losses)
        self.number += 1
        if self.number < len(self.batches):
            return
        try:
            self.loop.finish_epoch(self.taken)
        except DomainemoError as error:
            self.failure = error
        if not self.left:
            self.begin_epoch()


def train_together(members: Sequence[Member]) -> None:
    """Train all members; those that fail have a ``failure`` then.

    Parameters
    ----------
    members : sequence of Member
        Of one architecture, with the same options, and with batches of one shape.

    Raises
    ------
    NotStackable
        If a part cannot be stacked. What was saved in checkpoints is kept.
    """
    for member in members:
        member.loop.load()
    going = [member for member in members if not member.left]
    for member in going:
        member.begin_epoch()
    if not going:
        return
    stack = _Stack(going)
    stack.probe()
    while stack.members:
        stack.step()
        stack.keep([not member.left for member in stack.members])


class _Stack:
    """The weights, buffers and optimiser's state of all members that are left.

    Every member's own modules hold views of it, so that whatever reads or changes one
    of them outside of a step does so here.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        objectives = [member.task.objective for member in members]
        self.trained = [
            n for n, p in objectives[0].named_parameters() if p.requires_grad
        ]
        _check_no_tie(objectives[0])
        every = [_tensors_of(member) for member in members]
        if any(each.keys() != every[0].keys() for each in every):
            raise NotStackable("their networks differ")
        self.every = every
        self.values = {
            name: torch.stack([each[name].detach() for each in every])
            for name in every[0]
        }
        self._share()
        # Of unequal length, they are at different points of training.
        lengths = {(len(m.batches), m.loop.training.epochs) for m in members}
        starts = {m.loop.epoch for m in members}
        self.apart = len(lengths) > 1 or len(starts) > 1

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
        if places:
            self._share()

    def probe(self) -> None:
        """Take a step and forget it, to see whether all parts can be stacked."""
        values = {name: value.detach().clone() for name, value in self.values.items()}
        states = [member.task.generator.get_state() for member in self.members]
        own = [member.generator.get_state() for member in self.members]
        with torch.random.fork_rng(devices=[]):
            try:
                self._losses([*range(len(self.members))])
            except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
                raise NotStackable(_first_line(error)) from error
        with torch.no_grad():
            for name, value in self.values.items():
                value.copy_(values[name])
        for member, state, mine in zip(self.members, states, own, strict=True):
            member.task.generator.set_state(state)
            member.generator.set_state(mine)

    def step(self) -> None:
        """Take the next step of every member."""
        for member in self.members:
            member.task.judge.step(member.task.model, member.progress)
        judged = [member.task.judge.model is not None for member in self.members]
        groups = [
            [place for place, there in enumerate(judged) if there is wanted]
            for wanted in (False, True)
        ]
        parts = [(group, self._losses(group)) for group in groups if group]
        totals = [torch.stack([*losses.values()]).sum(0) for _, losses in parts]
        weights = [self.values[name] for name in self.trained]
        gradients = torch.autograd.grad(
            torch.cat(totals).sum(), weights, allow_unused=True
        )
        self._descend(
            {
                n: g
                for n, g in zip(self.trained, gradients, strict=True)
                if g is not None
            }
        )
        for (group, losses), total in zip(parts, totals, strict=True):
            terms = {**losses, "total": total}
            detached = {name: value.detach().unbind() for name, value in terms.items()}
            for index, place in enumerate(group):
                each = {name: values[index] for name, values in detached.items()}
                self.members[place].finish_step(each)

    def _losses(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Return the loss terms of some members' next step, of shape (members,)."""
        everybody = len(places) == len(self.members) > 1
        shown = [self.members[place].show() for place in places]
        generators = [self.members[place].generator for place in places]
        if len(places) == 1:
            # Alone, its last bits would be others: kernels for one matrix differ.
            places, shown = [*places] * 2, shown * 2
            generators.append(generators[0].clone_state())
        members = [self.members[place] for place in places]
        objective = members[0].task.objective
        names = [n for n in self.values if not n.startswith(_OPTIMISER)]
        values = {
            n: self.values[n] if everybody else self.values[n][list(places)]
            for n in names
        }
        class_weights = torch.stack([member.task.class_weights for member in members])
        device = class_weights.device
        progress: Any = [member.progress for member in members]
        progress = torch.tensor(progress, device=device) if self.apart else progress[0]
        judge, judging = _judges(members)
        buffers = [n for n in names if n not in self.trained]

        def losses(
            values: dict[str, Tensor],
            shown: Shown,
            class_weights: Tensor,
            progress: Any,
            judging: dict[str, Tensor],
            marker: Tensor,
        ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            with MemberDraws(generators, marker):
                seen = _judgement(judge, judging, shown.target)
                arguments = (shown, class_weights, progress, seen)
                found = functional_call(objective, values, arguments, tie_weights=False)
            return found, {name: values[name] for name in buffers}

        together = vmap(
            losses,
            in_dims=(0, 0, 0, 0 if self.apart else None, 0, 0),
            randomness="error",
        )
        marker = torch.zeros(len(members), device=device)
        found, changed = together(
            values, _stacked(shown), class_weights, progress, judging, marker
        )
        self._put(changed, None if everybody else list(places))
        alone = len(set(places)) < len(places)
        return {name: loss[:1] if alone else loss for name, loss in found.items()}

    def _put(self, changed: Mapping[str, Tensor], places: list[int] | None) -> None:
        """Keep what the step made of the buffers."""
        with torch.no_grad():
            for name, new in changed.items():
                old = self.values[name]
                if places is not None:
                    old[places] = new
                elif new.data_ptr() != old.data_ptr():
                    old.copy_(new)

    def _descend(self, gradients: Mapping[str, Tensor]) -> None:
        """Take a step of AdamW (Loshchilov and Hutter, 2019), each member its own."""
        training = self.members[0].task.training
        rates = torch.tensor([m.loop.learning_rate(m.passed) for m in self.members])
        rates = rates.to(next(iter(gradients.values())).device)
        with torch.no_grad():
            if training.clip:
                gradients = _clipped(gradients, training.clip)
            for name, gradient in gradients.items():
                weight, (steps, mean, square) = self.values[name], self._moments(name)
                steps += 1
                mean.lerp_(gradient, 1 - _BETAS[0])
                square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
                rate, counted = _beside(rates, weight), _beside(steps, weight)
                weight.mul_(1 - rate * training.weight_decay)
                spread = (square / (1 - _BETAS[1] ** counted)).sqrt_().add_(_EPSILON)
                weight.sub_(mean / spread * (rate / (1 - _BETAS[0] ** counted)))

    def _moments(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        steps, mean, square = (
            self.values[f"{_OPTIMISER}{key}.{name}"] for key in _STATE
        )
        return steps, mean, square


_OPTIMISER = "optimiser."
_STATE = ("step", "exp_avg", "exp_avg_sq")


def _tensors_of(member: Member) -> dict[str, Tensor]:
    """Return all that a member's training changes, by name."""
    objective, optimiser = member.task.objective, member.loop.optimiser
    found = dict(objective.named_parameters()) | dict(objective.named_buffers())
    for name, weight in objective.named_parameters():
        if not weight.requires_grad:
            continue
        state = optimiser.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        found |= {f"{_OPTIMISER}{key}.{name}": state[key] for key in _STATE}
    return found


def _check_no_tie(objective: Objective) -> None:
    names = [n for n, _ in objective.named_parameters(remove_duplicate=False)]
    if len(names) > len(list(objective.named_parameters())):
        raise NotStackable("two layers of the network share their weights")


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
        labels, domains = (
            torch.stack([getattr(each, name) for each in shown])
            for name in ("labels", "domains")
        )
    except RuntimeError as error:
        raise NotStackable("their batches are of several shapes") from error
    return Shown(source, labels, domains, target, student)


def _judges(members: Sequence[Member]) -> tuple[nn.Module | None, dict[str, Tensor]]:
    """Return a judge of the members' kind, and all judges' values stacked."""
    judges = [member.task.judge.model for member in members]
    if judges[0] is None or not members[0].task.adapter.needs_target:
        return None, {}
    states = [judge.state_dict() for judge in judges if judge is not None]
    return judges[0], {n: torch.stack([s[n] for s in states]) for n in states[0]}


def _judgement(
    judge: nn.Module | None, values: dict[str, Tensor], target: Batch
) -> Outputs | None:
    if judge is None:
        return None
    with torch.no_grad():
        outputs: Outputs = functional_call(judge, values, target)
    return outputs


def _clipped(gradients: Mapping[str, Tensor], most: float) -> dict[str, Tensor]:
    """Return gradients of a norm that is `most` at most, each member's its own."""
    norms = [gradient.flatten(1).norm(dim=1) for gradient in gradients.values()]
    factors = (most / (torch.stack(norms, 1).norm(dim=1) + 1e-6)).clamp(max=1)
    return {name: each * _beside(factors, each) for name, each in gradients.items()}


def _beside(values: Tensor, weight: Tensor) -> Tensor:
    """Return one value a member in the shape of their weights."""
    return values.view(-1, *(1,) * (weight.dim() - 1))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
