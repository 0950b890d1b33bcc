"""Every command on the page of published numbers can be read, and plans its folds.

The recordings are gated: two or three people of each data set, in the publisher's
layout, stand for them.
"""

import re
import shlex
import sys
from itertools import zip_longest
from pathlib import Path

import pytest
from fixtures.every import FIXTURES, WAIVED
from fixtures.seed import write_seed
from fixtures.seed_iv import write_seed_iv
from fixtures.seed_multimodal import write_seed_multimodal

from domainemo.cli import main

PAGE = Path(__file__).parents[1] / "docs" / "published-numbers.md"

WRITE = {
    "seed": lambda root: write_seed(
        root, subjects=(2, 10), sessions=(1, 2), window=4, dtype="i2"
    ),
    "seed-iv": lambda root: write_seed_iv(root, subjects=(2, 10), sessions=(1, 2)),
    "seed-multimodal": lambda root: write_seed_multimodal(
        root, subjects=(2, 10), sessions=(1, 2)
    ),
}
"""Of several sessions, where a protocol needs them."""

FOR_THE_FIXTURES = {
    "seed": ["--set=data.window=4.0"],
    "dreamer": ["--set=data.crop=all"],
    "deap": ["--set=data.window=4.0"],
}
# A setup's own network would take minutes to make.
SMALL = ["--set=backbone.short_width=8", "--set=backbone.long_width=8"]
# Subjects of the page whom the fixture stands for by one of its own.
STANDS_FOR = {"test=13,14,15": "test=2", "--set protocol.validation=10,11,12 ": ""}


def section_commands(section):
    """Return a section's commands, and the parts that its table names."""
    commands = re.findall(r"^    (domainemo .*)$", section, re.MULTILINE)
    rows = re.findall(r"\| `(--[^`|]*)` \|$", section, re.MULTILINE)
    return commands, list(dict.fromkeys(rows))


def every_command():
    """Yield each command with some parts, and each parts with some command."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## "):
        commands, parts = section_commands(section)
        fixed = [each for each in commands if "PARTS" not in each]
        yield from fixed
        open_ones = [each for each in commands if each not in fixed]
        pairs = zip_longest(open_ones, parts)
        for command, part in pairs:
            yield (command or open_ones[0]).replace("PARTS", part or parts[0])


COMMANDS = list(every_command())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Return a function that writes a data set once, and says where."""
    made = {}

    def get(name):
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            WRITE.get(name, FIXTURES[name].write)(root)
            made[name] = root
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOMAINEMO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield get


@pytest.mark.filterwarnings("ignore:.*the signals of 'eye' are the same")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_plans_its_folds(command, recordings, tmp_path, monkeypatch, capfd):
    for said, meant in STANDS_FOR.items():
        command = command.replace(said, meant)
    # The fixture's clips last some seconds, and are used whole.
    command = command.replace(" --set data.crop=first", "")
    _, *arguments = shlex.split(command)
    dataset = arguments[arguments.index("--dataset") + 1]
    arguments += [f"--data-root={recordings(dataset)}", "--dry-run", WAIVED]
    arguments += FOR_THE_FIXTURES.get(dataset, [])
    arguments += SMALL if "--config physiosync" in command else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["domainemo", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capfd.readouterr()
    words = " ".join((said.out + said.err).split())
    if "protocol.folds=segments" in command:
        assert ended.value.code == 2
        assert "--protocol within-subject --set protocol.folds=10" in words
    else:
        assert not ended.value.code, words
        assert re.search(r"[0-9,]+ jobs? in [0-9,]+ folds?", words)


def test_commands_were_found_in_every_section():
    sections = PAGE.read_text(encoding="utf-8").split("\n## ")[2:-1]
    assert len(sections) == 6
    for section in sections:
        commands, parts = section_commands(section)
        assert len(commands) >= 3 and parts, section[:40]
