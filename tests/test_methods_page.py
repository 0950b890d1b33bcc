"""The page of methods names every adapter, normalisation and control."""

from pathlib import Path

import pytest

from domainemo.registry import entries, find, kind_of, leaves

PAGE = (Path(__file__).parents[1] / "docs" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["adapter", "normalisation"])
def test_every_part_is_named(kind):
    names = [entry.name for entry in entries(kind)]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


def test_every_control_that_looks_at_signals_is_named():
    names = [each.name for each in entries("control")]
    seeing = [name for name in names if find("control", name)().sees_signals]
    assert [name for name in seeing if f"`{name}`" not in PAGE] == []


def test_every_joined_name_of_the_page_can_be_read():
    names = [
        line.split("--adapter ")[1].split('"')[1]
        if '"' in line.split("--adapter ")[1][:1]
        else line.split("--adapter ")[1].split()[0]
        for line in PAGE.splitlines()
        if line.startswith("    ") and "--adapter " in line
    ]
    assert len(names) >= 5
    for name in names:
        for each in leaves(name):
            find(kind_of("adapter", each), each)
