"""Deep canonical correlation analysis with attention: modalities in a common space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.windows import Windows
from .concatenation import Activation, ModalityPerceptron
from .layers import (
    DropoutShare,
    Size,
    masked_softmax,
    observed,
    require_modalities,
)

__all__ = ["DeepCCA", "Fusion"]

Fusion = Literal["attention", "weighted-sum"]


@register(name="deep-cca")
class DeepCCA(Backbone):
    r"""A perceptron per modality to a common space, where they are added by attention.

    The network of Liu, Qiu, Zheng and Lu (IEEE TCDS 14(2), 2022, doi
    10.1109/TCDS.2021.3071170), who extend deep canonical correlation analysis (Andrew
    et al., 2013) by fusion; with layers, activations and attention of the code they
    released for SEED (csliuwei/CrossCultureCode, folder DCCA-AM), as the paper's text
    was not available. Its objective is the adapter ``canonical-correlation``; the study
    ``deep-cca`` has both.

    With a modality's embedding :math:`o_m` and a learned vector :math:`w`

    .. math:: f = \sum_m a_m o_m, \quad a = \operatorname{softmax}_m(w^T o_m)

    over the modalities that the sample has; or all :math:`a_m` alike, the weighted sum.

    Ours: any number of modalities; a sample of several windows is averaged over those
    that were recorded; besides the fusion's linear classifier, the library's usual ones
    on the modality branches, and shares of the loss for them.

    Parameters
    ----------
    modalities : mapping of str to Modality
        In the paper two, such as the EEG and the eye movements. Weights are bound to
        channels by name.
    hidden : sequence of int
        Units of each hidden layer of a perceptron; may be empty.
    width : int
        Dimension of the common space, and so of every embedding.
    activation : {"sigmoid", "relu"}
        Of the hidden layers. The embedding is linear.
    fusion : {"attention", "weighted-sum"}
        Both are the paper's. The weighted sum has equal weights.
    dropout : float
        Dropout after every hidden layer: none as released.
    sampling : Sampling, optional
        Single windows by default.

    Raises
    ------
    ConfigurationError
        If there is no modality, or an option is out of range.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        hidden: Sequence[Size] = (128, 34),
        width: Size = 12,
        activation: Activation = "sigmoid",
        fusion: Fusion = "attention",
        dropout: DropoutShare = 0.0,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("deep-cca", modalities)
        self.hidden, self.width = tuple(hidden), width
        self.activation, self.fusion, self.dropout = activation, fusion, dropout
        self.sampling = sampling or Windows()
        self.encoders = nn.ModuleDict(
            {
                name: ModalityPerceptron(
                    modality,
                    (*self.hidden, width),
                    activation=activation,
                    dropout=dropout,
                )
                for name, modality in modalities.items()
            }
        )
        # A single modality has nothing to be weighed against.
        weighed = fusion == "attention" and len(modalities) > 1
        self.attention = nn.Parameter(torch.randn(width)) if weighed else None

    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, time, channels, features)
        masks : mapping of str to bool Tensor of shape (batch, time)

        Returns
        -------
        mapping of str to Tensor of shape (batch, width)
            Zero for a modality that is missing in the whole sample, and for the fusion
            where all are.
        """
        ours = {name: masks[name] for name in self.encoders}
        clean = dict(zip(ours, observed(signals, ours), strict=True))
        embeddings: dict[str, Tensor] = {
            name: encoder(clean[name], ours[name])
            for name, encoder in self.encoders.items()
        }
        branches = torch.stack(list(embeddings.values()), -2)
        present = torch.stack([mask.any(-1) for mask in ours.values()], -1)
        weights = masked_softmax(self._scores(branches), present)
        embeddings[FUSION] = (weights.unsqueeze(-1) * branches).sum(-2)
        return embeddings

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier: linear on the fusion, a hidden layer elsewhere."""
        if branch != FUSION:
            return super().head(branch, dim, classes)
        return nn.Linear(dim, classes)

    def _scores(self, branches: Tensor) -> Tensor:
        """Return (batch, modalities) of embeddings (batch, modalities, width)."""
        if self.attention is None:
            return branches.new_zeros(branches.shape[:-1])
        return branches @ self.attention
