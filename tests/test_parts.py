"""A part by name with its options: checked, built and described."""

import copy
import re

import pytest
import tomli_w

from domainemo import (
    Adapter,
    ConfigurationError,
    Screen,
    Sequences,
    register,
)
from domainemo.adapters.composite import Composite
from domainemo.adapters.marginal import Marginal
from domainemo.parts import Part, describe_object, part
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import KINDS, entries, find, parameters


@pytest.fixture(autouse=True)
def own_registry():
    """Forget what a test registers; what is built in stays imported."""
    for kind in KINDS:
        for entry in entries(kind):
            find(kind, entry.name)


def typed():
    """Register and return an adapter with an option of every type."""

    @register
    class Typed(Adapter):
        """Options of every type."""

        def __init__(
            self,
            *,
            flag: bool = False,
            count: int = 1,
            weight: float = 1.0,
            word: str = "a",
            branches: tuple[str, ...] = ("fusion",),
            free: object = None,
        ) -> None:
            super().__init__()
            self.flag, self.count, self.weight = flag, count, weight
            self.word, self.branches, self.free = word, branches, free

        def forward(self, source, target):
            return {}

    return Typed


# --------------------------------------------------------------------------- options


def test_an_unknown_option_is_answered_with_the_nearest():
    with pytest.raises(ConfigurationError) as raised:
        part("adapter", "marginal", {"wieght": 2.0})
    message = str(raised.value)
    assert "adapter 'marginal' has no option 'wieght'" in message
    assert "Did you mean 'weight'?" in message


def test_an_option_of_another_adapter_is_told_whose_it_is():
    """Typed for one that was not named."""
    with pytest.raises(ConfigurationError, match="have it: --adapter uf-ama"):
        part("adapter", "whole-trials", {"marginal": 2.0})
    with pytest.raises(ConfigurationError, match="have it: --adapter uf-ama"):
        part("adapter", "marginal", {"judged_from": 0.3})
    with pytest.raises(ConfigurationError, match=r"expected one of [\w, ]*\.$"):
        part("adapter", "marginal", {"nobody_has_it": 1})
    with pytest.raises(ConfigurationError, match=r"expected one of [\w, ]*\.$"):
        part("backbone", "concatenation-mlp", {"marginal": 2.0})


def test_a_part_without_options_says_so():
    with pytest.raises(ConfigurationError, match="has no option 'weight'"):
        part("adapter", "none", {"weight": 1.0})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("flag", 1),
        ("flag", "true"),
        ("count", 1.5),
        ("count", True),
        ("count", "1"),
        ("weight", "1"),
        ("weight", True),
        ("weight", None),
        ("word", 1.5),
        ("word", True),
        ("branches", "fusion"),
    ],
)
def test_a_value_of_another_type_is_refused(option, value):
    with pytest.raises(ConfigurationError) as raised:
        part("adapter", typed(), {option: value})
    assert f"{option} is {value!r} of type {type(value).__name__}" in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("flag", True),
        ("count", 3),
        ("weight", 2),
        ("weight", 0.5),
        ("word", "b"),
        ("word", 16),
        ("branches", ["eeg", "eye"]),
        ("branches", ("eeg",)),
        ("free", object),
    ],
)
def test_a_value_that_fits_reaches_the_object(option, value):
    assert getattr(part("adapter", typed(), {option: value}).build(), option) == value


def test_an_unknown_name_is_refused_at_once():
    with pytest.raises(ConfigurationError, match="no backbone called 'r2gfant'"):
        part("backbone", "r2gfant")


# -------------------------------------------------------------------------- building


def test_name_class_and_part_are_the_same():
    options = {"weight": 0.25, "distance": "coral"}
    by_name = part("adapter", "marginal", options)
    assert part("adapter", Marginal, options) == by_name
    assert part("adapter", by_name) is by_name
    built = by_name.build()
    assert type(built) is Marginal
    assert (built.weight, built.distance) == (0.25, "coral")
    assert by_name.build() is not built


def test_an_object_is_copied_so_that_folds_share_nothing():
    made = Marginal(weight=3.0)
    chosen = part("adapter", made)
    assert chosen.name == "marginal"
    one, other = chosen.build(), chosen.build()
    assert one is not made and one is not other
    assert one.weight == 3.0


def test_an_object_takes_no_options_and_no_backbone_is_one():
    with pytest.raises(ConfigurationError, match="given as an object"):
        part("adapter", Marginal(), {"weight": 1.0})
    with pytest.raises(ConfigurationError, match="every fold builds its own"):
        part("backbone", object())


def test_a_class_that_is_not_registered_is_refused():
    class Unregistered(Adapter):
        """Not registered."""

        def forward(self, source, target):
            return {}

    with pytest.raises(ConfigurationError, match="Unregistered is not registered"):
        part("adapter", Unregistered)


def test_a_subclass_is_not_taken_for_its_registered_parent():
    class Mine(Marginal):
        """A variation that nobody registered."""

    with pytest.raises(ConfigurationError, match="Mine is not registered"):
        part("adapter", Mine)
    assert part("adapter", Mine()).name == "Mine"
    register(Mine)
    assert type(part("adapter", Mine).build()) is Mine
    assert part("adapter", Mine()).name == "mine"
    assert part("adapter", Marginal).name == "marginal"


# ------------------------------------------------------------------------- joining


def test_joined_adapters_make_a_composite():
    chosen = part("adapter", "marginal+pairwise-similarity", {"marginal.weight": 0.5})
    built = chosen.build()
    assert type(built) is Composite
    assert list(built.terms) == ["marginal", "pairwise-similarity"]
    assert built.terms["marginal"].weight == 0.5
    default = parameters(find("adapter", "pairwise-similarity"))["weight"].default
    assert built.terms["pairwise-similarity"].weight == default


def test_options_of_joined_adapters_carry_their_name():
    with pytest.raises(ConfigurationError, match=r"'conditional\.weight'"):
        part("adapter", "marginal+conditional", {"weight": 0.5})
    with pytest.raises(ConfigurationError, match=r"'marginal\.wait'"):
        part("adapter", "marginal+conditional", {"marginal.wait": 0.5})
    with pytest.raises(ConfigurationError, match="of type str"):
        part("adapter", "marginal+conditional", {"marginal.weight": "much"})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("adapter", "marginal+marginal"),
        ("protocol", "cross-subject+cross-session"),
        ("backbone", "r2gfanet+uf-ama"),
    ],
)
def test_only_different_adapters_can_be_joined(kind, name):
    with pytest.raises(ConfigurationError, match="only different adapters"):
        part(kind, name)


def test_a_joined_name_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="no adapter called 'nothing'"):
        part("adapter", "marginal+nothing")


# ------------------------------------------------------------------------ describing


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_is_described(kind):
    for entry in entries(kind):
        described = part(kind, entry.name).describe()
        expected = parameters(find(kind, entry.name))
        assert list(described) == list(expected)
        for name, value in described.items():
            default = expected[name].default
            if not isinstance(default, list | tuple | dict):
                assert value == default


def test_what_was_asked_for_is_described_beside_the_defaults():
    described = part("protocol", "cross-subject", {"held_out": 0.5}).describe()
    assert {name: value for name, value in described.items() if value is not None} == {
        "session": "pooled",
        "held_out": 0.5,
        "unit": "trial",
        "seed": 0,
        "unfit": "refuse",
    }


@pytest.fixture
def own_screen():
    @register(name="every-label")
    class EveryLabel(Screen):
        """Believe everything."""

        def __init__(self, *, share: float = 1.0) -> None:
            super().__init__()
            self.share = share

        def forward(self, target):
            raise NotImplementedError

    return EveryLabel


def test_a_joined_screen_is_that_of_all_adapters_in_its_group(own_screen):
    name = "every-label+distillation+uf-ama+marginal"
    made = part("adapter", name, {"every-label.share": 0.25}).build()
    assert list(made.terms) == ["distillation", "uf-ama", "marginal"]
    assert type(made.screen) is own_screen and made.screen.share == 0.25
    assert made.terms["distillation"].screen is made.screen
    assert made.terms["uf-ama"].screen is made.screen
    # None of them asks any more for the judge that the usual screen has.
    assert made.judged_from is None


def test_groups_nest_with_screens_of_their_own(own_screen):
    name = "(confidence+consistency)+(every-label+(distillation+marginal))"
    made = part("adapter", name, {"confidence.share": 0.125}).build()
    first, second = made.terms.values()
    assert list(made.terms) == [
        "confidence+consistency",
        "every-label+distillation+marginal",
    ]
    assert made.screen is None
    assert first.screen.share == 0.125
    assert first.terms["consistency"].screen is first.screen
    assert type(second.screen) is own_screen
    (inner,) = second.terms.values()
    assert list(inner.terms) == ["distillation", "marginal"] and inner.screen is None
    assert inner.terms["distillation"].screen is second.screen


def test_a_second_screen_that_would_not_be_asked_is_refused(own_screen):
    """What the composite's screen believes comes before a term's own."""
    options = {"distillation.screen": "confidence"}
    chosen = part("adapter", "every-label+distillation+consistency", options)
    with pytest.raises(ConfigurationError, match=r"distillation\.screen names another"):
        chosen.build()
    apart = part("adapter", "distillation+(every-label+consistency)", options).build()
    assert type(apart.terms["distillation"].screen) is find("screen", "confidence")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("confidence", "It is a screen: join it to adapters"),
        ("confidence+every-label+distillation", "joins 1 adapters by 2 screens"),
        ("marginal+(confidence)", "joins 0 adapters by 1 screens"),
        ("confidence+marginal", "for adapters that learn from none"),
        ("distillation+(confidence+dann)", "for adapters that learn from none"),
        ("marginal+", "no way that can be read"),
        ("marginal++none", "no way that can be read"),
        ("(marginal+none", "no way that can be read"),
        ("marginal)+none", "no way that can be read"),
        ("marginal(none)", "no way that can be read"),
        ("()+none", "no way that can be read"),
        ("marginal+(none+marginal)", "only different adapters"),
    ],
)
def test_what_joins_nothing_is_refused(own_screen, name, said):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        part("adapter", name).build()


def test_joined_options_are_described_under_their_name():
    chosen = part("adapter", "marginal+conditional", {"conditional.weight": 0.125})
    described = chosen.describe()
    assert described["conditional.weight"] == 0.125
    assert described["marginal.weight"] == 1.0
    again = part("adapter", chosen.name, described)
    assert again.describe() == described


@pytest.mark.parametrize("kind", KINDS)
def test_a_description_makes_the_same_part_again(kind):
    for entry in entries(kind):
        described = part(kind, entry.name).describe()
        given = {key: value for key, value in described.items() if value is not None}
        assert part(kind, entry.name, given).describe() == described


def test_an_object_is_described_by_what_it_holds():
    described = part("protocol", CrossSubject(held_out=0.5)).describe()
    assert described["class"] == "CrossSubject"
    assert described["held_out"] == 0.5
    nested = part("adapter", Composite(terms={"a": Marginal(weight=0.5)})).describe()
    assert "Marginal" in str(nested)
    assert "0.5" in str(nested)
    tomli_w.dumps({"adapter": nested})  # a configuration file can hold it


def test_describe_object_by_hand():
    assert describe_object((1, "a", None)) == [1, "a", "none"]
    assert describe_object({1: (2.5,)}) == {"1": [2.5]}
    assert describe_object(Sequences(length=3)) == {"class": "Sequences", "length": 3}


def test_parts_can_be_copied_as_processes_do():
    chosen = Part("adapter", "marginal", {"weight": 2.0})
    assert copy.deepcopy(chosen) == chosen


def test_the_joined_screen_rules_whatever_the_options_were_told_from():
    """Described options name every option, one that is unset as None."""
    chosen = part("adapter", "confidence+uf-ama", {"confidence.share": 0.25})
    for each in (chosen, part("adapter", chosen.name, chosen.describe())):
        made = each.build()
        assert made.screen.share == 0.25 and made.terms["uf-ama"].screen is made.screen
