"""Fitting: a network, an adapter, a labelled source, an unlabelled target."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..core import FUSION, Adapter, Batch, Outputs, Source, Target, Validator
from ..errors import ConfigurationError, DomainemoWarning, RunError
from ..places import called, contract_error, where
from ..statistics.temperature import best_temperature
from ..statistics.ties import reaches, tied
from ..validators.comparing import comparison
from ..validators.joined import asked_once
from ..validators.shared import balanced_accuracy
from .batches import LabelledSamples, Samples, epoch_batches
from .compiled import Compiled
from .dropout import drop_modalities
from .functional import Numbers, StepOf, Values
from .judge import Judge
from .loop import Loop, Step, Task, descend, differentiated
from .mixing import mix
from .model import Network, load_state, predicted, state_of
from .objective import Objective, Shown
from .screened import find_screen, learning_screens, screen_target
from .seeds import default_generator, seed_torch
from .settings import Training
from .whole_trials import of_whole_trials

__all__ = [
    "Fitted",
    "Fitting",
    "Verdict",
    "no_target",
    "predict",
    "scores",
    "settle",
    "temperature_of",
]

_EVALUATION_BATCH = 256


@dataclass
class Fitted:
    """What training left behind, apart from the weights in the model itself.

    Attributes
    ----------
    epoch : int
        The epoch whose weights were kept, counted from 1.
    score : float
        The validator's score of that epoch.
    history : list of dict
        Per epoch the mean of every loss term, the validator's ``score`` and, where
        source domains are held out, the balanced accuracy on them, ``held_out``.
    trace : list of ndarray of shape (samples, classes)
        Probabilities of the traced samples after every epoch.
    screened : list of dict of str to ndarray of shape (target samples,)
        What the adapter's screen, where it has one, believes of the target after every
        epoch, see :func:`~domainemo.training.screened.screen_target`.
    evidence : list of float
        Of that epoch, where the validator chooses by comparing several.
    seconds : float
        What the validator took, over all epochs, with whatever it had run through the
        network.
    """

    epoch: int = 0
    score: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    screened: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)
    evidence: list[float] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What a validator says of a trained network.

    Attributes
    ----------
    score : float or None
        None where it cannot tell.
    evidence : list of float or None
        What it compares networks by, if it does; None where it cannot tell.
    seconds : float
        What it took, without what was run through the network for all of them.
    """

    score: float | None
    evidence: list[float] | None
    seconds: float


def no_target() -> ConfigurationError:
    """Return what is said where an epoch passes a target that is not there."""
    return ConfigurationError(
        "training.epoch is 'target', and here is no target to pass; expected 'source', "
        "or a number of steps."
    )


def predict(
    model: Network, adapter: Adapter, samples: Samples, temperature: float = 1.0
) -> NDArray[np.float32]:
    """Return the class probabilities that are predicted; shape (samples, classes).

    Parameters
    ----------
    model, adapter
        Trained.
    samples : Samples
    temperature : float
        What the logits are divided by.

    Raises
    ------
    RunError
        If one of them is not finite: argmax would make a class of it.
    """
    outputs = predicted(adapter, _evaluate(model, samples))
    probabilities = (outputs.logits[FUSION] / temperature).softmax(-1)
    wrong = int((~probabilities.isfinite()).any(-1).sum())
    if wrong:
        raise RunError(
            f"The network's output is not finite for {wrong} of {len(samples)} "
            f"samples: nothing can be predicted for them. Look for values beyond "
            f"reason in the recordings, with `domainemo data check`, or train with a "
            f"lower training.learning_rate."
        )
    return probabilities.cpu().numpy()


def temperature_of(
    model: Network, adapter: Adapter, held_out: LabelledSamples
) -> float:
    """Return the temperature that fits the predictions for held-out source domains.

    Parameters
    ----------
    model, adapter
        Trained.
    held_out : LabelledSamples
        Of people who did not train.
    """
    shown = _shown(model, adapter, held_out)
    logits = shown.outputs.logits[FUSION].cpu().numpy()
    return best_temperature(logits, shown.labels.cpu().numpy())


def settle(
    model: Network,
    adapter: Adapter,
    target: Samples,
    *,
    training: Training,
    seed: int,
    predicting: Adapter | None = None,
) -> None:
    """Let an adapter change a trained network by the target alone, if it does so.

    Parameters
    ----------
    model : Network
        Changed in place.
    adapter : Adapter
    target : Samples
        Unlabelled.
    training : Training
        Of which the batch size counts.
    seed : int
        For the order of the samples, and whatever the adapter draws.
    predicting : Adapter, optional
        What shapes the prediction; by default the adapter itself.

    Raises
    ------
    RunError
        If a weight stops being finite.

    Warns
    -----
    DomainemoWarning
        If the prediction is made in another way, and nothing of it has changed.
    """
    if not adapter.settles or not len(target):
        return
    shaping = predicting or adapter
    before = predict(model, shaping, target) if shaping.shapes_prediction else None
    batches = _in_random_order(target, training.batch_size, seed)
    seed_torch(seed)
    model.eval()
    adapter.settle(model, batches, descend)
    model.eval()
    values = dict(model.named_parameters()) | dict(model.named_buffers())
    bad = [n for n, v in values.items() if v.is_floating_point() and not _finite(v)]
    if bad:
        raise RunError(
            f"{type(adapter).__name__} left {len(bad)} of the network's weights, such "
            f"as {bad[0]}, that are not finite. Lower its learning rate, if it has "
            f"one, or leave it out."
        )
    if before is not None and np.array_equal(before, predict(model, shaping, target)):
        warnings.warn(
            f"{type(adapter).__name__} changed nothing of what is predicted, as "
            f"{type(shaping).__name__} predicts in its own way. Leave either out.",
            DomainemoWarning,
            stacklevel=2,
        )


def _in_random_order(samples: Samples, size: int, seed: int) -> list[Batch]:
    """Return all samples in batches, of which none is a single one if it can be."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(samples), generator=generator)
    chunks = [*torch.split(order.to(samples.rows.device), size)]
    if len(chunks) > 1 and len(chunks[-1]) == 1:  # alone, it would have no variance
        chunks[-2:] = [torch.cat(chunks[-2:])]
    return [samples.batch(chunk) for chunk in chunks]


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())


def scores(
    model: Network,
    adapter: Adapter,
    source: LabelledSamples,
    held_out: LabelledSamples | None,
    target: Samples,
    validators: Mapping[str, Validator],
) -> dict[str, Verdict]:
    """Return what validators make of a trained network.

    Parameters
    ----------
    model, adapter
        Trained.
    source : LabelledSamples
        What they were trained on.
    held_out : LabelledSamples or None
        Source domains that they were not; without, some validators cannot tell.
    target : Samples
        Unlabelled.
    validators : mapping of str to Validator
    """
    shown = _asked(model, adapter, target, _seen(model, target, 1.0)[0], None)
    wanted = any(validator.needs_training for validator in validators.values())
    trained = _shown(model, adapter, source) if wanted else None
    held = None if held_out is None else _shown(model, adapter, held_out)
    mixed: dict[float, Outputs] = {}
    found = {}
    for name, validator in validators.items():
        if validator.held_out and held is None:
            found[name] = Verdict(None, None, 0.0)
            continue
        share = validator.mixes
        if share is not None and share not in mixed:
            mixed[share] = _mixed(model, adapter, target, share)
        found[name] = _verdict(
            validator,
            trained if validator.needs_training else None,
            held if validator.held_out else None,
            shown if share is None else replace(shown, mixed=mixed[share]),
        )
    return found


def _verdict(
    validator: Validator,
    trained: Source | None,
    held_out: Source | None,
    target: Target,
) -> Verdict:
    """Return what one validator makes of what it asked for."""
    began = time.monotonic()
    evidence = None
    with asked_once():
        score = _score(validator, trained, held_out, target)["score"]
        if not math.isfinite(score):
            return Verdict(None, None, time.monotonic() - began)
        if validator.compares:
            evidence = _evidence(validator, trained, held_out, target)
    return Verdict(score, evidence, time.monotonic() - began)


class Fitting(Task):
    """Two losses, the classification's and the adapter's; the best epoch is kept.

    Parameters
    ----------
    model, adapter
        Trained together; both on one device, the adapter prepared for the model.
    source : LabelledSamples
    target : Samples
        Unlabelled; none, where the adapter needs no target.
    validator : Validator
        The epoch of its highest score is kept, the later one where two are equal. What
        it is handed, and every score, is of the adapter's prediction. Of one that
        compares, the weights of all epochs are kept until the last is over.
    held_out : LabelledSamples or None
        Source domains kept from training, where the validator asks for them.
    training : Training
    traced : Samples or None
        Record the predictions of these after every epoch.

    Raises
    ------
    ConfigurationError
        If an epoch is to be a pass over the target, and there is none; or an adapter
        asks for the judge's opinion of trials, and for no judge.
    """

    name = "Training"

    def __init__(
        self,
        model: Network,
        adapter: Adapter,
        source: LabelledSamples,
        target: Samples,
        *,
        validator: Validator,
        held_out: LabelledSamples | None,
        training: Training,
        traced: Samples | None,
    ) -> None:
        super().__init__(model, adapter, training)
        if training.freeze_heads:
            model.heads.requires_grad_(False)
        self.model, self.adapter = model, adapter
        self.objective = Objective(
            model, adapter, training.label_smoothing, training.branch_share
        )
        self.compiled = Compiled(stacked=False) if training.compile else None
        self.source, self.target = source, target
        if training.epoch == "target" and not len(target):
            raise no_target()
        self.validator, self.held_out, self.traced = validator, held_out, traced
        self.groups = _groups(source, training)
        self.class_weights = _class_weights(model, source.labels, training, self.groups)
        self.needs_target_from = adapter.begins if adapter.needs_target else math.inf
        self.judge = Judge(adapter.judged_from, adapter.judge_momentum)
        if adapter.needs_whole_trials and adapter.judged_from is None:
            raise ConfigurationError(
                f"{type(adapter).__name__} says needs_whole_trials, and no "
                f"judged_from, so that nobody would ever judge trials; expected the "
                f"progress of training, from 0 to 1, at which the judge is set aside. "
                f"Set it in {where(adapter, '__init__')}."
            )
        self.whole_trials: dict[str, Tensor] = {}
        self.screen, self.learning = find_screen(adapter), learning_screens(adapter)
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}
        self.compared: list[tuple[list[float], dict[str, Tensor]]] = []

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Return the samples of every step of an epoch."""
        self.generator = torch.Generator().manual_seed(torch.initial_seed())
        sizes = len(self.source), len(self.target), self.training.batch_size
        drawn = epoch_batches(*sizes, self.generator, self.groups, self.training.epoch)
        return list(drawn)

    def steps(self, epoch: int) -> Sequence[Step]:
        """Return an epoch's steps, see ``training.epoch``."""
        return [
            partial(self.step, here=here, there=there) for here, there in self.batches()
        ]

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Score the epoch, and keep its weights unless an earlier one was better."""
        model, adapter = self.model, self.adapter
        if self.judge.momentum is not None:
            self._ask_judge()
        progress, target = epoch / self.training.epochs, self.target
        looked_at = self.validator.sees_target or self.screen is not None
        if not looked_at and epoch < self.training.epochs:
            # Enough to see that the outputs are finite.
            target = replace(target, rows=target.rows[: self.training.batch_size])
        seen, order = _seen(model, target, progress)
        began = time.monotonic()
        shown = _asked(model, adapter, target, seen, self.validator.mixes)
        wanted = self.source if self.validator.needs_training else None
        trained, held = (
            None if each is None else _shown(model, adapter, each)
            for each in (wanted, self.held_out)
        )
        for each in (shown, trained, held):
            if each is not None:
                logits = each.outputs.logits[FUSION]
                self.divergence.check_outputs(epoch, logits)
        with asked_once():
            scores = _score(self.validator, trained, held, shown)
            if self.validator.compares:
                evidence = _evidence(self.validator, trained, held, shown)
                self.compared.append((evidence, self._weights()))
            else:
                self._keep_if_best(epoch, scores["score"])
        self.fitted.seconds += time.monotonic() - began
        if self.traced is not None:
            self.fitted.trace.append(predict(model, adapter, self.traced))
        if self.screen is not None:
            size = min(self.training.batch_size, len(self.source))
            judged = _judged(self.judge, self.target, seen)
            found = screen_target(self.screen, judged, size, adapter)
            self.fitted.screened.append(
                {name: values[order] for name, values in found.items()}
            )
        return scores

    def needs_target(self, progress: float) -> bool:
        """Return whether the adapter must be shown the target by now."""
        return progress >= self.needs_target_from

    def show(self, here: Tensor, there: Tensor, progress: float) -> Shown:
        """Return what a step is shown: some samples of the source and of the target.

        Parameters
        ----------
        here, there : Tensor of int, shape (batch,)
            Numbers of samples.
        progress : float
        """
        generator = self.generator
        device = self.source.labels.device
        here, there = here.to(device), there.to(device)
        dropout = self.training.modality_dropout
        source = drop_modalities(self.source.samples.batch(here), dropout, generator)
        target: Batch = ({}, {})
        student, trials, whole = target, there[:0], dict[str, Tensor]()
        if self.needs_target(progress):
            target = self.target.batch(there)
            if self.adapter.needs_trials:
                trials = self.target.same_trial(there)
            # Teacher and judge see all modalities; the student may miss one.
            student = drop_modalities(target, dropout, generator)
            whole = {name: each[there] for name, each in self.whole_trials.items()}
        labels, domains = self.source.labels[here], self.source.domains[here]
        return Shown(source, labels, domains, target, student, trials, whole)

    def move_judge(self, progress: float) -> None:
        """Set the judge aside if it is time, and ask what it knows."""
        if self.judge.step(self.model, progress):
            self._ask_judge()

    def _ask_judge(self) -> None:
        """Ask what it makes of the target's trials, and of the source for screens."""
        judge = self.judge.model
        if judge is None:
            return
        if self.adapter.needs_whole_trials:
            index = torch.arange(len(self.target), device=self.target.rows.device)
            trials = self.target.same_trial(index)
            if len(index) and torch.equal(trials, index):
                longer = self.target.rows.shape[1] > 1
                mend = "samples of one window (--sampling windows), or " * longer
                warnings.warn(
                    f"Every sample of the target is a trial of its own, so that the "
                    f"adapter learns nothing of whole trials. Choose {mend}another "
                    f"adapter, such as uf-ama (--adapter uf-ama).",
                    DomainemoWarning,
                    stacklevel=2,
                )
            self.whole_trials = of_whole_trials(_evaluate(judge, self.target), trials)
        for screen in self.learning:
            wanted = screen.needs_training, screen.held_out
            training, held_out = (
                _raw(judge, samples) if asked and samples is not None else None
                for asked, samples in zip(
                    wanted, (self.source, self.held_out), strict=True
                )
            )
            screen.learn(training, held_out)

    def step(
        self,
        progress: float,
        *,
        here: Tensor,
        there: Tensor,
    ) -> dict[str, Tensor]:
        """Leave the gradients of a step on some samples; return its loss terms."""
        self.move_judge(progress)
        shown = self.show(here, there, progress)
        if self.compiled is not None and not self.compiled.given_up:
            losses = self._compiled_step(self.compiled, shown, progress)
            if losses is not None:
                return losses
        judge = self.judge.outputs(shown.target) if shown.target[0] else None
        return differentiated(
            self.objective(shown, self.class_weights, progress, judge)
        )

    def _compiled_step(
        self, compiled: Compiled, shown: Shown, progress: float
    ) -> dict[str, Tensor] | None:
        """Take a step as :meth:`step` does, by a program; None where there is none."""
        objective, device = self.objective, self.class_weights.device
        weights: Values = dict(objective.named_parameters())
        rest: Values = dict(objective.named_buffers())
        rest |= {n: each for n, each in weights.items() if not each.requires_grad}
        trained = {n: each for n, each in weights.items() if n not in rest}
        judge = self.judge.model if shown.target[0] else None
        judging = {} if judge is None else judge.state_dict()
        passed = torch.tensor(progress, device=device)
        given = rest, Numbers(), shown, self.class_weights, passed, judging
        drawing = [default_generator(device)]
        taken = compiled(StepOf(objective, judge, trained, given, drawing))
        if taken is None:
            return None
        for name, gradient in taken.gradients.items():
            weights[name].grad = gradient
        with torch.no_grad():
            for name, changed in taken.buffers.items():
                if changed.data_ptr() != rest[name].data_ptr():
                    rest[name].copy_(changed)
        return taken.losses

    def conclude(self, loop: Loop) -> Fitted:
        """Give the model the weights of the epoch that was chosen.

        Parameters
        ----------
        loop : Loop
            Run to its end.

        Raises
        ------
        RunError
            If the validator never gave a score that is finite.
        """
        if self.compared:
            self._compare(loop.history)
        if not math.isfinite(self.fitted.score):
            raise RunError(
                f"The validator {type(self.validator).__name__} gave no finite score "
                f"after any of {self.training.epochs} epochs, so that none can be "
                f"chosen. Correct the validator, or choose another one."
            )
        load_state(self.model, self.adapter, self.best)
        self.parts.eval()
        return replace(self.fitted, history=_rectangular(loop.history))

    def _compare(self, history: Sequence[Mapping[str, float]]) -> None:
        """Keep the epoch that is best among all."""
        every = [evidence for evidence, _ in self.compared]
        scores = comparison(self.validator, every)
        # The later one where two are equal.
        equal = tied(np.array(scores)).tolist()
        best = max(range(len(scores)), key=lambda place: (equal[place], place))
        if math.isfinite(scores[best]):
            self.fitted.epoch, self.fitted.score = best + 1, history[best]["score"]
            self.fitted.evidence, self.best = self.compared[best]

    def _keep_if_best(self, epoch: int, score: float) -> None:
        """Keep the weights unless an earlier epoch's are better by its score."""
        if not self.best or reaches(score, self.fitted.score):
            self.fitted.score, self.fitted.epoch = score, epoch
            self.best = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights as they are now."""
        return {
            name: value.detach().clone()
            for name, value in state_of(self.model, self.adapter).items()
        }

    def state(self) -> dict[str, Any]:
        """Return the best weights, what was recorded, and the judge."""
        return {
            "judge": self.judge.state(),
            "best": self.best,
            "best_score": self.fitted.score,
            "epoch": self.fitted.epoch,
            "compared": self.compared,
            "seconds": self.fitted.seconds,
            "trace": [torch.from_numpy(values) for values in self.fitted.trace],
            "screened": [
                {name: torch.from_numpy(values) for name, values in each.items()}
                for each in self.fitted.screened
            ],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them up again."""
        self.judge.restore(self.model, state["judge"])
        self._ask_judge()
        self.best, self.compared = state["best"], state.get("compared", [])
        self.fitted = Fitted(
            seconds=state.get("seconds", 0.0),
            epoch=state["epoch"],
            score=state["best_score"],
            trace=[values.cpu().numpy() for values in state["trace"]],
            screened=[
                {name: values.cpu().numpy() for name, values in each.items()}
                for each in state["screened"]
            ],
        )


def _rectangular(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Return rows of the same columns: a term that did not count yet is zero."""
    names = dict.fromkeys(name for row in reversed(history) for name in row)
    return [{name: row.get(name, 0.0) for name in names} for row in history]


def _groups(source: LabelledSamples, training: Training) -> Tensor | None:
    """Return the group of every source sample, where batches show all alike."""
    if training.balance == "none":
        return None
    chosen = source.domains if training.balance == "domains" else source.labels
    return chosen.cpu()


def _class_weights(
    model: Network, labels: Tensor, training: Training, groups: Tensor | None
) -> Tensor:
    """Return weights by which every class counts alike over the batches."""
    if training.class_weight == "none":
        return torch.ones(model.classes, device=labels.device)
    shown = nn.functional.one_hot(labels, model.classes)
    if groups is None:
        return len(labels) / (model.classes * shown.sum(0).clamp(min=1))
    # A sample is shown the more often, the smaller its group.
    sizes = groups.bincount()
    often = 1 / ((sizes > 0).sum() * sizes[groups])
    shares = (shown * often.to(labels.device)[:, None]).sum(0)
    return 1 / (model.classes * torch.where(shares > 0, shares, 1.0))


def _evaluate(
    model: Network,
    samples: Samples,
    batch: Callable[[Tensor], Batch] | None = None,
) -> Outputs:
    """Return the outputs for all samples, without dropout or gradient.

    `batch` makes a batch of some samples' numbers; by default, of these samples.
    """
    model.eval()
    batch = batch or samples.batch
    index = torch.arange(len(samples), device=samples.rows.device)
    if not len(samples):  # a network need not take a batch of none
        one = _evaluate(model, replace(samples, rows=samples.rows.new_zeros(1, 1)))
        return one.take(index)
    with torch.no_grad():
        parts: list[Outputs] = [
            model(*batch(chunk)) for chunk in torch.split(index, _EVALUATION_BATCH)
        ]

    def joined(name: str) -> dict[str, Tensor]:
        return {
            branch: torch.cat([getattr(part, name)[branch] for part in parts])
            for branch in getattr(parts[0], name)
        }

    return Outputs(joined("embeddings"), joined("logits"), joined("present"))


def _seen(
    model: Network, target: Samples, progress: float
) -> tuple[Target, NDArray[np.int64]]:
    """Return what the whole target shows, shuffled, and where each sample went."""
    shuffled, order = _shuffled(target)
    return Target(_evaluate(model, shuffled), progress), order.argsort().numpy()


def _shuffled(target: Samples) -> tuple[Samples, Tensor]:
    """Return a target in no order that could tell anything, and that order.

    Targets are sorted by trial.
    """
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(target), generator=generator)
    return replace(target, rows=target.rows[order.to(target.rows.device)]), order


def _asked(
    model: Network, adapter: Adapter, target: Samples, seen: Target, share: float | None
) -> Target:
    """Return what a validator is shown of the target: what is predicted, and mixed.

    What no sensor recorded says nothing of a network, and is not shown.
    """
    here = _shuffled(target)[0].recorded
    shown = replace(seen, outputs=predicted(adapter, seen.outputs).take(here))
    if share is None:
        return shown
    return replace(shown, mixed=_mixed(model, adapter, target, share))


def _mixed(model: Network, adapter: Adapter, target: Samples, share: float) -> Outputs:
    """Return what is predicted of samples, each mixed with the one opposite."""
    shuffled, _ = _shuffled(target)
    shuffled = replace(shuffled, rows=shuffled.rows[shuffled.recorded])

    def batch(chunk: Tensor) -> Batch:
        other = len(shuffled) - 1 - chunk
        return mix(shuffled.batch(chunk), shuffled.batch(other), share)

    return predicted(adapter, _evaluate(model, shuffled, batch))


def _shown(model: Network, adapter: Adapter, source: LabelledSamples) -> Source:
    """Return what a source shows, without dropout, and what is predicted.

    As of a target, without what no sensor recorded.
    """
    here = source.samples.recorded
    outputs = predicted(adapter, _evaluate(model, source.samples)).take(here)
    return Source(outputs, source.labels[here], source.domains[here])


def _raw(model: Network, source: LabelledSamples) -> Source:
    """Return what all of a source shows, without dropout."""
    return Source(_evaluate(model, source.samples), source.labels, source.domains)


def _judged(judge: Judge, target: Samples, seen: Target) -> Target:
    """Return what the whole target shows, with its trials and what the judge makes."""
    shuffled, _ = _shuffled(target)
    index = torch.arange(len(shuffled), device=shuffled.rows.device)
    seen = replace(seen, trials=shuffled.same_trial(index))
    if judge.model is None:
        return seen
    return replace(seen, judge=_evaluate(judge.model, shuffled))


def _score(
    validator: Validator,
    trained: Source | None,
    held_out: Source | None,
    target: Target,
) -> dict[str, float]:
    """Return the validator's score, and the accuracy on held-out source domains."""
    accuracy = {}
    if held_out is not None:
        correct = balanced_accuracy(held_out.outputs.logits[FUSION], held_out.labels)
        accuracy = {"held_out": float(correct)}
    found = validator(trained, held_out, target)
    single = isinstance(found, Tensor | np.ndarray) and found.reshape(-1).shape == (1,)
    if not (single or isinstance(found, int | float | np.number)):
        raise contract_error(validator, "__call__", called(found), "a number")
    score = float(found)
    # What is no number, or infinite, chooses nothing.
    return {"score": score if math.isfinite(score) else -math.inf, **accuracy}


def _evidence(
    validator: Validator,
    trained: Source | None,
    held_out: Source | None,
    target: Target,
) -> list[float]:
    """Return what a validator compares a network by."""
    found = validator.evidence(trained, held_out, target)
    if not isinstance(found, Sequence) or not len(found):
        raise contract_error(
            validator, "evidence", called(found), "a list of numbers, at least one"
        )
    return [float(each) for each in found]
