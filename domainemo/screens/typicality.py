"""Typicality: whether a sample looks like any that the network learned from."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Typicality", "class_statistics", "farthest", "nearest_class"]

_FLAT = 1e-10


class Typicality(nn.Module):
    r"""Whether a branch's embedding lies within the source's own distances.

    A sample :math:`z` is typical where at least a share :math:`\alpha` of the source's
    samples :math:`z_j` lie as far from their nearest class mean:

    .. math:: \frac1n \sum_j [d(z_j) \ge d(z)] \ge \alpha, \qquad
              d^2(z) = \min_c (z - \mu_c)^\top \Sigma^{-1} (z - \mu_c)

    with the class means :math:`\mu_c` and the shared covariance :math:`\Sigma` of the
    source about them, shrunk towards a multiple of the identity (Ledoit and Wolf,
    Journal of Multivariate Analysis, 2004). The distance is that of Lee, Lee, Lee and
    Shin, A simple unified framework for detecting out-of-distribution samples, NeurIPS
    2018; the share is a conformal p-value but for the correction of one sample, and
    for this: the source has trained the network, so that it lies nearer than people do
    who have not.

    Before it has learned, all is typical, as it is where the source never had the
    sensor.

    Parameters
    ----------
    dim, classes : int
    """

    means: Tensor
    whitening: Tensor
    limit: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        for name, values in {
            "means": torch.zeros(classes, dim),
            "whitening": torch.zeros(dim, dim),
            "limit": torch.tensor(math.inf),
        }.items():
            self.register_buffer(name, values, persistent=False)

    def learn(self, embeddings: Tensor, labels: Tensor, share: float) -> None:
        r"""Take in the source.

        Parameters
        ----------
        embeddings : Tensor of shape (samples, dim)
            Of the samples that the sensor saw.
        labels : Tensor of int, shape (samples,)
        share : float
            :math:`\alpha`, above 0.
        """
        means, whitening = class_statistics(embeddings, labels, len(self.means))
        self.means.copy_(means)
        self.whitening.copy_(whitening)
        own = nearest_class(embeddings, self.means, self.whitening)
        self.limit.copy_(farthest(own, share))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return which of the samples are typical.

        Parameters
        ----------
        embeddings : Tensor of shape (..., batch, dim)

        Returns
        -------
        Tensor of bool, shape (..., batch)
        """
        found = nearest_class(embeddings.detach(), self.means, self.whitening)
        return found <= self.limit


def class_statistics(
    embeddings: Tensor, labels: Tensor, classes: int
) -> tuple[Tensor, Tensor]:
    r"""Return class means, and the root of the inverse of the shared covariance.

    Parameters
    ----------
    embeddings : Tensor of shape (samples, dim)
    labels : Tensor of int, shape (samples,)
    classes : int

    Returns
    -------
    means : Tensor of shape (classes, dim)
        Of a class without a sample, another one's; all zero where there is no sample.
    whitening : Tensor of shape (dim, dim)
        :math:`\Sigma^{-1/2}`, zero along directions in which nothing varies.
    """
    from sklearn.covariance import ledoit_wolf

    dim = embeddings.shape[-1]
    if len(embeddings) < 2:
        return embeddings.sum(0).repeat(classes, 1), embeddings.new_zeros(dim, dim)
    points = embeddings.double()
    there = torch.unique(labels)
    known = torch.stack([points[labels == each].mean(0) for each in there])
    means = known[0].repeat(classes, 1)
    means[there] = known
    about = (points - means[labels]).cpu().numpy()
    covariance = torch.from_numpy(ledoit_wolf(about, assume_centered=True)[0])
    values, vectors = torch.linalg.eigh(covariance)
    varies = values > _FLAT * values.amax().clamp(min=torch.finfo(values.dtype).tiny)
    roots = torch.where(varies, values.where(varies, torch.ones(())).rsqrt(), 0.0)
    whitening = vectors * roots @ vectors.mT
    return means.to(embeddings), whitening.to(embeddings)


def nearest_class(embeddings: Tensor, means: Tensor, whitening: Tensor) -> Tensor:
    """Return the squared Mahalanobis distance to the nearest class mean.

    Parameters
    ----------
    embeddings : Tensor of shape (..., batch, dim)
    means, whitening : Tensor
        See :func:`class_statistics`.

    Returns
    -------
    Tensor of shape (..., batch)
    """
    apart = embeddings.unsqueeze(-2) - means
    return (apart @ whitening).square().sum(-1).amin(-1)


def farthest(distances: Tensor, share: float) -> Tensor:
    """Return the largest distance that a share of some distances reach.

    Parameters
    ----------
    distances : Tensor of shape (samples,)
    share : float
        Above 0, to 1.

    Returns
    -------
    Tensor of shape ()
        Infinite where there are none.
    """
    if not len(distances):
        return distances.new_tensor(math.inf)
    # What is a whole number on paper need not be one in binary.
    place = max(math.ceil(share * len(distances) - 1e-9), 1) - 1
    return distances.sort(descending=True).values[place]
