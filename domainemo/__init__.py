"""Cross-domain adaptation for multimodal emotion recognition.

Everything public is imported from here; heavy libraries are loaded when a name that
needs them is first used.

Examples
--------
>>> import domainemo as de
>>> results = de.run(de.Simulated().load(), protocol="cross-subject",
...                  backbone="r2gfanet", adapter="uf-ama")
>>> print(results.summary())
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones.wrapper import Wrapped
    from .cli.benchmarking import benchmark
    from .cli.exporting import export
    from .cli.interpreting import interpret
    from .cli.reporting import report
    from .core import (
        Adapter,
        Backbone,
        Control,
        Dataset,
        EmotionData,
        Fold,
        Inputs,
        Modality,
        Normalisation,
        Outputs,
        Protocol,
        Pseudo,
        Retraining,
        Sampling,
        Screen,
        Source,
        Target,
        Validator,
    )
    from .data.bids import from_bids
    from .data.epochs import from_epochs
    from .data.inspection.check import check
    from .data.joining import join
    from .data.loading import load
    from .data.raw import from_raw
    from .data.simulator import Simulated
    from .data.table import Table, from_arrays, write_table
    from .errors import (
        ConfigurationError,
        DataError,
        DomainemoError,
        DomainemoWarning,
    )
    from .machines.opening import cluster
    from .registry import register
    from .reports.attention import draw_regions
    from .reports.comparison_figures import draw_paired
    from .reports.run_figures import draw_methods
    from .review.comparison import compare
    from .review.selection import select
    from .runs.everyone import train
    from .runs.model import Model
    from .runs.prediction import predict
    from .runs.pretraining import pretrain
    from .runs.results import Results
    from .runs.run import run
    from .runs.target import adapt
    from .samplings.sequences import Sequences
    from .samplings.trials import Trials
    from .samplings.windows import Windows
    from .studies.findings import Findings
    from .studies.settings import StudySettings
    from .studies.study import tune
    from .training.settings import Training

__version__ = "0.2.0"


def _check_folders() -> None:
    """Refuse a copy of the repository that lacks the links to top-level folders.

    Without a link Python finds nothing, or the folder of another, installed copy.

    Raises
    ------
    ImportError
        Unless each of these packages is inside this one, or beside it.
    """
    here = os.path.dirname(os.path.realpath(__file__))
    for name in ("adapters", "protocols", "studies"):
        spec = importlib.util.find_spec(f"domainemo.{name}")
        found = os.path.realpath(spec.origin) if spec and spec.origin else ""
        if os.path.dirname(os.path.dirname(found)) in (here, os.path.dirname(here)):
            continue
        path = os.path.join(here, name)
        there = "a file" if os.path.isfile(path) else "nothing"
        raise ImportError(
            f"{path}: found {there} where a link to the folder {name!r} should be, as "
            "git on Windows and programs that unpack zip archives leave it; expected "
            "the folder. Install this copy with `pip install -e .`, which needs no "
            'links, or have them made: see "Where links are not made" in '
            "CONTRIBUTING.md."
        )


_check_folders()

_HOME = {
    "backbones.wrapper": "Wrapped",
    "cli.benchmarking": "benchmark",
    "cli.exporting": "export",
    "cli.interpreting": "interpret",
    "cli.reporting": "report",
    "machines.opening": "cluster",
    "core": (
        "Adapter Backbone Control Dataset EmotionData Fold Inputs Modality "
        "Normalisation Outputs Protocol Pseudo Retraining Sampling Screen Source "
        "Target Validator"
    ),
    "data.bids": "from_bids",
    "data.epochs": "from_epochs",
    "data.inspection.check": "check",
    "data.joining": "join",
    "data.loading": "load",
    "data.raw": "from_raw",
    "data.simulator": "Simulated",
    "data.table": "Table from_arrays write_table",
    "errors": "ConfigurationError DataError DomainemoError DomainemoWarning",
    "reports.attention": "draw_regions",
    "reports.comparison_figures": "draw_paired",
    "reports.run_figures": "draw_methods",
    "review.comparison": "compare",
    "review.selection": "select",
    "runs.everyone": "train",
    "runs.model": "Model",
    "runs.prediction": "predict",
    "runs.pretraining": "pretrain",
    "runs.results": "Results",
    "runs.run": "run",
    "runs.target": "adapt",
    "registry": "register",
    "samplings.sequences": "Sequences",
    "samplings.trials": "Trials",
    "samplings.windows": "Windows",
    "studies.findings": "Findings",
    "studies.settings": "StudySettings",
    "studies.study": "tune",
    "training.settings": "Training",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "Adapter",
    "Backbone",
    "ConfigurationError",
    "Control",
    "DataError",
    "Dataset",
    "DomainemoError",
    "DomainemoWarning",
    "EmotionData",
    "Findings",
    "Fold",
    "Inputs",
    "Modality",
    "Model",
    "Normalisation",
    "Outputs",
    "Protocol",
    "Pseudo",
    "Results",
    "Retraining",
    "Sampling",
    "Screen",
    "Sequences",
    "Simulated",
    "Source",
    "StudySettings",
    "Table",
    "Target",
    "Training",
    "Trials",
    "Validator",
    "Windows",
    "Wrapped",
    "adapt",
    "benchmark",
    "check",
    "cluster",
    "compare",
    "draw_methods",
    "draw_paired",
    "draw_regions",
    "export",
    "from_arrays",
    "from_bids",
    "from_epochs",
    "from_raw",
    "interpret",
    "join",
    "load",
    "predict",
    "pretrain",
    "register",
    "report",
    "run",
    "select",
    "train",
    "tune",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'domainemo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"domainemo.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    special = [name for name in globals() if name.startswith("__")]
    return sorted({*special, *__all__})
