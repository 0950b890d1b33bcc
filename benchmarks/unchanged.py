"""Whether a change of the code moved a number: what a few runs leave, as hashes.

``python benchmarks/unchanged.py OUTPUT`` trains UF-AMA on two backbones, the released
method across sessions, and a study of five candidates, on simulated recordings, and
writes ``OUTPUT.json``: a hash of every file of weights, histories, predictions, scores
and configuration. Run it in two checkouts on one machine and compare both files; what
takes time alone (``seconds``) is left out. Takes about two minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path

import pandas as pd

import domainemo as de

KEPT = (
    "chosen.toml",
    "config.toml",
    "history.csv",
    "model.safetensors",
    "predictions.csv",
    "predictions.npz",
    "screening.npz",
)
TABLES = ("candidates.csv", "results.csv")
RUNS = {
    "r2gfanet": {"backbone": "r2gfanet", "adapter": "uf-ama"},
    "uf-ama": {
        "backbone": "uf-ama",
        "adapter": "uf-ama",
        "validator": "source-and-information",
    },
    "released": {
        "backbone": "uf-ama",
        "adapter": "uf-ama-released",
        "protocol": "cross-session",
    },
}


def content(path: Path) -> bytes:
    """Return what is compared of a file."""
    if path.name not in TABLES:
        return path.read_bytes()
    table = pd.read_csv(path)
    kept = [name for name in table if "seconds" not in str(name)]
    return table[kept].to_csv(index=False).encode()


def main() -> None:
    """Train, and write the hashes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="a new folder")
    output = parser.parse_args().output
    data = de.Simulated(subjects=4, sessions=2, trials=6).load()
    training = de.Training(epochs=4)
    for name, choices in RUNS.items():
        chosen = {"training": training, "device": "cpu", **choices}
        de.run(data, output=output / name, **chosen)
    de.tune(
        data,
        backbone="concatenation-mlp",
        adapter="marginal",
        training=de.Training(epochs=3),
        candidates=5,
        development=2,
        jobs=1,
        device="cpu",
        output=output / "study",
    )
    found = {
        str(path.relative_to(output)): sha256(content(path)).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.name in (*KEPT, *TABLES)
    }
    Path(f"{output}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"{len(found)} files, in {output}.json")


if __name__ == "__main__":
    main()
