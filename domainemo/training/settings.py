"""How to train: the settings of the one fit loop."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigurationError
from ..values import check_fields

if TYPE_CHECKING:
    import optuna

__all__ = ["Training"]

_MOST_THREADS = 1024
"""More than any machine has, and few enough for every system to begin them."""


@dataclass(frozen=True)
class Training:
    """Settings of the fit loop.

    Attributes
    ----------
    epochs : int
        Passes over the source.
    batch_size : int
        Samples of the source, and as many of the target, in a step.
    learning_rate, weight_decay : float
        Of AdamW.
    decay : {"cosine", "constant"}
        How the learning rate develops.
    label_smoothing : float
        Of the source's classification loss.
    class_weight : {"balanced", "none"}
        Whether the classification loss gives rare classes of the source more weight.
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
    freeze_heads : bool
        Leave the classifier heads as initialised: the defect of UF-AMA's released
        code, for comparison.
    threads : int
        CPU threads of one fold. Results depend on it in the last digits, so it is
        part of the configuration.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    decay: Literal["cosine", "constant"] = "cosine"
    label_smoothing: float = 0.1
    class_weight: Literal["balanced", "none"] = "balanced"
    clip: float = 1.0
    validation_share: float = 0.2
    label_share: float = 1.0
    modality_dropout: float = 0.0
    freeze_heads: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        check_fields(self, "training")
        for name in ("epochs", "batch_size", "threads"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        most = f"at most {_MOST_THREADS}, and no more than the machine has cores"
        self._require("threads", self.threads <= _MOST_THREADS, most)
        self._require("batch_size", self.batch_size >= 2, "at least 2")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        for name in ("weight_decay", "clip"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        self._require("validation_share", 0 < self.validation_share < 1, "in (0, 1)")
        self._require("label_share", 0 < self.label_share <= 1, "above 0 and up to 1")
        self._require("modality_dropout", 0 <= self.modality_dropout <= 1, "in [0, 1]")
        decays, weights = ("cosine", "constant"), ("balanced", "none")
        self._require("decay", self.decay in decays, "cosine or constant")
        self._require("class_weight", self.class_weight in weights, "balanced or none")

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw settings from an Optuna trial."""
        return {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1e-1, log=True),
        }

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"training.{name} is {getattr(self, name)!r}; expected {expected}."
            )

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the settings' names."""
        return tuple(field.name for field in fields(cls))
