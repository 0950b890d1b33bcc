"""The fusion network of UF-AMA: two Transformer encoders and cross-attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..data.sampling import Windows
from ..errors import ConfigurationError
from ..registry import register
from .layers import (
    Attention,
    TransformerLayer,
    masked_mean,
    observed,
    require_divisible,
)

__all__ = ["UFAMA"]


@register(name="uf-ama")
class UFAMA(Backbone):
    """Two modalities, each through a Transformer over channels, then cross-attention.

    The network that the authors of UF-AMA released (Wang, Wang and Wang, 2026, arXiv
    2606.00170, code BetterCoderLab/UF-AMA), without the template layer that was
    registered there beside its copies and never used. Each channel is a token.

    Two things are ours. A sample of several windows has each window encoded by itself,
    and the embeddings averaged over the windows that are there. A modality that is
    missing in a window contributes exactly zero to that window's fusion.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Exactly two; the first is the EEG in the paper, the second the eye movements.
    width : int
        Dimension of a token, and of each modality's embedding; the fusion embedding
        has four times as many.
    layers : int
        Transformer layers of each encoder: 1 for SEED, 3 for SEED-IV in the paper.
    heads : int
        Attention heads, in the encoders and between the modalities.
    dropout : float
        Dropout within the encoders.
    head_dropout : float
        Dropout within the classifier heads.
    sampling : Sampling, optional
        Single windows by default, as released.

    Raises
    ------
    ConfigurationError
        If there are not exactly two modalities, or `heads` does not divide `width`.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: int = 64,
        layers: int = 1,
        heads: int = 2,
        dropout: float = 0.1,
        head_dropout: float = 0.5,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        if len(modalities) != 2:
            found = ", ".join(modalities) or "none"
            raise ConfigurationError(
                f"The backbone uf-ama fuses exactly two modalities; found "
                f"{len(modalities)} ({found}). Choose two with --modalities, or use "
                f"r2gfanet, which takes EEG with any number of others."
            )
        require_divisible(width, heads)
        self.width, self.layers, self.heads = width, layers, heads
        self.dropout, self.head_dropout = dropout, head_dropout
        self.sampling = sampling or Windows()
        self.branches = tuple(modalities)
        tokens = [len(modality.channels) for modality in modalities.values()]
        self.encoders = nn.ModuleList(
            ChannelEncoder(
                len(modality.channels),
                len(modality.features),
                width=width,
                layers=layers,
                heads=heads,
                dropout=dropout,
            )
            for modality in modalities.values()
        )
        self.fusion = CrossModalFusion(tokens[0], tokens[1], width=width, heads=heads)

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
        mapping of str to Tensor
            Of shape (batch, width) for each modality, (batch, 4 * width) for the
            fusion; zero for a modality that is missing in the whole sample.
        """
        ours = {branch: masks[branch] for branch in self.branches}
        valid = list(ours.values())
        time = valid[0].shape[-1]
        # Windows are encoded one by one: time joins the batch.
        windows = [signal.flatten(0, 1) for signal in observed(signals, ours)]
        present = [mask.flatten()[:, None].to(windows[0].dtype) for mask in valid]
        encoded = [
            encoder(window)
            for encoder, window in zip(self.encoders, windows, strict=True)
        ]
        embeddings = {
            branch: masked_mean(summary.reshape(-1, time, self.width), ours[branch])
            for branch, (_, summary) in zip(self.branches, encoded, strict=True)
        }
        fused = self.fusion([tokens for tokens, _ in encoded], present)
        embeddings[FUSION] = masked_mean(
            fused.reshape(-1, time, 4 * self.width), valid[0] | valid[1]
        )
        return embeddings

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the released classifier: one hidden layer, wider for the fusion."""
        hidden = self.width if branch == FUSION else max(self.width // 2, 1)
        return nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Dropout(self.head_dropout),
            nn.Linear(hidden, classes),
        )


class ChannelEncoder(nn.Module):
    """A Transformer over the channels of one window.

    There is no channel embedding, as in the released code: which token is which
    channel enters through the last layer, that reads all tokens at once.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(features, width)
        self.layers = nn.Sequential(
            *(
                TransformerLayer(width, heads, 2 * width, dropout=dropout)
                for _ in range(layers)
            )
        )
        self.down = nn.Linear(channels * width, width)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (windows, channels, width) and their summary (windows, width).

        Parameters
        ----------
        window : Tensor of shape (windows, channels, features)
        """
        tokens = self.layers(self.up(window))
        return tokens, self.down(tokens.flatten(-2))


class CrossModalFusion(nn.Module):
    """Attention from each modality to the other, then one vector of both."""

    def __init__(self, first: int, second: int, *, width: int, heads: int) -> None:
        super().__init__()
        wide = 2 * width
        self.up = nn.ModuleList(nn.Linear(width, wide) for _ in range(2))
        self.attend = nn.ModuleList(Attention(wide, heads) for _ in range(2))
        self.down = nn.ModuleList(
            nn.Linear(tokens * wide, wide) for tokens in (first, second)
        )

    def forward(self, tokens: list[Tensor], present: list[Tensor]) -> Tensor:
        """Return the fused vector of each window; shape (windows, 4 * width).

        Parameters
        ----------
        tokens : list of two Tensor of shape (windows, channels, width)
        present : list of two Tensor of shape (windows, 1)
            1 where the modality was recorded, 0 where it is missing.
        """
        wide = [up(each) for up, each in zip(self.up, tokens, strict=True)]
        fused = []
        for own, other in ((0, 1), (1, 0)):
            heard = self.attend[own](wide[own], wide[other])
            mixed = wide[own] + heard * present[other][..., None]
            fused.append(self.down[own](mixed.flatten(-2)) * present[own])
        return torch.cat(fused, -1)
