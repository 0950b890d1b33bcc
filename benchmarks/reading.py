"""Time and peak memory of reading data sets of the size of SEED-IV and of DEAP.

Usage: ``python benchmarks/reading.py FOLDER``, with about 5 GB free. FOLDER receives
files in the publishers' layout, full of random numbers (the real ones are licensed to
each user), and stays for the next time. Each measurement is a process of its own, from
its start to the recordings in memory, so that it holds what a user waits for.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.io

SEED_IV_WINDOWS = (
    "42 23 49 32 22 40 38 52 36 42 12 27 54 42 64 35 17 44 35 12 28 28 43 34",
    "55 25 34 36 53 27 34 46 34 20 60 12 36 27 44 15 46 49 45 10 37 44 24 19",
    "42 32 23 45 48 26 64 23 26 16 51 41 39 19 28 44 14 17 45 22 39 38 41 39",
)
"""Windows of 4 s per trial, for each session."""

READ = """
import json, resource, sys, time
began = time.perf_counter()
import domainemo
name, root, jobs, output = sys.argv[1:]
data = domainemo.load(name, root, jobs=int(jobs) or None)
total = float(sum(array.sum() for array in data.inputs.signals.values()))
if output:
    domainemo.write_table(data, output)
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "peak": max(own, child) / 1024,
    "windows": len(data),
    "canonical": sum(a.nbytes for a in data.inputs.signals.values()) / 2**20,
}))
"""
"""What is measured; the sum makes sure that every value was really read."""


def write_seed_iv(root: Path) -> None:
    """Write 15 subjects x 3 sessions x 24 trials of band features and eye movements."""
    rng = np.random.default_rng(0)
    kinds = ("de_movingAve", "de_LDS", "psd_movingAve", "psd_LDS")
    for session, text in enumerate(SEED_IV_WINDOWS, 1):
        windows = [int(word) for word in text.split()]
        for subject in range(1, 16):
            eeg = {
                f"{kind}{trial}": rng.normal(size=(62, count, 5))
                for trial, count in enumerate(windows, 1)
                for kind in kinds
            }
            eye = {
                f"eye_{trial}": rng.normal(size=(31, count))
                for trial, count in enumerate(windows, 1)
            }
            for folder, arrays in (
                ("eeg_feature_smooth", eeg),
                ("eye_feature_smooth", eye),
            ):
                path = root / folder / str(session) / f"{subject}_2015{subject:04d}.mat"
                path.parent.mkdir(parents=True, exist_ok=True)
                scipy.io.savemat(path, arrays, do_compression=True)


def write_deap(root: Path) -> None:
    """Write 32 subjects x 40 trials x 40 channels x 8064 samples."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    noise = rng.normal(size=(40, 40, 8064))
    for subject in range(1, 33):
        content = {
            "data": np.roll(noise, subject, axis=-1),
            "labels": rng.uniform(1, 9, size=(40, 4)),
        }
        with (root / f"s{subject:02d}.dat").open("wb") as file:
            pickle.dump(content, file, protocol=2)


SETS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "seed-iv": ("SEED-IV", write_seed_iv),
    "deap": ("data_preprocessed_python", write_deap),
}
"""Data set to its folder and its writer."""


def measure(name: str, root: Path, cache: Path, jobs: int, output: str) -> dict:
    """Return what one process needed to read a data set."""
    done = subprocess.run(
        [sys.executable, "-c", READ, name, str(root), str(jobs), output],
        env={**os.environ, "DOMAINEMO_CACHE": str(cache)},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def benchmark(name: str, folder: Path) -> None:
    """Write a data set where it is not there yet, read it in four ways and print."""
    place, write = SETS[name]
    root = folder / place
    if not (folder / f"{name}.written").exists():
        shutil.rmtree(root, ignore_errors=True)
        write(root)
        (folder / f"{name}.written").touch()
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    ways = [("one process", 1, ""), ("as many as pay", 0, "")]
    cache, table = folder / "cache", folder / f"{name}-table"
    results = []
    for way, jobs, output in ways:
        shutil.rmtree(cache, ignore_errors=True)
        results.append((way, measure(name, folder, cache, jobs, output)))
    results.append(("again, from the cache", measure(name, folder, cache, 1, "")))
    shutil.rmtree(table, ignore_errors=True)
    converted = measure(name, folder, cache, 1, str(table))
    results.append(("to the table format, from the cache", converted))
    first = results[0][1]
    print(
        f"\n{name}: {size / 2**20:,.0f} MB of files, {first['windows']:,} windows, "
        f"{first['canonical']:,.0f} MB as float32"
    )
    for way, found in results:
        print(
            f"  {way:37s} {found['seconds']:7.2f} s  "
            f"x {found['seconds'] / first['seconds']:5.3f}  "
            f"peak {found['peak']:7,.0f} MB"
        )


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--dataset", choices=SETS, action="append")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.dataset or SETS:
        benchmark(name, options.folder)


if __name__ == "__main__":
    main()
