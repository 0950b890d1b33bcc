"""A backbone with a classifier head on every branch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Outputs
from ..errors import ConfigurationError

__all__ = ["Model"]


class Model(nn.Module):
    """A backbone and its heads.

    Parameters
    ----------
    backbone : Backbone
    modalities : mapping of str to Modality
        What the backbone was built for.
    classes : int

    Raises
    ------
    ConfigurationError
        If the backbone's branches are not the modalities and ``"fusion"``.
    """

    def __init__(
        self, backbone: Backbone, modalities: Mapping[str, Modality], classes: int
    ) -> None:
        super().__init__()
        self.backbone, self.classes = backbone, classes
        widths = _branch_widths(backbone, modalities)
        if FUSION not in widths:
            raise ConfigurationError(
                f"Backbone {type(backbone).__name__} returned the branches "
                f"{', '.join(widths)}; expected one called 'fusion' among them."
            )
        self.heads = nn.ModuleDict(
            {name: backbone.head(name, dim, classes) for name, dim in widths.items()}
        )

    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Outputs:
        """Return embeddings and logits of every branch, and which were present."""
        embeddings = self.backbone(signals, masks)
        logits = {name: self.heads[name](value) for name, value in embeddings.items()}
        present = {name: mask.any(-1) for name, mask in masks.items()}
        present[FUSION] = torch.stack(list(present.values())).any(0)
        return Outputs(embeddings, logits, present)


def _branch_widths(
    backbone: Backbone, modalities: Mapping[str, Modality]
) -> dict[str, int]:
    """Pass two empty samples through the backbone to see what comes out."""
    signals = {
        name: torch.zeros(2, 1, len(modality.channels), len(modality.features))
        for name, modality in modalities.items()
    }
    masks = {name: torch.ones(2, 1, dtype=torch.bool) for name in modalities}
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        embeddings = backbone(signals, masks)
    backbone.train(training)
    return {name: value.shape[-1] for name, value in embeddings.items()}
