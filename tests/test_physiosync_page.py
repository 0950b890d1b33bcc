"""Every command of PhysioSync's page can be planned on a few people of its data."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from fixtures.deap import write_deap
from fixtures.dreamer import write_dreamer
from fixtures.every import WAIVED

from domainemo.cli import main
from domainemo.cli.named import studies

PAGE = Path(__file__).parents[1] / "docs" / "physiosync.md"
COMMANDS = re.findall(
    r"^    domainemo ((?:adapt|pretrain) --config .*)$", PAGE.read_text(), re.MULTILINE
)
PEOPLE = range(1, 5)
WRITE = {
    "deap": (
        lambda root: write_deap(root, subjects=PEOPLE),
        ["--set=data.window=20.0"],
    ),
    "dreamer": (
        lambda root: write_dreamer(root, subjects=PEOPLE, seconds=6.0),
        ["--set=data.crop=all"],
    ),
}
SMALL = ["--set=backbone.short_width=4", "--set=backbone.long_width=4"]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return a function that writes a data set of four people once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            WRITE[name][0](made[name])
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOMAINEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield get


def plain(command):
    """A command without folders that others would have made, and of one rating."""
    return re.sub(r" --(init-from|output|set) \S+", "", command)


@pytest.mark.parametrize("command", sorted({plain(each) for each in COMMANDS}))
def test_the_command_plans_its_folds(command, recordings, tmp_path, monkeypatch, capfd):
    name = "deap" if "deap" in command else "dreamer"
    arguments = [*shlex.split(command), f"--data-root={recordings(name)}", "--dry-run"]
    arguments += [WAIVED, *WRITE[name][1], *SMALL]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["domainemo", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    words = " ".join((said.out + said.err).split())
    assert not ended.value.code, words
    assert re.search(r"[0-9,]+ jobs? in [0-9,]+ folds?", words)


# As released, for new people and for those who are known: windows in a step of the
# first stage, its rate and temperature, and the epochs of the second stage.
RELEASED = {
    "physiosync-deap": (128, 7e-4, 0.07, 10),
    "physiosync-dreamer": (32, 1e-4, 0.07, 10),
    "physiosync-deap-dependent": (None, 7e-4, 0.1, 6),
    "physiosync-dreamer-dependent": (None, 1e-4, 0.1, 15),
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_setup_has_the_released_settings(name):
    first, second = (
        tomllib.loads(studies()[each].read_text(encoding="utf-8"))
        for each in (f"{name}-pretraining", name)
    )
    windows, rate, temperature, epochs = RELEASED[name]
    options = first["options"]
    if windows:  # pairs of two windows
        assert first["pairs"] == "random" and options["pairs"] == {"augment": True}
        assert 2 * options["training"]["batch_size"] == windows
    else:
        assert first["pairs"] == "synchronous" and options["pairs"]["members"] == 2
        assert options["training"]["batch_size"] == 8
    assert options["training"]["learning_rate"] == rate
    assert options["training"]["optimiser"] == "adam"
    assert options["training"]["weight_decay"] == 1e-3
    assert options["contrast"]["temperature"] == temperature
    assert second["options"]["training"]["epochs"] == epochs
    assert second["options"]["training"]["branch_share"] == 0.0
    assert first["normalisation"] == second["normalisation"] == "across-electrodes"
    for same in ("backbone", "data", "protocol"):  # or the second would be refused
        assert options.get(same) == second["options"].get(same)
    one_resolution = options["backbone"].get("resolutions") == "short"
    assert one_resolution == ("dreamer" in name)


def test_a_run_starts_from_the_pre_training_of_its_own_setup():
    """Each --init-from names what a pretrain before it put there."""
    made = {}
    for command in COMMANDS:
        setup = re.search(r"--config (\S+)", command)[1]
        if command.startswith("pretrain"):
            made[re.search(r"--output (\S+)", command)[1]] = setup
        else:
            started = made[re.search(r"--init-from (\S+)", command)[1]]
            assert started == f"{setup}-pretraining"
    assert len(made) == 5
