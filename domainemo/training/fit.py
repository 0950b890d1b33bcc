"""The one fit loop: a network, an adapter, a labelled source, an unlabelled target."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..adapters.branches import shares
from ..core import FUSION, Adapter, Outputs, Source, Target, Validator
from ..errors import ConfigurationError, RunError
from ..validators.shared import balanced_accuracy
from .batches import LabelledSamples, Samples, epoch_batches
from .checkpoint import Checkpoint
from .divergence import Divergence
from .dropout import Batch, drop_modalities
from .judge import Judge
from .model import Model, load_state, predicted, state_of
from .screened import find_screen, screen_target
from .settings import Training

__all__ = ["Fitted", "derive_seed", "fit", "predict", "reproducible"]

Report = Callable[[Mapping[str, float]], None]
"""Called after every epoch with its row of the history."""

_EVALUATION_BATCH = 256
_RESERVED = {"classification", "total", "epoch", "score", "held_out"}
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


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
    """

    epoch: int = 0
    score: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)
    trace: list[NDArray[np.float32]] = field(default_factory=list)
    screened: list[dict[str, NDArray[np.generic]]] = field(default_factory=list)


def fit(
    model: Model,
    adapter: Adapter,
    source: LabelledSamples,
    target: Samples,
    *,
    validator: Validator,
    held_out: LabelledSamples | None,
    training: Training,
    seed: int,
    traced: Samples | None = None,
    checkpoint: Checkpoint | None = None,
    report: Report | None = None,
) -> Fitted:
    """Train `model` in place and leave it with the weights the validator chose.

    Every epoch draws its random numbers from a seed of its own, so that training
    resumed from a checkpoint ends with the same bits.

    Parameters
    ----------
    model, adapter
        Trained together; both on one device, the adapter prepared for the model.
    source : LabelledSamples
    target : Samples
        Unlabelled.
    validator : Validator
        The epoch of its highest score is kept, the later one where two are equal. What
        it is handed, and every score, is of the adapter's prediction.
    held_out : LabelledSamples or None
        Source domains kept from training, where the validator asks for them.
    training : Training
    seed : int
    traced : Samples, optional
        Record the predictions of these after every epoch.
    checkpoint : Checkpoint, optional
        To resume from where it was written, and to write to now and then.
    report : callable, optional
        Called after every epoch; on resuming first with the epochs there were.

    Raises
    ------
    RunError
        If a loss, a weight or a prediction stops being finite, or the validator never
        gives a score that is.
    """
    state = _State(model, adapter, source, training)
    state.load(checkpoint)
    report = report or (lambda row: None)
    for row in state.fitted.history:
        report(row)
    screen = find_screen(adapter)
    saved = time.monotonic()
    for epoch in range(len(state.fitted.history), training.epochs):
        torch.manual_seed(derive_seed(seed, "epoch", epoch))
        losses = state.train_epoch(epoch, source, target)
        seen, order = _seen(model, target, (epoch + 1) / training.epochs)
        shown = replace(seen, outputs=predicted(adapter, seen.outputs))
        trained = _shown(model, adapter, source) if validator.needs_training else None
        held = None if held_out is None else _shown(model, adapter, held_out)
        for each in (shown, trained, held):
            if each is not None:
                logits = each.outputs.logits[FUSION]
                state.divergence.check_outputs(epoch + 1, logits)
        scores = _score(validator, trained, held, shown)
        state.fitted.history.append({"epoch": epoch + 1, **losses, **scores})
        state.keep_if_best(epoch + 1, scores["score"])
        if traced is not None:
            state.fitted.trace.append(predict(model, adapter, traced))
        if screen is not None:
            size = min(training.batch_size, len(source))
            judged = _judged(state.judge, target, seen)
            found = screen_target(screen, judged, size)
            state.fitted.screened.append(
                {name: values[order] for name, values in found.items()}
            )
        report(state.fitted.history[-1])
        if checkpoint and time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            state.save(checkpoint)
            saved = time.monotonic()
    if not math.isfinite(state.fitted.score):
        raise RunError(
            f"The validator {type(validator).__name__} gave no finite score after any "
            f"of {training.epochs} epochs, so that none can be chosen. Correct the "
            f"validator, or choose another one."
        )
    load_state(model, adapter, state.best)
    state.parts.eval()
    return state.fitted


def predict(model: Model, adapter: Adapter, samples: Samples) -> NDArray[np.float32]:
    """Return the class probabilities that are predicted; shape (samples, classes).

    Raises
    ------
    RunError
        If one of them is not finite: argmax would make a class of it.
    """
    outputs = predicted(adapter, _evaluate(model, samples))
    probabilities = outputs.logits[FUSION].softmax(-1)
    wrong = int((~probabilities.isfinite()).any(-1).sum())
    if wrong:
        raise RunError(
            f"The network's output is not finite for {wrong} of {len(samples)} "
            f"samples: nothing can be predicted for them. Look for values beyond "
            f"reason in the recordings, with `domainemo data check`, or train with a "
            f"lower training.learning_rate."
        )
    return probabilities.cpu().numpy()


def derive_seed(*parts: object) -> int:
    """Return a seed that depends on all parts and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Run a block with deterministic kernels, and leave torch as it was found."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Asking a machine for its GPUs would wake them, also where the CPU trains.
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count() if used else 0)
    with torch.random.fork_rng(devices):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])


class _State:
    """All that changes during training, so that it can be saved and resumed."""

    def __init__(
        self,
        model: Model,
        adapter: Adapter,
        source: LabelledSamples,
        training: Training,
    ) -> None:
        self.model, self.adapter, self.training = model, adapter, training
        self.parts = nn.ModuleList([model, adapter])
        if training.freeze_heads:
            model.heads.requires_grad_(False)
        parameters = [p for p in self.parts.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameters,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self.class_weights = _class_weights(model, source.labels, training)
        self.divergence = Divergence("Training", model, adapter, training)
        self.judge = Judge(adapter.judged_from)
        self.fitted = Fitted()
        self.best: dict[str, Tensor] = {}

    def train_epoch(
        self, epoch: int, source: LabelledSamples, target: Samples
    ) -> dict[str, float]:
        """Take one pass over the source; return the mean of every loss term."""
        self.parts.train()
        generator = torch.Generator().manual_seed(torch.initial_seed())
        batches = list(
            epoch_batches(len(source), len(target), self.training.batch_size, generator)
        )
        steps: list[dict[str, Tensor]] = []
        for step, (here, there) in enumerate(batches):
            progress = (epoch + step / len(batches)) / self.training.epochs
            self._set_learning_rate(progress)
            self.judge.appoint(self.model, progress)
            losses = self._losses(source, target, here, there, progress, generator)
            total = torch.stack(list(losses.values())).sum()
            self.optimiser.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if self.training.clip:
                nn.utils.clip_grad_norm_(self.parts.parameters(), self.training.clip)
            self.optimiser.step()
            terms = {**losses, "total": total}
            steps.append({name: loss.detach() for name, loss in terms.items()})
        return self.divergence.means(epoch + 1, steps)

    def _losses(
        self,
        source: LabelledSamples,
        target: Samples,
        here: Tensor,
        there: Tensor,
        progress: float,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        device = source.labels.device
        here, there = here.to(device), there.to(device)
        dropout = self.training.modality_dropout
        batch = drop_modalities(source.samples.batch(here), dropout, generator)
        labelled = Source(
            outputs=self.model(*batch),
            labels=source.labels[here],
            domains=source.domains[here],
        )
        classification = {"classification": self._classification(labelled)}
        if not self.adapter.needs_target:
            # Without a target the adapter sees the source twice, and never uses it.
            seen = Target(labelled.outputs, progress)
            return classification | self._adapt(labelled, seen)
        batch = target.batch(there)
        teacher = (
            _without_dropout(self.model, batch) if self.adapter.needs_teacher else None
        )
        judge = self.judge.outputs(batch)
        # Teacher and judge have seen all modalities; the student may miss one.
        batch = drop_modalities(batch, dropout, generator)
        unlabelled = Target(self.model(*batch), progress, teacher, judge=judge)
        return classification | self._adapt(labelled, unlabelled)

    def _adapt(self, source: Source, target: Target) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.adapter(source, target)
        reserved = _RESERVED & losses.keys()
        if reserved:
            raise ConfigurationError(
                f"{type(self.adapter).__name__} returned a loss called "
                f"{', '.join(map(repr, sorted(reserved)))}, a name that the trainer "
                f"uses itself; call it something else."
            )
        return losses

    def _classification(self, source: Source) -> Tensor:
        """Return the cross-entropy: fusion one half, modalities the other half."""
        outputs, losses = source.outputs, []
        for branch, logits in outputs.logits.items():
            weights = outputs.weight(branch) * self.class_weights[source.labels]
            each = nn.functional.cross_entropy(
                logits,
                source.labels,
                reduction="none",
                label_smoothing=self.training.label_smoothing,
            )
            share = shares(outputs)[branch]
            losses.append(
                share * (each * weights).sum() / weights.sum().clamp(min=1e-12)
            )
        return torch.stack(losses).sum()

    def _set_learning_rate(self, progress: float) -> None:
        rate = self.training.learning_rate
        if self.training.decay == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * progress))
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def keep_if_best(self, epoch: int, score: float) -> None:
        """Keep the weights unless an earlier epoch scored higher."""
        if not self.best or score >= self.fitted.score:
            self.fitted.score, self.fitted.epoch = score, epoch
            self.best = {
                name: value.detach().clone()
                for name, value in state_of(self.model, self.adapter).items()
            }

    def save(self, checkpoint: Checkpoint) -> None:
        """Write everything to a checkpoint."""
        checkpoint.save(
            {
                "parts": self.parts.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "judge": self.judge.state(),
                "best": self.best,
                "best_score": self.fitted.score,
                "epoch": self.fitted.epoch,
                "history": self.fitted.history,
                "trace": [torch.from_numpy(values) for values in self.fitted.trace],
                "screened": [
                    {name: torch.from_numpy(values) for name, values in each.items()}
                    for each in self.fitted.screened
                ],
            }
        )

    def load(self, checkpoint: Checkpoint | None) -> None:
        """Resume from a checkpoint where there is one."""
        content = checkpoint and checkpoint.load(self.class_weights.device)
        if not content:
            return
        self.parts.load_state_dict(content["parts"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.judge.restore(self.model, content["judge"])
        self.best = content["best"]
        trace = [values.cpu().numpy() for values in content["trace"]]
        screened = [
            {name: values.cpu().numpy() for name, values in each.items()}
            for each in content["screened"]
        ]
        epoch, score = content["epoch"], content["best_score"]
        self.fitted = Fitted(epoch, score, content["history"], trace, screened)


def _class_weights(model: Model, labels: Tensor, training: Training) -> Tensor:
    if training.class_weight == "none":
        return torch.ones(model.classes, device=labels.device)
    counts = nn.functional.one_hot(labels, model.classes).sum(0)
    return len(labels) / (model.classes * counts.clamp(min=1))


def _without_dropout(model: Model, batch: Batch) -> Outputs:
    model.eval()
    with torch.no_grad():
        outputs: Outputs = model(*batch)
    model.train()
    return outputs


def _evaluate(model: Model, samples: Samples) -> Outputs:
    """Return the outputs for all samples, without dropout or gradient."""
    model.eval()
    index = torch.arange(len(samples), device=samples.rows.device)
    with torch.no_grad():
        parts: list[Outputs] = [
            model(*samples.batch(chunk))
            for chunk in torch.split(index, _EVALUATION_BATCH)
        ]

    def joined(name: str) -> dict[str, Tensor]:
        return {
            branch: torch.cat([getattr(part, name)[branch] for part in parts])
            for branch in getattr(parts[0], name)
        }

    return Outputs(joined("embeddings"), joined("logits"), joined("present"))


def _seen(
    model: Model, target: Samples, progress: float
) -> tuple[Target, NDArray[np.int64]]:
    """Return what the whole target shows, shuffled, and where each sample went."""
    # In no order that could tell anything, where targets are sorted by trial.
    shuffled = torch.Generator().manual_seed(0)
    order = torch.randperm(len(target), generator=shuffled)
    mixed = replace(target, rows=target.rows[order.to(target.rows.device)])
    return Target(_evaluate(model, mixed), progress), order.argsort().numpy()


def _shown(model: Model, adapter: Adapter, source: LabelledSamples) -> Source:
    """Return what all of a source shows, without dropout, and what is predicted."""
    outputs = predicted(adapter, _evaluate(model, source.samples))
    return Source(outputs, source.labels, source.domains)


def _judged(judge: Judge, target: Samples, seen: Target) -> Target:
    """Return what the whole target shows, with what the judge makes of it."""
    if judge.model is None:
        return seen
    return replace(seen, judge=_seen(judge.model, target, seen.progress)[0].outputs)


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
    score = validator(trained, held_out, target)
    # What is no number, or infinite, chooses nothing.
    return {"score": score if math.isfinite(score) else -math.inf, **accuracy}
