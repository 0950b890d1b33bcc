"""UF-AMA on eegmat, leave one subject out, beside logistic regression: the docs' table.

    python benchmarks/eegmat.py DATA OUTPUT [--only features-uf-ama] [--device cuda]

DATA holds `eegmat/features_4s.npz` (features of 36 subjects made for development, not
shipped) and the published files as `eegmat_raw/*.edf`. Every run is
kept below OUTPUT and resumed from there; the table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import domainemo as de
from domainemo.data.readers.eegmat import EEGMAT
from domainemo.data.table import Table
from domainemo.processes import process_pool

BACKBONES = ("r2gfanet", "uf-ama")


def features(data: Path, output: Path) -> de.EmotionData:
    """Return the feature set of 36 subjects."""
    tables = output / "tables"
    if not tables.exists():
        script = Path(__file__).parent / "open_recordings.py"
        subprocess.run([sys.executable, script, data, tables], check=True)
    return Table(tables / "eegmat-features").load()


def raw_files(data: Path, output: Path) -> de.EmotionData:
    """Return what the reader makes of the raw files."""
    return EEGMAT(data).load()


RECORDINGS = {"features, 36 subjects": features, "raw files": raw_files}


def folder_name(name: str, backbone: str) -> str:
    """Return what a run's folder is called, and how `--only` names it."""
    return f"{name.split(',')[0]}-{backbone}".replace(" ", "-")


def rows(name: str, results: de.Results, backbone: str) -> list[str]:
    """Return the table's rows for one run; controls once per recordings."""
    made = []
    for method, found in results.summary().iterrows():
        if backbone != BACKBONES[0] and method in (
            "majority class",
            "clip duration only",
        ):
            continue
        network = backbone if method in ("uf-ama", "source only") else "-"
        mean, deviation = found["mean"], found["deviation"]
        made.append(
            f"| {name} | {results.level} | {network} | {method} | {mean:.3f} | "
            f"{deviation:.3f} | {found['low']:.3f} to {found['high']:.3f} |"
        )
    return made


def main() -> None:
    """Run everything that is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    every = [folder_name(name, b) for name in RECORDINGS for b in BACKBONES]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    arguments = parser.parse_args()
    lines, comparisons = [], []
    with process_pool(arguments.jobs) as executor:
        for name, read in RECORDINGS.items():
            chosen = [b for b in BACKBONES if folder_name(name, b) in arguments.only]
            data = read(arguments.data, arguments.output) if chosen else None
            for backbone in chosen:
                results = de.run(
                    data,
                    backbone=backbone,
                    seeds=arguments.seeds,
                    output=arguments.output / folder_name(name, backbone),
                    executor=executor,
                    device=arguments.device,
                )
                lines += rows(name, results, backbone)
                found = results.comparison()
                if found is not None:
                    comparisons.append(
                        f"- {name}, {backbone}: UF-AMA less source only "
                        f"{found.difference:+.3f} [{found.low:+.3f}, "
                        f"{found.high:+.3f}], Wilcoxon p = {found.p:.3g}."
                    )
                print(f"done: {name}, {backbone}", file=sys.stderr, flush=True)
    print("| recordings | per | backbone | method | mean | deviation | 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join([*lines, "", *comparisons]))


if __name__ == "__main__":
    main()
