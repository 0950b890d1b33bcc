"""Temperature scaling: probabilities as confident as they are right, on others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_temperature"]

_RANGE = np.log(0.05), np.log(20.0)


def best_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    r"""Return the temperature by which logits predict labels best.

    .. math:: T = \arg\min_T -\sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

    Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, ICML
    2017; every class counts alike here, as its share says nothing of another person.

    Parameters
    ----------
    logits : ndarray of float, shape (samples, classes)
    labels : ndarray of int, shape (samples,)

    Returns
    -------
    float
        From 0.05 to 20; above 1 where the logits are too sure. 1 of no sample.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    if not len(labels):
        return 1.0
    shares = 1 / np.bincount(labels, minlength=logits.shape[1])[labels]
    scores = logits.astype(np.float64)
    places = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        predicted = log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-(shares * predicted[places, labels]).sum())

    return float(np.exp(minimize_scalar(loss, bounds=_RANGE, method="bounded").x))
