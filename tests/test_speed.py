"""The speed benchmarks: the yardstick, sums by hand, and the page."""

import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from scripts import script
from torch.nn import functional

from domainemo.adapters.branches import schedule_factor
from domainemo.backbones.layers import channel_order


@pytest.fixture(scope="module")
def scripts():
    """The scripts, which import what stands beside them."""
    names = ("speed", "released", "growth", "peak", "gpu", "speed_page")
    return SimpleNamespace(**{name: script(name) for name in names})


# ------------------------------------------------------------------- the yardstick


def as_released(name):
    return re.sub(r"(encoders\.\d+\.layers)", r"\1.layers", name)


@pytest.fixture(scope="module", params=[1.0, 60.0], ids=["unsure", "sure"])
def pair(scripts, request):
    """One batch through the released step and through the library's, without dropout.

    The classifiers of the second are so steep that a batch passes the floor of 0.9.
    """
    shape = scripts.speed.Shape(4, 96, 4, 7, 5)
    made = scripts.released.released_experiment()
    options = made.with_options({"backbone.dropout": 0.0, "backbone.head_dropout": 0.0})
    member = scripts.speed.member(options, shape, 0)
    model = member.task.model
    with torch.no_grad():
        for head in model.heads.values():
            head[-1].weight.mul_(request.param)
    theirs = scripts.released.Released((7, 5), dropout=0.0, head_dropout=0.0)
    state = {
        as_released(name): value for name, value in model.backbone.state_dict().items()
    }
    for number, head in enumerate(model.heads.values()):
        found = head.state_dict(prefix=f"heads.{number}.")
        state |= found
    theirs.load_state_dict(state)
    scripts.speed.begin([member], 0.0)
    here, there = member.batches[0]
    ours = member.task.step(0.0, here=here, there=there)
    source, target = (
        [
            signals[name][:, 0, channel_order(modality)]
            for name, modality in shape.modalities().items()
        ]
        for signals, _ in (
            member.task.source.samples.batch(here),
            member.task.target.batch(there),
        )
    )
    labels = functional.one_hot(member.task.source.labels[here], 4).float()
    found = theirs.losses(source, labels, target, 0)
    sum(found.values()).backward()
    return SimpleNamespace(
        ours=ours,
        theirs=found,
        gradients={name: p.grad for name, p in model.backbone.named_parameters()},
        released={name: p.grad for name, p in theirs.named_parameters()},
        sure=request.param > 1,
    )


def test_the_yardstick_computes_the_losses_of_the_library(pair):
    for name, value in pair.theirs.items():
        own = [loss for each, loss in pair.ours.items() if each.startswith(name)]
        assert own, (name, list(pair.ours))
        torch.testing.assert_close(sum(own), value, rtol=1e-4, atol=2e-6)
    assert sum(pair.ours.values()).item() == pytest.approx(
        sum(pair.theirs.values()).item(), rel=1e-5
    )
    if pair.sure:  # every term is at work
        assert min(pair.theirs[name] for name in ("consistency", "distillation")) > 0


def test_and_its_gradients_and_trains_no_classifier(pair, scripts):
    for name, gradient in pair.gradients.items():
        torch.testing.assert_close(
            pair.released[as_released(name)], gradient, rtol=1e-3, atol=2e-6
        )
    trained = scripts.released.Released((7, 5))
    own = {id(p) for group in trained.optimiser.param_groups for p in group["params"]}
    assert own == {id(p) for n, p in trained.named_parameters() if "heads" not in n}


def test_its_weights_follow_the_epochs_as_the_library_has_them(scripts):
    for epoch in range(400):
        expected = schedule_factor("released", epoch / 400 + 1e-6)
        assert scripts.released.marginal_weight(epoch) == pytest.approx(expected)


# --------------------------------------------------------------------- sums by hand


def test_a_fold_is_its_steps_and_what_follows_its_epochs(scripts, monkeypatch):
    """With a clock by which everything takes a second."""
    shape = scripts.speed.Shape(4, 96, 2, 5, 3)
    monkeypatch.setattr(scripts.speed, "SHAPES", {"tiny": shape})
    monkeypatch.setattr(scripts.speed, "SOURCE", 64)
    monkeypatch.setattr(scripts.speed, "seconds", lambda action: (action(), 1.0)[1])
    first = {"shape": "tiny", "backbone": "concatenation-mlp", "adapter": "uf-ama"}
    rows = [{**first, "members": count} for count in (1, 2)]
    for count, row in zip((1, 2), scripts.speed.costs(rows, 1), strict=True):
        assert row["step, ms"] == pytest.approx(1000 / count)
        steps = 3 * 96 / 32  # of an epoch, of which there are 20
        assert row["fold, min"] == pytest.approx(20 * (steps / count + 1) / 60)


def test_only_what_a_table_lacks_is_measured(scripts, tmp_path, capsys):
    asked = []

    def measure(rows):
        asked.append([row["size"] for row in rows])
        return [{**row, "seconds": 1.0} for row in rows]

    wanted = [{"name": name, "size": size} for name in "ab" for size in (1, 2)]
    path = tmp_path / "table.csv"
    scripts.speed.fill(path, wanted[:1], measure)
    table = scripts.speed.fill(path, wanted, measure)
    assert asked == [[1], [2], [1, 2]]
    assert len(table) == 4 and pd.read_csv(path).equals(table)
    scripts.speed.fill(path, wanted, measure)
    assert len(asked) == 3
    capsys.readouterr()


def test_operations_and_bytes_are_those_of_a_product(scripts):
    left, right = torch.ones(3, 5), torch.ones(7, 5)
    traffic = scripts.peak.Traffic()
    with traffic:
        left @ right.T  # the transposition moves nothing
    assert traffic.bytes == 4 * (3 * 5 + 7 * 5 + 3 * 7)
    found = scripts.peak._achieved(lambda: left @ right.T, 3, (lambda: 0,) * 3)
    assert found["GFLOP"] * 1e9 == pytest.approx(2 * 3 * 5 * 7)


def test_what_trains_together_is_counted_for_each(scripts, monkeypatch):
    """With a clock by which everything takes half a second, and limits of 4 and 8."""
    gpu, found = scripts.gpu, []

    def counted(action):
        found.append(count(action))
        return found[-1]

    count = gpu._counted
    monkeypatch.setattr(gpu, "_counted", counted)
    monkeypatch.setattr(gpu, "_clock", lambda action, device: (action(), 0.5)[1])
    monkeypatch.setattr(gpu, "_limits", lambda device: (4.0, 8.0))
    shape = scripts.speed.Shape(4, 96, 4, 7, 5)
    device = scripts.speed.CPU
    # More steps than the epoch's eight, which none of them may end.
    table = gpu.measured(shape, ["concatenation-mlp"], 3, device, 9, source=256)
    (alone, moved), (together, _) = found
    assert alone > 0 and together == 3 * alone
    assert table["how"].to_list() == ["alone", "together"]
    assert table["step, ms"].to_list() == [500, pytest.approx(500 / 3)]
    assert table["times as fast as the first"].to_list() == [1, pytest.approx(3)]
    assert table["of the arithmetic, %"][0] == pytest.approx(alone / 0.5e9 / 4 * 100)
    assert table["of the memory, %"][0] == pytest.approx(moved / 0.5e9 / 8 * 100)


def test_the_released_step_stands_beside_its_own_losses(scripts, monkeypatch):
    monkeypatch.setattr(scripts.gpu, "_counted", lambda action: (1, 1))
    monkeypatch.setattr(scripts.gpu, "_clock", lambda action, device: 0.5)
    shape = scripts.speed.Shape(4, 96, 4, 7, 5)
    device = scripts.speed.CPU
    table = scripts.gpu.measured(shape, ["uf-ama"], 2, device, 1, source=128)
    assert table["how"].to_list() == [
        "as released", "alone", "together", "alone", "together",
    ]  # fmt: skip
    assert table["adapter"].nunique() == 2


def test_without_a_gpu_it_says_what_to_do(scripts, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu.py", str(tmp_path / "table")])
    with pytest.raises(SystemExit, match="--device cpu --members 4"):
        scripts.gpu.main()
    assert not (tmp_path / "table").exists()


def test_one_number_grows_at_a_time_and_what_is_squared_grows_by_four(scripts):
    base = scripts.growth.BASE
    assert scripts.growth.shape_of("subjects", 8).source == 8 * base.windows
    assert scripts.growth.shape_of("members", 8) == base
    for what in ("windows", "channels"):
        assert scripts.growth.shape_of(what, 48) == base._replace(**{what: 48})
    sizes = [8, 32, 62]
    found = scripts.speed_page.per_doubling(sizes, [3 * each**2 for each in sizes])
    assert found == pytest.approx(4)


# -------------------------------------------------------------------------- the page

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def kept(scripts):
    return scripts.speed_page.kept()


def words():
    return " ".join((DOCS / "speed.md").read_text(encoding="utf-8").split())


def test_the_page_is_its_tables(scripts, kept):
    page = (DOCS / "speed.md").read_text(encoding="utf-8")
    for mark, table in scripts.speed_page.rendered(kept).items():
        assert f"<!-- {mark} -->\n{table}\n<!-- end of {mark} -->" in page
    for name in scripts.speed_page.drawn(kept):
        assert f"]({name})" in page and (DOCS / name).is_file()


def test_the_page_claims_what_its_tables_say(scripts, kept):
    found = {
        what: theirs / ours
        for what, (theirs, ours) in scripts.speed_page.ratios(kept["released"]).items()
    }
    step, by_products, epoch, everything, clock, last = found.values()
    assert (
        f"A step is {step:.2f} times as fast as the released one, an epoch {epoch:.2f} "
        f"times; with all cores {clock:.2f} times by the clock, {everything:.2f} times "
        f"by what its first thread computes, and {last:.2f} times as fast as the "
        f"released code on one"
    ) in words()
    rows = kept["peak"].set_index(["backbone", "adapter"])
    theirs, ours = (
        rows.loc[(name, scripts.speed_page.RELEASED)]
        for name in ("as released", "uf-ama")
    )
    assert f"with MKL's products alone a step is {by_products:.2f} times" in words()
    assert step > 1.8 and min(everything, clock) > 3
    fewer = 1 - ours["GFLOP"] / theirs["GFLOP"]
    assert (
        f"{ours['GFLOP']:.1f} billion instead of {theirs['GFLOP']:.1f}, "
        f"{100 * fewer:.0f} % fewer"
    ) in words()
    bytes_fewer = 1 - ours["moved, MB"] / theirs["moved, MB"]
    assert f"{100 * bytes_fewer:.0f} % fewer bytes" in words()
    reached = kept["peak"][["torch.mm, GFLOP/s", "peak, GFLOP/s"]].median()
    assert (
        "{:.0f} billion operations a second, and brings oneDNN, which makes {:.0f}"
    ).format(*reached) in words()


def test_shares_of_the_peak_are_as_the_page_says(scripts, kept):
    shares = 100 * scripts.speed_page.shares(kept["peak"])
    own = kept["peak"]["adapter"] == "uf-ama"
    small = kept["peak"]["backbone"].isin(
        ["concatenation-mlp", "deep-cca", "dgcnn", "maet"]
    )
    large = shares[own & ~small]
    assert (
        f"use of {large.min():.0f} to {large.max():.0f} % of the peak, the four small "
        f"ones of {shares[small].min():.0f} to {shares[small].max():.0f} %"
    ) in words()
    most = kept["peak"].loc[kept["peak"]["GFLOP"].idxmax(), "backbone"]
    assert most == "mmstg-net"


def test_populations_gain_and_lose_as_the_pages_say(kept):
    wide = kept["speed"].pivot_table(
        "step, ms", ["backbone", "adapter", "shape"], "members"
    )
    gain = wide[[8, 45]].rdiv(wide[1], axis=0)
    assert (
        f"together are up to {gain[8].max():.1f} times as fast as alone, 45 up to "
        f"{gain[45].max():.1f} times"
    ) in words()
    assert (
        f"`r2gfanet` takes up to {1 / gain.loc['r2gfanet', 8].min():.1f} times as "
        f"long, and `mmstg-net` up to {1 / gain.loc['mmstg-net', 8].min():.1f} times"
    ) in words()
    own = gain.loc["uf-ama", 8]
    medium = gain.loc[["bilstm-attention", "maet", "physiosync"], 8]
    assert (
        f"{medium.min():.1f} to {medium.max():.1f} times, `uf-ama` {own.min():.1f} to "
        f"{own.max():.1f};"
    ) in words()
    few = gain.dropna().xs("uf-ama", level="adapter")
    population = (DOCS / "population.md").read_text(encoding="utf-8")
    said = " ".join(population.split())
    assert (
        f"take {1 / few[8].max():.1f} to {1 / few[8].min():.1f} of the time for each, "
        f"45 of them {1 / few[45].max():.1f} to {1 / few[45].min():.1f}"
    ) in said


def test_the_time_grows_as_the_page_says(scripts, kept):
    factors = {
        key: scripts.speed_page.per_doubling(
            own["size"].to_list(), own["seconds"].to_list()
        )
        for key, own in kept["growth"].groupby(["what", "backbone"])
    }
    for (what, name), factor in factors.items():
        if what in ("folds", "subjects", "windows"):
            assert 1.7 < factor < 2.1, (what, name)
    most = max((f, name) for (what, name), f in factors.items() if what == "channels")
    assert most[1] == "uf-ama"
    members = [factor for (what, _), factor in factors.items() if what == "members"]
    assert len(members) == 3 and max(members) < 1.9
