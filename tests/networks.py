"""Every network, with several of its options, and sensors and batches to try it on."""

import torch

from domainemo.backbones.bilstm_attention import BiLSTMAttention
from domainemo.backbones.concatenation import Concatenation
from domainemo.backbones.deep_cca import DeepCCA
from domainemo.backbones.dgcnn import DGCNN
from domainemo.backbones.maet import MAET
from domainemo.backbones.mmstg_net import MMSTGNet
from domainemo.backbones.physiosync import PhysioSync
from domainemo.backbones.r2gfanet import R2GFANet
from domainemo.backbones.uf_ama import UFAMA
from domainemo.core import Modality

DOUBLE = torch.float64
SMALL = ("Fp1", "AF3", "F7", "Fz", "T7", "C3", "Cz", "P4", "O1", "Oz", "O2")


def eeg(channels=SMALL, features=3):
    return Modality(tuple(channels), tuple(map(str, range(features))), "eeg")


def measures(count, kind="eye", features=1):
    names = tuple(f"{kind} {i}" for i in range(count))
    return Modality(names, tuple(map(str, range(features))), kind)


def pair(channels=SMALL, count=7, features=3):
    return {"eeg": eeg(channels, features), "eye": measures(count)}


EYE = {"eye": measures(5)}
HEART = {"ecg": measures(2, "physiology", 3)}
FIVE = {**HEART, **pair(), "gsr": measures(1), "breath": measures(4, "physiology")}
FEW = {"eeg": eeg(SMALL[:6], 4), "ecg": measures(2, "physiology", 7)}

OF_R2GFANET = {
    "whole": (pair(), {}),
    "weights per region": (pair(), {"shared_attention": False}),
    "EEG alone": ({"eeg": eeg()}, {}),
    "two companions": (
        {**HEART, **pair()},
        {"partition": "6", "kernel": 4, "width": 32, "global_layers": 2},
    ),
    "companions listen": (
        {**pair(), **HEART},
        {"cross_attention": "both", "width": 16},
    ),
    "nobody listens": (pair(), {"cross_attention": "none"}),
    "even and flat": (
        pair(),
        {"region_attention": "uniform", "global_layers": 0, "partition": "20"},
    ),
    "one region": (pair(), {"partition": "1"}),
}
OF_UF_AMA = {
    "whole": (pair(features=5), {}),
    "EEG alone": ({"eeg": eeg(features=5)}, {"width": 16}),
    "four modalities": (
        {**pair(features=5), **HEART, "skin": measures(1)},
        {"width": 16},
    ),
    "three layers": (pair(features=5), {"layers": 3, "width": 32}),
}
OF_DGCNN = {
    "whole": (pair(), {}),
    "EEG alone": ({"eeg": eeg()}, {"width": 12}),
    "five": (FIVE, {"width": 12, "filters": 7, "companion_hidden": 5}),
    "exact, order 4, prior": (
        pair(),
        {"spectrum": "exact", "order": 4, "prior": 0.5, "filters": 9},
    ),
}
SMALL_MAET = {"width": 8, "feedforward_ratio": 2}
OF_MAET = {
    "whole": (pair(), SMALL_MAET),
    "EEG alone": ({"eeg": eeg()}, {**SMALL_MAET, "view_count": 1}),
    "eyes alone": (EYE, {**SMALL_MAET, "mixture_from": 0}),
    "five": (FIVE, {**SMALL_MAET, "mixture_from": 0, "blocks": 2, "view_count": 2}),
    "nothing mixed": (
        pair(),
        {**SMALL_MAET, "mixture_from": 2, "blocks": 2, "dropout": 0.3},
    ),
}
OF_MMSTG_NET = {
    "whole": (pair(), {}),
    "EEG alone": ({"eeg": eeg()}, {}),
    "five": (FIVE, {"width": 24, "kernels": (1, 7), "block_widths": (8, 8, 12)}),
    "exact, electrodes": (
        pair(),
        {"spectrum": "exact", "readout": "electrodes", "partition": "6", "prior": 0.0},
    ),
    "electrodes, side by side": (
        pair(),
        {"graphs": "electrodes", "fused_by": "concatenation"},
    ),
    "regions, frozen": (pair(), {"graphs": "regions", "adjacency": "frozen"}),
    "distances, one scale": (pair(), {"adjacency": "distance", "kernels": (3,)}),
}
SMALL_PHYSIOSYNC = {"short_width": 8, "long_width": 12, "fusion_hidden": 24}
OF_PHYSIOSYNC = {
    "whole": (FEW, SMALL_PHYSIOSYNC),
    "EEG alone": ({"eeg": FEW["eeg"]}, {**SMALL_PHYSIOSYNC, "length": 3}),
    "no EEG": ({"ecg": FEW["ecg"]}, {**SMALL_PHYSIOSYNC, "blocks": 1}),
    "five": (
        {**FEW, "eye-1": measures(5), "a": FEW["ecg"], "b": FEW["ecg"]},
        {**SMALL_PHYSIOSYNC, "length": 1, "blocks": 1, "prompts": 0, "gate": 2},
    ),
    "short alone": (FEW, {**SMALL_PHYSIOSYNC, "resolutions": "short", "blocks": 1}),
    "long, no gate": (
        FEW,
        {**SMALL_PHYSIOSYNC, "resolutions": "long", "blocks": 1, "gate": 0},
    ),
}
OF_CONCATENATION = {
    "whole": (pair(), {}),
    "eye alone": (EYE, {}),
    "five": (FIVE, {"hidden": (), "width": 7}),
}
OF_BILSTM = {
    "whole": (pair(), {}),
    "eye alone": (EYE, {"width": 6}),
    "five": (FIVE, {"width": 5, "layers": 2}),
}
OF_DEEP_CCA = {
    "whole": (pair(), {}),
    "eye alone": (EYE, {}),
    "five": (FIVE, {"hidden": [9], "activation": "relu"}),
    "sum": (pair(), {"fusion": "weighted-sum", "dropout": 0.2}),
}
NETWORKS = {
    R2GFANet: OF_R2GFANET,
    UFAMA: OF_UF_AMA,
    DGCNN: OF_DGCNN,
    MAET: OF_MAET,
    MMSTGNet: OF_MMSTG_NET,
    PhysioSync: OF_PHYSIOSYNC,
    Concatenation: OF_CONCATENATION,
    BiLSTMAttention: OF_BILSTM,
    DeepCCA: OF_DEEP_CCA,
}


def turned(modalities, old):
    """Return sensors with their channels in another order, some by `old` names.

    And where each channel was before.
    """
    orders = {
        name: torch.randperm(len(each.channels)).tolist()
        for name, each in modalities.items()
    }
    other = {
        name: Modality(
            tuple(old.get(each.channels[i], each.channels[i]) for i in orders[name]),
            each.features,
            each.kind,
        )
        for name, each in modalities.items()
    }
    return other, orders


def build(cls, case="whole", *, seed=0, dtype=DOUBLE, training=False, **options):
    """Return a network, of which no weight stands at zero or one, and its sensors."""
    modalities, own = NETWORKS[cls][case]
    torch.manual_seed(seed)
    model = cls(modalities, **{**own, **options})
    with torch.no_grad():
        if cls is DGCNN:  # some edges are cut by the ReLU
            model.graph.weight.sub_(0.04)
        if cls in (MAET, PhysioSync):
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.to(dtype).train(training), modalities


def batch_for(modalities, *, batch=4, time=5, dtype=DOUBLE):
    """Signals, and masks of unlike lengths with one sensor gap; sample 0 is whole."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([max(time - i, 1) for i in range(batch)])
    signals, masks = {}, {}
    for number, (name, modality) in enumerate(modalities.items()):
        shape = (batch, time, len(modality.channels), len(modality.features))
        masks[name] = torch.arange(time) < lengths[:, None]
        if batch > 1 and time > 2:
            masks[name][1, number % (time - 1)] = False
        signals[name] = torch.randn(shape, generator=generator, dtype=dtype)
    return signals, masks
