"""How much memory training takes, and how much there is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import Inputs
from ..errors import RunError
from .job import Job, Work

if TYPE_CHECKING:
    from .experiment import Experiment

__all__ = [
    "available_memory",
    "check_memory",
    "free_on",
    "megabytes",
    "memory_needed",
    "step_needed",
]

_LIBRARIES = 400_000_000  # of a process that has loaded torch and scikit-learn
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

    Weights with their gradients and the optimiser's two means; and three times what a
    step keeps for its gradients: at once it took 1.9 to 3.2 times that.

    Parameters
    ----------
    inputs : Inputs
    chosen : Experiment
    job : Job
        Of a network that is as large as the others'.
    """
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    from ..training.batches import sample
    from ..training.model import Network

    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]):
        backbone = chosen.build_backbone(inputs.modalities)
        model = Network(backbone, inputs.modalities, len(job.classes)).train()
        samples, _ = sample(
            inputs, job.fold.source, backbone.sampling, torch.device("cpu")
        )
        shown = torch.arange(min(len(samples), 2 * chosen.training.batch_size))
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            outputs = model(*samples.batch(shown))  # held, so that no place is reused
    weights = {p.data_ptr(): p.nbytes for p in model.parameters()}
    held = sum(size for place, size in kept.items() if place not in weights)
    del outputs
    return 4 * sum(weights.values()) + 3 * held


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
