"""MMSTG-Net as a preset: the contrast that its network trains beside the labels."""

from __future__ import annotations

from typing import Annotated

from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Weight
from .contrastive import CrossModalContrast

__all__ = ["MMSTGNetContrast"]


@register(name="mmstg-net")
class MMSTGNetContrast(CrossModalContrast):
    r"""MMSTG-Net's objective: the symmetric contrast of sensors, on the source.

    .. math:: L = L_{cls} + w \, L_{con}

    with :math:`L_{con}` of :func:`~domainemo.adapters.contrastive.contrast` and
    :math:`L_{cls}` what every training minimises (Bi, Lu and Sun, IEEE JBHI 2026).
    Documented is that EEG and eye movements are aligned by a contrast; the weight, the
    temperature and what is a negative are a reconstruction. Nothing says that the
    published system saw the test subjects: the target takes no part unless `on_target`
    is set, as it is in ``cross-modal-contrast``.

    Parameters
    ----------
    weight : float
        The :math:`w` of the equation.
    temperature : float
        What cosines are divided by.
    exclude_same_class : bool
        Leave other samples of a sample's class out of its negatives.
    on_target : bool
        Align the modalities of the target too.

    Raises
    ------
    ConfigurationError
        As of :class:`~domainemo.adapters.contrastive.CrossModalContrast`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 0.1,
        temperature: Annotated[
            float, Bounds(above=0, words="a number above 0, such as 0.1")
        ] = 0.1,
        exclude_same_class: bool = True,
        on_target: bool = False,
    ) -> None:
        super().__init__(
            weight=weight,
            temperature=temperature,
            exclude_same_class=exclude_same_class,
            on_target=on_target,
        )
