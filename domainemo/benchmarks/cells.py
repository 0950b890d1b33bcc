"""A cell of a benchmark: one run, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import ConfigurationError
from ..runs.experiment import Experiment
from ..runs.folder import CONFIG, differences, flat, folder_name, read_stored_config

__all__ = ["Cell", "Outcome", "check_cells"]


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
        The run's configuration, as its ``config.toml`` holds it.
    """

    dataset: str
    protocol: str
    backbone: str
    adapter: str
    experiment: Experiment
    description: Mapping[str, Any]

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
        return root.joinpath("cells", *map(folder_name, self.key))


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
        folder = cell.folder(root)
        if not (folder / CONFIG).is_file():
            continue
        there = flat(read_stored_config(folder))
        differing = differences(there, flat(cell.description), "now")
        if differing:
            raise ConfigurationError(
                f"{folder}: this cell was begun with another configuration "
                f"({'; '.join(differing)}). Nothing was overwritten. Give another "
                f"--output folder, or the same configuration to resume."
            )
