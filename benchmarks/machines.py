"""What a second Dask worker is worth: a small benchmark with one, and with two.

    python benchmarks/machines.py [--jobs 1 2] [--repeats 3] [--file FILE.toml]

The whole command, `domainemo benchmark --executor dask`, from its start to its end,
its workers' start included. The counts of workers take turns; medians, in one run. The
ratio is to the first count.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from domainemo.processes import cores

FILE = """
backbones = ["dgcnn"]
adapters = ["uf-ama"]
controls = ["majority-class"]
device = "cpu"

[options]
data.subjects = 8
data.sessions = 1
data.trials = 6
data.windows = [3, 5]
training.epochs = 10
"""
COMMAND = "from domainemo.cli import main; main()"


def main() -> None:
    """Measure, and print a row for each count of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--file", type=Path)
    chosen = parser.parse_args()
    took: dict[int, list[float]] = {count: [] for count in chosen.jobs}
    with tempfile.TemporaryDirectory() as place:
        file = chosen.file or Path(place, "small.toml")
        if chosen.file is None:
            file.write_text(FILE, encoding="utf-8")
        for repeat in range(chosen.repeats):
            for count in chosen.jobs:
                folder = Path(place, f"{count}-{repeat}")
                took[count].append(seconds(file, count, folder))
    print(f"torch {torch.__version__}, {platform.processor()}, {cores()} processors")
    print("| workers | seconds | of the first |")
    print("| --- | --- | --- |")
    first = statistics.median(took[chosen.jobs[0]])
    for count, each in took.items():
        median = statistics.median(each)
        print(f"| {count} | {median:.1f} | {median / first:.2f} |")


def seconds(file: Path, workers: int, folder: Path) -> float:
    """Return how long the benchmark takes with so many workers."""
    options = ["--executor", "dask", "--jobs", str(workers), "--output", str(folder)]
    command = [sys.executable, "-c", COMMAND, "benchmark", str(file), *options]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
