"""DGCNN: convolution over a graph of electrodes whose edges are learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from ..core import FUSION, Backbone, Modality, Sampling
from ..registry import register
from ..samplings.windows import Windows
from .graphs import (
    ChebyshevConvolution,
    LearnedGraph,
    Order,
    Prior,
    Reach,
    Spectrum,
    electrode_positions,
)
from .layers import (
    Dropout,
    DropoutShare,
    Size,
    channel_order,
    mean_over_windows,
    single_eeg,
)

__all__ = ["DGCNN"]


@register(name="dgcnn")
class DGCNN(Backbone):
    r"""A dynamical graph convolution over electrodes, with a perceptron per companion.

    After DGCNN (Song, Zheng, Song and Cui, IEEE Transactions on Affective Computing
    2018, doi 10.1109/TAFFC.2018.2817622), the field's graph baseline. The paper's text
    was not available: this is a reconstruction from its equations as others cite them.

    As published, with EEG alone: the features :math:`X` of the electrodes are filtered
    on a graph whose adjacency is learned and kept from being negative by a ReLU, a
    1 x 1 convolution mixes the bands of each electrode, and a ReLU and dense layers
    follow:

    .. math:: H = \mathrm{ReLU}\Big(\sum_{k=0}^{K-1} T_k(\tilde L)\, X \Theta_k
              + b\Big), \quad e = \mathrm{ReLU}(W \operatorname{vec}(H) + c)

    Reconstruction (ours, each with its reason):

    - the filter's coefficients :math:`\theta_k` and the 1 x 1 convolution :math:`V`
      that follows them are one linear map for each polynomial. The published
      :math:`\Theta_k = \theta_k V` is among them, as nothing stands between the two;
    - `order` 2, `filters` 32, `width` 64: as in the public implementations;
    - the adjacency is :class:`domainemo.backbones.graphs.LearnedGraph`: symmetric, as
      the spectrum of an undirected graph demands, and with the normalised Laplacian,
      whose eigenvalues are bounded whatever is learned. `spectrum` "bound" spares an
      eigenvalue problem in every step; "exact" divides by the largest eigenvalue, as
      the paper does;
    - `prior` 0: distances play no part in the paper. Above 0, neighbours are joined
      before anything is learned, at a reach of `prior_scale`;
    - the penalty on the weights is the trainer's weight decay;
    - `head_dropout` 0.5: the library's custom, as the paper's is unknown.

    For other sensors, ours throughout: each companion passes a perceptron with
    `companion_hidden` units, the modalities' embeddings stand side by side in the
    fusion, a sample of several windows has each encoded by itself and averaged over
    the windows that are there, and what a sensor lost is exactly zero in the fusion.
    Weights are bound to channels by name: another order of channels is the same.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Exactly one of kind ``"eeg"`` and any number of companions. Without a companion
        the fusion is the EEG's embedding.
    width : int
        Dimension of each modality's embedding; the fusion has as many for each.
    filters : int
        Features of an electrode after the graph convolution.
    order : int
        Chebyshev polynomials: the K of the equation, which reach K - 1 edges far.
    prior, prior_scale : float
        Weight and reach in metres of the distance prior.
    spectrum : {"bound", "exact"}
        See :func:`domainemo.backbones.graphs.scaled_laplacian`.
    companion_hidden : int
        Hidden units of each companion's perceptron.
    head_dropout : float
        Dropout before the classifiers.
    sampling : Sampling, optional
        Single windows by default, as published.

    Attributes
    ----------
    electrodes : tuple of str
        The nodes of `graph`, whose ``adjacency()`` is the learned connectivity.

    Raises
    ------
    ConfigurationError
        If there is not exactly one EEG modality, or an option is out of range.
    DataError
        If an electrode's name is unknown, or two are the same.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        *,
        width: Size = 64,
        filters: Size = 32,
        order: Order = 2,
        prior: Prior = 0.0,
        prior_scale: Reach = 0.03,
        spectrum: Spectrum = "bound",
        companion_hidden: Size = 64,
        head_dropout: DropoutShare = 0.5,
        sampling: Sampling | None = None,
    ) -> None:
        super().__init__()
        self.width, self.filters, self.order = width, filters, order
        self.prior, self.prior_scale, self.spectrum = prior, prior_scale, spectrum
        self.companion_hidden, self.head_dropout = companion_hidden, head_dropout
        self.sampling = sampling or Windows()
        self.eeg = single_eeg("dgcnn", modalities)
        self.companions = tuple(name for name in modalities if name != self.eeg)
        self._build(modalities)

    def _build(self, modalities: Mapping[str, Modality]) -> None:
        """Make the layers."""
        for name, modality in modalities.items():
            # It follows from the names: a saved state fits any channel order.
            self.register_buffer(
                f"_channels_{name}", channel_order(modality), persistent=False
            )
        eeg = modalities[self.eeg]
        order = self._order_of(self.eeg).tolist()
        self.electrodes = tuple(eeg.channels[channel] for channel in order)
        self.graph = LearnedGraph(
            electrode_positions(self.electrodes),
            prior=self.prior,
            scale=self.prior_scale,
            spectrum=self.spectrum,
        )
        self.convolution = ChebyshevConvolution(
            len(eeg.features), self.filters, self.order
        )
        self.dense = nn.Linear(len(eeg.channels) * self.filters, self.width)
        self.companion_encoders = nn.ModuleDict(
            {name: self._perceptron(modalities[name]) for name in self.companions}
        )

    def _perceptron(self, modality: Modality) -> nn.Module:
        return nn.Sequential(
            nn.Linear(
                len(modality.channels) * len(modality.features), self.companion_hidden
            ),
            nn.ReLU(),
            nn.Linear(self.companion_hidden, self.width),
            nn.ReLU(),
        )

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
            Of shape (batch, width) for each modality, (batch, modalities * width) for
            the fusion; zero for a modality that is missing in the whole sample.
        """
        ours = {name: masks[name] for name in (self.eeg, *self.companions)}
        # The graph is the same in every window.
        encode = partial(self._encode, self.graph())
        return mean_over_windows(encode, signals, ours)

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the published classifier: one layer, on every branch."""
        return nn.Sequential(Dropout(self.head_dropout), nn.Linear(dim, classes))

    def _encode(
        self,
        laplacian: Tensor,
        windows: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Embed windows of shape (batch, channels, features)."""
        embeddings = {}
        for name, window in windows.items():
            ordered = window.index_select(-2, self._order_of(name))
            if name == self.eeg:
                nodes = self.convolution(ordered.movedim(-2, 0), laplacian).relu()
                embedding = self.dense(nodes.movedim(0, -2).flatten(-2)).relu()
            else:
                embedding = self.companion_encoders[name](ordered.flatten(-2))
            embeddings[name] = embedding * present[name][..., None]
        return {**embeddings, FUSION: torch.cat(list(embeddings.values()), -1)}

    def _order_of(self, name: str) -> Tensor:
        return self.get_buffer(f"_channels_{name}")
