"""What training one fold costs now, and what it cost at an earlier commit.

    python benchmarks/since.py [--commit 68b448f] [--backbones ...]
    python benchmarks/since.py --backbones concatenation-mlp dgcnn --members 16
    python benchmarks/since.py --compile
    python benchmarks/since.py --commit d0b0798 --start

Both are run side by side, by turns, on the same recordings of noise (62 electrodes in
five bands and 31 eye measures, as SEED-IV has them), through `domainemo.run`: one
subject left out, every option at its default but for the epochs. CPU seconds on one
thread for an epoch, evaluation and what is recorded included: the difference of two
runs of unlike length over their epochs, medians. The ratio is of one run. With
`--members` so many seeds train as one program now, and a second is one of each. With
`--compile` steps are compiled now, which takes its time beforehand.

With `--start`: the seconds (of the clock) of commands that should answer at once, and
until a new process with a validator of unlabelled targets and Optuna, as every worker
of a study is one, has trained its first epoch.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ["concatenation-mlp", "dgcnn", "maet", "physiosync", "r2gfanet", "uf-ama"]
NETWORKS += ["mmstg-net"]
COMMANDS = ["list", "--help", "adapt --help", "adapt --dry-run", "predict --help", ""]
SUBJECTS, TRIALS, WINDOWS, CLASSES = 5, 24, 16, 4


def main() -> None:
    """Measure every network, and print a row for each as it is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="68b448f")
    parser.add_argument("--backbones", nargs="+", default=NETWORKS)
    parser.add_argument("--adapters", nargs="+", default=["none", "uf-ama"])
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child and chosen.start:
        first_epoch()
        return
    if chosen.child:
        name, adapter = chosen.backbones[0], chosen.adapters[0]
        more = {"training.compile": True} if chosen.compile else {}
        print(seconds(name, adapter, chosen.epochs, chosen.members, more))
        return
    what = "command | " if chosen.start else "network | adapter | "
    print(f"| {what}{chosen.commit}, s | now, s | ratio |")
    print("|" + "---|" * (4 if chosen.start else 5))
    with tempfile.TemporaryDirectory() as folder:
        then = Path(folder) / "then"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", then, chosen.commit], check=True)
        try:
            if chosen.start:
                for words in COMMANDS:
                    print(start(words, then, chosen.turns), flush=True)
                return
            for name in chosen.backbones:
                for adapter in chosen.adapters:
                    print(row(name, adapter, then, chosen), flush=True)
        finally:
            subprocess.run([*git, "remove", "--force", then], check=True)


def row(name: str, adapter: str, then: Path, chosen: argparse.Namespace) -> str:
    """Return a network's row."""
    took: dict[Path, list[float]] = {then: [], ROOT: []}
    for _ in range(chosen.turns):
        for tree, found in took.items():
            command = [sys.executable, __file__, "--child", "--backbones", name]
            command += ["--adapters", adapter, "--epochs", str(chosen.epochs)]
            command += ["--members", str(chosen.members if tree == ROOT else 1)]
            command += ["--compile"] if chosen.compile and tree == ROOT else []
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            ended = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True
            )
            found.append(float(ended.stdout.splitlines()[-1]))
    before, now = (float(np.median(took[tree])) for tree in (then, ROOT))
    return f"| {name} | {adapter} | {before:.3f} | {now:.3f} | {before / now:.2f} |"


def start(words: str, then: Path, turns: int) -> str:
    """Return the row of a command, or of a worker's first epoch where it is none."""
    command = [sys.executable, "-c", "from domainemo.cli import main; main()"]
    command += words.split()
    if not words:
        command = [sys.executable, __file__, "--child", "--start"]
    took: dict[Path, list[float]] = {then: [], ROOT: []}
    for _ in range(turns):
        for tree, found in took.items():
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            began = time.monotonic()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            found.append(time.monotonic() - began)
    before, now = (float(np.median(took[tree])) for tree in (then, ROOT))
    name = f"domainemo {words}" if words else "a worker's first epoch"
    return f"| {name} | {before:.2f} | {now:.2f} | {before / now:.1f} |"


def first_epoch() -> None:
    """Train one epoch of one fold, choosing by the target's signals."""
    import optuna  # noqa: F401

    import domainemo as de

    data = de.Simulated(subjects=3, sessions=1, trials=6, windows=(4, 4)).load()
    with tempfile.TemporaryDirectory() as folder:
        de.run(
            data,
            backbone="concatenation-mlp",
            adapter="uf-ama",
            validator="information-maximisation",
            baselines=False,
            folds=["subject 1"],
            device="cpu",
            options={"training.epochs": 1},
            output=Path(folder) / "run",
        )


def seconds(
    backbone: str, adapter: str, epochs: int, members: int, more: dict[str, Any]
) -> float:
    """Return the CPU seconds of an epoch of one fold, the mean over all of training.

    Of several members, trainings of one program, that of each. `more` are options.
    """
    import domainemo as de
    from domainemo.backbones.regions import ELECTRODES

    generator = np.random.default_rng(0)
    trial = np.repeat(np.arange(SUBJECTS * TRIALS), WINDOWS)
    modalities = {
        "eeg": de.Modality(
            ELECTRODES, ("delta", "theta", "alpha", "beta", "gamma"), "eeg"
        ),
        "eye": de.Modality(tuple(f"eye-{n}" for n in range(31)), ("value",), "eye"),
    }
    data = de.from_arrays(
        {
            name: generator.standard_normal(
                (len(trial), len(each.channels), len(each.features))
            ).astype(np.float32)
            for name, each in modalities.items()
        },
        (trial % CLASSES).astype(int),
        subject=trial // TRIALS + 1,
        trial=trial % TRIALS + 1,
        stimulus=trial + 1,
        start=np.arange(len(trial)) % WINDOWS * 1.0,
        classes=("a", "b", "c", "d"),
        modalities=modalities,
    )
    spent = []
    several = {"engine": "population", "seeds": list(range(members))}
    chosen: dict[str, Any] = several if members > 1 else {}
    for each in (1, 1, epochs):  # the first one imports what is needed
        with tempfile.TemporaryDirectory() as folder:
            began = time.process_time()
            de.run(
                data,
                backbone=backbone,
                adapter=adapter,
                baselines=False,
                folds=["subject 1"],
                device="cpu",
                options={"training.epochs": each, "training.threads": 1, **more},
                output=Path(folder) / "run",
                **chosen,
            )
            spent.append(time.process_time() - began)
    return (spent[2] - spent[1]) / (epochs - 1) / members


if __name__ == "__main__":
    main()
