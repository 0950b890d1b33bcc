"""Whether the target's predictions agree with clusters of its embeddings."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING

from torch import Tensor

from ..core import Source, Target, Validator
from ..registry import register
from .shared import Samples, embeddings_of, is_finite, kinds, logits_of, sampled

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["ClassAMI", "cluster_agreement"]


@register(name="class-ami")
class ClassAMI(Validator):
    r"""Agreement of predictions with clusters of the embeddings: class AMI.

    .. math:: \frac{I(\hat y, c) - \operatorname{E} I}
              {\frac12 (H(\hat y) + H(c)) - \operatorname{E} I}

    The adjusted mutual information of the target's predicted classes and of k-means
    clusters, as many as classes, of its embeddings (Robbiano et al., 2021; Musgrave,
    Belongie and Lim, 2022; pytorch-adapt's ``ClassClusterValidator``). K-means begins
    from a fixed seed, so that the score is the same again.

    It assumes that the classes are the clusters. It does not assume that they are
    equally frequent, and sees a predictor that guesses at random; but clusters that are
    sessions, or states other than the labels, are as good to it, and a network may
    cluster its embeddings by whatever it predicts, right or wrong.

    Parameters
    ----------
    samples : int
        Of more target samples than this, so many are drawn with a fixed seed.
    """

    def __init__(self, *, samples: Samples = 1000) -> None:
        self.samples = samples

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the score: 1 for the same parts, about 0 for unrelated ones."""
        if not is_finite(held_out, target, embeddings=True):
            return -math.inf
        logits = logits_of(target)
        rows = sampled(len(logits), self.samples)
        predicted = logits[rows].argmax(1)
        return cluster_agreement(
            embeddings_of(target)[rows], predicted, logits.shape[1]
        )


def cluster_agreement(embeddings: Tensor, predicted: Tensor, classes: int) -> float:
    """Return the adjusted mutual information of predictions and clusters.

    Parameters
    ----------
    embeddings : Tensor of shape (batch, dim)
    predicted : Tensor of int, shape (batch,)
    classes : int
        How many clusters are made.

    Returns
    -------
    float
        0 where there are fewer samples than classes, or a single class or cluster,
        which tells nothing.
    """
    if len(embeddings) < classes or kinds(predicted) < 2:
        return 0.0
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import adjusted_mutual_info_score

    # Threads would add up in another order each time.
    with warnings.catch_warnings(), _pools().limit(limits=1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # of equal embeddings
        found = KMeans(n_clusters=classes, random_state=0).fit(embeddings.numpy())
    if kinds(found.labels_) < 2:
        return 0.0
    return float(adjusted_mutual_info_score(predicted.numpy(), found.labels_))


@cache
def _pools() -> ThreadpoolController:
    """Return what limits the threads of the libraries that clustering has loaded.

    They are looked for once: that takes longer than to cluster a few hundred samples,
    and each epoch is scored.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
