"""Where samples lie in a trained network's embedding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..core import FUSION
from ..data.normalisation import normalise
from ..runs.model import load_trained
from ..training.batches import Samples, majority_label, sample
from ..training.model import Network
from ..training.seeds import derive_seed, reproducible
from .reading import Recordings, TrainedNetwork

__all__ = ["embed", "principal_plane"]

Array = NDArray[np.float64]

_EMBEDDED = 600  # samples of the source, and as many of the target, in a picture
_BATCH = 128


def embed(network: TrainedNetwork, recordings: Recordings) -> pd.DataFrame:
    """Return where samples of the source and the target lie in the fusion's embedding.

    The plane is that of the two largest principal components of the samples shown,
    source and target together. Of many samples some are drawn, by a fixed seed.

    Parameters
    ----------
    network : TrainedNetwork
    recordings : Recordings

    Returns
    -------
    DataFrame
        A row per sample: ``x``, ``y``, ``role`` (source or target, the tested
        samples), ``class`` (its true one) and ``domain``, the protocol's. The shares
        of the variance along x and y are ``attrs["explained"]``.
    """
    trained = load_trained(network.folder, recordings.experiment)
    fold, data = recordings.folds[network.fold], recordings.data
    used = fold.used
    fold = fold.renumbered(used)
    source, target = fold.source, fold.seen
    method = recordings.experiment.build_normalisation()
    inputs, _ = normalise(data.inputs.take(used), method, source=source, target=target)
    sampling = trained.network.backbone.sampling
    domain = recordings.experiment.protocol.build().domain
    tables, places = [], []
    for role, rows in (("source", source), ("target", fold.test)):
        samples, members = sample(inputs, rows, sampling, torch.device("cpu"))
        drawn = _drawn(len(members), role)
        members = np.where(members >= 0, used[members], -1)[drawn]
        with reproducible(recordings.experiment.training.threads):
            places.append(_embeddings(trained.network, samples, drawn))
        windows = data.inputs.windows.iloc[members[:, 0]]
        names = np.array(data.classes)[majority_label(members, data.labels)]
        columns = {"role": role, "class": names, "domain": windows[domain].to_numpy()}
        tables.append(pd.DataFrame(columns))
    plane, explained = principal_plane(np.concatenate(places))
    table = pd.concat(tables, ignore_index=True)
    table = table.assign(x=plane[:, 0], y=plane[:, 1])
    table.attrs["explained"] = explained
    return table


def _drawn(samples: int, role: str) -> NDArray[np.int64]:
    """Return the samples to show, in order."""
    generator = np.random.default_rng(derive_seed("embedding", role))
    return np.sort(generator.permutation(samples)[:_EMBEDDED])


def _embeddings(model: Network, samples: Samples, drawn: NDArray[np.int64]) -> Array:
    """Return the fusion's embeddings of some samples; shape (samples, dim)."""
    with torch.no_grad():
        parts = [
            model(*samples.batch(chunk)).embeddings[FUSION]
            for chunk in torch.split(torch.from_numpy(drawn), _BATCH)
        ]
    return torch.cat(parts).double().numpy()


def principal_plane(points: Array) -> tuple[Array, tuple[float, float]]:
    """Return points in the plane of their two largest principal components.

    Parameters
    ----------
    points : ndarray of float, shape (points, dim)

    Returns
    -------
    plane : ndarray of float, shape (points, 2)
        Each axis so directed that its point farthest from zero is positive.
    explained : tuple of float
        The share of the variance along each axis.
    """
    centred = points - points.mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(points), 2))
    kept = min(2, len(sizes))
    plane[:, :kept] = (left * sizes)[:, :kept]
    farthest = plane[np.abs(plane).argmax(0), [0, 1]]
    plane *= np.where(farthest < 0, -1, 1)
    shares = np.zeros(2)
    if sizes.any():
        shares[:kept] = (sizes**2 / (sizes**2).sum())[:kept]
    return plane, (float(shares[0]), float(shares[1]))
