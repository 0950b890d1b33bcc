"""A cell of a benchmark: one run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigurationError
from ..runs.experiment import Experiment
from ..runs.folder import CONFIG, differences, flat, folder_name, read_stored_config
from ..runs.pretraining import Pretraining

__all__ = ["PLACES", "STARTED", "Cell", "Outcome", "check_cells"]

PLACES = ("cells", "pretraining")
"""The folders of a benchmark in which its runs are, and what they start from."""

STARTED = ("init_from", "initialisation")
"""What the configuration of a run says of where its networks start."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One data set, protocol, backbone and adapter, with all seeds.

    The cell of the adapter ``none`` is source only, which stands once for all adapters
    of its backbone; that of the first backbone holds the controls besides.

    Attributes
    ----------
    dataset, protocol, backbone, adapter : str
        What the benchmark calls them.
    experiment : Experiment
    description : mapping
        The run's configuration, as its ``config.toml`` holds it, but for where its
        networks start.
    pretraining : Pretraining or None
        What its networks start from; None starts at random.
    first_stage : mapping
        The configuration of that.
    """

    dataset: str
    protocol: str
    backbone: str
    adapter: str
    experiment: Experiment
    description: Mapping[str, Any]
    pretraining: Pretraining | None = None
    first_stage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is of."""
        return self.dataset, self.protocol, self.backbone, self.adapter

    @property
    def name(self) -> str:
        """What it is of, in words."""
        return ", ".join(self.key)

    def folder(self, root: Path) -> Path:
        """Return its run's folder in a benchmark's."""
        return root.joinpath(PLACES[0], *map(folder_name, self.key))

    def pretraining_folder(self, root: Path) -> Path:
        """Return its pre-training's, which all adapters of a network share."""
        return root.joinpath(PLACES[1], *map(folder_name, self.key[:-1]))


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes
    ----------
    cell : Cell
    table : DataFrame or None
        Its run's scores, see :class:`~domainemo.Results`.
    how : str
        How they were obtained, in a line.
    why : str
        Why there are none.
    """

    cell: Cell
    table: pd.DataFrame | None = None
    how: str = ""
    why: str = ""


def check_cells(cells: Sequence[Cell], root: Path) -> None:
    """Refuse a folder in which a cell was begun with another configuration.

    Raises
    ------
    ConfigurationError
    """
    for cell in cells:
        _check(cell.folder(root), cell.description, cell.pretraining is not None)
        if cell.pretraining is not None:
            _check(cell.pretraining_folder(root), cell.first_stage)


def _check(folder: Path, now: Mapping[str, Any], started: bool = False) -> None:
    if not (folder / CONFIG).is_file():
        return
    there = flat(read_stored_config(folder))
    if started:  # what it started from is looked at where it starts
        there = {k: v for k, v in there.items() if k not in STARTED}
    differing = differences(there, flat(now), "now")
    if differing:
        raise ConfigurationError(
            f"{folder}: this cell was begun with another configuration "
            f"({'; '.join(differing)}). Nothing was overwritten. Give another "
            f"--output folder, or the same configuration to resume."
        )
