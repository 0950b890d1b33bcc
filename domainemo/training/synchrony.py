"""Pre-training by synchrony: what one stimulus does to different people at one time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import combinations, pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from ..adapters.branches import unit
from ..backbones.layers import Dropout, DropoutShare, Size
from ..errors import ConfigurationError
from ..values import Bounds

__all__ = ["SynchronyContrast", "ntx"]


class SynchronyContrast(nn.Module):
    r"""Contrast of two groups of people at the same moments of the same stimuli.

    The pre-training objective of PhysioSync (IEEE TCSS 2025, doi
    10.1109/TCSS.2025.3602913, arXiv 2504.17163; code MSA-LMC/PhysioSync, its variant
    that pairs the same stimulus and time). The paper's text was not available: the
    equations are those that the released code computes.

    Of each view of each moment a group of people shows the element-wise maximum. Two
    terms, both of :func:`ntx`, with projections :math:`P_v`, members :math:`m` and
    groups 1 and 2:

    - temporal, for each view :math:`v` (LS-TCL), of
      :math:`\max_m P_v(h_v)` in group 1 and in group 2;
    - cross-modal, for each resolution (CM-CA): with the projection
      :math:`e = Q(\max_m h)` of one modality and :math:`p` of another, half of
      :math:`(p_1, e_2)` and half of :math:`(e_1, p_2)`: across sensors and people at
      once. Of several pairs of modalities it is their mean, so that its weight does not
      grow with them; the temporal term of each modality counts in full.

    What follows the ``/`` in a view's name is its resolution; views without one are all
    of the same. A term whose weight is zero is left out, with its projection.

    Ours, each with its reason: LayerNorm in place of BatchNorm in the projections, so
    that a pair's projection does not depend on its batch; dropout within them in
    training only, as the released code leaves it on forever by an oversight; and sizes
    that suit the networks of this library.

    Parameters
    ----------
    dims : mapping of str to int
        Dimension of each view, such as ``{"eeg/long": 256, "ecg/long": 256}``.
    temperature : float
        What cosines are divided by.
    projection : sequence of int
        Units of the layers of :math:`P_v`, which has no activations between them; the
        last is its output. (1024, 2048, 4096) as released.
    alignment : int
        Outputs of :math:`Q`: 1024 as released.
    shared_alignment : bool
        Whether all modalities of a resolution pass the same :math:`Q`, as released;
        they must then be of one dimension.
    dropout : float
        Dropout behind the inner layers of :math:`P_v`.
    temporal_weight : float
        Weight of the temporal term of each view: 0.5 as released.
    cross_weight : float
        Weight of the cross-modal term of each resolution: 1 as released.
    short_weight, long_weight : float
        What all terms of the resolutions of these names are multiplied by: 1 as
        released. As no weights of the network are trained by both, the optimiser, which
        scales each gradient by its own size, makes next to nothing of them, but for
        zero, for `weight_decay` of Adam, and where gradients are clipped.

    Raises
    ------
    ConfigurationError
        If there is no view, no term is left, or an option is out of range; with
        `shared_alignment`, if views of one resolution differ in dimension.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        temperature: Annotated[
            float, Bounds(above=0, words="a number above 0, such as 0.1")
        ] = 0.1,
        projection: Sequence[Size] = (128, 128),
        alignment: Size = 128,
        shared_alignment: bool = True,
        dropout: DropoutShare = 0.2,
        temporal_weight: Annotated[float, Bounds(0)] = 0.5,
        cross_weight: Annotated[float, Bounds(0)] = 1.0,
        short_weight: Annotated[float, Bounds(0)] = 1.0,
        long_weight: Annotated[float, Bounds(0)] = 1.0,
    ) -> None:
        super().__init__()
        self.dims, self.projection = dict(dims), tuple(projection)
        self.temperature, self.dropout = temperature, dropout
        self.alignment, self.shared_alignment = alignment, shared_alignment
        self.temporal_weight, self.cross_weight = temporal_weight, cross_weight
        self.short_weight, self.long_weight = short_weight, long_weight
        self._require_options()
        self.projectors = nn.ModuleDict(
            {
                view: _projector(dim, self.projection, dropout)
                for view, dim in self.dims.items()
                if self.temporal_weight and self._weight(view.partition("/")[2])
            }
        )
        self.aligners = nn.ModuleDict()
        for views in self._crossed().values():
            for view in views:
                key = self._aligner(view)
                if key not in self.aligners:
                    self.aligners[key] = nn.Sequential(
                        nn.Linear(self.dims[view], alignment), nn.LayerNorm(alignment)
                    )
        if not self.projectors and not self.aligners:
            raise ConfigurationError(
                f"Synchrony: no term is left for the views {', '.join(self.dims)}; "
                f"expected one whose temporal_weight or, of several modalities, "
                f"cross_weight is above 0, as is the weight of its resolution."
            )

    def forward(
        self,
        first: Mapping[str, Tensor],
        second: Mapping[str, Tensor],
        *,
        valid: Mapping[str, Tensor] | None = None,
        same: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted losses; their sum is the objective.

        Parameters
        ----------
        first, second : mapping of str to Tensor of shape (pairs, members, dim)
            Views of the members of two disjoint groups of people. Row i of both is the
            same moment of the same stimulus.
        valid : mapping of str to bool Tensor of shape (pairs,), optional
            False where a member of either group lacks the view: the pair then leaves
            the losses of that view. All by default, as for views that are not named.
        same : bool Tensor of shape (pairs, pairs), optional
            Which pairs are no negatives of each other, such as neighbouring moments of
            one stimulus, or augmented copies of one.

        Returns
        -------
        dict of str to scalar Tensor
            ``"temporal.VIEW"`` for each view, and ``"cross.RESOLUTION"`` (``"cross"``
            where views have none) for each resolution of several modalities.

        Raises
        ------
        ConfigurationError
            If a group lacks a view.
        """
        self._require_views(first, second)
        known = valid or {}
        masks = {
            view: known.get(view, torch.ones_like(first[view][..., 0, 0]).bool())
            for view in self.dims
        }
        # Nothing of a missing view may reach a weight's gradient: 0 times NaN is NaN.
        one, two = (
            {
                view: torch.where(mask[..., None, None], group[view], 0.0)
                for view, mask in masks.items()
            }
            for group in (first, second)
        )
        losses = {}
        for view, project in self.projectors.items():
            ours, theirs = project(one[view]).amax(-2), project(two[view]).amax(-2)
            loss = ntx(ours, theirs, self.temperature, masks[view], same)
            weight = self.temporal_weight * self._weight(view.partition("/")[2])
            losses[f"temporal.{view}"] = weight * loss
        for resolution, views in self._crossed().items():
            loss = self._cross(views, (one, two), masks, same)
            weight = self.cross_weight * self._weight(resolution)
            losses[_loss_name(resolution)] = weight * loss
        return losses

    def _cross(
        self,
        views: Sequence[str],
        groups: Sequence[Mapping[str, Tensor]],
        masks: Mapping[str, Tensor],
        same: Tensor | None,
    ) -> Tensor:
        """Return the mean over pairs of modalities of one resolution."""
        first, second = (
            {
                view: self.aligners[self._aligner(view)](group[view].amax(-2))
                for view in views
            }
            for group in groups
        )
        losses = []
        for one, other in combinations(views, 2):
            both = masks[one] & masks[other]
            # The modalities are exchanged in the first group.
            for ours, theirs in ((other, one), (one, other)):
                pair = first[ours], second[theirs]
                losses.append(ntx(*pair, self.temperature, both, same))
        return reduce(torch.add, losses) / len(losses)

    def _resolutions(self) -> dict[str, list[str]]:
        """Return the views of each resolution."""
        found: dict[str, list[str]] = {}
        for view in self.dims:
            found.setdefault(view.partition("/")[2], []).append(view)
        return found

    def _crossed(self) -> dict[str, list[str]]:
        """Return the views of each resolution that has a cross-modal term."""
        return {
            resolution: views
            for resolution, views in self._resolutions().items()
            if len(views) > 1 and self.cross_weight and self._weight(resolution)
        }

    def _weight(self, resolution: str) -> float:
        """Return what all terms of a resolution are multiplied by."""
        weights = {"short": self.short_weight, "long": self.long_weight}
        return weights.get(resolution, 1.0)

    def _aligner(self, view: str) -> str:
        """Return where the view's cross-modal projection is kept."""
        if not self.shared_alignment:
            return view
        return f"every/{view.partition('/')[2]}"

    def _require_options(self) -> None:
        if not self.dims:
            raise ConfigurationError("Synchrony needs at least one view; found none.")
        if not self.projection:
            raise ConfigurationError(
                "Synchrony: projection is empty; expected one size or several."
            )
        for views in self._crossed().values():
            sizes = {view: self.dims[view] for view in views}
            if self.shared_alignment and len(set(sizes.values())) > 1:
                found = ", ".join(f"{view} has {dim}" for view, dim in sizes.items())
                raise ConfigurationError(
                    f"Synchrony: views that share a projection must be of one "
                    f"dimension; {found}. Set shared_alignment=False."
                )

    def _require_views(self, *groups: Mapping[str, Tensor]) -> None:
        for group in groups:
            missing = [view for view in self.dims if view not in group]
            if missing:
                raise ConfigurationError(
                    f"Synchrony was built for the views {', '.join(self.dims)}, but "
                    f"{', '.join(missing)} is missing from a batch."
                )


def ntx(
    first: Tensor,
    second: Tensor,
    temperature: float = 0.1,
    valid: Tensor | None = None,
    same: Tensor | None = None,
) -> Tensor:
    r"""Return the contrastive loss of two groups, both directions added up.

    The equation of PhysioSync's pre-training, the NT-Xent of SimCLR with :math:`\tau`
    and cosines :math:`s`: :math:`L_a + L_b`, where

    .. math:: L_a = -\frac1B \sum_i \log \frac{e^{s(a_i, b_i) / \tau}}
              {\sum_j e^{s(a_i, b_j) / \tau} + \sum_{j \ne i} e^{s(a_i, a_j) / \tau}}

    and :math:`L_b` has both exchanged.

    Parameters
    ----------
    first, second : Tensor of shape (..., pairs, dim)
        The :math:`a` and :math:`b`.
    temperature : float
    valid : bool Tensor of shape (..., pairs), optional
        False for a pair that is neither positive nor negative, whatever stands there.
    same : bool Tensor of shape (..., pairs, pairs), optional
        Pairs that are no negatives of each other; the diagonal does not matter.

    Returns
    -------
    Tensor of shape (...)
        Zero, with zero gradient, of fewer than two valid pairs.
    """
    if valid is None:
        valid = torch.ones_like(first[..., 0], dtype=torch.bool)
    # A product would let NaN and infinity through.
    a, b = (
        unit(torch.where(valid[..., None], group, 0.0)) for group in (first, second)
    )
    itself = torch.eye(a.shape[-2], dtype=torch.bool, device=a.device)
    negative = valid[..., None, :] & ~itself
    if same is not None:
        negative = negative & ~same
    between = a @ b.mT
    total = _direction(between, a @ a.mT, negative, temperature)
    total = total + _direction(between.mT, b @ b.mT, negative, temperature)
    weights = valid.to(total.dtype)
    count = weights.sum(-1)
    return (total * weights).sum(-1) / count.clamp(min=1.0) * (count > 1)


def _direction(
    between: Tensor, within: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    """Return each row's loss (..., pairs) from cosines (..., pairs, pairs)."""
    scores = torch.cat([between, within], -1) / temperature
    # A row always holds its own pair, and so is never empty.
    itself = torch.eye(between.shape[-1], dtype=torch.bool, device=between.device)
    allowed = torch.cat([negative | itself, negative], -1)
    lowest = torch.finfo(scores.dtype).min
    shares = scores.masked_fill(~allowed, lowest).log_softmax(-1)
    return -shares.diagonal(dim1=-2, dim2=-1)


def _projector(dim: int, sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Return linear layers, normalised and with dropout between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((dim, *sizes)):
        if layers:
            layers += [nn.LayerNorm(inputs), Dropout(dropout)]
        layers.append(nn.Linear(inputs, outputs))
    return nn.Sequential(*layers)


def _loss_name(resolution: str) -> str:
    return f"cross.{resolution}" if resolution else "cross"
