"""PR-PL: predictions by class prototypes, learned from pairs of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from domainemo.adapters.alignment import Weight
from domainemo.adapters.pairwise import pairwise_similarity
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.values import Bounds

if TYPE_CHECKING:
    import optuna

__all__ = [
    "PRPL",
    "class_means",
    "confident_pairs",
    "orthogonality",
    "thresholds",
]

_SLACK = 1e-3
_TINY = 1e-12


@register(name="pr-pl")
class PRPL(Adapter):
    r"""Prediction by prototypes of the classes, learned from pairs: PR-PL.

    A sample is predicted by how the fusion's embedding :math:`f` matches the mean
    :math:`\mu_c` of each class of the source, through a learned bilinear form of low
    rank (Zhou et al., IEEE Transactions on Affective Computing, 2023, arXiv
    2202.06509):

    .. math:: q_c = \mathrm{softmax}_c (f^\top U V^\top \mu_c), \qquad
              L = w_s L_s + w_t \, p \, L_t + w_o \lVert M^\top M - I \rVert_F

    with :math:`M` the prototypes as rows and :math:`p` training's progress. Both losses
    ask of two samples whether they are of one class, by the cosine of their
    predictions: on the source of all pairs, by the labels (`pairwise_similarity`); on
    the target of pairs alone that are clearly alike or unlike by two `thresholds`
    that approach each other (`confident_pairs`). Pairs do not tell which prototype is
    whose: what is predicted is the class that most source samples have which a
    prototype matches best.

    Differs from the paper: prototypes are moving averages over batches, and so is the
    count of classes per prototype; the network's own heads learn the source's labels
    beside it, as for every adapter; and its domain discriminator is left out. Join
    `dann` for that.

    Parameters
    ----------
    source, target, orthogonality : float
        Weights of the three terms. Defaults as released.
    rank : int
        Of the bilinear form.
    upper, lower : float
        Similarity above which, and below which, a pair of the target is learned as
        alike, and unlike, at the start of training.
    momentum : float
        What share of itself a prototype keeps in every step; 0 is the paper's.
    """

    prototypes: Tensor
    known: Tensor
    votes: Tensor

    def __init__(
        self,
        *,
        source: Weight = 1.0,
        target: Weight = 2.0,
        orthogonality: Weight = 0.01,
        rank: Annotated[int, Bounds(least=1)] = 32,
        upper: Annotated[float, Bounds(0, 1)] = 0.9,
        lower: Annotated[float, Bounds(0, 1)] = 0.5,
        momentum: Annotated[float, Bounds(0, below=1)] = 0.9,
    ) -> None:
        super().__init__()
        if lower > upper:
            raise ConfigurationError(
                f"pr-pl: found lower {lower} above upper {upper}; expected the "
                f"similarity of unlike pairs below that of like ones. Swap them."
            )
        self.source, self.target, self.orthogonality = source, target, orthogonality
        self.rank, self.upper, self.lower = rank, upper, lower
        self.momentum = momentum

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the bilinear form, and begin without a prototype."""
        dim = dims[FUSION]
        self.left = nn.Parameter(torch.randn(dim, self.rank) / math.sqrt(dim))
        self.right = nn.Parameter(torch.randn(dim, self.rank) / math.sqrt(dim))
        self.register_buffer("prototypes", torch.zeros(classes, dim))
        self.register_buffer("known", torch.zeros(classes))
        self.register_buffer("votes", torch.eye(classes))

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the three losses; in training, move prototypes and votes."""
        ours, theirs = source.outputs, target.outputs
        weights = ours.weight(FUSION)
        means, there = class_means(
            ours.embeddings[FUSION], source.labels, weights, len(self.prototypes)
        )
        prototypes = self._moved(means, there)
        matches = self._matches(ours, prototypes)
        if self.training:
            self._remember(prototypes, there, matches, source.labels, weights)
        pairs = confident_pairs(
            self._matches(theirs, prototypes),
            theirs.weight(FUSION),
            *thresholds(self.upper, self.lower, target.progress),
        )
        return {
            "source": self.source
            * pairwise_similarity(matches, source.labels, weights),
            "target": self.target * target.progress * pairs,
            "prototypes": self.orthogonality * orthogonality(prototypes),
        }

    def predict(self, outputs: Outputs) -> Tensor:
        """Return the log-probability of each class, by the prototypes that vote so."""
        shares = self._matches(outputs, self.prototypes).softmax(-1)
        classes = functional.one_hot(self.votes.argmax(-2), len(self.votes))
        return (shares @ classes.to(shares)).clamp(min=_TINY).log()

    def _matches(self, outputs: Outputs, prototypes: Tensor) -> Tensor:
        embedded = outputs.embeddings[FUSION] @ self.left
        return embedded @ (prototypes @ self.right).mT

    def _moved(self, means: Tensor, there: Tensor) -> Tensor:
        """Return the prototypes, those moved of which the batch has samples."""
        step = torch.where(self.known > 0, 1 - self.momentum, 1.0) * there
        before = self.prototypes.clone()  # is overwritten before the backward pass
        return before + step.unsqueeze(-1) * (means - before)

    @torch.no_grad()
    def _remember(
        self,
        prototypes: Tensor,
        there: Tensor,
        matches: Tensor,
        labels: Tensor,
        weights: Tensor,
    ) -> None:
        count = len(self.votes)
        members = functional.one_hot(labels, count).to(weights) * weights.unsqueeze(-1)
        chosen = functional.one_hot(matches.argmax(-1), count).to(weights)
        total = weights.sum(-1).clamp(min=_TINY)
        self.votes.lerp_(members.mT @ chosen / total, 1 - self.momentum)
        self.prototypes.copy_(prototypes)
        self.known.copy_(self.known.maximum(there))

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weights of the two losses of pairs."""
        names = ("source", "target")
        return {name: trial.suggest_float(name, 0.01, 10, log=True) for name in names}


def class_means(
    embeddings: Tensor, labels: Tensor, weights: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    """Return the mean of every class; zero of one that is absent.

    Parameters
    ----------
    embeddings : Tensor of shape (..., batch, dim)
    labels : Tensor of int, shape (..., batch)
    weights : Tensor of shape (..., batch)
    classes : int

    Returns
    -------
    means : Tensor of shape (..., classes, dim)
    there : Tensor of shape (..., classes)
        1 where the class has a sample, else 0.
    """
    members = functional.one_hot(labels, classes).to(weights) * weights.unsqueeze(-1)
    mass = members.sum(-2)
    means = members.mT @ embeddings / mass.clamp(min=_TINY).unsqueeze(-1)
    return means, (mass > 0).to(weights)


def confident_pairs(
    logits: Tensor, weights: Tensor, upper: float, lower: float
) -> Tensor:
    r"""Return the mean loss of pairs that are clearly alike, or clearly unlike.

    .. math:: \frac{\sum_{ij} -[S_{ij} > \tau_u] \log(S_{ij} + \eta)
              - [S_{ij} < \tau_l] \log(1 - S_{ij} + \eta)}
              {\sum_{ij} [S_{ij} > \tau_u] + [S_{ij} < \tau_l]}, \quad \eta = 10^{-3}

    with :math:`S_{ij}` the cosine of the two predictions' probabilities.

    Parameters
    ----------
    logits : Tensor of shape (..., batch, classes)
    weights : Tensor of shape (..., batch)
    upper, lower : float
        The thresholds :math:`\tau_u` and :math:`\tau_l`.

    Returns
    -------
    Tensor of shape (...)
    """
    directions = functional.normalize(logits.softmax(-1), dim=-1)
    similar = (directions @ directions.mT).clamp(max=1)
    alike, unlike = similar > upper, similar < lower
    losses = -torch.where(alike, similar + _SLACK, 1 - similar + _SLACK).log()
    pairs = weights.unsqueeze(-1) * weights.unsqueeze(-2) * (alike | unlike)
    return (losses * pairs).sum((-2, -1)) / pairs.sum((-2, -1)).clamp(min=_TINY)


def thresholds(upper: float, lower: float, progress: float) -> tuple[float, float]:
    r"""Return the two thresholds at this point of training.

    In each of n epochs the released code brings both nearer by 1/n of their distance,
    which is, for many epochs,

    .. math:: \frac{\tau_u + \tau_l}2 \pm \frac{\tau_u - \tau_l}2 e^{-2p}
    """
    exp: Any = torch.exp if isinstance(progress, Tensor) else math.exp
    middle, half = (upper + lower) / 2, (upper - lower) / 2 * exp(-2 * progress)
    return middle + half, middle - half


def orthogonality(prototypes: Tensor) -> Tensor:
    r"""Return :math:`\lVert M^\top M - I \rVert_F`, as released.

    Parameters
    ----------
    prototypes : Tensor of shape (..., classes, dim)

    Returns
    -------
    Tensor of shape (...)
    """
    gram = prototypes.mT @ prototypes
    rest = gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return rest.square().sum((-2, -1)).clamp(min=_TINY).sqrt()
