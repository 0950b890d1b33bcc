"""Cross-modal contrast: what two sensors record at once should be embedded alike."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any

import torch
from torch import Tensor
from torch.nn import functional

from domainemo.core import Adapter, Outputs, Source, Target
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Weight
from .branches import unit

if TYPE_CHECKING:
    import optuna

__all__ = ["CrossModalContrast", "contrast"]


@register(name="cross-modal-contrast")
class CrossModalContrast(Adapter):
    r"""Symmetric InfoNCE between each pair of modality branches.

    .. math:: L = -\frac1{2B} \sum_i \Big[
              \log \frac{e^{u_i^T v_i / \tau}}{\sum_j e^{u_i^T v_j / \tau}} +
              \log \frac{e^{v_i^T u_i / \tau}}{\sum_j e^{v_i^T u_j / \tau}} \Big]

    with the embeddings u and v of two modalities at unit length, see `contrast`.

    The cross-modal contrastive alignment of MMSTG-Net (Bi, Lu and Sun, IEEE JBHI 2026);
    a reconstruction, as only its abstract could be read. The loss (van den Oord et al.,
    2018, in the symmetric form of CLIP) works on the branches' own embeddings at unit
    length: the network brings its projections, so that the term fits any backbone whose
    modality branches share one dimension, and owns no parameters.

    Several pairs are averaged, over those of which the batch has two samples or more;
    a sample counts for a pair where both sensors recorded it. With a single modality
    there is no pair, and the loss is zero.

    Parameters
    ----------
    weight : float
        Weight of the mean over pairs, of the source as of the target.
    temperature : float
        What cosines are divided by.
    exclude_same_class : bool
        Leave other samples of a sample's class out of its negatives, on the source:
        the term then does not push apart what the classification pulls together.
    on_target : bool
        Align the modalities of the target too. Without labels every other sample is a
        negative there.

    Raises
    ------
    ConfigurationError
        If the temperature is not above zero; on use, if branches differ in dimension.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        temperature: Annotated[
            float, Bounds(above=0, words="a number above 0, such as 0.1")
        ] = 0.1,
        exclude_same_class: bool = True,
        on_target: bool = True,
    ) -> None:
        super().__init__()
        self.weight, self.temperature = weight, temperature
        self.exclude_same_class, self.on_target = exclude_same_class, on_target
        self.needs_target = on_target

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return the loss of the source, and of the target where it is asked for."""
        labels = source.labels if self.exclude_same_class else None
        losses = {"source": self._loss(source.outputs, labels)}
        if self.on_target:
            losses["target"] = self._loss(target.outputs, None)
        return losses

    def _loss(self, outputs: Outputs, labels: Tensor | None) -> Tensor:
        """Return the weighted mean over pairs of modalities."""
        _require_one_dimension(outputs)
        # Zero that depends on the network, for a batch without any pair.
        losses = [next(iter(outputs.embeddings.values())).sum((-2, -1)) * 0]
        defined = [torch.zeros_like(losses[0])]
        for first, second in combinations(outputs.modalities, 2):
            weights = outputs.weight(first) * outputs.weight(second)
            loss = contrast(
                outputs.embeddings[first],
                outputs.embeddings[second],
                weights,
                labels,
                temperature=self.temperature,
            )
            losses.append(loss)
            defined.append((weights.sum(-1) > 1).to(loss.dtype))
        pairs = torch.stack(defined).sum(0).clamp(min=1)
        return self.weight * torch.stack(losses).sum(0) / pairs

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight, the temperature and what is a negative."""
        return {
            "weight": trial.suggest_float("weight", 0.01, 10, log=True),
            "temperature": trial.suggest_float("temperature", 0.05, 1.0, log=True),
            "exclude_same_class": trial.suggest_categorical(
                "exclude_same_class", [True, False]
            ),
        }


def contrast(
    first: Tensor,
    second: Tensor,
    weights: Tensor,
    labels: Tensor | None = None,
    *,
    temperature: float = 0.1,
) -> Tensor:
    r"""Return the symmetric InfoNCE of synchronous pairs.

    .. math:: -\frac1{2B} \sum_i \Big[
              \log \frac{e^{u_i^T v_i / \tau}}{\sum_j e^{u_i^T v_j / \tau}} +
              \log \frac{e^{v_i^T u_i / \tau}}{\sum_j e^{v_i^T u_j / \tau}} \Big]

    with :math:`u, v` both embeddings at unit length.

    Parameters
    ----------
    first, second : Tensor of shape (..., batch, dim)
    weights : Tensor of shape (..., batch)
        1 for a pair, 0 for one that is missing and neither positive nor negative.
    labels : Tensor of int, shape (..., batch), optional
        Where given, samples of one label are no negatives of each other.
    temperature : float
        The :math:`\tau` of the equation.

    Returns
    -------
    Tensor of shape (...)
        Zero, with zero gradient, of fewer than two pairs.
    """
    logits = unit(first) @ unit(second).mT / temperature
    negative = (weights > 0).unsqueeze(-2)
    if labels is not None:
        negative = negative & (labels.unsqueeze(-1) != labels.unsqueeze(-2))
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    # A row always holds its own pair, and so is never empty.
    allowed = itself | negative
    lowest = torch.finfo(logits.dtype).min
    total = torch.zeros_like(weights)
    for scores in (logits, logits.mT):
        shares = functional.log_softmax(scores.masked_fill(~allowed, lowest), -1)
        total = total - shares.diagonal(dim1=-2, dim2=-1)
    count = weights.sum(-1)
    return (total * weights).sum(-1) / (2 * count.clamp(min=1)) * (count > 1)


def _require_one_dimension(outputs: Outputs) -> None:
    dims = {name: outputs.embeddings[name].shape[-1] for name in outputs.modalities}
    if len(set(dims.values())) > 1:
        found = ", ".join(f"{name} has {dim}" for name, dim in dims.items())
        raise ConfigurationError(
            f"cross-modal-contrast compares embeddings of modality branches, which "
            f"must be of one dimension; {found}. Choose a backbone that gives all "
            f"modalities the same width, such as mmstg-net."
        )
