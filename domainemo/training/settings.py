"""How to train: the settings of the one loop."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ..values import Bounds, check_fields
from ..words import count

if TYPE_CHECKING:
    import optuna

__all__ = ["Training", "epoch_in_words"]

_MOST_THREADS = 1024
"""More than any machine has, and few enough for every system to begin them."""

_THREADS = Bounds(
    most=_MOST_THREADS,
    words=f"at most {_MOST_THREADS}, and no more than the machine has cores",
)


@dataclass(frozen=True)
class Training:
    """Settings of the loop that trains.

    Attributes
    ----------
    epochs : int
        How many epochs.
    epoch : {"source", "target"} or int
        What an epoch is: one pass over the source or over the target, an incomplete
        last batch left out, or so many steps. The other domain is passed as often as
        it takes. (UF-AMA's released code: ``"target"``.)
    batch_size : int
        Samples of the source, and as many of the target, in a step.
    learning_rate, weight_decay : float
        Of the optimiser.
    optimiser : {"adamw", "adam"}
        With `weight_decay` decoupled (AdamW), or as an L2 penalty in the gradient
        (Adam), as in the released codes of PhysioSync and of others.
    decay : {"cosine", "constant", "warm-restarts"}
        How the learning rate develops: to zero along half a cosine over all epochs; not
        at all; or, as in PhysioSync's released fine-tuning, along one in each third of
        the epochs (rounded down: a remainder begins another), epoch by epoch
        (Loshchilov and Hutter, 2017).
    label_smoothing : float
        Of the source's classification loss.
    branch_share : float
        Share of that loss that goes to the classifiers of single modalities, alike to
        each; the fusion's has the rest. 0 leaves theirs untrained, as in networks that
        were published with one classifier, and screens cannot ask them then.
    class_weight : {"balanced", "none"}
        Whether the classification loss gives rare classes of the source more weight;
        rare in the batches, which `balance` may have evened out.
    balance : {"none", "domains", "classes"}
        What a source batch shows equally often: as many samples of each source domain
        (calibration is one of its own), or of each class, as the batch size allows. An
        epoch has as many steps as without, so that samples of large groups are left out
        of it and those of small ones recur. By default, batches are random.
    clip : float
        Largest norm of the gradient; 0 does not clip.
    validation_share : float
        Share of source domains held out, for validators that need some.
    label_share : float
        Share of the source's trials, of every class, whose labels are used; of the
        others only the signals are, for normalisation. Drawn per fold and seed; a
        larger share holds the smaller one's trials.
    modality_dropout : float
        Probability with which a sample of a training batch, of source and target, is
        shown without one of its modalities; never without the last that it has.
    temperature : {"none", "held-out"}
        Whether predicted probabilities are made as confident as they should be on
        people who do not train: the logits are divided by the one number that fits best
        the held-out source domains, those that the validator asks for or else as many.
        No prediction becomes another class.
    freeze_heads : bool
        Leave the classifier heads as initialised: the defect of UF-AMA's released
        code, for comparison.
    threads : int
        CPU threads of one fold. Results depend on it in the last digits, so it is
        part of the configuration.
    compile : bool
        Whether all operations of a step become a few kernels, which torch's compiler
        makes: the same numbers but for rounding, in less time where steps are many.
        Each kind of step is compiled once on a machine, which takes longer than many
        steps, and needs a C++ compiler.
    """

    epochs: Annotated[int, Bounds(1)] = 20
    epoch: (
        Literal["source", "target"]
        | Annotated[int, Bounds(1, words="'source', 'target' or at least 1 step")]
    ) = "source"
    batch_size: Annotated[int, Bounds(2)] = 32
    learning_rate: Annotated[float, Bounds(above=0)] = 1e-3
    weight_decay: Annotated[float, Bounds(0)] = 1e-2
    optimiser: Literal["adamw", "adam"] = "adamw"
    decay: Literal["cosine", "constant", "warm-restarts"] = "cosine"
    label_smoothing: Annotated[float, Bounds(0, below=1)] = 0.1
    branch_share: Annotated[float, Bounds(0, below=1)] = 0.5
    class_weight: Literal["balanced", "none"] = "balanced"
    balance: Literal["none", "domains", "classes"] = "none"
    clip: Annotated[float, Bounds(0)] = 1.0
    validation_share: Annotated[float, Bounds(above=0, below=1)] = 0.2
    label_share: Annotated[
        float, Bounds(above=0, most=1, words="above 0 and up to 1")
    ] = 1.0
    modality_dropout: Annotated[float, Bounds(0, 1)] = 0.0
    temperature: Literal["none", "held-out"] = "none"
    freeze_heads: bool = False
    threads: Annotated[int, Bounds(1), _THREADS] = 1
    compile: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "training")

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw settings from an Optuna trial."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        }

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the settings' names."""
        return tuple(field.name for field in fields(cls))


def epoch_in_words(epoch: str | int) -> str:
    """Return what an epoch is, in brackets; nothing for a pass over the source.

    Parameters
    ----------
    epoch : {"source", "target"} or int
        See :class:`Training`.
    """
    if epoch == "source":
        return ""
    if epoch == "target":
        return " (each a pass over the target)"
    return f" (each of {count(int(epoch), 'step')})"
