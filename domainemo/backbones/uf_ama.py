"""The fusion network of UF-AMA: Transformer encoders and cross-attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.windows import Windows
from ..values import Bounds
from .layers import (
    Attention,
    DropoutShare,
    Raised,
    Size,
    TransformerLayer,
    channel_order,
    mean_over_windows,
    require_divisible,
    require_modalities,
)
from .products import Linear

if TYPE_CHECKING:
    import optuna

__all__ = ["UFAMA"]


@register(name="uf-ama")
class UFAMA(Backbone):
    """Modalities, each through a Transformer over channels, then cross-attention.

    The network that the authors of UF-AMA released (Wang, Wang and Wang, 2026, arXiv
    2606.00170, code BetterCoderLab/UF-AMA), without the template layer that was
    registered there beside its copies and never used. Each channel is a token.

    Four things are ours. Layers that read all channels at once take them in the order
    of their names, so that a saved network serves any order of channels. A sample of
    several windows has each window encoded by itself, and the embeddings averaged over
    the windows that are there. A modality that is missing in a window contributes
    exactly zero to that window's fusion. And beyond the two modalities of the paper
    there may be any number: each attends to the tokens of all others, and a single one
    to none.

    Parameters
    ----------
    modalities : mapping of str to Modality
        In the paper, the EEG and the eye movements.
    width : int
        Dimension of a token, and of each modality's embedding; the fusion embedding
        has twice as many for each modality.
    layers : int
        Transformer layers of each encoder: 1 for SEED, 3 for SEED-IV in the paper.
    heads : int
        Attention heads, in the encoders and between the modalities.
    cross_attention : bool
        Whether modalities attend to one another; without, each one's tokens go into
        the fused vector as they are.
    dropout : float
        Dropout within the encoders.
    head_dropout : float
        Dropout within the classifier heads.
    sampling : Sampling, optional
        Single windows by default, as released.

    Raises
    ------
    ConfigurationError
        If there is no modality, or `heads` does not divide `width`.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 64,
        layers: Annotated[int, Bounds(0)] = 1,
        heads: Size = 2,
        cross_attention: bool = True,
        dropout: DropoutShare = 0.1,
        head_dropout: Annotated[float, Bounds(0, 1)] = 0.5,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        require_modalities("uf-ama", modalities)
        require_divisible(width, heads)
        self.width, self.layers, self.heads = width, layers, heads
        self.cross_attention = cross_attention
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
        self.fusion = CrossModalFusion(
            tokens, width=width, heads=heads, cross_attention=cross_attention
        )
        # They follow from the channel names: a saved state fits any channel order.
        for name, modality in modalities.items():
            order = channel_order(modality)
            self.register_buffer(f"_channels_{name}", order, persistent=False)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the width, the depth and the dropout."""
        return {
            "width": trial.suggest_categorical("width", [32, 64, 128]),
            "layers": trial.suggest_int("layers", 1, 3),
            "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        }

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
            Of shape (batch, width) for each modality, (batch, modalities * 2 * width)
            for the fusion; zero for a modality that is missing in the whole sample.
        """
        ours = {branch: masks[branch] for branch in self.branches}
        return mean_over_windows(self._window, signals, ours)

    def _window(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Embed single windows (batch, channels, features)."""
        encoded = {
            branch: encoder(signals[branch].index_select(-2, self._channels(branch)))
            for branch, encoder in zip(self.branches, self.encoders, strict=True)
        }
        present = [
            masks[branch][:, None].to(tokens.dtype)
            for branch, (tokens, _) in encoded.items()
        ]
        embeddings = {branch: summary for branch, (_, summary) in encoded.items()}
        tokens = [tokens for tokens, _ in encoded.values()]
        return {**embeddings, FUSION: self.fusion(tokens, present)}

    def _channels(self, branch: str) -> Tensor:
        order: Tensor = getattr(self, f"_channels_{branch}")
        return order

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
        self.up = Linear(features, width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, 2 * width, dropout=dropout)
            for _ in range(layers)
        )
        self.down = Linear(channels * width, width)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (windows, channels, width) and their summary (windows, width).

        Parameters
        ----------
        window : Tensor of shape (windows, channels, features)
        """
        raised = Raised.by(self.up, window)
        tokens = raised.tokens
        for number, layer in enumerate(self.layers):
            tokens = layer(tokens if number else raised)
        return tokens, self.down(tokens.flatten(-2))


class CrossModalFusion(nn.Module):
    """Attention from each modality to the others, then one vector of all.

    Parameters
    ----------
    tokens : sequence of int
        Channels of each modality.
    width, heads : int
    cross_attention : bool
        Whether there is attention at all.
    """

    def __init__(
        self, tokens: Sequence[int], *, width: int, heads: int, cross_attention: bool
    ) -> None:
        super().__init__()
        wide = 2 * width
        attending = len(tokens) if cross_attention and len(tokens) > 1 else 0
        self.up = nn.ModuleList(Linear(width, wide) for _ in tokens)
        self.attend = nn.ModuleList(Attention(wide, heads) for _ in range(attending))
        self.down = nn.ModuleList(Linear(count * wide, wide) for count in tokens)

    def forward(self, tokens: Sequence[Tensor], present: Sequence[Tensor]) -> Tensor:
        """Return the fused vector of each window; shape (windows, modalities * wide).

        Parameters
        ----------
        tokens : sequence of Tensor of shape (windows, channels, width)
        present : sequence of Tensor of shape (windows, 1)
            1 where the modality was recorded, 0 where it is missing.
        """
        wide = [
            Raised.by(cast(Linear, up), each)
            for up, each in zip(self.up, tokens, strict=True)
        ]
        fused = []
        for own, down in enumerate(self.down):
            mixed = wide[own].tokens
            if self.attend:
                mixed = self._hearing(own, wide, present)
            fused.append(down(mixed.flatten(-2)) * present[own])
        return torch.cat(fused, -1)

    def _hearing(
        self, own: int, wide: Sequence[Raised], present: Sequence[Tensor]
    ) -> Tensor:
        """Return a modality's tokens with what they take from others that are there."""
        attend = cast(Attention, self.attend[own])
        others = [number for number in range(len(wide)) if number != own]
        if len(others) == 1:
            (other,) = others
            heard = attend.between(wide[own], wide[other])
            return torch.addcmul(wide[own].tokens, heard, present[other][..., None])
        memory = torch.cat([wide[other].tokens for other in others], -2)
        there = torch.cat(
            [
                present[other].expand(-1, wide[other].tokens.shape[-2])
                for other in others
            ],
            -1,
        )
        heard = attend(wide[own].tokens, memory, there > 0)
        return torch.addcmul(wide[own].tokens, heard, there.amax(-1)[..., None, None])
