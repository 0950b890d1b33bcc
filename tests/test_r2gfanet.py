"""R2GFANet's switches: what each takes out of the network is gone."""

import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

from domainemo.backbones.r2gfanet import CompanionAttention, R2GFANet
from domainemo.core import FUSION, Modality
from domainemo.errors import ConfigurationError
from domainemo.testing import checks

torch.set_num_threads(1)
REPOSITORY = Path(__file__).parents[1]
ELECTRODES = ("Fp1", "AF3", "F7", "Fz", "T7", "C3", "Cz", "P4", "O1", "Oz", "O2")
PAIR = {
    "eeg": Modality(ELECTRODES, ("theta", "alpha"), "eeg"),
    "eye": Modality(("pupil", "blinks", "gaze"), ("mean",), "eye"),
}
SMALL = {"width": 8, "heads": 2, "feedforward": 8, "fusion_width": 8}
SWITCHES = (
    {"cross_attention": "none"},
    {"cross_attention": "both"},
    {"region_attention": "uniform"},
    {"partition": "1"},
    {"partition": "20"},
    {"partition": "6"},
    {"global_layers": 0},
)


def build(**options):
    torch.manual_seed(0)
    return R2GFANet(PAIR, **SMALL, **options).eval()


def batch(samples=3, time=4):
    generator = torch.Generator().manual_seed(0)
    signals, masks = {}, {}
    for name, modality in PAIR.items():
        shape = (samples, time, len(modality.channels), len(modality.features))
        signals[name] = torch.randn(shape, generator=generator)
        masks[name] = torch.ones(samples, time, dtype=torch.bool)
    masks["eeg"][1, 0] = masks["eye"][2, 1] = masks["eye"][0, 3] = False
    return signals, masks


def names(model):
    return {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(each, id=f"{'-'.join(map(str, *options.items()))}-{each.name}")
        for options in SWITCHES
        for each in checks(R2GFANet, options={**SMALL, **options}, sensors=[PAIR])
    ],
)
def test_shipped_checks(check):
    check()


def test_where_nobody_listens_the_fusion_joins_both_summaries():
    model = build(cross_attention="none")
    assert not names(model.alignment)
    assert names(build()) - names(model) == {
        f"alignment.{name}" for name in names(build().alignment)
    }
    found = model(*batch())
    joined = torch.cat([found["eeg"], found["eye"]], -1)
    torch.testing.assert_close(found[FUSION], model.fusion(joined))
    assert not model.explain(*batch()).temporal


def test_where_companions_listen_too_the_fusion_alone_knows():
    one_way, both = build(), build(cross_attention="both")
    more = names(both) - names(one_way)
    assert more and all(name.startswith("returns.0.") for name in more)
    signals, masks = batch()
    seen = []
    both.fusion.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = both(signals, masks)
    moved = both({**signals, "eeg": signals["eeg"] + 1}, masks)
    eye = [each[:, 8:] for each in seen]
    assert (eye[0] - eye[1]).abs().amin(0).max() > 1e-4
    assert torch.equal(found["eye"], moved["eye"])


def test_companions_listen_as_torchs_attention_region_by_region():
    torch.manual_seed(0)
    ours = CompanionAttention(width=8, heads=2, feedforward=12, dropout=0.3).eval()
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(ours.attend.state_dict())
    sequence, regional = torch.randn(3, 5, 8), torch.randn(4, 3, 5, 8)
    mask = torch.rand(3, 5) < 0.7
    mask[2] = False
    found = ours(sequence, regional, mask)
    for sample in range(3):
        heard = torch.zeros(5, 8)
        if mask[sample].any():
            there = regional[:, sample, mask[sample]]
            each = [theirs(sequence[sample][None], r[None], r[None])[0] for r in there]
            heard = torch.stack(each).mean(0)[0]
        joined = ours.norm(sequence[sample] + heard)
        expected = ours.last_norm(joined + ours.feedforward(joined))
        torch.testing.assert_close(found[sample], expected)


def test_uniform_attention_is_the_plain_mean_over_regions():
    model = build(region_attention="uniform")
    assert {each for each in names(build()) if each.startswith("spatial")}
    assert not names(model.spatial)
    tokens = torch.randn(2, 7, 8)
    summary, weights = model.spatial(tokens)
    torch.testing.assert_close(summary, tokens.mean(1))
    spatial = model.explain(*batch()).spatial
    assert torch.equal(weights[0], torch.full((7,), 1 / 7))
    assert torch.equal(spatial, torch.full_like(spatial, 1 / len(model.regions)))


def test_one_region_is_the_whole_scalp_and_weighs_alone():
    model = build(partition="1")
    assert model.regions == ("scalp",) and set(model.electrodes["scalp"]) == {
        *ELECTRODES
    }
    assert not names(model.spatial)
    assert torch.equal(model.explain(*batch()).spatial, torch.ones(3, 1))


def test_without_global_layers_regions_do_not_meet_before_they_are_weighed():
    model = build(global_layers=0)
    lost = names(build()) - names(model)
    assert lost and all(name.startswith("globalise.") for name in lost)
    signals, masks = batch()
    seen = []
    model.spatial.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(signals, masks)
    only = list(model.regions).index("occipital")
    changed = signals["eeg"].clone()
    places = [ELECTRODES.index(name) for name in model.electrodes["occipital"]]
    changed[:, :, places] += 1
    model({**signals, "eeg": changed}, masks)
    moved = (seen[0] - seen[1]).abs().amax((0, 2))
    assert moved[only] > 1e-4
    assert not moved[torch.arange(len(moved)) != only].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"cross_attention": "none", "shared_attention": False},
            "leaves no attention whose weights regions could share",
        ),
        (
            {"partition": "1", "region_attention": "uniform"},
            "a single region, which nothing weighs",
        ),
        ({"cross_attention": "eye"}, "cross_attention is 'eye'"),
    ],
)
def test_what_has_no_meaning_is_refused(options, words):
    with pytest.raises(ConfigurationError, match=words):
        build(**options)


@pytest.mark.parametrize("listening", ["none", "both"])
def test_eeg_alone_has_nobody_to_listen_to(listening):
    with pytest.raises(ConfigurationError, match="EEG alone has no cross-modal"):
        R2GFANet({"eeg": PAIR["eeg"]}, cross_attention=listening)


def test_the_page_names_every_entry_of_the_ablation_and_every_switch():
    page = (REPOSITORY / "docs" / "r2gfanet.md").read_text(encoding="utf-8")
    file = REPOSITORY / "studies" / "named" / "r2gfanet-ablation.toml"
    entries = tomllib.loads(file.read_text(encoding="utf-8"))["backbones"]
    assert [name for name in entries if f"`{name}`" not in page] == []
    for options in SWITCHES:
        assert any(
            options.items() <= e["options"]["backbone"].items()
            for e in entries.values()
            if "options" in e
        )
        for name, value in options.items():
            assert f"`backbone.{name}={value}`" in page
