import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from domainemo.backbones.physiosync import PhysioSync
from domainemo.core import Modality
from domainemo.errors import ConfigurationError
from domainemo.parts import Part
from domainemo.training.synchrony import SynchronyContrast, ntx

torch.set_num_threads(1)
DIMS = {"eeg/long": 7, "ecg/long": 7, "eeg/short": 5, "ecg/short": 5}


def groups(pairs=6, *, members=2, dims=DIMS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            view: torch.randn(
                pairs, members, dim, generator=generator, dtype=torch.float64
            )
            for view, dim in dims.items()
        }
        for _ in range(2)
    ]


def objective(dims=DIMS, *, seed=0, **options):
    torch.manual_seed(seed)
    return SynchronyContrast(dims, **options).double().eval()


def cosine(x, y):
    dot = sum(float(p) * float(q) for p, q in zip(x, y, strict=True))
    lengths = [math.sqrt(sum(float(p) ** 2 for p in v)) for v in (x, y)]
    return dot / (lengths[0] * lengths[1])


def slow_ntx(a, b, temperature, valid, same):
    """The equation, term by term."""
    rows = [i for i in range(len(a)) if valid[i]]
    if len(rows) < 2:
        return 0.0
    total = 0.0
    for ours, theirs in ((a, b), (b, a)):
        for i in rows:
            positive = math.exp(cosine(ours[i], theirs[i]) / temperature)
            below = positive
            for j in rows:
                if j != i and not same[i][j]:
                    below += math.exp(cosine(ours[i], theirs[j]) / temperature)
                    below += math.exp(cosine(ours[i], ours[j]) / temperature)
            total -= math.log(positive / below) / len(rows)
    return total


# ------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("temperature", [0.1, 0.7])
@pytest.mark.parametrize("kept", [6, 4, 2])
@pytest.mark.parametrize("stimuli", [1, 2, 6])
def test_ntx_equals_a_double_loop(temperature, kept, stimuli):
    torch.manual_seed(kept)
    a, b = torch.randn(2, 6, 3, dtype=torch.float64)
    valid = torch.zeros(6, dtype=torch.bool)
    valid[torch.randperm(6)[:kept]] = True
    stimulus = torch.arange(6) % stimuli
    same = stimulus[:, None] == stimulus
    found = ntx(a, b, temperature, valid, same)
    expected = slow_ntx(a, b, temperature, valid, same)
    assert float(found) == pytest.approx(expected, abs=1e-12)
    if stimuli == 1:
        assert float(found) == 0.0  # no negative is left
    everything = slow_ntx(a, b, temperature, [True] * 6, [[False] * 6] * 6)
    assert float(ntx(a, b, temperature)) == pytest.approx(everything)


def test_ntx_is_twice_the_cross_entropy_of_simclr():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 4, dtype=torch.float64)
    rows = functional.normalize(torch.cat([a, b]), dim=-1)
    logits = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
    partners = torch.arange(10).roll(5)
    expected = 2 * functional.cross_entropy(logits, partners)
    torch.testing.assert_close(ntx(a, b), expected)


def test_ntx_of_perfect_and_of_opposite_pairs():
    a = torch.eye(4, dtype=torch.float64)
    # Positives at cosine 1, all six negatives at 0.
    expected = 2 * math.log(1 + 6 * math.exp(-10))
    assert float(ntx(a, a)) == pytest.approx(expected)
    assert float(ntx(a, -a)) == pytest.approx(2 * math.log(1 + 6 * math.exp(10)))


def test_ntx_gradients_are_right():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([True, True, False, True, True])
    same = torch.eye(5).bool()
    same[0, 1] = same[1, 0] = True
    assert torch.autograd.gradcheck(
        lambda a, b: ntx(a, b, 0.5, valid, same), (a, b), atol=1e-6
    )


@pytest.mark.parametrize("junk", [0.0, 3.0, float("nan"), float("inf")])
def test_missing_pairs_leave_the_sums(junk):
    torch.manual_seed(0)
    full = torch.randn(2, 6, 3, dtype=torch.float64)
    valid = torch.tensor([True, False, True, True, False, True])
    spoilt = full.clone()
    spoilt[:, ~valid] = junk
    spoilt.requires_grad_()
    found = ntx(*spoilt, valid=valid)
    torch.testing.assert_close(found, ntx(*full[:, valid]))
    found.backward()
    assert spoilt.grad.isfinite().all()
    assert not spoilt.grad[:, ~valid].any() and spoilt.grad[:, valid].any()


def test_undefined_cases_are_zero_with_zero_gradient():
    torch.manual_seed(0)
    for count in (0, 1):
        rows = torch.randn(2, 4, 3, requires_grad=True)
        loss = ntx(*rows, valid=torch.arange(4) < count)
        loss.backward()
        assert loss.item() == 0.0 and not rows.grad.any()
    assert float(ntx(*torch.randn(2, 1, 3))) == float(ntx(*torch.randn(2, 0, 3))) == 0
    zeros = torch.zeros(2, 4, 3, requires_grad=True)
    loss = ntx(*zeros)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(7)) and not zeros.grad.any()
    huge = 1e18 * torch.randn(2, 4, 3)
    assert ntx(*huge).isfinite()


def test_ntx_vectorises():
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 5, 4)
    valid = torch.rand(3, 5) < 0.7
    same = torch.rand(3, 5, 5) < 0.3
    found = vmap(lambda *each: ntx(each[0], each[1], 0.1, *each[2:]))(a, b, valid, same)
    torch.testing.assert_close(found, ntx(a, b, 0.1, valid, same))
    for i in range(3):
        torch.testing.assert_close(found[i], ntx(a[i], b[i], 0.1, valid[i], same[i]))


# -------------------------------------------------------------------- the objective


def test_objective_equals_its_equations():
    """With projections of the test's own, from a copy of the weights."""
    model = objective(
        {"eeg/long": 7, "ecg/long": 7, "eye/long": 7, "eeg/short": 5},
        projection=(6, 4, 3),
        alignment=4,
        temporal_weight=0.5,
        cross_weight=2.0,
    )
    first, second = groups(dims=model.dims, members=3)
    state = model.state_dict()

    def linear(values, path):
        return values @ state[f"{path}.weight"].T + state[f"{path}.bias"]

    def normal(values, path):
        mean = values.mean(-1, keepdim=True)
        scale = (values.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        weighted = (values - mean) / scale * state[f"{path}.weight"]
        return weighted + state[f"{path}.bias"]

    def temporal(group, view):
        hidden = linear(group[view], f"projectors.{view}.0")
        hidden = normal(hidden, f"projectors.{view}.1")
        hidden = linear(hidden, f"projectors.{view}.3")
        hidden = normal(hidden, f"projectors.{view}.4")
        return linear(hidden, f"projectors.{view}.6").max(1).values

    def crossed(group, view):
        aligned = linear(group[view].max(1).values, "aligners.every/long.0")
        return normal(aligned, "aligners.every/long.1")

    expected = {
        f"temporal.{view}": 0.5 * ntx(temporal(first, view), temporal(second, view))
        for view in model.dims
    }
    total = 0
    for e, p in (("eeg", "ecg"), ("eeg", "eye"), ("ecg", "eye")):
        e, p = f"{e}/long", f"{p}/long"
        total += 0.5 * ntx(crossed(first, p), crossed(second, e))
        total += 0.5 * ntx(crossed(first, e), crossed(second, p))
    expected["cross.long"] = 2.0 * total / 3
    found = model(first, second)
    assert set(found) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_names_and_default_weights():
    views = {"eeg": 5, "ecg": 5}
    model = objective(views)
    first, second = groups(dims=views)
    assert set(model(first, second)) == {"temporal.eeg", "temporal.ecg", "cross"}
    assert set(objective({"eeg": 5})(first, second)) == {"temporal.eeg"}
    assert (model.temporal_weight, model.cross_weight) == (0.5, 1.0)
    assert model.temperature == 0.1
    twice = objective(views, temporal_weight=1.0, cross_weight=2.0)
    for name, loss in twice(first, second).items():
        torch.testing.assert_close(loss, 2 * model(first, second)[name])


TERMS = {
    "temporal.eeg/long": "projectors.eeg/long",
    "temporal.ecg/long": "projectors.ecg/long",
    "temporal.eeg/short": "projectors.eeg/short",
    "temporal.ecg/short": "projectors.ecg/short",
    "cross.long": "aligners.every/long",
    "cross.short": "aligners.every/short",
}


@pytest.mark.parametrize(
    ("option", "gone"),
    [
        ("temporal_weight", lambda term: term.startswith("temporal")),
        ("cross_weight", lambda term: term.startswith("cross")),
        ("short_weight", lambda term: term.endswith("short")),
        ("long_weight", lambda term: term.endswith("long")),
    ],
    ids=["LS-TCL", "CM-CA", "short", "long"],
)
def test_a_term_without_weight_is_gone_with_its_projection(option, gone):
    whole, model = objective(), objective(**{option: 0.0})
    kept = {term: module for term, module in TERMS.items() if not gone(term)}
    modules = {name.rpartition(".")[0] for name in model.state_dict()}
    assert set(model(*groups())) == set(kept) != set(whole(*groups()))
    assert {module.rpartition(".")[0] for module in modules} == set(kept.values())


def test_a_resolution_s_weight_multiplies_all_its_terms():
    losses = objective()(*groups())
    for name, loss in objective(short_weight=0.5, long_weight=3.0)(*groups()).items():
        factor = 0.5 if name.endswith("short") else 3.0
        torch.testing.assert_close(loss, factor * losses[name])


def test_an_objective_without_terms_is_refused():
    for dims, weights in (
        (DIMS, {"temporal_weight": 0.0, "cross_weight": 0.0}),
        (DIMS, {"short_weight": 0.0, "long_weight": 0.0}),
        ({"eeg": 5}, {"temporal_weight": 0.0}),
    ):
        with pytest.raises(ConfigurationError, match=r"no term is left for the views"):
            SynchronyContrast(dims, **weights)


def test_released_sizes():
    with torch.device("meta"):
        model = SynchronyContrast(
            {"eeg/long": 2560, "gsr/long": 2560},
            projection=(1024, 2048, 4096),
            alignment=1024,
        )
    layers = [m for m in model.projectors["eeg/long"] if isinstance(m, nn.Linear)]
    shapes = [(m.in_features, m.out_features) for m in layers]
    assert shapes == [(2560, 1024), (1024, 2048), (2048, 4096)]
    assert len(model.aligners) == 1


@pytest.mark.parametrize("shared", [True, False])
def test_both_groups_are_alike(shared):
    model = objective(shared_alignment=shared)
    first, second = groups()
    there, back = model(first, second), model(second, first)
    for name in there:
        torch.testing.assert_close(there[name], back[name])


def test_members_are_alike_and_may_be_drawn_twice():
    model = objective()
    first, second = groups(members=3)
    expected = model(first, second)
    shuffled = {view: rows[:, [2, 0, 1, 0]] for view, rows in first.items()}
    for name, loss in model(shuffled, second).items():
        torch.testing.assert_close(loss, expected[name])


def test_alignments_of_their_own_allow_different_dimensions():
    dims = {"eeg/long": 7, "ecg/long": 4}
    with pytest.raises(ConfigurationError, match=r"eeg/long has 7, ecg/long has 4"):
        SynchronyContrast(dims)
    model = objective(dims, shared_alignment=False)
    assert set(model.aligners) == set(dims)
    losses = model(*groups(dims=dims))
    assert set(losses) == {"temporal.eeg/long", "temporal.ecg/long", "cross.long"}


def test_what_is_out_of_range_is_explained():
    with pytest.raises(ConfigurationError, match="at least one view"):
        SynchronyContrast({})
    for option, value in (
        ("temperature", 0),
        ("projection", (0,)),
        ("alignment", 0),
        ("dropout", 1.0),
        ("temporal_weight", -1.0),
        ("short_weight", -1.0),
    ):
        with pytest.raises(ConfigurationError, match=f"{option} is .*; expected"):
            Part("contrast", "synchrony", {option: value}, cls=SynchronyContrast)
    with pytest.raises(ConfigurationError, match="projection is empty"):
        SynchronyContrast(DIMS, projection=())
    first, second = groups()
    del second["ecg/short"]
    with pytest.raises(ConfigurationError, match="ecg/short is missing"):
        objective()(first, second)


@pytest.mark.parametrize("junk", [0.0, float("nan")])
def test_a_missing_view_leaves_its_own_losses_only(junk):
    model = objective()
    first, second = groups()
    kept = torch.tensor([True, True, False, True, False, True])
    for group in (first, second):
        group["ecg/long"][~kept] = junk
    found = model(first, second, valid={"ecg/long": kept})
    fewer = [{view: rows[kept] for view, rows in g.items()} for g in (first, second)]
    whole, part = model(*groups()), model(*fewer)
    for name, loss in found.items():
        touched = name in ("temporal.ecg/long", "cross.long")
        torch.testing.assert_close(loss, part[name] if touched else whole[name])
    sum(found.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


def test_pairs_of_one_stimulus_are_no_negatives():
    model = objective({"eeg": 5, "ecg": 5})
    first, second = groups(dims=model.dims)
    everything = torch.ones(6, 6, dtype=torch.bool)
    for loss in model(first, second, same=everything).values():
        assert loss.item() == 0.0
    nothing = model(first, second, same=~everything)
    for name, loss in model(first, second).items():
        assert torch.equal(loss, nothing[name])
    some = torch.arange(6) // 2
    losses = model(first, second, same=some[:, None] == some)
    assert all(0 < losses[name] < nothing[name] for name in losses)


def test_dropout_is_for_training_only():
    model = objective()
    first, second = groups()
    losses = [model(first, second) for _ in range(2)]
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    model.train()
    losses = [model(first, second) for _ in range(2)]
    for name in losses[0]:
        # The cross-modal projection has none, as released.
        same = torch.equal(losses[0][name], losses[1][name])
        assert same == name.startswith("cross")


def test_a_pair_is_projected_without_its_batch():
    model = objective()
    first, _ = groups()
    project = model.projectors["eeg/long"]
    together = project(first["eeg/long"])
    torch.testing.assert_close(project(first["eeg/long"][:1]), together[:1])


def test_stacked_objectives_equal_a_loop():
    models = [objective(seed=seed) for seed in range(3)]
    parameters, buffers = stack_module_state(models)
    first, second = groups()
    valid = {"eeg/long": torch.arange(6) < 4}

    def run(parameters, buffers):
        return functional_call(
            models[0], (parameters, buffers), (first, second), {"valid": valid}
        )

    found = vmap(run)(parameters, buffers)
    for i, model in enumerate(models):
        for name, loss in model(first, second, valid=valid).items():
            torch.testing.assert_close(found[name][i], loss)


# --------------------------------------------------------------------- what it learns

LATENT, NOISE = 4, 12


class Recordings:
    """Moments that everyone shares, hidden under strong noise of each person's own.

    The noise lies in a subspace that all people have in common: what is to be learned
    is to look elsewhere.
    """

    def __init__(self, *, synchronous=True):
        generator = torch.Generator().manual_seed(3)
        self.synchronous = synchronous
        self.mix = {
            view: torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
            for view in ("eeg/long", "ecg/long")
        }

    def draw(self, pairs, seed, members=2):
        generator = torch.Generator().manual_seed(seed)
        moments = torch.randn(pairs, 1, LATENT, generator=generator)
        drawn = []
        for _ in range(2):
            group = {}
            for view, mix in self.mix.items():
                if not self.synchronous:
                    moments = torch.randn(pairs, 1, LATENT, generator=generator)
                noise = 3 * torch.randn(pairs, members, NOISE, generator=generator)
                shared = moments.expand(-1, members, -1)
                group[view] = torch.cat([shared, noise], -1) @ mix.T
            drawn.append(group)
        return drawn


class Learner(nn.Module):
    """A linear encoder per view, under the objective."""

    def __init__(self, views):
        super().__init__()
        self.encoders = nn.ModuleDict({view: nn.Linear(16, 16) for view in views})
        dims = dict.fromkeys(views, 16)
        self.objective = SynchronyContrast(dims, projection=(32, 16), alignment=16)

    def views(self, group):
        return {view: encode(group[view]) for view, encode in self.encoders.items()}

    def forward(self, first, second):
        return self.objective(self.views(first), self.views(second))


def accuracy(model, first, second, view):
    """How often a moment's nearest neighbour in the other group is itself."""
    project = model.objective.projectors[view]
    ours, theirs = (
        functional.normalize(project(model.views(group)[view]).amax(1), dim=-1)
        for group in (first, second)
    )
    nearest = (ours @ theirs.T).argmax(1)
    return float((nearest == torch.arange(len(ours))).float().mean())


def pretrained(recordings, steps=80):
    torch.manual_seed(0)
    model = Learner(recordings.mix)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        losses = model.train()(*recordings.draw(64, seed=100 + step))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model.eval()


def test_it_learns_what_people_have_in_common_and_nothing_where_there_is_nothing():
    truth = Recordings()
    unseen = truth.draw(64, seed=1)
    before, after = pretrained(truth, steps=0), pretrained(truth)
    control = pretrained(Recordings(synchronous=False))
    with torch.no_grad():
        losses = [model(*unseen) for model in (before, after, control)]
        for name in losses[0]:
            # What it costs to know nothing: all 127 candidates alike, both directions.
            blind = 2 * math.log(127) * (1.0 if name == "cross.long" else 0.5)
            assert losses[1][name] < 0.8 * min(blind, losses[0][name]), name
            assert losses[2][name] > 0.98 * blind, name
        for view in truth.mix:
            found = [accuracy(m, *unseen, view) for m in (before, after, control)]
            assert found[1] > 0.5 and max(found[0], found[2]) < 0.2, (view, found)


def test_gradients_reach_the_encoders_of_physiosync():
    torch.manual_seed(0)
    sensors = {
        "eeg": Modality(("Fz", "Cz"), ("a", "b"), "eeg"),
        "ecg": Modality(("ecg",), ("a", "b", "c"), "physiology"),
    }
    network = PhysioSync(sensors, short_width=8, long_width=8, blocks=1)
    pairs, members = 4, 2
    drawn = []
    for _ in range(2):
        shape = (pairs * members, 5)
        signals = {
            name: torch.randn(*shape, len(m.channels), len(m.features))
            for name, m in sensors.items()
        }
        views = network.views(signals, {n: torch.ones(shape).bool() for n in sensors})
        drawn.append({v: f.unflatten(0, (pairs, members)) for v, f in views.items()})
    model = SynchronyContrast({view: rows.shape[-1] for view, rows in drawn[0].items()})
    sum(model(*drawn).values()).backward()
    for name, parameter in network.named_parameters():
        if "encoders" in name:
            assert parameter.grad is not None and parameter.grad.any(), name
