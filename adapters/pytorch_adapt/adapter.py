"""The bridge: hooks of pytorch-adapt as losses of embeddings, on any branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from domainemo.adapters.alignment import Alignment, Weight
from domainemo.adapters.branches import Branches, Schedule, levels
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.registry import register
from domainemo.values import Bounds

from .methods import EVERYTHING, METHODS, Kit

__all__ = ["DANN", "Bridge"]


class Bridge(Alignment):
    """A method of pytorch-adapt 0.0.83 (Musgrave et al., 2022) on some branches.

    The library's own hook computes the losses, from a branch's embeddings and logits
    under the names it knows (``src_imgs_features``, ``target_imgs_features_logits``);
    modules that it asks for are made here, have one hidden layer and train with the
    network. The sum of the losses is the branch's.

    **One optimiser.** The library's optimisers take a step inside the hook, of some
    hooks several in turns. Here nothing steps. All losses of all turns are lowered at
    once, each by the modules whose turn it is; the others stand still in it, without
    gradient. So the two sides of a contest learn together, as by gradient reversal.

    **Classifiers.** A method that trains its classifier in a way of its own (MCD,
    SymNets, RTN, GVB, VADA) has its own one on the embedding, and predicts by that of
    the fusion where it works on the fusion: by the sum of both of MCD, by the target's
    of SymNets. The network's classifier trains beside it on the source, as always. The
    other methods work on the network's logits.

    **Undefined cases.** Samples that a sensor lost are left out. With fewer than two
    on either side, or where the library's value is not finite (MCC with a class that
    nothing is predicted as, MMD of equal points), the loss is zero, with zero
    gradient; a gradient that is not finite is zero. Methods that compare as many
    samples of the source as of the target (SlicedWasserstein, and those in turns: GAN,
    CDAN, VADA and their like) leave out the last ones of the larger side.

    **What differs.** ATDOC remembers the 1024 samples of the target seen last, in
    place of all under their numbers: batches here have no numbers. VADA's smoothness
    is that of its classifier around the embedding, 0.15 of the mean length away, not
    around the input: an adapter sees no network. CDAN's product has 256 dimensions.
    MMD has seven kernels and the quadratic estimate, as the library's own default
    needs batches of one size.

    It does not vectorise: the hooks take dictionaries and batches apart, and remember.
    The library is imported when the modules are made, and at no other time; that takes
    seconds, once per process. Random numbers are torch's, which training seeds.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`. They weigh all that the method's own modules learn as well.
    hidden : int
        Width of the hidden layer of the method's own modules, where it has some.
    """

    vectorises = False

    method: ClassVar[str]
    """What the library calls it, see `methods.METHODS`."""

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = FUSION,
        schedule: Schedule = "ramp",
        hidden: Annotated[int, Bounds(least=1)] = 64,
    ) -> None:
        super().__init__(weight=weight, branches=branches, schedule=schedule)
        self.hidden = hidden
        self._turns: dict[str, list[_Turn]] = {}

    def prepare(self, dims: Mapping[str, int], classes: int, domains: int) -> None:
        """Make the hook and its modules for every branch."""
        modules: dict[str, nn.Module] = {}
        network = Outputs({}, dict.fromkeys(dims, torch.empty(0)))
        for branch in levels(network, self.branches):
            kit = Kit(dims[branch], classes, self.hidden)
            hook, own = METHODS[self.method].make(kit)
            turns = list(_turns(hook))
            alone = _Turn(hook, kit.hooks.MeanReducer(), EVERYTHING)
            self._turns[branch] = turns or [alone]
            modules[branch] = nn.ModuleDict(own)
        self.own = nn.ModuleDict(modules)

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the sum of the method's losses; zero where it is not defined."""
        sides = {
            "src": _present(source.outputs, branch, labels=source.labels),
            "target": _present(target.outputs, branch),
        }
        least = min(len(each["features"]) for each in sides.values())
        if METHODS[self.method].equal:
            sides = {side: _first(each, least) for side, each in sides.items()}
        embeddings = [each.outputs.embeddings[branch] for each in (source, target)]
        zero = embeddings[0].sum() * 0 + embeddings[1].sum() * 0
        if least < 2:
            return zero
        with torch.enable_grad():  # without, the hooks would refuse
            losses = [self._loss(turn, sides, branch) for turn in self._turns[branch]]
            total = torch.stack(losses).sum()
        return total if bool(total.isfinite()) else zero

    def _loss(self, turn: _Turn, sides: Mapping[str, _Side], branch: str) -> Tensor:
        """Return the sum of what a turn lowers."""
        modules: Any = self.own[branch]
        known: dict[str, Any] = {
            name: _Module(module, learns=name in turn.learning)
            for name, module in modules.items()
        }
        known["combined_model"] = known.get("C")
        for side, values in sides.items():
            known |= _published(side, values, learns="G" in turn.learning)
            if "C" in modules:  # which makes logits of its own
                del known[f"{side}_imgs_features_logits"]
        outputs, losses = turn.hook(known, {})
        _, reduced = turn.reducer({**known, **outputs}, losses)
        return torch.stack([loss.sum() for loss in reduced.values()]).sum()

    def predict(self, outputs: Outputs) -> Tensor:
        """Return what the method's own classifier predicts, where it has one."""
        predict = METHODS[self.method].predict
        if predict is None or not self.shapes_prediction:
            return super().predict(outputs)
        modules: Any = self.own[FUSION]
        return predict(modules["C"](outputs.embeddings[FUSION]))

    @property
    def shapes_prediction(self) -> bool:
        """Whether the method has a classifier of its own, and on the fusion."""
        named = (self.branches,) if isinstance(self.branches, str) else self.branches
        return METHODS[self.method].predict is not None and bool(
            {FUSION, "all"} & {*named}
        )


# ---------------------------------------------------------- what the library is handed

_Side = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Turn:
    """What the library would give one step of some optimisers.

    Attributes
    ----------
    hook, reducer : object
        Compute the losses of a batch, and a number of each.
    learning : tuple of str
        What learns in this turn, see `methods.EVERYTHING`.
    """

    hook: Any
    reducer: Any
    learning: tuple[str, ...]


def _turns(hook: Any) -> Iterator[_Turn]:
    """Yield what a hook optimises; nothing where it is a loss and no more."""
    if hasattr(hook, "reducer"):
        yield _Turn(hook.hook, hook.reducer, tuple(hook.optimizers))
        return
    inner = getattr(hook, "hooks", None) or [getattr(hook, "hook", None)]
    for each in inner:
        if each is not None:
            yield from _turns(each)


class _Module:
    """A module as the library calls it, learning or standing still."""

    def __init__(self, module: nn.Module, *, learns: bool) -> None:
        change = _guarded if learns else Tensor.detach
        named = module.named_parameters()
        self.module = module
        self.weights = {name: change(weight) for name, weight in named}

    def __call__(self, *values: Any) -> Any:
        return functional_call(self.module, self.weights, values)

    def frozen(self) -> _Module:
        """Return the same module, standing still."""
        return _Module(self.module, learns=False)

    def zero_grad(self) -> None:
        """Do nothing: what stands still has no gradient that could be left over."""


def _present(outputs: Outputs, branch: str, **more: Tensor) -> dict[str, Tensor]:
    """Return what there is of a branch, for the samples that its sensor saw."""
    features, logits = outputs.embeddings[branch], outputs.logits[branch]
    found = {"features": features, "logits": logits, **more}
    there = outputs.weight(branch) > 0
    if bool(there.all()):
        return found
    return {name: values[there] for name, values in found.items()}


def _first(side: _Side, count: int) -> dict[str, Tensor]:
    return {name: values[:count] for name, values in side.items()}


def _published(side: str, values: _Side, *, learns: bool) -> dict[str, Tensor]:
    """Return a domain's tensors under the names that hooks ask for."""
    change = _guarded if learns else _apart
    features, logits = change(values["features"]), change(values["logits"])
    count = len(features)
    domain = torch.full((count,), int(side == "target"), device=features.device)
    found = {
        f"{side}_imgs": features,
        f"{side}_imgs_features": features,
        f"{side}_imgs_features_logits": logits,
        f"{side}_domain": domain,
        f"{side}_sample_idx": torch.arange(count, device=features.device),
    }
    return found | ({"src_labels": values["labels"]} if side == "src" else {})


def _guarded(values: Tensor) -> Tensor:
    """Return values that take part in learning by finite gradients only."""
    if not values.requires_grad:
        return _apart(values)
    found = values.view_as(values)
    found.register_hook(_finite)  # type: ignore[no-untyped-call]
    return found


def _finite(gradient: Tensor) -> Tensor:
    return torch.where(gradient.isfinite().all(), gradient, 0.0)


def _apart(values: Tensor) -> Tensor:
    """Return values that nothing behind learns from, in the form that hooks expect."""
    return values.detach().requires_grad_()


# ------------------------------------------------------------------------------ names


_OPTIONS = """

    It does not vectorise: the library's hooks take dictionaries and batches apart.

    Parameters
    ----------
    weight, branches, schedule, hidden
        See `Bridge`, which says how the library is used and what differs from it.
    """


@register(name="pytorch-adapt:DANN")
class DANN(Bridge):
    """DANN, first of 30 methods of pytorch-adapt: `domainemo list adapters` has all.

    Domain-adversarial training by gradient reversal (Ganin et al., JMLR 2016). It does
    not vectorise: the library's hooks take dictionaries and batches apart.

    Parameters
    ----------
    weight, branches, schedule, hidden
        See `Bridge`, which says how the library is used and what differs from it.
    """

    method = "DANN"

    # The registry reads both from this text: names are known without an import.
    varieties: ClassVar[Mapping[str, str]] = {
        "pytorch-adapt:DANNE": "DANN, certain samples counting more, as in CDAN+E.",
        "pytorch-adapt:DANNLogits": "DANN on logits in place of embeddings.",
        "pytorch-adapt:DANNSoftmaxLogits": "DANN on probabilities.",
        "pytorch-adapt:CDAN": "Conditional adversarial (Long et al., NeurIPS 2018).",
        "pytorch-adapt:CDANE": "CDAN+E: certain samples count more (ibid.).",
        "pytorch-adapt:CDANNE": "CDAN+E by gradient reversal.",
        "pytorch-adapt:GAN": "Adversarial, the network by inverted labels.",
        "pytorch-adapt:GANE": "GAN, certain samples counting more.",
        "pytorch-adapt:DomainConfusion": "Domain confusion (Tzeng et al., ICCV 2015).",
        "pytorch-adapt:VADA": "VADA: adversarial and smooth (Shu et al., ICLR 2018).",
        "pytorch-adapt:GVB": "Gradually vanishing bridge (Cui et al., CVPR 2020).",
        "pytorch-adapt:GVBE": "GVB, certain samples counting more.",
        "pytorch-adapt:GVBGAN": "GVB in turns, in place of gradient reversal.",
        "pytorch-adapt:MCD": "Maximum classifier discrepancy (Saito et al., 2018).",
        "pytorch-adapt:SymNets": "Domain-symmetric networks (Zhang et al., CVPR 2019).",
        "pytorch-adapt:RTN": "Residual transfer network (Long et al., NeurIPS 2016).",
        "pytorch-adapt:ATDOC": "Pseudo-labels by neighbours (Liang et al., CVPR 2021).",
        "pytorch-adapt:AFN": "Ever longer embeddings (Xu et al., ICCV 2019).",
        "pytorch-adapt:BSP": "Batch spectral penalty (Chen et al., ICML 2019).",
        "pytorch-adapt:MMDLoss": "MMD with several kernels (Long et al., ICML 2015).",
        "pytorch-adapt:JointAligner": "Joint MMD, JAN (Long et al., ICML 2017).",
        "pytorch-adapt:CORALLoss": "Deep CORAL (Sun and Saenko, ECCV-W 2016).",
        "pytorch-adapt:SlicedWasserstein": "Sliced Wasserstein distance of embeddings.",
        "pytorch-adapt:MeanDistLoss": "Mean distance of source and target embeddings.",
        "pytorch-adapt:ISTLoss": "Domains not told by neighbours (Shi and Sha, 2012).",
        "pytorch-adapt:MCCLoss": "Minimum class confusion (Jin et al., ECCV 2020).",
        "pytorch-adapt:BNMLoss": "Batch nuclear norm, raised (Cui et al., CVPR 2020).",
        "pytorch-adapt:EntropyLoss": "Entropy of each prediction, lowered.",
        "pytorch-adapt:DiversityLoss": "Entropy of the mean prediction, raised.",
    }
    left_out: ClassVar[Mapping[str, str]] = {
        "pytorch-adapt:ADDA": "it trains a second network for the target, and an "
        "adapter sees what one network makes of both.",
        "pytorch-adapt:AdaBN": "it changes layers inside the network, of which an "
        "adapter sees the outputs; --adapter adabn is this method.",
        "pytorch-adapt:Aligner": "it takes any distance; give that by its own name, "
        "such as pytorch-adapt:MMDLoss or pytorch-adapt:CORALLoss.",
        "pytorch-adapt:Classifier": "it trains on the source alone, which is --adapter "
        "none.",
        "pytorch-adapt:Finetuner": "it trains a classifier on a frozen network, and an "
        "adapter freezes none.",
        "pytorch-adapt:VATLoss": "it is a part of pytorch-adapt:VADA.",
        "pytorch-adapt:MCDLoss": "it compares two classifiers, which "
        "pytorch-adapt:MCD has.",
        "pytorch-adapt:GeneralMCDLoss": "its code calls a module as a function and "
        "always fails; pytorch-adapt:MCD compares two classifiers.",
        "pytorch-adapt:MMDBatchedLoss": "it is the value of pytorch-adapt:MMDLoss, "
        "computed in pieces.",
        "pytorch-adapt:SilhouetteScore": "it is a number without a gradient.",
    }


for _name, _summary in DANN.varieties.items():
    _method = _name.partition(":")[2]
    # Under its own name in this module, so that other processes find the class.
    globals()[_method] = register(name=_name)(
        type(
            _method,
            (Bridge,),
            {
                "__doc__": (_summary + _OPTIONS),
                "__module__": __name__,
                "method": _method,
            },
        )
    )
