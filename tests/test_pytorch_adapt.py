"""The bridge to pytorch-adapt: it opens anywhere and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from domainemo.adapters.pytorch_adapt import library as pytorch_adapt
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.errors import ConfigurationError

OLD = ("pytorch_adapt", "pytorch_metric_learning", "torchmetrics")


def run(script: str, folder: Path | None = None) -> None:
    """Run a script in a fresh Python; packages in `folder` go before the installed."""
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    if folder is not None:
        paths = [str(folder), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_no_validator_needs_it():
    """Importing it costs each worker of a study seconds."""
    run(
        """
import sys, torch
from domainemo.core import Outputs, Source, Target
from domainemo.registry import entries, find
outputs = Outputs({"fusion": torch.eye(3)}, {"fusion": torch.eye(3)})
source = Source(outputs, torch.arange(3), torch.zeros(3, dtype=int))
for each in entries("validator"):
    find("validator", each.name)()(source, source, Target(outputs, 1.0, mixed=outputs))
assert not any(name.startswith("pytorch_adapt") for name in sys.modules)
"""
    )


def test_nothing_is_left_behind_on_this_machine():
    run(
        """
import sys, warnings
from domainemo.adapters.pytorch_adapt import library as pytorch_adapt
assert not any(name.startswith("pytorch_adapt") for name in sys.modules)
pytorch_adapt._import_shared()
import PIL.Image, random, numpy, torch
modules, finders = dict(sys.modules), list(sys.meta_path)
filters = list(warnings.filters)
states = random.getstate(), torch.get_rng_state(), numpy.random.get_state()[1].copy()

pytorch_adapt.load("validators")

new = {name.partition(".")[0] for name in set(sys.modules) - set(modules)}
here = "torchvision" in sys.modules
if not here:
    assert new <= {*pytorch_adapt._OURS, "modulefinder"}, new
assert all(sys.modules[name] is module for name, module in modules.items())
assert sys.meta_path == finders and warnings.filters == filters
assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
assert (numpy.random.get_state()[1] == states[2]).all()

# The genuine torchvision, or the error that this machine has in place of it.
try:
    import torchvision
except Exception as error:
    assert not here and "torchvision" in str(error), error
else:
    assert here and torchvision.__file__
try:
    import pkg_resources
except ModuleNotFoundError:
    pass
else:
    assert pkg_resources.__file__
"""
    )


def test_a_broken_torchvision_is_hidden_and_its_users_see_the_truth(tmp_path):
    write(
        tmp_path,
        {
            "torchvision/__init__.py": "from . import a\nraise OSError('wheel')",
            "torchvision/a.py": "",
            # torchmetrics would import these in the middle of its own import.
            "transformers/__init__.py": "import torchvision",
            "lpips.py": "import torchvision",
        },
    )
    run(
        """
import sys
from domainemo.adapters.pytorch_adapt.library import load
load("validators")
for name in ("torchvision", "transformers", "lpips", "pkg_resources"):
    assert not [m for m in sys.modules if m.partition(".")[0] == name], name
for name in ("torchvision", "transformers", "lpips"):
    try:
        __import__(name)
    except OSError as error:
        assert str(error) == "wheel"
    else:
        raise AssertionError(name)
try:
    load("datasets").get_mnist_mnistm(["mnist"], ["mnistm"], folder="nowhere")
except Exception as error:
    assert type(error).__name__ == "ConfigurationError", error
    assert "needs torchvision" in str(error), error
else:
    raise AssertionError("stand-ins cannot work")
""",
        tmp_path,
    )


def test_what_works_is_used_and_stays(tmp_path):
    classes = "MNIST = VisionDataset = VOCDetection = object"
    write(
        tmp_path,
        {
            "torchvision/__init__.py": "__version__ = '0.7'",
            "torchvision/datasets/__init__.py": classes,
            "torchvision/datasets/utils.py": (
                "download_url = download_and_extract_archive = print"
            ),
            "torchvision/transforms.py": "",
        },
    )
    run(
        """
import sys, types
# Another library's pkg_resources, already imported, is left alone.
theirs = types.ModuleType("pkg_resources")
theirs.DistributionNotFound, theirs.get_distribution = KeyError, None
sys.modules["pkg_resources"] = theirs
import torchvision
from domainemo.adapters.pytorch_adapt.library import load
load("validators")
assert sys.modules["torchvision"] is torchvision
assert load("datasets").office31.torch_datasets is torchvision.datasets
assert sys.modules["pkg_resources"] is theirs
assert sys.modules["torchmetrics.utilities.imports"].DistributionNotFound is KeyError
""",
        tmp_path,
    )


def test_a_missing_pytorch_adapt_is_explained_and_a_second_try_works():
    run(
        """
import sys
from domainemo.errors import ConfigurationError
from domainemo.adapters.pytorch_adapt.library import _OURS, load

class Blocks:
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def message(blocked):
    sys.meta_path.insert(0, Blocks(blocked))
    try:
        load("validators")
    except ConfigurationError as error:
        return str(error)
    finally:
        del sys.meta_path[0]

text = message("pytorch_adapt")
assert text.startswith("pytorch-adapt is not installed"), text
assert 'pip install "pytorch-adapt==0.0.83"' in text, text
text = message("torchmetrics.classification")
assert "No module named 'torchmetrics.classification'" in text, text
assert "torchmetrics 0.9.3" in text, text
left = [name for name in sys.modules if name.partition(".")[0] in _OURS]
assert not left and "pkg_resources" not in sys.modules, left
assert load("validators").IMValidator
"""
    )


def test_a_part_that_does_not_exist_is_explained():
    with pytest.raises(ConfigurationError, match="has no part called 'layer'"):
        load("layer")


def test_a_part_is_imported_once():
    assert load("layers") is load("layers")
    assert load("layers").__name__ == "pytorch_adapt.layers"


def test_what_was_in_place_comes_back(monkeypatch):
    monkeypatch.setitem(sys.modules, "domainemo_present", pytorch_adapt)
    names = ("domainemo_present", "domainemo_absent")
    with (
        pytest.raises(ZeroDivisionError),
        pytorch_adapt._placed(dict.fromkeys(names)),
    ):
        assert sys.modules["domainemo_absent"] is None
        raise ZeroDivisionError
    assert sys.modules["domainemo_present"] is pytorch_adapt
    assert "domainemo_absent" not in sys.modules


def test_losses_run_and_carry_gradients():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(16, 4, generator=generator)
    target = (2 * torch.randn(16, 4, generator=generator) + 1).requires_grad_()
    layers = load("layers")
    losses = {
        "mmd": layers.MMDLoss(mmd_type="quadratic")(source, target),
        "coral": layers.CORALLoss()(source, target),
        "mcc": layers.MCCLoss()(target),
        "bnm": layers.BNMLoss()(target),
        "entropy": layers.EntropyLoss()(target),
        "diversity": layers.DiversityLoss()(target),
    }
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, target, retain_graph=True)
        assert loss.isfinite() and gradient.isfinite().all(), name
        assert gradient.abs().sum() > 0, name


def test_coral_is_the_written_formula():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, 16, 4, generator=generator)
    gap = torch.cov(source.T) - torch.cov(target.T)
    expected = gap.square().sum() / (4 * 4**2)
    torch.testing.assert_close(load("layers").CORALLoss()(source, target), expected)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("hooks", ("AlignerHook", "DANNHook", "CDANHook", "MCCHook", "ADDAHook")),
        ("weighters", ("SumWeighter", "MeanWeighter")),
        ("validators", ("BNMValidator", "ClassClusterValidator", "SNDValidator")),
    ],
)
def test_the_parts_that_are_built_upon_are_there(part, names):
    module = load(part)
    assert all(hasattr(module, name) for name in names)
