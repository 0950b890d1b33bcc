"""How much memory training takes, and how much there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import Inputs
from ..errors import RunError
from .job import Job, Work

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .experiment import Experiment

__all__ = [
    "available_memory",
    "check_memory",
    "free_on",
    "held_by_a_step",
    "kept_by",
    "megabytes",
    "memory_needed",
    "step_needed",
]

_LIBRARIES = 400_000_000  # of a process that has loaded torch and scikit-learn
_WINDOWS = 16  # of a sample: so many are looked at to see what a step keeps
_MEMORY = Path("/proc/meminfo")
_GROUPS = (
    (
        Path("/sys/fs/cgroup/memory.max"),
        Path("/sys/fs/cgroup/memory.current"),
        Path("/sys/fs/cgroup/memory.stat"),
    ),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.stat"),
    ),
)


def memory_needed(inputs: Inputs, jobs: Sequence[Work[Any]], workers: int = 1) -> int:
    """Return about how many bytes training takes beside the recordings themselves.

    Every fold normalises a copy of its windows; a control that sees signals works on
    one of twice the precision. The network's own memory, which depends on its size and
    the batch, comes on top.

    Parameters
    ----------
    inputs : Inputs
        All recordings.
    jobs : sequence of Work
    workers : int
        Jobs that run at once; more than one are processes of their own.
    """
    window = 4 * sum(array[0].size for array in inputs.signals.values())
    each = [0]
    for job in jobs:
        used = len(job.fold.used)
        bare = isinstance(job, Job) and job.adapter is None
        control = job.control if isinstance(job, Job) and bare else None
        wide = control is not None and control.build().sees_signals
        # Some of the windows are copied once more; all of them stay where they are.
        copies = (2 if wide else 1) + (used < len(inputs))
        each.append(copies * used * window)
    at_once = sorted(each)[-workers:]
    return sum(at_once) + (len(at_once) * _LIBRARIES if workers > 1 else 0)


def step_needed(inputs: Inputs, chosen: Experiment, job: Job) -> int:
    """Return about how many bytes a training takes beside its recordings.

    Weights with their gradients and the optimiser's two means; those of every epoch
    where a validator compares them; and three times what a step keeps for its
    gradients: at once it took 1.9 to 3.2 times that.

    Parameters
    ----------
    inputs, chosen, job
        See :func:`held_by_a_step`.
    """
    weights, kept = held_by_a_step(inputs, chosen, job)
    validator = chosen.validator and chosen.validator.build()
    epochs = chosen.training.epochs if validator and validator.compares else 1
    return (3 + epochs) * weights + 3 * kept


def held_by_a_step(inputs: Inputs, chosen: Experiment, job: Job) -> tuple[int, int]:
    """Return a network's bytes, and what it keeps for a step's gradients.

    Parameters
    ----------
    inputs : Inputs
    chosen : Experiment
    job : Job
        Of a network that is as large as the others'.
    """
    import torch

    from ..training.batches import sample
    from ..training.model import Network

    wanted = 2 * chosen.training.batch_size  # the source's and the target's
    few = inputs.take(job.fold.source[: _WINDOWS * wanted])
    with torch.random.fork_rng(devices=[]):
        backbone = chosen.build_backbone(inputs.modalities)
        model = Network(backbone, inputs.modalities, len(job.classes)).train()
        every, cpu = np.arange(len(few)), torch.device("cpu")
        samples, _ = sample(few, every, backbone.sampling, cpu)
        shown = torch.arange(min(len(samples), wanted))
        kept = kept_by(lambda: model(*samples.batch(shown)), model)
    weights = sum(each.nbytes for each in model.parameters())
    return weights, kept * wanted // max(len(shown), 1)


def kept_by(step: Callable[[], object], network: nn.Module) -> int:
    """Return how many bytes a step keeps for its gradients, without the weights.

    Parameters
    ----------
    step : callable
        What is computed; it is let go.
    network : Module
        With all weights that it uses.
    """
    from torch.autograd.graph import saved_tensors_hooks

    found: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held = step()  # lest a place is used twice
    del held
    weights = {each.untyped_storage().data_ptr() for each in network.parameters()}
    return sum(size for place, size in found.items() if place not in weights)


def free_on(device: str) -> int | None:
    """Return how many bytes are free on a device; None where nobody says."""
    if not device.startswith("cuda"):
        return available_memory()
    import torch

    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return free


def available_memory() -> int | None:
    """Return how many bytes this process may still take; None where nobody says."""
    free = []
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
        free += [int(x.split()[1]) * 1024 for x in lines if x[:13] == "MemAvailable:"]
    except OSError:  # not Linux
        pass
    for limit, used, statistics in _GROUPS:
        try:
            most, now = int(limit.read_text()), int(used.read_text())
            lines = statistics.read_text().splitlines()
        except (OSError, ValueError):  # no such group, or one without a limit
            continue
        # What was read of files can be given back.
        files = [int(x.split()[1]) for x in lines if x.split()[0] == "inactive_file"]
        free.append(most - now + sum(files))
    return max(min(free), 0) if free else None


def check_memory(inputs: Inputs, jobs: Sequence[Work[Any]], workers: int) -> None:
    """Refuse what cannot fit, before anything is trained.

    Raises
    ------
    RunError
        With what is needed and what there is.
    """
    needed, free = memory_needed(inputs, jobs, workers), available_memory()
    if free is None or needed <= free:
        return
    size = sum(array.nbytes for array in inputs.signals.values())
    fewer = "Train fewer at once (--jobs), use"
    remedy = fewer if workers > 1 else "Use"
    raise RunError(
        f"{inputs.name}: training {workers} of the jobs at once takes about "
        f"{megabytes(needed)} beside the {megabytes(size)} of recordings, and "
        f"{megabytes(free)} of memory are free. {remedy} fewer modalities or subjects, "
        f"or a machine with more memory."
    )


def megabytes(count: int) -> str:
    """Return a number of bytes for people."""
    return f"{count / 1e6:,.0f} MB"
