"""The peak memory of a fresh process that trains one fold of a large table.

Writes a table of the size that was asked for, starts `domainemo adapt` on one fold of
it with a small network for one epoch, all baselines beside it, and prints the size of
the recordings and the peak of the process (``VmHWM``), with and without what the same
command takes for a table of next to nothing: torch and the other libraries.

    python benchmarks/memory.py --megabytes 375
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import domainemo as de

# Linux keeps the peak of a process's own memory, apart from its parent's.
_COMMAND = """
import atexit
atexit.register(lambda: print(open("/proc/self/status").read()))
from domainemo.cli import main
main()
"""

_CHANNELS, _FEATURES, _SUBJECTS, _TRIALS = 62, 5, 15, 15
_NEXT_TO_NOTHING = 2_000_000  # bytes, some seven windows of each trial


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=375.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as large, tempfile.TemporaryDirectory() as small:
        write(Path(small) / "table", _NEXT_TO_NOTHING)
        libraries = measure(Path(small))
        size = write(Path(large) / "table", arguments.megabytes * 1e6)
        peak = measure(Path(large))
    print(
        f"{size / 1e6:.0f} MB of recordings: peak {peak / 1e6:.0f} MB. Without the "
        f"libraries ({libraries / 1e6:.0f} MB) {(peak - libraries) / size:.2f} times "
        f"the recordings, themselves included."
    )


def write(folder: Path, size: float) -> int:
    """Write a table of noise; return how many bytes its signals have."""
    generator = np.random.default_rng(0)
    trials = _SUBJECTS * _TRIALS
    length = round(size / 4 / _CHANNELS / _FEATURES / trials)
    trial = np.repeat(np.arange(trials), length)
    array = generator.normal(size=(len(trial), _CHANNELS, _FEATURES)).astype("f4")
    windows = pd.DataFrame(
        {
            "subject": trial // _TRIALS + 1,
            "session": 1,
            "trial": trial % _TRIALS + 1,
            "stimulus": trial % _TRIALS + 1,
            "start": np.tile(np.arange(length, dtype=float), trials),
        }
    )
    channels = tuple(f"c{i}" for i in range(_CHANNELS))
    modality = de.Modality(channels, tuple("abcde"), "physiology")
    inputs = de.Inputs({"signal": array}, windows, {"signal": modality}, "noise")
    labels = (trial % 3).astype(np.int64)
    de.write_table(de.EmotionData(inputs, labels, ("low", "middle", "high")), folder)
    return array.nbytes


def measure(folder: Path) -> int:
    """Run one fold in a process of its own; return its peak in bytes."""
    command = [sys.executable, "-c", _COMMAND, "adapt", f"--dataset={folder}/table"]
    command += ["--backbone=concatenation-mlp", "--adapter=none", "--jobs=1"]
    command += ["--sampling=windows", "--epochs=1", "--fold=subject 1"]
    command += [f"--output={folder}/run"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    return int(found[-1]) * 1024


if __name__ == "__main__":
    main()
