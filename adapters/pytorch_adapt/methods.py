"""How each method is made of pytorch-adapt's hooks and layers, for one branch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .library import load

__all__ = ["EVERYTHING", "METHODS", "Kit", "Made", "Method"]

EVERYTHING = ("G", "C", "D", "residual_model", "feature_combiner")
"""What may learn, as the library calls it: G is the network, C classifies, D tells the
domains apart."""

_COMBINED = 256
_MEMORY = 1024
_WEAK, _STRONG = 0.01, 0.15

Made = tuple[Any, dict[str, nn.Module]]
"""A hook, and the modules that it asks for by name."""


class Kit:
    """What a method is made of on one branch: the library, and modules of its size.

    Parameters
    ----------
    dim : int
        Of the branch's embedding.
    classes : int
    hidden : int
        Width of the one hidden layer of every module.
    """

    def __init__(self, dim: int, classes: int, hidden: int) -> None:
        self.hooks, self.layers = load("hooks"), load("layers")
        self.dim, self.classes, self.hidden = dim, classes, hidden
        self.combined = _COMBINED

    def network(self, inputs: int, outputs: int) -> nn.Sequential:
        """Return a network with one hidden layer."""
        first, last = nn.Linear(inputs, self.hidden), nn.Linear(self.hidden, outputs)
        return nn.Sequential(first, nn.ReLU(), last)

    def classifier(self) -> nn.Sequential:
        """Return a classifier of embeddings."""
        return self.network(self.dim, self.classes)

    def discriminator(self, at: str) -> nn.Sequential:
        """Return what gives one number for features, logits, or both combined."""
        sizes = {"features": self.dim, "logits": self.classes, "both": self.combined}
        return nn.Sequential(self.network(sizes[at], 1), nn.Flatten(0))

    def combiner(self) -> Any:
        """Return the randomised product of features and class probabilities."""
        sizes = [self.dim, self.classes]
        return self.layers.RandomizedDotProduct(sizes, self.combined)

    def kernel(self) -> Any:
        """Return maximum mean discrepancy, in its form that is not linear in time."""
        scales = load("layers.utils").get_kernel_scales(-3, 3, 7)
        return self.layers.MMDLoss(scales, mmd_type="quadratic")


@dataclass(frozen=True)
class Method:
    """A method of the library.

    Attributes
    ----------
    make : callable
        Makes the hook and its modules of a kit.
    predict : callable, optional
        Returns logits of what its own classifier C returns; None where it has none,
        and works on the network's.
    equal : bool
        Whether it compares as many samples of the source as of the target.
    """

    make: Callable[[Kit], Made]
    predict: Callable[[Any], Tensor] | None = None
    equal: bool = False


def _plain(logits: Tensor) -> Tensor:
    return logits


def _both(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([*logits]).sum(0)


def _of_target(logits: Sequence[Tensor]) -> Tensor:
    return logits[1]


# ------------------------------------------------------------------------ adversarial


def _reversing(hook: str, at: str = "features") -> Method:
    """Return a method that reverses gradients between network and discriminator."""

    def make(kit: Kit) -> Made:
        no_classes = kit.hooks.EmptyHook()  # the network learns those anyway
        made = getattr(kit.hooks, hook)(opts=EVERYTHING, c_hook=no_classes)
        return made, _judges(kit, at)

    return Method(make)


def _in_turns(hook: str, at: str = "features") -> Method:
    """Return a method in which the discriminator and the network have a loss each.

    For the network's, the hook gives each domain the other's labels, as many as these.
    """

    def make(kit: Kit) -> Made:
        options = {"d_opts": ("D",), "g_opts": ("G", "C")}
        no_classes = kit.hooks.EmptyHook()
        made = getattr(kit.hooks, hook)(c_hook=no_classes, **options)
        return made, _judges(kit, at)

    return Method(make, equal=True)


def _judges(kit: Kit, at: str) -> dict[str, nn.Module]:
    judge: dict[str, nn.Module] = {"D": kit.discriminator(at)}
    return judge | ({"feature_combiner": kit.combiner()} if at == "both" else {})


def _confusion(kit: Kit) -> Made:
    hook = kit.hooks.DomainConfusionHook(
        d_opts=("D",), g_opts=("G", "C"), c_hook=kit.hooks.EmptyHook()
    )
    return hook, {"D": kit.network(kit.dim, 2)}


def _bridged(hook: str) -> Method:
    """Return a form of GVB: classifier and discriminator, less a bridge each."""

    def make(kit: Kit) -> Made:
        options: dict[str, Any] = {"opts": EVERYTHING}
        if hook == "GVBGANHook":
            options = {"d_opts": ("D",), "g_opts": ("G", "C")}
        bridged = kit.layers.ModelWithBridge
        modules = {
            "C": bridged(kit.classifier()),
            "D": bridged(kit.discriminator("logits")),
        }
        return getattr(kit.hooks, hook)(**options), modules

    return Method(make, _plain, equal=hook == "GVBGANHook")


def _vada(kit: Kit) -> Made:
    hook = kit.hooks.VADAHook(
        d_opts=("D",), g_opts=("G", "C"), vat_loss_fn=_smoothness(kit.layers)
    )
    return hook, {"D": kit.discriminator("features"), "C": kit.classifier()}


def _smoothness(layers: Any) -> Any:
    """Return virtual adversarial training of embeddings in place of images."""

    class Smoothness(layers.VATLoss):  # type: ignore[misc]
        """VATLoss, with steps measured by the length of the embeddings.

        Its own constants are those of images. The direction is sought on copies, as
        the library seeks it by a backward pass that would reach the whole network.
        """

        def forward(self, imgs: Tensor, logits: Tensor, model: Any) -> Tensor:
            there, told = imgs.detach(), logits.detach()
            length = there.norm(dim=1).mean()
            self.xi, self.epsilon = _WEAK * length, _STRONG * length
            away = self.get_perturbation(there, told, model.frozen())
            moved = model(imgs + away).log_softmax(1)
            loss: Tensor = self.kl_div(moved, told.softmax(1))
            return loss

    return Smoothness()


# ------------------------------------------------------------------ two classifiers


def _discrepancy(kit: Kit) -> Made:
    hook = kit.hooks.MCDHook(g_opts=("G",), c_opts=("C",), repeat=1)
    return hook, {"C": _pair(kit)}


def _symmetric(kit: Kit) -> Made:
    hook = kit.hooks.SymNetsHook(g_opts=("G",), c_opts=("C",))
    return hook, {"C": _pair(kit)}


def _pair(kit: Kit) -> Any:
    return kit.layers.MultipleModels(kit.classifier(), kit.classifier())


def _residual(kit: Kit) -> Made:
    hook = kit.hooks.RTNHook(opts=EVERYTHING, aligner_loss_fn=kit.kernel())
    return hook, {
        "C": kit.classifier(),
        "residual_model": kit.layers.PlusResidual(
            kit.network(kit.classes, kit.classes)
        ),
        "feature_combiner": kit.combiner(),
    }


# -------------------------------------------------------------------- neighbourhood


def _neighbours(kit: Kit) -> Made:
    hook = kit.hooks.ATDOCHook(_MEMORY, kit.dim, kit.classes)
    hook.labeler = _Latest(hook.labeler)
    return hook, {"labeler": hook.labeler}


class _Latest(nn.Module):
    """The library's memory of the target, holding what was seen last.

    It is made to hold every sample of the target under its number. A batch here has no
    numbers, so that its samples take the place of the oldest.
    """

    position: Tensor

    def __init__(self, memory: nn.Module) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("position", torch.zeros((), dtype=torch.long))

    def forward(
        self, features: Tensor, logits: Tensor, update: bool, idx: Tensor
    ) -> Any:
        """Return what the neighbours are believed to be, and remember the batch."""
        memory: Any = self.memory
        size, count = len(memory.feat_memory), len(features)
        places = (self.position + torch.arange(count).to(self.position)) % size
        found = memory(features, logits, update=update, idx=places)
        self.position.copy_((self.position + count) % size)
        # A class without any mass in a batch is divided by zero.
        memory.pred_memory.nan_to_num_(nan=0.0)
        return found


# ----------------------------------------------------------------- one loss and no more


def _distance(make: Callable[[Kit], Any], *, equal: bool = False) -> Method:
    """Return a distance between the features of source and target."""

    def aligner(kit: Kit) -> Made:
        return kit.hooks.AlignerHook(make(kit)), {}

    return Method(aligner, equal=equal)


def _layer(name: str) -> Callable[[Kit], Any]:
    return lambda kit: getattr(kit.layers, name)()


def _hook(name: str) -> Method:
    """Return a hook that is one loss by itself."""
    return Method(lambda kit: (getattr(kit.hooks, name)(), {}))


def _joint(kit: Kit) -> Made:
    hook = kit.hooks.JointAlignerHook(kit.kernel())
    return hook, {}


METHODS: Mapping[str, Method] = {
    "DANN": _reversing("DANNHook"),
    "DANNE": _reversing("DANNEHook"),
    "DANNLogits": _reversing("DANNLogitsHook", "logits"),
    "DANNSoftmaxLogits": _reversing("DANNSoftmaxLogitsHook", "logits"),
    "CDAN": _in_turns("CDANHook", "both"),
    "CDANE": _in_turns("CDANEHook", "both"),
    "CDANNE": _reversing("CDANNEHook", "both"),
    "GAN": _in_turns("GANHook"),
    "GANE": _in_turns("GANEHook"),
    "DomainConfusion": Method(_confusion),
    "VADA": Method(_vada, _plain, equal=True),
    "GVB": _bridged("GVBHook"),
    "GVBE": _bridged("GVBEHook"),
    "GVBGAN": _bridged("GVBGANHook"),
    "MCD": Method(_discrepancy, _both),
    "SymNets": Method(_symmetric, _of_target),
    "RTN": Method(_residual, _plain),
    "ATDOC": Method(_neighbours),
    "AFN": _hook("AFNHook"),
    "BSP": _hook("BSPHook"),
    "MMDLoss": _distance(Kit.kernel),
    "JointAligner": Method(_joint),
    "CORALLoss": _distance(_layer("CORALLoss")),
    "SlicedWasserstein": _distance(_layer("SlicedWasserstein"), equal=True),
    "MeanDistLoss": _distance(_layer("MeanDistLoss")),
    "ISTLoss": _hook("ISTLossHook"),
    "MCCLoss": _hook("MCCHook"),
    "BNMLoss": _hook("BNMHook"),
    "EntropyLoss": _hook("TargetEntropyHook"),
    "DiversityLoss": _hook("TargetDiversityHook"),
}
"""What there is, by the library's own names; a hook's without its last four letters."""
