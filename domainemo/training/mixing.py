"""Two batches mixed, sample by sample."""

from __future__ import annotations

from ..core import Batch

__all__ = ["mix"]


def mix(first: Batch, second: Batch, share: float) -> Batch:
    """Return samples that are partly those of one batch and partly of another.

    Parameters
    ----------
    first, second : pair of dict
        Signals and masks, as :meth:`Samples.batch` returns them, of the same shapes.
    share : float
        What the first keeps of itself.

    Returns
    -------
    pair of dict
        A window that either lacks is lacking, and zero.
    """
    masks = {name: mask & second[1][name] for name, mask in first[1].items()}
    signals = {
        name: (share * values + (1 - share) * second[0][name])
        * masks[name][..., None, None]
        for name, values in first[0].items()
    }
    return signals, masks
